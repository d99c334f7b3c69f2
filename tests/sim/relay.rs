//! Handlers that call on: the second tier of the simulation.
//!
//! ```text
//!   client --Relay--> house at the front --Errand--> house at the back
//!                     serves, and is a client of its own, with a log
//! ```
//!
//! Invariants: an execution makes one call at most; what that ends with is passed on as it is, and
//! written down, so that whoever gets a handler's status knows which handler passed it on. Deadline
//! and retry mark are the library's to inherit: nothing here sets them.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::service::Fingerprint;
use switchback::{CallError, Code, Cx, Method, Run, Status, Stub};

use crate::caller::{Habits, Patience, Plan};
use crate::house::{Desk, Ending, Kind, Order, Receipt, kind};
use crate::ledger::{Call, How};
use crate::random::Random;

/// What a method takes that calls on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Relay {
    order: Order,
    errand: Errand,
}

/// The call that its handler is to make.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Errand {
    kind: usize,
    order: Order,
    timeout_us: u64,
    patience: Patience,
    is_restless: bool,
}

/// How many calls are relayed, and how; drawn per seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Relays {
    /// Of a hundred calls.
    pub(crate) percent: u64,
    /// Always by this one, and its call is a plain one that lasts so long.
    pub(crate) only: Option<(usize, u64)>,
}

/// A call that a handler serves while it makes another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) client: u64,
    pub(crate) seq: u64,
    pub(crate) nonce: u64,
    pub(crate) deadline_at_us: u64,
}

/// The codes that handlers passed on, with the call that each served.
#[derive(Clone, Debug, Default)]
pub(crate) struct PassedOn(Arc<Mutex<Vec<(Call, Code)>>>);

impl Relays {
    /// The relay's index and what it is to do, if this call is one.
    pub(crate) fn draw(self, habits: &Habits, random: &mut Random) -> Option<(usize, Errand)> {
        // Where nothing is relayed nothing is drawn.
        if self.percent == 0 || !random.percent(self.percent) {
            return None;
        }
        let habits = Habits { relays: Self::default(), patience: None, ..habits.clone() };
        let mut plan = Plan::draw(&habits, random);
        let relay = random.index(RELAYS.len());
        let Some((only, hold_us)) = self.only else { return Some((relay, Errand::of(plan))) };
        plan.order.hold_us = hold_us;
        plan.timeout = Duration::from_micros(2 * hold_us);
        Some((only, Errand { kind: crate::house::PLAIN, ..Errand::of(plan) }))
    }
}

impl Errand {
    fn of(plan: Plan) -> Self {
        let Plan { kind, order, timeout, patience, is_restless, .. } = plan;
        let timeout_us = u64::try_from(timeout.as_micros()).expect("a few seconds");
        Self { kind, order, timeout_us, patience, is_restless }
    }

    /// One that should succeed at once.
    pub(crate) fn plain(timeout: Duration) -> Self {
        Self::of(Plan::plain(timeout))
    }

    /// What the method takes that runs it.
    pub(crate) const fn with(self, order: Order) -> Relay {
        Relay { order, errand: self }
    }

    fn into_plan(self) -> Plan {
        let Self { kind, order, timeout_us, patience, is_restless } = self;
        let timeout = Duration::from_micros(timeout_us);
        Plan { kind, order, timeout, patience, is_restless, errand: None }
    }
}

/// The methods that call on.
pub(crate) fn methods(desk: &Arc<Desk>) -> impl Iterator<Item = Method> {
    RELAYS.iter().map(|kind| {
        let desk = Arc::clone(desk);
        let method = Method::new(kind.name, VERSION, move |cx: Cx, relay: Relay| {
            serve(Arc::clone(&desk), kind, cx, relay)
        });
        let method = method.run(kind.run);
        if kind.is_cancellable { method } else { method.no_cancel() }
    })
}

async fn serve(
    desk: Arc<Desk>,
    kind: &'static Kind,
    cx: Cx,
    relay: Relay,
) -> Result<Receipt, CallError<Receipt>> {
    let Relay { order, errand } = relay;
    let mut execution = desk.start(kind, VERSION, &cx, &order)?;
    desk.dally(&order).await;
    let Order { client, seq, .. } = order;
    let deadline_at_us = crate::executor::us_of(cx.deadline());
    let served = Served { client, seq, nonce: execution.nonce(), deadline_at_us };
    let result = match desk.next() {
        Some(next) => next.call_for(errand.into_plan(), Some(served)).await,
        None => Some(Err(Status::new(Code::ABORTED, "it has no channel any more").into())),
    };
    match result {
        Some(Err(CallError::Rpc(status))) => {
            desk.passed_on().note(Call { client, seq }, status.code());
            execution.finish(How::Err);
            Err(status.into())
        }
        Some(Err(CallError::App(_))) => execution.conclude(Order { end: Ending::Err, ..order }),
        Some(Ok(_)) | None => execution.conclude(order),
    }
}

impl PassedOn {
    fn note(&self, served: Call, code: Code) {
        // Codes of a client become another's on the wire (ST-2).
        let code = if code.is_local() { Code::UNAVAILABLE } else { code };
        self.0.lock().unwrap().push((served, code));
    }

    /// Whether a handler that served this call passed this code on.
    pub(crate) fn has(&self, served: Call, code: Code) -> bool {
        self.0.lock().unwrap().contains(&(served, code))
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap().len().try_into().expect("a length fits in 64 bits")
    }
}

pub(crate) static STUBS: LazyLock<Vec<Stub<Relay, Receipt, Receipt>>> = LazyLock::new(|| {
    let stub = |kind: &Kind| {
        let stub = Stub::new(kind.name, VERSION, Fingerprint::UNCHECKED);
        if kind.is_idempotent { stub.idempotent() } else { stub }
    };
    RELAYS.iter().map(stub).collect()
});
/// Is dropped with its caller's call, and takes its own call along.
pub(crate) const DROPPED: usize = 0;
/// Goes on past its caller's deadline, where its own call must have ended.
pub(crate) static RELAYS: [Kind; 3] = [
    kind("sim.Relay/dropped", Run::Inline),
    Kind { is_cancellable: false, is_idempotent: true, ..kind("sim.Relay/stubborn", Run::Inline) },
    Kind { is_idempotent: true, ..kind("sim.Relay/spawned", Run::Spawn) },
];
const VERSION: u16 = 1;
