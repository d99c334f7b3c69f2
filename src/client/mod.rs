//! Calling: a channel to a server, and calls on it.

#[cfg(feature = "macros")]
mod builtin;
mod call;
mod channel;
mod config;
mod connector;
mod metrics;
mod raw;
#[cfg(feature = "tower")]
mod tower;

#[cfg(feature = "macros")]
pub use builtin::{CountersClient, HealthClient, ReflectionClient};
pub use call::Call;
pub use channel::{Channel, ChannelBuilder};
pub use config::ClientConfig;
pub use metrics::ClientMetrics;
pub use raw::RawCall;
#[cfg(feature = "tower")]
pub use tower::ChannelService;
