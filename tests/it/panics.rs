//! A panic costs its call, nothing else: not the connection, not a place in flight.

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use switchback::client::ChannelBuilder;
use switchback::service::Payload;
use switchback::{Channel, Code, Cx, Disposition, Method, Run, Server, ServerConfig, Status};

use crate::support::{
    Answer, Gate, Leaving, Plain, assert_status, echo, echo_stub, mem_with, plain, settle,
};

/// Panics when it is decoded as 13, and when it is encoded as 14.
#[derive(Debug, PartialEq)]
struct Touchy(u64);

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, 14, "14 cannot be encoded");
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u64::deserialize(deserializer)?;
        assert_ne!(n, 13, "13 cannot be decoded");
        if n == 12 { Err(de::Error::custom("12 is refused")) } else { Ok(Self(n)) }
    }
}

/// A server with two places, so that a place that is not given back is missed soon.
fn narrow() -> Server {
    let mut config = ServerConfig::default();
    config.calls_max = 2;
    Server::new().config(config).method(echo())
}

async fn assert_goes_on(channel: &Channel) {
    for n in 0..4 {
        assert_eq!(channel.call(echo_stub(), n).await, Ok(n), "the connection goes on");
    }
}

async fn call_internal<Q: Payload + Clone, R: Payload + std::fmt::Debug>(
    channel: &Channel,
    stub: Plain<Q, R>,
    request: Q,
) -> Status {
    let mut status = None;
    for _ in 0..3 {
        let result = channel.call(stub, request.clone()).await;
        status = Some(assert_status(result, Code::INTERNAL, Disposition::Processed));
    }
    status.unwrap()
}

/// CA-13: a panicking handler is answered INTERNAL in every mode, its text stays on the server,
/// and other calls go on. Shown three times in each mode on a connection with two places.
#[tokio::test]
async fn ca_13_a_panic_costs_its_call_alone() {
    let boom = |name: &str| {
        Method::infallible(name, 1, |_cx: Cx, turns: u64| async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            if turns < 10 {
                panic!("a secret");
            }
            Answer::Ok(turns)
        })
    };
    let server = narrow()
        .method(boom("it.Boom/inline"))
        .method(boom("it.Boom/spawn").run(Run::Spawn))
        .method(boom("it.Boom/blocking").run(Run::Blocking));
    let (channel, dispatch, _server) = mem_with(server, Channel::builder());

    for name in ["it.Boom/inline", "it.Boom/spawn", "it.Boom/blocking"] {
        for turns in [0, 2] {
            let status = call_internal(&channel, plain::<u64, u64>(name), turns).await;
            assert!(!status.message().contains("secret"), "{status}");
            assert_goes_on(&channel).await;
        }
    }
    for stats in dispatch.stats().iter().filter(|stats| stats.name.starts_with("it.Boom")) {
        assert_eq!((stats.started, stats.failed, stats.in_flight), (6, 6, 0), "{}", stats.name);
    }
}

/// A panic before the future exists, and one in the server's decoding and encoding of the user's
/// types, cost their call alone. Shown by each of them, three times, with two places.
#[tokio::test]
async fn a_panic_in_user_types_costs_its_call_alone() {
    let eager = Method::infallible("it.Touchy/eager", 1, |_cx: Cx, n: u64| {
        assert_ne!(n, 1, "not even a future");
        async move { Answer::Ok(n) }
    });
    let decode =
        Method::infallible(
            "it.Touchy/decode",
            1,
            |_cx: Cx, n: Touchy| async move { Answer::Ok(n.0) },
        );
    let encode = |name: &str| {
        Method::infallible(name, 1, |_cx: Cx, n: u64| async move {
            tokio::task::yield_now().await;
            Answer::Ok(Touchy(n))
        })
    };
    let server = narrow()
        .method(eager)
        .method(decode)
        .method(encode("it.Touchy/encode"))
        .method(encode("it.Touchy/blocking").run(Run::Blocking));
    let (channel, _, _server) = mem_with(server, Channel::builder());

    call_internal(&channel, plain::<u64, u64>("it.Touchy/eager"), 1).await;
    call_internal(&channel, plain::<u64, u64>("it.Touchy/decode"), 13).await;
    call_internal(&channel, plain::<u64, Touchy>("it.Touchy/encode"), 14).await;
    call_internal(&channel, plain::<u64, Touchy>("it.Touchy/blocking"), 14).await;
    assert_goes_on(&channel).await;

    let refused = channel.call(plain::<u64, u64>("it.Touchy/decode"), 12).await;
    let status = assert_status(refused, Code::BAD_PAYLOAD, Disposition::NotProcessed);
    assert!(status.message().contains("12 is refused"), "{status}");
}

/// A panic in the client's encoding or decoding ends the task that called, not the connection.
/// Shown by spawned calls that panic and calls of others after them, with one place in flight.
#[tokio::test]
async fn a_panic_in_the_clients_types_costs_its_caller_alone() {
    let mut config = switchback::ClientConfig::default();
    config.in_flight_calls_max = 1;
    let builder: ChannelBuilder = Channel::builder().config(config);
    let (channel, _, _server) = mem_with(narrow(), builder);

    for _ in 0..3 {
        let encode: Plain<Touchy, u64> = plain("it.Echo/echo");
        let decode: Plain<u64, Touchy> = plain("it.Echo/echo");
        assert!(tokio::spawn(channel.call(encode, Touchy(14))).await.unwrap_err().is_panic());
        assert!(tokio::spawn(channel.call(decode, 13)).await.unwrap_err().is_panic());
        assert_goes_on(&channel).await;
    }
    let refused = channel.call(plain::<u64, Touchy>("it.Echo/echo"), 12).await;
    assert_status(refused, Code::BAD_RESPONSE, Disposition::Processed);
}

/// Panics when it is dropped.
struct Mine(Leaving);

impl Drop for Mine {
    fn drop(&mut self) {
        self.0.0.add();
        panic!("cannot even be dropped");
    }
}

/// A handler whose drop panics when it is cancelled still gives its place back. Shown by three
/// cancelled calls on a connection with two places.
#[tokio::test]
async fn a_panic_while_dropping_a_handler_frees_its_place() {
    let gate = Gate::default();
    let inner = gate.clone();
    let mine = Method::infallible("it.Mine/mine", 1, move |_cx: Cx, n: u64| {
        let gate = inner.clone();
        async move {
            let _mine = Mine(Leaving(std::sync::Arc::clone(&gate.left)));
            gate.entered.add();
            gate.open.notified().await;
            Answer::Ok(n)
        }
    });
    let (channel, _, _server) = mem_with(narrow().method(mine), Channel::builder());

    for n in 1..=3 {
        let call = tokio::spawn(channel.call(plain::<u64, u64>("it.Mine/mine"), 1));
        gate.entered.reach(n).await;
        call.abort();
        gate.left.reach(n).await;
        settle().await;
        assert_goes_on(&channel).await;
    }
}
