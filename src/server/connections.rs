//! The connections of a listener: who may come in, who is in, and what was counted.
//!
//! Invariants: at most `connections_max` connections are kept, at most
//! `connections_per_address_max` of one address, and at most `handshaking_connections_max` whose
//! client has not said HELLO; every limit that is hit moves a counter of its own.
//!
//! What a newcomer meets is chosen for the client that means well and comes in the middle of a
//! flood. It never waits in the system's queue behind the flood: it is let in or closed at once,
//! so that it can go elsewhere. Places of the handshake are given to the newest, at the cost of
//! the one that has had its place longest: who means well needs one round trip, who floods needs
//! all the places all the time. A connection that has said HELLO is never given up for another,
//! since calls may be running on it. The limit per address comes first: one address, however many
//! connections it makes, cannot take another's place.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::driver::ConnectionHandle;
use crate::server::ServerConfig;
use crate::util::FlatMap;

/// Reads a listener's counters, also while it serves and after.
#[derive(Clone, Debug)]
pub struct ListenerHandle(pub(crate) Arc<Connections>);

/// What a listener has counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Connections taken from the transport, those that were refused included.
    pub accepted: u64,
    /// Closed at once: their address had `connections_per_address_max` already.
    pub refused_per_address: u64,
    /// Closed at once: there were `connections_max`, all past their handshake.
    pub refused_full: u64,
    /// Closed in their handshake to make room for a newer connection.
    pub displaced: u64,
    /// Errors of `accept`.
    pub accept_errors: u64,
    /// Connections that are open now.
    pub open: usize,
    /// The most that were open at a time.
    pub open_max: usize,
    /// Of those that are open: clients that have not said HELLO.
    pub handshaking: usize,
    /// The most that had not said HELLO at a time.
    pub handshaking_max: usize,
}

/// Those that are open.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    members: FlatMap<u64, Member>,
    /// Those without a HELLO when they were looked at last; ids ascend, so the oldest is first.
    handshaking: FlatMap<u64, ()>,
    per_address: FlatMap<IpAddr, usize>,
    next: u64,
    /// Woken when one ends.
    waiting: Option<Waker>,
    stats: ListenerStats,
}

#[derive(Debug)]
struct Member {
    handle: ConnectionHandle,
    address: Option<IpAddr>,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    Full,
    PerAddress,
}

/// A place among the connections; dropping it gives the place back.
pub(crate) struct Place {
    connections: Arc<Connections>,
    id: u64,
}

impl ListenerHandle {
    /// The counters as they are now.
    #[must_use]
    pub fn stats(&self) -> ListenerStats {
        let mut open = self.0.lock();
        open.forget_greeted();
        open.stats()
    }
}

impl Connections {
    /// Decides about a connection that was just accepted, and gives up another for it where that
    /// is the rule.
    pub(crate) fn admit(
        &self,
        address: Option<IpAddr>,
        config: &ServerConfig,
    ) -> Result<(), Refusal> {
        let mut open = self.lock();
        open.stats.accepted += 1;
        let of_address = address.and_then(|address| open.per_address.get(&address));
        if of_address.is_some_and(|count| *count >= config.connections_per_address_max) {
            open.stats.refused_per_address += 1;
            return Err(Refusal::PerAddress);
        }
        open.forget_greeted();
        let is_full = open.members.len() >= config.connections_max;
        if !is_full && open.handshaking.len() < config.handshaking_connections_max {
            return Ok(());
        }
        let Some(displaced) = open.handshaking.pop_first().and_then(|(id, ())| open.remove(id))
        else {
            open.stats.refused_full += 1;
            return Err(Refusal::Full);
        };
        open.stats.displaced += 1;
        drop(open);
        displaced.abort(); // Not under the lock: it runs wakers.
        Ok(())
    }

    /// Keeps a connection that was let in.
    pub(crate) fn add(
        self: &Arc<Self>,
        handle: ConnectionHandle,
        address: Option<IpAddr>,
    ) -> Place {
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.members.insert(id, Member { handle, address });
        open.handshaking.insert(id, ());
        if let Some(address) = address {
            *open.per_address.or_default(address) += 1;
        }
        open.stats.open_max = open.stats.open_max.max(open.members.len());
        open.stats.handshaking_max = open.stats.handshaking_max.max(open.handshaking.len());
        Place { connections: Arc::clone(self), id }
    }

    pub(crate) fn count_accept_error(&self) {
        self.lock().stats.accept_errors += 1;
    }

    pub(crate) fn handles(&self) -> Vec<ConnectionHandle> {
        self.lock().members.values().map(|member| member.handle.clone()).collect()
    }

    /// Ends when none is open.
    pub(crate) fn until_none(&self) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(move |cx| {
            let mut open = self.lock();
            if open.members.is_empty() {
                return Poll::Ready(());
            }
            open.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// At most `handshaking_connections_max` are looked at, and a client that means well is
    /// looked at once or twice.
    fn forget_greeted(&mut self) {
        let members = &self.members;
        self.handshaking
            .retain(|id, ()| members.get(id).is_some_and(|member| !member.is_greeted()));
    }

    fn remove(&mut self, id: u64) -> Option<ConnectionHandle> {
        let Member { handle, address } = self.members.remove(&id)?;
        self.handshaking.remove(&id);
        if let Some(address) = address
            && let Some(count) = self.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(handle)
    }

    fn stats(&self) -> ListenerStats {
        let (open, handshaking) = (self.members.len(), self.handshaking.len());
        ListenerStats { open, handshaking, ..self.stats }
    }
}

impl Member {
    fn is_greeted(&self) -> bool {
        self.handle.is_greeted()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        let handle = open.remove(self.id);
        let waiting = open.waiting.take();
        drop(open);
        drop(handle);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}
