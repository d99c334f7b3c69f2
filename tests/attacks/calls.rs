//! Attacks on a server by calls: cancelled, failing, colliding, too many, panicking.

use std::time::Duration;

use crate::bytes::{cancel, number, request, text};
use crate::raw::Raw;
use crate::role::{ECHO, HOLD, PANIC, SLEEP};
use crate::server::NASTY;
use crate::suite::{Outcome, Row, attack_server};
use crate::time::{now, pause};

#[test]
fn a1_open_and_cancel() {
    let row = Row {
        growth_kib_max: 8 * 1024,
        scaled: "5,000 pairs for 1,000,000",
        ..Row::new("A1a", "REQUEST and CANCEL at line rate", "TOO_MANY_CANCELS")
    };
    attack_server(row, |server, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let pair = |n: u32| [request(2 * n + 1, SLEEP, &number(1000)), cancel(2 * n + 1)].concat();
        let pairs: Vec<u8> = (0..5000).flat_map(pair).collect();
        drop(raw.flood(&pairs));
        let mut answered = 0;
        let end = raw.end_with(Duration::from_secs(2), |_| answered += 1);
        let most = server.numbers("stats")["running_max"];
        Outcome::new(end, start)
            .ended("TOO_MANY_CANCELS", 1)
            .note(format!("{answered} pairs answered, {most} handlers at most"))
            .check(most <= 1024, "more handlers than places")
            .check(answered < 1000, "more than 1,000 pairs")
    });
}

#[test]
fn a1_cancels_within_reason() {
    let row = Row {
        scaled: "2 s for 60 s",
        ..Row::new("A1b", "a third of 300 calls a second taken back", "open")
    };
    attack_server(row, |server, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let before = server.figures().cpu_ns;
        for n in 0..200 {
            let call = 6 * n + 1;
            raw.write(&request(call, ECHO, &[7])).unwrap();
            raw.write(&request(call + 2, ECHO, &[7])).unwrap();
            raw.write(&request(call + 4, SLEEP, &number(1000))).unwrap();
            raw.write(&cancel(call + 4)).unwrap();
            for _ in 0..3 {
                raw.reply().unwrap();
            }
            pause(Duration::from_millis(10));
        }
        let cpu = Duration::from_nanos(server.figures().cpu_ns - before);
        let share = cpu.as_secs_f64() / (now() - start).as_secs_f64();
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .note(format!("{:.0} % of a core, the victim's calls included", share * 100.0))
            .check(share < 0.2, "too much of a core")
    });
}

fn unknown(n: u32) -> Vec<u8> {
    request(2 * n + 1, "attacks.No/such", &[7])
}

#[test]
fn a2_refusals_that_are_read() {
    let row = Row {
        scaled: "5,000 for 1,000,000",
        ..Row::new("A2a", "calls of no method, answers read", "TOO_MANY_ERRORS")
    };
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let mut answered = 0;
        let end = loop {
            if answered == 5000 || raw.write(&unknown(answered)).is_err() {
                break raw.end(Duration::from_millis(100));
            }
            match raw.next(now() + Duration::from_secs(5)) {
                Ok(seen) if seen.kind == crate::bytes::CLOSE => {
                    let reason = u16::from_be_bytes([seen.body[0], seen.body[1]]);
                    break crate::raw::End::Close(reason);
                }
                Ok(_) => answered += 1,
                Err(_) => break crate::raw::End::Unsaid,
            }
        };
        Outcome::new(end, start)
            .ended("TOO_MANY_ERRORS", 1)
            .note(format!("{answered} refusals"))
            .check(answered <= 256, "more than 256 refusals")
    });
}

#[test]
fn a2_refusals_that_are_not_read() {
    let row = Row {
        scaled: "200,000 for 1,000,000",
        ..Row::new("A2b", "calls of no method, answers unread", "TOO_MANY_ERRORS")
    };
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let asks: Vec<u8> = (0..200_000).flat_map(unknown).collect();
        let taken = raw.flood(&asks);
        let mut answered = 0;
        let end = raw.end_with(Duration::from_secs(1), |_| answered += 1);
        Outcome::new(end, start)
            .ended("TOO_MANY_ERRORS", 1)
            .note(format!("{taken:?} of {} bytes taken, {answered} refusals", asks.len()))
            .check(answered <= 256, "more than 256 refusals")
    });
}

#[test]
fn a14_call_ids() {
    let wants = "CALL_ID CALL_ID CALL_ID CALL_ID PROTOCOL PROTOCOL";
    let row = Row::new("A14", "ids: live, ended, lower, after the last, even, 0", wants);
    attack_server(row, |_, to| {
        let start = now();
        let ask = |call| request(call, ECHO, &[7]);
        let held = |call| request(call, HOLD, &text(1));
        let scripts = [
            [held(5), held(5)].concat(),
            [ask(5), ask(5)].concat(),
            [ask(5), ask(3)].concat(),
            [ask(u32::MAX), ask(1)].concat(),
            ask(6),
            ask(0),
        ];
        Outcome::new(crate::server::ends(to, scripts, Duration::from_secs(5)), start)
            .ended("CALL_ID", 4)
            .ended("PROTOCOL", 2)
    });
}

#[test]
fn a16_more_calls_than_places() {
    let row = Row::new("A16a", "1,100 calls where 1,024 may be", "76 refused");
    attack_server(row, |server, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let asks: Vec<u8> =
            (0..1100).flat_map(|n| request(2 * n + 1, SLEEP, &number(60_000))).collect();
        raw.write(&asks).unwrap();
        let refused = (0..76).filter(|_| matches!(raw.reply(), Ok((_, 12, 0)))).count();
        let outcome = Outcome::new(format!("{refused} refused"), start).ended("LOST", 1);
        let most = server.numbers("stats")["running_max"];
        outcome
            .note(format!("{most} handlers at most"))
            .check(most == 1024, "not as many handlers as places")
    });
}

#[test]
fn a16_more_bytes_than_allowed() {
    let row = Row {
        growth_kib_max: 3 * 8 * 1024 + 8 * 1024,
        scaled: "300 calls on 3 connections for 1,000 on 100",
        ..Row::new("A16b", "calls of 64 KiB that are held", "open")
    };
    attack_server(row, |server, to| {
        let start = now();
        let asks: Vec<u8> =
            (0..300).flat_map(|n| request(2 * n + 1, HOLD, &text(64 * 1024))).collect();
        let mut raws: Vec<Raw> = (0..3).map(|_| Raw::greeted(to, 3).unwrap()).collect();
        let taken: Vec<_> = raws.iter_mut().map(|raw| raw.flood(&asks)).collect();
        pause(Duration::from_millis(500));
        let most = server.numbers("stats")["running_max"];
        Outcome::new(raws[0].end(Duration::ZERO), start)
            .ended("LOST", 3)
            .note(format!("{most} calls held, {taken:?} bytes taken"))
            .check(most <= 3 * 128, "more bytes are held than 8 MiB a connection")
    });
}

#[test]
fn a24_texts_of_handlers_in_the_log() {
    let row =
        Row { panics: true, ..Row::new("A24b", "a peer's text of 100 KB in a panic", "open") };
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let nasty = NASTY.repeat(100_000 / NASTY.len());
        let payload = [number(nasty.len() as u64), nasty].concat();
        raw.write(&request(1, PANIC, &payload)).unwrap();
        let reply = raw.reply().unwrap();
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .check(reply == (1, 11, 2), format!("wanted INTERNAL, saw {reply:?}"))
    });
}

#[test]
fn a25_ids_that_collide() {
    let row = Row {
        growth_kib_max: 8 * 1024,
        scaled: "30 times 300 ids for 100,000, in 3 turns",
        ..Row::new("A25", "ids that differ in their high bits only", "open")
    };
    attack_server(row, |server, to| {
        let start = now();
        let cost = |step: u32| {
            let before = server.figures().cpu_ns;
            for _ in 0..10 {
                let mut raw = Raw::greeted(to, 3).unwrap();
                let ask = |n| request(n * step + 1, SLEEP, &number(60_000));
                raw.write(&(0..300).flat_map(ask).collect::<Vec<u8>>()).unwrap();
                raw.write(&request(300 * step + 1, ECHO, &[7])).unwrap();
                raw.reply().unwrap();
            }
            Duration::from_nanos(server.figures().cpu_ns - before)
        };
        // By turns, and the least of each: what the machine does meanwhile adds to a turn's time.
        let turns = [(); 3].map(|()| [cost(2), cost(1 << 23)]);
        let least = |of: usize| turns.iter().map(|turn| turn[of]).min().unwrap();
        let (even, colliding) = (least(0), least(1));
        Outcome::new("open", start)
            .ended("LOST", 60)
            .note(format!("{even:.1?} of cpu in order, {colliding:.1?} colliding"))
            .check(colliding < 3 * even, "colliding ids cost more")
    });
}

#[test]
fn a29_panics() {
    let row =
        Row { panics: true, ..Row::new("A29", "1,000 panics, other calls between them", "open") };
    attack_server(row, |server, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let (mut panicked, mut answered) = (0, 0);
        for n in 0..1000 {
            raw.write(&request(4 * n + 1, PANIC, &text(3))).unwrap();
            raw.write(&request(4 * n + 3, ECHO, &[7])).unwrap();
            for _ in 0..2 {
                match raw.reply().unwrap() {
                    (_, 11, 2) => panicked += 1,
                    (_, 0, 2) => answered += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        // Every place is free again.
        let asks: Vec<u8> = (0..1024).flat_map(|n| request(2 * n + 4001, SLEEP, &[1])).collect();
        raw.write(&asks).unwrap();
        let free = (0..1024).filter(|_| matches!(raw.reply(), Ok((_, 0, 2)))).count();
        let running = server.numbers("stats")["running"];
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .check((panicked, answered) == (1000, 1000), format!("{panicked} and {answered}"))
            .check((free, running) == (1024, 0), format!("{free} free, {running} running"))
    });
}
