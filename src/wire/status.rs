//! How a call ended, as numbers: codes and dispositions.
//!
//! Invariants: numbers are fixed in `spec/05-status.md`; unknown codes are kept, never mapped to
//! OK (ST-1); a disposition has exactly three values (ST-3), and only the framework stamps it.

/// How a call ended.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Code(u16);

macro_rules! codes {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl Code {
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

codes! {
    OK = 0, "The payload is the response.";
    APP = 1, "The payload is the method's own error.";
    CANCELLED = 2, "The caller took the call back.";
    DEADLINE_EXCEEDED = 3, "The time was over.";
    UNKNOWN_METHOD = 4, "No handler for this method.";
    UNSUPPORTED_VERSION = 5, "This version is not served, or it is above the ceiling.";
    SCHEMA_MISMATCH = 6, "Both sides know the version but not with the same types.";
    UNSUPPORTED_CODEC = 7, "The server lacks the payload codec.";
    BAD_PAYLOAD = 8, "The request's payload does not decode.";
    TOO_LARGE = 9, "A body is over the limit.";
    CONVERSION = 10, "A conversion between two versions of a type failed.";
    INTERNAL = 11, "The handler panicked, or its answer does not encode.";
    OVERLOADED = 12, "Refused: too many calls in flight.";
    DRAINING = 13, "Refused: the server is going away.";
    UNSUPPORTED_FLAG = 14, "The request carries a flag that the server must know and does not.";
    BAD_METADATA = 15, "The request's metadata is malformed or holds a critical key not known.";
    INVALID_ARGUMENT = 32, "From a handler: the request makes no sense.";
    NOT_FOUND = 33, "From a handler: no such thing.";
    ALREADY_EXISTS = 34, "From a handler: it is there already.";
    PERMISSION_DENIED = 35, "The caller may not do this.";
    UNAUTHENTICATED = 36, "The caller did not say who it is.";
    FAILED_PRECONDITION = 37, "From a handler: not in this state.";
    RESOURCE_EXHAUSTED = 38, "From a handler: a quota is used up.";
    ABORTED = 39, "From a handler: a conflict; the whole transaction may be tried again.";
    OUT_OF_RANGE = 40, "From a handler: past the end.";
    UNIMPLEMENTED = 41, "From a handler: not built.";
    UNAVAILABLE = 42, "From a handler: not now.";
    DATA_LOSS = 43, "From a handler: what was stored is gone.";
    UNKNOWN = 44, "From a handler: none of the others.";
    CONNECTION_LOST = 0x8000, "Made by the client: the connection ended under the call.";
    NOT_CONNECTED = 0x8001, "Made by the client: no connection could be had.";
    ENCODE = 0x8002, "Made by the client: the request does not encode or convert.";
    QUEUE_FULL = 0x8003, "Made by the client: too many calls wait already.";
    BAD_RESPONSE = 0x8004, "Made by the client: the response does not decode or convert.";
}

impl Code {
    /// The code with this number, known or not (ST-1).
    #[must_use]
    pub const fn from_u16(number: u16) -> Self {
        Self(number)
    }

    /// The number, as on the wire.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether the client itself makes this code; such a number is never sent (ST-2).
    #[must_use]
    pub const fn is_local(self) -> bool {
        self.0 >= 0x8000
    }

    /// Whether a RESPONSE with this code carries a payload: the response, or the method's own
    /// error (CA-6).
    #[must_use]
    pub const fn has_payload(self) -> bool {
        matches!(self, Self::OK | Self::APP)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Whether a call was executed, as far as anyone can know. It decides whether sending the call
/// again is safe (ST-3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Disposition {
    /// No handler was started: safe to send again, whatever the method.
    NotProcessed,
    /// Nobody can know: safe to send again only if the method is idempotent.
    Maybe,
    /// A handler was started and ended.
    Processed,
}

impl Disposition {
    /// The number on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::NotProcessed => 0,
            Self::Maybe => 1,
            Self::Processed => 2,
        }
    }

    /// The disposition with this number, if there is one.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::NotProcessed),
            1 => Some(Self::Maybe),
            2 => Some(Self::Processed),
            _ => None,
        }
    }
}

impl std::fmt::Display for Disposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotProcessed => "not processed",
            Self::Maybe => "maybe processed",
            Self::Processed => "processed",
        })
    }
}
