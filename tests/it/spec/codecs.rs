//! Payloads of codecs 2 to 4 and raw ones against the golden bytes, and what JSON refuses.
//!
//! Values and types are those of `payload`: one list for all codecs, so that a type is never
//! covered in one of them only.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchback::service::prost::{Message, Name};
use switchback::service::{DecodeError, DecodeLimits, Payload, Proto, Raw, WithBytes, schema_text};
use switchback::util::fnv64;
use switchback::{Codec, Schema};

use crate::spec::payload::{check_enums, check_golden, check_invalid};
use crate::spec::{list, text, unhex, vectors};

fn decode<T: Payload>(codec: &Codec, bytes: &[u8]) -> Result<T, DecodeError> {
    T::decode_payload(codec, bytes, &DecodeLimits::default())
}

/// Codec 2: integers (PL-9), the rest (PL-10), what it refuses.
#[test]
fn pl_9_pl_10_postcard_is_the_golden_bytes() {
    assert_eq!((Codec::POSTCARD.id(), Codec::POSTCARD.name()), (2, "postcard"));
    check_golden(&Codec::POSTCARD, "payload_postcard.json");
    check_invalid(&Codec::POSTCARD, "payload_postcard.json");
    check_enums(&Codec::POSTCARD);
}

/// Codec 3: the text (PL-11), the types (PL-12), fields that are more, less or twice (PL-13).
#[test]
fn pl_11_pl_12_pl_13_json_is_the_golden_text() {
    assert_eq!((Codec::JSON.id(), Codec::JSON.name()), (3, "json"));
    check_golden(&Codec::JSON, "payload_json.json");
    check_invalid(&Codec::JSON, "payload_json.json");
    check_enums(&Codec::JSON);
}

/// The elements and the memory of JSON are counted as those of codec 1 (PL-5, PL-8).
#[test]
fn pl_5_pl_8_json_is_counted() {
    let nulls = |count: usize| format!("[{}null]", "null,".repeat(count - 1));
    assert_eq!(decode::<Vec<()>>(&Codec::JSON, nulls(1 << 20).as_bytes()).unwrap().len(), 1 << 20);
    let error = decode::<Vec<()>>(&Codec::JSON, nulls((1 << 20) + 1).as_bytes()).unwrap_err();
    assert_eq!(error, DecodeError::Elements { seen: (1 << 20) + 1, limit: 1 << 20 });

    let mut limits = DecodeLimits::default();
    (limits.memory_base_bytes, limits.memory_factor) = (9, 1);
    assert_eq!(Codec::JSON.decode(b"\"abc\\n0123456\"", &limits), Ok("abc\n0123456".to_owned()));
    limits.memory_factor = 0;
    let error = Codec::JSON.decode::<String>(b"\"abc\\n0123456\"", &limits).unwrap_err();
    assert_eq!(error, DecodeError::Memory { seen_bytes: 11, limit_bytes: 9 });
}

/// What JSON would give back as something else is an error of the sender (PL-14).
#[test]
fn pl_14_json_sends_no_null_for_something() {
    #[derive(Serialize)]
    struct Wrapped<T>(T);
    #[derive(Serialize)]
    struct Bare;

    fn encoded<T: Serialize>(value: &T) -> Result<String, String> {
        let mut out = b"kept".to_vec();
        let result = Codec::JSON.encode(value, &mut out).map_err(|error| error.message);
        match result {
            Ok(()) => Ok(String::from_utf8(out[4..].to_vec()).unwrap()),
            Err(message) => {
                assert_eq!(out, b"kept", "what was written before an error is taken back");
                Err(message)
            }
        }
    }

    let no_float = Err("JSON has no form for NaN and infinities".to_owned());
    assert_eq!(encoded(&f64::NAN), no_float);
    assert_eq!(encoded(&(1, [f32::INFINITY])), no_float);
    assert_eq!(encoded(&vec![Some(f64::NEG_INFINITY)]), no_float);
    assert_eq!(encoded(&BTreeMap::from([("a", Wrapped(f64::NAN))])), no_float);
    let nothing = Err("JSON has no form for an option that holds nothing".to_owned());
    assert_eq!(encoded(&Some(())), nothing);
    assert_eq!(encoded(&Some(None::<u8>)), nothing);
    assert_eq!(encoded(&[Some(Wrapped(Wrapped(None::<u8>)))]), nothing);
    assert_eq!(encoded(&Some(Bare)), nothing);
    // What holds nothing without being an option is `null`, and so is an option in a list.
    assert_eq!(encoded(&((), Bare, None::<u8>, Wrapped(()))), Ok("[null,null,null,null]".into()));
    assert_eq!(encoded(&Some(vec![None, Some(1)])), Ok("[null,1]".into()));
    assert_eq!(encoded(&Some(Some(1))), Ok("1".into()));
    assert_eq!(encoded(&BTreeMap::from([((1, 2), 3)])), Err("key must be a string".into()));
}

/// An error of decoding JSON says where, in the terms of whoever wrote the text.
#[test]
fn pl_12_json_errors_name_the_path() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Order {
        id: u64,
        tags: Vec<Tag>,
        by_name: BTreeMap<String, Vec<i8>>,
    }
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Tag {
        name: String,
        kind: Option<Kind>,
    }
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    enum Kind {
        Plain,
        Sized(u8),
    }

    let error =
        |text: &str| decode::<Order>(&Codec::JSON, text.as_bytes()).unwrap_err().to_string();
    let tags = |tag: &str| format!(r#"{{"id":1,"tags":[{{"name":"a"}},{tag}],"by_name":{{}}}}"#);
    assert_eq!(
        error(&tags(r#"{"name":7}"#)),
        "$.tags[1].name: invalid type: integer `7`, expected a string"
    );
    assert_eq!(error(&tags("{}")), "$.tags[1]: missing field `name`");
    assert_eq!(
        error(&tags(r#"{"name":"b","kind":{"Sized":256}}"#)),
        "$.tags[1].kind.Sized: invalid value: integer `256`, expected u8"
    );
    assert_eq!(
        error(&tags(r#"{"name":"b","kind":"Plane"}"#)),
        "$.tags[1].kind: unknown variant `Plane`, expected `Plain` or `Sized`"
    );
    assert_eq!(
        error("{\n \"id\": 1,\n \"by_name\": {\"a b\": [1, \"x\"]}}"),
        "$.by_name[\"a b\"][1]: invalid type: string \"x\", expected i8"
    );
    assert_eq!(error("[]"), "$: invalid length 0, expected struct Order with 3 elements");
    assert_eq!(error(r#"{"id":1,,"tags":[]}"#), "$: key must be a string at byte 8");
    assert_eq!(error(r#"{"id":nil}"#), "$.id: expected ident at byte 7");
    assert_eq!(error(r#"{"id":1,"id":2}"#), "$.id: duplicate field `id`");
    assert_eq!(error(r#"{"id":1"#), "at least 1 more bytes are needed than the 7 there are");
    let error = decode::<u8>(&Codec::JSON, b" 1 \n 2 ").unwrap_err();
    assert_eq!(error, DecodeError::Leftover { used_bytes: 5, len_bytes: 7 });
    let error = decode::<String>(&Codec::JSON, b"\"ab\xff\"").unwrap_err();
    assert_eq!(error.to_string(), "not UTF-8 after 3 bytes");
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(uint32, tag = "1")]
    value: u32,
    #[prost(message, optional, boxed, tag = "2")]
    next: Option<Box<Self>>,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(sint64, tag = "2")]
    cents: i64,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bytes = "vec", tag = "4")]
    digest: Vec<u8>,
    #[prost(uint32, repeated, tag = "5")]
    tags: Vec<u32>,
    #[prost(bool, optional, tag = "6")]
    urgent: Option<bool>,
    #[prost(double, tag = "7")]
    rate: f64,
    #[prost(message, optional, tag = "8")]
    node: Option<Node>,
    #[prost(string, repeated, tag = "9")]
    notes: Vec<String>,
}

impl Name for Node {
    const NAME: &'static str = "Node";
    const PACKAGE: &'static str = "vectors";
}

impl Name for Record {
    const NAME: &'static str = "Record";
    const PACKAGE: &'static str = "vectors";
}

/// A name of 58 characters.
#[derive(Clone, PartialEq, Message)]
struct Longest {}

/// One of 60.
#[derive(Clone, PartialEq, Message)]
struct TooLong {}

const LONG: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

impl Name for Longest {
    const NAME: &'static str = LONG;
    const PACKAGE: &'static str = "a";
}

impl Name for TooLong {
    const NAME: &'static str = LONG;
    const PACKAGE: &'static str = "a.b";
}

/// A number as the vectors write it.
fn number<T: TryFrom<i128, Error: Debug>>(value: &Value) -> T {
    let number =
        value.as_str().map_or_else(|| value.as_i64().unwrap().into(), |n| n.parse().unwrap());
    T::try_from(number).unwrap()
}

fn node(value: &Value) -> Node {
    Node {
        value: value.get("value").map_or(0, number),
        next: value.get("next").map(|next| Box::new(node(next))),
    }
}

fn record(value: &Value) -> Record {
    let of = |name: &str| value.get(name);
    let numbers = |list: &Value| list.as_array().unwrap().iter().map(number).collect();
    Record {
        id: of("id").map_or(0, number),
        cents: of("cents").map_or(0, number),
        name: of("name").map_or("", |name| name.as_str().unwrap()).to_owned(),
        digest: of("digest").map_or_else(Vec::new, unhex),
        tags: of("tags").map_or_else(Vec::new, numbers),
        urgent: of("urgent").map(|urgent| urgent.as_bool().unwrap()),
        rate: of("rate").map_or(0.0, |rate| rate.as_f64().unwrap()),
        node: of("node").map(node),
        notes: of("notes").map_or_else(Vec::new, |n| serde_json::from_value(n.clone()).unwrap()),
    }
}

/// Codec 4 takes and writes the golden messages, and refuses the invalid ones (PL-15).
#[test]
fn pl_15_protobuf_is_the_golden_bytes() {
    fn check<M>(message: M, bytes: &[u8], canonical: bool)
    where
        M: Message + Clone + Debug + Default + PartialEq + 'static,
    {
        let message = Proto(message);
        assert_eq!(decode::<Proto<M>>(&Codec::PROTOBUF, bytes), Ok(message.clone()));
        let mut out = Vec::new();
        message.encode_payload(&Codec::PROTOBUF, &mut out).unwrap();
        assert_eq!(out == bytes, canonical, "{message:?}");
    }

    assert_eq!((Codec::PROTOBUF.id(), Codec::PROTOBUF.name()), (4, "protobuf"));
    assert_eq!(schema_text::<Proto<Record>>(), "opaque(proto.vectors.Record)");
    assert_eq!(schema_text::<Proto<Longest>>(), format!("opaque(proto.a.{})", "n".repeat(56)));
    let hash = fnv64(format!("a.b.{}", "n".repeat(56)).as_bytes());
    assert_eq!(schema_text::<Proto<TooLong>>(), format!("opaque(proto.{hash:016x})"));
    let file = vectors("payload_protobuf.json");
    for (kind, canonical) in [("valid", true), ("lenient", false)] {
        for vector in list(&file, kind) {
            let (value, bytes) = (&vector["value"], unhex(&vector["hex"]));
            match text(vector, "message") {
                "vectors.Node" => check(node(value), &bytes, canonical),
                _ => check(record(value), &bytes, canonical),
            }
        }
    }
    for vector in list(&file, "invalid") {
        let bytes = unhex(&vector["hex"]);
        let error = match text(vector, "message") {
            "vectors.Node" => decode::<Proto<Node>>(&Codec::PROTOBUF, &bytes).err(),
            _ => decode::<Proto<Record>>(&Codec::PROTOBUF, &bytes).err(),
        };
        assert!(matches!(error, Some(DecodeError::Malformed { .. })), "{vector}: {error:?}");
    }
}

/// No value of serde's has a form in codec 4, and no message in the others (PL-15).
#[test]
fn pl_15_protobuf_carries_messages_alone() {
    let mut out = Vec::new();
    let error = 7_u8.encode_payload(&Codec::PROTOBUF, &mut out).unwrap_err();
    assert_eq!(
        error.to_string(),
        "codec 4 cannot encode the value: protobuf carries messages only: `Proto<M>` around one of \
         prost's"
    );
    assert!(decode::<u8>(&Codec::PROTOBUF, &[]).is_err());
    for codec in [Codec::BINCODE, Codec::POSTCARD, Codec::JSON] {
        let error = Proto(Node::default()).encode_payload(&codec, &mut out).unwrap_err();
        assert_eq!(
            error.message,
            format!("a message of protobuf has no form in {}, only in protobuf (4)", codec.name())
        );
        assert!(decode::<Proto<Node>>(&codec, &[]).is_err());
    }
    assert!(out.is_empty());
}

/// Raw bytes are the payload under every codec, none at all included (PL-16).
#[test]
fn pl_16_raw_is_its_bytes() {
    for codec in Codec::built_in() {
        for bytes in [&b""[..], b"\xff", b"{not json"] {
            let mut out = vec![1];
            Raw::from(bytes.to_vec()).encode_payload(&codec, &mut out).unwrap();
            assert_eq!(&out[1..], bytes);
            assert_eq!(decode::<Raw>(&codec, bytes), Ok(Raw::from(bytes.to_vec())));
        }
    }
    let mut limits = DecodeLimits::default();
    (limits.memory_base_bytes, limits.memory_factor) = (2, 0);
    assert!(Raw::decode_payload(&Codec::JSON, b"ab", &limits).is_ok());
    assert_eq!(
        Raw::decode_payload(&Codec::JSON, b"abc", &limits),
        Err(DecodeError::Memory { seen_bytes: 3, limit_bytes: 2 })
    );
}

#[derive(Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Item {
    id: u64,
    name: String,
    tags: Vec<u16>,
    note: Option<u32>,
}

/// One vector, both ways, from a buffer and from bytes that the value may keep.
fn check_beside<T>(vector: &Value)
where
    T: Payload + Schema + Serialize + for<'de> Deserialize<'de> + Debug + PartialEq,
{
    assert_eq!(schema_text::<WithBytes<T>>(), text(vector, "type"));
    let codec = Codec::built_in();
    let codec = codec.iter().find(|codec| vector["codec"] == codec.id()).unwrap();
    let payload = Bytes::from(unhex(&vector["hex"]));
    let copied = decode::<WithBytes<T>>(codec, &payload);
    let kept = WithBytes::<T>::decode_bytes(codec, &payload, &DecodeLimits::default());
    assert_eq!(copied, kept);
    let Some(value) = vector.get("value") else {
        return assert!(kept.is_err(), "{vector}: {kept:?}");
    };
    let message: T = serde_json::from_value(value["message"].clone()).unwrap();
    let value = WithBytes { message, bytes: unhex(&value["bytes"]).into() };
    let mut out = Vec::new();
    value.encode_payload(codec, &mut out).unwrap();
    assert_eq!(out, payload, "{vector}");
    assert_eq!(kept, Ok(value), "{vector}");
}

/// A message and the bytes beside it are the golden bytes, and what is cut or says too much is
/// refused (PL-17).
#[test]
fn pl_17_a_message_with_bytes_is_the_golden_bytes() {
    let file = vectors("payload_beside.json");
    let (valid, invalid) = (list(&file, "valid"), list(&file, "invalid"));
    assert!(valid.len() >= 18 && invalid.len() >= 24);
    for vector in valid.iter().chain(invalid) {
        match text(vector, "type") {
            "str+raw" => check_beside::<String>(vector),
            "u64+raw" => check_beside::<u64>(vector),
            "unit+raw" => check_beside::<()>(vector),
            _ => check_beside::<Item>(vector),
        }
    }
}

/// A message of protobuf may have bytes beside it too, in codec 4 alone (PL-15, PL-17).
#[test]
fn pl_17_bytes_beside_a_message_of_protobuf() {
    let value = WithBytes { message: Proto(Node::default()), bytes: "beside".into() };
    let mut out = Vec::new();
    value.encode_payload(&Codec::PROTOBUF, &mut out).unwrap();
    assert_eq!(out, b"\0\0\0\0beside");
    assert_eq!(decode(&Codec::PROTOBUF, &out), Ok(value.clone()));
    for codec in [Codec::BINCODE, Codec::POSTCARD, Codec::JSON] {
        assert!(!WithBytes::<Proto<Node>>::FORMS.has(&codec));
        assert!(value.encode_payload(&codec, &mut out).is_err());
    }
    assert!(!WithBytes::<u8>::FORMS.has(&Codec::PROTOBUF));
}
