//! What to do after an error of `accept`: go on at once, or wait first.
//!
//! An error that belongs to one connection (its client went away, a firewall forbade it) is over
//! with that connection: waiting would let a client slow down others. One that says that the
//! system has run out of something comes back at once until something is given back, so waiting is
//! all that helps. What is not known is taken for the second kind.

use std::io;
use std::time::Duration;

/// How long to wait after each error.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// The wait after the next exhaustion, if it is not the first in a row.
    next: Option<Duration>,
    /// Errors in a row that were not waited for.
    unwaited: u32,
}

impl Backoff {
    /// A connection was accepted.
    pub(crate) const fn reset(&mut self) {
        *self = Self { next: None, unwaited: 0 };
    }

    /// The wait after this error.
    pub(crate) fn after(&mut self, error: &io::Error) -> Duration {
        if is_of_one_connection(error) {
            self.unwaited += 1;
            if self.unwaited < UNWAITED_MAX {
                return Duration::ZERO;
            }
            // A transport that does nothing but fail must burn no core and keep nobody from a turn.
            self.unwaited = 0;
            return BACKOFF_MIN;
        }
        let wait = self.next.unwrap_or(BACKOFF_MIN);
        self.next = Some((wait * 2).min(BACKOFF_MAX));
        wait
    }
}

/// Those that accept(2) names as the connection's own: another one may be accepted at once. Out of
/// descriptors (EMFILE, ENFILE), buffers (ENOBUFS) or memory are not among them.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::TimedOut
            | io::ErrorKind::WouldBlock
    )
}

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Errors in a row that need no wait, before one is waited for all the same.
const UNWAITED_MAX: u32 = 128;
