//! What a row of the table is held against, inside of a role's process: a server that serves what
//! the rows call, and callers with one connection each.
//!
//! Limits are those of the suite, whatever the defaults are: rows count on them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use switchback::driver::ClientTotals;
use switchback::service::Fingerprint;
use switchback::transport::Stream;
use switchback::{
    CallError, Channel, ClientConfig, Cx, Dispatch, Method, Server, ServerConfig, Stub,
};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::role::Ends;
use crate::unexpected::data::Suite;
use crate::unexpected::talk::disposition_name;

/// A server as the suite wants it, without methods of others.
pub(crate) fn server() -> Server {
    type Answer = Result<u64, CallError<Infallible>>;
    let limits = &SUITE.limits[0];
    let mut config = ServerConfig::default();
    config.frame_bytes_max = limits.frame_bytes_max;
    config.window_connection = limits.window_connection;
    config.calls_max = limits.calls_max;
    config.handshake_timeout = Duration::from_millis(limits.handshake_timeout_ms);
    config.frame_timeout = Duration::from_millis(limits.frame_timeout_ms);
    config.write_timeout = Duration::from_millis(limits.write_timeout_ms);
    config.idle_timeout = Duration::from_millis(limits.idle_timeout_ms);
    config.keepalive = limits.keepalive();
    config.conduct = limits.conduct();
    let echo = Method::infallible(ECHO, 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
    let hold = Method::infallible(HOLD, 1, |_cx: Cx, n: u64| async move {
        std::future::pending::<()>().await;
        Answer::Ok(n)
    });
    let server = Server::new().config(config);
    server.method(echo.fingerprint(fingerprint())).method(hold.fingerprint(fingerprint()))
}

/// Handlers of the echo that were started.
pub(crate) fn started(dispatch: &Dispatch) -> u64 {
    let stats = dispatch.stats();
    stats.iter().find(|stats| *stats.name == *ECHO).map_or(0, |stats| stats.started)
}

/// Clients under test: each has a connection of its own, and one call on it.
pub(crate) struct Callers {
    made: usize,
    callers: BTreeMap<usize, Caller>,
    /// Of connections that have not ended yet.
    running: Vec<Arc<ClientTotals>>,
    ended: Ends,
}

struct Caller {
    call: JoinHandle<Result<u64, CallError<Infallible>>>,
    /// It lives on when the call has ended, as the connection of a client does.
    _channel: Channel,
}

impl Callers {
    pub(crate) fn new() -> Self {
        LazyLock::force(&SUITE); // Reading it takes memory, which no row is to be charged with.
        Self { made: 0, callers: BTreeMap::new(), running: Vec::new(), ended: Ends::default() }
    }

    /// `call ADDRESS` answers with a number, to be used in `cancel`, `outcome` and `leave`.
    pub(crate) fn handle(&mut self, runtime: &Runtime, words: &[&str]) -> String {
        let number = || words[1].parse::<usize>().unwrap();
        match words[0] {
            "call" => {
                let stream = runtime.block_on(TcpStream::connect(words[1])).unwrap();
                stream.set_nodelay(true).unwrap();
                let _entered = runtime.enter();
                let (reader, writer) = stream.into_split();
                let stream = Stream::new(reader, writer, words[1]);
                let channel = Channel::builder().config(config()).stream(stream).unwrap();
                self.running.push(channel.totals());
                let call = tokio::spawn(channel.call(&STUB, 7).timeout(Duration::from_secs(600)));
                self.made += 1;
                self.callers.insert(self.made, Caller { call, _channel: channel });
                self.made.to_string()
            }
            "cancel" => {
                let caller = self.callers.get_mut(&number()).unwrap();
                caller.call.abort();
                // Its future is dropped when this has ended.
                assert!(runtime.block_on(&mut caller.call).is_err(), "it was under way");
                "ok".to_owned()
            }
            "outcome" => {
                let Caller { call, .. } = self.callers.get_mut(&number()).unwrap();
                let ended = async { tokio::time::timeout(PATIENCE, call).await };
                match runtime.block_on(ended) {
                    Err(_) => "NONE".to_owned(),
                    Ok(ended) => match ended.unwrap() {
                        Ok(n) => format!("OK {n:02x}"),
                        Err(CallError::Rpc(status)) => {
                            let disposition = disposition_name(status.disposition());
                            format!("{} {disposition}", status.code())
                        }
                        Err(CallError::App(never)) => match never {},
                    },
                }
            }
            "leave" => {
                drop(self.callers.remove(&number()));
                "ok".to_owned()
            }
            other => panic!("no such command: {other}"),
        }
    }

    /// How the connections ended.
    pub(crate) fn ends(&mut self) -> Ends {
        let mut ended = std::mem::take(&mut self.ended);
        self.running.retain(|totals| {
            let load = totals.load();
            let is_running = load.closes.is_empty() && load.lost == 0;
            ended = std::mem::take(&mut ended).and(&load.closes, load.lost);
            is_running
        });
        self.ended = ended;
        self.ended.clone()
    }
}

fn config() -> ClientConfig {
    let limits = &SUITE.limits[0];
    let mut config = ClientConfig::default();
    config.retry.attempts_max = 1; // A row is about one attempt.
    config.frame_bytes_max = limits.frame_bytes_max;
    config.window_connection = limits.window_connection;
    config.handshake_timeout = Duration::from_millis(limits.handshake_timeout_ms);
    config.keepalive = limits.keepalive();
    config.conduct = limits.conduct();
    config.frame_timeout = Duration::from_millis(limits.frame_timeout_ms);
    config.write_timeout = Duration::from_millis(limits.write_timeout_ms);
    config
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of_method::<u64, u64, Infallible>()
}

static SUITE: LazyLock<Suite> = LazyLock::new(Suite::read);

static STUB: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible(ECHO, 1, fingerprint()));

const ECHO: &str = "ux.Echo/echo";
const HOLD: &str = "ux.Echo/hold";
/// How long a call may take to be told of its connection's end.
const PATIENCE: Duration = Duration::from_secs(5);
