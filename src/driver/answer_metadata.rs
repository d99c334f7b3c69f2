//! What handlers and interceptors add to answers, until the answers are made.
//!
//! Invariants: kept by call, under the connection's lock, as long as the call has no answer; what
//! is held is bounded by the calls in flight, 8 KiB each. A context that outlives its call adds
//! nothing: at most what one thread adds at the very moment of the answer stays behind, until
//! somebody else adds to another call.
//! Why not in the call's context: that is the user's by then, moved into a future of theirs.

use std::sync::atomic::Ordering;

use crate::driver::server_shared::ServerShared;
use crate::service::{MetadataBlock, Status};
use crate::wire::{CallId, Code};

impl ServerShared {
    pub(crate) fn add_answer_metadata(
        &self,
        call: CallId,
        name: &str,
        value: &[u8],
    ) -> Result<(), Status> {
        let mut state = self.lock();
        let serving = self.serving.load(Ordering::Relaxed);
        let state = &mut *state;
        if call.0 != serving && state.pending.admitted(call).is_none() {
            let message = "the call has been answered: nothing can be added";
            return Err(Status::refused(Code::FAILED_PRECONDITION, message));
        }
        if !state.answers.contains_key(&call) && state.answers.len() > state.pending.len() {
            let pending = &state.pending;
            state.answers.retain(|id, _| id.0 == serving || pending.admitted(*id).is_some());
        }
        self.has_answers.store(true, Ordering::Release);
        state.answers.or_default(call).push(name, value)
    }

    pub(crate) fn take_answer_metadata(&self, call: CallId) -> Option<MetadataBlock> {
        let mut state = self.lock();
        let metadata = state.answers.remove(&call);
        self.has_answers.store(!state.answers.is_empty(), Ordering::Release);
        metadata
    }

    /// An interceptor had a call until its deadline.
    pub(crate) fn say_interceptor_hangs(&self, interceptor: &str, method: &str) {
        if let Some(unsaid) = self.totals.admit_hang_line(self.runtime.now()) {
            let peer = &self.address;
            tracing::warn!(%peer, interceptor, method, unsaid, "an interceptor hangs");
        }
    }
}
