//! The specification, proven: golden vectors in both directions, and requirements by their ids.
//!
//! A test named `fr_3_...` proves requirement FR-3 of `spec/`. The vectors are read from
//! `spec/vectors`, never copied here; they come from an implementation of their own.

mod bits;
mod bytes;
mod calls;
#[cfg(all(feature = "json", feature = "postcard", feature = "protobuf"))]
mod codecs;
mod conversations;
mod fields;
mod fingerprints;
mod fragments;
mod frames;
mod handshake;
mod payload;
mod peers;
mod pending;
mod prefaces;
mod queue;
mod status;
mod tables;
mod tlvs;
mod turns;

use std::time::Instant;

use serde_json::Value;

/// One file of `spec/vectors`.
fn vectors(file: &str) -> Value {
    let path = format!("{}/spec/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the vectors are part of the repository");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

/// Some instant; what is done with it never waits for another.
#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn now() -> Instant {
    Instant::now()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value[key].as_array().expect("a list");
    assert!(!list.is_empty(), "{key} has vectors");
    list
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is a text in {value}"))
}

fn number<T: TryFrom<u64, Error: std::fmt::Debug>>(value: &Value) -> T {
    let number = value.as_u64().unwrap_or_else(|| panic!("{value} is a number"));
    T::try_from(number).expect("the number fits its field")
}

fn hash(value: &Value) -> u64 {
    let digits = value.as_str().expect("a hash is a text");
    assert_eq!(digits.len(), 16);
    u64::from_str_radix(digits, 16).expect("a hash is hexadecimal")
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().expect("hexadecimal is a text").as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit");
    let pairs = digits.chunks(2).map(|pair| digit(pair[0]) * 16 + digit(pair[1]));
    pairs.map(|byte| u8::try_from(byte).expect("two digits are a byte")).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte is one digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
