//! Time: every call ends at its deadline, wherever it waits, and nothing starts after it.
//!
//! All on tokio's paused clock: it moves only when every task waits.

use std::time::Duration;

use switchback::wire::Kind;
use switchback::{Channel, ClientConfig, Code, Cx, Disposition, Method, Run, Server, Stub};

use crate::raw::{Ask, Raw, table};
use crate::support::{
    Answer, Gate, Plain, assert_status, echo, echo_stub, leak, mem, mem_raw, now, plain, raw_server,
};

const MS: Duration = Duration::from_millis(1);
/// P1: how long after its deadline a call may end.
const SLACK: Duration = Duration::from_millis(15);

/// CA-8: a call ends between its deadline and 15 ms after it, never early, MAYBE. Shown by 200
/// calls with deadlines from 1 ms up, in no order, to a server that never answers.
#[tokio::test(start_paused = true)]
async fn ca_8_a_call_ends_at_its_deadline_never_early() {
    let gate = Gate::default();
    let (channel, _, _server) = mem(Server::new().method(gate.method("it.Gate/pass").no_cancel()));
    let stub: Plain<u64, u64> = plain("it.Gate/pass");

    let calls: Vec<_> = (0..200_u32)
        .map(|n| {
            let timeout = MS * (1 + n * 7919 % 997);
            let call = channel.call(stub, 1).timeout(timeout);
            tokio::spawn(async move {
                let begun = now();
                let result = call.await;
                (timeout, now() - begun, result)
            })
        })
        .collect();

    for call in calls {
        let (timeout, took, result) = call.await.unwrap();
        assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::Maybe);
        assert!(timeout <= took && took <= timeout + SLACK, "{timeout:?} took {took:?}");
    }
}

/// The default is 10 s; a method's own timeout goes before it, the call's before both. Shown by
/// how long each takes.
#[tokio::test(start_paused = true)]
async fn the_nearest_timeout_counts() {
    let gate = Gate::default();
    let (channel, _, _server) = mem(Server::new().method(gate.method("it.Gate/pass")));
    let default: Plain<u64, u64> = plain("it.Gate/pass");
    let own = Stub::infallible("it.Gate/pass", 1, switchback::service::Fingerprint::UNCHECKED);
    let own: Plain<u64, u64> = leak(own.timeout(MS * 300));

    for (call, timeout) in [
        (channel.call(default, 1), Duration::from_secs(10)),
        (channel.call(own, 1), MS * 300),
        (channel.call(own, 1).timeout(MS * 20), MS * 20),
    ] {
        let begun = now();
        assert_eq!(crate::support::status(call.await).code(), Code::DEADLINE_EXCEEDED);
        let took = now() - begun;
        assert!(timeout <= took && took <= timeout + SLACK, "{timeout:?} took {took:?}");
    }
}

/// A call whose time is over while it waits for a connection was not sent, and says what it
/// waited for. Shown by a listener that is never served.
#[tokio::test(start_paused = true)]
async fn a_deadline_may_pass_while_waiting_for_the_table() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let stub: Plain<u64, u64> = leak(
        Stub::infallible("it.Echo/echo", 2, switchback::service::Fingerprint::UNCHECKED)
            .compat_infallible::<u64, u64>(1, switchback::service::Fingerprint::UNCHECKED),
    );
    let begun = now();

    let result = channel.call(stub, 1).timeout(MS * 50).await;

    let status = assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
    assert!(status.message().contains("method table"), "{status}");
    assert!(now() - begun <= MS * 50 + SLACK);
    raw.client_hello().await;
}

/// A call that waits for a connection that nobody accepts ends at its deadline. Shown on the
/// paused clock, with a stream that the client's HELLO does not fit into.
#[tokio::test(start_paused = true)]
async fn a_deadline_may_pass_while_nothing_can_be_written() {
    let (raw, stream) = Raw::pair(16);
    let channel = Channel::builder().stream(stream).unwrap();
    let begun = now();

    let result = channel.call(echo_stub(), 1).timeout(MS * 50).await;

    assert_eq!(crate::support::status(result).code(), Code::DEADLINE_EXCEEDED);
    assert!(now() - begun <= MS * 50 + SLACK, "took {:?}", now() - begun);
    drop(raw);
}

/// A deadline that comes before all others counts also while the peer does not read. Shown by a
/// call with a long deadline that fills the stream and a later one with a short deadline.
#[tokio::test(start_paused = true)]
async fn a_short_deadline_counts_while_the_output_is_stuck() {
    let (mut raw, stream) = Raw::pair(1024);
    let channel = Channel::builder().stream(stream).unwrap();
    let first = tokio::spawn(channel.call(echo_stub(), 1));
    raw.greet_client(&table(&[("it.Echo/echo", &[1]), ("it.Text/say", &[1])]), 64, 65_536).await;
    raw.request().await;
    let say: Plain<String, u64> = plain("it.Text/say");
    let long = tokio::spawn(channel.call(say, "x".repeat(10_000)).timeout(MS * 5_000));
    crate::support::settle().await;
    let begun = now();

    let result = channel.call(echo_stub(), 3).timeout(MS * 50).await;

    assert_eq!(crate::support::status(result).code(), Code::DEADLINE_EXCEEDED);
    assert!(now() - begun <= MS * 50 + SLACK, "took {:?}", now() - begun);
    assert_eq!(crate::support::status(long.await.unwrap()).code(), Code::DEADLINE_EXCEEDED);
    first.abort();
}

/// A call whose time is over while it waits for a place was not sent, and leaves the queue.
/// Shown with one place, held by a call that never ends.
#[tokio::test(start_paused = true)]
async fn a_deadline_may_pass_while_waiting_for_a_place() {
    let mut config = ClientConfig::default();
    config.in_flight_calls_max = 1;
    let gate = Gate::default();
    let server = Server::new().method(gate.method("it.Gate/pass")).method(echo());
    let (channel, dispatch, _server) =
        crate::support::mem_with(server, Channel::builder().config(config));
    let holding = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 1));
    gate.entered.reach(1).await;

    let result = channel.call(echo_stub(), 1).timeout(MS * 50).await;
    let status = assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
    assert!(status.message().contains("room"), "{status}");
    gate.open.notify_one();

    assert_eq!(holding.await.unwrap(), Ok(1));
    assert_eq!(channel.call(echo_stub(), 2).await, Ok(2));
    let echo = dispatch.stats().into_iter().find(|stats| &*stats.name == "it.Echo/echo").unwrap();
    assert_eq!(echo.started, 1);
}

/// A call with no time at all is not sent. Shown by a zero timeout.
#[tokio::test(start_paused = true)]
async fn a_call_without_time_is_not_sent() {
    let (channel, dispatch, _server) = mem(Server::new().method(echo()));
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));

    let result = channel.call(echo_stub(), 1).timeout(Duration::ZERO).await;

    assert_status(result, Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
    assert_eq!(dispatch.stats()[0].started, 1);
}

/// CA-8: timeout 0 is refused, NOT_PROCESSED, though the method is there. Shown on the wire.
#[tokio::test(start_paused = true)]
async fn ca_8_timeout_zero_is_refused() {
    let (mut raw, dispatch, _server) = mem_raw(Server::new().method(echo())).await;

    raw.ask(Ask { timeout_ms: 0, ..Ask::new(1, "it.Echo/echo") }).await;
    let reply = raw.reply().await;

    let found = (reply.status, reply.disposition);
    assert_eq!(found, (Code::DEADLINE_EXCEEDED, Disposition::NotProcessed));
    assert_eq!(dispatch.stats()[0].started, 0);
}

/// CA-8: the server ends a pending handler at its deadline by itself, MAYBE; one that cannot be
/// stopped is answered so when it has ended, whatever it returns. Shown on the wire, by a client
/// that never cancels.
#[tokio::test(start_paused = true)]
async fn ca_8_the_server_ends_handlers_at_their_deadline() {
    let (soft, hard) = (Gate::default(), Gate::default());
    let server = Server::new()
        .method(soft.method("it.Gate/soft"))
        .method(hard.method("it.Gate/hard").no_cancel());
    let (mut raw, _, _server) = mem_raw(server).await;
    let begun = now();

    raw.ask(Ask { timeout_ms: 80, ..Ask::new(1, "it.Gate/hard") }).await;
    raw.ask(Ask { timeout_ms: 80, ..Ask::new(3, "it.Gate/soft") }).await;
    let reply = raw.reply().await;
    let took = now() - begun;
    assert_eq!((reply.call, soft.left.get(), hard.left.get()), (3, 1, 0));
    assert!(MS * 80 <= took && took <= MS * 80 + SLACK, "took {took:?}");
    let maybe = (Code::DEADLINE_EXCEEDED, Disposition::Maybe);
    assert_eq!((reply.status, reply.disposition), maybe);
    hard.open.notify_one();

    let reply = raw.reply().await;
    assert_eq!((reply.call, (reply.status, reply.disposition)), (1, maybe));
}

/// CA-8: a handler whose turn comes after its deadline is not started. Shown by the one thread
/// for blocking work being held by another call for longer than the second one's time.
#[test]
fn ca_8_nothing_starts_after_its_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let gate = Gate::default();
        let late =
            Method::infallible("it.Late/late", 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
        let server = Server::new()
            .method(gate.method("it.Gate/pass").run(Run::Blocking).no_cancel())
            .method(late.run(Run::Blocking));
        let (mut raw, dispatch, _server) = mem_raw(server).await;

        raw.ask(Ask::new(1, "it.Gate/pass")).await;
        gate.entered.reach(1).await;
        raw.ask(Ask { timeout_ms: 30, ..Ask::new(3, "it.Late/late") }).await;
        crate::support::settle().await;
        tokio::time::advance(MS * 100).await;
        gate.open.notify_one();

        assert_eq!(raw.reply().await.status, Code::OK);
        let reply = raw.reply().await;
        let found = (reply.call, reply.status, reply.disposition);
        assert_eq!(found, (3, Code::DEADLINE_EXCEEDED, Disposition::NotProcessed));
        let stats = dispatch.stats();
        assert!(stats.iter().all(|stats| &*stats.name != "it.Late/late" || stats.started == 0));
    });
}

/// CA-8: no call takes more than an hour, on either side. Shown by what the client writes for a
/// timeout of a day, and by what a handler is told of one that the wire gives as 49 days.
#[tokio::test(start_paused = true)]
async fn ca_8_an_hour_is_the_most() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = channel.call(echo_stub(), 1).timeout(Duration::from_secs(86_400));
    let call = tokio::spawn(call);
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 1, 65_536).await;
    let frame = raw.frame().await;
    let switchback::wire::Frame::Request(ask) = frame.parse().unwrap() else { panic!() };
    assert_eq!(ask.timeout_ms, 3_600_000);
    call.abort();

    let left = Method::infallible("it.Left/left", 1, |cx: Cx, _: u64| async move {
        Answer::Ok(cx.remaining().as_secs())
    });
    let (mut raw, _, _server) = mem_raw(Server::new().method(left)).await;
    raw.ask(Ask { timeout_ms: u32::MAX, ..Ask::new(1, "it.Left/left") }).await;
    assert_eq!(raw.reply().await.payload, [251, 0x10, 0x0e], "3600 in bincode");
}

/// A call that its client gives up at the deadline is taken back on the wire. Shown by the CANCEL
/// that a silent server reads.
#[tokio::test(start_paused = true)]
async fn ca_8_the_client_cancels_what_is_over() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(echo_stub(), 1).timeout(MS * 30));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 1, 65_536).await;
    let (id, _, _) = raw.request().await;

    let frame = raw.frame().await;

    assert_eq!((frame.head().kind, frame.head().call.0), (Kind::CANCEL, id));
    assert_status(call.await.unwrap(), Code::DEADLINE_EXCEEDED, Disposition::Maybe);
}
