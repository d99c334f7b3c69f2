//! What a server's connection is told: limits, time limits, and what it shares with others.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::totals::ServerTotals;
use crate::proto::{ConductLimits, KeepaliveLimits, ServerLimits};
use crate::service::{DecodeLimits, Interceptors, ServerInterceptor};

/// What a server's connection is told.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// What the state machine is told.
    pub limits: ServerLimits,
    /// Limits of decoding a payload.
    pub decode: DecodeLimits,
    /// From the accepted stream to the client's HELLO.
    pub handshake_timeout: Duration,
    /// After the last byte was sent: how long the client may take to close its side.
    pub linger_timeout: Duration,
    /// After a drain began: how long the calls that run may take.
    pub drain_timeout: Duration,
    /// When a silent client is asked whether it lives, and when it is taken for dead.
    pub keepalive: KeepaliveLimits,
    /// What a client may do too much of.
    pub conduct: ConductLimits,
    /// In so much time at least 5 KiB of a frame that has begun must arrive.
    pub frame_timeout: Duration,
    /// How long a client may take nothing of what waits for it.
    pub write_timeout: Duration,
    /// How long a connection may be without a call and without a frame.
    pub idle_timeout: Duration,
    /// After so long, give or take a tenth, the client is asked to come anew.
    pub connection_age: Duration,
    /// Bytes of requests that run and of answers that wait, on this connection.
    pub in_flight_bytes_max: usize,
    /// Hooks around every call.
    pub interceptors: Interceptors<dyn ServerInterceptor>,
    /// What this connection shares with the others of its server.
    pub totals: Arc<ServerTotals>,
}

impl ServerSettings {
    /// The defaults of a server; `limits` are what its clients are told.
    #[must_use]
    pub fn new(limits: ServerLimits) -> Self {
        Self {
            limits,
            decode: DecodeLimits::default(),
            handshake_timeout: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            keepalive: KeepaliveLimits::default(),
            conduct: ConductLimits::default(),
            frame_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(5 * 60),
            connection_age: Duration::from_secs(30 * 60),
            in_flight_bytes_max: 8 * 1024 * 1024,
            interceptors: Interceptors::default(),
            totals: Arc::new(ServerTotals::new(16_384, 256 * 1024 * 1024)),
        }
    }
}
