//! The end: a server drains, a client says goodbye.

use std::time::Duration;

use switchback::wire::{CallId, CloseReason, Frame, Goaway, Kind};
use switchback::{Channel, ClientConfig, Code, Disposition, ErrorKind};
use switchback::{Router, Server, ServerConfig};

use crate::raw::{Ask, Raw};
use crate::support::{
    Gate, Plain, assert_status, driven, echo, echo_stub, in_time, mem, plain, settle, tcp,
};

/// CA-16, LD-7, LD-9: a draining server says GOAWAY twice, serves what it reads until the second
/// one, throws away what comes after it, finishes what runs, and then sends CLOSE(SHUTDOWN) with
/// the last call that it read. Shown on the wire.
#[tokio::test]
async fn ld_9_a_drain_finishes_what_was_read_and_names_the_last_call() {
    let gate = Gate::default();
    let router = Router::new().method(gate.method("it.Gate/pass")).method(echo());
    let (mut raw, handle, server) = driven(router, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Gate/pass")).await;
    gate.entered.reach(1).await;

    handle.drain();
    let (first, asked) = raw.first_goaway().await;
    assert_eq!((first.reason, first.grace_ms), (CloseReason::SHUTDOWN, 30_000));
    raw.ask(Ask::new(3, "it.Echo/echo")).await;
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (3, Code::OK), "it crossed the GOAWAY");
    raw.control(Kind::PONG, b"another!").await;
    raw.control(Kind::PONG, &asked).await;
    assert_eq!(raw.goaway().await.last_call.0, 3);
    raw.ask(Ask::new(5, "it.Echo/echo")).await;
    raw.cancel(5).await;
    raw.control(Kind::PING, b"fence...").await;
    let fence = raw.frame().await;
    assert_eq!(fence.parse().unwrap(), Frame::Pong(*b"fence..."), "call 5 is not answered");
    gate.open.notify_one();
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (1, Code::OK));

    let (reason, last_call, _) = raw.close().await;
    assert_eq!((reason, last_call), (CloseReason::SHUTDOWN, 3));
    drop(raw);
    let error = server.await.unwrap();
    assert_eq!(error.close_reason(), Some(CloseReason::SHUTDOWN));
}

/// LD-7: a client that does not answer the PING behind the first GOAWAY gets the second one after
/// a second. Shown on the paused clock.
#[tokio::test(start_paused = true)]
async fn ld_7_a_goaway_does_not_wait_for_ever() {
    let gate = Gate::default();
    let router = Router::new().method(gate.method("it.Gate/pass"));
    let (mut raw, handle, _server) = driven(router, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(7, "it.Gate/pass")).await;
    gate.entered.reach(1).await;
    let begun = crate::support::now();

    handle.drain();
    raw.first_goaway().await;
    assert_eq!(raw.goaway().await.last_call.0, 7);

    let waited = crate::support::now() - begun;
    assert!((1000..1100).contains(&waited.as_millis()), "{waited:?}");
}

/// LD-7: between the two GOAWAYs no PING of the keepalive comes, which could take the place of the
/// one whose PONG is waited for. Shown on the paused clock, by a client that has been silent long
/// enough for one.
#[tokio::test(start_paused = true)]
async fn ld_7_no_other_ping_comes_between_the_goaways() {
    let gate = Gate::default();
    let router = Router::new().method(gate.method("it.Gate/pass"));
    let (mut raw, handle, _server) = driven(router, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Gate/pass")).await;
    gate.entered.reach(1).await;
    tokio::time::advance(Duration::from_millis(4_500)).await;
    settle().await;

    handle.drain();
    raw.first_goaway().await;

    let next = raw.frame().await;
    assert!(matches!(next.parse(), Ok(Frame::Goaway(_))), "{:?}", next.parse());
}

/// LD-7: nor does one come when the PONG to a PING before the first GOAWAY is read after it. Shown
/// on the paused clock, by a server that has little patience.
#[tokio::test(start_paused = true)]
async fn ld_7_a_late_pong_asks_for_no_other_ping() {
    let gate = Gate::default();
    let router = Router::new().method(gate.method("it.Gate/pass"));
    let mut config = ServerConfig::default();
    config.keepalive.silence = Duration::from_millis(200);
    config.keepalive.patience = Duration::from_millis(300);
    let (mut raw, handle, _server) = driven(router, &config, 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.Gate/pass")).await;
    gate.entered.reach(1).await;
    let asked = raw.frame().await;
    let Ok(Frame::Ping(alive)) = asked.parse() else { panic!("{:?}", asked.parse()) };

    handle.drain();
    let (_, asked) = raw.first_goaway().await;
    raw.control(Kind::PONG, &alive).await;
    settle().await;
    tokio::time::advance(Duration::from_millis(350)).await;
    settle().await;
    raw.control(Kind::PONG, &asked).await;

    let next = raw.frame().await;
    assert!(matches!(next.parse(), Ok(Frame::Goaway(_))), "{:?}", next.parse());
}

/// LD-10: a call that the server says it never read is made again on another connection, whatever
/// its method; one that it has read is waited for. Shown by a server of bytes on two connections.
#[tokio::test]
async fn ld_10_what_was_not_read_is_made_again_elsewhere() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::lazy(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let table = crate::raw::table(&[("it.Echo/echo", &[1])]);
    let read = tokio::spawn(channel.call(echo_stub(), 1));
    let mut old = in_time(Raw::accept(&listener)).await;
    old.greet_client(&table, 8, 65_536).await;
    let (first, ..) = in_time(old.request()).await;
    let unread = tokio::spawn(channel.call(echo_stub(), 2));
    let (second, ..) = in_time(old.request()).await;
    assert!(second > first);

    let mut out = Vec::new();
    let (reason, grace_ms) = (CloseReason::SHUTDOWN, 0);
    Goaway { last_call: Goaway::ANY_CALL, reason, grace_ms }.append(&mut out);
    Goaway { last_call: CallId(first), reason, grace_ms }.append(&mut out);
    old.write(&out).await;

    let mut new = in_time(Raw::accept(&listener)).await;
    new.greet_client(&table, 8, 65_536).await;
    let (again, _, payload) = in_time(new.request()).await;
    assert_eq!((again, payload), (1, vec![2]));
    new.answer_ok(again, &[2]).await;
    assert_eq!(in_time(unread).await.unwrap(), Ok(2));
    assert!(!read.is_finished());
    old.answer_ok(first, &[1]).await;
    assert_eq!(in_time(read).await.unwrap(), Ok(1));
    let later = tokio::spawn(channel.call(echo_stub(), 3));
    let (id, ..) = in_time(new.request()).await;
    new.answer_ok(id, &[3]).await;
    assert_eq!(in_time(later).await.unwrap(), Ok(3));
}

/// LD-7, LD-10: the highest id there is, 2^32 - 1, is the number that says "any call" in the first
/// GOAWAY: both name it then, and the call that has it is served and waited for. Shown on the wire,
/// by a server and by a client.
#[tokio::test]
async fn ld_7_a_drain_at_the_last_id_loses_no_call() {
    let gate = Gate::default();
    let router = Router::new().method(gate.method("it.Gate/pass"));
    let (mut raw, handle, _server) = driven(router, &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    raw.ask(Ask::new(u32::MAX, "it.Gate/pass")).await;
    gate.entered.reach(1).await;
    handle.drain();
    let (_, asked) = raw.first_goaway().await;
    raw.control(Kind::PONG, &asked).await;
    assert_eq!(raw.goaway().await.last_call, CallId(u32::MAX));
    gate.open.notify_one();
    let reply = raw.reply().await;
    assert_eq!((reply.call, reply.status), (u32::MAX, Code::OK));
    assert_eq!(raw.close().await.1, u32::MAX);

    let mut config = ClientConfig::default();
    config.first_call = CallId(u32::MAX);
    let (channel, mut raw) = crate::support::raw_server(Channel::builder().config(config));
    let call = tokio::spawn(channel.call(echo_stub(), 1));
    raw.greet_client(&crate::raw::table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    let (id, ..) = raw.request().await;
    let (last_call, reason, grace_ms) = (CallId(id), CloseReason::SHUTDOWN, 0);
    let mut out = Vec::new();
    Goaway { last_call: Goaway::ANY_CALL, reason, grace_ms }.append(&mut out);
    Goaway { last_call, reason, grace_ms }.append(&mut out);
    raw.write(&out).await;
    settle().await;
    assert!(!call.is_finished());
    raw.answer_ok(id, &[1]).await;
    assert_eq!(in_time(call).await.unwrap(), Ok(1));
}

/// LD-7: a GOAWAY whose last call rises is a violation. Shown by two of them.
#[tokio::test]
async fn ld_7_a_last_call_never_rises() {
    let (channel, mut raw) = crate::support::raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(echo_stub(), 1));
    raw.greet_client(&crate::raw::table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
    let (id, ..) = raw.request().await;
    for last_call in [id, id + 2] {
        let (reason, grace_ms) = (CloseReason::AGE, 0);
        let mut out = Vec::new();
        Goaway { last_call: CallId(last_call), reason, grace_ms }.append(&mut out);
        raw.write(&out).await;
    }

    assert_eq!(raw.close().await.0, CloseReason::PROTOCOL);
    let status = call.await.unwrap();
    assert_status(status, Code::CONNECTION_LOST, Disposition::Maybe);
}

/// A server over TCP drains without losing a running call, tells how it went, and gives its
/// address back; idle clients see SHUTDOWN. Shown by one running call and one idle client.
#[tokio::test]
async fn a_server_drains_without_losing_a_call() {
    let gate = Gate::default();
    let server = tcp(Server::new().method(gate.method("it.Gate/pass")).method(echo())).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let mut idle = Raw::connect(&server.url).await;
    idle.greet_server().await;
    let running = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 4));
    gate.entered.reach(1).await;

    server.stop.send(()).unwrap();
    let (_, asked) = idle.first_goaway().await;
    idle.control(Kind::PONG, &asked).await;
    assert_eq!(idle.goaway().await.last_call.0, 0);
    assert_eq!(idle.close().await.0, CloseReason::SHUTDOWN);
    drop(idle);
    // The other client learns it about now; then it finds nobody else to ask.
    let refused = loop {
        match channel.call(echo_stub(), 1).await {
            Ok(answer) => assert_eq!(answer, 1),
            refused => break refused,
        }
    };
    assert_status(refused, Code::NOT_CONNECTED, Disposition::NotProcessed);
    gate.open.notify_one();

    assert_eq!(running.await.unwrap(), Ok(4));
    let drained = server.drained.await.unwrap().unwrap();
    assert_eq!(drained.connections, 2);
    let result = channel.call(echo_stub(), 2).await;
    assert_status(result, Code::NOT_CONNECTED, Disposition::NotProcessed);
    assert!(Server::new().method(echo()).bind(&server.url).await.is_ok());
}

/// CA-16: a handler that does not end is cut when the drain's patience is over: its client sees
/// CLOSE(DRAIN_TIMEOUT), its call is MAYBE. Shown over TCP with 50 ms of patience.
#[tokio::test]
async fn ca_16_a_stuck_handler_is_cut_when_patience_is_over() {
    let gate = Gate::default();
    let mut config = ServerConfig::default();
    config.drain_timeout = Duration::from_millis(50);
    let server = tcp(Server::new().config(config).method(gate.method("it.Gate/pass"))).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let stuck = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 4));
    gate.entered.reach(1).await;

    server.stop.send(()).unwrap();

    let error = server.drained.await.unwrap().unwrap_err();
    let ErrorKind::DrainTimeout { connections, calls, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((*connections, *calls), (1, 1));
    let status = assert_status(stuck.await.unwrap(), Code::CONNECTION_LOST, Disposition::Maybe);
    let source = std::error::Error::source(&status).unwrap().to_string();
    assert!(source.contains("DRAIN_TIMEOUT"), "{source}");
    gate.left.reach(1).await;
}

/// A client that says nothing and does not close its side does not hold up a drain longer than a
/// second until the second GOAWAY, and the linger. Shown on the paused clock, by one that stays.
#[tokio::test(start_paused = true)]
async fn a_client_that_stays_holds_up_no_drain() {
    let (mut raw, handle, server) =
        driven(Router::new().method(echo()), &ServerConfig::default(), 64 * 1024);
    raw.greet_server().await;
    let begun = crate::support::now();

    handle.drain();
    let error = server.await.unwrap();

    assert!(matches!(error.kind(), ErrorKind::ClosedHere { .. }), "{error}");
    assert!(crate::support::now() - begun <= Duration::from_millis(2200));
    raw.first_goaway().await;
    assert_eq!(raw.goaway().await.last_call.0, 0);
    assert_eq!(raw.close().await.0, CloseReason::SHUTDOWN);
}

/// Dropping the last handle closes the connection: the server reads CLOSE(NORMAL). Shown by the
/// server's own error, and that a clone or a call on its way keeps the connection.
#[tokio::test]
async fn dropping_the_channel_says_goodbye() {
    let gate = Gate::default();
    let server = Server::new().method(echo()).method(gate.method("it.Gate/pass"));
    let (channel, _, server) = mem(server);
    let stub: Plain<u64, u64> = plain("it.Gate/pass");
    let running = tokio::spawn(channel.call(stub, 1));
    gate.entered.reach(1).await;

    drop(channel);
    settle().await;
    assert!(!server.is_finished());
    gate.open.notify_one();
    assert_eq!(running.await.unwrap(), Ok(1));

    let error = server.await.unwrap();
    let ErrorKind::ClosedByPeer { reason, last_call, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((*reason, last_call.0), (CloseReason::NORMAL, 0));
}

/// LD-3: a client's farewell arrives also while the server's answers are under way: closing with
/// unread input would destroy it. Shown over TCP, 20 times, with answers that nobody reads.
#[tokio::test]
async fn ld_3_a_farewell_survives_unread_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let table = crate::raw::table(&[("it.Echo/echo", &[1])]);
    for _ in 0..20 {
        let channel = Channel::lazy(&url).unwrap();
        let call = tokio::spawn(channel.call(echo_stub(), 1));
        let mut raw = Raw::accept(&listener).await;
        raw.greet_client(&table, 8, 65_536).await;
        let (id, ..) = raw.request().await;
        raw.answer_ok(id, &[1]).await;
        assert_eq!(call.await.unwrap(), Ok(1));

        let (mut reader, mut writer) = raw.split();
        drop(channel);
        let ping = {
            let mut out = Vec::new();
            let (kind, call) = (Kind::PING, CallId::CONNECTION);
            switchback::wire::append_control(&mut out, kind, call, &[], &[1; 8]);
            out
        };
        for _ in 0..50 {
            writer.write(&ping).await;
            tokio::task::yield_now().await;
        }
        let mut closed = None;
        while let Some(frame) = reader.next().await {
            if let Frame::Close(close) = frame.parse().unwrap() {
                closed = Some(close.reason);
            }
        }
        assert_eq!(closed, Some(CloseReason::NORMAL));
    }
}
