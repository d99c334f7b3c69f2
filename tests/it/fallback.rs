//! Methods outside the table: a server that answers them all the same, and its clients.

use std::time::Duration;

use switchback::service::{RawRequest, RawResponse};
use switchback::wire::{Code, Disposition, HelloAck, Kind, MethodId, append_control};
use switchback::{Channel, Cx, Server, ServerConfig, Status};

use crate::raw::{Ask, Raw, table};
use crate::support::{
    Answer, Gate, Plain, assert_status, echo, mem, mem_raw, plain, raw_server, settle,
};
use crate::versions::{pay, pay_stub};

const UNLISTED: &str = "it.Else/where";

/// Answers every unlisted request with its payload.
fn mirror() -> Server {
    Server::new().method(echo()).fallback(|_cx, request: RawRequest| async move {
        let mut response = RawResponse::new(request.codec, request.payload);
        response.metadata = request.metadata;
        Ok(response)
    })
}

/// A fallback that waits at a gate.
fn gated(gate: &Gate) -> Server {
    let gate = gate.clone();
    Server::new().fallback(move |_cx: Cx, request: RawRequest| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok(RawResponse::new(request.codec, request.payload))
        }
    })
}

fn started(dispatch: &switchback::Dispatch) -> u64 {
    dispatch.stats().iter().find(|stats| &*stats.name == "fallback").unwrap().started
}

/// CA-17, HS-5: a server with a fallback says so and serves what its table does not list: any
/// version, codec and fingerprint, the payload untouched, the metadata as it came. Shown on the
/// wire; and that a server without one says nothing.
#[tokio::test]
async fn ca_17_what_is_not_listed_is_served_as_it_is() {
    let (mut raw, stream) = Raw::pair(65_536);
    let (dispatch, served) = mirror().serve_stream(stream).unwrap();
    let _served = tokio::spawn(served);
    let (ack, listed) = raw.greet_server().await;
    assert!(ack.has_fallback);
    assert_eq!(listed.rows.len(), 1, "the table lists what it listed");

    let payload = b"\xff no codec made this";
    let ask = Ask { version: 9, codec: 200, fingerprint: 5, payload, ..Ask::new(1, UNLISTED) };
    raw.ask(ask).await;
    let reply = raw.reply().await;

    assert_eq!((reply.status, reply.disposition), (Code::OK, Disposition::Processed));
    assert_eq!(reply.payload, payload);
    assert_eq!(started(&dispatch), 1);
    let stats = dispatch.stats();
    assert!(stats.iter().all(|stats| &*stats.name != "fallback" || stats.callable), "{stats:?}");

    let (mut raw, stream) = Raw::pair(65_536);
    let (_, served) = Server::new().serve_stream(stream).unwrap();
    let _served = tokio::spawn(served);
    assert!(!raw.greet_server().await.0.has_fallback);
}

/// CA-17, CA-4: what the table lists is not for the fallback, in no version and no codec; a time
/// that is over is over there too. Shown by refusals, and by what ran.
#[tokio::test]
async fn ca_17_what_is_listed_is_judged_as_ever() {
    let (mut raw, dispatch, _server) = mem_raw(mirror()).await;
    let asks = [
        (Ask { version: 2, ..Ask::new(1, "it.Echo/echo") }, Code::UNSUPPORTED_VERSION),
        (Ask { codec: 200, ..Ask::new(3, "it.Echo/echo") }, Code::UNSUPPORTED_CODEC),
        (Ask { timeout_ms: 0, ..Ask::new(5, UNLISTED) }, Code::DEADLINE_EXCEEDED),
    ];
    for (ask, wanted) in asks {
        raw.ask(ask).await;
        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.disposition), (wanted, Disposition::NotProcessed));
    }
    assert_eq!(started(&dispatch), 0);
}

/// A method that is installed while the server runs takes its calls from the fallback, and gives
/// them back when it is retired. Shown by their answers.
#[tokio::test]
async fn a_live_table_decides_who_serves() {
    let (channel, dispatch, _server) = mem(mirror());
    let stub = pay_stub(&[1]);
    let raw = || channel.call_raw(RawRequest::new(MethodId::of("it.Bank/pay"), 1, 1, vec![3]));

    assert_eq!(&raw().await.unwrap().payload[..], [3]);
    dispatch.install(pay(1)).unwrap();
    settle().await;
    assert_eq!(channel.call(stub, 3).await, Ok((1, 3)));
    dispatch.retire("it.Bank/pay", 1).unwrap().await;
    settle().await;
    assert_eq!(&raw().await.unwrap().payload[..], [3]);
    assert_eq!(started(&dispatch), 2);
}

/// RT-6, CA-5: to a server with a fallback a client sends a method that is not listed in its
/// highest version, and obeys UNSUPPORTED_VERSION once. Shown by what a server of bytes reads.
#[tokio::test]
async fn rt_6_an_unlisted_method_is_tried_in_its_highest_version() {
    let (channel, mut raw) = greeted(true).await;
    let call = tokio::spawn(channel.call(pay_stub(&[3, 2, 1]), 9));
    let (id, version, _) = raw.request().await;
    assert_eq!(version, 3);
    unsupported(&mut raw, id, &[1, 2]).await;
    let (id, version, _) = raw.request().await;
    assert_eq!(version, 2, "the highest of what is left");
    unsupported(&mut raw, id, &[1]).await;
    let status =
        assert_status(call.await.unwrap(), Code::UNSUPPORTED_VERSION, Disposition::NotProcessed);
    assert_eq!(status.versions(), [1], "the second answer stands");

    let (channel, _raw) = greeted(false).await;
    let result = channel.call(pay_stub(&[3, 2, 1]), 9).await;
    assert_status(result, Code::UNKNOWN_METHOD, Disposition::NotProcessed);
}

/// CA-17, CA-6: a codec that the server does not name may be one that its fallback takes; for
/// what is listed it is not sent. Shown by a raw call in codec 200.
#[tokio::test]
async fn ca_17_a_fallback_may_have_other_codecs() {
    let (channel, _, _server) = mem(mirror());
    channel.ready().await.unwrap();
    let call = |name| channel.call_raw(RawRequest::new(MethodId::of(name), 1, 200, vec![1, 2]));

    let response = call(UNLISTED).await.unwrap();
    assert_eq!((response.codec, &response.payload[..]), (200, &[1, 2][..]));
    let status = call("it.Echo/echo").await.unwrap_err();
    assert_eq!(status.code(), Code::UNSUPPORTED_CODEC);
}

/// CA-13: what leaves a fallback is PROCESSED like the answer of any handler: a status, though it
/// came from a call of its own, a panic, an answer in the wrong codec. One call fails, not more.
#[tokio::test]
async fn ca_13_a_fallback_is_a_handler_like_any_other() {
    let (behind, _, _behind) = mem(Server::new());
    let server = Server::new().fallback(move |_cx: Cx, request: RawRequest| {
        let behind = behind.clone();
        async move {
            match request.payload[0] {
                0 => behind.call_raw(request).await,
                1 => panic!("on purpose"),
                2 => Err(Status::new(Code::PERMISSION_DENIED, "no")),
                3 => Ok(RawResponse::new(request.codec + 1, request.payload)),
                _ => Ok(RawResponse::app_error(request.codec, request.payload)),
            }
        }
    });
    let (channel, dispatch, _server) = mem(server);
    let call = async |n: u8| {
        let request = RawRequest::new(MethodId::of(UNLISTED), 1, 1, vec![n]);
        channel.call_raw(request).await.map_err(|status| (status.code(), status.disposition()))
    };

    let processed = |code| Err((code, Disposition::Processed));
    assert_eq!(call(0).await, processed(Code::UNKNOWN_METHOD));
    assert_eq!(call(1).await, processed(Code::INTERNAL));
    assert_eq!(call(2).await, processed(Code::PERMISSION_DENIED));
    assert_eq!(call(3).await, processed(Code::INTERNAL));
    assert!(call(4).await.unwrap().is_app_error);
    let stats = dispatch.stats();
    let [stats] = &stats[..] else { panic!("{stats:?}") };
    assert_eq!((stats.started, stats.app_errors, stats.failed), (5, 1, 4));
}

/// CA-8, CA-12: a fallback is stopped at its await when its time is over, and when its caller
/// goes. Shown on the paused clock, by handlers that are dropped.
#[tokio::test(start_paused = true)]
async fn ca_12_a_fallback_can_be_stopped() {
    let gate = Gate::default();
    let (channel, _, _server) = mem(gated(&gate));
    let stub: Plain<u64, u64> = plain(UNLISTED);

    let late = channel.call(stub, 1).timeout(Duration::from_millis(50)).await;
    assert_status(late, Code::DEADLINE_EXCEEDED, Disposition::Maybe);
    gate.left.reach(1).await;

    let call = tokio::spawn(channel.call(stub, 1));
    gate.entered.reach(2).await;
    call.abort();
    gate.left.reach(2).await;
}

/// CA-11: calls of the fallback count against the connection's limit. Shown with room for two, on
/// the wire: the third is refused, and runs when there is room.
#[tokio::test]
async fn ca_11_a_fallback_has_the_limits_of_any_handler() {
    let mut config = ServerConfig::default();
    config.calls_max = 2;
    let gate = Gate::default();
    let (mut raw, _, _server) = mem_raw(gated(&gate).config(config)).await;
    for call in [1, 3, 5] {
        raw.ask(Ask::new(call, UNLISTED)).await;
    }
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (5, Code::OVERLOADED));

    gate.open.notify_one();
    assert_eq!(raw.reply().await.status, Code::OK);
    raw.ask(Ask::new(7, UNLISTED)).await;
    gate.entered.reach(3).await;
}

/// A typed client calls through a fallback as if it were the method. Shown with the mirror.
#[tokio::test]
async fn a_stub_may_be_answered_by_a_fallback() {
    let (channel, _, _server) = mem(mirror());
    channel.ready().await.unwrap();
    let stub: Plain<u64, u64> = plain(UNLISTED);
    let answer: Answer<u64> = channel.call(stub, 77).await;
    assert_eq!(answer, Ok(77));
}

/// A client of a server of bytes that lists one method and has a fallback, or has none.
async fn greeted(has_fallback: bool) -> (Channel, Raw) {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    let listed = table(&[("it.Echo/echo", &[1])]);
    let (_, transcript) = raw.client_hello().await;
    let ack = HelloAck {
        frame_bytes_max: 65_536,
        calls_max: 8,
        codecs: vec![1],
        build: String::new(),
        table: listed.hash,
        transcript,
        has_fallback,
        window_connection: None,
    };
    let mut out =
        switchback::wire::Preface(switchback::wire::VersionRange::OURS).to_bytes().to_vec();
    append_control(&mut out, Kind::HELLO_ACK, switchback::wire::CallId(0), &ack.to_ext(), &[]);
    raw.write(&out).await;
    raw.table(Kind::TABLE, &listed).await;
    ready.await.unwrap().unwrap();
    (channel, raw)
}

async fn unsupported(raw: &mut Raw, call: u32, versions: &[u16]) {
    let mut ext = Vec::new();
    let bytes: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    switchback::wire::push_tlv(&mut ext, switchback::wire::response_keys::VERSIONS, &bytes);
    raw.answer(call, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed, &ext).await;
}
