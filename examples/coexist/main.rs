//! Old and new programs on one wire: two servers and four clients, each a process of its own.
//!
//! ```text
//!   coexist [--calls N] [--json]
//!   coexist --stay
//! ```
//!
//! Server v1 has version 1 of a service, server v2 has versions 1 and 2; a v1 client and a v2
//! client call each of them. While they do, the version 2 handlers are replaced in place, the
//! version ceiling goes down and up again, server v1 is drained and started again, and server v2 is
//! killed with SIGKILL and started again. All processes keep a ledger of every call, and in the end
//! the ledgers are compared.
//!
//! Exit code 0: no call was lost, none was executed twice, no error but those that the ledgers
//! explain by the kill. 1: a fault was found; the ledgers are kept. 2: it could not run.

mod caller;
mod client;
mod clock;
mod contract;
mod director;
mod family;
mod judge;
#[path = "../../tests/ledger/mod.rs"]
mod ledger;
mod loss;
mod packages;
mod plan;
mod report;
mod server;
mod shop;
mod show;
#[cfg(feature = "json")]
mod stay;
mod tally;
mod words;

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::show::Show;

/// Why a process of the run, or the run itself, did not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is stuck, which is a finding.
    Stuck(String),
    /// It could not run.
    Error(Box<dyn std::error::Error + Send + Sync>),
}

/// Which program a process plays.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum World {
    /// The old one: it knows version 1.
    V1,
    /// The new one: it knows versions 1 and 2.
    V2,
}

impl World {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The newest version that it knows.
    pub(crate) const fn newest(self) -> u16 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// What the command line asks for.
enum Job {
    Help,
    Run { calls: u64, is_json: bool },
    Stay,
    Server(server::ServerTask),
    Client(client::ClientTask),
}

fn main() -> ExitCode {
    match job().and_then(perform) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            // If standard error is gone too, the exit code still tells it.
            let _unheard = writeln!(io::stderr(), "coexist: {failure}");
            ExitCode::from(if matches!(failure, Failure::Stuck(_)) { 1 } else { 2 })
        }
    }
}

fn job() -> Result<Job, Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut calls, mut is_json) = (CALLS, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "server" => return Ok(Job::Server(task(arguments.next())?)),
            "client" => return Ok(Job::Client(task(arguments.next())?)),
            "--help" | "-h" => return Ok(Job::Help),
            "--json" => is_json = true,
            "--stay" => return Ok(Job::Stay),
            "--calls" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                let number = number.filter(|number| (CALLS_MIN..=CALLS_MAX).contains(number));
                calls = number.ok_or_else(|| {
                    format!("--calls needs a number from {CALLS_MIN} to {CALLS_MAX}\n{USAGE}")
                })?;
            }
            other => return Err(format!("unknown argument {other:?}\n{USAGE}").into()),
        }
    }
    Ok(Job::Run { calls, is_json })
}

fn task<T: serde::de::DeserializeOwned>(argument: Option<String>) -> Result<T, Failure> {
    let argument = argument.ok_or("a process of the run needs its task")?;
    Ok(serde_json::from_str(&argument)?)
}

/// Does the job; whether all was good.
fn perform(job: Job) -> Result<bool, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    match job {
        Job::Help => {
            writeln!(io::stdout(), "{USAGE}\n\n{HELP}")?;
            Ok(true)
        }
        Job::Run { calls, is_json } => runtime.block_on(run(calls, is_json)),
        Job::Stay => runtime.block_on(stay()).map(|()| true),
        Job::Server(task) => runtime.block_on(server::run(task)).map(|()| true),
        Job::Client(task) => runtime.block_on(client::run(task)).map(|()| true),
    }
}

async fn run(calls: u64, is_json: bool) -> Result<bool, Failure> {
    let folder = std::env::temp_dir().join(format!("switchback-coexist-{}", std::process::id()));
    std::fs::create_dir(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let mut show = Show::new();
    let seen = tokio::select! {
        seen = director::run(&folder, calls, &mut show) => Some(seen),
        // Dropping the run kills its processes.
        signal = interrupted() => { signal?; None }
    };
    let seen = match seen {
        Some(Ok(seen)) => seen,
        Some(Err(failure)) => {
            show.end();
            show.event(&kept(&folder));
            return Err(failure);
        }
        None => {
            show.end();
            std::fs::remove_dir_all(&folder)?;
            return Err("interrupted".into());
        }
    };
    let faults = judge::faults(&seen);
    if faults.is_empty() {
        std::fs::remove_dir_all(&folder)?;
    }
    let mut out = io::stdout().lock();
    report::print(&seen, &faults, &mut out)?;
    if !faults.is_empty() {
        writeln!(out, "{}", kept(&folder))?;
    }
    if is_json {
        writeln!(out, "{}", report::json(&seen, &faults))?;
    }
    Ok(faults.is_empty())
}

/// Both servers, until interrupted.
#[cfg(feature = "json")]
async fn stay() -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("switchback-stay-{}", std::process::id()));
    std::fs::create_dir(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let stayed = stay::run(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    stayed
}

#[cfg(not(feature = "json"))]
#[expect(clippy::unused_async, reason = "its twin, which the feature json brings, waits")]
async fn stay() -> Result<(), Failure> {
    Err("--stay serves JSON: build the example with --features json".into())
}

fn kept(folder: &std::path::Path) -> String {
    format!("the ledgers are kept in {}", folder.display())
}

/// Ends when someone wants the run to end.
async fn interrupted() -> io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal,
        _ = terminate.recv() => Ok(()),
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stuck(why) => f.write_str(why),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// Of each client: 220,000 in all.
const CALLS: u64 = 55_000;
/// Enough for every phase to have calls beside those that are in flight at a change.
const CALLS_MIN: u64 = 1_000;
const CALLS_MAX: u64 = 10_000_000;
/// Two: handlers, connections and changes meet for real.
const THREADS: usize = 2;

const USAGE: &str = "usage: coexist [--calls N] [--json] [--stay] [--help]";
const HELP: &str = "\
Starts two servers and four clients as processes on loopback: server v1 has version 1 of a
service, server v2 has versions 1 and 2; a v1 client and a v2 client call each of them. While
they do, server v2 replaces its handlers and lowers and lifts the version ceiling, server v1 is
drained and started again, and server v2 is killed with SIGKILL and started again. In the end
the ledgers of all processes are compared.

  --calls N   calls that each client makes, at least (55000)
  --json      the result as one line of JSON, the last one
  --stay      no run: both servers, with JSON, reflection, health and counters, stay up until
              Ctrl-C, to try the command line against (build with --features json)
  --help      this text

Exit code 0: no call was lost, none was executed twice, no error but those that the ledgers
explain by the kill. 1: a fault was found; the ledgers are kept. 2: it could not run.";
