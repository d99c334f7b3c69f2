//! Decoding under limits: what hostile bytes may cost, and that honest ones come back.
//!
//! A counting allocator measures the peak of the thread that decodes. A block that grows is moved:
//! while it is, the old one and the new one, twice as large, both count. Any bytes as any type,
//! under limits as tight as 16 times the input, are checked by fuzz/bodies/payload.rs. What holds
//! for every codec is shown for every one that this build has.
#![cfg(feature = "bincode")]

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};

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

/// The codecs that carry values of serde's.
fn codecs() -> Vec<Codec> {
    let mut codecs = Codec::built_in();
    codecs.retain(|codec| codec.name() != "protobuf");
    codecs
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_in(&Codec::BINCODE, value)
}

fn encode_in<T: Serialize>(codec: &Codec, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    codec.encode(value, &mut out).expect("the value can be encoded");
    out
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_in(&Codec::BINCODE, bytes)
}

fn decode_in<T: DeserializeOwned>(codec: &Codec, bytes: &[u8]) -> Result<T, DecodeError> {
    codec.decode(bytes, &DecodeLimits::default())
}

/// The peak that decoding `bytes` reaches above what was allocated before.
fn peak_bytes<T: DeserializeOwned>(bytes: &[u8]) -> u64 {
    peak_bytes_under::<T>(&Codec::BINCODE, bytes, &DecodeLimits::default())
}

fn peak_bytes_under<T: DeserializeOwned>(
    codec: &Codec,
    bytes: &[u8],
    limits: &DecodeLimits,
) -> u64 {
    let decoding = || drop(codec.decode::<T>(bytes, limits));
    allocation_counter::measure(decoding).bytes_max
}

/// What a codec allocates by itself. JSON has a buffer for the digits and unescaped letters of one
/// string, which doubles while it grows, and its errors quote what they refuse.
fn own_bytes(codec: &Codec, len_bytes: usize) -> u64 {
    if codec.name() == "json" { 16 * 1024 + 32 * len_bytes as u64 } else { 0 }
}

/// Limits of memory alone.
fn memory_limits(base_bytes: u64, factor: u32) -> DecodeLimits {
    let mut limits = DecodeLimits::default();
    limits.memory_base_bytes = base_bytes;
    limits.memory_factor = factor;
    limits
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
    for codec in codecs() {
        let decode_list = |nodes| decode_in::<List>(&codec, &encode_in(&codec, &list(nodes)));
        assert_eq!(decode_list(32), Ok(list(32)));
        assert_eq!(decode_list(33), Err(DecodeError::Depth { limit: 64 }));
    }

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
        for codec in codecs() {
            let (lists, trees, skipped) = match codec.name() {
                "json" => (&b"{\"next\":"[..], &b"{\"Branch\":["[..], b"{\"next\":null,\"x\":"),
                _ => (&[1][..], &[1][..], &[1; 17]),
            };
            let refused = |error| matches!(error, Err(DecodeError::Depth { limit: 64 }));
            assert!(refused(decode_in::<List>(&codec, &lists.repeat(300_000)).map(drop)));
            assert!(refused(decode_in::<Tree>(&codec, &trees.repeat(300_000)).map(drop)));
            // What is skipped is no level, and takes no stack.
            let skipped = [&skipped[..], &b"[".repeat(1_000_000)].concat();
            assert!(decode_in::<List>(&codec, &skipped).is_err());
        }
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
    for len in [1_usize, 100, 10_000, 60_000] {
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

/// The same in JSON, which declares no lengths: short elements, escapes, long numbers, unknown
/// fields, texts that do not end.
fn hostile_texts() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for len in [1_usize, 100, 10_000] {
        for filler in ["0,", "null,", "[],", "{},", "\"\",", "[[],[]],", "\"Leaf\",", "[1,0],"] {
            let elements = filler.repeat(len);
            texts.push(format!("[{elements}"));
            texts.push(format!("[{}]", elements.trim_end_matches(',')));
        }
        texts.push(format!("\"{}\"", "\\u00e9".repeat(len)));
        texts.push(format!("\"{}", "\\n".repeat(len)));
        texts.push("7".repeat(len));
        texts.push(format!("0.{}1", "0".repeat(len)));
        let entries = |name: &str| {
            let entries: Vec<_> = (0..len).map(|at| format!("\"{name}{at:x}\":1")).collect();
            format!("{{{}}}", entries.join(","))
        };
        texts.extend([entries(""), entries("next"), "{\"next\":".repeat(len)]);
    }
    texts.into_iter().map(String::into_bytes).collect()
}

/// However large a declared length is, memory follows the bytes that are there: by the factor of
/// the limits, whatever the type. A collection may reserve 4096 bytes before it is charged.
#[test]
fn memory_follows_the_input() {
    fn check<T: DeserializeOwned>(input: &[u8]) {
        for (base_bytes, factor) in [(1 << 20, 64), (60 << 10, 16)] {
            for codec in codecs() {
                let limits = memory_limits(base_bytes, factor);
                let peak = peak_bytes_under::<T>(&codec, input, &limits);
                let bound = 4096 + base_bytes + u64::from(factor) * input.len() as u64;
                let bound = bound + own_bytes(&codec, input.len());
                let name = (std::any::type_name::<T>(), codec.name());
                assert!(peak <= bound, "{name:?}: {peak} bytes for {} under {factor}", input.len());
            }
        }
    }

    let texts = if codecs().len() > 1 { hostile_texts() } else { Vec::new() };
    for input in hostile_inputs().into_iter().chain(texts) {
        check::<String>(&input);
        check::<Vec<u8>>(&input);
        check::<Vec<u64>>(&input);
        check::<Vec<()>>(&input);
        check::<Option<Vec<Option<u32>>>>(&input);
        check::<List>(&input);
        check::<Tree>(&input);
        check::<Order>(&input);
        check::<Vec<String>>(&input);
        check::<Vec<Vec<Vec<u8>>>>(&input);
        check::<(String, Vec<Vec<Vec<u8>>>)>(&input);
        check::<HashMap<String, u64>>(&input);
        check::<BTreeMap<u64, BTreeSet<u16>>>(&input);
        check::<LinkedList<()>>(&input);
        check::<Vec<Box<[u64; 20]>>>(&input);
    }
}

/// A limit one byte below what a value really takes refuses it, for each collection of `std` at
/// every length; and what is charged is not much more than what is taken.
#[test]
fn memory_is_charged_as_collections_take_it() {
    /// `slack` is how many times too much may be charged, in hundredths.
    fn check<T: Serialize + DeserializeOwned + PartialEq>(value: &T, slack: u64) {
        for codec in codecs() {
            check_in(&codec, value, slack);
        }
    }

    fn check_in<T: Serialize + DeserializeOwned + PartialEq>(codec: &Codec, value: &T, slack: u64) {
        let bytes = encode_in(codec, value);
        let decode = |limits: &DecodeLimits| codec.decode::<T>(&bytes, limits);
        let peak = peak_bytes_under::<T>(codec, &bytes, &memory_limits(u64::MAX, 0));
        let name = (std::any::type_name::<T>(), codec.name());
        if let Some(less) = peak.checked_sub(1) {
            let refused = decode(&memory_limits(less, 0)).err();
            let is_refused = matches!(refused, Some(DecodeError::Memory { .. }));
            assert!(is_refused, "{name:?}: takes {peak} bytes, under {less}: {refused:?}");
        }
        let more = peak * slack / 100 + if slack > 100 { 1024 } else { 0 };
        let again = decode(&memory_limits(more, 0));
        assert!(again.is_ok_and(|same| same == *value), "{name:?}: {peak}");
    }

    let lengths = (0..40).chain((40..300).step_by(13)).chain([448, 449, 896, 897, 1025]);
    for len in lengths {
        // Up, down, and in no order: a tree's nodes fill in different ways.
        for step in [1_u64, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            let keys = || (0..len).map(move |at: u64| at.wrapping_mul(step));
            check(&keys().collect::<Vec<u64>>(), 100);
            check(&keys().map(|key| [key; 9]).collect::<Vec<_>>(), 100);
            check(&keys().map(|key| key.to_string()).collect::<Vec<_>>(), 100);
            check(&keys().map(|key| key.to_le_bytes()[0]).collect::<Vec<u8>>(), 100);
            check(&keys().map(|key| Box::new([key; 3])).collect::<Vec<_>>(), 100);
            check(&keys().map(|key| vec![(); usize::from(key > 9)]).collect::<Vec<_>>(), 100);
            check(&keys().map(|key| [key; 2]).collect::<VecDeque<_>>(), 450);
            check(&keys().collect::<LinkedList<_>>(), 300);
            check(&keys().map(|_| ()).collect::<LinkedList<_>>(), 300);
            check(&keys().collect::<BTreeSet<_>>(), 500);
            check(&keys().map(u128::from).collect::<BTreeSet<_>>(), 500);
            check(&keys().map(|key| (key, [key; 6])).collect::<BTreeMap<_, _>>(), 300);
            check(&keys().map(|key| (key, ())).collect::<HashMap<_, _>>(), 150);
            check(&keys().map(|key| (key.to_string(), key)).collect::<HashMap<_, _>>(), 150);
            check(&keys().map(|key| (key, key.to_le_bytes()[0])).collect::<HashMap<_, _>>(), 150);
            check(&keys().map(|key| [key; 4]).collect::<HashSet<_>>(), 150);
        }
    }
    check(&(0..100_u8).collect::<HashSet<_>>(), 200);
    assert_eq!(
        Codec::BINCODE
            .decode::<BinaryHeap<u64>>(&encode(&vec![1_u64; 17]), &memory_limits(16 * 8 * 3 - 1, 0))
            .err(),
        Some(DecodeError::Memory { seen_bytes: 16 * 8 * 3, limit_bytes: 16 * 8 * 3 - 1 })
    );
}

/// A mostly empty record, as programs have them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sparse {
    parts: [Option<String>; 20],
}

/// Honest messages pass under the default limits, with memory to spare.
#[test]
fn honest_messages_pass() {
    fn check<T: Serialize + DeserializeOwned + PartialEq>(value: &T) {
        for codec in codecs() {
            let bytes = encode_in(&codec, value);
            let name = (std::any::type_name::<T>(), codec.name());
            let decoded = decode_in::<T>(&codec, &bytes);
            assert!(decoded.is_ok_and(|same| same == *value), "{name:?}");
        }
    }

    check(&(0..10_000).map(|at| format!("n{at}")).collect::<Vec<_>>());
    check(&vec![String::new(); 10_000]);
    check(&(0..100_000).map(|at| at % 200).collect::<Vec<u64>>());
    let mut record = Sparse::default();
    record.parts[7] = Some("some".to_owned());
    for records in [1, 17, 8193, 10_000, 16_385, 65_537] {
        check(&vec![record.clone(); records]);
    }
    check(&vec![Sparse::default(); 10_000]);
    check(&(0..50_000).map(|at| (format!("k{at}"), at)).collect::<HashMap<_, u64>>());
    check(&(0..50_000).map(|at| (format!("k{at}"), at)).collect::<BTreeMap<_, u64>>());
    check(&(0..50_000_u32).map(|at| (at, at)).collect::<HashMap<_, _>>());
    check(&vec![vec![vec![1_u16, 2, 3]; 30]; 300]);
    check(&vec![vec!["a".to_owned(); 2]; 20_000]);
    // A map of one entry is the dearest of them: 616 bytes are charged for a node. Postcard needs
    // so little for small numbers that 5000 of these pass with larger ones only.
    let tiny =
        |first: i32| (first..first + 5000).map(|at| BTreeMap::from([("env".to_owned(), at)]));
    let small: Vec<_> = tiny(0).collect();
    assert_eq!(decode(&encode(&small)), Ok(small));
    check(&tiny(100_000).collect::<Vec<_>>());
    check(&list(32));
}

/// A few bytes that would take very much memory are refused, and the error says how much.
#[test]
fn memory_bombs_are_refused() {
    // One byte for each element of 136 bytes.
    let empty = [declare(1 << 20), vec![0; 1 << 20]].concat();
    let error = decode::<Vec<Option<[u64; 16]>>>(&empty).unwrap_err();
    let limit = (1 << 20) + 64 * ((1 << 20) + 9);
    // 256 Ki of them are there when they double, and both blocks are needed.
    let seen_bytes = 136 * ((1 << 18) + (1 << 19));
    assert_eq!(error, DecodeError::Memory { seen_bytes, limit_bytes: limit });
    assert_eq!(error.to_string(), format!("{seen_bytes} bytes of memory, more than {limit}"));

    // A list's links take memory though its elements have no bytes.
    let units = declare(1 << 20);
    let error = decode::<LinkedList<()>>(&units).unwrap_err();
    assert!(matches!(error, DecodeError::Memory { .. }), "{error}");
    assert!(peak_bytes::<LinkedList<()>>(&units) <= 1 << 21);

    let boxes = [declare(1 << 16), vec![0; 1 << 16]].concat();
    let error = decode::<Vec<Box<Option<[u64; 32]>>>>(&boxes).unwrap_err();
    assert!(matches!(error, DecodeError::Memory { .. }), "{error}");
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
        for codec in codecs() {
            let bytes = encode_in(&codec, &order);
            prop_assert_eq!(decode_in::<Order>(&codec, &bytes), Ok(order.clone()));
            // A byte more is left over.
            let more = [&bytes[..], b"0"].concat();
            let error = decode_in::<Order>(&codec, &more).err();
            prop_assert!(matches!(error, Some(DecodeError::Leftover { .. })), "{:?}", error);
        }
    }

    /// Any bytes are a value or an error, the same value as without the wrapper, at a bounded cost.
    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (limits, bound) = (memory_limits(0, 16), 4096 + 16 * bytes.len() as u64);
        for codec in codecs() {
            let bound = bound + own_bytes(&codec, bytes.len());
            prop_assert!(peak_bytes_under::<Order>(&codec, &bytes, &limits) <= bound);
            prop_assert!(peak_bytes_under::<Vec<Tree>>(&codec, &bytes, &limits) <= bound);
        }

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
        for codec in codecs() {
            let mut bytes = encode_in(&codec, &order);
            let at = at.index(bytes.len());
            prop_assert!(decode_in::<Order>(&codec, &bytes[..at]).is_err());

            bytes[at] = byte;
            let bound = 4096 + 16 * bytes.len() as u64 + own_bytes(&codec, bytes.len());
            let peak = peak_bytes_under::<Order>(&codec, &bytes, &memory_limits(0, 16));
            prop_assert!(peak <= bound);
        }
    }
}
