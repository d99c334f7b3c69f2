//! What an answer comes to, and what is said of a whole call when it has ended: to its caller, and
//! to the counters.
//!
//! Invariant: an attempt that was not executed says nothing of those before it.

use std::sync::Arc;

use crate::client::call::{Call, State};
use crate::service::{Answer, CallEnd, CallError, CodecIds, End, Metadata, Status, StubVersion};
use crate::wire::{Code, Disposition, Response};

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

    /// What an answer comes to; `None` when the call is to be sent once more in another version.
    pub(super) fn handle_answer(&mut self, found: &Answer<'_>) -> Option<Result<R, CallError<E>>> {
        self.state = State::Done;
        let answer = &found.response;
        if let Some(metadata) = &mut self.answer {
            *metadata = Metadata::from_ext(answer.ext);
        }
        let (codec, limits) = (&self.connector.codec, &self.connector.config.decode);
        let decode = self.known().decode.0;
        // An answer that does not decode was given all the same (CA-15).
        let stamped = |result: Result<R, CallError<E>>| match result {
            Err(CallError::Rpc(status)) => Err(status.with_disposition(answer.disposition).into()),
            result => result,
        };
        match answer.status {
            Code::OK | Code::APP if answer.codec != self.codec_id() => {
                let (found, ours) = ([answer.codec], [self.codec_id()]);
                let (found, ours) = (CodecIds(&found), CodecIds(&ours));
                let message = format!("the answer came in {found}, the call in {ours}");
                Some(stamped(Err(Status::new(Code::BAD_RESPONSE, message).into())))
            }
            Code::OK | Code::APP => Some(stamped(decode(found, codec, limits))),
            Code::UNSUPPORTED_VERSION if self.may_resend(answer) => None,
            _ => Some(Err(Status::from_response(answer).into())),
        }
    }

    /// After a change of the server's table: the version that is left, once, for any method and
    /// outside every budget, since nothing was executed (RT-8).
    fn may_resend(&mut self, answer: &Response<'_>) -> bool {
        if self.was_resent || answer.disposition != Disposition::NotProcessed {
            return false;
        }
        let status = Status::from_response(answer);
        let left = |known: &StubVersion<Q, R, E>| status.versions().contains(&known.version);
        let Some(at) = self.stub.versions.iter().position(left) else { return false };
        self.end_attempt(|| End::Failed(status));
        self.forget_answer_metadata();
        self.was_resent = true;
        self.heard_at = None;
        self.version = at;
        self.state = self.starting();
        true
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
