//! Whether a call whose attempt failed is tried again, and when.
//!
//! | what ended the attempt | tried again |
//! |---|---|
//! | PROCESSED, whatever the code: the handler's own answer | never |
//! | never sent, or refused by a drain (NOT_PROCESSED) | any method, free, until the deadline |
//! | any other NOT_PROCESSED that may heal, OVERLOADED above all | any method, within the budget |
//! | MAYBE: the connection was lost | only an idempotent method, within the budget |
//! | MAYBE: past its deadline, or cancelled | never |
//! | what would fail again in the same way, such as UNKNOWN_METHOD | never |
//!
//! Invariants: at most once unless the method is idempotent (P3); what is not free costs a token
//! and an attempt, and a token is only taken for a retry that will be made; no retry is due at or
//! after the deadline; a server's `retry_after` is kept.
//! Why free replays: the call did not add load anywhere, and a drain must lose no call (P6). They
//! wait like others from the second on, so that nothing spins.

use std::time::{Duration, Instant};

use crate::policy::{Backoff, RetryBudget};
use crate::util::bugs::{Bug, is_seeded};
use crate::wire::{Code, Disposition};

/// How the calls of a channel are tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts per call, the first included, free replays not. 0 is as 1: no retries.
    ///
    /// Default: 3.
    pub attempts_max: u8,
    /// Waits between attempts, and between free replays from the second on.
    ///
    /// Default: [`Backoff::CALL`].
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 3, backoff: Backoff::CALL }
    }
}

/// An attempt that failed, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    /// How it ended.
    pub code: Code,
    /// Whether it was executed.
    pub disposition: Disposition,
    /// The server's wish (ST-4, key 2); [`RETRY_NEVER`] or more forbids another attempt.
    pub retry_after: Option<Duration>,
    /// Its number as on the wire (CA-9): 0 for the first attempt and its free replays.
    pub attempt: u8,
    /// How many free replays the call has had.
    pub replays: u32,
    /// Whether the method may be executed twice.
    pub is_idempotent: bool,
    /// Whether the call was made by a handler that itself serves an attempt above 0. Such a call
    /// has one attempt and its free replays: else tiers would multiply their retries.
    pub is_nested_retry: bool,
    /// From now to the call's deadline.
    pub time_left: Duration,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The call ends with the status of this attempt.
    GiveUp(Reason),
    /// Another attempt is to be made.
    Retry {
        /// From now on; shorter than the time left. Zero: at once.
        after: Duration,
        /// The number of the next attempt. A free replay keeps the number, since nobody executed
        /// the one before.
        attempt: u8,
        /// A free replay: no token was taken, and the call's count of replays goes up by one.
        is_free: bool,
    },
}

/// Why a call is not tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The policy's attempts are used up.
    AttemptsUsedUp,
    /// Too many retries in the last 10 s.
    BudgetEmpty,
    /// The next attempt would not be before the deadline.
    NoTimeLeft,
    /// It would end in the same way, or it is the handler's own answer.
    NotRetryable,
    /// The server said: never.
    Pushback,
    /// It may have been executed, and the method is not idempotent.
    UnknownOutcome,
}

/// A `retry_after` that forbids another attempt: the highest number of its wire key (ST-4, key 2).
pub const RETRY_NEVER: Duration = Duration::from_millis(u32::MAX as u64);

/// A replay's wait that the deadline has cut short is at least this, so that few are left.
const REPLAY_WAIT_MIN: Duration = Duration::from_millis(10);

/// At what cost an attempt may be followed by another.
enum Cost {
    Free,
    Token,
}

impl RetryPolicy {
    /// Decides about one failed attempt. Takes a token from the budget if, and only if, it answers
    /// with a retry that is not free. First attempts are deposited by the caller.
    #[must_use]
    pub fn decide(
        &self,
        failed: &FailedAttempt,
        budget: &mut RetryBudget,
        now: Instant,
        draw: u64,
    ) -> Decision {
        let is_free = match cost(failed) {
            Ok(cost) => matches!(cost, Cost::Free),
            Err(reason) => return Decision::GiveUp(reason),
        };
        let pushback = failed.retry_after.unwrap_or_default();
        if pushback >= RETRY_NEVER {
            return Decision::GiveUp(Reason::Pushback);
        }
        let attempts_max = if failed.is_nested_retry { 1 } else { self.attempts_max };
        let next = failed.attempt.saturating_add(1);
        if !is_free && next >= attempts_max {
            return Decision::GiveUp(Reason::AttemptsUsedUp);
        }
        let backoff = if is_free {
            let waits_before = failed.replays.checked_sub(1);
            waits_before.map_or(Duration::ZERO, |waits| self.backoff.delay(waits, draw))
        } else {
            self.backoff.delay(failed.attempt.into(), draw)
        };
        let mut after = backoff.max(pushback);
        if is_free && after >= failed.time_left {
            // What costs nothing is not given up for a long draw, only for want of time.
            let half = failed.time_left / 2;
            if half >= REPLAY_WAIT_MIN {
                after = half.max(pushback);
            }
        }
        if after >= failed.time_left {
            return Decision::GiveUp(Reason::NoTimeLeft);
        }
        // Last, so that no token is lost to a call that ends anyway.
        if !is_free && !budget.try_withdraw(now) {
            return Decision::GiveUp(Reason::BudgetEmpty);
        }
        let attempt = if is_free { failed.attempt } else { next };
        Decision::Retry { after, attempt, is_free }
    }
}

/// What another attempt costs, by what is known of this one; or why there is none.
fn cost(failed: &FailedAttempt) -> Result<Cost, Reason> {
    if !may_heal(failed.code) {
        return Err(Reason::NotRetryable);
    }
    match failed.disposition {
        Disposition::NotProcessed => match failed.code {
            Code::NOT_CONNECTED | Code::CONNECTION_LOST | Code::DRAINING => Ok(Cost::Free),
            _ => Ok(Cost::Token),
        },
        Disposition::Maybe if failed.is_idempotent || is_seeded(Bug::RetryUnknown) => {
            Ok(Cost::Token)
        }
        Disposition::Maybe => Err(Reason::UnknownOutcome),
        Disposition::Processed => Err(Reason::NotRetryable),
    }
}

/// Whether the same request may end otherwise a little later. Codes that nobody knows yet may: a
/// newer server says with its disposition that it is safe to find out, and the budget bounds it.
const fn may_heal(code: Code) -> bool {
    !matches!(
        code,
        Code::OK
            | Code::APP
            // The call is over for its caller.
            | Code::CANCELLED
            | Code::DEADLINE_EXCEEDED
            // This server and this request do not fit each other.
            | Code::UNKNOWN_METHOD
            | Code::UNSUPPORTED_VERSION
            | Code::SCHEMA_MISMATCH
            | Code::UNSUPPORTED_CODEC
            | Code::BAD_PAYLOAD
            | Code::TOO_LARGE
            | Code::CONVERSION
            | Code::UNSUPPORTED_FLAG
            | Code::BAD_METADATA
            | Code::INVALID_ARGUMENT
            | Code::NOT_FOUND
            | Code::ALREADY_EXISTS
            | Code::PERMISSION_DENIED
            | Code::UNAUTHENTICATED
            | Code::FAILED_PRECONDITION
            | Code::OUT_OF_RANGE
            | Code::UNIMPLEMENTED
            | Code::DATA_LOSS
            // The client's own: the request or the response is at fault, or the client is full.
            | Code::ENCODE
            | Code::QUEUE_FULL
            | Code::BAD_RESPONSE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::BudgetConfig;

    const MS: Duration = Duration::from_millis(1);

    /// The first attempt of an idempotent call, of which nothing is known but how it ended.
    fn failed(code: Code, disposition: Disposition) -> FailedAttempt {
        FailedAttempt {
            code,
            disposition,
            retry_after: None,
            attempt: 0,
            replays: 0,
            is_idempotent: true,
            is_nested_retry: false,
            time_left: Duration::from_secs(10),
        }
    }

    fn overloaded() -> FailedAttempt {
        failed(Code::OVERLOADED, Disposition::NotProcessed)
    }

    fn draining() -> FailedAttempt {
        failed(Code::DRAINING, Disposition::NotProcessed)
    }

    /// Decides with the middle draw and a budget of that many tokens; says how many it took.
    fn decide_with(failed: &FailedAttempt, tokens: u32) -> (Decision, u64) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the zero of a test")]
        let now = Instant::now();
        let config = BudgetConfig { retries_per_mille: 1000, reserve_per_second: 0 };
        let mut budget = RetryBudget::new(config, now);
        (0..tokens).for_each(|_| budget.deposit(now));
        let decision = RetryPolicy::default().decide(failed, &mut budget, now, 1 << 63);
        (decision, u64::from(tokens) - budget.balance(now))
    }

    fn decide(failed: &FailedAttempt) -> Decision {
        decide_with(failed, 1).0
    }

    /// Every code with every disposition, on both kinds of methods: the table of the header.
    #[test]
    fn the_table_holds_for_every_code() {
        let free = [Code::NOT_CONNECTED, Code::CONNECTION_LOST, Code::DRAINING];
        // 16 is unassigned: a newer server's.
        let heal = [11, 12, 16, 38, 39, 42, 44].map(Code::from_u16);
        for code in (0..64).chain(0x8000..0x8008).map(Code::from_u16) {
            let named = code.name().is_some() || code == Code::from_u16(16);
            for is_idempotent in [true, false].into_iter().filter(|_| named) {
                let decide = |disposition| {
                    decide(&FailedAttempt { is_idempotent, ..failed(code, disposition) })
                };
                let token = Decision::Retry { after: 5 * MS, attempt: 1, is_free: false };
                let never = Decision::GiveUp(Reason::NotRetryable);
                let unknown = Decision::GiveUp(Reason::UnknownOutcome);

                let refused = match (free.contains(&code), heal.contains(&code)) {
                    (true, _) => {
                        Decision::Retry { after: Duration::ZERO, attempt: 0, is_free: true }
                    }
                    (false, true) => token,
                    (false, false) => never,
                };
                let lost = match (refused, is_idempotent) {
                    (Decision::GiveUp(_), _) => never,
                    (Decision::Retry { .. }, true) => token,
                    (Decision::Retry { .. }, false) => unknown,
                };
                assert_eq!(decide(Disposition::NotProcessed), refused, "{code}");
                assert_eq!(decide(Disposition::Maybe), lost, "{code}");
                assert_eq!(decide(Disposition::Processed), never, "{code}");
            }
        }
    }

    /// The third attempt is the last; of a retry's own calls, the first is.
    #[test]
    fn attempts_are_counted() {
        let numbered = |attempt| decide(&FailedAttempt { attempt, ..overloaded() });
        let used_up = Decision::GiveUp(Reason::AttemptsUsedUp);

        assert_eq!(numbered(1), Decision::Retry { after: 10 * MS, attempt: 2, is_free: false });
        assert_eq!(numbered(2), used_up);
        assert_eq!(numbered(u8::MAX), used_up);
        assert_eq!(decide(&FailedAttempt { is_nested_retry: true, ..overloaded() }), used_up);
    }

    /// Free replays cost nothing, end with nothing but the deadline, and wait from the second on.
    #[test]
    fn free_replays_go_on_until_the_deadline() {
        let replay = |replays, is_nested_retry| {
            let last_of_nothing = FailedAttempt { attempt: 2, is_nested_retry, ..draining() };
            decide_with(&FailedAttempt { replays, ..last_of_nothing }, 0).0
        };
        let after = |after| Decision::Retry { after, attempt: 2, is_free: true };

        assert_eq!(replay(0, true), after(Duration::ZERO));
        assert_eq!(replay(1, false), after(5 * MS));
        assert_eq!(replay(2, true), after(10 * MS));
        assert_eq!(replay(u32::MAX, false), after(500 * MS));
        let late = FailedAttempt { time_left: Duration::ZERO, ..draining() };
        assert_eq!(decide(&late), Decision::GiveUp(Reason::NoTimeLeft));
    }

    /// A free replay whose draw is beyond the deadline waits for half of what is left, down to
    /// 10 ms, and not less than the server asks for. A retry that is not free is given up. Shown at
    /// both ends of the 10 ms, with a draw of 500 ms.
    #[test]
    fn a_free_replay_is_not_given_up_for_a_long_draw() {
        let replay = |time_left, retry_after, failed: FailedAttempt| {
            let replays = u32::MAX;
            match decide(&FailedAttempt { time_left, retry_after, replays, ..failed }) {
                Decision::Retry { after, .. } => Ok(after),
                Decision::GiveUp(reason) => Err(reason),
            }
        };

        assert_eq!(replay(501 * MS, None, draining()), Ok(500 * MS));
        assert_eq!(replay(500 * MS, None, draining()), Ok(250 * MS));
        assert_eq!(replay(20 * MS, None, draining()), Ok(10 * MS));
        assert_eq!(replay(19 * MS, None, draining()), Err(Reason::NoTimeLeft));
        assert_eq!(replay(400 * MS, Some(300 * MS), draining()), Ok(300 * MS));
        assert_eq!(replay(400 * MS, Some(400 * MS), draining()), Err(Reason::NoTimeLeft));
        assert_eq!(replay(5 * MS, None, overloaded()), Err(Reason::NoTimeLeft));
    }

    /// Refusals and lost connections take one token each; without one there is no retry. What is
    /// given up for another reason takes none.
    #[test]
    fn only_a_retry_takes_a_token() {
        let lost = failed(Code::CONNECTION_LOST, Disposition::Maybe);
        for paid in [overloaded(), lost] {
            assert_eq!(decide_with(&paid, 2).1, 1);
            assert_eq!(decide_with(&paid, 0).0, Decision::GiveUp(Reason::BudgetEmpty));
        }
        let spares = [
            draining(),
            FailedAttempt { time_left: MS, ..overloaded() },
            FailedAttempt { attempt: 2, ..overloaded() },
            FailedAttempt { retry_after: Some(RETRY_NEVER), ..overloaded() },
            FailedAttempt { is_idempotent: false, ..lost },
        ];
        for spare in spares {
            assert_eq!(decide_with(&spare, 2).1, 0, "{spare:?}");
        }
    }

    /// The server's wish is a lower bound of the wait, for free replays too; it can forbid both.
    #[test]
    fn pushback_is_kept() {
        for refused in [overloaded(), draining()] {
            let pushed = |retry_after| {
                let time_left = Duration::from_secs(1) + RETRY_NEVER;
                let retry_after = Some(retry_after);
                match decide(&FailedAttempt { retry_after, time_left, ..refused }) {
                    Decision::Retry { after, .. } => Ok(after),
                    Decision::GiveUp(reason) => Err(reason),
                }
            };

            assert_eq!(pushed(250 * MS), Ok(250 * MS));
            assert_eq!(pushed(RETRY_NEVER - MS), Ok(RETRY_NEVER - MS));
            assert_eq!(pushed(RETRY_NEVER), Err(Reason::Pushback));
        }
        let short = FailedAttempt { retry_after: Some(MS), ..overloaded() };
        let expected = Decision::Retry { after: 5 * MS, attempt: 1, is_free: false };
        assert_eq!(decide(&short), expected);
    }

    /// A retry that is due at the deadline is none; one nanosecond before it is.
    #[test]
    fn a_retry_is_due_before_the_deadline() {
        let timed = |time_left| decide(&FailedAttempt { time_left, ..overloaded() });
        let expected = Decision::Retry { after: 5 * MS, attempt: 1, is_free: false };

        assert_eq!(timed(5 * MS), Decision::GiveUp(Reason::NoTimeLeft));
        assert_eq!(timed(5 * MS + Duration::from_nanos(1)), expected);
    }
}
