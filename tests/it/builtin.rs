//! The built-in services: what they say, that it fits, and that a server without them has nothing.
#![cfg(all(feature = "bincode", feature = "builtin"))]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use switchback::builtin::{
    AfterVersion, CountersPage, Health, ListMethods, ListedMethod, ListedVersion, MethodsPage,
    NotDescribed, RunMode, ServingState,
};
use switchback::client::{ClientConfig, CountersClient, HealthClient, ReflectionClient};
use switchback::service::{Fingerprint, RouteError};
use switchback::transport::duplex;
use switchback::wire::MethodId;
use switchback::{
    CallError, Channel, Code, Cx, Disposition, ErrorKind, Method, Router, Run, Server, Status,
};

use crate::raw::{Ask, Raw};
use crate::support::{
    Answer, MEM_BYTES, assert_status, echo, echo_stub, mem, mem_with, run, status,
};

fn all(server: Server) -> Server {
    server.health(Health::new()).reflection().counters()
}

fn double(name: &str, version: u16) -> Method {
    Method::infallible(name, version, |_cx: Cx, n: u64| async move { Answer::Ok(n * 2) })
}

/// A client whose frames are as small as the protocol allows.
fn narrow() -> switchback::client::ChannelBuilder {
    let mut config = ClientConfig::default();
    config.frame_bytes_max = 65_536;
    Channel::builder().config(config)
}

/// The methods have the ids and fingerprints of the specification's vectors, and a server has those
/// that it was told to have, no other. Shown by what its table says.
#[tokio::test]
async fn bi_1_built_in_methods_are_those_of_the_vectors() {
    let vectors = |file: &str| {
        let path = format!("{}/spec/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap()
    };
    let named: BTreeSet<(String, u64)> = vectors("names.json")
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row["method"].as_u64().unwrap()))
        .filter(|(name, _)| name.starts_with("switchback."))
        .collect();
    let hashes: BTreeSet<String> = vectors("fingerprints.json")
        .iter()
        .filter(|row| row["method_text"].is_string())
        .map(|row| row["fingerprint64"].as_str().unwrap().to_owned())
        .collect();

    let (channel, ..) = mem(all(Server::new()));
    let reflection = ReflectionClient::new(channel);
    let listed = reflection.methods().await.unwrap();

    let found: BTreeSet<(String, u64)> =
        listed.iter().map(|method| (method.name.clone(), method.id.into())).collect();
    assert_eq!(found, named);
    for method in &listed {
        assert_eq!(method.versions.len(), 1);
        let version = &method.versions[0];
        assert!(version.callable && version.idempotent && version.version == 1);
        let fingerprint = Fingerprint::from(version.fingerprint).to_string();
        assert!(hashes.contains(&fingerprint), "{} {fingerprint}", method.name);
    }

    let (channel, ..) = mem(Server::new().method(echo()));
    let refused = HealthClient::new(channel.clone()).check("").await;
    assert_status(refused, Code::UNKNOWN_METHOD, Disposition::NotProcessed);
    assert_eq!(
        status(ReflectionClient::new(channel).page(None).await).code(),
        Code::UNKNOWN_METHOD
    );
    let own = Server::new().method(double("switchback.Health/check", 1)).health(Health::new());
    let Err(error) = own.serve_stream(duplex(MEM_BYTES).0).map(drop) else {
        panic!("one (method, version) twice");
    };
    let ErrorKind::Route(RouteError::Duplicate { name, .. }) = error.kind() else {
        panic!("another error: {error}");
    };
    assert_eq!(name, "switchback.Health/check");
}

/// The largest table there may be is listed through frames of 64 KiB, each page below 48 KiB in its
/// longest form, JSON; with the same for its counters. Nothing is missing and nothing is twice.
#[tokio::test]
async fn bi_2_the_largest_table_is_read_in_pages() {
    let long = |n: u32| format!("it.{}/{n}", "x".repeat(120 - n.to_string().len()));
    let mut router = Server::new().reflection().counters();
    // 32 methods of 64 versions each fill 2,048 rows; single ones the rest, but the 3 built in.
    for n in 0..32_u32 {
        for version in 65_000..65_064 {
            let method = double(&long(n), version).fingerprint(Fingerprint::from(u64::MAX));
            router = router.method(method.run(Run::Blocking));
        }
    }
    for n in 32..2_045_u32 {
        router = router.method(double(&long(n), 65_000));
    }
    let (channel, ..) = mem_with(router, narrow());
    let reflection = ReflectionClient::new(channel.clone());

    let (mut pages, mut after, mut methods) = (0, None, 0);
    loop {
        let page = reflection.page(after).await.unwrap();
        let bytes = serde_json::to_vec(&page).unwrap().len();
        assert!(bytes <= 48 * 1024, "{bytes} bytes");
        (pages, methods) = (pages + 1, methods + page.methods.len());
        after = page.methods.last().map(|method| method.id);
        if !page.more {
            break;
        }
    }
    assert_eq!(methods, 2_048);
    assert!(pages > 10, "{pages} pages");
    let listed = reflection.methods().await.unwrap();
    let ids: BTreeSet<u32> = listed.iter().map(|method| method.id).collect();
    assert_eq!((listed.len(), ids.len()), (2_048, 2_048));
    assert_eq!(listed.iter().map(|method| method.versions.len()).sum::<usize>(), 4_064);

    let counters = CountersClient::new(channel);
    let first = counters.page(None).await.unwrap();
    let bytes = serde_json::to_vec(&first).unwrap().len();
    assert!(first.more && first.methods.len() == 64 && bytes <= 48 * 1024, "{bytes} bytes");
    let read = counters.read().await.unwrap();
    let keys: BTreeSet<(&str, u16)> =
        read.methods.iter().map(|row| (row.name.as_str(), row.version)).collect();
    assert_eq!((read.methods.len(), keys.len()), (4_064, 4_064));
}

/// A server whose pages do not go on does not keep a client for ever. Shown by servers that say
/// `more` without a row, that repeat themselves, and that never end.
#[tokio::test]
async fn bi_2_pages_that_do_not_go_on_end_the_walk() {
    fn row(id: u32) -> ListedMethod {
        ListedMethod { name: "a/b".into(), id, ceiling: 65_535, versions: Vec::new() }
    }
    type Next = fn(Option<u32>) -> Vec<u32>;
    let cases: [(Next, &str); 4] = [
        (|_| Vec::new(), "a page without rows says that there are more"),
        (|_| vec![1, 2], "its rows do not ascend"),
        (|_| vec![2, 1], "its rows do not ascend"),
        (|after| vec![after.map_or(0, |id| id + 1)], "2049 rows and more, at most 2048"),
    ];
    for (next, expected) in cases {
        let list = move |_cx: Cx, request: ListMethods| async move {
            let methods = next(request.after).into_iter().map(row).collect();
            Ok::<_, CallError<Infallible>>(MethodsPage { methods, more: true })
        };
        let list = Method::infallible("switchback.Reflection/list", 1, list);
        let (channel, ..) = mem(Server::new().method(list));

        let failed = status(ReflectionClient::new(channel).methods().await);

        assert_eq!(failed.code(), Code::BAD_RESPONSE);
        assert!(failed.to_string().contains(expected), "{failed}");
    }
}

/// A service is serving while it has a callable version and nobody said otherwise; a server that
/// drains is not, and says so to those who can still ask: between the two GOAWAYs.
#[tokio::test]
async fn bi_3_health_follows_the_table_the_word_and_the_drain() {
    let health = Health::new();
    let server = Server::new().method(echo()).health(health.clone());
    let served = run(server.bind("tcp://127.0.0.1:0").await.unwrap());
    let channel = Channel::connect(&served.url).await.unwrap();
    let client = HealthClient::new(channel);
    let ask = async |service: &str| client.check(service).await.unwrap().state;

    assert_eq!(ask("").await, ServingState::Serving);
    assert_eq!(ask("it.Echo").await, ServingState::Serving);
    assert_eq!(ask("it.Ech").await, ServingState::Unknown);
    served.dispatch.set_ceiling("it.Echo/echo", Some(0)).unwrap();
    assert_eq!(ask("it.Echo").await, ServingState::Unknown);
    served.dispatch.set_ceiling("it.Echo/echo", None).unwrap();
    health.set("it.Echo", ServingState::NotServing).unwrap();
    assert_eq!(ask("it.Echo").await, ServingState::NotServing);
    assert_eq!(ask("").await, ServingState::Serving);
    health.set("", ServingState::NotServing).unwrap();
    assert_eq!(ask("switchback.Health").await, ServingState::NotServing);
    health.set("", ServingState::Unknown).unwrap();
    assert_eq!(ask("").await, ServingState::Serving);

    let mut raw = Raw::connect(&served.url).await;
    raw.greet_server().await;
    drop(served.stop);
    let (_goaway, _ping) = raw.first_goaway().await;
    // `service` is empty, so its length is all there is.
    raw.ask(Ask { payload: &[0], ..Ask::new(1, "switchback.Health/check") }).await;
    let answer = raw.reply().await;
    assert_eq!((answer.status, answer.payload), (Code::OK, vec![1])); // NotServing
    drop((raw, client));
    served.drained.await.unwrap().unwrap();
}

/// What is listed is the table: versions, ceiling, fingerprint, run mode, idempotence.
#[tokio::test]
async fn bi_4_the_table_is_listed() {
    let typed = double("it.Listed/m", 2).schema::<u64, u64, Infallible>().idempotent();
    let server = Server::new().method(typed).method(double("it.Listed/m", 7).run(Run::Blocking));
    let (channel, dispatch, _server) = mem(server.reflection());
    dispatch.set_ceiling("it.Listed/m", Some(6)).unwrap();

    let listed = ReflectionClient::new(channel).methods().await.unwrap();

    let found = listed.iter().find(|method| method.name == "it.Listed/m").unwrap();
    let fingerprint = Fingerprint::of_method::<u64, u64, Infallible>().as_u64();
    let (callable, idempotent, run) = (true, true, RunMode::Inline);
    let second = ListedVersion { version: 2, callable, fingerprint, idempotent, run };
    let (callable, idempotent, run) = (false, false, RunMode::Blocking);
    let seventh = ListedVersion { version: 7, callable, fingerprint: 0, idempotent, run };
    let expected = ListedMethod {
        name: "it.Listed/m".into(),
        id: MethodId::of("it.Listed/m").0,
        ceiling: 6,
        versions: vec![second, seventh],
    };
    assert_eq!(*found, expected);
    assert!(listed.is_sorted_by_key(|method| method.id));
}

/// A method is described by its text where the server has it; what is not there is told apart. The
/// server's own methods are described too, by the very texts of the vectors.
#[tokio::test]
async fn bi_5_methods_are_described() {
    let typed = double("it.Listed/m", 2).schema::<u64, u64, Infallible>().idempotent();
    let server = Server::new().method(typed).method(double("it.Listed/m", 7));
    let (channel, ..) = mem(all(server));
    let reflection = ReflectionClient::new(channel);

    let second = reflection.describe("it.Listed/m", 2).await.unwrap();
    assert_eq!(second.text.as_deref(), Some("u64->u64!never"));
    assert!(second.idempotent);
    assert_eq!(reflection.describe("it.Listed/m", 7).await.unwrap().text, None);
    let versions = NotDescribed::NoSuchVersion(vec![2, 7]);
    let absent = reflection.describe("it.Listed/m", 3).await;
    assert_eq!(absent, Err(CallError::App(versions)));
    let absent = reflection.describe("it.Listed/none", 2).await;
    assert_eq!(absent, Err(CallError::App(NotDescribed::NoSuchMethod)));

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/vectors/fingerprints.json");
    let vectors = std::fs::read_to_string(path).unwrap();
    for name in ["Health/check", "Reflection/list", "Reflection/describe", "Counters/read"] {
        let described = reflection.describe(&format!("switchback.{name}"), 1).await.unwrap();
        let text = described.text.unwrap();
        assert!(vectors.contains(&format!("\"{text}\"")), "{text}");
    }
}

/// Counters are those of the server itself, over all pages and connections.
#[tokio::test]
async fn bi_6_counters_are_read() {
    let fails = Method::infallible("it.Count/fails", 3, |_cx: Cx, _n: u64| async move {
        Err::<u64, CallError<Infallible>>(Status::new(Code::NOT_FOUND, "no").into())
    });
    let server = Server::new().method(echo()).method(fails).counters();
    let served = run(server.bind("tcp://127.0.0.1:0").await.unwrap());
    let channel = Channel::connect(&served.url).await.unwrap();
    for n in 0..5 {
        channel.call(echo_stub(), n).await.unwrap();
    }
    let fails = crate::support::leak(switchback::Stub::<u64, u64, Infallible>::infallible(
        "it.Count/fails",
        3,
        Fingerprint::UNCHECKED,
    ));
    status(channel.call(fails, 1).await);
    let mut raw = Raw::connect(&served.url).await;
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.None/none")).await;
    raw.reply().await;

    let CountersPage { methods, more, server } = CountersClient::new(channel).read().await.unwrap();

    let rows: Vec<_> =
        methods.iter().map(|row| (row.name.as_str(), row.version, row.ok, row.failed)).collect();
    let expected = [
        ("it.Count/fails", 3, 0, 1),
        ("it.Echo/echo", 1, 5, 0),
        ("switchback.Counters/read", 1, 0, 0),
    ];
    assert_eq!((rows.as_slice(), more), (&expected[..], false));
    assert_eq!(methods[1].latency.count, 5);
    assert!(
        methods[1].latency.p50_us > 0 && methods[1].latency.p99_us >= methods[1].latency.p50_us
    );
    assert_eq!((methods[2].started, methods[2].latency), (1, Default::default()));
    let refusals: Vec<_> = server.refusals.iter().map(|row| (row.code, row.count)).collect();
    assert_eq!(refusals, [(Code::UNKNOWN_METHOD.as_u16(), 1)]);
    let listener = server.listener.unwrap();
    assert_eq!((listener.accepted, listener.open, listener.handshaking), (2, 2, 0));
    let after = AfterVersion { method: "it.Count/fails".into(), version: 3 };
    let channel = Channel::connect(&served.url).await.unwrap();
    let rest = CountersClient::new(channel).page(Some(after)).await.unwrap();
    assert_eq!(rest.methods[0].name, "it.Echo/echo");
}

/// Built-in methods read the table that they are in without keeping it: when its last holder is
/// gone, so is every handler.
#[tokio::test]
async fn a_table_with_built_in_methods_is_dropped() {
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let method = Method::infallible("it.Held/m", 1, move |_cx: Cx, n: u64| {
        let _held = &held;
        async move { Answer::Ok(n) }
    });
    let (channel, dispatch, served) = mem(all(Server::new().method(method)));
    ReflectionClient::new(channel.clone()).methods().await.unwrap();
    assert_eq!(Arc::strong_count(&token), 2);

    drop((channel, dispatch));
    let _end = served.await.unwrap();

    assert_eq!(Arc::strong_count(&token), 1);
    assert!(Router::new().into_dispatch().unwrap().stats().is_empty());
}
