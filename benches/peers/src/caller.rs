//! Callers: closed loops with one call in flight each.
//!
//! A caller reads the clock once a call; whether the call counts follows from that reading alone,
//! so that nothing has to be signalled. Latencies go to one histogram per thread: one per caller
//! would be megabytes and push the peers' memory out of the caches.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::message;
use crate::peers::Peer;
use crate::workload::{Kind, Workload};

/// What the callers of one connection are to do.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub workload: Workload,
    /// Calls that end from here on count.
    pub from: Instant,
    /// Calls that end from here on do not, and no new one begins.
    pub until: Instant,
    /// Which connection of the workload.
    pub connection: usize,
}

/// One caller's part of a [`Job`].
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    job: Job,
    number: u64,
}

/// The callers of one connection, each started by `start`, which is where a peer says whether its
/// client may change threads.
pub fn each(
    job: Job,
    start: impl FnMut(Caller) -> JoinHandle<Result<(), Fault>>,
) -> Vec<JoinHandle<Result<(), Fault>>> {
    let first = job.connection * job.workload.in_flight;
    let callers = first..first + job.workload.in_flight;
    callers.map(|number| Caller { job, number: number as u64 }).map(start).collect()
}

/// Calls until the job's end.
///
/// # Errors
/// With the first call that fails or has a wrong answer.
pub async fn call<P: Peer>(client: P::Client, caller: Caller) -> Result<(), Fault> {
    let is_last = caller.number + 1 == caller.job.workload.in_flight as u64;
    match caller.job.workload.kind {
        Kind::Blob(bytes) => caller.blobs::<P>(&client, bytes).await,
        Kind::Cancel => caller.messages::<P>(&client, Aside::Cancel).await,
        Kind::Late => {
            let due = Notify::new();
            let messages = caller.messages::<P>(&client, Aside::Late(&due));
            tokio::select! {
                ended = messages => ended,
                failed = caller.lates::<P>(&client, &due) => failed,
            }
        }
        Kind::Upload if is_last => caller.uploads::<P>(&client).await,
        Kind::Echo | Kind::Idle | Kind::Upload => {
            caller.messages::<P>(&client, Aside::Nothing).await
        }
    }
}

/// What happens to, or beside, one call of a hundred.
#[derive(Clone, Copy)]
enum Aside<'a> {
    Cancel,
    Late(&'a Notify),
    Nothing,
}

impl Caller {
    async fn messages<P: Peer>(self, client: &P::Client, aside: Aside<'_>) -> Result<(), Fault> {
        let mut id = self.number << 40;
        let mut began = Instant::now();
        while began < self.job.until {
            if id % ASIDE_EVERY == self.number % ASIDE_EVERY {
                match aside {
                    Aside::Cancel => {
                        begin_only(P::echo(client, id)).await?;
                        self.note_aside();
                    }
                    Aside::Late(due) => due.notify_one(),
                    Aside::Nothing => {}
                }
            }
            P::echo(client, id).await?.check(id)?;
            began = self.job.note(began, 1);
            id += 1;
        }
        Ok(())
    }

    async fn blobs<P: Peer>(self, client: &P::Client, bytes: usize) -> Result<(), Fault> {
        let body = message::body(bytes, self.number);
        let mut began = Instant::now();
        while began < self.job.until {
            let echoed = P::blob(client, body.clone()).await?;
            message::check_body(&body, echoed.as_ref())?;
            began = self.job.note(began, 1);
        }
        Ok(())
    }

    /// Bodies of 1 MiB, one every 4 ms. One that comes late moves those after it only if it took
    /// longer than its turn.
    async fn uploads<P: Peer>(self, client: &P::Client) -> Result<(), Fault> {
        let body = message::body(UPLOAD_BYTES, self.number);
        let mut due = Instant::now();
        while due < self.job.until {
            tokio::time::sleep_until(due.into()).await;
            P::upload(client, body.clone()).await?;
            self.note_aside();
            due = (due + UPLOAD_EVERY).max(Instant::now());
        }
        Ok(())
    }

    /// Makes a call that times out whenever one is due. One that is still under way when the next
    /// is due takes its place: the count says how many there were.
    async fn lates<P: Peer>(self, client: &P::Client, due: &Notify) -> Result<(), Fault> {
        loop {
            due.notified().await;
            P::late(client, LATE_TIMEOUT).await?;
            self.note_aside();
        }
    }

    fn note_aside(self) {
        if self.job.counts(Instant::now()) {
            ASIDE.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Job {
    /// Notes that `calls` calls which began at `began` have ended now, and gives the time.
    pub fn note(&self, began: Instant, calls: u64) -> Instant {
        let ended = Instant::now();
        HERE.with(|here| {
            let mut here = locked(here);
            here.ended += calls;
            if self.counts(ended) {
                let taken_ns = u64::try_from((ended - began).as_nanos()).unwrap_or(u64::MAX);
                here.latencies.saturating_record_n(taken_ns, calls);
            }
        });
        ended
    }

    fn counts(&self, ended: Instant) -> bool {
        ended >= self.from && ended < self.until
    }
}

/// Polls a call once and drops it.
async fn begin_only<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<(), Fault> {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(Err(fault)) => Poll::Ready(Err(fault)),
        Poll::Ready(Ok(_)) | Poll::Pending => Poll::Ready(Ok(())),
    })
    .await
}

/// Every latency noted so far, in nanoseconds.
pub fn latencies() -> Histogram<u64> {
    let mut all = empty();
    for noted in everywhere().iter() {
        all.add(&locked(noted).latencies).expect("the same bounds");
    }
    all
}

/// Calls that have ended so far, warm-up included.
pub fn ended() -> u64 {
    everywhere().iter().map(|noted| locked(noted).ended).sum()
}

/// Calls that were taken back, that timed out, that uploaded.
pub fn aside() -> u64 {
    ASIDE.load(Ordering::Relaxed)
}

/// What the callers on one thread noted.
struct Noted {
    latencies: Histogram<u64>,
    ended: u64,
}

static ALL: Mutex<Vec<Arc<Mutex<Noted>>>> = Mutex::new(Vec::new());
static ASIDE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HERE: Arc<Mutex<Noted>> = {
        let here = Arc::new(Mutex::new(Noted { latencies: empty(), ended: 0 }));
        everywhere().push(Arc::clone(&here));
        here
    };
}

fn everywhere() -> MutexGuard<'static, Vec<Arc<Mutex<Noted>>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locked(noted: &Mutex<Noted>) -> MutexGuard<'_, Noted> {
    noted.lock().unwrap_or_else(PoisonError::into_inner)
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("1 < the maximum, 3 digits of 5")
}

/// Nothing that is measured takes longer: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// One call of so many is taken back, or has a late one beside it.
const ASIDE_EVERY: u64 = 100;
const LATE_TIMEOUT: Duration = Duration::from_millis(5);
/// How long the handler of a late call takes.
pub const LATE_HANDLER: Duration = Duration::from_secs(1);
/// 1 MiB every 4 ms are 250 MiB/s.
pub const UPLOAD_BYTES: usize = 1 << 20;
const UPLOAD_EVERY: Duration = Duration::from_millis(4);
