//! Storms: calls that come and are taken back leave no place behind, on either side.

use switchback::{Channel, ClientConfig, Cx, Method, Run, Server, ServerConfig};
use tokio::task::JoinSet;

use crate::support::{Answer, Gate, Plain, echo, echo_stub, mem_with, plain, settle, tcp};

fn narrow(calls_max: u32) -> (ServerConfig, ClientConfig) {
    let (mut server, mut client) = (ServerConfig::default(), ClientConfig::default());
    server.calls_max = calls_max;
    client.in_flight_calls_max = calls_max;
    server.conduct.cancel_window = u32::MAX; // Storms are what is tested here.
    (server, client)
}

/// A thousand cancelled calls leave nothing behind: afterwards as many calls run at once as the
/// server allows. Shown with four places, in every mode that can be stopped.
#[tokio::test]
async fn a_storm_of_cancellations_leaves_no_residue() {
    for run in [Run::Inline, Run::Spawn] {
        let gate = Gate::default();
        let (server, client) = narrow(4);
        let server = Server::new()
            .config(server)
            .method(gate.method("it.Gate/pass").run(run))
            .method(echo());
        let (channel, dispatch, _server) = mem_with(server, Channel::builder().config(client));
        let stub: Plain<u64, u64> = plain("it.Gate/pass");

        for round in 0..250_u64 {
            let calls: Vec<_> = (0..4).map(|n| tokio::spawn(channel.call(stub, n))).collect();
            for _ in 0..round % 7 {
                tokio::task::yield_now().await; // Cancelled at another stage in each round.
            }
            calls.iter().for_each(tokio::task::JoinHandle::abort);
            for call in calls {
                assert!(call.await.unwrap_err().is_cancelled());
            }
        }
        settle().await;
        let before = gate.entered.get();

        let calls: Vec<_> = (0..4).map(|n| tokio::spawn(channel.call(stub, n))).collect();
        gate.entered.reach(before + 4).await;
        for _ in 0..4 {
            gate.open.notify_one();
            settle().await;
        }
        for (n, call) in (0..).zip(calls) {
            assert_eq!(call.await.unwrap(), Ok(n));
        }
        let stats = dispatch.stats();
        let gated = stats.iter().find(|stats| &*stats.name == "it.Gate/pass").unwrap();
        assert_eq!((gated.ok, gated.in_flight), (4, 0), "{gated:?}");
        assert_eq!(gated.started, gated.cancelled + 4);
        assert_eq!(channel.call(echo_stub(), 1).await, Ok(1));
    }
}

/// The same over TCP on two threads, where cancellations race with answers. Shown by tasks that
/// abandon every second call while the others must be right, then by as many calls as fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellations_that_race_with_answers_leave_no_residue() {
    let (server, client) = narrow(8);
    let slow = Method::infallible("it.Slow/slow", 1, |_cx: Cx, n: u64| async move {
        for _ in 0..n % 4 {
            tokio::task::yield_now().await;
        }
        Answer::Ok(n)
    });
    let gate = Gate::default();
    let server = Server::new().config(server).method(slow).method(gate.method("it.Gate/pass"));
    let server = tcp(server).await;
    let channel = Channel::builder().config(client).connect(&server.url).await.unwrap();
    let stub: Plain<u64, u64> = plain("it.Slow/slow");

    let mut tasks = JoinSet::new();
    for task in 0..16_u64 {
        let channel = channel.clone();
        tasks.spawn(async move {
            for n in 0..200_u64 {
                let n = task * 1000 + n;
                let call = channel.call(stub, n);
                if n % 2 == 0 {
                    assert_eq!(call.await, Ok(n));
                    continue;
                }
                let mut call = Box::pin(call);
                let turns = n % 5;
                let mut turn = 0;
                std::future::poll_fn(|cx| {
                    turn += 1;
                    if call.as_mut().poll(cx).is_ready() || turn > turns {
                        return std::task::Poll::Ready(());
                    }
                    cx.waker().wake_by_ref();
                    std::task::Poll::Pending
                })
                .await;
            }
        });
    }
    tasks.join_all().await;

    let stub: Plain<u64, u64> = plain("it.Gate/pass");
    let calls: Vec<_> = (0..8).map(|n| tokio::spawn(channel.call(stub, n))).collect();
    gate.entered.reach(8).await;
    gate.open.notify_waiters();
    for (n, call) in (0..).zip(calls) {
        // A handler that had not reached its await missed the signal of all; this one is kept.
        gate.open.notify_one();
        assert_eq!(call.await.unwrap(), Ok(n));
    }
}
