//! Calling: a channel to a server, and calls on it.

mod call;
mod channel;
mod config;
mod connector;
mod raw;
#[cfg(feature = "tower")]
mod tower;

pub use call::Call;
pub use channel::{Channel, ChannelBuilder};
pub use config::ClientConfig;
pub use raw::RawCall;
#[cfg(feature = "tower")]
pub use tower::ChannelService;
