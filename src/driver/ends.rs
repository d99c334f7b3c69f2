//! How connections ended, counted by reason; a client's channel and a server hold the same.
//!
//! Invariant: every connection is counted once, by the error it ended with, whichever side ended
//! it. So the sum is the number of connections that are over, and none ends unseen.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;
use crate::wire::CloseReason;

/// One counter for each reason; the last one counts those that ended without a word.
#[derive(Debug)]
pub(crate) struct Ends([AtomicU64; REASONS + 1]);

/// How the connections of one channel ended. Clones of the channel share it.
#[derive(Debug, Default)]
pub struct ClientTotals(Ends);

/// The counters of [`ClientTotals`] at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ClientLoad {
    /// Connections that ended, by the reason that was given or received.
    pub closes: Vec<(CloseReason, u64)>,
    /// Connections that ended without a word.
    pub lost: u64,
}

impl Ends {
    /// A connection ended.
    pub(crate) fn count(&self, end: &Error) {
        let reason = end.close_reason().map_or(REASONS, |reason| usize::from(reason.0));
        self.0[reason.min(REASONS)].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that ended with a reason; reasons that none ended with are left out.
    pub(crate) fn closes(&self) -> Vec<(CloseReason, u64)> {
        let counts = (0_u16..).zip(&self.0[..REASONS]);
        let counts =
            counts.map(|(reason, count)| (CloseReason(reason), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Those that ended without a word.
    pub(crate) fn lost(&self) -> u64 {
        self.0[REASONS].load(Ordering::Relaxed)
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl ClientTotals {
    /// How much there is.
    #[must_use]
    pub fn load(&self) -> ClientLoad {
        ClientLoad { closes: self.0.closes(), lost: self.0.lost() }
    }

    pub(crate) fn count_end(&self, end: &Error) {
        self.0.count(end);
    }
}

/// Reasons of this version, from 0 on; others that a peer may name count as ends without a word.
const REASONS: usize = CloseReason::FLOW_CONTROL.0 as usize + 1;
