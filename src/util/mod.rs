//! Small things that know nothing of RPC.

mod fnv;

pub use fnv::{Fnv64, fnv64};
