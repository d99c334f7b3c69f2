//! Payloads that are too long to be copied behind a frame: they travel in fragments (FL-2, FL-3).
//!
//! Invariants: fragments come in order, none is longer than the receiver takes; a request's last
//! one says so, a response ends with its RESPONSE.
//! Why two parts: bytes that a method takes or returns beside something else need not be copied
//! behind that.

use bytes::Bytes;

use crate::service::raw::copied;
use crate::wire::finish_frame;
use crate::wire::{BODY_CRC_BYTES, CallId, Flags, FrameStart, FrameTooLarge, HEAD_BYTES};

/// What a peer takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PeerLimits {
    /// `body_len`.
    pub(crate) frame_bytes_max: u32,
    /// Whether it takes fragments (FL-1).
    pub(crate) has_window: bool,
}

impl PeerLimits {
    /// Of an answer that goes nowhere yet, or is known to be small.
    pub(crate) const NONE: Self = Self { frame_bytes_max: u32::MAX, has_window: false };
}

/// A payload in at most two parts, one behind the other.
pub(crate) type Parts = [Bytes; 2];

/// What of a message is still to be sent.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) call: CallId,
    parts: Parts,
    /// Of a response: its RESPONSE, sealed, which comes behind the parts.
    end: Option<Vec<u8>>,
}

impl Body {
    pub(crate) const fn of_request(call: CallId, parts: Parts) -> Self {
        Self { call, parts, end: None }
    }

    pub(crate) const fn of_response(call: CallId, parts: Parts, end: Vec<u8>) -> Self {
        Self { call, parts, end: Some(end) }
    }

    /// Bytes of payload that are left.
    pub(crate) fn bytes_left(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Bytes of memory that it holds, nearly.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes_left() + self.end.as_ref().map_or(0, Vec::len)
    }

    /// Takes the next piece off, of at most `bytes_max`.
    pub(crate) fn next_piece(&mut self, bytes_max: usize) -> Bytes {
        let [first, second] = &mut self.parts;
        let part = if first.is_empty() { second } else { first };
        part.split_to(part.len().min(bytes_max))
    }

    /// The flags of the piece that was taken last.
    pub(crate) fn flags(&self) -> Flags {
        let is_last = self.end.is_none() && self.bytes_left() == 0;
        if is_last { Flags::NONE } else { Flags::MORE }
    }

    /// What comes behind the last piece.
    pub(crate) fn take_end(&mut self) -> Vec<u8> {
        self.end.take().unwrap_or_default()
    }
}

/// Ends the frame that began at `start`, whose payload is what was appended from `payload_at` on
/// and `tail` behind it. A long one is taken out of the frame, where the peer takes fragments.
///
/// # Errors
/// [`FrameTooLarge`], as if all of it were in the frame (FL-4); the buffer is as before the frame.
#[inline]
pub(crate) fn finish_message(
    out: &mut Vec<u8>,
    (start, payload_at): (FrameStart, usize),
    ext_len: usize,
    tail: Bytes,
    limits: PeerLimits,
) -> Result<Option<Parts>, FrameTooLarge> {
    let (max, payload_bytes) = (limits.frame_bytes_max, out.len() - payload_at + tail.len());
    let is_long = limits.has_window && payload_bytes > WHOLE_BYTES_MAX;
    let Some(first) = is_long.then(|| copied(&out[payload_at..]).ok()).flatten() else {
        out.extend_from_slice(&tail);
        return finish_frame(out, start, ext_len, max).map(|()| None);
    };
    let bytes = payload_at - start.index() - HEAD_BYTES + payload_bytes + BODY_CRC_BYTES;
    if u32::try_from(bytes).is_ok_and(|bytes| bytes <= max) {
        out.truncate(payload_at);
        return finish_frame(out, start, ext_len, max).map(|()| Some([first, tail]));
    }
    out.truncate(start.index());
    Err(FrameTooLarge { bytes, max })
}

/// A payload up to this is copied behind its frame; a longer one is written from where it is. Below
/// this the copy costs less than a system call's longer list.
pub(crate) const WHOLE_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The pieces are the parts, in order, none over the limit, and the flags tell the last.
        #[test]
        fn fl_2_the_pieces_are_the_message(
            first in prop::collection::vec(any::<u8>(), 0..300),
            second in prop::collection::vec(any::<u8>(), 0..300),
            bytes_max in 1_usize..100,
            is_response: bool,
        ) {
            prop_assume!(first.len() + second.len() > 0);
            let whole = [&first[..], &second[..]].concat();
            let (parts, call) = ([first.into(), second.into()], CallId(7));
            let mut body = if is_response {
                Body::of_response(call, parts, vec![1, 2, 3])
            } else {
                Body::of_request(call, parts)
            };
            let mut came = Vec::new();
            while body.bytes_left() > 0 {
                let piece = body.next_piece(bytes_max);
                prop_assert!(!piece.is_empty() && piece.len() <= bytes_max);
                came.extend_from_slice(&piece);
                let is_last = body.bytes_left() == 0 && !is_response;
                prop_assert_eq!(body.flags().has_more(), !is_last);
            }
            prop_assert_eq!(came, whole);
            prop_assert_eq!(body.take_end().len(), if is_response { 3 } else { 0 });
        }
    }
}
