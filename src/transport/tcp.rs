//! TCP: connecting and listening.
//!
//! Invariants: `TCP_NODELAY` everywhere, since the driver batches; plaintext leaves loopback only
//! when the user said so.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::error::{Error, ErrorKind};
use crate::transport::{Accept, Accepting, Address, Connect, Connecting, Stream};

/// Connects to one address.
#[derive(Clone, Debug)]
pub struct TcpConnector {
    address: Address,
    insecure: bool,
}

/// A listening socket.
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    address: SocketAddr,
}

impl TcpConnector {
    /// For an address; `insecure` allows plaintext to one that is not loopback.
    #[must_use]
    pub const fn new(address: Address, insecure: bool) -> Self {
        Self { address, insecure }
    }
}

impl Connect for TcpConnector {
    /// Fails with [`ErrorKind::UnknownHost`], [`ErrorKind::InsecureAddress`],
    /// [`ErrorKind::Refused`] and [`ErrorKind::Connect`].
    fn connect(&self) -> Connecting<'_> {
        Box::pin(connect_tcp(&self.address, self.insecure))
    }

    fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Connects; the addresses of a name are tried in turn.
async fn connect_tcp(address: &Address, insecure: bool) -> Result<Stream, Error> {
    let mut last = None;
    for resolved in resolve(address, insecure).await? {
        match TcpStream::connect(resolved).await {
            Ok(stream) => return from_tcp(stream, resolved).map_err(|e| failed(address, &e)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| unknown(address, "the name has no address"), |e| failed(address, &e)))
}

impl TcpAcceptor {
    /// Listens; the first address of a name that can be had is taken.
    ///
    /// # Errors
    /// [`ErrorKind::AddressInUse`], [`ErrorKind::Bind`], [`ErrorKind::InsecureAddress`],
    /// [`ErrorKind::UnknownHost`].
    pub async fn bind(address: &Address, insecure: bool) -> Result<Self, Error> {
        let resolved: Vec<SocketAddr> = resolve(address, insecure).await?;
        let bind_error = |error: io::Error| {
            let address = address.to_string();
            Error::from(match error.kind() {
                io::ErrorKind::AddrInUse => ErrorKind::AddressInUse { address },
                _ => ErrorKind::Bind { address, error: error.to_string() },
            })
        };
        let listener = TcpListener::bind(&resolved[..]).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Self { listener, address })
    }

    async fn next(&self) -> io::Result<Stream> {
        let (stream, peer) = self.listener.accept().await?;
        from_tcp(stream, peer)
    }
}

impl Accept for TcpAcceptor {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(self.next())
    }

    fn local_addr(&self) -> Address {
        Address::Tcp { host: self.address.ip().to_string(), port: self.address.port() }
    }
}

fn from_tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Stream::new(reader, writer, peer.to_string()))
}

async fn resolve(address: &Address, insecure: bool) -> Result<Vec<SocketAddr>, Error> {
    let Address::Tcp { host, port } = address;
    let resolved: Vec<SocketAddr> = match lookup_host((host.as_str(), *port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(unknown(address, &error.to_string())),
    };
    if !insecure && resolved.iter().any(|resolved| !resolved.ip().is_loopback()) {
        return Err(ErrorKind::InsecureAddress { address: address.to_string() }.into());
    }
    Ok(resolved)
}

fn unknown(address: &Address, error: &str) -> Error {
    let Address::Tcp { host, .. } = address;
    ErrorKind::UnknownHost { host: host.clone(), error: error.to_owned() }.into()
}

fn failed(address: &Address, error: &io::Error) -> Error {
    let address = address.to_string();
    Error::from(match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused { address },
        _ => ErrorKind::Connect { address, error: error.to_string() },
    })
}
