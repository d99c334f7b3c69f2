//! What is attacked, in a process of its own: a server, or a client with a victim beside it.
//!
//! The test binary starts itself again with `ATTACKS_ROLE` set. A role takes commands on its
//! standard input, one a line, and answers each with a line that starts with `@`; it ends with its
//! input, so that nothing is left over however the test ends.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use switchback::server::ListenerHandle;
use switchback::service::Fingerprint;
use switchback::{
    CallError, Channel, ClientConfig, Cx, Dispatch, Method, Server, ServerConfig, Stub,
};

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
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(Mutex::new(log));
    tracing::subscriber::set_global_default(log.finish()).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    match role.as_str() {
        "server" => server(&runtime),
        "client" => client(&runtime),
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

fn server(runtime: &tokio::runtime::Runtime) {
    let gauge = Arc::new(Gauge::default());
    let server = Server::new().config(config());
    let server = methods(&gauge).into_iter().fold(server, Server::method);
    let server = runtime.block_on(server.bind("tcp://127.0.0.1:0")).unwrap();
    let (listener, dispatch, url) = (server.listener(), server.dispatch(), server.url());
    say(url.trim_start_matches("tcp://"));
    let served = runtime.spawn(server.serve_until(std::future::pending()));
    for _command in commands() {
        assert!(!served.is_finished(), "the server ended");
        say(&stats(runtime, &listener, &dispatch, &gauge));
    }
}

/// `name=number` for everything that can be counted.
fn stats(
    runtime: &tokio::runtime::Runtime,
    listener: &ListenerHandle,
    dispatch: &Dispatch,
    gauge: &Gauge,
) -> String {
    let stats = listener.stats();
    let (running, running_max) = (&gauge.now, &gauge.max);
    format!(
        "accepted={} refused_per_address={} refused_full={} displaced={} accept_errors={} \
         open={} open_max={} handshaking={} handshaking_max={} running={} running_max={} \
         tasks={} series={} started={}",
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
        dispatch.stats().len(),
        dispatch.stats().iter().map(|stats| stats.started).sum::<u64>(),
    )
}

fn methods(gauge: &Arc<Gauge>) -> [Method; 5] {
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
}

/// `victim ADDRESS`, `take`, `target ADDRESS`, `calls COUNT TIMEOUT_MS BYTES`, `outcomes`, `stats`.
fn client(runtime: &tokio::runtime::Runtime) {
    say("ready");
    let (mut victim, mut target) = (None::<Victim>, None::<Channel>);
    let outcomes: Arc<Mutex<Vec<String>>> = Arc::default();
    for command in commands() {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        match words[0] {
            "victim" => {
                let address: SocketAddr = words[1].parse().unwrap();
                victim = Some(runtime.block_on(Victim::start(address)));
                say("ok");
            }
            "take" => {
                let Harm { calls, errors, p99, first_error } =
                    victim.as_ref().map(Victim::take).unwrap_or_default();
                let p99 = p99.as_micros();
                let said = first_error.replace(' ', "_");
                say(&format!("calls={calls} errors={errors} p99_us={p99} said={said}"));
            }
            "target" => {
                let _entered = runtime.enter();
                let mut config = ClientConfig::default();
                config.frame_timeout = TIMEOUT;
                config.write_timeout = TIMEOUT;
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
            _ => say(&format!("tasks={}", runtime.metrics().num_alive_tasks())),
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
