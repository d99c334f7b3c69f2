//! A server that forwards what it does not know: its clients are told what was stamped behind it.
//!
//! ```text
//!   client or bytes --> proxy (`Server::forward`) --> server or bytes
//! ```

use std::time::Duration;

use switchback::wire::{
    CallId, CloseReason, Code, Disposition, Frame, Goaway, MethodId, begin_request, finish_frame,
    push_tlv, request_keys, response_keys, seal_frame,
};
use switchback::{Channel, Cx, Method, Server, ServerConfig};
use tokio::net::TcpListener;

use crate::raw::{Ask, Raw, Reply, response, table};
use crate::support::{
    Answer, Gate, Plain, assert_status, echo, echo_stub, in_time, mem, mem_raw, plain, raw_server,
    settle, tcp,
};
use crate::versions::{pay, pay_stub};

const ECHO: &str = "it.Echo/echo";
const NOT: Disposition = Disposition::NotProcessed;
const MAYBE: Disposition = Disposition::Maybe;
const PROCESSED: Disposition = Disposition::Processed;

/// Bytes, a proxy, bytes: the client's end and the server's. The one behind lists the echo.
async fn between_bytes() -> (Raw, Raw) {
    let (channel, mut behind) = raw_server(Channel::builder());
    behind.greet_client_of(&channel).await;
    let (front, _, served) = mem_raw(Server::new().forward(channel)).await;
    drop(served); // Detached: it runs until the client's end is dropped.
    (front, behind)
}

fn tlv(key: u16, value: &[u8]) -> Vec<u8> {
    let mut ext = Vec::new();
    push_tlv(&mut ext, key, value);
    ext
}

/// CA-18: the REQUEST goes on as it came: method, version, codec, fingerprint, attempt, metadata
/// and payload; the time is what remains. Shown by what a server of bytes reads.
#[tokio::test]
async fn ca_18_a_request_goes_on_as_it_came() {
    let (mut front, mut behind) = between_bytes().await;
    let fields = switchback::wire::RequestFields {
        method: MethodId::of(ECHO),
        version: 1,
        codec: 1,
        attempt_priority: 0x20,
        timeout_ms: 4_000,
        fingerprint: 0x1234_5678,
    };
    let mut out = Vec::new();
    let start = begin_request(&mut out, &fields);
    let ext_at = out.len();
    push_tlv(&mut out, 9, b"a key that nobody knows");
    push_tlv(&mut out, request_keys::METADATA, b"\x03tagone");
    push_tlv(&mut out, request_keys::METADATA, b"\x03tagtwo");
    let ext_len = out.len() - ext_at;
    out.extend_from_slice(b"not for the proxy");
    finish_frame(&mut out, start, ext_len, u32::MAX).unwrap();
    seal_frame(&mut out, CallId(1));
    front.write(&out).await;

    let frame = behind.frame().await;
    let Frame::Request(request) = frame.parse().unwrap() else { panic!("{frame:?}") };
    assert_eq!((request.method, request.version, request.codec), (fields.method, 1, 1));
    assert_eq!((request.attempt_priority >> 4, request.fingerprint), (2, fields.fingerprint));
    assert!((1..=4_000).contains(&request.timeout_ms), "{}", request.timeout_ms);
    let tags: Vec<_> = switchback::wire::Tlvs::new(request.ext).map(|tlv| tlv.value).collect();
    assert_eq!(tags, [b"\x03tagone", b"\x03tagtwo"]);
    assert_eq!(request.payload, b"not for the proxy");
}

/// CA-18: the answer comes back as it was stamped, with what the status carries; no refusal is
/// tried again by the proxy. Shown by the bytes at both ends, one answer of each kind.
#[tokio::test]
async fn ca_18_an_answer_comes_back_as_it_was_stamped() {
    let (mut front, mut behind) = between_bytes().await;
    let meta = tlv(request_keys::METADATA, b"\x03tagme");
    let version = tlv(response_keys::VERSIONS, &[0, 4, 0, 7]);
    let codecs = tlv(response_keys::CODECS, &[3, 9]);
    let mine = tlv(response_keys::FINGERPRINT, &[1, 2, 3, 4]);
    let later = tlv(response_keys::RETRY_AFTER_MS, &[0, 0, 0, 1]);
    let excess = [
        tlv(response_keys::LIMIT, &70_000_u64.to_be_bytes()),
        tlv(response_keys::VALUE, &80_000_u64.to_be_bytes()),
    ];
    let why = tlv(response_keys::MESSAGE, b"said behind");
    let none: Vec<u8> = Vec::new();
    let cases: Vec<(Code, Disposition, Vec<u8>, &[u8])> = vec![
        (Code::OK, PROCESSED, meta.clone(), b"payload"),
        (Code::APP, PROCESSED, meta, b"error"),
        (Code::UNSUPPORTED_VERSION, NOT, version, b""),
        (Code::UNSUPPORTED_CODEC, NOT, codecs, b""),
        (Code::SCHEMA_MISMATCH, NOT, mine, b""),
        (Code::OVERLOADED, NOT, later, b""),
        (Code::BAD_PAYLOAD, NOT, why.clone(), b""),
        (Code::INTERNAL, PROCESSED, why.clone(), b""),
        (Code::TOO_LARGE, PROCESSED, excess.concat(), b""),
        (Code::DEADLINE_EXCEEDED, MAYBE, none.clone(), b""),
        (Code::CANCELLED, MAYBE, why.clone(), b""),
        (Code::UNAVAILABLE, NOT, why.clone(), b""),
        (Code::UNAVAILABLE, MAYBE, why.clone(), b""),
        (Code::PERMISSION_DENIED, PROCESSED, why, b""),
        (Code::from_u16(27), NOT, none, b""), // A newer server's.
    ];
    for (at, (status, disposition, ext, payload)) in (0_u32..).zip(&cases) {
        let call = 2 * at + 1;
        front.ask(Ask::new(call, ECHO)).await;
        let (id, ..) = behind.request().await; // The next frame: nothing was sent twice.
        behind.write(&response(id, *status, *disposition, ext, payload)).await;
        let reply = front.reply().await;
        assert_eq!(
            (reply.call, reply.status, reply.disposition, &reply.ext, &reply.payload[..]),
            (call, *status, *disposition, ext, *payload)
        );
    }
}

/// CA-18, RT-6: what the proxy's own side refuses by the table behind is NOT_PROCESSED with its
/// details. Shown by an unknown method and a version that is not there: nothing is read behind.
#[tokio::test]
async fn ca_18_what_the_table_behind_refuses_was_not_executed() {
    let (mut front, mut behind) = between_bytes().await;
    front.ask(Ask::new(1, "it.No/such")).await;
    let reply = front.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::UNKNOWN_METHOD, NOT));
    front.ask(Ask { version: 5, ..Ask::new(3, ECHO) }).await;
    let reply = front.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::UNSUPPORTED_VERSION, NOT));
    let tlv = switchback::wire::Tlvs::new(&reply.ext).find(response_keys::VERSIONS);
    assert_eq!(tlv, Some(&[0, 1][..]));
    assert!(!behind.has_unread().await);
}

/// CA-18: a connection that is lost behind is UNAVAILABLE, MAYBE; a call that a GOAWAY names as
/// not read is replayed on the next connection, with the same attempt; with nobody there it is
/// UNAVAILABLE, NOT_PROCESSED. Shown in this order on one proxy.
#[tokio::test]
async fn ca_18_what_is_not_answered_behind_is_told_truly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::lazy(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let known = table(&[(ECHO, &[1])]);
    let accept = async || {
        let mut raw = Raw::accept(&listener).await;
        raw.greet_client(&known, 8, 65_536).await;
        raw
    };
    let (mut front, _, _proxy) = mem_raw(Server::new().forward(channel)).await;
    let told = |reply: Reply| (reply.call, reply.status, reply.disposition);

    front.ask(Ask::new(1, ECHO)).await;
    let mut behind = accept().await;
    behind.request().await;
    drop(behind);
    assert_eq!(told(front.reply().await), (1, Code::UNAVAILABLE, MAYBE));

    front.ask(Ask { attempt_priority: 0x10, ..Ask::new(3, ECHO) }).await;
    let mut behind = accept().await;
    assert_eq!(behind.attempt().await.1, 1);
    let mut out = Vec::new();
    let goaway = |last_call| Goaway { last_call, reason: CloseReason::SHUTDOWN, grace_ms: 1000 };
    goaway(Goaway::ANY_CALL).append(&mut out);
    goaway(CallId::CONNECTION).append(&mut out); // It has read nothing.
    behind.write(&out).await;
    let mut next = accept().await;
    let (id, attempt) = next.attempt().await;
    assert_eq!(attempt, 1, "nobody executed the one before");
    next.answer_ok(id, b"replayed").await;
    assert_eq!(told(front.reply().await), (3, Code::OK, PROCESSED));

    drop((listener, behind, next));
    front.ask(Ask::new(5, ECHO)).await;
    let (call, status, disposition) = told(front.reply().await);
    assert_eq!((call, status), (5, Code::UNAVAILABLE));
    // The end of the connection may not have been seen yet; then it was lost under the call.
    if disposition != NOT {
        assert_eq!(disposition, MAYBE);
        front.ask(Ask::new(7, ECHO)).await;
        assert_eq!(told(front.reply().await), (7, Code::UNAVAILABLE, NOT));
    }
}

/// CA-18, CA-11: a proxy whose own calls have no room is overloaded for its clients. Shown with
/// room for one call and one that waits, to a server that does not answer.
#[tokio::test]
async fn ca_18_a_want_of_room_behind_is_overload() {
    let mut config = switchback::ClientConfig::default();
    (config.in_flight_calls_max, config.queued_calls_max) = (1, 1);
    let (channel, mut behind) = raw_server(Channel::builder().config(config));
    behind.greet_client_of(&channel).await;
    let (mut front, _, _front) = mem_raw(Server::new().forward(channel)).await;
    for call in [1, 3, 5] {
        front.ask(Ask::new(call, ECHO)).await;
    }
    let reply = front.reply().await;
    assert_eq!((reply.call, reply.status, reply.disposition), (5, Code::OVERLOADED, NOT));
}

/// CA-12: a CANCEL runs through a proxy, and a deadline ends both calls. Shown by the handler
/// behind, which is dropped at its await, on the paused clock.
#[tokio::test(start_paused = true)]
async fn ca_12_a_cancellation_runs_through_a_proxy() {
    let gate = Gate::default();
    let (behind, _, _behind) = mem(Server::new().method(gate.method(ECHO)));
    behind.ready().await.unwrap();
    let (mut front, _, _front) = mem_raw(Server::new().forward(behind)).await;

    front.ask(Ask::new(1, ECHO)).await;
    gate.entered.reach(1).await;
    front.cancel(1).await;
    let reply = front.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::CANCELLED, MAYBE));
    gate.left.reach(1).await;

    front.ask(Ask { timeout_ms: 80, ..Ask::new(3, ECHO) }).await;
    let reply = front.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::DEADLINE_EXCEEDED, MAYBE));
    gate.left.reach(2).await;
}

/// RT-6, CA-5: versions are settled through a proxy, although its table does not list them: a
/// client that is newer than the server behind goes back by one answer. Shown over TCP, two
/// proxies deep, with what each server counts.
#[tokio::test]
async fn rt_6_versions_are_settled_through_proxies() {
    let behind = tcp(Server::new().method(pay(1)).method(pay(2))).await;
    let inner = Channel::connect(&behind.url).await.unwrap();
    let inner = tcp(Server::new().method(echo()).forward(inner)).await;
    let outer = Channel::connect(&inner.url).await.unwrap();
    let outer = tcp(Server::new().forward(outer)).await;
    let channel = Channel::connect(&outer.url).await.unwrap();

    for (versions, wanted) in [(&[2, 1][..], 2), (&[3, 2, 1], 2), (&[1], 1)] {
        assert_eq!(channel.call(pay_stub(versions), 4).await, Ok((wanted, 4)), "{versions:?}");
    }
    behind.dispatch.set_ceiling("it.Bank/pay", Some(1)).unwrap();
    assert_eq!(channel.call(pay_stub(&[2, 1]), 5).await, Ok((1, 5)));
    assert_eq!(channel.call(echo_stub(), 6).await, Ok(6), "the one in the middle serves too");
    let status = channel.call(pay_stub(&[3]), 7).await;
    let status = assert_status(status, Code::UNSUPPORTED_VERSION, NOT);
    assert_eq!(status.versions(), [1]);
    let ran = |dispatch: &switchback::Dispatch| {
        dispatch.stats().iter().map(|stats| stats.started).sum::<u64>()
    };
    assert_eq!(ran(&behind.dispatch), 4);
}

/// CA-14: what is too large for either side fails alone, with true dispositions: a request that
/// the server behind would not take was not executed, an answer that the client would not take was.
#[tokio::test]
async fn ca_14_what_is_too_large_fails_alone() {
    let large = |_cx: Cx, len: u64| async move { Answer::Ok("x".repeat(len.try_into().unwrap())) };
    let measure = |_cx: Cx, text: String| async move { Answer::Ok(text.len() as u64) };
    let mut config = ServerConfig::default();
    config.frame_bytes_max = 65_536;
    let server = Server::new()
        .method(Method::infallible("it.Big/make", 1, large))
        .method(Method::infallible("it.Big/measure", 1, measure));
    let (behind, dispatch, _behind) = mem(server.config(config));
    behind.ready().await.unwrap();
    let mut client = switchback::ClientConfig::default();
    client.frame_bytes_max = 65_536;
    let (channel, _, _front) =
        crate::support::mem_with(Server::new().forward(behind), Channel::builder().config(client));
    channel.ready().await.unwrap();
    let (make, measure): (Plain<u64, String>, Plain<String, u64>) =
        (plain("it.Big/make"), plain("it.Big/measure"));

    let status = channel.call(measure, "x".repeat(100_000)).await;
    let status = assert_status(status, Code::TOO_LARGE, NOT);
    assert_eq!(status.excess_bytes().map(|(_, limit)| limit), Some(65_536));
    let status = assert_status(channel.call(make, 100_000).await, Code::TOO_LARGE, PROCESSED);
    assert_eq!(status.excess_bytes().map(|(_, limit)| limit), Some(65_536));
    assert_eq!(channel.call(make, 10).await, Ok("x".repeat(10)));
    assert_eq!(dispatch.stats().iter().map(|stats| stats.started).sum::<u64>(), 2);
}

/// P6: a server behind a proxy drains with calls under way, and another one takes its place: not
/// a call fails. Shown over TCP, with calls that run when the drain begins.
#[tokio::test]
async fn a_drain_behind_a_proxy_loses_no_call() {
    let gate = Gate::default();
    let first = tcp(Server::new().method(gate.method(ECHO))).await;
    let address = first.url.clone();
    let mut config = switchback::ClientConfig::default();
    config.wait_for_ready = true; // Else it is the client that would have to try again.
    let channel = Channel::builder().config(config).connect(&address).await.unwrap();
    let proxy = tcp(Server::new().forward(channel)).await;
    let client = Channel::connect(&proxy.url).await.unwrap();
    let stub = echo_stub();
    let under_way: Vec<_> = (0..8).map(|n| tokio::spawn(client.call(stub, n))).collect();
    gate.entered.reach(8).await;

    first.stop.send(()).unwrap();
    settle().await;
    for _ in 0..8 {
        gate.open.notify_one();
        settle().await;
    }
    for (n, call) in (0..).zip(under_way) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
    first.drained.await.unwrap().unwrap();
    let _second = crate::support::run(Server::new().method(echo()).bind(&address).await.unwrap());
    assert_eq!(client.call(stub, 9).timeout(Duration::from_secs(60)).await, Ok(9));
}

/// A proxy's table lists its own methods alone; the others can be called all the same.
#[tokio::test]
async fn a_proxy_lists_what_it_serves_itself() {
    let (behind, _, _behind) = mem(Server::new().method(pay(1)));
    let (channel, _, _front) = mem(Server::new().method(echo()).forward(behind));
    let rows = channel.server_methods().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.method).collect::<Vec<_>>(), [MethodId::of(ECHO)]);
    assert_eq!(channel.call(pay_stub(&[1]), 1).await, Ok((1, 1)));
}

/// LD-11, P8: the server behind sees one client, so the proxy judges its own: who sends payloads
/// that do not decode there is sent away, and who calls through the same proxy goes on. Shown by a
/// call that is held meanwhile, over the connection that both share.
#[tokio::test]
async fn ld_11_a_proxy_judges_what_does_not_decode_behind() {
    let gate = Gate::default();
    let mut config = ServerConfig::default();
    config.conduct.errors = 10_000; // It trusts the proxy to judge, see `Server::forward`.
    let behind = Server::new().config(config).method(echo()).method(gate.method("it.Gate/pass"));
    let behind = tcp(behind).await;
    let front = tcp(Server::new().forward(Channel::connect(&behind.url).await.unwrap())).await;
    let channel = Channel::connect(&front.url).await.unwrap();
    let held = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 7));
    gate.entered.reach(1).await;

    let mut raw = Raw::connect(&front.url).await;
    raw.greet_server().await;
    let ask = |n: u32| Ask { payload: b"", ..Ask::new(2 * n + 1, ECHO) }.to_bytes();
    // At once: what is allowed comes back with time. And one more for each that is answered, since
    // what is found late is judged with the next read.
    raw.write(&(0..200).flat_map(ask).collect::<Vec<u8>>()).await;
    for n in 200.. {
        let frame = in_time(raw.frame()).await;
        match frame.parse().unwrap() {
            Frame::Response(answer) => {
                assert_eq!((answer.status, answer.disposition), (Code::BAD_PAYLOAD, NOT), "{n}");
                let _may_be_closed = raw.try_write(&ask(n)).await;
            }
            Frame::Close(close) => {
                assert_eq!(close.reason, CloseReason::TOO_MANY_ERRORS);
                break;
            }
            frame => panic!("{frame:?}"),
        }
    }

    gate.open.notify_one();
    assert_eq!(in_time(held).await.unwrap(), Ok(7));
}
