//! What a server may be told.

use std::time::Duration;

use crate::proto::{ConductLimits, KeepaliveLimits};
use crate::service::DecodeLimits;
use crate::wire::{
    FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR, WINDOW_BYTES_DEFAULT, WINDOW_BYTES_FLOOR,
};

/// Settings of a server. All limits are finite.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Bytes of one frame's body accepted from a client; a larger one ends its connection, and a
    /// client that keeps to the protocol fails the call before sending it.
    ///
    /// Default: 4 MiB. At least 64 KiB.
    pub frame_bytes_max: u32,
    /// Bytes of long messages that a client may have on their way, on one connection, before it is
    /// told that some were taken.
    ///
    /// Default: 4 MiB. At least 64 KiB. Too low: a round trip for each window; too high: nothing
    /// but memory, if this side is slow to read.
    pub window_connection: u32,
    /// Calls in flight on one connection; more are refused with OVERLOADED.
    ///
    /// Default: 1,024.
    pub calls_max: u32,
    /// Limits of decoding a request.
    pub decode: DecodeLimits,
    /// From the accepted stream to the client's HELLO.
    ///
    /// Default: 5 s.
    pub handshake_timeout: Duration,
    /// After a shutdown began: how long the calls that run may take.
    ///
    /// Default: 30 s. Then their connections are cut.
    pub drain_timeout: Duration,
    /// After a connection's last byte was sent: how long the client may take to close its side.
    ///
    /// Default: 1 s.
    pub linger_timeout: Duration,
    /// Connections at a time. One more takes the place of the one that has been in its handshake
    /// longest; if all have said HELLO, it is closed at once, without a word, so that its client
    /// can go elsewhere instead of waiting behind a flood. Calls that it has sent with its HELLO
    /// are then CONNECTION_LOST.
    ///
    /// Default: 1,024.
    pub connections_max: usize,
    /// Bytes of requests that run and of answers that wait to be written, on one connection; more
    /// are refused with OVERLOADED.
    ///
    /// Default: 8 MiB. Too low: large requests run one at a time; too high: memory.
    pub in_flight_bytes_max: usize,
    /// Calls in flight on all connections; more are refused with OVERLOADED.
    ///
    /// Default: 16,384.
    pub server_calls_max: usize,
    /// As `in_flight_bytes_max`, of all connections together.
    ///
    /// Default: 256 MiB.
    pub server_in_flight_bytes_max: usize,
    /// When a silent client with calls in flight is asked whether it lives, and when it is taken
    /// for dead.
    ///
    /// Default: after 5 s, and 5 s later.
    pub keepalive: KeepaliveLimits,
    /// What a client may do too much of: PINGs, CANCELs, errors, frames that ask for nothing.
    pub conduct: ConductLimits,
    /// In so much time at least 5 KiB of a frame that has begun must arrive.
    ///
    /// Default: 5 s. Then the connection is closed with FRAME_TIMEOUT.
    pub frame_timeout: Duration,
    /// How long a client may take nothing of what waits for it.
    ///
    /// Default: 10 s. Then the connection is cut (SLOW_CONSUMER).
    pub write_timeout: Duration,
    /// How long a connection may be without a call and without a frame.
    ///
    /// Default: 5 min. Then it is closed with IDLE.
    pub idle_timeout: Duration,
    /// After so long, give or take a tenth, a client is asked to come anew, so that connections
    /// spread over servers that were added.
    ///
    /// Default: 30 min.
    pub connection_age: Duration,
    /// Connections at a time from one IP address; more are closed at once, without a word. Too
    /// low: many clients behind one address are cut; too high: few addresses take every place.
    /// Streams without an IP address ([`Stream::ip`](crate::transport::Stream::ip)) are not
    /// counted: who may connect to a Unix socket is up to its mode.
    ///
    /// Default: 128.
    pub connections_per_address_max: usize,
    /// Connections at a time whose client has not said HELLO. One more takes the place of the one
    /// that has waited longest: who means well has long been through. Too low: a burst of clients
    /// displaces each other; too high: memory, about 10 KiB each.
    ///
    /// Default: 256.
    pub handshaking_connections_max: usize,
    /// Which build this is; clients may see it. At most 64 bytes are sent.
    ///
    /// Default: empty.
    pub build: String,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            window_connection: WINDOW_BYTES_DEFAULT,
            calls_max: 1024,
            decode: DecodeLimits::default(),
            handshake_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(1),
            connections_max: 1024,
            in_flight_bytes_max: 8 * 1024 * 1024,
            server_calls_max: 16_384,
            server_in_flight_bytes_max: 256 * 1024 * 1024,
            keepalive: KeepaliveLimits::default(),
            conduct: ConductLimits::default(),
            frame_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(5 * 60),
            connection_age: Duration::from_secs(30 * 60),
            connections_per_address_max: 128,
            handshaking_connections_max: 256,
            build: String::new(),
        }
    }
}

impl ServerConfig {
    /// The nearest values that the protocol allows.
    pub(crate) fn clamped(mut self) -> Self {
        self.frame_bytes_max = self.frame_bytes_max.max(FRAME_BYTES_FLOOR);
        self.window_connection = self.window_connection.max(WINDOW_BYTES_FLOOR);
        self.calls_max = self.calls_max.max(1);
        self.connections_max = self.connections_max.max(1);
        self.connections_per_address_max = self.connections_per_address_max.max(1);
        self.handshaking_connections_max = self.handshaking_connections_max.max(1);
        self
    }
}
