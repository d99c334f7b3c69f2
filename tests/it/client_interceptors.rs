//! A client's interceptors: per call above the retries, per attempt below them.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use switchback::service::Fingerprint;
use switchback::{
    AttemptInterceptor, CallError, Channel, ClientCx, ClientInterceptor, Code, Cx, Disposition,
    Ended, Hook, Method, Server, Status, Stub,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::interceptors::{Log, end_text};
use crate::support::{
    Answer, Count, Gate, Leaving, Plain, assert_status, echo, echo_stub, leak, mem_with, now, plain,
};

const MS: Duration = Duration::from_millis(1);

/// What a probe does with a call or an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    Pass,
    /// After two turns of the runtime.
    Later,
    Refuse,
    Hang,
    /// Not the first attempt, the second.
    HangLater,
    PanicAfter,
}

/// An interceptor of both kinds that logs.
#[derive(Clone)]
struct Probe {
    name: &'static str,
    act: Act,
    log: Log,
    dropped: Arc<Count>,
    tokens: Arc<AtomicUsize>,
    /// Let pass, and told the end.
    passed: Arc<AtomicUsize>,
    told: Arc<AtomicUsize>,
}

impl Probe {
    fn new(name: &'static str, act: Act, log: &Log) -> Self {
        Self {
            name,
            act,
            log: log.clone(),
            dropped: Arc::default(),
            tokens: Arc::default(),
            passed: Arc::default(),
            told: Arc::default(),
        }
    }

    fn judge<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        let attempt = cx.attempt().map_or_else(String::new, |n| format!(" #{n}"));
        self.log.say(format!("before {}{attempt}", self.name));
        let token = format!("{}{}", self.name, self.tokens.fetch_add(1, Ordering::SeqCst));
        cx.add_metadata("token", token.as_bytes()).unwrap();
        let hangs =
            self.act == Act::Hang || (self.act == Act::HangLater && cx.attempt() == Some(1));
        let pass = || {
            self.passed.fetch_add(1, Ordering::SeqCst);
        };
        match self.act {
            _ if hangs => Hook::wait(async {
                let _dropped = Leaving(Arc::clone(&self.dropped));
                pending().await
            }),
            Act::Later => Hook::wait(async move {
                let _dropped = Leaving(Arc::clone(&self.dropped));
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                cx.extensions_mut().insert(token);
                pass();
                Ok(())
            }),
            Act::Refuse => Hook::ready(Err(Status::new(Code::RESOURCE_EXHAUSTED, "no token"))),
            _ => {
                pass();
                Hook::pass()
            }
        }
    }

    fn tell(&self, cx: &ClientCx, ended: &Ended) {
        self.told.fetch_add(1, Ordering::SeqCst);
        let attempt = cx.attempt().map_or_else(String::new, |n| format!(" #{n}"));
        let text = end_text(ended);
        self.log.say(format!("after {}{attempt}: {text} in {}", self.name, ended.attempts));
        assert_ne!(self.act, Act::PanicAfter, "it panics when it is told");
    }
}

impl ClientInterceptor for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        assert_eq!((cx.method_name(), cx.version(), cx.peer()), ("it.Echo/echo", None, None));
        self.judge(cx)
    }

    fn after(&self, cx: &ClientCx, ended: &Ended) {
        self.tell(cx, ended);
    }
}

impl AttemptInterceptor for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        assert_eq!(cx.peer(), Some("mem"));
        self.judge(cx)
    }

    fn after(&self, cx: &ClientCx, ended: &Ended) {
        self.tell(cx, ended);
    }
}

/// A server that refuses attempts below `until`, and logs the tokens it is shown.
fn refusing(log: &Log, until: u8) -> Server {
    let log = log.clone();
    let method = Method::infallible("it.Echo/echo", 1, move |cx: Cx, n: u64| {
        let tokens = cx.metadata().iter().filter(|(name, _)| *name == "token");
        let tokens: Vec<_> = tokens.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        log.say(format!("handler #{}: {}", cx.attempt(), tokens.join(" ")));
        async move { Answer::Ok(n) }
    });
    let gate = Refuse(until);
    Server::new().method(method).interceptor(gate)
}

/// Refuses attempts below a number as if it were overloaded.
struct Refuse(u8);

impl switchback::ServerInterceptor for Refuse {
    fn name(&self) -> &'static str {
        "refuse"
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        let is_refused = cx.attempt() < self.0;
        let refusal = || Status::new(Code::OVERLOADED, "come again");
        Hook::ready(if is_refused { Err(refusal()) } else { Ok(()) })
    }
}

/// A stub that may be tried again.
fn stub() -> Plain<u64, u64> {
    leak(Stub::infallible("it.Echo/echo", 1, Fingerprint::UNCHECKED).idempotent())
}

/// The order is: hooks of the call > retry > hooks of the attempt > connection. Every attempt has a
/// token of its own, the call's goes with all of them, and each is told how it ended.
#[tokio::test(start_paused = true)]
async fn hooks_of_the_call_are_above_retries_and_those_of_attempts_below() {
    for act in [Act::Pass, Act::Later] {
        let log = Log::default();
        let builder = Channel::builder()
            .interceptor(Probe::new("call", act, &log))
            .interceptor(Probe::new("inner", act, &log))
            .attempt_interceptor(Probe::new("attempt", act, &log));
        let (channel, _, _server) = mem_with(refusing(&log, 1), builder);
        assert_eq!(channel.call(stub(), 7).metadata("own", b"1").await, Ok(7));

        let all = [
            "before call",
            "before inner",
            "before attempt #0",
            "after attempt #0: OVERLOADED NotProcessed in 1",
            "before attempt #1",
            "handler #1: call0 inner0 attempt1",
            "after attempt #1: Ok in 1",
            "after inner: Ok in 2",
            "after call: Ok in 2",
        ];
        assert_eq!(log.take(), all);
    }
}

/// A refusal has the hook's code and name, was not executed, and nothing is sent; that of an
/// attempt ends the call. Shown by the server, which sees no call.
#[tokio::test]
async fn a_refusal_at_the_client_is_not_processed() {
    for per_call in [true, false] {
        let log = Log::default();
        let (first, second) =
            (Probe::new("a", Act::Pass, &log), Probe::new("b", Act::Refuse, &log));
        let builder = match per_call {
            true => Channel::builder().interceptor(first).interceptor(second),
            false => Channel::builder().attempt_interceptor(first).attempt_interceptor(second),
        };
        let (channel, dispatch, _server) = mem_with(Server::new().method(echo()), builder);
        let result = channel.call(echo_stub(), 1).await;
        let status = assert_status(result, Code::RESOURCE_EXHAUSTED, Disposition::NotProcessed);
        assert_eq!(status.message(), "b: no token");
        let log = log.take();
        assert_eq!(log.len(), 3, "{log:?}");
        assert!(log[2].starts_with("after a") && log[2].contains("NotProcessed"), "{log:?}");
        assert_eq!(dispatch.stats()[0].started, 0);
    }
}

/// P1: a hook that hangs ends with the call's time, and the error names it; its future is dropped.
/// Shown for both kinds on the paused clock, and for a retry, which may have been executed before.
#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_ends_with_the_deadline() {
    for per_call in [true, false] {
        let log = Log::default();
        let probe = Probe::new("tokens", Act::Hang, &log);
        let dropped = Arc::clone(&probe.dropped);
        let builder = match per_call {
            true => Channel::builder().interceptor(probe),
            false => Channel::builder().attempt_interceptor(probe),
        };
        let (channel, dispatch, _server) = mem_with(Server::new().method(echo()), builder);
        let begun = now();
        let result = channel.call(echo_stub(), 1).timeout(MS * 300).await;

        let status = assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
        assert!(status.message().contains("the interceptor tokens"), "{status}");
        assert!(now() - begun >= MS * 300 && now() - begun <= MS * 315);
        assert_eq!((dropped.get(), dispatch.stats()[0].started), (1, 0));
    }
    let log = Log::default();
    let builder =
        Channel::builder().attempt_interceptor(Probe::new("tokens", Act::HangLater, &log));
    let (channel, _, _server) = mem_with(refusing(&log, 2), builder);
    let result = channel.call(stub(), 1).timeout(MS * 900).await;
    let status = assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
    assert!(status.message().contains("the interceptor tokens"), "{status}");
}

/// An interceptor may shorten the timeout, which counts from the first poll, never lengthen it.
#[tokio::test(start_paused = true)]
async fn a_hook_may_shorten_the_timeout() {
    struct Shorten(Duration);
    impl ClientInterceptor for Shorten {
        fn name(&self) -> &'static str {
            "shorten"
        }
        fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
            cx.shorten_timeout(self.0);
            Hook::pass()
        }
    }
    for (wish, ms) in [(MS * 200, 200), (Duration::from_secs(60), 500), (Duration::MAX, 500)] {
        let gate = Gate::default();
        let server = Server::new().method(gate.method("it.Echo/echo"));
        let builder = Channel::builder().interceptor(Shorten(wish));
        let (channel, _, _server) = mem_with(server, builder);
        let begun = now();
        let result = channel.call(echo_stub(), 1).timeout(MS * 500).await;
        assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::Maybe);
        let took = now() - begun;
        assert!(took >= MS * ms && took <= MS * (ms + 15), "{took:?}");
    }
}

/// At most so many calls at a time: a permit in the extensions.
#[derive(Clone)]
struct Limit(Arc<Semaphore>);

impl ClientInterceptor for Limit {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        Hook::wait(async move {
            let permit = Arc::clone(&self.0).acquire_owned().await;
            let permit = permit.map_err(|_| Status::new(Code::UNAVAILABLE, "closed"))?;
            cx.extensions_mut().insert(permit);
            Ok(())
        })
    }

    fn after(&self, cx: &ClientCx, _ended: &Ended) {
        assert!(cx.extensions().get::<OwnedSemaphorePermit>().is_some());
    }
}

/// What is put into the extensions lives as long as the call. Shown by a limit of one, which the
/// second of two calls waits for, and which is free when both have ended, one of them by a drop.
#[tokio::test]
async fn what_is_put_into_the_extensions_lives_as_long_as_the_call() {
    let gate = Gate::default();
    let limit = Limit(Arc::new(Semaphore::new(1)));
    let builder = Channel::builder().interceptor(limit.clone());
    let server = Server::new().method(gate.method("it.Echo/echo"));
    let (channel, _, _server) = mem_with(server, builder);

    let first = tokio::spawn(channel.call(echo_stub(), 1));
    gate.entered.reach(1).await;
    let second = tokio::spawn(channel.call(echo_stub(), 2));
    crate::support::settle().await;
    assert_eq!((gate.entered.get(), limit.0.available_permits()), (1, 0));
    gate.open.notify_one();
    assert_eq!(first.await.unwrap(), Ok(1));
    gate.entered.reach(2).await;
    assert_eq!(limit.0.available_permits(), 0);
    second.abort();
    assert!(second.await.is_err());
    assert_eq!(limit.0.available_permits(), 1);
}

/// A call may be dropped at every poll, in every hook: who let it pass is told exactly once, the
/// hook's future is dropped, the permit is free, and the next call works.
#[tokio::test(start_paused = true)]
async fn a_call_may_be_dropped_at_every_poll_of_its_hooks() {
    let mut polls = 0;
    let mut ends = BTreeSet::new();
    loop {
        let log = Log::default();
        let [outer, inner, attempt] =
            ["outer", "inner", "attempt"].map(|name| Probe::new(name, Act::Later, &log));
        let limit = Limit(Arc::new(Semaphore::new(1)));
        let builder = Channel::builder()
            .interceptor(outer.clone())
            .interceptor(limit.clone())
            .interceptor(inner.clone())
            .attempt_interceptor(attempt.clone());
        let (channel, _, _server) = mem_with(refusing(&log, 1), builder);
        channel.ready().await.unwrap();
        let mut call = Some(Box::pin(channel.call(stub(), 7)));
        let mut polled = 0;
        let ended = std::future::poll_fn(|cx| {
            if polled == polls {
                call = None;
                return Poll::Ready(None);
            }
            polled += 1;
            call.as_mut().unwrap().as_mut().poll(cx).map(Some)
        })
        .await;

        for probe in [&outer, &inner, &attempt] {
            let (passed, told) = (&probe.passed, &probe.told);
            let (passed, told) = (passed.load(Ordering::SeqCst), told.load(Ordering::SeqCst));
            assert_eq!(passed, told, "{} after {polls} polls", probe.name);
            assert_eq!(probe.dropped.get(), probe.tokens.load(Ordering::SeqCst));
        }
        let last = log.take().pop();
        ends.extend(last.filter(|line| line.starts_with("after")));
        assert_eq!(limit.0.available_permits(), 1, "after {polls} polls");
        assert_eq!(channel.call(stub(), 8).await, Ok(8), "after {polls} polls");
        if let Some(answer) = ended {
            assert_eq!(answer, Ok(7));
            break;
        }
        polls += 1;
    }
    assert!(polls >= 10, "only {polls} places");
    let all = ["after outer: Cancelled in 0", "after outer: Cancelled in 1"];
    assert!(all.iter().all(|line| ends.contains(*line)), "{ends:?}");
    assert!(ends.contains("after outer: Ok in 2"), "{ends:?}");
}

/// A hook that panics when it is told the end costs nothing, not even when the call is dropped.
#[tokio::test]
async fn a_panic_in_after_costs_nothing() {
    let log = Log::default();
    let probe = || Probe::new("bad", Act::PanicAfter, &log);
    let builder = Channel::builder().interceptor(probe()).attempt_interceptor(probe());
    let gate = Gate::default();
    let server = Server::new().method(gate.method("it.Echo/echo"));
    let (channel, _, _server) = mem_with(server, builder);
    gate.open.notify_one();
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    let call = tokio::spawn(channel.call(echo_stub(), 2));
    gate.entered.reach(2).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled(), "dropped, not panicked");
    assert_eq!(log.take().iter().filter(|line| line.starts_with("after")).count(), 4);
}

/// CA-5: a re-send in another version is an attempt to its hooks, with the same number. Shown by a
/// hook that retires the version that was chosen.
#[tokio::test]
async fn ca_5_a_resend_passes_the_hooks_of_attempts() {
    struct Retire(Mutex<Option<switchback::Dispatch>>, Log);
    impl AttemptInterceptor for Retire {
        fn name(&self) -> &'static str {
            "retire"
        }
        fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
            if let Some(dispatch) = self.0.lock().unwrap().take() {
                drop(dispatch.retire("it.Echo/echo", 2).unwrap());
            }
            self.1.say(format!("before #{:?} v{:?}", cx.attempt(), cx.version()));
            Hook::pass()
        }
        fn after(&self, cx: &ClientCx, ended: &Ended) {
            self.1.say(format!("after #{:?}: {}", cx.attempt(), end_text(ended)));
        }
    }
    let log = Log::default();
    let two = Method::infallible("it.Echo/echo", 2, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
    let (client_end, server_end) = switchback::transport::duplex(crate::support::MEM_BYTES);
    let server = Server::new().method(echo()).method(two);
    let (dispatch, served) = server.serve_stream(server_end).unwrap();
    let _server = tokio::spawn(served);
    let retire = Retire(Mutex::new(Some(dispatch)), log.clone());
    let channel = Channel::builder().attempt_interceptor(retire).stream(client_end).unwrap();
    let stub = Stub::infallible("it.Echo/echo", 2, Fingerprint::UNCHECKED);
    let stub = leak(stub.compat_infallible::<u64, u64>(1, Fingerprint::UNCHECKED));

    assert_eq!(channel.call(stub, 5).await, Ok(5));
    let all = [
        "before #Some(0) vSome(2)",
        "after #Some(0): UNSUPPORTED_VERSION NotProcessed",
        "before #Some(0) vSome(1)",
        "after #Some(0): Ok",
    ];
    assert_eq!(log.take(), all);
}

/// Metadata that a hook adds keeps the limits of a call's; a hook that gives the error back refuses
/// the call with it.
#[tokio::test]
async fn ca_10_hooks_keep_the_limits_of_metadata() {
    struct Greedy(u64);
    impl ClientInterceptor for Greedy {
        fn name(&self) -> &'static str {
            "greedy"
        }
        fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
            Hook::ready((0..self.0).try_for_each(|_| cx.add_metadata("n", b"v")))
        }
    }
    for (count, fits) in [(62, true), (63, true), (64, false)] {
        let builder = Channel::builder().interceptor(Greedy(count));
        let pairs = Method::infallible("it.Echo/pairs", 1, |cx: Cx, _: u64| async move {
            Answer::Ok(cx.metadata().iter().count() as u64)
        });
        let (channel, _, _server) = mem_with(Server::new().method(pairs), builder);
        let stub: Plain<u64, u64> = plain("it.Echo/pairs");
        let result = channel.call(stub, 0).metadata("own", b"1").await;
        match result {
            Ok(pairs) => assert_eq!((pairs, fits), (count + 1, true)),
            Err(CallError::App(never)) => match never {},
            Err(CallError::Rpc(status)) => {
                assert!(!fits, "{status}");
                assert_eq!(status.code(), Code::TOO_LARGE);
                assert_eq!(status.disposition(), Disposition::NotProcessed);
                assert!(status.message().starts_with("greedy: "), "{status}");
            }
        }
    }
}
