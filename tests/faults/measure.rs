//! Time as it is measured here, lines for people, and the rule of who runs beside whom.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Those who measure milliseconds write, those who wait for seconds read.
static CORES: RwLock<()> = RwLock::new(());

/// Waits until nothing else runs.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    CORES.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until nothing runs that must be alone.
pub(crate) fn beside() -> RwLockReadGuard<'static, ()> {
    CORES.read().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime with two workers, for one test.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(TEST_MAX, work).await });
    runtime.shutdown_background();
    done.expect("a test ends by itself")
}

/// A line that is shown whether the test passes or not: the harness keeps what `eprintln` says.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "faults: {line}").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "it is measured how long real things take")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, which processes share.
#[expect(clippy::disallowed_methods, reason = "ledgers of several processes are compared")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

pub(crate) fn wall_us() -> u64 {
    wall().as_micros().try_into().unwrap()
}

/// Durations in order, to be asked for the middle and the end.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    pub(crate) fn max(&self) -> Duration {
        self.percentile(100)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, max] = [self.percentile(50), self.percentile(99), self.max()];
        write!(f, "{} times, median {p50:.1?}, p99 {p99:.1?}, max {max:.1?}", self.0.len())
    }
}

/// Notes by how much a plain timer of this runtime is late, at most: the machine may have other
/// things to do.
#[derive(Clone, Default)]
pub(crate) struct Lag(Arc<AtomicU64>);

impl Lag {
    pub(crate) fn start() -> Self {
        let lag = Self::default();
        let noted = lag.clone();
        tokio::spawn(async move {
            loop {
                let due = now() + Duration::from_millis(2);
                tokio::time::sleep_until(due.into()).await;
                let late = now().duration_since(due).as_micros().try_into().unwrap();
                noted.0.fetch_max(late, Ordering::Relaxed);
            }
        });
        lag
    }

    /// The most since the last look.
    pub(crate) fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Ordering::Relaxed))
    }
}

const TEST_MAX: Duration = Duration::from_secs(100);
