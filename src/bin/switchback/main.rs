//! `switchback`, the command line: looks at servers, calls their methods, checks their contracts.
//!
//! ```text
//!   args --> a command --> Answer or Failure --> output: a screen, or one JSON document
//! ```
//!
//! Invariants: it uses the public interface of the library alone; every way out has an exit code
//! that `--help` lists; what a server says is printed without its control characters; it ends by
//! itself whatever the server does.

mod args;
mod bench;
mod call;
mod check;
mod completions;
mod describe;
mod durations;
mod example;
mod failure;
mod health;
mod list;
mod method;
mod output;
mod remote;
mod tree;
mod validate;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};
use crate::failure::Failure;
use crate::output::{Answer, Screen};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return output::usage(&error),
    };
    let screen = Screen::new(args.json);
    match run(args, &screen) {
        Ok(answer) => screen.answer(&answer),
        Err(failure) => screen.failure(&failure),
    }
}

/// Reads what must be read, then runs the command until it is done or interrupted.
fn run(args: Args, screen: &Screen) -> Result<Answer, Failure> {
    if let Command::Completions { shell } = args.command {
        return completions::run(shell);
    }
    // Before there is a runtime: reading standard input may take as long as it likes, and Ctrl-C
    // ends it the ordinary way.
    let request = args.command.request().map(call::text).transpose()?.flatten();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::here(&format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        let command = command(&args, request, screen);
        if matches!(args.command, Command::Bench(_)) {
            return command.await; // It has something to say when it is interrupted.
        }
        tokio::select! {
            result = command => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
        }
    });
    // Connections need no goodbye: nothing is under way on them.
    runtime.shutdown_background();
    result
}

async fn command(args: &Args, request: Option<String>, screen: &Screen) -> Result<Answer, Failure> {
    match &args.command {
        Command::Bench(wish) => bench::run(wish, request, screen).await,
        Command::Call(wish) => call::run(wish, request).await,
        Command::Check(wish) => check::run(wish, screen).await,
        Command::Completions { shell } => completions::run(*shell),
        Command::Describe(wish) => describe::run(wish, screen).await,
        Command::Health { server, service } => health::run(server, service).await,
        Command::List { server } => list::run(server, screen).await,
    }
}
