//! The simulation on trial: bugs seeded in the product, each of which it must catch.
//!
//! Compiled under `--cfg seeded_bugs` only. A seeded bug is seeded in the whole process: run this
//! test alone, by its name.

use switchback::util::bugs::{Bug, seed};

use crate::ledger::Invariant;
use crate::seeds::run_until;
use crate::world::Report;

/// Every seeded bug breaks what it must break within 200 seeds; before and after, without one, the
/// same seeds are clean.
#[test]
fn each_is_caught() {
    assert_clean();
    let escaped: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !is_caught(*bug)).collect();
    assert_eq!(escaped, [], "not caught in {SEEDS_MAX} seeds each");
    assert_clean();
}

fn is_caught(bug: Bug) -> bool {
    seed(Some(bug));
    let total = run_until(first_seed(bug), SEEDS_MAX, |report| shows(report, bug));
    seed(None);
    let caught = total.failed.iter().filter(|report| shows(report, bug));
    let Some(first) = caught.min_by_key(|report| report.seed) else {
        eprintln!("{bug:?}: not seen\n{total}");
        return false;
    };
    let broken: Vec<String> =
        first.verdict.broken.iter().map(|(i, n)| format!("{i:?} {n}x")).collect();
    let (seed, broken, wrong) = (first.seed, broken.join(", "), &first.wrong[0]);
    eprintln!("{bug:?}: caught by seed {seed} ({broken})\n{wrong}");
    true
}

/// One takes a retry within a retry, which few seeds have where it shows.
const fn first_seed(bug: Bug) -> u64 {
    match bug {
        Bug::NestRetries => 401,
        _ => 1,
    }
}

fn shows(report: &Report, bug: Bug) -> bool {
    match expected(bug) {
        [] => report.wrong.iter().any(|wrong| wrong.contains(said(bug))),
        expected => report.verdict.broken.keys().any(|broken| expected.contains(broken)),
    }
}

/// The invariants that a bug breaks. Answers that go astray are another call's (L10), or fit no
/// execution of this one (L2).
const fn expected(bug: Bug) -> &'static [Invariant] {
    match bug {
        Bug::StartTwice => &[Invariant::L3],
        Bug::LateAnswer | Bug::StaleReply => &[Invariant::L10, Invariant::L2],
        Bug::SweepForgets => &[Invariant::L1],
        Bug::LateStart => &[Invariant::L7],
        Bug::RefusedRuns | Bug::NotSentLie => &[Invariant::L4],
        Bug::RetryUnknown => &[Invariant::L3],
        Bug::GoawayLoses => &[Invariant::L6],
        Bug::GoawayLies => &[Invariant::L3, Invariant::L4, Invariant::L5],
        Bug::BudgetForgets => &[Invariant::L5],
        Bug::RoomLeaks | Bug::CrashLeaks => &[Invariant::L9],
        Bug::NestOverstays => &[Invariant::L7],
        Bug::NestRetries => &[Invariant::L5],
        Bug::NestLies => &[Invariant::L4],
        Bug::BodyLies => &[Invariant::L4],
        // No call is the worse for it, but something else is.
        Bug::DeafKeepalive | Bug::CreditForgets | Bug::PieceLeaks | Bug::CutLoses => &[],
    }
}

/// What is said of a bug that breaks no invariant of the ledger.
const fn said(bug: Bug) -> &'static str {
    match bug {
        Bug::CreditForgets => "were not granted again",
        Bug::PieceLeaks => "at rest it holds ServerLoad { calls: 0,",
        Bug::CutLoses => "at rest has calls: ",
        _ => "does not recover",
    }
}

fn assert_clean() {
    let total = run_until(1, 20, |_| false);
    assert!(total.failed_count == 0, "no bug is seeded:\n{total}");
}

const SEEDS_MAX: u64 = 200;
