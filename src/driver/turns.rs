//! Which threads run handlers now: what a watchdog needs to know of those that do not come back.
//!
//! ```text
//!   thread of the runtime:  even --enter--> odd --leave--> even    its turn, in its slot
//!   watchdog:               the same odd number at two looks: it is in there since
//! ```
//!
//! Invariants: a slot holds the turn of the thread that wrote it last; no number is used twice, so
//! that whoever sees one twice has seen one turn. Two threads may share a slot when there are more
//! than `SLOTS`: then a turn that takes long may be missed, never one seen that is none.
//! Why per thread and not per connection: there are few threads, and whoever watches looks at all
//! of them. Why no time: a read of the clock for the end of every batch would cost more than all of
//! this, which is two stores.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;

use crate::wire::MethodId;

/// The turns of the threads that run handlers of one server.
#[derive(Debug)]
pub(crate) struct Turns {
    slots: [Slot; SLOTS],
    /// Whoever watches has stopped looking until the next turn.
    is_resting: AtomicBool,
    watcher: Mutex<Option<Thread>>,
}

/// A line of the cache of its own: threads that serve share nothing here.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    turn: AtomicU64,
    method: AtomicU32,
}

/// A thread runs handlers until this is dropped. Stays on its thread.
#[derive(Debug)]
pub(crate) struct Turn<'a>(Option<&'a Slot>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| Slot::default()),
            is_resting: AtomicBool::new(false),
            watcher: Mutex::default(),
        }
    }

    /// This thread runs a handler of `method` from now on. Inside another turn of the same thread,
    /// a handler that serves connections itself say, the outer one goes on instead.
    pub(crate) fn enter(&self, method: MethodId) -> Turn<'_> {
        let mut last = THREAD.get();
        if is_inside(last) {
            return Turn(None);
        }
        if last == 0 {
            last = first_turn();
        }
        let turn = last + 1;
        THREAD.set(turn);
        let slot = &self.slots[usize::try_from(turn >> NUMBER_SHIFT).unwrap_or(0) % SLOTS];
        slot.method.store(method.0, Ordering::Relaxed);
        // Sequentially consistent, as in `rest`: either this thread sees that the watcher rests, or
        // that one sees this turn.
        slot.turn.store(turn, Ordering::SeqCst);
        if self.is_resting.load(Ordering::SeqCst) {
            self.wake();
        }
        Turn(Some(slot))
    }

    /// The thread at hand is the one that watches.
    pub(crate) fn watch(&self) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
    }

    /// What every slot holds, and for which method.
    pub(crate) fn look(&self) -> impl Iterator<Item = (u64, MethodId)> {
        self.slots.iter().map(|slot| {
            let turn = slot.turn.load(Ordering::SeqCst);
            (turn, MethodId(slot.method.load(Ordering::Relaxed)))
        })
    }

    /// The watcher wants to rest until a turn begins. Says whether it may: whether nothing has
    /// happened since it saw `seen`.
    pub(crate) fn rest(&self, seen: &[u64; SLOTS]) -> bool {
        self.is_resting.store(true, Ordering::SeqCst);
        let is_same = self.look().zip(seen).all(|((turn, _), seen)| turn == *seen);
        if !is_same {
            self.end_rest();
        }
        is_same
    }

    pub(crate) fn end_rest(&self) {
        self.is_resting.store(false, Ordering::SeqCst);
    }

    #[cold]
    fn wake(&self) {
        if self.is_resting.swap(false, Ordering::SeqCst)
            && let Some(watcher) = &*self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
        {
            watcher.unpark();
        }
    }
}

impl Turn<'_> {
    /// It is a handler of another method now.
    pub(crate) fn set_method(&self, method: MethodId) {
        if let Some(slot) = self.0 {
            slot.method.store(method.0, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            let turn = THREAD.get() + 1;
            THREAD.set(turn);
            slot.turn.store(turn, Ordering::Release);
        }
    }
}

/// Whether a turn's number says that the thread is in there.
pub(crate) const fn is_inside(turn: u64) -> bool {
    turn % 2 == 1
}

/// An even number that no other thread has, nor comes to.
#[cold]
fn first_turn() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    let number = THREADS.fetch_add(1, Ordering::Relaxed) % (1 << (64 - NUMBER_SHIFT));
    (number << NUMBER_SHIFT) + 2
}

thread_local! {
    /// The number of this thread's last turn; 0 before the first.
    static THREAD: Cell<u64> = const { Cell::new(0) };
}

/// As many threads are told from each other: more than runtimes have workers.
pub(crate) const SLOTS: usize = 64;
/// Below are a thread's turns, 5 * 10^11 of them: at 10,000 a second more than a year. What comes
/// after is the next thread's number, and no harm.
const NUMBER_SHIFT: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(turns: &Turns) -> Vec<MethodId> {
        turns.look().filter(|(turn, _)| is_inside(*turn)).map(|(_, method)| method).collect()
    }

    /// A turn is seen while it lasts, with the method that it is at; no two have one number. Shown
    /// by two turns of this thread, and one of another beside it.
    #[test]
    fn a_turn_is_seen_while_it_lasts() {
        let turns = Turns::new();
        assert_eq!(inside(&turns), []);

        let turn = turns.enter(MethodId(1));
        let first: Vec<u64> = turns.look().map(|(turn, _)| turn).collect();
        turn.set_method(MethodId(2));
        assert_eq!(inside(&turns), [MethodId(2)]);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _turn = turns.enter(MethodId(3));
                let mut inside = inside(&turns);
                inside.sort_unstable();
                assert_eq!(inside, [MethodId(2), MethodId(3)]);
            });
        });
        drop(turn);
        assert_eq!(inside(&turns), []);

        let _turn = turns.enter(MethodId(1));
        assert!(turns.look().zip(first).all(|((now, _), then)| !is_inside(now) || now != then));
    }

    /// A turn inside a turn, of another server even, changes nothing. Shown by what both see.
    #[test]
    fn a_turn_inside_a_turn_goes_on() {
        let (outer, inner) = (Turns::new(), Turns::new());
        let turn = outer.enter(MethodId(1));
        drop(inner.enter(MethodId(2)));
        assert_eq!((inside(&outer), inside(&inner)), (vec![MethodId(1)], vec![]));
        drop(turn);
        assert_eq!(inside(&outer), []);
    }

    /// Who rests is woken by the next turn, and may not rest when there was one already.
    #[test]
    fn a_turn_ends_the_rest() {
        let turns = Turns::new();
        turns.watch();
        let mut seen = [0; SLOTS];
        assert!(turns.rest(&seen));
        drop(turns.enter(MethodId(1)));
        std::thread::park(); // Returns: it was unparked.
        assert!(!turns.rest(&seen), "a turn has been");
        for (seen, (turn, _)) in seen.iter_mut().zip(turns.look()) {
            *seen = turn;
        }
        assert!(turns.rest(&seen));
    }
}
