//! A lower bound of many deadlines, kept without a heap.
//!
//! Invariant: never later than the earliest deadline that was noted since the last reset. It may
//! be earlier, when that call has ended since; the sweep then finds nothing and sets it anew.
//! Why no heap: nearly every call ends long before its deadline, and a sweep over a few thousand
//! slots costs less than keeping order on every call.

use std::time::Instant;

/// The bound; `None` while nothing waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Earliest(Option<Instant>);

impl Earliest {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn note(&mut self, deadline: Instant) {
        self.0 = Some(self.0.map_or(deadline, |known| known.min(deadline)));
    }

    pub(crate) const fn reset(&mut self) {
        self.0 = None;
    }

    pub(crate) const fn at(self) -> Option<Instant> {
        self.0
    }
}
