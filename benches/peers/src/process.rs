//! The two kinds of runtime, and the processes that `run` starts.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::fault::Fault;
use crate::load::Round;
use crate::serve::Listening;
use crate::workload::{IDLE_CONNECTIONS, Workload};

/// tokio's runtime of both processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flavour {
    /// `current_thread`.
    Ct,
    /// `multi_thread` with two workers.
    Mt2,
}

impl Flavour {
    /// Runs this on a runtime of the flavour, inside a `LocalSet`.
    ///
    /// # Errors
    /// If there is no runtime to be had.
    pub fn run<F: Future>(self, work: F) -> Result<F::Output, Fault> {
        let mut builder = match self {
            Self::Ct => Builder::new_current_thread(),
            Self::Mt2 => Builder::new_multi_thread(),
        };
        if self == Self::Mt2 {
            builder.worker_threads(2);
        }
        let runtime = builder.enable_all().build()?;
        Ok(runtime.block_on(LocalSet::new().run_until(work)))
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ct => "ct",
            Self::Mt2 => "mt2",
        })
    }
}

impl FromStr for Flavour {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        match text {
            "ct" => Ok(Self::Ct),
            "mt2" => Ok(Self::Mt2),
            _ => Err(Fault::new("the runtimes are ct and mt2".to_owned())),
        }
    }
}

/// Lets this process open as many files as the idle row needs.
///
/// # Errors
/// If the hard limit is below that.
pub fn allow_files() -> Result<(), Fault> {
    let mut limit = getrlimit(Resource::Nofile);
    let needed = IDLE_CONNECTIONS as u64 + 1_000;
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or_default();
        let text = format!("the idle row needs {needed} open files, the hard limit is {maximum}");
        return Err(Fault::new(text));
    }
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

/// Which cores each process may use.
#[derive(Clone, Debug, Default)]
pub struct Cores {
    pub server: Option<String>,
    pub client: Option<String>,
}

impl FromStr for Cores {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let pair = text.split_once(':').map(|(server, client)| Self {
            server: Some(server.to_owned()),
            client: Some(client.to_owned()),
        });
        pair.ok_or_else(|| Fault::new("SERVER:CLIENT, as 0:1".to_owned()))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.server, &self.client) {
            (Some(server), Some(client)) => {
                write!(f, "server on core {server}, client on core {client}")
            }
            _ => write!(f, "both processes free on all cores"),
        }
    }
}

/// A server process; it ends when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    input: Option<ChildStdin>,
    pub listening: Listening,
}

impl ServerProcess {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn start(
        peer: &str,
        flavour: Flavour,
        cores: &Cores,
        more: &[&str],
    ) -> Result<Self, Fault> {
        let mut command = this_program(cores.server.as_deref())?;
        command.args(["serve", peer, "--runtime", &flavour.to_string()]).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("a pipe was asked for");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(listening) => Ok(Self { child, input, listening }),
            Err(_) => {
                let status = child.wait()?;
                Err(Fault::new(format!("the server of {peer} ({flavour}) did not start: {status}")))
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("peers: a server process is left: {error}");
        }
    }
}

/// Runs a client process to its end.
///
/// # Errors
/// If it fails; what it says about that is on the standard error already.
pub fn load(
    peer: &str,
    workload: Workload,
    flavour: Flavour,
    cores: &Cores,
    listening: Listening,
    more: &[String],
) -> Result<Round, Fault> {
    let mut command = this_program(cores.client.as_deref())?;
    command
        .args(["load", peer, workload.name, "--runtime", &flavour.to_string()])
        .args(["--server", &listening.server.to_string()])
        .args(["--control", &listening.control.to_string()])
        .args(more);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        let name = workload.name;
        let status = output.status;
        return Err(Fault::new(format!("{peer}, workload {name}, {flavour}: client {status}")));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn this_program(cores: Option<&str>) -> Result<Command, Fault> {
    let program = std::env::current_exe()?;
    Ok(match cores {
        None => Command::new(program),
        Some(cores) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cores]).arg(program);
            command
        }
    })
}
