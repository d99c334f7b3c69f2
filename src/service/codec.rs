//! Payload codecs: a value to bytes and back, under the limits of `limits`.
//!
//! Invariants: a failed encoding leaves the output as it was; a successful decoding has used every
//! byte; no codec is trusted to keep the limits by itself, custom ones decode through the same
//! wrapper (protobuf, which serde does not carry, has limits of its own: `proto`). Ids are those of
//! PL-1, 128 to 255 are free for private use.
//! Why bincode's borrowing decoder although the result is owned: it reads a slice, so it finds a
//! string's length wrong before it allocates; the owning one allocates what a peer declared.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "bincode")]
use crate::service::bincode_format;
#[cfg(feature = "json")]
use crate::service::json;
use crate::service::limits::{Budget, DecodeLimits, Limited};
#[cfg(feature = "postcard")]
use crate::service::postcard_format;
use crate::util::{OutOfMemory, probe};

/// How values become bytes: one of those built in, or an encoding of the user's.
///
/// Two codecs are equal if they have the same id on the wire.
///
/// A client chooses, `Channel::builder().codec(..)`; a server has all that are built in, and
/// answers each request in its own.
///
/// ```
/// # #[cfg(feature = "json")]
/// # fn run(address: &str) -> Result<(), switchback::Error> {
/// use switchback::{Channel, Codec};
///
/// let channel = Channel::builder().codec(Codec::JSON).lazy(address)?;
/// # let _ = channel;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Codec(Kind);

impl Codec {
    /// Codec 1: bincode 2, standard configuration.
    #[cfg(feature = "bincode")]
    pub const BINCODE: Self = Self(Kind::Bincode);
    /// Codec 2: postcard 1.
    #[cfg(feature = "postcard")]
    pub const POSTCARD: Self = Self(Kind::Postcard);
    /// Codec 3: JSON. An error of decoding names the path to the field: `$.tags[3].name: ...`.
    #[cfg(feature = "json")]
    pub const JSON: Self = Self(Kind::Json);
    /// Codec 4: protobuf. It carries [`Proto`](crate::service::Proto) and
    /// [`Raw`](crate::service::Raw), nothing else.
    #[cfg(feature = "protobuf")]
    pub const PROTOBUF: Self = Self(Kind::Protobuf);

    /// The codecs this build has, ascending by id.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        vec![
            #[cfg(feature = "bincode")]
            Self::BINCODE,
            #[cfg(feature = "postcard")]
            Self::POSTCARD,
            #[cfg(feature = "json")]
            Self::JSON,
            #[cfg(feature = "protobuf")]
            Self::PROTOBUF,
        ]
    }

    /// A codec of the user's own.
    ///
    /// # Errors
    /// [`CodecIdError`] if its id is not one for private use, 128 to 255.
    pub fn custom(codec: Arc<dyn CustomCodec>) -> Result<Self, CodecIdError> {
        // Asked once, so that it stays the same whatever the implementation answers later.
        let id = codec.id();
        if id < CUSTOM_ID_MIN {
            return Err(CodecIdError { id });
        }
        Ok(Self(Kind::Custom { id, codec }))
    }

    /// The number on the wire.
    #[must_use]
    pub fn id(&self) -> u8 {
        match &self.0 {
            #[cfg(feature = "bincode")]
            Kind::Bincode => BINCODE_ID,
            #[cfg(feature = "postcard")]
            Kind::Postcard => POSTCARD_ID,
            #[cfg(feature = "json")]
            Kind::Json => JSON_ID,
            #[cfg(feature = "protobuf")]
            Kind::Protobuf => PROTOBUF_ID,
            Kind::Custom { id, .. } => *id,
        }
    }

    /// The name for people: logs, errors, metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Kind::Custom { codec, .. } => codec.name(),
            #[cfg(any(
                feature = "bincode",
                feature = "json",
                feature = "postcard",
                feature = "protobuf"
            ))]
            _ => name_of(self.id()).expect("every id that is built in has a name below"),
        }
    }

    /// Whether this is codec 4, which carries messages of protobuf and nothing of serde's.
    pub(crate) fn is_protobuf(&self) -> bool {
        #[cfg(feature = "protobuf")]
        return matches!(self.0, Kind::Protobuf);
        #[cfg(not(feature = "protobuf"))]
        false
    }

    /// Appends the encoded value to `out`. If it fails or panics, `out` holds what it held before.
    ///
    /// # Errors
    /// [`EncodeError`] if the value's `Serialize` or the codec refuses it.
    pub fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let append = Append::to(out);
        let encoded = match &self.0 {
            #[cfg(feature = "bincode")]
            Kind::Bincode => bincode_format::encode(value, append.out),
            #[cfg(feature = "postcard")]
            Kind::Postcard => postcard_format::encode(value, append.out),
            #[cfg(feature = "json")]
            Kind::Json => json::encode(value, append.out),
            #[cfg(feature = "protobuf")]
            Kind::Protobuf => Err(NOT_PROTOBUF.to_owned()),
            // `&T` because a trait object is made of a sized type only.
            Kind::Custom { codec, .. } => codec.encode(&value, append.out),
        };
        match encoded {
            Ok(()) => {
                append.keep();
                Ok(())
            }
            Err(message) => Err(EncodeError { codec_id: self.id(), message }),
        }
    }

    /// Decodes a value from the whole of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no such value, are too many or too few, or break a limit.
    #[inline]
    pub fn decode<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        limits: &DecodeLimits,
    ) -> Result<T, DecodeError> {
        probe_for(bytes)?;
        let budget = Budget::new(limits, bytes.len());
        let decoded = match &self.0 {
            #[cfg(feature = "bincode")]
            Kind::Bincode => bincode_format::decode(bytes, &budget),
            #[cfg(feature = "postcard")]
            Kind::Postcard => postcard_format::decode(bytes, &budget),
            #[cfg(feature = "json")]
            Kind::Json => json::decode(bytes, &budget),
            #[cfg(feature = "protobuf")]
            Kind::Protobuf => Err(DecodeError::Malformed { message: NOT_PROTOBUF.to_owned() }),
            Kind::Custom { codec, .. } => decode_custom(&**codec, bytes, &budget),
        };
        // Nothing may be left over (PL-4).
        // A broken limit comes first: neither an own `Deserialize` nor a codec may swallow it.
        match (budget.broken(), decoded) {
            (None, Ok((value, used_bytes))) if used_bytes == bytes.len() => Ok(value),
            (None, Ok((_, used_bytes))) => {
                Err(DecodeError::Leftover { used_bytes, len_bytes: bytes.len() })
            }
            (None, Err(error)) => Err(error),
            (Some(broken), _) => Err(broken.explain(limits)),
        }
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Codec {}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "bincode")]
    Bincode,
    Custom {
        id: u8,
        codec: Arc<dyn CustomCodec>,
    },
    #[cfg(feature = "json")]
    Json,
    #[cfg(feature = "postcard")]
    Postcard,
    #[cfg(feature = "protobuf")]
    Protobuf,
}

/// Codec ids for people: `bincode (1), json (3)`.
#[derive(Debug)]
pub(crate) struct CodecIds<'a>(pub(crate) &'a [u8]);

impl fmt::Display for CodecIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, id) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            match name_of(*id) {
                Some(name) => write!(f, "{comma}{name} ({id})")?,
                None => write!(f, "{comma}codec {id}")?,
            }
        }
        if self.0.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// The name of an id of PL-1, whether or not this build has the codec.
const fn name_of(id: u8) -> Option<&'static str> {
    match id {
        BINCODE_ID => Some("bincode"),
        POSTCARD_ID => Some("postcard"),
        JSON_ID => Some("json"),
        PROTOBUF_ID => Some("protobuf"),
        _ => None,
    }
}

/// An encoding of the user's own, for [`Codec::custom`].
///
/// An implementation checks the length of a string or byte buffer against the bytes it has before
/// it allocates. Depth, numbers of elements, reserved room and the memory of the value are checked
/// for it; memory of its own is not.
pub trait CustomCodec: Send + Sync {
    /// The number on the wire, 128 to 255.
    fn id(&self) -> u8;

    /// The name for people.
    fn name(&self) -> &str;

    /// Appends the encoded value to `out`.
    ///
    /// # Errors
    /// A message, if the value cannot be encoded.
    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut Vec<u8>) -> Result<(), String>;

    /// Hands a deserializer over `bytes` to `visit`, once, and returns how many bytes were used.
    ///
    /// # Errors
    /// A message, if `visit` failed (its error, then) or the bytes are not well formed.
    fn decode(
        &self,
        bytes: &[u8],
        visit: &mut dyn FnMut(
            &mut dyn erased_serde::Deserializer<'_>,
        ) -> Result<(), erased_serde::Error>,
    ) -> Result<usize, String>;
}

/// A value that could not be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("codec {codec_id} cannot encode the value: {message}")]
#[non_exhaustive]
pub struct EncodeError {
    /// The codec's number on the wire.
    pub codec_id: u8,
    /// What the value's `Serialize` or the codec says.
    pub message: String,
}

/// Bytes that are not a value of the wanted type, or break a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Values are nested too deep.
    #[error("values are nested more than {limit} deep")]
    Depth {
        /// [`DecodeLimits::depth_max`].
        limit: u32,
    },
    /// Sequences and maps hold, or say that they hold, too many elements.
    #[error("{seen} elements, more than {limit}")]
    Elements {
        /// Elements so far, and those that were about to come.
        seen: u64,
        /// [`DecodeLimits::elements_max`].
        limit: u64,
    },
    /// The value ended before its bytes did.
    #[error("the value takes {used_bytes} of {len_bytes} bytes")]
    Leftover {
        /// Bytes that the value took.
        used_bytes: usize,
        /// Bytes there are.
        len_bytes: usize,
    },
    /// The bytes are no value of this type.
    #[error("{message}")]
    Malformed {
        /// What the type's `Deserialize` or the codec says.
        message: String,
    },
    /// The value takes too much memory for the length of its bytes.
    #[error("{seen_bytes} bytes of memory, more than {limit_bytes}")]
    Memory {
        /// Memory so far, and that which was about to be taken.
        seen_bytes: u64,
        /// [`DecodeLimits::memory_base_bytes`], and [`DecodeLimits::memory_factor`] times the bytes
        /// there are.
        limit_bytes: u64,
    },
    /// There is no memory now for what the value may take. Seen before decoding, for large ones.
    #[error("no memory for {bytes} bytes")]
    NoMemory {
        /// Twice the bytes there are.
        bytes: usize,
    },
    /// A number, or a string of the declared length, needs more bytes than there are.
    #[error("at least {missing_bytes} more bytes are needed than the {len_bytes} there are")]
    Truncated {
        /// Bytes that the next part of the value lacks.
        missing_bytes: usize,
        /// Bytes there are, those already used included.
        len_bytes: usize,
    },
}

/// A custom codec's id that is not one for private use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("codec id {id} is not for private use, which is {CUSTOM_ID_MIN} to 255")]
#[non_exhaustive]
pub struct CodecIdError {
    /// The id that was refused.
    pub id: u8,
}

/// Output that is taken back unless it is kept: a panic in the user's `Serialize` included.
pub(crate) struct Append<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    len_before: usize,
}

impl<'a> Append<'a> {
    pub(crate) fn to(out: &'a mut Vec<u8>) -> Self {
        let len_before = out.len();
        Self { out, len_before }
    }

    pub(crate) fn keep(mut self) {
        self.len_before = usize::MAX;
    }
}

impl Drop for Append<'_> {
    fn drop(&mut self) {
        // Truncating to more than there is does nothing.
        self.out.truncate(self.len_before);
    }
}

fn decode_custom<T: DeserializeOwned>(
    codec: &dyn CustomCodec,
    bytes: &[u8],
    budget: &Budget,
) -> Result<(T, usize), DecodeError> {
    let mut value = None;
    let used_bytes = codec
        .decode(bytes, &mut |deserializer| {
            value = Some(T::deserialize(Limited::root::<T>(deserializer, budget))?);
            Ok(())
        })
        .map_err(|message| DecodeError::Malformed { message })?;
    match value {
        Some(value) => Ok((value, used_bytes)),
        None => {
            let message = format!("codec {} produced no value and no error", codec.name());
            Err(DecodeError::Malformed { message })
        }
    }
}

/// Whether there is memory to decode a payload that is large.
#[inline]
pub(crate) fn probe_for(payload: &[u8]) -> Result<(), DecodeError> {
    if payload.len() >= PROBED_BYTES_MIN {
        let bytes = payload.len().saturating_mul(PROBE_FACTOR);
        probe(bytes).map_err(|OutOfMemory { bytes }| DecodeError::NoMemory { bytes })?;
    }
    Ok(())
}

/// Payloads from here on are decoded only if there is memory for `PROBE_FACTOR` times as much: what
/// a string or a vector of bytes takes while it grows. What `Deserialize` allocates cannot be
/// refused, and ends the process when it fails.
const PROBED_BYTES_MIN: usize = 1024 * 1024;
const PROBE_FACTOR: usize = 2;
// The numbers of PL-1.
const BINCODE_ID: u8 = 1;
const POSTCARD_ID: u8 = 2;
const JSON_ID: u8 = 3;
const PROTOBUF_ID: u8 = 4;
/// The lowest codec id for private use.
const CUSTOM_ID_MIN: u8 = 128;

/// Why a value of serde's has no form in codec 4.
#[cfg(feature = "protobuf")]
const NOT_PROTOBUF: &str = "protobuf carries messages only: `Proto<M>` around one of prost's";

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serializer};

    use super::*;
    use crate::service::Payload;

    /// JSON, as a user would plug it in.
    struct Json {
        id: u8,
    }

    impl CustomCodec for Json {
        fn id(&self) -> u8 {
            self.id
        }

        fn name(&self) -> &str {
            "json"
        }

        fn encode(
            &self,
            value: &dyn erased_serde::Serialize,
            out: &mut Vec<u8>,
        ) -> Result<(), String> {
            serde_json::to_writer(out, value).map_err(|error| error.to_string())
        }

        fn decode(
            &self,
            bytes: &[u8],
            visit: &mut dyn FnMut(
                &mut dyn erased_serde::Deserializer<'_>,
            ) -> Result<(), erased_serde::Error>,
        ) -> Result<usize, String> {
            let mut json = serde_json::Deserializer::from_slice(bytes);
            visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json))
                .map_err(|error| error.to_string())?;
            json.end().map_err(|error| error.to_string())?;
            Ok(bytes.len())
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested {
        next: Option<Box<Self>>,
    }

    fn nest(next: Nested) -> Nested {
        Nested { next: Some(Box::new(next)) }
    }

    fn nest_end() -> Nested {
        Nested { next: None }
    }

    fn json() -> Codec {
        Codec::custom(Arc::new(Json { id: 200 })).unwrap()
    }

    /// A type whose encoding fails after it has written something.
    struct Half {
        panics: bool,
    }

    impl Serialize for Half {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(2)?;
            tuple.serialize_element("written")?;
            assert!(!self.panics, "in the middle");
            Err(serde::ser::Error::custom("half a value"))
        }
    }

    /// Those that carry values of serde's.
    fn all() -> Vec<Codec> {
        let mut all = Codec::built_in();
        all.retain(|codec| !codec.is_protobuf());
        all.push(json());
        all
    }

    /// Ids below 128 belong to the specification.
    #[test]
    fn custom_ids_are_private_ones() {
        assert_eq!(Codec::custom(Arc::new(Json { id: 127 })), Err(CodecIdError { id: 127 }));
        assert_eq!(Codec::custom(Arc::new(Json { id: 128 })).unwrap().id(), 128);
        assert_eq!(format!("{:?}", json()), "Codec { id: 200, name: \"json\" }");
    }

    /// What failed or panicked is taken back, what was there before stays.
    #[test]
    fn failed_encodings_leave_nothing() {
        for codec in all() {
            let mut out = vec![1, 2, 3];

            let error = codec.encode(&Half { panics: false }, &mut out).unwrap_err();
            // Postcard's error has no room for a message.
            let is_told = error.message.contains("half a value");
            assert!(is_told || codec.name() == "postcard", "{error}");
            assert_eq!(out, [1, 2, 3]);

            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                codec.encode(&Half { panics: true }, &mut out)
            }));
            assert!(panicked.is_err());
            assert_eq!(out, [1, 2, 3]);
        }
    }

    /// Values come back from every codec, appended after what was there.
    #[test]
    fn values_round_trip() {
        for codec in all() {
            let value = (7_u64, "name".to_owned(), nest(nest_end()));
            let mut out = vec![9];
            value.encode_payload(&codec, &mut out).unwrap();

            let limits = DecodeLimits::default();
            let decoded = <(u64, String, Nested)>::decode_payload(&codec, &out[1..], &limits);
            assert_eq!(decoded, Ok(value));
        }
    }

    /// The wrapper's limits hold for a codec that knows nothing of them.
    #[test]
    fn limits_hold_for_custom_codecs() {
        let mut limits = DecodeLimits { elements_max: 3, ..DecodeLimits::default() };
        assert_eq!(json().decode::<Vec<u8>>(b"[1,2,3]", &limits), Ok(vec![1, 2, 3]));
        assert_eq!(
            json().decode::<Vec<u8>>(b"[1,2,3,4]", &limits),
            Err(DecodeError::Elements { seen: 4, limit: 3 })
        );

        // JSON declares no length: room for 4, then for 8 beside it.
        limits = DecodeLimits { memory_base_bytes: 95, memory_factor: 0, ..limits };
        assert_eq!(json().decode::<Vec<u64>>(b"[1,2,3]", &limits), Ok(vec![1, 2, 3]));
        limits.elements_max = 5;
        assert_eq!(
            json().decode::<Vec<u64>>(b"[1,2,3,4,5]", &limits),
            Err(DecodeError::Memory { seen_bytes: 96, limit_bytes: 95 })
        );
        limits = DecodeLimits::default();

        let mut deep = nest_end();
        for _ in 0..40 {
            deep = nest(deep);
        }
        let mut out = Vec::new();
        json().encode(&deep, &mut out).unwrap();
        limits.depth_max = 80;
        assert_eq!(json().decode::<Nested>(&out, &limits), Err(DecodeError::Depth { limit: 80 }));
        limits.depth_max = 81;
        assert_eq!(json().decode::<Nested>(&out, &limits), Ok(deep));
    }

    /// A type that hides errors cannot hide a broken limit.
    #[test]
    fn broken_limits_cannot_be_swallowed() {
        #[derive(Debug, PartialEq)]
        struct Lenient;
        impl<'de> Deserialize<'de> for Lenient {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let _ = Vec::<()>::deserialize(from);
                Ok(Self)
            }
        }

        let limits = DecodeLimits { elements_max: 1, ..DecodeLimits::default() };
        assert_eq!(
            json().decode::<Lenient>(b"[null,null]", &limits),
            Err(DecodeError::Elements { seen: 2, limit: 1 })
        );
    }
}
