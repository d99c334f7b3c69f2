//! JSON by serde_json: its forms are those of PL-12, its objects those of PL-13; strict where it
//! would lose a value in silence (PL-14).
//!
//! Invariants: the text is checked for UTF-8 as a whole (PL-11), so that no string needs to be,
//! skipped ones included; the wrapper sees every level that makes serde_json recurse, so its own
//! limit is off: at two levels of JSON for one of the type (PL-6) it would refuse what is legal.
//! Memory: serde_json unescapes a string in a buffer of its own before the wrapper charges the
//! copy, three times the payload at most while that buffer grows.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Deserializer, Error, Serializer};

use crate::service::codec::DecodeError;
use crate::service::json::path::path_at;
use crate::service::json::strict::Strict;
use crate::service::limits::{Budget, Limited};
use crate::util::try_grow;

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    let mut json = Serializer::new(Growing(out));
    value.serialize(Strict::root(&mut json)).map_err(|error| error.to_string())
}

/// A vector as the encoder's output, which fails if there is no memory.
struct Growing<'a>(&'a mut Vec<u8>);

impl io::Write for Growing<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        try_grow(self.0, bytes.len()).map_err(io::Error::other)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value and the bytes it took, white space after it included.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    budget: &Budget,
) -> Result<(T, usize), DecodeError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let message = format!("not UTF-8 after {} bytes", error.valid_up_to());
        DecodeError::Malformed { message }
    })?;
    let mut json = Deserializer::from_str(text);
    json.disable_recursion_limit();
    match T::deserialize(Limited::root::<T>(&mut json, budget)) {
        Ok(value) => {
            Ok((value, json.end().map_or_else(|error| before(&error, text), |()| bytes.len())))
        }
        Err(error) => Err(explain(&error, text)),
    }
}

/// The error with the path to the value it is about, which is looked for only here.
#[cold]
fn explain(error: &Error, text: &str) -> DecodeError {
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = whole.strip_suffix(&place).unwrap_or(&whole);
    // It quotes what it refuses, which may be as long as the payload.
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let message = match error.classify() {
        Category::Eof => {
            return DecodeError::Truncated { missing_bytes: 1, len_bytes: text.len() };
        }
        Category::Data => format!("{}: {reason}", path_at(text, offset(error, text))),
        Category::Io | Category::Syntax => {
            let at = before(error, text);
            format!("{}: {reason} at byte {at}", path_at(text, at))
        }
    };
    DecodeError::Malformed { message }
}

/// The bytes that serde_json had read.
fn offset(error: &Error, text: &str) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let line: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    (line + error.column()).min(text.len())
}

/// The same without the byte that it stumbled over: always less than there are.
fn before(error: &Error, text: &str) -> usize {
    offset(error, text).saturating_sub(1)
}

/// Of serde's reason; enough for a list of names that would have been right.
const REASON_BYTES_MAX: usize = 512;
