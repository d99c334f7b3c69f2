//! The peer in Python as a process: what it says, what it is told, and its end.
//!
//! Invariant: a process ends with its test, and nothing is waited for longer than [`PATIENCE`].

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::interop::service::Executions;

/// `peer.py`, running.
pub(crate) struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

/// The outcome of a client case.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) case: String,
    pub(crate) ok: bool,
    pub(crate) detail: serde_json::Value,
}

/// What a server says at its end.
#[derive(Debug, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) executions: Executions,
    pub(crate) cancelled: u32,
    pub(crate) pieces: Pieces,
}

/// DATA of all its connections.
#[derive(Debug, Deserialize)]
pub(crate) struct Pieces {
    pub(crate) read: u32,
    pub(crate) written: u32,
}

impl Peer {
    /// Starts it in the repository's folder.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-B", "tests/interop/peer.py"])
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("python3 (3.11 or newer) is needed: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (input, errors) = (child.stdin.take(), child.stderr.take().unwrap());
        Self { child, input, output, errors }
    }

    /// Starts a server on this port, 0 for one of the system's choice, and gives its address.
    pub(crate) async fn serve(port: &str) -> (Self, String) {
        Self::serving(&["serve", "--port", port]).await
    }

    /// The same, with the smallest window there is.
    pub(crate) async fn serve_narrow() -> (Self, String) {
        Self::serving(&["serve", "--window", "65536"]).await
    }

    async fn serving(arguments: &[&str]) -> (Self, String) {
        let mut peer = Self::start(arguments);
        let line = peer.line().await;
        let address = line.as_deref().and_then(|line| line.strip_prefix("listening "));
        let Some(address) = address.map(str::to_owned) else {
            panic!("no server: {line:?}, {}", peer.complaint().await);
        };
        (peer, address)
    }

    /// The next line that it says; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        line.unwrap_or_else(|_| panic!("peer.py said nothing for {PATIENCE:?}")).unwrap()
    }

    /// Tells it something, and waits until it has done that.
    pub(crate) async fn tell(&mut self, command: &str) {
        self.write(command).await;
        assert_eq!(self.line().await.as_deref(), Some(command));
    }

    async fn write(&mut self, command: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// Has a server drain, and waits for its end.
    pub(crate) async fn drain(mut self) -> Ledger {
        self.write("drain").await;
        let line = self.line().await.unwrap_or_default();
        let ledger = serde_json::from_str(&line);
        let (is_good, complaint) = self.end().await;
        assert!(is_good && complaint.is_empty(), "{complaint}");
        ledger.unwrap()
    }

    /// The outcomes of a client's cases, and whether it says that all is well.
    pub(crate) async fn cases(mut self) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        while let Some(line) = self.line().await {
            cases.push(serde_json::from_str(&line).unwrap());
        }
        let (is_good, complaint) = self.end().await;
        for case in &cases {
            assert!(case.ok, "{case:?}");
        }
        assert!(is_good && complaint.is_empty(), "{complaint}");
        cases
    }

    /// Waits for its end: whether that is a good one, and what it complained about.
    pub(crate) async fn end(mut self) -> (bool, String) {
        let complaint = self.complaint().await;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        (status.expect("peer.py does not end").unwrap().success(), complaint)
    }

    async fn complaint(&mut self) -> String {
        let mut text = String::new();
        let read = tokio::time::timeout(PATIENCE, self.errors.read_to_string(&mut text)).await;
        read.expect("peer.py does not end").unwrap();
        text
    }
}

/// Longer than anything takes, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
