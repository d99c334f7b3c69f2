//! What a handler is told about the call it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::service::{Extensions, Metadata, MetadataBlock, Status};
use crate::wire::{CallId, Code, MethodId};

/// The call at hand: its deadline, its caller, its version, whether it was taken back.
///
/// ```
/// use switchback::{Code, Cx, Status};
///
/// #[switchback::service(name = "demo.Report")]
/// trait Report {
///     #[rpc(version = 1, blocking)]
///     fn pages(&self, cx: &Cx, count: u32) -> Result<u32, Status>;
/// }
///
/// struct Printer;
///
/// impl Report for Printer {
///     fn pages(&self, cx: &Cx, count: u32) -> Result<u32, Status> {
///         for page in 0..count {
///             if cx.is_cancelled() {
///                 let message = format!("{page} pages, with {:?} left", cx.remaining());
///                 return Err(Status::new(Code::CANCELLED, message)); // Nobody waits any more.
///             }
///             // Print it: nothing can drop a handler that blocks.
///         }
///         Ok(count)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = switchback::Server::new().service(ReportServer::new(Printer));
/// # let server = server.bind("mem://").await?;
/// # let report = ReportClient::lazy(&server.url())?;
/// # tokio::spawn(server.serve_until(std::future::pending()));
/// # assert_eq!(report.pages(3).await?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cx {
    pub(crate) call: CallId,
    pub(crate) method: MethodId,
    pub(crate) version: u16,
    pub(crate) attempt: u8,
    /// What the payload is encoded in.
    pub(crate) codec: u8,
    /// Of the caller's types, folded; 0 = not checked.
    pub(crate) fingerprint: u32,
    pub(crate) deadline: Instant,
    pub(crate) metadata: Metadata,
    pub(crate) extensions: Extensions,
    /// Known from the start only where interceptors ask for it.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) connection: Arc<dyn CallScope>,
}

/// What a handler's call hangs on: the connection it came over. The driver implements it.
pub(crate) trait CallScope: Send + Sync {
    /// Whether the caller took this call back, or its time is over.
    fn is_cancelled(&self, call: CallId) -> bool;
    fn now(&self) -> Instant;
    fn peer(&self) -> &Peer;
    /// The method's name, as long as it is installed.
    fn method_name(&self, method: MethodId) -> Option<Arc<str>>;
    /// Adds a pair to the answer of a call that has none yet.
    fn add_metadata(&self, call: CallId, name: &str, value: &[u8]) -> Result<(), Status>;
    /// What was added to a call's answer, which begins now.
    fn take_metadata(&self, call: CallId) -> Option<MetadataBlock>;
    /// A request was refused by what stands behind its admission: its client may have to be judged
    /// for it (LD-11).
    fn note_refusal(&self, code: Code);
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// The address as the transport names it, for instance `127.0.0.1:50114`.
    pub address: String,
    /// The build the peer says it is; its word alone.
    pub build: String,
    /// Who the peer is, as the operating system says; over Unix sockets only.
    pub credentials: Option<Credentials>,
}

/// The process at the other end of a Unix socket, as it was when it connected. The system's word,
/// which no peer can forge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Credentials {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id, where the system tells. It may have ended, and another have its number.
    pub pid: Option<u32>,
}

impl Credentials {
    /// For a transport of one's own.
    #[must_use]
    pub const fn new(uid: u32, gid: u32, pid: Option<u32>) -> Self {
        Self { uid, gid, pid }
    }
}

impl Cx {
    /// When the caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the caller still waits; zero when the time is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(self.connection.now())
    }

    /// Whether the caller took the call back or its time is over. A handler that may be dropped
    /// needs not ask; one with `no_cancel` or `blocking` should, between its steps.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.connection.is_cancelled(self.call)
    }

    /// The method's number.
    #[must_use]
    pub const fn method(&self) -> MethodId {
        self.method
    }

    /// The version the caller called.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// 0 for the first attempt, then 1, 2, … up to 15 (CA-9).
    #[must_use]
    pub const fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.connection.peer()
    }

    /// `"service/method"`; empty for a method that was retired meanwhile, on a server without
    /// interceptors. Of a call that the fallback serves nobody here knows the name: empty, or
    /// `fallback` where there are interceptors; who must know what is called asks
    /// [`Cx::method`].
    #[must_use]
    pub fn method_name(&self) -> Arc<str> {
        let known = self.name.clone().or_else(|| self.connection.method_name(self.method));
        known.unwrap_or_default()
    }

    /// What came beside the request.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What interceptors have found out about the call.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// For interceptors: what they put here their successors and the handler see.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Adds a name and a value that travel beside the answer, whatever it is; beside an error they
    /// have the room that its own text leaves.
    ///
    /// # Errors
    /// BAD_METADATA for a name that is not 1 to 64 bytes of `[a-z0-9_.-]`, TOO_LARGE for more than
    /// 64 pairs or 8 KiB of them, FAILED_PRECONDITION when the call has been answered (an
    /// interceptor's `after` comes between the two: what it adds is not sent).
    pub fn add_response_metadata(&self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.connection.add_metadata(self.call, name, value)
    }
}

impl std::fmt::Debug for dyn CallScope + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CallScope({})", self.peer().address)
    }
}
