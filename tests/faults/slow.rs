//! F6, F8: a client that takes its answers slowly, and a handler that holds its thread.

use std::time::Duration;

use switchback::Channel;
use tokio::task::JoinSet;

use crate::child::{Server, ServerSpec, role};
use crate::measure::{Times, alone, beside, now, run, say};
use crate::net::in_namespace;
use crate::role::{AT, Plain, block, block_inline, echo, hold};

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
    hold_a_thread(block());
}

/// F8: the same of a handler that does not say so and holds one of two workers.
#[test]
#[ignore = "a worker of tokio that blocks may be the one that waits for the system, and then \
            nobody else does until it ends: other connections stand still for as long"]
fn a_handler_that_holds_a_worker_costs_no_other_connection() {
    let _alone = alone();
    hold_a_thread(block_inline());
}

fn hold_a_thread(stub: Plain<u64, u64>) {
    let server: Server = ServerSpec::at("tcp://127.0.0.1:0").start();
    run(async {
        let bad = Channel::connect(&server.url).await.unwrap();
        let mut victims = Vec::new();
        for _ in 0..4 {
            victims.push(Channel::connect(&server.url).await.unwrap());
        }
        let blocked = tokio::spawn(bad.call(stub, 2000));
        let begun = now();
        let calling = victims.into_iter().map(|channel| {
            tokio::spawn(async move {
                let (stub, mut times) = (echo(), Vec::new());
                while now() - begun < S * 2 {
                    let asked = now();
                    assert_eq!(channel.call(stub, 1).await, Ok(1));
                    times.push(now() - asked);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                times
            })
        });
        let calling: Vec<_> = calling.collect();
        let mut times = Vec::new();
        for victim in calling {
            times.extend(victim.await.unwrap());
        }
        assert_eq!(blocked.await.unwrap(), Ok(2000));
        let times = Times::new(times);
        say(&format!("F8 calls beside {}: {times}", stub.name()));
        assert!(times.percentile(99) < Duration::from_millis(100), "{times}");
    });
}

const S: Duration = Duration::from_secs(1);
