//! What is asked of a peer: how many connections, how many calls in flight, of what, and what goes
//! wrong meanwhile.

use crate::fault::Fault;

/// A row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Workload {
    pub name: &'static str,
    pub connections: usize,
    /// On each connection.
    pub in_flight: usize,
    pub kind: Kind,
    /// The peers that do it; none named: all.
    pub peers: &'static [&'static str],
    /// Whether another process sends as fast as it can over a connection of its own.
    pub flooded: bool,
}

/// What every caller does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A body of so many bytes, echoed.
    Blob(usize),
    /// The message, echoed; one call of a hundred is dropped after its first poll.
    Cancel,
    /// The message, echoed.
    Echo,
    /// One call on each connection, then silence.
    Idle,
    /// The message, echoed; beside one call of a hundred, one whose handler takes a second is
    /// given 5 ms.
    Late,
    /// The message, echoed by all callers but the last, who uploads bodies of 1 MiB.
    Upload,
}

const BASIC: Workload = Workload {
    name: "",
    connections: 1,
    in_flight: 1,
    kind: Kind::Echo,
    peers: &[],
    flooded: false,
};

/// The workload whose calls a flood consists of.
pub const FLOOD: &str = "512";
/// The row that the rows with faults are compared with.
pub const BASE: &str = "64";

/// Every workload, in the order of the table.
pub const ALL: &[Workload] = &[
    Workload { name: "1", ..BASIC },
    Workload { name: "64", in_flight: 64, ..BASIC },
    Workload { name: "512", in_flight: 512, ..BASIC },
    Workload { name: "16x32", connections: 16, in_flight: 32, ..BASIC },
    Workload { name: "64k", in_flight: 8, kind: Kind::Blob(64 << 10), ..BASIC },
    Workload { name: "1m", in_flight: 8, kind: Kind::Blob(1 << 20), ..BASIC },
    Workload { name: "idle", connections: IDLE_CONNECTIONS, kind: Kind::Idle, ..BASIC },
    Workload { name: "bytes", in_flight: 64, kind: Kind::Blob(64), peers: OURS, ..BASIC },
    Workload { name: "cancel", in_flight: 64, kind: Kind::Cancel, peers: FAULTY, ..BASIC },
    Workload { name: "late", in_flight: 64, kind: Kind::Late, peers: EXTRAS, ..BASIC },
    Workload { name: "flood", in_flight: 64, flooded: true, peers: FAULTY, ..BASIC },
    Workload { name: "4", in_flight: 4, peers: EXTRAS, ..BASIC },
    Workload { name: "4+up", in_flight: 5, kind: Kind::Upload, peers: EXTRAS, ..BASIC },
];

const OURS: &[&str] = &["switchback"];
/// Those that have `Peer::late` and `Peer::upload`.
const EXTRAS: &[&str] = &["switchback", "tarpc", "tonic"];
/// Those whose answer to faults is told.
const FAULTY: &[&str] = &["switchback", "raw", "tarpc", "tonic"];

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

    /// Whether this peer does it.
    pub fn is_for(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.contains(&peer)
    }

    /// Whether all that both processes do is its calls, so that what they cost can be told.
    pub fn is_alone(self) -> bool {
        !self.flooded && matches!(self.kind, Kind::Blob(_) | Kind::Echo)
    }

    /// What its rate counts.
    pub const fn unit(self) -> &'static str {
        match self.kind {
            Kind::Blob(bytes) if bytes >= 1 << 10 => "MiB/s",
            Kind::Idle => "KiB/connection",
            Kind::Blob(_) | Kind::Cancel | Kind::Echo | Kind::Late | Kind::Upload => "calls/s",
        }
    }

    /// What it is, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self.name.as_bytes() {
            b"1" => "one call in flight",
            b"64" => "64 calls in flight on one connection",
            b"512" => "512 calls in flight on one connection",
            b"16x32" => "16 connections with 32 calls in flight each",
            b"64k" => "bodies of 64 KiB echoed, 8 in flight",
            b"1m" => "bodies of 1 MiB echoed, 8 in flight",
            b"idle" => "5,000 connections after one call on each, and one more call answered",
            b"bytes" => "64 bytes echoed as they are, 64 in flight",
            b"cancel" => "64 in flight, 1 % of the calls taken back after their first poll",
            b"late" => "64 in flight, and beside 1 % of them a call that times out after 5 ms",
            b"flood" => "64 in flight while another process floods with 512 in flight",
            b"4" => "4 calls in flight",
            b"4+up" => "4 in flight beside 250 MiB/s uploaded on the same connection",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is found by its name and says what it is; the peers it names are peers.
    #[test]
    fn every_workload_is_named_and_explained() {
        for workload in ALL {
            assert_eq!(Workload::named(workload.name).expect("listed"), *workload);
            assert!(!workload.meaning().is_empty(), "{}", workload.name);
        }
        assert!(Workload::named("65").expect_err("no such").to_string().contains("16x32"));
        assert!(Workload::named(FLOOD).is_ok() && Workload::named(BASE).is_ok());
    }
}
