//! The simulation: the real driver, client and server over a scripted network, on a seeded
//! executor with virtual time.
//!
//! ```text
//! SIM_SEEDS=10000 cargo test --release --test sim     so many seeds
//! SIM_BASE=<commit>                                   which ones: a hash of this is the first
//! SIM_SEED=17 cargo test --release --test sim seeds   this one, with its trace on stderr
//! ```
//!
//! - `executor`, `net`, `link`, `weather`, `tap`: tasks, time and bytes, all drawn from the seed
//! - `world`: one simulation from its start to its end; `house`, `caller`: its servers and clients
//! - `relay`: handlers that are clients of a second tier
//! - `faults`: what goes wrong; `expect`: what must hold all the same
//!
//! Invariant: one thread runs a simulation, and nothing in it looks outside: same seed, same
//! trace. Seeds are independent, so there is a thread for each core.
#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on has failed")]

#[path = "../ledger/mod.rs"]
mod ledger;

mod caller;
mod executor;
#[cfg(test)]
mod exhaustive;
mod expect;
mod faults;
mod house;
mod link;
mod net;
mod random;
mod relay;
#[cfg(seeded_bugs)]
mod seeded_bugs;
mod seeds;
mod tap;
mod trace;
mod weather;
mod world;
