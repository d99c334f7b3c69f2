//! What is written of a call: the records, as their writers fill them in.
//!
//! Invariant: times are microseconds on a clock that all writers share. Plain borrowed structs,
//! so that writing one allocates nothing; their text is in `text`.

/// A call as its caller makes it. Goes into the client's log before anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issue<'a> {
    /// Unique among the calls of this client.
    pub seq: u64,
    /// `service/method`.
    pub method: &'a str,
    /// The version that the caller would like; a connection may settle on an older one.
    pub version: u16,
    /// Whether the service declares the method idempotent.
    pub idempotent: bool,
    /// When the call was made.
    pub issued_at_us: u64,
    /// When it must have an outcome.
    pub deadline_at_us: u64,
}

/// One try of a call that may be tried more than once. Optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The call.
    pub seq: u64,
    /// 0 is the first; the number that the server's `start` carries.
    pub attempt: u32,
    /// The server instance it went to, where known.
    pub server: Option<u64>,
    /// How this attempt ended.
    pub outcome: Outcome<'a>,
    /// What the client says about its execution.
    pub disposition: Disposition,
}

/// A request as it was seen on its way, by somebody who watches the client's connections. Where
/// some are written, all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The call.
    pub seq: u64,
    /// The attempt's number in it.
    pub attempt: u32,
    /// When it had left the client.
    pub at_us: u64,
    /// The time that it grants, as it travels: rounded up to a millisecond.
    pub timeout_us: u64,
}

/// Whose call a call is that a handler makes. Goes after its issue, before anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The handler's call.
    pub seq: u64,
    /// The client of the call that the handler serves.
    pub client: u64,
    /// The number of the call that the handler serves.
    pub parent_seq: u64,
    /// The execution that makes the call.
    pub nonce: u64,
}

/// The final outcome of a call, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// The call.
    pub seq: u64,
    /// The class of the outcome.
    pub outcome: Outcome<'a>,
    /// What the client says about the call's execution.
    pub disposition: Disposition,
    /// When the caller had it.
    pub ended_at_us: u64,
    /// What the answer said of itself. Needed with `Outcome::Ok`.
    pub answer: Option<Answer>,
}

/// What an answer says of itself; the handler puts it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The execution that made it.
    pub nonce: u64,
    /// The client that it is for.
    pub client: u64,
    /// The call that it is for.
    pub seq: u64,
    /// The server instance that made it.
    pub instance: u64,
    /// The method version that was served.
    pub version: u16,
}

/// A handler begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// The client, as the request names it.
    pub client: u64,
    /// The call, as the request names it.
    pub seq: u64,
    /// The attempt number that the request carried.
    pub attempt: u32,
    /// `service/method` of the handler that runs.
    pub method: &'a str,
    /// The method version that it serves.
    pub version: u16,
    /// Now.
    pub started_at_us: u64,
    /// The deadline as the handler sees it.
    pub deadline_at_us: u64,
}

/// What a client or a server holds when nothing goes on any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Calls that are pending, and callers that wait.
    pub calls: u64,
    /// Bytes that wait to be written, or count as in flight.
    pub bytes: u64,
    /// Tasks, after everything was closed.
    pub tasks: u64,
}

/// The classes of final outcomes. Names are words: other characters are written as `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The handler answered.
    Ok,
    /// The handler answered with an error of its own.
    App(&'a str),
    /// The server said that it did not run the call.
    Refused,
    /// The call never left the client.
    NotSent,
    /// The connection was lost while the call may have been running.
    Unknown,
    /// The deadline passed.
    Deadline,
    /// The caller gave the call up.
    Cancelled,
    /// Anything else, by the name of its status code.
    Failed(&'a str),
}

/// What the client says about the execution of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It did not run, and will not.
    NotProcessed,
    /// It may have run, or run later.
    Maybe,
    /// It ran.
    Processed,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The handler returned an answer.
    Ok,
    /// The handler returned an error.
    Err,
    /// The handler panicked.
    Panic,
    /// The handler's future was dropped before its end.
    Dropped,
}

impl Disposition {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotProcessed => "not_processed",
            Self::Maybe => "maybe",
            Self::Processed => "processed",
        }
    }
}

impl How {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Err => "err",
            Self::Panic => "panic",
            Self::Dropped => "dropped",
        }
    }
}

impl std::fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::App(name) => write!(f, "app:{name}"),
            Self::Refused => f.write_str("refused"),
            Self::NotSent => f.write_str("not_sent"),
            Self::Unknown => f.write_str("unknown"),
            Self::Deadline => f.write_str("deadline"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Failed(name) => write!(f, "failed:{name}"),
        }
    }
}
