//! Finds out that the other end is gone, though the system says nothing.
//!
//! ```text
//! resting --arm--> listening --silence--> asked --SUSPECT_AFTER--> suspected --patience--> dead
//!    ^                 ^  \---- any byte ----/            /
//!    \--nobody waits---+-------------- any byte ---------/
//! ```
//!
//! Invariants: it asks only while somebody waits for the peer; silence counts from the last byte
//! heard, or from when it was armed, whichever is later; a peer is dead at the earliest after
//! `silence` + `patience` without a byte. At most one PING is on the way: else they would pile up
//! where one direction stands still, and come as a flood (LD-8). Pure: the time is an argument.

use std::time::{Duration, Instant};

use crate::util::bugs::{Bug, is_seeded};

/// How long a peer may be silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeepaliveLimits {
    /// Without a byte from the peer, until it is sent a PING.
    ///
    /// Default: 5 s. Too low: chatter, and TOO_MANY_PINGS below 1 s; too high: a dead peer is
    /// found late.
    pub silence: Duration,
    /// From the PING until the peer is taken for dead.
    ///
    /// Default: 5 s. Too low: a busy peer looks dead.
    pub patience: Duration,
}

impl Default for KeepaliveLimits {
    fn default() -> Self {
        Self { silence: Duration::from_secs(5), patience: Duration::from_secs(5) }
    }
}

/// The state of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    limits: KeepaliveLimits,
    state: State,
    /// A PING has no answer yet, whatever else was heard since.
    is_pong_owed: bool,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beat {
    /// Nothing.
    Nothing,
    /// Send a PING.
    Ping,
    /// The PING has no answer yet: new work had better go elsewhere.
    Suspect,
    /// The peer is gone.
    Dead,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Resting,
    Listening { since: Instant },
    Asked { at: Instant },
    Suspected { asked_at: Instant },
}

impl Keepalive {
    /// At rest.
    #[must_use]
    pub fn new(limits: KeepaliveLimits) -> Self {
        // What is added to an Instant has to fit into one.
        let silence = limits.silence.min(LONGEST);
        let patience = limits.patience.min(LONGEST);
        let limits = KeepaliveLimits { silence, patience };
        Self { limits, state: State::Resting, is_pong_owed: false }
    }

    /// Somebody waits for the peer. Says whether the time of [`Keepalive::due`] is news.
    pub fn arm(&mut self, now: Instant) -> bool {
        let is_news = self.state == State::Resting && !is_seeded(Bug::DeafKeepalive);
        if is_news {
            self.state = State::Listening { since: now };
        }
        is_news
    }

    /// Whether it watches already.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.state != State::Resting
    }

    /// A byte came.
    pub fn handle_bytes(&mut self, now: Instant) {
        if self.state != State::Resting {
            self.state = State::Listening { since: now };
        }
    }

    /// A PING that is not its own was written: it writes none beside it.
    pub const fn handle_asked(&mut self) {
        self.is_pong_owed = true;
    }

    /// A PONG came. Says whether it was asked for.
    pub const fn handle_pong(&mut self) -> bool {
        std::mem::replace(&mut self.is_pong_owed, false)
    }

    /// Whether a PING has had no answer for a while.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        matches!(self.state, State::Suspected { .. })
    }

    /// When [`Keepalive::beat`] has something to say, at the earliest.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Resting => None,
            State::Listening { since } => Some(since + self.limits.silence),
            State::Asked { at } => Some(at + SUSPECT_AFTER.min(self.limits.patience)),
            State::Suspected { asked_at } => Some(asked_at + self.limits.patience),
        }
    }

    /// Decides what is to be done; `is_waiting` is whether anybody waits for the peer.
    pub fn beat(&mut self, now: Instant, is_waiting: bool) -> Beat {
        if self.due().is_none_or(|due| now < due) {
            return Beat::Nothing;
        }
        if !is_waiting {
            self.state = State::Resting;
            return Beat::Nothing;
        }
        match self.state {
            State::Resting => Beat::Nothing,
            State::Listening { .. } => {
                self.state = State::Asked { at: now };
                let is_asked = std::mem::replace(&mut self.is_pong_owed, true);
                if is_asked { Beat::Nothing } else { Beat::Ping }
            }
            State::Asked { at } => {
                self.state = State::Suspected { asked_at: at };
                Beat::Suspect
            }
            State::Suspected { .. } => Beat::Dead,
        }
    }
}

/// From a PING until its silence means something: many round trips of any network.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// Longer than any process runs; 30 years.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    fn start() -> Instant {
        Instant::now()
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A peer that says nothing is asked once, suspected, and dead after ten seconds; never
    /// earlier.
    #[test]
    fn ld_8_silence_ends_in_ten_seconds() {
        let t0 = start();
        let mut keepalive = Keepalive::new(KeepaliveLimits::default());
        assert_eq!(keepalive.beat(t0 + 100 * SECOND, true), Beat::Nothing, "at rest");
        assert!(keepalive.arm(t0));
        assert!(!keepalive.arm(t0 + SECOND), "armed already");

        assert_eq!(keepalive.beat(t0 + 4 * SECOND, true), Beat::Nothing);
        assert_eq!(keepalive.due(), Some(t0 + 5 * SECOND));
        assert_eq!(keepalive.beat(t0 + 5 * SECOND, true), Beat::Ping);
        assert_eq!(keepalive.beat(t0 + 5 * SECOND, true), Beat::Nothing, "one is enough");
        assert!(!keepalive.is_suspect());
        assert_eq!(keepalive.beat(t0 + 6 * SECOND, true), Beat::Suspect);
        assert!(keepalive.is_suspect());
        assert_eq!(keepalive.beat(t0 + 9 * SECOND, true), Beat::Nothing);
        assert_eq!(keepalive.beat(t0 + 10 * SECOND, true), Beat::Dead);
    }

    /// Any byte begins it anew, and nobody who waits ends it.
    #[test]
    fn ld_8_any_byte_is_a_sign_of_life() {
        let t0 = start();
        let mut keepalive = Keepalive::new(KeepaliveLimits::default());
        keepalive.arm(t0);
        assert_eq!(keepalive.beat(t0 + 5 * SECOND, true), Beat::Ping);
        assert_eq!(keepalive.beat(t0 + 6 * SECOND, true), Beat::Suspect);
        keepalive.handle_bytes(t0 + 7 * SECOND);
        assert!(!keepalive.is_suspect());
        assert_eq!(keepalive.due(), Some(t0 + 12 * SECOND));
        assert_eq!(keepalive.beat(t0 + 12 * SECOND, false), Beat::Nothing);
        assert_eq!(keepalive.due(), None);
        keepalive.handle_bytes(t0 + 13 * SECOND);
        assert!(!keepalive.is_armed(), "bytes alone do not arm it");
    }

    /// Where PINGs do not get through while bytes come, they do not pile up: the peer would read
    /// them as a flood. Silence is still found.
    #[test]
    fn ld_8_one_ping_is_on_the_way() {
        let t0 = start();
        let mut keepalive = Keepalive::new(KeepaliveLimits::default());
        keepalive.arm(t0);
        assert_eq!(keepalive.beat(t0 + 5 * SECOND, true), Beat::Ping);
        for seconds in (6..600).step_by(6) {
            keepalive.handle_bytes(t0 + seconds * SECOND);
            assert_eq!(keepalive.beat(t0 + (seconds + 5) * SECOND, true), Beat::Nothing);
        }
        keepalive.handle_bytes(t0 + 600 * SECOND);
        assert!(keepalive.handle_pong());
        assert!(!keepalive.handle_pong(), "one PING, one PONG");
        assert_eq!(keepalive.beat(t0 + 605 * SECOND, true), Beat::Ping, "asked again");
        assert_eq!(keepalive.beat(t0 + 606 * SECOND, true), Beat::Suspect);
        assert_eq!(keepalive.beat(t0 + 610 * SECOND, true), Beat::Dead);
    }
}
