//! A process under test with its victim, and what is measured around a row.

use std::cell::RefCell;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::process::{Figures, Process};
use crate::suite::{Before, Control, IDLE, harm, p99_max};
use crate::time::{now, pause};
use crate::unexpected::data::{Case, Held, Side, Suite, Then};
use crate::unexpected::hold::Against;
use crate::unexpected::table::Line;
use crate::unexpected::time_that_passes;
use crate::victim::{Harm, Victim};

/// A process under test, and who calls beside it.
pub(crate) struct Stand<'a> {
    suite: &'a Suite,
    side: Side,
    process: Process,
    /// Of a client the victim is inside of its process.
    victim: Option<Victim>,
    control: Control,
    idle: Harm,
    first: Figures,
    /// Runs conversations.
    runtime: Runtime,
}

/// How often a row is held.
#[derive(Debug)]
pub(crate) struct Plan {
    /// So often at least.
    times_min: usize,
    /// For so long at least, so that the victim makes calls enough.
    time_min: Duration,
    /// At the same time.
    width: usize,
}

/// A process under test after all of its rows.
#[derive(Debug)]
pub(crate) struct Stood {
    pub(crate) side: Side,
    pub(crate) idle: Harm,
    pub(crate) first: Figures,
    pub(crate) last: Figures,
}

impl Plan {
    /// Of rows that are over in a moment.
    pub(crate) fn quick(held: &Held) -> Self {
        // A door is a listener of its own.
        let times_min = if held.needs("drain") { TIMES_MIN / 4 } else { TIMES_MIN };
        Self { times_min, time_min: Duration::from_millis(150), width: 1 }
    }

    /// Of rows that wait.
    pub(crate) fn slow(held: &Held) -> Self {
        let width = if held.needs("drain") { 1 } else { 8 };
        let is_long = time_that_passes(held) > Duration::from_secs(5);
        let batches = if is_long || cfg!(debug_assertions) { 1 } else { 2 };
        Self { times_min: batches * width, time_min: Duration::ZERO, width }
    }
}

impl<'a> Stand<'a> {
    /// Starts everybody, and sees how long the victim waits when nothing happens.
    pub(crate) fn start(suite: &'a Suite, side: Side, period: Duration) -> Self {
        let control = Control::start(period);
        let role = match side {
            Side::Client => "table client",
            Side::Server => "table server",
        };
        let mut process = Process::start(role, None);
        let victim = match side {
            Side::Client => {
                process.ask(&format!("victim {} {}", control.address, period.as_millis()));
                None
            }
            Side::Server => {
                let victim = Victim::start(process.first.parse().unwrap(), period);
                Some(control.runtime.block_on(victim))
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (idle, first) = (Harm::default(), process.figures());
        let mut stand = Self { suite, side, process, victim, control, idle, first, runtime };
        pause(IDLE);
        stand.idle = stand.take();
        stand.first = stand.process.figures();
        stand
    }

    /// Holds a row as often as planned. `n` chooses the attacker's address: what waits in the
    /// system for the end of old connections does not add up on one.
    pub(crate) fn hold(&mut self, case: &Case, held: &Held, plan: &Plan, n: usize) -> Line {
        let ran = self.process.numbers("stats").get("ux_started").copied();
        let before = Before::new(&mut self.process);
        self.process.reset_peak();
        self.take();
        self.control.take();
        let (start, mut times, mut processed) = (now(), 0, 0);
        let (mut failure, mut quarter) = (None, None);
        let (harm, p99_max) = loop {
            let lasted = now() - start;
            if failure.is_some() || plan.is_done(times, lasted) {
                let (harm, elsewhere) = (self.look(), self.control.look());
                let stretch = self.process.figures().stretch_since(&before.figures);
                let p99_max = p99_max(&self.idle, &elsewhere, stretch);
                // One hiccup of a busy machine is more than a hundredth of so few calls.
                if failure.is_some() || harm.p99 <= p99_max || lasted >= LONG {
                    break (harm, p99_max);
                }
            }
            let process = RefCell::new(&mut self.process);
            let from = 3 + u8::try_from(n % 200).unwrap();
            let against = Against { suite: self.suite, side: self.side, process, from };
            match self.runtime.block_on(against.hold(held, plan.width)) {
                Ok(count) => processed += count,
                Err(seen) => failure = Some(seen),
            }
            times += plan.width;
            if quarter.is_none() && 4 * times >= plan.times_min {
                quarter = Some(before.settle(&mut self.process).figures.rss_kib);
            }
        };
        let has_failed = failure.is_some();
        let patience = if has_failed { Duration::ZERO } else { COUNTED };
        let counted = before.ends(&mut self.process, times as u64, patience);
        let after = before.settle(&mut self.process);
        let still = self.look(); // What was under way is part of it.
        let harm = Harm { errors: still.errors, first_error: still.first_error, ..harm };
        let ran = ran.map(|ran| self.process.numbers("stats")["ux_started"] - ran);
        let is_back = before.is_back(&after);
        let (was, is) = (before.figures, after.figures);
        Line {
            id: case.id.clone(),
            side: self.side,
            result: failure.unwrap_or_else(|| held.then.to_string()),
            counted,
            times,
            peak_kib: is.peak_kib.saturating_sub(was.rss_kib),
            growth_kib: is.rss_kib.cast_signed() - quarter.unwrap_or(is.rss_kib).cast_signed(),
            p99_max,
            harm,
            faults: Vec::new(),
        }
        .check(!has_failed, "not what the row says")
        .check(is_back, "descriptors, threads or tasks are not back")
        .check(self.process.is_alive(), "the process ended")
        .judge(plan.width, &held.then, (ran, processed))
    }

    /// What the process came to.
    pub(crate) fn finish(mut self) -> Stood {
        if let Some(victim) = &self.victim {
            victim.stop();
        }
        let errors = self.process.errors();
        assert!(self.process.is_alive() && !errors.contains("panicked"), "{errors}");
        let last = self.process.figures();
        Stood { side: self.side, idle: self.idle, first: self.first, last }
    }

    fn take(&mut self) -> Harm {
        match &self.victim {
            Some(victim) => victim.take(),
            None => harm(&mut self.process, "take"),
        }
    }

    fn look(&mut self) -> Harm {
        match &self.victim {
            Some(victim) => victim.look(),
            None => harm(&mut self.process, "look"),
        }
    }
}

impl Plan {
    fn is_done(&self, times: usize, lasted: Duration) -> bool {
        let is_enough = times >= self.times_min && lasted >= self.time_min;
        is_enough || times >= TIMES_MAX
    }
}

impl std::fmt::Display for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Close { close, .. } => write!(f, "CLOSE {close}"),
            Self::End { .. } => f.write_str("ends without a word"),
            Self::Open { .. } => f.write_str("stays open"),
        }
    }
}

/// A row that is over in a moment is held so often at least.
const TIMES_MIN: usize = if cfg!(debug_assertions) { 8 } else { 40 };
/// No row is held more often.
const TIMES_MAX: usize = 20_000;
/// A row is held for so long at most to see whether its victim waits: thousands of calls.
const LONG: Duration = Duration::from_secs(12);
/// How long an end may take to be counted.
const COUNTED: Duration = Duration::from_secs(5);
