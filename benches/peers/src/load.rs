//! The client process: connects, warms up, measures for a while, prints one line.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::caller::{self, Job, UPLOAD_BYTES};
use crate::fault::Fault;
use crate::peers::{Peer, Visit};
use crate::usage::{Asked, Used, watch};
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
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Round {
    /// Calls, or MiB each way, a second; 0 in the idle row.
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
    /// Calls taken back or timed out, per call that was measured.
    pub aside_per_call: f64,
    /// What was uploaded beside the calls.
    pub upload_mib_per_second: f64,
    /// Calls from the first connection on, warm-up included; what counts system calls needs it.
    pub calls: u64,
}

impl Visit for Order {
    /// Nothing if the machine was too busy for a figure: no call ended in the measured time, or
    /// the counters could not be read meanwhile.
    type Out = Result<Option<Round>, Fault>;

    async fn visit<P: Peer>(self) -> Self::Out {
        match self.workload.kind {
            Kind::Idle => self.idle::<P>().await.map(Some),
            _ => self.run::<P>().await,
        }
    }
}

impl Order {
    async fn run<P: Peer>(self) -> Result<Option<Round>, Fault> {
        let asked = Asked::connect(self.control)?;
        let mut clients = Vec::new();
        for _ in 0..self.workload.connections {
            clients.push(self.connect::<P>(1).await?);
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
        Ok(self.round(watching.await??))
    }

    /// A connection that has answered a call.
    async fn connect<P: Peer>(&self, id: u64) -> Result<P::Client, Fault> {
        let place = |fault: Fault| fault.at(&format!("connecting to {}", self.server));
        let connect = async {
            let client = P::connect(self.server).await?;
            P::echo(&client, id).await?.check(id)?;
            Ok(client)
        };
        let ended = tokio::time::timeout(PATIENCE, connect).await;
        ended.map_err(|_| place(Fault::new(SILENT.to_owned())))?.map_err(place)
    }

    fn round(&self, [client, server]: [Used; 2]) -> Option<Round> {
        let latencies = caller::latencies();
        if latencies.is_empty() || !client.is_measured() || !server.is_measured() {
            return None;
        }
        let seconds = self.measured.as_secs_f64();
        let rate = latencies.len() as f64 / seconds;
        let aside = caller::aside() as f64 / seconds;
        let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
        let upload_mib = aside * UPLOAD_BYTES as f64 / MIB;
        Some(Round {
            rate: match self.workload.kind {
                Kind::Blob(bytes) if self.workload.unit() == "MiB/s" => rate * bytes as f64 / MIB,
                _ => rate,
            },
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            cpu_us_client: client.cpu_us(),
            cpu_us_server: server.cpu_us(),
            allocs_client: client.allocations(),
            allocs_server: server.allocations(),
            kib_per_connection: None,
            aside_per_call: aside / rate,
            upload_mib_per_second: if self.workload.kind == Kind::Upload {
                upload_mib
            } else {
                0.0
            },
            calls: latencies.len(),
        })
    }

    /// Opens all connections with one call on each, lets them rest, and calls once more.
    async fn idle<P: Peer>(self) -> Result<Round, Fault> {
        let mut asked = Asked::connect(self.control)?;
        // What the server needs once and for all is not the connections'.
        let first = self.connect::<P>(0).await?;
        let before = asked.memory()?;
        let mut clients = Vec::new();
        for id in 0..self.workload.connections {
            clients.push(self.connect::<P>(id as u64).await?);
        }
        tokio::time::sleep(IDLE_REST).await;
        let after = asked.memory()?;
        let began = Instant::now();
        let middle = clients.len() / 2;
        P::echo(&clients[middle], 9).await?.check(9)?;
        let taken_us = began.elapsed().as_secs_f64() * 1e6;
        drop(first);
        let grown_kib = after.pss_kib.saturating_sub(before.pss_kib) as f64;
        Ok(Round {
            p50_us: taken_us,
            kib_per_connection: Some(grown_kib / clients.len() as f64),
            calls: clients.len() as u64,
            ..Round::default()
        })
    }
}

const MIB: f64 = 1_048_576.0;
const SILENT: &str = "the first call is not answered in 10 s";
/// How long the first call and the last ones may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the connections of the idle row rest before the server's memory is read.
const IDLE_REST: Duration = Duration::from_secs(1);
