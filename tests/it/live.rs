//! Handlers and ceilings that change while calls are on their way: no call fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use switchback::service::{MethodStats, RouteError};
use switchback::wire::{Frame, Kind, MethodId, MethodRow};
use switchback::{
    Channel, ClientConfig, Code, Cx, Disposition, ErrorKind, Method, Router, Server, Stub,
};
use tokio::task::JoinSet;

use crate::raw::Raw;
use crate::support::{
    Answer, Gate, Plain, assert_status, echo, echo_stub, leak, mem, mem_raw, plain, settle, tcp,
};
use crate::versions::{pay, pay_stub};

const PAY: &str = "it.Bank/pay";

fn stats(dispatch: &switchback::Dispatch, version: u16) -> MethodStats {
    let mut all = dispatch.stats().into_iter();
    all.find(|stats| &*stats.name == PAY && stats.version == version).unwrap()
}

/// RT-5, RT-8: a ceiling that is lowered and raised takes a live client back and forward on its
/// very next call. Shown by a client on the same connection throughout.
#[tokio::test]
async fn rt_8_a_ceiling_acts_on_the_next_call() {
    let (channel, dispatch, _server) = mem(Server::new().method(pay(1)).method(pay(2)));
    let stub = pay_stub(&[2, 1]);

    for _ in 0..20 {
        assert_eq!(channel.call(stub, 1).await, Ok((2, 1)));
        dispatch.set_ceiling(PAY, Some(1)).unwrap();
        assert_eq!(channel.call(stub, 2).await, Ok((1, 2)));
        dispatch.set_ceiling(PAY, None).unwrap();
        settle().await; // Upwards the client must be told first: a lower version is never refused.
    }

    let stats = [1, 2].map(|version| stats(&dispatch, version));
    assert_eq!(stats.map(|stats| (stats.ok, stats.callable)), [(20, true), (20, true)]);
    let error = dispatch.set_ceiling("it.No/such", Some(1)).unwrap_err();
    assert!(matches!(error, RouteError::NotInstalled { .. }), "{error}");
}

/// RT-5: a change is told to each open connection as the methods that changed, with the hash of
/// the whole. Shown on the wire: installed, capped, retired.
#[tokio::test]
async fn rt_5_changes_are_told_on_open_connections() {
    let (mut raw, dispatch, _server) = mem_raw(Server::new().method(echo()).method(pay(1))).await;

    dispatch.install(pay(2)).unwrap();
    let row = update(&mut raw).await;
    assert_eq!(versions(&row), (MethodRow::NO_CEILING, vec![1, 2]));
    dispatch.set_ceiling(PAY, Some(1)).unwrap();
    let row = update(&mut raw).await;
    assert_eq!(versions(&row), (1, vec![1, 2]));
    drop(dispatch.retire(PAY, 1).unwrap());
    let row = update(&mut raw).await;
    assert_eq!(versions(&row), (1, vec![2]));
    drop(dispatch.retire(PAY, 2).unwrap());
    let row = update(&mut raw).await;
    assert_eq!(versions(&row), (0, vec![]), "a method that is gone: ceiling 0, no version");
}

/// The next frame, which must be an update of `it.Bank/pay` alone.
async fn update(raw: &mut Raw) -> MethodRow {
    let frame = raw.frame().await;
    let Frame::TableUpdate(update) = frame.parse().unwrap() else {
        panic!("expected an update, found {:?}", frame.parse());
    };
    let [row] = &update.rows[..] else { panic!("{update:?}") };
    assert_eq!(row.method, MethodId::of(PAY));
    row.clone()
}

fn versions(row: &MethodRow) -> (u16, Vec<u16>) {
    (row.ceiling, row.versions.iter().map(|known| known.version).collect())
}

/// CA-5: a version that is retired while a call in it is in the air costs nothing. Shown over
/// TCP: the change is made when the request is on its way, and the call ends in version 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca_5_a_version_retired_while_a_call_is_in_the_air() {
    let server = tcp(Server::new().method(pay(1)).method(pay(2))).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let stub = pay_stub(&[2, 1]);

    let mut ended_in = [0, 0];
    for round in 0..50 {
        let calls: Vec<_> = (0..8).map(|n| tokio::spawn(channel.call(stub, n))).collect();
        for _ in 0..round % 5 {
            tokio::task::yield_now().await;
        }
        server.dispatch.retire(PAY, 2).unwrap().await;
        for (n, call) in (0..).zip(calls) {
            let (version, echoed) = call.await.unwrap().unwrap();
            assert_eq!(echoed, n);
            ended_in[usize::try_from(version - 1).unwrap()] += 1;
        }
        server.dispatch.install(pay(2)).unwrap();
    }

    assert_eq!(ended_in[0] + ended_in[1], 400);
    assert!(ended_in[0] > 0, "the race was never lost: {ended_in:?}");
}

/// Handlers are installed, replaced, retired and capped under load without a failed call. Shown
/// by 64 callers of three versions and a task that changes everything 200 times meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_handlers_change() {
    let slow = |version| {
        Method::infallible(PAY, version, |cx: Cx, n: u64| async move {
            if n.is_multiple_of(3) {
                tokio::task::yield_now().await;
            }
            Answer::Ok((u64::from(cx.version()), n))
        })
    };
    let server = tcp(Server::new().method(slow(1)).method(slow(2)).method(slow(3))).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let stub = pay_stub(&[3, 2, 1]);
    let stop = Arc::new(AtomicBool::new(false));

    let mut callers = JoinSet::new();
    for task in 0..64_u64 {
        let (channel, stop) = (channel.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            let mut calls = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                let n = task * 1_000_000 + calls;
                let (version, echoed) = channel.call(stub, n).await.unwrap();
                assert_eq!(echoed, n);
                assert!((1..=3).contains(&version));
                calls += 1;
            }
            calls
        });
    }
    let dispatch = &server.dispatch;
    for round in 0..200 {
        // One change at a time, each with all callers' next call behind it: a call is mended
        // once (CA-5), two changes within one call's flight may be one too many.
        match round % 4 {
            0 => dispatch.retire(PAY, 3).unwrap().await,
            1 => dispatch.install(slow(3)).unwrap(),
            2 => dispatch.replace(slow(1)).unwrap().await,
            _ => {
                dispatch.set_ceiling(PAY, Some(2)).unwrap();
                assert!(channel.call(stub, 1).await.unwrap().0 <= 2);
                dispatch.set_ceiling(PAY, None).unwrap();
            }
        }
        for n in 0..4 {
            channel.call(stub, n).await.unwrap();
        }
    }
    stop.store(true, Ordering::SeqCst);

    let calls: u64 = callers.join_all().await.into_iter().sum();
    let all: u64 = dispatch.stats().iter().map(|stats| stats.ok).sum();
    assert_eq!(all, calls + 200 * 4 + 50);
    assert!(dispatch.stats().iter().all(|stats| stats.failed + stats.in_flight == 0));
}

/// A retirement ends when the old handler has ended its last call, not before; the new one
/// serves meanwhile, and its connection stays open. Shown by a gate in the old one.
#[tokio::test]
async fn a_retirement_ends_after_the_old_handlers_last_call() {
    let gate = Gate::default();
    let (channel, dispatch, _server) = mem(Server::new().method(gate.method(PAY)));
    let stub: Plain<u64, u64> = plain(PAY);
    let old = tokio::spawn(channel.call(stub, 1));
    gate.entered.reach(1).await;

    let new = Method::infallible(PAY, 1, |_cx: Cx, n: u64| async move { Answer::Ok(n + 100) });
    let retirement = dispatch.replace(new).unwrap();
    assert_eq!(channel.call(stub, 1).await, Ok(101));
    settle().await;
    assert!(!retirement.is_drained(), "a call of the old handler is in flight");
    gate.open.notify_one();

    retirement.await;
    assert_eq!(old.await.unwrap(), Ok(1));
    let stats = stats(&dispatch, 1);
    assert_eq!((stats.started, stats.ok, stats.in_flight), (2, 2, 0), "counters go on");
}

/// A handler is gone as soon as it is replaced and idle, though connections that were open
/// before stay open and silent. Shown by a value that it owns.
#[tokio::test]
async fn an_idle_connection_keeps_no_old_handler_alive() {
    let owned = Arc::new(());
    let held = Arc::clone(&owned);
    let old = Method::infallible(PAY, 1, move |_cx: Cx, n: u64| {
        let _held = Arc::clone(&held);
        async move { Answer::Ok(n) }
    });
    let (channel, dispatch, _server) = mem(Server::new().method(old));
    let stub: Plain<u64, u64> = plain(PAY);
    assert_eq!(channel.call(stub, 1).await, Ok(1));

    let new = Method::infallible(PAY, 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) });
    let retirement = dispatch.replace(new).unwrap();

    assert!(retirement.is_drained());
    retirement.await;
    assert_eq!(Arc::strong_count(&owned), 1);
}

/// The counters show when a version is no longer called, and whether it may be. Shown by two
/// versions of which one is retired.
#[tokio::test]
async fn counters_show_what_is_still_called() {
    let (channel, dispatch, _server) = mem(Server::new().method(pay(1)).method(pay(2)));
    for _ in 0..3 {
        channel.call(pay_stub(&[1]), 1).await.unwrap();
    }
    let before = stats(&dispatch, 1);
    channel.call(pay_stub(&[2, 1]), 1).await.unwrap();

    assert_eq!(stats(&dispatch, 1), before, "version 1 was not called any more");
    assert_eq!((before.started, before.callable), (3, true));
    dispatch.retire(PAY, 1).unwrap().await;
    let after = stats(&dispatch, 1);
    assert_eq!((after.started, after.callable), (3, false), "its counts are kept");
    let result = channel.call(pay_stub(&[1]), 1).await;
    assert_status(result, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed);
}

/// RT-2: two handlers of one version, two names with one id, bad names and versions are refused
/// at the start and while serving, and the table stays as it was. Shown by each.
#[tokio::test]
async fn rt_2_what_cannot_stand_together_is_refused() {
    let method = |name: &str, version| {
        Method::infallible(name, version, |_cx: Cx, n: u64| async move { Answer::Ok(n) })
    };
    let router = Router::new().method(pay(1)).method(pay(1));
    let error = router.into_dispatch().unwrap_err();
    assert!(matches!(&error, RouteError::Duplicate { version: 1, .. }), "{error}");
    assert_eq!(error.to_string(), "it.Bank/pay version 1 is registered twice");
    let collision = method("it.Other/other", 1).id(MethodId::of(PAY));
    let bound = Server::new().method(pay(1)).method(collision.clone()).bind("tcp://127.0.0.1:0");
    let error = bound.await.unwrap_err();
    let ErrorKind::Route(RouteError::IdCollision { name, other, id }) = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((name.as_str(), other.as_str(), *id), ("it.Other/other", PAY, MethodId::of(PAY)));

    let (channel, dispatch, _server) = mem(Server::new().method(pay(1)));
    assert!(matches!(dispatch.install(pay(1)), Err(RouteError::Duplicate { .. })));
    assert!(matches!(dispatch.install(collision), Err(RouteError::IdCollision { .. })));
    for name in ["", "pay", "a/", "/b", "a/b/c", "a b/c", &format!("a/{}", "x".repeat(127))] {
        let error = dispatch.install(method(name, 1)).unwrap_err();
        assert!(matches!(error, RouteError::BadName { .. }), "{name}: {error}");
    }
    for version in [0, u16::MAX] {
        let error = dispatch.install(method("it.Good/good", version)).unwrap_err();
        assert!(matches!(error, RouteError::BadVersion { .. }), "{error}");
    }
    assert!(matches!(dispatch.replace(pay(7)), Err(RouteError::NotInstalled { .. })));
    assert!(matches!(dispatch.retire(PAY, 7), Err(RouteError::NotInstalled { .. })));
    assert_eq!(channel.call(pay_stub(&[1]), 4).await, Ok((1, 4)));
}

/// RT-1: a method may have an id of its own choice, on both sides. Shown by a call under it.
#[tokio::test]
async fn rt_1_an_id_may_be_chosen() {
    let id = MethodId(0xdead_beef);
    let (channel, _, _server) = mem(Server::new().method(echo().id(id)));
    let stub = Stub::infallible("it.Other/name", 1, switchback::service::Fingerprint::UNCHECKED);
    let stub: Plain<u64, u64> = leak(stub.id(id));

    assert_eq!(channel.call(stub, 5).await, Ok(5));
    let result = channel.call(echo_stub(), 5).await;
    assert_status(result, Code::UNKNOWN_METHOD, Disposition::NotProcessed);
}

/// Replacing a handler by one under another id moves the method: the old id is gone, and clients
/// read the change without a fault. Shown by calls under both ids on one connection.
#[tokio::test]
async fn a_replacement_may_have_another_id() {
    let mut config = ClientConfig::default();
    config.in_flight_calls_max = 4;
    let builder = Channel::builder().config(config);
    let (channel, dispatch, _server) =
        crate::support::mem_with(Server::new().method(echo()), builder);
    assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));

    let id = MethodId(77);
    dispatch.replace(echo().id(id)).unwrap().await;
    settle().await;

    let stub = Stub::infallible("it.Echo/echo", 1, switchback::service::Fingerprint::UNCHECKED);
    assert_eq!(channel.call(leak(stub.id(id)), 2_u64).await, Ok(2_u64));
    let result = channel.call(echo_stub(), 3).await;
    assert_status(result, Code::UNKNOWN_METHOD, Disposition::NotProcessed);
}

/// RT-5, RT-4: a client takes updates that hash and closes with TABLE on one that does not.
/// Shown by a server of bytes that tells a true change and then a false one.
#[tokio::test]
async fn rt_5_an_update_that_does_not_hash_closes() {
    let (channel, mut raw) = crate::support::raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(pay_stub(&[2, 1]), 1));
    let before = crate::raw::table(&[(PAY, &[1, 2])]);
    raw.greet_client(&before, 8, 65_536).await;
    let (id, version, _) = raw.request().await;
    assert_eq!(version, 2);
    raw.answer_ok(id, &[2, 1]).await;
    assert_eq!(call.await.unwrap(), Ok((2, 1)));

    let mut after = crate::raw::table(&[(PAY, &[1])]);
    raw.table(Kind::TABLE_UPDATE, &after).await;
    settle().await;
    let call = tokio::spawn(channel.call(pay_stub(&[2, 1]), 2));
    let (id, version, _) = raw.request().await;
    assert_eq!(version, 1, "the change was taken");
    raw.answer_ok(id, &[1, 2]).await;
    assert_eq!(call.await.unwrap(), Ok((1, 2)));
    after.hash ^= 1;
    raw.table(Kind::TABLE_UPDATE, &after).await;

    let (reason, last_call, _) = raw.close().await;
    assert_eq!((reason, last_call), (switchback::wire::CloseReason::TABLE, 0));
}

/// All versions of a method have one number: another one is refused, at the start and later.
#[tokio::test]
async fn a_method_has_one_id_in_all_its_versions() {
    let other = MethodId(78);
    let two = Router::new().method(echo_in(1)).method(echo_in(2).id(other)).into_dispatch();
    let (name, id) = ("it.Echo/echo".to_owned(), MethodId::of("it.Echo/echo"));
    let refused = RouteError::TwoIds { name, id: other, other: id };
    assert_eq!(two.unwrap_err(), refused);

    let dispatch = Router::new().method(echo_in(1)).into_dispatch().unwrap();
    assert_eq!(dispatch.install(echo_in(2).id(other)).unwrap_err(), refused);
    dispatch.install(echo_in(2)).unwrap();
}

fn echo_in(version: u16) -> Method {
    Method::infallible("it.Echo/echo", version, |_cx: Cx, n: u64| async move { Answer::Ok(n) })
}
