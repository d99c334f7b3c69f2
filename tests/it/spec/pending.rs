//! The server's calls in flight, against a model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use switchback::proto::{Admitted, PendingCalls, PendingEnd};
use switchback::wire::CallId;

use crate::spec::now;

#[derive(Clone, Debug)]
enum Step {
    Insert { id: u32, seconds: u64 },
    Remove { id: u32 },
    Cancel { id: u32 },
    Expire { seconds: u64 },
    EndAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (id, seconds) = (0_u32..40, 0_u64..60);
    let step = prop_oneof![
        8 => (id.clone(), seconds.clone()).prop_map(|(id, seconds)| Step::Insert { id, seconds }),
        3 => id.clone().prop_map(|id| Step::Remove { id }),
        3 => id.prop_map(|id| Step::Cancel { id }),
        3 => seconds.prop_map(|seconds| Step::Expire { seconds }),
        1 => Just(Step::EndAll),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A call of a hundred bytes with this deadline.
fn admitted(deadline: Instant) -> Admitted {
    Admitted { read_at: deadline, deadline, bytes: 100 }
}

/// Deadline and reason to end of each call.
type Model = BTreeMap<u32, (Instant, Option<PendingEnd>)>;

/// Gives every call that has none, and is due by `by`, a reason to end; those calls.
fn end_due(model: &mut Model, by: Option<Instant>, end: PendingEnd) -> Vec<u32> {
    let is_due =
        |call: &(Instant, Option<PendingEnd>)| call.1.is_none() && by.is_none_or(|by| call.0 <= by);
    let due = model.iter_mut().filter(|(_, call)| is_due(call));
    let ended = due.map(|(id, call)| {
        call.1 = Some(end);
        *id
    });
    ended.collect()
}

fn step(pending: &mut PendingCalls<u32>, model: &mut Model, begin: Instant, step: &Step) {
    let at = |seconds: &u64| begin + Duration::from_secs(*seconds);
    let mut asked = Vec::new();
    match step {
        Step::Insert { id, seconds } if !model.contains_key(id) => {
            model.insert(*id, (at(seconds), None));
            pending.insert(CallId(*id), admitted(at(seconds)), *id);
        }
        Step::Insert { .. } => {}
        Step::Remove { id } => {
            pending.remove(CallId(*id));
            model.remove(id);
        }
        Step::Cancel { id } => {
            let first = model.get_mut(id).filter(|call| call.1.is_none());
            let told = pending.end(CallId(*id), PendingEnd::Cancelled).map(|token| *token);
            assert_eq!(told, first.is_some().then_some(*id), "asked once, and only if it is here");
            if let Some(call) = first {
                call.1 = Some(PendingEnd::Cancelled);
            }
        }
        Step::Expire { seconds } => {
            pending.expire(at(seconds), |token| asked.push(*token));
            assert_eq!(asked, end_due(model, Some(at(seconds)), PendingEnd::Expired));
        }
        Step::EndAll => {
            pending.end_all(|token| asked.push(*token));
            assert_eq!(asked, end_due(model, None, PendingEnd::Cancelled));
        }
    }
}

proptest! {
    /// The first reason to end stands and is told once; what is due is asked to end, never early;
    /// a call stays until it is removed.
    #[test]
    fn ca_8_ca_12_pending_calls_are_their_model(steps in steps()) {
        let (mut pending, mut model, begin) = (PendingCalls::new(), Model::new(), now());
        for next in &steps {
            step(&mut pending, &mut model, begin, next);

            prop_assert_eq!((pending.len(), pending.is_empty()), (model.len(), model.is_empty()));
            for (id, (_, end)) in &model {
                prop_assert_eq!(pending.is_ended(CallId(*id)), *end);
            }
            let running = model.values().filter(|call| call.1.is_none());
            if let Some(first) = running.map(|call| call.0).min() {
                prop_assert!(pending.next_deadline().is_some_and(|at| at <= first));
            }
        }
    }
}

/// The end of a connection asks every running call to end, once.
#[test]
fn ld_6_the_end_of_a_connection_cancels_its_calls() {
    let (mut pending, deadline) = (PendingCalls::new(), now());
    for id in [1, 5, 9] {
        pending.insert(CallId(id), admitted(deadline), id);
    }
    pending.end(CallId(5), PendingEnd::Expired);
    let mut asked = Vec::new();
    pending.end_all(|token| asked.push(*token));
    assert_eq!(asked, [1, 9]);
    assert_eq!(pending.is_ended(CallId(5)), Some(PendingEnd::Expired), "the first reason stands");
    assert_eq!(pending.len(), 3, "they stay until they have ended");
}
