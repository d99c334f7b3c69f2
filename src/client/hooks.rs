//! The interceptors of a channel, and how far one call is with them.
//!
//! ```text
//!   call hooks -> [ connect, choose -> attempt hooks -> sent -> ended: told ]* -> told
//! ```
//!
//! Invariants: every request that is sent has passed the attempt's hooks, a re-send in another
//! version included; who let an attempt pass is told how it ended before the next one begins, and
//! before the call's own are told. What an attempt adds to the metadata goes with it; what it puts
//! into the extensions stays with the call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::client::connector::Connector;
use crate::service::{Attempt, AttemptInterceptor, ClientCx, ClientInterceptor, End, Ended};
use crate::service::{Extensions, Hooks, Interceptors, MetadataBlock, Status};
use crate::service::{begin_attempt, begin_call, served};
use crate::wire::MethodId;

/// The interceptors of a channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientInterceptors {
    pub(crate) call: Interceptors<dyn ClientInterceptor>,
    pub(crate) attempt: Interceptors<dyn AttemptInterceptor>,
}

/// One call's way through them.
pub(crate) struct CallHooks {
    cx: ClientCx,
    hooks: Hooks<ClientCx>,
    attempt: Option<Sending>,
    /// That were sent, or about to be.
    attempts: u32,
}

/// An attempt whose interceptors are not told its end yet.
struct Sending {
    cx: ClientCx,
    hooks: Hooks<ClientCx>,
    begun: Instant,
}

impl ClientInterceptors {
    /// `None` if there is none.
    pub(crate) fn any(self) -> Option<Self> {
        (!self.call.is_empty() || !self.attempt.is_empty()).then_some(self)
    }
}

impl CallHooks {
    /// Of a call that begins, with the metadata of its own.
    pub(crate) fn new(
        (name, method, is_idempotent): (Arc<str>, MethodId, bool),
        (begun, deadline): (Instant, Instant),
        metadata: MetadataBlock,
    ) -> Self {
        let cx = ClientCx {
            name,
            method,
            is_idempotent,
            begun,
            deadline,
            attempt: None,
            metadata,
            extensions: Extensions::new(),
            served: served(),
        };
        Self { cx, hooks: Hooks::new(), attempt: None, attempts: 0 }
    }

    /// Lets the interceptors of the call judge it.
    pub(crate) fn poll_call(
        &mut self,
        connector: &Connector,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        let Some(ours) = &connector.interceptors else { return Poll::Ready(Ok(())) };
        self.hooks.poll(&ours.call, &mut self.cx, begin_call, cx)
    }

    /// Lets the interceptors of attempts judge one, which begins if none is under way.
    pub(crate) fn poll_attempt(
        &mut self,
        connector: &Connector,
        (number, version, peer): (u8, u16, impl FnOnce() -> Arc<str>),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        let Some(ours) = &connector.interceptors else { return Poll::Ready(Ok(())) };
        let Self { cx: call, attempts, .. } = self;
        let sending = self.attempt.get_or_insert_with(|| {
            *attempts += 1;
            let mut cx = call.clone();
            cx.attempt = Some(Attempt { number, version, peer: peer() });
            Sending { cx, hooks: Hooks::new(), begun: connector.runtime.now() }
        });
        let Sending { cx: attempt, hooks, .. } = sending;
        let polled = hooks.poll(&ours.attempt, attempt, begin_attempt, cx);
        call.extensions.clone_from(&attempt.extensions);
        polled
    }

    /// The attempt under way has ended, if one is.
    pub(crate) fn end_attempt(&mut self, connector: &Connector, end: impl FnOnce() -> End) {
        let (Some(mut sending), Some(ours)) = (self.attempt.take(), &connector.interceptors) else {
            return;
        };
        let ended = ended(connector, end(), 1, sending.begun);
        stop(&mut sending.hooks);
        for named in sending.hooks.finish(&ours.attempt) {
            tell(&named.name, || named.hooks.after(&sending.cx, &ended));
        }
    }

    /// The call has ended.
    pub(crate) fn end(&mut self, connector: &Connector, end: End) {
        self.end_attempt(connector, || end.clone());
        let Some(ours) = &connector.interceptors else { return };
        let ended = ended(connector, end, self.attempts, self.cx.begun);
        stop(&mut self.hooks);
        for named in self.hooks.finish(&ours.call) {
            tell(&named.name, || named.hooks.after(&self.cx, &ended));
        }
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.cx.deadline
    }

    /// What travels beside the request of the attempt under way.
    pub(crate) fn metadata(&self) -> &MetadataBlock {
        self.attempt.as_ref().map_or(&self.cx.metadata, |sending| &sending.cx.metadata)
    }

    /// The interceptor that has the call, if one has.
    pub(crate) fn holder<'a>(&self, connector: &'a Connector) -> Option<&'a str> {
        let ours = connector.interceptors.as_ref()?;
        let of_attempt = self.attempt.as_ref().map(|sending| sending.hooks.holder(&ours.attempt));
        self.hooks.holder(&ours.call).or_else(|| of_attempt.flatten())
    }
}

fn ended(connector: &Connector, end: End, attempts: u32, begun: Instant) -> Ended {
    let duration = connector.runtime.now().saturating_duration_since(begun);
    Ended { end, attempts, duration }
}

/// Drops the hook at work. A call may be dropped by a panic: a second one would end the process.
fn stop(hooks: &mut Hooks<ClientCx>) {
    if catch_unwind(AssertUnwindSafe(|| hooks.stop())).is_err() {
        tracing::error!("an interceptor's future panicked when it was dropped");
    }
}

/// Tells an interceptor the end.
fn tell(name: &str, after: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(after)).is_err() {
        tracing::error!(interceptor = name, "an interceptor panicked when it was told the end");
    }
}
