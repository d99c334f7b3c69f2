//! A stream in memory: both ends in one process, for tests and for services side by side.

use crate::transport::Stream;

/// Two streams, each the other's peer. `buffer_bytes` may be on their way in each direction;
/// a writer beyond that waits for the reader.
///
/// ```
/// let (client_end, server_end) = switchback::transport::duplex(64 * 1024);
/// assert_eq!(client_end.peer(), "mem");
/// # drop(server_end);
/// ```
#[must_use]
pub fn duplex(buffer_bytes: usize) -> (Stream, Stream) {
    let (a, b) = tokio::io::duplex(buffer_bytes);
    let end = |stream| {
        let (reader, writer) = tokio::io::split(stream);
        Stream::new(reader, writer, "mem")
    };
    (end(a), end(b))
}
