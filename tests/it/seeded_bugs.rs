//! The ledger checker on trial: bugs seeded in the product, each of which it must catch.
//!
//! Compiled under `--cfg seeded_bugs` only. A seeded bug is seeded in the whole process: run this
//! test alone, by its name.

use switchback::util::bugs::{Bug, seed};

use crate::ledger::Invariant;
use crate::ledgered::{Trial, run};

/// Every seeded bug breaks an invariant that it must break, within a few workloads; before and
/// after, without one, the same workload is clean.
#[test]
fn each_is_caught() {
    assert_clean(1);
    let bugs = Bug::ALL.into_iter().filter(|bug| !expected(*bug).is_empty());
    let escaped: Vec<Bug> = bugs.filter(|bug| !is_caught(*bug)).collect();
    assert_eq!(escaped, [], "not caught in {SEEDS_MAX} workloads each");
    assert_clean(2);
}

/// Runs workloads until the checker names the bug; says how it came to that.
fn is_caught(bug: Bug) -> bool {
    let mut calls = 0;
    for number in 1..=SEEDS_MAX {
        seed(Some(bug));
        let Trial { verdict, faults, .. } = run(number);
        seed(None);
        calls += verdict.calls;
        let mut found = verdict.violations.iter();
        if let Some(violation) = found.find(|found| expected(bug).contains(&found.invariant)) {
            let broken: Vec<String> =
                verdict.broken.iter().map(|(what, n)| format!("{} {n}x", what.as_str())).collect();
            let (broken, faults) = (broken.join(", "), faults.len());
            eprintln!(
                "{bug:?}: caught by {} after {number} seeds, {calls} calls ({broken}; \
                 {faults} connections ended oddly)\n  {violation}",
                violation.invariant.as_str()
            );
            return true;
        }
        let faults = faults.len();
        eprintln!("{bug:?}: not seen with seed {number}, {faults} odd ends\n{verdict}");
    }
    false
}

/// The invariants that a bug breaks. Answers that go astray are another call's (L10), or fit no
/// execution of this one (L2).
const fn expected(bug: Bug) -> &'static [Invariant] {
    match bug {
        Bug::StartTwice => &[Invariant::L3],
        Bug::LateAnswer | Bug::StaleReply => &[Invariant::L10, Invariant::L2],
        Bug::SweepForgets => &[Invariant::L1],
        Bug::LateStart => &[Invariant::L7],
        Bug::RefusedRuns | Bug::NotSentLie | Bug::BodyLies => &[Invariant::L4],
        Bug::RetryUnknown => &[Invariant::L3],
        // They take faults that only the simulation has.
        Bug::GoawayLoses
        | Bug::GoawayLies
        | Bug::DeafKeepalive
        | Bug::BudgetForgets
        | Bug::RoomLeaks
        | Bug::CrashLeaks
        | Bug::NestOverstays
        | Bug::NestRetries
        | Bug::NestLies
        | Bug::CreditForgets
        | Bug::PieceLeaks
        | Bug::CutLoses => &[],
    }
}

fn assert_clean(number: u64) {
    let Trial { verdict, faults, .. } = run(number);
    assert!(verdict.is_clean(), "no bug is seeded, seed {number}:\n{verdict}");
    assert_eq!(faults, [] as [String; 0], "no bug is seeded, seed {number}");
}

const SEEDS_MAX: u64 = 40;
