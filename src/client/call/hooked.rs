//! A call among the interceptors of its channel.
//!
//! Invariant: a call without any comes here for one branch; one with some goes on only when they
//! have let it pass, and tells them its end and that of each attempt.

use std::task::{Context, Poll};

use crate::client::call::{Call, State};
use crate::client::connector::Wait;
use crate::service::{End, Status};

impl<Q, R, E> Call<Q, R, E> {
    /// The state of an attempt that is about to be sent.
    pub(super) const fn starting(&self) -> State {
        if self.hooks.is_some() { State::Readying } else { State::Starting(None) }
    }

    pub(super) fn poll_admit(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(hooks) = &mut self.hooks else { return Poll::Ready(Ok(())) };
        let admitted = std::task::ready!(hooks.poll_call(&self.connector, cx));
        self.deadline = Some(hooks.deadline());
        self.left = None; // They may have shortened it, and taken of it.
        self.timer = None;
        self.state = State::Connecting(Wait::new(self.wait_for_ready));
        Poll::Ready(admitted)
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let version = self.known().version;
        let (Some(hooks), Some(driver)) = (&mut self.hooks, &self.driver) else {
            return Poll::Ready(Ok(()));
        };
        let peer = || driver.shared().peer.as_str().into();
        let number = self.attempt.min(15);
        let readied = hooks.poll_attempt(&self.connector, (number, version, peer), cx);
        std::task::ready!(readied)?;
        self.state = State::Starting(None);
        Poll::Ready(Ok(()))
    }

    /// An attempt has ended so, if its interceptors are still to be told.
    pub(super) fn end_attempt(&mut self, end: impl FnOnce() -> End) {
        if let Some(hooks) = &mut self.hooks {
            hooks.end_attempt(&self.connector, end);
        }
    }

    /// The call has ended so, if its interceptors are still to be told.
    pub(super) fn end_hooks(&mut self, end: impl FnOnce() -> End) {
        if let Some(mut hooks) = self.hooks.take() {
            hooks.end(&self.connector, end());
        }
    }
}
