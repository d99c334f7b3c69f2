//! The calls of a run: lanes, each with one call at a time, and when the next one is due.
//!
//! ```text
//!   lane:  next place (a number) -> due? wait -> call -> count -> next place …
//! ```
//!
//! Invariants: no more calls are under way than there are lanes; a lane that is early waits, and
//! counts from when it sends, since being late is then the timer's doing; a lane that takes its
//! place after that was due counts from when it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use switchback::driver::Runtime;
use switchback::service::RawRequest;
use switchback::{Channel, ClientConfig, Codec};
use tokio::task::JoinSet;

use crate::args::BenchArgs;
use crate::bench::tally::Tally;
use crate::failure::Failure;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) rate: Option<f64>,
    pub(crate) in_flight: u32,
    pub(crate) connections: u32,
    /// Calls are begun for so long.
    pub(crate) duration: Option<Duration>,
    pub(crate) calls: Option<u64>,
    request: RawRequest,
}

/// Lanes that run.
#[derive(Debug)]
pub(crate) struct Lanes {
    tasks: JoinSet<()>,
    tally: Arc<Tally>,
    course: Arc<Course>,
}

/// What all lanes share.
#[derive(Debug)]
struct Course {
    plan: Plan,
    began: Instant,
    /// The next place in the order of calls.
    next: AtomicU64,
    runtime: Runtime,
}

impl Plan {
    pub(crate) fn new(args: &BenchArgs, request: RawRequest) -> Self {
        let duration = args.duration.or_else(|| args.calls.is_none().then_some(DURATION));
        Self {
            rate: args.rate,
            in_flight: args.in_flight,
            connections: args.connections.min(args.in_flight),
            duration,
            calls: args.calls,
            request,
        }
    }

    /// In words.
    pub(crate) fn wish(&self) -> String {
        let count =
            |count: u32, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        match self.rate {
            Some(rate) => parts.push(format!("{rate} calls/s, at most {} at once", self.in_flight)),
            None => parts.push(format!("{} at once", count(self.in_flight, "call"))),
        }
        parts.push(count(self.connections, "connection"));
        parts.extend(self.calls.map(|calls| format!("{calls} calls")));
        parts.extend(self.duration.map(|duration| format!("{duration:?}")));
        parts.join(", ")
    }

    /// When this place is due, after the beginning.
    fn due(&self, place: u64) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(place as f64 / rate))
    }

    /// How many calls were due in this time, if there is a rate.
    pub(crate) fn due_in(&self, elapsed: Duration) -> Option<u64> {
        let elapsed = self.duration.map_or(elapsed, |duration| duration.min(elapsed));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate of at most ten millions, for at most a day"
        )]
        let due = self.rate.map(|rate| (rate * elapsed.as_secs_f64()).ceil() as u64);
        due.map(|due| self.calls.map_or(due, |calls| calls.min(due)))
    }
}

/// The connections, made before the first call.
pub(crate) async fn channels(
    args: &BenchArgs,
    address: &str,
    config: &ClientConfig,
) -> Result<Vec<Channel>, Failure> {
    let mut channels = Vec::new();
    for _ in 0..args.connections.min(args.in_flight) {
        let mut builder = Channel::builder().config(config.clone()).codec(Codec::JSON);
        if args.request.of.server.insecure {
            builder = builder.insecure_plaintext();
        }
        let channel = builder.connect(address).await;
        channels.push(channel.map_err(|error| Failure::connection(address, &error))?);
    }
    Ok(channels)
}

impl Lanes {
    /// Starts as many as calls may be under way.
    pub(crate) fn start(
        plan: &Plan,
        channels: &[Channel],
        tally: &Arc<Tally>,
        runtime: &Runtime,
    ) -> Self {
        let (began, next) = (runtime.clock.now(), AtomicU64::new(0));
        let (plan, runtime) = (plan.clone(), runtime.clone());
        let course = Arc::new(Course { plan, began, next, runtime });
        let mut tasks = JoinSet::new();
        for (number, channel) in (0..course.plan.in_flight as usize).zip(channels.iter().cycle()) {
            tasks.spawn(lane(number, channel.clone(), Arc::clone(tally), Arc::clone(&course)));
        }
        Self { tasks, tally: Arc::clone(tally), course }
    }

    /// Waits until all lanes have ended.
    ///
    /// # Cancellation
    /// Safe: those that have ended stay so.
    pub(crate) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.course.elapsed()
    }

    /// Ends what runs; says how many calls were given up.
    pub(crate) async fn stop(mut self) -> u64 {
        self.tasks.shutdown().await;
        self.tally.under_way()
    }
}

impl Course {
    fn elapsed(&self) -> Duration {
        self.runtime.clock.now().saturating_duration_since(self.began)
    }

    /// When the next call began to wait, in its own time; `None`: there is none.
    async fn place(&self) -> Option<Duration> {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        if self.plan.calls.is_some_and(|calls| place >= calls) {
            return None;
        }
        let now = self.elapsed();
        let due = self.plan.due(place).unwrap_or(now);
        if self.plan.duration.is_some_and(|duration| due.max(now) >= duration) {
            return None;
        }
        if due <= now {
            return Some(due);
        }
        self.runtime.clock.sleep_until(self.began + due).await;
        Some(self.elapsed())
    }
}

async fn lane(number: usize, channel: Channel, tally: Arc<Tally>, course: Arc<Course>) {
    while let Some(began) = course.place().await {
        tally.begin();
        let result = channel.call_raw(course.plan.request.clone()).await;
        let took = course.elapsed().saturating_sub(began);
        tally.end(number, took, &result);
        // A call may have ended without waiting for anything: others want this thread too.
        tokio::task::consume_budget().await;
    }
}

/// Long enough for percentiles that hold still.
const DURATION: Duration = Duration::from_secs(10);
