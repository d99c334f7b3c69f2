//! Where connections come from: the seams between the crate and a transport.
//!
//! A transport is two traits and a [`Stream`]. TCP implements them here; tests, simulations and
//! transports of the user's own implement them elsewhere, and everything above takes the same
//! path over all of them.

use std::io;
use std::pin::Pin;

use crate::error::Error;
use crate::transport::{Address, Stream};

/// What [`Connect::connect`] gives.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send + 'a>>;
/// What [`Accept::accept`] gives.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Makes connections to one server.
pub trait Connect: Send + Sync + 'static {
    /// Makes a connection.
    ///
    /// # Errors
    /// Why there is none; the channel waits and tries again when it is next called.
    ///
    /// # Cancellation
    /// Dropping the future gives the attempt up.
    fn connect(&self) -> Connecting<'_>;

    /// The server's address, for errors.
    fn address(&self) -> String;
}

/// Takes the connections of clients.
pub trait Accept: Send + Sync + 'static {
    /// Waits for the next connection.
    ///
    /// # Errors
    /// What the transport says. No error is the end: the next call may succeed.
    ///
    /// # Cancellation
    /// Dropping the future loses no connection.
    fn accept(&self) -> Accepting<'_>;

    /// Where clients find it.
    fn local_addr(&self) -> Address;
}
