//! What is done to the servers while calls go on, and what must be seen of it.
//!
//! ```text
//!   phase   0        1       2        3      ...   12
//!           settled  change  settled  change       settled
//! ```
//!
//! Calls of a settled phase were made after the change before it was done and before the next one
//! was begun: they are answered as the phase says, except the few that were in flight when the
//! next change came. Those made while a change was under way may be answered either way.

use crate::World;
use crate::words::Order;

/// A change, and how the new client's calls to the new server are answered after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Which server it is made to.
    pub(crate) server: World,
    /// What is done.
    pub(crate) action: Action,
    /// Its short name, in JSON.
    pub(crate) name: &'static str,
    /// What it is, in words.
    pub(crate) text: &'static str,
    /// The (version, build) that the new client is answered in by the new server from then on, if
    /// that changes.
    pub(crate) way: Option<(u16, u32)>,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// It is told something, and goes on.
    Tell(Order),
    /// It is told to stop; its successor starts at its address when it has ended.
    Drain,
    /// It is killed with SIGKILL; its successor starts at its address.
    Kill,
}

/// Who answers a call, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    /// The server process.
    pub(crate) instance: u64,
    /// The version.
    pub(crate) version: u16,
    /// The build of the handler.
    pub(crate) build: u32,
}

/// How the new client is answered by the new server in the beginning.
const FIRST_WAY: (u16, u32) = (2, 1);

/// The old client, and everyone on the old server, is answered this way all the time.
const OLD_WAY: (u16, u32) = (1, 1);

/// The build of the version 2 handlers that the successor of the new server begins with.
pub(crate) const SUCCESSOR_BUILD: u32 = 4;

/// The changes, in order.
pub(crate) const CHANGES: [Change; 6] = [
    Change {
        server: World::V2,
        action: Action::Tell(Order::Replace),
        name: "replace",
        text: "v2 handlers replaced by build 2",
        way: Some((2, 2)),
    },
    Change {
        server: World::V2,
        action: Action::Tell(Order::Ceiling(Some(1))),
        name: "ceiling_down",
        text: "ceiling lowered to version 1",
        way: Some(OLD_WAY),
    },
    Change {
        server: World::V2,
        action: Action::Tell(Order::Ceiling(None)),
        name: "ceiling_up",
        text: "ceiling lifted",
        way: Some((2, 2)),
    },
    Change {
        server: World::V2,
        action: Action::Tell(Order::Replace),
        name: "replace",
        text: "v2 handlers replaced by build 3",
        way: Some((2, 3)),
    },
    Change {
        server: World::V1,
        action: Action::Drain,
        name: "drain",
        text: "drained, and started again",
        way: None,
    },
    Change {
        server: World::V2,
        action: Action::Kill,
        name: "kill",
        text: "killed with SIGKILL, and started again as build 4",
        way: Some((2, SUCCESSOR_BUILD)),
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

/// The number of a server process in the ledger: the first one, or its successor.
pub(crate) const fn instance_of(server: World, is_successor: bool) -> u64 {
    match (server, is_successor) {
        (World::V1, false) => 1,
        (World::V2, false) => 2,
        (World::V1, true) => 3,
        (World::V2, true) => 4,
    }
}

/// How calls of this client to this server are answered in this settled phase.
pub(crate) fn way_of((client, server): (World, World), settled: usize) -> Way {
    let done = &CHANGES[..settled];
    let ends_it = |change: &Change| {
        change.server == server && matches!(change.action, Action::Drain | Action::Kill)
    };
    let (version, build) = match (client, server) {
        (World::V2, World::V2) => {
            done.iter().rev().find_map(|change| change.way).unwrap_or(FIRST_WAY)
        }
        _ => OLD_WAY,
    };
    Way { instance: instance_of(server, done.iter().any(ends_it)), version, build }
}

/// Whether answers in the way before this settled phase are right too: the news of a higher
/// version reaches a client a little after the change.
pub(crate) fn may_lag(settled: usize) -> bool {
    let change = settled.checked_sub(1).map(|last| CHANGES[last].action);
    change == Some(Action::Tell(Order::Ceiling(None)))
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { instance, version, build } = self;
        write!(f, "process {instance} in version {version} by build {build}")
    }
}
