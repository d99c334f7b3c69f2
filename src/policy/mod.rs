//! What to do when an attempt of a call failed: pure decisions, without a clock or a random source.
//!
//! ```text
//!   FailedAttempt --RetryPolicy::decide--> Retry { after, .. } or GiveUp(Reason)
//!                        |       |
//!                     Backoff  RetryBudget
//! ```
//!
//! Invariants: `now` and random draws are arguments, so the same inputs give the same decision;
//! whatever fails, retries add at most a tenth and one call per second to the load (P4).
//! A draw is any `u64`, all of them equally likely.

mod backoff;
mod budget;
mod retry;

pub use backoff::{Backoff, Jitter, connection_age};
pub use budget::{BudgetConfig, RetryBudget};
pub use retry::{Decision, FailedAttempt, RETRY_NEVER, Reason, RetryPolicy};
