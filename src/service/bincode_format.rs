//! Codec 1: bincode 2 in its standard configuration, through serde (PL-2, PL-3).
//!
//! Invariants: encoding allocates nothing but what `out` grows by, and fails if that is not to be
//! had; decoding reads a slice, so every length is checked against the bytes that remain before it
//! is used.
//! Why bincode's own decoder and not one of ours: with a seed it goes through our wrapper, which
//! turns owned strings into borrowed ones, and then nothing in it believes a declared length.

use bincode::config::{Configuration, standard};
use bincode::enc::write::Writer;
use bincode::error as format_error;
use bincode::serde::{encode_into_writer, seed_decode_from_slice};
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer};

use crate::service::codec::DecodeError;
use crate::service::limits::{Budget, Limited};
use crate::util::{OutOfMemory, try_grow};

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    encode_into_writer(value, Growing(out), CONFIG).map_err(|error| match error {
        format_error::EncodeError::OtherString(message) => message,
        other => format!("{other:?}"),
    })
}

/// The value and the bytes it took.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    budget: &Budget,
) -> Result<(T, usize), DecodeError> {
    let seed = Root { budget, marker: std::marker::PhantomData };
    seed_decode_from_slice(seed, bytes, CONFIG).map_err(|error| explain(error, bytes.len()))
}

/// The seed of the outermost value.
struct Root<'b, T> {
    budget: &'b Budget,
    marker: std::marker::PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Root<'_, T> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::deserialize(Limited::root::<T>(deserializer, self.budget))
    }
}

/// A vector as the encoder's output.
struct Growing<'a>(&'a mut Vec<u8>);

impl Writer for Growing<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), format_error::EncodeError> {
        if bytes.len() > self.0.capacity() - self.0.len() {
            return self.write_growing(bytes);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Growing<'_> {
    // Apart, so that a write that fits is one comparison and cannot fail.
    #[cold]
    #[inline(never)]
    fn write_growing(&mut self, bytes: &[u8]) -> Result<(), format_error::EncodeError> {
        try_grow(self.0, bytes.len()).map_err(no_memory)?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

#[cold]
fn no_memory(error: OutOfMemory) -> format_error::EncodeError {
    format_error::EncodeError::OtherString(error.to_string())
}

#[cold]
fn explain(error: format_error::DecodeError, len_bytes: usize) -> DecodeError {
    use format_error::DecodeError as Format;
    let message = match error {
        Format::UnexpectedEnd { additional } => {
            return DecodeError::Truncated { missing_bytes: additional, len_bytes };
        }
        Format::OtherString(message) => message,
        Format::Other(message) => message.to_owned(),
        Format::Utf8 { inner } => format!("a string is not UTF-8: {inner}"),
        Format::InvalidBooleanValue(byte) => format!("{byte} is no bool"),
        other => format!("{other:?}"),
    };
    DecodeError::Malformed { message }
}

const CONFIG: Configuration = standard();
