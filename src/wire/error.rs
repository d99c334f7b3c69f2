//! Bytes that are not a frame: what was wrong, and how the connection is closed for it.

use crate::wire::CloseReason;

/// A peer sent bytes that are not a frame of this protocol. Every one of these closes the
/// connection: neither the place in the stream nor the call can be trusted any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The header's CRC does not match; its length was not looked at.
    #[error("header CRC is {found:08x}, computed {computed:08x}")]
    HeadCrc {
        /// CRC-32 of the bytes that arrived.
        computed: u32,
        /// The CRC that arrived with them.
        found: u32,
    },
    /// The body's CRC does not match.
    #[error("body CRC is {found:08x}, computed {computed:08x}")]
    BodyCrc {
        /// CRC-32 of the bytes that arrived.
        computed: u32,
        /// The CRC that arrived with them.
        found: u32,
    },
    /// The header declares a body over the receiver's limit.
    #[error("frame body of {bytes} bytes is over the limit of {max}")]
    FrameTooLarge {
        /// `body_len` as declared.
        bytes: u32,
        /// The receiver's limit.
        max: u32,
    },
    /// A kind that is not known and must not be skipped.
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    /// A flag that is not known and must not be ignored, on a frame other than REQUEST.
    #[error("unknown flags {flags:#04x} on frame kind {kind:#04x}")]
    UnknownFlag {
        /// The frame's kind.
        kind: u8,
        /// The flags that are not known.
        flags: u8,
    },
    /// A critical TLV that is not known, in a frame other than REQUEST.
    #[error("unknown critical TLV {0:#06x}")]
    UnknownTlv(u16),
    /// The frame contradicts its own layout.
    #[error("malformed frame: {what}")]
    Malformed {
        /// The rule that was broken.
        what: &'static str,
    },
}

impl DecodeError {
    /// The reason given to the peer.
    #[must_use]
    pub const fn close_reason(self) -> CloseReason {
        match self {
            Self::HeadCrc { .. } => CloseReason::HEAD_CRC,
            Self::BodyCrc { .. } => CloseReason::BODY_CRC,
            Self::FrameTooLarge { .. } => CloseReason::FRAME_TOO_LARGE,
            Self::UnknownKind(_) => CloseReason::UNKNOWN_KIND,
            Self::UnknownFlag { .. } => CloseReason::UNKNOWN_FLAG,
            Self::UnknownTlv(_) => CloseReason::UNKNOWN_TLV,
            Self::Malformed { .. } => CloseReason::MALFORMED,
        }
    }
}
