//! TCP: connecting and listening.
//!
//! Invariants: `TCP_NODELAY` everywhere, since the driver batches; plaintext leaves loopback only
//! when the user said so.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::error::{Error, ErrorKind};
use crate::transport::address::bad;
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
    /// [`ErrorKind::UnknownHost`]; [`ErrorKind::Address`] if it is no `tcp://`.
    ///
    /// # Cancellation
    /// Dropping the future leaves everything as it was.
    pub async fn bind(address: &Address, insecure: bool) -> Result<Self, Error> {
        let resolved: Vec<SocketAddr> = resolve(address, insecure).await?;
        let bind_error = |error: io::Error| {
            let address = address.to_string();
            Error::from(match error.kind() {
                io::ErrorKind::AddrInUse => ErrorKind::AddressInUse { address },
                _ => ErrorKind::Bind { address, error: error.to_string() },
            })
        };
        let listener = listen(&resolved).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Self { listener, address })
    }

    async fn next(&self) -> io::Result<Stream> {
        let (stream, peer) = self.listener.accept().await?;
        // What fails on a stream that was accepted is that stream's fault, not the listener's.
        let gone = |error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
        from_tcp(stream, peer).map_err(gone)
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

/// Listens at the first of these that can be had.
fn listen(addresses: &[SocketAddr]) -> io::Result<TcpListener> {
    let listen = |address: &SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A server that starts again must not wait for the connections of its former life. On
        // Windows the same option would share the port.
        #[cfg(not(windows))]
        socket.set_reuseaddr(true)?;
        socket.bind(*address)?;
        socket.listen(BACKLOG)
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn from_tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Stream::new(reader, writer, peer.to_string()).with_ip(peer.ip()))
}

async fn resolve(address: &Address, insecure: bool) -> Result<Vec<SocketAddr>, Error> {
    let Address::Tcp { host, port } = address else {
        return Err(bad(&address.to_string(), "over TCP, addresses are tcp://host:port"));
    };
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
    let host = match address {
        Address::Tcp { host, .. } => host.clone(),
        other => other.to_string(),
    };
    ErrorKind::UnknownHost { host, error: error.to_owned() }.into()
}

fn failed(address: &Address, error: &io::Error) -> Error {
    let address = address.to_string();
    Error::from(match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused { address },
        _ => ErrorKind::Connect { address, error: error.to_string() },
    })
}

/// Connections that wait to be accepted; the system may allow fewer. The standard library's 128
/// are gone within milliseconds of a burst, and each client beyond waits a second and more before
/// it tries again.
const BACKLOG: u32 = 1024;
