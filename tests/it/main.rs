//! Whole behaviour, as users and peers meet it: one binary, a file per feature.
//!
//! Invariant: nothing here sleeps. What takes time runs on tokio's paused clock over the
//! in-memory duplex; what runs over real TCP waits for signals only.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../ledger/mod.rs"]
mod ledger;

mod addresses;
mod bad_input;
mod builtin;
mod cancel;
mod cancel_safety;
mod client_interceptors;
#[cfg(all(feature = "json", feature = "postcard", feature = "protobuf"))]
mod codecs;
mod conversation;
mod deadline;
mod drain;
mod fallback;
#[cfg(feature = "testing")]
mod faults;
mod found;
mod fuzz_corpus;
mod handshake;
mod herd;
mod interceptors;
#[cfg(all(feature = "json", feature = "macros"))]
mod interop;
mod large;
mod ledgered;
mod limits;
mod listener;
mod live;
mod mem;
mod metastable;
#[cfg(all(feature = "macros", feature = "testing"))]
mod mock;
mod next_version;
mod observe;
mod panics;
mod patience;
mod pieces;
mod policy;
mod proxy;
mod races;
mod raw;
mod raw_call;
mod resets;
mod retry;
mod review;
mod rollover;
mod run_modes;
mod schema;
mod scripted;
#[cfg(seeded_bugs)]
mod seeded_bugs;
mod slots;
mod slow_peers;
mod spec;
mod splits;
mod stall;
mod stuck;
mod support;
mod tiers;
#[cfg(feature = "tower")]
mod together;
#[cfg(feature = "tower")]
mod tower;
mod trace_spans;
mod transport;
mod two_connections;
mod unary;
mod unexpected;
#[cfg(unix)]
mod unix;
mod versions;
mod wrong_peer;
