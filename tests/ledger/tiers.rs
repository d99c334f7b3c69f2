//! What must hold of calls that handlers make, and of the time that requests grant.
//!
//! ```text
//!   client --call--> [execution] --nested call--> [execution of the next tier]
//!                        deadline, attempt: both go along
//! ```
//!
//! - it is made by an execution of the call that its record names, while that runs
//! - L7: no request grants more time than its call had left when it was issued: by its own
//!   deadline, and by that of the execution that made it. The wire carries the time that remains,
//!   so this is exact but for its rounding.
//! - L1: it ends by that time too, and with the execution at the latest
//! - L5: an execution that serves a retry makes calls that are not tried again. So two tiers send
//!   five requests at most where each alone would send three, not nine; `Budget::nested_max` says
//!   how many there may be for one call.

use std::collections::BTreeMap;

use super::case::{Case, Nonces, WIRE_ROUNDING_US, apart};
use super::load::{Books, Issued, Run};
use super::report::{Call, Invariant, Verdict};
use super::retries::{Budget, Retried};

/// The execution that made a call, if a handler did.
pub(super) fn maker_of<'a>(
    books: &'a Books,
    nonces: &Nonces,
    issue: &Issued,
    verdict: &mut Verdict,
) -> Option<&'a Run> {
    let parent = books.parents.get(&issue.call)?;
    let served = Call { client: parent.client, seq: parent.parent_seq };
    let maker = nonces.find(&books.runs, parent.nonce).filter(|run| run.call == served);
    if maker.is_none() {
        let nonce = parent.nonce;
        verdict.report(Invariant::Unissued, Some(issue.call), || {
            format!("execution {nonce} of call {served} made it, but no server started that")
        });
    }
    maker
}

/// Reports every call whose executions, all together, tried too often to be served by others.
pub(super) fn within_tiers(
    budget: &Budget,
    calls: &[Retried],
    books: &Books,
    verdict: &mut Verdict,
) {
    let mut attempts = BTreeMap::<Call, u32>::new();
    for call in calls {
        if let Some(parent) = books.parents.get(&call.issue.call) {
            let served = Call { client: parent.client, seq: parent.parent_seq };
            *attempts.entry(served).or_default() += 1 + call.retries;
        }
    }
    let max = budget.nested_max;
    for (call, count) in attempts.into_iter().filter(|(_, count)| *count > max) {
        verdict.report(Invariant::L5, Some(call), || {
            format!("its executions made {count} attempts of calls of their own, of {max} in all")
        });
    }
}

impl Case<'_> {
    /// The call's deadline: its own, or that of the execution that made it.
    pub(super) fn deadline_us(&self) -> u64 {
        let inherited = self.maker.map_or(u64::MAX, |maker| maker.deadline_at_us);
        self.issue.deadline_at_us.min(inherited)
    }

    /// L7: what requests grant.
    pub(super) fn time_granted(&self, verdict: &mut Verdict) {
        let left_us = self.deadline_us().saturating_sub(self.issue.issued_at_us);
        let limit_us = left_us.saturating_add(WIRE_ROUNDING_US);
        for sent in self.sents.iter().filter(|sent| sent.timeout_us > limit_us) {
            self.report(verdict, Invariant::L7, || {
                let (attempt, granted_us) = (sent.attempt, sent.timeout_us);
                format!("attempt {attempt} grants {granted_us} us, of {left_us} us at its issue")
            });
        }
    }

    /// What ties it to the execution that made it.
    pub(super) fn nested(&self, verdict: &mut Verdict, maker: &Run) {
        let issued_at_us = self.issue.issued_at_us;
        let end_us = maker.finish.map_or(u64::MAX, |(_, at_us)| at_us);
        if issued_at_us < maker.started_at_us || issued_at_us > end_us {
            self.report(verdict, Invariant::Clock, || {
                let (nonce, start) = (maker.nonce, apart(issued_at_us, maker.started_at_us));
                format!("execution {nonce} made it, which started {start} from its issue")
            });
        }
        for end in self.ends.iter().filter(|end| end.ended_at_us > end_us) {
            self.report(verdict, Invariant::L1, || {
                let (ended, gone) = (self.end_in_words(end), apart(issued_at_us, end_us));
                format!("{ended}, but the execution that made it was over at {gone}")
            });
        }
        let sent = self.sents.iter().map(|sent| sent.attempt);
        let attempt = sent.chain(self.runs.iter().map(|run| run.attempt)).max().unwrap_or(0);
        if maker.attempt > 0 && attempt > 0 {
            self.report(verdict, Invariant::L5, || {
                let by = maker.attempt;
                format!("it has an attempt {attempt}, though attempt {by} of a call made it")
            });
        }
    }
}
