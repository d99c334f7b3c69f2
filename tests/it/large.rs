//! Long messages: in pieces, with small calls between them, within the receiver's credit.

use std::time::Duration;

use bytes::Bytes;
use switchback::service::Raw as RawBytes;
use switchback::wire::{CallId, CloseReason, Data, Flags, Frame, append_credit, append_data_head};
use switchback::{Channel, ClientConfig, Code, Cx, Disposition, Method, Server, ServerConfig};

use crate::raw::{Ask, Raw, client_hello, hello, table};
use crate::support::{
    Answer, Gate, Plain, echo, echo_stub, in_time, mem, mem_raw, mem_with, now, plain, raw_server,
    settle, status, tcp,
};

/// Answers with the bytes it was sent.
pub(crate) fn raw_echo() -> Method {
    Method::infallible(
        "it.Blob/raw",
        1,
        |_cx: Cx, bytes: RawBytes| async move { Answer::Ok(bytes) },
    )
}

pub(crate) fn raw_stub() -> Plain<RawBytes, RawBytes> {
    plain("it.Blob/raw")
}

/// The same with a type of serde's.
fn typed_echo() -> Method {
    let echo = |_cx: Cx, message: (u8, String)| async move { Answer::Ok(message) };
    Method::infallible("it.Blob/typed", 1, echo)
}

fn typed_stub() -> Plain<(u8, String), (u8, String)> {
    plain("it.Blob/typed")
}

fn server() -> Server {
    Server::new().method(raw_echo()).method(typed_echo()).method(echo())
}

/// Bytes that tell where they belong.
pub(crate) fn blob(len: usize, seed: u8) -> Bytes {
    let byte = |at: usize| u8::try_from((at / 251 % 256) ^ (at % 251)).unwrap() ^ seed;
    (0..len).map(byte).collect::<Vec<u8>>().into()
}

/// Around every length at which something else is done with a payload.
const LENGTHS: [usize; 11] = [
    0,
    1,
    16 * 1024,
    16 * 1024 + 1,
    65_535,
    65_536,
    65_537,
    131_073,
    1 << 20,
    (4 << 20) - 8192,
    (4 << 20) - 20, // As long as a frame may be, with its fixed fields and its CRC.
];

fn small_windows() -> (Server, switchback::client::ChannelBuilder) {
    let mut config = ServerConfig::default();
    config.window_connection = 0; // The least there is: 65,536.
    let mut ours = ClientConfig::default();
    ours.window_connection = 0;
    (server().config(config), Channel::builder().config(ours))
}

/// FL-2, FL-3: bytes of every length come back as they were, as bytes and as a value of serde's,
/// over TCP and in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fl_2_long_messages_come_back_as_they_were() {
    let tcp = tcp(server()).await;
    let over_tcp = Channel::connect(&tcp.url).await.unwrap();
    let (in_memory, _, _served) = mem(server());
    for channel in [over_tcp, in_memory] {
        for (seed, len) in (0..).zip(LENGTHS) {
            let bytes = blob(len, seed);
            let answer = in_time(channel.call(raw_stub(), RawBytes(bytes.clone()))).await.unwrap();
            assert!(answer.0 == bytes, "{len}");
            if len < 4_000_000 {
                let text = "é".repeat(len / 2);
                let answer = in_time(channel.call(typed_stub(), (seed, text.clone()))).await;
                assert!(answer == Ok((seed, text)), "{len}");
            }
        }
    }
}

/// FL-10: with the smallest windows many long messages pass both ways at once, and small calls
/// beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fl_10_small_windows_pass_large_messages() {
    let (server, builder) = small_windows();
    let (channel, _, _served) = mem_with(server, builder);
    let long = (0..16_u8).map(|seed| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let bytes = blob(300_000 + usize::from(seed) * 7, seed);
            let answer = in_time(channel.call(raw_stub(), RawBytes(bytes.clone()))).await.unwrap();
            assert!(answer.0 == bytes);
        })
    });
    let long: Vec<_> = long.collect();
    for n in 0..200 {
        assert_eq!(in_time(channel.call(echo_stub(), n)).await, Ok(n));
    }
    for call in long {
        call.await.unwrap();
    }
}

/// One byte more than the server takes fails the call alone, at the client (CA-14, FL-4).
#[tokio::test]
async fn ca_14_a_message_that_is_too_long_in_pieces_is_not_sent() {
    let (channel, _, _served) = mem(server());
    channel.ready().await.unwrap();
    let result = channel.call(raw_stub(), RawBytes(blob((4 << 20) - 19, 1))).await;
    let status = status(result);
    assert_eq!((status.code(), status.disposition()), (Code::TOO_LARGE, Disposition::NotProcessed));
    assert_eq!(status.excess_bytes(), Some((4_194_305, 4_194_304)));
    assert_eq!(channel.call(echo_stub(), 3).await, Ok(3));
}

/// A client of bytes that takes pieces, its handshake done.
pub(crate) async fn piecewise(server: Server) -> (Raw, tokio::task::JoinHandle<switchback::Error>) {
    let (mut raw, stream) = Raw::pair(1 << 20);
    let (_, served) = server.serve_stream(stream).unwrap();
    let served = tokio::spawn(served);
    let hello = switchback::wire::Hello { window_connection: Some(65_536), ..hello() };
    raw.write(&client_hello(&hello)).await;
    let ack = raw.hello_ack().await;
    assert_eq!(ack.window_connection, Some(4 << 20));
    raw.frame().await;
    (raw, served)
}

pub(crate) fn data(call: u32, payload: &[u8], flags: Flags) -> Vec<u8> {
    let mut out = Vec::new();
    append_data_head(&mut out, CallId(call), payload.len().try_into().unwrap(), flags);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
    out
}

/// FL-5: a small call between the pieces of a long one is answered first.
#[tokio::test]
async fn fl_5_a_small_call_overtakes_a_long_one() {
    let (mut raw, _served) = piecewise(server()).await;
    let bytes = blob(70_000, 5);
    raw.write(&Ask { payload: &bytes[..10], ..Ask::new(1, "it.Blob/raw") }.more()).await;
    raw.write(&data(1, &bytes[10..40_000], Flags::MORE)).await;
    raw.ask(Ask::new(3, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.call, 3);
    raw.write(&data(1, &bytes[40_000..], Flags::NONE)).await;

    let mut came = Vec::new();
    loop {
        let frame = raw.frame().await;
        match frame.parse().unwrap() {
            Frame::Data(Data { call, has_more, payload }) => {
                assert_eq!((call, has_more), (CallId(1), true));
                came.extend_from_slice(payload);
                if came.len() == 65_536 {
                    // All the credit there was: without more of it nothing comes.
                    settle().await;
                    assert!(!raw.has_unread().await);
                    let mut credit = Vec::new();
                    append_credit(&mut credit, 65_536);
                    raw.write(&credit).await;
                }
            }
            Frame::Response(response) => {
                assert_eq!((response.call, response.status), (CallId(1), Code::OK));
                came.extend_from_slice(response.payload);
                break;
            }
            frame => panic!("{frame:?}"),
        }
    }
    assert!(came == bytes);
}

/// FL-7: a call that is taken back between its pieces was not processed, nor one whose time is
/// over; what still comes of them is thrown away.
#[tokio::test(start_paused = true)]
async fn fl_7_an_upload_that_ends_early_was_not_processed() {
    let (mut raw, _served) = piecewise(server()).await;
    let piece = data(1, &[7; 1000], Flags::MORE);
    raw.write(&Ask::new(1, "it.Blob/raw").more()).await;
    raw.write(&piece).await;
    raw.cancel(1).await;
    let reply = raw.reply().await;
    let cancelled = (Code::CANCELLED, Disposition::NotProcessed);
    assert_eq!((reply.call, (reply.status, reply.disposition)), (1, cancelled));
    raw.write(&piece).await;

    raw.write(&Ask { timeout_ms: 500, ..Ask::new(3, "it.Blob/raw") }.more()).await;
    let reply = raw.reply().await;
    let late = (Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
    assert_eq!((reply.call, (reply.status, reply.disposition)), (3, late));
    raw.write(&data(3, b"late", Flags::NONE)).await;

    raw.ask(Ask::new(5, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK);
}

/// FL-6, FL-7: a request is refused at its first frame, and its rest is thrown away.
#[tokio::test]
async fn fl_6_a_refusal_does_not_wait_for_the_rest() {
    let (mut raw, _served) = piecewise(server()).await;
    raw.write(&Ask::new(1, "it.Nobody/knows").more()).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (1, Code::UNKNOWN_METHOD));
    raw.write(&data(1, &[1; 60_000], Flags::MORE)).await;
    raw.write(&data(1, &[1; 60_000], Flags::NONE)).await;
    raw.ask(Ask::new(3, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK);
}

/// CA-11: what an upload holds counts, and one that is over the limit is refused alone.
#[tokio::test]
async fn ca_11_uploads_count_against_the_bytes_in_flight() {
    let mut config = ServerConfig::default();
    config.in_flight_bytes_max = 200_000;
    let (mut raw, _served) = piecewise(server().config(config)).await;
    raw.write(&Ask::new(1, "it.Blob/raw").more()).await;
    for _ in 0..4 {
        raw.write(&data(1, &[1; 60_000], Flags::MORE)).await;
    }
    let reply = raw.reply().await;
    let full = (Code::OVERLOADED, Disposition::NotProcessed);
    assert_eq!((reply.call, (reply.status, reply.disposition)), (1, full));
    raw.write(&Ask { payload: &[2; 1000], ..Ask::new(3, "it.Blob/raw") }.more()).await;
    raw.write(&data(3, &[2; 1000], Flags::NONE)).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status, reply.payload), (3, Code::OK, vec![2; 2000]));
}

/// FL-9: uploads that do not go on close the connection; one that goes on slowly does not.
#[tokio::test(start_paused = true)]
async fn fl_9_uploads_must_go_on() {
    let (mut raw, _served) = piecewise(server()).await;
    raw.write(&Ask::new(1, "it.Blob/raw").more()).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        raw.write(&data(1, &[1; 6000], Flags::MORE)).await;
    }
    let (reason, last_call, detail) = raw.close().await;
    assert_eq!((reason, last_call), (CloseReason::FRAME_TIMEOUT, 1));
    assert!(detail.contains("at least 5120 must"), "{detail}");
}

/// A channel to a server of bytes that takes pieces, in the smallest window; its handshake done.
async fn windowed() -> (Channel, Raw) {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    let methods = table(&[("it.Blob/raw", &[1])]);
    raw.greet_client_with_window(&methods).await;
    ready.await.unwrap().unwrap();
    (channel, raw)
}

/// FL-2, LD-5: a call whose last piece was not handed over was not executed, and says so, although
/// its first frame was read. Shown by a server that grants nothing, and goes.
#[tokio::test]
async fn ld_5_a_request_that_was_not_sent_whole_was_not_processed() {
    let (channel, mut raw) = windowed().await;
    let call = tokio::spawn(channel.call(raw_stub(), RawBytes(blob(200_000, 3))));
    let (id, _, payload) = raw.request().await;
    assert_eq!((id, payload.len()), (1, 0));
    let frame = raw.frame().await;
    assert!(matches!(frame.parse().unwrap(), Frame::Data(data) if data.payload.len() == 65_536));
    settle().await;
    assert!(!raw.has_unread().await, "it has no credit left");
    drop(raw);

    let lost = status(in_time(call).await.unwrap());
    assert_eq!(
        (lost.code(), lost.disposition()),
        (Code::CONNECTION_LOST, Disposition::NotProcessed)
    );
}

/// LD-12: who grants no credit for ten seconds is given up, as who takes nothing is.
#[tokio::test(start_paused = true)]
async fn ld_12_a_server_that_grants_nothing_is_given_up() {
    let (channel, mut raw) = windowed().await;
    let begun = now();
    let call = channel.call(raw_stub(), RawBytes(blob(200_000, 3)));
    let call = tokio::spawn(call.timeout(Duration::from_secs(60)));
    let alive = tokio::spawn(async move {
        // It answers every PING: it is alive, and reads.
        while let Some(frame) = raw.next().await {
            if let Frame::Ping(echo) = frame.parse().unwrap() {
                raw.control(switchback::wire::Kind::PONG, &echo).await;
            }
        }
    });
    let lost = status(call.await.unwrap());
    assert_eq!(lost.disposition(), Disposition::NotProcessed, "{lost}");
    let took = now().duration_since(begun);
    assert!((10..11).contains(&took.as_secs()), "{took:?}");
    alive.await.unwrap();
}

/// FL-7: an answer that nobody waits for any more is cut short.
#[tokio::test]
async fn fl_7_an_answer_is_cut_when_its_call_is_taken_back() {
    let (mut raw, _served) = piecewise(server()).await;
    let bytes = blob(200_000, 9);
    raw.write(&Ask::new(1, "it.Blob/raw").more()).await;
    for piece in bytes.chunks(50_000) {
        raw.write(&data(1, piece, Flags::MORE)).await;
    }
    raw.write(&data(1, &[], Flags::NONE)).await;
    let frame = raw.frame().await;
    assert!(matches!(frame.parse().unwrap(), Frame::Data(_)));
    settle().await;
    raw.cancel(1).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (1, Code::CANCELLED));
    assert_eq!(reply.disposition, Disposition::Processed);
}

/// More than a connection may have in flight, both ways: nobody waits for ever, and what is refused
/// was not processed.
#[tokio::test]
async fn more_than_may_be_in_flight_is_refused_or_answered() {
    let server = tcp(server()).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let calls: Vec<_> = (0..8_u8)
        .map(|seed| tokio::spawn(channel.call(raw_stub(), RawBytes(blob(3_000_000, seed)))))
        .collect();
    for (seed, call) in (0..).zip(calls) {
        match in_time(call).await.unwrap() {
            Ok(answer) => assert!(answer.0 == blob(3_000_000, seed)),
            Err(error) => {
                let status = status::<RawBytes, _>(Err(error));
                let full = (Code::OVERLOADED, Disposition::NotProcessed);
                assert_eq!((status.code(), status.disposition()), full, "{status}");
            }
        }
    }
}

/// LD-3: a server that goes says its last word behind the answers that are under way.
#[tokio::test]
async fn ld_3_a_drain_waits_for_long_answers() {
    let server = tcp(server()).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let calls: Vec<_> = (0..4_u8)
        .map(|seed| {
            let bytes = blob(3_000_000, seed);
            tokio::spawn(channel.call(raw_stub(), RawBytes(bytes)))
        })
        .collect();
    let started = || server.dispatch.stats().iter().map(|method| method.started).sum::<u64>();
    in_time(async {
        while started() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop.send(()).unwrap();
    let mut answered = 0;
    for (seed, call) in (0..).zip(calls) {
        match in_time(call).await.unwrap() {
            Ok(answer) => {
                assert!(answer.0 == blob(3_000_000, seed));
                answered += 1;
            }
            Err(error) => {
                let status = status::<RawBytes, _>(Err(error));
                assert_eq!(status.disposition(), Disposition::NotProcessed, "{status}");
            }
        }
    }
    assert!(answered > 0, "what had started was answered");
    in_time(server.drained).await.unwrap().unwrap();
}

/// A call that waits between two pieces of its request is dropped with its channel; the server's
/// places are free again. Shown with a gate that nothing passes and a limit of two calls.
#[tokio::test]
async fn uploads_hold_places_and_give_them_back() {
    let mut config = ServerConfig::default();
    config.calls_max = 2;
    let gate = Gate::default();
    let server = server().method(gate.method("it.Gate/pass")).config(config);
    let (mut raw, _served) = piecewise(server).await;
    for call in [1, 3] {
        raw.write(&Ask::new(call, "it.Blob/raw").more()).await;
    }
    raw.ask(Ask::new(5, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OVERLOADED);
    raw.cancel(1).await;
    assert_eq!(raw.reply().await.call, 1);
    raw.ask(Ask::new(7, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK);
}

/// A peer that knows no pieces gets whole frames.
#[tokio::test]
async fn fl_1_who_takes_no_pieces_gets_none() {
    let (mut raw, _, _served) = mem_raw(server()).await;
    let bytes = blob(200_000, 4);
    raw.ask(Ask { payload: &bytes, ..Ask::new(1, "it.Blob/raw") }).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (1, Code::OK));
    assert!(reply.payload == bytes);

    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(raw_stub(), RawBytes(blob(60_000, 1))));
    raw.greet_client(&table(&[("it.Blob/raw", &[1])]), 8, 65_536).await;
    let (id, _, payload) = raw.request().await;
    assert_eq!((id, payload.len()), (1, 60_000));
    drop(call);
}
