//! What must hold, in one place: to be tightened as the product promises more.
//!
//! - while it runs: the ledger, and of each failed call, that something explains it
//! - after the faults: every channel answers within [`CONVERGED_AFTER_US`]
//! - at rest: connections that are open hold no call, no waiter, no byte; no handler runs
//! - at the end: no task, no timer, no socket, no connection's state

use std::sync::Arc;
use std::time::Duration;

use switchback::wire::CloseReason;
use switchback::{Code, ErrorKind, Status};

use crate::executor::Halt;
use crate::faults::Fault;
use crate::house::House;
use crate::ledger::{Rules, Verdict, check_bytes};
use crate::world::{GOD, Setting, World};

/// What may explain that a call fails; drawn from what a seed has drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excuses {
    /// Connections end in no good order, or cannot be had.
    is_lossy: bool,
    has_versions: bool,
}

impl Excuses {
    pub(crate) fn of(setting: &Setting) -> Self {
        Self { is_lossy: !setting.is_lossless(), has_versions: setting.mix.has(Fault::Versions) }
    }

    /// Why nothing explains this status, if so.
    pub(crate) fn missing(self, status: &Status) -> Option<String> {
        let is_explained = match status.code() {
            // The caller's own wish, or a limit: of the deadline, of calls, of the queue. Or a
            // handler that panicked as ordered.
            Code::CANCELLED
            | Code::DEADLINE_EXCEEDED
            | Code::OVERLOADED
            | Code::QUEUE_FULL
            | Code::INTERNAL => true,
            // P6: where connections are only drained, and grow old, no call is lost.
            Code::NOT_CONNECTED | Code::CONNECTION_LOST | Code::DRAINING => self.is_lossy,
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

    fn explain(self, reason: CloseReason) -> bool {
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
        logs.push((format!("instance {}", house.instance), house.close()));
    }
    for client in world.clients() {
        logs.push((format!("client {}", client.number), client.close()));
    }
    let logs: Vec<_> = logs.iter().map(|(name, log)| (name.as_str(), log.as_slice())).collect();
    check_bytes(&logs, &rules(setting)).expect("the simulation writes sound ledgers")
}

/// The sweep ends calls within 15 ms of their deadlines, plus what timers are late. Where polls
/// take time, a call's end may also have to wait for its turn.
fn rules(setting: &Setting) -> Rules {
    let turns_us = if setting.pace.is_instant() { 0 } else { 30_000 };
    let grace_us = 15_000 + setting.pace.late_us_max() + turns_us;
    Rules { transit_us: TRANSIT_US_MAX, grace_us, ..Rules::SIMULATED }
}

/// Nothing goes on any more.
pub(crate) fn halted(world: &World, halt: &Halt) -> String {
    let (now_us, at_work) = (world.executor.now_us(), world.at_work());
    format!("{halt} at {now_us} us, {at_work} callers at work")
}

/// Faults are over, calls have ended: connections are open and hold nothing.
pub(crate) fn rest(world: &World) {
    for client in world.clients() {
        let said = client.describe();
        for (what, n) in ["busy: ", "queued_bytes: ", "queue: ", "waiting: "].map(|what| {
            let numbers =
                said.split(what).skip(1).map(|rest| rest.split(|c: char| !c.is_numeric()));
            let numbers = numbers.filter_map(|mut rest| rest.next()?.parse::<u64>().ok());
            (what, numbers.sum::<u64>())
        }) {
            if n != 0 {
                let number = client.number;
                world.complaints.add(format!("client {number} at rest has {what}{n}: {said}"));
            }
        }
    }
    world.with_houses(|houses| houses.iter().for_each(|house| rest_of_house(world, house)));
}

fn rest_of_house(world: &World, house: &House) {
    let instance = house.instance;
    if house.is_killed() {
        return;
    }
    if house.running() != 0 {
        let running = house.running();
        world.complaints.add(format!("instance {instance} at rest runs {running} handlers"));
    }
    for stats in house.dispatch.iter().flat_map(|dispatch| dispatch.stats()) {
        if stats.in_flight != 0 {
            world.complaints.add(format!("instance {instance} at rest counts {stats:?}"));
        }
    }
    let left = house.retirements.iter().filter(|retired| !retired.is_drained()).count();
    if left != 0 {
        world.complaints.add(format!("instance {instance} at rest has {left} retired handlers"));
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
    for client in world.clients() {
        let of = format!("client {}", client.number);
        left("tasks", &of, executor.tasks_of(client.seams.process()));
        left("connections' states", &of, Arc::strong_count(&client.seams) - 1);
    }
    world.with_houses(|houses| {
        for house in houses {
            let of = format!("instance {}", house.instance);
            left("tasks", &of, executor.tasks_of(house.process));
            // The handle to its methods holds no seams.
            left("connections' states", &of, Arc::strong_count(&house.seams) - 1);
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
/// The longest that a handler goes on after its caller has gone.
pub(crate) const SETTLED_AFTER_US: u64 = 5_000_000;
/// The longest drain, and the longest linger, and the longest handshake after it.
pub(crate) const CLOSED_AFTER_US: u64 = 30_000_000;
/// A request may be held for long, and wait behind others before that.
const TRANSIT_US_MAX: u64 = 60_000_000;
