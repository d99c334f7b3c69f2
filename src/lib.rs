//! RPC that you can upgrade, and take back, under load.

pub mod service;
pub mod util;
