//! A seeded executor with virtual time: one thread, no clock, no tokio.
//!
//! ```text
//! step: timers that are due wake their tasks -> one ready task is drawn and polled
//!       nothing is ready -> the clock jumps to the next timer
//! ```
//!
//! Tasks belong to a *process*, which may be killed: all its tasks are dropped at once, between
//! two polls, and what it spawns from then on is dropped too.
//!
//! Invariants: which task runs next, how long a poll takes and how late a timer comes are drawn
//! from the seed, and from nothing else; time stands still within a poll; a task is polled only
//! after it was woken, or for the first time.
//! Why polls may take time: with a clock that moves only when all is idle, no deadline could pass
//! between a request's arrival and its handler's start.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use switchback::driver::{Clock, Random as LibraryRandom, Runtime, Spawn};

use crate::random::Random;
use crate::trace::Trace;

/// The executor. Clones are handles to it.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Core>);

/// Whose task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(pub(crate) u64);

/// How tasks are scheduled; drawn per seed.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    order: Order,
    /// A poll takes up to so long.
    poll_us_max: u64,
    /// A timer is late by up to so much.
    late_us_max: u64,
    /// A blocking call waits for its thread up to so long.
    thread_us_max: u64,
    is_multi_thread: bool,
}

/// Which of the ready tasks is next.
#[derive(Clone, Copy, Debug)]
enum Order {
    Any,
    First,
    Last,
    /// Each task has a rank, the highest is next; ranks change now and then. What is starved for
    /// long by chance alone hardly ever is by a fair draw.
    Rank,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Polled,
    /// The clock went on.
    Waited,
    /// Nothing is ready, and no timer is set: nothing will ever happen.
    Stuck,
}

/// The simulation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    Deadlock,
    Livelock,
}

struct Core {
    state: Mutex<State>,
    ready: Arc<Ready>,
    now_us: AtomicU64,
    pace: Pace,
    trace: Arc<Trace>,
}

struct State {
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    timers: BTreeMap<TimerKey, Waker>,
    next_timer: u64,
    dead: Vec<ProcessId>,
    schedule: Random,
    /// The task that is polled now, so that killing it is seen.
    polled: Option<u64>,
    steps: u64,
    /// Since the clock last went on.
    steps_at_once: u64,
}

struct Task {
    process: ProcessId,
    /// Taken out while it is polled.
    future: Option<BoxFuture>,
    waker: Arc<TaskWaker>,
    rank: u64,
}

struct TaskWaker {
    id: u64,
    is_ready: AtomicBool,
    ready: Arc<Ready>,
}

/// Tasks to be polled, in the order in which they were woken.
#[derive(Default)]
struct Ready(Mutex<Vec<u64>>);

/// When, and which of those at the same time.
type TimerKey = (u64, u64);
type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One process's seams. Every connection, server and channel of the library holds some: who counts
/// them knows whether all are gone.
pub(crate) struct Seams {
    executor: Executor,
    process: ProcessId,
    random: Mutex<Random>,
}

impl Pace {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let order = random.pick(&[Order::Any, Order::Any, Order::First, Order::Last, Order::Rank]);
        let poll_us_max = random.pick(&[0, 0, 1, 5, 20]);
        let late_us_max = random.pick(&[0, 0, 1000]);
        let thread_us_max = random.pick(&[0, 100, 5000]);
        let is_multi_thread = random.flip();
        Self { order, poll_us_max, late_us_max, thread_us_max, is_multi_thread }
    }

    /// Nothing takes time, nothing comes late, first come first served.
    pub(crate) const fn plain() -> Self {
        let order = Order::First;
        let is_multi_thread = false;
        Self { order, poll_us_max: 0, late_us_max: 0, thread_us_max: 0, is_multi_thread }
    }

    /// Whether a poll takes no time, so that nothing is late for want of a turn.
    pub(crate) const fn is_instant(&self) -> bool {
        self.poll_us_max == 0
    }

    pub(crate) const fn late_us_max(&self) -> u64 {
        self.late_us_max
    }
}

impl Executor {
    pub(crate) fn new(seed: u64, pace: Pace, trace: Arc<Trace>) -> Self {
        let state = Mutex::new(State {
            tasks: BTreeMap::new(),
            next_task: 1,
            timers: BTreeMap::new(),
            next_timer: 1,
            dead: Vec::new(),
            schedule: Random::new(seed, "schedule"),
            polled: None,
            steps: 0,
            steps_at_once: 0,
        });
        let ready = Arc::new(Ready::default());
        Self(Arc::new(Core { state, ready, now_us: AtomicU64::new(0), pace, trace }))
    }

    /// The seams of a process, for the library.
    pub(crate) fn seams(&self, process: ProcessId, seed: u64) -> Arc<Seams> {
        let random = Mutex::new(Random::new(seed ^ process.0, "library"));
        Arc::new(Seams { executor: self.clone(), process, random })
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.0.now_us.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Instant {
        *BASE + Duration::from_micros(self.now_us())
    }

    pub(crate) fn steps(&self) -> u64 {
        self.lock().steps
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.0.pace
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Notes an event at the time it is.
    pub(crate) fn note(
        &self,
        what: &'static str,
        numbers: [u64; 3],
        text: impl FnOnce() -> String,
    ) {
        self.0.trace.note(self.now_us(), what, numbers, text);
    }

    /// Starts a task of a process.
    pub(crate) fn spawn(
        &self,
        process: ProcessId,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn_boxed(process, Box::pin(future));
    }

    fn spawn_boxed(&self, process: ProcessId, future: BoxFuture) {
        let mut state = self.lock();
        if state.dead.contains(&process) {
            drop(state);
            return; // The future goes with it.
        }
        let id = state.next_task;
        state.next_task += 1;
        let ready = Arc::clone(&self.0.ready);
        let waker = Arc::new(TaskWaker { id, is_ready: AtomicBool::new(false), ready });
        let rank = state.schedule.next();
        Arc::clone(&waker).wake();
        state.tasks.insert(id, Task { process, future: Some(future), waker, rank });
        drop(state);
        self.note("spawn", [id, process.0, 0], || format!("task {id} of process {}", process.0));
    }

    /// Ends at this time.
    pub(crate) fn sleep(&self, wait: Duration) -> Sleep {
        self.sleep_until(self.now() + wait)
    }

    pub(crate) fn sleep_us(&self, wait_us: u64) -> Sleep {
        self.sleep(Duration::from_micros(wait_us))
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep { executor: self.clone(), at_us: us_of(at), timer: None }
    }

    /// Wakes somebody at this time; not to be taken back.
    pub(crate) fn wake_at(&self, at_us: u64, waker: Waker) {
        let mut state = self.lock();
        let key = (at_us, state.next_timer);
        state.next_timer += 1;
        state.timers.insert(key, waker);
    }

    /// Drops every task of a process, in any order, and whatever it spawns from now on.
    pub(crate) fn kill(&self, process: ProcessId) {
        let mut state = self.lock();
        state.dead.push(process);
        let of_it = state.tasks.iter().filter(|(_, task)| task.process == process);
        let mut ids: Vec<u64> = of_it.map(|(id, _)| *id).collect();
        state.schedule.shuffle(&mut ids);
        let is_polled = state.polled.is_some_and(|id| ids.contains(&id));
        assert!(!is_polled, "a process does not kill itself");
        let tasks: Vec<Task> = ids.iter().filter_map(|id| state.tasks.remove(id)).collect();
        drop(state);
        let count = ids.len().try_into().unwrap();
        self.note("kill", [process.0, count, 0], || {
            format!("process {}, {count} tasks", process.0)
        });
        drop(tasks);
    }

    /// Tasks of a process that have not ended.
    pub(crate) fn tasks_of(&self, process: ProcessId) -> usize {
        self.lock().tasks.values().filter(|task| task.process == process).count()
    }

    /// Timers that are set.
    pub(crate) fn timers(&self) -> usize {
        self.lock().timers.len()
    }

    /// Lets one thing happen.
    pub(crate) fn step(&self) -> Step {
        self.fire();
        let Some(id) = self.choose() else {
            let mut state = self.lock();
            let Some((&(at_us, _), _)) = state.timers.first_key_value() else {
                return Step::Stuck;
            };
            state.steps_at_once = 0;
            self.0.now_us.fetch_max(at_us, Ordering::Relaxed);
            return Step::Waited;
        };
        self.poll(id);
        Step::Polled
    }

    /// Lets things happen until `is_done`, or until nothing can any more.
    pub(crate) fn run(&self, mut is_done: impl FnMut() -> bool) -> Result<(), Halt> {
        while !is_done() {
            if self.step() == Step::Stuck {
                return Err(Halt::Deadlock);
            }
            let state = self.lock();
            if state.steps_at_once > STEPS_AT_ONCE_MAX || state.steps > STEPS_MAX {
                return Err(Halt::Livelock);
            }
        }
        Ok(())
    }

    /// Wakes what is due.
    fn fire(&self) {
        loop {
            let mut state = self.lock();
            match state.timers.first_entry() {
                Some(first) if first.key().0 <= self.now_us() => {
                    let waker = first.remove();
                    drop(state);
                    waker.wake();
                }
                Some(_) | None => return,
            }
        }
    }

    /// The next task to be polled.
    fn choose(&self) -> Option<u64> {
        let mut ready = self.0.ready.0.lock().unwrap();
        if ready.is_empty() {
            return None;
        }
        let mut state = self.lock();
        let at = match self.0.pace.order {
            Order::First if state.schedule.percent(95) => 0,
            Order::Last if state.schedule.percent(95) => ready.len() - 1,
            Order::Any | Order::First | Order::Last => state.schedule.index(ready.len()),
            Order::Rank => {
                let rank = |id: &u64| state.tasks.get(id).map_or(u64::MAX, |task| task.rank);
                let ranks = ready.iter().map(rank).enumerate();
                ranks.max_by_key(|(_, rank)| *rank).map_or(0, |(at, _)| at)
            }
        };
        Some(ready.remove(at))
    }

    fn poll(&self, id: u64) {
        let mut state = self.lock();
        state.steps += 1;
        state.steps_at_once += 1;
        let rank = state.schedule.percent(2).then(|| state.schedule.next());
        let cost_us = state.schedule.between(0, self.0.pace.poll_us_max);
        let Some(task) = state.tasks.get_mut(&id) else { return }; // Killed since it was woken.
        task.rank = rank.unwrap_or(task.rank);
        let Some(mut future) = task.future.take() else { return };
        let (process, waker) = (task.process, Arc::clone(&task.waker));
        state.polled = Some(id);
        drop(state);
        if cost_us > 0 {
            self.0.now_us.fetch_add(cost_us, Ordering::Relaxed);
        }
        self.note("poll", [id, process.0, 0], || format!("task {id} of process {}", process.0));
        waker.is_ready.store(false, Ordering::Relaxed);
        let waker = Waker::from(waker);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.lock();
        state.polled = None;
        let ended = match polled {
            Poll::Ready(()) => state.tasks.remove(&id),
            Poll::Pending => {
                if let Some(task) = state.tasks.get_mut(&id) {
                    task.future = Some(future);
                    return;
                }
                None
            }
        };
        drop(state);
        drop(future);
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.0.lock().unwrap().push(self.id);
        }
    }
}

/// A wait on the virtual clock.
pub(crate) struct Sleep {
    executor: Executor,
    at_us: u64,
    timer: Option<TimerKey>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.executor.now_us() >= this.at_us {
            return Poll::Ready(());
        }
        let mut state = this.executor.lock();
        let key = this.timer.unwrap_or_else(|| {
            let key = (this.at_us, state.next_timer);
            state.next_timer += 1;
            key
        });
        this.timer = Some(key);
        let before = state.timers.insert(key, cx.waker().clone());
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let waker = self.executor.lock().timers.remove(&key);
            drop(waker);
        }
    }
}

impl Seams {
    /// As the library takes them.
    pub(crate) fn runtime(self: &Arc<Self>) -> Runtime {
        let (spawn, clock) = (Arc::<Self>::clone(self), Arc::<Self>::clone(self));
        Runtime { spawn, clock, random: Arc::<Self>::clone(self) }
    }

    pub(crate) const fn process(&self) -> ProcessId {
        self.process
    }

    fn below(&self, end: u64) -> u64 {
        self.random.lock().unwrap().below(end)
    }
}

impl Spawn for Seams {
    fn spawn(&self, task: BoxFuture) {
        self.executor.spawn_boxed(self.process, task);
    }

    /// A task that runs the function in one piece, when it has waited for its thread.
    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>) {
        let wait_us = self.below(self.executor.pace().thread_us_max + 1);
        let wait = self.executor.sleep_us(wait_us);
        self.executor.spawn(self.process, async move {
            wait.await;
            task();
        });
    }

    fn is_multi_thread(&self) -> bool {
        self.executor.pace().is_multi_thread
    }
}

impl Clock for Seams {
    fn now(&self) -> Instant {
        self.executor.now()
    }

    fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let late_us = self.below(self.executor.pace().late_us_max + 1);
        Box::pin(self.executor.sleep_until(at + Duration::from_micros(late_us)))
    }
}

impl LibraryRandom for Seams {
    fn next_u64(&self) -> u64 {
        self.random.lock().unwrap().next()
    }
}

/// Virtual time of an instant, rounded up: a timer never ends early.
pub(crate) fn us_of(at: Instant) -> u64 {
    let since = at.saturating_duration_since(*BASE).as_nanos().div_ceil(1000);
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// Where virtual time begins. Read once: an `Instant` has no other origin.
static BASE: LazyLock<Instant> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    Instant::now()
});
/// Polls without the clock going on: far more than all tasks of a simulation together need.
const STEPS_AT_ONCE_MAX: u64 = 2_000_000;
/// Polls of one simulation.
const STEPS_MAX: u64 = 50_000_000;
