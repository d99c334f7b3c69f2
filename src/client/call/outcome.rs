//! What is said of a whole call when it has ended: to its caller, and to the counters.
//!
//! Invariant: an attempt that was not executed says nothing of those before it.

use std::sync::Arc;

use crate::client::call::Call;
use crate::service::{CallEnd, CallError, Metadata, Status};
use crate::wire::{Code, Disposition};

impl<Q, R, E> Call<Q, R, E> {
    /// What is true of the whole call, when its last attempt ended so: that this attempt was not
    /// executed says nothing of those before it.
    pub(super) fn of_all_attempts(
        &mut self,
        result: Result<R, CallError<E>>,
    ) -> Result<R, CallError<E>> {
        match (result, self.unknown.take()) {
            (Err(CallError::Rpc(status)), Some(unknown))
                if status.disposition() == Disposition::NotProcessed =>
            {
                if status.code() == Code::DEADLINE_EXCEEDED {
                    let mut message = format!("{}: the time was over for a retry", self.stub.name);
                    let holder = self.hooks.as_ref().and_then(|h| h.holder(&self.connector));
                    if let Some(holder) = holder {
                        message.push_str(&format!(", the interceptor {holder} had it"));
                    }
                    let status = Status::stamped(status.code(), Disposition::Maybe, message);
                    return Err(status.with_source(Arc::new(unknown)).into());
                }
                Err(unknown.into())
            }
            (result, _) => result,
        }
    }

    /// What came beside an answer that is not the outcome is nobody's.
    pub(super) fn forget_answer_metadata(&mut self) {
        if let Some(metadata) = &mut self.answer {
            *metadata = Metadata::default();
        }
    }

    /// Counts the call once, with its time: up to the answer's arrival, without another reading of
    /// the clock, if there was an answer.
    pub(super) fn count(&mut self, end: CallEnd) {
        let Some(begun_at) = self.begun_at.take() else { return };
        let ended_at = self.heard_at.unwrap_or_else(|| self.connector.runtime.clock.now());
        let took = ended_at.saturating_duration_since(begun_at);
        self.stub.counters(self.version).record(end, took);
    }
}
