//! Calls that handlers make, and clients that are killed: by hand, and broken in the smallest ways.

use crate::ledger::Invariant::{self, Clock, L1, L3, L4, L5, L7, Log, Unissued};
use crate::ledger::{Budget, Rules, Verdict, check_bytes};

/// Both tiers agree, and what handlers made is counted.
#[test]
fn two_tiers_are_clean() {
    let verdict = judge(&CLEAN.map(str::to_owned));

    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.calls, verdict.nested, verdict.ok, verdict.executions), (5, 3, 4, 5));
    assert_eq!((verdict.crashed, verdict.open, verdict.dropped), (0, 0, 1));
}

/// Each edit breaks the invariant that it names, and no other.
#[test]
fn each_broken_tie_is_named() {
    for (number, (broken, from, to)) in BROKEN.iter().enumerate() {
        let mut logs = CLEAN.map(str::to_owned);
        assert_eq!(logs.concat().matches(from).count(), 1, "case {number}: {from:?} is one place");
        for log in &mut logs {
            *log = log.replace(from, to);
        }

        let verdict = judge(&logs);

        let found: Vec<_> = verdict.broken.keys().copied().collect();
        assert_eq!(found, *broken, "case {number}, {from:?} to {to:?}:\n{verdict}");
    }
}

/// The time that a request grants is exact to the wire's millisecond, whoever made the call.
#[test]
fn limits_of_granted_time_are_exact() {
    let by = |from: &str, to: &str| judge(&CLEAN.map(|log| log.replace(from, to))).count(L7);

    // The first call has 100 ms; the call that it makes 2 ms later inherits its 98 and a half.
    assert_eq!(by("sent 1 0 1000000 100000", "sent 1 0 1000000 101000"), 0);
    assert_eq!(by("sent 1 0 1000000 100000", "sent 1 0 1000000 101001"), 1);
    assert_eq!(by("sent 0 0 1002000 98000", "sent 0 0 1002000 99500"), 0);
    assert_eq!(by("sent 0 0 1002000 98000", "sent 0 0 1002000 99501"), 1);
    // The call that asks for less than is left gets no more than it asks for.
    assert_eq!(by("sent 1 0 1022000 10000", "sent 1 0 1022000 11001"), 1);
}

/// A client that was killed owes no outcome, of calls that were not due; its executions are
/// judged like all others.
#[test]
fn a_crash_explains_open_calls_and_nothing_else() {
    let [client, front, nested, back] = CLEAN.map(str::to_owned);
    let open = client.replace("end 1 ok processed 1005000 3298534883329 7 1 3 1\n", "");
    let crashed = |client: &str, at: u64| {
        let last = format!("crash {} {at}", client.lines().count());
        judge_ending(&[client.to_owned(), front.clone(), nested.clone(), back.clone()], &last)
    };

    let verdict = crashed(&open, 1_004_000);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.crashed, verdict.open, verdict.open_ran, verdict.lost), (1, 1, 1, 0));
    assert!(crashed(&open, 1_150_000).is_clean());
    assert_eq!(crashed(&open, 1_150_001).count(L1), 1, "it had been due before");
    let once = open.replace("sim.Work/relay 1 1", "sim.Work/relay 1 0");
    assert_eq!(crashed(&once, 1_004_000).count(L3), 1, "what ran twice was not idempotent");
    let refused = open.replace("end 2 ok processed 1025000 3298534883331 7 2 3 1", REFUSED);
    assert_eq!(crashed(&refused, 1_030_000).count(L4), 1);

    let wrong = "crash 1 1004000";
    let logs = [open, front.clone(), nested.clone(), back.clone()];
    assert!(try_judge(&logs, wrong, &RULES).is_err(), "as many records as it says");
    assert!(
        try_judge(&logs, &format!("crash 7 1004000\n{wrong}"), &RULES).is_err(),
        "nothing after it"
    );
}

/// Two tiers do not multiply their attempts: there are so many for one call in all. Shown at the
/// limit and one beyond; call 1 is served by two executions, which make three attempts.
#[test]
fn tiers_do_not_multiply_attempts() {
    let by = |nested_max: u32| {
        let longest_us = 200_000;
        let (attempts_max, per_mille, reserve, window_us) = (3, 100, 9, 1_000_000);
        let budget = Budget { attempts_max, per_mille, reserve, window_us, longest_us, nested_max };
        let stop = format!("stop {}", CLEAN[0].lines().count());
        let rules = Rules { budget: Some(budget), ..RULES };
        try_judge(&CLEAN.map(str::to_owned), &stop, &rules).unwrap().count(L5)
    };

    assert_eq!((by(3), by(2)), (0, 1));
}

fn judge(logs: &[String; 4]) -> Verdict {
    judge_ending(logs, &format!("stop {}", logs[0].lines().count()))
}

/// The first log ends in this line.
fn judge_ending(logs: &[String; 4], last: &str) -> Verdict {
    try_judge(logs, last, &RULES).expect("the logs are well-formed")
}

fn try_judge(logs: &[String; 4], last: &str, rules: &Rules) -> std::io::Result<Verdict> {
    let owners = ["client 7", "server 3", "client 9", "server 4"];
    let texts: Vec<String> = owners
        .iter()
        .zip(logs)
        .map(|(owner, log)| {
            let stop = format!("stop {}", log.lines().count());
            let last = if *owner == "client 7" { last } else { &stop };
            format!("switchback-ledger 1 {owner} 42\n{log}{last}\n")
        })
        .collect();
    let logs: Vec<_> = owners.into_iter().zip(texts.iter().map(String::as_bytes)).collect();
    check_bytes(&logs, rules)
}

/// A client's two calls, which a server serves; the first is tried again. Each execution makes a
/// call of its own, as client 9.
const CLEAN: [&str; 4] = [
    "\
issue 1 sim.Work/relay 1 1 1000000 1100000
sent 1 0 1000000 100000
sent 1 1 1002500 98000
end 1 ok processed 1005000 3298534883329 7 1 3 1
issue 2 sim.Work/relay 1 1 1020000 1120000
sent 2 0 1020000 100000
sent 2 1 1021000 99000
end 2 ok processed 1025000 3298534883331 7 2 3 1
",
    "\
start 3298534883329 7 1 0 sim.Work/relay 1 1001000 1100500
finish 3298534883329 ok 1004500
start 3298534883330 7 1 1 sim.Work/relay 1 1003000 1100500
finish 3298534883330 dropped 1004600
start 3298534883331 7 2 1 sim.Work/relay 1 1021500 1120000
finish 3298534883331 ok 1024000
",
    "\
issue 0 sim.Work/look 1 1 1002000 1200000
parent 0 7 1 3298534883329
sent 0 0 1002000 98000
sent 0 1 1002500 98000
end 0 ok processed 1004000 4398046511105 9 0 4 1
issue 1 sim.Work/look 1 1 1022000 1032000
parent 1 7 2 3298534883331
sent 1 0 1022000 10000
end 1 ok processed 1023500 4398046511106 9 1 4 1
issue 2 sim.Work/look 1 1 1003500 1203500
parent 2 7 1 3298534883330
end 2 cancelled maybe 1004600 -
",
    "\
start 4398046511105 9 0 1 sim.Work/look 1 1003000 1100500
finish 4398046511105 ok 1003500
start 4398046511106 9 1 0 sim.Work/look 1 1022500 1032500
finish 4398046511106 ok 1023000
",
];
const RULES: Rules = Rules { transit_us: 1_000, ..Rules::SIMULATED };
const REFUSED: &str = "end 2 refused not_processed 1025000 -";

/// What is broken, and the edit that breaks it.
#[rustfmt::skip]
const BROKEN: &[(&[Invariant], &str, &str)] = &[
    // L7: more time than its own deadline, or that of the execution that made it, leaves.
    (&[L7], "sent 1 0 1000000 100000", "sent 1 0 1000000 200000"),
    (&[L7], "sent 0 1 1002500 98000", "sent 0 1 1002500 198000"),
    (&[L7], "9 0 1 sim.Work/look 1 1003000 1100500", "9 0 1 sim.Work/look 1 1003000 1200000"),
    // L1: later than the deadline of the execution that made it, and than the execution itself.
    (&[L1], "end 2 cancelled maybe 1004600", "end 2 cancelled maybe 1004601"),
    // L5: a retry's call is tried again.
    (&[L5], "sent 1 0 1022000 10000", "sent 1 0 1022000 10000\nsent 1 1 1022100 10000"),
    // Nobody made it, or somebody else.
    (&[Unissued], "parent 1 7 2 3298534883331", "parent 1 7 2 77"),
    (&[Unissued], "parent 1 7 2 3298534883331", "parent 1 7 1 3298534883331"),
    // It was made before its execution began, and after it had ended.
    (&[Clock], "issue 2 sim.Work/look 1 1 1003500 1203500",
               "issue 2 sim.Work/look 1 1 1002999 1202999"),
    (&[L1, Clock], "finish 3298534883330 dropped 1004600", "finish 3298534883330 dropped 1003400"),
    // Two executions made it, and a call that nobody issued is said to be made.
    (&[Log], "parent 1 7 2 3298534883331",
             "parent 1 7 2 3298534883331\nparent 1 7 2 3298534883331"),
    (&[Log], "parent 1 7 2 3298534883331",
             "parent 1 7 2 3298534883331\nparent 5 7 1 3298534883329"),
];
