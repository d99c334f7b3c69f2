//! Streams in memory: both ends in one process, for tests and for services side by side.
//!
//! ```text
//!   mem://name --> NAMES --> the queue of a listener --> accept
//! ```
//!
//! Invariants: a name has at most one listener; it is free again when that is dropped, and who
//! waits in its queue then sees the end of the stream, as with a socket. Nothing here reads a clock
//! or the system, so that all of it runs in virtual time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind};
use crate::transport::address::bad;
use crate::transport::{Accept, Accepting, Address, Connect, Connecting, Stream};

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
    named_duplex(buffer_bytes, "mem".to_owned(), "mem".to_owned())
}

/// Connects to a listener of this process, by its name.
///
/// ```
/// # use switchback::{Channel, Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), switchback::Error> {
/// let server = Server::new().bind("mem://").await?; // Chooses a name.
/// let url = server.url();
/// tokio::spawn(server.serve_until(std::future::pending()));
/// Channel::connect(&url).await?;
/// assert!(Channel::connect("mem://nobody").await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MemConnector(Address);

/// A listener that is known by its name within this process.
#[derive(Debug)]
pub struct MemAcceptor {
    queue: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
    name: String,
}

impl MemConnector {
    /// For a `mem://` address.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self(address)
    }
}

impl Connect for MemConnector {
    /// Fails with [`ErrorKind::Refused`] when nobody listens, and with [`ErrorKind::Address`] for
    /// what is no `mem://` with a name. Waits while the listener's queue is full.
    fn connect(&self) -> Connecting<'_> {
        Box::pin(connect_mem(&self.0))
    }

    fn address(&self) -> String {
        self.0.to_string()
    }
}

async fn connect_mem(address: &Address) -> Result<Stream, Error> {
    let name = name_of(address)?;
    if name.is_empty() {
        return Err(bad(&address.to_string(), "the name is missing"));
    }
    let refused = || Error::from(ErrorKind::Refused { address: address.to_string() });
    let queue = names().get(name).cloned().ok_or_else(refused)?;
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let (client, server) = (format!("mem://{name}#{number}"), address.to_string());
    let (client_end, server_end) = named_duplex(BUFFER_BYTES, client, server);
    queue.send(server_end).await.map_err(|_| refused())?;
    Ok(client_end)
}

impl MemAcceptor {
    /// Listens under a name of this process; `mem://` without a name is given one that is free.
    ///
    /// # Errors
    /// [`ErrorKind::AddressInUse`]; [`ErrorKind::Bind`] when 4,096 names are in use;
    /// [`ErrorKind::Address`] if it is no `mem://`.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        let name = name_of(address)?;
        let (send, queue) = mpsc::channel(BACKLOG);
        let mut names = names();
        if names.len() >= LISTENERS_MAX {
            let error = format!("{LISTENERS_MAX} names are in use, which is the limit");
            return Err(ErrorKind::Bind { address: address.to_string(), error }.into());
        }
        let name = if name.is_empty() { free_name(&names) } else { name.to_owned() };
        match names.entry(name.clone()) {
            Entry::Occupied(_) => {
                Err(ErrorKind::AddressInUse { address: address.to_string() }.into())
            }
            Entry::Vacant(free) => {
                free.insert(send);
                Ok(Self { queue: tokio::sync::Mutex::new(queue), name })
            }
        }
    }

    async fn next(&self) -> io::Result<Stream> {
        // `names` holds the other end for as long as this one lives.
        self.queue.lock().await.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Accept for MemAcceptor {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(self.next())
    }

    fn local_addr(&self) -> Address {
        Address::Mem { name: self.name.clone() }
    }
}

impl Drop for MemAcceptor {
    fn drop(&mut self) {
        let queue = names().remove(&self.name);
        drop(queue); // Not under the lock: it may hold streams, which wake their other ends.
    }
}

fn name_of(address: &Address) -> Result<&str, Error> {
    match address {
        Address::Mem { name } => Ok(name),
        other => Err(bad(&other.to_string(), "in memory, addresses are mem://name")),
    }
}

/// At most as many are taken as there are listeners.
fn free_name(names: &BTreeMap<String, mpsc::Sender<Stream>>) -> String {
    loop {
        let name = NEXT_NAME.fetch_add(1, Ordering::Relaxed).to_string();
        if !names.contains_key(&name) {
            return name;
        }
    }
}

/// The ends of the client and the server, each with the other's name.
fn named_duplex(buffer_bytes: usize, client: String, server: String) -> (Stream, Stream) {
    let (client_end, server_end) = tokio::io::duplex(buffer_bytes);
    let end = |stream, peer| {
        let (reader, writer) = tokio::io::split(stream);
        Stream::new(reader, writer, peer)
    };
    (end(client_end, server), end(server_end, client))
}

fn names() -> MutexGuard<'static, BTreeMap<String, mpsc::Sender<Stream>>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who listens under which name.
static NAMES: Mutex<BTreeMap<String, mpsc::Sender<Stream>>> = Mutex::new(BTreeMap::new());
static NEXT_NAME: AtomicU64 = AtomicU64::new(1);
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Names in use at a time: more than a test binary needs, few enough that a leak is found.
const LISTENERS_MAX: usize = 4096;
/// Connections that wait to be accepted, as of a socket.
const BACKLOG: usize = 1024;
/// On their way in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
