//! The contract of a service: each version of each method with its types, to be kept and compared.
//!
//! A version is frozen once it is published. `switchback.lock` in the user's repository records
//! what was published, and a check in the user's CI compares it with what the program serves now:
//! a new version passes, a change to a frozen one does not.
//!
//! Invariant: pure text in, findings out; who reads and writes the file is elsewhere.
//! Why texts and not hashes alone: a hash says that something changed, a text says what.

mod compare;
mod difference;
mod lock;
mod tree;

pub use compare::{Change, Comparison, Pledge};
pub use difference::Difference;
pub use lock::{Contract, ContractRow, LockError};
pub use tree::{SchemaTextError, SchemaTree, Variant, VariantContent};
