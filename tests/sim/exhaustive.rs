//! Small scenarios in which one thing goes wrong, at every place where it can.
//!
//! Why beside the seeds: a seed tries a few places of many scenarios; here no place is left out.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::caller::{Habits, Patience};
use crate::executor::Pace;
use crate::faults::{Fault, Gone, Mix};
use crate::random::Random;
use crate::relay::{self, Relays};
use crate::seeds::hush;
use crate::weather::Weather;
use crate::world::{BACK, Report, Setting, World, run_with};

/// A server is killed between any two polls of a scenario of 24 calls, and opened again: nothing
/// is lost, doubled or told wrong, and the clients recover. Once its system closes its
/// connections, once nobody does.
#[test]
fn a_server_is_killed_at_every_step() {
    let setting = scenario();
    let calm = checked("calm", run_with(SEED, &setting, false, |_| ()));
    assert_eq!(calm.verdict.calls, 24 + setting.clients, "its calls, and one each to recover");
    assert_eq!(calm.verdict.executions, calm.verdict.calls);
    let setting = Setting { mix: Mix::scripted(&[Fault::Kill]), ..setting };
    let unknown = AtomicU64::new(0);
    at_every_step(calm.steps, |at| {
        for gone in [Gone::Closed, Gone::Silent] {
            let kill = |world: &Arc<World>| world.kill(world.ports()[0], gone, 3000);
            let report =
                checked(&format!("killed at step {at}, {gone:?}"), once(at, &setting, kill));
            unknown.fetch_add(count(&report, "unknown"), Ordering::Relaxed);
        }
    });
    assert!(unknown.into_inner() > 10, "it was never killed while it served");
}

/// A client is killed between any two polls, and another one makes the calls that were left:
/// nobody else's call is lost (P6: no fault is drawn that would excuse it), what ran for it is no
/// secret, and nothing is left of it anywhere. Its connections are closed, reset, or nobody is
/// told.
#[test]
fn a_client_is_killed_at_every_step() {
    let calm = checked("calm", run_with(SEED, &scenario(), false, |_| ()));
    let setting = Setting { mix: Mix::scripted(&[Fault::Crash]), ..scenario() };
    let (open, open_ran) = (AtomicU64::new(0), AtomicU64::new(0));
    at_every_step(calm.steps, |at| {
        for gone in [Gone::Closed, Gone::Reset, Gone::Silent] {
            let kill = |world: &Arc<World>| {
                let again = Some((3000, Random::new(SEED, "again")));
                if let Some(client) = world.clients().first() {
                    world.crash(client, gone, again);
                }
            };
            let report =
                checked(&format!("killed at step {at}, {gone:?}"), once(at, &setting, kill));
            open.fetch_add(report.verdict.open, Ordering::Relaxed);
            open_ran.fetch_add(report.verdict.open_ran, Ordering::Relaxed);
        }
    });
    let (open, open_ran) = (open.into_inner(), open_ran.into_inner());
    assert!(open_ran > 100 && open > open_ran, "{open} calls were open, {open_ran} had run");
}

/// Where handlers call on, a server of either tier is killed between any two polls: what is known
/// of the second tier never passes for what is known of the first.
#[test]
fn a_server_of_two_tiers_is_killed_at_every_step() {
    let relays = Relays { percent: 100, only: None };
    let habits = Habits { relays, ..Habits::patient() };
    let setting = Setting { habits, has_tiers: true, callers: 2, ..scenario() };
    let calm = checked("calm", run_with(SEED, &setting, false, |_| ()));
    let calls = 12 + setting.clients;
    assert_eq!((calm.verdict.calls, calm.verdict.nested), (2 * calls, calls));
    let setting = Setting { mix: Mix::scripted(&[Fault::Kill]), ..setting };
    let (passed_on, open) = (AtomicU64::new(0), AtomicU64::new(0));
    at_every_step(calm.steps, |at| {
        for port in [BACK, BACK - 1, BACK - 2] {
            let gone = if at.is_multiple_of(2) { Gone::Closed } else { Gone::Silent };
            let kill = |world: &Arc<World>| world.kill(port, gone, 3000);
            let what = format!("{port} killed at step {at}, {gone:?}");
            let report = checked(&what, once(at, &setting, kill));
            passed_on.fetch_add(report.passed_on, Ordering::Relaxed);
            open.fetch_add(report.verdict.open, Ordering::Relaxed);
        }
    });
    assert!(passed_on.into_inner() > 10, "no handler's call ever failed");
    assert!(open.into_inner() > 10, "no handler was ever killed under its call");
}

/// Calls are dropped at any time while their handlers wait for calls of their own, which would go
/// on for long: those are taken back too, and their handlers dropped. Shown by the time until all
/// is at rest.
#[test]
fn a_dropped_call_takes_nested_calls_along() {
    let (mut nested, mut dropped) = (0, 0);
    for after_us in (0..3000).step_by(25) {
        let relays = Relays { percent: 100, only: Some((relay::DROPPED, 20_000_000)) };
        let patience = Some(Patience::Us(after_us));
        let habits = Habits { relays, patience, ..Habits::patient() };
        let setting = Setting { habits, has_tiers: true, ..scenario() };
        let report = run_with(SEED, &setting, false, |_| ());
        let report = checked(&format!("dropped after {after_us} us"), report);
        assert_eq!(count(&report, "ok"), 0);
        let rest_us = report.virtual_us;
        assert!(rest_us < 400_000, "dropped after {after_us} us, at rest after {rest_us} us");
        nested += report.verdict.nested;
        dropped += report.verdict.dropped;
    }
    assert!(nested > 500 && dropped > nested, "{nested} nested calls, {dropped} handlers dropped");
}

/// Calls are dropped after any number of polls, with few and with many wakers: nothing is left of
/// them, and the next calls on the same connection are answered.
#[test]
fn calls_are_dropped_at_every_poll() {
    let mut cancelled = 0;
    for polls in 0..=POLLS_MAX {
        for (is_restless, seed) in [(false, SEED), (true, SEED), (true, SEED + 1)] {
            let mut setting = scenario();
            let patience = Some(Patience::Polls(polls));
            setting.habits = Habits { patience, is_restless, ..Habits::patient() };
            let report = run_with(seed, &setting, false, |_| ());
            let report = checked(&format!("dropped after {polls} polls, {is_restless}"), report);
            let dropped = count(&report, "cancelled");
            assert!(polls > 0 || dropped == 24, "not even one poll: {:?}", report.verdict);
            assert!(polls < POLLS_MAX || dropped == 0, "{POLLS_MAX} polls are enough");
            cancelled += dropped;
        }
    }
    assert!(cancelled > 24 * 4, "{cancelled} were dropped under way");
}

/// Two clients, four callers, 24 calls on one of the servers or both; no faults.
fn scenario() -> Setting {
    Setting {
        pace: Pace::plain(),
        weather: Weather::clear(),
        mix: Mix::scripted(&[]),
        habits: Habits::patient(),
        clients: 2,
        callers: 4,
        calls_each: 3,
        chaos_us: 40_000,
        has_tiers: false,
        has_windows: false,
    }
}

/// Runs a scenario in which one thing happens just before this step, unless faults are over.
fn once(at: u64, setting: &Setting, happen: impl Fn(&Arc<World>)) -> Report {
    let has_happened = Cell::new(false);
    run_with(SEED, setting, false, |world| {
        let is_now = world.executor.steps() == at && !world.is_healing();
        if is_now && !has_happened.replace(true) {
            happen(world);
        }
    })
}

/// Tries each step, on all cores.
fn at_every_step(steps: u64, check: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at > steps {
                        return;
                    }
                    check(at);
                }
            });
        }
    });
}

/// How many calls ended so.
fn count(report: &Report, outcome: &str) -> u64 {
    report.verdict.errors.get(outcome).copied().unwrap_or(0)
}

fn checked(what: &str, report: Report) -> Report {
    hush();
    assert!(report.wrong.is_empty(), "{what}:\n{}", report.wrong.join("\n"));
    report
}

const SEED: u64 = 5;
/// More than any call of the scenario takes.
const POLLS_MAX: u64 = 60;
