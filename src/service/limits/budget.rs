//! The limits of one decoding, and what is left of them while it runs.
//!
//! Invariants: a limit that was broken stays known, whatever becomes of the error that told of it;
//! an element is counted before it is decoded, memory before it is taken.
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
    /// Memory that any payload may take, however short: decoding allocates this much and
    /// `memory_factor` for each byte of the payload, at most.
    ///
    /// Counted are strings, collections as those of `std` grow, both blocks while one is moved, and
    /// boxed values. Not counted: a box around a number, `char` or `bool` of one word or less; what
    /// an own `Deserialize` or a custom codec allocates by itself; a second copy in an `Rc`, `Arc`
    /// or boxed slice; up to 16 elements of each collection whose first one is yet to come.
    ///
    /// Unit: bytes. Default: 1 MiB. Too low: short payloads of large types are refused; too high:
    /// many small hostile requests take that much each.
    pub memory_base_bytes: u64,
    /// Memory that each byte of the payload adds to `memory_base_bytes`.
    ///
    /// An honest value is larger in memory than on the wire: a missing string is 1 byte there and
    /// 24 here, and a vector that grows takes three times what it holds while it is moved.
    ///
    /// Unit: bytes per byte. Default: 64. Too low: long lists of mostly empty values are refused;
    /// too high: a hostile payload of 4 MiB takes 4 MiB times this.
    pub memory_factor: u32,
}

impl DecodeLimits {
    /// What a payload of so many bytes may allocate.
    fn memory_max_bytes(&self, payload_bytes: usize) -> u64 {
        let follows = u64::from(self.memory_factor).saturating_mul(payload_bytes as u64);
        self.memory_base_bytes.saturating_add(follows)
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { depth_max: 64, elements_max: 1 << 20, memory_base_bytes: 1 << 20, memory_factor: 64 }
    }
}

/// What is left of the limits while one payload is decoded.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: DecodeLimits,
    depth_left: Cell<u32>,
    elements_left: Cell<u64>,
    memory_max_bytes: u64,
    memory_left_bytes: Cell<u64>,
    /// The limit that was broken. The codec's own error type cannot carry it, so it waits here.
    broken: Cell<Option<BrokenLimit>>,
}

impl Budget {
    /// For a payload of so many bytes.
    pub(crate) fn new(limits: &DecodeLimits, payload_bytes: usize) -> Self {
        let memory_max_bytes = limits.memory_max_bytes(payload_bytes);
        Self {
            limits: *limits,
            depth_left: Cell::new(limits.depth_max),
            elements_left: Cell::new(limits.elements_max),
            memory_max_bytes,
            memory_left_bytes: Cell::new(memory_max_bytes),
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
    pub(super) fn enter(&self) -> Result<(), Broken> {
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

    /// Runs `visit` as part of the level that was entered last: an enum and its content are one.
    #[inline]
    pub(super) fn same_level<T>(&self, visit: impl FnOnce() -> T) -> T {
        self.leave();
        let visited = visit();
        // Left by `visit` as it was found, so there is one.
        self.depth_left.set(self.depth_left.get() - 1);
        visited
    }

    /// Looks at a declared number of elements without taking it for granted: it may be a lie in
    /// either direction, so each element is still counted when it comes.
    #[inline]
    pub(super) fn check_declared(&self, declared: Option<usize>) -> Result<(), Broken> {
        let declared = declared.map_or(0, |elements| elements as u64);
        if declared > self.elements_left.get() {
            return Err(self.refuse(BrokenLimit::Elements { seen: self.seen(declared) }));
        }
        Ok(())
    }

    /// Counts one element, before it is decoded (PL-5).
    #[inline]
    pub(super) fn count_element(&self) -> Result<(), Broken> {
        match self.elements_left.get().checked_sub(1) {
            Some(left) => {
                self.elements_left.set(left);
                Ok(())
            }
            None => Err(self.refuse(BrokenLimit::Elements { seen: self.seen(1) })),
        }
    }

    /// Charges memory, before it is taken (PL-8).
    #[inline]
    pub(super) fn take_memory(&self, bytes: u64) -> Result<(), Broken> {
        match self.memory_left_bytes.get().checked_sub(bytes) {
            Some(left_bytes) => {
                self.memory_left_bytes.set(left_bytes);
                Ok(())
            }
            None => Err(self.refuse_memory(bytes)),
        }
    }

    /// Charges the copy of a whole payload, where no codec is asked.
    pub(crate) fn take_copy(
        &self,
        limits: &DecodeLimits,
        len_bytes: usize,
    ) -> Result<(), DecodeError> {
        self.take_memory(len_bytes as u64).map_err(|Broken| {
            let broken = self.broken().expect("`take_memory` has just left it");
            broken.explain(limits)
        })
    }

    /// Gives back what was charged and is free again.
    #[inline]
    pub(super) fn free_memory(&self, bytes: u64) {
        self.memory_left_bytes.set(self.memory_left_bytes.get() + bytes);
    }

    #[cold]
    fn refuse_memory(&self, bytes: u64) -> Broken {
        let taken_bytes = self.memory_max_bytes - self.memory_left_bytes.get();
        let seen_bytes = taken_bytes.saturating_add(bytes);
        self.refuse(BrokenLimit::Memory { seen_bytes, limit_bytes: self.memory_max_bytes })
    }

    /// Elements so far, and `more` that were about to come.
    fn seen(&self, more: u64) -> u64 {
        (self.limits.elements_max - self.elements_left.get()).saturating_add(more)
    }

    #[cold]
    fn refuse(&self, broken: BrokenLimit) -> Broken {
        self.broken.set(Some(broken));
        Broken
    }
}

/// A limit was broken; the budget knows which.
///
/// Of no size, so that the checks stay small: a codec's own error type is large, and many checks
/// may follow each other before one is made.
#[derive(Debug)]
pub(super) struct Broken;

impl Broken {
    /// The error for the codec to hand on.
    #[cold]
    pub(super) fn error<E: serde::de::Error>(self) -> E {
        E::custom("a decode limit was exceeded")
    }
}

/// Which limit was broken, small enough for a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BrokenLimit {
    Depth,
    Elements { seen: u64 },
    Memory { seen_bytes: u64, limit_bytes: u64 },
}

impl BrokenLimit {
    /// The error for people, with the limit it names.
    #[cold]
    pub(crate) fn explain(self, limits: &DecodeLimits) -> DecodeError {
        match self {
            Self::Depth => DecodeError::Depth { limit: limits.depth_max },
            Self::Elements { seen } => DecodeError::Elements { seen, limit: limits.elements_max },
            Self::Memory { seen_bytes, limit_bytes } => {
                DecodeError::Memory { seen_bytes, limit_bytes }
            }
        }
    }
}
