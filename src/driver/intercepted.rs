//! A call that passes a server's interceptors before it reaches its handler.
//!
//! ```text
//!   hooks --all pass--> deadline? --no--> decode, start --> running --> ended
//!     \--refused, panic--> \--over--> \--refused-->                    after hooks, in reverse
//! ```
//!
//! Invariants: a handler is started after the last hook has let the call pass, and before the
//! call's deadline, or not at all: then the answer says NOT_PROCESSED. `started` is counted here,
//! when the handler is. After hooks run exactly once, however the call ends, when what it ran has
//! been dropped; code of the user's that panics costs this call, or a line of log.
//! Cost: a copy of the payload, this box and one for each hook. Without interceptors none of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::driver::call_task::{Polled, drop_handler, poll_handler, say_panic};
use crate::driver::entered::entered;
use crate::driver::server_settings::ServerSettings;
use crate::driver::server_shared::ServerShared;
use crate::proto::PendingEnd;
use crate::service::{Codec, Cx, DecodeLimits, End, Ended, Entry, Hooks, Incoming, Interceptors};
use crate::service::{Outcome, Reply, Respond, Running, ServerInterceptor, Status, Tally};
use crate::util::Scope;
use crate::wire::{Code, Decoder, Disposition, Frame};

pub(crate) struct Intercepted {
    shared: Arc<ServerShared>,
    entry: Arc<Entry>,
    chain: Interceptors<dyn ServerInterceptor>,
    hooks: Hooks<Cx>,
    cx: Cx,
    scope: Scope,
    request: Request,
    begun: Instant,
    stage: Stage,
}

/// What the handler is started with.
struct Request {
    payload: Bytes,
    codec: Codec,
    limits: DecodeLimits,
}

enum Stage {
    Hooks,
    Running(Pin<Box<dyn Respond>>),
    Over,
}

impl Intercepted {
    /// # Errors
    /// A refusal: there is no memory for a copy of the payload.
    pub(crate) fn new(
        shared: &Arc<ServerShared>,
        settings: &ServerSettings,
        entry: &Arc<Entry>,
        (mut cx, scope): (Cx, Scope),
        incoming: Incoming<'_>,
    ) -> Result<Self, Status> {
        let Incoming { codec, limits, .. } = incoming;
        let payload = incoming.to_bytes()?;
        cx.name = Some(Arc::clone(&entry.method.name));
        Ok(Self {
            shared: Arc::clone(shared),
            entry: Arc::clone(entry),
            chain: settings.interceptors.clone(),
            hooks: Hooks::new(),
            cx,
            scope,
            request: Request { payload, codec: codec.clone(), limits: *limits },
            begun: shared.runtime.now(),
            stage: Stage::Hooks,
        })
    }

    /// Lets every hook judge the call, then starts its handler.
    ///
    /// # Errors
    /// The refusal, stamped.
    fn poll_start(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Self { hooks, chain, cx, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| hooks.poll(chain, cx, begin, task))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => {}
            Ok(Poll::Ready(Err(refusal))) => return Poll::Ready(Err(refusal)),
            Err(panic) => {
                let name = self.hooks.holder(&self.chain).unwrap_or_default();
                say_panic(&self.shared, &*panic, &format!("the interceptor {name}"));
                let message = format!("{name}: the interceptor panicked"); // CA-19
                return Poll::Ready(Err(Status::refused(Code::INTERNAL, message)));
            }
        }
        if self.shared.runtime.now() >= self.scope.deadline {
            // CA-8, CA-19
            let message = "over in the interceptors, before its handler could be started";
            return Poll::Ready(Err(Status::refused(Code::DEADLINE_EXCEEDED, message)));
        }
        let Request { payload, codec, limits } = &self.request;
        let incoming = Incoming { payload, bytes: Some(payload), codec, limits };
        let (cx, handler) = (self.cx.clone(), &self.entry.method.handler);
        let started = catch_unwind(AssertUnwindSafe(|| {
            entered(self.cx.extensions(), || handler.start(cx, incoming))
        }));
        self.request.payload = Bytes::new();
        match started {
            Ok(Ok(handler)) => self.stage = Stage::Running(handler),
            Ok(Err(refusal)) => {
                if refusal.code() == Code::OVERLOADED {
                    self.shared.totals.count_overload();
                }
                return Poll::Ready(Err(refusal));
            }
            // User code ran: nobody may take this for not processed.
            Err(panic) => self.stage = Stage::Running(Box::pin(Panicked(Some(panic)))),
        }
        self.entry.counters.add(Tally { started: 1, ..Tally::default() }, Duration::ZERO);
        Poll::Ready(Ok(()))
    }

    /// The call has ended: drops what ran, and tells those who let it pass.
    fn finish(&mut self, end: End) {
        let Stage::Running(handler) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return self.tell(end);
        };
        drop_handler(&self.shared, Some(handler));
        self.tell(end);
    }

    fn tell(&mut self, end: End) {
        let duration = self.shared.runtime.now().saturating_duration_since(self.begun);
        let ended = Ended { end, attempts: 1, duration };
        let (shared, cx) = (&self.shared, &self.cx);
        let hooks = &mut self.hooks;
        // It drops a hook that is at work.
        let told = catch_unwind(AssertUnwindSafe(|| hooks.stop()));
        if let Err(panic) = told {
            say_panic(shared, &*panic, "an interceptor that was dropped");
        }
        for named in self.hooks.finish(&self.chain) {
            let after = || entered(cx.extensions(), || named.hooks.after(cx, &ended));
            if let Err(panic) = catch_unwind(AssertUnwindSafe(after)) {
                say_panic(shared, &*panic, &format!("the interceptor {} (after)", named.name));
            }
        }
    }

    /// What the caller is told of a call that has answered with `answer`: if it was asked to end
    /// before that, the answer does not count (CA-12).
    fn end_of(&self, outcome: Outcome, answer: &[u8]) -> End {
        match (self.shared.asked_to_end(self.cx.call), outcome) {
            (Some(PendingEnd::Cancelled), _) => End::Cancelled,
            (Some(PendingEnd::Expired), _) => {
                let message = "the time was over on the server";
                End::Failed(Status::new(Code::DEADLINE_EXCEEDED, message))
            }
            (None, Outcome::Ok) => End::Ok,
            (None, Outcome::App) => End::App,
            (None, Outcome::Failed | Outcome::Refused(_)) => End::Failed(status_in(answer)),
        }
    }
}

impl Respond for Intercepted {
    fn poll_respond(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Outcome> {
        let this = self.get_mut();
        if matches!(this.stage, Stage::Hooks)
            && let Err(refusal) = std::task::ready!(this.poll_start(task))
        {
            reply.status(&refusal);
            let code = refusal.code();
            this.shared.totals.count_refusal(code);
            this.finish(End::Failed(refusal));
            return Poll::Ready(Outcome::Refused(code));
        }
        let Stage::Running(handler) = &mut this.stage else { return Poll::Pending };
        let (start, shared, scope) = (reply.out.len(), &this.shared, this.scope);
        let polled = entered(this.cx.extensions(), || {
            poll_handler(shared, handler.as_mut(), scope, task, reply)
        });
        let (outcome, end) = match polled {
            Polled::Pending => return Poll::Pending,
            Polled::Ended(outcome) => (outcome, this.end_of(outcome, &reply.out[start..])),
            Polled::Panicked => (Outcome::Failed, End::Panicked),
        };
        this.finish(end);
        Poll::Ready(outcome)
    }

    fn holder(&self) -> Option<&str> {
        let is_held = matches!(self.stage, Stage::Hooks);
        self.hooks.holder(&self.chain).filter(|_| is_held)
    }

    fn give_up(self: Pin<&mut Self>) -> Disposition {
        match &mut self.get_mut().stage {
            Stage::Running(handler) => handler.as_mut().give_up(),
            Stage::Hooks | Stage::Over => Disposition::NotProcessed,
        }
    }

    fn handle_end(self: Pin<&mut Self>, end: End) {
        self.get_mut().finish(end);
    }
}

impl Drop for Intercepted {
    /// The runtime dropped the call: nobody is answered, but who let it pass is told.
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Over) {
            self.finish(End::Cancelled);
        }
    }
}

/// Begins one hook, which is polled inside of what those before it put around it.
fn begin(hooks: Arc<dyn ServerInterceptor>, mut cx: Cx) -> Running<Cx> {
    Box::pin(async move {
        let extensions = cx.extensions().clone();
        let mut hook = entered(&extensions, || hooks.before(&mut cx));
        let judged =
            std::future::poll_fn(|task| entered(&extensions, || Pin::new(&mut hook).poll(task)));
        let verdict = judged.await;
        drop(hook);
        (cx, verdict)
    })
}

/// The panic of a handler that was not even made, for whoever polls it.
struct Panicked(Option<Box<dyn std::any::Any + Send>>);

impl Respond for Panicked {
    fn poll_respond(
        self: Pin<&mut Self>,
        _task: &mut Context<'_>,
        _reply: &mut Reply<'_>,
    ) -> Poll<Outcome> {
        match self.get_mut().0.take() {
            Some(panic) => std::panic::resume_unwind(panic),
            None => Poll::Pending,
        }
    }
}

/// The status in an answer that we have made ourselves.
fn status_in(answer: &[u8]) -> Status {
    let frame = Decoder::new(u32::MAX).decode(answer).ok().flatten();
    match frame.map(|(raw, _)| Frame::parse(raw)) {
        Some(Ok(Frame::Response(response))) => Status::from_response(&response),
        _ => Status::new(Code::INTERNAL, "the answer cannot be read"),
    }
}
