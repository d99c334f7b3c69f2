//! Where handlers run: at once, as a task, on a thread that may block.

use std::sync::{Arc, Mutex, mpsc};

use switchback::{Channel, Cx, Method, Run, Server};

use crate::support::{Answer, Gate, Plain, echo, echo_stub, mem, plain, tcp};

/// Every mode answers. Shown by one method in each, the pending one with a turn in between.
#[tokio::test]
async fn every_mode_answers() {
    let pending = Method::infallible("it.Mode/pending", 1, |_cx: Cx, n: u64| async move {
        tokio::task::yield_now().await;
        Answer::Ok(n)
    });
    let mode = |name: &str, run| {
        Method::infallible(name, 1, |_cx: Cx, n: u64| async move { Answer::Ok(n) }).run(run)
    };
    let server = Server::new()
        .method(pending)
        .method(mode("it.Mode/inline", Run::Inline))
        .method(mode("it.Mode/spawn", Run::Spawn))
        .method(mode("it.Mode/blocking", Run::Blocking));
    let (channel, dispatch, _server) = mem(server);

    for name in ["it.Mode/pending", "it.Mode/inline", "it.Mode/spawn", "it.Mode/blocking"] {
        assert_eq!(channel.call(plain(name), 11_u64).await, Ok(11_u64), "{name}");
    }
    for stats in dispatch.stats() {
        assert_eq!((stats.started, stats.ok, stats.in_flight), (1, 1, 0), "{}", stats.name);
    }
}

/// A handler that waits does not hold up those behind it on the connection. Shown by a pending
/// inline call and a spawned one, with a call answered between their start and their end.
#[tokio::test]
async fn a_waiting_handler_holds_nobody_up() {
    for run in [Run::Inline, Run::Spawn] {
        let gate = Gate::default();
        let server = Server::new().method(gate.method("it.Gate/pass").run(run)).method(echo());
        let (channel, _, _server) = mem(server);

        let waiting = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 1));
        gate.entered.reach(1).await;
        assert_eq!(channel.call(echo_stub(), 2).await, Ok(2), "{run:?}");
        gate.open.notify_one();

        assert_eq!(waiting.await.unwrap(), Ok(1));
    }
}

/// A handler that blocks its thread does not hold up its connection, even where one thread runs
/// all tasks. Shown by a handler that waits on a channel of the standard library, which the test
/// feeds only after another call of the connection was answered.
#[tokio::test]
async fn a_blocking_handler_holds_nobody_up() {
    let (feed, fed) = mpsc::channel::<u64>();
    let fed = Arc::new(Mutex::new(fed));
    let block = Method::infallible("it.Block/block", 1, move |_cx: Cx, n: u64| {
        let fed = Arc::clone(&fed);
        async move { Answer::Ok(n + fed.lock().unwrap().recv().unwrap()) }
    });
    let server = Server::new().method(block.run(Run::Blocking)).method(echo());
    let (channel, _, _server) = mem(server);

    let blocked = tokio::spawn(channel.call(plain::<u64, u64>("it.Block/block"), 1));
    tokio::task::yield_now().await;
    for n in 0..20 {
        assert_eq!(channel.call(echo_stub(), n).await, Ok(n));
    }
    feed.send(41).unwrap();

    assert_eq!(blocked.await.unwrap(), Ok(42));
}

/// A blocking handler may wait for asynchronous things too: its thread sleeps until it is woken.
/// Shown by one that passes a gate.
#[tokio::test]
async fn a_blocking_handler_may_await() {
    let gate = Gate::default();
    let server = Server::new().method(gate.method("it.Gate/pass").run(Run::Blocking));
    let (channel, _, _server) = mem(server);

    let waiting = tokio::spawn(channel.call(plain::<u64, u64>("it.Gate/pass"), 5));
    gate.entered.reach(1).await;
    gate.open.notify_one();

    assert_eq!(waiting.await.unwrap(), Ok(5));
}

/// Inline handlers in one read are not limited by tokio's budget of 128 ready operations. Shown
/// by 400 calls that each take a permit of a semaphore, none of which may become a task: their
/// calls are counted as ended within the batch, so the answers come in order.
#[tokio::test]
async fn inline_handlers_have_no_false_pendings() {
    let semaphore = Arc::new(tokio::sync::Semaphore::new(10_000));
    let order = Arc::new(Mutex::new(Vec::new()));
    let (taken, seen) = (Arc::clone(&semaphore), Arc::clone(&order));
    let take = Method::infallible("it.Take/take", 1, move |_cx: Cx, n: u64| {
        let (taken, seen) = (Arc::clone(&taken), Arc::clone(&seen));
        async move {
            taken.acquire().await.unwrap().forget();
            seen.lock().unwrap().push(n);
            Answer::Ok(n)
        }
    });
    let server = tcp(Server::new().method(take)).await;
    let channel = Channel::connect(&server.url).await.unwrap();
    let stub: Plain<u64, u64> = plain("it.Take/take");

    let calls: Vec<_> = (0..400).map(|n| tokio::spawn(channel.call(stub, n))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Ok(n as u64));
    }

    let order = order.lock().unwrap();
    assert!(order.is_sorted(), "a call was put off: {order:?}");
    assert_eq!((order.len(), semaphore.available_permits()), (400, 9_600));
}
