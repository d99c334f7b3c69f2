//! The server's calls that outlived their read batch.
//!
//! Invariant: a call stays here until its handler has really ended, cancelled or not, so that a
//! caller cannot have more work running than it has slots (CA-11, CA-12: the rapid reset attack).

use std::collections::BTreeMap;
use std::time::Instant;

use crate::proto::earliest::Earliest;
use crate::util::bugs::{Bug, is_seeded};
use crate::wire::CallId;

/// Calls in flight on one connection. `T` is the owner's: the driver keeps wakers in it.
#[derive(Debug)]
pub struct PendingCalls<T> {
    calls: BTreeMap<CallId, Pending<T>>,
    earliest: Earliest,
    bytes: usize,
}

/// What is known of a call when it is admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Admitted {
    /// When it was read.
    pub read_at: Instant,
    /// When its time is over.
    pub deadline: Instant,
    /// Bytes of its request, which its handler holds in one form or another.
    pub bytes: usize,
}

/// Why a call should end before it is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PendingEnd {
    /// The caller took it back, or is gone.
    Cancelled,
    /// Its time is over.
    Expired,
}

#[derive(Debug)]
struct Pending<T> {
    admitted: Admitted,
    end: Option<PendingEnd>,
    token: T,
}

impl<T> PendingCalls<T> {
    /// No calls yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { calls: BTreeMap::new(), earliest: Earliest::none(), bytes: 0 }
    }

    /// Adds a call; says whether its deadline is before every other.
    pub fn insert(&mut self, id: CallId, admitted: Admitted, token: T) -> bool {
        let is_earliest = self.earliest.at().is_none_or(|known| admitted.deadline < known);
        self.earliest.note(admitted.deadline);
        self.bytes += admitted.bytes;
        self.calls.insert(id, Pending { admitted, end: None, token });
        is_earliest
    }

    /// More of a call's request came.
    pub fn grow(&mut self, id: CallId, bytes: usize) {
        if let Some(call) = self.calls.get_mut(&id) {
            if !is_seeded(Bug::PieceLeaks) {
                call.admitted.bytes += bytes;
            }
            self.bytes += bytes;
        }
    }

    /// The call's handler has ended; gives its token.
    pub fn remove(&mut self, id: CallId) -> Option<T> {
        let call = self.calls.remove(&id)?;
        self.bytes -= call.admitted.bytes;
        Some(call.token)
    }

    /// Asks a call to end; gives its token the first time, whose reason stands. `None` for one
    /// that is not here: it has ended, or never was (CA-12).
    pub fn end(&mut self, id: CallId, end: PendingEnd) -> Option<&mut T> {
        let call = self.calls.get_mut(&id).filter(|call| call.end.is_none())?;
        call.end = Some(end);
        Some(&mut call.token)
    }

    /// Asks every call to end, for nobody is left to answer (LD-6); `asked` gets each token.
    pub fn end_all(&mut self, mut asked: impl FnMut(&mut T)) {
        for call in self.calls.values_mut().filter(|call| call.end.is_none()) {
            call.end = Some(PendingEnd::Cancelled);
            asked(&mut call.token);
        }
    }

    /// Asks every call to end whose deadline has come (CA-8).
    pub fn expire(&mut self, now: Instant, mut asked: impl FnMut(&mut T)) {
        self.earliest.reset();
        for call in self.calls.values_mut().filter(|call| call.end.is_none()) {
            if call.admitted.deadline <= now {
                call.end = Some(PendingEnd::Expired);
                asked(&mut call.token);
            } else {
                self.earliest.note(call.admitted.deadline);
            }
        }
    }

    /// Why the call should end, if it should.
    #[must_use]
    pub fn is_ended(&self, id: CallId) -> Option<PendingEnd> {
        self.calls.get(&id).and_then(|call| call.end)
    }

    /// The owner's token of a call.
    pub fn token_mut(&mut self, id: CallId) -> Option<&mut T> {
        self.calls.get_mut(&id).map(|call| &mut call.token)
    }

    /// Every owner's token.
    pub fn tokens_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.calls.values_mut().map(|call| &mut call.token)
    }

    /// What is known of a call, if it is here.
    #[must_use]
    pub fn admitted(&self, id: CallId) -> Option<Admitted> {
        self.calls.get(&id).map(|call| call.admitted)
    }

    /// Bytes of the requests of all calls here.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Not later than the first deadline; a sweep is due then.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.earliest.at()
    }

    /// How many calls there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl<T> Default for PendingCalls<T> {
    fn default() -> Self {
        Self::new()
    }
}
