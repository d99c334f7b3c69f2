//! Small scenarios in which one thing goes wrong, at every place where it can.
//!
//! Why beside the seeds: a seed tries a few places of many scenarios; here no place is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::caller::Habits;
use crate::executor::Pace;
use crate::faults::{Fault, Mix};
use crate::link::Weather;
use crate::seeds::hush;
use crate::world::{Report, Setting, World, run_with};

/// A server is killed between any two polls of a scenario of 24 calls, and opened again: nothing
/// is lost, doubled or told wrong, and the clients recover. Once its system closes its
/// connections, once nobody does.
#[test]
fn a_server_is_killed_at_every_step() {
    let setting = scenario();
    let calm = checked("calm", run_with(SEED, &setting, false, |_| ()));
    assert_eq!(calm.verdict.calls, 24 + setting.clients, "its calls, and one each to recover");
    assert_eq!(calm.verdict.executions, calm.verdict.calls);
    let mut setting = setting;
    setting.mix = Mix::scripted(&[Fault::Kill]);
    let kill = |at: u64, is_host: bool| {
        let look = |world: &Arc<World>| {
            if world.executor.steps() == at && !world.is_healing() {
                world.kill(world.ports()[0], is_host, 3000);
            }
        };
        let report = run_with(SEED, &setting, false, look);
        checked(&format!("killed at step {at}, host {is_host}"), report)
    };
    let steps = AtomicU64::new(1);
    let unknown = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = steps.fetch_add(1, Ordering::Relaxed);
                    if at > calm.steps {
                        return;
                    }
                    for is_host in [false, true] {
                        let errors = kill(at, is_host).verdict.errors;
                        unknown.fetch_add(
                            errors.get("unknown").copied().unwrap_or(0),
                            Ordering::Relaxed,
                        );
                    }
                }
            });
        }
    });
    assert!(unknown.into_inner() > 10, "it was never killed while it served");
}

/// Calls are dropped after any number of polls, with few and with many wakers: nothing is left of
/// them, and the next calls on the same connection are answered.
#[test]
fn calls_are_dropped_at_every_poll() {
    let mut cancelled = 0;
    for polls in 0..=POLLS_MAX {
        for (is_restless, seed) in [(false, SEED), (true, SEED), (true, SEED + 1)] {
            let mut setting = scenario();
            setting.habits = Habits { polls: Some(polls), is_restless, ..Habits::patient() };
            let report = run_with(seed, &setting, false, |_| ());
            let report = checked(&format!("dropped after {polls} polls, {is_restless}"), report);
            let dropped = report.verdict.errors.get("cancelled").copied().unwrap_or(0);
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
    }
}

fn checked(what: &str, report: Report) -> Report {
    hush();
    assert!(report.wrong.is_empty(), "{what}:\n{}", report.wrong.join("\n"));
    report
}

const SEED: u64 = 5;
/// More than any call of the scenario takes.
const POLLS_MAX: u64 = 60;
