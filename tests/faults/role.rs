//! What a child does: it serves until it is told to drain, or until its parent is gone; or it
//! measures how a server answers.
//!
//! Each role is a test that passes at once, unless the environment names it.

use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::Stub;
use switchback::driver::ServerTotals;
use switchback::service::Fingerprint;
use switchback::{CallError, Channel, ClientConfig, Cx, Method, Run, Server, ServerConfig, Status};
use tokio::sync::oneshot;

use crate::ledger::{How, ServerLog, Start};
use crate::measure::{Times, now, run, wall, wall_us};

/// Which role is played.
pub(crate) const ROLE: &str = "SWITCHBACK_FAULTS_ROLE";
/// Where to listen, or whom to ask.
pub(crate) const AT: &str = "SWITCHBACK_FAULTS_AT";
pub(crate) const LEDGER: &str = "SWITCHBACK_FAULTS_LEDGER";
/// To whom a proxy forwards.
pub(crate) const BEHIND: &str = "SWITCHBACK_FAULTS_BEHIND";
pub(crate) const INSTANCE: &str = "SWITCHBACK_FAULTS_INSTANCE";
/// Set for a server that takes frames of up to `LARGE_BYTES_MAX`.
pub(crate) const LARGE: &str = "SWITCHBACK_FAULTS_LARGE";
pub(crate) const LARGE_BYTES_MAX: u32 = 1 << 30;
/// How many bytes to ask for.
pub(crate) const BYTES: &str = "SWITCHBACK_FAULTS_BYTES";

pub(crate) type Plain<Q, R> = &'static Stub<Q, R, Infallible>;
type Answer<T> = Result<T, CallError<Infallible>>;

/// A call that is written down on both sides.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) client: u64,
    pub(crate) seq: u64,
    pub(crate) hold_ms: u64,
}

/// Which execution answered which call.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Receipt {
    pub(crate) nonce: u64,
    pub(crate) client: u64,
    pub(crate) seq: u64,
    pub(crate) instance: u64,
    pub(crate) version: u16,
    /// Of the attempt that was answered; the first is 0.
    pub(crate) attempt: u8,
}

/// Answers with what it was sent.
pub(crate) fn echo() -> Plain<u64, u64> {
    stub("faults.House/echo")
}

/// Answers after so many milliseconds, with so many bytes.
pub(crate) fn hold() -> Plain<(u64, u64), String> {
    stub("faults.House/hold")
}

/// Holds its thread for so many milliseconds, and says that it does.
pub(crate) fn block() -> Plain<u64, u64> {
    stub("faults.House/block")
}

/// The same, and does not say so: it holds a worker of the runtime.
pub(crate) fn block_inline() -> Plain<u64, u64> {
    stub("faults.House/block_inline")
}

/// Answers how long a text is.
pub(crate) fn measure() -> Plain<String, u64> {
    stub("faults.House/measure")
}

/// The caller's address.
pub(crate) fn peer() -> Plain<(), String> {
    stub("faults.House/peer")
}

/// The server's wall clock, in seconds.
pub(crate) fn clock() -> Plain<(), u64> {
    stub("faults.House/clock")
}

/// How a server is, as it says on a thread outside of its runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    /// Handlers that block their thread now, by their own account.
    pub(crate) blocked: u64,
    /// Threads that are held, as the library knows.
    pub(crate) stalled_threads: u64,
    pub(crate) is_stalled: bool,
    pub(crate) stalls: u64,
    pub(crate) executor_stall_ms: u64,
}

static BLOCKED: AtomicU64 = AtomicU64::new(0);

impl Health {
    fn of(totals: &ServerTotals) -> Self {
        let load = totals.load();
        Self {
            blocked: BLOCKED.load(Ordering::SeqCst),
            stalled_threads: totals.stalled_threads() as u64,
            is_stalled: totals.is_stalled(),
            stalls: load.stalls,
            executor_stall_ms: load.executor_stall_ms,
        }
    }

    fn to_line(self) -> String {
        let Self { blocked, stalled_threads, is_stalled, stalls, executor_stall_ms } = self;
        let is_stalled = u64::from(is_stalled);
        format!("{blocked} {stalled_threads} {is_stalled} {stalls} {executor_stall_ms}")
    }

    /// Asks a server's health at an address.
    pub(crate) fn ask(address: &str) -> Self {
        let mut line = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut line).unwrap();
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let &[blocked, stalled_threads, is_stalled, stalls, executor_stall_ms] = &numbers[..]
        else {
            panic!("{line:?}");
        };
        let is_stalled = is_stalled == 1;
        Self { blocked, stalled_threads, is_stalled, stalls, executor_stall_ms }
    }
}

fn stub<Q, R>(name: &str) -> Plain<Q, R>
where
    Q: switchback::service::Payload,
    R: switchback::service::Payload,
{
    Box::leak(Box::new(Stub::infallible(name, 1, Fingerprint::UNCHECKED)))
}

/// Two methods that do the same; the second may be executed twice.
pub(crate) const ORDERS: [&str; 2] = ["faults.House/order", "faults.House/order_again"];

fn is_me(role: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|played| played == role)
}

/// The server.
#[test]
fn serve() {
    if is_me("role::serve") {
        run_for_ever(serving());
    }
}

/// Without the limit of a test.
fn run_for_ever(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work);
    runtime.shutdown_background();
}

async fn serving() {
    let mut config = ServerConfig::default();
    config.drain_timeout = Duration::from_secs(3);
    if std::env::var(LARGE).is_ok() {
        config.frame_bytes_max = LARGE_BYTES_MAX;
        config.in_flight_bytes_max = LARGE_BYTES_MAX as usize;
        config.server_in_flight_bytes_max = LARGE_BYTES_MAX as usize;
    }
    let mut server = Server::new().config(config).insecure_plaintext();
    for method in methods() {
        server = server.method(method);
    }
    if let Ok(path) = std::env::var(LEDGER) {
        let instance = std::env::var(INSTANCE).unwrap().parse().unwrap();
        let log = Arc::new(ServerLog::create(&PathBuf::from(path), instance).unwrap());
        for name in ORDERS {
            server = server.method(order(name, instance, &log));
        }
    }
    until_told(server).await;
}

/// The proxy: it has no method of its own.
#[test]
fn proxy() {
    if is_me("role::proxy") {
        run_for_ever(async {
            let behind = Channel::lazy(&std::env::var(BEHIND).unwrap()).unwrap();
            until_told(Server::new().forward(behind)).await;
        });
    }
}

/// Serves until the parent says so, or is gone.
async fn until_told(server: Server) {
    let server = server.bind(&std::env::var(AT).unwrap()).await.unwrap();
    let totals = server.totals();
    let health = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = health.local_addr().unwrap();
    // A thread of its own: it answers when no task does.
    std::thread::spawn(move || {
        for asked in health.incoming() {
            asked.unwrap().write_all(Health::of(&totals).to_line().as_bytes()).unwrap();
        }
    });
    tell(&format!("URL {}", server.url()));
    tell(&format!("HEALTH {address}"));
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        if !matches!(read, Ok(1..)) {
            std::process::abort(); // The parent is gone.
        }
        drop(stop);
    });
    let ended = server.serve_until(async move { drop(stopped.await) }).await;
    tell(&match ended {
        Ok(drained) => format!("DRAINED {} connections", drained.connections),
        Err(error) => format!("DRAINED {error}"),
    });
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // In front of it stands what the test harness said without ending its line.
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

fn methods() -> [Method; 7] {
    let echo =
        Method::infallible("faults.House/echo", 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
    let hold = |_cx: Cx, (ms, bytes): (u64, u64)| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Answer::Ok("x".repeat(bytes.try_into().unwrap()))
    };
    #[expect(clippy::disallowed_methods, reason = "a handler that does what it must not")]
    let block = |_cx: Cx, ms: u64| async move {
        BLOCKED.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(ms));
        BLOCKED.fetch_sub(1, Ordering::SeqCst);
        Answer::Ok(ms)
    };
    let measure = |_cx: Cx, text: String| async move { Answer::Ok(text.len() as u64) };
    let peer = |cx: Cx, (): ()| async move { Answer::Ok(cx.peer().address.clone()) };
    let clock = |_cx: Cx, (): ()| async move { Answer::Ok(wall().as_secs()) };
    [
        echo,
        Method::infallible("faults.House/hold", 1, hold),
        Method::infallible("faults.House/block", 1, block).run(Run::Blocking),
        Method::infallible("faults.House/block_inline", 1, block),
        Method::infallible("faults.House/measure", 1, measure),
        Method::infallible("faults.House/peer", 1, peer),
        Method::infallible("faults.House/clock", 1, clock),
    ]
}

/// A method that writes down that it starts, and that it ends, before it answers.
fn order(name: &'static str, instance: u64, log: &Arc<ServerLog>) -> Method {
    let log = Arc::clone(log);
    Method::infallible(name, 1, move |cx: Cx, order: Order| {
        let log = Arc::clone(&log);
        async move {
            let started_at_us = wall_us();
            let start = Start {
                client: order.client,
                seq: order.seq,
                attempt: cx.attempt().into(),
                method: name,
                version: cx.version(),
                started_at_us,
                deadline_at_us: started_at_us + u64::try_from(cx.remaining().as_micros()).unwrap(),
            };
            let nonce = log.start(start).map_err(unwritten)?;
            let mut running = Running { log, nonce, is_finished: false };
            tokio::time::sleep(Duration::from_millis(order.hold_ms)).await;
            running.finish(How::Ok).map_err(unwritten)?;
            let Order { client, seq, .. } = order;
            let (version, attempt) = (cx.version(), cx.attempt());
            Answer::Ok(Receipt { nonce, client, seq, instance, version, attempt })
        }
    })
}

/// An execution; dropping it unfinished is an end too.
struct Running {
    log: Arc<ServerLog>,
    nonce: u64,
    is_finished: bool,
}

impl Running {
    fn finish(&mut self, how: How) -> std::io::Result<()> {
        self.is_finished = true;
        self.log.finish(self.nonce, how, wall_us())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(How::Dropped).expect("the log is open while executions run");
        }
    }
}

fn unwritten(error: std::io::Error) -> Status {
    Status::new(switchback::Code::ABORTED, error.to_string())
}

/// The probe: calls a server 400 times, once every 10 ms, and says how long that took at worst.
#[test]
fn probe() {
    if is_me("role::probe") {
        let times = run(async {
            let builder = Channel::builder().insecure_plaintext();
            let channel = builder.connect(&std::env::var(AT).unwrap()).await.unwrap();
            let stub = echo();
            let mut times = Vec::new();
            for n in 0..400 {
                let begun = now();
                assert_eq!(channel.call(stub, n).await, Ok(n));
                times.push(now() - begun);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Times::new(times)
        });
        tell(&format!("P99_US {}", times.percentile(99).as_micros()));
    }
}

/// The one who asks for much: says what becomes of that, and of a small call after it.
#[test]
fn ask_for_much() {
    if is_me("role::ask_for_much") {
        run(async {
            let mut config = ClientConfig::default();
            config.frame_bytes_max = LARGE_BYTES_MAX;
            let builder = Channel::builder().config(config);
            let channel = builder.connect(&std::env::var(AT).unwrap()).await.unwrap();
            let bytes = std::env::var(BYTES).unwrap().parse().unwrap();
            let much = channel.call(hold(), (0, bytes)).timeout(Duration::from_secs(60)).await;
            tell(&match much.map_err(|error| error.status().cloned().unwrap()) {
                Ok(text) => format!("MUCH {} bytes", text.len()),
                Err(status) => format!("MUCH {status:?}: {:?}", status.source()),
            });
            tell(&format!("LITTLE {:?}", channel.call(echo(), 7).await));
        });
    }
}
