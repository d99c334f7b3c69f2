//! One small ledger by hand, and the smallest ways to break it.

use crate::ledger::Invariant::{self, Clock, L1, L2, L3, L4, L5, L6, L7, L9, L10, Log, Unissued};
use crate::ledger::{Budget, Rules, Verdict, check_bytes};

/// The logs break nothing, and everything in them is counted.
#[test]
fn the_ledger_by_hand_is_clean() {
    let verdict = judge(CLIENT, SERVER);

    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.clients, verdict.servers, verdict.torn), (1, 1, 0));
    assert_eq!((verdict.calls, verdict.ok, verdict.executions), (5, 2, 5));
    assert_eq!((verdict.lost, verdict.doubled, verdict.late), (0, 0, 0));
    assert_eq!(verdict.unfinished, 1);
    let errors: Vec<_> = verdict.errors.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(errors, [("app:NoFunds", 1), ("deadline", 1), ("refused", 1)]);
}

/// Each edit breaks the invariant that it names, and no other that it does not name.
#[test]
fn each_broken_invariant_is_named() {
    for (number, (broken, edits)) in BROKEN.iter().enumerate() {
        let (mut client, mut server) = (CLIENT.to_owned(), SERVER.to_owned());
        for (from, to) in *edits {
            let log = if client.contains(from) { &mut client } else { &mut server };
            assert_eq!(log.matches(from).count(), 1, "case {number}: {from:?} names one place");
            *log = log.replace(from, to);
        }

        let verdict = judge(&client, &server);

        let found: Vec<_> = verdict.broken.keys().copied().collect();
        assert_eq!(found, *broken, "case {number}, {edits:?}:\n{verdict}");
        assert!(verdict.to_string().contains(broken[0].as_str()), "{verdict}");
    }
}

/// Every invariant is broken in at least two ways above.
#[test]
fn no_invariant_is_left_out() {
    // L6 is judged only if asked for: below.
    for invariant in [L1, L2, L3, L4, L5, L7, L9, L10, Unissued, Clock, Log] {
        let ways = BROKEN.iter().filter(|(broken, _)| broken.contains(&invariant)).count();
        assert!(ways >= 2, "{invariant:?} is broken in {ways} ways");
    }
}

/// Each limit of time holds up to its last microsecond and not beyond.
#[test]
fn limits_of_time_are_exact() {
    // The call by hand: issued at 1_000_000, deadline 1_100_000. REAL: 2 ms, 1 s, 50 ms.
    let ended = |at: u64| {
        let end = format!("end 1 ok processed {at} 3298534883329 7 1 3 2");
        judge(&CLIENT.replace("end 1 ok processed 1005000 3298534883329 7 1 3 2", &end), SERVER)
    };
    assert!(ended(1_150_000).is_clean());
    assert_eq!(ended(1_150_001).count(L1), 1);
    assert_eq!(ended(1_150_001).late, 1);
    assert!(ended(1_000_500).is_clean(), "the answer came 2 ms before its execution ended");
    assert_eq!(ended(1_000_499).count(Clock), 1);

    let started = |at: u64, deadline: u64| {
        let start = format!("start 3298534883329 7 1 0 bank/pay 2 {at} {deadline}");
        let server = SERVER.replace(START_1, &start);
        judge(CLIENT, &server.replace("ok 1002500", "ok 2102500"))
    };
    assert_eq!(started(998_000, 1_100_500).count(Clock), 1, "the answer came first");
    assert_eq!(started(997_999, 1_100_500).count(Clock), 2, "the start came first too");
    assert_eq!(started(1_100_500, 1_100_500).count(L7), 0);
    assert_eq!(started(1_100_501, 1_100_500).count(L7), 1);
    assert_eq!(started(2_102_000, 2_103_000).count(L7), 0);
    assert_eq!(started(2_102_001, 2_103_000).count(L7), 1);
    assert_eq!(started(1_002_000, 2_103_001).count(L7), 1);
}

/// A simulation has one clock: what real clocks are forgiven is a violation there.
#[test]
fn simulated_rules_forgive_nothing() {
    let server = SERVER.replace("1002000 1100500", "999999 1100000");
    let by = |rules: &Rules| judge_by(CLIENT, &server, rules).count(Clock);

    assert_eq!(by(&Rules::REAL), 0);
    assert_eq!(by(&Rules::SIMULATED), 1);

    // Call 5 starts as late as it may by the caller's deadline, and a microsecond later.
    let by = |at: u64, rules: &Rules| {
        let late = format!("7 5 0 bank/pay 2 {at} 1101000");
        let server = SERVER.replace("7 5 0 bank/pay 2 1012000 1100500", &late);
        let server = server.replace("dropped 1100500", "dropped 1101000");
        judge_by(CLIENT, &server, rules).count(L7)
    };
    assert_eq!(by(1_100_000, &Rules::SIMULATED), 0);
    assert_eq!(by(1_100_001, &Rules::SIMULATED), 1);
    assert_eq!(by(1_100_001, &Rules::REAL), 0);
}

/// L6 is judged where nothing but drains ends connections: there nobody's outcome is unknown, and
/// no handler is stopped whose caller still waits.
#[test]
fn a_drain_loses_no_call() {
    let drains = Rules { only_drains: true, ..Rules::REAL };
    let by = |client: &str, server: &str, rules: &Rules| judge_by(client, server, rules).count(L6);
    let unknown = CLIENT.replace("end 5 deadline", "end 5 unknown");
    let stopped = SERVER.replace("finish 3298534883331 ok", "finish 3298534883331 dropped");

    assert_eq!(by(CLIENT, SERVER, &drains), 0, "call 5 ran out of time, and its handler with it");
    assert_eq!((by(&unknown, SERVER, &Rules::REAL), by(CLIENT, &stopped, &Rules::REAL)), (0, 0));
    assert_eq!(by(&unknown, SERVER, &drains), 2, "unknown, and stopped");
    assert_eq!(by(CLIENT, &stopped, &drains), 1);
}

/// L5: of retries there are a share of the calls and a reserve in every window, and of attempts so
/// many. Shown at both limits and one beyond, with the window that moves.
#[test]
fn retries_stay_within_their_budget() {
    let budget = Budget {
        attempts_max: 3,
        per_mille: 100,
        reserve: 2,
        window_us: 1_000_000,
        longest_us: 200_000,
        nested_max: 0,
    };
    // Ten calls every 100 ms, `retried` of which have a second attempt; nothing else of note.
    let history = |retried: &[u64], attempt: u32| {
        let mut client = String::new();
        for seq in 0..10 {
            let at = 1_000_000 + seq * 100_000;
            client.push_str(&format!("issue {seq} bank/look 1 1 {at} {}\n", at + 100_000));
            if retried.contains(&seq) {
                client.push_str(&format!("attempt {seq} {attempt} - unknown maybe\n"));
            }
            client.push_str(&format!("end {seq} deadline maybe {} -\n", at + 100_000));
        }
        client
    };
    let by = |retried: &[u64], attempt: u32| {
        let rules = Rules { budget: Some(budget), ..Rules::REAL };
        judge_by(&history(retried, attempt), "", &rules).count(L5)
    };

    assert_eq!(by(&[0, 1, 2], 1), 0, "two of the reserve, and one that ten calls pay for");
    assert_eq!(by(&[0, 1, 2, 3], 1), 1);
    assert_eq!(by(&[0, 1, 2, 8], 1), 0, "the last one may be of another window");
    assert_eq!(by(&[0, 1, 2, 7], 1), 1);
    assert_eq!(by(&[4], 2), 0);
    assert_eq!(by(&[4], 3), 1, "attempts are 0, 1 and 2");
}

/// A flood of one kind is counted in full, kept in part, and hides no other kind.
#[test]
fn violations_are_all_counted_and_few_are_kept() {
    let mut client = String::from(CLIENT);
    for seq in 1000..2000 {
        client.push_str(&format!("issue {seq} bank/pay 2 0 1000000 1100000\n"));
    }
    let verdict = judge(&client.replace("deadline maybe", "deadline processed"), SERVER);

    assert_eq!((verdict.count(L1), verdict.lost, verdict.count(L4)), (1000, 1000, 0));
    let stray = SERVER.replace("start 3298534883329 7 1 0", "start 3298534883329 7 99 0");
    let verdict = judge(&client, &stray);
    assert_eq!(verdict.count(Unissued), 1);
    assert!(verdict.violations.len() <= 100);
    assert!(verdict.violations.iter().any(|violation| violation.invariant == Unissued));
}

/// The words tell which call, what happened to it, and where.
#[test]
fn the_words_tell_what_happened() {
    let server = SERVER.replace(START_1, &format!("{START_1}\n{START_1_AGAIN}"));
    let verdict = judge(CLIENT, &server);

    let text = verdict.to_string();
    assert!(text.starts_with("ledger: 1 violation\n"), "{text}");
    assert!(
        text.contains(
            "L3 call 7/1: it is not idempotent, but it ran 2 times: \
             on server 3 (attempt 0) at +2.000 ms, ok at +2.500 ms; \
             on server 3 (attempt 1) at +3.000 ms, no end"
        ),
        "{text}"
    );
    let json = verdict.to_json();
    assert!(json.starts_with("{\"clean\":false,\"clients\":1,"), "{json}");
    assert!(json.contains("\"call\":{\"client\":7,\"seq\":1}"), "{json}");
}

/// Adds the first and the last line, and judges by the rules for real processes.
fn judge(client: &str, server: &str) -> Verdict {
    judge_by(client, server, &Rules::REAL)
}

fn judge_by(client: &str, server: &str, rules: &Rules) -> Verdict {
    let whole = |owner: &str, records: &str| {
        let stop = records.lines().count();
        format!("switchback-ledger 1 {owner} 42\n{records}stop {stop}\n").into_bytes()
    };
    let (client, server) = (whole("client 7", client), whole("server 3", server));
    let logs: [(&str, &[u8]); 2] = [("client", &client), ("server", &server)];
    check_bytes(&logs, rules).expect("the logs are well-formed")
}

/// Call 1 is answered, 2 is tried twice, 3 is refused, 4 fails in the handler, 5 runs out of time.
const CLIENT: &str = "\
issue 1 bank/pay 2 0 1000000 1100000
issue 2 bank/look 1 1 1000000 1100000
end 1 ok processed 1005000 3298534883329 7 1 3 2
attempt 2 0 3 unknown maybe
attempt 2 1 3 ok processed
end 2 ok processed 1006000 3298534883331 7 2 3 1
issue 3 bank/pay 2 0 1010000 1100000
end 3 refused not_processed 1011000 -
issue 4 bank/pay 2 0 1010000 1100000
end 4 app:NoFunds processed 1013000 -
issue 5 bank/pay 2 0 1010000 1100000
end 5 deadline maybe 1100100 -
";

/// The nonces are (3 << 40) + 1 and so on.
const SERVER: &str = "\
start 3298534883329 7 1 0 bank/pay 2 1002000 1100500
start 3298534883330 7 2 0 bank/look 1 1002100 1100500
finish 3298534883329 ok 1002500
start 3298534883331 7 2 1 bank/look 1 1003000 1100500
finish 3298534883331 ok 1003500
start 3298534883332 7 4 0 bank/pay 2 1012000 1100500
finish 3298534883332 err 1012500
start 3298534883333 7 5 0 bank/pay 2 1012000 1100500
finish 3298534883333 dropped 1100500
";

const START_1: &str = "start 3298534883329 7 1 0 bank/pay 2 1002000 1100500";
const START_1_AGAIN: &str = "start 3298534890000 7 1 1 bank/pay 2 1003000 1100500";
const FINISH_1: &str = "finish 3298534883329 ok 1002500";
const END_1: &str = "end 1 ok processed 1005000 3298534883329 7 1 3 2\n";

type Edits = &'static [(&'static str, &'static str)];

/// What is broken, and the edits that break it.
#[rustfmt::skip]
const BROKEN: &[(&[Invariant], Edits)] = &[
    // L1: lost, doubled, late.
    (&[L1], &[(END_1, "")]),
    (&[L1], &[("end 5 deadline", "end 5 deadline maybe 1100050 -\nend 5 deadline")]),
    (&[L1], &[("maybe 1100100", "maybe 1150001")]),
    // L2: no such execution, failed, unfinished, an answer without a nonce, an error from nowhere.
    (&[L2], &[("1005000 3298534883329", "1005000 77")]),
    (&[L2], &[(FINISH_1, "finish 3298534883329 err 1002500")]),
    (&[L2], &[("finish 3298534883329 ok 1002500\n", "")]),
    (&[L2], &[("1005000 3298534883329 7 1 3 2", "1005000 -")]),
    (&[L2], &[("3298534883332 err", "3298534883332 ok")]),
    // It ran twice and finished once, and the answer names the other execution.
    (&[L2], &[("1006000 3298534883331", "1006000 3298534883330")]),
    // L3: twice in all, whatever the attempt numbers say.
    (&[L3], &[(START_1, "start 3298534883329 7 1 0 bank/pay 2 1002000 1100500\n\
                         start 3298534890000 7 1 1 bank/pay 2 1003000 1100500")]),
    (&[L3], &[("issue 2 bank/look 1 1", "issue 2 bank/look 1 0")]),
    // L4: ran though refused, ran though an attempt was, did not run though processed, and
    // outcomes whose disposition cannot be.
    (&[L4], &[("finish 3298534883333", "start 3298534890000 7 3 0 bank/pay 2 1011000 1100500\n\
                                        finish 3298534883333")]),
    (&[L4], &[("deadline maybe", "deadline not_processed")]),
    (&[L4], &[("2 0 3 unknown maybe", "2 0 3 refused not_processed")]),
    (&[L4], &[("refused not_processed", "failed:INTERNAL processed")]),
    (&[L4], &[("refused not_processed", "refused maybe")]),
    (&[L4], &[("refused not_processed", "unknown not_processed")]),
    (&[L4], &[("end 1 ok processed", "end 1 ok maybe")]),
    // L5: an attempt that ran twice, of one that is not idempotent and of one that is.
    (&[L3, L5], &[(START_1, "start 3298534883329 7 1 0 bank/pay 2 1002000 1100500\n\
                             start 3298534890000 7 1 0 bank/pay 2 1003000 1100500")]),
    (&[L4, L5], &[("7 2 1 bank/look", "7 2 0 bank/look")]),
    // L5 of what handlers made, L7 of what requests grant: in `tiers`.
    // L9: something is left, at the client and at the server.
    (&[L9], &[("end 5 deadline", "rest 1 0 0\nend 5 deadline")]),
    (&[L9], &[("dropped 1100500", "dropped 1100500\nrest 0 16384 0")]),
    (&[L9], &[("dropped 1100500", "dropped 1100500\nrest 0 0 1")]),
    // L7: after the handler's deadline, after the caller's, the handler's is the wrong one.
    (&[L7], &[("5 0 bank/pay 2 1012000 1100500", "5 0 bank/pay 2 1100501 1100500"),
              ("dropped 1100500", "dropped 1100600")]),
    (&[L7], &[("5 0 bank/pay 2 1012000 1100500", "5 0 bank/pay 2 2102001 2102001"),
              ("dropped 1100500", "dropped 2102600")]),
    (&[L7], &[("5 0 bank/pay 2 1012000 1100500", "5 0 bank/pay 2 1012000 11012000")]),
    // L10: another's answer, addressed to another, of another version, server or method.
    (&[L10], &[("1005000 3298534883329", "1005000 3298534883331")]),
    (&[L10], &[("3298534883329 7 1 3 2", "3298534883329 8 1 3 2")]),
    (&[L10], &[("3298534883329 7 1 3 2", "3298534883329 7 2 3 2")]),
    (&[L10], &[("3298534883329 7 1 3 2", "3298534883329 7 1 4 2")]),
    (&[L10], &[("3298534883329 7 1 3 2", "3298534883329 7 1 3 1")]),
    (&[L10], &[("7 1 0 bank/pay", "7 1 0 bank/look")]),
    // An answer of another call, while the call itself never ran.
    (&[L2, L4, L10], &[("1005000 3298534883329", "1005000 3298534883331"),
                       ("start 3298534883329 7 1 0 bank/pay 2 1002000 1100500\n", ""),
                       ("finish 3298534883329 ok 1002500\n", "")]),
    // Nobody asked: an unknown call, an unknown client.
    (&[Unissued], &[("5 0 bank/pay", "6 0 bank/pay")]),
    (&[Unissued], &[("7 5 0 bank/pay", "9 5 0 bank/pay")]),
    // Effects before causes: in one process, and between two.
    (&[Clock], &[("maybe 1100100", "maybe 1009999")]),
    (&[Clock], &[("dropped 1100500", "dropped 1011999")]),
    (&[Clock], &[("5 0 bank/pay 2 1012000", "5 0 bank/pay 2 1007999")]),
    (&[Clock], &[("ok 1002500", "ok 1007001")]),
    // Logs that contradict themselves: a number used twice, a nonce used twice, ends of nothing.
    (&[Log], &[("issue 5 bank/pay", "issue 5 bank/pay 2 0 1010000 1100000\nissue 5 bank/pay")]),
    (&[Log], &[("end 5 deadline", "end 6 deadline maybe 1100050 -\nend 5 deadline")]),
    (&[Log], &[("end 5 deadline", "attempt 0 0 - unknown maybe\nend 5 deadline")]),
    (&[Log], &[("end 5 deadline", "attempt 6 0 - unknown maybe\nend 5 deadline")]),
    (&[Log], &[("start 3298534883333", "start 3298534883330"),
               ("finish 3298534883333", "finish 3298534883330")]),
    (&[Log], &[(FINISH_1, "finish 3298534883329 ok 1002500\nfinish 3298534883329 ok 1002500")]),
];
