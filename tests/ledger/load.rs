//! Reads logs into sorted tables.
//!
//! Invariants: a line that is not a record is an error, except a last line without its line
//! break: its process was killed while it wrote, and what it told of had not begun. A log that
//! ends in `stop` or `crash` holds as many records as that says.
//!
//! Memory: about 250 bytes for a call that ran once, so 250 MB for a million; no line is kept.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read as _};

use super::record::{Answer, Disposition, How, Outcome, Parent, Rest, Start};
use super::report::{Call, Invariant, Verdict};
use super::text::{LINE_BYTES_MAX, Owner, Record};

/// Everything that the logs say.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) issues: Vec<Issued>,
    pub(super) tries: Vec<Tried>,
    pub(super) sents: Vec<OnWire>,
    /// Of calls that handlers made.
    pub(super) parents: BTreeMap<Call, Parent>,
    /// When which clients were killed.
    pub(super) crashes: BTreeMap<u64, u64>,
    pub(super) ends: Vec<Ended>,
    pub(super) runs: Vec<Run>,
    pub(super) names: Names,
    /// Holds what was found wrong while reading.
    pub(super) verdict: Verdict,
    /// Who has a log, and which.
    owners: BTreeMap<(bool, u64), String>,
}

/// A call that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issued {
    pub(super) call: Call,
    pub(super) issued_at_us: u64,
    pub(super) deadline_at_us: u64,
    pub(super) method: Name,
    pub(super) idempotent: bool,
}

/// An attempt of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    pub(super) call: Call,
    pub(super) attempt: u32,
    pub(super) outcome: Name,
    pub(super) disposition: Disposition,
    pub(super) class: Class,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnWire {
    pub(super) call: Call,
    pub(super) attempt: u32,
    pub(super) at_us: u64,
    pub(super) timeout_us: u64,
}

/// A final outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) call: Call,
    pub(super) ended_at_us: u64,
    pub(super) outcome: Name,
    pub(super) class: Class,
    pub(super) disposition: Disposition,
    pub(super) answer: Option<Answer>,
}

/// An execution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) call: Call,
    pub(super) nonce: u64,
    pub(super) instance: u64,
    pub(super) started_at_us: u64,
    pub(super) deadline_at_us: u64,
    pub(super) finish: Option<(How, u64)>,
    pub(super) attempt: u32,
    pub(super) method: Name,
    pub(super) version: u16,
}

/// An outcome without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Ok,
    App,
    /// Refused or not sent.
    NotRun,
    Unknown,
    Other,
}

/// A name in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(usize);

/// Each distinct name once.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Books {
    /// Reads one log to its end. `name` is for messages.
    pub(super) fn read(&mut self, name: &str, mut from: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        let mut log = Log::default();
        for number in 1_u64.. {
            line.clear();
            let limit = u64::try_from(LINE_BYTES_MAX).expect("2048 fits");
            from.by_ref().take(limit).read_until(b'\n', &mut line)?;
            let Some(whole) = line.strip_suffix(b"\n") else {
                if line.len() == LINE_BYTES_MAX {
                    return Err(bad(name, number, "the line is too long"));
                }
                return self.end_of_log(name, &log, !line.is_empty());
            };
            let text = std::str::from_utf8(whole).map_err(|_| bad(name, number, "not UTF-8"))?;
            let taken = Record::parse(text).and_then(|record| self.take(name, &mut log, record));
            taken.map_err(|why| bad(name, number, &why))?;
        }
        Ok(())
    }

    /// Files one record.
    fn take(&mut self, name: &str, log: &mut Log, record: Record<'_>) -> Result<(), String> {
        if log.is_stopped {
            return Err(String::from("a record after the last one"));
        }
        match (log.owner, record) {
            (None, Record::Header { owner, .. }) => {
                log.owner = Some(owner);
                self.open(name, owner);
            }
            (Some(_), Record::Stop { records }) if records == log.records => log.is_stopped = true,
            (Some(Owner::Client(client)), Record::Crash { records, at_us })
                if records == log.records =>
            {
                log.is_stopped = true;
                self.verdict.crashed += 1;
                self.crashes.insert(client, at_us);
            }
            (Some(_), Record::Stop { records } | Record::Crash { records, .. }) => {
                return Err(format!("{} records, the log had {records}", log.records));
            }
            (Some(owner), Record::Rest(rest)) => {
                log.records += 1;
                self.take_rest(owner, rest);
            }
            (Some(Owner::Client(client)), record) => {
                log.records += 1;
                self.take_client(client, record)?;
            }
            (Some(Owner::Server(instance)), record) => {
                log.records += 1;
                self.take_server(instance, log, record)?;
            }
            (None, _) => return Err(String::from("the first line is not a ledger's header")),
        }
        Ok(())
    }

    fn take_client(&mut self, client: u64, record: Record<'_>) -> Result<(), String> {
        match record {
            Record::Issue(issue) => self.issues.push(Issued {
                call: Call { client, seq: issue.seq },
                issued_at_us: issue.issued_at_us,
                deadline_at_us: issue.deadline_at_us,
                method: self.names.name(issue.method),
                idempotent: issue.idempotent,
            }),
            Record::Attempt(attempt) => self.tries.push(Tried {
                call: Call { client, seq: attempt.seq },
                attempt: attempt.attempt,
                outcome: self.names.outcome(attempt.outcome),
                disposition: attempt.disposition,
                class: Class::of(attempt.outcome),
            }),
            Record::Parent(parent) => self.take_parent(client, parent),
            Record::Sent(sent) => self.sents.push(OnWire {
                call: Call { client, seq: sent.seq },
                attempt: sent.attempt,
                at_us: sent.at_us,
                timeout_us: sent.timeout_us,
            }),
            Record::End(end) => self.ends.push(Ended {
                call: Call { client, seq: end.seq },
                ended_at_us: end.ended_at_us,
                outcome: self.names.outcome(end.outcome),
                class: Class::of(end.outcome),
                disposition: end.disposition,
                answer: end.answer,
            }),
            Record::Header { .. } => return Err(String::from("a second header")),
            Record::Start { .. }
            | Record::Finish { .. }
            | Record::Rest(_)
            | Record::Stop { .. }
            | Record::Crash { .. } => {
                return Err(String::from("a server's record in a client's log"));
            }
        }
        Ok(())
    }

    fn take_server(
        &mut self,
        instance: u64,
        log: &mut Log,
        record: Record<'_>,
    ) -> Result<(), String> {
        match record {
            Record::Start { nonce, start } => {
                log.running.insert(nonce, self.runs.len());
                let run = self.run(nonce, instance, start);
                self.runs.push(run);
            }
            Record::Finish { nonce, how, at_us } => match log.running.remove(&nonce) {
                Some(index) => self.runs[index].finish = Some((how, at_us)),
                None => self.verdict.report(Invariant::Log, None, || {
                    format!("server {instance}: execution {nonce} finished without running")
                }),
            },
            Record::Header { .. } => return Err(String::from("a second header")),
            Record::Issue(_)
            | Record::Attempt(_)
            | Record::Parent(_)
            | Record::Sent(_)
            | Record::End(_)
            | Record::Rest(_)
            | Record::Stop { .. }
            | Record::Crash { .. } => {
                return Err(String::from("a client's record in a server's log"));
            }
        }
        Ok(())
    }

    fn take_parent(&mut self, client: u64, parent: Parent) {
        let call = Call { client, seq: parent.seq };
        if self.parents.insert(call, parent).is_some() {
            self.verdict.report(Invariant::Log, Some(call), || {
                String::from("two executions are said to have made it")
            });
        }
    }

    /// L9
    fn take_rest(&mut self, owner: Owner, rest: Rest) {
        if rest != Rest::default() {
            let Rest { calls, bytes, tasks } = rest;
            let who = match owner {
                Owner::Client(id) => format!("client {id}"),
                Owner::Server(id) => format!("server {id}"),
            };
            self.verdict.report(Invariant::L9, None, || {
                format!("{who} is left with {calls} calls, {bytes} bytes, {tasks} tasks")
            });
        }
    }

    fn run(&mut self, nonce: u64, instance: u64, start: Start<'_>) -> Run {
        Run {
            call: Call { client: start.client, seq: start.seq },
            nonce,
            instance,
            started_at_us: start.started_at_us,
            deadline_at_us: start.deadline_at_us,
            finish: None,
            attempt: start.attempt,
            method: self.names.name(start.method),
            version: start.version,
        }
    }

    fn open(&mut self, name: &str, owner: Owner) {
        let (kind, id) = match owner {
            Owner::Client(id) => {
                self.verdict.clients += 1;
                ("client", id)
            }
            Owner::Server(id) => {
                self.verdict.servers += 1;
                ("server", id)
            }
        };
        if let Some(other) = self.owners.insert((kind == "client", id), name.to_owned()) {
            self.verdict.report(Invariant::Log, None, || {
                format!("{name} and {other} are both the log of {kind} {id}")
            });
        }
    }

    fn end_of_log(&mut self, name: &str, log: &Log, has_rest: bool) -> io::Result<()> {
        if log.is_stopped && has_rest {
            return Err(bad(name, log.records + 3, "bytes after the stop record"));
        }
        if !log.is_stopped {
            self.verdict.torn += 1;
            if let Some(Owner::Client(client)) = log.owner {
                self.verdict.report(Invariant::Log, None, || {
                    format!("{name}: the log of client {client} was not closed, calls may miss")
                });
            }
        }
        Ok(())
    }
}

impl Class {
    fn of(outcome: Outcome<'_>) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::App(_) => Self::App,
            Outcome::Refused | Outcome::NotSent => Self::NotRun,
            Outcome::Unknown => Self::Unknown,
            Outcome::Deadline | Outcome::Cancelled | Outcome::Failed(_) => Self::Other,
        }
    }
}

impl Names {
    pub(super) fn text(&self, name: Name) -> &str {
        &self.texts[name.0]
    }

    fn name(&mut self, text: &str) -> Name {
        if let Some(&index) = self.known.get(text) {
            return Name(index);
        }
        let index = self.texts.len();
        self.known.insert(text.to_owned(), index);
        self.texts.push(text.to_owned());
        Name(index)
    }

    fn outcome(&mut self, outcome: Outcome<'_>) -> Name {
        match outcome {
            Outcome::App(_) | Outcome::Failed(_) => self.name(&outcome.to_string()),
            Outcome::Ok => self.name("ok"),
            Outcome::Refused => self.name("refused"),
            Outcome::NotSent => self.name("not_sent"),
            Outcome::Unknown => self.name("unknown"),
            Outcome::Deadline => self.name("deadline"),
            Outcome::Cancelled => self.name("cancelled"),
        }
    }
}

/// Where the reading of one log stands.
#[derive(Debug, Default)]
struct Log {
    owner: Option<Owner>,
    records: u64,
    is_stopped: bool,
    /// Executions that are not finished yet: nonce to index in `runs`. Looked up, never walked.
    running: HashMap<u64, usize>,
}

fn bad(name: &str, line: u64, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name}:{line}: {why}"))
}
