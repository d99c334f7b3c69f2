//! Numbers drawn from a seed: the only source of chance in a simulation.
//!
//! Invariant: each concern (schedule, network, workload, faults, the library's jitter) draws from
//! a stream of its own, so that one more draw in one of them does not change the others.

use switchback::util::splitmix64;

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    /// The stream of this name that belongs to a seed.
    pub(crate) fn new(seed: u64, stream: &str) -> Self {
        let name = switchback::util::fnv64(stream.as_bytes());
        Self { seed: splitmix64(seed, 0) ^ name, drawn: 0 }
    }

    /// Another stream, of its own from here on.
    pub(crate) fn fork(&mut self) -> Self {
        Self { seed: self.next(), drawn: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.drawn += 1;
        splitmix64(self.seed, self.drawn)
    }

    /// Below `end`, which is above 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From `start` to `end`, both included.
    pub(crate) fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start + 1)
    }

    /// Any order of magnitude between the two is as likely as any other.
    pub(crate) fn magnitude(&mut self, start: u64, end: u64) -> u64 {
        let (low, high) = (start.max(1).ilog2(), end.max(1).ilog2());
        let top = 1_u64 << self.between(low.into(), high.into());
        self.between(top, top * 2 - 1).clamp(start, end)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).expect("a length fits in 64 bits");
        usize::try_from(self.below(len)).expect("below a usize")
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn flip(&mut self) -> bool {
        self.percent(50)
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Puts things in any order.
    pub(crate) fn shuffle<T>(&mut self, things: &mut [T]) {
        for at in (1..things.len()).rev() {
            things.swap(at, self.index(at + 1));
        }
    }
}
