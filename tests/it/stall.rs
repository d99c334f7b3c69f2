//! Peers that stop reading, and connections that end: what waits, what is known of each call.

use std::sync::Arc;

use switchback::driver::ConnectionHandle;
use switchback::wire::CloseReason;
use switchback::{Channel, Code, Cx, Disposition, Method, Router, Server, ServerConfig};
use tokio::net::TcpListener;

use crate::raw::{Ask, Raw, table};
use crate::support::{
    Answer, Count, Leaving, Plain, assert_status, driven, echo, echo_stub, plain, raw_server,
    settle, tcp,
};

/// Answers two bytes with 64 KiB of text, and counts.
fn flood(started: &Arc<Count>) -> Method {
    let started = Arc::clone(started);
    Method::infallible("it.Flood/flood", 1, move |_cx: Cx, _: String| {
        started.add();
        async move { Answer::Ok("x".repeat(64 * 1024)) }
    })
}

/// A server stops reading while its client does not take its answers, so that what waits is
/// bounded, and goes on when it does: no call is lost. Shown by 400 calls for 25 MiB of answers,
/// of which little more than the soft limit of 1 MiB is made before the client reads.
#[tokio::test]
async fn a_server_stops_reading_while_its_answers_are_not_taken() {
    let started = Arc::new(Count::default());
    let router = Router::new().method(flood(&started));
    let (mut raw, handle, _server) = driven(router, &ServerConfig::default(), 16 * 1024);
    raw.greet_server().await;
    // One read of 16 KiB holds hundreds of them: it must be served in pieces.
    let payload = [1, b'x'];
    let asks: Vec<u8> = (0..400)
        .flat_map(|n| Ask { payload: &payload, ..Ask::new(2 * n + 1, "it.Flood/flood") }.to_bytes())
        .collect();

    let (reader, mut writer) = raw.split();
    let writing = tokio::spawn(async move { writer.write(&asks).await });
    settle().await;
    let before = started.get();
    assert!((16..=20).contains(&before), "{before} answers of 64 KiB were made unread");
    assert!(pending_output(&handle) < 1024 * 1024 + 2 * 70_000, "{handle:?}");
    let mut raw = reader;
    for n in 0..400 {
        assert_eq!(raw.reply().await.call, 2 * n + 1);
    }

    writing.await.unwrap();
    assert_eq!(started.get(), 400);
    settle().await;
    assert_eq!(pending_output(&handle), 0);
}

/// The bytes that wait, as the connection's Debug says.
fn pending_output(handle: &ConnectionHandle) -> usize {
    let text = format!("{handle:?}");
    let (_, rest) = text.split_once("queued_bytes: ").unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Callers wait, without an id, while the output is full, and go on in order when there is room.
/// Shown by a server of bytes that reads nothing until 3 MiB of calls are under way.
#[tokio::test]
async fn callers_wait_while_the_output_is_full() {
    let (mut raw, stream) = Raw::pair(64 * 1024);
    let channel = Channel::builder().stream(stream).unwrap();
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    raw.greet_client(&table(&[("it.Text/say", &[1])]), 1024, 4 * 1024 * 1024).await;
    ready.await.unwrap().unwrap();
    let stub: Plain<(u64, String), u64> = plain("it.Text/say");

    let calls: Vec<_> =
        (0..48).map(|n| tokio::spawn(channel.call(stub, (n, "x".repeat(64 * 1024))))).collect();
    settle().await;
    for n in 0..48_u8 {
        let (call, _, payload) = raw.request().await;
        assert_eq!((payload[0], call), (n, u32::from(n) * 2 + 1), "in order, with the next id");
        raw.answer_ok(call, &[n]).await;
    }

    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
}

/// LD-5: when a connection ends without a word, calls that were handed to the system are MAYBE,
/// those of which no byte was are NOT_PROCESSED. Shown by a stream that takes part of the first
/// call's bytes and ends; the second stands behind it in the same output.
#[tokio::test]
async fn ld_5_unsent_calls_are_not_processed() {
    let (mut raw, stream) = Raw::pair(4096);
    let channel = Channel::builder().stream(stream).unwrap();
    let stub: Plain<String, u64> = plain("it.Text/say");
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    raw.greet_client(&table(&[("it.Text/say", &[1])]), 8, 65_536).await;
    ready.await.unwrap().unwrap();

    let sent = tokio::spawn(channel.call(stub, "x".repeat(10_000)));
    settle().await;
    let behind = tokio::spawn(channel.call(stub, "y".to_owned()));
    let last = tokio::spawn(channel.call(stub, "z".to_owned()));
    settle().await;
    drop(raw);

    assert_status(sent.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
    assert_status(behind.await.unwrap(), Code::CONNECTION_LOST, Disposition::NotProcessed);
    assert_status(last.await.unwrap(), Code::CONNECTION_LOST, Disposition::NotProcessed);
}

/// LD-5 where several calls leave in one write: those behind the byte at which the stream stuck
/// were not sent. Shown by calls that are made in one turn of a task.
#[tokio::test]
async fn ld_5_calls_behind_a_stuck_write_are_not_processed() {
    let (mut raw, stream) = Raw::pair(4096);
    let channel = Channel::builder().stream(stream).unwrap();
    let stub: Plain<String, u64> = plain("it.Text/say");
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    raw.greet_client(&table(&[("it.Text/say", &[1])]), 8, 65_536).await;
    ready.await.unwrap().unwrap();

    let filling = tokio::spawn(channel.call(stub, "x".repeat(4000)));
    settle().await;
    let three = tokio::spawn({
        let channel = channel.clone();
        async move {
            let call = |text: &str| channel.call(stub, text.to_owned());
            tokio::join!(call(&"y".repeat(3000)), call("z"), call("z"))
        }
    });
    settle().await;
    drop(raw);

    assert_status(filling.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
    let (begun, second, third) = three.await.unwrap();
    assert_status(begun, Code::CONNECTION_LOST, Disposition::Maybe);
    assert_status(second, Code::CONNECTION_LOST, Disposition::NotProcessed);
    assert_status(third, Code::CONNECTION_LOST, Disposition::NotProcessed);
}

/// LD-4: a CLOSE says which calls were read; those above are NOT_PROCESSED, the others MAYBE.
/// Shown by a server of bytes that reads three and admits to two.
#[tokio::test]
async fn ld_4_calls_above_last_call_are_not_processed() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let calls: Vec<_> = (0..3).map(|n| tokio::spawn(channel.call(echo_stub(), n))).collect();
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(raw.request().await.0);
    }
    let mut close = Vec::new();
    let (reason, last_call) = (CloseReason::SHUTDOWN, switchback::wire::CallId(ids[1]));
    switchback::wire::Close { reason, last_call, detail: "good night" }.append(&mut close);

    raw.write(&close).await;

    let wanted = [Disposition::Maybe, Disposition::Maybe, Disposition::NotProcessed];
    for (call, disposition) in calls.into_iter().zip(wanted) {
        let status = assert_status(call.await.unwrap(), Code::CONNECTION_LOST, disposition);
        let why = std::error::Error::source(&status).unwrap().to_string();
        assert!(why.contains("SHUTDOWN") && why.contains("good night"), "{why}");
    }
    assert_eq!(raw.rest().await, [0; 0], "LD-2: nothing is written after a CLOSE was read");
}

/// LD-6: when a client is gone its running calls are cancelled. Shown by the handler's drop.
#[tokio::test]
async fn ld_6_the_end_of_a_connection_cancels_its_calls() {
    let left = Arc::new(Count::default());
    let (gone, entered) = (Arc::clone(&left), Arc::new(Count::default()));
    let enter = Arc::clone(&entered);
    let wait = Method::infallible("it.Wait/wait", 1, move |_cx: Cx, n: u64| {
        let (gone, enter) = (Arc::clone(&gone), Arc::clone(&enter));
        async move {
            let _leaving = Leaving(gone);
            enter.add();
            std::future::pending::<()>().await;
            Answer::Ok(n)
        }
    });
    let server = tcp(Server::new().method(wait)).await;

    let mut raw = Raw::connect(&server.url).await;
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Wait/wait")).await;
    entered.reach(1).await;
    drop(raw);

    left.reach(1).await;
}

/// A connection that was lost is made anew by the next call. Shown by a server of bytes that
/// drops its first client in the middle of a call and serves the second.
#[tokio::test]
async fn the_next_call_reconnects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::lazy(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let table = table(&[("it.Echo/echo", &[1])]);

    let lost = tokio::spawn(channel.call(echo_stub(), 1));
    let mut raw = Raw::accept(&listener).await;
    raw.greet_client(&table, 8, 65_536).await;
    raw.request().await;
    drop(raw);
    assert_status(lost.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);

    let again = tokio::spawn(channel.call(echo_stub(), 2));
    let mut raw = Raw::accept(&listener).await;
    let (hello, transcript) = raw.client_hello().await;
    assert_eq!(hello.tables, [table.hash], "the table of the first connection is remembered");
    raw.write(&crate::raw::ack(&table, transcript, 8, 65_536)).await;
    let (call, _, _) = raw.request().await;
    raw.answer_ok(call, &[2]).await;
    assert_eq!(again.await.unwrap(), Ok(2));
}

/// A channel over one stream has no second one, and says so. Shown by a call after the end.
#[tokio::test]
async fn a_used_stream_is_an_error_with_a_name() {
    let (channel, dispatch, server) = crate::support::mem(Server::new().method(echo()));
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    settle().await;

    let result = channel.call(echo_stub(), 2).await;

    let status = assert_status(result, Code::NOT_CONNECTED, Disposition::NotProcessed);
    assert!(status.message().contains("there is no other"), "{status}");
    assert_eq!(dispatch.stats()[0].started, 1);
}
