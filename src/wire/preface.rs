//! The first eight bytes each side sends: who it is and which protocol versions it speaks.
//!
//! `"SWBK":4 lo:2 hi:2`. This layout is the same in every version of the protocol, so that two
//! sides without a common version still understand why (HS-4).

/// The protocol versions one side speaks, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VersionRange {
    /// The lowest, at least 1.
    pub lo: u16,
    /// The highest.
    pub hi: u16,
}

impl VersionRange {
    /// What this build speaks. With `lo` below `hi`, HS-10 would have to be implemented.
    pub const OURS: Self = Self { lo: 1, hi: 1 };

    /// Checks that this is a range: `1 <= lo <= hi`.
    ///
    /// # Errors
    /// [`PrefaceError::BadRange`] (HS-3).
    pub const fn check(self) -> Result<(), PrefaceError> {
        let Self { lo, hi } = self;
        if lo == 0 || lo > hi { Err(PrefaceError::BadRange { lo, hi }) } else { Ok(()) }
    }

    /// The highest version both speak, if there is one (HS-4).
    #[must_use]
    pub fn choose(self, other: Self) -> Option<u16> {
        let chosen = self.hi.min(other.hi);
        (chosen >= self.lo.max(other.lo)).then_some(chosen)
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..={}", self.lo, self.hi)
    }
}

/// One side's preface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Preface(pub VersionRange);

/// Bytes that are not a preface.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrefaceError {
    /// The magic does not match: something else is at the other end.
    #[error("the peer does not speak switchback")]
    NotSwitchback,
    /// The magic matches, the range does not make sense.
    #[error("the peer offers protocol versions {lo}..={hi}, which is no range")]
    BadRange {
        /// As sent.
        lo: u16,
        /// As sent.
        hi: u16,
    },
}

impl Preface {
    /// Bytes of a preface.
    pub const BYTES: usize = 8;
    /// The magic at its start.
    pub const MAGIC: [u8; 4] = *b"SWBK";

    /// The preface as sent.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::BYTES] {
        let [s, w, b, k] = Self::MAGIC;
        let [l0, l1] = self.0.lo.to_be_bytes();
        let [h0, h1] = self.0.hi.to_be_bytes();
        [s, w, b, k, l0, l1, h0, h1]
    }

    /// Reads a preface from the start of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`PrefaceError::NotSwitchback`] as soon as one byte differs from the magic (HS-2);
    /// [`PrefaceError::BadRange`] (HS-3).
    pub fn parse(input: &[u8]) -> Result<Option<Self>, PrefaceError> {
        if input.iter().zip(Self::MAGIC).any(|(found, wanted)| *found != wanted) {
            return Err(PrefaceError::NotSwitchback);
        }
        let Some([_, _, _, _, l0, l1, h0, h1]) = input.first_chunk::<{ Self::BYTES }>() else {
            return Ok(None);
        };
        let (lo, hi) = (u16::from_be_bytes([*l0, *l1]), u16::from_be_bytes([*h0, *h1]));
        let range = VersionRange { lo, hi };
        range.check().map(|()| Some(Self(range)))
    }
}
