//! Waiting until a retired handler has served its last call.
//!
//! An entry is held by the table, by every read batch through its table, and by every call that
//! outlived its batch. Its drop is the proof that none of them is left, and ends the wait.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Ends when a handler that was replaced or retired has no call left.
///
/// # Cancellation
/// Dropping it changes nothing: the calls end all the same.
#[derive(Debug)]
#[must_use = "await it to know when the last call of the old handler has ended"]
pub struct Retirement(Arc<Mutex<Drain>>);

/// Sits in the entry; its drop is the signal.
#[derive(Debug, Default)]
pub(crate) struct DrainSignal(Arc<Mutex<Drain>>);

#[derive(Debug, Default)]
struct Drain {
    is_done: bool,
    waiting: Vec<Waker>,
}

impl Retirement {
    /// Whether no call of the old handler is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_done
    }
}

impl Future for Retirement {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut drain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drain.is_done {
            return Poll::Ready(());
        }
        if !drain.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            drain.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl DrainSignal {
    pub(crate) fn retirement(&self) -> Retirement {
        Retirement(Arc::clone(&self.0))
    }
}

impl Drop for DrainSignal {
    fn drop(&mut self) {
        let mut drain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drain.is_done = true;
        let waiting = std::mem::take(&mut drain.waiting);
        drop(drain);
        waiting.into_iter().for_each(Waker::wake);
    }
}
