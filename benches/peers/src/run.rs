//! All peers, round by round.
//!
//! In every round each workload is done by each peer, one after the other, so that what disturbs
//! the machine for a while disturbs all peers and no workload alone; the order is turned by one
//! from round to round. Servers stay up; a client process is started for every round.

use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Fault;
use crate::flags::Flags;
use crate::peers;
use crate::process::{Client, Cores, ServerProcess, Setting};
use crate::row::Row;
use crate::runtime::Flavour;
use crate::sends::Sends;
use crate::workload::{self, FLOOD, Kind, Workload};
use crate::{plot, results, table};

/// What is to be run.
#[derive(Debug)]
pub struct Plan {
    pub peers: Vec<String>,
    pub flavours: Vec<Flavour>,
    pub cores: Cores,
    pub rounds: usize,
    pub warm_up: Duration,
    pub measured: Duration,
    /// Of the last minute before the run: what else the machine was doing.
    pub machine_load: f64,
    workloads: Vec<Workload>,
    /// Leaves out what no target asks for.
    quick: bool,
    /// Whose sends are counted.
    sends: Vec<String>,
}

/// Does what the flags say.
///
/// # Errors
/// If anything failed to run.
pub fn run(mut flags: Flags) -> Result<(), Fault> {
    let plan = Plan::of(&mut flags)?;
    let results: Option<PathBuf> = flags.optional("results")?;
    let plot: Option<PathBuf> = flags.optional("plot")?;
    flags.end()?;
    let mut rows = Vec::new();
    for &flavour in &plan.flavours {
        rows.extend(plan.rows(flavour)?);
    }
    let mut sends = Vec::new();
    for peer in &plan.sends {
        sends.push(Sends::count(peer, Flavour::Mt2, &plan.cores)?);
    }
    print!("{}", table::text(&plan, &rows, &sends)?);
    if let Some(path) = results {
        write(&path, &results::text(&rows)?)?;
    }
    if let Some(path) = plot {
        write(&path, &plot::svg(&plan, &rows))?;
    }
    Ok(())
}

impl Plan {
    fn of(flags: &mut Flags) -> Result<Self, Fault> {
        let quick = flags.is_set("quick");
        let peers = match flags.list("peers") {
            Some(names) => names,
            None => peers::NAMES.iter().map(|&name| name.to_owned()).collect(),
        };
        let stranger = peers.iter().find(|name| !peers::NAMES.contains(&name.as_str()));
        if let Some(stranger) = stranger {
            return Err(peers::unknown(stranger));
        }
        let named = flags.list("workloads");
        let workloads = match &named {
            Some(names) => {
                names.iter().map(|name| Workload::named(name)).collect::<Result<_, _>>()?
            }
            None => workload::ALL.to_vec(),
        };
        let flavours = match flags.list("runtimes") {
            Some(names) => names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
            None => vec![Flavour::Mt2, Flavour::Ct],
        };
        let counted: &[&str] = if quick { &["switchback"] } else { peers::NAMES };
        let counted = |peer: &String| counted.contains(&peer.as_str());
        let sends = match (flags.list("sends"), &named) {
            (Some(names), _) => names,
            (None, Some(_)) => Vec::new(),
            (None, None) => peers.iter().filter(|&peer| counted(peer)).cloned().collect(),
        };
        let [warm_up, measured] = if quick { [25, 60] } else { [200, 500] };
        let rounds = flags.value_or("rounds", 9)?;
        if rounds == 0 {
            return Err(Fault::new("--rounds 0: at least 1".to_owned()));
        }
        Ok(Self {
            peers,
            flavours,
            cores: flags.value_or("cores", Cores::default())?,
            rounds,
            warm_up: Duration::from_millis(flags.value_or("warm-up-ms", warm_up)?),
            measured: Duration::from_millis(flags.value_or("measured-ms", measured)?),
            machine_load: machine_load()?,
            workloads,
            quick: quick && named.is_none(),
            sends,
        })
    }

    /// Every row of a runtime.
    fn rows(&self, flavour: Flavour) -> Result<Vec<Row>, Fault> {
        let setting = Setting { flavour, cores: self.cores.clone(), counted: false, traced: None };
        let servers = Servers::start(&self.peers, &setting)?;
        let mut rows = Vec::new();
        for &workload in self.workloads.iter().filter(|&&workload| self.includes(workload, flavour))
        {
            for peer in self.peers.iter().filter(|peer| workload.is_for(peer)) {
                let peer = peer.clone();
                rows.push(Row { peer, workload, flavour, rounds: vec![], counted: None });
            }
        }
        for round in 0..self.rounds {
            eprintln!("{flavour}: round {} of {}", round + 1, self.rounds);
            for group in rows.chunk_by_mut(|one, other| one.workload == other.workload) {
                if group[0].workload.kind == Kind::Idle {
                    continue;
                }
                let first = round % group.len();
                for at in (first..group.len()).chain(0..first) {
                    let client = self.client(&group[at], &setting);
                    let round = servers.load(&client)?;
                    group[at].rounds.push(round);
                }
            }
        }
        drop(servers);
        self.count(&mut rows, flavour)?;
        self.idle(&mut rows, &setting)?;
        Ok(rows)
    }

    /// Whether there is time for it: a quick run leaves out what no target asks for.
    fn includes(&self, workload: Workload, flavour: Flavour) -> bool {
        let is_plain = workload.peers.is_empty() && workload.kind == Kind::Echo;
        !self.quick || flavour == Flavour::Mt2 || is_plain
    }

    /// A short round of each row with allocations counted, on servers that count.
    fn count(&self, rows: &mut [Row], flavour: Flavour) -> Result<(), Fault> {
        eprintln!("{flavour}: allocations");
        let setting = Setting { flavour, cores: self.cores.clone(), counted: true, traced: None };
        let servers = Servers::start(&self.peers, &setting)?;
        for row in rows.iter_mut().filter(|row| row.workload.is_alone()) {
            let client = Client { warm_up: COUNTED_WARM_UP, ..self.client(row, &setting) };
            let client = Client { measured: client.measured.min(COUNTED_MAX), ..client };
            let round = servers.load(&client)?;
            row.counted = Some(round);
        }
        Ok(())
    }

    /// The idle rows, each on a server of its own whose memory nothing else has grown.
    fn idle(&self, rows: &mut [Row], setting: &Setting) -> Result<(), Fault> {
        let rounds = if self.quick { 1 } else { self.rounds.min(IDLE_ROUNDS) };
        for row in rows.iter_mut().filter(|row| row.workload.kind == Kind::Idle) {
            eprintln!("{}: idle connections of {}", setting.flavour, row.peer);
            for _ in 0..rounds {
                let server = ServerProcess::start(&row.peer, setting)?;
                let round = server.load(&self.client(row, setting))?;
                row.rounds.push(round);
            }
        }
        Ok(())
    }

    fn client<'a>(&self, row: &'a Row, setting: &'a Setting) -> Client<'a> {
        let warm_up =
            self.warm_up + if row.workload.flooded { FLOOD_START } else { Duration::ZERO };
        let measured = match row.workload.kind {
            Kind::Blob(bytes) if bytes >= 1 << 20 => self.measured.max(LARGE_MIN),
            _ => self.measured,
        };
        Client { peer: &row.peer, workload: row.workload, setting, warm_up, measured }
    }
}

fn machine_load() -> Result<f64, Fault> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// A server for each peer.
struct Servers(Vec<(String, ServerProcess)>);

impl Servers {
    fn start(peers: &[String], setting: &Setting) -> Result<Self, Fault> {
        let start = |peer: &String| Ok((peer.clone(), ServerProcess::start(peer, setting)?));
        peers.iter().map(start).collect::<Result<_, Fault>>().map(Self)
    }

    /// One round, with its flood if the workload has one.
    fn load(&self, client: &Client<'_>) -> Result<crate::load::Round, Fault> {
        let server = self.0.iter().find(|(peer, _)| peer == client.peer);
        let (_, server) = server.expect("every peer of the plan has one");
        if !client.workload.flooded {
            return server.load(client);
        }
        let measured = client.warm_up + client.measured + FLOOD_SPARE;
        let flooding = Client {
            workload: Workload::named(FLOOD)?,
            warm_up: Duration::ZERO,
            measured,
            ..*client
        };
        let flood = server.flood(&flooding)?;
        let round = server.load(client)?;
        flood.end()?;
        Ok(round)
    }
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Fault> {
    std::fs::write(path, text).map_err(|error| Fault::from(error).at(&path.display().to_string()))
}

/// Rounds of the idle row: its memory hardly varies.
const IDLE_ROUNDS: usize = 3;
/// What is allocated once for a connection or a slot must be there before the count.
const COUNTED_WARM_UP: Duration = Duration::from_millis(25);
const COUNTED_MAX: Duration = Duration::from_millis(150);
/// In less, a slow peer echoes too few large bodies for a figure.
const LARGE_MIN: Duration = Duration::from_millis(150);
/// Until the flood has connected and runs.
const FLOOD_START: Duration = Duration::from_millis(100);
/// The flood must outlast what it disturbs.
const FLOOD_SPARE: Duration = Duration::from_secs(20);
