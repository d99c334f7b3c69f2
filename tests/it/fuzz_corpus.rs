//! The corpora of fuzz/, replayed and mutated without a fuzzer, and what they must reach.
//!
//! Bodies are the very functions that the fuzz targets run. Mutations are few, cheap and the same
//! in every run; a finding prints its input. The seeds come from the golden vectors:
//! `cargo test --test it write_seeds -- --ignored` adds them, `-merge=1` of a fuzz target keeps
//! what else was found to reach further. Those of connection_ops and handshake, whose inputs are
//! decisions and no bytes of the wire, were all found so, with a name where one once failed.

#[path = "../../fuzz/bodies/connection_ops.rs"]
mod connection_ops;
#[path = "../../fuzz/bodies/decode.rs"]
mod decode;
#[path = "../../fuzz/bodies/handshake.rs"]
mod handshake;
#[path = "../../fuzz/bodies/payload.rs"]
mod payload;
#[path = "../../fuzz/bodies/roundtrip.rs"]
mod roundtrip;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use switchback::proto::KnownTable;
use switchback::wire::{
    DecodeError, Decoder, Flags, Frame, Kind, MethodId, MethodRow, TablePayload, TlvError,
};
use switchback::wire::{VersionRow, push_tlv};

const MUTATIONS: u32 = 20_000;
/// Of whole conversations, which take longer.
const TALK_MUTATIONS: u32 = 5_000;
const MUTATED_BYTES_MAX: usize = 2048;

/// Every input of a corpus, and mutations of it, pass the body of operations on both sides.
#[test]
fn connection_ops_corpus_passes() {
    replay("connection_ops", connection_ops::run, TALK_MUTATIONS);
}

/// Every input of a corpus, and mutations of it, pass the body of the handshakes.
#[test]
fn handshake_corpus_passes() {
    replay("handshake", handshake::run, TALK_MUTATIONS);
}

/// Every input of a corpus, and mutations of it, pass the body of the frame decoder.
#[test]
fn decode_corpus_passes() {
    replay("decode", decode::run, MUTATIONS);
}

/// Every input of a corpus, and mutations of it, pass the body of the payload decoder.
#[test]
fn payload_corpus_passes() {
    replay("payload", payload::run, MUTATIONS);
}

/// Every input of a corpus, and mutations of it, pass the body of the round trips.
#[test]
fn roundtrip_corpus_passes() {
    replay("roundtrip", roundtrip::run, MUTATIONS);
}

/// The corpus reaches every kind of frame and every reason in src/wire for refusing one.
#[test]
fn decode_corpus_reaches_every_reason() {
    let mut reached = BTreeSet::new();
    for (_, input) in corpus("decode") {
        reach(&input, &mut reached);
    }
    eprintln!("reached: {reached:#?}");

    let mut wanted: BTreeSet<String> = Kind::ALL.iter().map(|kind| format!("{kind:?}")).collect();
    for variant in ["Skipped", "HeadCrc", "BodyCrc", "FrameTooLarge", "UnknownKind", "UnknownFlag"]
    {
        wanted.insert(variant.to_owned());
    }
    for variant in ["UnknownTlv", "Malformed", "TlvError::UnknownCritical", "TableError::Hash"] {
        wanted.insert(variant.to_owned());
    }
    wanted.extend(reasons());
    let missed: Vec<&String> = wanted.difference(&reached).collect();
    assert!(missed.is_empty(), "the corpus does not reach {missed:#?}");
}

/// Writes a seed for every frame, table and payload of the golden vectors.
#[test]
#[ignore = "writes fuzz/corpus: run it when the vectors have changed"]
fn write_seeds() {
    for (target, name, input) in seeds() {
        let folder = folder(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), input).unwrap();
    }
}

fn replay(target: &str, body: fn(&[u8]), mutations: u32) {
    let inputs: Vec<Vec<u8>> = corpus(target).into_values().collect();
    assert!(inputs.len() >= 10, "fuzz/corpus/{target} has {} inputs", inputs.len());
    for input in &inputs {
        run(body, input);
    }
    let small: Vec<&Vec<u8>> = inputs.iter().filter(|i| i.len() <= MUTATED_BYTES_MAX).collect();
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..mutations {
        let mut input = small[random.below(small.len())].clone();
        for _ in 0..=random.below(4) {
            let other = small[random.below(small.len())];
            mutate(&mut input, other, &mut random);
        }
        run(body, &input);
    }
}

/// One small change: a byte, a bit, a number, a piece out or in, a piece of another input.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut XorShift) {
    let at = random.below(input.len() + 1);
    let len = random.below(9);
    let end = input.len().min(at + len);
    match random.below(7) {
        0 => drop(input.drain(at..end)),
        1 => drop(input.splice(at..at, other.iter().copied().take(len))),
        2 => {
            let from = random.below(other.len() + 1);
            let to = other.len().min(from + len);
            drop(input.splice(at..end, other[from..to].iter().copied()));
        }
        3 => input.truncate(at.max(1)),
        kind => {
            let interesting = [0, 1, 2, 16, 64, 127, 128, 250, 251, 252, 253, 255];
            let Some(byte) = input.get_mut(at) else {
                return input.push(interesting[random.below(interesting.len())]);
            };
            *byte = match kind {
                4 => *byte ^ (1 << random.below(8)),
                5 => byte.wrapping_add(if random.below(2) == 0 { 1 } else { u8::MAX }),
                _ => interesting[random.below(interesting.len())],
            };
        }
    }
}

/// Runs a body, and prints the input if it panics.
fn run(body: fn(&[u8]), input: &[u8]) {
    struct Finding<'a>(&'a [u8]);

    impl Drop for Finding<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
                eprintln!("the input was {hex}");
            }
        }
    }

    let _finding = Finding(input);
    body(input);
}

/// Vigna's xorshift64*: the same numbers in every run.
struct XorShift(u64);

impl XorShift {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(random).expect("31 bits") % end
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn corpus(target: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder(target)).expect("the corpus is in the repository");
    let paths = files.map(|file| file.expect("a folder can be listed").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("a file can be read"))).collect()
}

/// Notes the kinds and errors that an input leads to.
fn reach(input: &[u8], reached: &mut BTreeSet<String>) {
    let Some(case) = decode::Case::new(input) else {
        return;
    };
    let mut decoder = Decoder::new(case.limit);
    let mut rest = &case.stream[..];
    loop {
        match decoder.decode(rest) {
            Ok(Some((raw, used))) => {
                rest = &rest[used..];
                match Frame::parse(raw) {
                    Ok(frame) => reach_frame(raw.head.kind, frame, reached),
                    Err(error) => reach_error(error, reached),
                }
            }
            Ok(None) => return,
            Err(error) => return reach_error(error, reached),
        }
    }
}

fn reach_frame(kind: Kind, frame: Frame<'_>, reached: &mut BTreeSet<String>) {
    match frame {
        Frame::Skipped(_) => reached.insert(String::from("Skipped")),
        Frame::Request(request) => match request.check_ext() {
            Err(TlvError::Malformed(what)) => reached.insert(what.to_owned()),
            Err(TlvError::UnknownCritical(_)) => {
                reached.insert(String::from("TlvError::UnknownCritical"))
            }
            Ok(()) => reached.insert(format!("{kind:?}")),
        },
        Frame::Table(payload) => {
            if KnownTable::new(payload).is_err() {
                reached.insert(String::from("TableError::Hash"));
            }
            reached.insert(format!("{kind:?}"))
        }
        _ => reached.insert(format!("{kind:?}")),
    };
}

fn reach_error(error: DecodeError, reached: &mut BTreeSet<String>) {
    let text = format!("{error:?}");
    let variant = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    reached.insert(variant.to_owned());
    if let DecodeError::Malformed { what } = error {
        reached.insert(what.to_owned());
    }
}

/// The texts of every refusal of a frame, read from the source, so that a new one is missed here
/// until the corpus reaches it.
fn reasons() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire");
    let mut reasons = BTreeSet::new();
    for file in ["decoder.rs", "head.rs", "frame.rs", "hello.rs", "table.rs", "tlv.rs"] {
        let text = fs::read_to_string(folder.join(file)).expect("the file is there");
        let product = text.split("mod tests").next().unwrap_or_default();
        let other = ["#[", "expect(", "write!"];
        let code = product.lines().filter_map(|line| line.split("//").next());
        for line in code.filter(|line| !other.iter().any(|other| line.contains(other))) {
            let texts = line.split('"').skip(1).step_by(2).filter(|text| text.contains(' '));
            reasons.extend(texts.map(str::to_owned));
        }
    }
    assert!(reasons.len() > 20, "found {} reasons: the pattern is out of date", reasons.len());
    for (reason, _why) in UNREACHABLE {
        reasons.remove(*reason);
    }
    reasons
}

/// Refusals that no frame leads to, and why.
const UNREACHABLE: &[(&str, &str)] = &[
    ("body too short", "the header's lengths were checked against its kind before"),
    ("a handshake key has the wrong size", "the size of each was checked with its block"),
    ("table hash", "only a comparison of hashes gives it, parsing does not"),
];

/// Target, file name, input.
type Seed = (&'static str, String, Vec<u8>);

fn seeds() -> Vec<Seed> {
    let mut seeds = frame_seeds();
    seeds.extend(table_seeds());
    seeds.extend(payload_seeds());
    seeds.extend(preface_seeds());
    seeds.extend(own_seeds());
    seeds
}

/// Valid frames by kind, for both targets; one refused frame per reason.
fn frame_seeds() -> Vec<Seed> {
    let frames = vectors("frames.json");
    let mut by_kind: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for vector in list(&frames, "valid") {
        let bytes = hex(&vector["hex"]);
        if bytes.len() <= MUTATED_BYTES_MAX {
            let kind = text(&vector["frame"]["kind"]).to_lowercase();
            by_kind.entry(kind).or_default().extend(bytes);
        }
    }
    let mut seeds = Vec::new();
    for (kind, stream) in by_kind {
        let input = |mode: u8| [&[mode][..], &stream].concat();
        seeds.push(("decode", format!("valid_{kind}"), input(0)));
        seeds.push(("roundtrip", format!("valid_{kind}"), input(1)));
        seeds.push(("roundtrip", format!("drawn_{kind}"), input(0)));
    }
    let mut known = BTreeSet::new();
    for vector in list(&frames, "invalid").chain(list(&frames, "refused")) {
        let limits = BTreeMap::from([(65_536, 4), (16_384, 8), (64, 12)]);
        let limit = vector["limit"].as_u64().and_then(|limit| limits.get(&limit)).copied();
        let input = [vec![limit.unwrap_or(0)], hex(&vector["hex"])].concat();
        let mut reached = BTreeSet::new();
        reach(&input, &mut reached);
        if reached.is_empty() {
            reached.insert(text(&vector["error"]).to_owned());
        }
        if !reached.is_subset(&known) {
            known.extend(reached);
            seeds.push(("decode", format!("refused_{}", text(&vector["name"])), input));
        }
    }
    seeds
}

/// Tables and updates, as frames whose CRCs the body makes right.
fn table_seeds() -> Vec<Seed> {
    let tables = vectors("tables.json");
    let mut seeds = Vec::new();
    for (set, kind) in [("tables", 3_u8), ("updates", 4), ("invalid", 3)] {
        let mut all = vec![1];
        for vector in list(&tables, set) {
            let payload = hex(&vector["payload_hex"]);
            let Ok(len) = u16::try_from(payload.len()) else {
                continue;
            };
            if payload.len() <= MUTATED_BYTES_MAX || set == "invalid" {
                let kind = if vector["kind"] == "TABLE_UPDATE" { 4 } else { kind };
                all.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
                all.extend(len.to_be_bytes());
                all.extend(payload);
            }
        }
        seeds.push(("decode", format!("tables_{set}"), all));
    }
    seeds
}

/// Of every type the longest value, the longest lenient one and the longest that is refused.
fn payload_seeds() -> Vec<Seed> {
    let payloads = vectors("payload_bincode.json");
    let mut longest: BTreeMap<(usize, &str), Vec<u8>> = BTreeMap::new();
    for set in ["valid", "lenient", "invalid"] {
        for vector in list(&payloads, set) {
            let name = text(&vector["type"]);
            let at = payload::TYPES.iter().position(|(known, _)| *known == name);
            let at = at.unwrap_or_else(|| panic!("TYPES lacks {name}"));
            let selector = u8::try_from(at).expect("less than 256 types");
            let input = [vec![selector], hex(&vector["hex"])].concat();
            let kept = longest.entry((at, set)).or_default();
            if kept.len() < input.len() {
                *kept = input;
            }
        }
    }
    let named = |((at, set), input)| ("payload", format!("type_{at:02}_{set}"), input);
    let mut seeds: Vec<Seed> = longest.into_iter().map(named).collect();
    seeds.extend(codec_seeds());
    for (at, (name, _)) in payload::TYPES.iter().enumerate() {
        let selector = u8::try_from(at).expect("less than 256 types");
        if !seeds.iter().any(|(_, _, input)| input.first() == Some(&selector)) {
            let input = [&[selector, 3][..], &[1, 2, 0].repeat(20)].concat();
            seeds.push((
                "payload",
                format!("type_{at:02}_{}", name.replace(['?', ':'], "_")),
                input,
            ));
        }
    }
    seeds.extend(grown_seeds());
    seeds
}

/// The same of the other codecs, one of each type.
fn codec_seeds() -> Vec<Seed> {
    let mut longest: BTreeMap<(&str, usize), Vec<u8>> = BTreeMap::new();
    for (number, name) in [(1, "postcard"), (2, "json")] {
        let payloads = vectors(&format!("payload_{name}.json"));
        for vector in ["valid", "lenient", "invalid"].iter().flat_map(|set| list(&payloads, set)) {
            let at = payload::TYPES.iter().position(|(known, _)| vector["type"] == *known);
            let at = at.unwrap_or_else(|| panic!("TYPES lacks {vector}"));
            let selector = u8::try_from(number * payload::TYPES.len() + at).expect("three codecs");
            let bytes = vector["json"].as_str().map(|text| text.as_bytes().to_vec());
            let bytes = bytes.unwrap_or_else(|| hex(&vector["hex"]));
            let kept = longest.entry((name, at)).or_default();
            if kept.len() <= bytes.len() && bytes.len() < MUTATED_BYTES_MAX {
                *kept = [vec![selector], bytes].concat();
            }
        }
    }
    let named = |((name, at), input)| ("payload", format!("{name}_{at:02}"), input);
    longest.into_iter().map(named).collect()
}

/// Collections whose elements take much more memory than bytes: to the limit of memory and past it.
fn grown_seeds() -> Vec<Seed> {
    let empty = ["[str]", "[[bytes]]", "{str}", "units", "boxes", "[list]", "?[?u32]"];
    let distinct = ["{u8}", "{u128}", "{u16:[u8]}", "{u64:u64}", "deque", "list", "[u128]"];
    let mut seeds = Vec::new();
    for (at, (name, _)) in payload::TYPES.iter().enumerate() {
        let filler: fn(u8) -> [u8; 2] = match name {
            name if empty.contains(name) => |_| [0, 0],
            name if distinct.contains(name) => |number| [number, number],
            _ => continue,
        };
        let selector = u8::try_from(at).expect("less than 256 types");
        // An option with a value, if it is one; 600 elements, in the short form of bincode.
        let declared = if name.starts_with('?') { &[1, 251][..] } else { &[251] };
        let mut input = [&[selector], declared, &600_u16.to_le_bytes()].concat();
        input.extend((0..=250).cycle().take(600).flat_map(filler));
        seeds.push(("payload", format!("grown_{at:02}"), input));
    }
    seeds
}

fn preface_seeds() -> Vec<Seed> {
    let prefaces = vectors("prefaces.json");
    let mut seeds = Vec::new();
    for set in ["valid", "invalid"] {
        for vector in list(&prefaces, set).take(4) {
            let input = [vec![3], hex(&vector["hex"])].concat();
            seeds.push(("decode", format!("preface_{}", text(&vector["name"])), input));
        }
    }
    seeds
}

/// What the golden vectors leave to their readers: call ids of the wrong class, keys of the other
/// side or of another size, and the largest table with one version more.
fn own_seeds() -> Vec<Seed> {
    let entry = |kind: u8, call: u32, body: &[u8]| {
        let len = u16::try_from(body.len()).expect("the bodies here are short").to_be_bytes();
        [&[kind, 0, 0, 0][..], &call.to_be_bytes(), &len, body].concat()
    };
    let row = |method: u32, versions: u16| MethodRow {
        method: MethodId(method),
        ceiling: MethodRow::NO_CEILING,
        versions: (1..=versions).map(|version| VersionRow { version, fingerprint: 0 }).collect(),
    };
    let rows = (0..64).map(|method| row(method, 64)).chain([row(64, 1)]).collect();
    let table = TablePayload { hash: 0, rows }.to_bytes();
    let mut transcript = Vec::new();
    push_tlv(&mut transcript, 6, &[0; 7]);
    let mut hello_ack = entry(Kind::HELLO_ACK.0, 0, &transcript);
    hello_ack[3] = 11; // ext_len: the body is this TLV.
    let mut tlvs = Vec::new();
    push_tlv(&mut tlvs, 1, &[0, 1, 0, 0]);
    push_tlv(&mut tlvs, 2, &[0, 0, 0, 1]);
    push_tlv(&mut tlvs, 3, &[1]);
    let mut hello = entry(Kind::HELLO.0, 0, &tlvs);
    hello[3] = 21;
    push_tlv(&mut tlvs, 9, &[0, 0, 0xff, 0xff]);
    let mut small_window = entry(Kind::HELLO.0, 0, &tlvs);
    small_window[3] = 29;
    let mut piece = entry(Kind::DATA.0, 5, b"a piece");
    piece[1] = Flags::MORE.0;
    let entries = [
        ("transcript_of_7", hello_ack),
        ("hello_with_a_key_of_the_ack", hello),
        ("ping_of_a_call", entry(Kind::PING.0, 1, &[0; 8])),
        ("response_of_no_call", entry(Kind::RESPONSE.0, 0, &[0, 0, 2, 1])),
        ("versions_4097", entry(Kind::TABLE.0, 0, &table)),
        ("window_65535", small_window),
        ("data", piece),
        ("credit", entry(Kind::CREDIT.0, 0, &[0, 1, 0, 0])),
    ];
    let seed =
        |(name, entry): (&str, Vec<u8>)| ("decode", name.to_owned(), [vec![1], entry].concat());
    let seeds = entries.into_iter().map(seed).chain([("decode", "data_65537".to_owned(), {
        // Longer than a list of bodies may have it: a stream, whose CRCs are made right.
        [&[2, 0, 1, 0, 5, Kind::DATA.0][..], &[0; 7 + 4 + 65_537 + 4]].concat()
    })]);
    seeds.collect()
}

fn vectors(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors").join(file);
    let text = fs::read_to_string(path).expect("the vectors are in the repository");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

fn list<'a>(vectors: &'a Value, set: &str) -> impl Iterator<Item = &'a Value> {
    vectors[set].as_array().expect("a list of vectors").iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unnamed")
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().expect("hexadecimal digits").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit");
    let byte = |pair: &[u8; 2]| u8::try_from(digit(pair[0]) << 4 | digit(pair[1]));
    digits.as_chunks().0.iter().map(|pair| byte(pair).expect("two digits")).collect()
}
