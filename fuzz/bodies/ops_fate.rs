//! What callers were told: one thing each, to be compared with what happened.

use super::ops_out::filling;
use switchback::proto::CallOutcome;
use switchback::wire::{Code, Disposition};

/// The one thing that a caller is told.
#[derive(Debug)]
pub(super) enum Fate {
    /// It never got an id.
    NotSent,
    /// It went away itself.
    GoneAway,
    Told(CallOutcome, Vec<u8>),
}

impl Fate {
    /// How the server answered, and with which payload.
    pub(super) fn answer(&self) -> Option<(Code, Disposition, &[u8])> {
        let Self::Told(CallOutcome::Answered { status, disposition, ext_len, .. }, reply) = self
        else {
            return None;
        };
        // Behind the payload stand the TLVs.
        Some((*status, *disposition, &reply[..reply.len() - ext_len]))
    }

    /// Whether an answer is this: as much of a message as came in pieces, then the number.
    pub(super) fn is_answer_to(&self, nonce: u64, pieces: usize) -> bool {
        self.answer().is_some_and(|(_, _, payload)| {
            let end = payload.len().saturating_sub(8);
            let is_filled = payload[..end].iter().enumerate().all(|(at, b)| *b == filling(at));
            end == pieces && is_filled && payload[end..] == nonce.to_be_bytes()
        })
    }

    /// Whether the caller may take its call for not executed.
    pub(super) fn is_not_processed(&self) -> bool {
        let lost = CallOutcome::Lost(Disposition::NotProcessed);
        match self {
            Self::NotSent => true,
            Self::GoneAway => false,
            Self::Told(outcome, _) => {
                *outcome == lost
                    || self.answer().is_some_and(|(_, said, _)| said == Disposition::NotProcessed)
            }
        }
    }
}
