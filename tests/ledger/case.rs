//! What must hold of one call, invariant by invariant.
//!
//! Invariant: a fault is reported under every invariant that it breaks by itself, and told with
//! times relative to the call's issue, so that a person can follow what happened to it.

use super::check::Rules;
use super::load::{Books, Class, Ended, Issued, OnWire, Run, Tried};
use super::record::{Answer, Disposition, How};
use super::report::{Call, Invariant, Verdict};

/// One call and all that is written of it.
pub(super) struct Case<'a> {
    pub(super) books: &'a Books,
    pub(super) nonces: &'a Nonces,
    pub(super) rules: &'a Rules,
    pub(super) issue: &'a Issued,
    pub(super) tries: &'a [Tried],
    pub(super) sents: &'a [OnWire],
    pub(super) ends: &'a [Ended],
    pub(super) runs: &'a [Run],
    /// The execution that made the call, if one did.
    pub(super) maker: Option<&'a Run>,
    /// When its client was killed.
    pub(super) crashed_at_us: Option<u64>,
}

impl Case<'_> {
    /// Reports everything that is wrong with the call.
    pub(super) fn judge(&self, verdict: &mut Verdict) {
        self.outcomes(verdict);
        self.executions(verdict);
        self.attempts(verdict);
        self.truth(verdict);
        if self.rules.only_drains {
            self.drains(verdict);
        }
        self.times(verdict);
        self.time_granted(verdict);
        if let Some(maker) = self.maker {
            self.nested(verdict, maker);
        }
        for end in self.ends {
            self.answer(verdict, end);
        }
    }

    /// L1: one outcome, in time.
    fn outcomes(&self, verdict: &mut Verdict) {
        let limit = self.deadline_us().max(self.issue.issued_at_us);
        let limit = limit.saturating_add(self.rules.grace_us);
        if self.ends.is_empty() && self.crashed_at_us.is_some_and(|at_us| at_us <= limit) {
            verdict.open += 1;
            verdict.open_ran += u64::from(!self.runs.is_empty());
        } else if self.ends.is_empty() {
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
        for end in self.ends {
            if end.ended_at_us > limit {
                verdict.late += 1;
                self.report(verdict, Invariant::L1, || {
                    let over = apart(self.deadline_us(), end.ended_at_us);
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
        for run in self.runs.iter().filter(|run| run.method != self.issue.method) {
            self.report(verdict, Invariant::L10, || {
                let asked = self.books.names.text(self.issue.method);
                let ran = self.books.names.text(run.method);
                format!("it called {asked}, but {ran} ran on server {}", run.instance)
            });
        }
    }

    /// The first half of L5: an attempt is sent once, or again only when it did not run.
    fn attempts(&self, verdict: &mut Verdict) {
        let mut numbers: Vec<u32> = self.runs.iter().map(|run| run.attempt).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            self.report(verdict, Invariant::L5, || {
                format!("attempt {} ran twice: {}", pair[0], self.runs_in_words())
            });
        }
        // Where the wire is watched, what runs was seen on it.
        let is_sent = |number: u32| self.sents.iter().any(|sent| sent.attempt == number);
        let is_watched = !self.books.sents.is_empty();
        if let Some(number) = numbers.into_iter().find(|number| is_watched && !is_sent(*number)) {
            self.report(verdict, Invariant::L5, || {
                format!("attempt {number} was not sent; {}", self.runs_in_words())
            });
        }
    }

    /// L6: nobody's connection was cut, so every call that ran has its answer, unless its caller
    /// did not want it any more.
    fn drains(&self, verdict: &mut Verdict) {
        for end in self.ends.iter().filter(|end| end.class == Class::Unknown) {
            self.report(verdict, Invariant::L6, || {
                format!("{}; {}", self.end_in_words(end), self.runs_in_words())
            });
        }
        let is_given_up = self.ends.iter().all(|end| end.class == Class::Other);
        let is_dropped = |run: &Run| run.finish.is_some_and(|(how, _)| how == How::Dropped);
        if !is_given_up && self.runs.iter().any(is_dropped) {
            self.report(verdict, Invariant::L6, || {
                format!("its handler was stopped for no reason; {}", self.runs_in_words())
            });
        }
    }

    /// L4: what the client says about execution, for the call and for each attempt.
    fn truth(&self, verdict: &mut Verdict) {
        for end in self.ends {
            if let Some(wrong) = contradiction(end.class, end.disposition, self.runs.len()) {
                self.report(verdict, Invariant::L4, || {
                    format!("{}, {wrong}; {}", self.end_in_words(end), self.runs_in_words())
                });
            }
        }
        for attempt in self.tries {
            let runs = self.runs.iter().filter(|run| run.attempt == attempt.attempt).count();
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
        let Rules { tolerance_us, transit_us, .. } = *self.rules;
        let allowed = self.deadline_us().saturating_add(tolerance_us + transit_us);
        for run in self.runs {
            let (start, given) = (run.started_at_us, run.deadline_at_us);
            if start > given {
                self.report(verdict, Invariant::L7, || {
                    let over = apart(given, start);
                    format!("server {} started it {over} from its deadline there", run.instance)
                });
            } else if start > allowed {
                self.report(verdict, Invariant::L7, || {
                    let over = apart(self.deadline_us(), start);
                    format!("server {} started it {over} from the caller's deadline", run.instance)
                });
            } else if given > allowed.saturating_add(WIRE_ROUNDING_US) {
                self.report(verdict, Invariant::L7, || {
                    let over = apart(self.deadline_us(), given);
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
                    format!("server {} finished it {before} from its start", run.instance)
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
                format!("it got the answer that execution {} made for call {}", run.nonce, run.call)
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
        let to = Call { client: answer.client, seq: answer.seq };
        if to != self.issue.call {
            self.report(verdict, Invariant::L10, || format!("its answer is for call {to}"));
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

    pub(super) fn report(
        &self,
        verdict: &mut Verdict,
        what: Invariant,
        text: impl FnOnce() -> String,
    ) {
        verdict.report(what, Some(self.issue.call), text);
    }

    pub(super) fn end_in_words(&self, end: &Ended) -> String {
        let outcome = self.books.names.text(end.outcome);
        let after = apart(self.issue.issued_at_us, end.ended_at_us);
        format!("it ended {outcome} ({}) at {after}", end.disposition.as_str())
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

/// Where each execution is in the table of runs, by nonce: an answer may name an execution
/// of another call.
pub(super) struct Nonces(Vec<(u64, usize)>);

impl Nonces {
    pub(super) fn of(runs: &[Run], verdict: &mut Verdict) -> Self {
        let mut nonces: Vec<_> = runs.iter().map(|run| run.nonce).zip(0..).collect();
        nonces.sort_unstable();
        for pair in nonces.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            let (one, two) = (&runs[pair[0].1], &runs[pair[1].1]);
            verdict.report(Invariant::Log, Some(two.call), || {
                format!("execution {} was started twice, first for call {}", one.nonce, one.call)
            });
        }
        Self(nonces)
    }

    pub(super) fn find<'a>(&self, runs: &'a [Run], nonce: u64) -> Option<&'a Run> {
        let at = self.0.binary_search_by_key(&nonce, |(nonce, _)| *nonce).ok()?;
        Some(&runs[self.0[at].1])
    }
}

/// The way from one time to another, in words.
pub(super) fn apart(from_us: u64, to_us: u64) -> String {
    let sign = if to_us < from_us { '-' } else { '+' };
    let us = from_us.abs_diff(to_us);
    format!("{sign}{}.{:03} ms", us / 1000, us % 1000)
}

/// The wire rounds the remaining time up to a millisecond.
pub(super) const WIRE_ROUNDING_US: u64 = 1_000;
/// An idempotent call has a few attempts; a broken retry has many.
const RUNS_TOLD_MAX: usize = 4;
