//! What decoding one payload may cost, and the count of it while it runs.
//!
//! ```text
//!   payload -> codec's Deserializer -> Limited (this folder) -> the user's Deserialize
//!                                         |
//!                                      Budget: depth, elements, memory
//! ```
//!
//! Invariants: a refused payload was refused before the value that broke the limit was built;
//! nothing is reserved for elements that were only declared, beyond `RESERVED_ELEMENTS_MAX`; what
//! is allocated is bounded by the length of the payload, whatever the type (PL-8).
//! Why a wrapper around serde, not a limit inside each codec: one set of rules for all of them,
//! custom ones included, and a codec's own byte limit does not see zero-sized elements at all.

mod access;
mod budget;
mod deserializer;
mod room;

pub(crate) use budget::Budget;
pub use budget::DecodeLimits;
pub(crate) use deserializer::Limited;
