//! The room that one collection takes while it grows, as the collections of `std` grow.
//!
//! ```text
//!   size hint asked   vector   the declared length (16 at most), then twice as much each time
//!                     table    a power of two of buckets, 7 of 8 filled
//!                     ring     as a vector, but maybe a table
//!   not asked         tree     leaves of 11 entries, at least 5 filled; or a list's links
//! ```
//!
//! Invariants: room is charged before the collection takes it, except for what it reserves when it
//! is made, which is charged with its first element; a block that grows is charged beside the old
//! one, and the old one is given back when the element that moved it has been added.
//! Why guessed from the size hint: serde's visitor for a vector or a table asks for it, that for a
//! tree or a list does not; of those that ask, a vector is three words large, a ring four, a table
//! more. One charge that covers them all would refuse honest vectors of large elements.

use std::cell::Cell;

use crate::service::limits::budget::{Broken, Budget};

/// Room of one sequence or map.
#[derive(Debug)]
pub(super) struct Room {
    growth: Cell<Growth>,
    if_asked: Growth,
    /// Entries that the size hint said; the collection may have reserved them.
    reserved: Cell<usize>,
    /// Entries that still come without growing.
    entries_left: u64,
    /// Entries that there is room for, all in all.
    entries: u64,
    /// What was charged for them and is held.
    held_bytes: u64,
    /// The block that the entry just added moves: it is free when the next one comes.
    moving_bytes: u64,
    /// Entries that still come without growing, after that one.
    entries_later: u64,
}

impl Room {
    /// Of a sequence that becomes a `V`.
    #[inline]
    pub(super) fn sequence<V>() -> Self {
        let words = size_of::<V>() / size_of::<usize>();
        Self::new(match words {
            0..=3 => Growth::Vector,
            4 => Growth::Ring,
            _ => Growth::Table,
        })
    }

    #[inline]
    pub(super) fn map() -> Self {
        Self::new(Growth::Table)
    }

    #[inline]
    fn new(if_asked: Growth) -> Self {
        Self {
            growth: Cell::new(Growth::Tree),
            if_asked,
            reserved: Cell::new(0),
            entries_left: 0,
            entries: 0,
            held_bytes: 0,
            moving_bytes: 0,
            entries_later: 0,
        }
    }

    /// The size hint that the collection may see, for the one that the codec gives.
    #[inline]
    pub(super) fn size_hint(&self, hint: Option<usize>) -> Option<usize> {
        let capped = hint.map(|elements| elements.min(RESERVED_ELEMENTS_MAX));
        self.growth.set(self.if_asked);
        self.reserved.set(capped.unwrap_or(0));
        capped
    }

    /// Makes room for one more entry.
    #[inline]
    pub(super) fn add(&mut self, budget: &Budget, entry: Entry) -> Result<(), Broken> {
        if self.entries_left == 0 {
            self.grow(budget, entry.bytes as u64)?;
        }
        self.entries_left -= 1;
        Ok(())
    }

    // Not inlined, so that adding an entry is a branch and a decrement.
    #[inline(never)]
    fn grow(&mut self, budget: &Budget, entry_bytes: u64) -> Result<(), Broken> {
        budget.free_memory(std::mem::take(&mut self.moving_bytes));
        if self.entries_later > 0 {
            self.entries_left = std::mem::take(&mut self.entries_later);
            return Ok(());
        }
        let (entries, bytes) = match self.growth.get() {
            Growth::Ring => self.grown_ring(entry_bytes),
            Growth::Table => self.grown_table(self.entries + 1, entry_bytes),
            Growth::Tree => self.grown_tree(entry_bytes),
            Growth::Vector => self.grown_vector(entry_bytes),
        };
        // Nodes of a tree stay where they are.
        let is_moved = self.growth.get() != Growth::Tree;
        budget.take_memory(if is_moved { bytes } else { bytes - self.held_bytes })?;
        let more = entries - self.entries;
        if is_moved && self.held_bytes > 0 {
            // The entry is decoded first, and moves the block when it is added.
            self.moving_bytes = self.held_bytes;
            (self.entries_left, self.entries_later) = (1, more - 1);
        } else {
            self.entries_left = more;
        }
        (self.entries, self.held_bytes) = (entries, bytes);
        Ok(())
    }

    /// The entries and bytes of the next larger vector: `RawVec` doubles, and begins with 8 or 4.
    #[inline]
    fn grown_vector(&self, entry_bytes: u64) -> (u64, u64) {
        let entries = match (self.entries, self.reserved.get()) {
            (0, reserved @ 1..) => reserved as u64,
            (entries, _) => (entries * 2).max(if entry_bytes <= 1 { 8 } else { 4 }),
        };
        (entries, entries.saturating_mul(entry_bytes))
    }

    /// The same of a ring, which doubles too; a table that hashes without a seed has its size.
    fn grown_ring(&self, entry_bytes: u64) -> (u64, u64) {
        let (entries, _) = self.grown_vector(entry_bytes);
        (entries, self.grown_table(entries, entry_bytes).1)
    }

    /// The same of a hash table: a power of two of buckets, and a byte beside each.
    fn grown_table(&self, wanted: u64, entry_bytes: u64) -> (u64, u64) {
        let wanted = wanted.max(self.reserved.get() as u64);
        let fewest = if entry_bytes < 4 { 16 } else { 4 };
        let buckets = (wanted * 8).div_ceil(7).next_power_of_two().max(fewest);
        // One stays empty even where an eighth is less than one.
        let entries = (buckets / 8 * 7).max(buckets.min(8) - 1);
        (entries, buckets.saturating_mul(entry_bytes + 1) + TABLE_BYTES)
    }

    /// The same of a B-tree whose nodes are as empty as they may be, or of a list.
    ///
    /// A split leaves 5 entries in a leaf, so it takes 6 more to split it again, and 6 children in
    /// an inner node, so of 5 leaves one inner node follows at most, besides the root.
    fn grown_tree(&self, entry_bytes: u64) -> (u64, u64) {
        let leaf_bytes = entry_bytes.saturating_mul(LEAF_ENTRIES) + LEAF_BYTES;
        let inner_bytes = leaf_bytes + EDGES_BYTES;
        let list_bytes = |entries: u64| entries.saturating_mul(entry_bytes + LINKS_BYTES);
        if self.entries == 0 {
            return (LEAF_ENTRIES, leaf_bytes.max(list_bytes(LEAF_ENTRIES)));
        }
        let root_bytes = if self.entries == LEAF_ENTRIES { inner_bytes } else { 0 };
        let node_bytes = leaf_bytes + inner_bytes.div_ceil(5);
        let bytes = root_bytes + node_bytes.max(list_bytes(SPLIT_ENTRIES));
        (self.entries + SPLIT_ENTRIES, self.held_bytes + bytes)
    }
}

/// How what is held takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// `VecDeque`.
    Ring,
    /// `HashMap`, `HashSet`.
    Table,
    /// `BTreeMap`, `BTreeSet`, `LinkedList`; enough for a vector that did not ask.
    Tree,
    /// `Vec`, `BinaryHeap`.
    Vector,
}

/// The size of what a collection holds. A key and its value come one after the other, so that no
/// single place knows the type of both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    bytes: usize,
    align: usize,
}

impl Entry {
    #[inline]
    pub(super) fn of<T>() -> Self {
        Self { bytes: size_of::<T>(), align: align_of::<T>() }
    }

    /// Both side by side, padded as a tuple is.
    #[inline]
    pub(super) fn with(self, other: Self) -> Self {
        let align = self.align.max(other.align);
        Self { bytes: (self.bytes + other.bytes).next_multiple_of(align), align }
    }
}

/// A declared length reserves room for so many elements at most; the rest grows with what arrives.
///
/// serde's collections take a declared length at its word up to 1 MiB. The wrapper cannot see how
/// large an element is before the first one is decoded, so the cap counts elements: 16 of up to
/// 256 bytes are 4096 bytes. A finished collection has at least as many elements as were reserved,
/// so only the open ones, one per level, can hold room that the input never fills.
const RESERVED_ELEMENTS_MAX: usize = 16;

/// Entries of a leaf and of an inner node of `BTreeMap`.
const LEAF_ENTRIES: u64 = 11;

/// Entries after which a leaf that has just been split is split again, at the earliest.
const SPLIT_ENTRIES: u64 = 6;

/// Parent, length and padding of a leaf.
const LEAF_BYTES: u64 = 32;

/// An inner node's edges, and padding.
const EDGES_BYTES: u64 = 12 * 8 + 8;

/// Two links of a list's node, and padding.
const LINKS_BYTES: u64 = 24;

/// What a table has beside its buckets: one more group of control bytes, and padding.
const TABLE_BYTES: u64 = 32;
