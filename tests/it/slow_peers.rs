//! Peers that are slow, and alive: what they take counts as a sign of life, for a PING stands
//! behind it in the output, and its answer behind that.
//!
//! On the paused clock, with a peer of bytes that takes 4 KiB a second.

use std::time::Duration;

use switchback::wire::Kind;
use switchback::{Channel, Cx, Method, Router, ServerConfig};

use crate::raw::{Ask, Raw, table};
use crate::support::{Answer, Plain, driven, echo_stub, now, plain, settle};

const S: Duration = Duration::from_secs(1);
const SLICE_BYTES: usize = 4 * 1024;

/// LD-8, LD-12: a request that takes 25 s to write is written. Shown by a server of bytes that
/// reads slowly and says nothing until it has it all.
#[tokio::test(start_paused = true)]
async fn ld_8_a_server_that_reads_slowly_lives() {
    let (mut raw, stream) = Raw::pair(SLICE_BYTES);
    let channel = Channel::builder().stream(stream).unwrap();
    let stub: Plain<String, u64> = plain("it.Text/say");
    let call = tokio::spawn(channel.call(stub, "x".repeat(100_000)).timeout(S * 60));
    raw.greet_client(&table(&[("it.Text/say", &[1])]), 8, 1 << 20).await;
    let mut read = 0;
    while read < 100_000 - SLICE_BYTES {
        tokio::time::sleep(S).await;
        read += raw.bytes(SLICE_BYTES).await.len();
    }
    settle().await;
    assert!(!call.is_finished());

    let rest = raw.bytes(100_000 + 40 - read).await;
    assert!(rest.ends_with(b"xxx") || rest.len() < SLICE_BYTES * 2);
    raw.answer_ok(1, &[7]).await;

    assert_eq!(call.await.unwrap(), Ok(7));
}

/// LD-8, LD-12: the same of a client that takes its answers slowly, while another of its calls
/// runs, and that has nothing to say.
#[tokio::test(start_paused = true)]
async fn ld_8_a_client_that_reads_slowly_lives() {
    let flood = Method::infallible("it.Flood/flood", 1, |_cx: Cx, n: u64| async move {
        Answer::Ok("x".repeat(usize::try_from(n).unwrap() * 10_000))
    });
    let wait = Method::infallible("it.Wait/wait", 1, |_cx: Cx, _: u64| {
        std::future::pending::<Answer<u64>>()
    });
    let router = Router::new().method(flood).method(wait);
    let (mut raw, _handle, served) = driven(router, &ServerConfig::default(), SLICE_BYTES);
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Wait/wait")).await;
    raw.ask(Ask { payload: &[10], ..Ask::new(3, "it.Flood/flood") }).await;

    for _ in 0..24 {
        tokio::time::sleep(S).await;
        assert_eq!(raw.bytes(SLICE_BYTES).await.len(), SLICE_BYTES);
    }

    settle().await;
    assert!(!served.is_finished());
    // It stops, and is given up for that.
    let error = tokio::time::timeout(S * 12, served).await.unwrap().unwrap();
    assert!(error.to_string().contains("10s"), "{error}");
}

/// LD-8: a peer that is heard and does not hear, since the path is dead in one direction, is found
/// in 10 s too: its PINGs are no answers. Shown by both sides with a peer of bytes that pings.
#[tokio::test(start_paused = true)]
async fn ld_8_a_peer_that_only_pings_is_found_in_ten_seconds() {
    let (channel, mut raw) = crate::support::raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(echo_stub(), 1).timeout(S * 60));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    raw.request().await;
    let begun = now();
    let pinging = tokio::spawn(ping(raw));
    crate::support::status(call.await.unwrap());
    let took = now() - begun;
    assert!((10_000..10_100).contains(&took.as_millis()), "{took:?}");
    pinging.abort();

    let wait = Method::infallible("it.Wait/wait", 1, |_cx: Cx, _: u64| {
        std::future::pending::<Answer<u64>>()
    });
    let (mut raw, _handle, served) =
        driven(Router::new().method(wait), &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Wait/wait")).await;
    let begun = now();
    let pinging = tokio::spawn(ping(raw));
    served.await.unwrap();
    let took = now() - begun;
    assert!((10_000..10_100).contains(&took.as_millis()), "{took:?}");
    pinging.abort();
}

/// Pings every two seconds, until nobody listens.
async fn ping(mut raw: Raw) {
    loop {
        tokio::time::sleep(S * 2).await;
        let mut out = Vec::new();
        let (kind, call) = (Kind::PING, switchback::wire::CallId::CONNECTION);
        switchback::wire::append_control(&mut out, kind, call, &[], b"hear me!");
        if raw.try_write(&out).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
