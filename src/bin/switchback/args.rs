//! What the command line takes, and its help.
//!
//! Invariant: a value that cannot be used is refused here, with what would do, before anything is
//! connected.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use switchback::service::Pledge;

use crate::durations::parse_duration;

/// Looks at switchback servers, calls their methods, checks their contracts.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// One JSON document on standard output, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Services, methods and versions of a server
    List {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// The types of a method, as the server knows them, and an example of its request
    Describe(DescribeArgs),
    /// Calls a method: JSON in, JSON out
    Call(CallArgs),
    /// Whether a server, or a service of it, is serving: exit code 0 if it is, 1 if it is not
    Health {
        #[command(flatten)]
        server: ServerArgs,
        /// The service; none: the server as a whole
        #[arg(default_value = "", hide_default_value = true)]
        service: String,
    },
    /// Calls a method as often as it can, or at a rate, and says how long the calls took
    Bench(BenchArgs),
    /// Compares what a server serves with the contract that was published
    Check(CheckArgs),
    /// Prints completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Where a server is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// tcp://host:port, unix:///path, or host:port
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// How long to wait for an answer, 2s or 500ms say
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Allow plaintext to an address that is not loopback: the network is trusted
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// Which method.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MethodArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// service/method, for instance bank.Ledger/transfer
    #[arg(value_parser = parse_method)]
    pub(crate) method: String,
}

/// `describe`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    pub(crate) of: MethodArgs,
    /// This version alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65_534))]
    pub(crate) version: Option<u16>,
}

/// What is sent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    pub(crate) of: MethodArgs,
    /// The request; - reads standard input, @file a file; none sends null or {} if that will do
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) request: Option<String>,
    /// The version to call; without it the highest that may be called
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65_534))]
    pub(crate) version: Option<u16>,
    /// Something to go beside the request; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Send the request as it is, whatever the server's types say
    #[arg(long)]
    pub(crate) unchecked: bool,
}

/// `call`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CallArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
}

/// `bench`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    /// Calls to begin in each second; none: each ends before the next begins
    #[arg(long, value_name = "CALLS", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Calls at once, all connections together
    #[arg(long, value_name = "CALLS", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: u32,
    /// Connections
    #[arg(long, value_name = "COUNT", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) connections: u32,
    /// How long calls are begun [default: 10s, or until --calls are made]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// How many calls are made
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) calls: Option<u64>,
}

/// `check`
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The file with what was published
    #[arg(long, value_name = "FILE", default_value = "switchback.lock")]
    pub(crate) lock: PathBuf,
    /// A version that is given up, service/method:version; may be given again
    #[arg(long, value_name = "METHOD:VERSION", value_parser = parse_pledge)]
    pub(crate) retire: Vec<Pledge>,
    /// Write what is new into the file, or begin it
    #[arg(long)]
    pub(crate) write: bool,
}

impl Command {
    /// What is to be sent, if this command sends something.
    pub(crate) const fn request(&self) -> Option<&RequestArgs> {
        match self {
            Self::Bench(wish) => Some(&wish.request),
            Self::Call(wish) => Some(&wish.request),
            Self::Check(_)
            | Self::Completions { .. }
            | Self::Describe(_)
            | Self::Health { .. }
            | Self::List { .. } => None,
        }
    }
}

fn parse_method(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((service, method)) if !service.is_empty() && !method.is_empty() => Ok(text.to_owned()),
        _ => Err("expected service/method, bank.Ledger/transfer for instance".to_owned()),
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("expected name=value".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| format!("expected a number of calls in a second, {RATE_MIN} to {RATE_MAX}"))
}

fn parse_pledge(text: &str) -> Result<Pledge, String> {
    let expected = || "expected service/method:version, bank.Ledger/transfer:1 for instance";
    let (method, version) = text.rsplit_once(':').ok_or_else(expected)?;
    let name = parse_method(method)?;
    let version = version.parse().map_err(|_not_a_version| expected())?;
    Ok(Pledge::new(&name, version))
}

/// One call in a quarter of an hour, as a check that something is there.
const RATE_MIN: f64 = 0.001;
/// More than a machine can do.
const RATE_MAX: f64 = 10_000_000.0;

const EXIT_CODES: &str = "\
Exit codes:
  0    good
  1    the answer is no: the method's own error, not serving, a broken contract, calls that failed
  2    what was given cannot be used: arguments, JSON that is no request, files
  3    no connection, or none any more
  4    the server refused or failed the call
  130  interrupted";
