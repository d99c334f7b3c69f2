//! HELLO and HELLO_ACK: what each side tells the other before the first answer.
//!
//! Invariant: a value made by `parse` holds every required key with a legal size and range
//! (HS-4, HS-5); what is optional is `None` or empty.

use crate::wire::{DecodeError, FRAME_BYTES_FLOOR, TlvError, Tlvs, check_tlvs, push_tlv};

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
}

impl Hello {
    /// Table hashes in one HELLO, at most.
    pub const TABLES_MAX: usize = 8;
    /// Bytes of the build text, at most.
    pub const BUILD_BYTES_MAX: usize = 64;
    /// Codecs listed, at most.
    pub const CODECS_MAX: usize = 32;

    /// Reads the TLVs of a HELLO.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] and [`DecodeError::UnknownTlv`].
    pub fn parse(ext: &[u8]) -> Result<Self, DecodeError> {
        let tlvs = checked(ext)?;
        Ok(Self {
            frame_bytes_max: frame_bytes_max(tlvs)?,
            codecs: codecs(tlvs)?,
            build: build(tlvs)?,
            tables: hashes(tlvs)?,
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
        ext
    }
}

impl HelloAck {
    /// Reads the TLVs of a HELLO_ACK.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] and [`DecodeError::UnknownTlv`].
    pub fn parse(ext: &[u8]) -> Result<Self, DecodeError> {
        let tlvs = checked(ext)?;
        let [table] = hashes(tlvs)?[..] else {
            return Err(malformed("HELLO_ACK names exactly one table"));
        };
        let calls_max = u32::from_be_bytes(required(tlvs, key::CALLS_MAX)?);
        if calls_max == 0 {
            return Err(malformed("calls_max is 0"));
        }
        Ok(Self {
            frame_bytes_max: frame_bytes_max(tlvs)?,
            calls_max,
            codecs: codecs(tlvs)?,
            build: build(tlvs)?,
            table,
            transcript: u64::from_be_bytes(required(tlvs, key::TRANSCRIPT)?),
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
}

fn checked(ext: &[u8]) -> Result<Tlvs<'_>, DecodeError> {
    let known = |key| (key::FRAME_BYTES_MAX..=key::TRANSCRIPT).contains(&key);
    match check_tlvs(ext, known, |_| false) {
        Ok(()) => Ok(Tlvs::new(ext)),
        Err(TlvError::UnknownCritical(key)) => Err(DecodeError::UnknownTlv(key)),
        Err(TlvError::Malformed(what)) => Err(malformed(what)),
    }
}

fn required<const N: usize>(tlvs: Tlvs<'_>, key: u16) -> Result<[u8; N], DecodeError> {
    let value = tlvs.find(key).ok_or(malformed("a required handshake key is missing"))?;
    value.try_into().map_err(|_| malformed("a handshake key has the wrong size"))
}

fn frame_bytes_max(tlvs: Tlvs<'_>) -> Result<u32, DecodeError> {
    let max = u32::from_be_bytes(required(tlvs, key::FRAME_BYTES_MAX)?);
    if max < FRAME_BYTES_FLOOR {
        return Err(malformed("frame_bytes_max is below 65536"));
    }
    Ok(max)
}

fn codecs(tlvs: Tlvs<'_>) -> Result<Vec<u8>, DecodeError> {
    let codecs = tlvs.find(key::CODECS).ok_or(malformed("the list of codecs is missing"))?;
    if codecs.is_empty() || codecs.len() > Hello::CODECS_MAX {
        return Err(malformed("the list of codecs has not 1 to 32 entries"));
    }
    if !codecs.is_sorted_by(|a, b| a < b) {
        return Err(malformed("codecs do not ascend"));
    }
    Ok(codecs.to_vec())
}

fn build(tlvs: Tlvs<'_>) -> Result<String, DecodeError> {
    let Some(build) = tlvs.find(key::BUILD) else {
        return Ok(String::new());
    };
    if build.len() > Hello::BUILD_BYTES_MAX {
        return Err(malformed("the build text is over 64 bytes"));
    }
    match std::str::from_utf8(build) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(malformed("the build text is not UTF-8")),
    }
}

fn hashes(tlvs: Tlvs<'_>) -> Result<Vec<u64>, DecodeError> {
    let (hashes, rest) = tlvs.find(key::TABLES).unwrap_or_default().as_chunks::<8>();
    if !rest.is_empty() || hashes.len() > Hello::TABLES_MAX {
        return Err(malformed("table hashes are not 0 to 8 times 8 bytes"));
    }
    Ok(hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect())
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
