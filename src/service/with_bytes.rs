//! A message and raw bytes beside it, as one payload (PL-17).
//!
//! ```text
//!   message_len:4 BE   message, in the call's codec   bytes, to the end
//! ```
//!
//! Invariants: no codec touches the bytes; where the payload may be kept they are part of it, and
//! long ones are sent from where they are. What precedes them is `T`'s alone, within its limits.
//! Why the length in front: the message is decoded from a slice, so that every codec's check for
//! what is left over holds as it does without bytes, and none has to say where it ended.

use bytes::Bytes;

use crate::service::codec::Append;
use crate::service::{Codec, DecodeError, DecodeLimits, EncodeError, Forms, Payload, Raw};
use crate::service::{Schema, SchemaWriter};
use crate::util::try_grow;

/// A typed message and bytes that no codec touches, as request, response or error of a method.
///
/// For a file and its name, an image and its size: the message is encoded in the call's codec, the
/// bytes are sent as they are. Bytes of more than 16 KiB are copied neither when they are sent to a
/// peer that takes pieces, nor when a payload of more than that comes in: they are a part of what
/// was received then, and keep all of it in memory for as long as they live.
///
/// `T` is any type that is a [`Payload`] but [`Raw`] and another `WithBytes`, whose schemas are
/// refused (`# Panics` of [`schema_text`](crate::service::schema_text)). The message is decoded
/// within the limits of a payload of its own length. The bytes are limited by the frame, and where
/// they have to be copied, by [`DecodeLimits`] as [`Raw`] is.
///
/// ```
/// use bytes::Bytes;
/// use serde::{Deserialize, Serialize};
/// use switchback::Schema;
/// use switchback::service::{WithBytes, schema_text};
///
/// #[derive(Deserialize, Schema, Serialize)]
/// struct Upload {
///     name: String,
/// }
///
/// let message = Upload { name: "cat.png".into() };
/// let upload = WithBytes { message, bytes: Bytes::from_static(b"\x89PNG") };
/// assert_eq!(upload.bytes.len(), 4);
/// assert_eq!(schema_text::<WithBytes<Upload>>(), "struct{name:str}+raw");
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct WithBytes<T> {
    /// What the codec encodes.
    pub message: T,
    /// What it does not touch. None at all are legal.
    pub bytes: Bytes,
}

// So that the compiler does not list it to whoever has forgotten a derive.
#[diagnostic::do_not_recommend]
impl<T: Payload> Payload for WithBytes<T> {
    const FORMS: Forms = T::FORMS;

    fn encode_payload(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let append = Append::to(out);
        encode_message(&self.message, codec, append.out)?;
        // A handle to the same memory, not a copy.
        Raw(self.bytes.clone()).encode_payload(codec, append.out)?;
        append.keep();
        Ok(())
    }

    fn decode_payload(
        codec: &Codec,
        bytes: &[u8],
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        let (message, beside) = bytes.split_at(LEN_BYTES + message_len(bytes)?);
        let message = T::decode_payload(codec, &message[LEN_BYTES..], limits)?;
        Ok(Self { message, bytes: Raw::decode_payload(codec, beside, limits)?.0 })
    }

    fn encode_parts(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<Bytes, EncodeError> {
        let append = Append::to(out);
        encode_message(&self.message, codec, append.out)?;
        let apart = Raw(self.bytes.clone()).encode_parts(codec, append.out)?;
        append.keep();
        Ok(apart)
    }

    fn decode_bytes(
        codec: &Codec,
        bytes: &Bytes,
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        let end = LEN_BYTES + message_len(bytes)?;
        let message = T::decode_bytes(codec, &bytes.slice(LEN_BYTES..end), limits)?;
        Ok(Self { message, bytes: bytes.slice(end..) })
    }
}

impl<T: Schema> Schema for WithBytes<T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.beside_raw::<T>();
    }
}

/// Appends the message behind its length.
fn encode_message<T: Payload>(
    message: &T,
    codec: &Codec,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let fail = |message| EncodeError { codec_id: codec.id(), message };
    let len_at = out.len();
    try_grow(out, LEN_BYTES).map_err(|error| fail(error.to_string()))?;
    out.extend_from_slice(&[0; LEN_BYTES]);
    let message_at = out.len();
    message.encode_payload(codec, out)?;
    let len_bytes = out.len() - message_at;
    let len = u32::try_from(len_bytes).map_err(|_| {
        fail(format!("the message takes {len_bytes} bytes, more than {} may stand", u32::MAX))
    })?;
    out[len_at..message_at].copy_from_slice(&len.to_be_bytes());
    Ok(())
}

/// The length of the message; that many bytes are there.
fn message_len(payload: &[u8]) -> Result<usize, DecodeError> {
    let truncated =
        |missing_bytes| DecodeError::Truncated { missing_bytes, len_bytes: payload.len() };
    let Some((len, rest)) = payload.split_first_chunk::<LEN_BYTES>() else {
        return Err(truncated(LEN_BYTES - payload.len()));
    };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    if len > rest.len() { Err(truncated(len - rest.len())) } else { Ok(len) }
}

const LEN_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::{WHOLE_BYTES_MAX, schema_text};

    type Message = (u64, String, Option<Vec<u16>>);

    fn codecs() -> Vec<Codec> {
        let mut codecs = Codec::built_in();
        codecs.retain(|codec| <WithBytes<Message> as Payload>::FORMS.has(codec));
        codecs
    }

    fn encoded<T: Payload>(codec: &Codec, value: &T) -> Vec<u8> {
        let mut out = vec![1, 2, 3];
        value.encode_payload(codec, &mut out).unwrap();
        out.split_off(3)
    }

    /// Whether `part` is a piece of the memory of `whole`.
    fn is_within(part: &Bytes, whole: &Bytes) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    proptest! {
        /// PL-17: the length, the message as it is alone, the bytes; and back, from a buffer and
        /// from bytes, of which what comes back is a part. Shorter by anything, it is refused or
        /// has so many bytes less.
        #[test]
        fn pl_17_a_message_and_its_bytes_come_back(
            message: (u64, String, Option<Vec<u16>>),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let limits = DecodeLimits::default();
            for codec in codecs() {
                let alone = encoded(&codec, &message);
                let value = WithBytes { message: message.clone(), bytes: bytes.clone().into() };
                let payload = encoded(&codec, &value);
                let len = u32::try_from(alone.len()).unwrap().to_be_bytes();
                prop_assert_eq!(&payload, &[&len[..], &alone, &bytes].concat());

                let whole = Bytes::from(payload);
                for cut in 0..=whole.len() {
                    let cut = whole.slice(..cut);
                    let copied = WithBytes::<Message>::decode_payload(&codec, &cut, &limits);
                    let kept = WithBytes::<Message>::decode_bytes(&codec, &cut, &limits);
                    prop_assert_eq!(&copied, &kept);
                    let needed = if cut.len() < 4 { 4 } else { 4 + alone.len() };
                    if let Some(missing_bytes @ 1..) = needed.checked_sub(cut.len()) {
                        let len_bytes = cut.len();
                        let error = DecodeError::Truncated { missing_bytes, len_bytes };
                        prop_assert_eq!(kept, Err(error));
                        continue;
                    }
                    let (copied, kept) = (copied.unwrap(), kept.unwrap());
                    prop_assert_eq!(&kept.message, &message);
                    prop_assert_eq!(&kept.bytes, &bytes[..cut.len() - needed]);
                    if !kept.bytes.is_empty() {
                        prop_assert!(is_within(&kept.bytes, &whole));
                        prop_assert!(!is_within(&copied.bytes, &whole));
                    }
                }
            }
        }

        /// Any bytes are decoded or refused, and what was decoded is encoded to a payload that says
        /// the same.
        #[test]
        fn pl_17_any_bytes_are_judged(
            len in prop_oneof![0_u32..20, any::<u32>()],
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let payload = Bytes::from([&len.to_be_bytes()[..], &rest].concat());
            for codec in codecs() {
                let limits = DecodeLimits::default();
                let decode = |payload| {
                    WithBytes::<(u8, Option<u16>)>::decode_bytes(&codec, payload, &limits)
                };
                if let Ok(value) = decode(&payload) {
                    prop_assert_eq!(decode(&encoded(&codec, &value).into()), Ok(value));
                }
            }
        }
    }

    /// A message's end is where its length says, and nowhere else (PL-4).
    #[test]
    fn a_wrong_length_is_refused() {
        for codec in codecs() {
            let value = WithBytes { message: (7_u64, "abc".to_owned()), bytes: "xyz".into() };
            let right = encoded(&codec, &value);
            let len = u32::from_be_bytes(*right.first_chunk().unwrap());
            for wrong in (0..=len + 3).filter(|wrong| *wrong != len) {
                let payload = [&wrong.to_be_bytes()[..], &right[4..]].concat();
                let decoded = WithBytes::<(u64, String)>::decode_payload(
                    &codec,
                    &payload,
                    &DecodeLimits::default(),
                );
                assert!(decoded.is_err(), "{wrong} instead of {len} in {codec:?}");
            }
        }
    }

    /// Bytes up to the limit are copied behind the message, longer ones are given back as they are;
    /// both are the same payload.
    #[test]
    fn long_bytes_are_not_copied() {
        for codec in codecs() {
            for len in [0, WHOLE_BYTES_MAX, WHOLE_BYTES_MAX + 1] {
                let value = WithBytes { message: 7_u8, bytes: vec![9; len].into() };
                let mut out = Vec::new();
                let apart = value.encode_parts(&codec, &mut out).unwrap();
                let is_apart = len > WHOLE_BYTES_MAX;
                assert_eq!(apart.len(), if is_apart { len } else { 0 });
                assert!(!is_apart || apart.as_ptr() == value.bytes.as_ptr());
                out.extend_from_slice(&apart);
                assert!(out == encoded(&codec, &value));
            }
        }
    }

    /// PL-8: a copy is charged, a slice is not; the message has the limits of its own length.
    #[test]
    fn limits_hold_for_both_parts() {
        let mut limits = DecodeLimits::default();
        (limits.memory_base_bytes, limits.memory_factor) = (2, 0);
        for codec in codecs() {
            let value = WithBytes { message: 7_u8, bytes: "abc".into() };
            let payload = Bytes::from(encoded(&codec, &value));
            let error = DecodeError::Memory { seen_bytes: 3, limit_bytes: 2 };
            let copied = WithBytes::<u8>::decode_payload(&codec, &payload, &limits);
            assert_eq!(copied, Err(error));
            assert_eq!(WithBytes::<u8>::decode_bytes(&codec, &payload, &limits), Ok(value));

            // The bytes beside it buy the message nothing.
            let mut limits = DecodeLimits::default();
            (limits.memory_base_bytes, limits.memory_factor) = (8, 1);
            let value = WithBytes { message: vec![0_u64; 9], bytes: vec![0; 4096].into() };
            let payload = Bytes::from(encoded(&codec, &value));
            let decoded = WithBytes::<Vec<u64>>::decode_bytes(&codec, &payload, &limits);
            assert!(matches!(decoded, Err(DecodeError::Memory { .. })), "{decoded:?}");
        }
    }

    /// What does not encode leaves the output as it was.
    #[test]
    #[cfg(feature = "json")]
    fn what_fails_leaves_nothing() {
        let value = WithBytes { message: f64::NAN, bytes: "abc".into() };
        let mut out = vec![1, 2, 3];
        assert!(value.encode_payload(&Codec::JSON, &mut out).is_err());
        assert!(value.encode_parts(&Codec::JSON, &mut out).is_err());
        assert_eq!(out, [1, 2, 3]);
    }

    /// The schema says so; raw bytes beside raw bytes have none (FP-1).
    #[test]
    fn fp_1_a_type_stands_before_raw() {
        assert_eq!(schema_text::<WithBytes<Option<u32>>>(), "?u32+raw");
        assert!(std::panic::catch_unwind(schema_text::<WithBytes<Raw>>).is_err());
        assert!(std::panic::catch_unwind(schema_text::<WithBytes<WithBytes<u8>>>).is_err());
        let never = schema_text::<WithBytes<std::convert::Infallible>>;
        assert!(std::panic::catch_unwind(never).is_err());
    }
}
