//! The frame codec as tokio-util knows codecs, for those who frame a stream themselves.
//!
//! The client and the server do not use it: they parse in place. It is the same decoder, with
//! each frame copied out of the read buffer's front without copying its bytes.
//!
//! Invariant: the buffer is never grown by a declared length; at most 64 KiB are reserved ahead.

use bytes::{Bytes, BytesMut};
use tokio_util::codec;

use crate::wire::{
    CallId, DecodeError, Decoder, EXT_BYTES_MAX, FRAME_BYTES_DEFAULT, FrameTooLarge, Kind,
};
use crate::wire::{Frame, Head, RawFrame, begin_frame, finish_frame, seal_frame};

/// Frames in and out of a byte stream, without preface and handshake.
///
/// ```
/// use bytes::BytesMut;
/// use switchback::transport::{FrameCodec, OwnedFrame};
/// use switchback::wire::{CallId, Kind};
/// use tokio_util::codec::{Decoder as _, Encoder as _};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut codec = FrameCodec::new();
/// let mut bytes = BytesMut::new();
/// let ping = OwnedFrame::new(Kind::PING, CallId::CONNECTION, &[], b"8 bytes!")?;
/// codec.encode(ping.clone(), &mut bytes)?;
/// assert_eq!(codec.decode(&mut bytes)?, Some(ping));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FrameCodec {
    decoder: Decoder,
    frame_bytes_max: u32,
}

/// A whole frame that owns its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedFrame {
    head: Head,
    /// From the header to the body's CRC.
    bytes: Bytes,
}

/// Why a stream of frames ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The bytes are no frame; the stream is lost.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The frame to be sent is over the limit.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
}

impl FrameCodec {
    /// For bodies of at most 4 MiB.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_frame_bytes_max(FRAME_BYTES_DEFAULT)
    }

    /// For bodies of at most `frame_bytes_max` bytes, in both directions.
    #[must_use]
    pub const fn with_frame_bytes_max(frame_bytes_max: u32) -> Self {
        Self { decoder: Decoder::new(frame_bytes_max), frame_bytes_max }
    }
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self::new()
    }
}

impl OwnedFrame {
    /// A frame of the given parts. `body` is what follows the TLVs, or the fixed fields, TLVs
    /// and payload in one with an empty `ext`.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] when the parts are not what the kind's layout asks for.
    pub fn new(kind: Kind, call: CallId, ext: &[u8], body: &[u8]) -> Result<Self, DecodeError> {
        if ext.len() > EXT_BYTES_MAX || body.len() > i32::MAX as usize {
            return Err(DecodeError::Malformed { what: "TLVs above 8 KiB or a body above 2 GiB" });
        }
        let mut out = Vec::new();
        let start = begin_frame(&mut out, kind);
        out.extend_from_slice(ext);
        out.extend_from_slice(body);
        finish_frame(&mut out, start, ext.len(), u32::MAX).expect("checked: far below 4 GiB");
        seal_frame(&mut out, call);
        let head = *out.first_chunk().expect("begin_frame wrote a header");
        let head = Head::parse(&head, u32::MAX)?;
        Ok(Self { head, bytes: out.into() })
    }

    /// The header.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// What the frame says.
    ///
    /// # Errors
    /// [`DecodeError`], as on a connection.
    pub fn parse(&self) -> Result<Frame<'_>, DecodeError> {
        let end = self.bytes.len() - crate::wire::BODY_CRC_BYTES;
        let body = &self.bytes[crate::wire::HEAD_BYTES..end];
        Frame::parse(RawFrame { head: self.head, body, bytes: &self.bytes })
    }

    /// The whole frame as sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl codec::Decoder for FrameCodec {
    type Item = OwnedFrame;
    type Error = CodecError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<OwnedFrame>, CodecError> {
        let Some((frame, used)) = self.decoder.decode(src)? else {
            src.reserve(self.decoder.missing_bytes(src.len()).min(RESERVE_BYTES_MAX));
            return Ok(None);
        };
        let head = frame.head;
        Ok(Some(OwnedFrame { head, bytes: src.split_to(used).freeze() }))
    }
}

impl codec::Encoder<OwnedFrame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: OwnedFrame, dst: &mut BytesMut) -> Result<(), CodecError> {
        if frame.head.body_len > self.frame_bytes_max {
            let (bytes, max) = (frame.head.body_len as usize, self.frame_bytes_max);
            return Err(FrameTooLarge { bytes, max }.into());
        }
        dst.extend_from_slice(&frame.bytes);
        Ok(())
    }
}

const RESERVE_BYTES_MAX: usize = 64 * 1024;
