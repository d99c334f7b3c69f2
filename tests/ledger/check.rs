//! The judge: joins what clients and servers wrote, call by call.
//!
//! All tables are sorted by call and walked together once, so a million calls cost a few sorts.
//! The nonces are one more sorted table, since an answer may name an execution of another call.
//!
//! Clocks: times of one process are compared as they are. Between processes `tolerance_us` is
//! allowed. The wire carries the time that remains, so the time a request spends on its way is
//! counted by nobody: a start may come after the caller's deadline by `transit_us`, but never
//! after the deadline that the handler itself was given.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;

use super::load::{Books, Class, Ended, Issued, Run, Tried};
use super::record::{Answer, Disposition, How};
use super::report::{Call, Invariant, Verdict};

/// How much time is forgiven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far two processes' clocks may differ.
    pub tolerance_us: u64,
    /// How long a request may be on its way, from the caller's clock reading to the server's.
    pub transit_us: u64,
    /// How long after its deadline a call may still get its outcome (L1).
    pub grace_us: u64,
}

impl Rules {
    /// Processes on one machine, possibly with more to do than it has cores.
    pub const REAL: Self = Self {
        tolerance_us: 2_000,
        transit_us: 1_000_000,
        grace_us: 50_000,
    };
    /// One virtual clock; set `transit_us` to the longest delay that is simulated.
    pub const SIMULATED: Self = Self {
        tolerance_us: 0,
        transit_us: 0,
        grace_us: 50_000,
    };
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
    books
        .issues
        .sort_unstable_by_key(|issue| (issue.call, issue.issued_at_us));
    books
        .tries
        .sort_unstable_by_key(|attempt| (attempt.call, attempt.attempt));
    books
        .ends
        .sort_unstable_by_key(|end| (end.call, end.ended_at_us));
    books
        .runs
        .sort_unstable_by_key(|run| (run.call, run.started_at_us, run.nonce));
    count(&books, &mut verdict);
    let nonces = Nonces::of(&books.runs, &mut verdict);

    let mut tries = Cursor {
        rest: &books.tries,
        call: |attempt| attempt.call,
    };
    let mut ends = Cursor {
        rest: &books.ends,
        call: |end| end.call,
    };
    let mut runs = Cursor {
        rest: &books.runs,
        call: |run| run.call,
    };
    for same in books.issues.chunk_by(|a, b| a.call == b.call) {
        let issue = &same[0];
        let (stray_tries, tries) = tries.advance(issue.call);
        let (stray_ends, ends) = ends.advance(issue.call);
        let (stray_runs, runs) = runs.advance(issue.call);
        strays(&mut verdict, stray_tries, stray_ends, stray_runs);
        if same.len() > 1 {
            let times = same.len();
            verdict.report(Invariant::Log, Some(issue.call), || {
                format!("the client issued {times} calls under this number")
            });
        }
        let case = Case {
            books: &books,
            nonces: &nonces,
            rules,
            issue,
            tries,
            ends,
            runs,
        };
        case.outcomes(&mut verdict);
        case.executions(&mut verdict);
        case.truth(&mut verdict);
        case.times(&mut verdict);
        for end in ends {
            case.answer(&mut verdict, end);
        }
    }
    strays(&mut verdict, tries.rest, ends.rest, runs.rest);
    verdict
}

/// One call and all that is written of it.
struct Case<'a> {
    books: &'a Books,
    nonces: &'a Nonces,
    rules: &'a Rules,
    issue: &'a Issued,
    tries: &'a [Tried],
    ends: &'a [Ended],
    runs: &'a [Run],
}

impl Case<'_> {
    /// L1: one outcome, in time.
    fn outcomes(&self, verdict: &mut Verdict) {
        if self.ends.is_empty() {
            verdict.lost += 1;
            self.report(verdict, Invariant::L1, || {
                format!("lost: it has no outcome; {}", self.runs_in_words())
            });
        }
        if self.ends.len() > 1 {
            verdict.doubled += 1;
            self.report(verdict, Invariant::L1, || {
                let each: Vec<_> = self.ends.iter().map(|end| self.end_in_words(end)).collect();
                format!("it has {} outcomes: {}", each.len(), each.join("; "))
            });
        }
        let limit = self
            .issue
            .deadline_at_us
            .saturating_add(self.rules.grace_us);
        for end in self.ends {
            if end.ended_at_us > limit {
                verdict.late += 1;
                self.report(verdict, Invariant::L1, || {
                    let over = apart(self.issue.deadline_at_us, end.ended_at_us);
                    format!("late: {}, {over} from its deadline", self.end_in_words(end))
                });
            }
            if end.ended_at_us < self.issue.issued_at_us {
                self.report(verdict, Invariant::Clock, || {
                    format!("it ended before it was issued: {}", self.end_in_words(end))
                });
            }
        }
    }

    /// L3, and the first half of L10: the handler that ran is the one that was asked for.
    fn executions(&self, verdict: &mut Verdict) {
        if !self.issue.idempotent && self.runs.len() > 1 {
            self.report(verdict, Invariant::L3, || {
                format!("it is not idempotent, but {}", self.runs_in_words())
            });
        }
        for run in self
            .runs
            .iter()
            .filter(|run| run.method != self.issue.method)
        {
            self.report(verdict, Invariant::L10, || {
                let asked = self.books.names.text(self.issue.method);
                let ran = self.books.names.text(run.method);
                format!(
                    "it called {asked}, but {ran} ran on server {}",
                    run.instance
                )
            });
        }
    }

    /// L4: what the client says about execution, for the call and for each attempt.
    fn truth(&self, verdict: &mut Verdict) {
        for end in self.ends {
            if let Some(wrong) = contradiction(end.class, end.disposition, self.runs.len()) {
                self.report(verdict, Invariant::L4, || {
                    format!(
                        "{}, {wrong}; {}",
                        self.end_in_words(end),
                        self.runs_in_words()
                    )
                });
            }
        }
        for attempt in self.tries {
            let runs = self
                .runs
                .iter()
                .filter(|run| run.attempt == attempt.attempt)
                .count();
            if let Some(wrong) = contradiction(attempt.class, attempt.disposition, runs) {
                self.report(verdict, Invariant::L4, || {
                    let outcome = self.books.names.text(attempt.outcome);
                    let disposition = attempt.disposition.as_str();
                    let number = attempt.attempt;
                    let ran = self.runs_in_words();
                    format!("attempt {number} is {outcome} ({disposition}), {wrong}; {ran}")
                });
            }
        }
    }

    /// L7, and that servers' times come after the client's.
    fn times(&self, verdict: &mut Verdict) {
        let Rules {
            tolerance_us,
            transit_us,
            ..
        } = *self.rules;
        let allowed = self
            .issue
            .deadline_at_us
            .saturating_add(tolerance_us + transit_us);
        for run in self.runs {
            let (start, given) = (run.started_at_us, run.deadline_at_us);
            if start > given {
                self.report(verdict, Invariant::L7, || {
                    let over = apart(given, start);
                    format!(
                        "server {} started it {over} from its deadline there",
                        run.instance
                    )
                });
            } else if start > allowed {
                self.report(verdict, Invariant::L7, || {
                    let over = apart(self.issue.deadline_at_us, start);
                    format!(
                        "server {} started it {over} from the caller's deadline",
                        run.instance
                    )
                });
            } else if given > allowed.saturating_add(WIRE_ROUNDING_US) {
                self.report(verdict, Invariant::L7, || {
                    let over = apart(self.issue.deadline_at_us, given);
                    let server = run.instance;
                    format!("server {server} took its deadline as {over} from the caller's")
                });
            }
            if start.saturating_add(tolerance_us) < self.issue.issued_at_us {
                self.report(verdict, Invariant::Clock, || {
                    let before = apart(self.issue.issued_at_us, start);
                    format!("server {} started it {before} from its issue", run.instance)
                });
            }
            if let Some((_, at)) = run.finish.filter(|(_, at)| *at < start) {
                self.report(verdict, Invariant::Clock, || {
                    let before = apart(start, at);
                    format!(
                        "server {} finished it {before} from its start",
                        run.instance
                    )
                });
            }
        }
    }

    /// L2 and the second half of L10: the answer, if the outcome is one of a handler.
    fn answer(&self, verdict: &mut Verdict, end: &Ended) {
        let wanted = match end.class {
            Class::Ok => How::Ok,
            Class::App => How::Err,
            Class::NotRun | Class::Unknown | Class::Other => return,
        };
        let finished = |run: &Run| run.finish.is_some_and(|(how, _)| how == wanted);
        let has_run = self.runs.iter().any(finished);
        let Some(answer) = end.answer else {
            // The error of a method need not carry a nonce; its execution must be there.
            if end.class == Class::Ok || !has_run {
                self.report(verdict, Invariant::L2, || {
                    let (ended, ran) = (self.end_in_words(end), self.runs_in_words());
                    format!("{ended}, without the nonce of an execution; {ran}")
                });
            }
            return;
        };
        self.echo(verdict, &answer);
        let Some(run) = self.nonces.find(&self.books.runs, answer.nonce) else {
            self.report(verdict, Invariant::L2, || {
                let (nonce, ran) = (answer.nonce, self.runs_in_words());
                format!("its answer names execution {nonce}, which no server started; {ran}")
            });
            return;
        };
        if run.call != self.issue.call {
            self.report(verdict, Invariant::L10, || {
                format!(
                    "it got the answer that execution {} made for call {}",
                    run.nonce, run.call
                )
            });
        }
        if !finished(run) || !has_run {
            self.report(verdict, Invariant::L2, || {
                let (how, ran) = (wanted.as_str(), self.runs_in_words());
                format!("{}, but none finished {how}: {ran}", self.end_in_words(end))
            });
        }
        self.origin(verdict, end, &answer, run);
    }

    /// L10: whom the answer says it is for.
    fn echo(&self, verdict: &mut Verdict, answer: &Answer) {
        let to = Call {
            client: answer.client,
            seq: answer.seq,
        };
        if to != self.issue.call {
            self.report(verdict, Invariant::L10, || {
                format!("its answer is for call {to}")
            });
        }
    }

    /// L10: the answer and the execution that it names tell the same.
    fn origin(&self, verdict: &mut Verdict, end: &Ended, answer: &Answer, run: &Run) {
        if (answer.version, answer.instance) != (run.version, run.instance) {
            self.report(verdict, Invariant::L10, || {
                format!(
                    "its answer says version {} of server {}, but version {} of server {} ran",
                    answer.version, answer.instance, run.version, run.instance
                )
            });
        }
        let limit = end.ended_at_us.saturating_add(self.rules.tolerance_us);
        if let Some((_, at)) = run.finish.filter(|(_, at)| *at > limit) {
            self.report(verdict, Invariant::Clock, || {
                let before = apart(at, end.ended_at_us);
                format!("the caller had the answer {before} from the end of its execution")
            });
        }
    }

    fn report(&self, verdict: &mut Verdict, what: Invariant, text: impl FnOnce() -> String) {
        verdict.report(what, Some(self.issue.call), text);
    }

    fn end_in_words(&self, end: &Ended) -> String {
        let outcome = self.books.names.text(end.outcome);
        let after = apart(self.issue.issued_at_us, end.ended_at_us);
        format!(
            "it ended {outcome} ({}) at {after}",
            end.disposition.as_str()
        )
    }

    /// Times are relative to the issue of the call.
    fn runs_in_words(&self) -> String {
        if self.runs.is_empty() {
            return String::from("it never ran");
        }
        let each = self.runs.iter().take(RUNS_TOLD_MAX).map(|run| {
            let start = apart(self.issue.issued_at_us, run.started_at_us);
            let (server, attempt) = (run.instance, run.attempt);
            match run.finish {
                Some((how, at)) => {
                    let end = apart(self.issue.issued_at_us, at);
                    let how = how.as_str();
                    format!("on server {server} (attempt {attempt}) at {start}, {how} at {end}")
                }
                None => format!("on server {server} (attempt {attempt}) at {start}, no end"),
            }
        });
        let each: Vec<_> = each.collect();
        format!("it ran {} times: {}", self.runs.len(), each.join("; "))
    }
}

/// What is wrong about saying this of a call, or an attempt, that ran so often.
fn contradiction(class: Class, said: Disposition, runs: usize) -> Option<&'static str> {
    match (class, said) {
        (Class::NotRun, Disposition::Maybe | Disposition::Processed) => {
            Some("an outcome that means it did not run")
        }
        (Class::Ok | Class::App, Disposition::NotProcessed | Disposition::Maybe) => {
            Some("an outcome that means it ran")
        }
        (Class::Unknown, Disposition::NotProcessed | Disposition::Processed) => {
            Some("an outcome that means nobody knows")
        }
        (_, Disposition::NotProcessed) if runs > 0 => Some("which is not true"),
        (_, Disposition::Processed) if runs == 0 => Some("which is not true"),
        _ => None,
    }
}

/// Records of calls that no client issued.
fn strays(verdict: &mut Verdict, tries: &[Tried], ends: &[Ended], runs: &[Run]) {
    for run in runs {
        verdict.report(Invariant::Unissued, Some(run.call), || {
            format!(
                "server {} ran it (nonce {}), nobody issued it",
                run.instance, run.nonce
            )
        });
    }
    for call in ends
        .iter()
        .map(|end| end.call)
        .chain(tries.iter().map(|attempt| attempt.call))
    {
        verdict.report(Invariant::Log, Some(call), || {
            String::from("the client wrote an outcome of a call that it did not issue")
        });
    }
}

fn count(books: &Books, verdict: &mut Verdict) {
    let total = |n: usize| u64::try_from(n).expect("a length fits in 64 bits");
    verdict.calls = total(books.issues.len());
    verdict.executions = total(books.runs.len());
    verdict.unfinished = total(books.runs.iter().filter(|run| run.finish.is_none()).count());
    for end in &books.ends {
        if end.class == Class::Ok {
            verdict.ok += 1;
        } else if let Some(n) = verdict.errors.get_mut(books.names.text(end.outcome)) {
            *n += 1;
        } else {
            verdict
                .errors
                .insert(books.names.text(end.outcome).to_owned(), 1);
        }
    }
}

/// Where each execution is in the table of runs, by nonce.
struct Nonces(Vec<(u64, usize)>);

impl Nonces {
    fn of(runs: &[Run], verdict: &mut Verdict) -> Self {
        let mut nonces: Vec<_> = runs.iter().map(|run| run.nonce).zip(0..).collect();
        nonces.sort_unstable();
        for pair in nonces.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let (one, two) = (&runs[pair[0].1], &runs[pair[1].1]);
            verdict.report(Invariant::Log, Some(two.call), || {
                format!(
                    "execution {} was started twice, first for call {}",
                    one.nonce, one.call
                )
            });
        }
        Self(nonces)
    }

    fn find<'a>(&self, runs: &'a [Run], nonce: u64) -> Option<&'a Run> {
        let at = self
            .0
            .binary_search_by_key(&nonce, |(nonce, _)| *nonce)
            .ok()?;
        Some(&runs[self.0[at].1])
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
        let before = rows
            .iter()
            .take_while(|row| (self.call)(row) < call)
            .count();
        let same = rows[before..]
            .iter()
            .take_while(|row| (self.call)(row) == call)
            .count();
        self.rest = &rows[before + same..];
        (&rows[..before], &rows[before..before + same])
    }
}

/// The way from one time to another, in words.
fn apart(from_us: u64, to_us: u64) -> String {
    let sign = if to_us < from_us { '-' } else { '+' };
    let us = from_us.abs_diff(to_us);
    format!("{sign}{}.{:03} ms", us / 1000, us % 1000)
}

/// The wire rounds the remaining time up to a millisecond.
const WIRE_ROUNDING_US: u64 = 1_000;
/// An idempotent call has a few attempts; a broken retry has many.
const RUNS_TOLD_MAX: usize = 4;
const READ_BYTES: usize = 256 * 1024;
