//! Small things that know nothing of RPC.

pub mod bugs;
mod fnv;
mod scope;

pub use fnv::{Fnv64, fnv64};
pub use scope::{current_deadline, with_deadline};
