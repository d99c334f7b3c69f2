//! The judge: joins what clients and servers wrote, call by call.
//!
//! All tables are sorted by call and walked together once, so a million calls cost a few sorts.
//! What must hold of one call is in `case`.
//!
//! Clocks: times of one process are compared as they are. Between processes `tolerance_us` is
//! allowed. The wire carries the time that remains, so the time a request spends on its way is
//! counted by nobody: a start may come after the caller's deadline by `transit_us`, but never
//! after the deadline that the handler itself was given.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use super::case::{Case, Nonces};
use super::load::{Books, Class, Ended, OnWire, Run, Tried};
use super::record::How;
use super::report::{Call, Invariant, Verdict};
use super::retries::{Budget, Retried, within_budget};
use super::tiers::{maker_of, within_tiers};

/// How much time is forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far two processes' clocks may differ.
    pub tolerance_us: u64,
    /// How long a request may be on its way, from the caller's clock reading to the server's.
    pub transit_us: u64,
    /// How long after its deadline a call may still get its outcome (L1).
    pub grace_us: u64,
    /// What retries cost, if that is to be judged (L5).
    pub budget: Option<Budget>,
    /// Whether connections end by drains alone: then no call may be lost (L6).
    pub only_drains: bool,
}

impl Rules {
    /// Processes on one machine, possibly with more to do than it has cores.
    pub const REAL: Self = Self {
        tolerance_us: 2_000,
        transit_us: 1_000_000,
        grace_us: 50_000,
        budget: None,
        only_drains: false,
    };
    /// One virtual clock; set `transit_us` to the longest delay that is simulated.
    pub const SIMULATED: Self = Self { tolerance_us: 0, transit_us: 0, ..Self::REAL };
}

/// Judges the logs of real processes.
///
/// # Errors
/// If a file cannot be read or is not a ledger; a torn end is not an error.
pub fn check(paths: &[PathBuf]) -> io::Result<Verdict> {
    check_with(paths, &Rules::REAL)
}

/// Judges logs by the given rules.
///
/// # Errors
/// See [`check`].
pub fn check_with(paths: &[PathBuf], rules: &Rules) -> io::Result<Verdict> {
    let mut books = Books::default();
    for path in paths {
        let name = path.display().to_string();
        let file = File::open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        books.read(&name, BufReader::with_capacity(READ_BYTES, file))?;
    }
    Ok(judge(books, rules))
}

/// Judges logs in memory; each has a name for messages.
///
/// # Errors
/// If one is not a ledger.
pub fn check_bytes(logs: &[(&str, &[u8])], rules: &Rules) -> io::Result<Verdict> {
    let mut books = Books::default();
    for (name, bytes) in logs {
        books.read(name, *bytes)?;
    }
    Ok(judge(books, rules))
}

fn judge(mut books: Books, rules: &Rules) -> Verdict {
    let mut verdict = std::mem::take(&mut books.verdict);
    books.issues.sort_unstable_by_key(|issue| (issue.call, issue.issued_at_us));
    books.tries.sort_unstable_by_key(|attempt| (attempt.call, attempt.attempt));
    books.sents.sort_unstable_by_key(|sent| (sent.call, sent.at_us));
    books.ends.sort_unstable_by_key(|end| (end.call, end.ended_at_us));
    books.runs.sort_unstable_by_key(|run| (run.call, run.started_at_us, run.nonce));
    count(&books, &mut verdict);
    let nonces = Nonces::of(&books.runs, &mut verdict);
    let mut retried = Vec::new();

    let mut tries = Cursor { rest: &books.tries, call: |attempt| attempt.call };
    let mut sents = Cursor { rest: &books.sents, call: |sent| sent.call };
    let mut ends = Cursor { rest: &books.ends, call: |end| end.call };
    let mut runs = Cursor { rest: &books.runs, call: |run| run.call };
    for same in books.issues.chunk_by(|a, b| a.call == b.call) {
        let issue = &same[0];
        let (stray_tries, tries) = tries.advance(issue.call);
        let (stray_sents, sents) = sents.advance(issue.call);
        let (stray_ends, ends) = ends.advance(issue.call);
        let (stray_runs, runs) = runs.advance(issue.call);
        strays(&mut verdict, (stray_tries, stray_sents), stray_ends, stray_runs);
        if same.len() > 1 {
            let times = same.len();
            verdict.report(Invariant::Log, Some(issue.call), || {
                format!("the client issued {times} calls under this number")
            });
        }
        let maker = maker_of(&books, &nonces, issue, &mut verdict);
        let crashed_at_us = books.crashes.get(&issue.call.client).copied();
        let (books, nonces) = (&books, &nonces);
        Case { books, nonces, rules, issue, tries, sents, ends, runs, maker, crashed_at_us }
            .judge(&mut verdict);
        let seen = tries.iter().map(|t| t.attempt).chain(sents.iter().map(|sent| sent.attempt));
        let retries = seen.chain(runs.iter().map(|run| run.attempt)).max().unwrap_or(0);
        retried.push(Retried { issue: *issue, retries });
    }
    strays(&mut verdict, (tries.rest, sents.rest), ends.rest, runs.rest);
    stray_parents(&books, &mut verdict);
    if let Some(budget) = &rules.budget {
        within_tiers(budget, &retried, &books, &mut verdict);
        within_budget(budget, retried, &mut verdict);
    }
    verdict
}

/// Records of calls that no client issued.
fn strays(
    verdict: &mut Verdict,
    (tries, sents): (&[Tried], &[OnWire]),
    ends: &[Ended],
    runs: &[Run],
) {
    for run in runs {
        verdict.report(Invariant::Unissued, Some(run.call), || {
            format!("server {} ran it (nonce {}), nobody issued it", run.instance, run.nonce)
        });
    }
    for sent in sents {
        verdict.report(Invariant::Unissued, Some(sent.call), || {
            format!("it was sent at {} us, nobody issued it", sent.at_us)
        });
    }
    for call in ends.iter().map(|end| end.call).chain(tries.iter().map(|attempt| attempt.call)) {
        verdict.report(Invariant::Log, Some(call), || {
            String::from("the client wrote an outcome of a call that it did not issue")
        });
    }
}

/// Handlers' calls that were not issued.
fn stray_parents(books: &Books, verdict: &mut Verdict) {
    let is_issued = |call: &Call| books.issues.binary_search_by_key(call, |i| i.call).is_ok();
    for (call, parent) in books.parents.iter().filter(|(call, _)| !is_issued(call)) {
        verdict.report(Invariant::Log, Some(*call), || {
            format!("execution {} is said to have made it, nobody issued it", parent.nonce)
        });
    }
}

fn count(books: &Books, verdict: &mut Verdict) {
    let total = |n: usize| u64::try_from(n).expect("a length fits in 64 bits");
    verdict.calls = total(books.issues.len());
    verdict.executions = total(books.runs.len());
    verdict.nested = total(books.parents.len());
    let is_dropped = |run: &&Run| run.finish.is_some_and(|(how, _)| how == How::Dropped);
    verdict.dropped = total(books.runs.iter().filter(is_dropped).count());
    verdict.unfinished = total(books.runs.iter().filter(|run| run.finish.is_none()).count());
    for end in &books.ends {
        if end.class == Class::Ok {
            verdict.ok += 1;
        } else if let Some(n) = verdict.errors.get_mut(books.names.text(end.outcome)) {
            *n += 1;
        } else {
            verdict.errors.insert(books.names.text(end.outcome).to_owned(), 1);
        }
    }
}

/// Walks a table that is sorted by call.
struct Cursor<'a, T> {
    rest: &'a [T],
    call: fn(&T) -> Call,
}

impl<'a, T> Cursor<'a, T> {
    /// The rows that come before this call, and those of it.
    fn advance(&mut self, call: Call) -> (&'a [T], &'a [T]) {
        let rows = self.rest;
        let before = rows.iter().take_while(|row| (self.call)(row) < call).count();
        let same = rows[before..].iter().take_while(|row| (self.call)(row) == call).count();
        self.rest = &rows[before + same..];
        (&rows[..before], &rows[before..before + same])
    }
}

const READ_BYTES: usize = 256 * 1024;
