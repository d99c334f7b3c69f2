//! Values to frames and back: what is encoded is decoded as the same, and the other way round.
//!
//! ```text
//!  data = mode:1 rest
//!         even   rest is drawn from: frames of every kind, TLVs, prefaces
//!         odd    rest is a stream of frames, whose CRCs are made right
//! ```
//!
//! A frame is canonical if a sender of version 1 writes it so: no flags, no keys that its kind does
//! not define. A canonical frame comes back byte for byte, any other as the same value.

use arbitrary::{Result, Unstructured};
use switchback::wire::{
    CallId, Close, CloseReason, Code, Decoder, Disposition, Flags, Frame, Goaway,
};
use switchback::wire::{Data, WINDOW_BYTES_FLOOR, append_credit, append_data_head};
use switchback::wire::{FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR, Hello, HelloAck, Kind, MethodId};
use switchback::wire::{MethodRow, Preface, RawFrame, Request, RequestFields, Response};
use switchback::wire::{TablePayload, Tlv, Tlvs, VersionRange, VersionRow, append_control};
use switchback::wire::{begin_request, begin_response, finish_frame, push_tlv};
use switchback::wire::{request_keys, response_keys, seal_frame};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        // Drawing ends where the data does.
        let _ended = values(&mut Unstructured::new(rest));
    } else {
        frames(&mended(rest));
    }
}

/// Draws values until the data is used up.
fn values(u: &mut Unstructured<'_>) -> Result<()> {
    while !u.is_empty() {
        let offset = u.int_in_range(0..=3)?;
        let mut out = vec![7; offset];
        let before = out.len();
        let call = CallId(u.arbitrary::<u32>()?.max(1));
        let (ext, payload, text): (Vec<u8>, Vec<u8>, String);
        let frame = match u.int_in_range(0..=14)? {
            0 => Frame::Hello(hello(u)?),
            1 => Frame::HelloAck(hello_ack(u)?),
            2 => Frame::Table(table(u, 1)?),
            3 => Frame::TableUpdate(table(u, 0)?),
            4 => {
                (ext, payload) = (request_ext(u)?, short_bytes(u)?);
                Frame::Request(request(u, call, &ext, &payload)?)
            }
            5 => {
                (ext, payload) = (response_ext(u)?, short_bytes(u)?);
                Frame::Response(response(u, call, &ext, &payload)?)
            }
            6 => Frame::Cancel(call),
            7 => Frame::Ping(u.arbitrary()?),
            8 => Frame::Pong(u.arbitrary()?),
            9 => {
                text = short_text(u, 300)?;
                Frame::Close(close(u, &text)?)
            }
            10 => Frame::Goaway(Goaway {
                last_call: CallId(u.arbitrary()?),
                reason: CloseReason(u.arbitrary()?),
                grace_ms: u.arbitrary()?,
            }),
            11 => {
                payload = short_bytes(u)?;
                Frame::Data(Data { call, has_more: u.arbitrary()?, payload: &payload })
            }
            12 => Frame::Credit(u.arbitrary()?),
            13 => {
                blocks(u)?;
                continue;
            }
            _ => {
                preface(u)?;
                continue;
            }
        };
        append(&frame, &mut out);
        refuse_large(&frame, out.len() - before);
        let read = Decoder::new(FRAME_BYTES_DEFAULT).decode(&out[before..]);
        let (raw, used) = read.expect("what is encoded is sound").expect("and whole");
        assert_eq!(used, out.len() - before);
        let parsed = Frame::parse(raw).expect("what is encoded can be read");
        if let Frame::Request(request) = parsed {
            assert_eq!(request.check_ext(), Ok(()));
        }
        assert_eq!(parsed, cut(frame));
        again(raw, &parsed);
    }
    Ok(())
}

/// Reads frames and writes them again.
fn frames(mut stream: &[u8]) {
    let mut decoder = Decoder::new(FRAME_BYTES_DEFAULT);
    while let Ok(Some((raw, used))) = decoder.decode(stream) {
        match Frame::parse(raw) {
            Ok(Frame::Skipped(_)) | Err(_) => {}
            Ok(frame) => again(raw, &frame),
        }
        stream = &stream[used..];
    }
}

/// A frame that was read is written as it came if it is canonical, else as one of its meaning.
fn again(raw: RawFrame<'_>, frame: &Frame<'_>) {
    let mut out = Vec::new();
    append(frame, &mut out);
    if is_canonical(raw) {
        assert_eq!(out, raw.bytes);
    }
    let read = Decoder::new(FRAME_BYTES_DEFAULT).decode(&out);
    let (second, _) = read.expect("what is encoded is sound").expect("and whole");
    let mut parsed = Frame::parse(second).expect("what is encoded can be read");
    if let (Frame::Request(parsed), Frame::Request(frame)) = (&mut parsed, frame) {
        assert_eq!(parsed.check_ext(), frame.check_ext());
        parsed.flags = frame.flags; // Version 1 sends none.
    }
    if let (Frame::Response(parsed), Frame::Response(frame)) = (&mut parsed, frame)
        && frame.payload.is_empty()
    {
        parsed.codec = frame.codec; // Without a payload it is ignored.
    }
    assert_eq!(parsed, *frame);
}

fn is_canonical(raw: RawFrame<'_>) -> bool {
    let fixed_bytes = raw.head.fixed_bytes();
    let ext = &raw.body[fixed_bytes..fixed_bytes + usize::from(raw.head.ext_len)];
    let holds =
        |keys: &[u16]| Tlvs::new(ext).all(|tlv| keys.contains(&tlv.key) && !tlv.value.is_empty());
    // Whether a call id is of its kind's class is judged by the sides, not here.
    let is_call = raw.head.kind.takes_call(CallId(1)) && raw.head.kind.is_known();
    let is_data = raw.head.kind == Kind::DATA;
    (raw.head.flags == Flags::NONE || (is_data && raw.head.flags == Flags::MORE))
        && match raw.head.kind {
            Kind::HELLO => holds(&[1, 3, 4, 5, 9]),
            Kind::HELLO_ACK => holds(&[1, 2, 3, 4, 5, 6, 9]),
            Kind::REQUEST => true,
            // A codec without a payload is ignored.
            Kind::RESPONSE => matches!(raw.body, [0, 0 | 1, ..] | [_, _, _, 0, ..]),
            _ => ext.is_empty(),
        }
        && (is_call || raw.head.call == CallId::CONNECTION)
}

fn append(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    match frame {
        Frame::Hello(hello) => control(out, Kind::HELLO, &hello.to_ext(), &[]),
        Frame::HelloAck(ack) => control(out, Kind::HELLO_ACK, &ack.to_ext(), &[]),
        Frame::Table(table) => control(out, Kind::TABLE, &[], &table.to_bytes()),
        Frame::TableUpdate(table) => control(out, Kind::TABLE_UPDATE, &[], &table.to_bytes()),
        Frame::Request(request) => {
            let begun = begin_request(out, &fields(request));
            out.extend_from_slice(request.ext);
            out.extend_from_slice(request.payload);
            finish_frame(out, begun, request.ext.len(), u32::MAX).expect("far below 4 GiB");
            seal_frame(&mut out[start..], request.call);
        }
        Frame::Response(response) => {
            let Response { status, disposition, codec, .. } = *response;
            let begun = begin_response(out, status, disposition, codec);
            out.extend_from_slice(response.ext);
            out.extend_from_slice(response.payload);
            finish_frame(out, begun, response.ext.len(), u32::MAX).expect("far below 4 GiB");
            seal_frame(&mut out[start..], response.call);
        }
        Frame::Cancel(call) => append_control(out, Kind::CANCEL, *call, &[], &[]),
        Frame::Data(Data { call, has_more, payload }) => {
            let flags = if *has_more { Flags::MORE } else { Flags::NONE };
            let bytes = u32::try_from(payload.len()).expect("at most 65536");
            append_data_head(out, *call, bytes, flags);
            out.extend_from_slice(payload);
            out.extend_from_slice(&crc32fast::hash(payload).to_be_bytes());
        }
        Frame::Credit(bytes) => append_credit(out, *bytes),
        Frame::Ping(echo) => control(out, Kind::PING, &[], echo),
        Frame::Pong(echo) => control(out, Kind::PONG, &[], echo),
        Frame::Goaway(goaway) => goaway.append(out),
        Frame::Close(close) => close.append(out),
        Frame::Skipped(kind) => panic!("{kind:?} is never sent"),
    }
}

fn control(out: &mut Vec<u8>, kind: Kind, ext: &[u8], payload: &[u8]) {
    append_control(out, kind, CallId::CONNECTION, ext, payload);
}

const fn fields(request: &Request<'_>) -> RequestFields {
    RequestFields {
        method: request.method,
        version: request.version,
        codec: request.codec,
        attempt_priority: request.attempt_priority,
        timeout_ms: request.timeout_ms,
        fingerprint: request.fingerprint,
    }
}

/// A frame one byte over the limit leaves nothing behind, one at the limit fits.
fn refuse_large(frame: &Frame<'_>, frame_bytes: usize) {
    let Frame::Request(request) = frame else {
        return;
    };
    let body_len = u32::try_from(frame_bytes - 16).expect("drawn from a few bytes");
    for (limit, fits) in [(body_len, true), (body_len - 1, false)] {
        let mut out = vec![7; 3];
        let begun = begin_request(&mut out, &fields(request));
        out.extend_from_slice(request.ext);
        out.extend_from_slice(request.payload);
        let finished = finish_frame(&mut out, begun, request.ext.len(), limit);
        assert_eq!((finished.is_ok(), out.len() > 3), (fits, fits));
    }
}

/// Texts for people are cut at their limit when they are sent.
fn cut(frame: Frame<'_>) -> Frame<'_> {
    match frame {
        Frame::Close(close) => {
            let end = close.detail.floor_char_boundary(Close::DETAIL_BYTES_MAX);
            Frame::Close(Close { detail: &close.detail[..end], ..close })
        }
        Frame::Hello(mut hello) => {
            hello.build.truncate(hello.build.floor_char_boundary(Hello::BUILD_BYTES_MAX));
            Frame::Hello(hello)
        }
        Frame::HelloAck(mut ack) => {
            ack.build.truncate(ack.build.floor_char_boundary(Hello::BUILD_BYTES_MAX));
            Frame::HelloAck(ack)
        }
        frame => frame,
    }
}

fn hello(u: &mut Unstructured<'_>) -> Result<Hello> {
    let tables = (0..u.int_in_range(0..=Hello::TABLES_MAX)?).map(|_| u.arbitrary());
    let tables = tables.collect::<Result<_>>()?;
    let frame_bytes_max = u.int_in_range(FRAME_BYTES_FLOOR..=u32::MAX)?;
    let (codecs, build) = (codecs(u)?, short_text(u, 70)?);
    Ok(Hello { frame_bytes_max, codecs, build, tables, window_connection: window(u)? })
}

fn window(u: &mut Unstructured<'_>) -> Result<Option<u32>> {
    Ok(if u.arbitrary()? { Some(u.int_in_range(WINDOW_BYTES_FLOOR..=u32::MAX)?) } else { None })
}

fn hello_ack(u: &mut Unstructured<'_>) -> Result<HelloAck> {
    Ok(HelloAck {
        frame_bytes_max: u.int_in_range(FRAME_BYTES_FLOOR..=u32::MAX)?,
        calls_max: u.int_in_range(1..=u32::MAX)?,
        codecs: codecs(u)?,
        build: short_text(u, 70)?,
        table: u.arbitrary()?,
        transcript: u.arbitrary()?,
        has_fallback: u.arbitrary()?,
        window_connection: window(u)?,
    })
}

/// Between 1 and 32 ids that ascend.
fn codecs(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=31)?.min(u.len());
    let mut codecs = u.bytes(len)?.to_vec();
    codecs.push(1);
    codecs.sort_unstable();
    codecs.dedup();
    Ok(codecs)
}

fn table(u: &mut Unstructured<'_>, versions_min: u8) -> Result<TablePayload> {
    let mut rows = Vec::new();
    let mut method: u32 = 0;
    for _ in 0..u.int_in_range(0..=20)? {
        let step = u.int_in_range(1..=u32::MAX / 32)?;
        method = method.saturating_add(step);
        let mut versions = Vec::new();
        let mut version: u16 = 0;
        for _ in 0..u.int_in_range(versions_min..=64)? {
            version += u.int_in_range(1..=1000)?;
            versions.push(VersionRow { version, fingerprint: u.arbitrary()? });
        }
        rows.push(MethodRow { method: MethodId(method), ceiling: u.arbitrary()?, versions });
    }
    Ok(TablePayload { hash: u.arbitrary()?, rows })
}

fn request<'a>(
    u: &mut Unstructured<'_>,
    call: CallId,
    ext: &'a [u8],
    payload: &'a [u8],
) -> Result<Request<'a>> {
    Ok(Request {
        call,
        flags: Flags(0),
        method: MethodId(u.arbitrary()?),
        version: u.arbitrary()?,
        codec: u.arbitrary()?,
        attempt_priority: u.arbitrary()?,
        timeout_ms: u.arbitrary()?,
        fingerprint: u.arbitrary()?,
        ext,
        payload,
    })
}

fn response<'a>(
    u: &mut Unstructured<'_>,
    call: CallId,
    ext: &'a [u8],
    payload: &'a [u8],
) -> Result<Response<'a>> {
    let status = Code::from_u16(u.int_in_range(0..=0x7fff)?);
    let disposition = Disposition::from_u8(u.int_in_range(0..=2)?).expect("0, 1 and 2 are all");
    // Without a payload there is no codec.
    let has_payload = matches!(status, Code::OK | Code::APP);
    let (codec, payload) = if has_payload { (u.arbitrary()?, payload) } else { (0, &[][..]) };
    Ok(Response { call, status, disposition, codec, ext, payload })
}

fn close<'a>(u: &mut Unstructured<'_>, detail: &'a str) -> Result<Close<'a>> {
    let (reason, last_call) = (CloseReason(u.arbitrary()?), CallId(u.arbitrary()?));
    Ok(Close { reason, last_call, detail })
}

fn request_ext(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut ext = Vec::new();
    metadata(u, request_keys::METADATA, &mut ext)?;
    Ok(ext)
}

/// Every key of a response, each there or not.
fn response_ext(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut ext = Vec::new();
    let there: u8 = u.arbitrary()?;
    if there & 1 != 0 {
        push_tlv(&mut ext, response_keys::MESSAGE, short_text(u, 1024)?.as_bytes());
    }
    if there & 2 != 0 {
        push_tlv(&mut ext, response_keys::RETRY_AFTER_MS, &u.arbitrary::<[u8; 4]>()?);
    }
    if there & 4 != 0 {
        let first = u.int_in_range(1..=60_000_u16)?;
        let versions = first..=first + u.int_in_range(0..=63)?;
        let bytes: Vec<u8> = versions.flat_map(u16::to_be_bytes).collect();
        push_tlv(&mut ext, response_keys::VERSIONS, &bytes);
    }
    if there & 8 != 0 {
        push_tlv(&mut ext, response_keys::CODECS, &codecs(u)?);
    }
    if there & 16 != 0 {
        push_tlv(&mut ext, response_keys::FINGERPRINT, &u.arbitrary::<[u8; 4]>()?);
    }
    if there & 32 != 0 {
        push_tlv(&mut ext, response_keys::LIMIT, &u.arbitrary::<[u8; 8]>()?);
        push_tlv(&mut ext, response_keys::VALUE, &u.arbitrary::<[u8; 8]>()?);
    }
    metadata(u, response_keys::METADATA, &mut ext)?;
    Ok(ext)
}

fn metadata(u: &mut Unstructured<'_>, key: u16, ext: &mut Vec<u8>) -> Result<()> {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789_.-";
    for _ in 0..u.int_in_range(0..=64)? {
        if u.is_empty() {
            break;
        }
        let len = u.int_in_range(1..=64_u8)?;
        let mut entry = vec![len];
        for _ in 0..len {
            entry.push(*u.choose(ALPHABET)?);
        }
        entry.extend(short_bytes(u)?);
        push_tlv(ext, key, &entry);
    }
    Ok(())
}

/// A block of TLVs is walked as it was written.
fn blocks(u: &mut Unstructured<'_>) -> Result<()> {
    let mut written: Vec<(u16, Vec<u8>)> = Vec::new();
    for _ in 0..u.int_in_range(0..=10)? {
        written.push((u.arbitrary()?, short_bytes(u)?));
    }
    let mut ext = Vec::new();
    written.iter().for_each(|(key, value)| push_tlv(&mut ext, *key, value));
    let tlvs = || written.iter().map(|(key, value)| Tlv { key: *key, value });
    assert!(Tlvs::new(&ext).eq(tlvs()));
    for (key, _) in &written {
        let first = tlvs().find(|tlv| tlv.key == *key).map(|tlv| tlv.value);
        assert_eq!(Tlvs::new(&ext).find(*key), first);
    }
    Ok(())
}

fn preface(u: &mut Unstructured<'_>) -> Result<()> {
    let lo = u.int_in_range(1..=u16::MAX)?;
    let preface = Preface(VersionRange { lo, hi: u.int_in_range(lo..=u16::MAX)? });
    assert_eq!(Preface::parse(&preface.to_bytes()), Ok(Some(preface)));
    Ok(())
}

fn short_bytes(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=40)?.min(u.len());
    Ok(u.bytes(len)?.to_vec())
}

fn short_text(u: &mut Unstructured<'_>, bytes_max: usize) -> Result<String> {
    let len = u.int_in_range(0..=bytes_max)?.min(u.len());
    let mut text = String::from_utf8_lossy(u.bytes(len)?).into_owned();
    text.truncate(text.floor_char_boundary(bytes_max));
    Ok(text)
}

/// A stream with right CRCs where frames seem to be.
fn mended(rest: &[u8]) -> Vec<u8> {
    let mut stream = rest.to_vec();
    let mut at = 0;
    while let Some(head) = stream.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let body_len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let end = at.saturating_add(16).saturating_add(body_len as usize);
        if body_len < 4 || end > stream.len() {
            break;
        }
        let crc = crc32fast::hash(&stream[at..at + 12]);
        stream[at + 12..at + 16].copy_from_slice(&crc.to_be_bytes());
        let crc = crc32fast::hash(&stream[at + 16..end - 4]);
        stream[end - 4..end].copy_from_slice(&crc.to_be_bytes());
        at = end;
    }
    stream
}
