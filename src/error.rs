//! What can go wrong around a connection: connecting, binding, the handshake, the end.
//!
//! Errors of single calls are [`crate::service::CallError`]. One word wide, so that it costs
//! nothing where it does not happen; [`Error::kind`] has the facts, `Display` the sentence.

use std::fmt::{Display, Formatter};
use std::io;
use std::time::Duration;

use crate::proto::Violation;
use crate::service::RouteError;
use crate::wire::{CallId, CloseReason, VersionRange};

/// Why a connection could not be had, or ended.
#[derive(Clone)]
pub struct Error(Box<ErrorKind>);

/// The facts of an [`Error`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The address is not a URL of a known scheme.
    #[error("{address:?} is no address: {why}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path of a Unix socket does not fit into an address of the system's.
    #[error("{path:?} is a socket's path of {bytes} bytes, at most {max} fit")]
    SocketPathTooLong {
        /// As given.
        path: String,
        /// Its length.
        bytes: usize,
        /// The system's limit.
        max: usize,
    },
    /// A plaintext address that is not loopback, without `insecure_plaintext`.
    #[error(
        "{address} is not loopback and tcp:// is plaintext: use insecure_plaintext() if the \
         network is trusted"
    )]
    InsecureAddress {
        /// As given.
        address: String,
    },
    /// The host's name does not resolve.
    #[error("host {host:?} is not known: {error}")]
    UnknownHost {
        /// The name.
        host: String,
        /// What the resolver said.
        error: String,
    },
    /// Nobody listens there.
    #[error("nobody listens at {address} (connection refused)")]
    Refused {
        /// As given.
        address: String,
    },
    /// The connection could not be made in time.
    #[error("no connection to {address} within {after:?}")]
    ConnectTimeout {
        /// As given.
        address: String,
        /// The limit.
        after: Duration,
    },
    /// Another error of the operating system while connecting.
    #[error("connecting to {address} failed: {error}")]
    Connect {
        /// As given.
        address: String,
        /// What the system said.
        error: String,
    },
    /// Somebody listens there already.
    #[error("{address} is in use by another listener")]
    AddressInUse {
        /// As given.
        address: String,
    },
    /// Another error of the operating system while binding.
    #[error("cannot listen at {address}: {error}")]
    Bind {
        /// As given.
        address: String,
        /// What the system said.
        error: String,
    },
    /// The other end speaks something else.
    #[error("{peer}: the peer does not speak switchback{}: it sent \"{found}\"", hint(.looks_like))]
    NotSwitchback {
        /// Its address.
        peer: String,
        /// What it seems to speak.
        looks_like: Option<&'static str>,
        /// The first bytes it sent, escaped; at most 16 of them.
        found: String,
    },
    /// Both speak the protocol, in no common version.
    #[error(
        "{peer}: we speak protocol versions {ours}, the peer {theirs}: upgrade {}",
        if ours.hi < theirs.lo { "this side" } else { "the peer" }
    )]
    NoCommonVersion {
        /// Its address.
        peer: String,
        /// Of this build.
        ours: VersionRange,
        /// As the peer says.
        theirs: VersionRange,
    },
    /// The other end took the connection and then did not say who it is.
    #[error("{peer}: the peer is connected but did not finish the handshake within {after:?}")]
    HandshakeTimeout {
        /// Its address.
        peer: String,
        /// The limit.
        after: Duration,
    },
    /// The peer broke the protocol, and the connection was closed for it.
    #[error("{peer}: the peer broke the protocol ({reason}): {violation}")]
    PeerMisbehaved {
        /// Its address.
        peer: String,
        /// What it was told.
        reason: CloseReason,
        /// What it did.
        violation: Violation,
    },
    /// The peer closed the connection and said why.
    #[error("the peer closed the connection: {reason}{}", detail_text(.detail))]
    ClosedByPeer {
        /// Why.
        reason: CloseReason,
        /// The highest call it read.
        last_call: CallId,
        /// In its words.
        detail: String,
    },
    /// This side closed the connection.
    #[error("the connection was closed on this side: {reason}")]
    ClosedHere {
        /// Why.
        reason: CloseReason,
    },
    /// The peer said nothing, not even to a PING.
    #[error("{peer}: the peer is silent for {after:?}, and does not answer a PING")]
    Silent {
        /// Its address.
        peer: String,
        /// How long.
        after: Duration,
    },
    /// The peer took nothing of what was written.
    #[error("{peer}: the peer has read nothing of what was written for {after:?}")]
    Stalled {
        /// Its address.
        peer: String,
        /// The limit.
        after: Duration,
    },
    /// The server goes away and has not read the call.
    #[error("the server goes away ({reason}) and did not read the call")]
    GoingAway {
        /// Why.
        reason: CloseReason,
    },
    /// The connection ended without a word.
    #[error("the connection ended: {error}")]
    Lost {
        /// What the system said.
        error: String,
    },
    /// There is no memory here for a frame of the peer's.
    #[error("{peer}: no memory for {bytes} bytes that the peer sent")]
    OutOfMemory {
        /// Its address.
        peer: String,
        /// Of the buffer that could not be had.
        bytes: usize,
    },
    /// The drain's time was over before every call had ended; what was left was cut.
    #[error("{calls} calls on {connections} connections did not end within {after:?} and were cut")]
    DrainTimeout {
        /// Connections that were cut.
        connections: usize,
        /// Calls that ran on them.
        calls: usize,
        /// The limit.
        after: Duration,
    },
    /// The methods cannot be served together.
    #[error(transparent)]
    Route(RouteError),
    /// Too many callers wait already.
    #[error("{max} calls wait already, which is the limit")]
    QueueFull {
        /// The limit.
        max: usize,
    },
    /// The connection has given all its call ids; a new one must be made.
    #[error("the connection has used up its call ids")]
    IdsExhausted,
    /// The one stream of this channel was used and has ended.
    #[error("the stream of this channel has ended, and there is no other")]
    StreamUsed,
    /// No payload codec: the feature `bincode` is off and none was given.
    #[error("no payload codec: turn the feature bincode on or add a codec of your own")]
    NoCodec,
}

/// Who has to act on an [`Error`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// This side: its address, its settings, its methods.
    Here,
    /// The other end.
    Peer,
    /// Both of them, or the way between.
    Between,
}

impl Error {
    /// The facts.
    #[must_use]
    pub const fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Which side has to act.
    #[must_use]
    pub fn fault(&self) -> Side {
        match self.kind() {
            ErrorKind::NotSwitchback { .. }
            | ErrorKind::HandshakeTimeout { .. }
            | ErrorKind::PeerMisbehaved { .. }
            | ErrorKind::Stalled { .. }
            | ErrorKind::GoingAway { .. }
            | ErrorKind::Refused { .. } => Side::Peer,
            ErrorKind::ConnectTimeout { .. }
            | ErrorKind::Connect { .. }
            | ErrorKind::ClosedByPeer { .. }
            | ErrorKind::NoCommonVersion { .. }
            | ErrorKind::Silent { .. }
            | ErrorKind::Lost { .. } => Side::Between,
            _ => Side::Here,
        }
    }

    /// Why the connection was closed, by this side or by the other; `None` if it ended without a
    /// word, or there was none.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self.kind() {
            ErrorKind::ClosedHere { reason }
            | ErrorKind::ClosedByPeer { reason, .. }
            | ErrorKind::PeerMisbehaved { reason, .. }
            | ErrorKind::GoingAway { reason } => Some(*reason),
            ErrorKind::OutOfMemory { .. } => Some(CloseReason::INTERNAL),
            ErrorKind::NotSwitchback { .. } => Some(CloseReason::NOT_SWITCHBACK),
            ErrorKind::NoCommonVersion { .. } => Some(CloseReason::NO_COMMON_VERSION),
            ErrorKind::HandshakeTimeout { .. } => Some(CloseReason::HANDSHAKE_TIMEOUT),
            ErrorKind::Silent { .. } => Some(CloseReason::KEEPALIVE_TIMEOUT),
            ErrorKind::Stalled { .. } => Some(CloseReason::SLOW_CONSUMER),
            _ => None,
        }
    }

    /// The error of a connection that this side closed.
    pub(crate) fn closed_here(reason: CloseReason) -> Self {
        ErrorKind::ClosedHere { reason }.into()
    }

    /// Whether the peer speaks no version of the protocol that we do, and says so: it executed
    /// nothing (HS-4). Bytes that make no sense do not say that much.
    pub(crate) const fn is_stranger(&self) -> bool {
        matches!(self.kind(), ErrorKind::NoCommonVersion { .. })
    }

    /// The error for bytes that broke the protocol; `input` is what they were.
    pub(crate) fn violation(violation: Violation, input: &[u8], peer: &str) -> Self {
        let peer = peer.to_owned();
        match violation {
            Violation::Preface(crate::wire::PrefaceError::NotSwitchback) => {
                let looks_like = looks_like(input);
                let found = input.iter().take(16).copied();
                let found = found.flat_map(std::ascii::escape_default).map(char::from).collect();
                ErrorKind::NotSwitchback { peer, looks_like, found }.into()
            }
            Violation::NoCommonVersion { ours, theirs } => {
                ErrorKind::NoCommonVersion { peer, ours, theirs }.into()
            }
            violation => {
                let reason = violation.close_reason();
                ErrorKind::PeerMisbehaved { peer, reason, violation }.into()
            }
        }
    }

    pub(crate) fn lost(error: &io::Error) -> Self {
        ErrorKind::Lost { error: error.to_string() }.into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

impl From<RouteError> for Error {
    fn from(error: RouteError) -> Self {
        ErrorKind::Route(error).into()
    }
}

impl std::error::Error for Error {}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Error({self})")
    }
}

/// What a peer seems to speak, by its first bytes.
fn looks_like(input: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"HTTP/", "HTTP"),
        (b"GET ", "HTTP"),
        (b"POST", "HTTP"),
        (b"PRI ", "HTTP/2"),
        (b"\x00\x00", "HTTP/2"),
        (b"SSH-", "SSH"),
        (b"\x16\x03", "TLS"),
    ];
    if input.starts_with(b"\x15\x03") {
        return Some("TLS");
    }
    KNOWN.iter().find(|(start, _)| input.starts_with(start)).map(|(_, name)| *name)
}

fn hint(looks_like: &Option<&'static str>) -> String {
    looks_like.map_or_else(String::new, |name| format!(" but {name}"))
}

fn detail_text(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail:?})") }
}
