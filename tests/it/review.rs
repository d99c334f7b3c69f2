//! What is easily forgotten: wake-ups, places and locks where a caller or user code misbehaves.
//!
//! Invariant: what would hang when broken is waited for on a thread of its own, with a limit.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use switchback::client::ClientConfig;
use switchback::driver::{Clock, Runtime};
use switchback::service::{Fingerprint, Run};
use switchback::transport::Stream;
use switchback::wire::{CallId, Frame, Kind, append_control};
use switchback::{Channel, Code, Cx, Disposition, Method, Router, Server, ServerConfig, Stub};
use tokio::io::AsyncWrite;

use crate::raw::{Ask, Raw, response, table};
use crate::support::{
    Answer, Plain, assert_status, driven, echo, echo_stub, leak, mem, plain, raw_server, run,
    settle,
};

/// A waker that counts.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Does something when it is dropped, once.
struct OnDrop(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl OnDrop {
    fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(act))))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(act) = self.0.lock().unwrap().take() {
            act();
        }
    }
}

impl Wake for OnDrop {
    fn wake(self: Arc<Self>) {}
}

fn poll_once<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

/// Runs `test` on a thread and a runtime of its own; fails when it hangs.
fn in_time(test: impl Future<Output = ()> + Send + 'static) {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(20)).expect("it hangs, or it failed");
}

/// Waiting for a connection and giving up leaves nobody's place taken.
#[tokio::test(start_paused = true)]
async fn giving_up_readiness_gives_the_place_back() {
    let mut config = ClientConfig::default();
    config.queued_calls_max = 1;
    let (channel, mut raw) = raw_server(Channel::builder().config(config));
    let waker = Waker::noop();

    for _ in 0..3 {
        assert!(poll_once(pin!(channel.ready()), waker).is_pending());
    }
    settle().await; // It is connected now, without a table.
    for _ in 0..3 {
        assert!(poll_once(pin!(channel.ready()), waker).is_pending());
    }
    let two = leak(
        Stub::<u64, u64, std::convert::Infallible>::infallible(
            "it.Echo/echo",
            2,
            Fingerprint::UNCHECKED,
        )
        .compat_infallible::<u64, u64>(1, Fingerprint::UNCHECKED),
    );
    let call = tokio::spawn(channel.call(two, 7));
    settle().await;
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 1 << 20).await;
    let (id, version, payload) = raw.request().await;
    assert_eq!(version, 1);
    raw.answer_ok(id, &payload).await;
    assert_eq!(call.await.unwrap().unwrap(), 7);
}

/// "For ever" is a setting like any other.
#[tokio::test]
async fn no_setting_is_too_long() {
    let mut config = ServerConfig::default();
    config.handshake_timeout = Duration::MAX;
    config.drain_timeout = Duration::MAX;
    config.linger_timeout = Duration::MAX;
    let server = Server::new().method(echo()).config(config);
    let tcp = run(server.bind("tcp://127.0.0.1:0").await.unwrap());

    let mut config = ClientConfig::default();
    config.handshake_timeout = Duration::MAX;
    config.connect_timeout = Duration::MAX;
    config.call_timeout = Duration::MAX;
    let channel = Channel::builder().config(config).connect(&tcp.url).await.unwrap();
    assert_eq!(channel.call(echo_stub(), 7).await.unwrap(), 7);
    tcp.stop.send(()).unwrap();
    assert_eq!(tcp.drained.await.unwrap().unwrap().connections, 1);
}

/// A runtime that is gone takes its connections along; the calls on them end all the same.
#[test]
fn a_runtime_that_ends_ends_its_calls() {
    let new = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (new(), new());
    let (channel, raw) = first.block_on(async {
        let (channel, mut raw) = raw_server(Channel::builder());
        let ready = channel.ready();
        let greet = async {
            raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 1 << 20).await;
        };
        let (ready, ()) = tokio::join!(ready, greet);
        ready.unwrap();
        (channel, raw)
    });
    let mut call = pin!(channel.call(echo_stub(), 7).timeout(Duration::from_millis(50)));
    {
        let _first = first.enter();
        assert!(poll_once(call.as_mut(), Waker::noop()).is_pending());
    }
    drop(first);
    let outcome =
        second.block_on(async { tokio::time::timeout(Duration::from_secs(5), call).await });
    let status =
        assert_status(outcome.expect("an outcome"), Code::CONNECTION_LOST, Disposition::Maybe);
    drop((status, raw));
}

/// What a refused handler holds may look at the table when it is dropped.
#[test]
fn a_refused_handler_is_dropped_without_a_lock() {
    in_time(async {
        let (_channel, dispatch, _served) = mem(Server::new().method(echo()));
        let (dropped, seen) = std::sync::mpsc::channel();
        let its = dispatch.clone();
        let held = Arc::new(OnDrop::new(move || dropped.send(its.stats().len()).unwrap()));
        let method = Method::infallible("it.Echo/echo", 1, move |_cx: Cx, n: u64| {
            let held = Arc::clone(&held);
            async move {
                drop(held);
                Answer::Ok(n)
            }
        });
        dispatch.install(method).unwrap_err();
        assert_eq!(seen.recv().unwrap(), 1);
    });
}

/// What a retired handler holds may look at the table when it is dropped.
#[test]
fn a_retired_handler_is_dropped_without_a_lock() {
    in_time(async {
        let (_channel, dispatch, _served) = mem(Server::new().method(echo()));
        let (dropped, seen) = std::sync::mpsc::channel();
        let its = dispatch.clone();
        let held = Arc::new(OnDrop::new(move || dropped.send(its.stats().len()).unwrap()));
        let method = Method::infallible("it.Echo/echo", 2, move |_cx: Cx, n: u64| {
            let held = Arc::clone(&held);
            async move {
                drop(held);
                Answer::Ok(n)
            }
        });
        dispatch.install(method).unwrap();
        let retirement = dispatch.retire("it.Echo/echo", 2).unwrap();
        assert!(retirement.is_drained());
        assert_eq!(seen.recv().unwrap(), 2);
    });
}

/// A waker may hold a task, and that a call: dropping it takes the call back, on the connection
/// whose lock must not be held by then.
#[test]
fn wakers_are_dropped_without_a_lock() {
    in_time(async {
        let mut config = ClientConfig::default();
        config.in_flight_calls_max = 2;
        let (channel, mut raw) = raw_server(Channel::builder().config(config));
        let ready = channel.ready();
        let greet = async {
            raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 1 << 20).await;
        };
        tokio::join!(ready, greet).0.unwrap();

        // Every way in which a waker that was kept is replaced or dropped.
        for way in 0..3 {
            let mut held = Box::pin(channel.call(echo_stub(), 1));
            assert!(poll_once(held.as_mut(), Waker::noop()).is_pending());
            let mut call = Box::pin(channel.call(echo_stub(), 2));
            if way == 2 {
                // Both places are taken: this one waits in the queue.
                let mut other = Box::pin(channel.call(echo_stub(), 3));
                assert!(poll_once(other.as_mut(), Waker::noop()).is_pending());
                let waker = Waker::from(Arc::new(OnDrop::new(move || drop((held, other)))));
                assert!(poll_once(call.as_mut(), &waker).is_pending());
            } else {
                let waker = Waker::from(Arc::new(OnDrop::new(move || drop(held))));
                assert!(poll_once(call.as_mut(), &waker).is_pending());
            }
            if way == 0 {
                assert!(poll_once(call.as_mut(), Waker::noop()).is_pending());
            }
            drop(call);
            for id in [raw.request().await.0, raw.request().await.0] {
                raw.write(&response(id, Code::CANCELLED, Disposition::Maybe, &[], &[])).await;
            }
            settle().await;
            let mut probe = Box::pin(channel.call(echo_stub(), 9));
            assert!(poll_once(probe.as_mut(), Waker::noop()).is_pending());
            let id = loop {
                // Cancels come first.
                if let Frame::Request(request) = raw.frame().await.parse().unwrap() {
                    break request.call.0;
                }
            };
            raw.answer_ok(id, &[9]).await;
            assert_eq!(probe.await.unwrap(), 9);
        }
    });
}

/// A client that does not read is told the last table, not every one there ever was.
#[tokio::test(start_paused = true)]
async fn tables_for_a_client_that_does_not_read_are_bounded() {
    let (mut raw, stream) = Raw::pair(64);
    let server = Server::new().method(echo());
    let (dispatch, served) = server.serve_stream(stream).unwrap();
    let served = tokio::spawn(served);
    raw.greet_server().await;

    for at in 0..60_000_u32 {
        let ceiling = if at % 2 == 0 { 0 } else { 1 };
        dispatch.set_ceiling("it.Echo/echo", Some(ceiling)).unwrap();
    }
    dispatch.set_ceiling("it.Echo/echo", None).unwrap();
    raw.ask(Ask::new(1, "it.Echo/echo")).await;
    let (mut bytes, mut last) = (0, None);
    loop {
        let frame = raw.frame().await;
        bytes += frame.as_bytes().len();
        match frame.parse().unwrap() {
            Frame::TableUpdate(update) => last = Some(update.rows[0].ceiling),
            Frame::Response(_) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    settle().await;
    assert!(bytes < 1_100_000, "{bytes} bytes of tables");
    raw.shutdown().await;
    while let Some(frame) = raw.next().await {
        if let Frame::TableUpdate(update) = frame.parse().unwrap() {
            last = Some(update.rows[0].ceiling);
        }
    }
    assert_eq!(last, Some(switchback::wire::MethodRow::NO_CEILING));
    served.await.unwrap();
}

/// Large, and does something while it is encoded.
struct Meddler(Option<Hook>);

impl<'de> Deserialize<'de> for Meddler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|_| Self(None))
    }
}

type Hook = Box<dyn Fn() + Send + Sync>;

impl Serialize for Meddler {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(hook) = &self.0 {
            hook();
        }
        serializer.serialize_u64(7)
    }
}

/// Room that is gone again while the request was encoded: the newest waker is the one that waits.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_loses_its_room_keeps_its_newest_waker() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = channel.ready();
    let greet = async {
        raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 64, 4 << 20).await;
    };
    tokio::join!(ready, greet).0.unwrap();
    let large: Plain<Vec<u8>, u64> = plain("it.Echo/echo");
    let meddling: &'static Stub<Meddler, u64, _> = plain("it.Echo/echo");

    let mut first = Box::pin(channel.call(large, vec![1; 3 << 20]));
    assert!(poll_once(first.as_mut(), Waker::noop()).is_pending());
    let second = Arc::new(Mutex::new(Box::pin(channel.call(large, vec![2; 3 << 20]))));
    let is_armed = Arc::new(AtomicUsize::new(0));
    let (its_second, its_arm) = (Arc::clone(&second), Arc::clone(&is_armed));
    let hook: Hook = Box::new(move || {
        if its_arm.load(Ordering::SeqCst) == 1 {
            let mut second = its_second.lock().unwrap();
            assert!(poll_once(second.as_mut(), Waker::noop()).is_pending());
        }
    });
    let mut call = Box::pin(channel.call(meddling, Meddler(Some(hook))));
    let (old, new) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    assert!(poll_once(call.as_mut(), &Waker::from(Arc::clone(&old))).is_pending());
    raw.request().await;
    settle().await;
    assert_eq!(old.0.load(Ordering::SeqCst), 1, "room again");

    is_armed.store(1, Ordering::SeqCst);
    assert!(poll_once(call.as_mut(), &Waker::from(Arc::clone(&new))).is_pending());
    raw.request().await;
    settle().await;
    assert_eq!(new.0.load(Ordering::SeqCst), 1, "room once more");
}

/// A clock that a test sets; a wait is over when somebody looks after its time.
#[derive(Clone)]
struct SetClock {
    start: std::time::Instant,
    passed_ms: Arc<AtomicUsize>,
}

impl Clock for SetClock {
    fn now(&self) -> std::time::Instant {
        let passed_ms = self.passed_ms.load(Ordering::SeqCst);
        self.start + Duration::from_millis(passed_ms.try_into().unwrap())
    }

    fn sleep_until(&self, at: std::time::Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = self.clone();
        Box::pin(std::future::poll_fn(move |_| match clock.now() >= at {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }
}

/// Takes a millisecond for every write, and has another call ready by then.
struct Busy<W> {
    io: W,
    passed_ms: Arc<AtomicUsize>,
    next: Arc<Mutex<Option<Hook>>>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Busy<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.passed_ms.fetch_add(1, Ordering::SeqCst);
        if let Some(next) = &*self.next.lock().unwrap() {
            next();
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Notes when it was woken.
struct WokenAt(Arc<AtomicUsize>, Mutex<Option<usize>>);

impl Wake for WokenAt {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().get_or_insert(self.0.load(Ordering::SeqCst));
    }
}

/// Deadlines pass while there is always something to write.
#[tokio::test]
async fn a_busy_flusher_ends_calls_in_time() {
    let passed_ms = Arc::new(AtomicUsize::new(0));
    let next = Arc::new(Mutex::new(None::<Hook>));
    let tokio = Runtime::tokio();
    let clock = SetClock { start: tokio.clock.now(), passed_ms: Arc::clone(&passed_ms) };
    let runtime = Runtime { clock: Arc::new(clock), ..tokio };
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (reader, io) = tokio::io::split(ours);
    let busy = Busy { io, passed_ms: Arc::clone(&passed_ms), next: Arc::clone(&next) };
    let channel =
        Channel::builder().runtime(runtime).stream(Stream::new(reader, busy, "mem")).unwrap();
    let mut raw = Raw::new(theirs);
    let table = table(&[("it.Echo/echo", &[1])]);
    let greet = raw.greet_client(&table, 1024, 1 << 20);
    tokio::join!(channel.ready(), greet).0.unwrap();

    let calls = Mutex::new(Vec::new());
    let its = channel.clone();
    *next.lock().unwrap() = Some(Box::new(move || {
        let mut calls = calls.lock().unwrap();
        if calls.len() < 500 {
            let mut call = Box::pin(its.call(echo_stub(), 7));
            assert!(poll_once(call.as_mut(), Waker::noop()).is_pending());
            calls.push(call);
        }
    }));
    let begun_ms = passed_ms.load(Ordering::SeqCst);
    let woken = Arc::new(WokenAt(Arc::clone(&passed_ms), Mutex::new(None)));
    let call = channel.call(echo_stub(), 1).timeout(Duration::from_millis(50));
    let mut call = pin!(call);
    assert!(poll_once(call.as_mut(), &Waker::from(Arc::clone(&woken))).is_pending());
    settle().await;
    let after_ms = woken.1.lock().unwrap().expect("it was woken") - begun_ms;
    assert!((50..=100).contains(&after_ms), "woken after {after_ms} ms");
    *next.lock().unwrap() = None;
}

/// A handler's function has run when its call was taken back: that is not "not processed".
#[tokio::test(start_paused = true)]
async fn a_function_that_ran_was_executed() {
    let ran = Arc::new(AtomicUsize::new(0));
    let its = Arc::clone(&ran);
    let method = Method::infallible("it.Echo/echo", 1, move |_cx: Cx, n: u64| {
        its.fetch_add(1, Ordering::SeqCst);
        async move { Answer::Ok(n) }
    });
    let router = Router::new().method(method.run(Run::Spawn));
    let (mut raw, _handle, _served) = driven(router, &ServerConfig::default(), 65_536);
    raw.greet_server().await;
    let mut bytes = Ask::new(1, "it.Echo/echo").to_bytes();
    append_control(&mut bytes, Kind::CANCEL, CallId(1), &[], &[]);
    raw.write(&bytes).await;
    let reply = raw.reply().await;
    assert_eq!(reply.status, Code::CANCELLED);
    let was_executed = reply.disposition != Disposition::NotProcessed;
    assert!(was_executed || ran.load(Ordering::SeqCst) == 0, "{reply:?}");
}
