//! Races: real threads, which the simulation's seeded executor does not have.
//!
//! Two services, over memory or TCP, are drained and replaced all the time, while many channels
//! come and go, and calls are made, dropped and late on all of them. With 2 and with 4 worker
//! threads, on whatever cores there are: the schedule is the machine's, so this finds no bug for
//! certain, and what it finds may not be seen again. Hence it judges all it can: connections end by
//! drains alone, so the ledger allows no unknown outcome (L6); and when all is over no task, no
//! state of a connection, no call and no byte is left (L9).
//!
//! What it does not see: a wake that was forgotten is mostly made up for by the next call on the
//! same connection. The simulation's quiet seeds see it.
//!
//! Invariant: nothing waits for time to pass but the workload, which has a second and a half.
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchback::driver::{Runtime, ServerTotals, Spawn};
use switchback::transport::{
    Accept, Accepting, Address, Connect, Connecting, Stream, TcpAcceptor, TcpConnector, duplex,
};
use switchback::{Channel, ClientConfig, Error, ErrorKind, Server};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::ledger::{self, Rest, Rules, ServerLog, Verdict};
use crate::ledgered::caller::Client;
use crate::ledgered::house::{Desk, Watched};
use crate::ledgered::{Folder, Random, Time, alone, beat, rules};
use crate::support::MEM_BYTES;

/// On two workers over memory.
#[test]
fn two_workers_in_memory() {
    assert_clean(2, Way::Memory);
}

/// On four workers over memory.
#[test]
fn four_workers_in_memory() {
    assert_clean(4, Way::Memory);
}

/// On two workers over TCP.
#[test]
fn two_workers_over_tcp() {
    assert_clean(2, Way::Tcp);
}

/// On four workers over TCP.
#[test]
fn four_workers_over_tcp() {
    assert_clean(4, Way::Tcp);
}

/// What connections are made of.
#[derive(Clone, Copy, Debug)]
enum Way {
    Memory,
    Tcp,
}

/// What a workload came to.
struct Trial {
    verdict: Verdict,
    restarts: u64,
    renewals: u64,
    /// What was left, and servers that did not end in good order.
    wrong: Vec<String>,
}

/// A service: an instance that takes calls, and those before it.
struct Place {
    way: Way,
    folder: Arc<Folder>,
    time: Time,
    seams: Arc<Counted>,
    /// Where the newest instance is.
    door: Mutex<Door>,
    instances: Arc<AtomicU64>,
    running: Mutex<Vec<Instance>>,
    restarts: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone)]
enum Door {
    Closed,
    Memory(mpsc::Sender<Stream>),
    Tcp(Address),
}

/// A server from its start to the end of its drain.
struct Instance {
    desk: Arc<Desk>,
    totals: Arc<ServerTotals>,
    /// Gone when it was told to drain.
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), Error>>,
}

/// Connects to whatever instance is the newest.
struct Finder(Arc<Place>);

struct MemoryAcceptor(tokio::sync::Mutex<mpsc::Receiver<Stream>>);

/// Tokio's tasks, counted. Every connection, server and channel holds it, so that its own count
/// tells whether all are gone.
struct Counted {
    inner: Arc<dyn Spawn>,
    alive: watch::Sender<usize>,
}

fn assert_clean(workers: usize, way: Way) {
    let trial = run(workers, way);

    let Trial { verdict, restarts, renewals, wrong } = &trial;
    eprintln!("{workers} workers, {way:?}: {restarts} restarts, {renewals} renewals\n{verdict}");
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(wrong, &[] as &[String]);
    assert!(*restarts >= 4 && *renewals >= 8, "{restarts} restarts, {renewals} renewals");
    assert!(verdict.ok > 500, "many calls succeed\n{verdict}");
    for expected in ["app:ordered", "cancelled", "deadline"] {
        assert!(verdict.errors.contains_key(expected), "no call ended {expected}\n{verdict}");
    }
}

fn run(workers: usize, way: Way) -> Trial {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(workers)
        .enable_all()
        .build()
        .unwrap();
    let folder = Arc::new(Folder::new());
    let work = work(way, Arc::clone(&folder));
    let ended = runtime.block_on(async { tokio::time::timeout(WORK_MAX, work).await });
    runtime.shutdown_background();
    let (mut trial, lag_us) = ended.expect("the workload ends by itself");
    let rules = Rules { only_drains: true, ..rules(lag_us) };
    trial.verdict = ledger::check_with(&folder.files(), &rules).unwrap();
    trial
}

async fn work(way: Way, folder: Arc<Folder>) -> (Trial, u64) {
    let (time, lag) = (Time::new(), Arc::new(AtomicU64::new(0)));
    let beating = tokio::spawn(beat(time.clone(), Arc::clone(&lag)));
    let seams = Arc::new(Counted { inner: Runtime::tokio().spawn, alive: watch::Sender::new(0) });
    let instances = Arc::new(AtomicU64::new(0));
    let mut places = Vec::new();
    for _ in 0..PLACES {
        let place = Arc::new(Place {
            way,
            folder: Arc::clone(&folder),
            time: time.clone(),
            seams: Arc::clone(&seams),
            door: Mutex::new(Door::Closed),
            instances: Arc::clone(&instances),
            running: Mutex::default(),
            restarts: Mutex::default(),
        });
        place.open().await;
        places.push(place);
    }
    let (renewals, stalled) = clients(&places, &folder, &time).await;
    let mut wrong = Vec::new();
    if stalled > 0 && lag.load(Ordering::Relaxed) < LAG_US_MAX {
        wrong.push(format!("{stalled} calls ran out of time that had plenty"));
    }
    let mut last = Vec::new();
    for place in &places {
        last.extend(place.close(&mut wrong).await);
    }
    // Signals, not sleeps: the last task to end says so.
    let mut alive = seams.alive.subscribe();
    if tokio::time::timeout(REST_MAX, alive.wait_for(|count| *count == 0)).await.is_err() {
        wrong.push(format!("{} tasks run at rest", *seams.alive.borrow()));
    }
    for (desk, totals) in last {
        let load = totals.load();
        let count = |n: usize| u64::try_from(n).unwrap();
        desk.close(Rest { calls: count(load.calls), bytes: count(load.bytes), tasks: 0 });
    }
    let known = 1 + places.len();
    drop(alive);
    if Arc::strong_count(&seams) != known {
        wrong.push(format!("{} states of connections left", Arc::strong_count(&seams) - known));
    }
    beating.abort();
    let restarts = instances.load(Ordering::Relaxed) - PLACES;
    (Trial { verdict: Verdict::default(), restarts, renewals, wrong }, lag.load(Ordering::Relaxed))
}

/// Has all clients do their calls; says how often one took a new channel, and how many calls ran
/// out of time for no reason.
async fn clients(places: &[Arc<Place>], folder: &Folder, time: &Time) -> (u64, u64) {
    let (until, mut random) = (time.now() + WORK_TIME, Random(1));
    let renewals = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for (number, place) in (1..=CLIENTS).zip(places.iter().cycle()) {
        let log = folder.0.join(format!("client-{number}"));
        let client = Arc::new_cyclic(|me: &std::sync::Weak<Client>| {
            let (me, place, renewals) = (me.clone(), Arc::clone(place), Arc::clone(&renewals));
            let channel = place.channel();
            let disturb = move |seq: u64, _| match seq % DISTURBED_EVERY {
                // Not all at once: each has its own turn.
                at if at == 5 * number => place.restart(),
                100 | 200 => {
                    let client = me.upgrade().expect("it makes a call");
                    client.renew(place.channel());
                    renewals.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            };
            Client::new(&log, number, channel, time, Box::new(disturb))
        });
        clients.push(client);
    }
    let mut callers = Vec::new();
    for (client, callers_each) in clients.iter().zip(CALLERS.into_iter().cycle()) {
        for _ in 0..callers_each {
            let random = Random(random.next());
            callers.push(tokio::spawn(Arc::clone(client).work(u64::MAX, Some(until), random)));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let mut stalled = 0;
    for client in clients {
        client.close();
        stalled += client.stalled();
    }
    (renewals.load(Ordering::Relaxed), stalled)
}

impl Place {
    fn runtime(&self) -> Runtime {
        let Runtime { clock, random, .. } = Runtime::tokio();
        let spawn: Arc<dyn Spawn> = Arc::<Counted>::clone(&self.seams);
        Runtime { spawn, clock: Arc::new(Watched(clock)), random }
    }

    /// A channel to whatever instance takes calls.
    fn channel(self: &Arc<Self>) -> Channel {
        let mut config = ClientConfig::default();
        config.wait_for_ready = true; // The newest instance may be no more when it is called.
        let builder = Channel::builder().config(config).runtime(self.runtime());
        builder.transport(Finder(Arc::clone(self))).unwrap()
    }

    /// Opens another instance, and tells those before it to drain.
    async fn open(&self) {
        let instance = 1 + self.instances.fetch_add(1, Ordering::Relaxed);
        let log = ServerLog::create(&self.folder.0.join(format!("server-{instance}")), instance);
        let desk = Desk::new(log.unwrap(), instance, &self.time);
        let server = desk.methods().fold(Server::new().runtime(self.runtime()), Server::method);
        let (bound, door) = match self.way {
            Way::Memory => {
                let (sender, receiver) = mpsc::channel(BACKLOG);
                let acceptor = MemoryAcceptor(tokio::sync::Mutex::new(receiver));
                (server.listen(acceptor), Door::Memory(sender))
            }
            Way::Tcp => {
                let any = Address::parse("tcp://127.0.0.1:0").unwrap();
                let acceptor = TcpAcceptor::bind(&any, false).await.unwrap();
                let address = acceptor.local_addr();
                (server.listen(acceptor), Door::Tcp(address))
            }
        };
        let bound = bound.unwrap();
        let totals = bound.totals();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = bound.serve_until(async { drop(stopped.await) });
        let ended = tokio::spawn(async { serving.await.map(drop) });
        let mut running = self.running.lock().unwrap();
        *self.door.lock().unwrap() = door;
        for before in running.iter_mut() {
            before.stop = None;
        }
        running.push(Instance { desk, totals, stop: Some(stop), ended });
    }

    /// Replaces the instance that takes calls, in a task that `close` waits for.
    fn restart(self: &Arc<Self>) {
        let place = Arc::clone(self);
        let restart = tokio::spawn(async move { place.open().await });
        self.restarts.lock().unwrap().push(restart);
    }

    /// Drains the last instance, and waits for all.
    async fn close(&self, wrong: &mut Vec<String>) -> Vec<(Arc<Desk>, Arc<ServerTotals>)> {
        let restarts = std::mem::take(&mut *self.restarts.lock().unwrap());
        for restart in restarts {
            restart.await.unwrap();
        }
        *self.door.lock().unwrap() = Door::Closed;
        let running = std::mem::take(&mut *self.running.lock().unwrap());
        let mut ended = Vec::new();
        for Instance { desk, totals, stop, ended: serving } in running {
            drop(stop);
            match serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrong.push(error.to_string()),
                Err(panic) => wrong.push(panic.to_string()),
            }
            if !desk.is_empty_soon().await {
                wrong.push(String::from("an execution outlived the drain"));
            }
            ended.push((desk, totals));
        }
        ended
    }
}

impl Connect for Finder {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let door = self.0.door.lock().unwrap().clone();
            let refused = || Error::from(ErrorKind::Refused { address: self.address() });
            match door {
                Door::Closed => Err(refused()),
                Door::Memory(sender) => {
                    let (client_end, server_end) = duplex(MEM_BYTES);
                    sender.send(server_end).await.map_err(|_| refused())?;
                    Ok(client_end)
                }
                Door::Tcp(address) => TcpConnector::new(address, false).connect().await,
            }
        })
    }

    fn address(&self) -> String {
        String::from("the newest instance")
    }
}

impl Accept for MemoryAcceptor {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(async {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok(stream),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> Address {
        Address::Tcp { host: String::from("races"), port: 0 }
    }
}

impl Spawn for Counted {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let alive = Alive::new(&self.alive);
        self.inner.spawn(Box::pin(async move {
            let _alive = alive; // Dropped after the task.
            task.await;
        }));
    }

    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>) {
        let alive = Alive::new(&self.alive);
        self.inner.spawn_blocking(Box::new(move || {
            task();
            drop(alive);
        }));
    }

    fn is_multi_thread(&self) -> bool {
        self.inner.is_multi_thread()
    }
}

/// One task.
struct Alive(watch::Sender<usize>);

impl Alive {
    fn new(alive: &watch::Sender<usize>) -> Self {
        alive.send_modify(|count| *count += 1);
        Self(alive.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

const PLACES: u64 = 2;
const CLIENTS: u64 = 12;
/// Of a client: with few of them nobody hides that one was forgotten.
const CALLERS: [u64; 3] = [2, 3, 16];
/// One restart and two renewals in so many calls of a client.
const DISTURBED_EVERY: u64 = 300;
const BACKLOG: usize = 64;
/// A machine that is later than this by itself may be late with anything.
const LAG_US_MAX: u64 = 250_000;
const WORK_TIME: Duration = Duration::from_millis(1500);
/// The longest drain, and the longest linger.
const REST_MAX: Duration = Duration::from_secs(12);
const WORK_MAX: Duration = Duration::from_secs(60);
