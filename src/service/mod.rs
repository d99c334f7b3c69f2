//! What a method is: its names and versions, its payload encoding, its schema, its handler.

#[cfg(feature = "bincode")]
mod bincode_format;
mod codec;
mod limits;
mod schema;
mod schema_impls;

pub use codec::{Codec, CodecIdError, CustomCodec, DecodeError, EncodeError, Payload};
/// What a [`CustomCodec`] is written with.
pub use erased_serde;
pub use limits::DecodeLimits;
pub use schema::{
    Fingerprint, Schema, SchemaFields, SchemaVariants, SchemaWriter, method_text, schema_text,
};
