//! What is asked of every peer: how many connections, how many calls in flight, of what.

use crate::fault::Fault;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub connections: usize,
    /// On each connection.
    pub in_flight: usize,
    pub kind: Kind,
}

/// What every caller does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The message, echoed.
    Echo,
    /// A body of so many bytes, echoed.
    Blob(usize),
    /// One call on each connection, then silence.
    Idle,
}

/// Every workload that every peer does.
pub const ALL: &[Workload] = &[
    Workload { name: "1", connections: 1, in_flight: 1, kind: Kind::Echo },
    Workload { name: "64", connections: 1, in_flight: 64, kind: Kind::Echo },
    Workload { name: "512", connections: 1, in_flight: 512, kind: Kind::Echo },
    Workload { name: "16x32", connections: 16, in_flight: 32, kind: Kind::Echo },
    Workload { name: "64k", connections: 1, in_flight: 8, kind: Kind::Blob(64 << 10) },
    Workload { name: "1m", connections: 1, in_flight: 8, kind: Kind::Blob(1 << 20) },
    Workload { name: "idle", connections: IDLE_CONNECTIONS, in_flight: 1, kind: Kind::Idle },
];

/// Connections of the idle row.
pub const IDLE_CONNECTIONS: usize = 5_000;

impl Workload {
    /// The workload of this name.
    ///
    /// # Errors
    /// If there is none; the fault lists them.
    pub fn named(name: &str) -> Result<Self, Fault> {
        ALL.iter().find(|workload| workload.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = ALL.iter().map(|workload| workload.name).collect();
            Fault::new(format!("no workload `{name}`; there are {}", names.join(", ")))
        })
    }

    /// What its rate counts.
    pub const fn unit(self) -> &'static str {
        match self.kind {
            Kind::Echo => "calls/s",
            Kind::Blob(_) => "MiB/s",
            Kind::Idle => "KiB/connection",
        }
    }
}
