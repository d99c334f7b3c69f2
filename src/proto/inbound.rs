//! What arrives: first a preface, then frames.
//!
//! Invariant: until the handshake's frame was seen, a body may be 16 KiB at most (FR-4); the
//! limit rises with that very frame, so that what follows it in the same read is judged rightly.

use crate::proto::Violation;
use crate::wire::VersionRange;
use crate::wire::{
    Decoder, FRAME_BYTES_HANDSHAKE, Head, Kind, Preface, PrefaceError, RawFrame, Skip,
};

/// Cuts a peer's bytes into a preface and frames.
#[derive(Clone, Debug)]
pub struct Inbound {
    preface_seen: bool,
    frame_bytes_max: u32,
    decoder: Decoder,
    /// The frame that was given up and has not come whole.
    skipped: Option<Skip>,
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
        Self { preface_seen: false, frame_bytes_max, decoder, skipped: None }
    }

    /// Takes the piece at the start of `input` and says how many bytes it used; `None` when more
    /// bytes are needed: call again with the same bytes and more behind them.
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    #[inline]
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

    /// Gives up the frame that begins with `have`, for which there is no memory: what was at hand
    /// may be forgotten, and [`Inbound::skip`] throws the rest away. Only a frame that a connection
    /// can do without; says whether it is one.
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    pub fn give_up(&mut self, have: &[u8]) -> Result<bool, Violation> {
        if !self.preface_seen || self.skipped.is_some() {
            return Ok(false);
        }
        self.skipped = self.decoder.skip(have)?;
        let may_be_skipped =
            |kind: Kind| matches!(kind, Kind::REQUEST | Kind::DATA) || kind.is_skippable();
        Ok(self.skipped.as_ref().is_some_and(|skip| may_be_skipped(skip.head().kind)))
    }

    /// Throws away what belongs to the frame that was given up: says how many bytes of `input`
    /// that were and, when they were its last, which frame it was.
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    pub fn skip(&mut self, input: &[u8]) -> Result<(usize, Option<Head>), Violation> {
        let Some(skip) = &mut self.skipped else { return Ok((0, None)) };
        let used = skip.take(input)?;
        let skipped = self.skipped.take_if(|skip| skip.is_over());
        Ok((used, skipped.map(|skip| skip.head())))
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
