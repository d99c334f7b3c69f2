//! Codec 2: postcard 1, through serde (PL-9, PL-10).
//!
//! Invariants: encoding allocates nothing but what `out` grows by, and fails if that is not to be
//! had; decoding reads a slice, so every
//! length is checked against the bytes that remain before it is used.
//! Why its messages are poor: postcard is made for machines without an allocator, and its error
//! keeps no text of the value's own.

use postcard::ser_flavors::Flavor;
use postcard::{Deserializer, Error, serialize_with_flavor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::codec::DecodeError;
use crate::service::limits::{Budget, Limited};
use crate::util::try_grow;

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    serialize_with_flavor(value, Growing(out)).map_err(|error| match error {
        Error::SerdeSerCustom => {
            "the value's own Serialize refuses it, postcard keeps no reason".to_owned()
        }
        Error::SerializeBufferFull => "no memory for the encoded value".to_owned(),
        other => other.to_string(),
    })
}

/// The value and the bytes it took.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    budget: &Budget,
) -> Result<(T, usize), DecodeError> {
    let mut postcard = Deserializer::from_bytes(bytes);
    let decoded = T::deserialize(Limited::root::<T>(&mut postcard, budget))
        .and_then(|value| Ok((value, bytes.len() - postcard.finalize()?.len())));
    decoded.map_err(|error| explain(&error, bytes.len()))
}

/// A vector as the encoder's output.
struct Growing<'a>(&'a mut Vec<u8>);

impl Flavor for Growing<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        try_grow(self.0, bytes.len()).map_err(|_| Error::SerializeBufferFull)?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cold]
fn explain(error: &Error, len_bytes: usize) -> DecodeError {
    let message = match error {
        Error::DeserializeUnexpectedEnd => {
            return DecodeError::Truncated { missing_bytes: 1, len_bytes };
        }
        Error::DeserializeBadVarint => "an integer is too long or too large for its type",
        Error::DeserializeBadBool => "a bool is neither 0 nor 1",
        Error::DeserializeBadChar => "a character is not one in UTF-8",
        Error::DeserializeBadUtf8 => "a string is not UTF-8",
        Error::DeserializeBadOption => "an option is neither 0 nor 1",
        Error::SerdeDeCustom => "the type refuses the value, postcard keeps no reason",
        other => return DecodeError::Malformed { message: other.to_string() },
    };
    DecodeError::Malformed { message: message.to_owned() }
}
