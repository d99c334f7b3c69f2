//! Unix sockets: connecting and listening, with the credentials of the other end.
//!
//! ```text
//!   bind: nothing there ............................ listen
//!         a socket, somebody answers ............... AddressInUse
//!         a socket that nobody listens at .......... remove it, listen
//!         anything else ............................ Bind
//! ```
//!
//! Invariants: a file that is not a dead socket is never removed; at the end the socket's file is
//! removed if it is still this listener's; from its first moment it can be used by nobody whom its
//! mode keeps out. What is plaintext here never leaves the host, so it is never insecure.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::error::{Error, ErrorKind};
use crate::service::Credentials;
use crate::transport::address::{bad, check_path};
use crate::transport::{Accept, Accepting, Address, Connect, Connecting, Stream};

/// Connects to one Unix socket.
#[derive(Clone, Debug)]
pub struct UnixConnector(Address);

/// A listening Unix socket.
#[derive(Debug)]
pub struct UnixAcceptor {
    listener: UnixListener,
    path: String,
    /// Of the socket's file; none in the abstract namespace.
    file: Option<FileId>,
}

/// What a path's file is, however it is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// Held from the look at a path to its listener: a socket that is bound and does not listen yet
/// looks dead. A file beside the socket, gone when it was bound.
struct BindLock {
    path: String,
    /// Locked until it is closed.
    _file: File,
}

impl UnixConnector {
    /// For a `unix://` address.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self(address)
    }
}

impl Connect for UnixConnector {
    /// Fails with [`ErrorKind::Refused`] when nobody listens there or there is no such file, with
    /// [`ErrorKind::Connect`] when the socket's mode forbids it or its queue is full, and with
    /// [`ErrorKind::Address`] or [`ErrorKind::SocketPathTooLong`] for what is no `unix://`.
    fn connect(&self) -> Connecting<'_> {
        Box::pin(connect_unix(&self.0))
    }

    fn address(&self) -> String {
        self.0.to_string()
    }
}

async fn connect_unix(address: &Address) -> Result<Stream, Error> {
    let path = path_of(address)?;
    let failed = |error: io::Error| {
        let address = address.to_string();
        Error::from(match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                ErrorKind::Refused { address }
            }
            _ => ErrorKind::Connect { address, error: error.to_string() },
        })
    };
    let stream = UnixStream::connect(system_path(path)).await.map_err(failed)?;
    let credentials = credentials(&stream).map_err(failed)?;
    Ok(from_unix(stream, address.to_string(), credentials))
}

impl UnixAcceptor {
    /// Listens at a socket that only processes of this user (and root) may connect to: mode 0600.
    /// A name of the abstract namespace has no mode: whoever is in the network namespace may
    /// connect, and [`Peer::credentials`](crate::service::Peer::credentials) tells who does.
    ///
    /// # Errors
    /// [`ErrorKind::AddressInUse`]; [`ErrorKind::Bind`], also for a file that is no socket;
    /// [`ErrorKind::Address`] and [`ErrorKind::SocketPathTooLong`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        Self::bind_with_mode(address, OWNER_ONLY)
    }

    /// [`UnixAcceptor::bind`] with other permissions, 0660 say: who may write to the file may
    /// connect. The folder's permissions hold too.
    ///
    /// ```no_run
    /// # use switchback::Server;
    /// # use switchback::transport::{Address, UnixAcceptor};
    /// # async fn run() -> Result<(), switchback::Error> {
    /// let address = Address::parse("unix:///run/app/app.sock")?;
    /// let acceptor = UnixAcceptor::bind_with_mode(&address, 0o660)?;
    /// Server::new().listen(acceptor)?.serve_until(std::future::pending()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`UnixAcceptor::bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind_with_mode(address: &Address, mode: u32) -> Result<Self, Error> {
        let path = path_of(address)?;
        bind(path, mode).map_err(|error| {
            let address = address.to_string();
            Error::from(match error.kind() {
                io::ErrorKind::AddrInUse => ErrorKind::AddressInUse { address },
                _ => ErrorKind::Bind { address, error: error.to_string() },
            })
        })
    }

    async fn next(&self) -> io::Result<Stream> {
        let (stream, _unnamed) = self.listener.accept().await?;
        // What fails on a stream that was accepted is that stream's fault, not the listener's.
        let gone = |error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
        let credentials = credentials(&stream).map_err(gone)?;
        let Credentials { uid, pid, .. } = credentials;
        let peer = match pid {
            Some(pid) => format!("unix:uid={uid},pid={pid}"),
            None => format!("unix:uid={uid}"),
        };
        Ok(from_unix(stream, peer, credentials))
    }
}

impl Accept for UnixAcceptor {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(self.next())
    }

    fn local_addr(&self) -> Address {
        Address::Unix { path: self.path.clone() }
    }
}

impl Drop for UnixAcceptor {
    /// The file is looked at while the socket is open: its number cannot be another's by now.
    fn drop(&mut self) {
        let ours = self.file.filter(|file| FileId::at(&self.path).is_ok_and(|now| now == *file));
        if ours.is_some()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path, %error, "the socket's file was left behind");
        }
    }
}

fn bind(path: &str, mode: u32) -> io::Result<UnixAcceptor> {
    if path.starts_with('@') {
        let socket = UnixSocket::new_stream()?;
        socket.bind(system_path(path))?;
        let listener = socket.listen(BACKLOG)?;
        return Ok(UnixAcceptor { listener, path: path.to_owned(), file: None });
    }
    let lock = BindLock::take(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) => remove_dead(path, &found)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let bound = bind_file(path, mode);
    drop(lock);
    bound
}

fn bind_file(path: &str, mode: u32) -> io::Result<UnixAcceptor> {
    let permissions = || Permissions::from_mode(mode);
    let socket = UnixSocket::new_stream()?;
    // Linux makes the file with the socket's own mode, so there is no moment in which it is open
    // to more. Elsewhere this fails, and the folder's permissions have to do until the mode is set.
    let shared = File::from(socket.as_fd().try_clone_to_owned()?);
    drop(shared.set_permissions(permissions()));
    socket.bind(path)?;
    let listen = || {
        let file = FileId::at(path)?;
        fs::set_permissions(path, permissions())?; // What the umask took away.
        let listener = socket.listen(BACKLOG)?;
        Ok(UnixAcceptor { listener, path: path.to_owned(), file: Some(file) })
    };
    listen().inspect_err(|_| drop(fs::remove_file(path)))
}

/// Makes room where a server has left its socket behind.
fn remove_dead(path: &str, found: &Metadata) -> io::Result<()> {
    if !found.file_type().is_socket() {
        let why = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    // The first poll connects or fails; what is left to wait for is of no interest here.
    let mut connecting = pin!(UnixSocket::new_stream()?.connect(path));
    match connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()), // A full queue.
            _ => Err(error),
        },
        Poll::Ready(Ok(_)) | Poll::Pending => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl BindLock {
    /// Waits for the others that bind this path now; they are through within a few system calls.
    fn take(path: &str) -> io::Result<Self> {
        let path = format!("{path}.lock");
        for _ in 0..LOCK_ATTEMPTS_MAX {
            let mut options = File::options();
            let file = options.create(true).write(true).truncate(false).mode(OWNER_ONLY);
            let file = file.open(&path)?;
            file.lock()?;
            // Whoever had it before has removed it, and somebody may have made another one.
            if FileId::at(&path).is_ok_and(|at| file.metadata().is_ok_and(|f| FileId::of(&f) == at))
            {
                return Ok(Self { path, _file: file });
            }
        }
        let why = format!("{path} was removed under us {LOCK_ATTEMPTS_MAX} times");
        Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
    }
}

impl Drop for BindLock {
    /// Removed while it is locked, so that it is nobody else's.
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

impl FileId {
    fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self::of(&found))
    }

    fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

fn path_of(address: &Address) -> Result<&str, Error> {
    let Address::Unix { path } = address else {
        return Err(bad(&address.to_string(), "of Unix sockets, addresses are unix:///path"));
    };
    check_path(path)?;
    Ok(path)
}

/// The path as the system takes it: a name of the abstract namespace begins with a zero.
fn system_path(path: &str) -> String {
    path.strip_prefix('@').map_or_else(|| path.to_owned(), |name| format!("\0{name}"))
}

fn credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let found = stream.peer_cred()?;
    let pid = found.pid().and_then(|pid| u32::try_from(pid).ok());
    Ok(Credentials::new(found.uid(), found.gid(), pid))
}

fn from_unix(stream: UnixStream, peer: String, credentials: Credentials) -> Stream {
    let (reader, writer) = stream.into_split();
    Stream::new(reader, writer, peer).with_credentials(credentials)
}

/// Who may connect unless something else is said.
const OWNER_ONLY: u32 = 0o600;
/// Servers that bind one path at the same moment.
const LOCK_ATTEMPTS_MAX: usize = 128;
/// As for TCP; the system may allow fewer.
const BACKLOG: u32 = 1024;
