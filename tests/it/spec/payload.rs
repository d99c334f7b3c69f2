//! Payloads of codecs 1 to 3 against the golden bytes, and the limits of decoding.
//!
//! Each vector names its type by schema text; the Rust type here must write that very text, so
//! that vectors, schema and codec are held against each other.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::SeqAccess;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use switchback::service::{DecodeError, DecodeLimits, SchemaWriter, schema_text};
use switchback::{Codec, Schema};

use crate::spec::{list, text, unhex, vectors};

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Item {
    id: u64,
    name: String,
    tags: Vec<u16>,
    note: Option<u32>,
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct New(u32);

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Pair(u8, String);

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Empty {}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct NoFields();

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
enum Shapes {
    Unit,
    New(u32),
    Tup(u8, String),
    Str { x: i32, y: i32 },
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
enum Hollow {
    None(),
    Empty {},
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct List {
    value: u8,
    next: Option<Box<Self>>,
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
enum Tree {
    Leaf,
    Node(Vec<Self>),
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Chain {
    next: Option<Box<Self>>,
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
enum Deep {
    End(u8),
    More { next: Box<Self> },
    Pair(u8, Box<Self>),
}

#[derive(Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Schema, Serialize)]
enum Side {
    Buy,
    Sell,
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Transfer {
    from: u64,
    to: u64,
    cents: u64,
    memo: String,
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
enum Nothing {}

/// `bytes`, which serde keeps apart from a sequence of `u8`.
#[derive(Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            // As JSON has them.
            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Blob, A::Error> {
                let mut blob = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    blob.push(byte);
                }
                Ok(Blob(blob))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

impl Schema for Blob {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.bytes();
    }
}

/// A value as the vectors write it: JSON as serde has it, except for what JSON has not.
trait FromVector: Sized {
    fn from_vector(value: &Value) -> Self;
}

macro_rules! from_json {
    ($($type:ty),* $(,)?) => {$(
        impl FromVector for $type {
            fn from_vector(value: &Value) -> Self {
                // By way of text: a `Value` takes no `[]` for a variant without fields.
                serde_json::from_str(&value.to_string()).expect("a value of the type it names")
            }
        }
    )*};
}

macro_rules! from_digits {
    ($($type:ty),*) => {$(
        impl FromVector for $type {
            fn from_vector(value: &Value) -> Self {
                let digits = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                digits.parse().expect("a number")
            }
        }
    )*};
}

from_digits!(u64, i64, u128, i128);
/// The types whose JSON is serde's own, handed to another macro behind what it is given.
macro_rules! json_types {
    ($macro:ident, $($more:ty),* $(,)?) => {
        $macro!(
            $($more,)*
            bool,
            u8,
            i8,
            u16,
            i16,
            u32,
            i32,
            f32,
            f64,
            char,
            String,
            (),
            Option<u32>,
            Vec<u16>,
            Vec<Option<bool>>,
            Vec<()>,
            Vec<Vec<()>>,
            (u8, String),
            (u16,),
            [u8; 4],
            [u16; 0],
            Item,
            New,
            Pair,
            Empty,
            NoFields,
            Shapes,
            Hollow,
            Result<u8, String>,
            Duration,
            List,
            Tree,
            Chain,
            Deep,
            Transfer,
            Nothing,
        );
    };
}

json_types!(from_json,);

impl FromVector for Blob {
    fn from_vector(value: &Value) -> Self {
        Self(unhex(value))
    }
}

macro_rules! from_pairs {
    ($($key:ty => $value:ty),*) => {$(
        impl FromVector for BTreeMap<$key, $value> {
            fn from_vector(value: &Value) -> Self {
                let pairs: Vec<($key, $value)> = serde_json::from_value(value.clone()).unwrap();
                pairs.into_iter().collect()
            }
        }
    )*};
}

from_pairs!(String => u32, u16 => bool, Side => u8);

/// What is asked of a vector's type.
struct Wire {
    /// Decodes the bytes to the value, and encodes it to these bytes.
    check: fn(&Codec, &Value, &[u8], bool),
    decode_error: fn(&Codec, &[u8]) -> Option<DecodeError>,
}

fn wire_of<T>() -> (String, Wire)
where
    T: FromVector + Schema + Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug,
{
    let check = |codec: &Codec, value: &Value, bytes: &[u8], is_canonical: bool| {
        let value = T::from_vector(value);
        let decoded: T = codec.decode(bytes, &DecodeLimits::default()).unwrap();
        assert_eq!(decoded, value);
        let mut encoded = Vec::new();
        codec.encode(&value, &mut encoded).unwrap();
        assert_eq!(encoded == bytes, is_canonical, "{value:?}");
    };
    let decode_error =
        |codec: &Codec, bytes: &[u8]| codec.decode::<T>(bytes, &DecodeLimits::default()).err();
    (schema_text::<T>(), Wire { check, decode_error })
}

fn types() -> BTreeMap<String, Wire> {
    let mut types = BTreeMap::new();
    macro_rules! add {
        ($($type:ty),* $(,)?) => { $(types.extend([wire_of::<$type>()]);)* };
    }
    type Sides = BTreeMap<Side, u8>;
    json_types!(
        add, u64, i64, u128, i128, Blob, BTreeMap<String, u32>, BTreeMap<u16, bool>, Sides
    );
    types
}

/// The bytes of a vector, which a JSON one shows as text.
fn bytes_of(vector: &Value) -> Vec<u8> {
    match vector["json"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => unhex(&vector["hex"]),
    }
}

/// Every golden payload of a codec's file, in both directions.
pub(super) fn check_golden(codec: &Codec, name: &str) {
    let (file, types) = (vectors(name), types());
    for (kind, is_canonical) in [("valid", true), ("lenient", false)] {
        for vector in list(&file, kind) {
            let wire = types.get(text(vector, "type")).unwrap_or_else(|| panic!("{vector}"));
            (wire.check)(codec, &vector["value"], &bytes_of(vector), is_canonical);
        }
    }
}

/// Every invalid payload of a codec's file is refused, for the kind of reason it names.
pub(super) fn check_invalid(codec: &Codec, name: &str) {
    let (file, types) = (vectors(name), types());
    for vector in list(&file, "invalid") {
        let wire = types.get(text(vector, "type")).unwrap_or_else(|| panic!("{vector}"));
        let error = (wire.decode_error)(codec, &bytes_of(vector));
        let error = error.unwrap_or_else(|| panic!("{vector} was decoded"));
        let why = text(vector, "why");
        if why.contains("left over") {
            assert!(matches!(error, DecodeError::Leftover { .. }), "{why}: {error}");
        }
        if why.ends_with("levels") && !why.starts_with("8192") {
            assert!(matches!(error, DecodeError::Depth { limit: 64 }), "{why}: {error}");
        }
    }
}

/// Every golden payload, in both directions: integers (PL-2), the rest (PL-3), as codec 1 (PL-1).
#[test]
fn pl_2_pl_3_payloads_are_the_golden_bytes() {
    assert_eq!(Codec::BINCODE.id(), 1, "pl_1_");
    check_golden(&Codec::BINCODE, "payload_bincode.json");
}

/// Every invalid payload is refused, for whatever reason it names: PL-4, PL-5, PL-6.
#[test]
fn pl_4_invalid_payloads_are_refused() {
    check_invalid(&Codec::BINCODE, "payload_bincode.json");
}

/// The limits, at their edge: one more element, one more level.
#[test]
fn pl_5_pl_6_limits_hold_at_their_edge() {
    let decode = |bytes: &[u8]| {
        Codec::BINCODE.decode::<Vec<()>>(bytes, &DecodeLimits::default()).map(|v| v.len())
    };
    assert_eq!(decode(&unhex(&"fc00001000".into())).unwrap(), 1_048_576);
    let error = decode(&unhex(&"fc01001000".into())).unwrap_err();
    assert!(matches!(error, DecodeError::Elements { limit: 1_048_576, .. }), "{error}");

    // A struct and its option are two levels; the last option holds nothing.
    let chain = |structs: usize| [vec![1; structs - 1], vec![0]].concat();
    let decode = |bytes: &[u8]| Codec::BINCODE.decode::<Chain>(bytes, &DecodeLimits::default());
    assert!(decode(&chain(32)).is_ok());
    let error = decode(&chain(33)).unwrap_err();
    assert!(matches!(error, DecodeError::Depth { limit: 64, .. }), "{error}");
    check_enums(&Codec::BINCODE);
}

/// An enum is one level, whatever content it has: 64 in each other are taken, 65 are not.
pub(super) fn check_enums(codec: &Codec) {
    for wrap in [|next| Deep::More { next }, |next| Deep::Pair(7, next)] {
        let deep = |levels: usize| (1..levels).fold(Deep::End(9), |deep, _| wrap(Box::new(deep)));
        let mut bytes = Vec::new();
        codec.encode(&deep(64), &mut bytes).unwrap();
        assert_eq!(codec.decode::<Deep>(&bytes, &DecodeLimits::default()), Ok(deep(64)));
        bytes.clear();
        codec.encode(&deep(65), &mut bytes).unwrap();
        let error = codec.decode::<Deep>(&bytes, &DecodeLimits::default());
        assert_eq!(error, Err(DecodeError::Depth { limit: 64 }));
    }
}

/// The limit of memory at its edge, by the length of the payload: PL-8.
#[test]
fn pl_8_memory_follows_the_payload() {
    let numbers: Vec<u64> = (0..16).collect();
    let mut bytes = Vec::new();
    Codec::BINCODE.encode(&numbers, &mut bytes).unwrap();
    let mut limits = DecodeLimits::default();
    assert_eq!((limits.memory_base_bytes, limits.memory_factor), (1 << 20, 64));

    // 17 bytes for 16 numbers of 8 bytes.
    limits.memory_factor = 5;
    limits.memory_base_bytes = 16 * 8 - 5 * 17;
    assert_eq!(Codec::BINCODE.decode(&bytes, &limits), Ok(numbers));
    limits.memory_base_bytes -= 1;
    let error = Codec::BINCODE.decode::<Vec<u64>>(&bytes, &limits).unwrap_err();
    assert_eq!(error, DecodeError::Memory { seen_bytes: 128, limit_bytes: 127 });
}
