//! Calling: a channel to a server, and calls on it.

mod call;
mod channel;
mod config;
mod connector;
mod metrics;

pub use call::Call;
pub use channel::{Channel, ChannelBuilder};
pub use config::ClientConfig;
pub use metrics::ClientMetrics;
