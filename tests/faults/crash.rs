//! F1: a server that is killed at random moments, two hundred times, with calls under way.
//!
//! ```text
//!   8 callers of a method that may not be executed twice   told within 10 ms, truthfully
//!   8 callers of one that may                              tried again on the next server
//!   1 witness: a plain socket to the same server           sees FIN or RST, and when
//! ```
//!
//! Both sides write ledgers, on the server's side with every call handed to the system before its
//! handler does anything, so that a kill loses nothing; the judge compares them.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchback::service::Fingerprint;
use switchback::util::splitmix64;
use switchback::{Channel, Code, Stub};
use tokio::task::JoinHandle;

use crate::child::ServerSpec;
use crate::ledger::{self, Answer, ClientLog, Disposition, End, Issue, Outcome, Rules};
use crate::measure::{Lag, Times, alone, now, run, say, wall_us};
use crate::role::{ORDERS, Order, Plain, Receipt};

const KILLS: u64 = 200;
const CALLERS: u64 = 8;
const TIMEOUT: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);
const SEED: u64 = 1;

/// The callers, and what they noted.
pub(crate) struct Crowd {
    channel: Channel,
    log: ClientLog,
    issued: AtomicU64,
    is_over: AtomicBool,
    /// When each call that may not be repeated began and ended, and whether by its connection.
    once: Mutex<Vec<(Instant, Instant, bool)>>,
    /// Calls of the other method that needed another attempt, and were answered.
    repeated: AtomicU64,
}

impl Crowd {
    pub(crate) async fn of(url: &str, log: &Path) -> Arc<Self> {
        Arc::new(Self {
            channel: Channel::connect(url).await.unwrap(),
            log: ClientLog::create(log, 1).unwrap(),
            issued: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            once: Mutex::default(),
            repeated: AtomicU64::new(0),
        })
    }

    /// Half of the callers call what may not be executed twice.
    pub(crate) fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let callers = (0..2 * CALLERS).map(|n| {
            let crowd = Arc::clone(self);
            tokio::spawn(async move { crowd.call(n < CALLERS).await })
        });
        callers.collect()
    }

    /// Lets the callers come to their ends.
    pub(crate) async fn finish(&self, callers: Vec<JoinHandle<()>>) {
        self.is_over.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }
        self.log.close().unwrap();
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }
}

/// Every call that is pending when its server dies has one outcome within 10 ms, and it is true;
/// those that may be repeated are, and the ledger is clean.
#[test]
fn a_server_may_be_killed_at_any_moment() {
    let _alone = alone();
    let folder = Folder::new();
    let (late, crowd) = run(kills(&folder.0));
    let verdict = ledger::check_with(&folder.files(), &RULES).unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    let (late, repeated) = (Times::new(late), crowd.repeated());
    say(&format!(
        "F1 {KILLS} kills: pending calls ended after FIN or RST: {late}; {repeated} calls repeated \
         and answered; {} calls, {:?}",
        verdict.calls, verdict.errors
    ));
    assert!(verdict.calls > KILLS * 5, "too few to mean something: {verdict}");
    assert!(repeated > KILLS / 4, "{repeated}");
    assert!(verdict.errors.contains_key("unknown"), "{verdict}");
}

/// Kills; by how much each call outlived its connection.
async fn kills(folder: &Path) -> (Vec<Duration>, Arc<Crowd>) {
    let mut spec = ServerSpec::at("tcp://127.0.0.1:0");
    spec.ledger = Some((folder.join("server-0"), 1));
    let mut server = spec.start();
    spec.at.clone_from(&server.url);
    let crowd = Crowd::of(&server.url, &folder.join("client")).await;
    let callers = crowd.start();
    let (lag, mut late) = (Lag::start(), Vec::new());
    for kill in 1..=KILLS {
        let witness = Witness::new(&server.url);
        tokio::time::sleep(MS * 20 + Duration::from_micros(splitmix64(SEED, kill) % 60_000)).await;
        lag.take();
        crowd.once.lock().unwrap().clear();
        spec.ledger = Some((folder.join(format!("server-{kill}")), kill + 1));
        let next = spec.clone();
        let (seen, begun) = tokio::task::spawn_blocking(move || {
            server.kill();
            (witness.seen(), next)
        })
        .await
        .unwrap();
        // All that was pending has ended by then, or is far too late.
        tokio::time::sleep(MS * 15).await;
        let lag = lag.take();
        for (from, to, is_lost) in crowd.once.lock().unwrap().iter() {
            if *is_lost && *from < seen && *to >= seen {
                late.push(*to - seen);
                assert!(*to - seen <= MS * 10 + lag, "kill {kill}: {:?}, lag {lag:?}", *to - seen);
            }
        }
        server = tokio::task::spawn_blocking(move || begun.start()).await.unwrap();
    }
    tokio::time::sleep(MS * 200).await;
    crowd.finish(callers).await;
    drop(server);
    (late, crowd)
}

impl Crowd {
    /// Makes one call after another.
    async fn call(&self, is_once: bool) {
        let name = ORDERS[usize::from(!is_once)];
        let stub: Stub<Order, Receipt, std::convert::Infallible> =
            Stub::infallible(name, 1, Fingerprint::UNCHECKED);
        let stub = if is_once { stub } else { stub.idempotent() };
        let stub: Plain<Order, Receipt> = Box::leak(Box::new(stub));
        while !self.is_over.load(Ordering::Relaxed) {
            let seq = self.issued.fetch_add(1, Ordering::Relaxed);
            let issued_at_us = wall_us();
            let deadline_at_us = issued_at_us + u64::try_from(TIMEOUT.as_micros()).unwrap();
            let (method, version) = (name, 1);
            let idempotent = !is_once;
            self.log
                .issue(Issue { seq, method, version, idempotent, issued_at_us, deadline_at_us })
                .unwrap();
            let order = Order { client: 1, seq, hold_ms: splitmix64(SEED, seq) % 20 };
            let call = self.channel.call(stub, order).timeout(TIMEOUT);
            let begun = now();
            let result = call.wait_for_ready(!is_once).await;
            let ended = now();
            if is_once {
                let is_lost = result.as_ref().is_err_and(|error| {
                    error.status().is_some_and(|status| status.code() == Code::CONNECTION_LOST)
                });
                self.once.lock().unwrap().push((begun, ended, is_lost));
            }
            let (outcome, disposition, answer) = match &result {
                Ok(receipt) => {
                    let Receipt { nonce, client, seq, instance, version, attempt } = *receipt;
                    self.repeated.fetch_add(u64::from(attempt > 0), Ordering::Relaxed);
                    let answer = Answer { nonce, client, seq, instance, version };
                    (Outcome::Ok, Disposition::Processed, Some(answer))
                }
                Err(error) => {
                    let (outcome, disposition) = told(error.status().unwrap());
                    (outcome, disposition, None)
                }
            };
            let ended_at_us = wall_us();
            self.log.end(End { seq, outcome, disposition, ended_at_us, answer }).unwrap();
            if result.is_err() {
                tokio::time::sleep(MS * 5).await;
            }
        }
    }
}

/// What the ledger calls it.
fn told(status: &switchback::Status) -> (Outcome<'static>, Disposition) {
    let disposition = match status.disposition() {
        switchback::Disposition::NotProcessed => Disposition::NotProcessed,
        switchback::Disposition::Maybe => Disposition::Maybe,
        switchback::Disposition::Processed => Disposition::Processed,
    };
    let outcome = match (status.code(), disposition) {
        // UNAVAILABLE: of a proxy, whose own connection was lost, or could not be had.
        (Code::CONNECTION_LOST | Code::UNAVAILABLE, Disposition::Maybe) => Outcome::Unknown,
        (Code::CONNECTION_LOST | Code::NOT_CONNECTED, _) => Outcome::NotSent,
        (Code::UNAVAILABLE, Disposition::NotProcessed) => Outcome::Refused,
        (Code::DEADLINE_EXCEEDED, _) => Outcome::Deadline,
        (code, _) => panic!("{code}: {status}"),
    };
    (outcome, disposition)
}

/// A socket beside the channel's, whose end is seen by a thread that does nothing else.
struct Witness(std::thread::JoinHandle<Instant>);

impl Witness {
    fn new(url: &str) -> Self {
        let mut socket = TcpStream::connect(url.trim_start_matches("tcp://")).unwrap();
        Self(std::thread::spawn(move || {
            // Nothing is said on it: it reads nothing until the end, whatever that is.
            let _end = socket.read(&mut [0; 64]);
            now()
        }))
    }

    fn seen(self) -> Instant {
        self.0.join().unwrap()
    }
}

/// A folder for ledgers, gone when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("switchback-faults-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's temporary folder.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Two processes on a machine that may have more to do than it has cores.
pub(crate) const RULES: Rules = Rules { grace_us: 500_000, ..Rules::REAL };
