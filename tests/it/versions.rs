//! Versions of methods: the highest that both sides know, mended when it changes on the way.

use switchback::service::{Fingerprint, convert_result, upgrade_request};
use switchback::wire::{CloseReason, Goaway, Kind, response_keys};
use switchback::{CallError, Channel, Code, Cx, Disposition, Method, Server, Stub};

use crate::raw::{Ask, Raw, table};
use crate::support::{
    Answer, Plain, assert_status, in_time, leak, mem, mem_raw, plain, raw_server, settle, tcp,
};

const NAME: &str = "it.Bank/pay";
const UNCHECKED: Fingerprint = Fingerprint::UNCHECKED;

/// Answers with its own version and what it was sent.
pub(crate) fn pay(version: u16) -> Method {
    Method::infallible(NAME, version, |cx: Cx, n: u64| async move {
        Answer::Ok((u64::from(cx.version()), n))
    })
}

/// A stub that speaks these versions, newest first.
pub(crate) fn pay_stub(versions: &[u16]) -> Plain<u64, (u64, u64)> {
    let mut stub = Stub::infallible(NAME, versions[0], UNCHECKED);
    for version in &versions[1..] {
        stub = stub.compat_infallible::<u64, (u64, u64)>(*version, UNCHECKED);
    }
    leak(stub)
}

/// RT-6: on each connection the highest version that both know is called, whichever side is the
/// newer one. Shown by three clients against three servers.
#[tokio::test]
async fn rt_6_the_highest_shared_version_is_called() {
    for (server, client, wanted) in [
        (&[1, 2][..], &[2, 1][..], Some(2)),
        (&[1], &[2, 1], Some(1)),
        (&[1, 2], &[1], Some(1)),
        (&[1, 3, 4], &[5, 3, 2, 1], Some(3)),
        (&[3], &[2, 1], None),
    ] {
        let methods = server.iter().map(|version| pay(*version));
        let (channel, dispatch, _server) = mem(methods.fold(Server::new(), Server::method));

        let result = channel.call(pay_stub(client), 9).await;

        match wanted {
            Some(version) => assert_eq!(result, Ok((version, 9)), "{server:?} {client:?}"),
            None => {
                let disposition = Disposition::NotProcessed;
                let status = assert_status(result, Code::UNSUPPORTED_VERSION, disposition);
                assert_eq!(status.versions(), [3]);
                assert!(status.message().contains("speaks versions [2, 1]"), "{status}");
                assert_eq!(dispatch.stats()[0].started, 0);
            }
        }
    }
}

/// RT-8: the choice is made anew on every connection. Shown by one channel whose second
/// connection finds an older server at the same address.
#[tokio::test]
async fn rt_8_a_rolled_back_server_is_met_in_its_version() {
    let new = tcp(Server::new().method(pay(1)).method(pay(2))).await;
    let channel = Channel::connect(&new.url).await.unwrap();
    assert_eq!(channel.call(pay_stub(&[2, 1]), 1).await, Ok((2, 1)));
    new.stop.send(()).unwrap();
    new.drained.await.unwrap().unwrap();

    let old = Server::new().method(pay(1)).bind(&new.url).await.unwrap();
    let _old = crate::support::run(old);

    assert_eq!(channel.call(pay_stub(&[2, 1]), 2).await, Ok((1, 2)));
}

/// CA-5: after UNSUPPORTED_VERSION the call is sent once more, under a new id, in the highest
/// version that is left. Shown by a server of bytes that says nothing of its change.
#[tokio::test]
async fn ca_5_a_refused_version_is_sent_again_in_the_one_left() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(pay_stub(&[3, 2, 1]), 5));
    raw.greet_client(&table(&[(NAME, &[1, 2, 3])]), 8, 65_536).await;

    let (first, version, _) = raw.request().await;
    assert_eq!(version, 3);
    refuse(&mut raw, first, &[1, 2]).await;
    let (second, version, payload) = raw.request().await;
    assert_eq!((version, payload), (2, vec![5]));
    assert!(second > first);
    raw.answer_ok(second, &[2, 5]).await;

    assert_eq!(call.await.unwrap(), Ok((2, 5)));
}

/// What came beside a refusal is not taken for what came with the outcome. Shown by a call that was
/// sent again in another version, and lost.
#[tokio::test]
async fn metadata_of_a_refusal_is_forgotten_with_it() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(pay_stub(&[2, 1]), 5).with_metadata());
    raw.greet_client(&table(&[(NAME, &[1, 2])]), 8, 65_536).await;
    let (first, ..) = raw.request().await;
    let mut ext = Vec::new();
    switchback::wire::push_tlv(&mut ext, response_keys::VERSIONS, &[0, 1]);
    switchback::wire::push_tlv(&mut ext, response_keys::METADATA, b"\x03tagof the refusal");
    raw.answer(first, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed, &ext).await;
    raw.request().await;
    drop(raw);

    let (result, metadata) = call.await.unwrap();
    assert_status(result, Code::CONNECTION_LOST, Disposition::Maybe);
    assert_eq!(metadata.get("tag"), None);
}

async fn refuse(raw: &mut Raw, call: u32, left: &[u16]) {
    let mut ext = Vec::new();
    let bytes: Vec<u8> = left.iter().flat_map(|version| version.to_be_bytes()).collect();
    switchback::wire::push_tlv(&mut ext, response_keys::VERSIONS, &bytes);
    raw.answer(call, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed, &ext).await;
}

/// CA-5: the second refusal stands, and one that was executed is never sent again. Shown by a
/// server of bytes, which reads no third request.
#[tokio::test]
async fn ca_5_a_call_is_sent_again_only_once() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(pay_stub(&[3, 2, 1]), 5));
    raw.greet_client(&table(&[(NAME, &[1, 2, 3])]), 8, 65_536).await;
    let (first, ..) = raw.request().await;
    refuse(&mut raw, first, &[1, 2]).await;
    let (second, ..) = raw.request().await;
    refuse(&mut raw, second, &[1]).await;
    let result = call.await.unwrap();
    let status = assert_status(result, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed);
    assert_eq!(status.versions(), [1]);

    let call = tokio::spawn(channel.call(pay_stub(&[3, 2, 1]), 6));
    let (third, ..) = raw.request().await;
    raw.answer(third, Code::UNSUPPORTED_VERSION, Disposition::Processed, &[0, 3, 0, 0]).await;
    let result = call.await.unwrap();
    assert_status(result, Code::UNSUPPORTED_VERSION, Disposition::Processed);

    let call = tokio::spawn(channel.call(pay_stub(&[3, 2]), 7));
    let (fourth, ..) = raw.request().await;
    refuse(&mut raw, fourth, &[1]).await;
    let status = crate::support::status(call.await.unwrap());
    assert_eq!(status.versions(), [1], "none of them is ours");
}

/// CA-5: where the connection takes no call any more, the call goes to another one, by that one's
/// table, and may be refused once more there. Shown by servers of bytes: one that leaves, and the
/// one after it, which lowers the ceiling at the same moment.
#[tokio::test]
async fn ca_5_another_connection_is_another_choice() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::lazy(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let table = table(&[(NAME, &[1, 2])]);
    let call = tokio::spawn(channel.call(pay_stub(&[2, 1]), 5));
    let mut old = in_time(Raw::accept(&listener)).await;
    old.greet_client(&table, 8, 65_536).await;
    let (first, ..) = in_time(old.request()).await;
    let mut out = Vec::new();
    let (reason, grace_ms) = (CloseReason::SHUTDOWN, 0);
    Goaway { last_call: Goaway::ANY_CALL, reason, grace_ms }.append(&mut out);
    old.write(&out).await;
    refuse(&mut old, first, &[1]).await;

    let mut new = in_time(Raw::accept(&listener)).await;
    new.greet_client(&table, 8, 65_536).await;
    let (again, version, _) = in_time(new.request()).await;
    assert_eq!(version, 2, "by the new connection's table");
    refuse(&mut new, again, &[1]).await;
    let (last, version, payload) = in_time(new.request()).await;
    assert_eq!((version, payload), (1, vec![5]));
    new.answer_ok(last, &[1, 5]).await;

    assert_eq!(in_time(call).await.unwrap(), Ok((1, 5)));
}

/// CA-4: what is not callable is answered with what is, be it nothing. Shown on the wire: an
/// unknown version, one above the ceiling, and a ceiling below all.
#[tokio::test]
async fn ca_4_the_answer_names_what_is_callable() {
    let (mut raw, dispatch, _server) = mem_raw(Server::new().method(pay(2)).method(pay(4))).await;
    let callable = |ext: &[u8]| {
        let found = switchback::wire::Tlvs::new(ext).find(response_keys::VERSIONS).unwrap();
        found.to_vec()
    };

    for (call, version, ceiling, wanted) in
        [(1, 3, None, &[0, 2, 0, 4][..]), (3, 4, Some(3), &[0, 2]), (5, 2, Some(1), &[])]
    {
        dispatch.set_ceiling(NAME, ceiling).unwrap();
        if ceiling.is_some() {
            assert_eq!(raw.frame().await.head().kind, Kind::TABLE_UPDATE);
        }
        raw.ask(Ask { version, ..Ask::new(call, NAME) }).await;
        let reply = raw.reply().await;
        let found = (reply.status, reply.disposition);
        assert_eq!(found, (Code::UNSUPPORTED_VERSION, Disposition::NotProcessed));
        assert_eq!(callable(&reply.ext), wanted);
    }
    raw.ask(Ask::new(7, "it.No/such")).await;
    let reply = raw.reply().await;
    let found = (reply.status, reply.disposition);
    assert_eq!(found, (Code::UNKNOWN_METHOD, Disposition::NotProcessed));
    assert!(dispatch.stats().iter().all(|stats| stats.started == 0));
}

/// RT-6: a method that the table does not have is UNKNOWN_METHOD, and nothing is sent. Shown by
/// a method of two versions, which waits for the table.
#[tokio::test]
async fn rt_6_an_unknown_method_fails_at_the_client() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(pay_stub(&[2, 1]), 5));
    raw.greet_client(&table(&[("it.Other/other", &[1])]), 8, 65_536).await;

    let result = call.await.unwrap();

    assert_status(result, Code::UNKNOWN_METHOD, Disposition::NotProcessed);
    drop(channel);
    let (_, last_call, _) = raw.close().await;
    assert_eq!(last_call, 0);
}

/// CA-7: different fingerprints are SCHEMA_MISMATCH with the server's, NOT_PROCESSED; nothing is
/// decoded and no handler runs. Shown by a payload that is no request at all: BAD_PAYLOAD would
/// say that it was looked at. Zero on either side is not compared.
#[tokio::test]
async fn ca_7_different_fingerprints_are_never_decoded() {
    let ours = Fingerprint::of_method::<u64, (u64, u64), ()>();
    let method = pay(1).fingerprint(ours);
    let (mut raw, dispatch, _server) = mem_raw(Server::new().method(method)).await;

    let ask = Ask { fingerprint: ours.fold() ^ 1, payload: &[255; 3], ..Ask::new(1, NAME) };
    raw.ask(ask).await;
    let reply = raw.reply().await;
    let found = (reply.status, reply.disposition);
    assert_eq!(found, (Code::SCHEMA_MISMATCH, Disposition::NotProcessed));
    let named = switchback::wire::Tlvs::new(&reply.ext).find(response_keys::FINGERPRINT);
    assert_eq!(named, Some(&ours.fold().to_be_bytes()[..]));
    assert_eq!(dispatch.stats()[0].started, 0);

    for (call, fingerprint) in [(3, 0), (5, ours.fold())] {
        raw.ask(Ask { fingerprint, ..Ask::new(call, NAME) }).await;
        assert_eq!(raw.reply().await.status, Code::OK);
    }
    dispatch.install(pay(2)).unwrap();
    assert_eq!(raw.frame().await.head().kind, Kind::TABLE_UPDATE);
    raw.ask(Ask { fingerprint: 77, version: 2, ..Ask::new(7, NAME) }).await;
    assert_eq!(raw.reply().await.status, Code::OK);
}

/// CA-7 for a real client: the status has the server's fingerprint. Shown by a client whose
/// request type differs.
#[tokio::test]
async fn ca_7_a_client_with_other_types_is_told() {
    let ours = Fingerprint::of_method::<u64, (u64, u64), ()>();
    let (channel, dispatch, _server) = mem(Server::new().method(pay(1).fingerprint(ours)));
    let theirs = Fingerprint::of_method::<(u64,), (u64, u64), ()>();
    let stub: Plain<u64, (u64, u64)> = leak(Stub::infallible(NAME, 1, theirs));

    let result = channel.call(stub, 1).await;

    let status = assert_status(result, Code::SCHEMA_MISMATCH, Disposition::NotProcessed);
    assert_eq!(status.fingerprint(), Some(ours.fold()));
    assert_eq!(dispatch.stats()[0].started, 0);
}

/// What version 2 takes; version 1 knows only small numbers.
struct Small(u64);

impl TryFrom<u64> for Small {
    type Error = String;

    fn try_from(n: u64) -> Result<Self, String> {
        if n < 100 { Ok(Self(n)) } else { Err(format!("{n} is not small")) }
    }
}

/// Version 1 of a method, served through conversions: request, response and error.
fn compat() -> Method {
    Method::try_new(NAME, 1, |_cx: Cx, n: u64| {
        let Small(n) = upgrade_request(n)?;
        Ok(async move {
            let result: Result<u64, CallError<u64>> = match n {
                0 => Err(CallError::App(7)),
                1 => Err(CallError::App(7_000)),
                2 => Ok(7_000),
                n => Ok(n),
            };
            convert_result::<u64, u8, u64, u8>(result)
        })
    })
}

/// CA-13 and CONVERSION: a request that does not convert was not executed; a response or an
/// error that does not was. Shown by one method that fails at each of the three.
#[tokio::test]
async fn ca_13_conversions_that_fail_say_what_was_executed() {
    let (channel, dispatch, _server) = mem(Server::new().method(compat()));
    let stub: &'static Stub<u64, u8, u8> = leak(Stub::new(NAME, 1, UNCHECKED));
    let started = || dispatch.stats()[0].started;

    let result = channel.call(stub, 100).await;
    let status = assert_status(result, Code::CONVERSION, Disposition::NotProcessed);
    assert!(status.message().contains("100 is not small"), "{status}");
    assert_eq!(started(), 0);
    assert_eq!(channel.call(stub, 99).await, Ok(99));
    assert_eq!(channel.call(stub, 0).await, Err(CallError::App(7)));
    for (n, what) in [(1, "error"), (2, "response")] {
        let result = channel.call(stub, n).await;
        let status = assert_status(result, Code::CONVERSION, Disposition::Processed);
        assert!(status.message().contains(what), "{status}");
    }
    assert_eq!(started(), 4);
}

/// A new client's request that an old server has no counterpart for is not sent. Shown by a stub
/// whose version 1 takes 8 bits.
#[tokio::test]
async fn a_request_that_does_not_convert_down_is_not_sent() {
    let old = Method::infallible(NAME, 1, |_cx: Cx, n: u8| async move { Answer::Ok(n) });
    let (channel, dispatch, _server) = mem(Server::new().method(old));
    let stub = Stub::infallible(NAME, 2, UNCHECKED).compat_infallible::<u8, u8>(1, UNCHECKED);
    let stub: Plain<u64, u64> = leak(stub);

    assert_eq!(channel.call(stub, 200).await, Ok(200));
    let result = channel.call(stub, 300).await;
    assert_status(result, Code::CONVERSION, Disposition::NotProcessed);
    assert_eq!(dispatch.stats()[0].started, 1);
}

/// RT-4: a client that holds the table is not sent it again. Shown by what a client of bytes
/// reads on its second connection: no TABLE before the answer.
#[tokio::test]
async fn rt_4_a_known_table_is_not_sent_again() {
    let server = tcp(Server::new().method(pay(1))).await;
    let mut first = Raw::connect(&server.url).await;
    let (ack, full) = first.greet_server().await;
    assert_eq!(ack.table, full.hash);

    let hello = switchback::wire::Hello { tables: vec![1, ack.table], ..crate::raw::hello() };
    let mut second = Raw::connect(&server.url).await;
    second.write(&crate::raw::client_hello(&hello)).await;
    assert_eq!(second.hello_ack().await.table, ack.table);
    second.ask(Ask::new(1, NAME)).await;
    assert_eq!(second.reply().await.status, Code::OK);

    server.dispatch.install(pay(2)).unwrap();
    for raw in [&mut first, &mut second] {
        assert_eq!(raw.frame().await.head().kind, Kind::TABLE_UPDATE, "both were accepted");
    }
}

/// RT-7: a method of several versions waits for the table; one of a single version does not.
/// Shown by what a server of bytes reads before it has said a word.
#[tokio::test]
async fn rt_7_several_versions_wait_for_the_table() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let several = tokio::spawn(channel.call(pay_stub(&[2, 1]), 1));
    settle().await;
    let single = tokio::spawn(channel.call(plain::<u64, u64>("it.One/one"), 2));
    let (_, transcript) = raw.client_hello().await;
    let (call, _, payload) = raw.request().await;
    assert_eq!(payload, [2], "the one that need not wait");
    let table = table(&[("it.One/one", &[1]), (NAME, &[1, 2])]);

    raw.write(&crate::raw::ack(&table, transcript, 8, 65_536)).await;
    raw.table(Kind::TABLE, &table).await;
    raw.answer_ok(call, &[2]).await;
    let (call, version, _) = raw.request().await;
    assert_eq!(version, 2);
    raw.answer_ok(call, &[2, 1]).await;

    assert_eq!(single.await.unwrap(), Ok(2));
    assert_eq!(several.await.unwrap(), Ok((2, 1)));
}
