//! L5: retries stay within their budget, in every window of time.
//!
//! The budget says: of the last `window_us`, the retries are at most a share of the first attempts
//! and a reserve. When a retry was granted is in no log, only when its call was issued; but no
//! call is retried later than `longest_us` after that. So all retries of calls that were issued
//! within `window_us - longest_us` were granted within one window, and must have been paid for by
//! the calls of that window and of the one before.
//!
//! Invariant: a client that keeps to its budget is never blamed; what it may exceed it by unseen
//! is what the wider window allows.

use super::load::Issued;
use super::report::{Invariant, Verdict};

/// What retries cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Attempts of one call, the first included.
    pub attempts_max: u32,
    /// Retries for each thousand first attempts.
    pub per_mille: u64,
    /// Retries on top in each window.
    pub reserve: u64,
    /// The window.
    pub window_us: u64,
    /// The longest time from a call's issue to its last retry.
    pub longest_us: u64,
    /// Attempts of all calls that the executions of one call make.
    pub nested_max: u32,
}

/// A call, and how often it was retried for all one can see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retried {
    pub(super) issue: Issued,
    pub(super) retries: u32,
}

/// Reports every call that has too many attempts, and each client's first window with too many
/// retries.
pub(super) fn within_budget(budget: &Budget, mut calls: Vec<Retried>, verdict: &mut Verdict) {
    for call in calls.iter().filter(|call| call.retries >= budget.attempts_max) {
        let (number, max) = (call.retries, budget.attempts_max);
        verdict.report(Invariant::L5, Some(call.issue.call), || {
            format!("it has an attempt {number}, of {max} in all")
        });
    }
    calls.sort_unstable_by_key(|call| (call.issue.call.client, call.issue.issued_at_us));
    for calls in calls.chunk_by(|a, b| a.issue.call.client == b.issue.call.client) {
        one_client(budget, calls, verdict);
    }
}

/// The calls of one client, by time.
fn one_client(budget: &Budget, calls: &[Retried], verdict: &mut Verdict) {
    let span_us = budget.window_us.saturating_sub(budget.longest_us);
    let below = |at_us: u64| calls.partition_point(|call| call.issue.issued_at_us < at_us);
    for (first, call) in calls.iter().enumerate().filter(|(_, call)| call.retries > 0) {
        let from_us = call.issue.issued_at_us;
        let window = &calls[first..below(from_us + span_us)];
        let retries: u64 = window.iter().map(|call| u64::from(call.retries)).sum();
        let paying =
            below(from_us + budget.window_us + 1) - below(from_us.saturating_sub(budget.window_us));
        let paying = u64::try_from(paying).expect("a length fits in 64 bits");
        let allowed = budget.reserve + paying * budget.per_mille / 1000;
        if retries > allowed {
            let client = call.issue.call.client;
            verdict.report(Invariant::L5, Some(call.issue.call), || {
                format!(
                    "client {client} retried {retries} times for calls of {span_us} us from here \
                     on, {allowed} are paid for"
                )
            });
            return;
        }
    }
}
