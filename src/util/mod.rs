//! Small things that know nothing of RPC.

pub mod bugs;
mod flat_map;
mod fnv;
mod histogram;
mod log_limit;
mod memory;
pub(crate) mod pool;
mod scope;
mod splitmix;

pub use flat_map::FlatMap;
pub use fnv::{Fnv64, fnv64};
pub use histogram::{Distribution, Histogram};
pub(crate) use log_limit::LogLimit;
pub(crate) use memory::{OutOfMemory, probe, try_grow};
pub use scope::{Scope, current_scope, with_scope};
pub use splitmix::splitmix64;
