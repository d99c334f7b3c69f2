//! RPC that you can upgrade, and take back, under load.

pub mod client;
pub mod driver;
pub mod error;
pub mod proto;
pub mod server;
pub mod service;
pub mod transport;
pub mod util;
pub mod wire;

pub use client::{Call, Channel, ClientConfig};
pub use error::{Error, ErrorKind};
pub use server::{Server, ServerConfig};
pub use service::{CallError, Codec, Cx, Dispatch, Method, Router, Run, Schema, Status, Stub};
#[cfg(feature = "macros")]
pub use switchback_macros::Schema;
pub use wire::{Code, Disposition};

/// What generated code names. No part of the interface: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use std::convert::Infallible;
    pub use std::future::Future;
    pub use std::sync::{Arc, LazyLock};
    pub use std::time::Duration;

    pub use crate::client::{Call, Channel};
    pub use crate::error::Error;
    pub use crate::service::{CallError, Cx, Fingerprint, Method, Payload, Refusal, Run, Schema};
    pub use crate::service::{SchemaFields, SchemaVariants, SchemaWriter, Service, Status, Stub};
    pub use crate::service::{convert_result, upgrade_request};
    pub use crate::wire::MethodId;
}
