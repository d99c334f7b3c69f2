//! The program, run to its end: what it printed, and its exit code.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use serde_json::Value;

/// What a run of the program left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program with these arguments.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchback"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
#[track_caller]
pub(crate) fn ran(arguments: &[&str]) -> Ran {
    Ran::of(program(arguments).output().unwrap())
}

/// Waits for the end of a program that might hang: after a minute it is killed, and has no code.
#[track_caller]
pub(crate) fn ended(child: Child) -> Ran {
    let (over, is_over) = std::sync::mpsc::channel::<()>();
    let id = child.id();
    let guard = std::thread::spawn(move || {
        if is_over.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            signal("KILL", id);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(over);
    guard.join().unwrap();
    Ran::of(output)
}

/// Sends a signal to a process.
#[track_caller]
pub(crate) fn signal(name: &str, process: u32) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

impl Ran {
    #[track_caller]
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        // No terminal reads it, so nothing may be meant for one; whatever a server said.
        assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{}{}", ran.out, ran.err);
        ran
    }

    /// That it ended so; what it printed on standard output.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.out
    }

    /// That it failed so: each part is in what it says, and nothing is on standard output.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in:\n{}", self.err);
        }
    }

    /// The one document on standard output of a run with `--json`.
    #[track_caller]
    pub(crate) fn json(self, code: i32) -> Value {
        assert_eq!((self.code, self.err.as_str()), (code, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Ten times what the longest of them takes.
const HANG: Duration = Duration::from_secs(60);
