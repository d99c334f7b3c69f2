//! What travels as a payload: every type of serde's, and bytes as they are.
//!
//! Invariants: a type says at compile time which codecs it has a form in, so that a method whose
//! request and response have none in common does not compile, and a request in a codec that the
//! method lacks is refused before anything of it is decoded.
//! Why a trait over serde's: raw bytes and messages of protobuf are no values of serde's, and a
//! method must not care.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service::limits::{Budget, DecodeLimits};
use crate::service::{Codec, DecodeError, EncodeError, Schema, SchemaWriter, WHOLE_BYTES_MAX};
use crate::util::try_grow;

/// A value that travels as a payload.
///
/// Every type that serde can encode and decode is one. The trait exists for payloads that serde
/// does not carry.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel as a payload",
    label = "needs serde's `Serialize` and `Deserialize`, and to be `Send + 'static`",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to your own type"
)]
pub trait Payload: Sized + Send + 'static {
    /// The codecs that the type has a form in. Default: all.
    const FORMS: Forms = Forms::ALL;

    /// Appends the encoded value to `out`.
    ///
    /// # Errors
    /// [`EncodeError`] if it cannot be encoded.
    fn encode_payload(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Decodes a value from the whole of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no such value, or break a limit.
    fn decode_payload(
        codec: &Codec,
        bytes: &[u8],
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError>;

    /// As [`Payload::encode_payload`], but what ends the encoded value and is bytes already may be
    /// given back instead of appended: long ones are sent from where they are. Default: nothing
    /// is.
    ///
    /// # Errors
    /// As [`Payload::encode_payload`].
    fn encode_parts(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<Bytes, EncodeError> {
        self.encode_payload(codec, out).map(|()| Bytes::new())
    }

    /// As [`Payload::decode_payload`], of bytes that the value may keep. Default: it keeps none.
    ///
    /// # Errors
    /// As [`Payload::decode_payload`].
    fn decode_bytes(
        codec: &Codec,
        bytes: &Bytes,
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        Self::decode_payload(codec, bytes, limits)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {
    const FORMS: Forms = Forms::SERDE;

    #[inline]
    fn encode_payload(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec.encode(self, out)
    }

    #[inline]
    fn decode_payload(
        codec: &Codec,
        bytes: &[u8],
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        codec.decode(bytes, limits)
    }
}

/// Which codecs a type has a form in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Forms {
    serde: bool,
    protobuf: bool,
}

impl Forms {
    /// Every codec, as [`Raw`] has.
    pub const ALL: Self = Self { serde: true, protobuf: true };
    /// Codec 4 alone, as messages of protobuf have.
    pub const PROTOBUF: Self = Self { serde: false, protobuf: true };
    /// Every codec but 4, as types of serde's have.
    pub const SERDE: Self = Self { serde: true, protobuf: false };

    /// Whether a value has a form in this codec.
    #[must_use]
    #[inline]
    pub fn has(self, codec: &Codec) -> bool {
        if codec.is_protobuf() { self.protobuf } else { self.serde }
    }

    /// The codecs that both have.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { serde: self.serde && other.serde, protobuf: self.protobuf && other.protobuf }
    }

    /// Whether no codec is left.
    pub(crate) const fn is_empty(self) -> bool {
        !self.serde && !self.protobuf
    }
}

/// Bytes that no codec touches: the payload is what they are, under every codec (PL-16).
///
/// For what is encoded already: images, files, messages of another system. What they mean is
/// between the two sides; the fingerprint says `raw` and no more. With a message before them:
/// [`WithBytes`](crate::service::WithBytes).
///
/// ```
/// use switchback::service::{Raw, schema_text};
///
/// let raw = Raw::from(vec![1, 2, 3]);
/// assert_eq!(&raw.0[..], [1, 2, 3]);
/// assert_eq!(schema_text::<Raw>(), "raw");
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Raw(pub Bytes);

// So that the compiler does not list it to whoever has forgotten a derive.
#[diagnostic::do_not_recommend]
impl Payload for Raw {
    fn encode_payload(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        try_grow(out, self.0.len())
            .map_err(|error| EncodeError { codec_id: codec.id(), message: error.to_string() })?;
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn decode_payload(_: &Codec, bytes: &[u8], limits: &DecodeLimits) -> Result<Self, DecodeError> {
        // PL-16: nothing can be wrong with them; the copy counts as any other memory (PL-8).
        Budget::new(limits, bytes.len()).take_copy(limits, bytes.len())?;
        let mut copy = Vec::new();
        let room = copy.try_reserve_exact(bytes.len());
        room.map_err(|_| DecodeError::NoMemory { bytes: bytes.len() })?;
        copy.extend_from_slice(bytes);
        Ok(Self(copy.into()))
    }

    fn encode_parts(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<Bytes, EncodeError> {
        if self.0.len() > WHOLE_BYTES_MAX {
            return Ok(self.0.clone());
        }
        self.encode_payload(codec, out).map(|()| Bytes::new())
    }

    fn decode_bytes(_: &Codec, bytes: &Bytes, _: &DecodeLimits) -> Result<Self, DecodeError> {
        Ok(Self(bytes.clone()))
    }
}

impl Schema for Raw {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.primitive("raw");
    }
}

impl<B: Into<Bytes>> From<B> for Raw {
    fn from(bytes: B) -> Self {
        Self(bytes.into())
    }
}
