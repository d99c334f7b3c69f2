//! The deadline of the call that this thread serves just now.
//!
//! A client call made inside a handler inherits it. Set around every poll of a handler, so that
//! it follows the handler wherever its task runs.

use std::cell::Cell;
use std::time::Instant;

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `f` with `deadline` as the current one; the one before is back afterwards, also when `f`
/// panics.
pub fn with_deadline<T>(deadline: Instant, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    let _restore = Restore(DEADLINE.replace(Some(deadline)));
    f()
}

/// The deadline of the call that is being served on this thread, if one is.
#[must_use]
pub fn current_deadline() -> Option<Instant> {
    DEADLINE.get()
}
