//! Requests whose payload comes in pieces: what has come of them (FL-6).
//!
//! Invariants: an upload is a pending call from its first frame on, with a deadline, a slot and
//! bytes that count; it becomes a running call with its last piece, or is answered NOT_PROCESSED;
//! its buffer grows with what has come. What is left of them when the reader goes, ends there.

use std::sync::Arc;
use std::time::Instant;

use crate::driver::server_shared::ServerShared;
use crate::proto::PendingEnd;
use crate::service::{Codec, Cx, Entry};
use crate::util::{FlatMap, OutOfMemory, Scope, try_grow};
use crate::wire::CallId;

/// The uploads of one connection; as many as calls are in flight, at most.
pub(crate) struct Uploads {
    shared: Arc<ServerShared>,
    calls: FlatMap<CallId, Upload>,
}

/// One request of which some is still to come.
pub(crate) struct Upload {
    pub(crate) entry: Arc<Entry>,
    pub(crate) codec: Codec,
    pub(crate) cx: Cx,
    pub(crate) scope: Scope,
    /// When its first frame was read.
    pub(crate) read_at: Instant,
    pub(crate) payload: Vec<u8>,
}

impl Uploads {
    pub(crate) const fn new(shared: Arc<ServerShared>) -> Self {
        Self { shared, calls: FlatMap::new() }
    }

    /// One begins. It is pending already.
    pub(crate) fn insert(&mut self, id: CallId, upload: Upload) {
        self.calls.insert(id, upload);
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn append(&mut self, id: CallId, piece: &[u8]) -> Result<(), OutOfMemory> {
        let Some(upload) = self.calls.get_mut(&id) else { return Ok(()) };
        try_grow(&mut upload.payload, piece.len())?;
        upload.payload.extend_from_slice(piece);
        Ok(())
    }

    /// Takes one out: it is whole, or ends before that.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<Upload> {
        self.calls.remove(&id)
    }

    pub(crate) fn contains(&self, id: CallId) -> bool {
        self.calls.contains_key(&id)
    }

    /// Takes out one that was asked to end, if there is one.
    pub(crate) fn pop_ended(&mut self) -> Option<(CallId, PendingEnd)> {
        if self.calls.is_empty() {
            return None;
        }
        let state = self.shared.lock();
        let end_of = |id: CallId| Some((id, state.pending.is_ended(id)?));
        let ended = self.calls.iter().find_map(|(id, _)| end_of(*id))?;
        drop(state);
        self.calls.remove(&ended.0);
        Some(ended)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        while let Some((id, _)) = self.calls.pop_first() {
            self.shared.complete(id, &[], Vec::new()); // Nobody is left to answer.
        }
    }
}
