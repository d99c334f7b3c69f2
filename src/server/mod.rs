//! Serving: many services on one port, until told to stop.

mod config;
mod listener;
mod serving;

pub use config::ServerConfig;
pub use listener::{BoundServer, Drained};
pub use serving::Server;
