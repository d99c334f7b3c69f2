//! Serving: many services on one port, until told to stop.

mod accept_errors;
#[cfg(feature = "builtin")]
mod builtin;
mod config;
mod connections;
#[cfg(feature = "tower")]
mod layer;
mod listener;
mod metrics;
mod serving;
mod watchdog;

pub use config::ServerConfig;
pub use connections::{ListenerHandle, ListenerStats};
pub use listener::{BoundServer, Drained};
pub use metrics::ServerMetrics;
pub use serving::Server;
