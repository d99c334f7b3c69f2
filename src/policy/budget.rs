//! The retry budget: retries add at most a tenth and one call per second to the load (P4).
//!
//! ```text
//!   slots of half a second, the current one first
//!   deposits      [0][1] ... [19]          less than 10 s old: they still count
//!   withdrawals   [0][1] ... [19][20]      all of the last 10 s, and up to half a second more
//!   granted if  reserve + deposits - withdrawals >= 1 token
//! ```
//!
//! Invariants: at every withdrawal, those of the last 10 s, itself included, are at most the
//! ratio's share of the first attempts of the last 10 s, and 10 s of the reserve. That holds for
//! every window, not only for those that begin with a slot, since the withdrawals are kept for one
//! slot longer than the deposits. Time that stands still or runs back is the newest time known.
//! Why integers: a thousandth of a token is exact, and so is the bound.
//! Sources: Finagle's `RetryBudget` over a leaky `TokenBucket` (deposits that expire after 10 s, a
//! reserve, a windowed sum); tower's `TpsBudget`, the same in Rust.

use std::time::{Duration, Instant};

use crate::util::bugs::{Bug, is_seeded};

/// What one budget allows. One budget serves a whole channel: all calls to one service, their
/// retries, whichever connection they take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Retries for each thousand first attempts.
    ///
    /// Default: 100, a tenth. Each tier of a call multiplies the load by this: 1.1^3 = 1.33.
    pub retries_per_mille: u32,
    /// Retries per second on top, for a client that makes few calls.
    ///
    /// Default: 1. Too high: a thousand small clients are a storm of their own.
    pub reserve_per_second: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { retries_per_mille: 100, reserve_per_second: 1 }
    }
}

/// Counts first attempts and retries of the last 10 s. About 0.4 KiB.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    config: BudgetConfig,
    /// A ring; a slot's place is its number modulo the length.
    slots: [Slot; SLOTS],
    /// Where the current slot is in the ring.
    current: usize,
    /// When the current slot began.
    since: Instant,
    /// When it ends: nearly always all that is looked at, and comparing is a tenth of subtracting.
    until: Instant,
}

/// What happened in one half of a second, in millitokens.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    deposited: u64,
    withdrawn: u64,
}

impl RetryBudget {
    /// How long a deposit is worth something, and how long a withdrawal weighs.
    pub const TTL: Duration = Duration::from_secs(10);

    /// A budget with its reserve and no deposits.
    #[must_use]
    pub fn new(config: BudgetConfig, now: Instant) -> Self {
        let slots = [Slot::default(); SLOTS];
        Self { config, slots, current: 0, since: now, until: now + SLOT }
    }

    /// Counts the first attempt of a call.
    pub fn deposit(&mut self, now: Instant) {
        self.advance(now);
        let slot = &mut self.slots[self.current];
        slot.deposited = slot.deposited.saturating_add(self.config.retries_per_mille.into());
    }

    /// Takes the token of one retry, if there is one.
    pub fn try_withdraw(&mut self, now: Instant) -> bool {
        if is_seeded(Bug::BudgetForgets) {
            return true;
        }
        let allowed = self.balance(now) > 0;
        if allowed {
            let slot = &mut self.slots[self.current];
            slot.withdrawn = slot.withdrawn.saturating_add(TOKEN);
        }
        allowed
    }

    /// Retries that could be made now.
    pub fn balance(&mut self, now: Instant) -> u64 {
        self.advance(now);
        let oldest = (self.current + 1) % SLOTS;
        let deposits = self.slots.iter().enumerate().filter(|(place, _)| *place != oldest);
        let deposited = deposits.map(|(_, slot)| slot.deposited).fold(0, u64::saturating_add);
        let withdrawn = self.slots.iter().map(|slot| slot.withdrawn).fold(0, u64::saturating_add);
        let reserve = u64::from(self.config.reserve_per_second) * Self::TTL.as_secs() * TOKEN;
        deposited.saturating_add(reserve).saturating_sub(withdrawn) / TOKEN
    }

    /// Makes the slot of `now` the current one and forgets those that are too old.
    fn advance(&mut self, now: Instant) {
        if now < self.until {
            return;
        }
        let passed = now.saturating_duration_since(self.since);
        let slots = passed.as_nanos() / SLOT.as_nanos();
        // After a whole turn nothing is left, and where slots begin is free to choose.
        let Some(slots) = usize::try_from(slots).ok().filter(|slots| *slots < SLOTS) else {
            *self = Self::new(self.config, now);
            return;
        };
        for _ in 0..slots {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = Slot::default();
            self.since += SLOT;
        }
        self.until = self.since + SLOT;
    }
}

/// What one retry costs, in millitokens.
const TOKEN: u64 = 1000;
/// Shorter slots follow the window more closely, and cost memory: with these, a window of retries
/// is up to 10.5 s long and is paid for by at least 9.5 s of first attempts.
const SLOT: Duration = Duration::from_millis(500);
/// Those of 10 s, and one in which only withdrawals count.
const SLOTS: usize = 21;

const _: () = assert!(SLOT.as_millis() * (SLOTS as u128 - 1) == RetryBudget::TTL.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the zero of a test")]
        Instant::now()
    }

    fn withdrawals(budget: &mut RetryBudget, now: Instant) -> u64 {
        let balance = budget.balance(now);
        let mut count = 0;
        while budget.try_withdraw(now) {
            count += 1;
        }
        assert_eq!(
            (count, budget.balance(now)),
            (balance, 0),
            "a balance is what may be withdrawn"
        );
        count
    }

    /// A client that made no calls has its reserve, ten seconds of it, and no more for waiting.
    #[test]
    fn the_reserve_does_not_grow() {
        let start = start();
        let mut budget = RetryBudget::new(BudgetConfig::default(), start);

        let later = start + Duration::from_secs(3600);

        assert_eq!(withdrawals(&mut budget, later), 10);
        assert_eq!(withdrawals(&mut budget, later + 9_999 * MS), 0);
        assert_eq!(withdrawals(&mut budget, later + 10_500 * MS), 10);
    }

    /// Ten first attempts are worth a retry, nine are not.
    #[test]
    fn ten_calls_buy_one_retry() {
        let now = start();
        let config = BudgetConfig { reserve_per_second: 0, ..BudgetConfig::default() };
        let mut budget = RetryBudget::new(config, now);

        (0..9).for_each(|_| budget.deposit(now));
        assert!(!budget.try_withdraw(now));
        budget.deposit(now);
        assert!(budget.try_withdraw(now));
        assert!(!budget.try_withdraw(now));
    }

    /// A deposit counts for between 9.5 and 10 seconds, a withdrawal for between 10 and 10.5.
    #[test]
    fn deposits_expire_before_withdrawals() {
        let start = start();
        let config = BudgetConfig { reserve_per_second: 0, ..BudgetConfig::default() };
        let mut budget = RetryBudget::new(config, start);
        (0..20).for_each(|_| budget.deposit(start));

        assert_eq!(budget.balance(start + 9_999 * MS), 2);
        assert!(budget.try_withdraw(start + 9_999 * MS));
        assert_eq!(budget.balance(start + 10_000 * MS), 0);
        // The withdrawal weighs on fresh deposits until it is forgotten, in the slot after 20 s.
        (0..10).for_each(|_| budget.deposit(start + 19_999 * MS));
        assert_eq!(budget.balance(start + 19_999 * MS), 0);
        assert_eq!(budget.balance(start + 20_000 * MS), 1);
    }

    /// A caller that is late by a slot or more counts in the current slot, and nothing panics.
    #[test]
    fn time_may_run_back() {
        let start = start();
        let now = start + Duration::from_secs(60);
        let mut budget = RetryBudget::new(BudgetConfig::default(), now);

        (0..10).for_each(|_| budget.deposit(start));

        assert_eq!(budget.balance(now), 11);
    }

    /// The largest settings do not overflow: they are a budget that never runs out.
    #[test]
    fn the_largest_budget_never_runs_out() {
        let now = start();
        let config = BudgetConfig { retries_per_mille: u32::MAX, reserve_per_second: u32::MAX };
        let mut budget = RetryBudget::new(config, now);
        budget.slots[0].deposited = u64::MAX - 1;
        budget.deposit(now);

        assert!((0..1000).all(|_| budget.try_withdraw(now)));
    }
}
