//! Callers that wait for a place: first come, first served, holding no call id.
//!
//! Invariant: with `room` places free, exactly the first `room` of the queue may enter, and a
//! newcomer only when the places outnumber the queue; so nobody overtakes.

use std::collections::VecDeque;

/// A queue of waiting callers; `W` is what wakes one.
#[derive(Debug)]
pub struct WaitQueue<W> {
    waiting: VecDeque<(Ticket, W)>,
    next: u64,
    max: usize,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// The queue is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{max} calls wait already, which is the limit")]
pub struct QueueFull {
    /// The limit.
    pub max: usize,
}

impl<W> WaitQueue<W> {
    /// For at most `max` callers.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { waiting: VecDeque::new(), next: 0, max }
    }

    /// Takes a place at the end.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn join(&mut self, waker: W) -> Result<Ticket, QueueFull> {
        if self.waiting.len() >= self.max {
            return Err(QueueFull { max: self.max });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push_back((ticket, waker));
        Ok(ticket)
    }

    /// Whether the holder of `ticket`, or a newcomer with none, may enter now.
    #[must_use]
    pub fn may_enter(&self, ticket: Option<Ticket>, room: usize) -> bool {
        let ahead = ticket.and_then(|ticket| self.find(ticket)).unwrap_or(self.waiting.len());
        ahead < room
    }

    /// Gives a place up, to enter or to go away. Whoever leaves calls [`WaitQueue::first`] after:
    /// the place that was meant for it may be the next one's.
    /// Gives back what would have woken it.
    pub fn leave(&mut self, ticket: Ticket) -> Option<W> {
        let at = self.find(ticket)?;
        self.waiting.remove(at).map(|(_, waker)| waker)
    }

    /// What wakes the first `room` in the queue.
    pub fn first(&self, room: usize) -> impl Iterator<Item = &W> {
        self.waiting.iter().take(room).map(|(_, waker)| waker)
    }

    /// Replaces what wakes the holder of `ticket`; gives back what did.
    pub fn set_waker(&mut self, ticket: Ticket, waker: W) -> Option<W> {
        let at = self.find(ticket)?;
        Some(std::mem::replace(&mut self.waiting[at].1, waker))
    }

    /// Everybody leaves.
    pub fn clear(&mut self) -> impl Iterator<Item = W> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, waker)| waker)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |(known, _)| *known).ok()
    }
}
