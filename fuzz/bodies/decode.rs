//! Any bytes as a stream of frames: every way of cutting it gives the same, and nothing panics.
//!
//! ```text
//!  data = mode:1 rest
//!         bits 0-1   0 rest is the stream
//!                    1 rest is a list of frames: kind:1 flags:1 ext_len:2 call:4 len:2 body:len
//!                    2 rest is the stream once the CRCs in it are made right
//!                    3 the same after 8 bytes of preface
//!         bits 2-3   the receiver's limit
//!         bits 4-7   how the state machines are prepared
//! ```
//!
//! Why CRCs are made right: no fuzzer guesses one, and behind them lies everything else.

mod sides;

use bytes::BytesMut;
use switchback::proto::{Inbound, Input, KnownTable, Violation};
use switchback::transport::{CodecError, FrameCodec, OwnedFrame};
use switchback::util::fnv64;
use switchback::wire::{BODY_CRC_BYTES, FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR, HEAD_BYTES};
use switchback::wire::{CallId, Decoder, FRAME_BYTES_HANDSHAKE, Frame, Head, Kind};
use switchback::wire::{Preface, RawFrame, TablePayload, Tlvs, VersionRange};
use tokio_util::codec::Decoder as _;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Some(Case { preface, stream, limit, setup }) = Case::new(data) else {
        return;
    };
    let seen = read_alike(|| Decoder::new(limit), &stream, data);
    let seen_by_codec = read_by_codec(&stream, limit, data);
    assert_eq!(seen, seen_by_codec, "the codec sees something else");

    let whole = [&preface[..], &stream].concat();
    read_alike(|| Inbound::new(limit), &whole, data);

    let frames: Vec<RawFrame<'_>> = seen.pieces.iter().filter_map(Piece::raw).collect();
    frames.iter().for_each(|raw| inspect(*raw));
    sides::serve(&frames, setup);
    sides::call(&frames, setup);
}

/// What the data says.
pub(crate) struct Case {
    /// Eight bytes in front of the stream; they need not be a preface.
    pub(crate) preface: Vec<u8>,
    /// Frames, or what looks like them.
    pub(crate) stream: Vec<u8>,
    /// `body_len`, at most.
    pub(crate) limit: u32,
    setup: u8,
}

impl Case {
    /// Reads the data; `None` if it is empty.
    pub(crate) fn new(data: &[u8]) -> Option<Self> {
        let (&mode, rest) = data.split_first()?;
        let preface = Preface(VersionRange::OURS).to_bytes().to_vec();
        let (preface, stream) = match mode & 3 {
            0 => (preface, rest.to_vec()),
            1 => (preface, framed(rest)),
            2 => (preface, mended(rest)),
            _ => {
                let (preface, rest) = rest.split_at(rest.len().min(Preface::BYTES));
                (preface.to_vec(), mended(rest))
            }
        };
        let limits = [FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR, FRAME_BYTES_HANDSHAKE, 64];
        let limit = limits[usize::from(mode >> 2 & 3)];
        Some(Self { preface, stream, limit, setup: mode >> 4 })
    }
}

/// A list of header fields and bodies as frames with right lengths and CRCs.
fn framed(mut rest: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some(([fields @ .., l0, l1], tail)) = rest.split_first_chunk::<10>() {
        let len = usize::from(u16::from_be_bytes([*l0, *l1])).min(tail.len());
        let (body, tail) = tail.split_at(len);
        let start = stream.len();
        let body_len = u32::try_from(len + BODY_CRC_BYTES).expect("a u16 and four");
        stream.extend_from_slice(&body_len.to_be_bytes());
        stream.extend_from_slice(fields);
        stream.extend_from_slice(&[0; 4]);
        stream.extend_from_slice(body);
        stream.extend_from_slice(&[0; BODY_CRC_BYTES]);
        mend(&mut stream[start..]);
        own(fields, body);
        rest = tail;
    }
    stream
}

/// A stream with right CRCs where frames seem to be.
fn mended(rest: &[u8]) -> Vec<u8> {
    let mut stream = rest.to_vec();
    let mut at = 0;
    while let Some(used) = stream.get_mut(at..).and_then(mend) {
        at += used;
    }
    stream
}

/// Makes the CRCs of the first frame right; its length, if the whole frame is there.
fn mend(stream: &mut [u8]) -> Option<usize> {
    let head = stream.first_chunk_mut::<HEAD_BYTES>()?;
    let crc = crc32fast::hash(&head[..12]);
    head[12..].copy_from_slice(&crc.to_be_bytes());
    let body_len =
        usize::try_from(u32::from_be_bytes([head[0], head[1], head[2], head[3]])).ok()?;
    let body = stream.get_mut(HEAD_BYTES..HEAD_BYTES.checked_add(body_len)?)?;
    let (body, found) = body.split_last_chunk_mut::<BODY_CRC_BYTES>()?;
    *found = crc32fast::hash(body).to_be_bytes();
    Some(HEAD_BYTES + body_len)
}

/// A frame made of its parts is refused, or is what the codec reads.
fn own(fields: &[u8; 8], body: &[u8]) {
    let [kind, _, e0, e1, call @ ..] = *fields;
    let ext_len = usize::from(u16::from_be_bytes([e0, e1]));
    let (ext, rest) = body.split_at(ext_len.min(body.len()));
    let call = CallId(u32::from_be_bytes(call));
    if let Ok(frame) = OwnedFrame::new(Kind(kind), call, ext, rest) {
        let mut bytes = BytesMut::from(&frame.as_bytes()[..]);
        let read = FrameCodec::new().decode(&mut bytes).expect("its own frame is sound");
        assert_eq!(read.as_ref(), Some(&frame));
        assert!(bytes.is_empty());
        assert_eq!(frame.parse().is_ok(), read.is_some_and(|read| read.parse().is_ok()));
    }
}

/// What was read of a stream, and how it ended.
#[derive(Debug, PartialEq)]
struct Seen {
    pieces: Vec<Piece>,
    used_bytes: usize,
    error: Option<Violation>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Preface(Preface),
    Frame { head: Head, bytes: Vec<u8> },
}

impl Piece {
    fn raw(&self) -> Option<RawFrame<'_>> {
        let Self::Frame { head, bytes } = self else {
            return None;
        };
        let body = &bytes[HEAD_BYTES..bytes.len() - BODY_CRC_BYTES];
        Some(RawFrame { head: *head, body, bytes })
    }
}

/// What takes one piece at a time from the start of the unread bytes.
trait Source {
    fn next_piece(&mut self, input: &[u8]) -> Result<Option<(Piece, usize)>, Violation>;
    fn missing_bytes(&self, have: usize) -> usize;
}

impl Source for Decoder {
    fn next_piece(&mut self, input: &[u8]) -> Result<Option<(Piece, usize)>, Violation> {
        Ok(self.decode(input)?.map(|(raw, used)| (piece(raw), used)))
    }

    fn missing_bytes(&self, have: usize) -> usize {
        Self::missing_bytes(self, have)
    }
}

impl Source for Inbound {
    fn next_piece(&mut self, input: &[u8]) -> Result<Option<(Piece, usize)>, Violation> {
        Ok(self.next(input)?.map(|(input, used)| match input {
            Input::Preface(preface) => (Piece::Preface(preface), used),
            Input::Frame(raw) => (piece(raw), used),
        }))
    }

    fn missing_bytes(&self, have: usize) -> usize {
        Self::missing_bytes(self, have)
    }
}

fn piece(raw: RawFrame<'_>) -> Piece {
    let copy = Piece::Frame { head: raw.head, bytes: raw.bytes.to_vec() };
    assert_eq!(copy.raw().map(|copy| copy.body), Some(raw.body), "the body is not the frame's");
    copy
}

/// The stream whole, byte by byte, and in pieces as long as the data's bytes say.
fn read_alike<S: Source>(source: impl Fn() -> S, stream: &[u8], data: &[u8]) -> Seen {
    let whole = read(source(), stream, std::iter::once(stream.len()));
    let bytes = read(source(), stream, std::iter::repeat(1));
    assert_eq!(whole, bytes, "byte by byte");
    let pieces = read(source(), stream, piece_lens(data));
    assert_eq!(whole, pieces, "in pieces");
    whole
}

fn piece_lens(data: &[u8]) -> impl Iterator<Item = usize> {
    data.iter().rev().cycle().map(|byte| usize::from(*byte) % 61 + 1)
}

fn read(mut source: impl Source, stream: &[u8], lens: impl Iterator<Item = usize>) -> Seen {
    let (mut pieces, mut at, mut have_to, mut wanted) = (Vec::new(), 0, 0, 0);
    for len in lens {
        have_to = stream.len().min(have_to + len);
        loop {
            let input = &stream[at..have_to];
            match source.next_piece(input) {
                Ok(Some((piece, used))) => {
                    assert!(0 < used && used <= input.len(), "{used} of {}", input.len());
                    assert!(input.len() >= wanted, "more bytes were asked for than needed");
                    at += used;
                    wanted = 0;
                    pieces.push(piece);
                }
                Ok(None) => {
                    let missing = source.missing_bytes(input.len());
                    assert!(missing > 0, "it needs more, and says it does not");
                    wanted = input.len().saturating_add(missing);
                    break;
                }
                Err(error) => {
                    // A wrong magic is found at its first byte.
                    let is_early = matches!(error, Violation::Preface(_));
                    assert!(is_early || input.len() >= wanted, "asked for more than needed");
                    assert!(error.close_reason().name().is_some() && !error.to_string().is_empty());
                    return Seen { pieces, used_bytes: at, error: Some(error) };
                }
            }
        }
        if have_to == stream.len() {
            break;
        }
    }
    Seen { pieces, used_bytes: at, error: None }
}

fn read_by_codec(stream: &[u8], limit: u32, data: &[u8]) -> Seen {
    let mut codec = FrameCodec::with_frame_bytes_max(limit);
    let (mut pieces, mut at, mut have_to) = (Vec::new(), 0, 0);
    let mut buffer = BytesMut::new();
    for len in piece_lens(data) {
        let to = stream.len().min(have_to + len * 7);
        buffer.extend_from_slice(&stream[have_to..to]);
        have_to = to;
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    at += frame.as_bytes().len();
                    let bytes = frame.as_bytes().to_vec();
                    let owned = Piece::Frame { head: frame.head(), bytes };
                    let raw = owned.raw().expect("it is a frame");
                    assert_eq!(frame.parse(), Frame::parse(raw), "an owned frame says the same");
                    pieces.push(owned);
                }
                Ok(None) => break,
                Err(CodecError::Decode(error)) => {
                    return Seen { pieces, used_bytes: at, error: Some(error.into()) };
                }
                Err(error) => panic!("no stream is read here: {error}"),
            }
        }
        assert!(buffer.capacity() <= 2 * (stream.len() + 64 * 1024), "reserved what was declared");
        if have_to == stream.len() {
            break;
        }
    }
    Seen { pieces, used_bytes: at, error: None }
}

/// Everything that can be asked of one frame.
fn inspect(raw: RawFrame<'_>) {
    let parsed = Frame::parse(raw);
    assert_eq!(parsed, Frame::parse(raw), "parsed twice, two results");
    match parsed {
        Err(error) => assert!(error.close_reason().name().is_some()),
        Ok(Frame::Request(request)) if request.check_ext().is_ok() => {
            let bytes: usize = Tlvs::new(request.ext).map(|tlv| 4 + tlv.value.len()).sum();
            assert_eq!(bytes, request.ext.len(), "a checked block is walked to its end");
        }
        Ok(Frame::Response(response)) => {
            let bytes: usize = Tlvs::new(response.ext).map(|tlv| 4 + tlv.value.len()).sum();
            assert_eq!(bytes, response.ext.len(), "a checked block is walked to its end");
            assert!(!response.status.is_local());
        }
        Ok(Frame::Table(payload) | Frame::TableUpdate(payload)) => update(&payload),
        Ok(_) => {}
    }
}

/// An update gives the hash that it names, or is refused.
fn update(payload: &TablePayload) {
    let before = KnownTable::new(sides::table()).expect("its hash is right");
    if let Ok(after) = before.updated(payload.clone()) {
        assert_eq!(after.hash(), payload.hash);
    }
    // The same rows with the hash that they have.
    let mut mended = payload.clone();
    mended.hash = fnv64(&payload.to_bytes()[8..]);
    let known = KnownTable::new(mended.clone()).expect("its hash is right");
    for row in &mended.rows {
        assert_eq!(known.row(row.method), Some(row));
    }
    if mended.rows.iter().any(|row| row.versions.is_empty()) {
        return; // An update, no table.
    }
    for (from, to) in [(sides::table(), mended.clone()), (mended, sides::table())] {
        let mut now = KnownTable::new(from.clone()).expect("its hash is right");
        for update in to.updates_from(&from) {
            now = now.updated(update).expect("an update of our own is accepted");
        }
        assert_eq!(Ok(now), KnownTable::new(to));
    }
}
