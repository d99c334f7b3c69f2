//! TLV blocks: what is malformed, what must be known, what is skipped, on every kind of frame.

use crate::spec::bytes::{HELLO, HELLO_ACK, KINDS, Parts, REQUEST, RESPONSE, tlv};
use crate::spec::frames::{Seen, read};
use crate::spec::peers::Server;

/// Feeds one block on one kind of frame: the reason of the close, the refusal, or "fine".
fn judge(kind: u8, ext: &[u8]) -> String {
    let parts = Parts::sound(kind).ext(ext);
    if kind == REQUEST {
        let mut server = Server::open();
        let seen = server.feed(&parts.build()).expect("a REQUEST's TLVs never close");
        return if seen == ["request 1"] { "fine".to_owned() } else { seen.concat() };
    }
    match read(&parts.build(), 65_536, []) {
        Seen::Frame(..) => "fine".to_owned(),
        Seen::Closed(reason) => reason.to_owned(),
        Seen::Incomplete => panic!("the frame is whole"),
    }
}

fn refused(kind: u8, reason: &str) -> String {
    if kind == REQUEST { "refuse 1 BAD_METADATA".to_owned() } else { reason.to_owned() }
}

/// A sound block with `more` behind it.
fn with(kind: u8, more: &[u8]) -> Vec<u8> {
    [&Parts::sound(kind).ext, more].concat()
}

/// A block that ends inside a TLV, or whose keys descend, is malformed on every kind.
#[test]
fn fr_9_refuses_blocks_that_are_cut_or_descend() {
    let cut = [
        vec![0x70],
        vec![0x70, 0],
        vec![0x70, 0, 0],
        vec![0x70, 0, 0, 1],
        [tlv(0x7000, b"x"), vec![0x70]].concat(),
        vec![0x70, 0, 0xff, 0xff, 1, 2, 3],
        [tlv(0x7001, b""), tlv(0x7000, b"")].concat(),
        [tlv(0xf000, b""), tlv(0x7000, b"")].concat(),
    ];
    for kind in KINDS {
        for more in &cut {
            assert_eq!(
                judge(kind, &with(kind, more)),
                refused(kind, "MALFORMED"),
                "{kind:#04x} {more:?}"
            );
        }
        assert_eq!(judge(kind, &with(kind, &tlv(0x7000, b"x"))), "fine");
    }
}

/// A known key stands once, unless it is repeatable; also where it is the last that is repeated.
#[test]
fn fr_9_refuses_a_known_key_twice() {
    let four = [0, 1, 0, 0];
    let hello = |more: &[Vec<u8>]| [tlv(1, &four), more.concat(), tlv(3, &[1])].concat();
    assert_eq!(judge(HELLO, &hello(&[])), "fine");
    assert_eq!(judge(HELLO, &hello(&[tlv(1, &four)])), "MALFORMED");
    assert_eq!(
        judge(HELLO, &hello(&[tlv(2, &four), tlv(2, b"?")])),
        "fine",
        "2 is unknown in HELLO"
    );
    assert_eq!(judge(HELLO, &[hello(&[]), tlv(6, b""), tlv(6, b"?")].concat()), "fine");
    for key in [1, 2, 3, 4, 5, 6, 7] {
        let value: &[u8] = match key {
            2 | 5 => &[0; 4],
            6 | 7 => &[0; 8],
            3 => &[0, 1],
            4 => &[1],
            _ => b"text",
        };
        assert_eq!(judge(RESPONSE, &tlv(key, value)), "fine", "key {key}");
        assert_eq!(judge(RESPONSE, &[tlv(key, value), tlv(key, value)].concat()), "MALFORMED");
    }
    let entry = tlv(16, b"\x01kv");
    for kind in [REQUEST, RESPONSE] {
        assert_eq!(judge(kind, &[entry.clone(), entry.clone()].concat()), "fine");
    }
}

/// A known key with a value that it does not allow is malformed.
#[test]
fn fr_9_refuses_values_that_a_key_does_not_allow() {
    let cases: [(u16, &[u8]); 14] = [
        (1, &[b'x'; 1025]),
        (1, b"\xff"),
        (2, &[0; 3]),
        (2, &[0; 5]),
        (3, &[0]),
        (3, &[0, 2, 0, 2]),
        (3, &[0, 2, 0, 1]),
        (4, &[]),
        (4, &[2, 2]),
        (4, &[2, 1]),
        (5, &[0; 8]),
        (6, &[0; 4]),
        (7, &[]),
        (16, b""),
    ];
    for (key, value) in cases {
        assert_eq!(judge(RESPONSE, &tlv(key, value)), "MALFORMED", "key {key}: {value:?}");
    }
    assert_eq!(judge(RESPONSE, &tlv(1, &[b'x'; 1024])), "fine");
    assert_eq!(judge(RESPONSE, &tlv(3, &[])), "fine");
}

/// Unknown keys are skipped, once or repeated, however often; critical ones refuse or close.
#[test]
fn fr_10_skips_unknown_keys_unless_they_are_critical() {
    for kind in KINDS {
        let many = tlv(0x7000, b"later").repeat(100);
        assert_eq!(judge(kind, &with(kind, &many)), "fine", "kind {kind:#04x}");
        for key in [0x8000, 0xf000, 0xffff] {
            let block = with(kind, &[many.clone(), tlv(key, b"")].concat());
            assert_eq!(judge(kind, &block), refused(kind, "UNKNOWN_TLV"), "kind {kind:#04x}");
        }
    }
    // The critical form of a known key is another key.
    assert_eq!(judge(RESPONSE, &tlv(0x8001, b"text")), "UNKNOWN_TLV");
}

/// Where a block is malformed and has an unknown critical key, it is malformed: whichever is first.
#[test]
fn fr_10_malformed_comes_before_unknown() {
    let critical = tlv(0xf000, b"");
    for kind in KINDS.into_iter().filter(|kind| *kind != REQUEST) {
        let after = with(kind, &[critical.clone(), vec![0xf0]].concat());
        assert_eq!(judge(kind, &after), "MALFORMED", "kind {kind:#04x}");
        let before = with(kind, &[critical.clone(), tlv(0x7000, b"")].concat());
        assert_eq!(judge(kind, &before), "MALFORMED", "kind {kind:#04x}");
    }
    let value = [tlv(2, b"short"), critical.clone()].concat();
    assert_eq!(judge(RESPONSE, &value), "MALFORMED");
    let value = [tlv(1, &[0, 1, 0, 0]), tlv(3, &[1, 1]), critical].concat();
    assert_eq!(judge(HELLO, &value), "MALFORMED");
}

/// Each required key of the handshake is missed, each known one judged.
#[test]
fn hs_6_refuses_missing_and_wrong_handshake_keys() {
    for (kind, keys) in [(HELLO, &[1, 3][..]), (HELLO_ACK, &[1, 2, 3, 5, 6])] {
        let all = |but: u16, value: Option<&[u8]>| {
            let sound = |key| -> &[u8] {
                match key {
                    1 => &[0, 1, 0, 0],
                    2 => &[0, 0, 0, 1],
                    3 => &[1],
                    _ => &[0; 8],
                }
            };
            let block = keys
                .iter()
                .filter_map(|key| Some(tlv(*key, if *key == but { value? } else { sound(*key) })));
            block.collect::<Vec<_>>().concat()
        };
        assert_eq!(judge(kind, &all(0, None)), "fine");
        for key in keys {
            assert_eq!(judge(kind, &all(*key, None)), "MALFORMED", "{kind:#04x} without {key}");
            assert_eq!(judge(kind, &all(*key, Some(b""))), "MALFORMED", "{kind:#04x} {key}");
            let long = Some(&[0; 33][..]);
            assert_eq!(judge(kind, &all(*key, long)), "MALFORMED", "{kind:#04x} {key}");
        }
        assert_eq!(judge(kind, &all(1, Some(&[0, 0, 0xff, 0xff]))), "MALFORMED", "65535");
    }
    let ack = |calls: &[u8], hashes: &[u8]| {
        let numbers = [tlv(1, &[0, 1, 0, 0]), tlv(2, calls), tlv(3, &[1])].concat();
        judge(HELLO_ACK, &[numbers, tlv(5, hashes), tlv(6, &[0; 8])].concat())
    };
    assert_eq!(ack(&[0, 0, 0, 1], &[0; 8]), "fine");
    assert_eq!(ack(&[0; 4], &[0; 8]), "MALFORMED", "calls_max 0");
    assert_eq!(ack(&[0, 0, 0, 1], &[0; 16]), "MALFORMED", "two tables");
}

/// Metadata: names of 1 to 64 bytes out of their alphabet, at most 64 entries, values of any kind.
#[test]
fn ca_10_judges_metadata() {
    let entry = |name: &[u8], value: &[u8]| {
        let len = u8::try_from(name.len()).expect("short");
        tlv(16, &[&[len], name, value].concat())
    };
    for kind in [REQUEST, RESPONSE] {
        assert_eq!(judge(kind, &entry(b"k", b"").repeat(64)), "fine");
        assert_eq!(judge(kind, &entry(b"k", b"").repeat(65)), refused(kind, "MALFORMED"));
        assert_eq!(judge(kind, &entry(&[b'z'; 64], &[0xff; 100])), "fine");
        assert_eq!(judge(kind, &entry(&[b'z'; 65], b"")), refused(kind, "MALFORMED"));
        assert_eq!(judge(kind, &entry(b"", b"v")), refused(kind, "MALFORMED"));
        assert_eq!(judge(kind, &tlv(16, b"\x05abcd")), refused(kind, "MALFORMED"));
        for byte in 0..=u8::MAX {
            let is_allowed = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
            let expected = if is_allowed { "fine".to_owned() } else { refused(kind, "MALFORMED") };
            assert_eq!(judge(kind, &entry(&[b'a', byte], b"v")), expected, "byte {byte}");
        }
    }
}
