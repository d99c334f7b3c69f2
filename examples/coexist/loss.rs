//! What the ledgers say of the calls around the end of a server process: which were in flight, and
//! whether every error is explained by that end.
//!
//! A drain explains no error. A kill explains that a call's outcome is unknown if
//! - its method is not idempotent (the others are tried again),
//! - its client's connection led to the killed process,
//! - it ended after the kill was begun, and was made before its client had an answer of the
//!   successor: afterwards it knew that the old connection was gone,
//! - and it was executed there or nowhere; never by the successor.
//!
//! A client may lose more calls than it has at a time: the system closes what the dying process
//! had open one by one, its listener last, and so may take a connection for it once more, which a
//! client of a single version sends calls on at once (HS-8).
//!
//! Invariant: an error that is not explained by all of this is a fault, told with its call.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::contract::DOWNLOAD;
use crate::ledger::{Disposition, Outcome, Record};
use crate::plan::Action;

/// The end of a server process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// How it came.
    pub(crate) action: Action,
    /// The process that ended.
    pub(crate) instance: u64,
    /// The one that came after it.
    pub(crate) successor: u64,
    /// Just before it was told to end, or was killed.
    pub(crate) begun_us: u64,
    /// When its successor had said that it listens.
    pub(crate) over_us: u64,
}

/// What became of the calls around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss {
    /// In flight when it was begun.
    pub(crate) in_flight: u64,
    /// In flight, or made, until the successor listened.
    pub(crate) calls_during: u64,
    /// Calls that the successor was sent as another attempt, and that were answered.
    pub(crate) tried_again: u64,
    /// Calls of these clients that failed at any time, by their outcome.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Those of them that are idempotent. There must be none.
    pub(crate) idempotent_failed: u64,
    /// Those of them that the end of the process explains.
    pub(crate) explained: u64,
    /// Explained ones that were executed all the same.
    pub(crate) executed: u64,
    /// Downloads that the process that ended has begun.
    pub(crate) downloads: u64,
    /// Errors that nothing explains, in words.
    pub(crate) unexplained: Vec<String>,
}

/// A call as its client wrote it down.
#[derive(Clone, Copy, Debug)]
struct Call {
    issued_us: u64,
    ended_us: u64,
    idempotent: bool,
    is_ok: bool,
}

/// Executions, by server process.
struct Runs {
    /// Of downloads.
    downloads: BTreeMap<u64, u64>,
    /// Of calls that failed: where they ran.
    of_failed: BTreeMap<Key, Vec<u64>>,
    /// Calls that a process was sent as an attempt after the first.
    again: BTreeSet<(u64, Key)>,
}

/// A client, and a call's number there.
type Key = (u64, u64);

/// Judges one end of a server process by the logs of its clients and of all server processes.
///
/// # Errors
/// If a log cannot be read.
pub(crate) fn judge(
    ending: &Ending,
    clients: &[(u64, &Path)],
    servers: &[(u64, &Path)],
) -> Result<Loss, crate::Failure> {
    let mut loss = Loss::default();
    let (mut calls, mut failed, mut renewed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (client, path) in clients {
        read_client(*client, path, &mut calls, &mut failed)?;
        renewed.insert(*client, first_answer(path, ending.successor)?);
    }
    let runs = Runs::read(servers, &failed)?;
    for (key, call) in &calls {
        let is_in_flight = call.issued_us <= ending.begun_us && call.ended_us >= ending.begun_us;
        loss.in_flight += u64::from(is_in_flight);
        let is_during = call.issued_us <= ending.over_us && call.ended_us >= ending.begun_us;
        loss.calls_during += u64::from(is_during);
        let is_again = call.is_ok && runs.again.contains(&(ending.successor, *key));
        loss.tried_again += u64::from(is_again);
    }
    for (key, outcome) in &failed {
        *loss.errors.entry(outcome.clone()).or_default() += 1;
        let ran: &[u64] = runs.of_failed.get(key).map_or(&[], Vec::as_slice);
        loss.idempotent_failed += u64::from(calls[key].idempotent);
        let (client, seq) = *key;
        match why_not(ending, &calls[key], outcome, renewed[&client], ran) {
            None => {
                loss.explained += 1;
                loss.executed += u64::from(!ran.is_empty());
            }
            Some(why) => {
                loss.unexplained.push(format!("call {client}/{seq} is {outcome}, but {why}"));
            }
        }
    }
    loss.downloads = runs.downloads.get(&ending.instance).copied().unwrap_or(0);
    Ok(loss)
}

/// Why the end of the process does not explain this error; `None` if it does.
fn why_not(
    ending: &Ending,
    call: &Call,
    outcome: &str,
    renewed_us: Option<u64>,
    ran: &[u64],
) -> Option<String> {
    if ending.action != Action::Kill {
        return Some("its server was drained".to_owned());
    }
    if outcome != UNKNOWN {
        return Some("a kill leaves only outcomes that are unknown".to_owned());
    }
    if call.idempotent {
        return Some("it is idempotent and should have been tried again".to_owned());
    }
    if call.ended_us.saturating_add(TOLERANCE_US) < ending.begun_us {
        let before = ending.begun_us - call.ended_us;
        return Some(format!("it ended {before} us before the kill"));
    }
    if let Some(renewed_us) = renewed_us.filter(|renewed_us| call.issued_us > *renewed_us) {
        let after = call.issued_us - renewed_us;
        return Some(format!("it was made {after} us after the successor's first answer"));
    }
    let elsewhere = ran.iter().find(|instance| **instance != ending.instance);
    elsewhere.map(|instance| format!("server process {instance} executed it"))
}

/// Files the calls of a client, and the outcomes of those that failed.
fn read_client(
    client: u64,
    path: &Path,
    calls: &mut BTreeMap<Key, Call>,
    failed: &mut BTreeMap<Key, String>,
) -> Result<(), crate::Failure> {
    read(path, |record| match record {
        Record::Issue(issue) => {
            let call = Call {
                issued_us: issue.issued_at_us,
                ended_us: u64::MAX,
                idempotent: issue.idempotent,
                is_ok: false,
            };
            calls.insert((client, issue.seq), call);
        }
        Record::End(end) => {
            let key = (client, end.seq);
            // The ledger's judge tells of an outcome without a call.
            let Some(call) = calls.get_mut(&key) else { return };
            (call.ended_us, call.is_ok) = (end.ended_at_us, end.outcome == Outcome::Ok);
            let is_maybe = end.disposition == Disposition::Maybe;
            match end.outcome {
                Outcome::Ok => {}
                Outcome::Unknown if is_maybe => {
                    failed.insert(key, UNKNOWN.to_owned());
                }
                other => {
                    failed.insert(key, format!("{other} ({})", end.disposition.as_str()));
                }
            }
        }
        _ => {}
    })
}

/// When a client had its first answer of a server process.
fn first_answer(path: &Path, instance: u64) -> Result<Option<u64>, crate::Failure> {
    let mut first: Option<u64> = None;
    read(path, |record| {
        let Record::End(end) = record else { return };
        if end.answer.is_some_and(|answer| answer.instance == instance) {
            let at = end.ended_at_us;
            first = Some(first.map_or(at, |first| first.min(at)));
        }
    })?;
    Ok(first)
}

impl Runs {
    fn read(
        servers: &[(u64, &Path)],
        failed: &BTreeMap<Key, String>,
    ) -> Result<Self, crate::Failure> {
        let (downloads, of_failed) = (BTreeMap::new(), BTreeMap::new());
        let mut runs = Self { downloads, of_failed, again: BTreeSet::new() };
        for (instance, path) in servers {
            read(path, |record| {
                let Record::Start { start, .. } = record else { return };
                let key = (start.client, start.seq);
                *runs.downloads.entry(*instance).or_default() +=
                    u64::from(start.method == DOWNLOAD);
                if failed.contains_key(&key) {
                    runs.of_failed.entry(key).or_default().push(*instance);
                }
                if start.attempt > 0 {
                    runs.again.insert((*instance, key));
                }
            })?;
        }
        Ok(runs)
    }
}

/// Reads a log, up to a last line that a kill has torn. The ledger's own judge has read it before,
/// and has told what is wrong with it.
fn read(path: &Path, mut then: impl FnMut(Record<'_>)) -> Result<(), crate::Failure> {
    let text = std::fs::read_to_string(path)?;
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    for line in whole {
        then(Record::parse(line)?);
    }
    Ok(())
}

/// The outcome of a call whose connection was lost while it may have been running.
const UNKNOWN: &str = "unknown";
/// How far the clocks of two processes may differ: as the ledger's rules for real processes say.
const TOLERANCE_US: u64 = crate::ledger::Rules::REAL.tolerance_us;
