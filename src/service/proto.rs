//! Codec 4: messages of protobuf, by prost (PL-15).
//!
//! Invariants: a message has a form in codec 4 alone, and codec 4 carries nothing else but raw
//! bytes. prost decodes by itself, so the limits of `limits` are not asked: messages end at 100 in
//! each other (prost's own limit), strings and bytes at the bytes that are there, the whole at the
//! limit of frames. What elements take is not bounded by the payload's length, see [`Proto`].
//! Why a wrapper: the blanket implementation for serde's types leaves no room for a second one, and
//! a message that also derives serde's traits must not change its form with the codec.

use prost::{Message, Name};

use crate::service::codec::{Append, DecodeError, EncodeError, probe_for};
use crate::service::limits::DecodeLimits;
use crate::service::{Codec, Forms, Payload, Schema, SchemaWriter};
use crate::util::{fnv64, try_grow};

/// A message of protobuf, as request, response or error of a method: codec 4 only.
///
/// The schema text is `opaque(proto.<full name>)`: how the message evolves is protobuf's matter,
/// and the fingerprint is blind to it.
///
/// Memory: prost knows no limit for it. An element of a repeated message takes 2 bytes of the
/// payload and the size of the message in memory, up to three times that while its vector grows;
/// [`ServerConfig::frame_bytes_max`](crate::ServerConfig) is what bounds it. Where clients are not
/// trusted, lower it or keep messages that are repeated small.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Proto<M>(pub M);

// So that the compiler does not list it to whoever has forgotten a derive.
#[diagnostic::do_not_recommend]
impl<M: Message + Default + 'static> Payload for Proto<M> {
    const FORMS: Forms = Forms::PROTOBUF;

    fn encode_payload(&self, codec: &Codec, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let fail = |message| EncodeError { codec_id: codec.id(), message };
        if !codec.is_protobuf() {
            return Err(fail(not_in(codec)));
        }
        let append = Append::to(out);
        try_grow(append.out, self.0.encoded_len()).map_err(|error| fail(error.to_string()))?;
        self.0.encode(append.out).map_err(|error| fail(error.to_string()))?;
        append.keep();
        Ok(())
    }

    fn decode_payload(codec: &Codec, bytes: &[u8], _: &DecodeLimits) -> Result<Self, DecodeError> {
        if !codec.is_protobuf() {
            return Err(DecodeError::Malformed { message: not_in(codec) });
        }
        probe_for(bytes)?;
        M::decode(bytes).map(Self).map_err(|error| {
            let message = error.to_string();
            let message = message.strip_prefix(PREFIX).unwrap_or(&message).to_owned();
            DecodeError::Malformed { message }
        })
    }
}

impl<M: Name + 'static> Schema for Proto<M> {
    fn write_schema(writer: &mut SchemaWriter) {
        let name = M::full_name();
        if name.len() <= NAME_BYTES_MAX {
            return writer.opaque(&format!("proto.{name}"));
        }
        writer.opaque(&format!("proto.{:016x}", fnv64(name.as_bytes())));
    }
}

impl<M> From<M> for Proto<M> {
    fn from(message: M) -> Self {
        Self(message)
    }
}

fn not_in(codec: &Codec) -> String {
    format!("a message of protobuf has no form in {}, only in protobuf (4)", codec.name())
}

/// Of a full name; a longer one is hashed, since an opaque text has 64 (FP-1).
const NAME_BYTES_MAX: usize = 64 - "proto.".len();

/// What prost writes before every reason.
const PREFIX: &str = "failed to decode Protobuf message: ";
