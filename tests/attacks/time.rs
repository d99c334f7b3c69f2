//! The real clock: sockets of other processes know no other.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "two processes share no virtual clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets an attack go on, or looks again a little later; never to give something time to happen.
#[expect(clippy::disallowed_methods, reason = "two processes share no virtual clock")]
pub(crate) fn pause(wait: Duration) {
    std::thread::sleep(wait);
}
