//! Any bytes as payloads: a value or an error, the same value as plainly decoded, at a cost that
//! follows the input.
//!
//! ```text
//!  data = type:1 rest      the type stands there in TYPES, modulo; the rest is its encoding
//!                          type / TYPES.len() is the codec: bincode, postcard, JSON, protobuf
//! ```
//!
//! The bound is that of the limits: what decoding allocates, at its peak, is 64 KiB and 16 times
//! the input under limits that say so, and what the default limits say under those. A block that
//! grows is moved: while it is, the old one and the new one both count. JSON may take more, by the
//! length of the input, for a string that it unescapes and for an error that quotes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, LinkedList, VecDeque};

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use switchback::service::{Codec, DecodeError, DecodeLimits};

type Body = fn(&Codec, &[u8]);

/// Every type, by its schema text where the golden vectors have it, and what decodes it.
pub(crate) const TYPES: &[(&str, Body)] = &[
    ("bool", check::<bool>),
    ("u8", check::<u8>),
    ("i8", check::<i8>),
    ("u16", check::<u16>),
    ("i16", check::<i16>),
    ("u32", check::<u32>),
    ("i32", check::<i32>),
    ("u64", check::<u64>),
    ("i64", check::<i64>),
    ("u128", check::<u128>),
    ("i128", check::<i128>),
    ("f32", check::<f32>),
    ("f64", check::<f64>),
    ("char", check::<char>),
    ("str", check::<String>),
    ("bytes", check::<Bytes>),
    ("unit", check::<()>),
    ("?u32", check::<Option<u32>>),
    ("[u16]", check::<Vec<u16>>),
    ("[?bool]", check::<Vec<Option<bool>>>),
    ("[unit]", check::<Vec<()>>),
    ("[[unit]]", check::<Vec<Vec<()>>>),
    ("{str:u32}", check::<BTreeMap<String, u32>>),
    ("(u8,str)", check::<(u8, String)>),
    ("(u16)", check::<(u16,)>),
    ("[u8;4]", check::<[u8; 4]>),
    ("[u16;0]", check::<[u16; 0]>),
    ("struct{id:u64,name:str,tags:[u16],note:?u32}", check::<Named>),
    ("struct(u32)", check::<Newtype>),
    ("struct(u8,str)", check::<Pair>),
    ("struct{}", check::<NoFields>),
    ("struct()", check::<NoParts>),
    ("enum{0:Unit,1:New(u32),2:Tup(u8,str),3:Str{x:i32,y:i32}}", check::<Shapes>),
    ("enum{0:Ok(u8),1:Err(str)}", check::<Result<u8, String>>),
    ("struct{secs:u64,nanos:u32}", check_normalized::<std::time::Duration>),
    ("struct{value:u8,next:?^0}", check::<Chain>),
    ("enum{0:Leaf,1:Node([^0])}", check::<Bush>),
    ("struct{next:?^0}", check::<List>),
    ("struct{from:u64,to:u64,cents:u64,memo:str}", check::<Transfer>),
    ("enum{}", check::<Never>),
    ("tree", check::<Tree>),
    ("[tree]", check::<Vec<Tree>>),
    ("order", check::<Order>),
    ("[u64]", check::<Vec<u64>>),
    ("?[?u32]", check::<Option<Vec<Option<u32>>>>),
    ("[str]", check::<Vec<String>>),
    ("[bytes]", check::<Vec<Vec<u8>>>),
    ("[[bytes]]", check::<Vec<Vec<Vec<u8>>>>),
    ("{str:u64}", check::<HashMap<String, u64>>),
    ("[u128]", check::<Vec<u128>>),
    ("{u8}", check::<BTreeSet<u8>>),
    ("{u128}", check::<HashSet<u128>>),
    ("{str}", check::<BTreeSet<String>>),
    ("{u16:[u8]}", check::<BTreeMap<u16, Vec<u8>>>),
    ("{u64:u64}", check::<HashMap<u64, u64>>),
    ("deque", check::<VecDeque<u16>>),
    ("units", check::<LinkedList<()>>),
    ("list", check::<LinkedList<u32>>),
    ("boxes", check::<Vec<Box<[u64; 3]>>>),
    ("[list]", check::<Vec<List>>),
    ("options", check::<Vec<Option<Box<Named>>>>),
    ("{u16:bool}", check::<BTreeMap<u16, bool>>),
    ("{enum{0:Buy,1:Sell}:u8}", check::<BTreeMap<Side, u8>>),
    ("enum{0:End(u8),1:More{next:^0},2:Pair(u8,^0)}", check::<Deep>),
    ("enum{0:None(),1:Empty{}}", check::<Hollow>),
];

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Some((&at, rest)) = data.split_first() else { return };
    let (codec, at) = (usize::from(at) / TYPES.len(), usize::from(at) % TYPES.len());
    if let Some(codec) = Codec::built_in().get(codec) {
        TYPES[at].1(codec, rest);
    }
}

/// Decodes the bytes as a `T`.
fn check<T: Serialize + DeserializeOwned + PartialEq>(codec: &Codec, bytes: &[u8]) {
    if codec.name() == "protobuf" {
        return check_protobuf(codec, bytes);
    }
    if let Some(encoded) = check_normalized_len::<T>(codec, bytes) {
        // JSON has no shortest form: a field may be missing, a number may be written as `1e9`.
        let is_json = codec.name() == "json";
        assert!(is_json || encoded <= bytes.len(), "the shortest form is what we write");
    }
}

/// The same for a type whose own `Deserialize` changes what it reads: a duration carries
/// nanoseconds beyond a second over, and may be longer then.
fn check_normalized<T: Serialize + DeserializeOwned + PartialEq>(codec: &Codec, bytes: &[u8]) {
    if codec.name() == "protobuf" {
        return check_protobuf(codec, bytes);
    }
    check_normalized_len::<T>(codec, bytes);
}

/// Values of serde's have no form there, whatever the bytes are.
fn check_protobuf(codec: &Codec, bytes: &[u8]) {
    let decoded = codec.decode::<u8>(bytes, &DecodeLimits::default());
    assert!(matches!(decoded, Err(DecodeError::Malformed { .. })));
}

/// The length of the value encoded again, if the bytes are one.
fn check_normalized_len<T: Serialize + DeserializeOwned + PartialEq>(
    codec: &Codec,
    bytes: &[u8],
) -> Option<usize> {
    let mut limits = DecodeLimits::default();
    // Elements of no bytes take time, which a fuzzer has better uses for.
    limits.elements_max = 1 << 16;
    let decoded = decode_bounded::<T>(codec, bytes, &limits, 1 << 20);
    let mut tight = limits;
    tight.memory_base_bytes = (64 << 10) - UNCHARGED_BYTES;
    tight.memory_factor = 16;
    check_tight(codec, bytes, &tight, 64 << 10, &decoded);
    // Short inputs come to this limit too.
    tight.memory_base_bytes = 0;
    check_tight(codec, bytes, &tight, UNCHARGED_BYTES, &decoded);

    let value = match decoded {
        Ok(value) => value,
        Err(error) => {
            explained(&error, bytes);
            return None;
        }
    };

    let name = (std::any::type_name::<T>(), codec.name());
    let plain: T = decode_plain(codec, bytes);
    let Some(encoded) = encode(codec, &value) else {
        // A number beyond an `f32` is read as an infinity, which JSON cannot write.
        assert_eq!(name, ("f32", "json"));
        return None;
    };
    assert!(
        plain == value || encode(codec, &plain).as_ref() == Some(&encoded),
        "{name:?}: the plain decoder differs"
    );
    // The shortest form is shorter than what came, and the limit follows the length.
    let mut loose = limits;
    loose.memory_base_bytes = u64::MAX;
    let again: T = codec.decode(&encoded, &loose).expect("what we encode we decode");
    // NaN differs from itself, and a map of another seed has another order.
    assert!(
        again == value || encode(codec, &again).as_ref() == Some(&encoded),
        "{name:?}: another value came back"
    );
    Some(encoded.len())
}

/// The value as the codec's own crate decodes it, without limits.
fn decode_plain<T: DeserializeOwned>(codec: &Codec, bytes: &[u8]) -> T {
    let why = "the plain decoder decodes what we decode";
    match codec.name() {
        "bincode" => {
            let config = bincode::config::standard();
            let (plain, used) = bincode::serde::decode_from_slice(bytes, config).expect(why);
            assert_eq!(used, bytes.len());
            plain
        }
        "postcard" => postcard::from_bytes(bytes).expect(why),
        _ => serde_json::from_slice(bytes).expect(why),
    }
}

/// Tighter limits of memory refuse for want of memory or not at all.
fn check_tight<T: Serialize + DeserializeOwned + PartialEq>(
    codec: &Codec,
    bytes: &[u8],
    limits: &DecodeLimits,
    base_bytes: u64,
    decoded: &Result<T, DecodeError>,
) {
    let name = std::any::type_name::<T>();
    match (decode_bounded::<T>(codec, bytes, limits, base_bytes), decoded) {
        (Err(DecodeError::Memory { seen_bytes, limit_bytes }), _) => {
            assert!(seen_bytes > limit_bytes, "{name}");
        }
        (Ok(value), Ok(other)) => {
            let same = || encode(codec, &value) == encode(codec, other);
            assert!(value == *other || same(), "{name}: another value");
        }
        (Err(error), Err(other)) => assert_eq!(error, *other, "{name}"),
        (Ok(_), Err(error)) => panic!("{name}: only the looser limits refuse: {error}"),
        (Err(error), Ok(_)) => panic!("{name}: only the tighter limits refuse: {error}"),
    }
}

/// Decodes, and checks that no more was allocated at any time than the base and the factor say.
fn decode_bounded<T: DeserializeOwned>(
    codec: &Codec,
    bytes: &[u8],
    limits: &DecodeLimits,
    base_bytes: u64,
) -> Result<T, DecodeError> {
    let mut decoded = None;
    let cost = allocation_counter::measure(|| {
        decoded = Some(codec.decode::<T>(bytes, limits));
    });
    let bound = base_bytes + u64::from(limits.memory_factor) * bytes.len() as u64;
    let is_json = codec.name() == "json";
    let bound = bound + if is_json { OWN_BYTES + OWN_FACTOR * bytes.len() as u64 } else { 0 };
    let name = std::any::type_name::<T>();
    assert!(cost.bytes_max <= bound, "{name}: {} of {bound} bytes", cost.bytes_max);
    decoded.expect("it was decoded above")
}

/// What a decoding may allocate before it is charged, or without: what a collection reserves before
/// it is known how large its elements are (16 elements, which are 32 buckets), and an error's text.
const UNCHARGED_BYTES: u64 = 32 * (ELEMENT_BYTES_MAX + 1) + 256;

/// What JSON allocates by itself: a string that is unescaped, a path, an error's text.
const OWN_BYTES: u64 = 16 * 1024;
const OWN_FACTOR: u64 = 32;

/// No element of a collection in [`TYPES`] is larger.
const ELEMENT_BYTES_MAX: u64 = 64;

fn encode<T: Serialize>(codec: &Codec, value: &T) -> Option<Vec<u8>> {
    let mut out = vec![7];
    let encoded = codec.encode(value, &mut out);
    assert_eq!(out.remove(0), 7, "it is appended");
    encoded.ok().map(|()| out)
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
        DecodeError::Memory { seen_bytes, limit_bytes } => {
            assert!(seen_bytes > limit_bytes);
            assert_eq!(*limit_bytes, (1 << 20) + 64 * bytes.len() as u64);
        }
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

        impl<'de> Visitor<'de> for Copying {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            // As JSON has them.
            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Bytes, A::Error> {
                let mut all = Vec::with_capacity(bytes.size_hint().unwrap_or(0));
                while let Some(byte) = bytes.next_element()? {
                    all.push(byte);
                }
                Ok(Bytes(all))
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
enum Hollow {
    None(),
    Empty {},
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

#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
enum Side {
    Buy,
    Sell,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum Deep {
    End(u8),
    More { next: Box<Self> },
    Pair(u8, Box<Self>),
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
