//! What a client may be told.

use std::time::Duration;

use crate::policy::{Backoff, BudgetConfig, RetryPolicy};
use crate::proto::{ConductLimits, KeepaliveLimits};
use crate::service::DecodeLimits;
use crate::wire::{
    CallId, FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR, WINDOW_BYTES_DEFAULT, WINDOW_BYTES_FLOOR,
};

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
    /// Bytes of long messages that a server may have on their way, on one connection, before it is
    /// told that some were taken.
    ///
    /// Default: 4 MiB. At least 64 KiB. Too low: a round trip for each window; too high: nothing
    /// but memory, if this side is slow to read.
    pub window_connection: u32,
    /// Calls in flight on the connection; the server may allow fewer. More wait in a queue.
    ///
    /// Default: 1,024. Too low: an idle link; too high: memory (about 100 B each).
    pub in_flight_calls_max: u32,
    /// Calls that wait for room; more are refused with QUEUE_FULL.
    ///
    /// Default: 16,384.
    pub queued_calls_max: usize,
    /// When a silent server with calls in flight is asked whether it lives, and when it is taken
    /// for dead.
    ///
    /// Default: after 5 s, and 5 s later.
    pub keepalive: KeepaliveLimits,
    /// What a server may do too much of: PINGs, frames that ask for nothing.
    pub conduct: ConductLimits,
    /// In so much time at least 5 KiB of a frame that has begun must arrive.
    ///
    /// Default: 5 s. Then the connection is closed with FRAME_TIMEOUT.
    pub frame_timeout: Duration,
    /// How long the server may take nothing of what waits for it.
    ///
    /// Default: 10 s. Then the connection is cut.
    pub write_timeout: Duration,
    /// Waits between attempts to connect, after one has failed.
    ///
    /// Default: 100 ms, doubling up to 1 s, the upper half of it drawn at random.
    pub reconnect: Backoff,
    /// Whether calls wait while the server cannot be reached, until their deadlines, instead of
    /// failing with NOT_CONNECTED when an attempt to connect has failed.
    ///
    /// Default: no. A call may say otherwise.
    pub wait_for_ready: bool,
    /// When a failed call is tried again.
    pub retry: RetryPolicy,
    /// How many retries there may be, beside calls: a tenth, and one a second.
    pub retry_budget: BudgetConfig,
    /// Limits of decoding an answer.
    pub decode: DecodeLimits,
    /// Which build this is; the server's handlers may see it. At most 64 bytes are sent.
    ///
    /// Default: empty.
    pub build: String,
    /// The id of the first call on each connection, odd; of an even one the next is taken. A
    /// connection whose ids are used up is left to the calls that are on it, and another one is
    /// made.
    ///
    /// Default: 1. Higher: for tests of that end, which is 2^31 calls away otherwise.
    pub first_call: CallId,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            window_connection: WINDOW_BYTES_DEFAULT,
            in_flight_calls_max: 1024,
            queued_calls_max: 16_384,
            keepalive: KeepaliveLimits::default(),
            conduct: ConductLimits::default(),
            frame_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            reconnect: Backoff::CONNECT,
            wait_for_ready: false,
            retry: RetryPolicy::default(),
            retry_budget: BudgetConfig::default(),
            decode: DecodeLimits::default(),
            build: String::new(),
            first_call: CallId(1),
        }
    }
}

impl ClientConfig {
    /// The nearest values that the protocol allows.
    pub(crate) fn clamped(mut self) -> Self {
        self.frame_bytes_max = self.frame_bytes_max.max(FRAME_BYTES_FLOOR);
        self.window_connection = self.window_connection.max(WINDOW_BYTES_FLOOR);
        self.in_flight_calls_max = self.in_flight_calls_max.max(1);
        self
    }
}
