//! A client of the simulation: each call is written down before it is made, and how it ended.
//!
//! Invariants: a call that has no outcome two seconds after its deadline is given up and gets no
//! `end`, which the checker calls lost; only the newest waker that a call was polled with still
//! wakes anyone, as the contract of futures has it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::service::Fingerprint;
use switchback::{CallError, Channel, ClientConfig, Code, Disposition, Status, Stub};

use crate::executor::{Executor, Seams};
use crate::expect::Excuses;
use crate::house::{
    BLOCKING, Complaints, Ending, KINDS, Kind, LOOK, OldOrder, Order, PLAIN, Receipt, SPAWNED,
    STUBBORN, TAG, TURN, filling, tag_of,
};
use crate::ledger::{
    self, Answer, Call, ClientLog, End, Issue, Memory, Outcome, Parent, Rest, Sent,
};
use crate::net::Net;
use crate::random::Random;
use crate::relay::{self, Errand, RELAYS, Relays, Served};

/// One client: a channel, a log, and many callers.
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) port: u16,
    pub(crate) seams: Arc<Seams>,
    executor: Executor,
    net: Net,
    config: ClientConfig,
    channel: Mutex<Option<Channel>>,
    log: ClientLog,
    memory: Memory,
    issued: AtomicU64,
    /// Its process was killed.
    is_crashed: AtomicBool,
    excuses: Excuses,
    complaints: Complaints,
}

/// How calls are made; drawn per seed.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// Of a hundred calls, so many are dropped before their outcome.
    pub(crate) dropped: u64,
    /// All of them are waited for so long.
    pub(crate) patience: Option<Patience>,
    /// Of a hundred calls that cannot be stopped, so many are dropped long before their end.
    pub(crate) abandoned: u64,
    /// So many have a deadline of a few milliseconds.
    pub(crate) hurried: u64,
    pub(crate) panics: u64,
    /// So many move bodies of hundreds of KiB.
    pub(crate) large: u64,
    pub(crate) is_restless: bool,
    /// Between two calls of a caller.
    pub(crate) pause_us_max: u64,
    /// After so many of a hundred calls a caller rests.
    pub(crate) rests: u64,
    pub(crate) rest_us_max: u64,
    pub(crate) hold_us_max: u64,
    pub(crate) relays: Relays,
}

/// One call to be.
pub(crate) struct Plan {
    pub(crate) kind: usize,
    pub(crate) order: Order,
    pub(crate) timeout: Duration,
    pub(crate) patience: Patience,
    /// It is polled with another waker each time, and now and then for no reason.
    pub(crate) is_restless: bool,
    /// What its handler is to call in turn; `kind` is a relay then.
    pub(crate) errand: Option<Errand>,
}

/// How long the caller waits.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) enum Patience {
    Whole,
    /// Drops the call after so many polls.
    Polls(u64),
    /// Drops the call after this time.
    Us(u64),
}

pub(crate) type Result = std::result::Result<Receipt, CallError<Receipt>>;

/// A call as its caller holds it.
struct Held<F> {
    call: Option<F>,
    patience: Patience,
    is_restless: bool,
    polls: u64,
    generation: Arc<AtomicU64>,
}

/// A call that was written down, and whose outcome was not: whoever drops it gives it up.
struct Open<'a> {
    client: &'a Client,
    seq: u64,
    is_over: bool,
}

/// Wakes only while no newer one was made.
struct Stale {
    generation: Arc<AtomicU64>,
    number: u64,
    outer: Waker,
}

impl Client {
    pub(crate) fn new(
        number: u64,
        port: u16,
        (executor, net, seams): (&Executor, &Net, Arc<Seams>),
        config: ClientConfig,
        excuses: Excuses,
        complaints: &Complaints,
    ) -> Arc<Self> {
        let (log, memory) = ClientLog::in_memory(number);
        let client = Self {
            number,
            port,
            seams,
            executor: executor.clone(),
            net: net.clone(),
            config,
            channel: Mutex::new(None),
            log,
            memory,
            issued: AtomicU64::new(0),
            is_crashed: AtomicBool::new(false),
            excuses,
            complaints: complaints.clone(),
        };
        client.renew();
        Arc::new(client)
    }

    /// Takes a new channel; calls on the old one go on, if there are any.
    pub(crate) fn renew(&self) {
        let connector = self.net.connector(self.seams.process(), self.port);
        let builder = Channel::builder().config(self.config.clone());
        let channel = builder.runtime(self.seams.runtime()).transport(connector);
        let channel = channel.expect("the default codec is built in");
        let before = self.channel.lock().unwrap().replace(channel);
        drop(before);
    }

    /// Lets the channel go.
    pub(crate) fn release(&self) {
        let before = self.channel.lock().unwrap().take();
        drop(before);
    }

    /// The channel as it prints itself.
    pub(crate) fn describe(&self) -> String {
        format!("{:?}", self.channel.lock().unwrap())
    }

    /// Makes so many calls that leave the client, one after the other, in bursts: at first and
    /// after a rest all callers of a client meet on its connection. Those that find no connection
    /// are as many at most.
    pub(crate) async fn work(self: Arc<Self>, calls: u64, habits: Habits, mut random: Random) {
        let (mut sent, mut unsent) = (0, 0);
        while sent < calls && unsent < calls {
            let pause_us = match random.percent(habits.rests) {
                true => random.between(0, habits.rest_us_max),
                false => random.between(0, habits.pause_us_max),
            };
            if pause_us > 0 {
                self.executor.sleep_us(pause_us).await;
            }
            let plan = Plan::draw(&habits, &mut random);
            match self.call(plan).await {
                Some(Err(CallError::Rpc(status))) if status.code() == Code::NOT_CONNECTED => {
                    unsent += 1;
                    self.executor.sleep_us(random.between(0, REFUSED_PAUSE_US)).await;
                }
                _ => sent += 1,
            }
        }
    }

    /// Its process is about to be killed: calls that are open have no outcome. `sent` is what was
    /// seen of them.
    pub(crate) fn crash(&self, sent: &[Sent]) {
        for sent in sent {
            self.log.sent(*sent).expect("it is open");
        }
        self.log.crash(self.executor.now_us()).expect("it is closed once");
        self.is_crashed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.is_crashed.load(Ordering::Relaxed)
    }

    /// Calls made so far.
    pub(crate) fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Makes one call, and says how it ended, if it did.
    pub(crate) async fn call(&self, plan: Plan) -> Option<Result> {
        self.call_for(plan, None).await
    }

    /// The same for a handler, while it serves another call.
    pub(crate) async fn call_for(&self, plan: Plan, served: Option<Served>) -> Option<Result> {
        let Plan { kind, mut order, timeout, patience, is_restless, errand } = plan;
        let Some(channel) = self.channel.lock().unwrap().clone() else {
            return Some(Err(Status::new(Code::ABORTED, "its channel is gone").into()));
        };
        let seq = self.issued.fetch_add(1, Ordering::Relaxed);
        (order.client, order.seq) = (self.number, seq);
        let now_us = self.executor.now_us();
        let timeout_us = u64::try_from(timeout.as_micros()).unwrap();
        let method: &Kind = if errand.is_some() { &RELAYS[kind] } else { &KINDS[kind] };
        let issue = Issue {
            seq,
            method: method.name,
            version: method.newest(),
            idempotent: method.is_idempotent,
            issued_at_us: now_us,
            deadline_at_us: now_us + timeout_us,
        };
        self.log.issue(issue).unwrap();
        let inherited_us = served.map_or(u64::MAX, |served| self.write_parent(seq, served));
        let deadline_at_us = inherited_us.min(now_us + timeout_us);
        self.executor.note("issue", [self.number, seq, timeout_us], || {
            format!(
                "call {}/{seq}: {} within {timeout:?}, {patience:?}, {:?}, hold {} us",
                self.number, method.name, order.end, order.hold_us
            )
        });
        let answer_bytes = order.answer_bytes;
        let tag = tag_of(self.number, seq);
        let held = (patience, is_restless, timeout + HUNG_AFTER);
        let mut open = Open { client: self, seq, is_over: false };
        let result = match errand {
            None => {
                let call = channel.call(&STUBS[kind], order).timeout(timeout).metadata(TAG, &tag);
                drop(channel);
                self.within(call, held).await
            }
            Some(errand) => {
                let call = channel.call(&relay::STUBS[kind], errand.with(order));
                let call = call.timeout(timeout).metadata(TAG, &tag);
                drop(channel);
                self.within(call, held).await
            }
        };
        open.is_over = true;
        let Some(result) = result else {
            let text = || format!("call {}/{seq}", self.number);
            self.executor.note("hung", [self.number, seq, 0], text);
            return None;
        };
        let left_us = deadline_at_us.saturating_sub(self.executor.now_us());
        self.look_at(seq, (answer_bytes, left_us), result.as_ref());
        self.write_end(seq, result.as_ref()).expect("it is open");
        result
    }

    /// Whose call it is; until when that has time.
    fn write_parent(&self, seq: u64, served: Served) -> u64 {
        let Served { client, seq: parent_seq, nonce, deadline_at_us } = served;
        self.log.parent(Parent { seq, client, parent_seq, nonce }).expect("it is open");
        self.executor.note("nest", [self.number, seq, nonce], || {
            format!("call {}/{seq} for {client}/{parent_seq}, execution {nonce}", self.number)
        });
        deadline_at_us
    }

    fn write_end(&self, seq: u64, result: Option<&Result>) -> std::io::Result<()> {
        let (outcome, disposition, answer) = judge(result);
        let disposition = match disposition {
            Disposition::NotProcessed => ledger::Disposition::NotProcessed,
            Disposition::Maybe => ledger::Disposition::Maybe,
            Disposition::Processed => ledger::Disposition::Processed,
        };
        let ended_at_us = self.executor.now_us();
        let nonce = answer.map_or(0, |answer| answer.nonce);
        self.executor.note("end", [self.number, seq, nonce], || {
            let said = disposition.as_str();
            let why = match result {
                Some(Err(CallError::Rpc(status))) => status.to_string(),
                _ => String::new(),
            };
            format!("call {}/{seq}: {outcome} ({said}) {why}", self.number)
        });
        self.log.end(End { seq, outcome, disposition, ended_at_us, answer })
    }

    /// What an outcome must never be, whatever goes wrong outside.
    fn look_at(&self, seq: u64, (answer_bytes, left_us): (u64, u64), result: Option<&Result>) {
        let wrong = match result {
            None => None,
            Some(Ok(receipt) | Err(CallError::App(receipt))) => {
                let pad = &receipt.pad;
                let len = u64::try_from(pad.len()).unwrap();
                let is_whole = len == answer_bytes && *pad == filling(pad.len());
                (!is_whole).then(|| format!("{len} bytes came, {answer_bytes} were asked for"))
            }
            Some(Err(CallError::Rpc(status))) => {
                self.excuses.missing(Call { client: self.number, seq }, status, left_us)
            }
        };
        if let Some(wrong) = wrong {
            self.complaints.add(format!("call {}/{seq}: {wrong}", self.number));
        }
    }

    /// The outcome, or `Some(None)` when the patience is at its end: the call is dropped then.
    /// `None` if the call hangs.
    async fn within(
        &self,
        call: impl Future<Output = Result> + Send + Unpin,
        (patience, is_restless, longest): (Patience, bool, Duration),
    ) -> Option<Option<Result>> {
        let (mut limit, is_hung) = match patience {
            Patience::Us(us) => (self.executor.sleep_us(us), false),
            Patience::Whole | Patience::Polls(_) => (self.executor.sleep(longest), true),
        };
        let generation = Arc::new(AtomicU64::new(0));
        let mut held = Held { call: Some(call), patience, is_restless, polls: 0, generation };
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(result) = held.poll(cx) {
                return Poll::Ready(Some(result));
            }
            Pin::new(&mut limit).poll(cx).map(|()| if is_hung { None } else { Some(None) })
        })
        .await
    }

    /// The client's log: to its end by a kill, or when all its calls have ended.
    pub(crate) fn close(&self, sent: Vec<Sent>, rest: Rest) -> Vec<u8> {
        if self.is_crashed() {
            return self.memory.bytes();
        }
        for sent in sent {
            self.log.sent(sent).expect("it is open");
        }
        self.log.rest(rest).expect("it is open");
        self.log.close().expect("it is closed once");
        self.memory.bytes()
    }
}

impl<F: Future<Output = Result> + Unpin> Held<F> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result>> {
        let Some(call) = &mut self.call else { return Poll::Ready(None) };
        if matches!(self.patience, Patience::Polls(most) if self.polls >= most) {
            self.call = None;
            return Poll::Ready(None);
        }
        self.polls += 1;
        let result = if self.is_restless {
            let number = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
            let (generation, outer) = (Arc::clone(&self.generation), cx.waker().clone());
            let waker = Waker::from(Arc::new(Stale { generation, number, outer }));
            if self.polls <= RESTLESS_POLLS && self.polls.is_multiple_of(3) {
                cx.waker().wake_by_ref();
            }
            Pin::new(call).poll(&mut Context::from_waker(&waker))
        } else {
            Pin::new(call).poll(&mut Context::from_waker(cx.waker()))
        };
        match result {
            Poll::Ready(result) => {
                self.call = None;
                Poll::Ready(Some(result))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            // Of a client that is killed the log is closed, and the call has no outcome.
            let _is_written = self.client.write_end(self.seq, None);
        }
    }
}

impl Wake for Stale {
    fn wake(self: Arc<Self>) {
        if self.generation.load(Ordering::Relaxed) == self.number {
            self.outer.wake_by_ref();
        }
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
        // A handler may have passed it on from a server of its own.
        (Code::OVERLOADED | Code::DRAINING, Disposition::NotProcessed | Disposition::Maybe) => {
            Outcome::Refused
        }
        (Code::DEADLINE_EXCEEDED, _) => Outcome::Deadline,
        (Code::CANCELLED, _) => Outcome::Cancelled,
        (code, _) => Outcome::Failed(code.name().unwrap_or("nameless")),
    }
}

impl Plan {
    /// A call as the seed has it. Times are short, so that deadlines, drops and answers meet.
    pub(crate) fn draw(habits: &Habits, random: &mut Random) -> Self {
        let (mut timeout_us, mut hold_us, mut yields) = (random.between(500_000, 3_000_000), 0, 0);
        let mut patience = Patience::Whole;
        let mut kind = random.pick(&[
            PLAIN, PLAIN, LOOK, LOOK, STUBBORN, STUBBORN, STUBBORN, SPAWNED, BLOCKING, TURN, TURN,
        ]);
        if kind == BLOCKING && habits.large > 0 {
            // Where the output may be full it would wait on its thread, of which there is one.
            kind = SPAWNED;
        }
        if kind != BLOCKING && random.percent(60) {
            hold_us = random.magnitude(1, habits.hold_us_max);
        }
        if kind != BLOCKING && random.percent(30) {
            yields = 1 + random.below(4);
        }
        if random.percent(habits.hurried) {
            timeout_us = random.magnitude(1000, 50_000);
        }
        if random.percent(habits.dropped) {
            patience = match random.below(2) {
                0 => Patience::Polls(random.below(12)),
                _ => Patience::Us(random.magnitude(1, habits.hold_us_max * 2)),
            };
        }
        patience = habits.patience.unwrap_or(patience);
        if kind == STUBBORN && random.percent(habits.abandoned) {
            // Its answer comes all the same, to a slot that others want.
            hold_us = random.between(1, habits.hold_us_max);
            patience = Patience::Us(random.below(1 + hold_us / 4));
        }
        let end = match random.below(100) {
            0..8 => Ending::Err,
            n if n < 8 + habits.panics => Ending::Panic,
            _ => Ending::Ok,
        };
        let (mut pad, mut answer_bytes) = (Vec::new(), random.magnitude(1, 200));
        if random.percent(habits.large) {
            pad = filling(random.index(300_000)).to_vec();
            answer_bytes = random.below(600_000);
            if random.percent(25) {
                // Some of its answer is on its way by then, mostly.
                patience = Patience::Us(hold_us + random.magnitude(100, 50_000));
            }
        }
        // On a clock of whole milliseconds deadlines would fall together.
        let timeout = Duration::from_micros(timeout_us);
        let order = Order { client: 0, seq: 0, hold_us, yields, end, pad, answer_bytes };
        let is_restless = habits.is_restless && random.flip();
        let relay = habits.relays.draw(habits, random);
        let (kind, errand) = match relay {
            Some((relay, errand)) => (relay, Some(errand)),
            None => (kind, None),
        };
        Self { kind, order, timeout, patience, is_restless, errand }
    }

    /// A call that should succeed at once.
    pub(crate) fn plain(timeout: Duration) -> Self {
        let (hold_us, yields, end, answer_bytes) = (0, 0, Ending::Ok, 3);
        let pad = Vec::new();
        let order = Order { client: 0, seq: 0, hold_us, yields, end, pad, answer_bytes };
        let (patience, is_restless, errand) = (Patience::Whole, false, None);
        Self { kind: PLAIN, order, timeout, patience, is_restless, errand }
    }

    /// The same through both tiers.
    pub(crate) fn relayed(timeout: Duration) -> Self {
        let errand = Some(Errand::plain(timeout));
        Self { kind: relay::DROPPED, errand, ..Self::plain(timeout) }
    }
}

impl Habits {
    /// Calls that are waited for.
    pub(crate) fn patient() -> Self {
        Self {
            dropped: 0,
            patience: None,
            abandoned: 0,
            hurried: 0,
            panics: 0,
            large: 0,
            is_restless: false,
            pause_us_max: 1000,
            rests: 0,
            rest_us_max: 0,
            hold_us_max: 5000,
            relays: Relays::default(),
        }
    }

    pub(crate) fn draw(random: &mut Random) -> Self {
        Self {
            dropped: random.pick(&[0, 10, 40]),
            patience: None,
            abandoned: random.pick(&[0, 80, 80]),
            hurried: random.pick(&[0, 10, 40]),
            panics: random.pick(&[0, 0, 3]),
            large: random.pick(&[0, 0, 0, 0, 5]),
            is_restless: random.flip(),
            pause_us_max: random.pick(&[0, 1000, 1000, 100_000]),
            rests: random.pick(&[5, 10, 30]),
            rest_us_max: random.pick(&[500_000, 2_000_000]),
            hold_us_max: random.pick(&[100, 10_000, 500_000]),
            relays: Relays::default(),
        }
    }
}

static STUBS: LazyLock<Vec<Stub<Order, Receipt, Receipt>>> = LazyLock::new(|| {
    let stub = |kind: &Kind| {
        let newest = Stub::new(kind.name, kind.newest(), Fingerprint::UNCHECKED);
        let older = kind.versions.iter().filter(|version| **version < kind.newest());
        let stub = older.fold(newest, |stub, version| {
            stub.compat::<OldOrder, Receipt, Receipt>(*version, Fingerprint::UNCHECKED)
        });
        if kind.is_idempotent { stub.idempotent() } else { stub }
    };
    KINDS.iter().map(stub).collect()
});
/// As whoever is refused should: not at once again.
const REFUSED_PAUSE_US: u64 = 200_000;
const HUNG_AFTER: Duration = Duration::from_secs(2);
/// So many polls of a call may be for no reason.
const RESTLESS_POLLS: u64 = 30;
