//! Client and server as their users meet them: one binary, a file per feature.
//!
//! Invariant: nothing here sleeps. What takes time runs on tokio's paused clock over the
//! in-memory duplex; what runs over real TCP waits for signals only.

mod bad_input;
mod cancel;
mod deadline;
mod drain;
mod handshake;
mod limits;
mod live;
mod panics;
mod raw;
mod run_modes;
mod slots;
mod stall;
mod support;
mod tiers;
mod transport;
mod unary;
mod versions;
mod wrong_peer;
