//! A connection's output: a buffer that many append to and one at a time writes.
//!
//! ```text
//! append --> pending --take--> Writer{buf} --poll_write--> socket
//!               ^                  |  ^
//!               +-- more meanwhile +--|--release--> (again, or rest)
//! long payloads --> bodies --a piece--+
//! ```
//!
//! Invariants: bytes leave in the order they were appended; whoever holds the [`Writer`] is the
//! only one that writes; a rest that could not be written goes out before anything else; what is
//! appended while somebody writes is never forgotten: on release, the flusher is woken for it.
//! Each write takes the frames that are there and one piece of a long payload, if one has credit
//! (FL-5): neither waits for more than one turn of the other. Long payloads go one after another,
//! so that the first is whole, and worked on, while the next is on its way.
//! Why two buffers: appending must not wait for the system call.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::io::AsyncWrite;

use crate::driver::writer::Writer;
use crate::proto::{Credit, Violation};
use crate::service::Body;
use crate::util::{OutOfMemory, try_grow};
use crate::wire::append_data_head;
use crate::wire::{BODY_CRC_BYTES, CallId, FRAGMENT_BYTES_MAX, Kind, append_control};

/// The write side of one connection; lives inside the connection's lock.
pub(crate) struct Outbound {
    pending: Vec<u8>,
    /// Payloads that go in pieces, in their order; as many as calls are in flight, at most.
    bodies: VecDeque<Body>,
    body_bytes: usize,
    /// What pieces may be sent (FL-10), and how large.
    credit: Credit,
    piece_bytes_max: usize,
    /// Pieces that were ever handed over.
    pieces: u64,
    /// The newest PING that was not answered yet (LD-1).
    pong: Option<[u8; 8]>,
    /// Here unless somebody writes.
    writer: Option<Writer>,
    /// Bytes that ever left `pending`: the offset of its first byte in the stream.
    handed: u64,
    flusher: Option<Waker>,
    is_closing: bool,
    is_failed: bool,
}

/// What must follow an append, after the lock is released.
pub(crate) enum Flush {
    /// Somebody else sees to it.
    Nothing,
    /// Wake the flusher.
    Wake(Waker),
    /// Write yourself, with [`Writer::write_now`], then release.
    Write(Writer),
}

/// How eager an append is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Eagerness {
    /// Nobody else is likely to append soon: write at once.
    pub(crate) is_alone: bool,
    /// Write at once from so many bytes on.
    pub(crate) threshold_bytes: usize,
}

/// What a release found.
pub(crate) struct Released {
    /// The flusher, when bytes are left for it.
    pub(crate) wake: Option<Waker>,
    /// Those who wait for room may go on.
    pub(crate) has_room: bool,
    /// Who does not read should look again: for the last long payload is written, or there may be
    /// credit to read.
    pub(crate) may_read: bool,
    /// The writer of a stream that has failed, to be dropped without the lock.
    pub(crate) failed: Option<Writer>,
}

impl Outbound {
    pub(crate) fn new(io: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        let writer = Some(Writer::new(io));
        let (is_closing, is_failed) = (false, false);
        Self {
            pending: Vec::new(),
            bodies: VecDeque::new(),
            body_bytes: 0,
            credit: Credit::default(),
            piece_bytes_max: FRAGMENT_BYTES_MAX,
            pieces: 0,
            pong: None,
            writer,
            handed: 0,
            flusher: None,
            is_closing,
            is_failed,
        }
    }

    /// Where the next appended byte will stand in the stream.
    pub(crate) const fn offset(&self) -> u64 {
        self.handed + self.pending.len() as u64
    }

    /// Bytes below this offset may have reached the system; those from it on have not.
    pub(crate) fn sent_offset(&self) -> u64 {
        // While somebody writes nobody knows how far: all of it counts as sent.
        self.handed - self.writer.as_ref().map_or(0, |writer| writer.bytes_left() as u64)
    }

    /// Forgets what nobody has begun to write; bytes below the offset given back were sent or
    /// still will be.
    pub(crate) fn discard(&mut self) -> u64 {
        self.pending.clear();
        self.drop_bodies();
        self.handed
    }

    /// The calls whose payload was not handed over to its last byte.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = CallId> {
        self.bodies.iter().map(|body| body.call)
    }

    /// The peer takes pieces, of which it opens a window for so many bytes (FL-10).
    pub(crate) fn open_window(&mut self, bytes: u32, frame_bytes_max: u32) {
        self.credit = Credit::new(bytes);
        let max = usize::try_from(frame_bytes_max).unwrap_or(usize::MAX);
        self.piece_bytes_max = FRAGMENT_BYTES_MAX.min(max.saturating_sub(BODY_CRC_BYTES));
    }

    /// The peer grants more; the flusher is to be woken.
    ///
    /// # Errors
    /// [`Violation::Flow`]: it makes no sense (FL-11).
    pub(crate) fn grant(&mut self, bytes: u32) -> Result<Option<Waker>, Violation> {
        self.credit.grant(bytes)?;
        Ok(if self.bodies.is_empty() { None } else { self.flusher.take() })
    }

    /// Adds a payload that goes in pieces. What has to come before it was appended.
    pub(crate) fn push_body(&mut self, body: Body) {
        self.body_bytes += body.bytes_held();
        self.bodies.push_back(body);
    }

    /// Gives up what is left of a call's payload; says whether something was.
    pub(crate) fn drop_body(&mut self, call: CallId) -> bool {
        let Some(at) = self.bodies.iter().position(|body| body.call == call) else { return false };
        if let Some(body) = self.bodies.remove(at) {
            self.body_bytes -= body.bytes_held();
        }
        true
    }

    /// Gives up what is left of the payloads of calls with higher ids.
    pub(crate) fn drop_bodies_above(&mut self, last: CallId) {
        self.bodies.retain(|body| body.call <= last);
        self.body_bytes = self.bodies.iter().map(Body::bytes_held).sum();
    }

    /// How many payloads were not handed over to their last byte.
    pub(crate) fn bodies(&self) -> usize {
        self.bodies.len()
    }

    fn drop_bodies(&mut self) {
        self.bodies = VecDeque::new();
        self.body_bytes = 0;
    }

    /// Whether payloads wait for nothing but credit; how many pieces were handed over by then.
    pub(crate) fn starved(&self) -> Option<u64> {
        let waits = !self.bodies.is_empty() && !self.has_piece();
        waits.then_some(self.pieces)
    }

    /// Whether a piece may be written now.
    fn has_piece(&self) -> bool {
        !self.bodies.is_empty() && self.credit.left() > 0
    }

    /// The buffer to append whole frames to, unless the output is closed.
    pub(crate) const fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Makes room for so many bytes of frames.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        try_grow(&mut self.pending, bytes)
    }

    /// Whether bytes wait beyond the soft limit: callers should wait too.
    pub(crate) fn is_full(&self) -> bool {
        self.queued_bytes() > SOFT_BYTES_MAX
    }

    /// Whether calls should wait to be sent. Not for one long payload, nor for a few: who waits for
    /// credit waits with pieces alone (FL-10).
    pub(crate) fn holds_calls(&self) -> bool {
        let frame_bytes = self.queued_bytes() - self.body_bytes;
        frame_bytes > SOFT_BYTES_MAX || self.body_bytes > BODY_BYTES_MAX
    }

    /// Whether nothing should be read until there is room: bytes wait beyond the soft limit, and
    /// for the peer to take them. It would be wrong to wait so for credit, which has to be read;
    /// but what needs none has its limit whatever else waits.
    pub(crate) fn is_blocked(&self) -> bool {
        let bytes = self.queued_bytes();
        let waits_for_credit = self.starved().is_some();
        bytes - if waits_for_credit { self.body_bytes } else { 0 } > SOFT_BYTES_MAX
    }

    /// Bytes that wait to be written. What somebody writes at this moment is not among them.
    pub(crate) fn queued_bytes(&self) -> usize {
        let writing = self.writer.as_ref().map_or(0, Writer::bytes_left);
        self.pending.len() + self.body_bytes + writing
    }

    /// Decides who writes what was just appended.
    pub(crate) fn after_append(&mut self, eagerness: Eagerness) -> Flush {
        let Some(writer) = self.writer.take_if(|writer| writer.is_done()) else {
            return Flush::Nothing; // The owner, or the flusher with its rest, comes by.
        };
        if eagerness.is_alone || self.pending.len() >= eagerness.threshold_bytes {
            Flush::Write(self.refill(writer))
        } else {
            self.writer = Some(writer);
            self.flusher.take().map_or(Flush::Nothing, Flush::Wake)
        }
    }

    /// Wakes the flusher, whatever for.
    pub(crate) const fn wake(&mut self) -> Option<Waker> {
        self.flusher.take()
    }

    /// Answers a PING with the next write. One that waits for that already gives way: a flood of
    /// them costs nothing.
    pub(crate) const fn answer_ping(&mut self, echo: [u8; 8]) -> Option<Waker> {
        self.pong = Some(echo);
        self.flusher.take()
    }

    /// Whether there is something to write and nobody who does.
    pub(crate) fn has_work(&self) -> bool {
        let rests = |writer: &Writer| !writer.is_done();
        self.writer.as_ref().is_some_and(|writer| rests(writer) || !self.is_empty())
    }

    /// Whether nothing is to be written now.
    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.pong.is_none() && !self.has_piece()
    }

    /// For the flusher: the writer, if there is something to write and nobody else does.
    pub(crate) fn take(&mut self, flusher: &Waker) -> Option<Writer> {
        match self.writer.take() {
            Some(writer) if !writer.is_done() => Some(writer),
            Some(writer) if !self.is_empty() => Some(self.refill(writer)),
            writer => {
                self.writer = writer;
                self.flusher = Some(flusher.clone());
                None
            }
        }
    }

    /// For the flusher, which waits in a write or a shutdown: keeps the rest for it, and wakes it
    /// for an earlier deadline and for the end as if it were idle. Gives the writer back when the
    /// stream has failed already, to be dropped without the lock.
    pub(crate) fn watch(
        &mut self,
        flusher: &Waker,
        writer: Option<Writer>,
    ) -> Option<Option<Writer>> {
        self.flusher = Some(flusher.clone());
        if self.is_failed {
            return Some(writer);
        }
        if writer.is_some() {
            self.writer = writer;
        }
        None
    }

    /// For the flusher: gives up waiting for more, and takes what there is for a last time.
    pub(crate) fn take_to_close(&mut self) -> Option<Writer> {
        let is_done = self.is_closing && self.is_empty();
        if is_done { self.writer.take() } else { None }
    }

    /// Gives the writer back.
    pub(crate) fn release(&mut self, mut writer: Writer) -> Released {
        if self.is_failed {
            let wake = self.flusher.take();
            return Released { wake, has_room: false, may_read: false, failed: Some(writer) };
        }
        let waiting = self.pending.len() + self.body_bytes;
        let was_full = waiting + writer.bytes_held() > SOFT_BYTES_MAX;
        let held_calls = self.pending.len() + writer.bytes_held() > SOFT_BYTES_MAX
            || self.body_bytes + writer.bytes_held() > BODY_BYTES_MAX;
        let has_ended = writer.is_done() && writer.has_piece() && self.bodies.is_empty();
        if writer.is_done() {
            writer.clear();
            writer.buf.shrink_to(BUFFER_BYTES_KEPT);
        }
        let is_idle = writer.is_done() && self.is_empty();
        if is_idle {
            for buffer in [&mut writer.buf, &mut self.pending] {
                if buffer.capacity() > IDLE_BYTES_KEPT {
                    *buffer = Vec::new();
                }
            }
        }
        self.writer = Some(writer);
        let has_room = (was_full && !self.is_full()) || (held_calls && !self.holds_calls());
        let may_read = has_ended || (was_full && self.starved().is_some());
        // The flusher knows how long payloads have waited for credit.
        let rests = is_idle && self.bodies.is_empty() && !self.is_closing;
        let wake = if rests { None } else { self.flusher.take() };
        Released { wake, has_room, may_read, failed: None }
    }

    /// Nothing is appended any more; the frames that are there are written, then the stream is shut
    /// down. Who has payloads left for a peer that is welcome waits for them first.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
        self.drop_bodies();
    }

    pub(crate) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// The stream failed, or was shut down: nothing is written any more. Gives the writer, unless
    /// somebody writes: the stream is closed when it is dropped, however long handles and handlers
    /// keep the connection's state. To be dropped without the lock.
    #[must_use]
    pub(crate) fn fail(&mut self) -> Option<Writer> {
        self.drop_bodies();
        self.stop()
    }

    /// A write failed, or takes too long: [`Outbound::fail`] is to follow. What the stream did not
    /// take was not sent, and is not counted as handed to it; payloads stay until then, to say what
    /// else was not.
    #[must_use]
    pub(crate) fn fail_writing(&mut self, writer: Writer) -> (Writer, Option<Writer>) {
        self.handed -= writer.bytes_left() as u64;
        (writer, self.stop())
    }

    fn stop(&mut self) -> Option<Writer> {
        self.is_failed = true;
        self.pending = Vec::new();
        self.writer.take()
    }

    pub(crate) const fn is_failed(&self) -> bool {
        self.is_failed
    }

    fn refill(&mut self, mut writer: Writer) -> Writer {
        writer.clear();
        if let Some(echo) = self.pong.take().filter(|_| !self.is_closing) {
            append_control(&mut self.pending, Kind::PONG, CallId::CONNECTION, &[], &echo);
        }
        std::mem::swap(&mut writer.buf, &mut self.pending);
        self.refill_piece(&mut writer);
        self.handed += writer.bytes_left() as u64;
        writer
    }

    /// Hands the next piece over, if there is one and credit for it.
    fn refill_piece(&mut self, writer: &mut Writer) {
        let credit = self.credit.left();
        if !self.has_piece() {
            return;
        }
        let Some(body) = self.bodies.front_mut() else { return };
        self.body_bytes -= body.bytes_held();
        let max = usize::try_from(credit).unwrap_or(usize::MAX).min(self.piece_bytes_max);
        let piece = body.next_piece(max);
        let (is_over, flags) = (body.bytes_left() == 0, body.flags());
        let end = if is_over { body.take_end() } else { Vec::new() };
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        append_data_head(&mut writer.buf, body.call, bytes, flags);
        self.credit.spend(bytes);
        self.pieces += 1;
        writer.set_piece(piece, &end);
        if is_over {
            self.bodies.pop_front();
        } else {
            self.body_bytes += body.bytes_held();
        }
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("queued_bytes", &self.queued_bytes())
            .field("is_closing", &self.is_closing)
            .field("is_failed", &self.is_failed)
            .finish_non_exhaustive()
    }
}

/// Between one flush at 64 calls in flight (4 KiB) and at 512 (16 KiB), as measured: cutting a
/// batch keeps both sides busy, cutting it smaller costs system calls.
pub(crate) fn threshold_bytes(in_flight: usize) -> usize {
    (in_flight * 64).clamp(4 * 1024, 16 * 1024)
}

/// Soft limit of bytes that wait to be written.
pub(crate) const SOFT_BYTES_MAX: usize = 1024 * 1024;
/// Soft limit of a client's long payloads that wait to be sent: four of the longest.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Each of the two buffers of an idle connection keeps this much, so that a lone call needs not
/// allocate.
const IDLE_BYTES_KEPT: usize = 1024;
/// A buffer that grew beyond this is given back to the system.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
