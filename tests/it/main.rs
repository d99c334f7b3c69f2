//! The one integration binary: whole behaviour, each module one part of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../ledger/mod.rs"]
mod ledger;

mod ledgered;
#[cfg(seeded_bugs)]
mod seeded_bugs;
mod spec;
mod stuck;
