//! Retries over random histories: the bounds that the policies promise, whatever happens.
//!
//! The budget is compared with its formula over exact times, which its slots only approach: it
//! never grants more, and what it refuses is refused for at most one slot longer.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use switchback::policy::{
    Backoff, BudgetConfig, Decision, FailedAttempt, Jitter, RETRY_NEVER, Reason, RetryBudget,
    RetryPolicy, connection_age,
};
use switchback::{Code, Disposition};

/// What a client does after some time.
#[derive(Clone, Copy, Debug)]
enum Step {
    Deposits(u32),
    Withdrawals(u32),
}

/// Time stands still, creeps, walks by about a slot or a window, or jumps by hours.
fn gap() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => Just(Duration::ZERO),
        2 => (0_u64..1000).prop_map(Duration::from_nanos),
        6 => (0_u64..2000).prop_map(Duration::from_millis),
        2 => (9_400_u64..10_600).prop_map(Duration::from_millis),
        2 => (0_u64..21).prop_map(|slots| Duration::from_millis(500 * slots)),
        1 => (0_u64..100_000).prop_map(Duration::from_secs),
    ]
}

fn history() -> impl Strategy<Value = Vec<(Duration, Step)>> {
    let step =
        prop_oneof![(1_u32..40).prop_map(Step::Deposits), (1_u32..15).prop_map(Step::Withdrawals),];
    prop::collection::vec((gap(), step), 1..150)
}

fn backoff() -> impl Strategy<Value = Backoff> {
    let nanos = || prop_oneof![0..2_000_000_000_u64, any::<u64>()].prop_map(Duration::from_nanos);
    let jitter = prop::sample::select(&[Jitter::Equal, Jitter::Full][..]);
    (nanos(), nanos(), jitter).prop_map(|(base, cap, jitter)| {
        let mut backoff = Backoff::CALL;
        (backoff.base, backoff.cap, backoff.jitter) = (base, cap, jitter);
        backoff
    })
}

fn failed() -> impl Strategy<Value = FailedAttempt> {
    let dispositions = vec![Disposition::NotProcessed, Disposition::Maybe, Disposition::Processed];
    let code = prop_oneof![0_u16..50, 0x8000_u16..0x8006].prop_map(Code::from_u16);
    let ms = || (0_u64..3000).prop_map(Duration::from_millis);
    let retry_after = prop_oneof![
        3 => Just(None),
        2 => ms().prop_map(Some),
        1 => Just(Some(RETRY_NEVER)),
    ];
    let ended = (code, prop::sample::select(dispositions), retry_after);
    let call = (0_u8..5, 0_u32..5, any::<bool>(), any::<bool>(), ms());
    (ended, call).prop_map(|((code, disposition, retry_after), call)| {
        let (attempt, replays, is_idempotent, is_nested_retry, time_left) = call;
        FailedAttempt {
            code,
            disposition,
            retry_after,
            attempt,
            replays,
            is_idempotent,
            is_nested_retry,
            time_left,
        }
    })
}

/// How many of the times lie in the `span` that ends with `now`; where it begins is outside.
fn recent(times: &[Duration], now: Duration, span: Duration) -> u64 {
    times.iter().filter(|time| **time + span > now).count() as u64
}

fn zero() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the zero")]
    Instant::now()
}

proptest! {
    /// At every withdrawal those of the last 10 s are at most the ratio's share of the deposits of
    /// the last 10 s, and 10 s of the reserve. Each refusal is right with all that may be counted a
    /// slot longer, or a slot shorter.
    #[test]
    fn a_budget_keeps_its_formula_in_every_window(
        retries_per_mille in prop_oneof![Just(100_u32), 0_u32..1500],
        reserve_per_second in prop_oneof![Just(1_u32), 0_u32..4],
        history in history(),
    ) {
        let (zero, mut now) = (zero(), Duration::ZERO);
        let mut config = BudgetConfig::default();
        config.retries_per_mille = retries_per_mille;
        config.reserve_per_second = reserve_per_second;
        let mut budget = RetryBudget::new(config, zero);
        let (ttl, slot) = (RetryBudget::TTL, Duration::from_millis(500));
        let (mut deposits, mut withdrawals) = (Vec::new(), Vec::new());
        let allowed = |deposits: u64| {
            u64::from(retries_per_mille) * deposits + 10_000 * u64::from(reserve_per_second)
        };

        for (gap, step) in history {
            now += gap;
            match step {
                Step::Deposits(count) => for _ in 0..count {
                    budget.deposit(zero + now);
                    deposits.push(now);
                },
                Step::Withdrawals(count) => for _ in 0..count {
                    if budget.try_withdraw(zero + now) {
                        withdrawals.push(now);
                        let spent = 1000 * recent(&withdrawals, now, ttl);
                        prop_assert!(spent <= allowed(recent(&deposits, now, ttl)));
                    } else {
                        let spent = 1000 * recent(&withdrawals, now, ttl + slot);
                        prop_assert!(spent + 1000 > allowed(recent(&deposits, now, ttl - slot)));
                    }
                },
            }
        }
    }

    /// A wait lies between its jitter's least and its ceiling, and follows the draw's order.
    #[test]
    fn a_wait_stays_below_its_ceiling(
        backoff in backoff(),
        failures in prop_oneof![0_u32..70, any::<u32>()],
        mut draws in any::<[u64; 2]>(),
    ) {
        draws.sort_unstable();
        let doubled = (0..failures.min(64)).fold(backoff.base.as_nanos(), |wait, _| wait * 2);
        let ceiling = doubled.min(backoff.cap.as_nanos());
        let least = if backoff.jitter == Jitter::Full { 0 } else { ceiling / 2 };

        let waits = draws.map(|draw| backoff.delay(failures, draw).as_nanos());

        prop_assert!(least <= waits[0] && waits[0] <= waits[1] && waits[1] <= ceiling);
        prop_assert_eq!(backoff.delay(failures, 0).as_nanos(), least);
        prop_assert_eq!(backoff.delay(failures, u64::MAX).as_nanos(), ceiling);
    }

    /// A connection's age lies within a tenth of its base.
    #[test]
    fn an_age_lies_within_a_tenth(base_ms in 0_u64..10_000_000_000, draw in any::<u64>()) {
        let base = Duration::from_millis(base_ms);
        let age = connection_age(base, draw);
        prop_assert!(age.abs_diff(base) <= base / 10);
    }

    /// No decision repeats what must not be repeated, comes too late, is made beyond the attempts,
    /// or takes a token for nothing.
    #[test]
    fn a_decision_keeps_the_promises(
        failed in failed(),
        tokens in 0_u32..3,
        draw in any::<u64>(),
    ) {
        let now = zero();
        let mut config = BudgetConfig::default();
        (config.retries_per_mille, config.reserve_per_second) = (1000, 0);
        let mut budget = RetryBudget::new(config, now);
        (0..tokens).for_each(|_| budget.deposit(now));
        let policy = RetryPolicy::default();

        let decision = policy.decide(&failed, &mut budget, now, draw);

        let taken = u64::from(tokens) - budget.balance(now);
        match decision {
            Decision::Retry { after, attempt, is_free } => {
                prop_assert!(failed.disposition != Disposition::Processed);
                let is_safe = failed.disposition == Disposition::NotProcessed;
                prop_assert!(is_safe || failed.is_idempotent && !is_free); // P3
                prop_assert!(after < failed.time_left);
                prop_assert!(after >= failed.retry_after.unwrap_or_default());
                prop_assert!(is_free || attempt < policy.attempts_max && !failed.is_nested_retry);
                prop_assert_eq!(attempt, failed.attempt + u8::from(!is_free));
                prop_assert_eq!(taken, u64::from(!is_free));
            }
            Decision::GiveUp(reason) => {
                prop_assert_eq!(taken, 0);
                prop_assert!(reason != Reason::BudgetEmpty || tokens == 0);
            }
        }
    }
}
