//! What the director and its processes say to each other: a line of JSON for each thing said.
//!
//! Invariants: a process ends when its input ends, so none outlives its director; a line that is
//! not understood is an error on either side.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;

/// What the director says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Order {
    /// To a server: put a new build of the version 2 handlers in the place of the old one.
    Replace,
    /// To a server: forbid versions above this one, or none.
    Ceiling(Option<u16>),
    /// To a client: begin.
    Begin,
    /// To a client: calls made from now on belong to this phase.
    Phase(usize),
    /// To a client: stop when the calls that were asked for are made.
    Finish,
    /// To a server: drain, and stop.
    Stop,
}

/// What a process says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Word {
    /// A server: it listens here.
    Listening(String),
    /// A client: it is connected.
    Connected,
    /// A server: the handlers are replaced, and the old ones have ended.
    Replaced(Replaced),
    /// A server: the ceiling is set.
    CeilingSet,
    /// A client: so many of its calls have an outcome.
    Progress(Progress),
    /// A client: all its calls are made.
    Finished(ClientReport),
    /// A server: it has stopped.
    Stopped(ServerReport),
}

/// How a replacement went.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Replaced {
    /// The new build.
    pub(crate) build: u32,
    /// Executions of the old build that ran when it was replaced.
    pub(crate) running: u64,
    /// Whether the old build was said to have ended, in the time that is given for it.
    pub(crate) is_drained: bool,
    /// Executions of the old build that still ran then. There must be none.
    pub(crate) left: u64,
    /// From the replacement to the end of the old build.
    pub(crate) drained_us: u64,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Progress {
    /// Calls with an outcome.
    pub(crate) calls: u64,
    /// The phase it is in.
    pub(crate) phase: usize,
    /// Calls with an outcome that were made in that phase.
    pub(crate) in_phase: u64,
}

/// What a client has seen.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ClientReport {
    /// Calls made.
    pub(crate) calls: u64,
    /// Downloads that were answered, by the server process that did.
    pub(crate) downloads: BTreeMap<u64, u64>,
    /// Calls that were answered, by who answered them.
    pub(crate) answered: Vec<Answered>,
    /// By version, over all phases.
    pub(crate) latencies: BTreeMap<u16, Latency>,
    /// Calls that failed. A wrong answer is in `answered` too.
    pub(crate) errors: Vec<Failed>,
}

/// Calls that failed in one way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Failed {
    /// The version in which they were answered; 0 if they were not.
    pub(crate) version: u16,
    /// The kind.
    pub(crate) kind: String,
    /// How many.
    pub(crate) calls: u64,
    /// The first one, in words.
    pub(crate) first: String,
}

/// Calls that were made in one phase and answered by one process, build and version.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Answered {
    /// The phase in which they were made.
    pub(crate) phase: usize,
    /// The server process that answered.
    pub(crate) instance: u64,
    /// The version in which they were answered.
    pub(crate) version: u16,
    /// The build of the handler that answered.
    pub(crate) build: u32,
    /// How many.
    pub(crate) calls: u64,
}

/// How long calls took, from the first poll to the answer.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    /// Half of them took no longer.
    pub(crate) p50_us: u64,
    /// 99 of 100 took no longer.
    pub(crate) p99_us: u64,
}

/// What a server has counted.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct ServerReport {
    /// Which process it is.
    pub(crate) instance: u64,
    /// Copies downloaded, by its own count.
    pub(crate) downloads: u64,
    /// Connections that had to be cut when it stopped.
    pub(crate) cut: usize,
}

/// Says something to the director.
///
/// # Errors
/// If the director is gone.
pub(crate) fn say(word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// What the director says, as it comes; ends when the director does.
///
/// # Errors
/// If the thread that reads cannot be started.
pub(crate) fn orders() -> io::Result<UnboundedReceiver<io::Result<Order>>> {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    // It ends with its input or, blocked in a read, with the process.
    std::thread::Builder::new().name("orders".to_owned()).spawn(move || {
        for line in io::stdin().lines() {
            let order = line.and_then(|line| heard(&line));
            if sender.send(order).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

fn heard(line: &str) -> io::Result<Order> {
    serde_json::from_str(line).map_err(|error| io::Error::other(format!("{line:?}: {error}")))
}
