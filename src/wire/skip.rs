//! A frame whose body is not kept: it is checked as it comes, and thrown away.
//!
//! Invariant: the same bytes are used, and the same damage is found, as if it were kept (FR-5).

use crate::wire::{BODY_CRC_BYTES, DecodeError, HEAD_BYTES, Head};

/// What is left of one frame.
#[derive(Clone, Debug)]
pub struct Skip {
    head: Head,
    body: crc32fast::Hasher,
    /// Bytes of the body to come, its CRC not among them.
    body_left: usize,
    crc: u32,
    crc_left: usize,
}

impl Skip {
    /// Of a frame that begins with `have`, its header at least.
    pub(crate) fn new(head: Head, have: &[u8]) -> Result<Self, DecodeError> {
        let body = crc32fast::Hasher::new();
        let body_left = head.frame_bytes() - HEAD_BYTES - BODY_CRC_BYTES;
        let mut skip = Self { head, body, body_left, crc: 0, crc_left: BODY_CRC_BYTES };
        skip.take(have.get(HEAD_BYTES..).unwrap_or_default())?;
        Ok(skip)
    }

    /// Takes what belongs to the frame: says how many bytes of `input` that were.
    ///
    /// # Errors
    /// [`DecodeError::BodyCrc`]; the stream is lost.
    pub fn take(&mut self, input: &[u8]) -> Result<usize, DecodeError> {
        let (body, rest) = input.split_at(input.len().min(self.body_left));
        self.body.update(body);
        self.body_left -= body.len();
        let crc = &rest[..rest.len().min(self.crc_left)];
        for byte in crc {
            self.crc = self.crc << 8 | u32::from(*byte);
        }
        self.crc_left -= crc.len();
        if self.is_over() {
            let (computed, found) = (self.body.clone().finalize(), self.crc);
            if computed != found {
                return Err(DecodeError::BodyCrc { computed, found });
            }
        }
        Ok(body.len() + crc.len())
    }

    /// Whether all of it has come.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.crc_left == 0
    }

    /// The frame's header.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CallId, Decoder, Kind, append_control};

    /// A frame that is given up anywhere is used up to its last byte and no further, however its
    /// rest is cut; damage to its body is found. Shown at every place of a small frame.
    #[test]
    fn fr_5_a_frame_is_skipped_whole() {
        let mut bytes = Vec::new();
        append_control(&mut bytes, Kind::PING, CallId::CONNECTION, &[], b"12345678");
        let frame_bytes = bytes.len();
        bytes.extend_from_slice(b"next");
        for at in HEAD_BYTES..frame_bytes {
            for cut in at..=frame_bytes {
                let mut decoder = Decoder::new(1 << 16);
                assert_eq!(decoder.decode(&bytes[..at]), Ok(None));
                let mut skip = decoder.skip(&bytes[..at]).unwrap().unwrap();
                assert_eq!(skip.take(&bytes[at..cut]), Ok(cut - at));
                assert_eq!(skip.is_over(), cut == frame_bytes);
                assert_eq!(skip.take(&bytes[cut..]), Ok(frame_bytes - cut));
                assert!(skip.is_over());
                assert_eq!(skip.head().kind, Kind::PING);
                assert_eq!(decoder.decode(&bytes[frame_bytes..]), Ok(None), "it begins anew");
            }
            let mut damaged = bytes.clone();
            damaged[HEAD_BYTES] ^= 1;
            let mut decoder = Decoder::new(1 << 16);
            assert_eq!(decoder.decode(&damaged[..at]), Ok(None));
            let mut skip = decoder.skip(&damaged[..at]).unwrap().unwrap();
            assert!(matches!(skip.take(&damaged[at..]), Err(DecodeError::BodyCrc { .. })));
        }
        assert!(Decoder::new(1 << 16).skip(&[]).unwrap().is_none(), "no frame has begun");
    }
}
