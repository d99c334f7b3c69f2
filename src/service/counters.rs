//! Counters of one (method, version): one sees when a version is no longer called.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::service::handler::Outcome;
use crate::util::{Distribution, Histogram};

/// Shared by every handler that ever served this (method, version) here.
#[derive(Debug, Default)]
pub(crate) struct MethodCounters {
    started: AtomicU64,
    ok: AtomicU64,
    app_errors: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    latency: Histogram,
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
    /// From the read of the request to its answer's place in the output, or to the handler's drop,
    /// of the calls that have ended. Calls that were answered in one piece have one time.
    pub latency: Distribution,
}

/// Counts of one read batch, added to the shared counters at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) started: u64,
    pub(crate) ok: u64,
    pub(crate) app_errors: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    /// Ended, and their time not recorded yet.
    pub(crate) timed: u64,
}

impl Tally {
    pub(crate) fn cancelled() -> Self {
        Self { cancelled: 1, timed: 1, ..Self::default() }
    }

    pub(crate) const fn ended(&mut self, outcome: Outcome) {
        self.timed += 1;
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::App => self.app_errors += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Refused(_) => {}
        }
    }
}

impl MethodCounters {
    /// `took` is the time of the calls that have ended and were not timed.
    pub(crate) fn add(&self, tally: Tally, took: Duration) {
        self.time(tally.timed, took);
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

    /// So many calls have ended, after the same time.
    pub(crate) fn time(&self, calls: u64, took: Duration) {
        if calls > 0 {
            self.latency.record(took, calls);
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
            latency: self.latency.snapshot(),
        }
    }
}
