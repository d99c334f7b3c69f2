//! Any handshake, under libFuzzer.
//!
//! The body is a plain function, which the tests replay too.

#![no_main]

#[path = "../bodies/handshake.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
