//! The client's calls: slots, ids, deadlines, answers.
//!
//! A slot is `(id >> 1) & mask`. Two parties hold it: its *owner*, the future that waits, and the
//! *peer*, who owes a RESPONSE. It is free again when neither does, so that an answer that comes
//! late finds the slot of its own call, never another's.
//!
//! ```text
//!  open --answer--> answered --take--> free
//!   |  \--expire--> expired --take--> abandoned --answer--> free
//!   |  \--cancel-------------------> abandoned --answer--> free
//!   \--lose--> lost --take--> free
//! ```
//!
//! Invariants: ids are odd, increase, and are never reused (CA-1); a busy slot is skipped, never
//! overwritten; there are at least twice as many slots as calls allowed. Nothing is allocated per
//! call: a slot keeps its reply buffer, up to 1 KiB.

use std::time::Instant;

use crate::proto::Violation;
use crate::proto::earliest::Earliest;
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{OutOfMemory, pool, try_grow};
use crate::wire::{BODY_CRC_BYTES, CallId, Code, Data, DecodeError, Disposition, Kind};
use crate::wire::{FRAME_BYTES_DEFAULT, RESPONSE_FIXED_BYTES, Response, push_message};

/// The calls of one connection. `T` is the owner's, opaque here: the driver keeps wakers in it.
#[derive(Debug)]
pub struct CallTable<T> {
    slots: Vec<Slot<T>>,
    /// The next id, if one is left.
    next: Option<u32>,
    busy: usize,
    calls_max: usize,
    /// As long as an answer may be in one frame, `body_len`.
    frame_bytes_max: u32,
    earliest: Earliest,
}

/// How a call ended, as its connection saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallOutcome {
    /// The peer answered; the payload and the TLVs are in the reply, in this order.
    Answered {
        /// How.
        status: Code,
        /// Whether it was executed.
        disposition: Disposition,
        /// The payload's codec.
        codec: u8,
        /// Bytes of TLVs at the end of the reply.
        ext_len: usize,
    },
    /// Its time was over.
    Expired,
    /// The connection ended.
    Lost(Disposition),
}

/// What [`CallTable::open`] gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opened {
    /// The call's id.
    pub id: CallId,
    /// Whether its deadline is before every other: the sweep must be set anew.
    pub is_earliest: bool,
}

/// What [`CallTable::take`] gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Taken {
    /// How the call ended.
    pub outcome: CallOutcome,
    /// Whether a place became free.
    pub freed: bool,
}

/// What must follow a cancellation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cancelled {
    /// Tell the peer: it still works on the call.
    TellPeer,
    /// The peer has ended the call already; a place became free.
    Freed,
    /// Nothing: the peer was told before.
    Nothing,
}

/// Decides what is known of a call when its connection ends.
#[derive(Clone, Copy, Debug)]
pub struct LostDisposition {
    /// Calls whose first byte has this offset in the output or a higher one were never sent.
    pub handed_bytes: u64,
    /// Calls with higher ids were never read, says the peer in its CLOSE.
    pub last_call: Option<CallId>,
}

#[derive(Debug)]
struct Slot<T> {
    id: CallId,
    owned: bool,
    owed: bool,
    outcome: Option<CallOutcome>,
    deadline: Option<Instant>,
    /// Where the call's first byte stands in the connection's output.
    offset: u64,
    token: T,
    reply: Vec<u8>,
    /// Bytes of pieces of the answer that came before its end (FL-3).
    pieces: usize,
}

impl<T: Default> CallTable<T> {
    /// For at most `calls_max` calls at a time, at least one.
    #[must_use]
    pub fn new(calls_max: usize) -> Self {
        let slots = Vec::new();
        let (next, calls_max, frame_bytes_max) = (Some(1), calls_max.max(1), FRAME_BYTES_DEFAULT);
        Self { slots, next, busy: 0, calls_max, frame_bytes_max, earliest: Earliest::default() }
    }

    /// Limits answers in pieces to this `body_len`, as it is in one frame (FL-4). Default: 4 MiB.
    #[must_use]
    pub const fn with_frame_bytes_max(mut self, frame_bytes_max: u32) -> Self {
        self.frame_bytes_max = frame_bytes_max;
        self
    }

    /// Gives this id first, not 1. Of an even one the next is taken.
    #[must_use]
    pub const fn beginning_at(mut self, first: CallId) -> Self {
        self.next = Some(first.0 | 1);
        self
    }

    /// Changes how many calls are allowed; calls that are there stay.
    pub const fn set_calls_max(&mut self, calls_max: usize) {
        self.calls_max = if calls_max == 0 { 1 } else { calls_max };
    }

    /// Opens a call and gives it the next id; `None` when no place is free or ids are used up.
    /// `offset` is where its first byte will stand in the output.
    #[inline]
    pub fn open(&mut self, deadline: Instant, offset: u64, token: T) -> Option<Opened> {
        if self.room() == 0 {
            return None;
        }
        if (self.busy + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut id = self.next?;
        while self.slots[slot_of(id, mask)].is_busy() {
            // Ends: at most half of the slots are busy.
            self.next = id.checked_add(2);
            id = self.next?;
        }
        self.next = id.checked_add(2);
        let is_earliest = self.earliest.at().is_none_or(|known| deadline < known);
        self.earliest.note(deadline);
        let slot = &mut self.slots[slot_of(id, mask)];
        slot.id = CallId(id);
        (slot.owned, slot.owed, slot.outcome) = (true, true, None);
        (slot.deadline, slot.offset, slot.token) = (Some(deadline), offset, token);
        self.busy += 1;
        Some(Opened { id: slot.id, is_earliest })
    }

    /// Files an answer. Gives the owner's token if somebody waits for it.
    ///
    /// # Errors
    /// [`Violation::OutOfTurn`] when no answer is owed for this id (CA-2), and
    /// [`DecodeError::FrameTooLarge`] when it is too long with the pieces before it (FL-4).
    #[inline]
    pub fn handle_response(
        &mut self,
        response: &Response<'_>,
    ) -> Result<Option<&mut T>, Violation> {
        let call = response.call;
        let Some(at) = self.find(call).filter(|at| self.slots[*at].owed) else {
            if is_seeded(Bug::LateAnswer) {
                return Ok(None); // Else the peer were blamed before a wrong call got its answer.
            }
            let why = "a response to a call that waits for none";
            return Err(Violation::OutOfTurn { kind: Kind::RESPONSE.0, why });
        };
        let slot = &mut self.slots[at];
        let pieces = std::mem::take(&mut slot.pieces);
        let has_payload = response.status.has_payload();
        if pieces > 0 && has_payload {
            let payload = pieces + response.payload.len();
            check_length(payload, response.ext.len(), self.frame_bytes_max)?;
        }
        slot.owed = false;
        if !slot.owned {
            slot.free();
            self.busy -= 1;
            return Ok(None);
        }
        if slot.outcome.is_some() {
            return Ok(None); // Expired; its owner has not looked yet.
        }
        slot.file(response, if has_payload { pieces } else { 0 });
        Ok(Some(&mut slot.token))
    }

    /// Files a piece of an answer, or throws it away if nobody waits for it any more.
    ///
    /// # Errors
    /// [`Violation::OutOfTurn`] when no answer is owed for this id (FL-8), and
    /// [`DecodeError::FrameTooLarge`] when the answer becomes too long (FL-4).
    pub fn handle_data(&mut self, data: &Data<'_>) -> Result<(), Violation> {
        let Some(at) = self.find(data.call).filter(|at| self.slots[*at].owed) else {
            if is_seeded(Bug::LateAnswer) {
                return Ok(()); // As a late RESPONSE.
            }
            let why = "a piece of an answer to a call that waits for none";
            return Err(Violation::OutOfTurn { kind: Kind::DATA.0, why });
        };
        let slot = &mut self.slots[at];
        let before = slot.pieces;
        check_length(before + data.payload.len(), 0, self.frame_bytes_max)?;
        slot.pieces += data.payload.len();
        if !slot.owned || slot.outcome.is_some() {
            return Ok(());
        }
        if before == 0 {
            slot.reply = pool::LONG.take();
        }
        // Without memory for one, what there is of the others is given back: the lengths differ
        // then, which tells at the end.
        if slot.reply.len() != before || try_grow(&mut slot.reply, data.payload.len()).is_err() {
            slot.reply = Vec::new();
        } else {
            slot.reply.extend_from_slice(data.payload);
        }
        Ok(())
    }

    /// What is known of a call that was not sent to its last byte: nothing of it was executed
    /// (FL-2), whatever was handed over of it.
    pub fn set_unsent(&mut self, id: CallId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.offset = u64::MAX;
        }
    }

    /// Takes the outcome, if there is one, and the reply with it: `reply` is exchanged for the
    /// slot's buffer. The owner has no claim on the slot after that.
    #[inline]
    pub fn take(&mut self, id: CallId, reply: &mut Vec<u8>) -> Option<Taken> {
        let slot = self.slot_mut(id)?;
        let outcome = slot.outcome.take()?;
        if is_seeded(Bug::StaleReply) {
            reply.clone_from(&slot.reply);
        } else {
            std::mem::swap(&mut slot.reply, reply);
        }
        slot.empty_reply();
        slot.owned = false;
        slot.token = T::default();
        let freed = !slot.owed;
        if freed {
            slot.free();
            self.busy -= 1;
        }
        Some(Taken { outcome, freed })
    }

    /// The owner's token of a call that is still owned.
    pub fn token_mut(&mut self, id: CallId) -> Option<&mut T> {
        self.slot_mut(id).filter(|slot| slot.owned).map(|slot| &mut slot.token)
    }

    /// The owner gives the call up. Its place is held until the peer has answered (CA-12).
    pub fn cancel(&mut self, id: CallId) -> Cancelled {
        let Some(slot) = self.slot_mut(id).filter(|slot| slot.owned) else {
            return Cancelled::Nothing;
        };
        slot.owned = false;
        slot.token = T::default();
        if is_seeded(Bug::LateAnswer) {
            slot.owed = false;
            slot.free();
            self.busy -= 1;
            return Cancelled::TellPeer;
        }
        if !slot.owed {
            slot.free();
            self.busy -= 1;
            return Cancelled::Freed;
        }
        // Expired ones were cancelled by the sweep.
        let told = slot.outcome.take().is_some();
        if told { Cancelled::Nothing } else { Cancelled::TellPeer }
    }

    /// Ends every call whose deadline has come; `expired` is told of each, and must send CANCEL
    /// (CA-8).
    pub fn expire(&mut self, now: Instant, mut expired: impl FnMut(CallId, &mut T)) {
        self.earliest.reset();
        if is_seeded(Bug::SweepForgets) {
            return;
        }
        for slot in &mut self.slots {
            if !slot.owned || slot.outcome.is_some() {
                continue;
            }
            match slot.deadline {
                Some(deadline) if deadline <= now => {
                    slot.outcome = Some(CallOutcome::Expired);
                    expired(slot.id, &mut slot.token);
                }
                Some(deadline) => self.earliest.note(deadline),
                None => {}
            }
        }
    }

    /// The connection ended: every call without an outcome gets one (LD-4, LD-5); `lost` is told
    /// of each.
    pub fn lose_all(&mut self, known: LostDisposition, mut lost: impl FnMut(&mut T)) {
        for slot in &mut self.slots {
            if !slot.owed {
                continue;
            }
            slot.owed = false;
            if !slot.owned {
                slot.free();
                self.busy -= 1;
            } else if slot.outcome.is_none() {
                slot.outcome = Some(CallOutcome::Lost(known.of(slot.id, slot.offset)));
                lost(&mut slot.token);
            }
        }
        self.earliest.reset();
    }

    /// The peer never read the calls above `last` and never will (LD-10): they end, and owe no
    /// answer any more; `lost` is told of each that somebody waits for.
    pub fn lose_above(&mut self, last: CallId, mut lost: impl FnMut(&mut T)) {
        for slot in &mut self.slots {
            if !slot.owed || slot.id <= last {
                continue;
            }
            slot.owed = false;
            if !slot.owned {
                slot.free();
                self.busy -= 1;
            } else if slot.outcome.is_none() {
                slot.outcome = Some(CallOutcome::Lost(Disposition::NotProcessed));
                lost(&mut slot.token);
            }
        }
    }

    /// How many more calls may be opened (CA-11).
    #[must_use]
    pub const fn room(&self) -> usize {
        self.calls_max.saturating_sub(self.busy)
    }

    /// Slots that are held by their owner or owed by the peer.
    #[must_use]
    pub const fn busy(&self) -> usize {
        self.busy
    }

    /// Not later than the first deadline; a sweep is due then.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.earliest.at()
    }

    /// Whether ids are used up: this connection opens no call any more (CA-1).
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.next.is_none()
    }

    fn find(&self, id: CallId) -> Option<usize> {
        let at = slot_of(id.0, self.slots.len().checked_sub(1)?);
        let is_same = self.slots[at].id == id || is_seeded(Bug::LateAnswer);
        (is_same && id != CallId::CONNECTION).then_some(at)
    }

    fn slot_mut(&mut self, id: CallId) -> Option<&mut Slot<T>> {
        self.find(id).map(|at| &mut self.slots[at])
    }

    /// Doubles the slots. Ids that had slots of their own under the smaller mask have them under
    /// the larger one too.
    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(SLOTS_MIN);
        let mut slots: Vec<Slot<T>> = Vec::new();
        slots.resize_with(len, Slot::default);
        for slot in self.slots.drain(..).filter(Slot::is_busy) {
            let at = slot_of(slot.id.0, len - 1);
            slots[at] = slot;
        }
        self.slots = slots;
    }
}

impl<T: Default> Slot<T> {
    const fn is_busy(&self) -> bool {
        self.owned || self.owed
    }

    /// Keeps an answer, of whose payload so many bytes came before it.
    #[inline]
    fn file(&mut self, response: &Response<'_>, pieces: usize) {
        let Response { status, disposition, codec, ext, payload, .. } = *response;
        self.outcome =
            Some(CallOutcome::Answered { status, disposition, codec, ext_len: ext.len() });
        let reply_bytes = ext.len() + payload.len();
        // As long as the right one: an answer with bytes left over would be refused.
        if is_seeded(Bug::StaleReply) && self.reply.len() == reply_bytes {
            return;
        }
        let is_whole = pieces == 0 || self.reply.len() == pieces;
        self.reply.truncate(pieces);
        let room = try_grow(&mut self.reply, reply_bytes);
        match room {
            Ok(()) if is_whole => {
                self.reply.extend_from_slice(payload);
                self.reply.extend_from_slice(ext);
            }
            _ => {
                // It cannot be read (CA-15); what it says of the execution is kept.
                let error = OutOfMemory { bytes: pieces + reply_bytes };
                self.reply = Vec::new();
                push_message(&mut self.reply, &error.to_string());
                self.outcome = Some(CallOutcome::Answered {
                    status: Code::BAD_RESPONSE,
                    disposition,
                    codec: 0,
                    ext_len: self.reply.len(),
                });
            }
        }
    }

    fn free(&mut self) {
        self.id = CallId::CONNECTION;
        self.outcome = None;
        self.deadline = None;
        self.pieces = 0;
        self.empty_reply();
    }

    /// What a call leaves behind, the slot's next one never sees.
    fn empty_reply(&mut self) {
        if !is_seeded(Bug::StaleReply) {
            self.reply.clear();
        }
        if self.reply.capacity() > REPLY_BYTES_KEPT {
            pool::LONG.give(std::mem::take(&mut self.reply));
        }
    }
}

impl<T: Default> Default for Slot<T> {
    fn default() -> Self {
        let (token, reply) = (T::default(), Vec::new());
        let id = CallId::CONNECTION;
        Self {
            id,
            owned: false,
            owed: false,
            outcome: None,
            deadline: None,
            offset: 0,
            token,
            reply,
            pieces: 0,
        }
    }
}

impl LostDisposition {
    fn of(self, id: CallId, offset: u64) -> Disposition {
        if is_seeded(Bug::NotSentLie) {
            return Disposition::NotProcessed;
        }
        let unread = self.last_call.is_some_and(|last| id > last); // LD-4
        if unread || offset >= self.handed_bytes {
            Disposition::NotProcessed
        } else {
            Disposition::Maybe
        }
    }
}

/// A message in pieces may be as long as one in a frame (FL-4).
fn check_length(payload: usize, ext: usize, max: u32) -> Result<(), DecodeError> {
    let bytes = RESPONSE_FIXED_BYTES + ext + payload + BODY_CRC_BYTES;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= max => Ok(()),
        bytes => Err(DecodeError::FrameTooLarge { bytes: bytes.unwrap_or(u32::MAX), max }),
    }
}

const fn slot_of(id: u32, mask: usize) -> usize {
    (id >> 1) as usize & mask
}

/// Slots of a table with its first call.
const SLOTS_MIN: usize = 16;
/// A slot's reply buffer keeps this much; larger answers give theirs away.
const REPLY_BYTES_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    fn deadline() -> Instant {
        Instant::now()
    }

    /// The last id there is can be given; after it none is, and the table says so.
    #[test]
    fn ca_1_gives_every_id_up_to_the_last() {
        let mut calls = CallTable::<u32>::new(8).beginning_at(CallId(u32::MAX - 3));
        let deadline = deadline();
        let ids: Vec<u32> =
            std::iter::from_fn(|| calls.open(deadline, 0, 0)).map(|opened| opened.id.0).collect();

        assert_eq!(ids, [u32::MAX - 2, u32::MAX]);
        assert!(calls.is_exhausted());
        assert_eq!(calls.room(), 6);
    }

    /// An id whose slot is busy is skipped; when only such ids are left, none is left.
    #[test]
    fn ca_1_skips_ids_of_busy_slots() {
        let mut calls = CallTable::<u32>::new(8);
        let deadline = deadline();
        let first = calls.open(deadline, 0, 0).map(|opened| opened.id);
        assert_eq!(first, Some(CallId(1)));
        assert_eq!(calls.slots.len(), 16);
        calls.next = Some(33);

        let second = calls.open(deadline, 0, 0).map(|opened| opened.id);
        assert_eq!(second, Some(CallId(35)));

        calls.next = Some(u32::MAX);
        let last = calls.open(deadline, 0, 0).map(|opened| opened.id);
        assert_eq!(last, Some(CallId(u32::MAX)));
        calls.next = Some(u32::MAX);
        assert_eq!(calls.open(deadline, 0, 0), None, "its slot is busy and no id is above it");
        assert!(calls.is_exhausted());
    }
}
