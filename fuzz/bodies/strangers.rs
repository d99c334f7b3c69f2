//! Somebody who says anything in a handshake, to a server and to a client.
//!
//! Every conversation is held three times: in one piece, byte by byte, and in pieces of any length;
//! what comes of it is the same. Whether it opens is judged here again, from the parts that it was
//! made of, so that a rule that the library forgets is missed.

use std::sync::Arc;

use super::handshake_sides::{Client, Server, Stop};
use super::{codecs, cut, table, text, versions};
use arbitrary::{Result, Unstructured};
use switchback::proto::{ClientLimits, KnownTable, ServerLimits, TableCache, Violation};
use switchback::util::fnv64;
use switchback::wire::{CallId, CloseReason, FRAME_BYTES_DEFAULT, Kind, MethodId, MethodRow};
use switchback::wire::{Preface, TablePayload, VersionRange, VersionRow, append_control, push_tlv};

/// What a stranger says, and whether it may open a connection.
struct Talk {
    bytes: Vec<u8>,
    opens: bool,
}

pub(super) fn at_server(u: &mut Unstructured<'_>) -> Result<()> {
    let ours = VersionRange { lo: 1, hi: u.int_in_range(1..=3)? };
    let limits = ServerLimits {
        versions: ours,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max: 8,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: String::from("server"),
    };
    let (mut bytes, mut opens) = preface(u, ours)?;
    let frames = u.int_in_range(0..=3)?;
    let mut is_greeted = false;
    for _ in 0..frames {
        let frame = frame(u, Kind::HELLO, 0, 0)?;
        // Nothing but what is skipped may come before HELLO; nothing is known of what follows.
        if !is_greeted && !frame.is_skipped {
            is_greeted = true;
            opens = opens && frame.is_legal && frame.kind == Kind::HELLO;
        }
        bytes.extend_from_slice(&frame.bytes);
    }
    let talk = Talk { bytes, opens: opens && is_greeted };
    let held = alike(
        u,
        &talk.bytes,
        || Server::new(limits.clone(), known()),
        |server| {
            let client = server.proto.client().cloned();
            (client, server.stop, server.out.clone(), server.requests.clone())
        },
        Server::hear,
    );
    let (client, stop, out, requests) = held;
    let why = || format!("{:?} {stop:?} {:02x?}", client, talk.bytes);
    assert_eq!(client.is_some(), talk.opens, "{}", why());
    assert!(requests.is_empty() || talk.opens);
    let is_silent = matches!(stop, Some(Stop::Violation(violation))
        if violation.close_reason() == CloseReason::NOT_SWITCHBACK);
    let is_greeted = talk.bytes.len() >= Preface::BYTES && !is_silent;
    assert_eq!(!out.is_empty(), is_greeted, "only who was greeted speaks: {}", why());
    Ok(())
}

pub(super) fn at_client(u: &mut Unstructured<'_>) -> Result<()> {
    let limits = ClientLimits {
        versions: VersionRange { lo: 1, hi: u.int_in_range(1..=3)? },
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max: 8,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: codecs(u)?,
        build: text(u)?,
        first_call: CallId(1),
    };
    let mut cache = TableCache::default();
    if u.arbitrary()? {
        cache.remember(Arc::new(KnownTable::new(known()).expect("its hash is right")));
    }
    let said = Client::new(limits.clone(), cache.clone()).out;
    let (mut bytes, mut is_sound) = preface(u, limits.versions)?;
    let named = if u.arbitrary()? { known().hash } else { table(u)?.hash };
    // The table that HELLO_ACK named, once there was one.
    let mut announced = None;
    let mut opens = false;
    for _ in 0..u.int_in_range(0..=3)? {
        let kind = if announced.is_some() { Kind::TABLE } else { Kind::HELLO_ACK };
        let frame = frame(u, kind, fnv64(&said), named)?;
        bytes.extend_from_slice(&frame.bytes);
        if frame.is_skipped || opens || !is_sound {
            continue;
        }
        let is_expected = frame.is_legal && frame.kind == kind;
        if is_expected && announced.is_none() {
            announced = frame.named;
            opens = frame.named.and_then(|named| cache.find(named)).is_some();
        } else if is_expected {
            opens = frame.named == announced;
            is_sound = opens;
        } else {
            // PING, PONG and CREDIT may come before the table.
            is_sound = frame.is_legal && announced.is_some() && frame.is_idle();
        }
    }
    let talk = Talk { bytes, opens };
    let (table, stop, out) = alike(
        u,
        &talk.bytes,
        || {
            let mut client = Client::new(limits.clone(), cache.clone());
            client.out.clear();
            client
        },
        |client| {
            let table = client.proto.table().map(|table| table.hash());
            (table, client.stop, client.out.clone())
        },
        Client::hear,
    );
    assert_eq!(table.is_some(), talk.opens, "{table:?} {stop:?} {:02x?}", talk.bytes);
    let is_told = matches!(stop, Some(Stop::Violation(violation))
        if !matches!(violation, Violation::NoCommonVersion { .. })
            && violation.close_reason() != CloseReason::NOT_SWITCHBACK);
    assert_eq!(!out.is_empty(), is_told, "a client says why it ends: {stop:?}");
    Ok(())
}

/// Holds a conversation in three cuts.
fn alike<S, T: std::fmt::Debug + PartialEq>(
    u: &mut Unstructured<'_>,
    bytes: &[u8],
    side: impl Fn() -> S,
    seen: impl Fn(&S) -> T,
    hear: impl Fn(&mut S, &[u8]),
) -> T {
    let mut whole = side();
    hear(&mut whole, bytes);
    let mut by_bytes = side();
    bytes.iter().for_each(|byte| hear(&mut by_bytes, &[*byte]));
    assert_eq!(seen(&whole), seen(&by_bytes), "byte by byte");
    let mut in_pieces = side();
    cut(u, bytes, |piece| hear(&mut in_pieces, piece));
    assert_eq!(seen(&whole), seen(&in_pieces), "in pieces");
    seen(&whole)
}

/// A preface, and whether who has these versions goes on.
fn preface(u: &mut Unstructured<'_>, ours: VersionRange) -> Result<(Vec<u8>, bool)> {
    Ok(match u.int_in_range(0..=5_u8)? {
        0 => {
            let theirs = VersionRange { lo: u.arbitrary()?, hi: u.arbitrary()? };
            let is_range = theirs.lo >= 1 && theirs.lo <= theirs.hi;
            let (lo, hi) = (theirs.lo.max(ours.lo), theirs.hi.min(ours.hi));
            (Preface(theirs).to_bytes().to_vec(), is_range && lo <= hi)
        }
        1 => {
            let mut bytes = Preface(ours).to_bytes().to_vec();
            let at = u.choose_index(4)?;
            bytes[at] ^= 1 << u.int_in_range(0..=7)?;
            (bytes, false)
        }
        2 => {
            let theirs = versions(u)?;
            let is_common = theirs.lo.max(ours.lo) <= theirs.hi.min(ours.hi);
            (Preface(theirs).to_bytes().to_vec(), is_common)
        }
        _ => (Preface(ours).to_bytes().to_vec(), true),
    })
}

struct Said {
    kind: Kind,
    bytes: Vec<u8>,
    is_skipped: bool,
    /// Nothing is wrong with the frame itself.
    is_legal: bool,
    /// The table that it names or brings.
    named: Option<u64>,
}

impl Said {
    fn is_idle(&self) -> bool {
        [Kind::PING, Kind::PONG, Kind::CREDIT].contains(&self.kind)
    }
}

/// A frame, mostly of the kind that is expected, mostly legal.
fn frame(u: &mut Unstructured<'_>, expected: Kind, transcript: u64, named: u64) -> Result<Said> {
    let kind = match u.int_in_range(0..=9_u8)? {
        0 => *u.choose(&[Kind::HELLO, Kind::HELLO_ACK, Kind::TABLE, Kind::TABLE_UPDATE])?,
        1 => *u.choose(&OTHERS)?,
        2 => Kind(0x90),
        _ => expected,
    };
    let call = CallId(if u.ratio(1, 16)? { u.int_in_range(0..=3)? } else { 0 });
    let is_skipped = kind == Kind(0x90);
    let (mut bytes, mut is_legal, mut brought) = (Vec::new(), call.0 == 0, None);
    match kind {
        Kind::HELLO | Kind::HELLO_ACK => {
            let keys = keys(u, kind == Kind::HELLO_ACK, transcript, named)?;
            is_legal &= are_legal(&keys, kind == Kind::HELLO_ACK, transcript);
            brought = keys
                .iter()
                .find(|(key, _)| *key == 5)
                .and_then(|(_, value)| value.first_chunk().map(|hash| u64::from_be_bytes(*hash)));
            let mut ext = Vec::new();
            keys.iter().for_each(|(key, value)| push_tlv(&mut ext, *key, value));
            append_control(&mut bytes, kind, call, &ext, &[]);
        }
        Kind::TABLE => {
            let mut table = if u.arbitrary()? { known() } else { table(u)? };
            let is_right = !u.ratio(1, 8)?;
            table.hash ^= u64::from(!is_right);
            is_legal &= is_right;
            brought = Some(table.hash);
            append_control(&mut bytes, kind, call, &[], &table.to_bytes());
        }
        Kind::PING | Kind::PONG => append_control(&mut bytes, kind, call, &[], &[7; 8]),
        Kind::CREDIT => append_control(&mut bytes, kind, call, &[], &[7; 4]),
        _ => {
            is_legal = false; // Whatever it is, it opens nothing.
            append_control(&mut bytes, kind, call, &[], &[]);
        }
    }
    if u.ratio(1, 16)? {
        let at = u.choose_index(bytes.len())?;
        bytes[at] ^= 1 << u.int_in_range(0..=7)?;
        return Ok(Said { kind, bytes, is_skipped: false, is_legal: false, named: None });
    }
    Ok(Said { kind, bytes, is_skipped, is_legal, named: brought })
}

/// The keys of a HELLO or HELLO_ACK, with a few changes.
fn keys(
    u: &mut Unstructured<'_>,
    is_ack: bool,
    transcript: u64,
    named: u64,
) -> Result<Vec<(u16, Vec<u8>)>> {
    let number: u32 = u.int_in_range(0x1_0000..=u32::MAX)?;
    let mut keys = vec![
        (1, number.to_be_bytes().to_vec()),
        (3, codecs(u)?),
        (4, b"somebody".to_vec()),
        (5, named.to_be_bytes().to_vec()),
    ];
    if is_ack {
        keys.insert(1, (2, vec![0, 0, 0, 9]));
        keys.push((6, transcript.to_be_bytes().to_vec()));
    }
    for _ in 0..u.int_in_range(0..=2)? {
        let at = u.choose_index(keys.len())?;
        match u.int_in_range(0..=7_u8)? {
            0 => drop(keys.remove(at)),
            1 => {
                let len = u.int_in_range(0..=40)?.min(u.len());
                keys[at].1 = u.bytes(len)?.to_vec();
            }
            2 => keys[at].0 = u.int_in_range(0..=9)?,
            7 => keys.push((9, u.int_in_range(0xffff..=0x1_0001_u32)?.to_be_bytes().to_vec())),
            3 => keys.push((u.int_in_range(1..=0x7fff)?, vec![1])),
            4 => keys.push((u.int_in_range(0x8000..=u16::MAX)?, Vec::new())),
            5 => keys.insert(at, keys[at].clone()),
            _ => {
                let value = &mut keys[at].1;
                let byte = u.choose_index(value.len())?;
                value[byte] = u.arbitrary()?;
                if u.ratio(1, 4)? {
                    value.fill(0);
                }
            }
        }
        if keys.is_empty() {
            break;
        }
    }
    Ok(keys)
}

/// FR-9, FR-10, HS-5 to HS-7, once more.
fn are_legal(keys: &[(u16, Vec<u8>)], is_ack: bool, transcript: u64) -> bool {
    let known: &[u16] = if is_ack { &[1, 2, 3, 4, 5, 6, 7, 9] } else { &[1, 3, 4, 5, 9] };
    let required: &[u16] = if is_ack { &[1, 2, 3, 5, 6] } else { &[1, 3] };
    let is_value_legal = |key: u16, value: &[u8]| match key {
        1 | 9 => value.len() == 4 && value[..2] != [0, 0],
        2 => value.len() == 4 && value != [0; 4],
        3 => (1..=32).contains(&value.len()) && value.windows(2).all(|pair| pair[0] < pair[1]),
        4 => value.len() <= 64 && std::str::from_utf8(value).is_ok(),
        5 if is_ack => value.len() == 8,
        5 => value.len().is_multiple_of(8) && value.len() <= 64,
        6 => value == transcript.to_be_bytes(),
        _ => value.is_empty(), // 7, fallback
    };
    keys.windows(2).all(|pair| {
        let (before, after) = (pair[0].0, pair[1].0);
        before < after || (before == after && !known.contains(&after))
    }) && keys.iter().all(|(key, value)| {
        if known.contains(key) { is_value_legal(*key, value) } else { *key < 0x8000 }
    }) && required.iter().all(|key| keys.iter().any(|(found, _)| found == key))
}

/// The table that a server has, and that a client may remember.
fn known() -> TablePayload {
    let versions = vec![VersionRow { version: 1, fingerprint: 7 }];
    let rows = vec![MethodRow { method: MethodId(9), ceiling: MethodRow::NO_CEILING, versions }];
    let mut table = TablePayload { hash: 0, rows };
    table.hash = fnv64(&table.to_bytes()[8..]);
    table
}

/// Kinds that are no part of a handshake.
const OTHERS: [Kind; 7] =
    [Kind::PING, Kind::PONG, Kind::CREDIT, Kind::CLOSE, Kind::REQUEST, Kind::CANCEL, Kind::DATA];
