//! One byte stream, cut into its two halves.
//!
//! Boxed halves: a virtual call costs a nanosecond beside a system call, and the driver exists
//! once instead of once per transport.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub struct Stream {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) peer: String,
    ip: Option<IpAddr>,
}

impl Stream {
    /// A stream of two halves; `peer` names the other end in errors and logs.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        peer: impl Into<String>,
    ) -> Self {
        Self { reader: Box::new(reader), writer: Box::new(writer), peer: peer.into(), ip: None }
    }

    /// Sets the address of the other end, by which a server counts connections.
    #[must_use]
    pub const fn with_ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// How the other end is named.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The address of the other end, if the transport has told.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        self.ip
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
