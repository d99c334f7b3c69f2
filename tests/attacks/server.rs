//! Attacks on a server by connections and frames: floods, dribbles, bombs, silence.

use std::net::SocketAddr;
use std::time::Duration;

use crate::bytes::{
    CLOSE, PONG, PREFACE, REQUEST, RESPONSE, SKIPPED, Shape, greeting, head, metadata, number,
    ping, request, request_with, response, text,
};
use crate::process::Process;
use crate::raw::{End, Raw};
use crate::role::{BLOB, ECHO, TIMEOUT};
use crate::suite::{Outcome, Row, attack_server, attack_server_with};
use crate::time::{now, pause};
use crate::victim::newcomer;

/// Whether newcomers are served.
fn is_open_to_newcomers(to: SocketAddr) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(newcomer(to))
}

/// How each of these ends, one after the other, on a connection of its own.
pub(crate) fn ends(
    to: SocketAddr,
    attacks: impl IntoIterator<Item = Vec<u8>>,
    wait: Duration,
) -> String {
    let end = |bytes: Vec<u8>| {
        let mut raw = Raw::greeted(to, 3).unwrap();
        raw.write(&bytes).unwrap();
        raw.end(wait).to_string()
    };
    attacks.into_iter().map(end).collect::<Vec<_>>().join(" ")
}

#[test]
fn a3_metadata_declared_too_long() {
    let row = Row { growth_kib_max: 1024, ..Row::new("A3a", "8,193 bytes of TLVs", "MALFORMED") };
    attack_server(row, |_, to| {
        let start = now();
        // The header alone: whoever waits for the rest has believed it.
        Outcome::new(ends(to, [head(16_384, REQUEST, 0, 8193, 1).to_vec()], SOON), start)
            .ended("MALFORMED", 1)
    });
}

#[test]
fn a3_metadata_of_too_many_entries() {
    let row = Row::new("A3b", "65 metadata entries, then a call", "open");
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let ext = metadata(b"a", b"").repeat(65);
        raw.write(&request_with(1, ECHO, &ext, &[7])).unwrap();
        let refused = raw.reply().unwrap();
        raw.write(&request(3, ECHO, &[7])).unwrap();
        let answered = raw.reply().unwrap();
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .check(refused == (1, 15, 0), format!("wanted BAD_METADATA, saw {refused:?}"))
            .check(answered == (3, 0, 2), format!("wanted OK, saw {answered:?}"))
    });
}

#[test]
fn a3_metadata_of_full_size() {
    let row = Row {
        scaled: "2,000 calls for 100,000",
        ..Row::new("A3c", "8 KiB of metadata in every call", "open")
    };
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let ext = metadata(b"name", &[b'x'; 119]).repeat(64);
        assert_eq!(ext.len(), 8192);
        let mut answered = 0;
        for n in 0..2000 {
            raw.write(&request_with(2 * n + 1, ECHO, &ext, &[7])).unwrap();
            answered += u32::from(raw.reply().unwrap() == (2 * n + 1, 0, 2));
        }
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .check(answered == 2000, format!("{answered} answered"))
    });
}

#[test]
fn a4_empty_frames() {
    let row = Row {
        growth_kib_max: 1024,
        scaled: "100,000 for 1,000,000",
        ..Row::new("A4", "empty frames of a kind that is skipped", "TOO_MANY_FRAMES")
    };
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
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
        ..Row::new("A5", "100,000 pings, answers unread", "TOO_MANY_PINGS")
    };
    attack_server(row, |_, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let pings: Vec<u8> = (0..100_000).flat_map(ping).collect();
        let taken = raw.flood(&pings);
        let mut pongs = 0;
        let end = raw.end_with(AWAITED, |seen| pongs += u32::from(seen.kind == PONG));
        Outcome::new(end, start)
            .ended("TOO_MANY_PINGS", 1)
            .note(format!("{taken:?} bytes taken, {pongs} pongs"))
    });
}

/// A quarter of each kind of slowness; the last says hello but for its last byte.
#[test]
fn a6_handshakes_that_do_not_end() {
    let row = Row {
        growth_kib_max: 256 * 32,
        scaled: "400 sockets for 2,000, 1 s for 5 s",
        ..Row::new("A6", "silent, dribbled and half handshakes", "all closed")
    };
    attack_server(row, |server, to| {
        let start = now();
        let mut raws: Vec<Raw> = (0..4_u8)
            .flat_map(|of| [3 + of; 100])
            .map(|from| Raw::connect(to, from).unwrap())
            .collect();
        let connected = now() - start;
        let hello = greeting();
        let first = |n: usize| [0, 0, 8, hello.len() - 1][n % 4];
        for (n, raw) in raws.iter_mut().enumerate() {
            drop(raw.write(&hello[..first(n)])); // Displaced, perhaps.
        }
        let (mut newcomers, mut failed) = (0, Vec::new());
        while now() - start < TIMEOUT + Duration::from_millis(500) {
            // One short of a preface: whole, it would be answered.
            for raw in raws.iter_mut().skip(1).step_by(4).filter(|_| newcomers < PREFACE.len() - 1)
            {
                drop(raw.write(&hello[newcomers..][..1]));
            }
            failed.extend(is_open_to_newcomers(to).err());
            newcomers += 1;
            pause(Duration::from_millis(50));
        }
        let ends: Vec<End> = raws.iter_mut().map(|raw| raw.end(Duration::from_millis(5))).collect();
        let (open, said) = (
            ends.iter().filter(|end| **end == End::Open).count(),
            ends.iter().filter(|end| **end == End::Close(4)).count(),
        );
        let stats = server.numbers("stats");
        let (displaced, most) = (stats["displaced"], stats["handshaking_max"]);
        let saw = if open == 0 { "all closed".to_owned() } else { format!("{open} open") };
        Outcome::new(saw, start)
            .ended("HANDSHAKE_TIMEOUT", 400 - displaced)
            .ended("SHUTDOWN", displaced)
            .ended("LOST", newcomers as u64)
            .note(format!(
                "{said} HANDSHAKE_TIMEOUT, {displaced} displaced, {most} at most, {newcomers} came"
            ))
            // A SYN that finds no room in the queue is sent again after a second.
            .check(connected < Duration::from_secs(1), format!("connected in {connected:.1?}"))
            .check(failed.is_empty(), format!("newcomers: {failed:?}"))
            .check(most == 256 && displaced >= 144, "the limit did not hold")
            .check(said > 0, "nobody was told why")
    });
}

#[test]
fn a7_a_body_that_dribbles() {
    let row = Row {
        growth_kib_max: 100 * 32,
        scaled: "100 connections for 500, 1 s for 5 s",
        ..Row::new("A7", "4 MiB declared, a byte at a time", "FRAME_TIMEOUT")
    };
    attack_server(row, |server, to| {
        let start = now();
        let mut raws: Vec<Raw> = (0..100).map(|_| Raw::greeted(to, 3).unwrap()).collect();
        let before = server.figures().peak_kib;
        for raw in &mut raws {
            raw.write(&head(0x0040_0000, REQUEST, 0, 0, 1)).unwrap();
        }
        while now() - start < AWAITED && !is_ended(&raws[0]) {
            raws.iter_mut().for_each(|raw| drop(raw.write(b"x")));
            pause(Duration::from_millis(100));
        }
        let mut ends: Vec<String> =
            raws.iter_mut().map(|raw| raw.end(Duration::from_millis(1)).to_string()).collect();
        ends.sort_unstable();
        ends.dedup();
        let growth = server.figures().peak_kib - before;
        Outcome::new(ends.join(" "), start)
            .ended("FRAME_TIMEOUT", 100)
            .note(format!("{growth} KiB of it for the bodies"))
            // One read's buffer of 16 KiB, and what it takes to keep it.
            .check(growth <= 100 * 24, "more than 24 KiB for a body of some bytes")
    });
}

/// Without reading anything.
fn is_ended(raw: &Raw) -> bool {
    let mut byte = [0];
    raw.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    raw.stream.peek(&mut byte).is_ok()
}

#[test]
fn a8_answers_that_are_not_read() {
    let row = Row {
        // The soft limit, one answer beyond it, and the buffer it was made in.
        growth_kib_max: 16 * 3072,
        scaled: "100 answers on 16 connections for 10,000 on 64, 1 s for 10 s; debug: 128 KiB",
        ..Row::new("A8", "answers of 1 MiB, unread", "all closed")
    };
    attack_server(row, |server, to| {
        let start = now();
        // Unoptimized code takes ten times as long over each byte, the victim's turn with it.
        let bytes = if cfg!(debug_assertions) { 1 << 17 } else { 1 << 20 };
        let asks: Vec<u8> =
            (0..100).flat_map(|n| request(2 * n + 1, BLOB, &number(bytes))).collect();
        let mut raws: Vec<Raw> = (0..16).map(|_| Raw::greeted(to, 3).unwrap()).collect();
        for raw in &mut raws {
            raw.write(&asks).unwrap();
        }
        let until = start + TIMEOUT * 5;
        while now() < until && server.numbers("stats")["open"] > 1 {
            pause(Duration::from_millis(100));
        }
        let (left, started) =
            (server.numbers("stats")["open"] - 1, server.numbers("stats")["started"]);
        // The reason lies behind answers that nobody read.
        let saw = if left == 0 { "all closed".to_owned() } else { format!("{left} open") };
        Outcome::new(saw, start)
            .ended("SLOW_CONSUMER", 16)
            .note(format!("{started} calls started, the victim's included"))
    });
}

#[test]
fn a9_lengths() {
    let wants = "FRAME_TOO_LARGE FRAME_TOO_LARGE FRAME_TOO_LARGE open HEAD_CRC";
    let row = Row { growth_kib_max: 1024, ..Row::new("A9", "lengths up to 2^32 - 1", wants) };
    attack_server(row, |_, to| {
        let start = now();
        let max = 0x0040_0000;
        let lens = [0xffff_ffff, 0x8000_0000, max + 1, max];
        let mut heads = lens.map(|len| head(len, REQUEST, 0, 0, 1).to_vec()).to_vec();
        let mut broken = head(0xffff_ffff, REQUEST, 0, 0, 1);
        broken[15] ^= 1;
        heads.push(broken.to_vec());
        Outcome::new(ends(to, heads, Duration::from_millis(300)), start)
            .ended("FRAME_TOO_LARGE", 3)
            .ended("HEAD_CRC", 1)
            .ended("LOST", 1)
    });
}

#[test]
fn a17_out_of_descriptors() {
    let row = Row {
        scaled: "300 connections for 500",
        ..Row::new("A17a", "RLIMIT_NOFILE of 64, 300 connections", "newcomers served after 1 s")
    };
    attack_server_with(row, Some(64), |server, to| {
        let start = now();
        let raws: Vec<Raw> = (0..4_u8)
            .flat_map(|of| [3 + of; 75])
            .filter_map(|from| Raw::connect(to, from).ok())
            .collect();
        pause(Duration::from_millis(700));
        let errors = server.numbers("stats")["accept_errors"];
        let held = raws.len();
        drop(raws);
        pause(Duration::from_secs(1));
        let saw = is_open_to_newcomers(to)
            .map_or_else(|error| error, |()| "newcomers served after 1 s".to_owned());
        Outcome::new(saw, start)
            .ended("LOST", held as u64 + 1)
            .note(format!("{held} connected, {errors} accepts failed"))
            .check(errors > 0, "the server never ran out")
    });
}

#[test]
fn a17_one_address() {
    let row = Row {
        scaled: "200 connections for 500",
        ..Row::new("A17b", "200 connections of one address", "128 served, newcomers too")
    };
    attack_server(row, |server, to| {
        let start = now();
        let raws: Vec<Raw> = (0..200).filter_map(|_| Raw::greeted(to, 3).ok()).collect();
        let newcomers = is_open_to_newcomers(to);
        let refused = server.numbers("stats")["refused_per_address"];
        Outcome::new(format!("{} served, newcomers too", raws.len()), start)
            .ended("LOST", raws.len() as u64 + 1)
            .note(format!("{refused} refused"))
            .check(refused == 72, "not as many were refused as came")
            .check(newcomers.is_ok(), format!("{newcomers:?}"))
    });
}

/// Names, builds and details that would break a line of log apart, or a terminal.
pub(crate) const NASTY: &[u8] = "a\n\u{1b}[31mb\u{202e}c\r\0d".as_bytes();

#[test]
fn a24_texts_of_the_wire_in_the_log() {
    let row = Row {
        scaled: "5,000 unknown methods for 100,000",
        ..Row::new("A24a", "newlines, escapes and NUL in every text", "nothing new counted")
    };
    attack_server(row, |server, to| {
        let start = now();
        let series = server.numbers("stats")["series"];
        let hello = [&PREFACE[..], &crate::bytes::hello_of(NASTY)].concat();
        for _ in 0..3 {
            let mut raw = Raw::connect(to, 3).unwrap();
            raw.write(&hello).unwrap();
            raw.read_greeting().unwrap();
            raw.write(&crate::bytes::close(NASTY)).unwrap();
            raw.end(SOON);
        }
        for first in [b"\x1b[31mSWBK\n", b"SWB\n\x1b[0m\0\0"] {
            let mut raw = Raw::connect(to, 3).unwrap();
            raw.write(first).unwrap();
            raw.end(SOON);
        }
        for connection in 0..50 {
            let mut raw = Raw::greeted(to, 3).unwrap();
            for n in 0..100 {
                let name = format!("attacks.No/{connection}-{n}");
                let written = raw.write(&request(2 * n + 1, &name, &[7]));
                if written.and_then(|()| raw.reply()).is_err() {
                    break;
                }
            }
        }
        let more = server.numbers("stats")["series"] - series;
        let saw = if more == 0 { "nothing new counted".to_owned() } else { format!("{more} new") };
        Outcome::new(saw, start).ended("NORMAL", 3).ended("NOT_SWITCHBACK", 2).ended("LOST", 50)
    });
}

/// What a kind, a flag byte and a payload come to, on an open connection, by FR-2 and FR-7 to
/// FR-12; `None`: skipped.
pub(crate) fn judged(kind: u8, flags: u8, len: usize) -> Option<&'static str> {
    let is_known = matches!(kind, 0x01..=0x04 | 0x10..=0x14 | 0x20..=0x23);
    match (kind, flags & 0xf0, len) {
        (0x00..=0x7f, ..) if !is_known => Some("UNKNOWN_KIND"),
        // The flags of a REQUEST are judged with its body, which is too short here.
        (kind, 0x10.., _) if kind != REQUEST => Some("UNKNOWN_FLAG"),
        (0x80.., ..) => None,
        // Complete, but of the connection.
        (0x12, _, 0) | (0x13, ..) => Some("PROTOCOL"),
        _ => Some("MALFORMED"),
    }
}

#[test]
fn a26_kinds_and_flags() {
    let row = Row {
        scaled: "3 flag bytes for 256, bodies of 0 and 1 bytes",
        ..Row::new("A26", "every kind, with flags, empty or not", "as specified")
    };
    attack_server(row, |server, to| {
        let start = now();
        let (mut wrong, mut skipped, mut ends) = (Vec::new(), 0, Vec::new());
        let mut raw = Raw::greeted(to, 3).unwrap();
        for kind in 0..=0xff {
            for (flags, payload) in
                [(0, &b""[..]), (0, b"x"), (0x0f, b""), (0x0f, b"x"), (0x10, b""), (0x10, b"x")]
            {
                if wrong.len() == 3 {
                    break; // Enough is known; each may take seconds.
                }
                let wanted = judged(kind, flags, payload.len());
                raw.write(&Shape { flags, payload, ..Shape::of(kind) }.to_bytes()).unwrap();
                if wanted.is_none() {
                    skipped += 1;
                    raw.write(&request(2 * skipped + 1, ECHO, &[7])).unwrap();
                }
                let saw = fate(&mut raw);
                if saw.as_deref() != wanted {
                    wrong.push(format!("{kind:#x} {flags:#x} {}: {saw:?}", payload.len()));
                }
                // So many in a row are too many.
                if saw.is_some() || skipped % 100 == 0 {
                    ends.push(saw.unwrap_or_else(|| "LOST".to_owned()));
                    raw = Raw::greeted(to, 3).unwrap();
                }
            }
        }
        let accepted = server.numbers("stats")["accepted"];
        ends.push("LOST".to_owned());
        let saw = if wrong.is_empty() { "as specified".to_owned() } else { wrong.join(", ") };
        let outcome = Outcome::new(saw, start);
        let outcome = ends.iter().fold(outcome, |outcome, end| outcome.ended(end, 1));
        outcome.note(format!("1,536 frames on {accepted} connections"))
    });
}

/// How the connection ended; `None` if it answers a call.
fn fate(raw: &mut Raw) -> Option<String> {
    match raw.next(now() + SOON) {
        Ok(seen) if seen.kind == RESPONSE => None,
        Ok(seen) if seen.kind == CLOSE => {
            Some(End::Close(u16::from_be_bytes([seen.body[0], seen.body[1]])).to_string())
        }
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn a28_a_frame_in_small_pieces() {
    let row = Row {
        scaled: "2 MiB for 4 MiB, 512 bytes for 1",
        growth_kib_max: 8 * 1024,
        ..Row::new("A28", "a frame of 2 MiB, 512 bytes at a time", "open")
    };
    attack_server(row, |server, to| {
        let (start, mut raw) = (now(), Raw::greeted(to, 3).unwrap());
        let mut dribble = |call: u32, len: usize| {
            let before = server.figures().cpu_ns;
            raw.dribble(&request(call, ECHO, &text(len))).unwrap();
            let reply = raw.reply().unwrap();
            assert_eq!(reply, (call, 8, 0), "read to its end, and no number");
            (server.figures().cpu_ns - before) / len as u64
        };
        let (small, large) = (dribble(1, 64 * 1024), dribble(3, 2 * 1024 * 1024));
        Outcome::new(raw.end(Duration::ZERO), start)
            .ended("LOST", 1)
            .note(format!("{small} ns of cpu for each byte of 64 KiB, {large} of 2 MiB"))
            .check(large < 3 * small, "the work grows faster than the bytes")
    });
}

#[test]
fn a15_a_response_to_a_server() {
    let row = Row::new("A15", "a client sends a RESPONSE", "PROTOCOL");
    attack_server(row, |_: &mut Process, to| {
        let start = now();
        Outcome::new(ends(to, [response(1, &[], &[7])], SOON), start).ended("PROTOCOL", 1)
    });
}

const SOON: Duration = Duration::from_secs(5);
/// For how long a defence that is awaited is looked for.
const AWAITED: Duration = Duration::from_secs(2);
