//! What a faulty network does, as data.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// What happens to connections. The default is a network without a fault.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct FaultPlan {
    /// What happens to bytes on their way to the server.
    pub to_server: WayFaults,
    /// What happens to bytes on their way to the client.
    pub to_client: WayFaults,
    /// Whether nobody seems to listen: a connector is refused, an acceptor closes what it is given.
    ///
    /// Default: no.
    pub refuses: bool,
}

/// What happens to the bytes of one way.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct WayFaults {
    /// From one end to the other. To connect takes the latencies of both ways.
    ///
    /// Default: none.
    pub latency: Duration,
    /// Up to so much more latency, drawn for each piece that is read; bytes keep their order.
    ///
    /// Default: none.
    pub jitter: Duration,
    /// How many bytes pass in a second, on each connection.
    ///
    /// Default: as many as there are.
    pub bytes_per_second: Option<NonZeroU32>,
    /// How many bytes are read and written at a time, at most; how many is drawn for each piece.
    /// One is the hardest: each frame arrives byte by byte. It holds for every read and write of
    /// the wrapped end; the other end's transport may join what it is not read from in time.
    ///
    /// Default: as many as there are.
    pub piece_bytes_max: Option<NonZeroUsize>,
    /// After so many bytes of this way a connection is cut, counted from its beginning, also when
    /// it began before this was set.
    ///
    /// Default: never.
    pub cut_after_bytes: Option<u64>,
    /// Whether nothing arrives, not even the end of the stream, and nobody is told. What is sent
    /// meanwhile waits, 4 MiB of it, then its writer does too; it arrives when this is over, as
    /// what TCP sends again does. No connection is made while a way is such, and one that both
    /// ends have given up is kept as long.
    ///
    /// Default: no.
    pub is_blackhole: bool,
}
