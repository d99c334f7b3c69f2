//! Pieces and credit where both are tight: who waits, who is woken, what is known at the end.
//!
//! With a peer of bytes whose window is the smallest there is, mostly on the paused clock: what
//! has to happen at once happens in no time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use switchback::transport::Stream;
use switchback::wire::{
    CallId, CloseReason, Data, Flags, Frame, Goaway, Kind, append_control, append_credit,
};
use switchback::{Channel, Code, Cx, Disposition, Method, Router, Server, ServerConfig};
use tokio::io::AsyncWrite;

use crate::large::{blob, data, piecewise, raw_echo, raw_stub};
use crate::raw::{Ask, Raw, client_hello, hello, table};
use crate::support::{
    Answer, Gate, assert_status, driven, echo, echo_stub, in_time, now, raw_server, settle,
};

const S: Duration = Duration::from_secs(1);
const WINDOW: u32 = 65_536;

/// Answers with so many KiB.
pub(crate) fn many() -> Method {
    Method::infallible("it.Blob/many", 1, |_cx: Cx, kib: u16| async move {
        Answer::Ok(switchback::service::Raw(vec![7; usize::from(kib) * 1024].into()))
    })
}

/// Asks for so many KiB.
fn ask_many(call: u32, kib: u8) -> Vec<u8> {
    Ask { payload: &[kib], ..Ask::new(call, "it.Blob/many") }.to_bytes()
}

fn credit(bytes: u32) -> Vec<u8> {
    let mut out = Vec::new();
    append_credit(&mut out, bytes);
    out
}

/// Reads the piece that a whole window is spent for.
async fn first_piece(raw: &mut Raw, of: u32) {
    let frame = raw.frame().await;
    let Frame::Data(Data { call, has_more: true, payload }) = frame.parse().unwrap() else {
        panic!("expected a piece, found {:?}", frame.parse());
    };
    assert_eq!((call, payload.len()), (CallId(of), 65_536));
}

/// FL-7: an answer that is cut ends at once, though there is no credit and though others of which
/// pieces are left stand before it: its RESPONSE needs none (FL-10).
#[tokio::test(start_paused = true)]
async fn fl_7_a_cut_answer_waits_for_nothing() {
    let (mut raw, _served) = piecewise(Server::new().method(many())).await;
    raw.write(&ask_many(1, 200)).await;
    first_piece(&mut raw, 1).await;
    raw.write(&ask_many(3, 200)).await;
    raw.write(&ask_many(5, 200)).await;
    let begun = now();
    for call in [3, 1] {
        raw.cancel(call).await;
        let reply = in_time(raw.reply()).await;
        let cancelled = (Code::CANCELLED, Disposition::Processed);
        assert_eq!((reply.call, (reply.status, reply.disposition)), (call, cancelled));
    }
    assert!(now() - begun < S, "{:?}", now() - begun);
    raw.write(&credit(WINDOW)).await;
    first_piece(&mut raw, 5).await;
}

/// LD-12: a client that grants nothing is given up after ten seconds, and what waits for it with
/// it, whether it says anything else or not.
#[tokio::test(start_paused = true)]
async fn ld_12_a_client_that_grants_nothing_is_given_up() {
    for is_silent in [true, false] {
        let (mut raw, served) = piecewise(Server::new().method(many())).await;
        raw.write(&ask_many(1, 200)).await;
        first_piece(&mut raw, 1).await;
        let begun = now();
        let talks = tokio::spawn(async move {
            let mut ping = Vec::new();
            append_control(&mut ping, Kind::PING, CallId::CONNECTION, &[], b"hear me!");
            while is_silent || raw.try_write(&ping).await.is_ok() {
                tokio::time::sleep(S).await;
            }
        });
        let error = tokio::time::timeout(S * 60, served).await.expect("it is given up").unwrap();
        assert!(error.to_string().contains("10s"), "{error}");
        assert!((10..11).contains(&(now() - begun).as_secs()), "{:?}", now() - begun);
        talks.abort();
    }
}

/// Handlers that wait for room go on when an answer that took it is cut.
#[tokio::test(start_paused = true)]
async fn handlers_go_on_when_a_long_answer_is_cut() {
    let gate = Gate::default();
    let server = Server::new().method(gate.method("it.Gate/pass"));
    let server = server.method(Method::infallible("it.Blob/two", 1, |_cx: Cx, _: u8| async move {
        Answer::Ok(switchback::service::Raw(vec![7; 2 << 20].into()))
    }));
    let (mut raw, _served) = piecewise(server).await;
    raw.ask(Ask::new(1, "it.Gate/pass")).await;
    gate.entered.reach(1).await;
    raw.ask(Ask::new(3, "it.Blob/two")).await;
    first_piece(&mut raw, 3).await;
    gate.open.notify_one();
    settle().await;
    assert!(!raw.has_unread().await, "2 MiB wait: its answer would only be held");
    let begun = now();
    raw.cancel(3).await;
    assert_eq!(in_time(raw.reply()).await.call, 3);
    assert_eq!(in_time(raw.reply()).await.call, 1);
    assert!(now() - begun < S, "{:?}", now() - begun);
}

/// CA-16: a drain that waits for a long answer ends with that, and also when it is cut.
#[tokio::test(start_paused = true)]
async fn ca_16_a_drain_ends_with_the_last_piece_or_its_cut() {
    for is_cut in [false, true] {
        let router = Router::new().method(many());
        let (mut raw, handle, served) = driven(router, &ServerConfig::default(), 1 << 20);
        let hello = switchback::wire::Hello { window_connection: Some(WINDOW), ..hello() };
        raw.write(&client_hello(&hello)).await;
        raw.hello_ack().await;
        raw.frame().await;
        raw.write(&ask_many(1, 100)).await;
        first_piece(&mut raw, 1).await;
        handle.drain();
        let (_, echo) = raw.first_goaway().await;
        raw.control(Kind::PONG, &echo).await;
        assert_eq!(raw.goaway().await.last_call, CallId(1));
        let begun = now();
        if is_cut {
            raw.cancel(1).await;
            assert_eq!(in_time(raw.reply()).await.status, Code::CANCELLED);
        } else {
            raw.write(&credit(WINDOW)).await;
            let frame = raw.frame().await;
            assert!(matches!(frame.parse().unwrap(), Frame::Data(_)));
            assert_eq!(in_time(raw.reply()).await.status, Code::OK);
        }
        let (reason, last_call, _) = in_time(raw.close()).await;
        assert_eq!((reason, last_call), (CloseReason::SHUTDOWN, 1));
        assert!(now() - begun < S, "{:?}", now() - begun);
        drop(raw);
        served.await.unwrap();
    }
}

/// P7: a server stops reading while its frames are not taken, also when a long answer waits for
/// credit beside them. Shown by small calls of 4 KiB, of which the buffers on the way hold few.
#[tokio::test(start_paused = true)]
async fn a_server_that_waits_for_credit_is_not_filled_with_frames() {
    let (mut raw, _served) = piecewise(Server::new().method(many()).method(raw_echo())).await;
    raw.write(&ask_many(1, 200)).await;
    let payload = [7; 4096];
    let mut written = 0;
    for n in 0..8192_u32 {
        let ask = Ask { payload: &payload, ..Ask::new(3 + 2 * n, "it.Blob/raw") }.to_bytes();
        if tokio::time::timeout(S, raw.write(&ask)).await.is_err() {
            break;
        }
        written += 1;
    }
    // 1 MiB each in both ways of the stream, 1 MiB of answers that wait, and what is in hand.
    assert!(written < 1000, "{written} calls were read, and no answer was taken");
}

/// A wait for credit that is over does not keep a flusher from its rest. Shown by a client that
/// grants just in time and does not read for longer than that; in a thread of its own, for it
/// would spin for ever.
#[test]
fn a_wait_for_credit_that_is_over_is_forgotten() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let router = Router::new().method(many());
            let (mut raw, _handle, _served) = driven(router, &ServerConfig::default(), 80_000);
            let hello = switchback::wire::Hello { window_connection: Some(WINDOW), ..hello() };
            raw.write(&client_hello(&hello)).await;
            raw.hello_ack().await;
            raw.frame().await;
            raw.write(&ask_many(1, 200)).await;
            settle().await;
            // It looks, and sees that there is no credit.
            raw.control(Kind::PING, b"12345678").await;
            tokio::time::sleep(S * 9).await;
            raw.write(&credit(WINDOW)).await;
            tokio::time::sleep(S * 9).await;
            first_piece(&mut raw, 1).await;
            assert!(matches!(raw.frame().await.parse().unwrap(), Frame::Pong(_)));
            first_piece(&mut raw, 1).await;
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(S * 30).expect("the flusher rests");
}

/// A writer that fails when it is told to.
struct Breakable<W> {
    inner: W,
    is_broken: Arc<AtomicBool>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Breakable<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// LD-5: a request whose last piece was not handed over is NOT_PROCESSED too when it is a write
/// that fails.
#[tokio::test]
async fn ld_5_a_write_that_fails_between_pieces() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (reader, inner) = tokio::io::split(theirs);
    let is_broken = Arc::new(AtomicBool::new(false));
    let writer = Breakable { inner, is_broken: Arc::clone(&is_broken) };
    let channel = Channel::builder().stream(Stream::new(reader, writer, "mem")).unwrap();
    let mut raw = Raw::new(ours);
    greet(&mut raw, &channel).await;
    let call = tokio::spawn(channel.call(raw_stub(), switchback::service::Raw(blob(200_000, 3))));
    raw.request().await;
    first_piece(&mut raw, 1).await;
    is_broken.store(true, Ordering::Relaxed);
    raw.write(&credit(WINDOW)).await;
    let result = in_time(call).await.unwrap();
    assert_status(result, Code::CONNECTION_LOST, Disposition::NotProcessed);
}

async fn greet(raw: &mut Raw, channel: &Channel) {
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    let methods = table(&[("it.Blob/raw", &[1]), ("it.Echo/echo", &[1])]);
    raw.greet_client_with_window(&methods).await;
    ready.await.unwrap().unwrap();
}

/// LD-10: of a request that the server has not read no further piece is sent.
#[tokio::test]
async fn ld_10_what_was_not_read_is_not_sent_on() {
    let (channel, mut raw) = raw_server(Channel::builder());
    greet(&mut raw, &channel).await;
    let call = tokio::spawn(channel.call(raw_stub(), switchback::service::Raw(blob(200_000, 3))));
    raw.request().await;
    first_piece(&mut raw, 1).await;
    for last_call in [Goaway::ANY_CALL, CallId(0)] {
        let mut out = Vec::new();
        Goaway { last_call, reason: CloseReason::SHUTDOWN, grace_ms: 1000 }.append(&mut out);
        raw.write(&out).await;
    }
    let result = in_time(call).await.unwrap();
    assert_status(result, Code::CONNECTION_LOST, Disposition::NotProcessed);
    raw.write(&credit(WINDOW)).await;
    settle().await;
    assert!(!raw.has_unread().await, "a piece of a call that has ended");
}

/// FL-5, FL-10: who waits for credit waits with pieces alone: a small call goes out at once beside
/// long ones.
#[tokio::test]
async fn fl_10_small_calls_do_not_wait_for_credit() {
    let (channel, mut raw) = raw_server(Channel::builder());
    greet(&mut raw, &channel).await;
    let long = switchback::service::Raw(blob(3 << 20, 3));
    let _long = tokio::spawn(channel.call(raw_stub(), long));
    raw.request().await;
    first_piece(&mut raw, 1).await;
    let small = tokio::spawn(channel.call(echo_stub(), 7));
    assert_eq!(in_time(raw.request()).await.0, 3);
    raw.answer_ok(3, &[7]).await;
    assert_eq!(in_time(small).await.unwrap(), Ok(7));
}

/// FL-8, LD-11: pieces that ask for nothing are counted, whether their call is there or not.
#[tokio::test]
async fn fl_8_a_flood_of_empty_pieces_is_ended() {
    let (mut raw, _served) = piecewise(Server::new().method(echo())).await;
    raw.ask(Ask::new(1, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK);
    let empty = data(1, &[], Flags::MORE);
    for _ in 0..300 {
        if raw.try_write(&empty).await.is_err() {
            break;
        }
    }
    assert_eq!(in_time(raw.last_word()).await, CloseReason::TOO_MANY_FRAMES);
}

/// FL-8: a piece out of turn closes the connection: of a call that was not begun, and of one that
/// runs and whose last piece was read.
#[tokio::test]
async fn fl_8_a_piece_out_of_turn_closes() {
    for (call, is_whole) in [(3, false), (1, true)] {
        let gate = Gate::default();
        let server = Server::new().method(gate.method("it.Gate/pass"));
        let (mut raw, _served) = piecewise(server).await;
        raw.write(&Ask { payload: &[], ..Ask::new(1, "it.Gate/pass") }.more()).await;
        if is_whole {
            raw.write(&data(1, &[7], Flags::NONE)).await;
            gate.entered.reach(1).await;
        }
        raw.write(&data(call, &[7], Flags::NONE)).await;
        let (reason, last_call, _) = in_time(raw.close()).await;
        assert_eq!((reason, last_call), (CloseReason::PROTOCOL, 1));
    }
}
