//! From an address to the transport that it names.
//!
//! A transport that this build lacks is an error that says which feature brings it.

use crate::error::Error;
#[cfg(not(all(unix, feature = "tcp", feature = "unix")))]
use crate::transport::address::bad;
use crate::transport::{Accept, Address, Connect, MemAcceptor, MemConnector};
#[cfg(feature = "tcp")]
use crate::transport::{TcpAcceptor, TcpConnector};
#[cfg(all(unix, feature = "unix"))]
use crate::transport::{UnixAcceptor, UnixConnector};

/// What connects to this address; `insecure` allows plaintext to one that is not loopback.
#[cfg_attr(not(feature = "tcp"), expect(unused_variables, reason = "only TCP leaves the host"))]
pub(crate) fn connector(address: Address, insecure: bool) -> Result<Box<dyn Connect>, Error> {
    match address {
        Address::Mem { .. } => Ok(Box::new(MemConnector::new(address))),
        #[cfg(feature = "tcp")]
        Address::Tcp { .. } => Ok(Box::new(TcpConnector::new(address, insecure))),
        #[cfg(not(feature = "tcp"))]
        Address::Tcp { .. } => Err(bad(&address.to_string(), NO_TCP)),
        #[cfg(all(unix, feature = "unix"))]
        Address::Unix { .. } => Ok(Box::new(UnixConnector::new(address))),
        #[cfg(not(all(unix, feature = "unix")))]
        Address::Unix { .. } => Err(bad(&address.to_string(), NO_UNIX)),
    }
}

/// What listens at this address; `insecure` as above.
#[cfg_attr(not(feature = "tcp"), expect(unused_variables, reason = "only TCP leaves the host"))]
pub(crate) async fn acceptor(address: &Address, insecure: bool) -> Result<Box<dyn Accept>, Error> {
    match address {
        Address::Mem { .. } => Ok(Box::new(MemAcceptor::bind(address)?)),
        #[cfg(feature = "tcp")]
        Address::Tcp { .. } => Ok(Box::new(TcpAcceptor::bind(address, insecure).await?)),
        #[cfg(not(feature = "tcp"))]
        Address::Tcp { .. } => Err(bad(&address.to_string(), NO_TCP)),
        #[cfg(all(unix, feature = "unix"))]
        Address::Unix { .. } => Ok(Box::new(UnixAcceptor::bind(address)?)),
        #[cfg(not(all(unix, feature = "unix")))]
        Address::Unix { .. } => Err(bad(&address.to_string(), NO_UNIX)),
    }
}

#[cfg(not(feature = "tcp"))]
const NO_TCP: &str = "this build has no tcp://, which the feature tcp brings";
#[cfg(not(all(unix, feature = "unix")))]
const NO_UNIX: &str = "this build has no unix://, which the feature unix brings on Unix systems";
