//! The run: starts everyone, makes the changes under traffic, collects what was seen.
//!
//! ```text
//!   client v1 ---> server v1 (version 1)          client v1 ---> server v2 (versions 1 and 2)
//!   client v2 ---> server v1 <--- drain           client v2 ---> server v2 <--- changes, kill
//! ```
//!
//! Invariant: nothing waits for a time. A change is begun when all clients have had their share of
//! answers in the phase before it.

use std::path::{Path, PathBuf};

use crate::World;
use crate::client::{CALLS_AT_A_TIME, ClientTask};
use crate::clock::Clock;
use crate::family::Family;
use crate::ledger::Verdict;
use crate::loss::{Ending, Loss};
use crate::packages::Packages;
use crate::plan::{Action, CHANGES, Change, SETTLED, SUCCESSOR_BUILD};
use crate::plan::{change_phase, instance_of, settled_phase};
use crate::server::ServerTask;
use crate::show::{Show, thousands, time};
use crate::words::{ClientReport, Order, Progress, Replaced, ServerReport, Word};

/// Everything that was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// One for each client and server, in the order of [`PAIRS`].
    pub(crate) clients: Vec<ClientReport>,
    /// Of every server process but the one that was killed.
    pub(crate) servers: Vec<ServerReport>,
    /// How the replacements went.
    pub(crate) replaced: Vec<Replaced>,
    /// How server processes ended under traffic, and what became of the calls.
    pub(crate) endings: Vec<(Ending, Loss)>,
    /// What the ledger says.
    pub(crate) verdict: Verdict,
    /// From the first process to the verdict.
    pub(crate) took_us: u64,
}

/// A client's world and its server's.
pub(crate) const PAIRS: [(World, World); 4] = [
    (World::V1, World::V1),
    (World::V2, World::V1),
    (World::V1, World::V2),
    (World::V2, World::V2),
];

/// Runs everything, with files in `folder`.
///
/// # Errors
/// If a process cannot be started or ends too early, or the ledger cannot be read.
///
/// # Cancellation
/// Dropping the future kills every process.
pub(crate) async fn run(
    folder: &Path,
    calls: u64,
    show: &mut Show,
) -> Result<Seen, crate::Failure> {
    let clock = Clock::start();
    let packages = folder.join("packages");
    let (text, source) = Packages::text_of_machine();
    std::fs::write(&packages, &text)?;
    let count = Packages::load(&packages)?.len();
    show.event(&format!("{} packages: {source}", thousands(count.try_into()?)));

    let mut run = Run::start((folder, &packages), clock, calls, show).await?;
    run.make_changes().await?;
    let clients = run.collect().await?;
    let Run { family, client_logs, servers, endings, stopped, replaced, show, .. } = run;
    family.end().await?;

    show.event("all calls are made; reading the ledgers");
    let server_logs: Vec<(u64, &Path)> =
        servers.iter().map(|server| (server.instance, server.log.as_path())).collect();
    let server_paths = server_logs.iter().map(|(_, path)| path.to_path_buf());
    let all: Vec<PathBuf> = client_logs.iter().cloned().chain(server_paths).collect();
    let verdict = crate::ledger::check(&all)?;
    let mut judged = Vec::new();
    for (server, ending) in endings {
        let logs = (1..).zip(&client_logs).zip(PAIRS).filter(|(_, pair)| pair.1 == server);
        let logs: Vec<(u64, &Path)> =
            logs.map(|((client, path), _)| (client, path.as_path())).collect();
        judged.push((ending, crate::loss::judge(&ending, &logs, &server_logs)?));
    }
    show.end();
    let took_us = crate::clock::us(clock.elapsed());
    Ok(Seen { clients, servers: stopped, replaced, endings: judged, verdict, took_us })
}

/// A server process, or one that was.
#[derive(Debug)]
struct ServerProcess {
    world: World,
    instance: u64,
    /// Its number in the family.
    number: usize,
    address: String,
    log: PathBuf,
}

struct Run<'a> {
    family: Family,
    folder: &'a Path,
    packages: &'a Path,
    clock: Clock,
    /// By their place in [`PAIRS`].
    clients: Vec<usize>,
    client_logs: Vec<PathBuf>,
    /// In the order in which they were started.
    servers: Vec<ServerProcess>,
    endings: Vec<(World, Ending)>,
    /// What those that ended in good order have said.
    stopped: Vec<ServerReport>,
    progress: Vec<Progress>,
    reports: Vec<Option<ClientReport>>,
    replaced: Vec<Replaced>,
    /// Of each client, at least.
    calls: u64,
    what: String,
    show: &'a mut Show,
}

impl<'a> Run<'a> {
    /// Starts the servers, then the clients, and lets the calls begin.
    async fn start(
        (folder, packages): (&'a Path, &'a Path),
        clock: Clock,
        calls: u64,
        show: &'a mut Show,
    ) -> Result<Self, crate::Failure> {
        let mut run = Run {
            family: Family::new(),
            folder,
            packages,
            clock,
            clients: Vec::new(),
            client_logs: Vec::new(),
            servers: Vec::new(),
            endings: Vec::new(),
            stopped: Vec::new(),
            progress: vec![Progress::default(); PAIRS.len()],
            reports: vec![None; PAIRS.len()],
            replaced: Vec::new(),
            calls,
            what: "both versions".to_owned(),
            show,
        };
        for world in [World::V1, World::V2] {
            let first = ("tcp://127.0.0.1:0".to_owned(), 1);
            run.start_server(world, instance_of(world, false), first).await?;
            let versions = if world == World::V1 { "version 1" } else { "versions 1 and 2" };
            let address = &run.servers[run.servers.len() - 1].address;
            run.show.event(&format!("server {} has {versions}, at {address}", world.name()));
        }
        for (client, (world, server)) in (1..).zip(PAIRS) {
            let (name, at) = (world.name(), server.name());
            let log = folder.join(format!("client-{name}-of-{at}.ledger"));
            let address = run.server(server).address.clone();
            let task = ClientTask { world, client, address, calls, packages: packages.into(), log };
            run.client_logs.push(task.log.clone());
            let name = format!("client {name} of server {at}");
            run.clients.push(run.family.start(name, "client", &task)?);
        }
        for _ in PAIRS {
            let Word::Connected = run.hear_server().await? else {
                return Err("a client speaks before it is connected".into());
            };
        }
        let (calls, clients) = (thousands(calls), PAIRS.len());
        run.show.event(&format!(
            "{clients} clients, each with {calls} calls to make, {CALLS_AT_A_TIME} at a time, \
             every other one not idempotent"
        ));
        for client in run.clients.clone() {
            run.family.tell(client, Order::Begin).await?;
        }
        Ok(run)
    }

    /// Starts a server process, at an address and with a build, and waits until it listens.
    async fn start_server(
        &mut self,
        world: World,
        instance: u64,
        (address, build): (String, u32),
    ) -> Result<(), crate::Failure> {
        let name = format!("server {} (process {instance})", world.name());
        let log = self.folder.join(format!("server-{}-{instance}.ledger", world.name()));
        let packages = self.packages.into();
        let task = ServerTask { world, instance, address, build, packages, log: log.clone() };
        let number = self.family.start(name.clone(), "server", &task)?;
        let Word::Listening(address) = self.hear_server().await? else {
            return Err(format!("{name} does not say where it listens").into());
        };
        self.servers.push(ServerProcess { world, instance, number, address, log });
        Ok(())
    }

    async fn make_changes(&mut self) -> Result<(), crate::Failure> {
        let share = (self.calls / u64::try_from(SETTLED)?).max(1);
        for (number, change) in CHANGES.iter().enumerate() {
            self.until_answered(settled_phase(number), share).await?;
            self.tell_clients(Order::Phase(change_phase(number))).await?;
            // From here on every client counts its new calls to the change.
            self.until_answered(change_phase(number), 1).await?;
            let details = self.make(change).await?;
            self.tell_clients(Order::Phase(settled_phase(number + 1))).await?;
            self.what = format!("server {}: {}", change.server.name(), change.text);
            self.show.event(&format!("{}{details}", self.what));
        }
        self.until_answered(settled_phase(CHANGES.len()), share).await?;
        self.tell_clients(Order::Finish).await
    }

    /// Makes a change, and waits until it is made; what there is to tell of it.
    async fn make(&mut self, change: &Change) -> Result<String, crate::Failure> {
        let number = self.server(change.server).number;
        let begun_us = self.clock.now_us();
        match change.action {
            Action::Tell(order) => {
                self.family.tell(number, order).await?;
                return self.until_changed().await;
            }
            Action::Drain => {
                self.stop(number).await?;
                self.family.until_ended(number).await?;
            }
            Action::Kill => self.family.kill(number).await?,
        }
        let ended_us = self.clock.now_us();
        let (world, old) = (change.server, self.server(change.server));
        let (instance, successor) = (old.instance, instance_of(world, true));
        let build = if world == World::V2 { SUCCESSOR_BUILD } else { 1 };
        let address = old.address.clone();
        self.start_server(world, successor, (address.clone(), build)).await?;
        let over_us = self.clock.now_us();
        if self.server(world).address != address {
            return Err(format!("its successor does not listen at {address}").into());
        }
        let action = change.action;
        self.endings.push((world, Ending { action, instance, successor, begun_us, over_us }));
        let (ended, over) = (time(ended_us - begun_us), time(over_us - begun_us));
        Ok(format!("; it ended after {ended}, its successor was there after {over}"))
    }

    /// Tells a server to drain and stop, and waits for its last word.
    async fn stop(&mut self, number: usize) -> Result<(), crate::Failure> {
        self.family.tell(number, Order::Stop).await?;
        let Word::Stopped(report) = self.hear_server().await? else {
            return Err("a server that was told to stop says something else".into());
        };
        self.stopped.push(report);
        Ok(())
    }

    /// Waits until all clients have that many answers in this phase.
    async fn until_answered(&mut self, phase: usize, calls: u64) -> Result<(), crate::Failure> {
        let reached = |progress: &Progress| progress.phase == phase && progress.in_phase >= calls;
        let most = |run: &Self| run.progress.iter().map(|progress| progress.calls).max();
        let limit = self.calls.max(crate::CALLS).saturating_mul(OVERRUN_MAX);
        let limit = most(self).unwrap_or(0).saturating_add(limit);
        while !self.progress.iter().all(reached) {
            if let Some(word) = self.hear_news().await? {
                return Err(format!("{word:?} was not asked for").into());
            }
            if let Some(most) = most(self).filter(|most| *most > limit) {
                return Err(crate::Failure::Stuck(format!(
                    "one client has {} answers and another one still not {calls} in phase {phase}",
                    thousands(most)
                )));
            }
        }
        Ok(())
    }

    /// Waits until a server has made its change.
    async fn until_changed(&mut self) -> Result<String, crate::Failure> {
        match self.hear_server().await? {
            Word::CeilingSet => Ok(String::new()),
            Word::Replaced(replaced) => {
                self.replaced.push(replaced);
                let Replaced { running, drained_us, .. } = replaced;
                let after = time(drained_us);
                Ok(format!(
                    "; {running} calls were running in the old build, which ended {after} later"
                ))
            }
            word => Err(format!("{word:?} was not asked for").into()),
        }
    }

    /// The reports of all clients; then the servers are stopped.
    async fn collect(&mut self) -> Result<Vec<ClientReport>, crate::Failure> {
        while self.reports.iter().any(Option::is_none) {
            if let Some(word) = self.hear_news().await? {
                return Err(format!("{word:?} was not asked for").into());
            }
        }
        for world in [World::V1, World::V2] {
            self.stop(self.server(world).number).await?;
        }
        Ok(self.reports.iter_mut().filter_map(Option::take).collect())
    }

    async fn tell_clients(&mut self, order: Order) -> Result<(), crate::Failure> {
        for client in self.clients.clone() {
            self.family.tell(client, order).await?;
        }
        Ok(())
    }

    /// The next word of a server; what clients say until then is dealt with.
    async fn hear_server(&mut self) -> Result<Word, crate::Failure> {
        loop {
            if let Some(word) = self.hear_news().await? {
                return Ok(word);
            }
        }
    }

    /// The next word that is not news of a client, which is dealt with here.
    async fn hear_news(&mut self) -> Result<Option<Word>, crate::Failure> {
        let (number, word) = self.family.next().await?;
        let client = self.clients.iter().position(|client| *client == number);
        match (client, word) {
            (Some(client), Word::Progress(progress)) => {
                // Late answers to calls of an earlier phase are no news of the phase.
                let known = &mut self.progress[client];
                known.calls = known.calls.max(progress.calls);
                if progress.phase >= known.phase {
                    (known.phase, known.in_phase) = (progress.phase, progress.in_phase);
                }
            }
            (Some(client), Word::Finished(report)) => {
                self.progress[client].calls = report.calls;
                self.reports[client] = Some(report);
            }
            (_, word) => return Ok(Some(word)),
        }
        let made = self.progress.iter().map(|progress| progress.calls.min(self.calls)).sum();
        let all = self.calls * u64::try_from(PAIRS.len())?;
        self.show.progress(made, all, &self.what);
        Ok(None)
    }

    /// The newest process of a server.
    fn server(&self, world: World) -> &ServerProcess {
        let newest = self.servers.iter().rev().find(|server| server.world == world);
        newest.expect("both are started first")
    }
}

/// Clients go on until all have had their share. One that has made so many times its calls since
/// then waits for one that gets no answers.
const OVERRUN_MAX: u64 = 10;
