//! Taking a call back: the handler is dropped, or asked; its place is held until the answer.

use std::task::{Context, Poll, Waker};

use switchback::wire::Kind;
use switchback::{Channel, ClientConfig, Code, Cx, Disposition, Method, Run, Server};

use crate::raw::{Ask, table};
use crate::support::{
    Answer, Gate, Leaving, Plain, echo, echo_stub, mem, mem_raw, plain, raw_server, settle,
};

fn gate_stub() -> Plain<u64, u64> {
    plain("it.Gate/pass")
}

/// CA-12: dropping a call drops its handler at its await, as an inline call that became a task
/// and as a spawned one. Shown by a guard in the handler.
#[tokio::test]
async fn ca_12_dropping_a_call_drops_its_handler() {
    for run in [Run::Inline, Run::Spawn, Run::Blocking] {
        let gate = Gate::default();
        let server = Server::new().method(gate.method("it.Gate/pass").run(run));
        let (channel, dispatch, _server) = mem(server);

        let call = tokio::spawn(channel.call(gate_stub(), 1));
        gate.entered.reach(1).await;
        assert_eq!(gate.left.get(), 0);
        call.abort();

        gate.left.reach(1).await;
        settle().await;
        let stats = &dispatch.stats()[0];
        assert_eq!((stats.started, stats.ok), (1, 0), "{run:?}");
    }
}

/// A method with `no_cancel` runs to its end and is told. Shown by a handler that reports what
/// `is_cancelled` says before and after its caller went away.
#[tokio::test]
async fn a_no_cancel_handler_runs_on_and_is_told() {
    let gate = Gate::default();
    let inner = gate.clone();
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let method = Method::infallible("it.Gate/pass", 1, move |cx: Cx, n: u64| {
        let (gate, told) = (inner.clone(), told.clone());
        async move {
            let before = cx.is_cancelled();
            gate.pass().await;
            told.send((before, cx.is_cancelled())).unwrap();
            Answer::Ok(n)
        }
    });
    let (channel, _, _server) = mem(Server::new().method(method.no_cancel()).method(echo()));

    let call = tokio::spawn(channel.call(gate_stub(), 1));
    gate.entered.reach(1).await;
    call.abort();
    settle().await;
    assert_eq!(gate.left.get(), 0, "it was dropped");
    gate.open.notify_one();

    assert_eq!(tell.recv().await, Some((false, true)));
    assert_eq!(channel.call(echo_stub(), 3).await, Ok(3));
}

/// CA-12 on the wire: a running handler that is taken back is answered CANCELLED, MAYBE, also
/// when it cannot be stopped, and then only when it has ended. Shown with both kinds.
#[tokio::test]
async fn ca_12_a_cancelled_call_is_answered_cancelled_maybe() {
    let (soft, hard) = (Gate::default(), Gate::default());
    let server = Server::new()
        .method(soft.method("it.Gate/soft"))
        .method(hard.method("it.Gate/hard").no_cancel())
        .method(echo());
    let (mut raw, _, _server) = mem_raw(server).await;
    let cancelled = (Code::CANCELLED, Disposition::Maybe);

    raw.ask(Ask::new(1, "it.Gate/soft")).await;
    soft.entered.reach(1).await;
    raw.cancel(1).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, (reply.status, reply.disposition)), (1, cancelled));

    raw.ask(Ask::new(3, "it.Gate/hard")).await;
    hard.entered.reach(1).await;
    raw.cancel(3).await;
    raw.ask(Ask::new(5, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.call, 5, "the hard one has not ended");
    hard.open.notify_one();
    let reply = raw.reply().await;
    assert_eq!((reply.call, (reply.status, reply.disposition)), (3, cancelled));
}

/// CA-12: a CANCEL for a call that was answered, or for an id in a gap, is ignored. Shown by a
/// call after both.
#[tokio::test]
async fn ca_12_a_late_cancel_is_ignored() {
    let (mut raw, _, _server) = mem_raw(Server::new().method(echo())).await;

    raw.ask(Ask::new(7, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.call, 7);
    raw.ask(Ask::new(9, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.call, 9);
    raw.cancel(9).await;
    raw.cancel(3).await;
    raw.ask(Ask::new(11, "it.Echo/echo")).await;

    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.payload), (11, vec![7]));
}

/// A blocking handler that was taken back before a thread was free is never started: CANCELLED,
/// NOT_PROCESSED. Shown by a runtime with one thread for blocking work, held by another call.
#[test]
fn ca_12_a_call_taken_back_before_its_start_is_not_processed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let gate = Gate::default();
        let ran = std::sync::Arc::clone(&gate.left);
        let late = Method::infallible("it.Late/late", 1, move |_cx: Cx, n: u64| {
            let ran = Leaving(std::sync::Arc::clone(&ran));
            async move {
                drop(ran);
                Answer::Ok(n)
            }
        });
        let server = Server::new()
            .method(gate.method("it.Gate/pass").run(Run::Blocking))
            .method(late.run(Run::Blocking));
        let (mut raw, dispatch, _server) = mem_raw(server).await;

        raw.ask(Ask::new(1, "it.Gate/pass")).await;
        gate.entered.reach(1).await;
        raw.ask(Ask::new(3, "it.Late/late")).await;
        raw.cancel(3).await;
        settle().await;
        gate.open.notify_one();

        assert_eq!(raw.reply().await.status, Code::OK);
        let reply = raw.reply().await;
        let found = (reply.call, reply.status, reply.disposition);
        assert_eq!(found, (3, Code::CANCELLED, Disposition::NotProcessed));
        let stats = dispatch.stats();
        let late = stats.iter().find(|stats| &*stats.name == "it.Late/late").unwrap();
        assert_eq!((late.started, late.in_flight), (0, 0));
    });
}

/// A call that was never polled is not sent; one dropped while it waits for a place is not sent
/// either, and the next in the queue takes its turn. Shown by what a server of bytes reads.
#[tokio::test]
async fn a_call_dropped_before_it_was_sent_is_never_sent() {
    let mut config = ClientConfig::default();
    config.in_flight_calls_max = 1;
    let (channel, mut raw) = raw_server(Channel::builder().config(config));
    let mut poll = Context::from_waker(Waker::noop());
    drop(channel.call(echo_stub(), 90));

    let first = tokio::spawn(channel.call(echo_stub(), 1));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 10, 65_536).await;
    let (call, _, payload) = raw.request().await;
    assert_eq!(payload, [1]);
    let mut given_up = Box::pin(channel.call(echo_stub(), 91));
    assert_eq!(given_up.as_mut().poll(&mut poll), Poll::Pending);
    let third = tokio::spawn(channel.call(echo_stub(), 3));
    settle().await;
    drop(given_up);
    raw.answer_ok(call, &[1]).await;

    assert_eq!(first.await.unwrap(), Ok(1));
    let (call, _, payload) = raw.request().await;
    assert_eq!(payload, [3], "the call that was given up was sent");
    raw.answer_ok(call, &[3]).await;
    assert_eq!(third.await.unwrap(), Ok(3));
}

/// CA-12, CA-2: the place of a cancelled call is held until its answer, and that late answer
/// reaches nobody else. Shown by a client with one place and a server of bytes that answers the
/// cancelled call after a while, with a value that nobody may see.
#[tokio::test]
async fn ca_12_the_place_is_held_and_late_answers_reach_nobody() {
    let mut config = ClientConfig::default();
    config.in_flight_calls_max = 1;
    let (channel, mut raw) = raw_server(Channel::builder().config(config));

    let first = tokio::spawn(channel.call(echo_stub(), 1));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 10, 65_536).await;
    let (cancelled, _, _) = raw.request().await;
    first.abort();
    let second = tokio::spawn(channel.call(echo_stub(), 2));
    let frame = raw.frame().await;
    assert_eq!((frame.head().kind, frame.head().call.0), (Kind::CANCEL, cancelled));
    settle().await;
    assert!(!second.is_finished());
    raw.answer_ok(cancelled, &[66]).await;

    let (call, _, payload) = raw.request().await;
    assert_eq!(payload, [2], "sent only after the answer to the first");
    assert!(call > cancelled);
    raw.answer_ok(call, &[2]).await;
    assert_eq!(second.await.unwrap(), Ok(2));
}

/// Many answers to cancelled calls, out of order, never reach the calls that came after. Shown
/// by 32 cancelled calls answered last first, between 32 live ones.
#[tokio::test]
async fn late_answers_never_reach_another_call() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let cancelled: Vec<_> = (0..32).map(|n| tokio::spawn(channel.call(echo_stub(), n))).collect();
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 64, 65_536).await;
    let mut late = Vec::new();
    for _ in 0..32 {
        late.push(raw.request().await.0);
    }
    cancelled.iter().for_each(tokio::task::JoinHandle::abort);
    let live: Vec<_> = (100..132).map(|n| tokio::spawn(channel.call(echo_stub(), n))).collect();

    let (mut cancels, mut requests) = (0, Vec::new());
    while cancels + requests.len() < 64 {
        let frame = raw.frame().await;
        match frame.parse().unwrap() {
            switchback::wire::Frame::Cancel(_) => cancels += 1,
            switchback::wire::Frame::Request(ask) => requests.push((ask.call.0, ask.payload[0])),
            other => panic!("{other:?}"),
        }
    }
    for (late, (call, n)) in late.into_iter().rev().zip(requests) {
        raw.answer_ok(late, &[99]).await;
        raw.answer_ok(call, &[n]).await;
    }

    for (n, call) in (100..).zip(live) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
}
