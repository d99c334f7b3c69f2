//! One byte stream, cut into its two halves.
//!
//! Boxed halves: a virtual call costs a nanosecond beside a system call, and the driver exists
//! once instead of once per transport.

use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::service::Credentials;

/// A connected byte stream.
pub struct Stream {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) peer: String,
    pub(crate) credentials: Option<Credentials>,
    ip: Option<IpAddr>,
}

impl Stream {
    /// A stream of two halves; `peer` names the other end in errors and logs.
    pub fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        peer: impl Into<String>,
    ) -> Self {
        let peer = peer.into();
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            peer,
            credentials: None,
            ip: None,
        }
    }

    /// Sets the address of the other end, by which a server counts connections.
    #[must_use]
    pub const fn with_ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// Sets who the other end is, as the system says. A handler sees it in
    /// [`Peer::credentials`](crate::service::Peer::credentials).
    #[must_use]
    pub const fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// The halves, to be wrapped by a transport that builds on another one.
    #[must_use]
    pub fn into_halves(
        self,
    ) -> (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>) {
        (self.reader, self.writer)
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

    /// Who the other end is, if the transport has asked the system.
    #[must_use]
    pub const fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("peer", &self.peer).finish_non_exhaustive()
    }
}
