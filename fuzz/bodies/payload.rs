//! Any bytes as payloads: a value or an error, the same value as plainly decoded, at a cost that
//! follows the input.
//!
//! ```text
//!  data = type:1 rest      the type stands there in TYPES, modulo; the rest is its encoding
//! ```
//!
//! The bound is 64 KiB and three times what an element of the type takes per byte of its smallest
//! encoding: a vector grows ahead twice as large, and both blocks are there while it is moved. An
//! element of eight bytes that is encoded in one costs 24, three words of an empty string 72.

use std::collections::{BTreeMap, HashMap};

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Serialize};
use switchback::service::{Codec, DecodeError, DecodeLimits};

type Body = fn(&[u8]);

/// Every type, by its schema text where the golden vectors have it, and what decodes it.
pub(crate) const TYPES: &[(&str, Body)] = &[
    ("bool", check::<bool, 8>),
    ("u8", check::<u8, 8>),
    ("i8", check::<i8, 8>),
    ("u16", check::<u16, 8>),
    ("i16", check::<i16, 8>),
    ("u32", check::<u32, 8>),
    ("i32", check::<i32, 8>),
    ("u64", check::<u64, 8>),
    ("i64", check::<i64, 8>),
    ("u128", check::<u128, 8>),
    ("i128", check::<i128, 8>),
    ("f32", check::<f32, 8>),
    ("f64", check::<f64, 8>),
    ("char", check::<char, 8>),
    ("str", check::<String, 8>),
    ("bytes", check::<Bytes, 8>),
    ("unit", check::<(), 8>),
    ("?u32", check::<Option<u32>, 8>),
    ("[u16]", check::<Vec<u16>, 8>),
    ("[?bool]", check::<Vec<Option<bool>>, 8>),
    ("[unit]", check::<Vec<()>, 8>),
    ("[[unit]]", check::<Vec<Vec<()>>, 24>),
    ("{str:u32}", check::<BTreeMap<String, u32>, 24>),
    ("(u8,str)", check::<(u8, String), 8>),
    ("(u16)", check::<(u16,), 8>),
    ("[u8;4]", check::<[u8; 4], 8>),
    ("[u16;0]", check::<[u16; 0], 8>),
    ("struct{id:u64,name:str,tags:[u16],note:?u32}", check::<Named, 8>),
    ("struct(u32)", check::<Newtype, 8>),
    ("struct(u8,str)", check::<Pair, 8>),
    ("struct{}", check::<NoFields, 8>),
    ("struct()", check::<NoParts, 8>),
    ("enum{0:Unit,1:New(u32),2:Tup(u8,str),3:Str{x:i32,y:i32}}", check::<Shapes, 8>),
    ("enum{0:Ok(u8),1:Err(str)}", check::<Result<u8, String>, 8>),
    ("struct{secs:u64,nanos:u32}", check_normalized::<std::time::Duration, 8>),
    ("struct{value:u8,next:?^0}", check::<Chain, 24>),
    ("enum{0:Leaf,1:Node([^0])}", check::<Bush, 24>),
    ("struct{next:?^0}", check::<List, 8>),
    ("struct{from:u64,to:u64,cents:u64,memo:str}", check::<Transfer, 8>),
    ("enum{}", check::<Never, 8>),
    ("tree", check::<Tree, 32>),
    ("[tree]", check::<Vec<Tree>, 32>),
    ("order", check::<Order, 32>),
    ("[u64]", check::<Vec<u64>, 8>),
    ("?[?u32]", check::<Option<Vec<Option<u32>>>, 8>),
    ("[str]", check::<Vec<String>, 24>),
    ("[bytes]", check::<Vec<Vec<u8>>, 24>),
    ("[[bytes]]", check::<Vec<Vec<Vec<u8>>>, 24>),
    ("{str:u64}", check::<HashMap<String, u64>, 24>),
    ("[u128]", check::<Vec<u128>, 16>),
];

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    if let Some((&at, rest)) = data.split_first() {
        TYPES[usize::from(at) % TYPES.len()].1(rest);
    }
}

/// Decodes the bytes as a `T` whose elements take `PER_BYTE` bytes for one encoded byte, at most.
fn check<T: Serialize + DeserializeOwned + PartialEq, const PER_BYTE: usize>(bytes: &[u8]) {
    if let Some(encoded) = check_normalized_len::<T, PER_BYTE>(bytes) {
        assert!(encoded <= bytes.len(), "the shortest form is what we write");
    }
}

/// The same for a type whose own `Deserialize` changes what it reads: a duration carries
/// nanoseconds beyond a second over, and may be longer then.
fn check_normalized<T: Serialize + DeserializeOwned + PartialEq, const PER_BYTE: usize>(
    bytes: &[u8],
) {
    check_normalized_len::<T, PER_BYTE>(bytes);
}

/// The length of the value encoded again, if the bytes are one.
fn check_normalized_len<T: Serialize + DeserializeOwned + PartialEq, const PER_BYTE: usize>(
    bytes: &[u8],
) -> Option<usize> {
    let mut limits = DecodeLimits::default();
    // Elements of no bytes take time, which a fuzzer has better uses for.
    limits.elements_max = 1 << 16;
    let mut decoded = None;
    let cost = allocation_counter::measure(|| {
        decoded = Some(Codec::BINCODE.decode::<T>(bytes, &limits));
    });
    let bound = (64 << 10) + 3 * PER_BYTE * bytes.len();
    let name = std::any::type_name::<T>();
    assert!(cost.bytes_max <= bound as u64, "{name}: {} for {}", cost.bytes_max, bytes.len());
    let value = match decoded.expect("it was decoded above") {
        Ok(value) => value,
        Err(error) => {
            explained(&error, bytes);
            return None;
        }
    };

    let plain = bincode::serde::decode_from_slice::<T, _>(bytes, bincode::config::standard());
    let (plain, used) = plain.expect("plain bincode decodes what we decode");
    assert_eq!(used, bytes.len());
    let encoded = encode(&value);
    assert!(plain == value || encode(&plain) == encoded, "{name}: plain bincode differs");
    let again: T = Codec::BINCODE.decode(&encoded, &limits).expect("what we encode we decode");
    // NaN differs from itself, and a map of another seed has another order.
    assert!(again == value || encode(&again) == encoded, "{name}: another value came back");
    Some(encoded.len())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = vec![7];
    Codec::BINCODE.encode(value, &mut out).expect("what was decoded can be encoded");
    assert_eq!(out.remove(0), 7, "it is appended");
    out
}

/// An error tells the truth about the input.
fn explained(error: &DecodeError, bytes: &[u8]) {
    assert!(!error.to_string().is_empty());
    match error {
        DecodeError::Leftover { used_bytes, len_bytes } => {
            assert!(used_bytes < len_bytes && *len_bytes == bytes.len());
        }
        DecodeError::Truncated { missing_bytes, len_bytes } => {
            assert!(*missing_bytes > 0 && *len_bytes == bytes.len());
        }
        DecodeError::Elements { seen, limit } => assert!(seen > limit),
        _ => {}
    }
}

/// Bytes as serde knows them, not a sequence of numbers.
#[derive(PartialEq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copying;

        impl Visitor<'_> for Copying {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_byte_buf(Copying)
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Named {
    id: u64,
    name: String,
    tags: Vec<u16>,
    note: Option<u32>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Newtype(u32);

#[derive(PartialEq, Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(PartialEq, Serialize, Deserialize)]
struct NoFields {}

#[derive(PartialEq, Serialize, Deserialize)]
struct NoParts();

#[derive(PartialEq, Serialize, Deserialize)]
enum Shapes {
    Unit,
    New(u32),
    Tup(u8, String),
    Str { x: i32, y: i32 },
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Chain {
    value: u8,
    next: Option<Box<Self>>,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Bush {
    Leaf,
    Node(Vec<Self>),
}

#[derive(PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<Self>>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Transfer {
    from: u64,
    to: u64,
    cents: u64,
    memo: String,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Never {}

#[derive(PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Branch(Box<Self>, Box<Self>),
    Named { name: String, child: Option<Box<Self>> },
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    big: i128,
    ratio: f64,
    letter: char,
    name: String,
    tags: Vec<u32>,
    prices: BTreeMap<String, (i64, u8)>,
    note: Option<String>,
    trees: Vec<Tree>,
    digest: [u8; 4],
    nothing: (),
}
