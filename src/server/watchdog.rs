//! The watchdog of a server that serves: it notices handlers that hold threads of the runtime, and
//! sees to it that the others go on.
//!
//! ```text
//!   rests --a turn begins--> looks every 20 ms --no turn for 1 s--> rests
//!                                 |
//!                 a handler is in there since 20 ms: counts, spawns a task that does nothing
//! ```
//!
//! Why a task that does nothing: of tokio's workers one waits for the system, for all of them. When
//! it wakes for a single event it runs what that has woken itself and tells nobody; if that blocks,
//! nobody waits for the system until it returns, and every connection of the process stands still,
//! with idle workers beside it. A task from outside wakes one of these; when it has run it, it
//! finds that nobody waits for the system, and does. Not to be helped so: who holds the last
//! worker, and tasks that wait in the slot of the worker that is held for what it wakes last.
//!
//! Invariants: a thread of its own, started and ended by the server that serves, which never waits
//! for it; at most one of its tasks is on its way; it holds no lock when it logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::driver::{Runtime, SLOTS, ServerTotals, is_inside};
use crate::service::Dispatch;
use crate::util::LogLimit;
use crate::wire::MethodId;

/// Watches until it is dropped.
pub(crate) struct Watchdog {
    is_over: Arc<AtomicBool>,
    thread: Option<Thread>,
}

struct Watch<N> {
    is_over: Arc<AtomicBool>,
    totals: Arc<ServerTotals>,
    /// A method's name. Holds no handler: this thread outlives the server by a moment.
    name_of: N,
    runtime: Runtime,
    sights: Sights,
    /// The task that was spawned last, and when. It holds the other reference until it has run.
    canary: Option<(Arc<()>, Instant)>,
    log: LogLimit,
    quiet_looks: u32,
}

/// What was seen of every thread.
struct Sights {
    turns: [u64; SLOTS],
    /// When each of them was seen first.
    since: [Instant; SLOTS],
    seen_at: Instant,
    /// For how long threads were held in all.
    held_in_all: Duration,
}

/// One look at all threads.
#[derive(Debug, Default, Eq, PartialEq)]
struct Look {
    /// Threads that are held.
    held: usize,
    /// Those of them that were not at the last look, with the method.
    new: Vec<MethodId>,
    /// Nobody is inside, and nobody was since the last look.
    is_quiet: bool,
}

impl Watchdog {
    /// Starts watching, where the runtime has threads.
    pub(crate) fn start(totals: Arc<ServerTotals>, dispatch: &Dispatch, runtime: &Runtime) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut watch = Watch {
            is_over: Arc::clone(&is_over),
            totals,
            name_of: dispatch.names(),
            runtime: runtime.clone(),
            sights: Sights::new(runtime.now()),
            canary: None,
            log: LogLimit::default(),
            quiet_looks: 0,
        };
        let work = Box::new(move || watch.run());
        Self { is_over, thread: runtime.spawn.spawn_thread("switchback-watch", work) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl<N: Fn(MethodId) -> Option<Arc<str>>> Watch<N> {
    fn run(&mut self) {
        let totals = Arc::clone(&self.totals);
        totals.turns.watch();
        while !self.is_over.load(Ordering::SeqCst) {
            self.look();
            // Nothing of the user's runs from the question to the park: it would take the unpark.
            if self.quiet_looks < QUIET_LOOKS_MAX {
                std::thread::park_timeout(LOOK_EVERY);
            } else if totals.turns.rest(&self.sights.turns) {
                if !self.is_over.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                totals.turns.end_rest();
            } else {
                self.quiet_looks = 0;
            }
        }
        totals.note_stalls(0, 0, self.sights.held_in_all, false);
    }

    fn look(&mut self) {
        let now = self.runtime.now();
        let Look { held, new, is_quiet } = self.sights.look(now, self.totals.turns.look());
        self.quiet_looks = if is_quiet { self.quiet_looks.saturating_add(1) } else { 0 };
        self.canary.take_if(|(task, _)| Arc::strong_count(task) == 1);
        if self.canary.is_none() && held > 0 {
            let task = Arc::new(());
            self.canary = Some((Arc::clone(&task), now));
            self.runtime.spawn.spawn(Box::pin(async move { drop(task) }));
        }
        let is_stalled = self.canary.as_ref().is_some_and(|(_, spawned_at)| {
            now.saturating_duration_since(*spawned_at) >= STALLED_AFTER
        });
        self.totals.note_stalls(held, new.len(), self.sights.held_in_all, is_stalled);
        for method in new {
            if let Some(unsaid) = self.log.admit(now) {
                let name = (self.name_of)(method);
                let method = name.as_deref().unwrap_or("a method that is not served any more");
                tracing::warn!(
                    method,
                    held,
                    is_stalled,
                    unsaid,
                    "a handler holds a thread of the runtime; `Run::Blocking` would not"
                );
            }
        }
    }
}

impl Sights {
    const fn new(now: Instant) -> Self {
        let (turns, since) = ([0; SLOTS], [now; SLOTS]);
        Self { turns, since, seen_at: now, held_in_all: Duration::ZERO }
    }

    fn look(&mut self, now: Instant, turns: impl Iterator<Item = (u64, MethodId)>) -> Look {
        let mut look = Look { is_quiet: true, ..Look::default() };
        let known = self.turns.iter_mut().zip(&mut self.since);
        for ((turn, method), (known, since)) in turns.zip(known) {
            look.is_quiet &= turn == *known && !is_inside(turn);
            if turn != *known {
                (*known, *since) = (turn, now);
                continue;
            }
            let held = now.saturating_duration_since(*since);
            if !is_inside(turn) || held < HELD_MIN {
                continue;
            }
            look.held += 1;
            let before = self.seen_at.saturating_duration_since(*since);
            if before < HELD_MIN {
                look.new.push(method);
                self.held_in_all += held;
            } else {
                self.held_in_all += held - before;
            }
        }
        self.seen_at = now;
        look
    }
}

/// Often enough that nobody waits for 100 ms: a handler is noticed after two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A handler that holds its thread for so long is a stall.
const HELD_MIN: Duration = Duration::from_millis(20);
/// A task that was not run for so long: nothing is served.
const STALLED_AFTER: Duration = Duration::from_millis(100);
/// A second without a turn.
const QUIET_LOOKS_MAX: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn looks(sights: &mut Sights, now: Instant, turns: &[u64]) -> (usize, usize, bool) {
        let turns = turns.iter().map(|turn| (*turn, MethodId(7)));
        let Look { held, new, is_quiet } = sights.look(now, turns);
        (held, new.len(), is_quiet)
    }

    /// A turn that is seen for 20 ms is a stall, counted once and for as long as it lasts; two
    /// turns that are seen one after the other are none. Shown on both sides of the 20 ms, and by
    /// the sum of two threads.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do to count from")]
    fn who_stays_is_held() {
        let start = Instant::now();
        let mut sights = Sights::new(start);
        assert_eq!(looks(&mut sights, start, &[3, 2]), (0, 0, false));
        assert_eq!(looks(&mut sights, start + MS * 19, &[3, 5]), (0, 0, false));
        assert_eq!(looks(&mut sights, start + MS * 20, &[3, 5]), (1, 1, false));
        assert_eq!(sights.held_in_all, MS * 20);
        assert_eq!(looks(&mut sights, start + MS * 40, &[3, 5]), (2, 1, false));
        assert_eq!(sights.held_in_all, MS * (40 + 21));
        assert_eq!(looks(&mut sights, start + MS * 60, &[4, 7]), (0, 0, false));
        assert_eq!(looks(&mut sights, start + MS * 80, &[4, 8]), (0, 0, false));
        assert_eq!(looks(&mut sights, start + MS * 100, &[4, 8]), (0, 0, true));
        assert_eq!(sights.held_in_all, MS * (40 + 21));
    }
}
