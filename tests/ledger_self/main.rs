//! The ledger checker itself on trial: whoever judges every other test must be judged first.
//!
//! - `cases`: one small ledger by hand, clean, and each invariant broken in the smallest ways.
//! - `histories`: random clean histories, each then broken by one of a list of mutations.
//! - `tiers`: calls that handlers make, and clients that are killed.
//! - `files`: torn, empty, foreign and malformed logs; a process that is really killed.

#[path = "../ledger/mod.rs"]
mod ledger;

mod cases;
mod files;
mod histories;
mod history;
mod tiers;
