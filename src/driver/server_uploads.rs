//! Requests in pieces: their part of a read batch (FL-6, FL-7).
//!
//! Invariants: a request is judged when its first frame is read, and runs when its last piece is;
//! one that ends before that is answered NOT_PROCESSED, once, and nothing was started.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::driver::call_task::{CallTask, end_status, panicked};
use crate::driver::intercepted::Intercepted;
use crate::driver::server_batch::{Batch, overloaded};
use crate::driver::server_shared::ServerShared;
use crate::driver::uploads::{Upload, Uploads};
use crate::proto::{Admitted, PendingEnd};
use crate::service::append_status;
use crate::service::{Codec, Cx, Entry, Incoming, Outcome, Respond, Run, Status, Tally};
use crate::util::{Scope, pool, with_scope};
use crate::wire::{CallId, Code, Data, Disposition};

impl Batch<'_> {
    /// A request was admitted of which more is to come. Says with which status it was refused, if
    /// it was.
    pub(super) fn begin_upload(
        &mut self,
        (entry, codec): (Arc<Entry>, &Codec),
        cx: Cx,
        (admitted, scope): (Admitted, Scope),
        payload: &[u8],
    ) -> Option<Code> {
        let (id, read_at) = (cx.call, admitted.read_at);
        self.shared.add_pending(id, admitted);
        let codec = codec.clone();
        let payload_so_far = pool::LONG.take();
        let upload = Upload { entry, codec, cx, scope, read_at, payload: payload_so_far };
        self.uploads.insert(id, upload);
        let error = self.uploads.append(id, payload).err()?;
        let status = overloaded(self.shared, error.to_string());
        self.end_upload(id, &status);
        Some(status.code())
    }

    /// Takes the next piece of a request. Says with which status it was refused, if it was.
    pub(super) fn piece(&mut self, data: &Data<'_>) -> Option<Code> {
        let Data { call, has_more, payload } = *data;
        if !self.uploads.contains(call) {
            return None;
        }
        let full = self.shared.refusal(payload.len(), self.settings.in_flight_bytes_max);
        let appended = full
            .map_or(Ok(()), Err)
            .and_then(|()| self.uploads.append(call, payload).map_err(|error| error.to_string()));
        if let Err(message) = appended {
            let status = overloaded(self.shared, message); // CA-11
            self.end_upload(call, &status);
            return Some(status.code());
        }
        self.shared.grow_pending(call, payload.len());
        if has_more {
            return None;
        }
        self.uploads.remove(call).and_then(|upload| self.run_upload(upload))
    }

    /// There was no memory for a piece of it.
    pub(super) fn lose_piece(&mut self, call: CallId) {
        let status = overloaded(self.shared, "no memory for a piece of its body".to_owned());
        self.end_upload(call, &status);
    }

    /// The request is whole: starts its handler.
    fn run_upload(&mut self, upload: Upload) -> Option<Code> {
        let Upload { entry, codec, cx, scope, read_at, payload } = upload;
        let (id, payload, limits) = (cx.call, pool::into_bytes(payload), &self.settings.decode);
        if let Some(end) = self.shared.asked_to_end(id) {
            answer_end(self.shared, id, end);
            return None;
        }
        let incoming = Incoming { payload: &payload, bytes: Some(&payload), codec: &codec, limits };
        let started = catch_unwind(AssertUnwindSafe(|| {
            with_scope(scope, || -> Result<Pin<Box<dyn Respond>>, Status> {
                if self.settings.interceptors.is_empty() {
                    return entry.method.handler.start(cx, incoming);
                }
                let (cx, shared) = ((cx, scope), self.shared);
                Ok(Box::pin(Intercepted::new(shared, self.settings, &entry, cx, incoming)?))
            })
        }));
        drop(payload);
        let call = match started {
            Ok(Ok(call)) => Some(call),
            Ok(Err(status)) => {
                if status.code() == Code::OVERLOADED {
                    self.shared.totals.count_overload();
                }
                self.end_upload(id, &status);
                return Some(status.code());
            }
            Err(panic) => {
                let mut tally = Tally { started: 1, ..Tally::default() };
                tally.ended(Outcome::Failed);
                entry.counters.add(tally, self.now().saturating_duration_since(read_at));
                // User code ran: nobody may take this for not processed.
                self.shared.answer(id, &panicked(self.shared, &*panic));
                return None;
            }
        };
        let (shared, run) = (Arc::clone(self.shared), entry.method.run);
        let mut task = CallTask { shared, entry, id, scope, read_at, call, has_started: false };
        let spawn = &self.shared.runtime.spawn;
        match run {
            Run::Inline => {
                // As short calls are: no waker, its own task polls it again at once.
                let mut cx = Context::from_waker(Waker::noop());
                let once = std::pin::pin!(tokio::task::unconstrained(&mut task));
                if once.poll(&mut cx).is_pending() {
                    spawn.spawn(Box::pin(task));
                }
            }
            Run::Spawn => spawn.spawn(Box::pin(task)),
            Run::Blocking => spawn.spawn_blocking(Box::new(move || task.block())),
        }
        None
    }

    /// Answers a request whose handler was not started.
    fn end_upload(&mut self, id: CallId, status: &Status) {
        self.uploads.remove(id);
        self.shared.totals.count_refusal(status.code());
        self.shared.answer(id, status);
    }
}

impl Uploads {
    /// Answers one that was taken back, or whose time is over, if there is one.
    pub(crate) fn end_one(&mut self, shared: &ServerShared) -> Option<CallId> {
        let (id, end) = self.pop_ended()?;
        answer_end(shared, id, end);
        Some(id)
    }
}

impl ServerShared {
    /// A pending call ends with this status, as it is stamped.
    fn answer(&self, id: CallId, status: &Status) {
        let mut frame = Vec::new();
        append_status(&mut frame, id, (status, None), status.disposition());
        self.complete(id, &frame, Vec::new());
    }
}

fn answer_end(shared: &ServerShared, id: CallId, end: PendingEnd) {
    shared.answer(id, &end_status(end, None, Disposition::NotProcessed));
}
