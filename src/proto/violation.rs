//! A peer broke a rule that ends the connection.

use crate::wire::{CloseReason, DecodeError, PrefaceError, TableError, VersionRange};

/// What the peer did. Each one closes the connection with [`Violation::close_reason`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Bytes that are not a frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Something else is at the other end, or its preface makes no sense.
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    /// Both speak the protocol, but no version of it in common.
    #[error("we speak protocol versions {ours}, the peer {theirs}: none in common")]
    NoCommonVersion {
        /// Of this build.
        ours: VersionRange,
        /// As the peer says.
        theirs: VersionRange,
    },
    /// A frame that may not come at this point, or from this side.
    #[error("frame kind {kind:#04x} out of turn: {why}")]
    OutOfTurn {
        /// The frame's kind.
        kind: u8,
        /// The rule.
        why: &'static str,
    },
    /// The call id of a REQUEST that is not above the one before (CA-1).
    #[error("call id {id} after {last}: the ids of a client increase")]
    CallId {
        /// As sent.
        id: u32,
        /// The highest before it.
        last: u32,
    },
    /// A table that does not give the hash it names, or is over a limit.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Each frame was legal, but they were too many, or came too slowly (LD-8, LD-11, LD-12).
    #[error("{what}, over the limit of {limit}")]
    Conduct {
        /// What the peer is told.
        reason: CloseReason,
        /// What it did.
        what: &'static str,
        /// How much of it is allowed.
        limit: u32,
    },
    /// Fragments without credit, or credit that makes no sense (FL-10, FL-11).
    #[error("{what}: {bytes} bytes, the limit is {limit}")]
    Flow {
        /// What the peer did.
        what: &'static str,
        /// Of the frame.
        bytes: u32,
        /// That it might have had.
        limit: u32,
    },
    /// A frame was begun and does not go on (LD-12).
    #[error("only {bytes} bytes of a frame came in time, at least {min} must")]
    Stuck {
        /// That came.
        bytes: u64,
        /// That must come.
        min: u64,
    },
    /// The server read another HELLO than was sent.
    #[error("the server read a HELLO with hash {theirs:016x}, we sent {ours:016x}")]
    Transcript {
        /// Of what was sent.
        ours: u64,
        /// Of what the server read.
        theirs: u64,
    },
}

impl Violation {
    /// The reason given to the peer (LD-2); NOT_SWITCHBACK is never written (HS-2).
    #[must_use]
    pub const fn close_reason(self) -> CloseReason {
        match self {
            Self::Decode(error) => error.close_reason(),
            Self::Preface(PrefaceError::NotSwitchback) => CloseReason::NOT_SWITCHBACK,
            Self::Preface(PrefaceError::BadRange { .. }) => CloseReason::MALFORMED,
            Self::NoCommonVersion { .. } => CloseReason::NO_COMMON_VERSION,
            Self::OutOfTurn { .. } => CloseReason::PROTOCOL,
            Self::CallId { .. } => CloseReason::CALL_ID,
            Self::Table(TableError::Malformed(_)) => CloseReason::MALFORMED, // RT-3, RT-5
            Self::Table(TableError::Hash { .. }) => CloseReason::TABLE,      // RT-4, RT-5
            Self::Conduct { reason, .. } => reason,
            Self::Flow { .. } => CloseReason::FLOW_CONTROL,
            Self::Stuck { .. } => CloseReason::FRAME_TIMEOUT,
            Self::Transcript { .. } => CloseReason::TRANSCRIPT,
        }
    }
}
