//! What a client may be told.

use std::time::Duration;

use crate::service::DecodeLimits;
use crate::wire::{FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR};

/// Settings of a channel. All limits are finite.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClientConfig {
    /// From the wish to connect to a connected stream.
    ///
    /// Default: 5 s.
    pub connect_timeout: Duration,
    /// From the connected stream to the server's method table.
    ///
    /// Default: 5 s. Too low: a busy server looks dead.
    pub handshake_timeout: Duration,
    /// Of a call that names no timeout of its own, from its first poll to its outcome.
    ///
    /// Default: 10 s.
    pub call_timeout: Duration,
    /// Bytes of one frame's body accepted from the server; larger answers fail their call there.
    ///
    /// Default: 4 MiB. At least 64 KiB.
    pub frame_bytes_max: u32,
    /// Calls in flight on the connection; the server may allow fewer. More wait in a queue.
    ///
    /// Default: 1,024. Too low: an idle link; too high: memory (about 100 B each).
    pub in_flight_calls_max: u32,
    /// Calls that wait for room; more are refused with QUEUE_FULL.
    ///
    /// Default: 16,384.
    pub queued_calls_max: usize,
    /// Limits of decoding an answer.
    pub decode: DecodeLimits,
    /// Which build this is; the server's handlers may see it. At most 64 bytes are sent.
    ///
    /// Default: empty.
    pub build: String,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            in_flight_calls_max: 1024,
            queued_calls_max: 16_384,
            decode: DecodeLimits::default(),
            build: String::new(),
        }
    }
}

impl ClientConfig {
    /// The nearest values that the protocol allows.
    pub(crate) fn clamped(mut self) -> Self {
        self.frame_bytes_max = self.frame_bytes_max.max(FRAME_BYTES_FLOOR);
        self.in_flight_calls_max = self.in_flight_calls_max.max(1);
        self
    }
}
