//! What is attacked, in a process of its own: a server, or a client with a victim beside it.
//!
//! The test binary starts itself again with `ATTACKS_ROLE` set. A role takes commands on its
//! standard input, one a line, and answers each with a line that starts with `@`; it ends with its
//! input, so that nothing is left over however the test ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use switchback::driver::ServerTotals;
use switchback::server::{BoundServer, ListenerHandle};
use switchback::service::Fingerprint;
use switchback::wire::{CallId, CloseReason};
use switchback::{
    CallError, Channel, ClientConfig, Cx, Dispatch, Method, Server, ServerConfig, Stub,
};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Level;

use crate::unexpected::role::{self as unexpected, Callers, server as unexpected_server};
use crate::victim::{Harm, Victim};

/// Answers a number with itself.
pub(crate) const ECHO: &str = "attacks.Target/echo";
/// Answers a number after so many milliseconds.
pub(crate) const SLEEP: &str = "attacks.Target/sleep";
/// Answers a number with so many bytes of text.
pub(crate) const BLOB: &str = "attacks.Target/blob";
/// Takes a text and keeps it until the call is taken back.
pub(crate) const HOLD: &str = "attacks.Target/hold";
/// Panics with the text that it is given.
pub(crate) const PANIC: &str = "attacks.Target/panic";

static CALL: LazyLock<Stub<String, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible(ECHO, 1, Fingerprint::UNCHECKED));

/// Handlers that run.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    max: AtomicUsize,
}

struct Running(Arc<Gauge>);

/// Not a test: what the tests start as a process of its own.
#[test]
#[ignore = "a process of its own, which the other tests start"]
fn serve() {
    let Ok(role) = std::env::var("ATTACKS_ROLE") else { return };
    let log = File::create(std::env::var("ATTACKS_LOG").unwrap()).unwrap();
    // The table makes connections by the hundred thousand, and judges no log.
    let level = if role.starts_with("table") { Level::WARN } else { Level::DEBUG };
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(level)
        .with_writer(Mutex::new(log));
    tracing::subscriber::set_global_default(log.finish()).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    match role.as_str() {
        "server" => server(&runtime, |gauge| {
            methods(gauge).fold(Server::new().config(config()), Server::method)
        }),
        "table server" => {
            server(&runtime, |gauge| methods(gauge).fold(unexpected_server(), Server::method))
        }
        "client" | "table client" => client(&runtime),
        role => panic!("no such role: {role}"),
    }
}

/// The server as it comes, except for what would take minutes.
fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.handshake_timeout = TIMEOUT;
    config.frame_timeout = TIMEOUT;
    config.write_timeout = TIMEOUT;
    config
}

/// `stats`; `address`; `door`: serves at another address too, which can be drained without the
/// victim; `drain`.
fn server(runtime: &tokio::runtime::Runtime, make: impl Fn(&Arc<Gauge>) -> Server) {
    let gauge = Arc::new(Gauge::default());
    let bind = || runtime.block_on(make(&gauge).bind("tcp://127.0.0.1:0")).unwrap();
    let bound = bind();
    let listener = bound.listener();
    let mut doors = Doors::default();
    let address = bound.url().trim_start_matches("tcp://").to_owned();
    say(&address);
    let mut open = None;
    doors.serve(runtime, bound, std::future::pending());
    for command in commands() {
        assert!(!doors.open[0].served.is_finished(), "the server ended");
        match command.as_str() {
            "address" => say(&address),
            "door" => {
                let (door, (stop, stopped)) = (bind(), oneshot::channel::<()>());
                say(door.url().trim_start_matches("tcp://"));
                open = Some(stop);
                doors.serve(runtime, door, async move { drop(stopped.await) });
            }
            "drain" => {
                open.take().expect("a door to close").send(()).expect("it serves");
                say("ok");
            }
            _ => say(&stats(runtime, &listener, &mut doors, &gauge)),
        }
    }
}

/// Where the role serves; what was counted at doors that are closed is kept, they are not.
#[derive(Default)]
struct Doors {
    open: Vec<Door>,
    ends: Ends,
    ux_started: u64,
}

struct Door {
    dispatch: Dispatch,
    totals: Arc<ServerTotals>,
    served: JoinHandle<()>,
}

impl Doors {
    fn serve(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        server: BoundServer,
        until: impl Future<Output = ()> + Send + 'static,
    ) {
        self.counted(); // Lets go of those that are closed.
        let (dispatch, totals) = (server.dispatch(), server.totals());
        let served = runtime.spawn(async move { drop(server.serve_until(until).await) });
        self.open.push(Door { dispatch, totals, served });
    }

    /// How connections ended at all of them, and handlers of the table's echo that started.
    fn counted(&mut self) -> (Ends, u64) {
        let closed = self.open.extract_if(.., |door| door.served.is_finished());
        let (ends, ux_started) = count((self.ends.clone(), self.ux_started), closed);
        (self.ends, self.ux_started) = (ends.clone(), ux_started);
        count((ends, ux_started), self.open.iter())
    }
}

fn count<T: std::borrow::Borrow<Door>>(
    counted: (Ends, u64),
    doors: impl Iterator<Item = T>,
) -> (Ends, u64) {
    doors.fold(counted, |(ends, ux_started), door| {
        let Door { dispatch, totals, .. } = door.borrow();
        let load = totals.load();
        (ends.and(&load.closes, load.lost), ux_started + unexpected::started(dispatch))
    })
}

/// `name=number` for everything that can be counted.
fn stats(
    runtime: &tokio::runtime::Runtime,
    listener: &ListenerHandle,
    doors: &mut Doors,
    gauge: &Gauge,
) -> String {
    let (stats, methods) = (listener.stats(), doors.open[0].dispatch.stats());
    let (ends, ux_started) = doors.counted();
    let (running, running_max) = (&gauge.now, &gauge.max);
    format!(
        "accepted={} refused_per_address={} refused_full={} displaced={} accept_errors={} \
         open={} open_max={} handshaking={} handshaking_max={} running={} running_max={} \
         tasks={} series={} started={} ux_started={ux_started} {ends}",
        stats.accepted,
        stats.refused_per_address,
        stats.refused_full,
        stats.displaced,
        stats.accept_errors,
        stats.open,
        stats.open_max,
        stats.handshaking,
        stats.handshaking_max,
        running.load(Ordering::SeqCst),
        running_max.load(Ordering::SeqCst),
        runtime.metrics().num_alive_tasks(),
        methods.len(),
        methods.iter().map(|stats| stats.started).sum::<u64>(),
    )
}

/// Connections that ended, by reason.
#[derive(Clone, Default)]
pub(crate) struct Ends(BTreeMap<String, u64>);

impl Ends {
    pub(crate) fn and(mut self, closes: &[(CloseReason, u64)], lost: u64) -> Self {
        for (reason, count) in closes {
            *self.0.entry(reason.to_string()).or_default() += count;
        }
        *self.0.entry("LOST".to_owned()).or_default() += lost;
        self
    }
}

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(reason, count)| write!(f, " end.{reason}={count}"))
    }
}

fn methods(gauge: &Arc<Gauge>) -> impl Iterator<Item = Method> {
    type Answer<T> = Result<T, CallError<Infallible>>;
    let (sleeps, holds) = (Arc::clone(gauge), Arc::clone(gauge));
    [
        Method::infallible(ECHO, 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) }),
        Method::infallible(SLEEP, 1, move |_cx: Cx, ms: u64| {
            let running = Running::new(&sleeps);
            async move {
                let _running = running;
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Answer::Ok(ms)
            }
        }),
        Method::infallible(BLOB, 1, |_cx: Cx, len: u64| async move {
            Answer::Ok("x".repeat(usize::try_from(len).unwrap()))
        }),
        Method::infallible(HOLD, 1, move |_cx: Cx, text: String| {
            let running = Running::new(&holds);
            async move {
                let _running = running;
                std::future::pending::<()>().await;
                Answer::Ok(text.len() as u64)
            }
        }),
        Method::infallible(PANIC, 1, |_cx: Cx, text: String| async move {
            if !text.is_empty() {
                panic!("{text}");
            }
            Answer::Ok(0_u64)
        }),
    ]
    .into_iter()
}

/// `victim ADDRESS PERIOD_MS`, `take`, `look`, `target ADDRESS FIRST_CALL`,
/// `calls COUNT TIMEOUT_MS BYTES`, `outcomes`, `stats`, and those of [`Callers`].
fn client(runtime: &tokio::runtime::Runtime) {
    say("ready");
    let (mut victim, mut target) = (None::<Victim>, None::<Channel>);
    let (outcomes, mut callers): (Arc<Mutex<Vec<String>>>, _) = (Arc::default(), Callers::new());
    for command in commands() {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        match words[0] {
            "victim" => {
                let address: SocketAddr = words[1].parse().unwrap();
                let period = Duration::from_millis(number(2) as u64);
                victim = Some(runtime.block_on(Victim::start(address, period)));
                say("ok");
            }
            "look" | "take" => {
                let told = if words[0] == "take" { Victim::take } else { Victim::look };
                let Harm { calls, errors, p50, p99, max, first_error } =
                    victim.as_ref().map(told).unwrap_or_default();
                let [p50, p99, max] = [p50, p99, max].map(|time| time.as_micros());
                let said = first_error.replace(' ', "_");
                say(&format!(
                    "calls={calls} errors={errors} p50_us={p50} p99_us={p99} max_us={max} \
                     said={said}"
                ));
            }
            "target" => {
                let _entered = runtime.enter();
                let mut config = ClientConfig::default();
                config.frame_timeout = TIMEOUT;
                config.write_timeout = TIMEOUT;
                config.first_call = CallId(words[2].parse().unwrap());
                let builder = Channel::builder().config(config);
                target = Some(builder.lazy(&format!("tcp://{}", words[1])).unwrap());
                say("ok");
            }
            "calls" => {
                let (count, ms, len) = (number(1), number(2), number(3));
                let _entered = runtime.enter();
                for _ in 0..count {
                    let call = target.as_ref().unwrap().call(&CALL, "x".repeat(len));
                    let call = call.timeout(Duration::from_millis(ms as u64));
                    let outcomes = Arc::clone(&outcomes);
                    drop(tokio::spawn(async move {
                        let outcome = match call.await {
                            Ok(n) => format!("OK:{n}"),
                            Err(CallError::Rpc(status)) => {
                                format!("{}:{:?}", status.code(), status.disposition())
                            }
                            Err(CallError::App(never)) => match never {},
                        };
                        outcomes.lock().unwrap().push(outcome);
                    }));
                }
                say("ok");
            }
            "outcomes" => say(&std::mem::take(&mut *outcomes.lock().unwrap()).join(" ")),
            "stats" => {
                let load = target.as_ref().map(|target| target.totals().load()).unwrap_or_default();
                let ends = callers.ends().and(&load.closes, load.lost);
                say(&format!("tasks={}{ends}", runtime.metrics().num_alive_tasks()));
            }
            _ => say(&callers.handle(runtime, &words)),
        }
    }
}

fn commands() -> impl Iterator<Item = String> {
    std::io::stdin().lock().lines().map_while(Result::ok)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{line}").unwrap();
    out.flush().unwrap();
}

impl Running {
    fn new(gauge: &Arc<Gauge>) -> Self {
        let running = gauge.now.fetch_add(1, Ordering::SeqCst) + 1;
        gauge.max.fetch_max(running, Ordering::SeqCst);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Of a handshake, a frame, a write: a fifth and a tenth of the defaults.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
