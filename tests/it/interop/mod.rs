//! Two implementations that share nothing but `spec/`: this crate, and the peer in Python of
//! `tests/interop/`, each as server and as client of the other, in codec JSON.
//!
//! What they do is in `tests/interop/SERVICE.md`. Drains are judged by ledgers: what was answered
//! was executed once, by one of the servers.

mod python;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use switchback::service::{Fingerprint, RawRequest};
use switchback::wire::MethodId;
use switchback::{CallError, Channel, ClientConfig, Code, Codec, Disposition, Server, Status};
use tokio::task::JoinSet;

use crate::interop::python::{Case, Peer};
use crate::interop::service::{
    Add, Divide, DivideError, ECHO, Echo, Executions, Failure, InteropClient, InteropServer,
    Newtype, Served, Shape, Sleep, Types,
};
use crate::support::{Plain, Tcp, assert_status, in_time, leak, run, tcp};

const KEYS: usize = 400;
const NOT: Disposition = Disposition::NotProcessed;

fn server(served: &Arc<Served>) -> Server {
    Server::new().service(InteropServer::new(Arc::clone(served)))
}

/// Every key once, by one server or another.
fn assert_once(answered: impl ExactSizeIterator<Item = String>, executions: &[Executions]) {
    assert_eq!(answered.len(), KEYS);
    for key in answered {
        let times: u32 = executions.iter().filter_map(|by| by.get(&key)).sum();
        assert_eq!(times, 1, "{key}");
    }
    let all: u32 = executions.iter().flat_map(|by| by.values()).sum();
    assert_eq!(all as usize, KEYS, "executions of keys that were not answered");
    assert!(executions.iter().all(|by| !by.is_empty()), "a server had nothing to do");
}

/// The peer reads every golden vector as the specification has it, and writes the same bytes.
#[tokio::test]
async fn the_peer_agrees_with_the_golden_vectors() {
    let mut peer = Peer::start(&["vectors", "spec/vectors"]);
    let mut files = 0;
    while let Some(line) = peer.line().await {
        let found: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(found["failed"], 0, "{line}");
        files += 1;
    }
    assert_eq!((files, peer.end().await), (10, (true, String::new())));
}

/// Each client case of SERVICE.md against our server.
#[tokio::test]
async fn our_server_serves_the_peer() {
    let served = Arc::new(Served::default());
    let server = tcp(server(&served)).await;

    let cases = Peer::start(&["call", &server.url]).cases().await;

    let names: Vec<&str> = cases.iter().map(|case| case.case.as_str()).collect();
    assert_eq!(names, CASES);
    in_time(served.stopped.reach(2)).await; // At their deadline, and by a CANCEL.
    let executions = served.executions.lock().unwrap();
    assert!(executions.len() == 100 && executions.values().all(|times| *times == 1));
}

/// CA-5, RT-5: the ceiling is lowered by the second of 200 calls that are under way; none fails,
/// those that come too late are made again, and what comes after is called in version 1.
#[tokio::test]
async fn rt_5_the_peer_follows_a_ceiling_of_our_server() {
    let served = Arc::new(Served::default());
    let server = tcp(server(&served)).await;
    served.lowers.set(server.dispatch.clone()).unwrap();

    let cases = Peer::start(&["call", &server.url, "echo_best", "many", "many", "echo_best"]);
    let cases = cases.cases().await;

    let best: Vec<&Case> = cases.iter().filter(|case| case.case == "echo_best").collect();
    assert_eq!((&best[0].detail, &best[1].detail), (&"version 2".into(), &"version 1".into()));
    let stats = server.dispatch.stats();
    let started = |version| {
        let it = stats.iter().find(|row| *row.name == *ECHO && row.version == version).unwrap();
        it.started
    };
    assert_eq!(started(1) + started(2), 202);
    assert!(started(1) >= 101, "the second hundred, and the last");
}

/// CA-16, LD-7: our server drains under a client that keeps 16 calls in flight, and another one
/// takes its place: each of 400 calls is answered, and was executed once.
#[tokio::test]
async fn ca_16_the_peer_loses_no_call_when_our_server_drains() {
    let (old, new) = (Arc::new(Served::default()), Arc::new(Served::default()));
    let Tcp { url, stop, drained, .. } = tcp(server(&old)).await;
    let mut peer = Peer::start(&["call", &url, "drain"]);
    assert_eq!(peer.line().await.as_deref(), Some(r#"{"answered": 50}"#));

    stop.send(()).unwrap();
    in_time(drained).await.unwrap().unwrap();
    let _new = run(server(&new).bind(&url).await.unwrap());

    let cases = peer.cases().await;
    let keys: Vec<String> = serde_json::from_value(cases[0].detail.clone()).unwrap();
    let ledgers = [old, new].map(|served| served.executions.lock().unwrap().clone());
    assert_once(keys.into_iter(), &ledgers);
}

async fn channel(address: &str) -> (Channel, InteropClient) {
    channel_with(address, ClientConfig::default()).await
}

async fn channel_with(address: &str, mut config: ClientConfig) -> (Channel, InteropClient) {
    config.build = "it 1".to_owned();
    config.wait_for_ready = true;
    let builder = Channel::builder().codec(Codec::JSON).config(config);
    let channel = builder.connect(address).await.unwrap();
    (channel.clone(), InteropClient::new(channel))
}

fn echo(text: &str, times: u32) -> Echo {
    Echo { text: text.to_owned(), times }
}

fn add(key: String) -> Add {
    Add { key, amount: 1 }
}

/// Values of every type, the method's own errors, statuses, metadata and large bodies come from
/// the peer's server as they are meant.
#[tokio::test]
async fn our_client_understands_the_peer() {
    let (peer, address) = Peer::serve("0").await;
    let (_channel, client) = channel(&address).await;

    let echoed = client.echo(echo("héllo ", 3)).await.unwrap();
    assert_eq!((echoed.text.as_str(), echoed.version), ("héllo héllo héllo ", 2));
    for shape in [Shape::Dot, Shape::Circle(-2.5), Shape::Rect { w: 3, h: u32::MAX }] {
        let value = types(shape);
        assert_eq!(client.types(value.clone()).await, Ok(value));
    }
    assert_eq!(client.divide(Divide { a: -7, b: 2 }).await, Ok(-3));
    let zero = client.divide(Divide { a: 1, b: 0 }).await;
    assert_eq!(zero, Err(CallError::App(DivideError::DivideByZero)));
    let (a, b) = (i64::MIN, -1);
    let over = client.divide(Divide { a, b }).await;
    assert_eq!(over, Err(CallError::App(DivideError::Overflow { a, b })));

    let failure = Failure { code: 33, message: "no such thing".to_owned() };
    let status = assert_status(client.fail(failure).await, Code::NOT_FOUND, Disposition::Processed);
    assert_eq!(status.message(), "no such thing");
    let caller = client.whoami(()).metadata("tenant", b"acme").metadata("trace-id", "é".as_bytes());
    let caller = caller.await.unwrap();
    let pairs = [("tenant", "acme"), ("trace-id", "é")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!((caller.build.as_str(), caller.attempt), ("it 1", 0));
    assert_eq!(caller.metadata, BTreeMap::from(pairs));

    let large = "x".repeat(1_000_000);
    assert_eq!(client.echo(echo(&large, 1)).await.unwrap().text, large);
    let result = client.echo(echo(&large, 5)).await;
    let status = assert_status(result, Code::TOO_LARGE, Disposition::Processed);
    assert_eq!(status.excess_bytes(), Some((5_000_031, 4_194_304)));
    let result = client.echo(echo(&"x".repeat(4_194_304), 1)).await;
    assert_status(result, Code::TOO_LARGE, NOT);

    assert_eq!(client.echo(echo("still here", 1)).await.unwrap().text, "still here");
    assert_eq!(peer.drain().await.cancelled, 0);
}

/// FL-10, FL-11: bodies of 1 MiB go to the peer and come back in pieces, in the smallest windows
/// there are, which the other side opens again and again; and in whole windows of 4 MiB.
#[tokio::test]
async fn fl_10_our_client_and_the_peer_keep_to_small_windows() {
    let mut narrow = ClientConfig::default();
    narrow.window_connection = 65_536;
    let wide = ClientConfig::default();
    for (config, serving) in [(narrow, Peer::serve_narrow().await), (wide, Peer::serve("0").await)]
    {
        let (peer, address) = serving;
        let (_channel, client) = channel_with(&address, config).await;
        let text: String = ('a'..='z').cycle().take(1 << 20).collect();
        let mut calls: JoinSet<_> = (0..4).map(|_| client.echo(echo(&text, 1))).collect();
        while let Some(echoed) = in_time(calls.join_next()).await {
            assert_eq!(echoed.unwrap().unwrap().text, text);
        }
        let pieces = peer.drain().await.pieces;
        assert!(pieces.read >= 4 * 16 && pieces.written >= 4 * 15, "{pieces:?}");
    }
}

/// FL-5: a short call overtakes a long one on its connection, there and back.
#[tokio::test]
async fn fl_5_a_short_call_of_our_client_overtakes_a_long_one() {
    let (peer, address) = Peer::serve("0").await;
    let mut config = ClientConfig::default();
    config.window_connection = 65_536;
    let (_channel, client) = channel_with(&address, config).await;
    assert_eq!(client.divide(Divide { a: 4, b: 2 }).await, Ok(2));
    for (text, times) in [("l".repeat(4_000_000), 1), ("l".repeat(1_000), 4_000)] {
        let mut long = Box::pin(client.echo(echo(&text, times)));
        tokio::select! {
            biased;
            long = &mut long => panic!("the long call came first: {:?}", long.is_ok()),
            short = client.divide(Divide { a: -7, b: 2 }) => assert_eq!(short, Ok(-3)),
        }
        assert_eq!(in_time(long).await.unwrap().text.len(), 4_000_000);
    }
    let pieces = peer.drain().await.pieces;
    assert!(pieces.read >= 61 && pieces.written >= 2 * 61, "{pieces:?}");
}

/// FL-7: a long call that is dropped ends as one that was never executed, and the peer serves the
/// next one on the same connection.
#[tokio::test]
async fn fl_7_a_long_call_of_our_client_is_taken_back() {
    let (peer, address) = Peer::serve_narrow().await;
    let (_channel, client) = channel(&address).await;
    assert_eq!(client.divide(Divide { a: 4, b: 2 }).await, Ok(2));
    let text = "t".repeat(4_000_000);
    let mut long = Box::pin(client.echo(echo(&text, 1)));
    tokio::select! {
        biased;
        long = &mut long => panic!("the long call came first: {:?}", long.is_ok()),
        short = client.divide(Divide { a: -7, b: 2 }) => assert_eq!(short, Ok(-3)),
    }
    drop(long);
    assert_eq!(client.divide(Divide { a: 9, b: 3 }).await, Ok(3));
    let ledger = peer.drain().await;
    assert_eq!((ledger.cancelled, ledger.pieces.written), (1, 0));
    assert!(ledger.pieces.read < 61, "{:?}", ledger.pieces);
}

/// CA-3: the peer's refusals are typed, say that nothing was executed, and name what would do.
#[tokio::test]
async fn ca_3_our_client_understands_the_refusals_of_the_peer() {
    let (peer, address) = Peer::serve("0").await;
    let (channel, client) = channel(&address).await;
    let typed: Plain<u64, u64> = leak(switchback::Stub::infallible(
        "interop.Peer/sleep",
        1,
        Fingerprint::of_method::<u64, u64, std::convert::Infallible>(),
    ));
    assert_status(channel.call(typed, 1).await, Code::SCHEMA_MISMATCH, NOT);
    let refused = async |method: &str, version, codec, payload: &'static [u8]| -> (Code, Status) {
        let request = RawRequest::new(MethodId::of(method), version, codec, payload);
        let status = channel.call_raw(request).await.unwrap_err();
        assert_eq!(status.disposition(), NOT, "{status}");
        (status.code(), status)
    };

    let (code, _) = refused("interop.Peer/nothing", 1, 3, b"null").await;
    assert_eq!(code, Code::UNKNOWN_METHOD);
    let (code, status) = refused(ECHO, 9, 3, b"null").await;
    assert_eq!((code, status.versions()), (Code::UNSUPPORTED_VERSION, &[1, 2][..]));
    let (code, status) = refused(ECHO, 1, 99, b"").await;
    assert_eq!((code, status.codecs()), (Code::UNSUPPORTED_CODEC, &[3][..]));
    for payload in [&b""[..], b"{", br#"{"text":1}"#, br#"{"text":""} x"#] {
        assert_eq!(refused(ECHO, 1, 3, payload).await.0, Code::BAD_PAYLOAD);
    }

    assert_eq!(client.divide(Divide { a: 7, b: 2 }).await, Ok(3));
    assert_eq!(peer.drain().await.cancelled, 0);
}

/// RT-5, RT-6: our client follows the ceiling that the peer's server lowers and lifts while the
/// connection is open.
#[tokio::test]
async fn rt_6_our_client_follows_a_ceiling_of_the_peer() {
    let (mut peer, address) = Peer::serve("0").await;
    let (channel, client) = channel(&address).await;
    let ceiling = async || {
        // The update was written before this answer, so it is read before it.
        assert_eq!(client.divide(Divide { a: 4, b: 2 }).await, Ok(2));
        let rows = channel.server_methods().await.unwrap();
        rows.iter().find(|row| row.method == MethodId::of(ECHO)).unwrap().ceiling
    };
    assert_eq!(client.echo(echo("a", 1)).await.unwrap().version, 2);

    peer.tell("ceiling interop.Peer/echo 1").await;
    assert_eq!(client.echo(echo("b", 1)).await.unwrap().version, 1);
    assert_eq!(ceiling().await, 1);
    assert_status(client.echo(echo("c", 2)).await, Code::CONVERSION, NOT);

    peer.tell("ceiling interop.Peer/echo none").await;
    assert_eq!(ceiling().await, u16::MAX);
    assert_eq!(client.echo(echo("d", 2)).await.unwrap().text, "dd");
    peer.drain().await;
}

/// CA-8, CA-12: a deadline and a dropped call stop the peer's handlers, and the connection goes on;
/// 200 calls at once are answered, each to its caller.
#[tokio::test]
async fn ca_12_our_client_takes_calls_back_from_the_peer() {
    let (peer, address) = Peer::serve("0").await;
    let (_channel, client) = channel(&address).await;
    let late = client.sleep(Sleep { ms: 10_000 }).timeout(Duration::from_millis(100)).await;
    assert_status(late, Code::DEADLINE_EXCEEDED, Disposition::Maybe);
    // The drop of a call that was never sent takes nothing back: the second answer shows that the
    // first call, written before it, was read.
    let mut taken = Box::pin(client.sleep(Sleep { ms: 10_000 }));
    tokio::select! {
        biased;
        slept = &mut taken => panic!("{slept:?}"),
        done = client.divide(Divide { a: 4, b: 2 }) => assert_eq!(done, Ok(2)),
    }
    drop(taken);

    let mut calls = JoinSet::new();
    for number in 0..200 {
        let key = format!("many-{number}");
        if number % 2 == 0 {
            let call = client.echo(echo(&key, 1));
            calls.spawn(async move { assert_eq!(call.await.unwrap().text, key) });
        } else {
            let call = client.add(add(key.clone()));
            calls.spawn(async move { assert_eq!(call.await.unwrap().key, key) });
        }
    }
    in_time(calls.join_all()).await;

    // Calls that still run would hold the drain up to its patience.
    let ledger = peer.drain().await;
    assert_eq!(ledger.executions.len(), 100);
    assert!(ledger.executions.values().all(|times| *times == 1));
    assert!((1..=2).contains(&ledger.cancelled), "{}", ledger.cancelled);
}

/// LD-10: the peer's server drains under our client, which keeps 16 calls in flight that are not
/// idempotent, and another one takes its place: each is answered, and was executed once.
#[tokio::test]
async fn ld_10_our_client_loses_no_call_when_the_peer_drains() {
    let (old, address) = Peer::serve("0").await;
    let (_channel, client) = channel(&address).await;
    let key = |number: usize| format!("drain-{number}");
    let mut calls = JoinSet::new();
    let next = |calls: &mut JoinSet<_>, number| {
        let call = client.add(add(key(number)));
        calls.spawn(async move { assert_eq!(call.await.unwrap().key, format!("drain-{number}")) });
    };
    (0..16).for_each(|number| next(&mut calls, number));
    for number in 16..66 {
        in_time(calls.join_next()).await.unwrap().unwrap();
        next(&mut calls, number);
    }

    let port = address.rsplit(':').next().unwrap().to_owned();
    let takes_over = tokio::spawn(async move {
        let ledger = old.drain().await;
        let (new, _) = Peer::serve(&port).await;
        (ledger, new)
    });
    for number in 66..KEYS {
        in_time(calls.join_next()).await.unwrap().unwrap();
        next(&mut calls, number);
    }
    in_time(calls.join_all()).await;

    let (ledger, new) = takes_over.await.unwrap();
    let ledgers = [ledger.executions, new.drain().await.executions];
    assert_once((0..KEYS).map(key), &ledgers);
}

fn types(shape: Shape) -> Types {
    Types {
        flag: true,
        small: i8::MIN,
        big: u64::MAX,
        ratio: 0.1,
        letter: '😀',
        name: "q\"\\\n\0é".to_owned(),
        nothing: (),
        maybe: Some(0),
        absent: None,
        list: vec![i16::MIN, 0, i16::MAX],
        map: BTreeMap::from([(String::new(), Vec::new()), ("a".to_owned(), vec![1, 255])]),
        pair: (7, "x".to_owned()),
        three: [1, 2, u32::MAX],
        shape,
        new: Newtype((1 << 53) + 1),
    }
}

/// The client cases of SERVICE.md, in their order.
const CASES: [&str; 23] = [
    "handshake",
    "echo_1",
    "echo_2",
    "echo_best",
    "types",
    "app_error",
    "app_error_fields",
    "status",
    "metadata",
    "unknown_method",
    "unsupported_version",
    "schema_mismatch",
    "bad_payload",
    "unsupported_codec",
    "deadline",
    "cancel",
    "many",
    "large",
    "narrow",
    "overtake",
    "cut",
    "ping",
    "skippable",
];
