//! Serving: many services on one port, until told to stop.

mod config;
#[cfg(feature = "tcp")]
mod listener;
mod serving;

pub use config::ServerConfig;
#[cfg(feature = "tcp")]
pub use listener::{BoundServer, Drained};
pub use serving::Server;
