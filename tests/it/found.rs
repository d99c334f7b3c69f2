//! What the simulation found in the library, each as a case of its own: what must hold, shown by
//! the fewest events that broke it.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use switchback::transport::Stream;
use switchback::wire::{CallId, CloseReason, Frame, Kind, Preface};
use switchback::{Channel, Code, Cx, Disposition, Method, Router, Server, ServerConfig};
use tokio::io::AsyncWrite;

use crate::raw::{Ask, Raw, client_hello, hello, table};
use crate::scripted::frames;
use crate::support::{
    Answer, MEM_BYTES, assert_status, driven, echo, echo_stub, in_time, now, settle, tcp,
};

const S: Duration = Duration::from_secs(1);
const SLICE_BYTES: usize = 4 * 1024;

/// LD-3: the linger begins with the last byte that was taken, not with the decision to close: who
/// takes a second for 4 KiB gets an answer of 60 KB and the farewell behind it, though a drain
/// began before it had read any of it, and the linger is a second.
#[tokio::test(start_paused = true)]
async fn ld_3_a_linger_begins_after_the_last_answer() {
    let long = Method::infallible("it.Long/long", 1, |_cx: Cx, n: u64| async move {
        Answer::Ok("x".repeat(usize::try_from(n).unwrap() * 10_000))
    });
    let router = Router::new().method(long);
    let (mut raw, handle, served) = driven(router, &ServerConfig::default(), SLICE_BYTES);
    raw.greet_server().await;
    raw.ask(Ask { payload: &[6], ..Ask::new(1, "it.Long/long") }).await;
    settle().await;

    handle.drain();
    let mut taken = vec![0; Preface::BYTES];
    while taken.len() < 60_000 - SLICE_BYTES {
        tokio::time::sleep(S).await;
        match raw.try_bytes(SLICE_BYTES).await {
            Ok(slice) => taken.extend(slice),
            Err(end) => panic!("it ended with {} bytes taken: {end}", taken.len()),
        }
    }
    taken.extend(raw.rest().await);

    let frames = frames(&taken);
    let Frame::Response(answer) = frames[0].parse().unwrap() else { panic!("{frames:?}") };
    assert_eq!((answer.status, answer.payload.len()), (Code::OK, 60_003));
    let Some(Ok(Frame::Close(close))) = frames.last().map(|frame| frame.parse()) else {
        panic!("{frames:?}");
    };
    assert_eq!((close.reason, close.last_call), (CloseReason::SHUTDOWN, CallId(1)));
    assert_eq!(served.await.unwrap().close_reason(), Some(CloseReason::SHUTDOWN));
}

/// CA-16, LD-7: who is connected when a drain begins, and has not said HELLO, is waited for: its
/// first call, on its way with the HELLO, is served. Shown by a client that says both half a second
/// later; one that says nothing is closed without a word after a second.
#[tokio::test(start_paused = true)]
async fn ld_7_a_drain_waits_for_a_hello() {
    let router = || Router::new().method(echo());
    let (mut raw, handle, _served) = driven(router(), &ServerConfig::default(), 64 * 1024);
    handle.drain();
    tokio::time::sleep(S / 2).await;
    raw.write(&hello_and_ask()).await;
    handshake(&mut raw).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (1, Code::OK));
    let (_, asked) = raw.first_goaway().await;
    raw.control(Kind::PONG, &asked).await;
    assert_eq!(raw.goaway().await.last_call, CallId(1));
    assert_eq!(raw.close().await.0, CloseReason::SHUTDOWN);

    let (mut raw, handle, served) = driven(router(), &ServerConfig::default(), 64 * 1024);
    let begun = now();
    handle.drain();
    assert_eq!(raw.rest().await, [0; 0]);
    let waited = now() - begun;
    assert!((1000..1100).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(served.await.unwrap().close_reason(), Some(CloseReason::SHUTDOWN));
}

/// P6: who is in the system's queue when a drain begins is accepted, and told: closing a listener
/// resets what waits in its queue, and with it calls that were sent on the spot. Shown over TCP, by
/// a connection that is made, and speaks, between the word to stop and the server's next turn.
#[tokio::test]
async fn a_drain_accepts_who_waits_already() {
    let server = tcp(Server::new().method(echo())).await;
    settle().await;
    server.stop.send(()).unwrap();
    let address = server.url.trim_start_matches("tcp://");
    let mut waiting = std::net::TcpStream::connect(address).unwrap();
    waiting.write_all(&hello_and_ask()).unwrap();
    waiting.set_nonblocking(true).unwrap();
    let mut raw = Raw::new(tokio::net::TcpStream::from_std(waiting).unwrap());

    in_time(handshake(&mut raw)).await;
    let reply = in_time(raw.reply()).await;

    assert_eq!((reply.call, reply.status), (1, Code::OK));
    let (_, asked) = in_time(raw.first_goaway()).await;
    raw.control(Kind::PONG, &asked).await;
    assert_eq!(in_time(raw.goaway()).await.last_call, CallId(1));
    assert_eq!(in_time(raw.close()).await.0, CloseReason::SHUTDOWN);
    drop(raw);
    assert_eq!(in_time(server.drained).await.unwrap().unwrap().connections, 1);
}

/// LD-8: a stream that is Pending for a moment before each write, for reasons of its own, says
/// nothing of its peer: a server that is gone without a word is found in 10 s. Shown while a call
/// is written every second, each after such a moment.
#[tokio::test(start_paused = true)]
async fn ld_8_a_busy_stream_is_no_sign_of_life() {
    let (ours, theirs) = tokio::io::duplex(MEM_BYTES);
    let ((reader, writer), mut raw) = (tokio::io::split(ours), Raw::new(theirs));
    let stream = Stream::new(reader, Busy(writer, false), "busy");
    let channel = Channel::builder().stream(stream).unwrap();
    let call = tokio::spawn(channel.call(echo_stub(), 1).timeout(S * 60));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 64, 65_536).await;
    raw.request().await;
    let begun = now();
    let calling = tokio::spawn(async move {
        let stub = echo_stub();
        loop {
            tokio::time::sleep(S).await;
            // It is never answered: only that it is written matters.
            let _more = tokio::spawn(channel.call(stub, 2).timeout(S * 60));
        }
    });

    assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);

    let waited = now() - begun;
    assert!((10_000..10_100).contains(&waited.as_millis()), "{waited:?}");
    calling.abort();
    drop(raw);
}

/// A client's first bytes, with a call at once.
fn hello_and_ask() -> Vec<u8> {
    let mut bytes = client_hello(&hello());
    bytes.extend(Ask::new(1, "it.Echo/echo").to_bytes());
    bytes
}

/// Reads what a server says to that, but the answer.
async fn handshake(raw: &mut Raw) {
    raw.hello_ack().await;
    let table = raw.frame().await;
    assert!(matches!(table.parse().unwrap(), Frame::Table(_)), "{table:?}");
}

/// Is Pending once before each write, and wakes at once.
struct Busy<W>(W, bool);

impl<W: AsyncWrite + Unpin> AsyncWrite for Busy<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
