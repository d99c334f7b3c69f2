//! What goes wrong, and how often: drawn per seed, so that each seed has a mix of its own.
//!
//! Invariant: a kind of fault that is not in the seed's mix does not happen in it. With all kinds
//! in every seed, those that end everything would hide those that need time to show.

use std::sync::Arc;

use crate::house::{KINDS, TURN};
use crate::link::Side;
use crate::random::Random;
use crate::world::World;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A connection is reset.
    Cut,
    /// What one end sends, or both, vanishes; nobody is told.
    HalfOpen,
    /// Nothing arrives for a while.
    Hold,
    /// An end does not read for a while.
    SlowReader,
    /// A server's process is killed; its system closes its connections.
    Kill,
    /// A server's machine is gone: nobody closes anything.
    HostDeath,
    /// A server drains, and another instance takes its place.
    Restart,
    /// Connections are refused for a while.
    Refuse,
    /// Attempts to connect get no answer for a while.
    Swallow,
    /// Accepting fails.
    AcceptErrors,
    /// Versions come and go, ceilings are set.
    Versions,
    /// A client takes a new channel and lets the old one go.
    Renew,
    /// A client's process is killed, and mostly another takes its place. Drawn on its own.
    Crash,
}

/// What becomes of the connections of a process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Its system closes them.
    Closed,
    /// They are reset: what was on its way is lost.
    Reset,
    /// Nobody is told.
    Silent,
}

/// The faults of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    kinds: Vec<Fault>,
    /// Between two faults.
    pause_us_max: u64,
    /// Somebody else lets them happen.
    is_scripted: bool,
}

impl Fault {
    const ALL: [Self; 12] = [
        Self::Cut,
        Self::HalfOpen,
        Self::Hold,
        Self::SlowReader,
        Self::Kill,
        Self::HostDeath,
        Self::Restart,
        Self::Refuse,
        Self::Swallow,
        Self::AcceptErrors,
        Self::Versions,
        Self::Renew,
    ];

    /// No call of anybody else fails for it: versions change and clients go as they do in
    /// operation.
    const fn is_harmless(self) -> bool {
        matches!(self, Self::Versions | Self::Renew | Self::Crash)
    }
}

impl Mix {
    /// In three seeds of ten nothing goes wrong but what is daily business; in the others each kind
    /// is there in half of them.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let is_calm = random.percent(30);
        let share = random.pick(&[15, 50]);
        let is_good = |kind: &Fault| *kind == Fault::Restart || kind.is_harmless();
        let mut kinds = Fault::ALL.to_vec();
        kinds.retain(|kind| random.percent(share) && (!is_calm || is_good(kind)));
        let pause_us_max = random.pick(&[50_000, 300_000, 2_000_000]);
        Self { kinds, pause_us_max, is_scripted: false }
    }

    /// Faults that are not drawn: whoever asks for them lets them happen.
    pub(crate) fn scripted(kinds: &[Fault]) -> Self {
        Self { kinds: kinds.to_vec(), pause_us_max: 0, is_scripted: true }
    }

    /// Another kind.
    pub(crate) fn add(&mut self, kind: Fault) {
        self.kinds.push(kind);
    }

    /// Whether this kind happens.
    pub(crate) fn has(&self, kind: Fault) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether servers are drained and replaced at once, and nothing worse happens.
    pub(crate) fn only_drains(&self) -> bool {
        let is_good = |kind: &Fault| *kind == Fault::Restart || kind.is_harmless();
        self.kinds.iter().all(is_good)
    }
}

/// Lets faults happen until it is told to stop.
pub(crate) async fn inject(world: Arc<World>, mix: Mix, mut random: Random) {
    if mix.kinds.is_empty() || mix.is_scripted {
        return;
    }
    while !world.is_healing() {
        world.executor.sleep_us(random.between(0, mix.pause_us_max)).await;
        if world.is_healing() {
            return;
        }
        let kind = random.pick(&mix.kinds);
        world.executor.note("fault", [kind as u64, 0, 0], || format!("{kind:?}"));
        happen(&world, kind, &mut random);
    }
}

fn happen(world: &Arc<World>, kind: Fault, random: &mut Random) {
    let link = any(&world.net.links(), random);
    let port = random.pick(world.ports());
    let while_us = random.magnitude(1000, 2_000_000);
    match kind {
        Fault::Cut => drop(link.inspect(|link| link.cut())),
        Fault::HalfOpen => {
            let (from_client, from_server) = random.pick(&WAYS);
            drop(link.inspect(|link| link.vanish(from_client, from_server)));
        }
        Fault::Hold => {
            let side = random.pick(&[Side::Client, Side::Server]);
            drop(link.inspect(|link| link.hold(side, while_us)));
        }
        Fault::SlowReader => {
            let side = random.pick(&[Side::Client, Side::Server]);
            drop(link.inspect(|link| link.pause_reader(side, while_us)));
        }
        Fault::Kill => world.kill(port, Gone::Closed, while_us),
        Fault::HostDeath => world.kill(port, Gone::Silent, while_us),
        Fault::Restart => {
            let has_gap = !world.mix.only_drains() && random.flip();
            world.restart(port, if has_gap { while_us } else { 0 });
        }
        Fault::Refuse => world.net.refuse(port, while_us),
        Fault::Swallow => world.net.swallow(port, while_us),
        Fault::AcceptErrors => world.net.fail_accepts(port, 70),
        Fault::Versions => change_versions(world, port, random),
        Fault::Renew => {
            drop(any(&world.clients(), random).inspect(|client| client.renew()));
        }
        Fault::Crash => {
            let gone = random.pick(&[Gone::Closed, Gone::Reset, Gone::Silent]);
            let again = random.percent(80).then(|| (while_us, random.fork()));
            if let Some(client) = any(&world.clients(), random) {
                world.crash(&client, gone, again);
            }
        }
    }
}

fn any<T>(things: &[Arc<T>], random: &mut Random) -> Option<Arc<T>> {
    if things.is_empty() { None } else { Some(Arc::clone(&things[random.index(things.len())])) }
}

/// Changes the method that has two versions, as releases and roll backs do: at any time at least
/// one version is served.
fn change_versions(world: &World, port: u16, random: &mut Random) {
    let kind = &KINDS[TURN];
    let what = random.below(5);
    let version = random.pick(kind.versions);
    world.executor.note("versions", [port.into(), what, version.into()], || {
        let whats = ["ceiling", "no ceiling", "replace", "retire", "install"];
        format!("at {port}: {} v{version}", whats[usize::try_from(what).unwrap()])
    });
    world.with_house(port, |house| {
        let Some(dispatch) = house.dispatch.clone() else { return };
        // What cannot be done now is left: a version may be gone, or there already.
        match what {
            0 => drop(dispatch.set_ceiling(kind.name, Some(version))),
            1 => drop(dispatch.set_ceiling(kind.name, None)),
            2 => {
                let method = house.method(kind, version);
                house.retirements.extend(dispatch.replace(method));
            }
            // The older version stays, so that a ceiling leaves something to call.
            3 => house.retirements.extend(dispatch.retire(kind.name, kind.newest())),
            _ => drop(dispatch.install(house.method(kind, kind.newest()))),
        }
    });
}

const WAYS: [(bool, bool); 3] = [(true, true), (true, false), (false, true)];
