//! Peers that mean harm: one row of a catalogue of attacks per test, each with its line in a table.
//!
//! The attacker is bytes, written from the specification alone. What it attacks is a process of
//! its own, so that memory, descriptors, threads and processor time can be read from the system:
//! a server with an innocent client (`server`, `calls`), or a client that also calls an innocent
//! server (`client`). Rows run one at a time; the table goes to standard error. The rows of
//! `spec/unexpected.md` are held against the same processes (`unexpected`).
//!
//! Not run here: A10 to A13 and A32 (decoding, in the payload and spec tests), A18 to A22 and A30,
//! A31 (TLS, authorization, registry: nothing of it exists yet), A23 (the fuzz and wire tests),
//! A27 (nothing is put together again in protocol version 1).

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bytes;
mod calls;
mod client;
mod process;
mod raw;
mod role;
mod server;
mod suite;
mod time;
mod unexpected;
mod victim;
