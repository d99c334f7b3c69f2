//! Damaged and senseless frames: the right CLOSE on the wire, in both directions, and what only
//! costs its call.

use switchback::wire::{CallId, CloseReason, Kind, append_control, response_keys};
use switchback::{Channel, Code, Codec, Cx, Disposition, ErrorKind, Method, Server};

use crate::raw::{Ask, Raw, response, table};
use crate::support::{Answer, Gate, assert_status, echo, echo_stub, mem, mem_raw, raw_server};

/// A sound frame of the connection.
fn control(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append_control(&mut out, Kind(kind), CallId::CONNECTION, &[], payload);
    out
}

/// The frame with one bit of it changed.
fn flipped(mut frame: Vec<u8>, at: usize) -> Vec<u8> {
    frame[at] ^= 0x04;
    frame
}

/// The frame with these bytes in its header, whose CRC is right again.
fn with_head(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32fast::hash(&frame[..12]);
    frame[12..16].copy_from_slice(&crc.to_be_bytes());
    frame
}

/// What either side must not be sent, and the reason it closes with. `call` is a sound frame of
/// a call, to be damaged.
fn faults(call: Vec<u8>) -> Vec<(&'static str, Vec<u8>, CloseReason, &'static str)> {
    let last = call.len() - 1;
    let large = (4 * 1024 * 1024 + 1_u32).to_be_bytes();
    vec![
        ("length", flipped(call.clone(), 3), CloseReason::HEAD_CRC, "header CRC is"),
        ("id", flipped(call.clone(), 11), CloseReason::HEAD_CRC, "header CRC is"),
        ("head crc", flipped(call.clone(), 15), CloseReason::HEAD_CRC, "header CRC is"),
        ("body", flipped(call.clone(), 17), CloseReason::BODY_CRC, "body CRC is"),
        ("body crc", flipped(call.clone(), last), CloseReason::BODY_CRC, "body CRC is"),
        (
            "oversize",
            with_head(call.clone(), 0, &large),
            CloseReason::FRAME_TOO_LARGE,
            "4194305 bytes is over the limit of 4194304",
        ),
        ("short", with_head(call.clone(), 0, &[0, 0, 0, 7]), CloseReason::MALFORMED, "too short"),
        ("ext", with_head(call, 6, &[0x20, 1]), CloseReason::MALFORMED, "8192"),
        ("kind", control(0x55, &[]), CloseReason::UNKNOWN_KIND, "unknown frame kind 0x55"),
        (
            "flag",
            with_head(control(0x20, &[0; 8]), 5, &[0x10]),
            CloseReason::UNKNOWN_FLAG,
            "unknown flags 0x10",
        ),
        ("ping", control(0x20, &[0; 7]), CloseReason::MALFORMED, "a ping is 8 bytes"),
    ]
}

/// FR-3 to FR-11 at the server: each fault closes with its reason, names it, and says which
/// calls were read; calls answered before stay answered. Shown by each fault after one good call,
/// with a victim on another connection.
#[tokio::test]
async fn fr_2_a_server_closes_with_the_right_reason() {
    let (victim, _, _victim) = mem(Server::new().method(echo()));
    for (what, bytes, reason, text) in faults(Ask::new(3, "it.Echo/echo").to_bytes()) {
        let (mut raw, _, server) = mem_raw(Server::new().method(echo())).await;
        raw.ask(Ask::new(1, "it.Echo/echo")).await;
        assert_eq!(raw.reply().await.status, Code::OK);

        raw.write(&bytes).await;
        let (found, last_call, detail) = raw.close().await;
        drop(raw);

        assert_eq!((found, last_call), (reason, 1), "{what}");
        assert!(detail.contains(text), "{what}: {detail}");
        let error = server.await.unwrap();
        assert!(matches!(error.kind(), ErrorKind::PeerMisbehaved { .. }), "{what}: {error}");
        assert!(error.to_string().contains(text), "{what}: {error}");
        assert_eq!(victim.call(echo_stub(), 1).await, Ok(1));
    }
}

/// FR-3 to FR-11 at the client: each fault closes with its reason; the call that waited is MAYBE
/// and names it. Shown by each fault in the place of an answer, with a victim beside it.
#[tokio::test]
async fn fr_2_a_client_closes_with_the_right_reason() {
    let (victim, _, _victim) = mem(Server::new().method(echo()));
    for (what, bytes, reason, text) in
        faults(response(1, Code::OK, Disposition::Processed, &[], &[7]))
    {
        let (channel, mut raw, call) = asked().await;
        let call = tokio::spawn(channel_call(channel, call));

        raw.write(&bytes).await;
        let (found, last_call, detail) = raw.close().await;

        assert_eq!((found, last_call), (reason, 0), "{what}");
        assert!(detail.contains(text), "{what}: {detail}");
        let status = assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
        let source = std::error::Error::source(&status).unwrap().to_string();
        assert!(source.contains(text), "{what}: {source}");
        assert_eq!(victim.call(echo_stub(), 1).await, Ok(1));
    }
}

type Asked = tokio::task::JoinHandle<Result<u64, switchback::CallError<std::convert::Infallible>>>;

/// A client with one call on its way, and the server of bytes that has read it.
async fn asked() -> (Channel, Raw, Asked) {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(echo_stub(), 7));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    assert_eq!(raw.request().await.0, 1);
    (channel, raw, call)
}

/// The call's result, with the channel kept until then.
async fn channel_call(
    channel: Channel,
    call: Asked,
) -> Result<u64, switchback::CallError<std::convert::Infallible>> {
    let result = call.await.unwrap();
    drop(channel);
    result
}

/// CA-2, ST-2, ST-3: answers that no server may give close the connection. Shown by an answer
/// to a call that does not wait, the same answer twice, a local code and a fourth disposition.
#[tokio::test]
async fn ca_2_senseless_answers_close() {
    let ok = |call| response(call, Code::OK, Disposition::Processed, &[], &[7]);
    let local = response(1, Code::CONNECTION_LOST, Disposition::Maybe, &[], &[]);
    let mut odd = response(1, Code::INTERNAL, Disposition::Maybe, &[], &[]);
    odd[18] = 3;
    let crc = crc32fast::hash(&odd[16..20]);
    odd[20..24].copy_from_slice(&crc.to_be_bytes());
    for (bytes, reason) in [
        (ok(3), CloseReason::PROTOCOL),
        ([ok(1), ok(1)].concat(), CloseReason::PROTOCOL),
        (local, CloseReason::MALFORMED),
        (odd, CloseReason::MALFORMED),
    ] {
        let (_channel, mut raw, _call) = asked().await;
        raw.write(&bytes).await;
        assert_eq!(raw.close().await.0, reason);
    }
}

/// CA-1, CA-12, FR-12: ids that do not increase and frames that may not come close the
/// connection. Shown by an id used again, a lower one, a CANCEL ahead of its call, a second HELLO
/// and a frame that only servers send.
#[tokio::test]
async fn ca_1_senseless_frames_of_a_client_close() {
    let ask = |call| Ask::new(call, "it.Echo/echo").to_bytes();
    let mut cancel = Vec::new();
    append_control(&mut cancel, Kind::CANCEL, CallId(7), &[], &[]);
    let hello = crate::raw::client_hello(&crate::raw::hello()).split_off(8);
    let answer = response(5, Code::OK, Disposition::Processed, &[], &[7]);
    for (bytes, reason) in [
        (ask(5), CloseReason::CALL_ID),
        (ask(3), CloseReason::CALL_ID),
        (cancel, CloseReason::PROTOCOL),
        (hello, CloseReason::PROTOCOL),
        (answer, CloseReason::PROTOCOL),
    ] {
        let (mut raw, _, _server) = mem_raw(Server::new().method(echo())).await;
        raw.ask(Ask::new(5, "it.Echo/echo")).await;
        assert_eq!(raw.reply().await.status, Code::OK);
        raw.write(&bytes).await;
        let (found, last_call, _) = raw.close().await;
        assert_eq!((found, last_call), (reason, 5));
    }
}

/// LD-3, LD-6: a fault of the client does not destroy the answers before it, and cancels what
/// still runs. Shown in one write: a call that answers, one that waits, then a damaged frame.
#[tokio::test]
async fn ld_3_answers_before_a_fault_are_written() {
    let gate = Gate::default();
    let server = Server::new().method(echo()).method(gate.method("it.Gate/pass"));
    let (mut raw, _, server) = mem_raw(server).await;
    let mut bytes = Ask::new(1, "it.Gate/pass").to_bytes();
    bytes.extend(Ask::new(3, "it.Echo/echo").to_bytes());
    bytes.extend(flipped(Ask::new(5, "it.Echo/echo").to_bytes(), 20));

    raw.write(&bytes).await;

    assert_eq!(raw.reply().await.call, 3);
    let (reason, last_call, _) = raw.close().await;
    assert_eq!((reason, last_call), (CloseReason::BODY_CRC, 3), "the damaged one was not read");
    drop(raw);
    server.await.unwrap();
    gate.left.reach(1).await;
}

/// FR-7: kinds that may be skipped are, on both sides. Shown by one between calls.
#[tokio::test]
async fn fr_7_skippable_kinds_are_skipped() {
    let (mut raw, _, _server) = mem_raw(Server::new().method(echo())).await;
    raw.write(&control(0x93, b"some report")).await;
    raw.ask(Ask::new(1, "it.Echo/echo")).await;
    assert_eq!(raw.reply().await.status, Code::OK);

    let (_channel, mut raw, call) = asked().await;
    raw.write(&control(0x91, b"some split")).await;
    raw.answer_ok(1, &[7]).await;
    assert_eq!(call.await.unwrap(), Ok(7));
}

/// CA-3: a payload that does not decode, an unknown flag, bad TLVs and an unknown codec cost
/// their call alone: NOT_PROCESSED, and the next call is served. Shown by each in turn.
#[tokio::test]
async fn ca_3_a_bad_request_costs_its_call_alone() {
    let (mut raw, dispatch, _server) = mem_raw(Server::new().method(echo())).await;
    let ask = |call| Ask::new(call, "it.Echo/echo");
    let flagged = with_head(ask(7).to_bytes(), 5, &[0x40]);
    let metadata = with_head(Ask { payload: &[0x80, 1, 0, 0], ..ask(9) }.to_bytes(), 6, &[0, 4]);
    let torn = with_head(Ask { payload: &[0, 16, 0, 9], ..ask(11) }.to_bytes(), 6, &[0, 4]);
    for (call, bytes, status) in [
        (1, Ask { payload: &[], ..ask(1) }.to_bytes(), Code::BAD_PAYLOAD),
        (3, Ask { payload: &[1, 1], ..ask(3) }.to_bytes(), Code::BAD_PAYLOAD),
        (5, Ask { payload: &[255], ..ask(5) }.to_bytes(), Code::BAD_PAYLOAD),
        (7, flagged, Code::UNSUPPORTED_FLAG),
        (9, metadata, Code::BAD_METADATA),
        (11, torn, Code::BAD_METADATA),
        (13, Ask { codec: 9, ..ask(13) }.to_bytes(), Code::UNSUPPORTED_CODEC),
    ] {
        raw.write(&bytes).await;
        let reply = raw.reply().await;
        let found = (reply.call, reply.status, reply.disposition);
        assert_eq!(found, (call, status, Disposition::NotProcessed));
        if status == Code::UNSUPPORTED_CODEC {
            let tlvs = switchback::wire::Tlvs::new(&reply.ext);
            // Those that have a form for the method's types.
            let ids = Codec::built_in().into_iter().map(|codec| codec.id()).filter(|id| *id != 4);
            assert_eq!(tlvs.find(response_keys::CODECS), Some(&ids.collect::<Vec<_>>()[..]));
        }
    }

    raw.ask(ask(15)).await;
    assert_eq!(raw.reply().await.status, Code::OK);
    assert_eq!(dispatch.stats()[0].started, 1);
}

/// CA-15: an answer that does not decode fails its call with BAD_RESPONSE, keeping what the
/// server said of its execution; the connection goes on. Shown by bytes left over.
#[tokio::test]
async fn ca_15_an_answer_that_does_not_decode_costs_its_call_alone() {
    let (channel, mut raw, call) = asked().await;
    raw.answer_ok(1, &[7, 7]).await;
    let result = call.await.unwrap();
    let status = assert_status(result, Code::BAD_RESPONSE, Disposition::Processed);
    assert!(status.message().contains("1 of 2 bytes"), "{status}");

    let call = tokio::spawn(channel.call(echo_stub(), 8));
    let (id, ..) = raw.request().await;
    raw.answer_ok(id, &[8]).await;
    assert_eq!(call.await.unwrap(), Ok(8));
}

/// FR-6: the server comes to the same frames however the bytes are cut. Shown one byte at a
/// time, a call of 20,000 bytes included.
#[tokio::test]
async fn fr_6_frames_may_be_cut_anywhere() {
    let length = Method::infallible("it.Blob/length", 1, |_cx: Cx, blob: String| async move {
        Answer::Ok(blob.len() as u64)
    });
    let (raw, stream) = Raw::pair(1);
    let (_, served) = Server::new().method(length).method(echo()).serve_stream(stream).unwrap();
    let _server = tokio::spawn(served);
    let mut payload = vec![251, 0x20, 0x4e];
    payload.resize(3 + 20_000, b'x');
    let mut bytes = crate::raw::client_hello(&crate::raw::hello());
    bytes.extend(Ask { payload: &payload, ..Ask::new(1, "it.Blob/length") }.to_bytes());
    bytes.extend(Ask::new(3, "it.Echo/echo").to_bytes());

    let (mut reader, mut writer) = raw.split();
    let writing = tokio::spawn(async move {
        writer.write(&bytes).await;
        writer
    });
    reader.hello_ack().await;
    reader.frame().await;
    assert_eq!(reader.reply().await.payload, [251, 0x20, 0x4e]);
    assert_eq!(reader.reply().await.payload, [7]);
    drop(writing.await.unwrap());
}
