//! F12, F13: a server that is replaced at its port under load, and one that drains with a call that
//! does not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use switchback::{Channel, ClientConfig, Code, Disposition};

use crate::child::ServerSpec;
use crate::measure::{Times, alone, now, run, say};
use crate::role::{echo, hold};

const S: Duration = Duration::from_secs(1);

/// F12: a server drains, ends, and another one takes its port, five times, under 16 callers that
/// wait for a server: not a call fails.
#[test]
fn a_restart_at_the_same_port_costs_no_call() {
    let _alone = alone();
    let mut server = ServerSpec::at("tcp://127.0.0.1:0").start();
    let spec = ServerSpec::at(&server.url);
    run(async {
        let mut config = ClientConfig::default();
        config.wait_for_ready = true;
        let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), Vec::new());
        for client in 0..4 {
            let builder = Channel::builder().config(config.clone());
            let channel = builder.connect(&server.url).await.unwrap();
            for caller in 0..4_u64 {
                let (channel, stop) = (channel.clone(), Arc::clone(&stop));
                callers.push(tokio::spawn(async move {
                    let (echo, hold, mut times) = (echo(), hold(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let begun = now();
                        if caller == 0 {
                            assert_eq!(channel.call(hold, (30, 1)).await, Ok("x".to_owned()));
                        } else {
                            assert_eq!(channel.call(echo, client).await, Ok(client));
                        }
                        times.push(now() - begun);
                    }
                    times
                }));
            }
        }
        let mut gaps = Vec::new();
        for _ in 0..5 {
            tokio::time::sleep(S / 2).await;
            let begun = now();
            (server, gaps) = {
                let spec = spec.clone();
                tokio::task::spawn_blocking(move || {
                    server.drain();
                    let how = server.drained();
                    assert!(how.ends_with("connections"), "{how}");
                    gaps.push(now() - begun);
                    (spec.start(), gaps)
                })
                .await
                .unwrap()
            };
        }
        tokio::time::sleep(S).await;
        stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for caller in callers {
            times.extend(caller.await.unwrap());
        }
        let times = Times::new(times);
        say(&format!("F12 five restarts (each drained in {gaps:.1?}): 0 failed; calls: {times}"));
        assert!(times.max() < S * 3, "{times}");
    });
}

/// F13: of a hundred calls that run when a drain begins, one never ends: 99 are answered, it is cut
/// with DRAIN_TIMEOUT, MAYBE, and the server ends when its 3 s are over.
#[test]
fn a_stuck_call_does_not_hold_up_a_drain() {
    let _alone = alone();
    let mut server = ServerSpec::at("tcp://127.0.0.1:0").start();
    run(async {
        let channel = Channel::connect(&server.url).await.unwrap();
        let calls: Vec<_> = (0..100_u64)
            .map(|n| {
                let ms = if n == 50 { 60_000 } else { 300 + n * 5 };
                tokio::spawn(channel.call(hold(), (ms, n)).timeout(S * 60))
            })
            .collect();
        assert_eq!(channel.call(echo(), 1).await, Ok(1)); // All of them were read.
        let begun = now();
        let draining = tokio::task::spawn_blocking(move || {
            server.drain();
            server.drained()
        });
        let mut failed = Vec::new();
        for (n, call) in calls.into_iter().enumerate() {
            match call.await.unwrap() {
                Ok(answer) => assert_eq!(answer.len(), n),
                Err(error) => failed.push((n, now() - begun, error)),
            }
        }
        let how = draining.await.unwrap();
        let took = now() - begun;
        let [(50, cut, error)] = &failed[..] else { panic!("{failed:?}") };
        let status = error.status().unwrap();
        let source = std::error::Error::source(status).unwrap().to_string();
        say(&format!("F13 99 of 100 answered, one cut after {cut:.2?} ({source}); end {took:.2?}"));
        assert_eq!(
            (status.code(), status.disposition()),
            (Code::CONNECTION_LOST, Disposition::Maybe)
        );
        assert!(source.contains("DRAIN_TIMEOUT"), "{source}");
        assert!(how.contains("1 calls on 1 connections"), "{how}");
        assert!(S * 5 / 2 <= took && took <= S * 7 / 2, "{took:?}");
    });
}
