//! Calling: a channel to a server, and calls on it.

#[cfg(feature = "macros")]
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

#[cfg(feature = "macros")]
pub use builtin::{CountersClient, HealthClient, ReflectionClient};
pub use call::Call;
pub use channel::{Channel, ChannelBuilder};
pub use config::ClientConfig;
pub use metrics::ClientMetrics;
pub use raw::RawCall;
#[cfg(feature = "tower")]
pub use tower::ChannelService;
pub use with_metadata::CallWithMetadata;
