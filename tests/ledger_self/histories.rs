//! Random clean histories are clean; each of them, broken in one place, is found broken.

use std::io;

use crate::history::{History, Log, Place, Random};
use crate::ledger::Invariant::{self, Clock, L1, L2, L3, L4, L7, L10, Unissued};

/// No random history without a fault is blamed.
#[test]
fn random_histories_are_clean() -> io::Result<()> {
    let (mut torn, mut executions, mut errors) = (0, 0, 0);
    for seed in 0..SEEDS {
        let history = History::random(&mut Random::seeded(seed))?;
        let verdict = history.judge()?;
        assert!(verdict.is_clean(), "seed {seed}: {verdict}");
        torn += verdict.torn;
        executions += verdict.executions;
        errors += verdict.errors.values().sum::<u64>();
    }
    assert!(torn > SEEDS / 4 && executions > SEEDS * 10 && errors > SEEDS * 10);
    Ok(())
}

/// Every mutation of every history breaks the invariant that it is meant to break.
#[test]
fn every_mutation_is_found() -> io::Result<()> {
    let mut applied = [0; MUTATIONS.len()];
    for seed in 0..SEEDS {
        let clean = History::random(&mut Random::seeded(seed))?;
        for (applied, (name, broken, mutate)) in applied.iter_mut().zip(MUTATIONS) {
            let mut history = clean.clone();
            if mutate(&mut history, &mut Random::seeded(!seed)).is_none() {
                continue;
            }
            *applied += 1;
            let verdict = history.judge()?;
            assert!(verdict.count(*broken) > 0, "{name}, seed {seed}: not found\n{verdict}");
        }
    }
    for (applied, (name, ..)) in applied.iter().zip(MUTATIONS) {
        assert!(*applied > SEEDS / 4, "{name} could only be applied {applied} times");
    }
    Ok(())
}

/// A record that vanishes from a closed log is missed, whatever it was.
#[test]
fn a_vanished_record_is_an_error() -> io::Result<()> {
    for seed in 0..SEEDS {
        let mut random = Random::seeded(seed);
        let mut history = History::random(&mut random)?;
        let log = &mut history.logs[0];
        assert!(log.is_closed);
        let line = random.index(log.lines.len());
        log.lines.remove(line);

        assert!(history.judge_with(1).is_err(), "seed {seed}, record {line}");
    }
    Ok(())
}

/// Changes one thing; None if the history has nothing of the kind.
type Mutation = fn(&mut History, &mut Random) -> Option<()>;

const SEEDS: u64 = 100;

const MUTATIONS: &[(&str, Invariant, Mutation)] = &[
    ("the outcome is lost", L1, |history, random| {
        let end = history.pick(random, |_, line| line[0] == "end")?;
        history.remove(end);
        Some(())
    }),
    ("the outcome comes twice", L1, |history, random| {
        let end = history.pick(random, |_, line| line[0] == "end")?;
        history.insert(end, history.line(end).to_vec());
        Some(())
    }),
    ("the outcome comes late", L1, |history, random| {
        let end = history.pick(random, |_, line| line[0] == "end")?;
        let issue = history.issue_of(history.logs[end.0].id, &history.line(end)[1])?;
        history.set(end, 4, history.number(issue, 6) + 50_001);
        Some(())
    }),
    ("the answer's execution vanishes", L2, |history, random| {
        let nonce = history.line(history.pick(random, is_ok)?)[5].clone();
        let start = history.find(|_, line| line[0] == "start" && line[1] == nonce)?;
        history.remove(start);
        let finish = history.find(|_, line| line[0] == "finish" && line[1] == nonce)?;
        history.remove(finish);
        Some(())
    }),
    ("the answer's execution failed", L2, |history, random| {
        let finish = finish_of_ok(history, random)?;
        let how = ["err", "panic", "dropped"][random.index(3)];
        history.set(finish, 2, how);
        Some(())
    }),
    ("the answer's execution has no end", L2, |history, random| {
        let finish = finish_of_ok(history, random)?;
        history.remove(finish);
        Some(())
    }),
    ("the answer's nonce is made up", L2, |history, random| {
        let end = history.pick(random, is_ok)?;
        history.set(end, 5, 1 + random.below(1_000_000));
        Some(())
    }),
    ("a call that may run once runs again", L3, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start" && line[5] != IDEMPOTENT)?;
        let again = with_fresh_nonce(history.line(start), random);
        history.insert(start, again);
        Some(())
    }),
    ("a call that ran is called refused", L4, |history, random| {
        let end = history.pick(random, is_ok)?;
        let ended = history.line(end)[4].clone();
        let words = ["end", &history.line(end)[1], "refused", "not_processed", &ended, "-"];
        let words = words.map(str::to_owned).to_vec();
        history.remove(end);
        history.insert(end, words);
        Some(())
    }),
    ("a refused call runs", L4, |history, random| {
        let end = history.pick(random, |_, line| line[0] == "end" && line[3] == "not_processed")?;
        let (client, seq) = (history.logs[end.0].id.to_string(), history.line(end)[1].clone());
        let start = history.pick(random, |_, line| line[0] == "start")?;
        let mut again = with_fresh_nonce(history.line(start), random);
        (again[2], again[3]) = (client, seq);
        history.insert(start, again);
        Some(())
    }),
    ("a call that never ran is called processed", L4, |history, random| {
        let end = history.pick(random, |_, line| line[0] == "end" && line[3] == "not_processed")?;
        history.set(end, 2, "failed:INTERNAL");
        history.set(end, 3, "processed");
        Some(())
    }),
    ("an attempt that ran is called refused", L4, |history, random| {
        let place = history.pick(random, |_, line| line[0] == "attempt" && line[4] == "unknown")?;
        let (client, seq) = (history.logs[place.0].id.to_string(), history.line(place)[1].clone());
        history.find(|_, line| {
            line[0] == "start" && line[2] == client && line[3] == seq && line[4] == "0"
        })?;
        history.set(place, 4, "refused");
        history.set(place, 5, "not_processed");
        Some(())
    }),
    ("a handler starts after its deadline", L7, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start")?;
        history.set(start, 7, history.number(start, 8) + 1 + random.below(1_000));
        Some(())
    }),
    ("a handler is given too late a deadline", L7, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start")?;
        history.set(start, 8, history.number(start, 8) + 2_000_000);
        Some(())
    }),
    ("an answer is for another client", L10, |history, random| {
        let end = history.pick(random, is_ok)?;
        history.set(end, 6, history.number(end, 6) + 1);
        Some(())
    }),
    ("an answer is for another call", L10, |history, random| {
        let end = history.pick(random, is_ok)?;
        history.set(end, 7, history.number(end, 7) + 1);
        Some(())
    }),
    ("an answer is of another server", L10, |history, random| {
        let end = history.pick(random, is_ok)?;
        history.set(end, 8, history.number(end, 8) + 1);
        Some(())
    }),
    ("an answer is of another version", L10, |history, random| {
        let end = history.pick(random, is_ok)?;
        history.set(end, 9, 3 - history.number(end, 9));
        Some(())
    }),
    ("two answers are exchanged", L10, |history, random| {
        let (one, two) = (history.pick(random, is_ok)?, history.pick(random, is_ok)?);
        if one == two {
            return None;
        }
        let (nonce_one, nonce_two) = (history.number(one, 5), history.number(two, 5));
        history.set(one, 5, nonce_two);
        history.set(two, 5, nonce_one);
        Some(())
    }),
    ("another method runs", L10, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start")?;
        history.set(start, 5, "bank/other");
        Some(())
    }),
    ("a call is run that nobody issued", Unissued, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start")?;
        let client = history.number(start, 2);
        let issue = history.issue_of(client, &history.line(start)[3])?;
        history.remove(issue);
        Some(())
    }),
    ("a handler starts before the call is issued", Clock, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start")?;
        let client = history.number(start, 2);
        let issue = history.issue_of(client, &history.line(start)[3])?;
        history.set(start, 7, history.number(issue, 5) - 2_001 - random.below(100_000));
        Some(())
    }),
    ("an execution is written twice", Invariant::Log, |history, random| {
        let start = history.pick(random, |_, line| line[0] == "start")?;
        history.insert(start, history.line(start).to_vec());
        Some(())
    }),
    ("an execution ends twice", Invariant::Log, |history, random| {
        let finish = history.pick(random, |_, line| line[0] == "finish")?;
        history.insert(finish, history.line(finish).to_vec());
        Some(())
    }),
    ("a call is issued twice", Invariant::Log, |history, random| {
        let issue = history.pick(random, |_, line| line[0] == "issue")?;
        history.insert(issue, history.line(issue).to_vec());
        Some(())
    }),
    ("a client is killed", Invariant::Log, |history, _| {
        history.logs.first_mut()?.is_closed = false;
        Some(())
    }),
];

fn is_ok(_: &Log, line: &[String]) -> bool {
    line[0] == "end" && line[2] == "ok"
}

/// The end of an execution whose answer a caller got as `ok`.
fn finish_of_ok(history: &History, random: &mut Random) -> Option<Place> {
    let nonce = history.line(history.pick(random, is_ok)?)[5].clone();
    history.find(|_, line| line[0] == "finish" && line[1] == nonce)
}

/// The same execution under a nonce that its server has not reached.
fn with_fresh_nonce(start: &[String], random: &mut Random) -> Vec<String> {
    let nonce: u64 = start[1].parse().expect("a nonce is a number");
    let mut again = start.to_vec();
    again[1] = (nonce + (1 << 30) + random.below(1 << 20)).to_string();
    again
}

const IDEMPOTENT: &str = "bank/look";
