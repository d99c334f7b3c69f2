//! Calls that are tried again, and those that must not be.
//!
//! Servers of bytes say what a real one cannot be made to say; the clock is paused where time
//! matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use switchback::service::Fingerprint;
use switchback::wire::{push_tlv, response_keys};
use switchback::{Channel, Code, Cx, Disposition, Method, Server, ServerConfig, Stub};
use tokio::net::TcpListener;

use crate::raw::{Raw, table};
use crate::support::{
    Count, Gate, Plain, assert_status, echo, echo_stub, leak, mem, now, plain, raw_server, run, tcp,
};

const ECHO: &str = "it.Echo/echo";

fn idempotent_echo() -> Plain<u64, u64> {
    leak(Stub::infallible(ECHO, 1, Fingerprint::UNCHECKED).idempotent())
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, url)
}

async fn greeted(listener: &TcpListener) -> Raw {
    let mut raw = Raw::accept(listener).await;
    raw.greet_client(&table(&[(ECHO, &[1])]), 8, 65_536).await;
    raw
}

/// P3: a call whose connection ended after it was sent is made again if it is idempotent, with
/// the attempt's number in it; else its outcome is unknown, and is said to be. Shown by a server
/// that reads a call and goes.
#[tokio::test]
async fn an_unknown_outcome_is_tried_again_only_if_idempotent() {
    let (listener, url) = listen().await;
    let channel = Channel::lazy(&url).unwrap();
    let call = tokio::spawn(channel.call(idempotent_echo(), 5));
    let mut raw = greeted(&listener).await;
    assert_eq!(raw.attempt().await, (1, 0));
    drop(raw);
    let mut raw = greeted(&listener).await;
    assert_eq!(raw.attempt().await, (1, 1));
    raw.answer_ok(1, &[5]).await;
    assert_eq!(call.await.unwrap(), Ok(5));

    let call = tokio::spawn(channel.call(echo_stub(), 6));
    assert_eq!(raw.attempt().await, (3, 0));
    drop(raw);
    assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
}

/// What is not known of the first attempt is not known of the call, though the second one was
/// certainly not executed. Shown by a server that reads a call and goes for good, and by one that
/// refuses the retry.
#[tokio::test]
async fn a_retry_that_is_not_executed_leaves_the_outcome_unknown() {
    let (listener, url) = listen().await;
    let channel = Channel::lazy(&url).unwrap();
    let call = tokio::spawn(channel.call(idempotent_echo(), 5));
    let mut raw = greeted(&listener).await;
    assert_eq!(raw.attempt().await, (1, 0));
    drop(listener);
    drop(raw);
    assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);

    let (listener, url) = listen().await;
    let channel = Channel::lazy(&url).unwrap();
    let call = tokio::spawn(channel.call(idempotent_echo(), 5));
    let mut raw = greeted(&listener).await;
    assert_eq!(raw.attempt().await, (1, 0));
    drop(raw);
    let mut raw = greeted(&listener).await;
    for attempt in 1..3 {
        let (id, number) = raw.attempt().await;
        assert_eq!(number, attempt);
        raw.answer(id, Code::OVERLOADED, Disposition::NotProcessed, &[]).await;
    }
    assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
}

/// A call has three attempts, no more. Shown by a server that reads each and goes.
#[tokio::test]
async fn attempts_are_limited() {
    let (listener, url) = listen().await;
    let channel = Channel::lazy(&url).unwrap();
    let call = tokio::spawn(channel.call(idempotent_echo(), 5));
    for attempt in 0..3 {
        assert_eq!(greeted(&listener).await.attempt().await, (1, attempt));
    }
    assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
}

/// What an overloaded server refuses is tried again, any method, not before the time that it
/// names; and not at all if it says never. Shown on the paused clock.
#[tokio::test(start_paused = true)]
async fn a_servers_wish_is_honoured() {
    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let retry_after = |ms: u32| {
        let mut ext = Vec::new();
        push_tlv(&mut ext, response_keys::RETRY_AFTER_MS, &ms.to_be_bytes());
        ext
    };
    let refusal = (Code::OVERLOADED, Disposition::NotProcessed);

    let call = tokio::spawn(channel.call(echo_stub(), 5));
    assert_eq!(raw.attempt().await, (1, 0));
    let begun = now();
    raw.answer(1, refusal.0, refusal.1, &retry_after(1500)).await;
    assert_eq!(raw.attempt().await, (3, 1));
    let waited = now() - begun;
    assert!((1500..2600).contains(&waited.as_millis()), "{waited:?}");
    raw.answer_ok(3, &[5]).await;
    assert_eq!(call.await.unwrap(), Ok(5));

    for never in [u32::MAX, 20_000] {
        let begun = now();
        let call = tokio::spawn(channel.call(echo_stub(), 5));
        let (id, attempt) = raw.attempt().await;
        assert_eq!(attempt, 0);
        raw.answer(id, refusal.0, refusal.1, &retry_after(never)).await;
        assert_status(call.await.unwrap(), refusal.0, refusal.1);
        assert_eq!(now(), begun, "it gives up at once");
    }
}

/// P4: retries stay within a tenth of the calls and one a second. Shown by a server that refuses
/// a thousand calls.
#[tokio::test(start_paused = true)]
async fn p_4_retries_have_a_budget() {
    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let refusing = tokio::spawn(async move {
        let (mut requests, mut retries) = (0_u32, 0_u32);
        while let Some((id, attempt)) = raw.maybe_attempt().await {
            requests += 1;
            retries += u32::from(attempt > 0);
            raw.answer(id, Code::OVERLOADED, Disposition::NotProcessed, &[]).await;
        }
        (requests, retries)
    });
    for n in 0..1000 {
        let refused = channel.call(echo_stub(), n).await;
        assert_status(refused, Code::OVERLOADED, Disposition::NotProcessed);
    }
    drop(channel);
    let (requests, retries) = refusing.await.unwrap();
    assert_eq!(requests, 1000 + retries);
    assert!((50..=110).contains(&retries), "{retries}");
}

/// One deadline spans all attempts: what is left of it travels. Shown by a refusal that costs a
/// second.
#[tokio::test(start_paused = true)]
async fn a_deadline_spans_all_attempts() {
    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let call = tokio::spawn(channel.call(echo_stub(), 5).timeout(Duration::from_secs(4)));
    let (id, _) = raw.attempt().await;
    let mut ext = Vec::new();
    push_tlv(&mut ext, response_keys::RETRY_AFTER_MS, &3000_u32.to_be_bytes());
    raw.answer(id, Code::OVERLOADED, Disposition::NotProcessed, &ext).await;
    let begun = now();
    let timeout_ms = raw.timeout_ms().await;
    let waited_ms = u32::try_from((now() - begun).as_millis()).unwrap();
    assert_eq!(timeout_ms + waited_ms, 4000);
    assert_status(call.await.unwrap(), Code::DEADLINE_EXCEEDED, Disposition::Maybe);
}

/// Two tiers: a disposition is stamped by the framework alone. What a handler's own call was
/// refused with arrives as PROCESSED, and nobody tries it again. A handler that serves a retry
/// does not retry in its turn.
#[tokio::test]
async fn tiers_do_not_multiply_retries() {
    let (listener, url) = listen().await;
    let inner = Channel::lazy(&url).unwrap();
    let runs = Arc::new(Count::default());
    let (counted, called) = (Arc::clone(&runs), inner.clone());
    let relay = Method::infallible("it.Relay/relay", 1, move |_cx: Cx, n: u64| {
        counted.add();
        let inner = called.clone();
        async move { inner.call(echo_stub(), n).await }
    });
    let server = tcp(Server::new().method(relay)).await;
    let outer = Channel::connect(&server.url).await.unwrap();
    let stub: Plain<u64, u64> =
        leak(Stub::infallible("it.Relay/relay", 1, Fingerprint::UNCHECKED).idempotent());
    let call = tokio::spawn(outer.call(stub, 5));
    let mut raw = greeted(&listener).await;
    for attempt in 0..3 {
        let (id, found) = raw.attempt().await;
        assert_eq!(found, attempt);
        raw.answer(id, Code::OVERLOADED, Disposition::NotProcessed, &[]).await;
    }
    assert_status(call.await.unwrap(), Code::OVERLOADED, Disposition::Processed);
    assert_eq!(runs.get(), 1, "an executed call is not tried again");

    // The outer attempt is 1: its handler's call has one attempt only.
    let mut direct = Raw::connect(&server.url).await;
    direct.greet_server().await;
    direct
        .ask(crate::raw::Ask {
            attempt_priority: 1 << 4,
            ..crate::raw::Ask::new(1, "it.Relay/relay")
        })
        .await;
    let (id, found) = raw.attempt().await;
    assert_eq!(found, 0);
    raw.answer(id, Code::OVERLOADED, Disposition::NotProcessed, &[]).await;
    let reply = direct.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::OVERLOADED, Disposition::Processed));
}

/// A server that restarts at its address is found again; who waits for it loses no call, who does
/// not is told at once. Shown over TCP.
#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let server = tcp(Server::new().method(echo())).await;
    let url = server.url.clone();
    let channel = Channel::connect(&url).await.unwrap();
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    server.stop.send(()).unwrap();
    server.drained.await.unwrap().unwrap();

    let refused = channel.call(echo_stub(), 2).await;
    assert_status(refused, Code::NOT_CONNECTED, Disposition::NotProcessed);
    let patient = tokio::spawn(channel.call(echo_stub(), 3).wait_for_ready(true));
    let second = Server::new().method(echo()).bind(&url).await.unwrap();
    let _second = run(second);
    assert_eq!(patient.await.unwrap(), Ok(3));
    assert_eq!(channel.call(echo_stub(), 4).await, Ok(4));
}

/// Attempts to connect back off with jitter; who does not want to wait is told the last error at
/// once when the next attempt is far away. Shown on the paused clock by a transport that counts.
#[tokio::test(start_paused = true)]
async fn attempts_to_connect_back_off() {
    let dialed = Arc::new(AtomicU64::new(0));
    let channel = Channel::builder().transport(Nowhere(Arc::clone(&dialed))).unwrap();
    let begun = now();
    let waiting = channel.call(echo_stub(), 1).wait_for_ready(true);
    let waiting = tokio::spawn(waiting.timeout(Duration::from_secs(60)));
    let status =
        assert_status(waiting.await.unwrap(), Code::DEADLINE_EXCEEDED, Disposition::NotProcessed);
    assert!(status.message().contains("waiting for a connection"), "{status}");
    assert_eq!((now() - begun).as_secs(), 60);
    // 0.1 s doubling to 1 s, each between half of it and all: 63 to 124 attempts in a minute.
    let attempts = dialed.load(Ordering::SeqCst);
    assert!((62..=125).contains(&attempts), "{attempts}");

    let begun = now();
    let refused = channel.call(echo_stub(), 2).await;
    let status = assert_status(refused, Code::NOT_CONNECTED, Disposition::NotProcessed);
    assert!(now() - begun <= Duration::from_secs(1), "{status}");
}

/// A place that cannot be reached.
struct Nowhere(Arc<AtomicU64>);

impl switchback::transport::Connect for Nowhere {
    fn connect(&self) -> switchback::transport::Connecting<'_> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let address = self.address();
        Box::pin(std::future::ready(Err(switchback::ErrorKind::Refused { address }.into())))
    }

    fn address(&self) -> String {
        "nowhere".to_owned()
    }
}

/// A draining server is left without an error, whatever the methods: calls that it has not read
/// go to the one that came after it. Shown over TCP by two servers in turn at one address, under
/// calls that never stop.
#[tokio::test]
async fn p_6_a_drain_loses_no_call() {
    let gate = Gate::default();
    let (connector, targets) = Switched::new();
    let first = tcp(Server::new().method(echo()).method(gate.method("it.Gate/pass"))).await;
    let second = tcp(Server::new().method(echo()).method(gate.method("it.Gate/pass"))).await;
    targets.set(&first.url);
    let channel = Channel::builder().transport(connector).unwrap();
    let callers: Vec<_> = (0..16_u64)
        .map(|caller| {
            let channel = channel.clone();
            tokio::spawn(async move {
                for n in 0..500 {
                    let sent = caller * 1000 + n;
                    assert_eq!(channel.call(echo_stub(), sent).await, Ok(sent));
                }
            })
        })
        .collect();
    let stub: Plain<u64, u64> = plain("it.Gate/pass");
    let long = tokio::spawn(channel.call(stub, 7));
    gate.entered.reach(1).await;
    targets.set(&second.url);
    first.stop.send(()).unwrap();
    for caller in callers {
        caller.await.unwrap();
    }
    gate.open.notify_one();
    assert_eq!(long.await.unwrap(), Ok(7), "what it has read, it finishes");
    first.drained.await.unwrap().unwrap();
}

/// Connects to wherever it is told to.
struct Switched(Targets);

#[derive(Clone, Default)]
struct Targets(Arc<std::sync::Mutex<String>>);

impl Switched {
    fn new() -> (Self, Targets) {
        let targets = Targets::default();
        (Self(targets.clone()), targets)
    }
}

impl Targets {
    fn set(&self, url: &str) {
        url.clone_into(&mut self.0.lock().unwrap());
    }
}

impl switchback::transport::Connect for Switched {
    fn connect(&self) -> switchback::transport::Connecting<'_> {
        Box::pin(async {
            let address = switchback::transport::Address::parse(&self.address())?;
            switchback::transport::TcpConnector::new(address, false).connect().await
        })
    }

    fn address(&self) -> String {
        self.0.0.lock().unwrap().clone()
    }
}

/// A channel of a single stream has nowhere to go: its calls are told so, not tried again.
#[tokio::test]
async fn a_single_stream_is_not_replaced() {
    let mut config = ServerConfig::default();
    config.drain_timeout = Duration::from_secs(1);
    let (channel, _, server) = mem(Server::new().config(config).method(echo()));
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    let lost = channel.call(idempotent_echo(), 2).await;
    assert_status(lost, Code::NOT_CONNECTED, Disposition::NotProcessed);
}
