//! The client's table of calls, rule by rule and against a model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use switchback::proto::{CallOutcome, CallTable, Cancelled, LostDisposition, Violation};
use switchback::wire::{CallId, Code, Disposition, Response};

use crate::spec::bytes::{Parts, RESPONSE};
use crate::spec::now;
use crate::spec::peers::{Client, reason, table};

fn response(call: CallId, payload: &[u8]) -> Response<'_> {
    let (status, disposition) = (Code::OK, Disposition::Processed);
    Response { call, status, disposition, codec: 1, ext: &[], payload }
}

fn ok() -> CallOutcome {
    CallOutcome::Answered {
        status: Code::OK,
        disposition: Disposition::Processed,
        codec: 1,
        ext_len: 0,
    }
}

fn later(seconds: u64) -> Instant {
    now() + Duration::from_secs(seconds)
}

/// A RESPONSE that nobody waits for closes with PROTOCOL: never sent, or answered already.
#[test]
fn ca_2_refuses_a_response_that_nobody_waits_for() {
    let answer = |call| Parts::sound(RESPONSE).call(call).build();
    let mut client = Client::open(&table(&[]));
    assert_eq!(reason(client.feed(&answer(1))), "PROTOCOL");
    let mut client = Client::open(&table(&[]));
    client.call(70);
    client.call(71);
    assert_eq!(client.feed(&answer(3)), Ok(vec!["answered 71".to_owned()]));
    assert_eq!(reason(client.feed(&answer(3))), "PROTOCOL", "answered, not taken yet");
    let mut client = Client::open(&table(&[]));
    let call = client.call(70);
    client.feed(&answer(1)).expect("it waits");
    client.connection.calls.take(call, &mut Vec::new()).expect("it was answered");
    assert_eq!(reason(client.feed(&answer(1))), "PROTOCOL", "answered and taken");
}

/// A cancelled call holds its slot until its answer, whose content nobody sees.
#[test]
fn ca_12_a_cancelled_call_holds_its_slot() {
    let mut calls = CallTable::<u32>::new(1);
    let first = calls.open(later(60), 0, 7).expect("there is room").id;
    assert_eq!(calls.cancel(first), Cancelled::TellPeer);
    assert_eq!(calls.cancel(first), Cancelled::Nothing, "the peer is told once");
    assert_eq!((calls.room(), calls.open(later(60), 0, 8)), (0, None));
    assert_eq!(calls.handle_response(&response(first, b"late")), Ok(None));
    let second = calls.open(later(60), 0, 8).expect("the slot is free").id;
    assert_eq!(calls.take(second, &mut Vec::new()), None, "the answer was the other call's");
}

/// A call whose time is over ends for its owner, and holds its slot until its answer.
#[test]
fn ca_8_an_expired_call_ends_and_holds_its_slot() {
    let mut calls = CallTable::<u32>::new(1);
    let deadline = later(1);
    let call = calls.open(deadline, 0, 7).expect("there is room").id;
    let mut told = Vec::new();
    calls.expire(deadline - Duration::from_nanos(1), |id, token| told.push((id, *token)));
    assert_eq!(told, [], "never early");
    assert_eq!(calls.next_deadline(), Some(deadline));
    calls.expire(deadline, |id, token| told.push((id, *token)));
    assert_eq!(told, [(call, 7)]);
    let taken = calls.take(call, &mut Vec::new()).expect("it has ended");
    assert_eq!((taken.outcome, taken.freed, calls.room()), (CallOutcome::Expired, false, 0));
    assert_eq!(calls.handle_response(&response(call, b"late")), Ok(None));
    assert_eq!(calls.room(), 1);
}

/// After a CLOSE calls above `last_call`, or of which no byte was handed over, were not processed.
#[test]
fn ld_4_last_call_decides_what_is_known_of_a_call() {
    let outcomes = |known: LostDisposition| {
        let mut calls = CallTable::<u32>::new(8);
        let ids: Vec<CallId> =
            (0..4).map(|n| calls.open(later(60), n * 100, 7).expect("room").id).collect();
        calls.lose_all(known, |_| {});
        let outcome = |id: &CallId| calls.take(*id, &mut Vec::new()).map(|taken| taken.outcome);
        let outcomes: Vec<_> = ids.iter().map(outcome).collect();
        assert_eq!(calls.busy(), 0);
        outcomes
    };
    let maybe = Some(CallOutcome::Lost(Disposition::Maybe));
    let not = Some(CallOutcome::Lost(Disposition::NotProcessed));
    let last_call = Some(CallId(3));
    let handed_bytes = 400;
    assert_eq!(outcomes(LostDisposition { handed_bytes, last_call }), [maybe, maybe, not, not]);
    let handed_bytes = 100;
    assert_eq!(outcomes(LostDisposition { handed_bytes, last_call }), [maybe, not, not, not]);
    let last_call = Some(CallId(0));
    assert_eq!(outcomes(LostDisposition { handed_bytes: 400, last_call }), [not; 4]);
}

/// Without a CLOSE only calls of which no byte was handed over are known not to be processed.
#[test]
fn ld_5_without_a_close_what_was_handed_over_is_unknown() {
    for (handed_bytes, expected) in [
        (100, Disposition::NotProcessed),
        (101, Disposition::Maybe),
        (u64::MAX, Disposition::Maybe),
        (0, Disposition::NotProcessed),
    ] {
        let mut calls = CallTable::<u32>::new(1);
        let call = calls.open(later(60), 100, 7).expect("room").id;
        let mut woken = Vec::new();
        let known = LostDisposition { handed_bytes, last_call: None };
        calls.lose_all(known, |token| woken.push(*token));
        let taken = calls.take(call, &mut Vec::new()).expect("it has ended");
        assert_eq!((taken.outcome, woken), (CallOutcome::Lost(expected), vec![7]));
    }
}

/// The answer of a call that was given up after it came is not left for the slot's next call,
/// nor is its memory.
#[test]
fn a_slot_keeps_nothing_of_the_call_before() {
    let mut calls = CallTable::<u32>::new(1);
    for _ in 0..40 {
        let call = calls.open(later(60), 0, 7).expect("room").id;
        let large = vec![9; 100_000];
        calls.handle_response(&response(call, &large)).expect("it waits");
        assert_eq!(calls.cancel(call), Cancelled::Freed);
    }
    for _ in 0..40 {
        let call = calls.open(later(0), 0, 7).expect("room").id;
        calls.expire(later(1), |_, _| {});
        let mut reply = Vec::new();
        calls.take(call, &mut reply).expect("it has expired");
        assert!(reply.is_empty() && reply.capacity() <= 1024, "{} bytes", reply.capacity());
        calls.handle_response(&response(call, b"")).expect("it is owed");
    }
}

/// One step of a client's life. Picks are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Open { seconds: u64 },
    Answer { pick: usize, payload: u8 },
    AnswerUnknown { id: u32 },
    Take { pick: usize },
    Cancel { pick: usize },
    Expire { seconds: u64 },
    LoseAll { handed_bytes: u64, last_call: Option<u32> },
    SetCallsMax { calls_max: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pick = 0_usize..1000;
    let step = prop_oneof![
        10 => (1_u64..50).prop_map(|seconds| Step::Open { seconds }),
        6 => (pick.clone(), any::<u8>()).prop_map(|(pick, payload)| Step::Answer { pick, payload }),
        1 => any::<u32>().prop_map(|id| Step::AnswerUnknown { id }),
        6 => pick.clone().prop_map(|pick| Step::Take { pick }),
        3 => pick.prop_map(|pick| Step::Cancel { pick }),
        2 => (0_u64..60).prop_map(|seconds| Step::Expire { seconds }),
        1 => (0_u64..2000, proptest::option::of(0_u32..200))
            .prop_map(|(handed_bytes, last_call)| Step::LoseAll { handed_bytes, last_call }),
        1 => (0_usize..40).prop_map(|calls_max| Step::SetCallsMax { calls_max }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A call as the model has it.
#[derive(Clone, Debug)]
struct Known {
    is_owned: bool,
    is_owed: bool,
    outcome: Option<CallOutcome>,
    reply: Vec<u8>,
    deadline: Instant,
    offset: u64,
    token: u32,
}

struct Model {
    begin: Instant,
    calls: BTreeMap<u32, Known>,
    calls_max: usize,
    last: u32,
    opened: u32,
}

impl Model {
    fn pick(&self, pick: usize) -> Option<u32> {
        let count = self.calls.len();
        if count == 0 { None } else { self.calls.keys().nth(pick % count).copied() }
    }

    fn forget_ended(&mut self) {
        self.calls.retain(|_, call| call.is_owned || call.is_owed);
    }

    fn step(&mut self, table: &mut CallTable<u32>, step: &Step) {
        match step {
            Step::Open { seconds } => self.open(table, *seconds),
            Step::Answer { pick, payload } => self.answer(table, *pick, *payload),
            Step::AnswerUnknown { id } => {
                if !self.calls.get(id).is_some_and(|call| call.is_owed) {
                    let result = table.handle_response(&response(CallId(*id), b"?"));
                    assert!(matches!(result, Err(Violation::OutOfTurn { .. })));
                }
            }
            Step::Take { pick } => self.take(table, *pick),
            Step::Cancel { pick } => self.cancel(table, *pick),
            Step::Expire { seconds } => self.expire(table, *seconds),
            Step::LoseAll { handed_bytes, last_call } => {
                self.lose_all(table, *handed_bytes, *last_call);
            }
            Step::SetCallsMax { calls_max } => {
                self.calls_max = (*calls_max).max(1);
                table.set_calls_max(*calls_max);
            }
        }
        self.forget_ended();
        self.check(table);
    }

    fn open(&mut self, table: &mut CallTable<u32>, seconds: u64) {
        let deadline = self.begin + Duration::from_secs(seconds);
        let (offset, token) = (u64::from(self.opened) * 10, 1000 + self.opened);
        let opened = table.open(deadline, offset, token);
        assert_eq!(
            opened.is_some(),
            self.calls.len() < self.calls_max,
            "opens while there is room"
        );
        let Some(opened) = opened else { return };
        assert!(opened.id.is_client() && opened.id.0 > self.last, "ids are odd and increase");
        self.last = opened.id.0;
        self.opened += 1;
        let (outcome, reply) = (None, Vec::new());
        let (is_owned, is_owed) = (true, true);
        let call = Known { is_owned, is_owed, outcome, reply, deadline, offset, token };
        self.calls.insert(opened.id.0, call);
    }

    fn answer(&mut self, table: &mut CallTable<u32>, pick: usize, payload: u8) {
        let Some(id) = self.pick(pick) else { return };
        let call = self.calls.get_mut(&id).expect("it was picked");
        let payload = vec![payload; usize::from(payload)];
        let result = table.handle_response(&response(CallId(id), &payload));
        if !call.is_owed {
            assert!(matches!(result, Err(Violation::OutOfTurn { .. })));
            return;
        }
        call.is_owed = false;
        let waits = call.is_owned && call.outcome.is_none();
        assert_eq!(result, Ok(waits.then_some(&mut call.token)), "told to its owner alone");
        if waits {
            call.outcome = Some(ok());
            call.reply = payload;
        }
    }

    fn take(&mut self, table: &mut CallTable<u32>, pick: usize) {
        let Some(id) = self.pick(pick) else { return };
        let call = self.calls.get_mut(&id).expect("it was picked");
        let mut reply = b"what the buffer held before".to_vec();
        let taken = table.take(CallId(id), &mut reply);
        assert_eq!(taken.map(|taken| taken.outcome), call.outcome);
        if let Some(taken) = taken {
            assert_eq!(reply, call.reply, "its own answer, and nothing else");
            assert_eq!(taken.freed, !call.is_owed);
            call.is_owned = false;
            call.outcome = None;
        }
    }

    fn cancel(&mut self, table: &mut CallTable<u32>, pick: usize) {
        let Some(id) = self.pick(pick) else { return };
        let call = self.calls.get_mut(&id).expect("it was picked");
        let expected = match (call.is_owned, call.is_owed, call.outcome) {
            (true, true, None) => Cancelled::TellPeer,
            (true, false, _) => Cancelled::Freed,
            (false, ..) | (true, true, Some(_)) => Cancelled::Nothing,
        };
        assert_eq!(table.cancel(CallId(id)), expected);
        call.is_owned = false;
        call.outcome = None;
    }

    fn expire(&mut self, table: &mut CallTable<u32>, seconds: u64) {
        let now = self.begin + Duration::from_secs(seconds);
        let due = self
            .calls
            .iter_mut()
            .filter(|(_, call)| call.is_owned && call.outcome.is_none() && call.deadline <= now);
        let mut expected = Vec::new();
        for (id, call) in due {
            call.outcome = Some(CallOutcome::Expired);
            expected.push((*id, call.token));
        }
        let mut told = Vec::new();
        table.expire(now, |id, token| told.push((id.0, *token)));
        told.sort_unstable();
        assert_eq!(told, expected, "every call that is due, and no other");
    }

    fn lose_all(&mut self, table: &mut CallTable<u32>, handed_bytes: u64, last_call: Option<u32>) {
        let mut expected = Vec::new();
        for (id, call) in &mut self.calls {
            if call.is_owed && call.is_owned && call.outcome.is_none() {
                let is_unread = last_call.is_some_and(|last| *id > last);
                let is_known = is_unread || call.offset >= handed_bytes;
                call.outcome = Some(CallOutcome::Lost(match is_known {
                    true => Disposition::NotProcessed,
                    false => Disposition::Maybe,
                }));
                expected.push(call.token);
            }
            call.is_owed = false;
        }
        let mut told = Vec::new();
        let known = LostDisposition { handed_bytes, last_call: last_call.map(CallId) };
        table.lose_all(known, |token| told.push(*token));
        told.sort_unstable();
        assert_eq!(told, expected);
    }

    fn check(&self, table: &mut CallTable<u32>) {
        assert_eq!(table.busy(), self.calls.len());
        assert_eq!(table.room(), self.calls_max.saturating_sub(self.calls.len()));
        let pending = self.calls.values().filter(|call| call.is_owned && call.outcome.is_none());
        if let Some(first) = pending.map(|call| call.deadline).min() {
            assert!(table.next_deadline().is_some_and(|at| at <= first), "a sweep is due by then");
        }
        for (id, call) in &self.calls {
            let token = table.token_mut(CallId(*id)).copied();
            assert_eq!(token, call.is_owned.then_some(call.token));
        }
    }
}

proptest! {
    /// Whatever happens to calls, in any order: ids increase, each owner gets its own call's
    /// outcome and no other's, the room adds up, and in the end the table is empty.
    #[test]
    fn ca_1_ca_2_the_call_table_is_its_model(steps in steps(), calls_max in 1_usize..40) {
        let mut table = CallTable::<u32>::new(calls_max);
        let calls = BTreeMap::new();
        let mut model = Model { begin: now(), calls, calls_max, last: 0, opened: 0 };
        for step in &steps {
            model.step(&mut table, step);
        }

        for _ in 0..model.calls.len() {
            model.step(&mut table, &Step::Answer { pick: 0, payload: 3 });
            model.step(&mut table, &Step::Cancel { pick: 0 });
        }
        prop_assert_eq!((table.busy(), table.room()), (0, model.calls_max));
    }
}
