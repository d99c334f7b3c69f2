//! Sends per call, counted by `strace` in a run of its own: tracing slows what it counts.
//!
//! Why its filter (`--seccomp-bpf`): other system calls are not stopped, so that batches are about
//! as large as without it.

use std::path::Path;
use std::time::Duration;

use crate::fault::Fault;
use crate::process::{Client, Cores, ServerProcess, Setting};
use crate::runtime::Flavour;
use crate::workload::{BASE, Workload};

/// What one peer sends for a call, with 64 in flight.
#[derive(Clone, Debug)]
pub struct Sends {
    pub peer: String,
    pub client: f64,
    pub server: f64,
}

impl Sends {
    /// Counts them.
    ///
    /// # Errors
    /// If `strace` is missing or may not trace.
    pub fn count(peer: &str, flavour: Flavour, cores: &Cores) -> Result<Self, Fault> {
        eprintln!("{flavour}: sends of {peer}");
        let path = |side: &str| {
            std::env::temp_dir().join(format!("peers-{}-{side}.strace", std::process::id()))
        };
        let paths = [path("server"), path("client")];
        let traced = Some(paths.clone());
        let setting = Setting { flavour, cores: cores.clone(), counted: false, traced };
        let server = ServerProcess::start(peer, &setting)?;
        let workload = Workload::named(BASE)?;
        // No warm-up: all that is counted belongs to a call that is counted.
        let (warm_up, measured) = (Duration::ZERO, MEASURED);
        let client = Client { peer, workload, setting: &setting, warm_up, measured };
        let calls = server.load(&client)?.calls as f64;
        drop(server);
        let [server, client] = paths.map(|path| sends_in(&path));
        Ok(Self { peer: peer.to_owned(), client: client? / calls, server: server? / calls })
    }
}

/// The calls in a summary of `strace -c`; removes it.
fn sends_in(path: &Path) -> Result<f64, Fault> {
    let place = |error: std::io::Error| Fault::from(error).at(&path.display().to_string());
    let text = std::fs::read_to_string(path).map_err(place)?;
    std::fs::remove_file(path).map_err(place)?;
    total(&text).ok_or_else(|| Fault::new(format!("strace counted nothing: {text}")))
}

fn total(summary: &str) -> Option<f64> {
    let line = summary.lines().rev().find(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

const MEASURED: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// As strace 6.1 writes it; without a total line nothing was counted.
    #[test]
    fn a_summary_is_read() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       100.00    0.011400           2      4567         3 sendto\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       100.00    0.011400           2      4567         3 total\n";

        assert_eq!(total(summary), Some(4567.0));
        assert_eq!(total(""), None);
    }
}
