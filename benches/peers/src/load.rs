//! The client process: connects, warms up, measures for a while, prints one line.
//!
//! Every caller is a closed loop with one call in flight. It reads the clock once a call; whether
//! the call counts follows from that reading alone, so that nothing has to be signalled. Latencies
//! go to one histogram per thread: one per caller would be megabytes and push the peers' memory
//! out of the caches.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::message;
use crate::peers::{Peer, Visit};
use crate::usage::{Asked, Span, Usage, watch};
use crate::workload::{Kind, Workload};

/// What a client process is told to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub workload: Workload,
    pub server: SocketAddr,
    pub control: SocketAddr,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What one round of one workload gave.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Round {
    /// Calls a second, MiB a second; 0 in the idle row.
    pub rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// CPU-seconds per million calls, which are microseconds per call.
    pub cpu_us_client: f64,
    pub cpu_us_server: f64,
    /// Per call; 0 unless they are counted.
    pub allocs_client: f64,
    pub allocs_server: f64,
    /// Server memory per connection; in the idle row alone.
    pub kib_per_connection: Option<f64>,
}

/// What the callers of one connection are to do.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub workload: Workload,
    pub from: Instant,
    pub until: Instant,
    /// Which connection of the workload.
    pub connection: usize,
}

/// One caller's part of a [`Job`].
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub job: Job,
    pub number: u64,
}

impl Order {
    /// Does it. Runs where the peer's client runs.
    async fn run<P: Peer>(self) -> Result<Round, Fault> {
        if self.workload.kind == Kind::Idle {
            return self.idle::<P>().await;
        }
        let asked = Asked::connect(self.control)?;
        let mut clients = Vec::new();
        for _ in 0..self.workload.connections {
            let client = P::connect(self.server).await?;
            P::echo(&client, 1).await?.check(1)?;
            clients.push(client);
        }
        let from = Instant::now() + self.warm_up;
        let until = from + self.measured;
        let watching = tokio::task::spawn_blocking(move || watch(asked, from, until));
        let mut callers = Vec::new();
        for (connection, client) in clients.into_iter().enumerate() {
            let job = Job { workload: self.workload, from, until, connection };
            callers.extend(P::start(client, job));
        }
        let end = tokio::time::Instant::from_std(until + PATIENCE);
        for caller in callers {
            let ended = tokio::time::timeout_at(end, caller).await;
            ended
                .map_err(|_| Fault::new(format!("a call is not answered in {PATIENCE:?}")))???;
        }
        Ok(self.round(&watching.await??))
    }

    fn round(&self, span: &Span) -> Round {
        let all = merged();
        let calls = all.len() as f64;
        let rate = calls / self.measured.as_secs_f64();
        // The readings of the processes are a little apart from the callers' window.
        let per_call = |[before, after]: [Usage; 2], what: fn(Usage) -> u64| {
            (what(after) - what(before)) as f64 / (rate * span.seconds)
        };
        let cpu = |usage: Usage| usage.cpu_ns;
        let allocations = |usage: Usage| usage.allocations;
        let at = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e3;
        Round {
            rate: match self.workload.kind {
                Kind::Blob(bytes) => rate * bytes as f64 / f64::from(1 << 20),
                Kind::Echo | Kind::Idle => rate,
            },
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            cpu_us_client: per_call(span.client, cpu) / 1e3,
            cpu_us_server: per_call(span.server, cpu) / 1e3,
            allocs_client: per_call(span.client, allocations),
            allocs_server: per_call(span.server, allocations),
            kib_per_connection: None,
        }
    }

    /// Opens all connections with one call on each, lets them rest, and calls once more.
    async fn idle<P: Peer>(self) -> Result<Round, Fault> {
        let mut asked = Asked::connect(self.control)?;
        // What the server needs once and for all is not the connections'.
        let first = P::connect(self.server).await?;
        P::echo(&first, 0).await?.check(0)?;
        let before = asked.memory()?;
        let mut clients = Vec::new();
        for id in 0..self.workload.connections {
            let client = P::connect(self.server).await?;
            P::echo(&client, id as u64).await?.check(id as u64)?;
            clients.push(client);
        }
        tokio::time::sleep(IDLE_REST).await;
        let after = asked.memory()?;
        let began = Instant::now();
        let middle = clients.len() / 2;
        P::echo(&clients[middle], 9).await?.check(9)?;
        let taken_us = began.elapsed().as_secs_f64() * 1e6;
        let grown_kib = after.pss_kib.saturating_sub(before.pss_kib) as f64;
        Ok(Round {
            p50_us: taken_us,
            kib_per_connection: Some(grown_kib / clients.len() as f64),
            ..Round::default()
        })
    }
}

impl Visit for Order {
    type Out = Result<Round, Fault>;

    async fn visit<P: Peer>(self) -> Self::Out {
        self.run::<P>().await
    }
}

/// The callers of one connection, each started by `start`, which is where a peer says whether its
/// client may change threads.
pub fn each(
    job: Job,
    start: impl FnMut(Caller) -> JoinHandle<Result<(), Fault>>,
) -> Vec<JoinHandle<Result<(), Fault>>> {
    let first = job.connection * job.workload.in_flight;
    let callers = first..first + job.workload.in_flight;
    callers.map(|number| Caller { job, number: number as u64 }).map(start).collect()
}

/// Calls until the job's end.
///
/// # Errors
/// With the first call that fails or has a wrong answer.
pub async fn call<P: Peer>(client: P::Client, caller: Caller) -> Result<(), Fault> {
    let Job { workload, from, until, .. } = caller.job;
    let body = match workload.kind {
        Kind::Blob(bytes) => Some(message::body(bytes, caller.number)),
        Kind::Echo | Kind::Idle => None,
    };
    let mut id = caller.number << 40;
    let mut began = Instant::now();
    while began < until {
        match &body {
            Some(body) => {
                let echoed = P::blob(&client, body.clone()).await?;
                message::check_body(body, echoed.as_ref())?;
            }
            None => P::echo(&client, id).await?.check(id)?,
        }
        let ended = Instant::now();
        if ended >= from && ended < until {
            record(ended - began, 1);
        }
        began = ended;
        id += 1;
    }
    Ok(())
}

/// Notes that `calls` calls have ended, each after `taken`.
pub fn record(taken: Duration, calls: u64) {
    let taken_ns = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
    MINE.with(|mine| {
        let mut mine = mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.saturating_record_n(taken_ns, calls);
    });
}

type Shared = Arc<Mutex<Histogram<u64>>>;

static ALL: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: Shared = {
        let mine = Arc::new(Mutex::new(empty()));
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&mine));
        mine
    };
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("1 < the maximum, 3 digits of 5")
}

fn merged() -> Histogram<u64> {
    let mut all = empty();
    for one in ALL.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let one = one.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(&*one).expect("the same bounds");
    }
    all
}

/// Nothing that is measured takes longer: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// How long the last calls may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the connections of the idle row rest before the server's memory is read.
const IDLE_REST: Duration = Duration::from_secs(1);
