//! Small things that know nothing of RPC.

mod fnv;
mod scope;

pub use fnv::{Fnv64, fnv64};
pub use scope::{current_deadline, with_deadline};
