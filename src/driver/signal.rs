//! Wakes a reader for what does not come over its stream: room in the output, a drain, the end.
//!
//! Invariant: the reader registers before it looks at the flags, so that a change between the
//! look and the wait wakes it.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// The waker of one reader.
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<Option<Waker>>);

impl Signal {
    pub(crate) fn register(&self, waker: &Waker) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }

    pub(crate) fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
