//! Calls as bytes: a client that knows no types, and says of each call what a stub would.

use std::time::Duration;

use bytes::Bytes;
use switchback::service::{Metadata, RawRequest};
use switchback::wire::{
    Code, Disposition, Frame, Kind, MethodId, begin_response, finish_frame, push_tlv, request_keys,
    response_keys, seal_frame,
};
use switchback::{CallError, Channel, Cx, Method, Schema, Server, Status};
use tokio::net::TcpListener;

use crate::raw::{Raw, table};
use crate::support::{Answer, Gate, echo, mem, now, raw_server, tcp};
use crate::versions::pay;

const ECHO: &str = "it.Echo/echo";
/// A number in bincode.
const SEVEN: &[u8] = &[7];

fn ask(name: &str) -> RawRequest {
    RawRequest::new(MethodId::of(name), 1, 1, SEVEN)
}

fn told(status: &Status) -> (Code, Disposition) {
    (status.code(), status.disposition())
}

/// An answer in a codec, with one pair of metadata.
fn response(call: u32, status: Code, codec: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_response(&mut out, status, Disposition::Processed, codec);
    let ext_at = out.len();
    push_tlv(&mut out, response_keys::MESSAGE, b"for people");
    push_tlv(&mut out, request_keys::METADATA, b"\x03tagme");
    let ext_len = out.len() - ext_at;
    out.extend_from_slice(payload);
    finish_frame(&mut out, start, ext_len, u32::MAX).unwrap();
    seal_frame(&mut out, switchback::wire::CallId(call));
    out
}

/// A raw call reaches a typed handler, with its metadata, and brings its bytes back; the method's
/// own error is told apart. Shown with two methods over TCP.
#[tokio::test]
async fn bytes_go_in_and_come_out() {
    let tagged = Method::new("it.Raw/tagged", 1, |cx: Cx, n: u64| async move {
        match cx.metadata().get("tag") {
            Some(tag) => Ok(u64::from(tag[0]) + n),
            None => Err(CallError::App("no tag".to_owned())),
        }
    });
    let server = tcp(Server::new().method(tagged)).await;
    let channel = Channel::connect(&server.url).await.unwrap();

    let mut request = ask("it.Raw/tagged");
    request.metadata.try_push("tag", &[100]).unwrap();
    let answer = channel.call_raw(request).await.unwrap();
    assert_eq!((answer.codec, &answer.payload[..], answer.is_app_error), (1, &[107][..], false));
    let answer = channel.call_raw(ask("it.Raw/tagged")).await.unwrap();
    assert_eq!((&answer.payload[..], answer.is_app_error), (&b"\x06no tag"[..], true));
}

/// What a table says can be asked for, with versions, ceilings and fingerprints. Shown by a
/// server that changes it.
#[tokio::test]
async fn the_table_can_be_read() {
    #[derive(serde::Deserialize, Schema, serde::Serialize)]
    struct Mark(u64);
    let typed = switchback::service::Fingerprint::of_method::<Mark, u64, u64>();
    let (channel, dispatch, _server) =
        mem(Server::new().method(pay(1)).method(pay(2)).method(echo().fingerprint(typed)));

    let rows = channel.server_methods().await.unwrap();
    let of = |name: &str| rows.iter().find(|row| row.method == MethodId::of(name)).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(of(ECHO).versions[0].fingerprint, typed.as_u64());
    let versions: Vec<u16> = of("it.Bank/pay").versions.iter().map(|row| row.version).collect();
    assert_eq!(versions, [1, 2]);

    dispatch.set_ceiling("it.Bank/pay", Some(1)).unwrap();
    crate::support::settle().await;
    let rows = channel.server_methods().await.unwrap();
    assert!(rows.iter().any(|row| row.ceiling == 1), "{rows:?}");
}

/// What a raw call names is judged like a stub's: an unknown method, a version, a codec and a
/// fingerprint that are not the server's; nothing is executed, and the details are told.
#[tokio::test]
async fn ca_3_what_a_raw_call_names_is_judged() {
    let typed = switchback::service::Fingerprint::from(0xabc_u64);
    let (channel, dispatch, _server) = mem(Server::new().method(echo().fingerprint(typed)));
    channel.ready().await.unwrap();
    let status = async |request| channel.call_raw(request).await.unwrap_err();
    let not = Disposition::NotProcessed;

    assert_eq!(told(&status(ask("it.No/such")).await), (Code::UNKNOWN_METHOD, not));
    let found = status(RawRequest::new(MethodId::of(ECHO), 2, 1, SEVEN)).await;
    assert_eq!((told(&found), found.versions()), ((Code::UNSUPPORTED_VERSION, not), &[1][..]));
    let found = status(RawRequest::new(MethodId::of(ECHO), 1, 200, SEVEN)).await;
    assert_eq!(told(&found), (Code::UNSUPPORTED_CODEC, not));
    assert!(found.codecs().contains(&1) && !found.codecs().contains(&200), "{found}");
    let mut request = ask(ECHO);
    request.fingerprint = 0xdef;
    let found = status(request).await;
    assert_eq!((told(&found), found.fingerprint()), ((Code::SCHEMA_MISMATCH, not), Some(0xabc)));
    assert_eq!(dispatch.stats()[0].started, 0);
    let mut request = ask(ECHO);
    request.fingerprint = 0xabc;
    assert_eq!(&channel.call_raw(request).await.unwrap().payload[..], SEVEN);
}

/// CA-6, CA-15: the answer's metadata is handed out; an answer in another codec is none.
#[tokio::test]
async fn ca_6_an_answer_is_in_the_codec_of_its_call() {
    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let mut seen = Vec::new();
    for (status, codec) in [(Code::OK, 1), (Code::APP, 1), (Code::OK, 2)] {
        let call = tokio::spawn(channel.call_raw(ask(ECHO)));
        let (id, version, payload) = raw.request().await;
        assert_eq!((version, &payload[..]), (1, SEVEN));
        raw.write(&response(id, status, codec, b"any bytes")).await;
        seen.push(call.await.unwrap());
    }
    let [Ok(ok), Ok(app), Err(other)] = &seen[..] else { panic!("{seen:?}") };

    assert_eq!((ok.payload.as_ref(), ok.is_app_error), (&b"any bytes"[..], false));
    assert_eq!(ok.metadata.iter().collect::<Vec<_>>(), [("tag", &b"me"[..])]);
    assert!(app.is_app_error);
    assert_eq!(told(other), (Code::BAD_RESPONSE, Disposition::Processed));
}

/// CA-8: a raw call has a deadline, which travels; the call ends by it. Shown on the paused clock.
#[tokio::test(start_paused = true)]
async fn ca_8_a_raw_call_has_a_deadline() {
    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let begun = now();
    let mut request = ask(ECHO);
    request.timeout = Some(Duration::from_millis(250));
    let call = tokio::spawn(channel.call_raw(request));

    assert_eq!(raw.timeout_ms().await, 250);
    let status = call.await.unwrap().unwrap_err();

    assert_eq!(told(&status), (Code::DEADLINE_EXCEEDED, Disposition::Maybe));
    assert!(now() - begun <= Duration::from_millis(265));
    assert_eq!(raw.frame().await.head().kind, Kind::CANCEL);
}

/// CA-12: a raw call that is dropped is taken back. Shown by the handler, dropped at its await.
#[tokio::test]
async fn ca_12_a_raw_call_is_taken_back() {
    let gate = Gate::default();
    let (channel, _, _server) = mem(Server::new().method(gate.method("it.Gate/pass")));
    let call = tokio::spawn(channel.call_raw(ask("it.Gate/pass")));
    gate.entered.reach(1).await;
    assert_eq!(gate.left.get(), 0);

    call.abort();

    gate.left.reach(1).await;
}

/// ST-3: a raw call that says that it is idempotent is made again when its connection is lost;
/// another one is not. Shown by a server that hangs up on the first request of each.
#[tokio::test]
async fn st_3_a_raw_call_says_whether_it_may_be_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::lazy(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let known = table(&[(ECHO, &[1])]);
    let accept = async || {
        let mut raw = Raw::accept(&listener).await;
        raw.greet_client(&known, 8, 65_536).await;
        raw
    };

    let call = tokio::spawn(channel.call_raw(ask(ECHO)));
    let mut raw = accept().await;
    raw.request().await;
    drop(raw);
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(told(&status), (Code::CONNECTION_LOST, Disposition::Maybe));

    let mut request = ask(ECHO);
    request.idempotent = true;
    let call = tokio::spawn(channel.call_raw(request));
    let mut raw = accept().await;
    assert_eq!(raw.attempt().await.1, 0);
    drop(raw);
    let mut raw = accept().await;
    let (id, attempt) = raw.attempt().await;
    assert_eq!(attempt, 1);
    raw.answer_ok(id, b"again").await;
    assert_eq!(call.await.unwrap().unwrap().payload, Bytes::from_static(b"again"));
}

/// CA-10: metadata made by hand keeps the wire's limits. Shown at each limit and one beyond, and
/// by what arrives.
#[tokio::test]
async fn ca_10_metadata_has_limits() {
    let mut metadata = Metadata::default();
    for name in ["", "Tag", "t g", &"n".repeat(65)] {
        let status = metadata.try_push(name, b"").unwrap_err();
        assert_eq!(told(&status), (Code::BAD_METADATA, Disposition::NotProcessed), "{name:?}");
    }
    for _ in 0..64 {
        metadata.try_push(&"n".repeat(64), b"v").unwrap();
    }
    assert_eq!(metadata.try_push("n", b"").unwrap_err().code(), Code::TOO_LARGE);
    let mut large = Metadata::default();
    let status = large.try_push("n", &[0; 8192 - 5]).unwrap_err();
    assert_eq!(status.excess_bytes(), Some((8193, 8192)));
    large.try_push("n", &[0; 8192 - 6]).unwrap();

    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let mut request = ask(ECHO);
    request.metadata = metadata;
    let _call = tokio::spawn(channel.call_raw(request));
    let frame = raw.frame().await;
    let Frame::Request(request) = frame.parse().unwrap() else { panic!("{frame:?}") };
    assert_eq!(switchback::wire::Tlvs::new(request.ext).count(), 64);
}

/// A raw call is a future that can be spawned, and says what it calls.
#[tokio::test]
async fn a_raw_call_names_its_method() {
    let (channel, _, _server) = mem(Server::new());
    let call = channel.call_raw(ask(ECHO)).wait_for_ready(true);
    assert!(format!("{call:?}").contains(&MethodId::of(ECHO).to_string()), "{call:?}");
    let status = call.await.unwrap_err();
    assert!(status.message().contains(&MethodId::of(ECHO).to_string()), "{status}");
    let plain: Answer<u64> = channel.call(crate::support::echo_stub(), 1).await;
    assert!(plain.is_err());
}
