//! The limits of one decoding, and what is left of them while it runs.
//!
//! Invariants: a limit that was broken stays known, whatever becomes of the error that told of it;
//! an element is counted before it is decoded.
//! Why cells: every wrapper of one decoding shares the budget, several of them at a time.

use std::cell::Cell;

use crate::service::codec::DecodeError;

/// What decoding one payload may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeLimits {
    /// Values nested in each other: sequences, maps, tuples, structs, enums, newtypes and `Some`.
    ///
    /// Unit: levels. Default: 64. Too low: honest nested types are refused; too high: a recursive
    /// type uses up the stack.
    pub depth_max: u32,
    /// Elements of all sequences and entries of all maps together, zero-sized ones included.
    /// Fields of structs and tuples do not count: the type bounds them.
    ///
    /// Unit: elements. Default: 1048576. Too low: long lists are refused; too high: a few bytes
    /// that declare many empty elements cost time and memory.
    pub elements_max: u64,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { depth_max: 64, elements_max: 1 << 20 }
    }
}

/// What is left of the limits while one payload is decoded.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: DecodeLimits,
    depth_left: Cell<u32>,
    elements_left: Cell<u64>,
    /// The limit that was broken. The codec's own error type cannot carry it, so it waits here.
    broken: Cell<Option<BrokenLimit>>,
}

impl Budget {
    pub(crate) fn new(limits: &DecodeLimits) -> Self {
        Self {
            limits: *limits,
            depth_left: Cell::new(limits.depth_max),
            elements_left: Cell::new(limits.elements_max),
            broken: Cell::new(None),
        }
    }

    /// The limit that ended the decoding, if one did.
    #[inline]
    pub(crate) fn broken(&self) -> Option<BrokenLimit> {
        self.broken.get()
    }

    /// One level down (PL-6); each successful call is followed by [`Budget::leave`].
    #[inline]
    pub(super) fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.depth_left.get().checked_sub(1) {
            Some(left) => {
                self.depth_left.set(left);
                Ok(())
            }
            None => Err(self.refuse(BrokenLimit::Depth)),
        }
    }

    #[inline]
    pub(super) fn leave(&self) {
        self.depth_left.set(self.depth_left.get() + 1);
    }

    /// Looks at a declared number of elements without taking it for granted: it may be a lie in
    /// either direction, so each element is still counted when it comes.
    #[inline]
    pub(super) fn check_declared<E: serde::de::Error>(
        &self,
        declared: Option<usize>,
    ) -> Result<(), E> {
        let declared = declared.map_or(0, |elements| elements as u64);
        if declared > self.elements_left.get() {
            return Err(self.refuse(BrokenLimit::Elements { seen: self.seen(declared) }));
        }
        Ok(())
    }

    /// Counts one element, before it is decoded (PL-5).
    #[inline]
    pub(super) fn count_element<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.elements_left.get().checked_sub(1) {
            Some(left) => {
                self.elements_left.set(left);
                Ok(())
            }
            None => Err(self.refuse(BrokenLimit::Elements { seen: self.seen(1) })),
        }
    }

    /// Elements so far, and `more` that were about to come.
    fn seen(&self, more: u64) -> u64 {
        (self.limits.elements_max - self.elements_left.get()).saturating_add(more)
    }

    #[cold]
    fn refuse<E: serde::de::Error>(&self, broken: BrokenLimit) -> E {
        self.broken.set(Some(broken));
        E::custom("a decode limit was exceeded")
    }
}

/// Which limit was broken, small enough for a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BrokenLimit {
    Depth,
    Elements { seen: u64 },
}

impl BrokenLimit {
    /// The error for people, with the limit it names.
    #[cold]
    pub(crate) fn explain(self, limits: &DecodeLimits) -> DecodeError {
        match self {
            Self::Depth => DecodeError::Depth { limit: limits.depth_max },
            Self::Elements { seen } => DecodeError::Elements { seen, limit: limits.elements_max },
        }
    }
}

/// Whether what a sequence or a map holds counts as elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// As many as the bytes say.
    Elements,
    /// Fields: as many as the type says.
    Fields,
}

/// A declared length reserves room for so many elements at most; the rest grows with what arrives.
///
/// serde's collections take a declared length at its word up to 1 MiB. The wrapper cannot see how
/// large an element is before the first one is decoded, so the cap counts elements: 16 of up to
/// 256 bytes are 4096 bytes. A finished collection has at least as many elements as were reserved,
/// so only the open ones, one per level, can hold room that the input never fills.
const RESERVED_ELEMENTS_MAX: usize = 16;

/// The size hint that a collection may see.
#[inline]
pub(super) fn capped(hint: Option<usize>) -> Option<usize> {
    hint.map(|elements| elements.min(RESERVED_ELEMENTS_MAX))
}
