//! The clients of the workload: each call is written down before it is made, and how it ended.
//!
//! Invariants: a call that has no outcome two seconds after its deadline is given up and gets no
//! `end`, which the checker calls lost; its client makes no more calls then, so that a bug that
//! hangs calls costs seconds, not minutes.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use switchback::service::Fingerprint;
use switchback::{CallError, Channel, Code, Disposition, Status, Stub};

use crate::ledger::{self, Answer, ClientLog, End, Issue, Outcome};
use crate::ledgered::house::{BLOCKING, KINDS, PLAIN, SPAWNED, STUBBORN, VERSION};
use crate::ledgered::{Order, Random, Receipt, Time};

/// One client: a channel, a log, and many callers.
pub(crate) struct Client {
    number: u64,
    channel: Mutex<Channel>,
    log: ClientLog,
    disturb: Disturb,
    time: Time,
    /// Some of its calls carry long texts.
    has_texts: bool,
    issued: AtomicU64,
    overloaded: AtomicU64,
    /// An answer had other bytes than its request.
    has_other_bytes: AtomicBool,
    /// Calls that ran out of time though they had plenty.
    stalled: AtomicU64,
    has_hung: AtomicBool,
}

/// What is to happen when a client makes the call of this number; the other one is drawn.
pub(crate) type Disturb = Box<dyn Fn(u64, u64) + Send + Sync>;

/// One call to be.
struct Plan {
    kind: usize,
    order: Order,
    timeout: Duration,
    patience: Patience,
}

/// How long the caller waits.
#[derive(Clone, Copy)]
enum Patience {
    Whole,
    /// Drops the call after so many polls.
    Polls(u64),
    /// Drops the call after this time.
    Time(Duration),
}

type Result = std::result::Result<Receipt, CallError<Receipt>>;

impl Client {
    /// A client with a channel that need not be connected yet.
    pub(crate) fn new(
        log: &Path,
        number: u64,
        channel: Channel,
        time: &Time,
        disturb: Disturb,
    ) -> Self {
        Self {
            number,
            channel: Mutex::new(channel),
            log: ClientLog::create(log, number).unwrap(),
            disturb,
            time: time.clone(),
            has_texts: false,
            has_other_bytes: AtomicBool::new(false),
            issued: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            has_hung: AtomicBool::new(false),
        }
    }

    /// Some of its calls carry long texts, or none does.
    pub(crate) fn with_texts(self, has_texts: bool) -> Self {
        Self { has_texts, ..self }
    }

    /// Goes on with another channel; calls on the one before go on there.
    pub(crate) fn renew(&self, channel: Channel) {
        *self.channel.lock().unwrap() = channel;
    }

    /// Makes `calls` calls, one after the other, as far as there is time for them.
    pub(crate) async fn work(
        self: Arc<Self>,
        calls: u64,
        until: Option<Instant>,
        mut random: Random,
    ) {
        for _ in 0..calls {
            let is_over = until.is_some_and(|until| self.time.now() >= until);
            if is_over || self.has_hung.load(Ordering::Relaxed) {
                return;
            }
            let seq = self.issued.fetch_add(1, Ordering::Relaxed);
            (self.disturb)(seq, random.next());
            let mut plan = Plan::new(self.number, seq, &mut random);
            if self.has_texts && random.below(100) < LONG_PERCENT {
                plan.order.pad = text(random.between(17 << 10, 300 << 10));
            }
            if self.call(plan).await {
                // As whoever is refused should: not at once again.
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
        }
    }

    /// Closes the log; says how many calls were refused with OVERLOADED.
    pub(crate) fn close(&self) -> u64 {
        self.log.close().unwrap();
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Whether an answer had other bytes than its request.
    pub(crate) fn has_other_bytes(&self) -> bool {
        self.has_other_bytes.load(Ordering::Relaxed)
    }

    /// Calls that ran out of time though nothing in the workload explains it.
    pub(crate) fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Makes one call; says whether it was refused.
    async fn call(&self, plan: Plan) -> bool {
        let Plan { kind, order, timeout, patience } = plan;
        let (seq, now, pad) = (order.seq, self.time.now(), order.pad.clone());
        let issue = Issue {
            seq,
            method: KINDS[kind].name,
            version: VERSION,
            idempotent: false,
            issued_at_us: self.time.us(now),
            deadline_at_us: self.time.us(now + timeout),
        };
        self.log.issue(issue).unwrap();
        let call = self.channel.lock().unwrap().call(&STUBS[kind], order).timeout(timeout);
        let result = match within(call, patience, timeout + HUNG_AFTER).await {
            Some(result) => Some(result),
            None if matches!(patience, Patience::Whole) => {
                self.has_hung.store(true, Ordering::Relaxed);
                return false;
            }
            None => None,
        };
        if let Some(Ok(receipt) | Err(CallError::App(receipt))) = &result {
            self.has_other_bytes.fetch_or(receipt.pad != pad, Ordering::Relaxed);
        }
        let (outcome, disposition, answer) = judge(result.as_ref());
        let disposition = match disposition {
            Disposition::NotProcessed => ledger::Disposition::NotProcessed,
            Disposition::Maybe => ledger::Disposition::Maybe,
            Disposition::Processed => ledger::Disposition::Processed,
        };
        let ended_at_us = self.time.us(self.time.now());
        self.log.end(End { seq, outcome, disposition, ended_at_us, answer }).unwrap();
        if let Some(Err(CallError::Rpc(status))) = &result {
            // Blocking calls wait for a thread, of which there are few.
            let is_stalled = outcome == Outcome::Deadline && timeout >= AMPLE && kind != BLOCKING;
            self.stalled.fetch_add(is_stalled.into(), Ordering::Relaxed);
            let is_overload = status.code() == Code::OVERLOADED;
            self.overloaded.fetch_add(is_overload.into(), Ordering::Relaxed);
        }
        outcome == Outcome::Refused
    }
}

/// The outcome, or `None` when the patience is at its end; the call is dropped then.
async fn within(
    call: impl Future<Output = Result>,
    how: Patience,
    longest: Duration,
) -> Option<Result> {
    let impatient = async {
        match how {
            Patience::Whole => tokio::time::sleep(longest).await,
            Patience::Time(time) => tokio::time::sleep(time).await,
            Patience::Polls(polls) => {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    let call = pin!(call);
    tokio::select! {
        biased;
        result = call => Some(result),
        () = impatient => None,
    }
}

/// What the ledger calls it.
fn judge(result: Option<&Result>) -> (Outcome<'static>, Disposition, Option<Answer>) {
    let answer = |receipt: &Receipt| {
        let Receipt { nonce, client, seq, instance, version, .. } = *receipt;
        Some(Answer { nonce, client, seq, instance, version })
    };
    match result {
        None => (Outcome::Cancelled, Disposition::Maybe, None),
        Some(Ok(receipt)) => (Outcome::Ok, Disposition::Processed, answer(receipt)),
        Some(Err(CallError::App(receipt))) => {
            (Outcome::App("ordered"), Disposition::Processed, answer(receipt))
        }
        Some(Err(CallError::Rpc(status))) => (class(status), status.disposition(), None),
    }
}

fn class(status: &Status) -> Outcome<'static> {
    match (status.code(), status.disposition()) {
        (Code::NOT_CONNECTED | Code::QUEUE_FULL, _) => Outcome::NotSent,
        (Code::CONNECTION_LOST, Disposition::NotProcessed) => Outcome::NotSent,
        (Code::CONNECTION_LOST, _) => Outcome::Unknown,
        (Code::OVERLOADED | Code::DRAINING, _) => Outcome::Refused,
        (Code::DEADLINE_EXCEEDED, _) => Outcome::Deadline,
        (Code::CANCELLED, _) => Outcome::Cancelled,
        (code, _) => Outcome::Failed(code.name().unwrap_or("nameless")),
    }
}

impl Plan {
    /// A call as the seed has it. Times are short, so that deadlines, drops and answers meet.
    fn new(client: u64, seq: u64, random: &mut Random) -> Self {
        let (mut timeout, mut hold_us, mut yields) = (AMPLE, 0, 0);
        let mut patience = Patience::Whole;
        let kind = match random.below(100) {
            0..30 => PLAIN,
            30..50 => {
                yields = 1 + random.below(4);
                PLAIN
            }
            50..65 => {
                hold_us = random.between(500, 6000);
                PLAIN
            }
            65..78 => {
                hold_us = random.between(500, 8000);
                STUBBORN
            }
            78..88 => {
                hold_us = random.below(2000);
                SPAWNED
            }
            _ => {
                hold_us = random.between(500, 3000);
                BLOCKING
            }
        };
        if random.below(4) == 0 {
            timeout = Duration::from_millis(random.between(1, 12));
        }
        if random.below(6) == 0 {
            patience = match random.below(2) {
                0 => Patience::Polls(random.below(6)),
                _ => Patience::Time(Duration::from_micros(random.below(5000))),
            };
        }
        if kind == STUBBORN && random.below(3) == 0 {
            // Its answer comes all the same, to a slot that others want.
            patience = Patience::Time(Duration::from_micros(random.below(3000)));
        }
        if kind == STUBBORN && random.below(40) == 0 {
            // Nobody but the client's own sweep ends this call in time.
            timeout = Duration::from_millis(20);
            (hold_us, patience) = (600_000, Patience::Whole);
        }
        let fails = random.below(10) == 0;
        let order = Order { client, seq, hold_us, yields, fails, pad: String::new() };
        Self { kind, order, timeout, patience }
    }
}

static STUBS: LazyLock<Vec<Stub<Order, Receipt, Receipt>>> = LazyLock::new(|| {
    let stub =
        |kind: &crate::ledgered::house::Kind| Stub::new(kind.name, VERSION, Fingerprint::UNCHECKED);
    KINDS.iter().map(stub).collect()
});

/// So many letters, of which none can be missing, or come in another's place.
fn text(len: u64) -> String {
    let letter = |at: u64| u8::try_from(((at % 26) ^ (at / 26 % 8)) % 26).unwrap();
    (0..len).map(|at| char::from(b'a' + letter(at))).collect()
}

/// So many of a hundred calls carry long texts.
const LONG_PERCENT: u64 = 5;
/// Far more than any handler takes that has so much.
const AMPLE: Duration = Duration::from_secs(1);
const HUNG_AFTER: Duration = Duration::from_secs(2);
const AFTER_REFUSAL: Duration = Duration::from_millis(20);
