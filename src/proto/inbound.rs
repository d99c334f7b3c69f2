//! What arrives: first a preface, then frames.
//!
//! Invariant: until the handshake's frame was seen, a body may be 16 KiB at most (FR-4); the
//! limit rises with that very frame, so that what follows it in the same read is judged rightly.

use crate::proto::Violation;
use crate::wire::VersionRange;
use crate::wire::{Decoder, FRAME_BYTES_HANDSHAKE, Kind, Preface, PrefaceError, RawFrame};

/// Cuts a peer's bytes into a preface and frames.
#[derive(Clone, Debug)]
pub struct Inbound {
    preface_seen: bool,
    frame_bytes_max: u32,
    decoder: Decoder,
}

/// One piece of input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input<'a> {
    /// The peer's first eight bytes; the range in them is not judged yet.
    Preface(Preface),
    /// A frame whose checks passed.
    Frame(RawFrame<'a>),
}

impl Input<'_> {
    /// Whether it is a PING, which says that the peer writes, not that it reads.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        matches!(self, Self::Frame(raw) if raw.head.kind == Kind::PING)
    }
}

impl Inbound {
    /// For bodies of at most `frame_bytes_max` bytes once the handshake is through.
    #[must_use]
    pub const fn new(frame_bytes_max: u32) -> Self {
        let decoder = Decoder::new(FRAME_BYTES_HANDSHAKE);
        Self { preface_seen: false, frame_bytes_max, decoder }
    }

    /// Takes the piece at the start of `input` and says how many bytes it used; `None` when more
    /// bytes are needed: call again with the same bytes and more behind them.
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Input<'a>, usize)>, Violation> {
        if !self.preface_seen {
            let preface = match Preface::parse(input) {
                Ok(Some(preface)) => preface,
                Ok(None) => return Ok(None),
                // Whole, but no range: the connection judges it, for a server answers it with
                // its own preface (HS-3).
                Err(PrefaceError::BadRange { lo, hi }) => Preface(VersionRange { lo, hi }),
                Err(error @ PrefaceError::NotSwitchback) => return Err(error.into()), // HS-2
            };
            self.preface_seen = true;
            return Ok(Some((Input::Preface(preface), Preface::BYTES)));
        }
        let Some((frame, used)) = self.decoder.decode(input)? else {
            return Ok(None);
        };
        if matches!(frame.head.kind, Kind::HELLO | Kind::HELLO_ACK) {
            self.decoder.set_frame_bytes_max(self.frame_bytes_max);
        }
        Ok(Some((Input::Frame(frame), used)))
    }

    /// How many further bytes are needed at least, with `have` at hand. Declared by the peer:
    /// read up to it, never allocate it.
    #[must_use]
    pub fn missing_bytes(&self, have: usize) -> usize {
        if self.preface_seen {
            self.decoder.missing_bytes(have)
        } else {
            Preface::BYTES.saturating_sub(have).max(1)
        }
    }
}
