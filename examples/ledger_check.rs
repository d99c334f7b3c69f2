//! Judges the logs that clients and servers kept, and says what became of each call.
//!
//! `ledger_check [--json] [--tolerance-us N] [--transit-us N] FILE…`
//!
//! Exit code 0: every invariant held. 1: at least one is broken. 2: no verdict, because a file
//! could not be read, is no ledger, or no client's log was given. A torn server log (a killed
//! process) is judged as far as it goes.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

#[path = "../tests/ledger/mod.rs"]
mod ledger;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // If standard error is gone too, the exit code still tells it.
            let _unheard = writeln!(io::stderr(), "ledger_check: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints the verdict; whether it is clean.
fn run() -> io::Result<bool> {
    let mut rules = ledger::Rules::REAL;
    let mut is_json = false;
    let mut paths = Vec::new();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--json") => is_json = true,
            Some("--tolerance-us") => rules.tolerance_us = number(arguments.next())?,
            Some("--transit-us") => rules.transit_us = number(arguments.next())?,
            Some(option) if option.starts_with("--") => {
                return Err(usage(&format!("unknown option {option}")));
            }
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    if paths.is_empty() {
        return Err(usage("no files"));
    }
    let verdict = ledger::check_with(&paths, &rules)?;
    let mut out = io::stdout().lock();
    if is_json {
        writeln!(out, "{}", verdict.to_json())?;
    } else {
        write!(out, "{verdict}")?;
    }
    if verdict.clients == 0 {
        return Err(io::Error::other("no client's log among the files: nothing to judge"));
    }
    Ok(verdict.is_clean())
}

fn number(argument: Option<std::ffi::OsString>) -> io::Result<u64> {
    let text = argument.as_ref().and_then(|argument| argument.to_str());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| usage("an option needs a number"))
}

fn usage(problem: &str) -> io::Error {
    let usage = "usage: ledger_check [--json] [--tolerance-us N] [--transit-us N] FILE…";
    io::Error::new(io::ErrorKind::InvalidInput, format!("{problem}\n{usage}"))
}
