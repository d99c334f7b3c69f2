//! RPC that you can upgrade, and take back, under load.

pub mod driver;
pub mod error;
pub mod proto;
pub mod service;
pub mod transport;
pub mod util;
pub mod wire;

pub use service::{CallError, Cx, Method, Schema, Status};

/// What generated code names. No part of the interface: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::service::{Schema, SchemaFields, SchemaVariants, SchemaWriter};
}
