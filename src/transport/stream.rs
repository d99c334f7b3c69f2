//! One byte stream, cut into its two halves.
//!
//! Boxed halves: a virtual call costs a nanosecond beside a system call, and the driver exists
//! once instead of once per transport.

use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub struct Stream {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) peer: String,
}

impl Stream {
    /// A stream of two halves; `peer` names the other end in errors and logs.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        peer: impl Into<String>,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer), peer: peer.into() }
    }

    /// How the other end is named.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
