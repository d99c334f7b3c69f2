//! Where tasks run and what time it is: the seams by which a simulation drives the real driver.
//!
//! Invariant: nothing else in the crate spawns a task, reads a clock or sleeps; only the server's
//! watchdog, a thread that is started here, parks itself.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::util::splitmix64;

/// Starts tasks.
pub trait Spawn: Send + Sync {
    /// Starts a task. It ends by itself; the driver owns what makes it end.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
    /// Runs a function where it may block.
    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>);
    /// Starts a thread of its own, for what must go on when no task does. `None` where there is no
    /// such thing, as in a simulation, and when the system has none left.
    fn spawn_thread(&self, _name: &str, _work: Box<dyn FnOnce() + Send>) -> Option<Thread> {
        None
    }
    /// Whether other threads run tasks beside this one: then a flusher waits a turn for more.
    fn is_multi_thread(&self) -> bool;
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now; never goes back.
    fn now(&self) -> Instant;
    /// Ends at `at` or shortly after, never before.
    fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Draws random numbers, for jitter; not for secrets.
pub trait Random: Send + Sync {
    /// 64 bits, each value as likely as every other.
    fn next_u64(&self) -> u64;
}

/// The seams in one handle.
#[derive(Clone)]
pub struct Runtime {
    /// Starts tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random numbers.
    pub random: Arc<dyn Random>,
}

/// Tokio's tasks, tokio's clock, which tests may pause, and a seed from the system.
#[derive(Debug)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
    seed: u64,
    drawn: AtomicU64,
}

impl Runtime {
    /// The tokio runtime this is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn tokio() -> Self {
        let handle = tokio::runtime::Handle::current();
        // The standard library's own seed: one from the system per thread, another each time.
        let seed = RandomState::new().hash_one(0_u8);
        let drawn = AtomicU64::new(0);
        let runtime = Arc::new(TokioRuntime { handle, seed, drawn });
        let (spawn, clock) = (Arc::<TokioRuntime>::clone(&runtime), Arc::clone(&runtime));
        Self { spawn, clock, random: runtime }
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// So long from now. Every setting may say "for ever", which no clock can add up.
    pub(crate) fn after(&self, wait: Duration) -> Instant {
        self.clock.now() + wait.min(FOREVER)
    }
}

impl Spawn for TokioRuntime {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.handle.spawn(task));
    }

    fn spawn_blocking(&self, task: Box<dyn FnOnce() + Send>) {
        drop(self.handle.spawn_blocking(task));
    }

    fn spawn_thread(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> Option<Thread> {
        match std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            Ok(started) => Some(started.thread().clone()),
            Err(error) => {
                tracing::warn!(name, %error, "no thread could be started");
                None
            }
        }
    }

    fn is_multi_thread(&self) -> bool {
        self.handle.runtime_flavor() != tokio::runtime::RuntimeFlavor::CurrentThread
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
impl Clock for TokioRuntime {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Tokio's timers count whole milliseconds and may end within the one before.
        Box::pin(tokio::time::sleep_until(at.into()))
    }
}

impl Random for TokioRuntime {
    fn next_u64(&self) -> u64 {
        splitmix64(self.seed, self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// Longer than any process runs; 30 years.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
