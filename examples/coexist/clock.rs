//! Microseconds since the UNIX epoch that never go backwards within a process.
//!
//! The wall clock is read once, so that the logs of all processes share a scale; from then on
//! the monotonic clock counts, so that no adjustment makes an effect come before its cause.

use std::time::{Duration, Instant, SystemTime};

/// The clock of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    at_start: Duration,
    started: Instant,
}

impl Clock {
    /// Starts the clock.
    #[expect(clippy::disallowed_methods, reason = "a demonstration runs in real time")]
    pub(crate) fn start() -> Self {
        // A machine whose clock stands before 1970 still agrees with itself.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self { at_start: since_epoch.unwrap_or_default(), started: Instant::now() }
    }

    /// Now.
    pub(crate) fn now_us(&self) -> u64 {
        us(self.at_start + self.elapsed())
    }

    /// Since the start.
    #[expect(clippy::disallowed_methods, reason = "a demonstration runs in real time")]
    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }
}

/// A duration in microseconds; half a million years are the limit.
pub(crate) fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
