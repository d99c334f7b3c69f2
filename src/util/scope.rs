//! The call that this thread serves just now, as far as calls made inside its handler inherit it.
//!
//! Set around every poll of a handler, so that it follows the handler wherever its task runs.

use std::cell::Cell;
use std::time::Instant;

/// What a call made inside a handler inherits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Scope {
    /// When the time of the call that is served is over.
    pub deadline: Instant,
    /// Whether that call is tried again: what its handler calls must not be tried again too, or
    /// the tiers multiply their retries.
    pub is_retry: bool,
}

thread_local! {
    static SCOPE: Cell<Option<Scope>> = const { Cell::new(None) };
}

/// Runs `f` with `scope` as the current one; the one before is back afterwards, also when `f`
/// panics.
#[inline]
pub fn with_scope<T>(scope: Scope, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Scope>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPE.set(self.0);
        }
    }
    let _restore = Restore(SCOPE.replace(Some(scope)));
    f()
}

/// The call that is being served on this thread, if one is.
#[must_use]
#[inline]
pub fn current_scope() -> Option<Scope> {
    SCOPE.get()
}
