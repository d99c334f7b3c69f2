//! The ledger: what clients and servers write down of every call, and the judge that compares it.
//!
//! ```text
//!   client  issue -> attempt* -> end      one log per client id; `sent` by who watches its wire
//!             ^ parent: who made the call, if a handler did
//!   server  start -> finish               one log per server instance
//!                 \______________________ check() reads them all -> Verdict
//! ```
//!
//! Invariants judged today (reliability reference, section 3.1): L1 to L7, L9 and L10, and that
//! nothing ran that nobody asked for, that the logs make sense, and that their clocks agree. L5
//! (budget) and L6 (drain) need to be told what to expect, see `Rules`. Still to come: L8 (split).
//!
//! Standard library only, nothing of switchback: a judge must not lean on the accused. It is a
//! plain module, not a crate, so that it adds no public API; include it with
//! `#[path = "…/tests/ledger/mod.rs"] mod ledger;`.
//!
//! What a user of the writers owes: `issue` before the call is made, `end` when its outcome is in
//! hand; `start` before the handler's body does anything, `finish` before its answer may leave
//! (also when its future is dropped: `How::Dropped`); `close` at a good end; `parent` after the
//! `issue` of a call that a handler makes; `crash` in the name of a client that was killed. All
//! times are microseconds since the UNIX epoch, or since the start of a simulation, read by the
//! caller.
#![allow(dead_code, reason = "each test or example that includes this uses a part of it")]
#![allow(unused_imports, reason = "as above, for the re-exports")]
#![allow(unreachable_pub, reason = "the module is the same in binaries and in test harnesses")]

mod case;
mod check;
mod load;
mod record;
mod report;
mod retries;
mod text;
mod tiers;
mod writer;

pub use check::{Rules, check, check_bytes, check_with};
pub use record::{Answer, Attempt, Disposition, End, How, Issue, Outcome};
pub use record::{Parent, Rest, Sent, Start};
pub use report::{Call, Invariant, Verdict, Violation};
pub use retries::Budget;
pub use text::{Owner, Record};
pub use writer::{ClientLog, Memory, ServerLog};
