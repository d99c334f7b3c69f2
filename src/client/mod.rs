//! Calling: a channel to a server, and calls on it.
//!
//! ```
//! # use std::time::Duration;
//! # use switchback::{Cx, Server};
//! # #[switchback::service(name = "demo.Desk")]
//! # trait Desk { #[rpc(version = 1)] async fn open(&self, cx: &Cx, req: u32) -> String; }
//! # struct Clerk;
//! # impl Desk for Clerk {
//! #     async fn open(&self, cx: &Cx, req: u32) -> String {
//! #         let language = cx.metadata().get("language").unwrap_or_default();
//! #         let _ = cx.add_response_metadata("clerk", b"7");
//! #         format!("{req} {}", String::from_utf8_lossy(language))
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = Server::new().service(DeskServer::new(Clerk)).bind("mem://").await?;
//! # let desk = DeskClient::lazy(&server.url())?;
//! # tokio::spawn(server.serve_until(std::future::pending()));
//! let call = desk
//!     .open(17)
//!     .timeout(Duration::from_millis(200)) // Over all attempts.
//!     .wait_for_ready(true)
//!     .metadata("language", b"en");
//! let (answer, metadata) = call.with_metadata().await; // Or just `call.await?`.
//! assert_eq!(answer?, "17 en");
//! assert_eq!(metadata.get("clerk"), Some(&b"7"[..]));
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "builtin")]
mod builtin;
mod call;
mod channel;
mod config;
mod connector;
mod described;
mod failures;
mod hooks;
mod metrics;
mod raw;
#[cfg(feature = "tower")]
mod tower;
mod with_metadata;

#[cfg(feature = "builtin")]
pub use builtin::{CountersClient, HealthClient, ReflectionClient};
pub use call::Call;
pub use channel::{Channel, ChannelBuilder};
pub use config::ClientConfig;
pub use metrics::ClientMetrics;
pub use raw::RawCall;
#[cfg(feature = "tower")]
pub use tower::ChannelService;
pub use with_metadata::CallWithMetadata;
