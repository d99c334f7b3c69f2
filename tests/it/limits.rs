//! Limits: calls in flight, calls that wait, bytes of a frame. Each has a typed answer.

use std::sync::{Arc, Mutex};

use switchback::wire::response_keys;
use switchback::{Channel, ClientConfig, Code, Cx, Disposition, Method, Server, ServerConfig};

use crate::raw::{Ask, hello, table};
use crate::support::{
    Answer, Gate, Plain, assert_status, echo, echo_stub, mem_raw, mem_with, plain, raw_server,
    settle,
};

fn server_with(calls_max: u32) -> Server {
    let mut config = ServerConfig::default();
    config.calls_max = calls_max;
    Server::new().config(config)
}

fn client_with(in_flight_calls_max: u32, queued_calls_max: usize) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.in_flight_calls_max = in_flight_calls_max;
    config.queued_calls_max = queued_calls_max;
    config
}

/// CA-11: a call beyond `calls_max` is refused OVERLOADED, NOT_PROCESSED, and there is room again
/// when one has ended. Shown by a client of bytes that does not keep to the limit, at max - 1,
/// max and max + 1.
#[tokio::test]
async fn ca_11_calls_beyond_the_limit_are_refused() {
    let gate = Gate::default();
    let server = server_with(3).method(gate.method("it.Gate/pass")).method(echo());
    let (mut raw, dispatch, _server) = mem_raw(server).await;

    for call in [1, 3] {
        raw.ask(Ask::new(call, "it.Gate/pass")).await;
    }
    raw.ask(Ask::new(5, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK, "two of three are in flight");
    raw.ask(Ask::new(7, "it.Gate/pass")).await;
    gate.entered.reach(3).await;
    raw.ask(Ask::new(9, "it.Echo/echo")).await;
    let reply = raw.reply().await;
    let found = (reply.call, reply.status, reply.disposition);
    assert_eq!(found, (9, Code::OVERLOADED, Disposition::NotProcessed));
    gate.open.notify_one();
    assert_eq!(raw.reply().await.status, Code::OK);
    raw.ask(Ask::new(11, "it.Echo/echo")).await;

    assert_eq!(raw.reply().await.status, Code::OK);
    assert_eq!(dispatch.stats()[0].started, 2, "the refused call of {:?}", dispatch.stats());
}

/// CA-11: a client keeps to the server's `calls_max`, though its own limit is higher. Shown by a
/// server of bytes that allows two and counts.
#[tokio::test]
async fn ca_11_a_client_keeps_to_the_servers_limit() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 2, 65_536).await;
    ready.await.unwrap().unwrap();

    let calls: Vec<_> =
        (0..5_u8).map(|n| tokio::spawn(channel.call(echo_stub(), n.into()))).collect();
    let mut waiting = Vec::new();
    for n in 0..5_u8 {
        if waiting.len() == 2 {
            settle().await;
            let (call, payload): (u32, Vec<u8>) = waiting.remove(0);
            raw.answer_ok(call, &payload).await;
        }
        let (call, _, payload) = raw.request().await;
        assert_eq!(payload, [n], "first come, first served");
        waiting.push((call, payload));
    }
    for (call, payload) in waiting {
        raw.answer_ok(call, &payload).await;
    }

    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
}

/// Calls beyond the client's limit wait in the order they came and hold nobody else up; beyond
/// the queue they fail at once with QUEUE_FULL, NOT_PROCESSED. Shown with one place and a queue
/// of three, by the order in which the handlers start.
#[tokio::test]
async fn the_queue_is_first_come_first_served_and_bounded() {
    let gate = Gate::default();
    let order = Arc::new(Mutex::new(Vec::new()));
    let (inner, seen) = (gate.clone(), Arc::clone(&order));
    let method = Method::infallible("it.Gate/pass", 1, move |_cx: Cx, n: u64| {
        let (gate, seen) = (inner.clone(), Arc::clone(&seen));
        async move {
            seen.lock().unwrap().push(n);
            gate.pass().await;
            Answer::Ok(n)
        }
    });
    let builder = Channel::builder().config(client_with(1, 3));
    let (channel, _, _server) = mem_with(Server::new().method(method), builder);
    channel.ready().await.unwrap();
    let stub: Plain<u64, u64> = plain("it.Gate/pass");

    let calls: Vec<_> = (0..4).map(|n| tokio::spawn(channel.call(stub, n))).collect();
    gate.entered.reach(1).await;
    settle().await;
    let result = channel.call(stub, 4).await;
    let status = assert_status(result, Code::QUEUE_FULL, Disposition::NotProcessed);
    assert!(status.message().contains("3 calls wait already"), "{status}");
    for n in 1..=4 {
        gate.entered.reach(n).await;
        gate.open.notify_one();
    }

    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
}

/// The queue is bounded also while there is no connection and no table yet. Shown by a server
/// that has said nothing, for a method of one version and one of two.
#[tokio::test]
async fn the_queue_is_bounded_before_the_table() {
    let builder = Channel::builder().config(client_with(8, 2));
    let (channel, _raw) = raw_server(builder);
    let unchecked = switchback::service::Fingerprint::UNCHECKED;
    let two = switchback::Stub::infallible("it.Two/two", 2, unchecked);
    let two: Plain<u64, u64> =
        crate::support::leak(two.compat_infallible::<u64, u64>(1, unchecked));

    let waiting: Vec<_> = (0..2).map(|n| tokio::spawn(channel.call(two, n))).collect();
    settle().await;
    let result = channel.call(two, 2).await;

    assert_status(result, Code::QUEUE_FULL, Disposition::NotProcessed);
    assert!(waiting.iter().all(|call| !call.is_finished()));
}

/// CA-14: a request over the server's limit is never sent: TOO_LARGE with value and limit, the
/// connection unharmed. Shown at the limit and one byte above it.
#[tokio::test]
async fn ca_14_a_request_over_the_limit_is_not_sent() {
    let length = Method::infallible("it.Blob/length", 1, |_cx: Cx, blob: String| async move {
        Answer::Ok(blob.len() as u64)
    });
    let mut config = ServerConfig::default();
    config.frame_bytes_max = 70_000;
    let server = Server::new().config(config).method(length);
    let (channel, dispatch, _server) = mem_with(server, Channel::builder());
    let stub: Plain<String, u64> = plain("it.Blob/length");
    // Beside the text: 16 fixed, 5 of its length (a marker and 4), 4 of CRC.
    let exact = 70_000 - 16 - 5 - 4;

    assert_eq!(channel.call(stub, "x".repeat(exact)).await, Ok(exact as u64));
    let result = channel.call(stub, "x".repeat(exact + 1)).await;
    let status = assert_status(result, Code::TOO_LARGE, Disposition::NotProcessed);
    assert_eq!(status.excess_bytes(), Some((70_001, 70_000)));
    assert!(status.message().contains("70001 bytes are over the limit of 70000"));
    assert_eq!(channel.call(stub, "small".to_owned()).await, Ok(5));
    assert_eq!(dispatch.stats()[0].started, 2);
}

/// CA-14: an answer over the client's limit becomes TOO_LARGE, PROCESSED, with value and limit.
/// Shown at the limit and one byte above it, inline and as a task.
#[tokio::test]
async fn ca_14_an_answer_over_the_limit_is_replaced() {
    let fill = |name: &str, turns: usize| {
        Method::infallible(name, 1, move |_cx: Cx, len: u64| async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            Answer::Ok("x".repeat(usize::try_from(len).unwrap()))
        })
    };
    let mut config = ClientConfig::default();
    config.frame_bytes_max = 70_000;
    let server = Server::new().method(fill("it.Fill/now", 0)).method(fill("it.Fill/later", 2));
    let (channel, _, _server) = mem_with(server, Channel::builder().config(config));
    // Beside the text: 4 fixed, 5 of its length, 4 of CRC.
    let exact = 70_000 - 4 - 5 - 4;

    for name in ["it.Fill/now", "it.Fill/later"] {
        let stub: Plain<u64, String> = plain(name);
        assert_eq!(channel.call(stub, exact).await.unwrap().len() as u64, exact);
        let result = channel.call(stub, exact + 1).await;
        let status = assert_status(result, Code::TOO_LARGE, Disposition::Processed);
        assert_eq!(status.excess_bytes(), Some((70_001, 70_000)), "{name}");
        assert_eq!(channel.call(stub, 3).await, Ok("xxx".to_owned()));
    }
}

/// CA-14 on the wire: keys 6 and 7 say by how much. Shown with the least limit a client may have.
#[tokio::test]
async fn ca_14_too_large_carries_value_and_limit() {
    let fill = Method::infallible("it.Fill/now", 1, |_cx: Cx, _: u64| async move {
        Answer::Ok("x".repeat(100_000))
    });
    let (mut raw, stream) = crate::raw::Raw::pair(256 * 1024);
    let (_, served) = Server::new().method(fill).serve_stream(stream).unwrap();
    let _server = tokio::spawn(served);
    let hello = switchback::wire::Hello { frame_bytes_max: 65_536, ..hello() };
    raw.write(&crate::raw::client_hello(&hello)).await;
    raw.hello_ack().await;
    raw.frame().await;

    raw.ask(Ask::new(1, "it.Fill/now")).await;
    let reply = raw.reply().await;

    let tlvs = switchback::wire::Tlvs::new(&reply.ext);
    assert_eq!(tlvs.find(response_keys::LIMIT), Some(&65_536_u64.to_be_bytes()[..]));
    assert_eq!(tlvs.find(response_keys::VALUE), Some(&100_013_u64.to_be_bytes()[..]));
    assert_eq!((reply.status, reply.disposition), (Code::TOO_LARGE, Disposition::Processed));
}
