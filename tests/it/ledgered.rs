//! A workload that has everything go wrong that may, with the ledger as its judge.
//!
//! Two servers, four clients, real TCP. Handlers answer at once, after a while, as tasks, on
//! threads; callers drop calls; deadlines pass, on handlers too that do not care; connections are
//! cut and drained under load. One server takes so few calls that it refuses the first burst of
//! every connection: a client may send 64 before it knows the limit. In every other workload some
//! calls carry long texts there and back, in pieces and within the smallest windows. Both sides
//! write ledger files, and the checker, which knows nothing of switchback, compares them.
//!
//! Invariants: a seed fixes what is called, not when: the schedule is the machine's. One workload
//! at a time: they would take each other's cores, and seeded bugs are seeded in the process.
#![expect(clippy::unwrap_used, reason = "a workload that cannot be set up has failed")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use switchback::driver::{Clock, Runtime};
use switchback::{Channel, ClientConfig};

use crate::ledger::{self, Rules, Verdict};
use crate::ledgered::caller::Client;
use crate::ledgered::house::House;

pub(crate) mod caller;
pub(crate) mod house;

/// What every method of the workload takes.
#[derive(Debug, Deserialize, Serialize)]
struct Order {
    client: u64,
    seq: u64,
    hold_us: u64,
    yields: u64,
    fails: bool,
    /// Comes back; long ones go in pieces.
    pad: String,
}

/// What every method answers, and its error too: which execution served which call.
#[derive(Debug, Deserialize, Serialize)]
struct Receipt {
    nonce: u64,
    client: u64,
    seq: u64,
    instance: u64,
    version: u16,
    pad: String,
}

/// What a workload came to.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) verdict: Verdict,
    /// Calls that were refused with OVERLOADED.
    pub(crate) overloaded: u64,
    pub(crate) connections: usize,
    /// Connections that ended as no workload explains.
    pub(crate) faults: Vec<String>,
    /// How late a timer came at worst, beside the workload.
    lag_us: u64,
}

/// Runs the workload of a seed and has its ledger judged.
pub(crate) fn run(seed: u64) -> Trial {
    let _alone = alone();
    let folder = Folder::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Few: blocking calls wait for a thread beyond their deadlines.
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let work = work(seed, &folder);
    let trial = runtime.block_on(async { tokio::time::timeout(WORK_MAX, work).await });
    runtime.shutdown_background();
    let mut trial = trial.expect("the workload ends by itself");
    trial.verdict = ledger::check_with(&folder.files(), &trial.rules()).unwrap();
    trial
}

/// Held by whoever runs a workload: they would take each other's cores.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(seed: u64, folder: &Folder) -> Trial {
    let mut random = Random(seed);
    let time = Time::new();
    let lag = Arc::new(AtomicU64::new(0));
    let beating = tokio::spawn(beat(time.clone(), Arc::clone(&lag)));
    let mut houses = Vec::new();
    for (instance, calls_max) in (1..).zip(CALLS_MAX) {
        let log = folder.0.join(format!("server-{instance}"));
        houses.push(Arc::new(House::open(&log, instance, calls_max, &time).await));
    }
    let mut clients = Vec::new();
    for (number, house) in (1..=CLIENTS).zip(houses.iter().cycle()) {
        let log = folder.0.join(format!("client-{number}"));
        let mut config = ClientConfig::default();
        config.window_connection = WINDOW;
        let channel = Channel::builder().config(config).lazy(&house.address).unwrap();
        let house = Arc::clone(house);
        let disturb = move |seq: u64, draw: u64| match seq % DISTURBED_EVERY {
            100 => house.cut(draw),
            200 => house.drain(draw),
            _ => {}
        };
        let client = Client::new(&log, number, channel, &time, Box::new(disturb));
        // They take time: what needs many short calls close together would show too seldom.
        clients.push(Arc::new(client.with_texts(seed % 2 == 1)));
    }
    let mut callers = Vec::new();
    for client in &clients {
        for _ in 0..CALLERS {
            let random = Random(random.next());
            callers.push(tokio::spawn(Arc::clone(client).work(CALLS_EACH, None, random)));
        }
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let overloaded = clients.iter().map(|client| client.close()).sum();
    let garbled = clients.iter().filter(|client| client.has_other_bytes()).count();
    drop(clients); // Their channels close, and they hold the houses.
    let (mut connections, mut faults) = (0, Vec::new());
    if garbled > 0 {
        faults.push(format!("to {garbled} clients other bytes came back than were sent"));
    }
    for house in houses {
        let seen = Arc::into_inner(house).expect("the clients are gone").close().await;
        connections += seen.connections;
        faults.extend(seen.faults);
    }
    beating.abort();
    let lag_us = lag.load(Ordering::Relaxed);
    Trial { verdict: Verdict::default(), overloaded, connections, faults, lag_us }
}

/// Notes by how much a plain timer is late, at most: this machine may have other things to do.
pub(crate) async fn beat(time: Time, lag: Arc<AtomicU64>) {
    loop {
        let due = time.now() + BEAT_EVERY;
        time.clock.sleep_until(due).await;
        lag.fetch_max(time.us(time.now()) - time.us(due), Ordering::Relaxed);
    }
}

impl Trial {
    const fn rules(&self) -> Rules {
        rules(self.lag_us)
    }
}

/// That calls end within 15 ms of their deadlines is shown on virtual time. Here a call's end may
/// have to wait for its turn some times over.
pub(crate) const fn rules(lag_us: u64) -> Rules {
    let Rules { transit_us, grace_us, .. } = Rules::REAL;
    let wait_us = 100_000 + 4 * lag_us;
    let (transit_us, grace_us) = (transit_us + wait_us, grace_us + wait_us);
    Rules { transit_us, grace_us, ..Rules::REAL }
}

/// The clock of both sides, and its origin.
#[derive(Clone)]
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    origin: Instant,
}

impl Time {
    pub(crate) fn new() -> Self {
        let clock = Runtime::tokio().clock;
        let origin = clock.now();
        Self { clock, origin }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// As the ledger writes it.
    fn us(&self, at: Instant) -> u64 {
        at.duration_since(self.origin).as_micros().try_into().unwrap()
    }
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.below(end - start)
    }
}

/// A folder for the logs of one workload, gone when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("ledgered-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's temporary folder.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Clients of the first server keep to eight calls, once they know.
const CALLS_MAX: [u32; 2] = [8, 1024];
const CLIENTS: u64 = 4;
/// Callers of one client: more than the first server takes, fewer than may be sent unseen.
const CALLERS: u64 = 24;
const CALLS_EACH: u64 = 60;
/// One cut and one drain in so many calls of a client.
const DISTURBED_EVERY: u64 = 400;
/// The smallest there is, in both directions.
pub(crate) const WINDOW: u32 = 65_536;
const WORK_MAX: Duration = Duration::from_secs(40);
const BEAT_EVERY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is lost, doubled, mixed up or told wrong, whatever goes wrong: for several seeds
    /// the ledger is clean, no connection ended by a broken protocol, and everything that should
    /// have gone wrong did.
    #[test]
    fn the_ledger_stays_clean() {
        let mut outcomes = std::collections::BTreeMap::<String, u64>::new();
        let mut overloaded = 0;
        for seed in 1..=3 {
            let trial = run(seed);

            let Trial { verdict, faults, connections, lag_us, .. } = &trial;
            eprintln!("seed {seed}: {connections} connections, lag {lag_us} us\n{verdict}");
            assert!(verdict.is_clean(), "seed {seed}:\n{verdict}");
            assert_eq!(faults, &[] as &[String], "seed {seed}");
            assert_eq!(verdict.calls, CLIENTS * CALLERS * CALLS_EACH);
            assert!(verdict.ok * 10 > verdict.calls, "seed {seed}: many calls succeed\n{verdict}");
            for (outcome, count) in &verdict.errors {
                *outcomes.entry(outcome.clone()).or_default() += count;
            }
            overloaded += trial.overloaded;
        }

        for expected in ["app:ordered", "cancelled", "deadline", "refused", "unknown"] {
            assert!(outcomes.contains_key(expected), "no call ended {expected}: {outcomes:?}");
        }
        assert!(overloaded > 0, "no call was refused for want of room: {outcomes:?}");
    }
}
