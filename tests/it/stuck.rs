//! Connections that are stuck: a peer that does not read, a handler that does not end.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use switchback::driver::{Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::service::Fingerprint;
use switchback::transport::{Stream, duplex};
use switchback::wire::{
    CallId, FRAME_BYTES_DEFAULT, Hello, Kind, Preface, VersionRange, append_control,
};
use switchback::{CallError, Channel, Code, Cx, Disposition, Method, Router, Stub};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

static WAIT: LazyLock<Stub<(), (), Infallible>> =
    LazyLock::new(|| Stub::infallible("stuck.Test/wait", 1, Fingerprint::UNCHECKED));

fn settings() -> ServerSettings {
    ServerSettings::new(ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max: 1024,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: String::new(),
    })
}

fn code<T: std::fmt::Debug>(result: Result<T, CallError<Infallible>>) -> (Code, Disposition) {
    match result.expect_err("the connection is stuck") {
        CallError::App(never) => match never {},
        CallError::Rpc(status) => (status.code(), status.disposition()),
    }
}

/// A connection that is cut is closed at once, though a handler that cannot be dropped runs on
/// and its handle is kept: the caller hears of it long before its deadline.
#[tokio::test(start_paused = true)]
async fn a_cut_closes_the_stream_under_a_running_handler() {
    let (client_end, server_end) = duplex(64 * 1024);
    let (started, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (starts, finishes) = (Arc::clone(&started), Arc::clone(&finish));
    let method = Method::infallible("stuck.Test/wait", 1, move |_cx: Cx, (): ()| {
        let (starts, finishes) = (Arc::clone(&starts), Arc::clone(&finishes));
        async move {
            starts.notify_one();
            finishes.notified().await;
            Ok(())
        }
    });
    let dispatch = Router::new().method(method.no_cancel()).into_dispatch().unwrap();
    let (handle, served) = serve_stream(server_end, settings(), dispatch, Runtime::tokio());
    let served = tokio::spawn(served);
    let channel = Channel::builder().stream(client_end).unwrap();
    let call = tokio::spawn(channel.call(&WAIT, ()).timeout(Duration::from_secs(10)));
    started.notified().await;

    handle.abort();
    let result = call.await.unwrap();

    assert_eq!(code(result), (Code::CONNECTION_LOST, Disposition::Maybe));
    assert_eq!(handle.pending_calls(), 1, "the handler has not ended yet");
    finish.notify_one();
    drop(served.await.unwrap());
}

/// A call ends at its deadline although the connection is stuck in a write: the peer reads
/// nothing, and no deadline was pending when the write began.
#[tokio::test(start_paused = true)]
async fn a_deadline_passes_while_the_peer_does_not_read() {
    let (client_end, _unread) = duplex(16);
    let channel = Channel::builder().stream(client_end).unwrap();
    let clock = Runtime::tokio().clock;
    let ready = tokio::time::timeout(Duration::from_millis(1), channel.ready());
    assert!(ready.await.is_err(), "HELLO is longer than what the stream holds");

    let start = clock.now();
    let result = channel.call(&WAIT, ()).timeout(Duration::from_millis(50)).await;

    let late = clock.now().duration_since(start).saturating_sub(Duration::from_millis(50));
    assert_eq!(code(result).0, Code::DEADLINE_EXCEEDED);
    assert!(late <= Duration::from_millis(15), "{late:?} late");
}

/// A connection that is cut while it is stuck in a write is closed all the same: the peer, which
/// reads nothing, cannot hold it.
#[tokio::test(start_paused = true)]
async fn a_cut_closes_the_stream_under_a_stuck_write() {
    let (mut peer, reader) = tokio::io::duplex(256);
    let (unread, writer) = tokio::io::duplex(16);
    let dispatch = Router::new().into_dispatch().unwrap();
    let stream = Stream::new(reader, writer, "stuck");
    let (handle, served) = serve_stream(stream, settings(), dispatch, Runtime::tokio());
    let served = tokio::spawn(served);
    let mut hello = Preface(VersionRange::OURS).to_bytes().to_vec();
    let says = Hello {
        frame_bytes_max: 65_536,
        codecs: vec![1],
        build: String::new(),
        tables: vec![],
        window_connection: None,
    };
    append_control(&mut hello, Kind::HELLO, CallId::CONNECTION, &says.to_ext(), &[]);
    peer.write_all(&hello).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;

    handle.abort();
    drop(served.await.unwrap());

    // The write half is gone once writing towards it fails; while it is held this just waits.
    let (_, mut towards) = tokio::io::split(unread);
    let flood = tokio::time::timeout(Duration::from_secs(10), towards.write_all(&[0; 1024])).await;
    let error = flood.expect("nobody holds the stream").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

/// A call that says it was not processed is not sent with the farewell: the handshake times out
/// while its request waits behind a stuck write, then the server reads on.
#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_not_sent_with_the_farewell() {
    static SEND: LazyLock<Stub<String, (), Infallible>> =
        LazyLock::new(|| Stub::infallible("stuck.Test/send", 1, Fingerprint::UNCHECKED));
    let (client_end, mut peer) = tokio::io::duplex(200);
    let (reader, writer) = tokio::io::split(client_end);
    let channel = Channel::builder().stream(Stream::new(reader, writer, "stuck")).unwrap();
    let mark = |number: usize| format!("<{number}>").repeat(40);
    let mut calls = Vec::new();
    for number in 0..8 {
        calls.push(tokio::spawn(channel.call(&SEND, mark(number))));
        tokio::time::sleep(Duration::from_millis(1)).await; // Until it is stuck, or waits.
    }
    let mut ends = Vec::new();
    for call in calls {
        ends.push(code(call.await.unwrap()));
    }
    drop(channel);

    let mut sent = Vec::new();
    peer.read_to_end(&mut sent).await.unwrap();

    let sent = String::from_utf8_lossy(&sent);
    for (number, end) in ends.iter().enumerate() {
        assert_eq!(end.0, Code::CONNECTION_LOST);
        let is_unsent = end.1 == Disposition::NotProcessed;
        assert_eq!(is_unsent, !sent.contains(&mark(number)), "call {number}: {ends:?}");
    }
    assert!(ends.iter().any(|end| end.1 == Disposition::NotProcessed), "{ends:?}");
}
