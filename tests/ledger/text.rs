//! The text of the records: one line each, words separated by one space.
//!
//! ```text
//! switchback-ledger 1 client|server ID PID        the first line: format version, whose log
//! issue SEQ METHOD VERSION IDEMPOTENT ISSUED DEADLINE
//! attempt SEQ N SERVER|- OUTCOME DISPOSITION
//! parent SEQ CLIENT PARENT_SEQ NONCE              a handler made this call, in this execution
//! sent SEQ N AT TIMEOUT
//! end SEQ OUTCOME DISPOSITION ENDED NONCE CLIENT SEQ INSTANCE VERSION
//! end SEQ OUTCOME DISPOSITION ENDED -             no answer came
//! start NONCE CLIENT SEQ ATTEMPT METHOD VERSION STARTED DEADLINE
//! finish NONCE ok|err|panic|dropped AT
//! rest CALLS BYTES TASKS                          what was left when all was over
//! stop RECORDS                                    the last line, when closed in good order
//! crash RECORDS AT                                the last line, by whoever killed the process
//! ```
//!
//! Invariants: a record never holds a line break, so that a line without one is a torn line; a
//! line is at most `LINE_BYTES_MAX` long. Text, not bytes: a person reads it when a test failed.

use std::io::Write as _;

use super::record::{Answer, Attempt, Disposition, End, How, Issue, Outcome};
use super::record::{Parent, Rest, Sent, Start};

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Client(u64),
    Server(u64),
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Header { owner: Owner, pid: u32 },
    Issue(Issue<'a>),
    Attempt(Attempt<'a>),
    Parent(Parent),
    Sent(Sent),
    End(End<'a>),
    Start { nonce: u64, start: Start<'a> },
    Finish { nonce: u64, how: How, at_us: u64 },
    Rest(Rest),
    Stop { records: u64 },
    Crash { records: u64, at_us: u64 },
}

impl<'a> Record<'a> {
    /// Reads one line, without its line break. The error says which word is wrong.
    pub fn parse(line: &'a str) -> Result<Self, String> {
        let mut words = Words(line.split(' '));
        let record = match words.word("a record's name")? {
            MAGIC => Self::parse_header(&mut words)?,
            "issue" => Self::Issue(Issue {
                seq: words.number("seq")?,
                method: words.word("method")?,
                version: words.number("version")?,
                idempotent: words.flag("idempotent")?,
                issued_at_us: words.number("issued")?,
                deadline_at_us: words.number("deadline")?,
            }),
            "attempt" => Self::Attempt(Attempt {
                seq: words.number("seq")?,
                attempt: words.number("attempt")?,
                server: words.number_or_dash("server")?,
                outcome: words.outcome()?,
                disposition: words.disposition()?,
            }),
            "parent" => Self::Parent(Parent {
                seq: words.number("seq")?,
                client: words.number("the parent's client")?,
                parent_seq: words.number("the parent's seq")?,
                nonce: words.number("nonce")?,
            }),
            "sent" => Self::Sent(Sent {
                seq: words.number("seq")?,
                attempt: words.number("attempt")?,
                at_us: words.number("at")?,
                timeout_us: words.number("timeout")?,
            }),
            "end" => Self::End(End {
                seq: words.number("seq")?,
                outcome: words.outcome()?,
                disposition: words.disposition()?,
                ended_at_us: words.number("ended")?,
                answer: words.answer()?,
            }),
            "start" => Self::Start {
                nonce: words.number("nonce")?,
                start: Start {
                    client: words.number("client")?,
                    seq: words.number("seq")?,
                    attempt: words.number("attempt")?,
                    method: words.word("method")?,
                    version: words.number("version")?,
                    started_at_us: words.number("started")?,
                    deadline_at_us: words.number("deadline")?,
                },
            },
            "finish" => Self::Finish {
                nonce: words.number("nonce")?,
                how: words.how()?,
                at_us: words.number("at")?,
            },
            "rest" => Self::Rest(Rest {
                calls: words.number("calls")?,
                bytes: words.number("bytes")?,
                tasks: words.number("tasks")?,
            }),
            "stop" => Self::Stop { records: words.number("records")? },
            "crash" => {
                Self::Crash { records: words.number("records")?, at_us: words.number("at")? }
            }
            other => return Err(format!("{other:?} is no record")),
        };
        match words.0.next() {
            None => Ok(record),
            Some(extra) => Err(format!("{extra:?} after the last field")),
        }
    }

    /// Appends the record and its line break. Allocates only while the buffer still grows.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        match *self {
            Self::Header { owner: Owner::Client(id), pid } => {
                put(line, format_args!("{MAGIC} {FORMAT} client {id} {pid}"));
            }
            Self::Header { owner: Owner::Server(id), pid } => {
                put(line, format_args!("{MAGIC} {FORMAT} server {id} {pid}"));
            }
            Self::Issue(issue) => {
                put(line, format_args!("issue {} ", issue.seq));
                put_name(line, issue.method);
                let idempotent = u8::from(issue.idempotent);
                let (issued, deadline) = (issue.issued_at_us, issue.deadline_at_us);
                put(line, format_args!(" {} {idempotent} {issued} {deadline}", issue.version));
            }
            Self::Attempt(attempt) => {
                put(line, format_args!("attempt {} {} ", attempt.seq, attempt.attempt));
                match attempt.server {
                    Some(server) => put(line, format_args!("{server} ")),
                    None => put(line, format_args!("- ")),
                }
                put_outcome(line, attempt.outcome);
                put(line, format_args!(" {}", attempt.disposition.as_str()));
            }
            Self::Parent(Parent { seq, client, parent_seq, nonce }) => {
                put(line, format_args!("parent {seq} {client} {parent_seq} {nonce}"));
            }
            Self::Sent(Sent { seq, attempt, at_us, timeout_us }) => {
                put(line, format_args!("sent {seq} {attempt} {at_us} {timeout_us}"));
            }
            Self::End(end) => put_end(line, &end),
            Self::Start { nonce, start } => {
                let (client, seq, attempt) = (start.client, start.seq, start.attempt);
                put(line, format_args!("start {nonce} {client} {seq} {attempt} "));
                put_name(line, start.method);
                let (started, deadline) = (start.started_at_us, start.deadline_at_us);
                put(line, format_args!(" {} {started} {deadline}", start.version));
            }
            Self::Finish { nonce, how, at_us } => {
                put(line, format_args!("finish {nonce} {} {at_us}", how.as_str()));
            }
            Self::Rest(Rest { calls, bytes, tasks }) => {
                put(line, format_args!("rest {calls} {bytes} {tasks}"));
            }
            Self::Stop { records } => put(line, format_args!("stop {records}")),
            Self::Crash { records, at_us } => put(line, format_args!("crash {records} {at_us}")),
        }
        line.push(b'\n');
    }

    fn parse_header(words: &mut Words<'a>) -> Result<Self, String> {
        let format: u32 = words.number("format version")?;
        if format != FORMAT {
            return Err(format!("format version {format}, this reads {FORMAT}"));
        }
        let owner = match words.word("owner")? {
            "client" => Owner::Client(words.number("client id")?),
            "server" => Owner::Server(words.number("instance")?),
            other => return Err(format!("{other:?} is neither client nor server")),
        };
        Ok(Self::Header { owner, pid: words.number("pid")? })
    }
}

/// The words of one line, read one field at a time.
struct Words<'a>(std::str::Split<'a, char>);

impl<'a> Words<'a> {
    fn word(&mut self, field: &str) -> Result<&'a str, String> {
        self.0.next().filter(|word| !word.is_empty()).ok_or_else(|| format!("{field} is missing"))
    }

    fn number<T: std::str::FromStr>(&mut self, field: &str) -> Result<T, String> {
        let word = self.word(field)?;
        word.parse().map_err(|_| format!("{field}: {word:?} is not a number that fits"))
    }

    fn number_or_dash(&mut self, field: &str) -> Result<Option<u64>, String> {
        let word = self.word(field)?;
        if word == "-" {
            return Ok(None);
        }
        word.parse().map(Some).map_err(|_| format!("{field}: {word:?} is neither a number nor -"))
    }

    fn flag(&mut self, field: &str) -> Result<bool, String> {
        match self.word(field)? {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(format!("{field}: {other:?} is neither 0 nor 1")),
        }
    }

    fn outcome(&mut self) -> Result<Outcome<'a>, String> {
        let word = self.word("outcome")?;
        Ok(match (word, word.split_once(':')) {
            ("ok", _) => Outcome::Ok,
            ("refused", _) => Outcome::Refused,
            ("not_sent", _) => Outcome::NotSent,
            ("unknown", _) => Outcome::Unknown,
            ("deadline", _) => Outcome::Deadline,
            ("cancelled", _) => Outcome::Cancelled,
            (_, Some(("app", name))) => Outcome::App(name),
            (_, Some(("failed", name))) => Outcome::Failed(name),
            _ => return Err(format!("{word:?} is no outcome")),
        })
    }

    fn disposition(&mut self) -> Result<Disposition, String> {
        match self.word("disposition")? {
            "not_processed" => Ok(Disposition::NotProcessed),
            "maybe" => Ok(Disposition::Maybe),
            "processed" => Ok(Disposition::Processed),
            other => Err(format!("{other:?} is no disposition")),
        }
    }

    fn how(&mut self) -> Result<How, String> {
        match self.word("how it finished")? {
            "ok" => Ok(How::Ok),
            "err" => Ok(How::Err),
            "panic" => Ok(How::Panic),
            "dropped" => Ok(How::Dropped),
            other => Err(format!("{other:?} is no way to finish")),
        }
    }

    fn answer(&mut self) -> Result<Option<Answer>, String> {
        let Some(nonce) = self.number_or_dash("nonce")? else {
            return Ok(None);
        };
        Ok(Some(Answer {
            nonce,
            client: self.number("the answer's client")?,
            seq: self.number("the answer's seq")?,
            instance: self.number("the answer's instance")?,
            version: self.number("the answer's version")?,
        }))
    }
}

fn put(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a Vec takes every write");
}

fn put_end(line: &mut Vec<u8>, end: &End<'_>) {
    put(line, format_args!("end {} ", end.seq));
    put_outcome(line, end.outcome);
    put(line, format_args!(" {} {} ", end.disposition.as_str(), end.ended_at_us));
    match end.answer {
        Some(answer) => {
            let Answer { nonce, client, seq, instance, version } = answer;
            put(line, format_args!("{nonce} {client} {seq} {instance} {version}"));
        }
        None => line.push(b'-'),
    }
}

fn put_outcome(line: &mut Vec<u8>, outcome: Outcome<'_>) {
    match outcome {
        Outcome::App(name) => {
            line.extend_from_slice(b"app:");
            put_name(line, name);
        }
        Outcome::Failed(name) => {
            line.extend_from_slice(b"failed:");
            put_name(line, name);
        }
        Outcome::Ok
        | Outcome::Refused
        | Outcome::NotSent
        | Outcome::Unknown
        | Outcome::Deadline
        | Outcome::Cancelled => put(line, format_args!("{outcome}")),
    }
}

/// Writes a name as one word: anything that would break the line apart becomes `_`.
fn put_name(line: &mut Vec<u8>, name: &str) {
    let start = line.len();
    for c in name.chars().take(NAME_CHARS_MAX) {
        let c = if c.is_whitespace() || c.is_control() { '_' } else { c };
        line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    if line.len() == start {
        line.push(b'_');
    }
}

const MAGIC: &str = "switchback-ledger";
const FORMAT: u32 = 1;
/// Longer names are cut.
const NAME_CHARS_MAX: usize = 128;
/// Nine numbers of 20 digits and two names of 512 bytes stay below it.
pub(super) const LINE_BYTES_MAX: usize = 2048;
