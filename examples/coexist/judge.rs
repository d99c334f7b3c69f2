//! Whether the run was good: the cells of the matrix, the changes, and everything found wrong.
//!
//! Invariant: no error is expected in this run, so every error is a fault; what cannot be must be
//! zero, what must be seen must not.

use crate::World;
use crate::client::CALLS_AT_A_TIME;
use crate::director::{PAIRS, Seen};
use crate::ledger::Invariant;
use crate::plan::{CHANGES, OLD_WAY, SETTLED, change_phase, settled_phase, way_of};
use crate::words::{Answered, ClientReport, Failed, Latency};

/// The calls of one client to one server that were answered in one version.
#[derive(Clone, Debug)]
pub(crate) struct Cell<'a> {
    /// The client.
    pub(crate) client: World,
    /// The server.
    pub(crate) server: World,
    /// The version; 0 for calls that were not answered.
    pub(crate) version: u16,
    /// How many.
    pub(crate) calls: u64,
    /// How long they took, if there were any.
    pub(crate) latency: Option<Latency>,
    /// Those that failed.
    pub(crate) errors: Vec<&'a Failed>,
}

/// Calls around one change: of the old client, and of the new client in version 1 and 2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// Made before it was begun, after the change before.
    pub(crate) before: [u64; 3],
    /// Made while it was under way.
    pub(crate) meanwhile: [u64; 3],
    /// Made when it was done, before the next change.
    pub(crate) after: [u64; 3],
}

impl Cell<'_> {
    /// Whether there must be calls in it; otherwise there must be none.
    pub(crate) fn is_possible(&self) -> bool {
        let best = self.client.newest().min(self.server.newest());
        (1..=best).contains(&self.version)
    }

    /// As people write it.
    pub(crate) fn name(&self) -> String {
        let (client, server) = (self.client.name(), self.server.name());
        match self.version {
            0 => format!("{client} to {server}, not answered"),
            version => format!("{client} to {server}:{version}"),
        }
    }
}

/// All cells, and those for calls without an answer if there were any.
pub(crate) fn matrix(seen: &Seen) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    for ((client, server), report) in PAIRS.into_iter().zip(&seen.clients) {
        for version in [1, 2, 0] {
            let of_version = report.errors.iter().filter(|failed| failed.version == version);
            let errors: Vec<&Failed> = of_version.collect();
            let calls = match version {
                0 => errors.iter().map(|failed| failed.calls).sum(),
                _ => sum(report.answered.iter().filter(|row| row.version == version)),
            };
            if version > 0 || calls > 0 {
                let latency = report.latencies.get(&version).copied();
                cells.push(Cell { client, server, version, calls, latency, errors });
            }
        }
    }
    cells
}

/// The calls around each change.
pub(crate) fn around_changes(seen: &Seen) -> Vec<Around> {
    let (old, new) = (&seen.clients[2], &seen.clients[3]);
    let in_phase = |phase| {
        let of = |report: &ClientReport, version: Option<u16>| {
            sum(report.answered.iter().filter(|row| {
                row.phase == phase && version.is_none_or(|version| row.version == version)
            }))
        };
        [of(old, None), of(new, Some(1)), of(new, Some(2))]
    };
    let around = |change| Around {
        before: in_phase(settled_phase(change)),
        meanwhile: in_phase(change_phase(change)),
        after: in_phase(settled_phase(change + 1)),
    };
    (0..CHANGES.len()).map(around).collect()
}

/// What is wrong; empty is good.
pub(crate) fn faults(seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for cell in matrix(seen) {
        let name = cell.name();
        for failed in &cell.errors {
            let Failed { kind, calls, first, .. } = failed;
            faults.push(format!("{name}: {calls} calls failed: {kind}; the first: {first}"));
        }
        match (cell.is_possible(), cell.calls) {
            (true, 0) => faults.push(format!("{name}: no calls, so nothing is proven")),
            (false, 1..) if cell.version > 0 => {
                faults.push(format!("{name}: {} calls, which cannot be", cell.calls));
            }
            _ => {}
        }
    }
    builds(seen, &mut faults);
    counts(seen, &mut faults);
    ledger(seen, &mut faults);
    faults
}

/// Every answer came from the handler that was there when its call was made.
fn builds(seen: &Seen, faults: &mut Vec<String>) {
    for ((client, server), report) in PAIRS.into_iter().zip(&seen.clients) {
        let is_changed = (client, server) == (World::V2, World::V2);
        for settled in 0..SETTLED {
            let way = if is_changed { way_of(settled) } else { OLD_WAY };
            let next = if settled + 1 < SETTLED { way_of(settled + 1) } else { way };
            for row in rows(report, settled_phase(settled)) {
                let found = (row.version, row.build);
                // Those that were in flight when the next change came.
                let is_early = found == next && row.calls <= CALLS_AT_A_TIME;
                // The news of a higher version reaches a client a little after the change.
                let is_lag = is_changed && settled == LIFTED && found == OLD_WAY;
                if found != way && !is_early && !is_lag {
                    let (from, to) = (client.name(), server.name());
                    let ((version, build), calls) = (found, row.calls);
                    faults.push(format!(
                        "{from} to {to}: {calls} calls made in phase {settled} were answered in \
                         version {version} by build {build}, not in {} by {}",
                        way.0, way.1
                    ));
                }
            }
            let by_way =
                sum(rows(report, settled_phase(settled))
                    .filter(|row| (row.version, row.build) == way));
            if is_changed && by_way == 0 {
                let ((version, build), from) = (way, client.name());
                faults.push(format!(
                    "{from}: no call of phase {settled} was answered in version {version} by build \
                     {build}, so nothing is proven"
                ));
            }
        }
    }
}

/// What the two sides counted agrees, and nothing was left behind.
fn counts(seen: &Seen, faults: &mut Vec<String>) {
    for (at, server) in [World::V1, World::V2].into_iter().enumerate() {
        let name = server.name();
        let of_server = PAIRS.into_iter().zip(&seen.clients).filter(|(pair, _)| pair.1 == server);
        let answered: u64 = of_server.map(|(_, report)| report.downloads).sum();
        let counted = seen.servers[at].downloads;
        if answered != counted {
            faults.push(format!(
                "server {name} counted {counted} downloads, its clients had {answered} answered"
            ));
        }
        let cut = seen.servers[at].cut;
        if cut > 0 {
            faults.push(format!("server {name} cut {cut} connections at its end"));
        }
    }
    for replaced in &seen.replaced {
        let (left, build) = (replaced.left, replaced.build);
        if !replaced.is_drained {
            faults.push(format!("the handlers that build {build} replaced were never let go"));
        } else if left > 0 {
            faults.push(format!(
                "{left} calls of the old build ran on after build {build} was said to be alone"
            ));
        }
    }
}

fn ledger(seen: &Seen, faults: &mut Vec<String>) {
    let verdict = &seen.verdict;
    let made: u64 = seen.clients.iter().map(|report| report.calls).sum();
    if verdict.calls != made {
        faults.push(format!("the ledgers have {} calls, the clients made {made}", verdict.calls));
    }
    if (verdict.clients, verdict.servers, verdict.torn) != (4, 2, 0) {
        let (clients, servers, torn) = (verdict.clients, verdict.servers, verdict.torn);
        faults.push(format!(
            "there must be whole ledgers of 4 clients and 2 servers: {clients} and {servers} \
             were found, {torn} of them torn"
        ));
    }
    let found = verdict.violations.iter().map(|violation| format!("ledger: {violation}"));
    faults.extend(found.take(LEDGER_FAULTS_SHOWN));
    let broken: u64 = verdict.broken.values().sum();
    if broken > 0 {
        faults.push(format!("ledger: {broken} violations in all"));
    }
}

/// Calls that got two outcomes, or ran twice though they must not.
pub(crate) fn doubled(seen: &Seen) -> u64 {
    seen.verdict.doubled + seen.verdict.count(Invariant::L3)
}

fn rows(report: &ClientReport, phase: usize) -> impl Iterator<Item = &Answered> {
    report.answered.iter().filter(move |row| row.phase == phase)
}

fn sum<'a>(rows: impl Iterator<Item = &'a Answered>) -> u64 {
    rows.map(|row| row.calls).sum()
}

/// The settled phase after the ceiling was lifted.
const LIFTED: usize = 3;
const LEDGER_FAULTS_SHOWN: usize = 10;
