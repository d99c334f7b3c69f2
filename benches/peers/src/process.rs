//! The processes that `run` starts: servers, clients, and what is put in front of them.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use crate::fault::Fault;
use crate::load::Round;
use crate::runtime::Flavour;
use crate::serve::Listening;
use crate::workload::Workload;

/// How a pair of processes is run.
#[derive(Clone, Debug)]
pub struct Setting {
    pub flavour: Flavour,
    pub cores: Cores,
    /// Whether allocations are counted.
    pub counted: bool,
    /// Where `strace` leaves its summaries, if it is to count system calls: the server's, then the
    /// client's.
    pub traced: Option<[PathBuf; 2]>,
}

/// Which cores each process may use.
#[derive(Clone, Debug, Default)]
pub struct Cores {
    server: Option<String>,
    client: Option<String>,
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
    listening: Listening,
}

impl ServerProcess {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// If it ends before that.
    pub fn start(peer: &str, setting: &Setting) -> Result<Self, Fault> {
        let cores = setting.cores.server.as_deref();
        let mut command = this_program(cores, setting.traced.as_ref().map(|paths| &paths[0]))?;
        command.args(["serve", peer, "--runtime", &setting.flavour.to_string()]);
        if setting.counted {
            command.arg("--count");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command)?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("a pipe was asked for");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(listening) => Ok(Self { child, input, listening }),
            Err(_) => {
                let (status, flavour) = (child.wait()?, setting.flavour);
                Err(Fault::new(format!("the server of {peer} ({flavour}) did not start: {status}")))
            }
        }
    }

    /// Runs a client process against it, to its end; again if the machine was too busy for a
    /// figure.
    ///
    /// # Errors
    /// If it fails; what it says about that is on the standard error already. If there is no
    /// figure after [`TRIES_MAX`] times.
    pub fn load(&self, client: &Client<'_>) -> Result<Round, Fault> {
        for _ in 0..TRIES_MAX {
            if let Some(round) = self.load_once(client)? {
                return Ok(round);
            }
            eprintln!("{}: a round gave no figure and is done again", client.place());
        }
        let text = format!("{}: no figure in {TRIES_MAX} rounds", client.place());
        Err(Fault::new(format!("{text}: the machine is too busy, or the rounds are too short")))
    }

    fn load_once(&self, client: &Client<'_>) -> Result<Option<Round>, Fault> {
        let output = spawn(self.command(client)?.stdout(Stdio::piped()))?.wait_with_output()?;
        if !output.status.success() {
            let place = client.place();
            return Err(Fault::new(format!("{place}: the client ended with {}", output.status)));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs a client process against it until what is given back is dropped.
    ///
    /// # Errors
    /// If it does not start.
    pub fn flood(&self, client: &Client<'_>) -> Result<Flood, Fault> {
        Ok(Flood(spawn(self.command(client)?.stdout(Stdio::null()))?))
    }

    fn command(&self, client: &Client<'_>) -> Result<Command, Fault> {
        let Client { peer, workload, setting, warm_up, measured } = client;
        let cores = setting.cores.client.as_deref();
        let mut command = this_program(cores, setting.traced.as_ref().map(|paths| &paths[1]))?;
        command
            .args(["load", peer, workload.name, "--runtime", &setting.flavour.to_string()])
            .args(["--server", &self.listening.server.to_string()])
            .args(["--control", &self.listening.control.to_string()])
            .args(["--warm-up-ms", &warm_up.as_millis().to_string()])
            .args(["--measured-ms", &measured.as_millis().to_string()])
            .stdin(Stdio::null());
        if setting.counted {
            command.arg("--count");
        }
        Ok(command)
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

/// What a client process is to do.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub peer: &'a str,
    pub workload: Workload,
    pub setting: &'a Setting,
    pub warm_up: Duration,
    pub measured: Duration,
}

impl Client<'_> {
    fn place(&self) -> String {
        format!("{}, workload {}, {}", self.peer, self.workload.name, self.setting.flavour)
    }
}

/// A client process that is ended half-way.
#[derive(Debug)]
pub struct Flood(Child);

impl Flood {
    /// Ends it.
    ///
    /// # Errors
    /// If it had ended by itself: then there was no flood.
    pub fn end(mut self) -> Result<(), Fault> {
        if let Some(status) = self.0.try_wait()? {
            return Err(Fault::new(format!("the flood ended early: {status}")));
        }
        Ok(())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // It may have ended by itself: `end` tells.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// This program, on these cores, its sends counted into this file.
fn this_program(cores: Option<&str>, traced: Option<&PathBuf>) -> Result<Command, Fault> {
    let mut words = Vec::new();
    if let Some(cores) = cores {
        words.extend(["taskset".into(), "-c".into(), cores.into()]);
    }
    if let Some(path) = traced {
        words.extend(["strace", "-f", "--seccomp-bpf", "-c", "-e", SENDS, "-o"].map(Into::into));
        words.push(path.clone().into_os_string());
    }
    words.push(std::env::current_exe()?.into_os_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Ok(command)
}

fn spawn(command: &mut Command) -> Result<Child, Fault> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| Fault::from(error).at(&program))
}

/// How often a round is done until it gives a figure.
const TRIES_MAX: usize = 3;
/// What sends on a socket. `write` is not among them: tokio sends by `sendto` and `writev`, and
/// wakes its threads by `write`.
const SENDS: &str = "trace=sendto,sendmsg,sendmmsg,writev";
