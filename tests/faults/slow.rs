//! F6, F8: a client that takes its answers slowly, and a handler that holds its thread.

use std::time::{Duration, Instant};

use switchback::Channel;
use tokio::task::JoinSet;

use crate::child::{ServerSpec, role};
use crate::measure::{Times, alone, beside, now, run, say};
use crate::net::in_namespace;
use crate::role::{AT, Health, block, block_inline, echo, hold};

/// F6: a client behind a line of 2 Mbit/s asks for 400 answers, 25 MiB, and waits for the first 20.
/// The server holds little of it, its other clients notice nothing, and the slow one gets its
/// answers.
#[test]
fn a_slow_line_costs_nobody_else() {
    let _beside = beside();
    in_namespace("slow::a_slow_line_costs_nobody_else", |far| {
        let mut server = far.server().start();
        far.sh("tc qdisc add dev veth0 root tbf rate 2mbit burst 16kb latency 400ms");
        run(async {
            let builder = Channel::builder().insecure_plaintext();
            let channel = builder.connect(&server.url).await.unwrap();
            let before = server.resident_kib();
            let begun = now();
            let (mut calls, stub) = (JoinSet::new(), hold());
            for _ in 0..400 {
                calls.spawn(channel.call(stub, (1, 65_536)).timeout(S * 90));
            }
            let probing = tokio::task::spawn_blocking({
                // From the server's own namespace: what goes to its own address passes no cable.
                let (within, url) = (far.server().within, server.url.clone());
                move || probe(&within, &url)
            });
            let p99 = probing.await.unwrap();
            let held = server.resident_kib() - before;
            let mut answered = 0;
            for _ in 0..20 {
                answered += calls.join_next().await.unwrap().unwrap().unwrap().len();
            }
            calls.abort_all();
            let took = now() - begun;
            say(&format!(
                "F6 2 Mbit/s: {answered} bytes after {took:.1?}, the server held {held} KiB more, \
                 another client's p99 {p99:.1?}"
            ));
            assert_eq!(answered, 20 * 65_536);
            assert!(held < 30 * 1024, "{held} KiB");
            assert!(p99 < Duration::from_millis(100), "{p99:?}");
        });
        server.kill();
    });
}

/// How long calls from another process take, at the 99th percentile.
fn probe(within: &[String], url: &str) -> Duration {
    let output = role(within, "role::probe").env(AT, url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("P99_US ").unwrap_or_else(|| panic!("{text}"));
    Duration::from_micros(rest.split_whitespace().next().unwrap().parse().unwrap())
}

/// F8: a handler that says that it blocks holds a thread for 2 s. On other connections 99 of 100
/// calls take less than 100 ms.
#[test]
fn a_blocking_handler_costs_no_other_connection() {
    let _alone = alone();
    let server = ServerSpec::at("tcp://127.0.0.1:0").start();
    run(async {
        let bad = Channel::connect(&server.url).await.unwrap();
        let victims = connect(&server.url).await;
        let blocked = tokio::spawn(bad.call(block(), 2000));
        let times = Times::new(call_until(victims, now() + S * 2).await);
        assert_eq!(blocked.await.unwrap(), Ok(2000));
        say(&format!("F8 calls beside a handler of the blocking pool: {times}"));
        assert!(times.percentile(99) < S / 10, "{times}");
    });
}

/// F8: a handler that does not say so, and holds one of two workers: the one that waits for the
/// system, since the server was at rest when it was called. The same, for 5 s, and who connects
/// meanwhile is served; from outside the runtime the stall is seen and counted.
#[test]
fn a_handler_that_holds_a_worker_costs_no_other_connection() {
    let _alone = alone();
    let mut server = ServerSpec::at("tcp://127.0.0.1:0").start();
    let health = server.expect("HEALTH ");
    run(async {
        let bad = Channel::connect(&server.url).await.unwrap();
        let victims = connect(&server.url).await;
        let blocked = tokio::spawn(bad.call(block_inline(), 5000));
        until(&health, |health| health.blocked == 1).await;
        let began = now();
        let calling = tokio::spawn(call_until(victims, began + S * 4));
        let newcomer = Channel::connect(&server.url).await.unwrap();
        assert_eq!(newcomer.call(echo(), 2).await, Ok(2));
        let welcomed = now() - began;
        until(&health, |health| health.stalled_threads == 1).await;
        let times = Times::new(calling.await.unwrap());
        let during = Health::ask(&health);
        assert_eq!(blocked.await.unwrap(), Ok(5000));
        let after = until(&health, |health| health.stalled_threads == 0).await;
        say(&format!(
            "F8 calls beside a worker that is held for 5 s: {times}; a newcomer's first \
             {welcomed:.1?}; {} stall of {} ms",
            after.stalls, after.executor_stall_ms
        ));
        assert!(times.percentile(99) < S / 10, "{times}");
        assert!(welcomed < S / 2, "{welcomed:?}");
        assert!(during.blocked == 1 && !during.is_stalled, "{during:?}");
        assert_eq!(after.stalls, 1);
        assert!((4800..5500).contains(&after.executor_stall_ms), "{after:?}");
    });
}

/// F8: both workers are held. Nobody can be served, and a thread outside the runtime knows; when
/// they are free again all goes on.
#[test]
fn a_server_whose_workers_are_all_held_says_so() {
    let _alone = alone();
    let mut server = ServerSpec::at("tcp://127.0.0.1:0").start();
    let health = server.expect("HEALTH ");
    run(async {
        let victim = Channel::connect(&server.url).await.unwrap();
        let mut blocked = JoinSet::new();
        for count in 1..=2 {
            let bad = Channel::connect(&server.url).await.unwrap();
            blocked.spawn(async move { bad.call(block_inline(), 3000).await });
            until(&health, |health| health.blocked == count).await;
        }
        let began = now();
        until(&health, |health| health.is_stalled && health.stalled_threads == 2).await;
        say(&format!("F8 both workers held: known after {:.1?}", now() - began));
        let waiting = tokio::spawn(victim.call(echo(), 3));
        while let Some(ended) = blocked.join_next().await {
            assert_eq!(ended.unwrap(), Ok(3000));
        }
        assert_eq!(waiting.await.unwrap(), Ok(3));
        until(&health, |health| !health.is_stalled && health.stalled_threads == 0).await;
    });
}

async fn connect(url: &str) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(Channel::connect(url).await.unwrap());
    }
    channels
}

/// Calls on every channel, one call after the other, and says how long each took.
async fn call_until(channels: Vec<Channel>, end: Instant) -> Vec<Duration> {
    let mut calling = JoinSet::new();
    for channel in channels {
        calling.spawn(async move {
            let (stub, mut times) = (echo(), Vec::new());
            while now() < end {
                let asked = now();
                assert_eq!(channel.call(stub, 1).await, Ok(1));
                times.push(now() - asked);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times
        });
    }
    calling.join_all().await.concat()
}

/// Asks until it is so; the test's own time limits that.
async fn until(address: &str, is_so: impl Fn(&Health) -> bool) -> Health {
    loop {
        let health = Health::ask(address);
        if is_so(&health) {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const S: Duration = Duration::from_secs(1);
