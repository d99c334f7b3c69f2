//! The sides under test: our server with a method that echoes and one that never ends, our client
//! with a call under way; and the others beside them, who must not notice.

use std::convert::Infallible;
use std::time::Duration;

use switchback::driver::{ConnectionHandle, Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::service::Fingerprint;
use switchback::transport::{Stream, duplex};
use switchback::wire::VersionRange;
use switchback::{CallError, Channel, ClientConfig, Cx, Dispatch, Method, Router, Server, Stub};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::raw::Raw;
use crate::support::{Answer, MEM_BYTES, Plain, leak, mem, settle};
use crate::unexpected::data::{Case, Held, Outcome, Side, Step, Suite, Then};
use crate::unexpected::talk::{Talk, disposition_name, hex, unlike};

/// What the conversation runs over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wire {
    /// In memory, one byte at a time towards the side under test; [`PIECE_BYTES`] where many are
    /// sent.
    Bytes,
    Memory,
    Tcp,
}

type Called = Result<u64, CallError<Infallible>>;

/// Holds one case against one side; `Err` says what was not as it should be.
pub(crate) async fn hold(suite: &Suite, case: &Case, side: Side, wire: Wire) -> Result<(), String> {
    let held = case.held(side).expect("a case for this side");
    let (who, result) = match side {
        Side::Server => ("server", hold_server(suite, held, wire).await),
        Side::Client => ("client", hold_client(suite, held, wire).await),
    };
    result.map_err(|failure| format!("{} against {who}: {failure}", case.id))
}

/// The steps of a case from the beginning of its connection.
fn steps<'a>(suite: &'a Suite, side: Side, held: &'a Held) -> impl Iterator<Item = &'a Step> {
    suite.opening(side, &held.begin).iter().chain(&held.steps)
}

async fn hold_server(suite: &Suite, held: &Held, wire: Wire) -> Result<(), String> {
    let dispatch = methods().into_dispatch().unwrap();
    let (raw, stream) = pair(wire, held.sent_bytes()).await;
    let (handle, served) = serve(suite, stream, &dispatch);
    let (client_end, server_end) = duplex(MEM_BYTES);
    let (_, beside_served) = serve(suite, server_end, &dispatch);
    let mut beside = Beside::new(Channel::builder().stream(client_end).unwrap());
    let mut talk = Talk::new(raw, Side::Server);

    beside.call().await?; // Connected before any time passes.
    for step in steps(suite, Side::Server, held) {
        if matches!(step, Step::Subject { .. }) {
            handle.drain();
        } else {
            talk.step(step).await?;
        }
        beside.call().await?;
    }
    talk.then(&held.then, &suite.open).await?;
    beside.call().await?;

    let ran = started(&dispatch) - beside.calls;
    if matches!(held.then, Then::Open { .. }) && ran != talk.processed {
        return Err(unlike(&format!("{} calls to be executed", talk.processed), &ran.to_string()));
    }
    drop(talk);
    let ended = tokio::time::timeout(PATIENCE, served).await;
    ended.map_err(|_| "the connection outlives its peer".to_owned())?.unwrap();
    beside.call().await?;
    beside_served.abort();
    Ok(())
}

async fn hold_client(suite: &Suite, held: &Held, wire: Wire) -> Result<(), String> {
    let (channel, _dispatch, beside_served) = mem(Server::new().method(echo("it.Echo/echo")));
    let mut beside = Beside { channel, stub: crate::support::echo_stub(), calls: 0 };
    let (raw, stream) = pair(wire, held.sent_bytes()).await;
    let mut config = ClientConfig::default();
    config.retry.attempts_max = 1; // A row is about one attempt.
    let limits = &suite.limits[0];
    config.frame_bytes_max = limits.frame_bytes_max;
    config.window_connection = limits.window_connection;
    config.handshake_timeout = Duration::from_millis(limits.handshake_timeout_ms);
    config.keepalive = limits.keepalive();
    config.conduct = limits.conduct();
    config.frame_timeout = Duration::from_millis(limits.frame_timeout_ms);
    config.write_timeout = Duration::from_millis(limits.write_timeout_ms);
    let channel = Channel::builder().config(config).stream(stream).unwrap();
    let call = tokio::spawn(channel.call(stub(), 7).timeout(Duration::from_secs(600)));
    let mut talk = Talk::new(raw, Side::Client);

    beside.call().await?; // Connected before any time passes.
    for step in steps(suite, Side::Client, held) {
        if matches!(step, Step::Caller { .. }) {
            call.abort();
            settle().await;
        } else {
            talk.step(step).await?;
        }
        beside.call().await?;
    }
    talk.then(&held.then, &suite.open).await?;

    if let Some(wanted) = &held.call {
        check_call(call, wanted, &talk).await?;
    }
    beside.call().await?;
    beside_served.abort();
    Ok(())
}

/// Checks the one outcome of a client's call.
async fn check_call(
    call: JoinHandle<Called>,
    wanted: &[Outcome],
    talk: &Talk,
) -> Result<(), String> {
    let ended = tokio::time::timeout(PATIENCE, call).await;
    let ended = ended.map_err(|_| "the call has no outcome".to_owned())?.unwrap();
    let found = match &ended {
        Ok(n) => Outcome {
            status: "OK".to_owned(),
            disposition: None,
            payload: Some(hex(&[u8::try_from(*n).unwrap()])),
        },
        Err(error) => {
            let status = error.status().expect("a method without an error of its own");
            let disposition = Some(disposition_name(status.disposition()).to_owned());
            Outcome { status: status.code().to_string(), disposition, payload: None }
        }
    };
    talk.told(wanted, &found).map_err(|failure| format!("{failure} ({ended:?})"))
}

/// Somebody else on the same server, who must not notice.
struct Beside {
    channel: Channel,
    stub: Plain<u64, u64>,
    calls: usize,
}

impl Beside {
    fn new(channel: Channel) -> Self {
        Self { channel, stub: stub(), calls: 0 }
    }

    async fn call(&mut self) -> Result<(), String> {
        self.calls += 1;
        let n = self.calls as u64;
        match self.channel.call(self.stub, n).await {
            Ok(found) if found == n => Ok(()),
            other => Err(format!("somebody else's call ended as {other:?}")),
        }
    }
}

/// Both ends of what the conversation runs over.
async fn pair(wire: Wire, sent_bytes: usize) -> (Raw, Stream) {
    match wire {
        Wire::Bytes => {
            let is_long = sent_bytes > WIRE_BYTES;
            let (theirs_in, ours_out) = tokio::io::duplex(if is_long { PIECE_BYTES } else { 1 });
            let (ours_in, theirs_out) = tokio::io::duplex(WIRE_BYTES);
            let ours = Raw::new(tokio::io::join(ours_in, ours_out));
            (ours, Stream::new(theirs_in, theirs_out, "mem"))
        }
        Wire::Memory => Raw::pair(WIRE_BYTES),
        Wire::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (reader, writer) = listener.accept().await.unwrap().0.into_split();
            (Raw::new(ours), Stream::new(reader, writer, "tcp"))
        }
    }
}

fn serve(
    suite: &Suite,
    stream: Stream,
    dispatch: &Dispatch,
) -> (ConnectionHandle, JoinHandle<switchback::Error>) {
    let limits = &suite.limits[0];
    let of_server = ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: limits.frame_bytes_max,
        window_connection: limits.window_connection,
        calls_max: limits.calls_max,
        codecs: vec![1],
        build: "under test".to_owned(),
    };
    let settings = ServerSettings {
        handshake_timeout: Duration::from_millis(limits.handshake_timeout_ms),
        keepalive: limits.keepalive(),
        conduct: limits.conduct(),
        frame_timeout: Duration::from_millis(limits.frame_timeout_ms),
        write_timeout: Duration::from_millis(limits.write_timeout_ms),
        idle_timeout: Duration::from_millis(limits.idle_timeout_ms),
        ..ServerSettings::new(of_server)
    };
    let (handle, served) = serve_stream(stream, settings, dispatch.clone(), Runtime::tokio());
    (handle, tokio::spawn(served))
}

fn methods() -> Router {
    let hold = Method::infallible(HOLD, 1, |_cx: Cx, n: u64| async move {
        std::future::pending::<()>().await;
        Answer::Ok(n)
    });
    Router::new().method(echo(ECHO)).method(hold.fingerprint(fingerprint()))
}

fn echo(name: &str) -> Method {
    let echo = Method::infallible(name, 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
    echo.fingerprint(fingerprint())
}

fn stub() -> Plain<u64, u64> {
    leak(Stub::infallible(ECHO, 1, fingerprint()))
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of_method::<u64, u64, Infallible>()
}

/// Handlers of the echo that were started.
fn started(dispatch: &Dispatch) -> usize {
    let stats = dispatch.stats();
    let echo = stats.iter().find(|stats| *stats.name == *ECHO).unwrap();
    usize::try_from(echo.started).unwrap()
}

const ECHO: &str = "ux.Echo/echo";
const HOLD: &str = "ux.Echo/hold";
/// What waits in memory between the runner and the side under test: little, so that one that is not
/// read soon has nowhere to write to.
const WIRE_BYTES: usize = 16 * 1024;
/// What arrives at a time where more than [`WIRE_BYTES`] are sent: pieces that end anywhere.
const PIECE_BYTES: usize = 997;
/// How long an end may take to be noticed; on a paused clock this costs nothing.
const PATIENCE: Duration = Duration::from_secs(20);
