//! What a handler is told about the call it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::wire::{CallId, MethodId, Tlvs, request_keys};

/// The call at hand: its deadline, its caller, its version, whether it was taken back.
#[derive(Clone, Debug)]
pub struct Cx {
    pub(crate) call: CallId,
    pub(crate) method: MethodId,
    pub(crate) version: u16,
    pub(crate) attempt: u8,
    pub(crate) deadline: Instant,
    pub(crate) metadata: Metadata,
    pub(crate) connection: Arc<dyn CallScope>,
}

/// What a handler's call hangs on: the connection it came over. The driver implements it.
pub(crate) trait CallScope: Send + Sync {
    /// Whether the caller took this call back, or its time is over.
    fn is_cancelled(&self, call: CallId) -> bool;
    fn now(&self) -> Instant;
    fn peer(&self) -> &Peer;
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// The address as the transport names it, for instance `127.0.0.1:50114`.
    pub address: String,
    /// The build the peer says it is; its word alone.
    pub build: String,
}

/// Name and value pairs that travel beside a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata {
    /// The TLV block as it came, checked.
    ext: Vec<u8>,
}

impl Cx {
    /// When the caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the caller still waits; zero when the time is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(self.connection.now())
    }

    /// Whether the caller took the call back or its time is over. A handler that may be dropped
    /// needs not ask; one with `no_cancel` or `blocking` should, between its steps.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.connection.is_cancelled(self.call)
    }

    /// The method's number.
    #[must_use]
    pub const fn method(&self) -> MethodId {
        self.method
    }

    /// The version the caller called.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// 0 for the first attempt, then 1, 2, … up to 15 (CA-9).
    #[must_use]
    pub const fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.connection.peer()
    }

    /// What came beside the request.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Metadata {
    pub(crate) fn from_ext(ext: &[u8]) -> Self {
        Self { ext: ext.to_vec() }
    }

    /// The pairs, in the order they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        Tlvs::new(&self.ext).filter(|tlv| tlv.key == request_keys::METADATA).filter_map(|tlv| {
            let (len, rest) = tlv.value.split_first()?;
            let (name, value) = rest.split_at_checked(usize::from(*len))?;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The first value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }
}

impl std::fmt::Debug for dyn CallScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CallScope({})", self.peer().address)
    }
}
