//! RPC that you can upgrade, and take back, under load.
//!
//! Every method carries a version. Old and new handlers, old and new clients work side by side on
//! one wire, and each call is made in the newest version that both of its ends know.
//!
//! # Goals
//!
//! - A release is rolled out and rolled back without losing a call.
//! - What happened to a call is never a guess: every failure says whether it was executed.
//! - Few lines to a first answered call; no code generation step; a small dependency tree.
//! - A protocol that someone can write a peer for from its specification alone.
//! - The fastest RPC connection in Rust.
//!
//! # Not goals
//!
//! Exactly-once execution, ordering between calls, a schema language, interoperation with gRPC.
//!
//! # A first call
//!
//! ```
//! use switchback::{Cx, Server};
//!
//! #[switchback::service(name = "demo.Greeter")]
//! trait Greeter {
//!     #[rpc(version = 1, idempotent)]
//!     async fn greet(&self, cx: &Cx, name: String) -> String;
//! }
//!
//! struct Polite;
//!
//! impl Greeter for Polite {
//!     async fn greet(&self, _cx: &Cx, name: String) -> String {
//!         format!("good day, {name}")
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::new().service(GreeterServer::new(Polite));
//!     let server = server.bind("tcp://127.0.0.1:0").await?;
//!     let greeter = GreeterClient::lazy(&server.url())?;
//!     tokio::spawn(server.serve_until(std::future::pending()));
//!     assert_eq!(greeter.greet("Ada".into()).await?, "good day, Ada");
//!     Ok(())
//! }
//! ```
//!
//! From here: the [`guide`], above all [changing a contract](guide::evolving) and
//! [errors and retries](guide::errors).
//!
//! # Where things are
//!
//! | you want to | look at |
//! |---|---|
//! | write a service | [`service`](macro@service) and [`Schema`](derive@Schema), or [`Method`] |
//! | serve it | [`Server`], [`server`] |
//! | call it | [`Channel`], [`Call`], [`client`] |
//! | call or serve bytes | [`Channel::call_raw`], [`Server::fallback`], [`Server::forward`] |
//! | change a running server | [`Dispatch`] |
//! | see what goes on | [`observe`], [`ServerMetrics`](server::ServerMetrics), feature `builtin` |
//! | test it without a network | `mem://`, the feature `testing`, [`guide::testing`] |
//! | put code around calls | [`ServerInterceptor`], [`ClientInterceptor`], [`AttemptInterceptor`] |
//! | understand a failure | [`CallError`], [`Status`], [`Error`] |
//! | check that nothing published has changed | the feature `contract` |
//! | frame a stream yourself | [`transport::FrameCodec`], [`wire`] |
//! | drive a connection without sockets | [`proto`] |
//!
//! Dropping a call's future takes the call back; every async function says what dropping it does.
//! Time limits are [`Duration`](std::time::Duration)s, sizes are in bytes, every limit has a
//! default and a documented answer when it is reached.

// The macros name the crate by its name; so do its own tests.
extern crate self as switchback;

#[cfg(feature = "builtin")]
pub mod builtin;
pub mod client;
pub mod driver;
pub mod error;
#[cfg(any(doc, doctest))]
pub mod guide;
pub mod observe;
pub mod policy;
pub mod proto;
pub mod server;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
pub mod util;
pub mod wire;

pub use client::{Call, Channel, ClientConfig};
#[cfg(feature = "otel")]
pub use driver::Otel;
pub use driver::Tracing;
pub use error::{Error, ErrorKind, Side};
pub use server::{Server, ServerConfig};
pub use service::{
    AttemptInterceptor, ClientCx, ClientInterceptor, Ended, Hook, ServerInterceptor,
};
pub use service::{CallError, Codec, Cx, Dispatch, Method, Router, Run, Schema, Status, Stub};
#[cfg(feature = "macros")]
pub use switchback_macros::{Schema, service};
pub use wire::{Code, Disposition};

/// What generated code names. No part of the interface: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use std::clone::Clone;
    pub use std::convert::Infallible;
    pub use std::fmt::Debug;
    pub use std::sync::{Arc, LazyLock};
    pub use std::time::Duration;
    pub use std::vec::Vec;

    pub use crate::client::{Call, Channel};
    pub use crate::error::Error;
    pub use crate::service::Status;
    pub use crate::service::{CallError, Converts, Cx, Fingerprint, Method, Payload, Run, Schema};
    pub use crate::service::{SchemaFields, SchemaVariants, SchemaWriter, Service, Stub};
    pub use crate::service::{convert_result, upgrade_request};
    #[cfg(feature = "testing")]
    pub use crate::testing::mock::{MockMethod, client_channel, no_such_method};
    pub use crate::wire::MethodId;
}

/// The code in the README is compiled and run with the tests.
#[cfg(all(doctest, feature = "bincode", feature = "macros", feature = "tcp"))]
#[doc = include_str!("../README.md")]
struct Readme;
