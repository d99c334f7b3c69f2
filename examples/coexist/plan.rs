//! What is done to the server with both versions while calls go on, and what must be seen of it.
//!
//! ```text
//!   phase   0        1       2        3      ...   8
//!           settled  change  settled  change       settled
//! ```
//!
//! Calls of a settled phase were made after the change before it was done and before the next one
//! was begun: they are answered as the phase says, except the few that were in flight when the
//! next change came. Those made while a change was under way may be answered either way.

use crate::words::Order;

/// A change, and how the new client's calls are answered after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// What the server is told.
    pub(crate) order: Order,
    /// Its short name, in JSON.
    pub(crate) name: &'static str,
    /// What it is, in words.
    pub(crate) text: &'static str,
    /// The (version, build) that the new client is answered in from then on.
    pub(crate) way: (u16, u32),
}

/// How the new client's calls are answered in the beginning.
pub(crate) const FIRST_WAY: (u16, u32) = (2, 1);

/// The old client, and everyone on the old server, is answered this way all the time.
pub(crate) const OLD_WAY: (u16, u32) = (1, 1);

/// The changes, in order.
pub(crate) const CHANGES: [Change; 4] = [
    Change {
        order: Order::Replace,
        name: "replace",
        text: "v2 handlers replaced by build 2",
        way: (2, 2),
    },
    Change {
        order: Order::Ceiling(Some(1)),
        name: "ceiling_down",
        text: "ceiling lowered to version 1",
        way: OLD_WAY,
    },
    Change { order: Order::Ceiling(None), name: "ceiling_up", text: "ceiling lifted", way: (2, 2) },
    Change {
        order: Order::Replace,
        name: "replace",
        text: "v2 handlers replaced by build 3",
        way: (2, 3),
    },
];

/// Settled phases.
pub(crate) const SETTLED: usize = CHANGES.len() + 1;

/// The phase between two changes; `settled` counts from 0.
pub(crate) const fn settled_phase(settled: usize) -> usize {
    2 * settled
}

/// The phase in which a change is under way.
pub(crate) const fn change_phase(change: usize) -> usize {
    2 * change + 1
}

/// How the new client is answered in this settled phase.
pub(crate) fn way_of(settled: usize) -> (u16, u32) {
    settled.checked_sub(1).map_or(FIRST_WAY, |change| CHANGES[change].way)
}
