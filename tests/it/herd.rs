//! F18: a thousand clients whose server goes and comes back.
//!
//! ```text
//!   0 s            3 s          recovery          last one is back
//!   |-- refused ----|-- accepted, as they come ----------|
//! ```
//!
//! What is counted: connections that the server takes, in slices of 100 ms, from its return until
//! all are back. A crowd that stayed in step would be one slice; here none may hold more than twice
//! the mean. The clock is paused, the random numbers are of a seed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchback::driver::{ConnectionHandle, Random, Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::transport::{Connect, Connecting, duplex};
use switchback::util::splitmix64;
use switchback::wire::VersionRange;
use switchback::{Channel, ClientConfig, Dispatch, ErrorKind, Router};

use crate::support::{echo, echo_stub, now};

const CLIENTS: usize = 1000;
const SLICE: Duration = Duration::from_millis(100);

/// A server that is there or not, for a crowd.
#[derive(Default)]
struct Town {
    is_down: AtomicBool,
    refused: Mutex<Vec<Instant>>,
    accepted: Mutex<Vec<Instant>>,
    open: Mutex<Vec<ConnectionHandle>>,
}

struct Road(Arc<Town>, Dispatch);

impl Connect for Road {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let Self(town, dispatch) = self;
            if town.is_down.load(Ordering::SeqCst) {
                town.refused.lock().unwrap().push(now());
                return Err(ErrorKind::Refused { address: self.address() }.into());
            }
            town.accepted.lock().unwrap().push(now());
            let limits = ServerLimits {
                versions: VersionRange::OURS,
                frame_bytes_max: 65_536,
                calls_max: 8,
                window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
                codecs: vec![1],
                build: String::new(),
            };
            let (client_end, server_end) = duplex(4096);
            let (settings, dispatch) = (ServerSettings::new(limits), dispatch.clone());
            let (handle, served) = serve_stream(server_end, settings, dispatch, Runtime::tokio());
            town.open.lock().unwrap().push(handle);
            tokio::spawn(served);
            Ok(client_end)
        })
    }

    fn address(&self) -> String {
        "town".to_owned()
    }
}

/// Numbers of a seed, the same in each run.
struct Seeded(u64, AtomicU64);

impl Random for Seeded {
    fn next_u64(&self) -> u64 {
        splitmix64(self.0, self.1.fetch_add(1, Ordering::Relaxed))
    }
}

/// How a crowd came back.
#[derive(Debug)]
struct Recovery {
    /// Connections in each slice since the server's return.
    slices: Vec<usize>,
    /// Until the last one was back.
    window: Duration,
    refused: usize,
    calls: usize,
}

impl Recovery {
    /// The fullest slice, in hundredths of the mean.
    fn peak_percent(&self) -> u128 {
        let peak = *self.slices.iter().max().unwrap() as u128;
        let total: usize = self.slices.iter().sum();
        peak * 100 * self.window.as_millis() / (total as u128 * SLICE.as_millis())
    }
}

/// Cuts all connections, refuses new ones for so long, and sees how the crowd comes back.
async fn bounce(seed: u64, down: Duration) -> Recovery {
    let town = Arc::new(Town::default());
    let dispatch = Router::new().method(echo()).into_dispatch().unwrap();
    let mut config = ClientConfig::default();
    config.wait_for_ready = true;
    let mut runtime = Runtime::tokio();
    runtime.random = Arc::new(Seeded(seed, AtomicU64::new(0)));
    let channels: Vec<Channel> = (0..CLIENTS)
        .map(|_| {
            let builder = Channel::builder().config(config.clone()).runtime(runtime.clone());
            builder.transport(Road(Arc::clone(&town), dispatch.clone())).unwrap()
        })
        .collect();
    for channel in &channels {
        channel.ready().await.unwrap();
    }
    town.is_down.store(true, Ordering::SeqCst);
    town.accepted.lock().unwrap().clear();
    std::mem::take(&mut *town.open.lock().unwrap()).iter().for_each(ConnectionHandle::abort);
    crate::support::settle().await;
    let calls: Vec<_> = channels
        .iter()
        .map(|channel| {
            let call = channel.call(echo_stub(), 1);
            tokio::spawn(call.timeout(Duration::from_secs(600)))
        })
        .collect();
    tokio::time::sleep(down).await;
    town.is_down.store(false, Ordering::SeqCst);
    let back = now();
    let mut answered = 0;
    for call in calls {
        answered += usize::from(call.await.unwrap() == Ok(1));
    }
    let accepted = std::mem::take(&mut *town.accepted.lock().unwrap());
    let window = accepted.iter().max().unwrap().duration_since(back);
    let slice = |at: &Instant| at.duration_since(back).as_millis() / SLICE.as_millis();
    let last = slice(accepted.iter().max().unwrap());
    let slices = (0..=last).map(|n| accepted.iter().filter(|at| slice(at) == n).count()).collect();
    let refused = town.refused.lock().unwrap().len();
    Recovery { slices, window, refused, calls: answered }
}

/// A crowd comes back spread out: no slice of its recovery holds more than twice the mean, after
/// outages of 3 and 10 s; each client comes once, and no call is lost.
#[tokio::test(start_paused = true)]
async fn a_crowd_comes_back_spread_out() {
    for (down, seed) in [(3, 1), (3, 2), (3, 3), (10, 1)] {
        let recovery = bounce(seed, Duration::from_secs(down)).await;
        eprintln!("{down} s, seed {seed}: {}% {recovery:?}", recovery.peak_percent());
        assert_eq!(recovery.slices.iter().sum::<usize>(), CLIENTS);
        assert_eq!(recovery.calls, CLIENTS);
        assert!(recovery.refused > CLIENTS * 5, "{recovery:?}"); // They do try.
        assert!(recovery.peak_percent() <= 200, "{down} s, seed {seed}: {recovery:?}");
    }
}
