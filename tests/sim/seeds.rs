//! Runs many seeds, and tells which ones failed and how to see them again.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use crate::house::ORDERED;
use crate::ledger::Verdict;
use crate::tap::Figures;
use crate::world::{Report, Setting, run_with};

/// Runs what a seed has drawn; a panic in it is a failure of that seed.
pub(crate) fn run_caught(seed: u64, setting: &Setting, is_shown: bool) -> Report {
    hush();
    let run = || run_with(seed, setting, is_shown, |_| ());
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let wrong = vec![format!("panic: {}", text.unwrap_or_default())];
        Report { seed, wrong, ..Report::default() }
    })
}

/// What many seeds came to.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) seeds: u64,
    pub(crate) calls: u64,
    pub(crate) ok: u64,
    pub(crate) executions: u64,
    pub(crate) steps: u64,
    pub(crate) virtual_us: u64,
    /// Clients that were killed, calls that were open then, and those of them that had run.
    pub(crate) crashes: [u64; 3],
    /// Calls that handlers made, and how many statuses handlers passed on.
    pub(crate) nested: [u64; 2],
    /// Pieces, credits, pieces that came too late, answers that were cut short.
    pub(crate) pieces: [u64; 4],
    pub(crate) errors: std::collections::BTreeMap<String, u64>,
    /// The first of them.
    pub(crate) failed: Vec<Report>,
    pub(crate) failed_count: u64,
}

/// Runs seeds on all cores, until there are too many failures.
pub(crate) fn run_many(first: u64, count: u64) -> Total {
    run_until(first, count, |_| false)
}

/// Runs seeds on all cores, until one of them is what was looked for, or too many fail.
pub(crate) fn run_until(
    first: u64,
    count: u64,
    is_found: impl Fn(&Report) -> bool + Sync,
) -> Total {
    let is_over = AtomicBool::new(false);
    let at_work = Mutex::new(BTreeSet::new());
    let next = AtomicU64::new(0);
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| tell_of_the_slow(&is_over, &at_work));
        let mut workers = Vec::new();
        for _ in 0..threads {
            workers.push(scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count || is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = first.wrapping_add(at);
                    at_work.lock().unwrap().insert(seed);
                    let report = run_caught(seed, &Setting::draw(seed), false);
                    at_work.lock().unwrap().remove(&seed);
                    is_over.fetch_or(is_found(&report), Ordering::Relaxed);
                    let mut total = total.lock().unwrap();
                    total.add(report);
                    is_over.fetch_or(total.failed_count >= FAILURES_MAX, Ordering::Relaxed);
                }
            }));
        }
        for worker in workers {
            worker.join().expect("a seed's panic is caught");
        }
        is_over.store(true, Ordering::Relaxed);
        watch.thread().unpark();
    });
    total.into_inner().unwrap()
}

/// Says which seeds take very long: nobody else would, if one of them never ends.
fn tell_of_the_slow(is_over: &AtomicBool, at_work: &Mutex<BTreeSet<u64>>) {
    let mut before = BTreeSet::new();
    while !is_over.load(Ordering::Relaxed) {
        std::thread::park_timeout(SLOW);
        let now = at_work.lock().unwrap().clone();
        for seed in now.intersection(&before) {
            tell(&format!("SIM_SEED={seed} has been running for {SLOW:?} or longer"));
        }
        before = now;
    }
}

impl Total {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.calls += report.verdict.calls;
        self.ok += report.verdict.ok;
        self.executions += report.verdict.executions;
        self.steps += report.steps;
        self.virtual_us += report.virtual_us;
        let Verdict { crashed, open, open_ran, nested, .. } = report.verdict;
        for (total, one) in self.crashes.iter_mut().zip([crashed, open, open_ran]) {
            *total += one;
        }
        for (total, one) in self.nested.iter_mut().zip([nested, report.passed_on]) {
            *total += one;
        }
        let Figures { pieces, credits, strays, cuts } = report.figures;
        for (total, one) in self.pieces.iter_mut().zip([pieces, credits, strays, cuts]) {
            *total += one;
        }
        for (outcome, count) in &report.verdict.errors {
            *self.errors.entry(outcome.clone()).or_default() += count;
        }
        if !report.wrong.is_empty() {
            self.failed_count += 1;
            if self.failed.len() < FAILURES_KEPT {
                self.failed.push(report);
            }
        }
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seeds, calls, ok, executions, steps, virtual_us, .. } = self;
        let virtual_s = virtual_us / 1_000_000;
        writeln!(f, "{seeds} seeds, {calls} calls, {ok} ok, {executions} executions")?;
        writeln!(f, "{steps} polls in {virtual_s} s of virtual time; {:?}", self.errors)?;
        let ([crashed, open, ran], [nested, passed_on]) = (self.crashes, self.nested);
        write!(f, "{crashed} clients killed under {open} calls, {ran} of which ran; ")?;
        writeln!(f, "{nested} calls by handlers, {passed_on} statuses passed on")?;
        let [pieces, credits, strays, cuts] = self.pieces;
        write!(f, "{pieces} pieces, {credits} times credit, {strays} pieces of calls that had ")?;
        writeln!(f, "ended, {cuts} answers cut short")?;
        for Report { seed, wrong, .. } in self.failed.iter().take(FAILURES_SHOWN) {
            writeln!(f, "SIM_SEED={seed} cargo test --release --test sim seeds")?;
            for text in wrong {
                writeln!(f, "  {text}")?;
            }
        }
        writeln!(f, "{} failed", self.failed_count)
    }
}

/// Panics that were ordered are not worth a line each.
pub(crate) fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some(ORDERED) {
                before(info);
            }
        }));
    });
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The first seed: another one for each commit.
fn first_seed() -> u64 {
    let base = std::env::var("SIM_BASE").unwrap_or_default();
    let first = if base.is_empty() { 1 } else { switchback::util::fnv64(base.as_bytes()) >> 16 };
    tell(&format!("SIM_BASE={base:?}: the first seed is {first}"));
    first
}

/// Says something, whether the test fails or not.
fn tell(text: &str) {
    use std::io::Write as _;
    // Not `eprintln`, which is kept back where a test passes.
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

const SLOW: Duration = Duration::from_secs(30);
const FAILURES_MAX: u64 = 200;
const FAILURES_KEPT: usize = 200;
const FAILURES_SHOWN: usize = 5;
const SEEDS_DEFAULT: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever goes wrong outside, nothing is lost, doubled, mixed up, told wrong or left over,
    /// and everything converges when the faults are over.
    #[test]
    fn seeds() {
        if let Some(seed) = number("SIM_SEED") {
            let report = run_caught(seed, &Setting::draw(seed), true);
            tell(&format!("{report:#?}"));
            assert!(report.wrong.is_empty(), "{}", report.wrong.join("\n"));
            return;
        }
        let first = first_seed();
        let total = run_many(first, number("SIM_SEEDS").unwrap_or(SEEDS_DEFAULT));
        tell(&total.to_string());
        assert!(total.failed_count == 0, "{total}");
    }

    /// What was mended stays so.
    #[test]
    fn regressions() {
        let lines = include_str!("regressions.txt").lines();
        let lines = lines.filter(|line| !line.starts_with('#'));
        let seeds: Vec<_> = lines.filter_map(|line| line.split_once(' ')).collect();
        assert!(!seeds.is_empty(), "the list is read");
        for (word, why) in seeds {
            let number = word.trim_end_matches('-');
            let seed = number.parse().expect("a line begins with its seed");
            let is_plain = number.len() < word.len();
            let setting = if is_plain { Setting::plain(seed) } else { Setting::draw(seed) };
            let Report { wrong, .. } = run_caught(seed, &setting, false);
            assert!(wrong.is_empty(), "seed {seed}, {}:\n{}", why.trim(), wrong.join("\n"));
        }
    }

    /// Two runs of a seed are one and the same, event by event, whatever ran before on the same
    /// thread. Shown by runs in the opposite order, each on a thread of its own.
    #[test]
    fn same_seed_same_trace() {
        let trace = |seed| {
            let report = run_caught(seed, &Setting::draw(seed), false);
            assert!(report.events > 1000, "seed {seed}");
            (report.hash, report.events)
        };
        let first: Vec<_> = (1..=DOUBLED).map(|seed| (seed, trace(seed))).collect();

        for (seed, known) in first.into_iter().rev() {
            let again = std::thread::spawn(move || trace(seed)).join().unwrap();
            assert_eq!(again, known, "seed {seed}");
        }
    }

    /// Fewer where they run slowly; CI runs the release build too.
    const DOUBLED: u64 = if cfg!(debug_assertions) { 10 } else { 50 };
}
