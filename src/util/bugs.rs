//! Bugs that are seeded on purpose, to prove that the ledger checker sees what it must.
//!
//! Compiled in only under `--cfg seeded_bugs`, and then chosen at run time; without the cfg
//! [`is_seeded`] is a constant `false` and leaves no trace in the code.

/// What may be broken on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Bug {
    /// The server starts a handler twice for one request.
    StartTwice = 1,
    /// A cancelled call's slot is free before its answer has come, and answers are not compared
    /// with the id of the call in the slot; those that find it free are dropped.
    LateAnswer,
    /// The client's sweep ends no call.
    SweepForgets,
    /// The server starts handlers after their deadline.
    LateStart,
    /// The server runs a call that it has refused.
    RefusedRuns,
    /// The client takes calls as not sent that were.
    NotSentLie,
    /// A caller is given the bytes of an earlier answer in the same slot.
    StaleReply,
    /// A call that is not idempotent is tried again though it may have been executed.
    RetryUnknown,
    /// Calls that cross a GOAWAY are read, and neither executed nor answered.
    GoawayLoses,
    /// The second GOAWAY says of calls that were read that they were not.
    GoawayLies,
    /// Nobody notices that the peer is silent.
    DeafKeepalive,
    /// Retries cost nothing.
    BudgetForgets,
    /// What a call held of the server's room is not given back.
    RoomLeaks,
    /// The room of calls whose connection ended under them is not given back.
    CrashLeaks,
    /// A handler's call does not inherit the deadline of the call that is served.
    NestOverstays,
    /// A handler's call is tried again though the call that is served is itself a retry.
    NestRetries,
    /// What a handler's call says of its own execution is told of the call that is served.
    NestLies,
    /// Nothing is granted for pieces that are thrown away.
    CreditForgets,
    /// What came of a request in pieces is held when it has ended.
    PieceLeaks,
    /// An answer that is cut short has no end.
    CutLoses,
    /// A request in pieces is taken as not sent whole when it was.
    BodyLies,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::StartTwice,
        Self::LateAnswer,
        Self::SweepForgets,
        Self::LateStart,
        Self::RefusedRuns,
        Self::NotSentLie,
        Self::StaleReply,
        Self::RetryUnknown,
        Self::GoawayLoses,
        Self::GoawayLies,
        Self::DeafKeepalive,
        Self::BudgetForgets,
        Self::RoomLeaks,
        Self::CrashLeaks,
        Self::NestOverstays,
        Self::NestRetries,
        Self::NestLies,
        Self::CreditForgets,
        Self::PieceLeaks,
        Self::CutLoses,
        Self::BodyLies,
    ];
}

#[cfg(seeded_bugs)]
static SEEDED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Seeds one bug in the whole process, or none.
#[cfg(seeded_bugs)]
pub fn seed(bug: Option<Bug>) {
    SEEDED.store(bug.map_or(0, |bug| bug as u8), std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is to be shown.
#[cfg(seeded_bugs)]
#[must_use]
pub fn is_seeded(bug: Bug) -> bool {
    SEEDED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this bug is to be shown: never, in this build.
#[cfg(not(seeded_bugs))]
#[must_use]
pub const fn is_seeded(_bug: Bug) -> bool {
    false
}
