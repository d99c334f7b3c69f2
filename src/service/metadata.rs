//! Name and value pairs that travel beside a request or a response.
//!
//! A block is kept as it is on the wire, TLVs of key 16 one behind the other, so that sending and
//! receiving it is a copy. Invariant: a block that is written here keeps the limits of CA-10: names
//! of 1 to 64 bytes of `[a-z0-9_.-]`, 64 pairs and 8 KiB of them.
//! Why shared bytes: interceptors and the handler of a call see the same pairs.

use std::sync::Arc;

use crate::service::Status;
use crate::wire::response_keys;
use crate::wire::{Code, EXT_BYTES_MAX, METADATA_ENTRIES_MAX, Tlvs, push_tlv, request_keys};

/// Name and value pairs that travel beside a request, or beside its answer.
///
/// Names may repeat: the pairs stand in the order in which they were added, and [`Metadata::get`]
/// gives the first. Printed with `{:?}` it shows names and sizes, since values may be secrets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Metadata {
    /// The TLV block as it came, checked.
    ext: Option<Arc<[u8]>>,
}

/// Pairs that are about to be sent: a TLV block.
#[derive(Clone, Debug, Default)]
pub(crate) struct MetadataBlock(Vec<u8>);

impl Metadata {
    pub(crate) fn from_ext(ext: &[u8]) -> Self {
        Self { ext: (!ext.is_empty()).then(|| ext.into()) }
    }

    /// Adds a name and a value. Names are 1 to 64 bytes of `[a-z0-9_.-]`; there are at most 64
    /// pairs and 8 KiB of them (CA-10).
    ///
    /// # Errors
    /// [`Code::BAD_METADATA`] for another name, [`Code::TOO_LARGE`] for too much.
    pub fn try_push(&mut self, name: &str, value: &[u8]) -> Result<(), Status> {
        let mut block = MetadataBlock::of(self);
        block.push(name, value)?;
        *self = Self::from_ext(block.as_bytes());
        Ok(())
    }

    /// Appends the pairs as TLVs; says how many bytes they are.
    pub(crate) fn push_to(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let ext = self.ext.as_deref().unwrap_or_default();
        for tlv in Tlvs::new(ext).filter(|tlv| tlv.key == request_keys::METADATA) {
            push_tlv(out, tlv.key, tlv.value);
        }
        out.len() - start
    }

    /// The pairs, in the order they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        pairs(self.ext.as_deref().unwrap_or_default())
    }

    /// The first value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sizes = self.iter().map(|(name, value)| (name, format!("{} bytes", value.len())));
        f.debug_map().entries(sizes).finish()
    }
}

impl MetadataBlock {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Pairs that were checked before.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mut block = Self::new();
        metadata.push_to(&mut block.0);
        block
    }

    /// Adds as many pairs of another block as fit.
    pub(crate) fn extend(&mut self, other: &Self) {
        let _full = other.iter().try_for_each(|(name, value)| self.push(name, value));
    }

    /// Adds a pair (CA-10).
    ///
    /// # Errors
    /// BAD_METADATA for a name that is none, TOO_LARGE for a pair that does not fit; the block is
    /// as before.
    pub(crate) fn push(&mut self, name: &str, value: &[u8]) -> Result<(), Status> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
        let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        if !(1..=64).contains(&name_len) || !name.bytes().all(allowed) {
            let text = format!("metadata name {name:?} is not 1 to 64 bytes of [a-z0-9_.-]");
            return Err(Status::refused(Code::BAD_METADATA, text));
        }
        let count = Tlvs::new(&self.0).count();
        let bytes = self.0.len() + 5 + name.len() + value.len();
        if bytes > EXT_BYTES_MAX || count >= METADATA_ENTRIES_MAX {
            let text = "more than 64 metadata entries or 8192 bytes of them";
            let status = Status::refused(Code::TOO_LARGE, text);
            return Err(status.with_excess(bytes as u64, EXT_BYTES_MAX as u64));
        }
        let mut entry = vec![name_len];
        entry.extend_from_slice(name.as_bytes());
        entry.extend_from_slice(value);
        push_tlv(&mut self.0, request_keys::METADATA, &entry);
        Ok(())
    }

    /// The pairs, in the order they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        pairs(&self.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends as many pairs as fit beside `used_bytes` of other TLVs; returns their bytes.
    pub(crate) fn push_ext(&self, used_bytes: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        for tlv in Tlvs::new(&self.0) {
            let bytes = out.len() - start + TLV_HEAD_BYTES + tlv.value.len();
            if used_bytes + bytes > EXT_BYTES_MAX {
                break;
            }
            push_tlv(out, tlv.key, tlv.value);
        }
        out.len() - start
    }
}

/// The pairs in a checked TLV block.
fn pairs(ext: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    Tlvs::new(ext).filter(|tlv| tlv.key == request_keys::METADATA).filter_map(|tlv| {
        let (len, rest) = tlv.value.split_first()?;
        let (name, value) = rest.split_at_checked(usize::from(*len))?;
        Some((std::str::from_utf8(name).ok()?, value))
    })
}

/// `key:2 len:2` before each value.
const TLV_HEAD_BYTES: usize = 4;
// One block serves both kinds of frame (ST-4).
const _: () = assert!(request_keys::METADATA == response_keys::METADATA);

#[cfg(test)]
mod tests {
    use super::*;

    /// CA-10: 64 pairs fit and no more, 8192 bytes and no more, names of 64 bytes and no more.
    /// Shown on both sides of each limit; a refused pair leaves the block as it was.
    #[test]
    fn ca_10_a_block_keeps_its_limits() {
        let mut block = MetadataBlock::new();
        for _ in 0..64 {
            assert!(block.push("n", b"v").is_ok());
        }
        let full = block.as_bytes().to_vec();
        assert_eq!(block.push("n", b"v").map_err(|status| status.code()), Err(Code::TOO_LARGE));
        assert_eq!(block.as_bytes(), full);

        for (value_bytes, fits) in [(8185, true), (8186, true), (8187, false)] {
            let pushed = MetadataBlock::new().push("n", &vec![0; value_bytes]);
            assert_eq!(pushed.is_ok(), fits, "{value_bytes}");
            let excess = pushed.err().and_then(|status| status.excess_bytes());
            assert_eq!(excess, (!fits).then_some((8193, 8192)));
        }
        for (name, fits) in [("", false), ("n", true), ("N", false), ("a b", false)] {
            assert_eq!(MetadataBlock::new().push(name, b"").is_ok(), fits, "{name:?}");
        }
        for (bytes, fits) in [(63, true), (64, true), (65, false)] {
            assert_eq!(MetadataBlock::new().push(&"n".repeat(bytes), b"").is_ok(), fits, "{bytes}");
        }
    }

    /// Pairs of two sides, a proxy's and those that came through it, have the limits of one.
    #[test]
    fn ca_10_two_blocks_have_the_limits_of_one() {
        let mut theirs = Metadata::default();
        for _ in 0..63 {
            assert!(theirs.try_push("theirs", b"v").is_ok());
        }
        let mut ours = MetadataBlock::new();
        for value in [b"1", b"2"] {
            assert!(ours.push("ours", value).is_ok());
        }
        let mut block = MetadataBlock::of(&theirs);
        block.extend(&ours);

        assert_eq!(block.iter().count(), 64);
        assert_eq!(block.iter().last(), Some(("ours", &b"1"[..])));
    }

    /// What does not fit beside other TLVs is left out, from the first pair that does not on.
    #[test]
    fn pairs_that_do_not_fit_beside_others_are_left_out() {
        let mut block = MetadataBlock::new();
        for name in ["a", "b"] {
            assert!(block.push(name, &[7; 4000]).is_ok());
        }
        let mut out = Vec::new();
        assert_eq!(block.push_ext(0, &mut out), 2 * 4006);
        for (used, bytes) in [(180, 8012), (181, 4006), (4186, 4006), (4187, 0)] {
            assert_eq!(block.push_ext(used, &mut Vec::new()), bytes, "{used}");
        }
        let found = Metadata::from_ext(&out);
        assert_eq!(found.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(found.get("b"), Some(&[7; 4000][..]));
        assert_eq!(found.get("c"), None);
    }
}
