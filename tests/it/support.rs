//! What most tests need: a server with a few methods, a channel to it, and a way to wait.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use switchback::driver::{ConnectionHandle, Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::server::{BoundServer, Drained};
use switchback::service::Fingerprint;
use switchback::transport::duplex;
use switchback::wire::VersionRange;
use switchback::{
    CallError, Channel, Code, Cx, Dispatch, Disposition, Error, Method, Router, Server,
    ServerConfig, Status, Stub,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tracing::dispatcher::DefaultGuard;
use tracing::subscriber::NoSubscriber;

use crate::raw::Raw;

/// What a handler without an error of its own gives back.
pub(crate) type Answer<T> = Result<T, CallError<Infallible>>;
/// A stub of such a method.
pub(crate) type Plain<Q, R> = &'static Stub<Q, R, Infallible>;

/// Bytes in each direction of an in-memory stream.
pub(crate) const MEM_BYTES: usize = 256 * 1024;

/// A stub that lives as long as the process, as a generated one does.
pub(crate) fn leak<Q, R, E>(stub: Stub<Q, R, E>) -> &'static Stub<Q, R, E> {
    Box::leak(Box::new(stub))
}

/// A method in version 1 that cannot fail.
pub(crate) fn plain<Q, R>(name: &str) -> Plain<Q, R>
where
    Q: switchback::service::Payload,
    R: switchback::service::Payload,
{
    leak(Stub::infallible(name, 1, Fingerprint::UNCHECKED))
}

/// Answers with what it was sent.
pub(crate) fn echo() -> Method {
    Method::infallible("it.Echo/echo", 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) })
}

/// The stub of [`echo`].
pub(crate) fn echo_stub() -> Plain<u64, u64> {
    plain("it.Echo/echo")
}

/// Tokio's clock; the tests that read it have it paused.
pub(crate) fn now() -> std::time::Instant {
    Runtime::tokio().clock.now()
}

/// A server on one end of a stream in memory, a channel on the other.
pub(crate) fn mem(server: Server) -> (Channel, Dispatch, JoinHandle<Error>) {
    mem_with(server, Channel::builder())
}

/// [`mem`], with a channel of one's own making.
pub(crate) fn mem_with(
    server: Server,
    builder: switchback::client::ChannelBuilder,
) -> (Channel, Dispatch, JoinHandle<Error>) {
    let (client_end, server_end) = duplex(MEM_BYTES);
    let (dispatch, served) = server.serve_stream(server_end).unwrap();
    let channel = builder.stream(client_end).unwrap();
    (channel, dispatch, tokio::spawn(served))
}

/// A server on one end of a stream in memory, a client of bytes on the other, handshake done.
pub(crate) async fn mem_raw(server: Server) -> (Raw, Dispatch, JoinHandle<Error>) {
    let (raw, stream) = Raw::pair(MEM_BYTES);
    let (dispatch, served) = server.serve_stream(stream).unwrap();
    let served = tokio::spawn(served);
    let mut raw = raw;
    raw.greet_server().await;
    (raw, dispatch, served)
}

/// A channel on one end of a stream in memory, a server of bytes on the other, which has said
/// nothing yet.
pub(crate) fn raw_server(builder: switchback::client::ChannelBuilder) -> (Channel, Raw) {
    let (raw, stream) = Raw::pair(MEM_BYTES);
    (builder.stream(stream).unwrap(), raw)
}

/// [`mem_raw`] by the driver's own door, which gives the connection's handle too.
pub(crate) fn driven(
    router: Router,
    config: &ServerConfig,
    buffer_bytes: usize,
) -> (Raw, ConnectionHandle, JoinHandle<Error>) {
    let (raw, stream) = Raw::pair(buffer_bytes);
    let dispatch = router.into_dispatch().unwrap();
    let limits = ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: config.frame_bytes_max,
        calls_max: config.calls_max,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: String::new(),
    };
    let settings = ServerSettings {
        handshake_timeout: config.handshake_timeout,
        linger_timeout: config.linger_timeout,
        drain_timeout: config.drain_timeout,
        keepalive: config.keepalive,
        conduct: config.conduct,
        frame_timeout: config.frame_timeout,
        write_timeout: config.write_timeout,
        idle_timeout: config.idle_timeout,
        connection_age: config.connection_age,
        in_flight_bytes_max: config.in_flight_bytes_max,
        ..ServerSettings::new(limits)
    };
    let (handle, served) = serve_stream(stream, settings, dispatch, Runtime::tokio());
    (raw, handle, tokio::spawn(served))
}

/// A server over TCP that drains when it is told.
pub(crate) struct Tcp {
    pub(crate) url: String,
    pub(crate) dispatch: Dispatch,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) drained: JoinHandle<Result<Drained, Error>>,
}

/// Serves over TCP on a port of the system's choice.
pub(crate) async fn tcp(server: Server) -> Tcp {
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap();
    run(server)
}

/// Runs a bound server.
pub(crate) fn run(server: BoundServer) -> Tcp {
    let (url, dispatch) = (server.url(), server.dispatch());
    let (stop, stopped) = oneshot::channel::<()>();
    let drained = tokio::spawn(server.serve_until(async move { drop(stopped.await) }));
    Tcp { url, dispatch, stop, drained }
}

/// Has what is logged on this thread go to `subscriber`, as long as the guard lives.
///
/// Where there is one subscriber in a process, `tracing` asks nobody but the thread that comes to a
/// line of code first, and remembers its answer for all threads: another test without a subscriber
/// would turn the line off for this one. So there are always two.
pub(crate) fn log_to(subscriber: impl Into<tracing::Dispatch>) -> DefaultGuard {
    static SECOND: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND);
    let guard = tracing::dispatcher::set_default(&subscriber.into());
    // Once more, for a line that was on its way to be remembered when the second one came.
    tracing::callsite::rebuild_interest_cache();
    guard
}

/// Signals between a handler and its test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// One permit for each handler that has started.
    pub(crate) entered: Arc<Count>,
    /// Lets handlers go on.
    pub(crate) open: Arc<Notify>,
    /// One for each handler that was dropped or has ended.
    pub(crate) left: Arc<Count>,
}

/// A number that grows, and can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Count {
    count: AtomicUsize,
    grown: Notify,
}

impl Count {
    pub(crate) fn add(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.grown.notify_waiters();
    }

    pub(crate) fn get(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until it has reached `count`.
    pub(crate) async fn reach(&self, count: usize) {
        loop {
            let grown = self.grown.notified();
            if self.get() >= count {
                return;
            }
            grown.await;
        }
    }
}

impl Gate {
    /// What a handler runs: says that it is there, waits for the gate, says that it is gone.
    pub(crate) async fn pass(&self) {
        let _left = Leaving(Arc::clone(&self.left));
        self.entered.add();
        self.open.notified().await;
    }

    /// A method that passes the gate and then answers with what it was sent.
    pub(crate) fn method(&self, name: &str) -> Method {
        self.method_version(name, 1)
    }

    /// [`Gate::method`] in another version.
    pub(crate) fn method_version(&self, name: &str, version: u16) -> Method {
        let gate = self.clone();
        Method::infallible(name, version, move |_cx: Cx, n: u64| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Answer::Ok(n)
            }
        })
    }
}

/// Counts when it is dropped.
pub(crate) struct Leaving(pub(crate) Arc<Count>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// The status of a call that must have failed with one.
pub(crate) fn status<R: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<R, CallError<E>>,
) -> Status {
    match result {
        Err(CallError::Rpc(status)) => status,
        other => panic!("expected a status, found {other:?}"),
    }
}

/// Checks how a call failed.
#[track_caller]
pub(crate) fn assert_status<R: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<R, CallError<E>>,
    code: Code,
    disposition: Disposition,
) -> Status {
    let status = status(result);
    assert_eq!((status.code(), status.disposition()), (code, disposition), "{status}");
    status
}

/// What must happen in 10 s, so that a test fails where it would wait for ever.
#[track_caller]
pub(crate) fn in_time<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    let timed = tokio::time::timeout(std::time::Duration::from_secs(10), what);
    async move { timed.await.unwrap_or_else(|_| panic!("nothing happened for 10 s at {at}")) }
}

/// Lets every other task run until all of them wait.
///
/// On a current-thread runtime a task that yields goes to the end of the queue, so a handful of
/// turns settles any chain of wake-ups that is shorter.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// A folder of its own, gone when it is dropped. Its name is short: sockets' paths must be.
#[derive(Debug)]
pub(crate) struct TempDir(std::path::PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("sb-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
