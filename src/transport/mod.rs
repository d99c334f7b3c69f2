//! Byte streams: what a connection is driven over.
//!
//! A transport is a pair of halves that are polled, tokio's own traits, so that TLS and test
//! streams take the same path as TCP. The codec here serves those who frame a stream themselves.

mod address;
mod codec;
mod endpoint;
mod mem;
mod open;
mod stream;
#[cfg(feature = "tcp")]
mod tcp;
#[cfg(all(unix, feature = "unix"))]
mod unix;

pub use address::{Address, SOCKET_PATH_BYTES_MAX};
pub use codec::{CodecError, FrameCodec, OwnedFrame};
pub use endpoint::{Accept, Accepting, Connect, Connecting};
pub use mem::{MemAcceptor, MemConnector, duplex};
pub use stream::Stream;
#[cfg(feature = "tcp")]
pub use tcp::{TcpAcceptor, TcpConnector};
#[cfg(all(unix, feature = "unix"))]
pub use unix::{UnixAcceptor, UnixConnector};

pub(crate) use open::{acceptor, connector};
