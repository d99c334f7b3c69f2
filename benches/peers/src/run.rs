//! All peers, round by round, and what came of it.

use std::time::Duration;

use crate::fault::Fault;
use crate::flags::Flags;
use crate::load::Round;
use crate::peers;
use crate::process::{self, Cores, Flavour, ServerProcess};
use crate::workload::{self, Kind, Workload};

/// What is to be run.
#[derive(Debug)]
struct Plan {
    peers: Vec<String>,
    workloads: Vec<Workload>,
    flavours: Vec<Flavour>,
    cores: Cores,
    rounds: usize,
    warm_up: Duration,
    measured: Duration,
}

/// One peer in one workload on one runtime, over all rounds.
#[derive(Debug)]
struct Row {
    peer: String,
    workload: Workload,
    flavour: Flavour,
    rounds: Vec<Round>,
}

/// Does what the flags say.
///
/// # Errors
/// If anything failed to run.
pub fn run(mut flags: Flags) -> Result<(), Fault> {
    let plan = Plan::of(&mut flags)?;
    flags.end()?;
    let mut rows = Vec::new();
    for &flavour in &plan.flavours {
        for &workload in &plan.workloads {
            rows.extend(plan.compare(workload, flavour)?);
        }
    }
    for row in &rows {
        let mut rates: Vec<f64> = row.rounds.iter().map(|round| round.rate).collect();
        rates.sort_by(f64::total_cmp);
        let middle = &row.rounds[row.rounds.len() / 2];
        println!(
            "{:4} {:6} {:11} {:12.0} [{:.0}-{:.0}] p50 {:.1} p99 {:.1} cpu {:.2}/{:.2} {:?}",
            row.flavour.to_string(),
            row.workload.name,
            row.peer,
            rates[rates.len() / 2],
            rates[0],
            rates[rates.len() - 1],
            middle.p50_us,
            middle.p99_us,
            middle.cpu_us_client,
            middle.cpu_us_server,
            middle.kib_per_connection
        );
    }
    Ok(())
}

impl Plan {
    fn of(flags: &mut Flags) -> Result<Self, Fault> {
        let quick = flags.is_set("quick");
        let list = |text: Option<String>| {
            text.map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>())
        };
        let peers = list(flags.optional("peers")?)
            .unwrap_or_else(|| peers::NAMES.iter().map(|&name| name.to_owned()).collect());
        if let Some(stranger) = peers.iter().find(|name| !peers::NAMES.contains(&name.as_str())) {
            return Err(peers::unknown(stranger));
        }
        let workloads = match list(flags.optional("workloads")?) {
            Some(names) => {
                names.iter().map(|name| Workload::named(name)).collect::<Result<_, _>>()?
            }
            None => workload::ALL.to_vec(),
        };
        let flavours = match list(flags.optional("runtimes")?) {
            Some(names) => names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            None => vec![Flavour::Mt2, Flavour::Ct],
        };
        Ok(Self {
            peers,
            workloads,
            flavours,
            cores: flags.value_or("cores", Cores::default())?,
            rounds: flags.value_or("rounds", 9)?,
            warm_up: Duration::from_millis(if quick { 40 } else { 200 }),
            measured: Duration::from_millis(if quick { 100 } else { 800 }),
        })
    }

    /// One workload with all peers, interleaved: what disturbs the machine disturbs them all.
    fn compare(&self, workload: Workload, flavour: Flavour) -> Result<Vec<Row>, Fault> {
        let start = |peer: &String| ServerProcess::start(peer, flavour, &self.cores, &[]);
        let servers = self.peers.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let row = |peer: &String| Row { peer: peer.clone(), workload, flavour, rounds: vec![] };
        let mut rows: Vec<Row> = self.peers.iter().map(row).collect();
        let rounds = if workload.kind == Kind::Idle { 1 } else { self.rounds };
        let times = [
            format!("--warm-up-ms={}", self.warm_up.as_millis()),
            format!("--measured-ms={}", self.measured.as_millis()),
        ];
        let times: Vec<String> =
            times.iter().flat_map(|flag| flag.split('=')).map(str::to_owned).collect();
        for _ in 0..rounds {
            for (row, server) in rows.iter_mut().zip(&servers) {
                let peer = &row.peer;
                let listening = server.listening;
                let round = process::load(peer, workload, flavour, &self.cores, listening, &times)?;
                row.rounds.push(round);
            }
        }
        Ok(rows)
    }
}
