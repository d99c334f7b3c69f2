//! What a client's connection is told: limits and time limits.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::ends::ClientTotals;
use crate::proto::{ClientLimits, ConductLimits, KeepaliveLimits};

/// What a client's connection is told.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// What the state machine is told.
    pub limits: ClientLimits,
    /// From the connected stream to the server's table.
    pub handshake_timeout: Duration,
    /// Calls that wait for room, at most.
    pub queued_calls_max: usize,
    /// When a silent server is asked whether it lives, and when it is taken for dead.
    pub keepalive: KeepaliveLimits,
    /// What a server may do too much of.
    pub conduct: ConductLimits,
    /// In so much time at least 5 KiB of a frame that has begun must arrive.
    pub frame_timeout: Duration,
    /// How long the server may take nothing of what waits for it.
    pub write_timeout: Duration,
    /// What the channel's connections have in common.
    pub totals: Arc<ClientTotals>,
}
