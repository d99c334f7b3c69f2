//! How the network is, without a fault.
//!
//! Invariant: what is drawn here is drawn per seed; `fair` weather comes when the faults are over.

use crate::random::Random;

/// How connections are; drawn per seed.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) latency_us_max: u64,
    /// Bytes per millisecond; 0 is no limit.
    pub(crate) bytes_per_ms: u64,
    /// A socket holds so many bytes in each direction.
    pub(crate) capacity_min: u64,
    pub(crate) chunks: Chunks,
    /// Of a hundred reads and writes, so many are put off for no reason.
    pub(crate) put_off: u64,
}

/// How many bytes a read or a write moves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chunks {
    Whole,
    Any,
    /// A few bytes at a time, one mostly.
    Tiny,
}

impl Weather {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let latency_us_max = random.pick(&[0, 50, 500, 5000, 20_000]);
        let bytes_per_ms = random.pick(&[0, 0, 0, 0, 2000, 100]);
        let capacity_min = random.pick(&[64, 4096, 65_536, 65_536]);
        let chunks = random.pick(&[Chunks::Whole, Chunks::Any, Chunks::Any, Chunks::Tiny]);
        let put_off = random.pick(&[0, 0, 10, 30]);
        Self { latency_us_max, bytes_per_ms, capacity_min, chunks, put_off }
    }

    /// Good enough for large bodies: a few bytes for each round trip would take minutes.
    pub(crate) fn widen(&mut self) {
        self.capacity_min = self.capacity_min.max(4096);
        if self.bytes_per_ms > 0 {
            self.bytes_per_ms = self.bytes_per_ms.max(2000);
        }
    }

    /// Whether bodies pass in no time that anybody would take for the end.
    pub(crate) const fn is_wide(&self) -> bool {
        self.capacity_min >= 4096 && self.bytes_per_ms == 0
    }

    /// Nothing in the way but time, and no piece whole.
    pub(crate) const fn clear() -> Self {
        let (latency_us_max, bytes_per_ms, capacity_min) = (300, 0, 65_536);
        Self { latency_us_max, bytes_per_ms, capacity_min, chunks: Chunks::Any, put_off: 0 }
    }

    /// The same without what is a fault.
    pub(crate) fn fair(&self) -> Self {
        let capacity_min = self.capacity_min.max(FAIR_CAPACITY);
        Self { bytes_per_ms: 0, capacity_min, ..self.clone() }
    }

    pub(crate) fn round_trip_us(&self, random: &mut Random) -> u64 {
        random.between(0, self.latency_us_max) + random.between(0, self.latency_us_max)
    }

    /// How many of `len` bytes are moved at once.
    pub(crate) fn chunk(&self, random: &mut Random, len: usize) -> usize {
        match self.chunks {
            Chunks::Whole => len,
            Chunks::Any if random.flip() => len,
            Chunks::Any => 1 + random.index(len),
            // Not for large bodies, which would take all day.
            Chunks::Tiny if len > 2048 => 1 + random.index(len),
            Chunks::Tiny => len.min(random.pick(&[1, 1, 1, 2, 3, 16])),
        }
    }
}

/// What a socket holds when nothing is wrong.
pub(crate) const FAIR_CAPACITY: u64 = 65_536;
