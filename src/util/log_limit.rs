//! So many lines of log a second, and how many were left out.
//!
//! Whoever connects must not be able to fill a disk. Counters hold the whole truth; lines are for
//! people who look.

use std::time::{Duration, Instant};

/// Counts lines in windows of a second.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    since: Option<Instant>,
    lines: u32,
    unsaid: u64,
}

impl LogLimit {
    /// Whether one more line may be written now; with it, how many were not since the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES_MAX {
            self.unsaid += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

const WINDOW: Duration = Duration::from_secs(1);
const LINES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten lines a second, and the next window's first line says how many were left out. Shown at
    /// the tenth and eleventh line, and on both sides of the window's end.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn ten_lines_a_second() {
        let start = Instant::now();
        let mut log = LogLimit::default();

        for _ in 0..10 {
            assert_eq!(log.admit(start), Some(0));
        }
        assert_eq!(log.admit(start), None);
        assert_eq!(log.admit(start + WINDOW - Duration::from_nanos(1)), None);
        assert_eq!(log.admit(start + WINDOW), Some(2));
        assert_eq!(log.admit(start + WINDOW), Some(0));
    }
}
