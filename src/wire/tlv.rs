//! TLVs: `key:2 len:2 value`, the part of a frame that may grow without a new protocol version.
//!
//! Invariants: keys ascend; only a repeatable key may stand twice; bit 15 marks a key that must
//! be understood (FR-8). A checked block can be walked without errors.

use crate::wire::METADATA_ENTRIES_MAX;
use crate::wire::cursor::Cursor;

/// Keys of a REQUEST.
pub mod request_keys {
    /// One metadata entry, repeatable: `name_len:1 name value`.
    pub const METADATA: u16 = 16;
}

/// Keys of a RESPONSE.
pub mod response_keys {
    /// Text for people.
    pub const MESSAGE: u16 = 1;
    /// Wait this many milliseconds before trying again: `ms:4`.
    pub const RETRY_AFTER_MS: u16 = 2;
    /// What may be called now, `version:2` each, ascending.
    pub const VERSIONS: u16 = 3;
    /// The codecs the server has, one byte each.
    pub const CODECS: u16 = 4;
    /// The server's fingerprint: `fingerprint:4`.
    pub const FINGERPRINT: u16 = 5;
    /// The limit that was passed: `limit:8`.
    pub const LIMIT: u16 = 6;
    /// The value that passed it: `value:8`.
    pub const VALUE: u16 = 7;
    /// One metadata entry, repeatable: `name_len:1 name value`.
    pub const METADATA: u16 = 16;
}

/// One TLV.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tlv<'a> {
    /// The key, critical bit included.
    pub key: u16,
    /// The value.
    pub value: &'a [u8],
}

/// What is wrong with a block of TLVs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TlvError {
    /// A critical key that the frame's kind does not define.
    #[error("unknown critical TLV {0:#06x}")]
    UnknownCritical(u16),
    /// Cut short, out of order, repeated, or a value of the wrong size.
    #[error("malformed TLV block: {0}")]
    Malformed(&'static str),
}

/// Walks a block of TLVs; stops at the first one that is cut short.
#[derive(Clone, Copy, Debug)]
pub struct Tlvs<'a>(Cursor<'a>);

impl<'a> Tlvs<'a> {
    /// The TLVs in `ext`.
    #[must_use]
    pub const fn new(ext: &'a [u8]) -> Self {
        Self(Cursor::new(ext))
    }

    /// The value of the first TLV with this key.
    #[must_use]
    pub fn find(mut self, key: u16) -> Option<&'a [u8]> {
        self.find_map(|tlv| (tlv.key == key).then_some(tlv.value))
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let key = self.0.u16()?;
        let len = self.0.u16()?;
        let value = self.0.take(usize::from(len))?;
        Some(Tlv { key, value })
    }
}

/// Checks a block: its layout, the order of its keys, critical keys against `is_known`.
///
/// # Errors
/// [`TlvError`], for the first rule that is broken.
pub fn check_tlvs(
    ext: &[u8],
    is_known: impl Fn(u16) -> bool,
    is_repeatable: impl Fn(u16) -> bool,
) -> Result<(), TlvError> {
    let mut cursor = Cursor::new(ext);
    let mut last = None;
    let mut repeated: usize = 0;
    while !cursor.is_empty() {
        let (Some(key), Some(len)) = (cursor.u16(), cursor.u16()) else {
            return Err(TlvError::Malformed("cut short in a key or length"));
        };
        if cursor.take(usize::from(len)).is_none() {
            return Err(TlvError::Malformed("a value runs past the block"));
        }
        match last {
            Some(last) if key < last => return Err(TlvError::Malformed("keys do not ascend")),
            Some(last) if key == last && !is_repeatable(key) => {
                return Err(TlvError::Malformed("a key stands twice"));
            }
            Some(last) if key == last => repeated += 1,
            Some(_) | None => repeated = 1,
        }
        if repeated > METADATA_ENTRIES_MAX {
            return Err(TlvError::Malformed("more than 64 entries of one key"));
        }
        if key & CRITICAL != 0 && !is_known(key) {
            return Err(TlvError::UnknownCritical(key));
        }
        last = Some(key);
    }
    Ok(())
}

/// Appends one TLV. Keys must be pushed in ascending order.
///
/// # Panics
/// If the value is longer than 65,535 bytes; callers bound what they push.
pub fn push_tlv(out: &mut Vec<u8>, key: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("callers bound values to the block's 8 KiB");
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

const CRITICAL: u16 = 0x8000;
