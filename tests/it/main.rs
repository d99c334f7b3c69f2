//! The one integration binary: whole behaviour, each module one part of it.

#[path = "../ledger/mod.rs"]
mod ledger;

mod ledgered;
#[cfg(seeded_bugs)]
mod seeded_bugs;
mod stuck;
