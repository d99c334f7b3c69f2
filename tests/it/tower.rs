//! tower's own layers around handlers and calls: what they do, and what the caller is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use switchback::driver::Runtime;
use switchback::service::{
    Handlers, RawRequest, RawResponse, ServerAnswer, ServerRequest, TraceContext,
};
use switchback::{CallError, Channel, Code, Cx, Disposition, Method, Server, Status, Tracing};
use tokio::sync::Notify;
use tower::layer::layer_fn;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use crate::raw::Ask;
use crate::support::{
    Answer, Count, Gate, Plain, assert_status, echo, echo_stub, mem, mem_raw, mem_with, now, plain,
    settle,
};
use crate::versions::{pay, pay_stub};

const GATE: &str = "it.Gate/pass";
const MS: Duration = Duration::from_millis(1);
const NOT: Disposition = Disposition::NotProcessed;
const MAYBE: Disposition = Disposition::Maybe;
const PROCESSED: Disposition = Disposition::Processed;

type Answered = std::pin::Pin<Box<dyn Future<Output = Result<ServerAnswer, BoxError>> + Send>>;

/// A layer of one function.
#[derive(Clone)]
struct Around<F>(Handlers, F);

impl<F: Fn(Handlers, ServerRequest) -> Answered> Service<ServerRequest> for Around<F> {
    type Response = ServerAnswer;
    type Error = BoxError;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ServerRequest) -> Answered {
        (self.1)(self.0, request)
    }
}

fn around<F>(f: F) -> impl tower::Layer<Handlers, Service = Around<F>>
where
    F: Fn(Handlers, ServerRequest) -> Answered + Clone,
{
    layer_fn(move |handlers| Around(handlers, f.clone()))
}

/// A concurrency limit is the server's: clones and connections share it, and what waits runs when
/// there is room. Shown with two permits and three calls.
#[tokio::test]
async fn a_concurrency_limit_makes_calls_wait() {
    let gate = Gate::default();
    let layers = ServiceBuilder::new().concurrency_limit(2);
    let (channel, _, _server) = mem(Server::new().method(gate.method(GATE)).layer(layers));
    let stub: Plain<u64, u64> = plain(GATE);
    let calls: Vec<_> = (0..3).map(|n| tokio::spawn(channel.call(stub, n))).collect();

    gate.entered.reach(2).await;
    settle().await;
    assert_eq!(gate.entered.get(), 2);
    gate.open.notify_one();
    gate.entered.reach(3).await;
    gate.open.notify_waiters();
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
}

/// What is shed is OVERLOADED, NOT_PROCESSED, and was not even decoded; there is room again when
/// a call ends. Shown on the wire, with a payload that no number is.
#[tokio::test]
async fn shed_load_is_overloaded_and_not_processed() {
    let gate = Gate::default();
    let layers = ServiceBuilder::new().load_shed().concurrency_limit(1);
    let server = Server::new().method(gate.method(GATE)).layer(layers);
    let (mut raw, _, _server) = mem_raw(server).await;

    raw.ask(Ask::new(1, GATE)).await;
    gate.entered.reach(1).await;
    raw.ask(Ask { payload: b"", ..Ask::new(3, GATE) }).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status, reply.disposition), (3, Code::OVERLOADED, NOT));
    gate.open.notify_one();
    assert_eq!(raw.reply().await.status, Code::OK);
    raw.ask(Ask { payload: b"", ..Ask::new(5, GATE) }).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::BAD_PAYLOAD, NOT));
}

/// A layer's timeout drops the handler: DEADLINE_EXCEEDED, MAYBE, since nobody knows how far it
/// came. Shown on the paused clock.
#[tokio::test(start_paused = true)]
async fn a_layers_timeout_cuts_a_handler_off() {
    let gate = Gate::default();
    let layers = ServiceBuilder::new().timeout(50 * MS);
    let (channel, dispatch, _server) = mem(Server::new().method(gate.method(GATE)).layer(layers));
    let begun = now();

    let result = channel.call(plain::<u64, u64>(GATE), 1).await;

    let status = assert_status(result, Code::DEADLINE_EXCEEDED, MAYBE);
    assert!(status.message().contains("layer"), "{status}");
    assert!((50 * MS..=60 * MS).contains(&(now() - begun)), "{:?}", now() - begun);
    gate.left.reach(1).await;
    assert_eq!(dispatch.stats()[0].failed, 1);
}

/// A timeout that is over before the handler began says NOT_PROCESSED, and the handler never
/// begins. Shown with a layer that dawdles, and what ran.
#[tokio::test(start_paused = true)]
async fn a_timeout_before_the_handler_is_not_processed() {
    let gate = Gate::default();
    let dawdle = around(|mut handlers, request| {
        Box::pin(async move {
            tokio::time::sleep(200 * MS).await;
            Ok(handlers.call(request).await?)
        })
    });
    let layers = ServiceBuilder::new().timeout(50 * MS).layer(dawdle);
    let (channel, _, _server) = mem(Server::new().method(gate.method(GATE)).layer(layers));

    let result = channel.call(plain::<u64, u64>(GATE), 1).await;

    assert_status(result, Code::DEADLINE_EXCEEDED, NOT);
    tokio::time::sleep(300 * MS).await;
    assert_eq!(gate.entered.get(), 0);
}

/// A rate limit behind a buffer spaces calls out. Shown on the paused clock: three calls at one
/// every 100 ms take 200 ms.
#[tokio::test(start_paused = true)]
async fn a_buffered_rate_limit_spaces_calls_out() {
    let layers = ServiceBuilder::new().buffer(16).rate_limit(1, 100 * MS);
    let (channel, _, _server) = mem(Server::new().method(echo()).layer(layers));
    channel.ready().await.unwrap();
    let begun = now();

    let calls: Vec<_> = (0..3).map(|n| tokio::spawn(channel.call(echo_stub(), n))).collect();
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }

    assert!((200 * MS..300 * MS).contains(&(now() - begun)), "{:?}", now() - begun);
}

/// A layer that refuses with a `Status` gives the caller its code and message; the framework adds
/// that nothing was executed. Shown by one that wants metadata.
#[tokio::test]
async fn a_status_of_a_layer_reaches_the_caller() {
    let gate = around(|mut handlers, request| {
        Box::pin(async move {
            let cx = request.cx();
            if cx.metadata().get("token").is_none() {
                let status = Status::new(Code::UNAUTHENTICATED, "no token");
                return Err(status.with_retry_after(7 * MS).into());
            }
            assert_eq!((cx.version(), &request.payload()[..]), (1, &[5][..]));
            let answer = handlers.call(request).await?;
            assert_eq!(answer.code(), Code::OK);
            Ok(answer)
        })
    });
    let (channel, dispatch, _server) = mem(Server::new().method(echo()).layer(gate));

    let status = assert_status(channel.call(echo_stub(), 5).await, Code::UNAUTHENTICATED, NOT);
    assert_eq!((status.message(), status.retry_after()), ("no token", Some(7 * MS)));
    assert_eq!(channel.call(echo_stub(), 5).metadata("token", b"x").await, Ok(5));
    assert_eq!((dispatch.stats()[0].ok, dispatch.stats()[0].failed), (1, 1));
}

/// A layer that has put a call on a task of its own and then fails says NOT_PROCESSED, and it
/// stays true: the handler is not started any more. Shown by a task that goes on afterwards, on the
/// paused clock: all three attempts are made, however long the machine takes.
#[tokio::test(start_paused = true)]
async fn what_was_said_not_to_be_processed_never_starts() {
    let gate = Gate::default();
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(Count::default()));
    let spawning = {
        let (go, gone) = (Arc::clone(&go), Arc::clone(&gone));
        around(move |mut handlers, request| {
            let (go, gone) = (Arc::clone(&go), Arc::clone(&gone));
            tokio::spawn(async move {
                go.notified().await;
                let answer = handlers.call(request).await.unwrap();
                assert_eq!(answer.code(), Code::CANCELLED);
                gone.add();
            });
            Box::pin(std::future::ready(Err("gave up".into())))
        })
    };
    let (channel, _, _server) = mem(Server::new().method(gate.method(GATE)).layer(spawning));

    let result = channel.call(plain::<u64, u64>(GATE), 1).await;
    let status = assert_status(result, Code::UNAVAILABLE, NOT);
    assert!(status.message().contains("gave up"), "{status}");
    // It was tried again, within the budget: each of its tasks is still waiting.
    for attempt in 1..=3 {
        go.notify_one();
        tokio::select! {
            () = gone.reach(attempt) => {}
            () = gate.entered.reach(1) => panic!("it started"),
        }
    }
    assert_eq!(gate.entered.get(), 0);
}

/// LD-11: payloads that do not decode are judged behind layers as they are without. Shown by a
/// client that sends nothing else, up to the limit of 100 and over it.
#[tokio::test(start_paused = true)]
async fn ld_11_bad_payloads_behind_layers_are_judged() {
    let server = Server::new().method(echo()).layer(ServiceBuilder::new().concurrency_limit(64));
    let (mut raw, _, _server) = mem_raw(server).await;
    for n in 0..101 {
        raw.ask(Ask { payload: b"", ..Ask::new(2 * n + 1, "it.Echo/echo") }).await;
        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.disposition), (Code::BAD_PAYLOAD, NOT), "{n}");
    }
    // What is found late is judged with the next read.
    let _may_be_closed = raw.try_write(&Ask::new(203, "it.Echo/echo").to_bytes()).await;
    assert_eq!(raw.last_word().await, switchback::wire::CloseReason::TOO_MANY_ERRORS);
}

/// A handler that a layer runs on a task of its own makes its calls for the call that it serves:
/// what interceptors have put beside that is inherited. Shown by a trace that goes on.
#[tokio::test]
async fn calls_from_a_layers_own_task_belong_to_the_call_that_is_served() {
    let parent: Arc<Mutex<Option<TraceContext>>> = Arc::default();
    let found = Arc::clone(&parent);
    let behind = Method::infallible("it.Echo/echo", 1, move |cx: Cx, n: u64| {
        *found.lock().unwrap() = TraceContext::from_metadata(cx.metadata());
        async move { Answer::Ok(n) }
    });
    let tracing = || Tracing::new(&Runtime::tokio());
    let next = Channel::builder().interceptor(tracing());
    let (next, _, _behind) = mem_with(Server::new().method(behind), next);
    let relay = Method::infallible("it.Relay/relay", 1, move |_cx: Cx, n: u64| {
        let next = next.clone();
        async move { Answer::Ok(next.call(echo_stub(), n).await.unwrap()) }
    });
    let spawning = around(|mut handlers, request| {
        let call = async move { handlers.call(request).await };
        Box::pin(async move { Ok(tokio::spawn(call).await??) })
    });
    let server = Server::new().method(relay).interceptor(tracing()).layer(spawning);
    let (channel, _, _server) = mem(server);
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    let call = channel.call(plain::<u64, u64>("it.Relay/relay"), 5);
    assert_eq!(call.metadata("traceparent", own.as_bytes()).await, Ok(5));

    let found = parent.lock().unwrap().as_ref().map(TraceContext::trace_id);
    assert_eq!(found, Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
}

/// A layer that fails after the handler has ended says PROCESSED. Shown by one that throws the
/// answer away, behind an error with a source.
#[tokio::test]
async fn an_answer_that_a_layer_loses_was_processed() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Status);
    let losing = around(|mut handlers, request| {
        Box::pin(async move {
            handlers.call(request).await?;
            Err(Outer(Status::new(Code::DATA_LOSS, "lost it")).into())
        })
    });
    let (channel, _, _server) = mem(Server::new().method(echo()).layer(losing));
    let result = channel.call(echo_stub(), 5).await;
    let status = assert_status(result, Code::DATA_LOSS, PROCESSED);
    assert_eq!(status.message(), "lost it");
}

/// A layer is around every handler, those that are installed later and the fallback too, and each
/// further one around those before; one of a method is around that alone. Shown by who counts.
#[tokio::test]
async fn layers_are_around_every_handler() {
    let order = Arc::new(AtomicU64::new(0));
    let noting = |digit: u64| {
        let order = Arc::clone(&order);
        around(move |mut handlers, request| {
            let noted = |known| Some(known * 10 + digit);
            order.fetch_update(Ordering::SeqCst, Ordering::SeqCst, noted).unwrap();
            Box::pin(async move { Ok(handlers.call(request).await?) })
        })
    };
    let fallback = |_: Cx, request: RawRequest| async move {
        Ok::<_, Status>(RawResponse::new(request.codec, request.payload))
    };
    let server = Server::new()
        .method(echo().layer(noting(1)))
        .fallback(fallback)
        .layer(noting(2))
        .layer(noting(3));
    let (channel, dispatch, _server) = mem(server);
    let taken = || order.swap(0, Ordering::SeqCst);

    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    assert_eq!(taken(), 321);
    dispatch.install(pay(1)).unwrap();
    settle().await;
    assert_eq!(channel.call(pay_stub(&[1]), 1).await, Ok((1, 1)));
    assert_eq!(taken(), 32);
    assert_eq!(channel.call(plain::<u64, u64>("it.Else/where"), 1).await, Ok(1));
    assert_eq!(taken(), 32);
}

/// P5, CA-12: a call that waits in a layer beyond its deadline, or whose caller goes, never
/// reaches its handler. Shown with one permit, which is held meanwhile.
#[tokio::test(start_paused = true)]
async fn ca_12_what_waits_in_a_layer_can_be_taken_back() {
    let gate = Gate::default();
    let layers = ServiceBuilder::new().concurrency_limit(1);
    let (channel, _, _server) = mem(Server::new().method(gate.method(GATE)).layer(layers));
    let stub: Plain<u64, u64> = plain(GATE);
    let first = tokio::spawn(channel.call(stub, 1));
    gate.entered.reach(1).await;

    let late = channel.call(stub, 2).timeout(50 * MS).await;
    assert_eq!(late.unwrap_err().status().map(Status::code), Some(Code::DEADLINE_EXCEEDED));
    let dropped = tokio::spawn(channel.call(stub, 3));
    settle().await;
    dropped.abort();
    settle().await;
    gate.open.notify_one();
    assert_eq!(first.await.unwrap(), Ok(1));
    settle().await;
    assert_eq!(gate.entered.get(), 1);
}

/// CA-12, CA-8: and its answer says so, NOT_PROCESSED, behind interceptors too; of a handler that
/// has begun nobody knows. Shown on the wire, by calls that wait for the one permit and the one
/// that has it.
#[tokio::test(start_paused = true)]
async fn ca_12_what_waits_in_a_layer_was_not_processed() {
    for is_intercepted in [false, true] {
        let gate = Gate::default();
        let layers = ServiceBuilder::new().concurrency_limit(1);
        let server = Server::new().method(gate.method(GATE)).layer(layers);
        let tracing = Tracing::new(&Runtime::tokio());
        let server = if is_intercepted { server.interceptor(tracing) } else { server };
        let (mut raw, dispatch, _server) = mem_raw(server).await;
        raw.ask(Ask::new(1, GATE)).await;
        gate.entered.reach(1).await;
        raw.ask(Ask::new(3, GATE)).await;
        raw.ask(Ask { timeout_ms: 50, ..Ask::new(5, GATE) }).await;
        settle().await;

        let mut told = Vec::new();
        for cancelled in [Some(3), None, Some(1)] {
            if let Some(call) = cancelled {
                raw.cancel(call).await;
            }
            let reply = raw.reply().await;
            told.push((reply.call, reply.status, reply.disposition));
        }
        let (cancelled, late) = (Code::CANCELLED, Code::DEADLINE_EXCEEDED);
        assert_eq!(told, [(3, cancelled, NOT), (5, late, NOT), (1, cancelled, MAYBE)]);
        let stats = &dispatch.stats()[0];
        assert_eq!((gate.entered.get(), stats.started, stats.cancelled), (1, 3, 3));
    }
}

/// P5: nor does a handler that is not to be cancelled start when its call has waited too long, or
/// was taken back before. Shown with the permit that such a handler holds.
#[tokio::test(start_paused = true)]
async fn what_waited_too_long_does_not_start() {
    let gate = Gate::default();
    let layers = ServiceBuilder::new().concurrency_limit(1);
    let method = gate.method(GATE).no_cancel();
    let (channel, _, _server) = mem(Server::new().method(method).layer(layers));
    let stub: Plain<u64, u64> = plain(GATE);
    let first = tokio::spawn(channel.call(stub, 1));
    gate.entered.reach(1).await;
    let late = tokio::spawn(channel.call(stub, 2).timeout(50 * MS));
    let dropped = tokio::spawn(channel.call(stub, 3));
    settle().await;
    dropped.abort();
    assert!(late.await.unwrap().is_err());

    gate.open.notify_one();
    assert_eq!(first.await.unwrap(), Ok(1));
    let fourth = tokio::spawn(channel.call(stub, 4));
    gate.entered.reach(2).await; // The fourth: those before it have let go of the permit.
    gate.open.notify_one();
    assert_eq!(fourth.await.unwrap(), Ok(4));
    assert_eq!(gate.entered.get(), 2);
}

/// CA-14: an answer that is too large for the client is replaced, with layers too.
#[tokio::test]
async fn ca_14_a_layered_answer_may_be_too_large() {
    let large = |_cx: Cx, len: u64| async move { Answer::Ok("x".repeat(len.try_into().unwrap())) };
    let mut config = switchback::ClientConfig::default();
    config.frame_bytes_max = 65_536;
    let server = Server::new()
        .method(Method::infallible("it.Big/make", 1, large))
        .layer(ServiceBuilder::new().concurrency_limit(4));
    let (channel, _, _server) = mem_with(server, Channel::builder().config(config));
    let stub: Plain<u64, String> = plain("it.Big/make");

    let status = assert_status(channel.call(stub, 70_000).await, Code::TOO_LARGE, PROCESSED);
    assert_eq!(status.excess_bytes().map(|(_, limit)| limit), Some(65_536));
    assert_eq!(channel.call(stub, 3).await, Ok("xxx".to_owned()));
}

/// A panic inside layers costs its call alone, and what a handler's own calls inherit they inherit
/// there too, on a task of a layer's. Shown by a handler that calls, or panics.
#[tokio::test(start_paused = true)]
async fn layers_change_nothing_for_handlers() {
    let left = Method::infallible("it.Echo/echo", 1, |cx: Cx, _: u64| async move {
        Answer::Ok(u64::try_from(cx.remaining().as_millis()).unwrap())
    });
    let (behind, _, _behind) = mem(Server::new().method(left));
    let relay = Method::infallible("it.Relay/relay", 1, move |_cx: Cx, n: u64| {
        let behind = behind.clone();
        async move {
            assert_ne!(n, 13, "on purpose");
            let call = behind.call(echo_stub(), n).timeout(Duration::from_secs(60));
            call.await
        }
    });
    let spawning = around(|mut handlers, request| {
        let answer = tokio::spawn(async move { handlers.call(request).await });
        Box::pin(async move { Ok(answer.await??) })
    });
    let plainly = Method::infallible("it.Plain/panic", 1, |_cx: Cx, n: u64| async move {
        assert_ne!(n, 13, "on purpose");
        Answer::Ok(n)
    });
    let plainly = plainly.layer(ServiceBuilder::new().concurrency_limit(1));
    let (channel, _, _server) = mem(Server::new().method(relay.layer(spawning)).method(plainly));
    let stub: Plain<u64, u64> = plain("it.Relay/relay");

    let given = channel.call(stub, 0).timeout(700 * MS).await.unwrap();
    assert!((600..=700).contains(&given), "{given} ms");
    // The task's owner is the layer: what is known is that the handler began.
    assert_status(channel.call(stub, 13).await, Code::UNAVAILABLE, MAYBE);
    let stub: Plain<u64, u64> = plain("it.Plain/panic");
    for _ in 0..3 {
        assert_status(channel.call(stub, 13).await, Code::INTERNAL, PROCESSED);
        assert_eq!(channel.call(stub, 1).await, Ok(1), "the permit came back");
    }
}

/// CA-18: a proxy with layers tells as truly as one without.
#[tokio::test]
async fn ca_18_a_proxy_may_have_layers() {
    let (behind, _, _behind) = mem(Server::new().method(pay(1)));
    behind.ready().await.unwrap();
    let layers = ServiceBuilder::new().concurrency_limit(4);
    let (channel, _, _front) = mem(Server::new().forward(behind).layer(layers));
    channel.ready().await.unwrap();

    assert_eq!(channel.call(pay_stub(&[2, 1]), 4).await, Ok((1, 4)));
    let result = channel.call(pay_stub(&[3, 2]), 4).await;
    assert_eq!(assert_status(result, Code::UNSUPPORTED_VERSION, NOT).versions(), [1]);
}

/// A channel is a tower service: a client's layers run around its calls, and a timeout of theirs
/// takes the call back. Shown with a limit of one, a timeout, and an error of the method's own.
#[tokio::test(start_paused = true)]
async fn a_channel_is_a_tower_service() {
    let gate = Gate::default();
    let picky = Method::new("it.Picky/pick", 1, |_cx: Cx, n: u64| async move {
        if n == 0 { Err(CallError::App("nothing".to_owned())) } else { Ok(n) }
    });
    let (channel, _, _server) = mem(Server::new().method(gate.method(GATE)).method(picky));
    let stub: Plain<u64, u64> = plain(GATE);

    let mut timed = ServiceBuilder::new().timeout(50 * MS).service(channel.service(stub));
    let error = timed.ready().await.unwrap().call(1).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
    gate.left.reach(1).await;

    let limited = ServiceBuilder::new().concurrency_limit(1).service(channel.service(stub));
    let calls: Vec<_> = (0..2).map(|n| tokio::spawn(limited.clone().oneshot(n))).collect();
    gate.entered.reach(2).await;
    settle().await;
    assert_eq!(gate.entered.get(), 2, "the first call's, and one more");
    gate.open.notify_one();
    gate.entered.reach(3).await;
    gate.open.notify_one();
    for call in calls {
        call.await.unwrap().unwrap();
    }

    let stub = crate::support::leak(switchback::Stub::<u64, u64, String>::new(
        "it.Picky/pick",
        1,
        switchback::service::Fingerprint::UNCHECKED,
    ));
    assert_eq!(channel.service(stub).oneshot(4).await, Ok(4));
    let error = channel.service(stub).oneshot(0).await.unwrap_err();
    assert_eq!(error, CallError::App("nothing".to_owned()));
}
