//! What must hold, in one place: to be tightened as the product promises more.
//!
//! - while it runs: the ledger, and of each failed call, that something explains it
//! - after the faults: every channel answers within [`CONVERGED_AFTER_US`]
//! - at rest: connections that are open hold no call, no waiter, no byte, and owe no credit; no
//!   handler runs
//! - at the end: no task, no timer, no socket, no connection's state

use std::sync::Arc;
use std::time::Duration;

use switchback::wire::CloseReason;
use switchback::{Code, Disposition, ErrorKind, Status};

use crate::executor::Halt;
use crate::faults::Fault;
use crate::house::House;
use crate::ledger::{Budget, Call, Rest, Rules, Verdict, check_bytes};
use crate::relay::PassedOn;
use crate::world::{GOD, Setting, World};

/// What may explain that a call fails; drawn from what a seed has drawn.
#[derive(Clone, Debug)]
pub(crate) struct Excuses {
    /// Connections end in no good order, or cannot be had.
    is_lossy: bool,
    has_versions: bool,
    /// A handler may pass on what ended its own call.
    passed_on: PassedOn,
}

impl Excuses {
    pub(crate) fn of(setting: &Setting, passed_on: &PassedOn) -> Self {
        let is_lossy = !setting.is_lossless();
        let has_versions = setting.mix.has(Fault::Versions);
        Self { is_lossy, has_versions, passed_on: passed_on.clone() }
    }

    /// Why nothing explains this status of a call, if so; `left_us` were left until the deadline.
    pub(crate) fn missing(&self, call: Call, status: &Status, left_us: u64) -> Option<String> {
        if status.disposition() == Disposition::Processed && self.passed_on.has(call, status.code())
        {
            return None;
        }
        let is_explained = match status.code() {
            // The caller's own wish, or a limit: of the deadline, of calls, of the queue. Or a
            // handler that panicked as ordered.
            Code::CANCELLED
            | Code::DEADLINE_EXCEEDED
            | Code::OVERLOADED
            | Code::QUEUE_FULL
            | Code::INTERNAL => true,
            // P6: where connections are only drained, and grow old, no call is lost.
            Code::NOT_CONNECTED | Code::CONNECTION_LOST | Code::DRAINING => {
                let is_late = left_us < LAST_REPLAY_US;
                self.is_lossy || is_late && status.disposition() == Disposition::NotProcessed
            }
            // The version that was asked for went twice while the call was on its way.
            Code::UNSUPPORTED_VERSION => self.has_versions,
            _ => false,
        };
        if !is_explained {
            let source = std::error::Error::source(status);
            return Some(format!("nothing explains {status}; {source:?}"));
        }
        let source = std::error::Error::source(status)?;
        let error: &switchback::Error = source.downcast_ref()?;
        let is_sound = match error.kind() {
            ErrorKind::ClosedByPeer { reason, .. } => self.explain(*reason),
            ErrorKind::PeerMisbehaved { reason, .. } => self.explain(*reason),
            ErrorKind::NotSwitchback { .. } | ErrorKind::NoCommonVersion { .. } => false,
            _ => true,
        };
        (!is_sound).then(|| format!("nothing explains {status}: {error}"))
    }

    const fn explain(&self, reason: CloseReason) -> bool {
        match reason {
            CloseReason::NORMAL | CloseReason::SHUTDOWN | CloseReason::AGE | CloseReason::IDLE => {
                true
            }
            // Times are short there, and nothing may come for long.
            CloseReason::HANDSHAKE_TIMEOUT
            | CloseReason::FRAME_TIMEOUT
            | CloseReason::SLOW_CONSUMER
            | CloseReason::DRAIN_TIMEOUT => self.is_lossy,
            _ => false,
        }
    }
}

/// The ledger's verdict on a simulation that has ended.
pub(crate) fn judge(world: &World, setting: &Setting) -> Verdict {
    let mut logs = Vec::new();
    for house in world.with_houses(std::mem::take) {
        let load = house.totals.load();
        let (calls, bytes) = (count(load.calls), count(load.bytes));
        let rest = Rest { calls, bytes, tasks: count(world.executor.tasks_of(house.process)) };
        if let Some(next) = house.next() {
            logs.push((format!("client {}", next.number), {
                next.close(world.tap.sent_by(next.number), Rest::default())
            }));
        }
        logs.push((format!("instance {}", house.instance), house.close(rest)));
    }
    for client in world.all_clients() {
        let tasks = count(world.executor.tasks_of(client.seams.process()));
        let rest = Rest { calls: 0, bytes: 0, tasks };
        logs.push((
            format!("client {}", client.number),
            client.close(world.tap.sent_by(client.number), rest),
        ));
    }
    let logs: Vec<_> = logs.iter().map(|(name, log)| (name.as_str(), log.as_slice())).collect();
    check_bytes(&logs, &rules(setting)).expect("the simulation writes sound ledgers")
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits in 64 bits")
}

/// The sweep ends calls within 15 ms of their deadlines, plus what timers are late. Where polls
/// take time, a call's end may also have to wait for its turn.
fn rules(setting: &Setting) -> Rules {
    let turns_us = if setting.pace.is_instant() { 0 } else { 30_000 };
    let grace_us = 15_000 + setting.pace.late_us_max() + turns_us;
    // A budget belongs to a channel: where clients take new ones, it is not their only one.
    let budget = (!setting.mix.has(Fault::Renew)).then_some(BUDGET);
    let only_drains = setting.is_lossless();
    Rules { transit_us: TRANSIT_US_MAX, grace_us, budget, only_drains, ..Rules::SIMULATED }
}

/// Nothing goes on any more.
pub(crate) fn halted(world: &World, halt: &Halt) -> String {
    let (now_us, at_work) = (world.executor.now_us(), world.at_work());
    format!("{halt} at {now_us} us, {at_work} callers at work")
}

/// What connections and servers still hold; nothing, when faults are over and calls have ended.
pub(crate) fn unrest(world: &World) -> Vec<String> {
    let mut unrest = Vec::new();
    for client in world.callers() {
        let said = client.describe();
        for what in ["calls: ", "queued_bytes: ", "waiting: "] {
            let numbers = said.split(what).skip(1);
            let digits = numbers.filter_map(|rest| rest.split(|c: char| !c.is_numeric()).next());
            let held: u64 = digits.filter_map(|digits| digits.parse::<u64>().ok()).sum();
            if held != 0 {
                unrest.push(format!("client {} at rest has {what}{held}: {said}", client.number));
            }
        }
    }
    world.with_houses(|houses| {
        for house in houses.iter().filter(|house| !house.is_killed()) {
            unrest_of_house(house, &mut unrest);
        }
    });
    unrest.extend(world.net.links().iter().filter_map(|link| link.unrest()));
    unrest
}

fn unrest_of_house(house: &House, unrest: &mut Vec<String>) {
    let mut add = |text: String| unrest.push(format!("instance {}: {text}", house.instance));
    if house.running() != 0 {
        add(format!("{} handlers run at rest", house.running()));
    }
    let load = house.totals.load();
    if (load.calls, load.bytes) != (0, 0) {
        add(format!("at rest it holds {load:?}"));
    }
    for stats in house.dispatch.iter().flat_map(|dispatch| dispatch.stats()) {
        if stats.in_flight != 0 {
            add(format!("at rest it counts {stats:?}"));
        }
    }
    let left = house.retirements.iter().filter(|retired| !retired.is_drained()).count();
    if left != 0 {
        add(format!("{left} retired handlers have calls at rest"));
    }
}

/// Everything was closed: nothing may be left.
pub(crate) fn residue(world: &World, wrong: &mut Vec<String>) {
    let mut left = |what: &str, of: &str, n: usize| {
        if n != 0 {
            wrong.push(format!("{n} {what} of {of} left at the end"));
        }
    };
    let executor = &world.executor;
    for client in world.all_clients() {
        let of = format!("client {}", client.number);
        left("tasks", &of, executor.tasks_of(client.seams.process()));
        left("connections' states", &of, Arc::strong_count(&client.seams) - 1);
    }
    world.with_houses(|houses| {
        for house in houses {
            let of = format!("instance {}", house.instance);
            left("tasks", &of, executor.tasks_of(house.process));
            // The handle to its methods holds no seams; a client of the next tier does.
            let known = 1 + usize::from(house.next().is_some());
            left("connections' states", &of, Arc::strong_count(&house.seams) - known);
            if !house.is_killed() && house.served().is_none() {
                left("servers", &of, 1);
            }
        }
    });
    left("sockets", "the network", world.net.links().len());
    left("tasks", "the simulation", executor.tasks_of(GOD));
    left("timers", "the simulation", executor.timers());
}

/// A call that shows that a channel works.
pub(crate) const FRESH_CALL: Duration = Duration::from_secs(1);
/// After the faults every channel answers within this.
pub(crate) const CONVERGED_AFTER_US: u64 = 15_000_000;
/// The longest that it takes to see that nobody is at the other end.
pub(crate) const SETTLED_AFTER_US: u64 = 12_000_000;
/// The longest drain, and the longest linger, and the longest handshake after it.
pub(crate) const CLOSED_AFTER_US: u64 = 30_000_000;
/// The defaults of a channel; no call of the simulation lasts longer than three seconds.
const BUDGET: Budget = Budget {
    attempts_max: 3,
    per_mille: 100,
    reserve: 10,
    window_us: 10_000_000,
    longest_us: 3_000_000,
    // Three attempts, and one for each retry of the call: an execution makes one call.
    nested_max: 5,
};
/// A call that nobody read, time after time, is sent again after so long at most, if there is time
/// for it.
const LAST_REPLAY_US: u64 = 1_000_000;
/// A request may be held for long, and wait behind others before that.
const TRANSIT_US_MAX: u64 = 60_000_000;
