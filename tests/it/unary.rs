//! One request, one answer: many services, many callers, large payloads, errors, metadata.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use switchback::service::{Codec, CustomCodec, Fingerprint, erased_serde};
use switchback::{
    CallError, Channel, ClientConfig, Code, Cx, Disposition, Method, Server, ServerConfig, Status,
    Stub,
};
use tokio::task::JoinSet;

use crate::raw::Ask;
use crate::support::{
    Answer, Plain, assert_status, echo, echo_stub, leak, mem, mem_raw, mem_with, plain, tcp,
};

fn double() -> Method {
    Method::infallible("it.Math/double", 1, |_cx: Cx, n: u64| async move { Answer::Ok(n * 2) })
}

fn shout() -> Method {
    Method::infallible("it.Text/shout", 1, |_cx: Cx, text: String| async move {
        Answer::Ok(text.to_uppercase())
    })
}

/// Several services share a port; each method answers for itself. Shown by three of them over
/// one TCP connection.
#[tokio::test]
async fn many_services_share_one_port() {
    let server = tcp(Server::new().method(echo()).method(double()).method(shout())).await;
    let channel = Channel::connect(&server.url).await.unwrap();

    let (shout, double) = (plain::<String, String>("it.Text/shout"), plain("it.Math/double"));
    assert_eq!(channel.call(echo_stub(), 5).await, Ok(5));
    assert_eq!(channel.call(double, 5_u64).await, Ok(10_u64));
    assert_eq!(channel.call(shout, "hey".to_owned()).await, Ok("HEY".to_owned()));
}

/// Every answer goes to its caller, whatever the order. Shown by 64 tasks with 500 calls each
/// over one connection, each call with a number of its own; every third handler waits a turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca_2_each_answer_goes_to_its_caller() {
    let nonce =
        Method::infallible("it.Nonce/mix", 1, |_cx: Cx, (task, n): (u64, u64)| async move {
            if n % 3 == 0 {
                tokio::task::yield_now().await;
            }
            Answer::Ok((task << 32) ^ n.wrapping_mul(0x9e37_79b9))
        });
    let server = tcp(Server::new().method(nonce)).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let stub: Plain<(u64, u64), u64> = plain("it.Nonce/mix");

    let mut tasks = JoinSet::new();
    for task in 0..64_u64 {
        let channel = channel.clone();
        tasks.spawn(async move {
            for n in 0..500_u64 {
                let answer = channel.call(stub, (task, n)).await.unwrap();
                assert_eq!(answer, (task << 32) ^ n.wrapping_mul(0x9e37_79b9));
            }
        });
    }
    tasks.join_all().await;

    let stats = server.dispatch.stats();
    assert_eq!((stats[0].started, stats[0].ok, stats[0].in_flight), (32_000, 32_000, 0));
}

/// A lazy channel connects with its first call, an eager one before it is there. Shown by a lazy
/// one made before anybody listens, and an eager one that fails at the same address.
#[tokio::test]
async fn lazy_channels_connect_with_their_first_call() {
    let bound = Server::new().method(echo()).bind("tcp://127.0.0.1:0").await.unwrap();
    let url = bound.url();
    drop(bound);
    let lazy = Channel::lazy(&url).unwrap();
    assert!(Channel::connect(&url).await.is_err());
    assert_status(lazy.call(echo_stub(), 1).await, Code::NOT_CONNECTED, Disposition::NotProcessed);

    let bound = Server::new().method(echo()).bind(&url).await.unwrap();
    let _server = crate::support::run(bound);

    assert_eq!(lazy.call(echo_stub(), 2).await, Ok(2));
}

/// A call is a future that may be joined, spawned and sent between threads as it is, and whose
/// options are set before its first poll. Shown by the type checker and by running it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_send_and_takes_options() {
    fn is_send_and_static<T: Send + 'static>(_: &T) {}
    let server = tcp(Server::new().method(echo()).method(double())).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let double: Plain<u64, u64> = plain("it.Math/double");

    let call = channel.call(echo_stub(), 1).timeout(Duration::from_secs(5)).metadata("a", b"b");
    is_send_and_static(&call);
    let spawned = tokio::spawn(call.into_future());
    let (one, two) = tokio::join!(channel.call(echo_stub(), 2), channel.call(double, 3));

    assert_eq!((spawned.await.unwrap(), one, two), (Ok(1), Ok(2), Ok(6)));
}

/// Large payloads travel in both directions without harm. Shown by 1 MiB and 3.9 MiB of bytes
/// with a pattern, sent back reversed, with small calls beside them.
#[tokio::test]
async fn large_payloads_travel_both_ways() {
    let reverse =
        Method::infallible("it.Blob/reverse", 1, |_cx: Cx, mut blob: String| async move {
            blob = blob.chars().rev().collect();
            Answer::Ok(blob)
        });
    let server = tcp(Server::new().method(reverse).method(echo())).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let stub: Plain<String, String> = plain("it.Blob/reverse");

    for len in [1024 * 1024, 39 * 1024 * 1024 / 10] {
        let blob: String = (b'a'..b'x').cycle().map(char::from).take(len).collect();
        let reversed: String = blob.chars().rev().collect();
        let (large, small) = tokio::join!(channel.call(stub, blob), channel.call(echo_stub(), 9));
        assert!(large.unwrap() == reversed, "{len} bytes came back changed");
        assert_eq!(small, Ok(9));
    }
}

/// CA-14: a request above what every server takes waits for the server's own limit, instead of
/// failing. Shown by the very first call of a lazy channel, with 1 MiB.
#[tokio::test]
async fn ca_14_a_large_first_call_waits_for_the_limit() {
    let length = Method::infallible("it.Blob/length", 1, |_cx: Cx, blob: String| async move {
        Answer::Ok(blob.len() as u64)
    });
    let server = tcp(Server::new().method(length)).await;
    let channel = Channel::lazy(&server.url).unwrap();
    let stub: Plain<String, u64> = plain("it.Blob/length");

    assert_eq!(channel.call(stub, "x".repeat(1024 * 1024)).await, Ok(1024 * 1024));
}

/// A method's own error comes back as a value, another failure as a status with its code, text
/// and retry-after; both were executed. Shown by a method that does either.
#[tokio::test]
async fn errors_come_back_as_what_they_are() {
    let fail = Method::new("it.Fail/fail", 1, |_cx: Cx, n: u32| async move {
        match n {
            0 => Ok("fine".to_owned()),
            1 => Err(CallError::App((n, "no money".to_owned()))),
            _ => {
                let status = Status::new(Code::ABORTED, "try the whole again");
                Err(CallError::Rpc(status.with_retry_after(Duration::from_millis(250))))
            }
        }
    });
    let (channel, _, _server) = mem(Server::new().method(fail));
    type Fail = Stub<u32, String, (u32, String)>;
    let stub: &'static Fail = leak(Stub::new("it.Fail/fail", 1, Fingerprint::UNCHECKED));

    assert_eq!(channel.call(stub, 0).await, Ok("fine".to_owned()));
    let error = channel.call(stub, 1).await.unwrap_err();
    assert_eq!(error, CallError::App((1, "no money".to_owned())));
    assert_eq!(error.disposition(), Disposition::Processed);
    let result = channel.call(stub, 2).await;
    let status = assert_status(result, Code::ABORTED, Disposition::Processed);
    assert_eq!(status.message(), "try the whole again");
    assert_eq!(status.retry_after(), Some(Duration::from_millis(250)));
}

/// CA-10: metadata, the caller's address and build, the version and the remaining time reach the
/// handler. Shown by a handler that reports all of them.
#[tokio::test]
async fn ca_10_the_handler_sees_who_calls_and_with_what() {
    let who = Method::infallible("it.Who/who", 3, |cx: Cx, (): ()| async move {
        let pairs = cx.metadata().iter();
        let pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{name}={}", value.escape_ascii())).collect();
        let peer = cx.peer();
        let in_time = cx.remaining() <= Duration::from_secs(3) && !cx.remaining().is_zero();
        Answer::Ok((pairs, peer.address.clone(), peer.build.clone(), cx.version(), in_time))
    });
    let mut server_config = ServerConfig::default();
    server_config.build = "server 7".to_owned();
    let server = tcp(Server::new().config(server_config).method(who)).await;
    let mut config = ClientConfig::default();
    config.build = "client 9".to_owned();
    let channel = Channel::builder().config(config).connect(&server.url).await.unwrap();
    type Who = (Vec<String>, String, String, u16, bool);
    let stub: Plain<(), Who> = leak(Stub::infallible("it.Who/who", 3, Fingerprint::UNCHECKED));

    let call = channel.call(stub, ()).timeout(Duration::from_secs(3));
    let call = call.metadata("trace", b"\x00\xff").metadata("b.c_d-1", b"").metadata("trace", b"2");
    let (pairs, address, build, version, in_time) = call.await.unwrap();

    assert_eq!(pairs, ["trace=\\x00\\xff", "b.c_d-1=", "trace=2"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!((build.as_str(), version, in_time), ("client 9", 3, true));
    assert_eq!(channel.server_build().await.unwrap(), "server 7");
}

/// CA-9: the attempt reaches the handler, the other bits of its byte do no harm. Shown on the
/// wire, with every bit set and with none.
#[tokio::test]
async fn ca_9_the_attempt_reaches_the_handler() {
    let attempt =
        Method::infallible(
            "it.Try/try",
            1,
            |cx: Cx, _: u64| async move { Answer::Ok(cx.attempt()) },
        );
    let (mut raw, _, _server) = mem_raw(Server::new().method(attempt)).await;

    for (call, attempt_priority, wanted) in [(1, 0, 0), (3, 0x1f, 1), (5, 0xff, 15)] {
        raw.ask(Ask { attempt_priority, ..Ask::new(call, "it.Try/try") }).await;
        assert_eq!(raw.reply().await.payload, [wanted]);
    }
}

/// CA-10: metadata that cannot be sent fails its call before anything is sent. Shown by a bad
/// name, an entry too many and a byte too many; the channel goes on.
#[tokio::test]
async fn ca_10_bad_metadata_fails_only_its_call() {
    let (channel, dispatch, _server) = mem(Server::new().method(echo()));

    for name in ["", "Upper", "space here", &"x".repeat(65)] {
        let result = channel.call(echo_stub(), 1).metadata(name, b"v").await;
        assert_status(result, Code::BAD_METADATA, Disposition::NotProcessed);
    }
    let mut call = channel.call(echo_stub(), 1);
    for _ in 0..65 {
        call = call.metadata("n", b"v");
    }
    assert_status(call.await, Code::TOO_LARGE, Disposition::NotProcessed);
    // 4 of TLV, 1 of length, 1 of name: 8,192 bytes exactly, and one more.
    let exact = channel.call(echo_stub(), 1).metadata("n", &[0; 8192 - 6]).await;
    let result = channel.call(echo_stub(), 1).metadata("n", &[0; 8192 - 5]).await;
    let status = assert_status(result, Code::TOO_LARGE, Disposition::NotProcessed);

    assert_eq!((exact, status.excess_bytes()), (Ok(1), Some((8193, 8192))));
    assert_eq!(dispatch.stats()[0].started, 1);
}

/// Numbers and text as lines of text.
struct Lines;

impl CustomCodec for Lines {
    fn id(&self) -> u8 {
        200
    }

    fn name(&self) -> &'static str {
        "json"
    }

    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<(), String> {
        serde_json::to_writer(out, value).map_err(|error| error.to_string())
    }

    fn decode(
        &self,
        bytes: &[u8],
        visit: &mut dyn FnMut(
            &mut dyn erased_serde::Deserializer<'_>,
        ) -> Result<(), erased_serde::Error>,
    ) -> Result<usize, String> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))
            .map_err(|error| error.to_string())?;
        json.end().map(|()| bytes.len()).map_err(|error| error.to_string())
    }
}

/// A codec of the user's own carries calls end to end, beside the default. Shown by JSON under a
/// private id with one channel and bincode with another, against one server.
#[tokio::test]
async fn a_custom_codec_works_end_to_end() {
    let json = Codec::custom(Arc::new(Lines)).unwrap();
    let server = tcp(Server::new().codec(json.clone()).method(shout()).method(echo())).await;
    let stub: Plain<String, String> = plain("it.Text/shout");

    let channel = Channel::builder().codec(json).connect(&server.url).await.unwrap();
    assert_eq!(channel.call(stub, "Grüße".to_owned()).await, Ok("GRÜSSE".to_owned()));
    let default = Channel::connect(&server.url).await.unwrap();
    assert_eq!(default.call(echo_stub(), 300).await, Ok(300));
}

/// CA-6: a server without the client's codec refuses and names its own; the client does not even
/// ask. Shown by a channel with a codec of its own.
#[tokio::test]
async fn ca_6_an_unknown_codec_is_refused_with_the_list() {
    let json = Codec::custom(Arc::new(Lines)).unwrap();
    let (channel, dispatch, _server) =
        mem_with(Server::new().method(echo()), Channel::builder().codec(json));

    for _ in 0..2 {
        let result = channel.call(echo_stub(), 1).await;
        let status = assert_status(result, Code::UNSUPPORTED_CODEC, Disposition::NotProcessed);
        let built_in: Vec<u8> = Codec::built_in().iter().map(Codec::id).collect();
        assert_eq!(status.codecs(), built_in);
    }
    assert_eq!(dispatch.stats()[0].started, 0);
}
