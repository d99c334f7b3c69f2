//! The first bytes: versions of the protocol, what is said in which order, how long it may take.

use std::time::Duration;

use switchback::wire::{
    CallId, CloseReason, Frame, Hello, Kind, Preface, VersionRange, append_control,
};
use switchback::{
    Channel, ClientConfig, Code, Disposition, ErrorKind, Router, Server, ServerConfig,
};

use crate::raw::{Ask, Raw, ack, client_hello, hello, table};
use crate::support::{
    Plain, assert_status, driven, echo, echo_stub, mem, mem_raw, now, plain, raw_server, tcp,
};

const RANGE_2_3: [u8; 8] = Preface(VersionRange { lo: 2, hi: 3 }).to_bytes();

/// HS-4: without a common version the server says its own range and CLOSE(NO_COMMON_VERSION),
/// nothing else. Shown by a client of bytes that offers 2..=3.
#[tokio::test]
async fn hs_4_a_server_names_its_range_and_closes() {
    let (mut raw, _handle, server) =
        driven(Router::new().method(echo()), &ServerConfig::default(), 4096);

    raw.write(&RANGE_2_3).await;
    assert_eq!(raw.bytes(8).await, Preface(VersionRange { lo: 1, hi: 1 }).to_bytes());
    let (reason, last_call, detail) = raw.close().await;

    assert_eq!((reason, last_call), (CloseReason::NO_COMMON_VERSION, 0));
    assert!(detail.contains("1..=1") && detail.contains("2..=3"), "{detail}");
    drop(raw);
    let error = server.await.unwrap();
    assert!(matches!(error.kind(), ErrorKind::NoCommonVersion { .. }), "{error}");
}

/// HS-4: the client knows from the server's preface alone, names both ranges, and fails what
/// waits with NOT_CONNECTED, NOT_PROCESSED, calls that it had sent already included. Shown by a
/// server of bytes that offers 2..=3.
#[tokio::test]
async fn hs_4_a_client_names_both_ranges() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    let sent = tokio::spawn(channel.call(echo_stub(), 1));
    raw.client_hello().await;
    raw.request().await;

    raw.write(&RANGE_2_3).await;

    let error = ready.await.unwrap().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error.kind(), ErrorKind::NoCommonVersion { .. }), "{text}");
    assert!(text.contains("we speak protocol versions 1..=1, the peer 2..=3"), "{text}");
    let result = sent.await.unwrap();
    let status = assert_status(result, Code::NOT_CONNECTED, Disposition::NotProcessed);
    assert!(status.message().contains("2..=3"), "{status}");
    assert_eq!(raw.rest().await, [0; 0], "the client closes");
}

/// HS-3: a range that is none is malformed: the server says its preface and CLOSE(MALFORMED),
/// the client CLOSE(MALFORMED). Shown both ways by 2..=1 and 0..=1.
#[tokio::test]
async fn hs_3_a_senseless_range_is_malformed() {
    for (lo, hi) in [(2, 1), (0, 1)] {
        let bad = Preface(VersionRange { lo, hi }).to_bytes();
        let (mut raw, _handle, _server) =
            driven(Router::new().method(echo()), &ServerConfig::default(), 4096);
        raw.write(&bad).await;
        assert_eq!(raw.bytes(8).await, Preface(VersionRange::OURS).to_bytes());
        assert_eq!(raw.close().await.0, CloseReason::MALFORMED);

        let (channel, mut raw) = raw_server(Channel::builder());
        let ready = tokio::spawn(async move { channel.ready().await });
        raw.client_hello().await;
        raw.write(&bad).await;
        assert_eq!(raw.close().await.0, CloseReason::MALFORMED);
        let text = ready.await.unwrap().unwrap_err().to_string();
        assert!(text.contains(&format!("{lo}..={hi}, which is no range")), "{text}");
    }
}

/// HS-2: the server says nothing before it has read the whole preface. Shown by seven bytes of
/// it, then the eighth and HELLO one byte at a time.
#[tokio::test(start_paused = true)]
async fn hs_2_the_server_waits_for_the_whole_preface() {
    let (mut raw, stream) = Raw::pair(4096);
    let (_, served) = Server::new().method(echo()).serve_stream(stream).unwrap();
    let _server = tokio::spawn(served);
    let bytes = client_hello(&hello());

    raw.write(&bytes[..7]).await;
    tokio::time::timeout(Duration::from_secs(1), raw.bytes(1)).await.unwrap_err();
    for byte in &bytes[7..] {
        raw.write(std::slice::from_ref(byte)).await;
        crate::support::settle().await;
    }

    raw.hello_ack().await;
}

/// HS-9, HS-2: a silent client is closed when its time is over, without a word; one that trickles
/// is too, with its reason. Shown on the paused clock: nothing, and a byte each second.
#[tokio::test(start_paused = true)]
async fn hs_9_a_slow_client_is_closed_in_time() {
    let router = || Router::new().method(echo());
    let begun = now();
    let (mut silent, _handle, server) = driven(router(), &ServerConfig::default(), 4096);
    assert_eq!(silent.rest().await, [0; 0]);
    let error = server.await.unwrap();
    assert!(matches!(error.kind(), ErrorKind::HandshakeTimeout { .. }), "{error}");
    assert!(error.to_string().contains("within 5s"), "{error}");
    assert!(now() - begun < Duration::from_secs(6));

    let begun = now();
    let (mut slow, _handle, server) = driven(router(), &ServerConfig::default(), 4096);
    let bytes = client_hello(&hello());
    slow.write(&bytes[..10]).await;
    for byte in &bytes[10..14] {
        tokio::time::advance(Duration::from_secs(1)).await;
        slow.write(std::slice::from_ref(byte)).await;
    }
    slow.bytes(8).await;
    assert_eq!(slow.close().await.0, CloseReason::HANDSHAKE_TIMEOUT);
    drop(slow);
    assert!(matches!(server.await.unwrap().kind(), ErrorKind::HandshakeTimeout { .. }));
    assert!(now() - begun < Duration::from_secs(7), "however slowly bytes trickle in");
}

/// HS-9: a client gives a silent server up, says why on the wire and to its caller. Shown on the
/// paused clock, with the limit at 2 s.
#[tokio::test(start_paused = true)]
async fn hs_9_a_silent_server_is_given_up() {
    let mut config = ClientConfig::default();
    config.handshake_timeout = Duration::from_secs(2);
    let (channel, mut raw) = raw_server(Channel::builder().config(config));
    let begun = now();

    let error = channel.ready().await.unwrap_err();

    assert_eq!((now() - begun).as_secs(), 2);
    assert!(matches!(error.kind(), ErrorKind::HandshakeTimeout { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("did not finish the handshake within 2s"), "{text}");
    raw.client_hello().await;
    assert_eq!(raw.close().await.0, CloseReason::HANDSHAKE_TIMEOUT);
}

/// HS-8: a server takes calls that come with HELLO, and answers them after HELLO_ACK and TABLE.
/// Shown by 64 calls in one write with the handshake.
#[tokio::test]
async fn hs_8_calls_may_come_with_hello() {
    let (mut raw, stream) = Raw::pair(64 * 1024);
    let (_, served) = Server::new().method(echo()).serve_stream(stream).unwrap();
    let _server = tokio::spawn(served);
    let mut bytes = client_hello(&hello());
    for n in 0..64 {
        bytes.extend(Ask::new(2 * n + 1, "it.Echo/echo").to_bytes());
    }

    raw.write(&bytes).await;

    raw.hello_ack().await;
    assert_eq!(raw.frame().await.head().kind, Kind::TABLE);
    for n in 0..64 {
        assert_eq!(raw.reply().await.call, 2 * n + 1);
    }
}

/// HS-8: a client sends at most 64 calls before HELLO_ACK, whatever its own limit. Shown by a
/// server of bytes that counts before it answers.
#[tokio::test]
async fn hs_8_a_client_sends_64_calls_unseen() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let calls: Vec<_> = (0..70).map(|n| tokio::spawn(channel.call(echo_stub(), n))).collect();
    let (_, transcript) = raw.client_hello().await;
    let mut asked = Vec::new();
    for _ in 0..64 {
        asked.push(raw.request().await);
    }
    crate::support::settle().await;
    let table = table(&[("it.Echo/echo", &[1])]);
    raw.write(&ack(&table, transcript, 1000, 65_536)).await;
    raw.table(Kind::TABLE, &table).await;
    for _ in 64..70 {
        asked.push(raw.request().await);
    }

    for (call, _, payload) in asked {
        raw.answer_ok(call, &payload).await;
    }
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }
}

/// HS-7: a client whose HELLO was changed on its way closes with TRANSCRIPT. Shown by a server of
/// bytes that answers with another transcript.
#[tokio::test]
async fn hs_7_a_changed_hello_is_found() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn(async move { channel.ready().await });
    let (_, transcript) = raw.client_hello().await;
    raw.write(&ack(&table(&[]), transcript ^ 1, 8, 65_536)).await;

    assert_eq!(raw.close().await.0, CloseReason::TRANSCRIPT);
    let text = ready.await.unwrap().unwrap_err().to_string();
    assert!(text.contains("TRANSCRIPT") && text.contains("HELLO"), "{text}");
}

/// HS-6: a HELLO without a required key, or with a limit below the least, is malformed. Shown by
/// both, on the wire and in the server's own error.
#[tokio::test]
async fn hs_6_an_incomplete_hello_is_malformed() {
    let mut bare = Preface(VersionRange::OURS).to_bytes().to_vec();
    append_control(&mut bare, Kind::HELLO, CallId::CONNECTION, &[], &[]);
    let low = client_hello(&Hello { frame_bytes_max: 65_535, ..hello() });
    for (bytes, wanted) in [(bare, "required handshake key"), (low, "below 65536")] {
        let (mut raw, _handle, server) =
            driven(Router::new().method(echo()), &ServerConfig::default(), 4096);

        raw.write(&bytes).await;
        raw.bytes(8).await;
        let (reason, _, detail) = raw.close().await;
        drop(raw);

        assert_eq!(reason, CloseReason::MALFORMED);
        assert!(detail.contains(wanted), "{detail}");
        assert!(server.await.unwrap().to_string().contains(wanted));
    }
}

/// RT-4: a client closes with TABLE on a table that is not the one HELLO_ACK named. Shown by a
/// sound table of another hash.
#[tokio::test]
async fn rt_4_a_table_that_was_not_named_closes() {
    let (channel, mut raw) = raw_server(Channel::builder());
    let ready = tokio::spawn(async move { channel.ready().await });
    let (_, transcript) = raw.client_hello().await;
    raw.write(&ack(&table(&[("it.Echo/echo", &[1])]), transcript, 8, 65_536)).await;
    raw.table(Kind::TABLE, &table(&[("it.Echo/echo", &[2])])).await;

    assert_eq!(raw.close().await.0, CloseReason::TABLE);
    let text = ready.await.unwrap().unwrap_err().to_string();
    assert!(text.contains("TABLE"), "{text}");
}

/// LD-1: pings are answered with their bytes, the newest of a flood always; a pong that nobody
/// asked for is ignored. Shown both ways.
#[tokio::test]
async fn ld_1_pings_are_answered() {
    let ping = |kind, echo: &[u8; 8]| {
        let mut out = Vec::new();
        append_control(&mut out, kind, CallId::CONNECTION, &[], echo);
        out
    };
    let (mut tolerant, mut config) = (ClientConfig::default(), ServerConfig::default());
    tolerant.conduct.pings = 1000;
    config.conduct.pings = 1000;
    let (channel, mut client) = raw_server(Channel::builder().config(tolerant));
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.ready().await }
    });
    client.greet_client(&table(&[]), 8, 65_536).await;
    ready.await.unwrap().unwrap();
    let (server, _, _server) = mem_raw(Server::new().config(config).method(echo())).await;

    for mut raw in [client, server] {
        raw.write(&ping(Kind::PONG, b"unwanted")).await;
        for n in 0..100_u8 {
            raw.write(&ping(Kind::PING, &[n; 8])).await;
        }
        let mut last = None;
        while last != Some([99; 8]) {
            let frame = raw.frame().await;
            let Frame::Pong(echo) = frame.parse().unwrap() else { panic!("{frame:?}") };
            assert!(last.is_none_or(|last| echo > last), "in order, each at most once");
            last = Some(echo);
        }
    }
}

/// A channel that was used up by a failed handshake says why to everybody who waits. Shown by
/// three callers over TCP against a server that closes at once, and the next that tries again.
#[tokio::test]
async fn an_immediate_end_is_told_to_everybody_who_waits() {
    let (mem_channel, raw) = raw_server(Channel::builder());
    drop(raw);
    let stub: Plain<u64, u64> = plain("it.Echo/echo");
    let text = mem_channel.ready().await.unwrap_err().to_string();
    assert!(text.contains("the connection ended"), "the cause, not its consequence: {text}");

    let server = tcp(Server::new().method(echo())).await;
    let channel = Channel::lazy(&server.url).unwrap();
    let (a, b) = tokio::join!(channel.call(stub, 1), channel.ready());
    assert_eq!(a, Ok(1));
    b.unwrap();
    let (fine, _, _server) = mem(Server::new().method(echo()));
    assert_eq!(fine.call(stub, 2).await, Ok(2));
}
