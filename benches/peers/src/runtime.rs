//! The two kinds of runtime, and what a process needs of the system.

use std::fmt;
use std::str::FromStr;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::fault::Fault;
use crate::workload::IDLE_CONNECTIONS;

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

    /// What it is.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ct => "current-thread on both sides",
            Self::Mt2 => "multi-thread with 2 workers on both sides",
        }
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
            _ => Err(Fault::new(format!("no runtime `{text}`; there are ct and mt2"))),
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
    if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < needed) {
        let text = format!("the idle row needs {needed} open files, the hard limit is {maximum}");
        return Err(Fault::new(text));
    }
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}
