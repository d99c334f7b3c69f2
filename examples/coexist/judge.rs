//! Whether the run was good: the cells of the matrix, the changes, and everything found wrong.
//!
//! Invariant: every error is a fault, but those that the ledgers explain by the kill of a server;
//! what cannot be must be zero, what must be seen must not.

use crate::World;
use crate::client::CALLS_AT_A_TIME;
use crate::director::{PAIRS, Seen};
use crate::ledger::Invariant;
use crate::loss::{Ending, Loss};
use crate::plan::{Action, CHANGES, SETTLED, Way};
use crate::plan::{change_phase, instance_of, may_lag, settled_phase, way_of};
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

/// Calls around one change, to its server: of the old client, and of the new client in version 1
/// and 2.
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
    let in_phase = |(old, new), phase| {
        let of = |report: &ClientReport, version: Option<u16>| {
            sum(report.answered.iter().filter(|row| {
                row.phase == phase && version.is_none_or(|version| row.version == version)
            }))
        };
        [of(old, None), of(new, Some(1)), of(new, Some(2))]
    };
    let around = |change: usize| {
        let of = if CHANGES[change].server == World::V1 { 0 } else { 2 };
        let clients = (&seen.clients[of], &seen.clients[of + 1]);
        Around {
            before: in_phase(clients, settled_phase(change)),
            meanwhile: in_phase(clients, change_phase(change)),
            after: in_phase(clients, settled_phase(change + 1)),
        }
    };
    (0..CHANGES.len()).map(around).collect()
}

/// What is wrong; empty is good.
pub(crate) fn faults(seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for cell in matrix(seen) {
        let name = cell.name();
        for failed in cell.errors.iter().filter(|failed| !is_explained(seen, &cell, failed)) {
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
    endings(seen, &mut faults);
    counts(seen, &mut faults);
    ledger(seen, &mut faults);
    faults
}

/// Whether the ledgers explain all these failures; those that they do not are told by `endings`.
fn is_explained(seen: &Seen, cell: &Cell<'_>, failed: &Failed) -> bool {
    let endings = seen.endings.iter();
    let of_server = endings.filter(|(ending, _)| {
        ending.action == Action::Kill && ending.instance == instance_of(cell.server, false)
    });
    let known = of_server.filter_map(|(_, loss)| loss.errors.get(&failed.kind)).sum::<u64>();
    failed.version == 0 && failed.calls <= known
}

/// A server that is drained costs no call; one that is killed only those that it explains.
fn endings(seen: &Seen, faults: &mut Vec<String>) {
    let mut explained = 0;
    for (ending, loss) in &seen.endings {
        let instance = ending.instance;
        let unexplained = loss.unexplained.iter().take(LEDGER_FAULTS_SHOWN);
        faults.extend(unexplained.map(|why| format!("end of process {instance}: {why}")));
        let failed: u64 = loss.errors.values().sum();
        if failed != loss.explained {
            let text = format!(
                "end of process {instance}: it explains {} of {failed} errors",
                loss.explained
            );
            faults.push(text);
        }
        if loss.in_flight == 0 {
            let text =
                format!("process {instance} ended with no call in flight, so nothing is proven");
            faults.push(text);
        }
        explained += loss.explained;
    }
    let failed: u64 = seen.verdict.errors.values().sum();
    if failed != explained {
        faults.push(format!("the ledgers have {failed} errors, {explained} are explained"));
    }
    let wanted = CHANGES.iter().filter(|change| !matches!(change.action, Action::Tell(_)));
    if seen.endings.len() != wanted.count() {
        faults.push("a server that was to end did not, so nothing is proven".to_owned());
    }
}

/// Every answer came from the handler that was there when its call was made.
fn builds(seen: &Seen, faults: &mut Vec<String>) {
    for (pair, report) in PAIRS.into_iter().zip(&seen.clients) {
        let (from, to) = (pair.0.name(), pair.1.name());
        for settled in 0..SETTLED {
            let way = way_of(pair, settled);
            let next = way_of(pair, (settled + 1).min(SETTLED - 1));
            for row in rows(report, settled_phase(settled)) {
                let found = way_in(row);
                // Those that were in flight when the next change came.
                let is_early = found == next && row.calls <= CALLS_AT_A_TIME;
                let is_lag = may_lag(settled) && found == way_of(pair, settled - 1);
                if found != way && !is_early && !is_lag {
                    let calls = row.calls;
                    faults.push(format!(
                        "{from} to {to}: {calls} calls made in phase {settled} were answered by \
                         {found}, not by {way}"
                    ));
                }
            }
            if !rows(report, settled_phase(settled)).any(|row| way_in(row) == way) {
                faults.push(format!(
                    "{from} to {to}: no call of phase {settled} was answered by {way}, so nothing \
                     is proven"
                ));
            }
        }
    }
}

/// What the two sides counted agrees, and nothing was left behind.
fn counts(seen: &Seen, faults: &mut Vec<String>) {
    let answered = |instance: u64| -> u64 {
        seen.clients.iter().filter_map(|report| report.downloads.get(&instance)).sum()
    };
    for server in &seen.servers {
        let (instance, counted, cut) = (server.instance, server.downloads, server.cut);
        let answered = answered(instance);
        if answered != counted {
            faults.push(format!(
                "process {instance} counted {counted} downloads, its clients had {answered} \
                 answered"
            ));
        }
        if cut > 0 {
            faults.push(format!("process {instance} cut {cut} connections at its end"));
        }
    }
    // The one that was killed counts no more; its ledger does.
    for (Ending { instance, .. }, loss) in killed(seen) {
        let (begun, lost, answered) = (loss.downloads, loss.executed, answered(*instance));
        if begun != answered + lost {
            faults.push(format!(
                "process {instance}, which was killed, had begun {begun} downloads; {answered} \
                 were answered, and {lost} ran without"
            ));
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
    if (verdict.clients, verdict.servers, verdict.torn) != (4, 4, 1) {
        let (clients, servers, torn) = (verdict.clients, verdict.servers, verdict.torn);
        faults.push(format!(
            "there must be ledgers of 4 clients and 4 server processes, all whole but that of the \
             killed one: {clients} and {servers} were found, {torn} of them torn"
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

/// The ends of server processes that were killed.
pub(crate) fn killed(seen: &Seen) -> impl Iterator<Item = &(Ending, Loss)> {
    seen.endings.iter().filter(|(ending, _)| ending.action == Action::Kill)
}

/// Downloads that were answered.
pub(crate) fn downloads(seen: &Seen) -> u64 {
    seen.clients.iter().flat_map(|report| report.downloads.values()).sum()
}

fn way_in(row: &Answered) -> Way {
    Way { instance: row.instance, version: row.version, build: row.build }
}

fn rows(report: &ClientReport, phase: usize) -> impl Iterator<Item = &Answered> {
    report.answered.iter().filter(move |row| row.phase == phase)
}

fn sum<'a>(rows: impl Iterator<Item = &'a Answered>) -> u64 {
    rows.map(|row| row.calls).sum()
}

const LEDGER_FAULTS_SHOWN: usize = 10;
