//! The run: starts everyone, makes the changes under traffic, collects what was seen.
//!
//! ```text
//!   client v1 ---> server v1 (version 1)          client v1 ---> server v2 (versions 1 and 2)
//!   client v2 ---> server v1                      client v2 ---> server v2 <--- changes
//! ```
//!
//! Invariant: nothing waits for a time. A change is begun when both clients of server v2 have had
//! their share of answers in the phase before it.

use std::path::{Path, PathBuf};

use crate::World;
use crate::client::{CALLS_AT_A_TIME, ClientTask};
use crate::clock::Clock;
use crate::family::Family;
use crate::ledger::Verdict;
use crate::packages::Packages;
use crate::plan::{CHANGES, SETTLED, change_phase, settled_phase};
use crate::server::ServerTask;
use crate::show::{Show, thousands, time};
use crate::words::{ClientReport, Order, Progress, Replaced, ServerReport, Word};

/// Everything that was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// One for each client and server, in the order of [`PAIRS`].
    pub(crate) clients: Vec<ClientReport>,
    /// Server v1, then server v2.
    pub(crate) servers: Vec<ServerReport>,
    /// How the replacements went.
    pub(crate) replaced: Vec<Replaced>,
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

    let mut run = Run::start(folder, &packages, calls, show).await?;
    run.make_changes().await?;
    let (clients, servers) = run.collect().await?;
    let Run { family, logs, replaced, show, .. } = run;
    family.end().await?;

    show.event("all calls are made; reading the ledgers");
    let verdict = crate::ledger::check(&logs)?;
    show.end();
    let took_us = crate::clock::us(clock.elapsed());
    Ok(Seen { clients, servers, replaced, verdict, took_us })
}

struct Run<'a> {
    family: Family,
    /// By their place in [`PAIRS`].
    clients: Vec<usize>,
    /// Server v1, then server v2.
    servers: Vec<usize>,
    logs: Vec<PathBuf>,
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
        folder: &Path,
        packages: &Path,
        calls: u64,
        show: &'a mut Show,
    ) -> Result<Self, crate::Failure> {
        let mut run = Run {
            family: Family::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            logs: Vec::new(),
            progress: vec![Progress::default(); PAIRS.len()],
            reports: vec![None; PAIRS.len()],
            replaced: Vec::new(),
            calls,
            what: "both versions".to_owned(),
            show,
        };
        let mut addresses = Vec::new();
        for (instance, world) in (1..).zip([World::V1, World::V2]) {
            let name = format!("server {}", world.name());
            let log = folder.join(format!("server-{}.ledger", world.name()));
            let task = ServerTask { world, instance, packages: packages.into(), log };
            run.logs.push(task.log.clone());
            run.servers.push(run.family.start(name.clone(), "server", &task)?);
            let Word::Listening(address) = run.hear().await? else {
                return Err(format!("{name} does not say where it listens").into());
            };
            let versions = if world == World::V1 { "version 1" } else { "versions 1 and 2" };
            run.show.event(&format!("{name} has {versions}, at {address}"));
            addresses.push(address);
        }
        for (client, (world, server)) in (1..).zip(PAIRS) {
            let (name, at) = (world.name(), server.name());
            let log = folder.join(format!("client-{name}-of-{at}.ledger"));
            let address = addresses[usize::from(server == World::V2)].clone();
            let task = ClientTask { world, client, address, calls, packages: packages.into(), log };
            run.logs.push(task.log.clone());
            let name = format!("client {name} of server {at}");
            run.clients.push(run.family.start(name, "client", &task)?);
        }
        for _ in PAIRS {
            let Word::Connected = run.hear().await? else {
                return Err("a client speaks before it is connected".into());
            };
        }
        let (calls, clients) = (thousands(calls), PAIRS.len());
        run.show.event(&format!(
            "{clients} clients, each with {calls} calls to make, {CALLS_AT_A_TIME} at a time, \
             every other one not idempotent"
        ));
        for (pair, (_, server)) in PAIRS.into_iter().enumerate() {
            run.family.tell(run.clients[pair], Order::Begin).await?;
            if server == World::V1 {
                run.family.tell(run.clients[pair], Order::Finish).await?;
            }
        }
        Ok(run)
    }

    async fn make_changes(&mut self) -> Result<(), crate::Failure> {
        let share = (self.calls / u64::try_from(SETTLED)?).max(1);
        for (number, change) in CHANGES.iter().enumerate() {
            self.until_answered(settled_phase(number), share).await?;
            self.set_phase(change_phase(number)).await?;
            // From here on every client counts its new calls to the change.
            self.until_answered(change_phase(number), 1).await?;
            self.family.tell(self.servers[1], change.order).await?;
            let details = self.until_changed().await?;
            self.set_phase(settled_phase(number + 1)).await?;
            self.what = change.text.to_owned();
            self.show.event(&format!("server v2: {}{details}", change.text));
        }
        self.until_answered(settled_phase(CHANGES.len()), share).await?;
        for client in self.changing() {
            self.family.tell(self.clients[client], Order::Finish).await?;
        }
        Ok(())
    }

    /// Waits until both clients of server v2 have that many answers in this phase.
    async fn until_answered(&mut self, phase: usize, calls: u64) -> Result<(), crate::Failure> {
        let reached = |progress: &Progress| progress.phase == phase && progress.in_phase >= calls;
        while !self.changing().all(|client| reached(&self.progress[client])) {
            if let Some(word) = self.hear_news().await? {
                return Err(format!("{word:?} was not asked for").into());
            }
            let most = self.changing().map(|client| self.progress[client].calls).max();
            if let Some(most) = most.filter(|most| *most > self.calls.saturating_mul(OVERRUN_MAX)) {
                return Err(crate::Failure::Stuck(format!(
                    "of the clients of server v2 one has {} answers and the other one still not \
                     {calls} in phase {phase}",
                    thousands(most)
                )));
            }
        }
        Ok(())
    }

    /// Waits until server v2 has made its change.
    async fn until_changed(&mut self) -> Result<String, crate::Failure> {
        loop {
            match self.hear_news().await? {
                None => {}
                Some(Word::CeilingSet) => return Ok(String::new()),
                Some(Word::Replaced(replaced)) => {
                    self.replaced.push(replaced);
                    let Replaced { running, drained_us, .. } = replaced;
                    let after = time(drained_us);
                    return Ok(format!(
                        "; {running} calls were running in the old build, which ended {after} later"
                    ));
                }
                Some(word) => return Err(format!("{word:?} was not asked for").into()),
            }
        }
    }

    /// The reports of all clients, then of the servers.
    async fn collect(&mut self) -> Result<(Vec<ClientReport>, Vec<ServerReport>), crate::Failure> {
        while self.reports.iter().any(Option::is_none) {
            if let Some(word) = self.hear_news().await? {
                return Err(format!("{word:?} was not asked for").into());
            }
        }
        let mut servers = Vec::new();
        for server in self.servers.clone() {
            self.family.tell(server, Order::Stop).await?;
            let Word::Stopped(report) = self.hear().await? else {
                return Err("a server speaks out of turn".into());
            };
            servers.push(report);
        }
        Ok((self.reports.iter_mut().filter_map(Option::take).collect(), servers))
    }

    async fn set_phase(&mut self, phase: usize) -> Result<(), crate::Failure> {
        for client in self.changing() {
            self.family.tell(self.clients[client], Order::Phase(phase)).await?;
        }
        Ok(())
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

    async fn hear(&mut self) -> Result<Word, crate::Failure> {
        Ok(self.family.next().await?.1)
    }

    /// The clients of the server that is changed.
    fn changing(&self) -> impl Iterator<Item = usize> + use<> {
        (0..PAIRS.len()).filter(|pair| PAIRS[*pair].1 == World::V2)
    }
}

/// Clients of one server go on until both have had their share. One that has had so many times
/// the calls it was to make waits for one that gets no answers.
const OVERRUN_MAX: u64 = 10;
