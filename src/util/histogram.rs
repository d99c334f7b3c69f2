//! How long things took: counts in buckets of fixed bounds, three to each doubling.
//!
//! ```text
//!   below 1 us | 1   1.33   1.67 | 2   2.67   3.33 | 4 ... 67.1 s | above
//!       0          1     2      3    4     5      6    ...            79
//! ```
//!
//! Invariants: a bucket holds the durations from its lower bound up to, not including, its upper
//! one; the bounds never change, so that histograms of any two processes and times can be added
//! and subtracted; counts only grow.
//! Why not finer: 80 counters are 640 bytes for each version of each method, and what a latency is
//! asked for (is it twice as long as yesterday?) needs no third digit. A quantile is given as its
//! bucket's upper bound: never below the true one, and at most a third above it, for durations from
//! 1 us to 67 s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram that many threads add to.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Distribution {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Histogram {
    /// Buckets, the lowest and the highest one included.
    pub const BUCKETS: usize = BUCKETS;

    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }

    /// `count` things each took `duration`.
    pub fn record(&self, duration: Duration, count: u64) {
        // In 64 bits: this is done for every call of a client.
        let ns = duration.as_secs().saturating_mul(1_000_000_000);
        let ns = ns.saturating_add(duration.subsec_nanos().into());
        self.counts[bucket_of(ns)].fetch_add(count, Ordering::Relaxed);
        // Wraps after 584 years of work, as counters do.
        self.sum_ns.fetch_add(ns.wrapping_mul(count), Ordering::Relaxed);
    }

    /// The counts as they are now; what others add meanwhile is in it or not.
    #[must_use]
    pub fn snapshot(&self) -> Distribution {
        Distribution {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Distribution {
    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The duration that a share of `quantile` (0 to 1) does not exceed; `None` if there were
    /// none. It is the upper bound of the bucket: never below the true one and at most a third
    /// above it. Below 1 us it is 1 us; above 67.1 s it is 67.1 s, the one case of too little.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank is far below 2^52, and clamped"
        )]
        let rank = ((quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        at.map(|at| Duration::from_nanos(upper_ns(at).unwrap_or(TOP_NS)))
    }

    /// What was counted since `before`, an earlier one of the same histogram.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|at| self.counts[at].saturating_sub(before.counts[at])),
            sum_ns: self.sum_ns.wrapping_sub(before.sum_ns),
        }
    }

    /// Each bucket's upper bound and count, ascending; the last one has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bound = |at| upper_ns(at).map(Duration::from_nanos);
        self.counts.iter().enumerate().map(move |(at, count)| (bound(at), *count))
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_ns: 0 }
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < UNIT_NS {
        return 0;
    }
    if ns >= TOP_NS {
        return BUCKETS - 1;
    }
    let doubling = (ns / UNIT_NS).ilog2();
    // Thirds of the doubling's lower bound: 3, 4 or 5.
    let thirds = ((ns * 3) >> doubling) / UNIT_NS;
    let at = 1 + u64::from(doubling) * 3 + (thirds - 3);
    usize::try_from(at).expect("below TOP_NS there are 26 doublings")
}

/// The first duration that is above the bucket.
fn upper_ns(at: usize) -> Option<u64> {
    if at >= BUCKETS - 1 {
        return None;
    }
    let (doubling, third) = (at / 3, at as u64 % 3);
    // Rounded up: a duration is whole nanoseconds, and the bound itself is not in the bucket.
    Some((((3 + third) * UNIT_NS) << doubling).div_ceil(3))
}

/// Where the second bucket begins.
const UNIT_NS: u64 = 1_000;
/// Doublings of [`UNIT_NS`], up to 67.1 s.
const DOUBLINGS: usize = 26;
/// Where the last bucket begins.
const TOP_NS: u64 = UNIT_NS << DOUBLINGS;
const BUCKETS: usize = DOUBLINGS * 3 + 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each bound belongs to the bucket above it, and what is just below it to the one below.
    #[test]
    fn bounds_part_the_buckets() {
        assert_eq!(BUCKETS, 80);
        for at in 0..BUCKETS - 1 {
            let bound = upper_ns(at).unwrap();
            assert_eq!((bucket_of(bound - 1), bucket_of(bound)), (at, at + 1), "{bound} ns");
        }
        assert_eq!((upper_ns(0), upper_ns(BUCKETS - 2)), (Some(UNIT_NS), Some(TOP_NS)));
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    proptest! {
        /// A quantile is never below the true one and at most a third above it, for any durations
        /// from 1 us to 67 s, against the sorted list itself.
        #[test]
        fn a_quantile_is_within_a_third(
            mut durations in prop::collection::vec(UNIT_NS..TOP_NS, 1..200),
            share in 0..=1024_u16, // Of 1,024, so that no rounding is in the way.
        ) {
            let histogram = Histogram::new();
            for ns in &durations {
                histogram.record(Duration::from_nanos(*ns), 1);
            }
            durations.sort_unstable();
            let rank = (usize::from(share) * durations.len()).div_ceil(1024);
            let truth = u128::from(durations[rank.clamp(1, durations.len()) - 1]);

            let quantile = f64::from(share) / 1024.0;
            let found = histogram.snapshot().quantile(quantile).unwrap().as_nanos();

            prop_assert!(truth <= found, "{truth} {found}");
            // The bound is rounded up to a whole nanosecond.
            prop_assert!(found * 3 <= truth * 4 + 3, "{truth} {found}");
        }

        /// What is counted between two snapshots is their difference, and adding it to the first
        /// gives the second.
        #[test]
        fn differences_add_up(
            before in prop::collection::vec(any::<u32>(), 0..50),
            after in prop::collection::vec(any::<u32>(), 0..50),
        ) {
            let histogram = Histogram::new();
            let record = |list: &[u32]| {
                list.iter().for_each(|ns| histogram.record(Duration::from_nanos((*ns).into()), 2));
            };
            record(&before);
            let first = histogram.snapshot();
            record(&after);
            let second = histogram.snapshot();

            let mut since = second.since(&first);

            prop_assert_eq!(since.count(), 2 * after.len() as u64);
            let sum: u64 = after.iter().map(|ns| u64::from(*ns) * 2).sum();
            prop_assert_eq!(since.sum(), Duration::from_nanos(sum));
            since.merge(&first);
            prop_assert_eq!(since, second);
        }
    }

    /// Nothing counted has no quantile; more than the top counts as the top.
    #[test]
    fn the_ends_are_named() {
        let histogram = Histogram::new();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        histogram.record(Duration::MAX, 1);
        assert_eq!(histogram.snapshot().quantile(0.5), Some(Duration::from_nanos(TOP_NS)));
        histogram.record(Duration::ZERO, 3);
        assert_eq!(histogram.snapshot().quantile(0.5), Some(Duration::from_micros(1)));
    }
}
