//! F1 in two tiers: a proxy and the server behind it are killed in turn, a hundred times, with
//! calls under way.
//!
//! ```text
//!   16 callers --> proxy, a child --> server, a child with a ledger
//! ```
//!
//! The proxy writes no ledger: it executes nothing. What its clients are told in its words, the
//! judge holds against what the servers did.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use switchback::util::splitmix64;

use crate::child::ServerSpec;
use crate::crash::{Crowd, Folder, RULES};
use crate::ledger::{self, Budget, Rules};
use crate::measure::{alone, run, say};

const KILLS: u64 = 100;
const SEED: u64 = 2;
const MS: Duration = Duration::from_millis(1);

/// CA-18: whoever dies, each call has one outcome and a true disposition (L1 to L4), nothing that
/// may not be repeated is, and clients retry within their budget (L5): a proxy adds no retries.
#[test]
fn a_proxy_and_its_server_may_be_killed_at_any_moment() {
    let _alone = alone();
    let folder = Folder::new();
    let crowd = run(kills(&folder.0));
    let verdict = ledger::check_with(&folder.files(), &TIERS).unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    let repeated = crowd.repeated();
    say(&format!(
        "F1 {KILLS} kills of a proxy and of its server: {repeated} calls repeated and answered; \
         {} calls, {:?}",
        verdict.calls, verdict.errors
    ));
    assert!(verdict.calls > KILLS * 5, "too few to mean something: {verdict}");
    assert!(repeated > 0, "{verdict}");
    for told in ["unknown", "refused"] {
        assert!(verdict.errors.contains_key(told), "{verdict}");
    }
}

async fn kills(folder: &Path) -> Arc<Crowd> {
    let mut behind = ServerSpec::at("tcp://127.0.0.1:0");
    behind.ledger = Some((folder.join("server-0"), 1));
    let first = behind.start();
    behind.at.clone_from(&first.url);
    let mut proxy = ServerSpec::proxy("tcp://127.0.0.1:0", &first.url);
    let second = proxy.start();
    proxy.at.clone_from(&second.url);
    let crowd = Crowd::of(&second.url, &folder.join("client")).await;
    let (mut alive, callers) = ([Some(first), Some(second)], crowd.start());
    for kill in 1..=KILLS {
        let pause = Duration::from_micros(splitmix64(SEED, kill) % 60_000);
        tokio::time::sleep(MS * 40 + pause).await;
        behind.ledger = Some((folder.join(format!("server-{kill}")), kill + 1));
        let (which, spec) = if kill % 2 == 0 { (1, &proxy) } else { (0, &behind) };
        let (mut killed, spec) = (alive[which].take().unwrap(), spec.clone());
        let killed = tokio::task::spawn_blocking(move || killed.kill());
        killed.await.unwrap();
        // Long enough, now and then, for an attempt to connect that finds nobody.
        tokio::time::sleep(Duration::from_micros(splitmix64(!SEED, kill) % 200_000)).await;
        let next = tokio::task::spawn_blocking(move || spec.start());
        alive[which] = Some(next.await.unwrap());
    }
    tokio::time::sleep(MS * 200).await;
    crowd.finish(callers).await;
    crowd
}

/// The default budget, as clients have it; a proxy has none to add.
const TIERS: Rules = Rules {
    budget: Some(Budget {
        attempts_max: 3,
        per_mille: 100,
        reserve: 10,
        window_us: 10_000_000,
        longest_us: 5_000_000,
        nested_max: 0, // Nothing is written of what handlers call.
    }),
    ..RULES
};
