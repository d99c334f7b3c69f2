//! Decoding under limits: what hostile bytes may cost, and that honest ones come back.
//!
//! A counting allocator measures the peak of the thread that decodes. A block that grows is moved:
//! while it is, the old one and the new one, twice as large, both count.
#![cfg(feature = "bincode")]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use switchback::service::{Codec, DecodeError, DecodeLimits};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Branch(Box<Self>, Box<Self>),
    Named { name: String, child: Option<Box<Self>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct List {
    next: Option<Box<Self>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    Codec::BINCODE.encode(value, &mut out).expect("the value can be encoded");
    out
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    Codec::BINCODE.decode(bytes, &DecodeLimits::default())
}

/// The peak that decoding `bytes` reaches above what was allocated before.
fn peak_bytes<T: DeserializeOwned>(bytes: &[u8]) -> usize {
    let measured = allocation_counter::measure(|| drop(decode::<T>(bytes)));
    usize::try_from(measured.bytes_max).expect("memory is addressable")
}

/// A declared length of so many, in bincode's largest form.
fn declare(elements: u64) -> Vec<u8> {
    [&[253][..], &elements.to_le_bytes()].concat()
}

/// The messages that made plain bincode allocate megabytes or run for a minute.
#[test]
fn measured_attacks_cost_nothing() {
    let numbers = [declare(1 << 17), vec![1; 8]].concat();
    assert!(matches!(decode::<Vec<u64>>(&numbers), Err(DecodeError::Truncated { .. })));
    assert!(peak_bytes::<Vec<u64>>(&numbers) <= 4096);

    let map = [declare(1 << 17), vec![0; 8]].concat();
    assert!(matches!(decode::<HashMap<String, u64>>(&map), Err(DecodeError::Truncated { .. })));
    assert!(peak_bytes::<HashMap<String, u64>>(&map) <= 4096);

    let text = [declare(3_000_000), vec![b'a'; 4]].concat();
    assert_eq!(
        decode::<String>(&text),
        Err(DecodeError::Truncated { missing_bytes: 2_999_996, len_bytes: 13 })
    );
    assert!(peak_bytes::<String>(&text) <= 4096);

    let nothings = declare(1 << 31);
    assert_eq!(
        decode::<Vec<()>>(&nothings),
        Err(DecodeError::Elements { seen: 1 << 31, limit: 1 << 20 })
    );
}

/// A length that is no number of this machine's memory is refused as well.
#[test]
fn absurd_lengths_are_refused() {
    for elements in [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1] {
        let bytes = [declare(elements), vec![0; 64]].concat();
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<Vec<()>>(&bytes).is_err());
        assert!(decode::<HashMap<String, u64>>(&bytes).is_err());
        assert!(peak_bytes::<Vec<[u64; 8]>>(&bytes) <= 4096);
    }
}

/// Elements of all collections count together: at the limit yes, one more no.
#[test]
fn elements_are_counted_in_all() {
    let half = 1 << 19;
    let at_limit = (vec![(); half], vec![vec![(); half - 1]]);
    assert!(decode::<(Vec<()>, Vec<Vec<()>>)>(&encode(&at_limit)).is_ok());

    let above = (vec![(); half], vec![vec![(); half]]);
    assert_eq!(
        decode::<(Vec<()>, Vec<Vec<()>>)>(&encode(&above)),
        Err(DecodeError::Elements { seen: (1 << 20) + 1, limit: 1 << 20 })
    );

    let mut limits = DecodeLimits::default();
    limits.elements_max = 2;
    let map = BTreeMap::from([(1_u8, 1_u8), (2, 2)]);
    assert_eq!(Codec::BINCODE.decode(&encode(&map), &limits), Ok(map));
}

fn list(nodes: usize) -> List {
    (1..nodes).fold(List { next: None }, |next, _| List { next: Some(Box::new(next)) })
}

/// Depth at the limit is decoded, one level more is not: a node is two levels, `None` is none.
#[test]
fn depth_is_limited() {
    assert_eq!(decode::<List>(&encode(&list(32))), Ok(list(32)));
    assert_eq!(decode::<List>(&encode(&list(33))), Err(DecodeError::Depth { limit: 64 }));

    let mut limits = DecodeLimits::default();
    limits.depth_max = 1;
    assert_eq!(Codec::BINCODE.decode(&encode(&vec![1_u8]), &limits), Ok(vec![1_u8]));
    limits.depth_max = 0;
    assert_eq!(
        Codec::BINCODE.decode::<Vec<u8>>(&encode(&vec![1_u8]), &limits),
        Err(DecodeError::Depth { limit: 0 })
    );
    assert_eq!(Codec::BINCODE.decode(&encode(&1_u8), &limits), Ok(1_u8));
}

/// A million levels on a small stack end in an error, not in an abort.
#[test]
fn deep_bytes_do_not_use_up_the_stack() {
    let decoding = || {
        let deep = vec![1; 1_000_000];
        assert_eq!(decode::<List>(&deep), Err(DecodeError::Depth { limit: 64 }));
        assert_eq!(decode::<Tree>(&deep), Err(DecodeError::Depth { limit: 64 }));
        let named = [2, 0, 1].repeat(300_000);
        assert_eq!(decode::<Tree>(&named), Err(DecodeError::Depth { limit: 64 }));
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(decoding).unwrap().join().unwrap();
}

/// Bytes after the value are an error, and so is a value that ends early.
#[test]
fn the_whole_input_is_used() {
    assert_eq!(decode::<u8>(&[1, 2]), Err(DecodeError::Leftover { used_bytes: 1, len_bytes: 2 }));
    assert_eq!(
        decode::<(u8, u8)>(&[1]),
        Err(DecodeError::Truncated { missing_bytes: 1, len_bytes: 1 })
    );
    assert!(matches!(decode::<bool>(&[2]), Err(DecodeError::Malformed { .. })));
}

/// Fillers that make the most of each byte: empty and nearly empty elements, with true, too small
/// and too large declared lengths.
fn hostile_inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for len in [1_usize, 100, 10_000, 200_000] {
        for filler in [0_u8, 1, 2, 16, 250] {
            for declared in [len as u64, len as u64 / 2, 1 << 20, u64::from(u32::MAX)] {
                inputs.push([declare(declared), vec![filler; len]].concat());
            }
            inputs.push(vec![filler; len]);
        }
        // Distinct keys, so that a map keeps them all.
        let keys = (0..len as u64 / 5).map(|key| (format!("{key:x}"), key % 200));
        inputs.push(encode(&keys.collect::<HashMap<_, _>>()));
    }
    inputs
}

/// However large a declared length is, memory follows the bytes that are there. A byte can be an
/// element, so the factor is what an element takes, three times: a vector that grows ahead is twice
/// as large as before, and while it is moved the smaller one is there too.
#[test]
fn memory_follows_the_input() {
    for input in hostile_inputs() {
        let at_most = |factor: usize| (64 << 10) + factor * input.len();
        let small = [
            peak_bytes::<String>(&input),
            peak_bytes::<Vec<u8>>(&input),
            peak_bytes::<Vec<u64>>(&input),
            peak_bytes::<Vec<()>>(&input),
            peak_bytes::<Option<Vec<Option<u32>>>>(&input),
            peak_bytes::<List>(&input),
            peak_bytes::<Tree>(&input),
            peak_bytes::<Order>(&input),
        ];
        assert!(small.iter().all(|peak| *peak <= at_most(24)), "{small:?} of {}", input.len());
        // An empty string or vector is one byte there and three words here.
        let headers = [
            peak_bytes::<Vec<String>>(&input),
            peak_bytes::<Vec<Vec<u8>>>(&input),
            peak_bytes::<Vec<Vec<Vec<u8>>>>(&input),
            peak_bytes::<(String, Vec<Vec<Vec<u8>>>)>(&input),
            peak_bytes::<HashMap<String, u64>>(&input),
        ];
        assert!(headers.iter().all(|peak| *peak <= at_most(72)), "{headers:?} of {}", input.len());
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    Just(Tree::Leaf).prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| Tree::Branch(Box::new(left), Box::new(right))),
            ("[a-zäß]{0,8}", proptest::option::of(inner))
                .prop_map(|(name, child)| Tree::Named { name, child: child.map(Box::new) }),
        ]
    })
}

prop_compose! {
    fn orders()(
        (id, big, ratio) in (any::<u64>(), any::<i128>(), -1e9..1e9_f64),
        (letter, name, note) in (any::<char>(), ".{0,20}", any::<Option<String>>()),
        tags in proptest::collection::vec(any::<u32>(), 0..300),
        prices in proptest::collection::btree_map(".{0,4}", any::<(i64, u8)>(), 0..20),
        trees in proptest::collection::vec(trees(), 0..4),
        digest in any::<[u8; 4]>(),
    ) -> Order {
        Order { id, big, ratio, letter, name, tags, prices, note, trees, digest, nothing: () }
    }
}

proptest! {
    /// What is encoded is bincode's standard form, and comes back.
    #[test]
    fn orders_round_trip(order in orders()) {
        let bytes = encode(&order);

        let plain = bincode::serde::encode_to_vec(&order, bincode::config::standard()).unwrap();
        prop_assert_eq!(&bytes, &plain);
        prop_assert_eq!(decode::<Order>(&bytes), Ok(order));
    }

    /// Any bytes are a value or an error, the same value as without the wrapper, at a bounded cost.
    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(peak_bytes::<Order>(&bytes) <= (64 << 10) + 24 * bytes.len());
        prop_assert!(peak_bytes::<Vec<Tree>>(&bytes) <= (64 << 10) + 24 * bytes.len());

        type Small = (u8, Option<u16>, String, i32);
        let config = bincode::config::standard().with_limit::<4096>();
        let plain = bincode::serde::decode_from_slice::<Small, _>(&bytes, config);
        match (decode::<Small>(&bytes), plain) {
            (Ok(ours), Ok((plain, used))) => {
                prop_assert_eq!(ours, plain);
                prop_assert_eq!(used, bytes.len());
            }
            (Err(DecodeError::Leftover { used_bytes, .. }), Ok((_, used))) => {
                prop_assert_eq!(used_bytes, used);
            }
            (ours, plain) => prop_assert!(ours.is_err() && plain.is_err()),
        }
    }

    /// An honest value with one byte changed or cut off is a value or an error.
    #[test]
    fn damaged_values_are_safe(order in orders(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = encode(&order);
        let at = at.index(bytes.len());
        prop_assert!(decode::<Order>(&bytes[..at]).is_err());

        bytes[at] = byte;
        prop_assert!(peak_bytes::<Order>(&bytes) <= (64 << 10) + 24 * bytes.len());
    }
}
