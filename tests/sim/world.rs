//! One simulation: servers, clients, faults; then no faults, and everything must converge.
//!
//! ```text
//! chaos (5 s at least) --heal--> every channel answers --> callers end --> rest: nothing pending
//!                      --close--> no task, no timer, no socket, no connection's state is left
//! ```
//!
//! Invariants: what is expected is in `expect`, what goes wrong in `faults`; everything that is
//! drawn comes from the seed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchback::{ClientConfig, ServerConfig};

use crate::caller::{Client, Habits, Plan};
use crate::executor::{Executor, Halt, Pace, ProcessId, Seams, Step};
use crate::expect;
use crate::faults::{Fault, Gone, Mix, inject};
use crate::house::{Complaints, House};
use crate::ledger::Verdict;
use crate::link::Side;
use crate::net::Net;
use crate::random::Random;
use crate::relay::{PassedOn, Relays};
use crate::tap::{Figures, Tap};
use crate::trace::Trace;
use crate::weather::Weather;

/// Everything in one simulation.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) executor: Executor,
    pub(crate) net: Net,
    pub(crate) tap: Tap,
    pub(crate) complaints: Complaints,
    pub(crate) mix: Mix,
    passed_on: PassedOn,
    setting: Setting,
    houses: Mutex<Vec<House>>,
    clients: Mutex<Vec<Arc<Client>>>,
    random: Mutex<Random>,
    processes: AtomicU64,
    instances: AtomicU64,
    is_healing: AtomicBool,
    at_work: AtomicU64,
    is_over: AtomicBool,
}

/// Somebody who has calls to make; gone with its task.
struct AtWork(Arc<World>);

/// What a simulation came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) steps: u64,
    pub(crate) virtual_us: u64,
    pub(crate) verdict: Verdict,
    /// Statuses that handlers passed on.
    pub(crate) passed_on: u64,
    pub(crate) figures: Figures,
    /// Everything that must not be; empty when all is well.
    pub(crate) wrong: Vec<String>,
}

/// What a seed has drawn.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) pace: Pace,
    pub(crate) weather: Weather,
    pub(crate) mix: Mix,
    pub(crate) habits: Habits,
    pub(crate) clients: u64,
    pub(crate) callers: u64,
    pub(crate) calls_each: u64,
    pub(crate) chaos_us: u64,
    /// Whether there is a server behind the servers.
    pub(crate) has_tiers: bool,
    /// Whether windows for pieces are drawn, small ones mostly.
    pub(crate) has_windows: bool,
}

impl Setting {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut setting = Self::plain(seed);
        setting.draw_more(&mut Random::new(seed, "tiers and crashes"));
        setting.draw_pieces(&mut Random::new(seed, "pieces"));
        setting
    }

    /// One tier, no crashes of clients.
    pub(crate) fn plain(seed: u64) -> Self {
        let random = &mut Random::new(seed, "setting");
        let pace = Pace::draw(random);
        let (mut weather, mix, habits) =
            (Weather::draw(random), Mix::draw(random), Habits::draw(random));
        if habits.large > 0 {
            weather.widen();
        }
        let clients = random.between(3, 5);
        let callers = random.pick(&[3, 8, 24]);
        let calls_each = random.between(200, 400).div_ceil(clients * callers);
        let chaos_us = random.between(5_000_000, 8_000_000);
        let (has_tiers, has_windows) = (false, false);
        Self {
            pace,
            weather,
            mix,
            habits,
            clients,
            callers,
            calls_each,
            chaos_us,
            has_tiers,
            has_windows,
        }
    }

    /// Drawn apart, so that without it a seed means what it did before.
    fn draw_more(&mut self, random: &mut Random) {
        if random.percent(35) {
            self.mix.add(Fault::Crash);
        }
        let percent = random.pick(&[20, 50, 90]);
        // A handler whose client does not take large answers is not polled, nor is its call.
        if random.percent(40) && self.habits.large == 0 {
            self.has_tiers = true;
            self.habits.relays = Relays { percent, only: None };
        }
    }

    /// Drawn apart too. What moves in pieces is bodies: two seeds of five have some.
    fn draw_pieces(&mut self, random: &mut Random) {
        if self.habits.large == 0 && !self.has_tiers && random.percent(35) {
            self.habits.large = 5;
            self.weather.widen();
        }
        self.has_windows = self.habits.large > 0 && random.percent(80);
    }

    /// Whether no call may be lost: servers go as they do in daily operation, and the network is
    /// not so slow that it looks dead.
    pub(crate) fn is_lossless(&self) -> bool {
        self.mix.only_drains() && self.weather.is_wide()
    }
}

/// Runs the simulation of a seed; `look` comes between any two polls.
pub(crate) fn run_with(
    seed: u64,
    setting: &Setting,
    is_shown: bool,
    look: impl Fn(&Arc<World>),
) -> Report {
    let trace = Arc::new(Trace::new(is_shown));
    let executor = Executor::new(seed, setting.pace.clone(), trace);
    executor.note("seed", [seed, 0, 0], || format!("{seed}: {setting:#?}"));
    let world = World::new(seed, &executor, setting);
    let course = direct(Arc::clone(&world), setting.clone(), Random::new(seed, "course"));
    executor.spawn(GOD, course);
    let halt = executor.run(|| {
        look(&world);
        world.is_over.load(Ordering::Relaxed)
    });
    let mut report = Report { seed, ..Report::default() };
    if let Err(halt) = halt {
        report.wrong.push(expect::halted(&world, &halt));
    } else {
        // What sleeps on is woken, and what still runs shows itself.
        let until_us = executor.now_us() + expect::SETTLED_AFTER_US;
        while executor.now_us() < until_us && executor.step() != Step::Stuck {}
        expect::residue(&world, &mut report.wrong);
    }
    report.wrong.extend(world.complaints.take());
    report.verdict = expect::judge(&world, setting);
    report.passed_on = world.passed_on.count();
    report.figures = world.tap.figures();
    if !report.verdict.is_clean() {
        report.wrong.push(report.verdict.to_string());
    }
    let trace = executor.trace();
    (report.hash, report.events, report.steps) = (trace.hash(), trace.events(), executor.steps());
    report.virtual_us = executor.now_us();
    report
}

/// The course of a simulation.
async fn direct(world: Arc<World>, setting: Setting, mut random: Random) {
    let executor = world.executor.clone();
    for port in world.ports() {
        world.open(*port);
    }
    for _ in 0..setting.clients {
        world.enter(FRONT[random.index(FRONT.len())]);
    }
    for client in world.clients() {
        world.set_to_work(&client, setting.calls_each, &mut random);
    }
    let faults = inject(Arc::clone(&world), setting.mix.clone(), random.fork());
    executor.spawn(GOD, faults);
    executor.sleep_us(setting.chaos_us).await;
    world.heal();
    world.converge().await;
    world.settle().await;
    world.close().await;
    world.is_over.store(true, Ordering::Relaxed);
}

impl World {
    fn new(seed: u64, executor: &Executor, setting: &Setting) -> Arc<Self> {
        let (complaints, random) = (Complaints::default(), Random::new(seed, "net"));
        let (tap, passed_on) = (Tap::new(&complaints), PassedOn::default());
        let net = Net::new(executor, random, setting.weather.clone(), tap.clone());
        Arc::new(Self {
            seed,
            executor: executor.clone(),
            net,
            tap,
            complaints,
            passed_on,
            mix: setting.mix.clone(),
            setting: setting.clone(),
            houses: Mutex::default(),
            clients: Mutex::default(),
            random: Mutex::new(Random::new(seed, "world")),
            processes: AtomicU64::new(1),
            instances: AtomicU64::new(1),
            is_healing: AtomicBool::new(false),
            at_work: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_healing(&self) -> bool {
        self.is_healing.load(Ordering::Relaxed)
    }

    /// Where there are servers.
    pub(crate) fn ports(&self) -> &'static [u16] {
        if self.setting.has_tiers { &BOTH_TIERS } else { &FRONT }
    }

    /// Clients that live.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        let mut clients = self.all_clients();
        clients.retain(|client| !client.is_crashed());
        clients
    }

    /// Every client there ever was.
    pub(crate) fn all_clients(&self) -> Vec<Arc<Client>> {
        self.clients.lock().unwrap().clone()
    }

    /// Everybody that lives and has a channel: clients, and servers of the first tier.
    pub(crate) fn callers(&self) -> Vec<Arc<Client>> {
        let mut callers = self.clients();
        self.with_houses(|houses| {
            let living = houses.iter().filter(|house| !house.is_killed());
            callers.extend(living.filter_map(|house| house.next().cloned()));
        });
        callers
    }

    /// Every instance there ever was.
    pub(crate) fn with_houses<T>(&self, look: impl FnOnce(&mut Vec<House>) -> T) -> T {
        look(&mut self.houses.lock().unwrap())
    }

    /// The instance that takes calls at a port, if one does.
    pub(crate) fn with_house(&self, port: u16, change: impl FnOnce(&mut House)) {
        let mut houses = self.houses.lock().unwrap();
        if let Some(house) = houses.iter_mut().find(|house| house.port == port && house.is_open()) {
            change(house);
        }
    }

    fn seams(&self) -> Arc<Seams> {
        let process = ProcessId(self.processes.fetch_add(1, Ordering::Relaxed));
        self.executor.seams(process, self.seed)
    }

    /// Opens another instance at a port.
    fn open(&self, port: u16) {
        let (seams, instance) = (self.seams(), self.instances.fetch_add(1, Ordering::Relaxed));
        let config = self.server_config();
        let has_next = self.setting.has_tiers && port != BACK;
        let next = has_next.then(|| self.client(NEXT + instance, BACK, Arc::clone(&seams)));
        let (at, with) = ((port, instance), (config, next));
        let told = (&self.passed_on, &self.complaints);
        let house = House::open(&self.net, seams, &self.executor, at, with, told);
        self.houses.lock().unwrap().push(house);
    }

    fn client(&self, number: u64, port: u16, seams: Arc<Seams>) -> Arc<Client> {
        let config = self.client_config();
        let around = (&self.executor, &self.net, seams);
        let excuses = expect::Excuses::of(&self.setting, &self.passed_on);
        Client::new(number, port, around, config, excuses, &self.complaints)
    }

    /// Another client.
    fn enter(&self, port: u16) -> Arc<Client> {
        let number = 1 + u64::try_from(self.clients.lock().unwrap().len()).unwrap();
        let client = self.client(number, port, self.seams());
        self.clients.lock().unwrap().push(Arc::clone(&client));
        client
    }

    /// Has a client make calls, so many by each of its callers, which are tasks of its process.
    fn set_to_work(self: &Arc<Self>, client: &Arc<Client>, calls: u64, random: &mut Random) {
        for _ in 0..self.setting.callers {
            let (at_work, client) = (AtWork::new(self), Arc::clone(client));
            let (habits, random) = (self.setting.habits.clone(), random.fork());
            self.executor.spawn(client.seams.process(), async move {
                client.work(calls, habits, random).await;
                drop(at_work);
            });
        }
    }

    /// Where no call may be lost, what cuts connections off is as patient as it is by default.
    fn client_config(&self) -> ClientConfig {
        let random = &mut *self.random.lock().unwrap();
        let mut config = ClientConfig::default();
        config.in_flight_calls_max = random.pick(&[1, 4, 1024, 1024, 1024]);
        config.queued_calls_max = random.pick(&[2, 16_384]);
        config.wait_for_ready = random.percent(30);
        if self.setting.has_windows {
            config.window_connection = random.pick(&WINDOWS);
        }
        if !self.setting.is_lossless() {
            config.connect_timeout = ms(random.pick(&[100, 1000, 5000]));
            config.handshake_timeout = ms(random.pick(&[500, 5000]));
            config.keepalive.silence = ms(random.pick(&[1000, 5000]));
            config.keepalive.patience = ms(random.pick(&[1000, 5000]));
            config.frame_timeout = ms(random.pick(&[500, 5000]));
            config.write_timeout = ms(random.pick(&[1000, 10_000]));
        }
        config
    }

    fn server_config(&self) -> ServerConfig {
        let random = &mut *self.random.lock().unwrap();
        let mut config = ServerConfig::default();
        config.calls_max = random.pick(&[2, 8, 1024, 1024]);
        config.linger_timeout = ms(random.pick(&[50, 1000]));
        config.idle_timeout = ms(random.pick(&[300, 300_000, 300_000]));
        config.connection_age = ms(random.pick(&[100, 300, 1000, 1_800_000, 1_800_000]));
        config.drain_timeout = ms(10_000);
        if self.setting.has_windows {
            // What is forgotten of a window shows where a connection lasts.
            config.window_connection = random.pick(&WINDOWS);
            config.idle_timeout = ms(300_000);
            config.connection_age = ms(random.pick(&[300, 1_800_000, 1_800_000, 1_800_000]));
            config.in_flight_bytes_max = random.pick(&[150_000, 8_388_608, 8_388_608]);
        }
        if !self.setting.is_lossless() {
            config.drain_timeout = ms(random.pick(&[200, 2000, 10_000]));
            config.handshake_timeout = ms(random.pick(&[500, 5000]));
            config.keepalive.silence = ms(random.pick(&[1000, 5000]));
            config.keepalive.patience = ms(random.pick(&[1000, 5000]));
            config.frame_timeout = ms(random.pick(&[500, 5000]));
            config.write_timeout = ms(random.pick(&[1000, 10_000]));
            config.server_calls_max = random.pick(&[8, 16_384]);
            if !self.setting.has_windows {
                config.in_flight_bytes_max = random.pick(&[100_000, 8_388_608]);
            }
        }
        config
    }

    /// Kills the instance at a port; another one opens after a while.
    pub(crate) fn kill(self: &Arc<Self>, port: u16, gone: Gone, for_us: u64) {
        let mut killed = None;
        self.with_house(port, |house| {
            let next = house.next().cloned();
            house.bury(next.iter().flat_map(|next| self.tap.sent_by(next.number)).collect());
            killed = Some((house.process, next));
        });
        let Some((process, next)) = killed else { return };
        self.kill_process(process, gone);
        next.iter().for_each(|next| next.release());
        self.open_after(port, for_us);
    }

    /// Kills a client: its calls, its connections, its tasks are gone at once. `again` after a
    /// while another one makes the calls that were left.
    pub(crate) fn crash(
        self: &Arc<Self>,
        client: &Arc<Client>,
        gone: Gone,
        again: Option<(u64, Random)>,
    ) {
        let number = client.number;
        self.executor.note("crash", [number, gone as u64, 0], || format!("{number}, {gone:?}"));
        client.crash(&self.tap.sent_by(number));
        self.kill_process(client.seams.process(), gone);
        client.release();
        let Some((after_us, mut random)) = again else { return };
        let Setting { callers, calls_each, .. } = self.setting;
        let left = (callers * calls_each).saturating_sub(client.issued());
        let (world, port, at_work) = (Arc::clone(self), client.port, AtWork::new(self));
        self.executor.spawn(GOD, async move {
            world.executor.sleep_us(after_us).await;
            let client = world.enter(port);
            world.set_to_work(&client, left.div_ceil(callers), &mut random);
            drop(at_work);
        });
    }

    fn kill_process(&self, process: ProcessId, gone: Gone) {
        for link in self.net.links() {
            let Some(at) = link.processes.iter().position(|known| *known == process) else {
                continue;
            };
            match gone {
                Gone::Closed => {}
                Gone::Reset => link.cut(),
                Gone::Silent => link.vanish(true, true),
            }
            link.freeze(if at == 0 { Side::Client } else { Side::Server });
        }
        self.net.unlisten(process);
        self.executor.kill(process);
    }

    /// Has the instance at a port drain; another one opens after a while.
    pub(crate) fn restart(self: &Arc<Self>, port: u16, for_us: u64) {
        let mut is_there = false;
        self.with_house(port, |house| {
            is_there = true;
            house.drain();
        });
        match (is_there, for_us) {
            (false, _) => {}
            (true, 0) => self.open(port),
            (true, _) => self.open_after(port, for_us),
        }
    }

    fn open_after(self: &Arc<Self>, port: u16, wait_us: u64) {
        let world = Arc::clone(self);
        self.executor.spawn(GOD, async move {
            world.executor.sleep_us(wait_us).await;
            if !world.is_healing() {
                world.open(port);
            }
        });
    }

    /// No faults from here on.
    fn heal(&self) {
        self.executor.note("heal", [0; 3], || String::from("no faults from here on"));
        self.is_healing.store(true, Ordering::Relaxed);
        let tells = self.random.lock().unwrap().flip();
        self.net.heal(tells);
        for port in self.ports() {
            let mut is_open = false;
            self.with_house(*port, |_| is_open = true);
            if !is_open {
                self.open(*port);
            }
        }
    }

    /// Every channel must answer a call within a bound, all at the same time.
    async fn converge(self: &Arc<Self>) {
        for client in self.clients() {
            let (world, at_work) = (Arc::clone(self), AtWork::new(self));
            self.executor.spawn(GOD, async move {
                world.recover(&client).await;
                drop(at_work);
            });
        }
        while self.at_work() > 0 {
            self.executor.sleep_us(LOOK_EVERY_US).await;
        }
    }

    async fn recover(&self, client: &Client) {
        let until_us = self.executor.now_us() + expect::CONVERGED_AFTER_US;
        loop {
            let plan = if self.setting.has_tiers { Plan::relayed } else { Plan::plain };
            let result = client.call(plan(expect::FRESH_CALL)).await;
            if matches!(result, Some(Ok(_))) {
                return;
            }
            if self.executor.now_us() > until_us {
                let number = client.number;
                self.complaints.add(format!("client {number} does not recover: {result:?}"));
                return;
            }
            self.executor.sleep_us(LOOK_EVERY_US).await;
        }
    }

    /// Waits until all is at rest: handlers that nobody waits for any more have ended, and who
    /// talked to nobody has found out.
    async fn settle(&self) {
        for _ in 0..expect::SETTLED_AFTER_US / LOOK_EVERY_US {
            self.executor.sleep_us(LOOK_EVERY_US).await;
            if expect::unrest(self).is_empty() {
                return;
            }
        }
        for unrest in expect::unrest(self) {
            self.complaints.add(unrest);
        }
    }

    /// Lets the channels go, drains the servers, and waits for everything to end.
    async fn close(&self) {
        for client in self.clients() {
            client.release();
        }
        self.with_houses(|houses| houses.iter_mut().for_each(House::drain));
        for _ in 0..expect::CLOSED_AFTER_US / LOOK_EVERY_US {
            self.executor.sleep_us(LOOK_EVERY_US).await;
            let is_quiet = |process| self.executor.tasks_of(process) == 0;
            let are_houses = self.with_houses(|houses| {
                houses.iter().all(|house| house.is_killed() || is_quiet(house.process))
            });
            let are_clients = self.clients().iter().all(|c| is_quiet(c.seams.process()));
            if are_houses && are_clients {
                return;
            }
        }
    }

    /// Callers that have calls to make.
    pub(crate) fn at_work(&self) -> u64 {
        self.at_work.load(Ordering::Relaxed)
    }
}

impl AtWork {
    fn new(world: &Arc<World>) -> Self {
        world.at_work.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(world))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deadlock => f.write_str("deadlock: nothing is ready and no timer is set"),
            Self::Livelock => f.write_str("livelock: tasks wake each other without end"),
        }
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The process of the simulation itself.
pub(crate) const GOD: ProcessId = ProcessId(0);
/// Servers that clients know.
const FRONT: [u16; 2] = [7401, 7402];
/// The server that only servers know.
pub(crate) const BACK: u16 = 7403;
const BOTH_TIERS: [u16; 3] = [FRONT[0], FRONT[1], BACK];
/// Servers are clients from here on, by instance.
const NEXT: u64 = 1_000_000;
const LOOK_EVERY_US: u64 = 50_000;
/// Of bytes of pieces that are taken at a time; 0 is the smallest there is.
const WINDOWS: [u32; 4] = [0, 0, 200_000, 4 << 20];
