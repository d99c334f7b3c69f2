//! Counters of one (method, version): one sees when a version is no longer called.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::service::handler::Outcome;

/// Shared by every handler that ever served this (method, version) here.
#[derive(Debug, Default)]
pub(crate) struct MethodCounters {
    started: AtomicU64,
    ok: AtomicU64,
    app_errors: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
}

/// What was counted for one (method, version) since the server started.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct MethodStats {
    /// `"service/method"`.
    pub name: Arc<str>,
    /// The version.
    pub version: u16,
    /// Whether it may be called now: installed and not above the ceiling.
    pub callable: bool,
    /// Handlers started.
    pub started: u64,
    /// Answered with a response.
    pub ok: u64,
    /// Answered with the method's own error.
    pub app_errors: u64,
    /// Answered with a status, panics included.
    pub failed: u64,
    /// Taken back, or given up at their deadline, while they ran.
    pub cancelled: u64,
    /// Started and not ended yet. Exact only between calls: counted once per read batch.
    pub in_flight: u64,
}

/// Counts of one read batch, added to the shared counters at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) started: u64,
    pub(crate) ok: u64,
    pub(crate) app_errors: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

impl Tally {
    pub(crate) fn ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::App => self.app_errors += 1,
            Outcome::Failed => self.failed += 1,
        }
    }
}

impl MethodCounters {
    pub(crate) fn add(&self, tally: Tally) {
        let pairs = [
            (&self.started, tally.started),
            (&self.ok, tally.ok),
            (&self.app_errors, tally.app_errors),
            (&self.failed, tally.failed),
            (&self.cancelled, tally.cancelled),
        ];
        for (counter, count) in pairs {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn stats(&self, name: Arc<str>, version: u16, callable: bool) -> MethodStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (ok, app_errors) = (load(&self.ok), load(&self.app_errors));
        let (failed, cancelled) = (load(&self.failed), load(&self.cancelled));
        let started = load(&self.started);
        let in_flight = started.saturating_sub(ok + app_errors + failed + cancelled);
        MethodStats {
            name,
            version,
            callable,
            started,
            ok,
            app_errors,
            failed,
            cancelled,
            in_flight,
        }
    }
}
