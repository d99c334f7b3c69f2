//! Values to bytes: frames are written into the caller's buffer in two steps.
//!
//! A caller encodes a frame into scratch and finishes it there (lengths and body CRC); only when
//! it enters the connection's output is it sealed with its call id and header CRC. So the user's
//! serializer never runs under the connection's lock, and ids ascend in the order of the bytes.
//!
//! Invariant: a finished and sealed frame satisfies the decoder.

use crate::wire::MethodId;
use crate::wire::{BODY_CRC_BYTES, CallId, Close, Code, Disposition, Flags, Goaway, Kind};
use crate::wire::{EXT_BYTES_MAX, HEAD_BYTES, MESSAGE_BYTES_MAX, push_tlv, response_keys};

/// Where a frame that is being written starts in its buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameStart(usize);

impl FrameStart {
    /// The index of the frame's first byte.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }

    /// Says that the frame's message goes on in others: sets MORE.
    pub fn set_more(self, out: &mut [u8]) {
        out[self.0 + FLAGS_AT] |= Flags::MORE.0;
    }
}

/// A frame that would be over the receiver's limit, or its TLVs over theirs; nothing of it is
/// left in the buffer (CA-14).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("body or TLVs of {bytes} bytes are over the limit of {max}")]
pub struct FrameTooLarge {
    /// `body_len` as it would be; or the bytes of TLVs, when `max` is [`EXT_BYTES_MAX`].
    pub bytes: usize,
    /// The receiver's limit, or that of TLVs.
    pub max: u32,
}

/// The fixed fields of a REQUEST.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestFields {
    /// Which method.
    pub method: MethodId,
    /// Which version of it.
    pub version: u16,
    /// The payload's codec.
    pub codec: u8,
    /// High nibble: attempt; bits 0-1: priority.
    pub attempt_priority: u8,
    /// Remaining time, rounded up.
    pub timeout_ms: u32,
    /// Of the client's types; 0 = not checked.
    pub fingerprint: u32,
}

/// Begins a frame of any kind: leaves room for the header. Flags are 0 (FR-8).
#[inline]
pub fn begin_frame(out: &mut Vec<u8>, kind: Kind) -> FrameStart {
    let start = FrameStart(out.len());
    let mut head = [0; HEAD_BYTES];
    head[4] = kind.0;
    out.extend_from_slice(&head);
    start
}

/// Begins a REQUEST; TLVs and payload follow.
#[inline]
pub fn begin_request(out: &mut Vec<u8>, fields: &RequestFields) -> FrameStart {
    let start = begin_frame(out, Kind::REQUEST);
    let [m0, m1, m2, m3] = fields.method.0.to_be_bytes();
    let [v0, v1] = fields.version.to_be_bytes();
    let [t0, t1, t2, t3] = fields.timeout_ms.to_be_bytes();
    let [f0, f1, f2, f3] = fields.fingerprint.to_be_bytes();
    let (codec, attempt) = (fields.codec, fields.attempt_priority);
    out.extend_from_slice(&[
        m0, m1, m2, m3, v0, v1, codec, attempt, t0, t1, t2, t3, f0, f1, f2, f3,
    ]);
    start
}

/// Begins a RESPONSE; TLVs and payload follow. `codec` is that of the payload, if there is one.
#[inline]
pub fn begin_response(
    out: &mut Vec<u8>,
    status: Code,
    disposition: Disposition,
    codec: u8,
) -> FrameStart {
    let start = begin_frame(out, Kind::RESPONSE);
    let codec = if status.has_payload() { codec } else { 0 }; // CA-6
    let [s0, s1] = status.as_u16().to_be_bytes();
    out.extend_from_slice(&[s0, s1, disposition.as_u8(), codec]);
    start
}

/// Ends a frame: writes its lengths and appends the body's CRC.
///
/// # Errors
/// [`FrameTooLarge`] when the TLVs are over [`EXT_BYTES_MAX`] or the body is over
/// `frame_bytes_max`; the buffer is as before the frame.
#[inline]
pub fn finish_frame(
    out: &mut Vec<u8>,
    start: FrameStart,
    ext_len: usize,
    frame_bytes_max: u32,
) -> Result<(), FrameTooLarge> {
    let body_at = start.0 + HEAD_BYTES;
    let ext = match u16::try_from(ext_len) {
        Ok(ext) if ext <= EXT_LEN_MAX => ext,
        _ => {
            out.truncate(start.0);
            return Err(FrameTooLarge { bytes: ext_len, max: EXT_LEN_MAX.into() });
        }
    };
    let bytes = out.len() - body_at + BODY_CRC_BYTES;
    let body_len = match u32::try_from(bytes) {
        Ok(len) if len <= frame_bytes_max => len,
        _ => {
            out.truncate(start.0);
            return Err(FrameTooLarge { bytes, max: frame_bytes_max });
        }
    };
    let crc = crc32fast::hash(&out[body_at..]);
    out.extend_from_slice(&crc.to_be_bytes());
    let head = &mut out[start.0..body_at];
    head[0..4].copy_from_slice(&body_len.to_be_bytes());
    head[6..8].copy_from_slice(&ext.to_be_bytes());
    Ok(())
}

/// Gives a finished frame its call id and header CRC. `frame` is the whole frame.
///
/// # Panics
/// If `frame` is shorter than a header: it was not made by [`begin_frame`].
#[inline]
pub fn seal_frame(frame: &mut [u8], call: CallId) {
    frame[8..12].copy_from_slice(&call.0.to_be_bytes());
    let crc = crc32fast::hash(&frame[..12]);
    frame[12..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
}

/// Appends a whole frame of the connection (call id 0), or a CANCEL: small, always within limits.
pub fn append_control(out: &mut Vec<u8>, kind: Kind, call: CallId, ext: &[u8], payload: &[u8]) {
    let start = begin_frame(out, kind);
    out.extend_from_slice(ext);
    out.extend_from_slice(payload);
    finish_frame(out, start, ext.len(), u32::MAX).expect("control frames are far below limits");
    seal_frame(&mut out[start.0..], call);
}

/// Appends the header of a DATA, sealed. Its payload and the CRC of that follow.
pub fn append_data_head(out: &mut Vec<u8>, call: CallId, payload_bytes: u32, flags: Flags) {
    let start = begin_frame(out, Kind::DATA);
    let body_len = payload_bytes + u32::try_from(BODY_CRC_BYTES).unwrap_or_default();
    let head = &mut out[start.0..];
    head[0..4].copy_from_slice(&body_len.to_be_bytes());
    head[FLAGS_AT] = flags.0;
    seal_frame(head, call);
}

/// Appends a CREDIT.
pub fn append_credit(out: &mut Vec<u8>, bytes: u32) {
    let start = begin_frame(out, Kind::CREDIT);
    out.extend_from_slice(&bytes.to_be_bytes());
    finish_frame(out, start, 0, u32::MAX).expect("a credit is 24 bytes");
    seal_frame(&mut out[start.0..], CallId::CONNECTION);
}

impl Goaway {
    /// Appends this GOAWAY.
    pub fn append(&self, out: &mut Vec<u8>) {
        let start = begin_frame(out, Kind::GOAWAY);
        out.extend_from_slice(&self.last_call.0.to_be_bytes());
        out.extend_from_slice(&self.reason.0.to_be_bytes());
        out.extend_from_slice(&self.grace_ms.to_be_bytes());
        finish_frame(out, start, 0, u32::MAX).expect("a goaway is 30 bytes");
        seal_frame(&mut out[start.0..], CallId::CONNECTION);
    }
}

impl Close<'_> {
    /// Appends this CLOSE.
    pub fn append(&self, out: &mut Vec<u8>) {
        let start = begin_frame(out, Kind::CLOSE);
        out.extend_from_slice(&self.reason.0.to_be_bytes());
        out.extend_from_slice(&self.last_call.0.to_be_bytes());
        let end = self.detail.floor_char_boundary(Self::DETAIL_BYTES_MAX);
        out.extend_from_slice(&self.detail.as_bytes()[..end]);
        finish_frame(out, start, 0, u32::MAX).expect("a close is below 300 bytes");
        seal_frame(&mut out[start.0..], CallId::CONNECTION);
    }
}

/// Appends the TLV of a response's message, cut at its limit.
pub(crate) fn push_message(out: &mut Vec<u8>, message: &str) {
    if !message.is_empty() {
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        push_tlv(out, response_keys::MESSAGE, &message.as_bytes()[..end]);
    }
}

/// Where a header has its flags.
const FLAGS_AT: usize = 5;
/// [`EXT_BYTES_MAX`], as wide as its field.
const EXT_LEN_MAX: u16 = 8192;
const _: () = assert!(EXT_LEN_MAX as usize == EXT_BYTES_MAX);
