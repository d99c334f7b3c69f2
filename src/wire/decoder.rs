//! The incremental decoder: bytes in, whole checked frames out.
//!
//! The caller owns the bytes. It hands over everything unread, starting at a frame's first byte;
//! the decoder answers with a frame that borrows them, or asks for more.
//!
//! Invariants: the header is parsed once per frame and its CRC checked before its length is used
//! (FR-2); the body is examined once, when it is whole, so that work is linear in the bytes and
//! the result the same however they are split (FR-6); nothing is allocated here at all.

use crate::wire::{BODY_CRC_BYTES, DecodeError, HEAD_BYTES, Head, Skip};

/// A frame whose two CRCs matched; its body is not parsed yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RawFrame<'a> {
    /// The checked header.
    pub head: Head,
    /// The body without its CRC: fixed fields, TLVs, payload.
    pub body: &'a [u8],
    /// The whole frame as it came, header and body CRC included.
    pub bytes: &'a [u8],
}

/// Finds frames in a stream of bytes.
#[derive(Clone, Debug)]
pub struct Decoder {
    frame_bytes_max: u32,
    /// The header of the frame whose body has not arrived yet.
    head: Option<Head>,
}

impl Decoder {
    /// A decoder that refuses bodies over `frame_bytes_max` bytes (`body_len`).
    #[must_use]
    pub const fn new(frame_bytes_max: u32) -> Self {
        Self { frame_bytes_max, head: None }
    }

    /// Changes the limit for the frames whose header was not read yet.
    pub const fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Takes the frame at the start of `input`: the frame and the bytes it used, or `None` when
    /// more bytes are needed. After `None`, call again with the same bytes and more behind them.
    ///
    /// # Errors
    /// [`DecodeError`]; the stream is lost and the decoder must not be used again.
    #[inline]
    pub fn decode<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(RawFrame<'a>, usize)>, DecodeError> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let Some(bytes) = input.first_chunk::<HEAD_BYTES>() else {
                    return Ok(None);
                };
                let head = Head::parse(bytes, self.frame_bytes_max)?;
                self.head = Some(head);
                head
            }
        };
        let Some(bytes) = input.get(..head.frame_bytes()) else {
            return Ok(None);
        };
        self.head = None;
        let (rest, crc) = bytes.split_at(bytes.len() - BODY_CRC_BYTES);
        let body = &rest[HEAD_BYTES..];
        let found = crc.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let computed = crc32fast::hash(body);
        if computed != found {
            return Err(DecodeError::BodyCrc { computed, found }); // FR-5
        }
        Ok(Some((RawFrame { head, body, bytes }, bytes.len())))
    }

    /// Gives up the frame that begins with `have`: there is no room for it. What was at hand may be
    /// forgotten, and what comes belongs to the [`Skip`] until that is over. `None` if the header
    /// has not come yet.
    ///
    /// # Errors
    /// [`DecodeError`], as from [`Decoder::decode`].
    pub fn skip(&mut self, have: &[u8]) -> Result<Option<Skip>, DecodeError> {
        self.head.take().map(|head| Skip::new(head, have)).transpose()
    }

    /// How many further bytes the frame that begins the `have` bytes at hand needs at least
    /// before [`Decoder::decode`] can go on. Declared by the peer: read up to it, never
    /// allocate it.
    #[must_use]
    pub fn missing_bytes(&self, have: usize) -> usize {
        let whole = self.head.map_or(HEAD_BYTES, |head| head.frame_bytes());
        whole.saturating_sub(have).max(1)
    }
}
