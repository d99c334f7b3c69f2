//! Faults of real processes, a real network and a real clock: F1, F2, F3, F6, F8, F10, F11, F12,
//! F13 and F21 of the fault catalogue.
//!
//! ```text
//!   test ---- loopback ----> server, a child: this binary again (role)
//!   test, inside a network namespace ---- veth, nft, tbf ----> server, inside another
//! ```
//!
//! Invariants: every child ends with the test that started it, namespaces too, also after a panic;
//! what measures time runs alone, what waits for timers of 10 s runs two at a time; what is
//! not to be had on a machine (namespaces, nft, libfaketime) fails the tests that need it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../ledger/mod.rs"]
mod ledger;

mod child;
mod clock;
mod crash;
mod measure;
mod memory;
mod net;
mod partition;
mod restart;
mod role;
mod slow;
mod tiers;
