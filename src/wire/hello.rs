//! HELLO and HELLO_ACK: what each side tells the other before the first answer.
//!
//! Invariant: a value made by `parse` holds every required key with a legal size and range
//! (HS-5, HS-6); what is optional is empty.

use crate::wire::{CODECS_MAX, DecodeError, FRAME_BYTES_FLOOR, Tlv, TlvError, TlvRule, Tlvs};
use crate::wire::{WINDOW_BYTES_FLOOR, check_tlvs, is_codec_list, push_tlv};

/// What a client says first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// `body_len` the client accepts; at least 65,536.
    pub frame_bytes_max: u32,
    /// Codecs the client may use, ascending.
    pub codecs: Vec<u8>,
    /// Which build the client is, for people.
    pub build: String,
    /// Hashes of method tables the client remembers, newest first, at most 8.
    pub tables: Vec<u64>,
    /// Bytes of fragments the client is ready to take (FL-10); `None`: it takes none.
    pub window_connection: Option<u32>,
}

/// What a server answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HelloAck {
    /// `body_len` the server accepts; at least 65,536.
    pub frame_bytes_max: u32,
    /// Calls in flight the server accepts on this connection; at least 1.
    pub calls_max: u32,
    /// Codecs the server has, ascending.
    pub codecs: Vec<u8>,
    /// Which build the server is, for people.
    pub build: String,
    /// Hash of the method table as it is now.
    pub table: u64,
    /// FNV-1a 64 of the client's preface and HELLO frame, as the server read them.
    pub transcript: u64,
    /// Whether methods that the table does not list may be answered all the same (CA-17).
    pub has_fallback: bool,
    /// Bytes of fragments the server is ready to take (FL-10); `None`: it takes none.
    pub window_connection: Option<u32>,
}

impl Hello {
    /// Table hashes in one HELLO, at most.
    pub const TABLES_MAX: usize = 8;
    /// Bytes of the build text, at most.
    pub const BUILD_BYTES_MAX: usize = 64;
    /// Codecs listed, at most.
    pub const CODECS_MAX: usize = CODECS_MAX;

    /// Reads the TLVs of a HELLO.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] and [`DecodeError::UnknownTlv`].
    pub fn parse(ext: &[u8]) -> Result<Self, DecodeError> {
        let tlvs = checked(ext, judge_hello)?;
        Ok(Self {
            frame_bytes_max: u32::from_be_bytes(required(tlvs, key::FRAME_BYTES_MAX)?),
            codecs: codecs(tlvs)?,
            build: build(tlvs),
            tables: hashes(tlvs),
            window_connection: window(tlvs),
        })
    }

    /// The TLVs of this HELLO.
    #[must_use]
    pub fn to_ext(&self) -> Vec<u8> {
        let mut ext = Vec::new();
        push_tlv(&mut ext, key::FRAME_BYTES_MAX, &self.frame_bytes_max.to_be_bytes());
        push_tlv(&mut ext, key::CODECS, &self.codecs);
        push_text(&mut ext, &self.build);
        if !self.tables.is_empty() {
            let bytes: Vec<u8> = self.tables.iter().flat_map(|hash| hash.to_be_bytes()).collect();
            push_tlv(&mut ext, key::TABLES, &bytes);
        }
        push_window(&mut ext, self.window_connection);
        ext
    }
}

impl HelloAck {
    /// Reads the TLVs of a HELLO_ACK.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] and [`DecodeError::UnknownTlv`].
    pub fn parse(ext: &[u8]) -> Result<Self, DecodeError> {
        let tlvs = checked(ext, judge_ack)?;
        Ok(Self {
            frame_bytes_max: u32::from_be_bytes(required(tlvs, key::FRAME_BYTES_MAX)?),
            calls_max: u32::from_be_bytes(required(tlvs, key::CALLS_MAX)?),
            codecs: codecs(tlvs)?,
            build: build(tlvs),
            table: u64::from_be_bytes(required(tlvs, key::TABLES)?),
            transcript: u64::from_be_bytes(required(tlvs, key::TRANSCRIPT)?),
            has_fallback: tlvs.find(key::FALLBACK).is_some(),
            window_connection: window(tlvs),
        })
    }

    /// The TLVs of this HELLO_ACK.
    #[must_use]
    pub fn to_ext(&self) -> Vec<u8> {
        let mut ext = Vec::new();
        push_tlv(&mut ext, key::FRAME_BYTES_MAX, &self.frame_bytes_max.to_be_bytes());
        push_tlv(&mut ext, key::CALLS_MAX, &self.calls_max.to_be_bytes());
        push_tlv(&mut ext, key::CODECS, &self.codecs);
        push_text(&mut ext, &self.build);
        push_tlv(&mut ext, key::TABLES, &self.table.to_be_bytes());
        push_tlv(&mut ext, key::TRANSCRIPT, &self.transcript.to_be_bytes());
        if self.has_fallback {
            push_tlv(&mut ext, key::FALLBACK, &[]);
        }
        push_window(&mut ext, self.window_connection);
        ext
    }
}

/// Keys of HELLO and HELLO_ACK.
mod key {
    pub(super) const FRAME_BYTES_MAX: u16 = 1;
    pub(super) const CALLS_MAX: u16 = 2;
    pub(super) const CODECS: u16 = 3;
    pub(super) const BUILD: u16 = 4;
    pub(super) const TABLES: u16 = 5;
    pub(super) const TRANSCRIPT: u16 = 6;
    pub(super) const FALLBACK: u16 = 7;
    pub(super) const WINDOW_CONNECTION: u16 = 9;
}

fn checked(
    ext: &[u8],
    judge: fn(Tlv<'_>) -> Result<TlvRule, &'static str>,
) -> Result<Tlvs<'_>, DecodeError> {
    match check_tlvs(ext, judge) {
        Ok(()) => Ok(Tlvs::new(ext)),
        Err(TlvError::UnknownCritical(key)) => Err(DecodeError::UnknownTlv(key)), // FR-10
        Err(TlvError::Malformed(what)) => Err(malformed(what)),
    }
}

/// Keys 2, 6 and 7 are not known in a HELLO, and not judged (HS-5).
fn judge_hello(tlv: Tlv<'_>) -> Result<TlvRule, &'static str> {
    match tlv.key {
        key::CALLS_MAX | key::TRANSCRIPT | key::FALLBACK => Ok(TlvRule::Unknown),
        _ => judge(tlv),
    }
}

fn judge_ack(tlv: Tlv<'_>) -> Result<TlvRule, &'static str> {
    if tlv.key == key::TABLES && tlv.value.len() != HASH_BYTES {
        return Err("HELLO_ACK does not name exactly one table"); // HS-6
    }
    judge(tlv)
}

/// The values that the handshake keys allow (HS-6).
fn judge(tlv: Tlv<'_>) -> Result<TlvRule, &'static str> {
    let Tlv { key, value } = tlv;
    let number = value.try_into().map(u32::from_be_bytes);
    let (is_sound, why) = match key {
        key::FRAME_BYTES_MAX => {
            (number.is_ok_and(|max| max >= FRAME_BYTES_FLOOR), "frame_bytes_max is below 65536")
        }
        key::CALLS_MAX => (number.is_ok_and(|max| max >= 1), "calls_max is not 1 or more"),
        key::CODECS => (is_codec_list(value), "codecs are not 1 to 32, ascending"),
        key::BUILD => {
            let is_text = std::str::from_utf8(value).is_ok();
            (is_text && value.len() <= Hello::BUILD_BYTES_MAX, "build is not UTF-8 of 64 bytes")
        }
        key::TABLES => {
            let (hashes, rest) = value.as_chunks::<HASH_BYTES>();
            let is_sound = rest.is_empty() && hashes.len() <= Hello::TABLES_MAX;
            (is_sound, "tables are not 0 to 8 times 8 bytes")
        }
        key::FALLBACK => (value.is_empty(), "fallback has a value"),
        key::WINDOW_CONNECTION => {
            (number.is_ok_and(|max| max >= WINDOW_BYTES_FLOOR), "window_connection is below 65536")
        }
        key::TRANSCRIPT => (value.len() == HASH_BYTES, "the transcript is not 8 bytes"),
        _ => return Ok(TlvRule::Unknown),
    };
    if is_sound { Ok(TlvRule::Once) } else { Err(why) }
}

fn required<const N: usize>(tlvs: Tlvs<'_>, key: u16) -> Result<[u8; N], DecodeError> {
    let value = tlvs.find(key).ok_or(malformed("a required handshake key is missing"))?;
    value.try_into().map_err(|_| malformed("a handshake key has the wrong size")) // HS-6
}

fn codecs(tlvs: Tlvs<'_>) -> Result<Vec<u8>, DecodeError> {
    let codecs = tlvs.find(key::CODECS).ok_or(malformed("the list of codecs is missing"))?;
    Ok(codecs.to_vec())
}

fn build(tlvs: Tlvs<'_>) -> String {
    // Checked to be UTF-8; without the key it is empty.
    String::from_utf8_lossy(tlvs.find(key::BUILD).unwrap_or_default()).into_owned()
}

fn hashes(tlvs: Tlvs<'_>) -> Vec<u64> {
    let (hashes, _) = tlvs.find(key::TABLES).unwrap_or_default().as_chunks::<HASH_BYTES>();
    hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect()
}

fn window(tlvs: Tlvs<'_>) -> Option<u32> {
    tlvs.find(key::WINDOW_CONNECTION)?.try_into().ok().map(u32::from_be_bytes)
}

fn push_window(ext: &mut Vec<u8>, window: Option<u32>) {
    if let Some(bytes) = window {
        push_tlv(ext, key::WINDOW_CONNECTION, &bytes.to_be_bytes());
    }
}

/// The build text is for people: one that is too long is cut, not refused.
fn push_text(ext: &mut Vec<u8>, build: &str) {
    if !build.is_empty() {
        let end = build.floor_char_boundary(Hello::BUILD_BYTES_MAX);
        push_tlv(ext, key::BUILD, &build.as_bytes()[..end]);
    }
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what }
}

const HASH_BYTES: usize = 8;
