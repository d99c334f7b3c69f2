//! F31: futures that are dropped, wherever they are.
//!
//! ```text
//!   polls   dropped after k polls, for every k until it completes: at every await
//!   turns   dropped after k turns of the runtime: between the bytes of a frame, too
//! ```
//!
//! The stream between the two sides holds 16 bytes, so that no frame leaves at once. Afterwards the
//! next call on the channel works, and the server, which checks every byte, has read whole frames
//! and a farewell.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use switchback::driver::{Runtime, ServerSettings, ServerTotals, serve_stream};
use switchback::proto::ServerLimits;
use switchback::service::Fingerprint;
use switchback::transport::{Accept, Accepting, Address, Connect, Connecting, Stream, duplex};
use switchback::wire::{CloseReason, FRAME_BYTES_DEFAULT, VersionRange};
use switchback::{
    Channel, ClientConfig, Code, Cx, Dispatch, Disposition, Error, ErrorKind, Method, Router,
    Server, ServerConfig, Stub,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::{Answer, Count, Gate, Plain, leak, now, plain, settle, status};

const MS: Duration = Duration::from_millis(1);
/// Bytes that fit between the two sides.
const NARROW_BYTES: usize = 16;
const GATE: &str = "it.Gate/pass";

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Bomb {
    Polls(usize),
    Turns(usize),
}

impl Bomb {
    /// The output, unless it was dropped before.
    async fn run<T: Send + 'static>(
        self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match self {
            Self::Polls(polls) => {
                let mut future = Box::pin(future);
                let mut polled = 0;
                std::future::poll_fn(move |cx| {
                    if polled == polls {
                        return Poll::Ready(None);
                    }
                    polled += 1;
                    future.as_mut().poll(cx).map(Some)
                })
                .await
            }
            Self::Turns(turns) => {
                let task = tokio::spawn(future);
                for turn in 1..=turns {
                    if turn % 32 == 0 {
                        tokio::time::advance(MS * 20).await;
                    }
                    tokio::task::yield_now().await;
                }
                task.abort();
                task.await.ok()
            }
        }
    }
}

/// What a call meets on its way.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Way {
    /// A dial that fails, a rest, a slow dial; then the wait for the table, and for the answer.
    Dial,
    /// Another call in the only place that the client has.
    Room,
    /// Another client in the only place that the server has, until it has refused once.
    Refusal,
}

/// A client and a server, with a network of narrow streams between them.
struct World {
    channel: Channel,
    net: Net,
    /// Whatever is in the way, and what takes it out of the way in time.
    beside: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Net {
    /// Dials that fail before one succeeds.
    failing: usize,
    dials: Arc<Count>,
    dispatch: Dispatch,
    settings: ServerSettings,
    served: Arc<Mutex<Vec<JoinHandle<Error>>>>,
}

impl Connect for Net {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            self.dials.add();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            if self.dials.get() <= self.failing {
                return Err(ErrorKind::Refused { address: self.address() }.into());
            }
            let (client_end, server_end) = duplex(NARROW_BYTES);
            let (settings, dispatch) = (self.settings.clone(), self.dispatch.clone());
            let (_, served) = serve_stream(server_end, settings, dispatch, Runtime::tokio());
            self.served.lock().unwrap().push(tokio::spawn(served));
            Ok(client_end)
        })
    }

    fn address(&self) -> String {
        "narrow".to_owned()
    }
}

impl World {
    async fn new(way: Way) -> Self {
        let gate = Gate::default();
        let router = Router::new().method(slow()).method(gate.method(GATE));
        let calls_max = if way == Way::Refusal { 1 } else { 1000 };
        let limits = ServerLimits {
            versions: VersionRange::OURS,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            calls_max: 64,
            window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
            codecs: vec![1],
            build: String::new(),
        };
        let mut settings = ServerSettings::new(limits);
        settings.totals = Arc::new(ServerTotals::new(calls_max, usize::MAX));
        let net = Net {
            failing: usize::from(way == Way::Dial),
            dials: Arc::default(),
            dispatch: router.into_dispatch().unwrap(),
            settings,
            served: Arc::default(),
        };
        let mut config = ClientConfig::default();
        config.wait_for_ready = true;
        config.in_flight_calls_max = if way == Way::Room { 1 } else { 1000 };
        let connect = || {
            let builder = Channel::builder().config(config.clone());
            builder.transport(net.clone()).unwrap()
        };
        let channel = connect();
        let mut beside = Vec::new();
        let hold = |channel: &Channel| {
            let held = channel.call(plain::<u64, u64>(GATE), 1);
            tokio::spawn(async move { drop(held.await) })
        };
        match way {
            Way::Dial => {}
            Way::Room => {
                beside.push(hold(&channel));
                gate.entered.reach(1).await;
                beside.push(tokio::spawn(async move {
                    tokio::time::sleep(MS * 3).await;
                    gate.open.notify_one();
                }));
            }
            Way::Refusal => {
                beside.push(hold(&connect()));
                gate.entered.reach(1).await;
                let totals = Arc::clone(&net.settings.totals);
                beside.push(tokio::spawn(async move {
                    while totals.load().overloads == 0 {
                        tokio::task::yield_now().await;
                    }
                    gate.open.notify_one();
                }));
            }
        }
        Self { channel, net, beside }
    }

    /// The next call works, and every connection ends in good order.
    async fn check(self, what: &str) {
        let Self { channel, net, beside } = self;
        let next = channel.call(slow_stub(), "next".to_owned()).await;
        assert_eq!(next, Ok("next".to_owned()), "{what}");
        drop(channel);
        beside.iter().for_each(JoinHandle::abort);
        for held in beside {
            drop(held.await);
        }
        let served = std::mem::take(&mut *net.served.lock().unwrap());
        assert!(!served.is_empty());
        for end in served {
            let error = end.await.unwrap();
            assert_eq!(error.close_reason(), Some(CloseReason::NORMAL), "{what}: {error}");
        }
    }
}

/// Answers after two milliseconds.
fn slow() -> Method {
    Method::infallible("it.Slow/slow", 2, |_cx: Cx, text: String| async move {
        tokio::time::sleep(MS * 2).await;
        Answer::Ok(text)
    })
}

/// In two versions, so that it waits for the table.
fn slow_stub() -> Plain<String, String> {
    let stub = Stub::infallible("it.Slow/slow", 2, Fingerprint::UNCHECKED);
    leak(stub.compat_infallible::<String, String>(1, Fingerprint::UNCHECKED))
}

/// CA-12: a call may be dropped wherever it is: connecting, resting between dials, waiting for the
/// table, for room, for the answer, resting after a refusal. No half frame is on the wire, and the
/// next call works.
#[tokio::test(start_paused = true)]
async fn ca_12_a_call_may_be_dropped_anywhere() {
    let mut completed = BTreeSet::new();
    for way in [Way::Dial, Way::Room, Way::Refusal] {
        for kind in [Bomb::Polls, Bomb::Turns] {
            for k in 0..2000 {
                let world = World::new(way).await;
                let call = world.channel.call(slow_stub(), "x".repeat(200));

                let ended = kind(k).run(call).await;

                let (dials, load) = (world.net.dials.get(), world.net.settings.totals.load());
                world.check(&format!("{way:?}, {:?}", kind(k))).await;
                if let Some(answer) = ended {
                    assert_eq!(answer, Ok("x".repeat(200)));
                    match way {
                        Way::Dial => assert_eq!(dials, 2),
                        Way::Room => assert_eq!(load.overloads, 0),
                        Way::Refusal => assert!(load.overloads > 0),
                    }
                    completed.insert((way, matches!(kind(k), Bomb::Polls(_)), k));
                    break;
                }
            }
        }
    }
    eprintln!("(way, by polls, k): {completed:?}");
    assert_eq!(completed.len(), 6, "{completed:?}");
    for (way, by_polls, k) in completed {
        assert!(k >= if by_polls { 3 } else { 30 }, "{way:?} has only {k} places");
    }
}

/// `ready` may be dropped anywhere: the attempt goes on, and the next call works.
#[tokio::test(start_paused = true)]
async fn a_wait_for_the_connection_may_be_dropped_anywhere() {
    for kind in [Bomb::Polls, Bomb::Turns] {
        let mut k = 0;
        loop {
            let world = World::new(Way::Dial).await;
            let channel = world.channel.clone();
            let ended = kind(k).run(async move { channel.ready().await }).await;
            world.check(&format!("{:?}", kind(k))).await;
            if let Some(ready) = ended {
                assert!(ready.is_ok());
                break;
            }
            k += 1;
        }
        assert!(k >= 2, "{k}");
    }
}

/// The server's end of a network without sockets.
struct Doors(tokio::sync::Mutex<mpsc::UnboundedReceiver<Stream>>);

impl Accept for Doors {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(async {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok(stream),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> Address {
        Address::Tcp { host: "narrow".to_owned(), port: 0 }
    }
}

/// `serve_until` may be dropped anywhere, while it accepts, serves and drains: every call has an
/// outcome at once that is true, and no handler is left.
#[tokio::test(start_paused = true)]
async fn a_server_may_be_dropped_anywhere() {
    let mut places = 0;
    for turns in 0..4000 {
        let (streams, doors) = mpsc::unbounded_channel();
        let gate = Gate::default();
        let started = Arc::new(Mutex::new(BTreeSet::new()));
        let (note, inner) = (Arc::clone(&started), gate.clone());
        let wait = Method::infallible(GATE, 1, move |_cx: Cx, n: u64| {
            note.lock().unwrap().insert(n);
            let gate = inner.clone();
            async move {
                gate.pass().await;
                Answer::Ok(n)
            }
        });
        let mut config = ServerConfig::default();
        config.drain_timeout = MS * 300;
        let server = Server::new().config(config).method(slow()).method(wait);
        let server = server.listen(Doors(tokio::sync::Mutex::new(doors))).unwrap();
        let channel = |number: u64| {
            let (client_end, server_end) = duplex(NARROW_BYTES);
            streams.send(server_end).unwrap();
            let channel = Channel::builder().stream(client_end).unwrap();
            let call = |n: u64| tokio::spawn(channel.call(plain::<u64, u64>(GATE), n));
            [1, 2, 3].map(|n| (number * 10 + n, call(number * 10 + n)))
        };
        let calls = [channel(1), channel(2)];
        let shutdown = async {
            for _ in 0..SHUTDOWN_TURN {
                tokio::task::yield_now().await;
            }
        };
        let ended = Bomb::Turns(turns).run(server.serve_until(shutdown)).await;
        let begun = now();
        // Streams that nobody will accept any more.
        drop(streams);
        for (n, call) in calls.into_iter().flatten() {
            let found = status(call.await.unwrap());
            let is_started = started.lock().unwrap().contains(&n);
            assert!(matches!(found.code(), Code::CONNECTION_LOST | Code::NOT_CONNECTED), "{found}");
            let is_unsent = found.disposition() == Disposition::NotProcessed;
            assert!(!(is_unsent && is_started), "turn {turns}: call {n} ran, but {found}");
        }
        assert_eq!(now(), begun, "turn {turns}: at once");
        settle().await;
        assert_eq!(gate.left.get(), gate.entered.get(), "turn {turns}");
        if ended.is_some() {
            assert!(gate.entered.get() == 6, "all calls ran until they were cut");
            break;
        }
        places += 1;
    }
    assert!(places > SHUTDOWN_TURN + 50 && places < 4000, "{places}");
}

/// Turns until a server in the test above is asked to stop.
const SHUTDOWN_TURN: usize = 120;

/// A runtime that goes in the middle of a write leaves part of a frame and the end behind it, never
/// more; the call, held by another runtime, has an outcome, and so has the next one.
#[test]
fn a_runtime_may_be_dropped_in_the_middle_of_a_write() {
    let outside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for turns in 0..120 {
        let inside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut raw, stream) = crate::raw::Raw::pair(NARROW_BYTES);
        let (channel, call) = inside.block_on(async move {
            let channel = Channel::builder().stream(stream).unwrap();
            let stub: Plain<String, String> = plain("it.Text/say");
            let mut call = Box::pin(channel.call(stub, "x".repeat(300)));
            std::future::poll_fn(|cx| {
                assert!(call.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            (channel, call)
        });
        inside.block_on(async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
                raw.has_unread().await; // Makes room for 16 bytes more.
            }
        });
        drop(inside);

        let read = outside.block_on(async {
            let error = status(call.await);
            let is_lost = matches!(error.code(), Code::CONNECTION_LOST | Code::NOT_CONNECTED);
            assert!(is_lost, "turn {turns}: {error}");
            let stub: Plain<String, String> = plain("it.Text/say");
            let next = status(channel.call(stub, "next".to_owned()).await);
            assert_eq!(next.disposition(), Disposition::NotProcessed, "turn {turns}: {next}");
            drop(channel); // It may hold the stream, never used.
            raw.rest().await
        });
        let (frames, rest) = crate::scripted::frames_and_rest(&read);
        let is_whole = frames.len() == 2;
        assert!(frames.len() <= 2 && (rest.is_empty() || !is_whole), "turn {turns}: {frames:?}");
    }
}
