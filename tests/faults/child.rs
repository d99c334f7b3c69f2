//! Children: this binary again, in a role, perhaps in a namespace or with another clock.
//!
//! Invariants: a child that is dropped is killed and waited for; one whose parent is gone finds its
//! input closed, and ends.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// What a server is started with.
#[derive(Clone)]
pub(crate) struct ServerSpec {
    /// Where it listens.
    pub(crate) at: String,
    /// What the command line begins with, such as `ip netns exec far`.
    pub(crate) within: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// A ledger, and the number of this instance in it.
    pub(crate) ledger: Option<(PathBuf, u64)>,
    /// To whom it forwards, if it is a proxy.
    pub(crate) behind: Option<String>,
}

pub(crate) struct Server {
    child: Child,
    lines: BufReader<ChildStdout>,
    pub(crate) url: String,
}

impl ServerSpec {
    pub(crate) fn at(at: &str) -> Self {
        let (within, env) = (Vec::new(), Vec::new());
        Self { at: at.to_owned(), within, env, ledger: None, behind: None }
    }

    /// A proxy that forwards everything.
    pub(crate) fn proxy(at: &str, behind: &str) -> Self {
        Self { behind: Some(behind.to_owned()), ..Self::at(at) }
    }

    /// Starts it, and waits until it listens. Blocks for some ten milliseconds.
    pub(crate) fn start(&self) -> Server {
        let played = if self.behind.is_some() { "role::proxy" } else { "role::serve" };
        let mut command = role(&self.within, played);
        command.envs(self.behind.iter().map(|behind| (crate::role::BEHIND, behind)));
        command.env(crate::role::AT, &self.at).envs(self.env.iter().cloned());
        if let Some((path, instance)) = &self.ledger {
            command.env(crate::role::LEDGER, path);
            command.env(crate::role::INSTANCE, instance.to_string());
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server { child, lines, url: String::new() };
        server.url = server.expect("URL ");
        server
    }
}

/// This binary, as the one test that plays a role.
pub(crate) fn role(within: &[String], name: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words = within.iter().cloned().chain([this.display().to_string()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", name, "--nocapture", "--test-threads=1"]);
    command.env(crate::role::ROLE, name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

impl Server {
    /// What stands behind a word, on the next line that has it.
    pub(crate) fn expect(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the child ended before it said {word:?}");
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
    }

    /// SIGKILL. Returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to drain.
    pub(crate) fn drain(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"drain\n").unwrap();
    }

    /// Waits for its end after a drain, and says how that went.
    pub(crate) fn drained(&mut self) -> String {
        let how = self.expect("DRAINED ");
        self.child.wait().unwrap();
        how
    }

    /// Memory that it holds, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}
