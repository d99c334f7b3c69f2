//! The 16 bytes in front of every frame.
//!
//! `body_len:4 kind:1 flags:1 ext_len:2 call:4 head_crc:4` (FR-1).
//!
//! Invariant: a `Head` made by `Head::parse` had a matching `head_crc`, a kind that is known or may
//! be skipped, no flag that closes, and lengths that fit each other: steps 2 to 6 of FR-2.

use crate::wire::{BODY_CRC_BYTES, EXT_BYTES_MAX, HEAD_BYTES};
use crate::wire::{DecodeError, REQUEST_FIXED_BYTES, RESPONSE_FIXED_BYTES};

/// The number of a call on its connection: odd from clients, even from servers, 0 for the
/// connection itself.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u32);

impl CallId {
    /// The connection itself, not a call.
    pub const CONNECTION: Self = Self(0);

    /// Whether a client gives such ids.
    #[must_use]
    pub const fn is_client(self) -> bool {
        self.0 % 2 == 1
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Kind(pub u8);

#[expect(missing_docs, reason = "the names are those of spec/01-framing.md, kinds")]
impl Kind {
    pub const HELLO: Self = Self(0x01);
    pub const HELLO_ACK: Self = Self(0x02);
    pub const TABLE: Self = Self(0x03);
    pub const TABLE_UPDATE: Self = Self(0x04);
    pub const REQUEST: Self = Self(0x10);
    pub const RESPONSE: Self = Self(0x11);
    pub const CANCEL: Self = Self(0x12);
    pub const DATA: Self = Self(0x13);
    pub const CREDIT: Self = Self(0x14);
    pub const PING: Self = Self(0x20);
    pub const PONG: Self = Self(0x21);
    pub const GOAWAY: Self = Self(0x22);
    pub const CLOSE: Self = Self(0x23);

    /// Every kind that version 1 speaks.
    pub const ALL: [Self; 13] = [
        Self::HELLO,
        Self::HELLO_ACK,
        Self::TABLE,
        Self::TABLE_UPDATE,
        Self::REQUEST,
        Self::RESPONSE,
        Self::CANCEL,
        Self::DATA,
        Self::CREDIT,
        Self::PING,
        Self::PONG,
        Self::GOAWAY,
        Self::CLOSE,
    ];

    /// Whether a peer that does not know this kind may skip it (FR-7).
    #[must_use]
    pub const fn is_skippable(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Whether version 1 speaks this kind.
    #[must_use]
    pub fn is_known(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// Whether a frame of this kind may carry this call id: an odd one for those of a call, 0 for
    /// those of the connection, any for those that are skipped (FR-12, FR-7).
    #[must_use]
    pub fn takes_call(self, call: CallId) -> bool {
        match self {
            Self::REQUEST | Self::RESPONSE | Self::CANCEL | Self::DATA => call.is_client(),
            _ => call == CallId::CONNECTION || !self.is_known(),
        }
    }

    /// The flags that are known on frames of this kind (FR-8).
    const fn flags(self) -> u8 {
        match self {
            Self::REQUEST | Self::DATA => Flags::MORE.0,
            _ => 0,
        }
    }

    /// Bytes of fixed fields at the start of the body; 0 for kinds that are skipped.
    const fn fixed_bytes(self) -> usize {
        match self {
            Self::REQUEST => REQUEST_FIXED_BYTES,
            Self::RESPONSE => RESPONSE_FIXED_BYTES,
            Self::CREDIT => 4,
            Self::GOAWAY => 10,
            Self::CLOSE => 6,
            _ => 0,
        }
    }
}

/// The flag byte. Version 1 knows one flag, and sends all others as 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The message goes on in the next frame of its call (FL-2, FL-3).
    pub const MORE: Self = Self(0x80);

    /// The flags that must be understood on a frame of this kind, and are not (FR-8).
    #[must_use]
    pub const fn unknown_critical(self, kind: Kind) -> u8 {
        self.0 & 0xf0 & !kind.flags()
    }

    /// Whether the message goes on in another frame.
    #[must_use]
    pub const fn has_more(self) -> bool {
        self.0 & Self::MORE.0 != 0
    }
}

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Bytes after the header, body CRC included.
    pub body_len: u32,
    /// What the frame is.
    pub kind: Kind,
    /// See [`Flags`].
    pub flags: Flags,
    /// Bytes of TLVs after the fixed fields.
    pub ext_len: u16,
    /// The call, or 0.
    pub call: CallId,
}

impl Head {
    /// Reads a header and checks it, in the order of FR-2.
    ///
    /// # Errors
    /// [`DecodeError::HeadCrc`] first; then [`DecodeError::FrameTooLarge`] for a body over
    /// `frame_bytes_max`, [`DecodeError::UnknownKind`], [`DecodeError::UnknownFlag`], and
    /// [`DecodeError::Malformed`] for lengths that contradict each other.
    #[inline]
    pub fn parse(bytes: &[u8; HEAD_BYTES], frame_bytes_max: u32) -> Result<Self, DecodeError> {
        let [a, b, c, d, kind, flags, e, f, g, h, i, j, k, l, m, n] = *bytes;
        let found = u32::from_be_bytes([k, l, m, n]);
        let computed = crc32fast::hash(&bytes[..HEAD_BYTES - 4]);
        if computed != found {
            return Err(DecodeError::HeadCrc { computed, found }); // FR-3
        }
        let head = Self {
            body_len: u32::from_be_bytes([a, b, c, d]),
            kind: Kind(kind),
            flags: Flags(flags),
            ext_len: u16::from_be_bytes([e, f]),
            call: CallId(u32::from_be_bytes([g, h, i, j])),
        };
        head.check(frame_bytes_max)?;
        Ok(head)
    }

    /// Bytes of the whole frame, header included.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        HEAD_BYTES.saturating_add(self.body_len as usize)
    }

    /// Bytes of fixed fields in this frame's body.
    #[must_use]
    pub const fn fixed_bytes(&self) -> usize {
        self.kind.fixed_bytes()
    }

    fn check(&self, frame_bytes_max: u32) -> Result<(), DecodeError> {
        if self.body_len > frame_bytes_max {
            let (bytes, max) = (self.body_len, frame_bytes_max);
            return Err(DecodeError::FrameTooLarge { bytes, max }); // FR-4
        }
        let Self { kind, flags, .. } = *self;
        if !kind.is_known() && !kind.is_skippable() {
            return Err(DecodeError::UnknownKind(kind.0)); // FR-7
        }
        // On a REQUEST it refuses the call, after the body was read (CA-3).
        if flags.unknown_critical(kind) != 0 && kind != Kind::REQUEST {
            return Err(DecodeError::UnknownFlag { kind: kind.0, flags: flags.0 }); // FR-8
        }
        let ext_bytes = usize::from(self.ext_len);
        if ext_bytes > EXT_BYTES_MAX {
            return Err(DecodeError::Malformed { what: "ext_len above 8192" });
        }
        let least = BODY_CRC_BYTES + self.kind.fixed_bytes() + ext_bytes;
        if (self.body_len as usize) < least {
            return Err(DecodeError::Malformed { what: "body_len too short for its fields" });
        }
        Ok(())
    }
}
