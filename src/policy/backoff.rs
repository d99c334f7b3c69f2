//! How long to wait before trying again, and how old a connection may get: times with jitter.
//!
//! ```text
//!   ceiling(n) = min(cap, base * 2^n)
//!   full:   0 ........................ ceiling     a call's retry
//!   equal:            ceiling / 2 .... ceiling     a connection's next attempt
//! ```
//!
//! Invariants: never above the cap, whatever `n`; the same draw gives the same time.
//! Why full jitter for calls: it spreads a crowd best and ends with the least work in all. Why
//! equal jitter for connecting: a handshake is dear, so there is a least wait, and it grows too.
//! Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

/// Waiting times that double and are drawn at random.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// The ceiling of the first wait; it doubles with each further one.
    ///
    /// Default: 10 ms for calls, 100 ms for connecting. Zero: no wait at all.
    pub base: Duration,
    /// The highest ceiling.
    ///
    /// Default: 1 s.
    pub cap: Duration,
    /// Which part of the ceiling is drawn.
    pub jitter: Jitter,
}

/// Which part of a waiting time is random.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Jitter {
    /// The upper half: from half the ceiling to the ceiling.
    Equal,
    /// All of it: from zero to the ceiling.
    Full,
}

impl Backoff {
    /// Between attempts of a call: full jitter, 10 ms doubling up to 1 s.
    pub const CALL: Self =
        Self { base: Duration::from_millis(10), cap: Duration::from_secs(1), jitter: Jitter::Full };

    /// Between attempts to connect: equal jitter, 100 ms doubling up to 1 s. Why no longer: who
    /// waits up to 10 s finds a server 10 s after its return; and a crowd whose waits still grow is
    /// in step when it comes back, three times as dense at its peak as on average (F18).
    pub const CONNECT: Self = Self {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(1),
        jitter: Jitter::Equal,
    };

    /// The wait after a failure, with the number of failures before this one: 0 gives the shortest.
    #[must_use]
    pub fn delay(&self, failures_before: u32, draw: u64) -> Duration {
        // A shift by 64 is more than any cap, and fits: 64 bits and 64 more are 128.
        let doubled = u128::from(nanos(self.base)) << failures_before.min(64);
        let ceiling = u64::try_from(doubled).unwrap_or(u64::MAX).min(nanos(self.cap));
        let fixed = match self.jitter {
            Jitter::Equal => ceiling / 2,
            Jitter::Full => 0,
        };
        Duration::from_nanos(fixed + drawn(ceiling - fixed, draw))
    }
}

/// The age at which a connection is to be replaced: `base` less or more a tenth, so that
/// connections made together do not end together. Default base: 30 min.
#[must_use]
pub fn connection_age(base: Duration, draw: u64) -> Duration {
    let tenth = nanos(base) / 10;
    let least = nanos(base) - tenth;
    Duration::from_nanos(least.saturating_add(drawn(tenth.saturating_mul(2), draw)))
}

/// From 0 to `max`, both included, in the same order as the draws.
fn drawn(max: u64, draw: u64) -> u64 {
    let scaled = (u128::from(draw) * (u128::from(max) + 1)) >> 64;
    u64::try_from(scaled).expect("a draw below 2^64 times (max + 1), over 2^64, is at most max")
}

/// Times beyond 584 years are 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The ceiling doubles from the base to the cap; the highest draw gives it.
    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let ceilings = |b: Backoff| [0, 1, 6, 7, 63, 64, u32::MAX].map(|n| b.delay(n, u64::MAX));

        assert_eq!(ceilings(Backoff::CALL), [10, 20, 640, 1000, 1000, 1000, 1000].map(|n| MS * n));
        let connect = [100, 200, 1000, 1000, 1000, 1000, 1000];
        assert_eq!(ceilings(Backoff::CONNECT), connect.map(|n| MS * n));
    }

    /// Full jitter starts at zero, equal jitter at half; the middle draw is in the middle.
    #[test]
    fn jitter_starts_where_it_says() {
        assert_eq!(Backoff::CALL.delay(3, 0), Duration::ZERO);
        assert_eq!(Backoff::CALL.delay(3, 1 << 63), MS * 40);
        assert_eq!(Backoff::CONNECT.delay(3, 0), MS * 400);
        assert_eq!(Backoff::CONNECT.delay(3, 1 << 63), MS * 600);
    }

    /// The extremes of every argument neither overflow nor leave the range.
    #[test]
    fn extremes_stay_in_range() {
        let longest = Duration::from_nanos(u64::MAX);
        for jitter in [Jitter::Equal, Jitter::Full] {
            let endless = Backoff { base: Duration::MAX, cap: Duration::MAX, jitter };
            assert_eq!(endless.delay(u32::MAX, u64::MAX), longest);
            let none = Backoff { base: Duration::ZERO, cap: Duration::MAX, jitter };
            assert_eq!(none.delay(u32::MAX, u64::MAX), Duration::ZERO);
            let capped = Backoff { base: Duration::MAX, cap: Duration::ZERO, jitter };
            assert_eq!(capped.delay(0, u64::MAX), Duration::ZERO);
        }
        assert_eq!(connection_age(Duration::MAX, u64::MAX), longest);
        assert_eq!(connection_age(Duration::ZERO, u64::MAX), Duration::ZERO);
    }

    /// An age is the base less or more a tenth.
    #[test]
    fn an_age_is_within_a_tenth() {
        let base = Duration::from_secs(30 * 60);

        assert_eq!(connection_age(base, 0), Duration::from_secs(27 * 60));
        assert_eq!(connection_age(base, 1 << 63), base);
        assert_eq!(connection_age(base, u64::MAX), Duration::from_secs(33 * 60));
    }
}
