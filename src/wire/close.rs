//! CLOSE: why a connection ends, told to the other side.
//!
//! `reason:2 last_call:4 | detail` (LD-2). The layout is the same in every protocol version.

use crate::wire::CallId;

/// Why a connection was closed. Numbers are fixed in `spec/06-liveness.md`; one that is not
/// known here is kept as it came.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseReason(pub u16);

macro_rules! reasons {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl CloseReason {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*

            /// The name in the specification, if this number has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    NORMAL = 0, "The sender needs the connection no longer.";
    SHUTDOWN = 1, "The sender is shutting down.";
    NOT_SWITCHBACK = 2, "The peer does not speak this protocol (never sent).";
    NO_COMMON_VERSION = 3, "No protocol version is spoken by both.";
    HANDSHAKE_TIMEOUT = 4, "The handshake took too long.";
    HEAD_CRC = 5, "A header's CRC did not match.";
    BODY_CRC = 6, "A body's CRC did not match.";
    FRAME_TOO_LARGE = 7, "A body was over the limit.";
    UNKNOWN_KIND = 8, "A frame kind that is not known and must not be skipped.";
    UNKNOWN_FLAG = 9, "A flag that is not known and must not be ignored.";
    UNKNOWN_TLV = 10, "A critical TLV that is not known.";
    MALFORMED = 11, "A frame contradicts its own layout.";
    PROTOCOL = 12, "A frame that may not come at this point, or from this side.";
    CALL_ID = 13, "The call id of a REQUEST that is not above the one before.";
    TABLE = 14, "A table does not give the hash it names, or not the one that was announced.";
    TRANSCRIPT = 15, "The server read another HELLO than the client sent.";
    INTERNAL = 16, "The sender failed; no fault of the peer.";
    TOO_MANY_PINGS = 17, "More PINGs than anybody needs.";
    TOO_MANY_CANCELS = 18, "Most calls are taken back as soon as they are made.";
    TOO_MANY_ERRORS = 19, "Too many requests that make no sense.";
    TOO_MANY_FRAMES = 20, "Too many frames that ask for nothing.";
    FRAME_TIMEOUT = 21, "A frame was begun and did not go on.";
    SLOW_CONSUMER = 22, "What is written is not read.";
    KEEPALIVE_TIMEOUT = 23, "Not a byte came, not even the answer to a PING.";
    IDLE = 24, "The connection was not used.";
    AGE = 25, "The connection is old; a new one is welcome.";
    DRAIN_TIMEOUT = 26, "The server stops, and calls that took too long were cut.";
    FLOW_CONTROL = 27, "Fragments without credit, or credit that makes no sense.";
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "close reason {}", self.0),
        }
    }
}

impl std::fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A GOAWAY frame: the server wants its client elsewhere (LD-7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Goaway {
    /// Calls above it were not read, and will not be; [`Goaway::ANY_CALL`] in the first of two.
    pub last_call: CallId,
    /// Why.
    pub reason: CloseReason,
    /// How long the calls that were read may take, in milliseconds; 0 says nothing.
    pub grace_ms: u32,
}

impl Goaway {
    /// Names no call yet: what was sent may still be read.
    pub const ANY_CALL: CallId = CallId(u32::MAX);
}

/// A CLOSE frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Close<'a> {
    /// Why.
    pub reason: CloseReason,
    /// The highest REQUEST id that the sender read; 0 from a client.
    pub last_call: CallId,
    /// For people, at most [`Close::DETAIL_BYTES_MAX`] bytes.
    pub detail: &'a str,
}

impl Close<'_> {
    /// Bytes of detail, at most.
    pub const DETAIL_BYTES_MAX: usize = 256;
}
