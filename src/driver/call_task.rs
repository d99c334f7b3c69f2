//! A handler that outlived its read batch: a task, or a thread of the blocking pool.
//!
//! Invariants: the call is answered exactly once, when its handler has ended: finished, dropped
//! at an await, or panicked. A handler that was not started when its call was taken back, or when
//! its time was over, is never started (the answer says NOT_PROCESSED).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use crate::driver::scratch::with_answer;
use crate::driver::server_shared::{ServerShared, Turn};
use crate::proto::PendingEnd;
use crate::service::{CallScope, PeerLimits, append_status};
use crate::service::{End, Entry, Method, Outcome, Reply, Respond, Run, Status, Tally};
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{Scope, with_scope};
use crate::wire::{CallId, Code, Disposition};

pub(crate) struct CallTask {
    pub(crate) shared: Arc<ServerShared>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) id: CallId,
    pub(crate) scope: Scope,
    /// When the request was read.
    pub(crate) read_at: Instant,
    /// Gone when it has ended.
    pub(crate) call: Option<Pin<Box<dyn Respond>>>,
    pub(crate) has_started: bool,
}

/// How a started handler left off.
pub(crate) enum Polled {
    Pending,
    Ended(Outcome),
    Panicked,
}

impl CallTask {
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Turn { end, must_wait } = self.shared.poll_end(self.id, cx.waker());
        if !self.has_started {
            let clock = &self.shared.runtime.clock;
            let is_late = !is_seeded(Bug::LateStart) && clock.now() >= self.scope.deadline;
            let end = end.or_else(|| is_late.then_some(PendingEnd::Expired));
            if let Some(end) = end {
                self.give_up(end);
                return Poll::Ready(());
            }
            if must_wait {
                return Poll::Pending; // Woken when there is room.
            }
            self.has_started = true;
            if self.holder().is_none() {
                self.count(Tally { started: 1, ..Tally::default() });
            }
        } else if let Some(end) = end
            && (self.entry.method.cancellable || self.holder().is_some())
        {
            self.give_up(end);
            return Poll::Ready(());
        }
        if must_wait {
            return Poll::Pending;
        }
        self.poll_call(cx)
    }

    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        with_answer(|out| {
            let Some(call) = &mut self.call else { return Poll::Ready(()) };
            let (limits, mut bodies) = (self.shared.client_limits(), Vec::new());
            let scope: &ServerShared = &self.shared;
            let mut reply =
                Reply { out: &mut *out, bodies: Some(&mut bodies), call: self.id, limits, scope };
            let (mut tally, mut disposition) = (Tally::default(), Disposition::Maybe);
            let Method { id, run, .. } = self.entry.method;
            // A thread of the blocking pool is there to be held.
            let turn = (run != Run::Blocking).then(|| self.shared.totals.turns.enter(id));
            let polled = poll_handler(&self.shared, call.as_mut(), self.scope, cx, &mut reply);
            drop(turn);
            match polled {
                Polled::Pending => return Poll::Pending,
                Polled::Ended(Outcome::Refused(code)) => {
                    disposition = Disposition::NotProcessed;
                    scope.note_refusal(code);
                }
                Polled::Ended(outcome) => tally.ended(outcome),
                Polled::Panicked => tally.ended(Outcome::Failed),
            }
            drop_handler(&self.shared, self.call.take());
            // It could not be stopped in time: whatever it says, the end came first (CA-12).
            if let Some(end) = self.shared.asked_to_end(self.id) {
                let is_executed = disposition == Disposition::Maybe;
                tally = if is_executed { Tally::cancelled() } else { Tally::default() };
                out.clear();
                bodies.clear();
                append_status(
                    out,
                    self.id,
                    (&end_status(end, None, disposition), None),
                    disposition,
                );
            }
            self.count(tally);
            self.shared.complete(self.id, out, bodies);
            Poll::Ready(())
        })
    }

    /// Drops the handler, at its await or before its start, and answers.
    fn give_up(&mut self, end: PendingEnd) {
        let is_counted = self.has_started && self.holder().is_none();
        let disposition = match &mut self.call {
            Some(call) if is_counted => call.as_mut().give_up(),
            _ => Disposition::NotProcessed,
        };
        let holder = self.holder().filter(|_| self.has_started);
        let status = end_status(end, holder, disposition);
        if let (Some(holder), PendingEnd::Expired) = (holder, end) {
            self.shared.say_interceptor_hangs(holder, &self.entry.method.name);
        }
        if let Some(call) = &mut self.call {
            let end = match end {
                PendingEnd::Cancelled => End::Cancelled,
                PendingEnd::Expired => End::Failed(status.clone()),
            };
            call.as_mut().handle_end(end);
        }
        drop_handler(&self.shared, self.call.take());
        if is_counted {
            self.count(Tally::cancelled());
        }
        with_answer(|out| {
            let mut reply = Reply {
                out: &mut *out,
                bodies: None,
                call: self.id,
                limits: PeerLimits::NONE,
                scope: &*self.shared,
            };
            reply.status(&status);
            self.shared.complete(self.id, out, Vec::new());
        });
    }

    /// The interceptor that has the call, as long as its handler was not started.
    fn holder(&self) -> Option<&str> {
        self.call.as_ref().and_then(|call| call.holder())
    }

    fn count(&self, tally: Tally) {
        let now = self.shared.runtime.clock.now();
        self.entry.counters.add(tally, now.saturating_duration_since(self.read_at));
    }

    /// Runs the handler to its end on this thread, which may block.
    pub(crate) fn block(mut self) {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        while self.poll_run(&mut cx).is_pending() {
            std::thread::park();
        }
    }
}

impl Future for CallTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().poll_run(cx)
    }
}

impl Drop for CallTask {
    /// The runtime dropped the task: the handler has ended without an answer.
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let is_executed = self.has_started && call.holder().is_none();
            drop_handler(&self.shared, Some(call));
            if is_executed {
                self.count(Tally::cancelled());
            }
            self.shared.complete(self.id, &[], Vec::new());
        }
    }
}

/// The answer to a call that was taken back, or whose time is over, while an interceptor had it
/// or its handler.
pub(crate) fn end_status(
    end: PendingEnd,
    holder: Option<&str>,
    disposition: Disposition,
) -> Status {
    let (code, message) = match end {
        PendingEnd::Cancelled => (Code::CANCELLED, "taken back by the caller"),
        PendingEnd::Expired => (Code::DEADLINE_EXCEEDED, "the time was over on the server"),
    };
    let message = match holder {
        Some(holder) => format!("{message}, in the interceptor {holder}"),
        None => message.to_owned(),
    };
    Status::stamped(code, disposition, message)
}

/// Drops a handler. A panic in there must not keep its call from being answered.
#[inline]
pub(crate) fn drop_handler(shared: &ServerShared, call: Option<Pin<Box<dyn Respond>>>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(call))) {
        panicked(shared, &*panic); // For the log: the answer does not depend on it.
    }
}

/// Polls a handler once. A panic costs this call only, and is answered.
#[inline]
pub(crate) fn poll_handler(
    shared: &ServerShared,
    call: Pin<&mut dyn Respond>,
    scope: Scope,
    cx: &mut Context<'_>,
    reply: &mut Reply<'_>,
) -> Polled {
    let start = reply.len();
    let polled =
        catch_unwind(AssertUnwindSafe(|| with_scope(scope, || call.poll_respond(cx, reply))));
    match polled {
        Ok(Poll::Pending) => Polled::Pending,
        Ok(Poll::Ready(outcome)) => Polled::Ended(outcome),
        Err(panic) => {
            reply.truncate(start);
            reply.status(&panicked(shared, &*panic));
            Polled::Panicked
        }
    }
}

/// The answer to a call whose handler panicked. The text stays here: it may tell secrets.
pub(crate) fn panicked(shared: &ServerShared, panic: &(dyn std::any::Any + Send)) -> Status {
    say_panic(shared, panic, "a handler");
    Status::new(Code::INTERNAL, "the handler panicked")
}

/// Leaves a line that code of the user's panicked.
pub(crate) fn say_panic(shared: &ServerShared, panic: &(dyn std::any::Any + Send), who: &str) {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("not a text");
    if let Some(unsaid) = shared.totals.admit_panic_line(shared.runtime.now()) {
        // It may hold what a peer sent: cut, and escaped by the quotes.
        let cut = &text[..text.floor_char_boundary(PANIC_BYTES_SAID)];
        tracing::error!(peer = %shared.address, panic = ?cut, unsaid, "{who} panicked");
    }
}

/// Of a panic's text, for the log.
const PANIC_BYTES_SAID: usize = 256;
