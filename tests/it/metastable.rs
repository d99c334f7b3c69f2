//! A retry storm outlives its cause without the budget, and ends with it: a queueing model.
//!
//! ```text
//!   10 clients, 40 calls/s each --attempts--> FIFO queue --> one server, 2 ms per request
//!        ^                                                        |
//!        +-- 400 ms without an answer: the real policy decides <--+ 30 s without serving
//! ```
//!
//! The load is 400 calls/s on a server that can do 500/s: 80 %. A call has 1 s, an attempt 400 ms
//! of it; then the client takes the connection for dead, and what it had sent there is MAYBE. The
//! methods are idempotent, so such an attempt may be followed by another: up to 3 per call, with
//! full jitter between 0 and 10 or 20 ms. The server does not learn that an attempt was given up
//! (the path is dead, not the stream closed), so it serves such requests too: that is what keeps
//! the storm going. It does keep deadlines: nothing starts after the call's 1 s. Its queue takes
//! 1,024 requests and refuses more with OVERLOADED. Throttle and early shedding do not exist here.
//!
//! For 30 s the server takes requests and serves none. Why a storm outlives that: with three
//! attempts per call 1,200 requests/s come in, the queue is longer than 400 ms, and all that is
//! served was given up before. With the budget it is at most 450/s (a tenth, and 1/s per client),
//! so the queue shrinks by 50/s at least until answers are in time again.
//!
//! How long that takes depends on what waits when the outage ends, here at most 1 s of calls: 5 s,
//! where a client that never retries sees 3 s. With timeouts of 2 s it is 10 s (7 s), with 10 s and
//! so a full queue 11 s (9 s). Not to serve a long queue that nobody waits for is what shedding is
//! for; it is left out here, so that the budget stands alone.
//!
//! Policy, budget and backoff are the product's; time is a number, draws come from a seed, and when
//! the outage begins depends on the seed, so that it meets the budget's slots anywhere.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use switchback::policy::{BudgetConfig, Decision, FailedAttempt, RetryBudget, RetryPolicy};
use switchback::{Code, Disposition};

const CLIENTS: usize = 10;
const CALL_INTERVAL: u64 = SECOND / 40;
const SERVICE: u64 = SECOND / 500;
const QUEUE_MAX: usize = 1024;
const CALL_TIMEOUT: u64 = SECOND;
const ATTEMPT_TIMEOUT: u64 = 400 * SECOND / 1000;

/// Seconds before the outage, of it, and after it.
const BEFORE: usize = 40;
const OUTAGE: usize = 30;
const AFTER: usize = 60;

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

const SEEDS: std::ops::Range<u64> = 1..9;

/// With the budget, answers come as before at the latest 10 s after the outage, for good, and at no
/// time more than a fifth of the calls was repeated (F19).
#[test]
fn with_the_budget_a_storm_ends_by_itself() {
    for seed in SEEDS {
        let seen = Model::new(BudgetConfig::default(), seed).run();

        assert!(seen.recovered_after_s() <= 10, "seed {seed}: {seen:?}");
        assert!(seen.attempts_percent(BEFORE..BEFORE + OUTAGE) <= 120, "seed {seed}: {seen:?}");
        assert!(seen.attempts_percent(BEFORE + OUTAGE..seen.len()) <= 120, "seed {seed}: {seen:?}");
    }
}

/// The control: with a budget that never runs out and all else equal, the storm goes on for as long
/// as one looks. So the model can fail, and it is the budget that ends it.
#[test]
fn without_the_budget_the_storm_stays() {
    let mut endless = BudgetConfig::default();
    endless.retries_per_mille = u32::MAX;
    endless.reserve_per_second = u32::MAX;
    for seed in SEEDS {
        let seen = Model::new(endless, seed).run();

        assert_eq!(seen.recovered_after_s(), AFTER, "seed {seed}: {seen:?}");
        assert!(seen.attempts_percent(BEFORE + OUTAGE..seen.len()) > 200, "seed {seed}: {seen:?}");
    }
}

/// What the clients counted, by second.
#[derive(Debug)]
struct Seen {
    calls: Vec<usize>,
    attempts: Vec<usize>,
    answers: Vec<usize>,
}

impl Seen {
    fn len(&self) -> usize {
        self.calls.len()
    }

    /// Seconds from the end of the outage until no second has less than 95 % of the answers that
    /// there were before.
    fn recovered_after_s(&self) -> usize {
        let before: usize = self.answers[..BEFORE].iter().sum();
        let after = &self.answers[BEFORE + OUTAGE..];
        let is_low = |answers: &usize| answers * BEFORE * 100 < before * 95;
        after.iter().rposition(is_low).map_or(0, |second| second + 1)
    }

    fn attempts_percent(&self, seconds: std::ops::Range<usize>) -> usize {
        let sum = |of: &[usize]| of[seconds.clone()].iter().sum::<usize>();
        sum(&self.attempts) * 100 / sum(&self.calls)
    }
}

/// Which call, and which attempt of it.
type Attempt = (usize, u8);

#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// A client makes its next call.
    Call(usize),
    /// A client waited long enough for an attempt.
    GiveUp(Attempt),
    OutageEnds,
    /// The wait before a retry is over.
    Send(Attempt),
    Served(Attempt),
}

struct Call {
    client: usize,
    deadline: u64,
    /// The attempt that is waited for; none when the call has ended.
    attempt: Option<u8>,
}

struct Model {
    zero: Instant,
    now: u64,
    /// In the order of time, then of their making.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_made: u64,
    random: u64,
    policy: RetryPolicy,
    budgets: Vec<RetryBudget>,
    calls: Vec<Call>,
    queue: VecDeque<Attempt>,
    is_busy: bool,
    /// When counting begins; it is a little later for each seed.
    start: u64,
    seen: Seen,
}

impl Model {
    fn new(budget: BudgetConfig, seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the zero")]
        let zero = Instant::now();
        let seconds = vec![0; BEFORE + OUTAGE + AFTER];
        let mut model = Self {
            zero,
            now: 0,
            events: BinaryHeap::new(),
            events_made: 0,
            random: seed,
            policy: RetryPolicy::default(),
            budgets: vec![RetryBudget::new(budget, zero); CLIENTS],
            calls: Vec::new(),
            queue: VecDeque::new(),
            is_busy: false,
            start: 0,
            seen: Seen { calls: seconds.clone(), attempts: seconds.clone(), answers: seconds },
        };
        model.start = model.draw() % (10 * SECOND);
        model
    }

    fn run(mut self) -> Seen {
        (0..CLIENTS).for_each(|client| self.push(0, Event::Call(client)));
        self.push(self.outage().end, Event::OutageEnds);
        let end = self.start + SECOND * self.seen.len() as u64;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at >= end {
                break;
            }
            self.now = at;
            match event {
                Event::Call(client) => self.call(client),
                Event::GiveUp(attempt) => self.fail(attempt, Disposition::Maybe),
                Event::OutageEnds => self.serve_next(),
                Event::Send(attempt) => self.send(attempt),
                Event::Served(attempt) => self.served(attempt),
            }
        }
        self.seen
    }

    /// Each client makes one call in each interval, somewhere in it.
    fn call(&mut self, client: usize) {
        let interval = self.now / CALL_INTERVAL + 1;
        let next = interval * CALL_INTERVAL + self.draw() % CALL_INTERVAL;
        self.push(next, Event::Call(client));
        let now = self.instant();
        self.budgets[client].deposit(now);
        self.calls.push(Call { client, deadline: self.now + CALL_TIMEOUT, attempt: Some(0) });
        self.count(|seen| &mut seen.calls);
        self.send((self.calls.len() - 1, 0));
    }

    fn send(&mut self, attempt: Attempt) {
        self.count(|seen| &mut seen.attempts);
        self.drop_late();
        if self.queue.len() == QUEUE_MAX {
            self.fail(attempt, Disposition::NotProcessed);
            return;
        }
        let deadline = self.calls[attempt.0].deadline;
        self.push(deadline.min(self.now + ATTEMPT_TIMEOUT), Event::GiveUp(attempt));
        self.queue.push_back(attempt);
        self.serve_next();
    }

    /// The product's policy decides what becomes of the call.
    fn fail(&mut self, (id, attempt): Attempt, disposition: Disposition) {
        let (now, draw) = (self.instant(), self.draw());
        let call = &mut self.calls[id];
        if call.attempt != Some(attempt) {
            return; // Answered in time.
        }
        let code = match disposition {
            Disposition::NotProcessed => Code::OVERLOADED,
            _ if self.now == call.deadline => Code::DEADLINE_EXCEEDED,
            _ => Code::CONNECTION_LOST,
        };
        let failed = FailedAttempt {
            code,
            disposition,
            retry_after: None,
            attempt,
            replays: 0,
            is_idempotent: true,
            is_nested_retry: false,
            time_left: Duration::from_nanos(call.deadline - self.now),
        };
        let decision = self.policy.decide(&failed, &mut self.budgets[call.client], now, draw);
        self.calls[id].attempt = match decision {
            Decision::GiveUp(_) => None,
            Decision::Retry { after, attempt, is_free: _ } => {
                let after = u64::try_from(after.as_nanos()).unwrap();
                self.push(self.now + after, Event::Send((id, attempt)));
                Some(attempt)
            }
        };
    }

    fn serve_next(&mut self) {
        self.drop_late();
        if self.is_busy || self.outage().contains(&self.now) {
            return;
        }
        if let Some(attempt) = self.queue.pop_front() {
            self.is_busy = true;
            self.push(self.now + SERVICE, Event::Served(attempt));
        }
    }

    /// Nothing is started after its deadline.
    fn drop_late(&mut self) {
        let late = |(id, _): &Attempt| self.calls[*id].deadline <= self.now;
        while self.queue.front().is_some_and(late) {
            self.queue.pop_front();
        }
    }

    fn served(&mut self, (id, attempt): Attempt) {
        self.is_busy = false;
        // An attempt that was given up has no one to answer to.
        if self.calls[id].attempt == Some(attempt) {
            self.calls[id].attempt = None;
            self.count(|seen| &mut seen.answers);
        }
        self.serve_next();
    }

    fn push(&mut self, at: u64, event: Event) {
        self.events_made += 1;
        self.events.push(Reverse((at, self.events_made, event)));
    }

    fn count(&mut self, of: impl Fn(&mut Seen) -> &mut Vec<usize>) {
        if let Some(since) = self.now.checked_sub(self.start) {
            of(&mut self.seen)[usize::try_from(since / SECOND).unwrap()] += 1;
        }
    }

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn outage(&self) -> std::ops::Range<u64> {
        let begin = self.start + SECOND * BEFORE as u64;
        begin..begin + SECOND * OUTAGE as u64
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_nanos(self.now)
    }
}
