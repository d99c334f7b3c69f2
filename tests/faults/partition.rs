//! F2, F21, F3: a network that drops in both directions or in one, and comes back; and one that
//! answers with RST.

use std::time::{Duration, Instant};

use switchback::{Channel, Code, Disposition};
use tokio::task::JoinHandle;

use crate::measure::{beside, now, run, say};
use crate::net::in_namespace;
use crate::role::{echo, hold, peer};

const S: Duration = Duration::from_secs(1);

/// A channel whose port is known, and a call that waits on it.
struct Victim {
    channel: Channel,
    port: String,
    /// When it heard of the server last.
    heard: Instant,
    call: JoinHandle<(Duration, Disposition, Code)>,
}

impl Victim {
    async fn new(url: &str) -> Self {
        let channel = Channel::builder().insecure_plaintext().connect(url).await.unwrap();
        let address = channel.call(peer(), ()).await.unwrap();
        let (_, port) = address.rsplit_once(':').unwrap();
        let port = port.to_owned();
        let waiting = channel.call(hold(), (60_000, 1)).timeout(S * 60);
        let call = tokio::spawn(async move {
            let begun = now();
            let error = waiting.await.unwrap_err();
            let status = error.status().unwrap();
            (now() - begun, status.disposition(), status.code())
        });
        // Answered behind it, so the other one was read.
        assert_eq!(channel.call(echo(), 1).await, Ok(1));
        let heard = now();
        // The system's own ACK, which may come 40 ms later, is not what is to be tested.
        tokio::time::sleep(S / 5).await;
        Self { channel, port, heard, call }
    }
}

/// F2, F21: a connection on which nothing comes through, in both directions or in one of them, is
/// found within 10 s; a new call takes another connection once a PING went unanswered for a second,
/// and none of it disturbs a fourth client.
#[test]
fn a_dead_path_is_found_in_ten_seconds() {
    let _beside = beside();
    in_namespace("partition::a_dead_path_is_found_in_ten_seconds", |far| {
        let server = far.server().start();
        run(async {
            let mut victims = Vec::new();
            for _ in 0..3 {
                victims.push(Victim::new(&server.url).await);
            }
            let healthy = Victim::new(&server.url).await;
            let [both, inward, outward] = [0, 1, 2].map(|n: usize| victims[n].port.clone());
            let incoming = [&both, &inward].map(|port| format!("tcp sport {port} drop"));
            let outgoing = [&both, &outward].map(|port| format!("tcp dport {port} drop"));
            far.rules(&incoming, &outgoing);
            let broken = now();

            tokio::time::sleep(S * 7).await;
            let mut elsewhere = Vec::new();
            for victim in &victims {
                let begun = now();
                assert_eq!(victim.channel.call(echo(), 7).await, Ok(7));
                elsewhere.push(now() - begun);
                let address = victim.channel.call(peer(), ()).await.unwrap();
                assert!(!address.ends_with(&format!(":{}", victim.port)), "{address}");
            }
            assert!(elsewhere.iter().all(|took| *took < S), "{elsewhere:?}");
            for (victim, how) in victims.into_iter().zip(["both ways", "inward", "outward"]) {
                let (_, disposition, code) = victim.call.await.unwrap();
                let took = now() - broken;
                say(&format!("F2/F21 {how}: found after {took:.2?}, {code} {disposition:?}"));
                let silence = now() - victim.heard;
                assert!(silence >= S * 99 / 10 && took <= S * 11, "{how}: {took:?}, {silence:?}");
                assert_eq!((code, disposition), (Code::CONNECTION_LOST, Disposition::Maybe));
            }
            say(&format!("F2 new calls elsewhere, 7 s after: {elsewhere:.1?}"));
            assert_eq!(healthy.channel.call(echo(), 2).await, Ok(2));
            healthy.call.abort();
        });
    });
}

/// F2: when all comes through again, a call that waits is answered within a second.
#[test]
fn a_path_that_heals_is_used_within_a_second() {
    let _beside = beside();
    in_namespace("partition::a_path_that_heals_is_used_within_a_second", |far| {
        let server = far.server().start();
        run(async {
            let Victim { channel, call, .. } = Victim::new(&server.url).await;
            far.rules(&["drop".to_owned()], &["drop".to_owned()]);
            let broken = now();
            let (_, disposition, _) = call.await.unwrap();
            let found = now() - broken;
            assert!(found <= S * 11 && disposition == Disposition::Maybe, "{found:?}");
            let mut waits = Vec::new();
            for _ in 0..2 {
                let waiting = channel.call(echo(), 3).wait_for_ready(true).timeout(S * 60);
                let waiting = tokio::spawn(waiting);
                tokio::time::sleep(S * 7 / 2).await;
                assert!(!waiting.is_finished());

                far.rules(&[], &[]);
                let healed = now();
                assert_eq!(waiting.await.unwrap(), Ok(3));
                waits.push(now() - healed);
                // Once more, with a connection that has ended and not only fallen silent.
                let resets = format!("tcp dport {} reject with tcp reset", port_of(&server.url));
                tokio::time::sleep(S / 5).await;
                far.rules(&[resets], &[]);
                let lost = channel.call(echo(), 4).await.unwrap_err();
                assert_eq!(lost.status().unwrap().disposition(), Disposition::Maybe);
                far.rules(&["drop".to_owned()], &["drop".to_owned()]);
            }
            say(&format!("F2 found after {found:.2?}; answered after the healing: {waits:.2?}"));
            assert!(waits.iter().all(|wait| *wait <= S), "{waits:?}");
        });
    });
}

fn port_of(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1
}

/// F3: a path that answers with RST costs the calls that wait on it, at once; the next call makes a
/// new connection. Shown ten times.
#[test]
fn a_reset_is_seen_at_once() {
    let _beside = beside();
    in_namespace("partition::a_reset_is_seen_at_once", |far| {
        let server = far.server().start();
        run(async {
            let mut times = Vec::new();
            for _ in 0..10 {
                let Victim { channel, port, call, .. } = Victim::new(&server.url).await;
                far.rules(&[format!("tcp sport {port} reject with tcp reset")], &[]);
                let begun = now();
                let lost = channel.call(echo(), 1).await.unwrap_err();
                let (_, disposition, code) = call.await.unwrap();
                times.push(now() - begun);
                assert_eq!((code, disposition), (Code::CONNECTION_LOST, Disposition::Maybe));
                assert_eq!(lost.status().unwrap().disposition(), Disposition::Maybe);
                assert_eq!(channel.call(echo(), 2).await, Ok(2), "on a new connection");
                far.rules(&[], &[]);
            }
            let times = crate::measure::Times::new(times);
            say(&format!("F3 reject with tcp reset: both calls ended after {times}"));
            assert!(times.percentile(50) <= Duration::from_millis(10), "{times}");
        });
    });
}
