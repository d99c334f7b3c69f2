//! RPC that you can upgrade, and take back, under load.

pub mod service;
pub mod util;

pub use service::Schema;
#[cfg(feature = "macros")]
pub use switchback_macros::Schema;

/// What generated code names. No part of the interface: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::service::{Schema, SchemaFields, SchemaVariants, SchemaWriter};
}
