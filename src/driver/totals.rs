//! What all connections of one server share: how much is in flight, and how connections ended.
//!
//! Invariants: whatever a connection adds it takes away again, at the latest when its state is
//! dropped; a limit is looked at before a request is decoded, so that what does not fit costs
//! nothing. The limits may be passed by what is admitted at the same moment on other threads,
//! which is one request per thread.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::driver::ends::Ends;
use crate::driver::turns::Turns;
use crate::error::Error;
use crate::util::LogLimit;
use crate::util::bugs::{Bug, is_seeded};
use crate::wire::{CloseReason, Code};

/// Limits of the whole server, and what counts towards them.
#[derive(Debug)]
pub struct ServerTotals {
    calls_max: usize,
    bytes_max: usize,
    calls: AtomicUsize,
    bytes: AtomicUsize,
    overloads: AtomicU64,
    /// By code; those that have no place of their own count as UNKNOWN.
    refusals: [AtomicU64; CODES],
    panics: AtomicU64,
    panic_lines: Mutex<LogLimit>,
    hang_lines: Mutex<LogLimit>,
    pub(crate) turns: Turns,
    stalls: AtomicU64,
    executor_stall_ms: AtomicU64,
    stalled_threads: AtomicUsize,
    is_stalled: AtomicBool,
    ends: Ends,
}

/// The counters of [`ServerTotals`] at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ServerLoad {
    /// Calls in flight beyond their first turn, on all connections.
    pub calls: usize,
    /// Bytes of their requests, and of answers that wait to be written; in steps of 16 KiB.
    pub bytes: usize,
    /// Calls that were refused because a limit was reached, of a connection or of the server.
    pub overloads: u64,
    /// Requests that were refused before a handler was started, by the status they were answered
    /// with. A code that this version does not name counts as UNKNOWN.
    pub refusals: Vec<(Code, u64)>,
    /// Handlers that panicked.
    pub panics: u64,
    /// Times that handlers held a thread of the runtime for 20 ms and more.
    pub stalls: u64,
    /// How long they did in all, to 20 ms each, while the server served.
    pub executor_stall_ms: u64,
    /// Connections that ended, by the reason that was given or received.
    pub closes: Vec<(CloseReason, u64)>,
    /// Connections that ended without a word.
    pub lost: u64,
}

impl ServerTotals {
    /// For so many calls and bytes in flight.
    #[must_use]
    pub fn new(calls_max: usize, bytes_max: usize) -> Self {
        Self {
            calls_max,
            bytes_max,
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            overloads: AtomicU64::new(0),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            panics: AtomicU64::new(0),
            panic_lines: Mutex::default(),
            hang_lines: Mutex::default(),
            turns: Turns::new(),
            stalls: AtomicU64::new(0),
            executor_stall_ms: AtomicU64::new(0),
            stalled_threads: AtomicUsize::new(0),
            is_stalled: AtomicBool::new(false),
            ends: Ends::default(),
        }
    }

    /// How much there is.
    #[must_use]
    pub fn load(&self) -> ServerLoad {
        let mut refusals = Vec::new();
        for (code, count) in (0_u16..).zip(&self.refusals) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                refusals.push((Code::from_u16(code), count));
            }
        }
        ServerLoad {
            calls: self.calls.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            overloads: self.overloads.load(Ordering::Relaxed),
            refusals,
            panics: self.panics.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            executor_stall_ms: self.executor_stall_ms.load(Ordering::Relaxed),
            closes: self.ends.closes(),
            lost: self.ends.lost(),
        }
    }

    /// Threads of the runtime that a handler has held for 20 ms and more, now. As long as others
    /// are left, other connections are served.
    ///
    /// Known while a [`BoundServer`](crate::server::BoundServer) serves on tokio; else 0.
    #[must_use]
    pub fn stalled_threads(&self) -> usize {
        self.stalled_threads.load(Ordering::Relaxed)
    }

    /// Whether the runtime has not come to run a task for 100 ms and more while handlers hold its
    /// threads: nothing is served now. For a health check on a thread of its own; a task could not
    /// tell.
    ///
    /// Known while a [`BoundServer`](crate::server::BoundServer) serves on tokio; else `false`.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    /// What a watchdog has seen: threads that are held now, how many have come to that since, for
    /// how long all were held so far, and whether nothing is served.
    pub(crate) fn note_stalls(&self, held: usize, new: usize, in_all: Duration, is_stalled: bool) {
        self.stalled_threads.store(held, Ordering::Relaxed);
        self.stalls.fetch_add(new as u64, Ordering::Relaxed);
        let ms = u64::try_from(in_all.as_millis()).unwrap_or(u64::MAX);
        self.executor_stall_ms.store(ms, Ordering::Relaxed);
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// Why a request of so many bytes does not fit, if it does not.
    pub(crate) fn refusal(&self, bytes: usize) -> Option<String> {
        let (calls, held) =
            (self.calls.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        if calls >= self.calls_max {
            return Some(format!(
                "{calls} calls in flight on this server, at most {}",
                self.calls_max
            ));
        }
        (held.saturating_add(bytes) > self.bytes_max)
            .then(|| format!("{held} bytes in flight on this server, at most {}", self.bytes_max))
    }

    pub(crate) fn count_overload(&self) {
        self.overloads.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was refused before its handler was started.
    pub(crate) fn count_refusal(&self, code: Code) {
        let at = code.name().map_or(usize::MAX, |_| usize::from(code.as_u16()));
        let unknown = usize::from(Code::UNKNOWN.as_u16());
        self.refusals.get(at).unwrap_or(&self.refusals[unknown]).fetch_add(1, Ordering::Relaxed);
    }

    /// A handler panicked. Whether that may be said in the log now, and how many were not since
    /// the last one: a peer that knows how to make it panic must not fill the disk.
    pub(crate) fn admit_panic_line(&self, now: Instant) -> Option<u64> {
        self.panics.fetch_add(1, Ordering::Relaxed);
        self.panic_lines.lock().unwrap_or_else(PoisonError::into_inner).admit(now)
    }

    /// An interceptor had a call until its deadline. Whether that may be said in the log now, as
    /// [`ServerTotals::admit_panic_line`] says it.
    pub(crate) fn admit_hang_line(&self, now: Instant) -> Option<u64> {
        self.hang_lines.lock().unwrap_or_else(PoisonError::into_inner).admit(now)
    }

    /// A connection ended.
    pub(crate) fn count_end(&self, end: &Error) {
        self.ends.count(end);
    }

    pub(crate) fn add_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_calls(&self, count: usize) {
        if !is_seeded(Bug::RoomLeaks) {
            self.calls.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// A connection that held `before` bytes holds `held` now; returns what is to be given next
    /// time. Counted in steps, so that nearly every change costs nothing.
    pub(crate) fn recharge(&self, before: usize, held: usize) -> usize {
        let after = held.next_multiple_of(STEP_BYTES);
        match after.checked_sub(before) {
            Some(0) => {}
            Some(more) => {
                self.bytes.fetch_add(more, Ordering::Relaxed);
            }
            None => {
                self.bytes.fetch_sub(before - after, Ordering::Relaxed);
            }
        }
        after
    }
}

/// Codes that travel, up to the highest this version names.
const CODES: usize = Code::UNKNOWN.as_u16() as usize + 1;
/// A connection's bytes are counted in steps of this.
const STEP_BYTES: usize = 16 * 1024;
