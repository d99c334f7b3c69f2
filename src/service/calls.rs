//! What a client counts of a method's calls: outcomes, retries, time.
//!
//! A stub looks its counters up when it is first called and keeps them, so that a call finds them
//! with the stub, which it holds anyway. A call that went well costs two additions, to a shard that
//! few threads share: on one set of counters, many threads would spend more time on them than on a
//! call.
//!
//! Invariants: each call that was polled is counted once, when it ends or is dropped; codes that
//! this version does not name count as UNKNOWN, so that no peer can make the map grow; beyond 4,096
//! (method, version)s all others are counted as the method `other`.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::util::{Distribution, FlatMap, Histogram};
use crate::wire::Code;

/// Of one version that a stub knows.
#[derive(Debug, Default)]
pub(crate) struct CallCounters {
    /// Answered with a response, by shard; made when the first thread of a shard comes by.
    ok: [OnceLock<Box<Histogram>>; SHARDS],
    /// How long all others took.
    rest: OnceLock<Box<Histogram>>,
    app_errors: AtomicU64,
    cancelled: AtomicU64,
    failed: Mutex<FlatMap<Code, u64>>,
    retries: AtomicU64,
    replays: AtomicU64,
}

/// How a call ended, as its caller saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallEnd {
    Ok,
    App,
    Failed(Code),
    /// The future was dropped.
    Cancelled,
}

/// What this process has counted of its calls to one (method, version), over all channels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CallStats {
    /// `"service/method"`.
    pub name: Arc<str>,
    /// The version the call was made in; the newest one that the client knows, if it came to none.
    pub version: u16,
    /// Answered with a response.
    pub ok: u64,
    /// Answered with the method's own error.
    pub app_errors: u64,
    /// Failed with a status, by its code, ascending. One that this version does not name counts as
    /// UNKNOWN.
    pub failed: Vec<(Code, u64)>,
    /// Dropped before they had an outcome.
    pub cancelled: u64,
    /// Attempts beyond a call's first that drew on the retry budget.
    pub retries: u64,
    /// Attempts in the place of one that the server had not read; they are free.
    pub replays: u64,
    /// From a call's first poll to its answer's arrival, or to its end without one; rests between
    /// attempts included.
    pub latency: Distribution,
}

impl CallCounters {
    #[inline]
    pub(crate) fn record(&self, end: CallEnd, took: Duration) {
        if end == CallEnd::Ok {
            let shard = &self.ok[shard()];
            return shard.get_or_init(Box::default).record(took, 1);
        }
        match end {
            CallEnd::Ok | CallEnd::App => self.app_errors.fetch_add(1, Ordering::Relaxed),
            CallEnd::Cancelled => self.cancelled.fetch_add(1, Ordering::Relaxed),
            CallEnd::Failed(code) => {
                let code = code.name().map_or(Code::UNKNOWN, |_| code);
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                let count = failed.or_default(code);
                *count += 1;
                *count
            }
        };
        self.rest.get_or_init(Box::default).record(took, 1);
    }

    pub(crate) fn count_retry(&self, is_free: bool) {
        let counter = if is_free { &self.replays } else { &self.retries };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self, name: &Arc<str>, version: u16) -> CallStats {
        let mut latency = Distribution::default();
        for shard in self.ok.iter().filter_map(OnceLock::get) {
            latency.merge(&shard.snapshot());
        }
        let ok = latency.count();
        if let Some(rest) = self.rest.get() {
            latency.merge(&rest.snapshot());
        }
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        CallStats {
            name: Arc::clone(name),
            version,
            ok,
            app_errors: load(&self.app_errors),
            failed: failed.iter().map(|(code, count)| (*code, *count)).collect(),
            cancelled: load(&self.cancelled),
            retries: load(&self.retries),
            replays: load(&self.replays),
            latency,
        }
    }
}

/// What this process has counted of its calls, by method and version, over all channels. Versions
/// that were never called are left out.
#[must_use]
pub fn call_stats() -> Vec<CallStats> {
    let called = CALLED.lock().unwrap_or_else(PoisonError::into_inner).0.clone();
    called.iter().map(|((name, version), counters)| counters.stats(name, *version)).collect()
}

/// The counters of a (method, version), which all stubs of it share.
pub(crate) fn counters_of(name: &Arc<str>, version: u16) -> Arc<CallCounters> {
    CALLED.lock().unwrap_or_else(PoisonError::into_inner).get(name, version)
}

/// By method and version; never shrinks.
#[derive(Debug)]
struct Called(FlatMap<(Arc<str>, u16), Arc<CallCounters>>);

impl Called {
    fn get(&mut self, name: &Arc<str>, version: u16) -> Arc<CallCounters> {
        let mut key = (Arc::clone(name), version);
        if self.0.len() >= CALLED_MAX && !self.0.contains_key(&key) {
            key = (OTHER.into(), 0);
        }
        Arc::clone(self.0.or_default(key))
    }
}

/// This thread's shard: threads take the next one in turn.
fn shard() -> usize {
    thread_local! {
        static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SHARD.get().unwrap_or_else(|| {
        let shard = NEXT_SHARD.fetch_add(1, Ordering::Relaxed) % SHARDS;
        SHARD.set(Some(shard));
        shard
    })
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
/// Not by channel: who wants to know the server that a call went to asks that server.
static CALLED: Mutex<Called> = Mutex::new(Called(FlatMap::new()));
/// A client's methods are those that its program was written with; a program that makes up names
/// has the rest counted as one.
const CALLED_MAX: usize = 4_096;
const OTHER: &str = "other";
/// 656 bytes each, for each version that is called, once a thread of that shard calls it.
const SHARDS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Stubs of one method share its counters, and however many methods a program makes up, there
    /// is one entry more than the limit at most.
    #[test]
    fn what_is_called_is_bounded() {
        let mut called = Called(FlatMap::new());
        let name = |n: usize| format!("it.Many/{n}").into();
        for n in 0..CALLED_MAX + 100 {
            called.get(&name(n), 1).record(CallEnd::Ok, Duration::ZERO);
        }
        called.get(&name(7), 1).record(CallEnd::Ok, Duration::ZERO);

        assert_eq!(called.0.len(), CALLED_MAX + 1);
        let ok = |key: (Arc<str>, u16)| called.0.get(&key).unwrap().stats(&key.0, key.1).ok;
        assert_eq!((ok((name(7), 1)), ok((OTHER.into(), 0))), (2, 100));
    }
}
