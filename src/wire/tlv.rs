//! TLVs: `key:2 len:2 value`, the part of a frame that may grow without a new protocol version.
//!
//! Invariants: keys never descend; a known key stands twice only if it may (FR-9); bit 15 marks a
//! key that must be understood (FR-10). A checked block can be walked without errors.

use crate::wire::CODECS_MAX;
use crate::wire::cursor::Cursor;

/// Keys of a REQUEST (CA-10).
pub mod request_keys {
    /// One metadata entry, repeatable: `name_len:1 name value`.
    pub const METADATA: u16 = 16;
}

/// Keys of a RESPONSE (ST-4).
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
    /// Cut short, out of order, repeated, or a value that its key does not allow.
    #[error("malformed TLV block: {0}")]
    Malformed(&'static str),
}

/// What a kind of frame makes of one TLV.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlvRule {
    /// The kind does not define the key: skipped, once or repeated, unless it is critical.
    Unknown,
    /// Known; may stand once.
    Once,
    /// Known; may stand so many times.
    UpTo(usize),
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

/// Checks a block: its layout and the order of its keys, and each TLV by `judge`, which answers
/// what the frame's kind makes of it, or what is wrong with its value.
///
/// # Errors
/// [`TlvError`]. A block that is malformed anywhere is malformed, even when a critical key that
/// is not known comes before the fault.
pub fn check_tlvs<'a>(
    ext: &'a [u8],
    judge: impl Fn(Tlv<'a>) -> Result<TlvRule, &'static str>,
) -> Result<(), TlvError> {
    let mut cursor = Cursor::new(ext);
    let mut last = None;
    let mut entries: usize = 0;
    let mut unknown_critical = None;
    while !cursor.is_empty() {
        let (Some(key), Some(len)) = (cursor.u16(), cursor.u16()) else {
            return Err(TlvError::Malformed("cut short in a key or length")); // FR-9
        };
        let Some(value) = cursor.take(usize::from(len)) else {
            return Err(TlvError::Malformed("a value runs past the block")); // FR-9
        };
        if last.is_some_and(|last| key < last) {
            return Err(TlvError::Malformed("keys descend")); // FR-9
        }
        entries = if last == Some(key) { entries + 1 } else { 1 };
        match judge(Tlv { key, value }).map_err(TlvError::Malformed)? {
            TlvRule::Once if entries > 1 => {
                return Err(TlvError::Malformed("a key stands twice")); // FR-9
            }
            TlvRule::UpTo(max) if entries > max => {
                return Err(TlvError::Malformed("a key stands too often")); // CA-10
            }
            TlvRule::Unknown if key & CRITICAL != 0 && unknown_critical.is_none() => {
                unknown_critical = Some(key);
            }
            TlvRule::Once | TlvRule::UpTo(_) | TlvRule::Unknown => {}
        }
        last = Some(key);
    }
    unknown_critical.map_or(Ok(()), |key| Err(TlvError::UnknownCritical(key))) // FR-10
}

/// Whether a value is a list of codecs: 1 to 32 of them, strictly ascending (HS-5, ST-4).
pub(crate) fn is_codec_list(value: &[u8]) -> bool {
    (1..=CODECS_MAX).contains(&value.len()) && value.is_sorted_by(|a, b| a < b)
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
