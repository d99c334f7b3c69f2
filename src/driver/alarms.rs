//! The timed chores of one task, over a single timer.
//!
//! Invariants: an alarm rings at its time or shortly after, never before, and once; setting one
//! costs no timer when an earlier one is set already, so that alarms may be moved with every read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::driver::Clock;

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// `N` alarms, by their number.
pub(crate) struct Alarms<const N: usize> {
    at: [Option<Instant>; N],
    timer: Option<(Instant, Timer)>,
}

impl<const N: usize> Alarms<N> {
    pub(crate) const fn new() -> Self {
        Self { at: [None; N], timer: None }
    }

    /// Sets an alarm anew, or off.
    pub(crate) const fn set(&mut self, alarm: usize, at: Option<Instant>) {
        self.at[alarm] = at;
    }

    /// The next alarm whose time has come; it is off then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, clock: &dyn Clock) -> Poll<usize> {
        loop {
            let Some(first) = self.at.iter().flatten().min().copied() else {
                return Poll::Pending; // A timer that is left rings for nothing, once.
            };
            if self.timer.as_ref().is_none_or(|(at, _)| *at > first) {
                self.timer = Some((first, clock.sleep_until(first)));
            }
            let Some((at, timer)) = &mut self.timer else { return Poll::Pending };
            // By the clock first: a task that has used up its turn finds every timer pending.
            let now = clock.now();
            if now < *at {
                std::task::ready!(timer.as_mut().poll(cx));
            }
            self.timer = None;
            let due = self.at.iter().position(|at| at.is_some_and(|at| at <= now));
            if let Some(alarm) = due {
                self.at[alarm] = None;
                return Poll::Ready(alarm);
            }
        }
    }
}
