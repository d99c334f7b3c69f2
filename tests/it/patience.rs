//! What a peer may cost before the connection is closed, and how a peer that is gone is found.
//!
//! On the paused clock, with a peer of bytes that does too much, too little, or nothing.

use std::sync::Arc;
use std::time::Duration;

use switchback::wire::{CallId, CloseReason, Frame, Kind, TIMEOUT_MS_MAX, append_control};
use switchback::{
    Channel, ClientConfig, Code, Disposition, ErrorKind, Method, Router, Run, Server, ServerConfig,
};

use crate::raw::{Ask, Raw, table};
use crate::support::{
    Answer, Count, Gate, Plain, assert_status, driven, echo, echo_stub, now, plain, raw_server,
    settle,
};

const GATE: &str = "it.Gate/pass";

fn gated() -> (Gate, Router) {
    let gate = Gate::default();
    let router = Router::new().method(gate.method(GATE)).method(echo());
    (gate, router)
}

/// P10, LD-8: a server that is gone without a word is found within 10 s while a call waits for
/// it: one PING after 5 s, the end 5 s later, MAYBE. Shown by a server of bytes that says nothing.
#[tokio::test(start_paused = true)]
async fn ld_8_a_silent_server_is_found_in_ten_seconds() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let stub = echo_stub();
    let call = tokio::spawn(channel.call(stub, 1).timeout(Duration::from_secs(60)));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    raw.request().await;
    let begun = now();

    let frame = raw.frame().await;
    assert!(matches!(frame.parse().unwrap(), Frame::Ping(_)), "{frame:?}");
    let asked = now() - begun;
    assert!((5000..5100).contains(&asked.as_millis()), "{asked:?}");
    let status = assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);

    let waited = now() - begun;
    assert!((10_000..10_100).contains(&waited.as_millis()), "{waited:?}");
    let source = std::error::Error::source(&status).unwrap().to_string();
    assert!(source.contains("silent for 10s"), "{source}");
}

/// LD-8: a byte is a sign of life, and an idle connection is not asked at all. Shown by a server
/// that answers each PING, for a minute, and then by an hour without a call.
#[tokio::test(start_paused = true)]
async fn ld_8_a_server_that_answers_pings_lives() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(echo_stub(), 1).timeout(Duration::from_secs(60)));
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    raw.request().await;
    let mut pings = 0;
    loop {
        let frame = raw.frame().await;
        match frame.parse().unwrap() {
            Frame::Ping(echo) => raw.control(Kind::PONG, &echo).await,
            Frame::Cancel(_) => break,
            frame => panic!("{frame:?}"),
        }
        pings += 1;
    }
    assert!((11..=12).contains(&pings), "{pings}");
    assert_status(call.await.unwrap(), Code::DEADLINE_EXCEEDED, Disposition::Maybe);
    raw.answer(1, Code::CANCELLED, Disposition::Maybe, &[]).await;

    tokio::time::advance(Duration::from_secs(3600)).await;
    settle().await;
    let again = tokio::spawn(channel.call(echo_stub(), 2));
    let (id, ..) = raw.request().await;
    raw.answer_ok(id, &[2]).await;
    assert_eq!(again.await.unwrap(), Ok(2), "not a PING in between");
}

/// LD-8: a server finds out that a client with calls in flight is gone, and ends them. Shown by a
/// client of bytes that says nothing after its call.
#[tokio::test(start_paused = true)]
async fn ld_8_a_silent_client_is_found_in_ten_seconds() {
    let (gate, router) = gated();
    let (mut raw, _handle, server) = driven(router, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    let begun = now();
    raw.ask(Ask { timeout_ms: TIMEOUT_MS_MAX, ..Ask::new(1, GATE) }).await;
    gate.entered.reach(1).await;

    let error = server.await.unwrap();

    let waited = now() - begun;
    assert!((10_000..10_100).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(error.close_reason(), Some(CloseReason::KEEPALIVE_TIMEOUT), "{error}");
    gate.left.reach(1).await;
}

/// LD-8: more PINGs than anybody needs close the connection, on both sides; those that the rule
/// allows never do. Shown by four and by five at once, and by one a second for a minute.
#[tokio::test(start_paused = true)]
async fn ld_8_too_many_pings_close() {
    let (channel, mut client) = raw_server(Channel::builder());
    client.greet_client_of(&channel).await;
    let (mut server, _handle, _served) = driven(gated().1, &ServerConfig::default(), 64 * 1024);
    server.greet_server().await;
    for mut raw in [client, server] {
        for n in 0..60_u8 {
            raw.control(Kind::PING, &[n; 8]).await;
            let frame = raw.frame().await;
            assert_eq!(frame.parse().unwrap(), Frame::Pong([n; 8]));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_secs(4)).await;
        for n in 0..5_u8 {
            raw.control(Kind::PING, &[n; 8]).await;
        }
        let reason = raw.last_word().await;
        assert_eq!(reason, CloseReason::TOO_MANY_PINGS);
    }
}

/// LD-11: frames that ask for nothing have a budget, on both sides. Shown by kinds that are
/// skipped and by PONGs nobody asked for.
#[tokio::test(start_paused = true)]
async fn ld_11_too_many_frames_that_ask_for_nothing_close() {
    for kind in [Kind(0x93), Kind::PONG] {
        let (channel, mut client) = raw_server(Channel::builder());
        client.greet_client_of(&channel).await;
        let (mut server, _handle, _served) = driven(gated().1, &ServerConfig::default(), 64 * 1024);
        server.greet_server().await;
        for mut raw in [client, server] {
            for _ in 0..256 {
                raw.control(kind, &[0; 8]).await;
            }
            raw.control(Kind::PING, b"alive...").await;
            let frame = raw.frame().await;
            assert_eq!(frame.parse().unwrap(), Frame::Pong(*b"alive..."));
            raw.control(kind, &[0; 8]).await;
            assert_eq!(raw.last_word().await, CloseReason::TOO_MANY_FRAMES);
        }
    }
}

/// LD-11, the rapid reset: calls that are taken back as soon as they are made close the
/// connection before there are a thousand, and never more of them run than the limit says. One
/// CANCEL too many closes at once.
#[tokio::test(start_paused = true)]
async fn ld_11_too_many_cancels_close() {
    let (gate, router) = gated();
    let mut config = ServerConfig::default();
    config.calls_max = 128;
    let (mut raw, _handle, server) = driven(router, &config, 64 * 1024);
    raw.greet_server().await;
    let (mut reader, mut writer) = raw.split();
    let reading = tokio::spawn(async move { reader.last_word().await });
    for pair in 0..1000_u32 {
        let mut both = Ask::new(2 * pair + 1, GATE).to_bytes();
        let mut cancel = Vec::new();
        let id = CallId(2 * pair + 1);
        append_control(&mut cancel, Kind::CANCEL, id, &[], &[]);
        both.append(&mut cancel);
        if writer.try_write(&both).await.is_err() {
            break;
        }
        assert!(gate.entered.get() - gate.left.get() <= 128);
    }
    assert_eq!(reading.await.unwrap(), CloseReason::TOO_MANY_CANCELS);
    drop(writer);
    let error = server.await.unwrap();
    assert_eq!(error.close_reason(), Some(CloseReason::TOO_MANY_CANCELS));
    assert!(gate.entered.get() < 1000);

    let (mut raw, _handle, _server) = driven(gated().1, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Echo/echo")).await;
    raw.cancel(1).await;
    raw.cancel(1).await;
    assert_eq!(raw.last_word().await, CloseReason::TOO_MANY_CANCELS);
}

/// LD-11: requests that make no sense have a budget; those that an honest client may send do not.
/// Shown by a hundred and one of a method nobody has, and by a thousand of a version nobody has.
#[tokio::test(start_paused = true)]
async fn ld_11_too_many_errors_close() {
    let (mut raw, _handle, _server) = driven(gated().1, &ServerConfig::default(), 256 * 1024);
    raw.greet_server().await;
    for n in 0..1000 {
        raw.ask(Ask { version: 7, ..Ask::new(2 * n + 1, "it.Echo/echo") }).await;
        assert_eq!(raw.reply().await.status, Code::UNSUPPORTED_VERSION);
    }
    for n in 1000..1101 {
        raw.ask(Ask::new(2 * n + 1, "it.Nobody/has")).await;
    }
    assert_eq!(raw.last_word().await, CloseReason::TOO_MANY_ERRORS);
}

/// LD-12: a frame that has begun and does not go on closes the connection, on both sides; one
/// that goes on, however large, does not. Shown by a byte a second, and by 2 KiB a second.
#[tokio::test(start_paused = true)]
async fn ld_12_a_frame_that_does_not_go_on_closes() {
    let frame = Ask { payload: &[7; 60_000], ..Ask::new(1, "it.Echo/echo") }.to_bytes();
    for (piece_bytes, expected) in [(1, CloseReason::FRAME_TIMEOUT), (2048, CloseReason::NORMAL)] {
        let (channel, mut client) = raw_server(Channel::builder());
        client.greet_client_of(&channel).await;
        let (mut server, _handle, _served) = driven(gated().1, &ServerConfig::default(), 64 * 1024);
        server.greet_server().await;
        let mut skipped = Vec::new();
        let (kind, call) = (Kind(0x90), CallId::CONNECTION);
        append_control(&mut skipped, kind, call, &[], &[7; 60_000]);
        for (mut raw, frame) in [(client, &skipped), (server, &frame)] {
            let mut reason = CloseReason::NORMAL;
            let begun = now();
            for piece in frame.chunks(piece_bytes).take(40) {
                if raw.try_write(piece).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                if raw.has_unread().await {
                    if let Frame::Close(close) = raw.frame().await.parse().unwrap() {
                        reason = close.reason;
                    }
                    break;
                }
            }
            assert_eq!(reason, expected, "{piece_bytes} bytes a second");
            if expected == CloseReason::FRAME_TIMEOUT {
                assert!((now() - begun) <= Duration::from_secs(10));
            }
        }
    }
}

/// LD-12: a peer that takes nothing for 10 s is cut, on both sides, and what waited for it is
/// given back. Shown by pipes that are full.
#[tokio::test(start_paused = true)]
async fn ld_12_a_peer_that_does_not_read_is_cut() {
    let big = Method::infallible("it.Big/big", 1, |_cx, n: u64| async move {
        Answer::Ok(vec![0_u8; usize::try_from(n).unwrap()])
    });
    let (mut raw, handle, server) =
        driven(Router::new().method(big), &ServerConfig::default(), 4096);
    raw.greet_server().await;
    let begun = now();
    raw.ask(Ask { payload: &[251, 0, 128], ..Ask::new(1, "it.Big/big") }).await;
    let error = server.await.unwrap();
    let waited = now() - begun;
    assert_eq!(error.close_reason(), Some(CloseReason::SLOW_CONSUMER), "{error}");
    assert!((10_000..10_100).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(handle.pending_calls(), 0);

    let (raw, stream) = Raw::pair(4096);
    let channel = Channel::builder().stream(stream).unwrap();
    let stub: Plain<Vec<u8>, u64> = plain("it.Echo/echo");
    let call = channel.call(stub, vec![0; 60_000]).timeout(Duration::from_secs(60));
    let call = tokio::spawn(call);
    let mut raw = raw;
    raw.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    let begun = now();
    let status = assert_status(call.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
    let waited = now() - begun;
    assert!((10_000..10_200).contains(&waited.as_millis()), "{waited:?}");
    let source = std::error::Error::source(&status).unwrap().to_string();
    assert!(source.contains("read nothing of what was written for 10s"), "{source}");
}

/// LD-12: a connection without a call and without a frame is closed after 5 minutes, one with a
/// call that runs is not.
#[tokio::test(start_paused = true)]
async fn ld_12_an_idle_connection_is_closed() {
    let (gate, router) = gated();
    let mut config = ServerConfig::default();
    config.keepalive.silence = Duration::from_secs(3600);
    let (mut raw, _handle, _server) = driven(router, &config, 64 * 1024);
    raw.greet_server().await;
    let begun = now();
    tokio::time::advance(Duration::from_secs(200)).await;
    raw.ask(Ask { timeout_ms: TIMEOUT_MS_MAX, ..Ask::new(1, GATE) }).await;
    gate.entered.reach(1).await;
    tokio::time::advance(Duration::from_secs(500)).await;
    settle().await;
    gate.open.notify_one();
    assert_eq!(raw.reply().await.status, Code::OK);
    assert_eq!(raw.close().await.0, CloseReason::IDLE);
    let waited = (now() - begun).as_secs();
    assert!((700..=1001).contains(&waited), "{waited}");
}

/// LD-7: an old connection is asked to end, give or take a tenth of its age, and its client makes
/// another one without losing a call.
#[tokio::test(start_paused = true)]
async fn ld_7_an_old_connection_is_replaced() {
    let mut config = ServerConfig::default();
    config.idle_timeout = Duration::from_secs(86_400);
    let (mut raw, _handle, server) = driven(gated().1, &config, 64 * 1024);
    raw.greet_server().await;
    let begun = now();
    let (goaway, asked) = raw.first_goaway().await;
    let age = (now() - begun).as_secs();
    assert!((27 * 60..=33 * 60).contains(&age), "{age}");
    assert_eq!(goaway.reason, CloseReason::AGE);
    raw.control(Kind::PONG, &asked).await;
    assert_eq!(raw.goaway().await.last_call.0, 0);
    assert_eq!(raw.close().await.0, CloseReason::AGE);
    drop(raw);
    assert_eq!(server.await.unwrap().close_reason(), Some(CloseReason::AGE));
}

/// What runs and what waits to be written is bounded in bytes, per connection, and refused before
/// it is decoded: OVERLOADED, NOT_PROCESSED. Shown by a limit of 100 KB and requests of 15 KB.
#[tokio::test(start_paused = true)]
async fn ca_11_bytes_in_flight_are_bounded() {
    let gate = Gate::default();
    let entered = gate.clone();
    let hold = Method::infallible("it.Hold/hold", 1, move |_cx, bytes: Vec<u8>| {
        let gate = entered.clone();
        async move {
            gate.pass().await;
            Answer::Ok(bytes.len() as u64)
        }
    });
    let mut config = ServerConfig::default();
    config.in_flight_bytes_max = 100_000;
    let (mut raw, _handle, _server) =
        driven(Router::new().method(hold.run(Run::Spawn)), &config, 1024 * 1024);
    raw.greet_server().await;
    let payload = [&[251, 0x9c, 0x3c][..], &[0; 15_516]].concat();
    let mut refused = None;
    for n in 0..20 {
        raw.ask(Ask { payload: &payload, ..Ask::new(2 * n + 1, "it.Hold/hold") }).await;
        settle().await;
        if raw.has_unread().await {
            refused = Some(raw.reply().await);
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, refused.disposition),
        (Code::OVERLOADED, Disposition::NotProcessed)
    );
    let running = gate.entered.get();
    assert!((4..=6).contains(&running), "{running}");
    for _ in 0..running {
        gate.open.notify_one();
        assert_eq!(raw.reply().await.status, Code::OK);
    }
    raw.ask(Ask { payload: &payload, ..Ask::new(99, "it.Hold/hold") }).await;
    gate.entered.reach(running + 1).await;
}

/// A client that does not take answers cannot make its handlers pile up more of them: those that
/// are not finished wait. Shown by answers of 256 KiB, of which 100 are asked for at once.
#[tokio::test(start_paused = true)]
async fn answers_that_nobody_takes_hold_their_handlers() {
    let made = Arc::new(Count::default());
    let count = Arc::clone(&made);
    let big = Method::infallible("it.Big/big", 1, move |_cx, _n: u64| {
        let count = Arc::clone(&count);
        async move {
            tokio::task::yield_now().await;
            count.add();
            Answer::Ok(vec![0_u8; 256 * 1024])
        }
    });
    let (mut raw, handle, _server) =
        driven(Router::new().method(big), &ServerConfig::default(), 4096);
    raw.greet_server().await;
    for n in 0..100 {
        raw.ask(Ask::new(2 * n + 1, "it.Big/big")).await;
    }
    settle().await;
    assert!(made.get() <= 6, "{} answers of 256 KiB are held", made.get());
    assert!(handle.pending_calls() > 90);

    for _ in 0..100 {
        assert_eq!(raw.reply().await.status, Code::OK);
    }
    assert_eq!(handle.pending_calls(), 0);
}

/// The limits of the whole server hold over all its connections, and are counted. Shown by a
/// server for two calls, and three clients.
#[tokio::test]
async fn ca_11_a_server_has_limits_of_its_own() {
    let gate = Gate::default();
    let mut config = ServerConfig::default();
    config.server_calls_max = 2;
    let server = Server::new().config(config).method(gate.method(GATE));
    let bound = server.bind("tcp://127.0.0.1:0").await.unwrap();
    let totals = bound.totals();
    let server = crate::support::run(bound);
    let stub: Plain<u64, u64> = plain(GATE);
    let mut once = ClientConfig::default();
    once.retry.attempts_max = 1;
    let mut running = Vec::new();
    for n in 0..2 {
        let channel = Channel::builder().config(once.clone()).connect(&server.url).await.unwrap();
        running.push(tokio::spawn(channel.call(stub, n)));
        gate.entered.reach(running.len()).await;
    }
    let third = Channel::builder().config(once).connect(&server.url).await.unwrap();
    let refused = third.call(stub, 3).await;
    let status = assert_status(refused, Code::OVERLOADED, Disposition::NotProcessed);
    assert!(status.message().contains("on this server, at most 2"), "{status}");
    let load = totals.load();
    assert_eq!((load.calls, load.overloads), (2, 1));
    gate.open.notify_one();
    gate.open.notify_one();
    for call in running {
        call.await.unwrap().unwrap();
    }
    let last = tokio::spawn(third.call(stub, 4));
    gate.entered.reach(3).await;
    gate.open.notify_one();
    assert_eq!(last.await.unwrap(), Ok(4));
    drop(third);
    server.stop.send(()).unwrap();
    server.drained.await.unwrap().unwrap();
    let load = totals.load();
    assert_eq!((load.calls, load.bytes), (0, 0), "{load:?}");
    assert_eq!(load.closes.iter().map(|(_, count)| count).sum::<u64>() + load.lost, 3, "{load:?}");
}

/// P15: a connection that ends says why on both sides: here by a client that went, and by a
/// protocol error.
#[tokio::test(start_paused = true)]
async fn every_end_has_a_reason() {
    let (mut raw, _handle, server) = driven(gated().1, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.control(Kind::HELLO, &[]).await;
    assert_eq!(raw.last_word().await, CloseReason::MALFORMED);
    drop(raw);
    let error = server.await.unwrap();
    assert!(matches!(error.kind(), ErrorKind::PeerMisbehaved { .. }), "{error}");
    assert_eq!(error.close_reason(), Some(CloseReason::MALFORMED));
}

/// P15: a channel counts the ends of its connections by reason, each one once. Shown by a protocol
/// error of the server, and by a server that is gone without a word.
#[tokio::test(start_paused = true)]
async fn every_end_is_counted_by_the_client() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn(async move { (channel.ready().await, channel) });
    raw.client_hello().await;
    raw.write(b"hello, are you there?\r\n").await;
    let (ended, channel) = ready.await.unwrap();
    assert_eq!(ended.unwrap_err().close_reason(), Some(CloseReason::NOT_SWITCHBACK));
    let load = channel.totals().load();
    assert_eq!((load.closes, load.lost), (vec![(CloseReason::NOT_SWITCHBACK, 1)], 0));
    drop(raw);
    settle().await;
    assert_eq!(channel.totals().load().lost, 0, "counted twice");

    let (channel, mut raw) = raw_server(Channel::builder());
    raw.greet_client_of(&channel).await;
    let totals = channel.totals();
    assert_eq!(totals.load(), Default::default());
    drop(raw);
    settle().await;
    drop(channel);
    settle().await;
    assert_eq!((totals.load().closes, totals.load().lost), (vec![], 1));
}
