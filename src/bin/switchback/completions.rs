//! `switchback completions`: the script that lets a shell complete this program's arguments.

use clap::CommandFactory as _;

use crate::args::Args;
use crate::failure::Failure;
use crate::output::Answer;

/// The script is the answer, as JSON a string.
pub(crate) fn run(shell: clap_complete::Shell) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "switchback", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let json = Answer::json(&serde_json::json!({ "shell": shell.to_string(), "script": script }))?;
    Ok(Answer::good(script, json))
}
