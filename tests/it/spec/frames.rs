//! `frames.json`: every frame in both directions, however its bytes are cut, through the decoder
//! and through the tokio codec.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::Value;
use switchback::transport::{CodecError, FrameCodec};
use switchback::wire::{DecodeError, Decoder, FRAME_BYTES_DEFAULT, Frame, RawFrame};
use tokio_util::codec::Decoder as _;

use crate::spec::bytes::{CANCEL, DATA, MORE, PING, Parts, REQUEST, RESPONSE};
use crate::spec::fields::{describe, encode};
use crate::spec::peers::Server;
use crate::spec::{hex, list, number, text, unhex, vectors};

/// What a receiver makes of some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    /// One frame, and the bytes it used.
    Frame(Value, usize),
    /// The connection closes with this reason.
    Closed(&'static str),
    /// More bytes are needed.
    Incomplete,
}

impl Seen {
    fn closed(error: DecodeError) -> Self {
        Self::Closed(error.close_reason().name().expect("a reason that the specification has"))
    }
}

fn judge(raw: RawFrame<'_>, used: usize) -> Seen {
    match Frame::parse(raw) {
        Ok(frame) => Seen::Frame(describe(&raw, &frame), used),
        Err(error) => Seen::closed(error),
    }
}

/// The first frame of `bytes`, which arrive in the pieces that end at `cuts`.
pub(crate) fn read(bytes: &[u8], limit: u32, cuts: impl IntoIterator<Item = usize>) -> Seen {
    let mut decoder = Decoder::new(limit);
    for end in cuts.into_iter().chain([bytes.len()]) {
        match decoder.decode(&bytes[..end]) {
            Ok(Some((raw, used))) => return judge(raw, used),
            Ok(None) => {}
            Err(error) => return Seen::closed(error),
        }
    }
    Seen::Incomplete
}

/// The same through the tokio codec.
fn read_codec(bytes: &[u8], limit: u32, cuts: impl IntoIterator<Item = usize>) -> Seen {
    let mut codec = FrameCodec::with_frame_bytes_max(limit);
    let (mut buffer, mut begin) = (BytesMut::new(), 0);
    for end in cuts.into_iter().chain([bytes.len()]) {
        buffer.extend_from_slice(&bytes[begin..end]);
        begin = end;
        match codec.decode(&mut buffer) {
            Ok(Some(frame)) => {
                let raw = frame.as_bytes();
                let body = &raw[16..raw.len() - 4];
                return judge(RawFrame { head: frame.head(), body, bytes: raw }, raw.len());
            }
            Ok(None) => {}
            Err(CodecError::Decode(error)) => return Seen::closed(error),
            Err(error) => panic!("{error}"),
        }
    }
    Seen::Incomplete
}

/// Where to cut: everywhere, or in a long frame around its ends and here and there.
fn positions(len: usize) -> impl Iterator<Item = usize> {
    let step = 211.max(len / 50);
    (0..len).filter(move |at| len <= 600 || *at < 40 || at + 40 > len || at % step == 0)
}

/// However the bytes are cut, a receiver comes to the same result (FR-6).
fn assert_seen(name: &str, bytes: &[u8], limit: u32, expected: &Seen) {
    assert_eq!(read(bytes, limit, []), *expected, "{name}, whole");
    assert_eq!(read_codec(bytes, limit, []), *expected, "{name}, whole, codec");
    assert_eq!(read(bytes, limit, 0..bytes.len()), *expected, "{name}, byte by byte");
    let one_by_one = positions(bytes.len());
    assert_eq!(read_codec(bytes, limit, one_by_one), *expected, "{name}, in pieces, codec");
    for at in positions(bytes.len()) {
        assert_eq!(read(bytes, limit, [at]), *expected, "{name}, cut at {at}");
        assert_eq!(read_codec(bytes, limit, [at]), *expected, "{name}, cut at {at}, codec");
    }
}

fn limit_of(vector: &Value) -> u32 {
    vector.get("limit").map_or(FRAME_BYTES_DEFAULT, number)
}

/// Every valid frame decodes to its fields, alone and with another frame behind it.
#[test]
fn fr_1_valid_frames_decode_to_their_fields() {
    for vector in list(&vectors("frames.json"), "valid") {
        let (name, mut bytes) = (text(vector, "name"), unhex(&vector["hex"]));
        let expected = Seen::Frame(vector["frame"].clone(), bytes.len());

        assert_seen(name, &bytes, limit_of(vector), &expected);
        bytes.extend(Parts::sound(PING).build());
        assert_eq!(read(&bytes, limit_of(vector), []), expected, "{name}, followed");
    }
}

/// The fields of every frame that a sender writes encode to its bytes.
#[test]
fn fr_1_canonical_frames_encode_to_their_bytes() {
    let mut encoded = 0;
    for vector in list(&vectors("frames.json"), "valid") {
        if vector["canonical"] == Value::Bool(false) {
            continue;
        }
        encoded += 1;
        let name = text(vector, "name");
        assert_eq!(hex(&encode(&vector["frame"])), text(vector, "hex"), "{name}");
    }
    assert!(encoded >= 35, "{encoded} frames");
}

/// Every invalid frame is found to be what its vector says, and by nothing that comes later.
#[test]
fn invalid_frames_are_refused_with_their_reason() {
    for vector in list(&vectors("frames.json"), "invalid") {
        let (name, bytes) = (text(vector, "name"), unhex(&vector["hex"]));
        let expected = match text(vector, "error") {
            "INCOMPLETE" => Seen::Incomplete,
            reason => Seen::Closed(String::leak(reason.to_owned())),
        };
        assert_seen(name, &bytes, limit_of(vector), &expected);
    }
}

/// What is incomplete at the end of the input is an error of the codec, nothing at all is not.
#[test]
fn an_incomplete_frame_at_the_end_of_input_is_an_error() {
    for vector in list(&vectors("frames.json"), "invalid") {
        if text(vector, "error") != "INCOMPLETE" {
            continue;
        }
        let bytes = unhex(&vector["hex"]);
        let mut codec = FrameCodec::with_frame_bytes_max(limit_of(vector));
        let end = codec.decode_eof(&mut BytesMut::from(&bytes[..]));
        if bytes.is_empty() {
            assert!(matches!(end, Ok(None)));
        } else {
            assert!(matches!(end, Err(CodecError::Io(_))), "{}", text(vector, "name"));
        }
    }
}

/// A refused REQUEST is answered with its status, and the connection reads on.
#[test]
fn refused_requests_leave_the_connection_open() {
    for vector in list(&vectors("frames.json"), "refused") {
        let name = text(vector, "name");
        let call: u32 = number(&vector["call"]);
        let mut server = Server::open();

        let seen = server.feed(&unhex(&vector["hex"])).expect(name);

        assert_eq!(seen, [format!("refuse {call} {}", text(vector, "status"))], "{name}");
        let next = Parts::sound(REQUEST).call(call + 2).build();
        assert_eq!(server.feed(&next).expect(name), [format!("request {}", call + 2)]);
    }
}

/// The first fault in the order of the checks is the one reported, whatever comes after it.
#[test]
fn fr_2_reports_the_first_fault() {
    let limit = 65_536;
    let seen = |bytes: &[u8]| read(bytes, limit, []);
    // Each frame has every fault from its own on.
    let all = Parts::sound(0x15).flags(0x80).ext_len(9000).body_len(limit + 1);
    let mut spoilt = all.build();
    spoilt[12] ^= 1;
    assert_eq!(seen(&spoilt[..15]), Seen::Incomplete);
    assert_eq!(seen(&spoilt[..16]), Seen::Closed("HEAD_CRC"));
    assert_eq!(seen(&all.build()[..16]), Seen::Closed("FRAME_TOO_LARGE"));
    let kind = all.body_len(3);
    assert_eq!(seen(&kind.build()[..16]), Seen::Closed("UNKNOWN_KIND"));
    let mut flags = kind;
    flags.kind = 0x93;
    assert_eq!(seen(&flags.build()[..16]), Seen::Closed("UNKNOWN_FLAG"));
    assert_eq!(seen(&flags.flags(0x0f).build()[..16]), Seen::Closed("MALFORMED"));

    let mut body = Parts::sound(CANCEL).call(0).payload(b"x").build();
    let last = body.len() - 1;
    assert_eq!(seen(&body[..last]), Seen::Incomplete);
    body[last] ^= 1;
    assert_eq!(seen(&body), Seen::Closed("BODY_CRC"));
    body[last] ^= 1;
    assert_eq!(seen(&body), Seen::Closed("MALFORMED"));
}

/// A flag that refuses a REQUEST is acted upon after its body: a wrong CRC or shape comes first.
#[test]
fn fr_2_judges_the_body_before_a_flag_of_a_request() {
    let request = Parts::sound(REQUEST).flags(0xf0);
    let mut spoilt = request.build();
    spoilt[20] ^= 1;
    assert_eq!(read(&spoilt, 65_536, []), Seen::Closed("BODY_CRC"));
    let short = request.fixed(&[0; 15]);
    assert_eq!(read(&short.build(), 65_536, []), Seen::Closed("MALFORMED"));
}

/// Whatever bit of a header is wrong, the frame is refused before its length is believed.
#[test]
fn fr_3_rejects_a_wrong_header_crc() {
    let frame = Parts::sound(RESPONSE).build();
    for bit in 0..128 {
        let mut spoilt = frame.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&spoilt[..16], u32::MAX, []), Seen::Closed("HEAD_CRC"), "bit {bit}");
    }
}

/// A body at the limit is waited for, one byte more is refused, by the header alone.
#[test]
fn fr_4_refuses_a_body_above_the_limit() {
    for limit in [16_384, 65_536, 4_194_304, u32::MAX - 1] {
        let head = |body_len| Parts::sound(REQUEST).body_len(body_len).build()[..16].to_vec();
        assert_eq!(read(&head(limit - 1), limit, []), Seen::Incomplete);
        assert_eq!(read(&head(limit), limit, []), Seen::Incomplete);
        assert_eq!(read(&head(limit + 1), limit, []), Seen::Closed("FRAME_TOO_LARGE"));
    }
}

/// The body's CRC is checked on every frame: empty bodies and skipped kinds too.
#[test]
fn fr_5_checks_the_body_crc_of_every_frame() {
    for kind in [CANCEL, PING, 0x80, 0xff] {
        let mut frame = Parts::sound(kind).build();
        assert!(matches!(read(&frame, 65_536, []), Seen::Frame(..)));
        *frame.last_mut().expect("a frame has bytes") ^= 0x40;
        assert_eq!(read(&frame, 65_536, []), Seen::Closed("BODY_CRC"), "kind {kind:#04x}");
    }
}

/// A header that declares the largest body makes the codec reserve at most 65,536 bytes.
#[test]
fn fr_6_reserves_no_memory_on_the_word_of_a_header() {
    let mut codec = FrameCodec::new();
    let head = &Parts::sound(REQUEST).body_len(FRAME_BYTES_DEFAULT).build()[..16];
    let mut buffer = BytesMut::from(head);
    for _ in 0..20 {
        assert!(matches!(codec.decode(&mut buffer), Ok(None)));
        buffer.extend_from_slice(&[0; 1000]);
        assert!(matches!(codec.decode(&mut buffer), Ok(None)));
        // The allocator may double what is there already.
        assert!(buffer.capacity() <= 2 * (buffer.len() + 65_536), "{}", buffer.capacity());
    }
    let decoder = &mut Decoder::new(FRAME_BYTES_DEFAULT);
    assert!(matches!(decoder.decode(head), Ok(None)));
    assert_eq!(decoder.missing_bytes(16), FRAME_BYTES_DEFAULT as usize);
}

/// Each unknown kind closes or is skipped by its highest bit alone.
#[test]
fn fr_7_skips_or_closes_by_bit_7() {
    for kind in (0..=u8::MAX).filter(|kind| !crate::spec::bytes::KINDS.contains(kind)) {
        let frame = Parts::sound(kind).call(6).ext(&[0xff; 3]).payload(b"whatever");
        match read(&frame.build(), 65_536, []) {
            Seen::Frame(fields, _) if kind >= 0x80 => assert_eq!(fields["code"], kind),
            Seen::Closed("UNKNOWN_KIND") if kind < 0x80 => {}
            seen => panic!("kind {kind:#04x}: {seen:?}"),
        }
    }
}

/// Low flags change nothing on any kind, each high one that is not known closes on all but REQUEST;
/// MORE is known on a REQUEST and on DATA.
#[test]
fn fr_8_closes_on_unknown_high_flags() {
    for kind in crate::spec::bytes::KINDS.into_iter().chain([0x80, 0x91]) {
        let with = |flags| read(&Parts::sound(kind).flags(flags).build(), 65_536, []);
        let known = if matches!(kind, REQUEST | DATA) { MORE } else { 0 };
        for flags in 1..=u8::MAX {
            let seen = with(flags);
            if flags & 0xf0 & !known == 0 || kind == REQUEST {
                assert_eq!(seen, with(flags & known), "kind {kind:#04x}, flags {flags:#04x}");
            } else {
                assert_eq!(seen, Seen::Closed("UNKNOWN_FLAG"), "kind {kind:#04x}");
            }
        }
        let Seen::Frame(fields, _) = with(MORE) else { continue };
        assert_eq!(fields["more"], true, "kind {kind:#04x}");
        assert_eq!(known, MORE, "kind {kind:#04x}");
    }
}

/// Every whole frame in a stream that arrives in pieces, and what ended it.
fn read_stream(bytes: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Option<DecodeError>) {
    let (mut decoder, mut carry, mut frames) = (Decoder::new(65_536), Vec::new(), Vec::new());
    let mut begin = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        carry.extend_from_slice(&bytes[begin..end]);
        begin = end;
        loop {
            match decoder.decode(&carry) {
                Ok(Some((raw, used))) => {
                    frames.push(raw.bytes.to_vec());
                    carry.drain(..used);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

proptest! {
    /// A stream of many frames, one of which may be damaged, is read alike however it is cut.
    #[test]
    fn fr_6_a_stream_is_read_alike_however_it_is_cut(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..12),
        damaged in proptest::option::of(any::<proptest::sample::Index>()),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
    ) {
        let sent: Vec<Vec<u8>> =
            payloads.iter().map(|payload| Parts::sound(REQUEST).payload(payload).build()).collect();
        let mut bytes = sent.concat();
        let bit = damaged.map(|at| at.index(bytes.len() * 8));
        if let Some(bit) = bit {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|at| at.index(bytes.len())).collect();
        cuts.sort_unstable();

        let (frames, error) = read_stream(&bytes, &[]);
        prop_assert_eq!(read_stream(&bytes, &cuts), (frames.clone(), error));
        prop_assert_eq!(error.is_some(), bit.is_some());
        prop_assert_eq!(&sent[..frames.len()], &frames[..]);
        prop_assert!(bit.is_some() || frames.len() == sent.len());
    }
}
