//! Credit for fragments, on both ends of one direction (FL-10, FL-11).
//!
//! ```text
//! sender:   Credit { left }  --DATA, so many bytes-->  Window { open, due } : receiver
//!                            <--CREDIT, what is due--
//! ```
//!
//! Invariant: `left + on their way + due <= max`, on their way counted in both directions; so the
//! receiver is never sent more than it said it would take, and the sender never waits for more than
//! half of a window, or [`GRANT_BYTES`], of bytes that have been taken: on a slow link the rest
//! would take longer than a sender waits (LD-12).
//! Why bytes of fragments alone: all other frames are small, or bounded by the calls in flight.

use crate::proto::Violation;
use crate::wire::GRANT_BYTES;

/// What a sender may still send.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Credit {
    /// What the receiver has opened at first.
    max: u32,
    left: u32,
}

/// What a receiver has opened, and owes its sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    max: u32,
    open: u32,
    /// Taken, and not granted again yet.
    due: u32,
    taken: u64,
}

impl Credit {
    /// A receiver that takes `max` bytes.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max, left: max }
    }

    /// Bytes that may be sent now.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Sends so many of them; at most as many as are left.
    pub const fn spend(&mut self, bytes: u32) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// The receiver grants more.
    ///
    /// # Errors
    /// [`Violation::Flow`] for nothing at all, and for more than it can have taken.
    pub const fn grant(&mut self, bytes: u32) -> Result<(), Violation> {
        let (limit, left) = (self.max, self.left as u64);
        if bytes == 0 || left + bytes as u64 > limit as u64 {
            let what = "credit for bytes that were never sent";
            return Err(Violation::Flow { what, bytes, limit });
        }
        self.left += bytes;
        Ok(())
    }
}

impl Window {
    /// Open for `max` bytes.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max, open: max, due: 0, taken: 0 }
    }

    /// A fragment came, and is taken in or thrown away.
    ///
    /// # Errors
    /// [`Violation::Flow`] when the sender had no credit for it.
    pub fn take(&mut self, bytes: usize) -> Result<(), Violation> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Some(open) = self.open.checked_sub(bytes) else {
            let what = "a fragment beyond the credit";
            return Err(Violation::Flow { what, bytes, limit: self.open });
        };
        self.open = open;
        self.due += bytes;
        self.taken += u64::from(bytes);
        Ok(())
    }

    /// What is to be granted now, if enough was taken.
    pub const fn grant(&mut self) -> Option<u32> {
        if self.due < self.max.div_ceil(2) && self.due < GRANT_BYTES {
            return None;
        }
        let due = self.due;
        (self.open, self.due) = (self.open + due, 0);
        Some(due)
    }

    /// Bytes that ever came.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is sent within the credit is taken, whatever is granted may be granted, and the
        /// books balance to the byte.
        #[test]
        fn fl_10_the_books_balance(
            max in 65_536_u32..3_000_000,
            steps in prop::collection::vec((1_u32..65_537, any::<bool>()), 1..200),
        ) {
            let (mut credit, mut window) = (Credit::new(max), Window::new(max));
            let (mut sent, mut granted) = (0_u64, 0_u64);
            for (bytes, may_grant) in steps {
                let bytes = bytes.min(credit.left());
                if bytes > 0 {
                    credit.spend(bytes);
                    prop_assert_eq!(window.take(bytes as usize), Ok(()));
                    sent += u64::from(bytes);
                }
                if may_grant && let Some(grant) = window.grant() {
                    prop_assert!(grant >= GRANT_BYTES.min(max / 2));
                    prop_assert_eq!(credit.grant(grant), Ok(()));
                    granted += u64::from(grant);
                }
                prop_assert_eq!(u64::from(credit.left()), u64::from(max) - (sent - granted));
                prop_assert_eq!(window.taken(), sent);
                prop_assert!(!may_grant || window.due < GRANT_BYTES.min(max.div_ceil(2)));
            }
        }
    }

    #[test]
    fn fl_10_beyond_the_credit_is_a_violation() {
        let mut window = Window::new(65_536);
        assert_eq!(window.take(65_536), Ok(()));
        let violation = window.take(1).expect_err("nothing is left");
        assert_eq!(violation.to_string(), "a fragment beyond the credit: 1 bytes, the limit is 0");
    }

    #[test]
    fn fl_11_credit_that_makes_no_sense_is_a_violation() {
        let mut credit = Credit::new(65_536);
        assert!(credit.grant(0).is_err());
        assert!(credit.grant(1).is_err(), "nothing was sent");
        credit.spend(10);
        assert!(credit.grant(11).is_err());
        assert_eq!(credit.grant(10), Ok(()));
        assert!(credit.grant(u32::MAX).is_err());
    }
}
