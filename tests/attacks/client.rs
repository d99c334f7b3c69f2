//! Attacks on a client by a server: the same bytes in the other direction.
//!
//! Clients are forgotten more often than servers. Each row's client calls an innocent server all
//! the while, on a connection of its own, and that is the victim.

use std::net::Shutdown;
use std::time::Duration;

use crate::bytes::{
    CANCEL, PONG, REQUEST, RESPONSE, SKIPPED, Shape, close, head, metadata, ping, response, text,
    tlv,
};
use crate::raw::{End, Raw};
use crate::server::{NASTY, judged};
use crate::suite::{Evil, Outcome, Row, attack_client};
use crate::time::{now, pause};

/// How a connection with one call under way ends after each of these; `{call}` gives the bytes.
fn ends(evil: &mut Evil, attacks: &[fn(u32) -> Vec<u8>], wait: Duration) -> String {
    let end = |attack: &fn(u32) -> Vec<u8>| {
        let (mut raw, call) = evil.call();
        raw.write(&attack(call)).unwrap();
        raw.end(wait).to_string()
    };
    attacks.iter().map(end).collect::<Vec<_>>().join(" ")
}

/// An answer that asks for version 1, which the call was made in.
fn other_version(call: u32) -> Vec<u8> {
    let ext = tlv(3, &[0, 1]);
    let fixed = [0, 5, 0, 0];
    Shape { call, fixed: &fixed, ext: &ext, ..Shape::of(RESPONSE) }.to_bytes()
}

#[test]
fn a2_calls_that_are_sent_again() {
    let row = Row::new("A2m", "UNSUPPORTED_VERSION for ever", "open");
    attack_client(row, |evil| {
        let (start, mut raw) = (now(), evil.calls(1, 10_000, 1));
        let mut requests = 0;
        while requests < 10
            && let Ok(seen) = raw.next(now() + Duration::from_millis(500))
        {
            requests += u32::from(seen.kind == REQUEST);
            raw.write(&other_version(seen.call)).unwrap();
        }
        let outcomes = evil.outcomes(1);
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .note(format!("{requests} requests, {outcomes:?}"))
            .check((1..=2).contains(&requests), "sent again more than once")
            .check(outcomes == ["UNSUPPORTED_VERSION:NotProcessed"], "another outcome")
    });
}

#[test]
fn a3_metadata() {
    let row = Row::new("A3m", "8,193 bytes of TLVs; 65 entries", "MALFORMED MALFORMED");
    attack_client(row, |evil| {
        let start = now();
        let long = |call| head(16_384, RESPONSE, 0, 8193, call).to_vec();
        let many = |call| response(call, &metadata(b"a", b"").repeat(65), &[7]);
        Outcome::new(ends(evil, &[long, many], SOON), start).ended("MALFORMED", 2)
    });
}

#[test]
fn a4_empty_frames() {
    let row = Row {
        growth_kib_max: 1024,
        scaled: "100,000 for 1,000,000",
        ..Row::new("A4m", "empty frames of a kind that is skipped", "TOO_MANY_FRAMES")
    };
    attack_client(row, |evil| {
        let (start, (mut raw, _)) = (now(), evil.call());
        let taken = raw.flood(&Shape::of(SKIPPED).to_bytes().repeat(100_000));
        Outcome::new(raw.end(AWAITED), start)
            .ended("TOO_MANY_FRAMES", 1)
            .note(format!("{taken:?} bytes taken"))
    });
}

#[test]
fn a5_pings() {
    let row = Row {
        growth_kib_max: 1024,
        ..Row::new("A5m", "100,000 pings, answers unread", "TOO_MANY_PINGS")
    };
    attack_client(row, |evil| {
        let (start, (mut raw, _)) = (now(), evil.call());
        let pings: Vec<u8> = (0..100_000).flat_map(ping).collect();
        let taken = raw.flood(&pings);
        let mut pongs = 0;
        let end = raw.end_with(AWAITED, |seen| pongs += u32::from(seen.kind == PONG));
        Outcome::new(end, start)
            .ended("TOO_MANY_PINGS", 1)
            .note(format!("{taken:?} bytes taken, {pongs} pongs"))
    });
}

#[test]
fn a7_a_body_that_dribbles() {
    let row = Row {
        growth_kib_max: 1024,
        scaled: "1 s for 5 s",
        ..Row::new("A7m", "4 MiB declared, a byte at a time", "FRAME_TIMEOUT")
    };
    attack_client(row, |evil| {
        let (start, (mut raw, call)) = (now(), evil.call());
        raw.write(&head(0x0040_0000, RESPONSE, 0, 0, call)).unwrap();
        let mut end = End::Open;
        while end == End::Open && now() - start < AWAITED {
            drop(raw.write(b"x"));
            end = raw.end(Duration::from_millis(100));
        }
        Outcome::new(end, start).ended("FRAME_TIMEOUT", 1)
    });
}

/// What waits is what the callers wait with; the client itself holds one output of it.
#[test]
fn a8_requests_that_are_not_read() {
    let row = Row {
        growth_kib_max: 200 * 64 + 4 * 1024,
        scaled: "200 calls of 64 KiB for 10,000 of 1 MiB, 1 s for 10 s",
        ..Row::new("A8m", "requests of 64 KiB, unread", "closed without a word")
    };
    attack_client(row, |evil| {
        let start = now();
        let mut raw = evil.calls(200, 1000, 64 * 1024);
        let outcomes = evil.outcomes(200);
        pause(AWAITED.saturating_sub(now() - start));
        let late = outcomes.iter().filter(|one| one.starts_with("DEADLINE_EXCEEDED")).count();
        let end = raw.end(Duration::from_millis(500));
        Outcome::new(end, start)
            .ended("SLOW_CONSUMER", 1)
            .note(format!("{late} of {} ended at their deadline", outcomes.len()))
            .check(outcomes.len() == 200, "a call without an outcome")
    });
}

#[test]
fn a9_lengths() {
    let wants = "FRAME_TOO_LARGE FRAME_TOO_LARGE FRAME_TOO_LARGE open HEAD_CRC";
    let row = Row { growth_kib_max: 1024, ..Row::new("A9m", "lengths up to 2^32 - 1", wants) };
    attack_client(row, |evil| {
        let start = now();
        let attacks: [fn(u32) -> Vec<u8>; 5] = [
            |call| head(0xffff_ffff, RESPONSE, 0, 0, call).to_vec(),
            |call| head(0x8000_0000, RESPONSE, 0, 0, call).to_vec(),
            |call| head(0x0040_0001, RESPONSE, 0, 0, call).to_vec(),
            |call| head(0x0040_0000, RESPONSE, 0, 0, call).to_vec(),
            |call| {
                let mut broken = head(0xffff_ffff, RESPONSE, 0, 0, call);
                broken[15] ^= 1;
                broken.to_vec()
            },
        ];
        // The one that is open stays so: the next needs a connection of its own.
        let before = ends(evil, &attacks[..3], SOON);
        let broken = ends(evil, &attacks[4..], SOON);
        let open = ends(evil, &attacks[3..4], Duration::from_millis(300));
        Outcome::new(format!("{before} {open} {broken}"), start)
            .ended("FRAME_TOO_LARGE", 3)
            .ended("HEAD_CRC", 1)
            .ended("LOST", 1)
    });
}

#[test]
fn a14_call_ids() {
    let what = "answers to an even id, to 0, to one never sent, on 342 connections each";
    let row = Row::new("A14m", what, "PROTOCOL PROTOCOL PROTOCOL");
    attack_client(row, |evil| {
        let start = now();
        let attacks: [fn(u32) -> Vec<u8>; 3] = [
            |call| response(call + 1, &[], &[7]),
            |_| response(0, &[], &[7]),
            |call| response(call + 2, &[], &[7]),
        ];
        let mut saw: Vec<_> = (0..342).map(|_| ends(evil, &attacks, SOON)).collect();
        saw.dedup();
        let mut outcomes = evil.outcomes(1026);
        let count = outcomes.len();
        outcomes.dedup();
        Outcome::new(saw.join(", "), start)
            .ended("PROTOCOL", 1026)
            .check(count == 1026, format!("{count} outcomes"))
            .check(outcomes == ["CONNECTION_LOST:Maybe"], format!("{outcomes:?}"))
    });
}

/// Ids that are used up, again and again: the client goes on over new connections, and each call
/// is made once, with the ids that are left.
#[test]
fn a14_ids_that_run_out() {
    let row = Row {
        scaled: "the last 3 ids of each connection for 2^31",
        ..Row::new("A14n", "1,100 connections whose ids run out", "every call answered once")
    };
    attack_client(row, |evil| {
        let start = now();
        evil.begin_at(u32::MAX - 4);
        let (mut odd, mut used_up) = (Vec::new(), None::<Raw>);
        for _ in 0..1100 {
            let mut raw = evil.calls(3, 10_000, 1);
            // The next call is what a connection without ids is given up for.
            let end = used_up.as_mut().map_or(End::Close(0), |raw| raw.end(SOON));
            let ids: Vec<u32> = (0..3).map(|_| raw.next(now() + SOON).unwrap().call).collect();
            // The last one first: the connection is held by the calls that are left.
            for call in ids.iter().rev() {
                raw.write(&response(*call, &[], &[7])).unwrap();
            }
            used_up = Some(raw);
            if ids != [u32::MAX - 4, u32::MAX - 2, u32::MAX] || end != End::Close(0) {
                odd.push(format!("{ids:?}, {end} before"));
                break; // Enough is known; each may take seconds.
            }
        }
        let mut outcomes = evil.outcomes(3300);
        let count = outcomes.len();
        outcomes.dedup();
        let is_right = count == 3300 && outcomes == ["OK:7"];
        let saw = if is_right { "every call answered once" } else { "calls lost" };
        Outcome::new(saw, start)
            .ended("NORMAL", 1099)
            .ended("LOST", 1)
            .note(format!("{count} calls: {outcomes:?}"))
            .check(odd.is_empty(), odd.join(", "))
    });
}

#[test]
fn a15_answers_nobody_waits_for() {
    let wants = "PROTOCOL PROTOCOL";
    let row = Row::new("A15m", "a second answer, to a call answered or taken back", wants);
    attack_client(row, |evil| {
        let start = now();
        let (mut raw, call) = evil.call();
        raw.write(&response(call, &[], &[7])).unwrap();
        let answered = evil.outcomes(1);
        raw.write(&response(call, &[], &[8])).unwrap();
        let first = raw.end(SOON);

        let mut raw = evil.calls(1, 100, 1);
        let call = raw.next(now() + SOON).unwrap().call;
        let cancelled = raw.next(now() + SOON).unwrap();
        assert_eq!((cancelled.kind, cancelled.call), (CANCEL, call));
        // The answer to a call that was taken back is its last: it frees the slot.
        raw.write(&[response(call, &[], &[7]), response(call, &[], &[8])].concat()).unwrap();
        let second = raw.end(SOON);
        let late = evil.outcomes(1);
        Outcome::new(format!("{first} {second}"), start)
            .ended("PROTOCOL", 2)
            .check(answered == ["OK:7"], format!("{answered:?}"))
            .check(late == ["DEADLINE_EXCEEDED:Maybe"], format!("{late:?}"))
    });
}

#[test]
fn a24_texts_of_the_wire_in_the_log() {
    let row = Row::new("A24m", "newlines, escapes and NUL in every text", "nothing broken");
    attack_client(row, |evil| {
        let start = now();
        for _ in 0..3 {
            let (mut raw, _) = evil.call();
            raw.write(&close(NASTY)).unwrap();
            raw.end(SOON);
            // A call that was not read is made again.
            let mut raw = evil.connection();
            let call = raw.next(now() + SOON).unwrap().call;
            let ext = tlv(1, NASTY);
            let fixed = [0, 11, 2, 0];
            let status = Shape { call, fixed: &fixed, ext: &ext, ..Shape::of(RESPONSE) };
            raw.write(&status.to_bytes()).unwrap();
            raw.write(b"\n\x1b[31mnot a frame at all").unwrap();
            raw.end(SOON);
        }
        let outcomes = evil.outcomes(3);
        Outcome::new("nothing broken", start)
            .ended("NORMAL", 3)
            .ended("HEAD_CRC", 3)
            .check(outcomes == ["INTERNAL:Processed"; 3], format!("{outcomes:?}"))
    });
}

#[test]
fn a26_kinds_and_flags() {
    let row = Row {
        scaled: "2 flag bytes for 256, bodies of 0 and 1 bytes",
        ..Row::new("A26m", "every kind, with flags, empty or not", "as specified")
    };
    attack_client(row, |evil| {
        let start = now();
        let (mut wrong, mut ends, mut skipped) = (Vec::new(), Vec::new(), 0);
        let (mut raw, mut call) = evil.call();
        for kind in 0..=0xff {
            for (flags, payload) in [(0, &b""[..]), (0x0f, b"x"), (0x10, b"")] {
                if wrong.len() == 3 {
                    break; // Enough is known; each may take seconds.
                }
                let wanted = judged(kind, flags, payload.len());
                raw.write(&Shape { flags, payload, ..Shape::of(kind) }.to_bytes()).unwrap();
                let saw = if wanted.is_none() {
                    skipped += 1;
                    raw.write(&response(call, &[], &[7])).unwrap();
                    evil.client.ask("calls 1 10000 1");
                    fate(&mut raw, &mut call)
                } else {
                    Some(raw.end(SOON).to_string())
                };
                if saw.as_deref() != wanted {
                    wrong.push(format!("{kind:#x} {flags:#x} {}: {saw:?}", payload.len()));
                }
                // So many in a row are too many.
                if saw.is_some() || skipped % 100 == 0 {
                    // Only a client that knows of the end makes a new connection.
                    drop(raw.stream.shutdown(Shutdown::Write));
                    raw.end(SOON);
                    (raw, call) = evil.call();
                    ends.push(saw.unwrap_or_else(|| "LOST".to_owned()));
                }
            }
        }
        let saw = if wrong.is_empty() { "as specified".to_owned() } else { wrong.join(", ") };
        ends.push("LOST".to_owned());
        let outcome = Outcome::new(saw, start);
        let outcome = ends.iter().fold(outcome, |outcome, end| outcome.ended(end, 1));
        outcome.note(format!("768 frames on {} connections", ends.len()))
    });
}

/// How the connection ended; `None` if the next call comes on it.
fn fate(raw: &mut Raw, call: &mut u32) -> Option<String> {
    match raw.next(now() + SOON) {
        Ok(seen) if seen.kind == REQUEST => {
            *call = seen.call;
            None
        }
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn a28_a_frame_in_small_pieces() {
    let row = Row {
        scaled: "2 MiB for 4 MiB, 512 bytes for 1",
        growth_kib_max: 8 * 1024,
        ..Row::new("A28m", "an answer of 2 MiB, 512 bytes at a time", "open")
    };
    attack_client(row, |evil| {
        let start = now();
        let mut raw = evil.calls(1, 60_000, 1);
        let mut dribble = |evil: &mut Evil, len: usize| {
            let call = raw.next(now() + SOON).unwrap().call;
            let before = evil.client.figures().cpu_ns;
            raw.dribble(&response(call, &[], &text(len))).unwrap();
            assert_eq!(evil.outcomes(1), ["BAD_RESPONSE:Processed"]);
            (evil.client.figures().cpu_ns - before) / len as u64
        };
        let small = dribble(evil, 64 * 1024);
        evil.client.ask("calls 1 60000 1");
        let large = dribble(evil, 2 * 1024 * 1024);
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .note(format!("{small} ns of cpu for each byte of 64 KiB, {large} of 2 MiB"))
            .check(large < 3 * small, "the work grows faster than the bytes")
    });
}

const SOON: Duration = Duration::from_secs(5);
/// For how long a defence that is awaited is looked for.
const AWAITED: Duration = Duration::from_secs(2);
