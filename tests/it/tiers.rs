//! A handler that calls another service: the deadline goes along, dispositions do not.

use std::time::Duration;

use switchback::{CallError, Channel, Code, Cx, Disposition, Method, Server};

use crate::raw::{Ask, table};
use crate::support::{
    Answer, Gate, Plain, assert_status, echo_stub, mem, mem_raw, now, plain, raw_server, tcp,
};

/// A method that passes its call on to `it.Echo/echo` of another server.
fn relay(next: Channel, timeout: Option<Duration>) -> Method {
    Method::infallible("it.Relay/relay", 1, move |_cx: Cx, n: u64| {
        let next = next.clone();
        async move {
            let call = next.call(echo_stub(), n);
            let answer = match timeout {
                Some(timeout) => call.timeout(timeout).await,
                None => call.await,
            };
            answer.map_err(|error| match error {
                CallError::App(never) => match never {},
                CallError::Rpc(status) => CallError::Rpc(status),
            })
        }
    })
}

/// A call inside a handler has no more time than the call that is being served, whatever it asks
/// for. Shown by the second server, which reports the time it was given.
#[tokio::test(start_paused = true)]
async fn ca_8_a_handlers_calls_inherit_its_deadline() {
    let left = Method::infallible("it.Echo/echo", 1, |cx: Cx, _: u64| async move {
        Answer::Ok(u64::try_from(cx.remaining().as_millis()).unwrap())
    });
    let (back, _, _back) = mem(Server::new().method(left));
    let front = Server::new().method(relay(back, Some(Duration::from_secs(60))));
    let (front, _, _front) = mem(front);
    let stub: Plain<u64, u64> = plain("it.Relay/relay");

    let given = front.call(stub, 0).timeout(Duration::from_millis(700)).await.unwrap();
    assert!((600..=700).contains(&given), "{given} ms");
    let given = front.call(stub, 0).timeout(Duration::from_secs(300)).await.unwrap();
    assert!((59_000..=60_000).contains(&given), "its own timeout is shorter: {given} ms");
}

/// CA-13: what a started handler passes on is PROCESSED for its caller, though its own call was
/// refused. Shown by a relay to a server that lacks the method.
#[tokio::test]
async fn ca_13_a_status_passed_on_is_processed() {
    let back = tcp(Server::new()).await;
    let back = Channel::connect(&back.url).await.unwrap();
    let result = back.call(echo_stub(), 1).await;
    assert_status(result, Code::UNKNOWN_METHOD, Disposition::NotProcessed);
    let (front, _, _front) = mem(Server::new().method(relay(back, None)));

    let result = front.call(plain("it.Relay/relay"), 1_u64).await;
    let status = assert_status::<u64, _>(result, Code::UNKNOWN_METHOD, Disposition::Processed);
    assert!(status.message().contains("it.Echo/echo"), "{status}");
}

/// CA-13, CA-5: a passed-on UNSUPPORTED_VERSION names no versions and is not sent again. Shown
/// by a relay to a server that serves version 2, and by how often the relay ran.
#[tokio::test]
async fn ca_13_versions_are_not_passed_on() {
    let two = Method::infallible("it.Echo/echo", 2, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
    let (back, _, _back) = mem(Server::new().method(two));
    let (front, dispatch, _front) = mem(Server::new().method(relay(back, None)));

    let result = front.call(plain("it.Relay/relay"), 1_u64).await;
    let status = assert_status::<u64, _>(result, Code::UNSUPPORTED_VERSION, Disposition::Processed);
    assert_eq!(status.versions(), [0; 0]);
    assert_eq!(dispatch.stats()[0].started, 1);
}

/// ST-2: codes that only a client makes become UNAVAILABLE when they are passed on. Shown on the
/// wire, with a relay whose next server is gone.
#[tokio::test]
async fn st_2_local_codes_never_travel() {
    let (back, gone) = raw_server(Channel::builder());
    drop(gone);
    let (mut raw, _, _server) = mem_raw(Server::new().method(relay(back, None))).await;

    raw.ask(Ask::new(1, "it.Relay/relay")).await;
    let reply = raw.reply().await;

    assert_eq!((reply.status, reply.disposition), (Code::UNAVAILABLE, Disposition::Processed));
}

/// A relay whose caller goes away takes its own call back: the cancellation runs down the tiers.
/// Shown by the second server's handler, which is dropped at its await.
#[tokio::test]
async fn ca_12_a_cancellation_runs_down_the_tiers() {
    let gate = Gate::default();
    let (back, _, _back) = mem(Server::new().method(gate.method("it.Echo/echo")));
    let (front, _, _front) = mem(Server::new().method(relay(back, None)));

    let call = tokio::spawn(front.call(plain::<u64, u64>("it.Relay/relay"), 1));
    gate.entered.reach(1).await;
    assert_eq!(gate.left.get(), 0);
    call.abort();

    gate.left.reach(1).await;
}

/// The deadline of the first tier ends the second tier's call too. Shown on the paused clock: the
/// caller's 100 ms end a call that was given a minute.
#[tokio::test(start_paused = true)]
async fn the_deadline_ends_every_tier() {
    let (back, mut raw) = raw_server(Channel::builder());
    let silent = tokio::spawn(async move {
        raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 10, 65_536).await;
        raw.request().await;
        raw.frame().await.head().kind
    });
    let (front, _, _front) = mem(Server::new().method(relay(back, Some(Duration::from_secs(60)))));
    let begun = now();

    let call = front.call(plain::<u64, u64>("it.Relay/relay"), 1);
    let status = crate::support::status(call.timeout(Duration::from_millis(100)).await);

    assert_eq!(status.code(), Code::DEADLINE_EXCEEDED);
    assert!(now() - begun <= Duration::from_millis(115));
    assert_eq!(silent.await.unwrap(), switchback::wire::Kind::CANCEL);
}
