//! The read side: bytes from a stream to whoever judges them, in place.
//!
//! Invariants: bytes are handed over in order, those not used first in the next turn; a partial
//! frame moves to a carry buffer, and back before the next read if all of it fits into the thread's
//! buffer; else the carry buffer grows with what arrived, never with what was declared; an idle
//! stream holds no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::driver::scratch::{READ_BYTES, with_long_read, with_read};
use crate::proto::Violation;
use crate::util::{OutOfMemory, try_grow};
use crate::wire::{BODY_CRC_BYTES, CallId, EXT_BYTES_MAX, FRAGMENT_BYTES_MAX, HEAD_BYTES};

/// The read half of a stream.
pub(crate) struct InputStream {
    io: Box<dyn AsyncRead + Send + Unpin>,
    carry: Carry,
    /// Whoever judged the carried bytes stopped before they were all looked at.
    is_unjudged: bool,
    /// Bytes that ever came, and bytes that a judge has used.
    read_bytes: u64,
    used_bytes: u64,
}

/// Bytes that were read and not used. Its own and not `BytesMut`, which cannot be refused memory.
#[derive(Default)]
struct Carry {
    bytes: Vec<u8>,
    /// Those before it are used.
    at: usize,
}

/// Sees to it that a frame that was begun goes on (LD-12).
#[derive(Debug, Default)]
pub(crate) struct FrameWatch {
    mark: Option<Mark>,
}

/// What there was when a watch began.
#[derive(Clone, Copy, Debug)]
struct Mark {
    read_bytes: u64,
    used_bytes: u64,
    is_partial: bool,
    upload: Option<(CallId, u64)>,
}

/// How far a judge came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) used_bytes: usize,
    /// The rest may hold whole frames, to be judged later.
    pub(crate) is_paused: bool,
}

/// What one turn of reading came to.
pub(crate) enum ReadTurn<E> {
    /// Bytes were handed over.
    Read,
    /// The peer will send no more.
    End,
    /// The stream failed.
    Failed(io::Error),
    /// There is no memory for the rest of the frame at hand, which is `carried`. Nothing was read.
    NoMemory(OutOfMemory),
    /// Whoever judges the bytes had enough; these are the bytes.
    Refused(E, Vec<u8>),
}

impl InputStream {
    pub(crate) fn new(io: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { io, carry: Carry::default(), is_unjudged: false, read_bytes: 0, used_bytes: 0 }
    }

    /// Reads once and hands everything unread to `judge`, which says how many bytes it used. If it
    /// paused the turn before, it is handed the rest of that without another read.
    /// `missing_bytes` is how many the frame at the front still lacks.
    pub(crate) fn poll_turn<E>(
        &mut self,
        cx: &mut Context<'_>,
        missing_bytes: usize,
        judge: impl FnOnce(&[u8]) -> Result<Judged, E>,
    ) -> Poll<ReadTurn<E>> {
        if self.is_unjudged {
            return Poll::Ready(self.judge_carry(judge));
        }
        if self.carry.unused().len() + missing_bytes <= READ_BYTES {
            return self.poll_scratch(cx, judge);
        }
        if missing_bytes > READ_BYTES
            && self.carry.unused().len() + missing_bytes <= FRAME_BYTES_LONG
        {
            return self.poll_long_turn(cx, missing_bytes, judge);
        }
        // Doubles with what arrived, up to the frame's end; at least one plain read.
        let wanted = missing_bytes.min(self.carry.unused().len().max(READ_BYTES));
        if let Err(error) = self.carry.make_room(wanted) {
            return Poll::Ready(ReadTurn::NoMemory(error));
        }
        match std::task::ready!(poll_read_buf(Pin::new(&mut *self.io), cx, &mut self.carry.bytes)) {
            Ok(0) => return Poll::Ready(ReadTurn::End),
            Ok(read) => self.read_bytes += read as u64,
            Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
        }
        Poll::Ready(self.judge_carry(judge))
    }

    /// Reads into the thread's buffer, behind what is carried. Not just the rest of that frame: one
    /// read would then give one frame, and leave the next one in part, for as long as the peer
    /// sends more than is read.
    fn poll_scratch<E>(
        &mut self,
        cx: &mut Context<'_>,
        judge: impl FnOnce(&[u8]) -> Result<Judged, E>,
    ) -> Poll<ReadTurn<E>> {
        with_read(|scratch| {
            scratch.extend_from_slice(self.carry.unused());
            match std::task::ready!(poll_read_buf(Pin::new(&mut *self.io), cx, scratch)) {
                Ok(0) => return Poll::Ready(ReadTurn::End),
                Ok(read) => self.read_bytes += read as u64,
                Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
            }
            Poll::Ready(match judge(scratch) {
                Ok(judged) => {
                    self.used_bytes += judged.used_bytes as u64;
                    self.carry.replace(&scratch[judged.used_bytes..]);
                    self.is_unjudged = judged.is_paused;
                    ReadTurn::Read
                }
                Err(error) => ReadTurn::Refused(error, first_bytes(scratch)),
            })
        })
    }

    /// A turn while fragments come: reads many of them at once, behind what there is of the first.
    fn poll_long_turn<E>(
        &mut self,
        cx: &mut Context<'_>,
        missing_bytes: usize,
        judge: impl FnOnce(&[u8]) -> Result<Judged, E>,
    ) -> Poll<ReadTurn<E>> {
        // For what will be left of a fragment. A longer frame grows it by what has arrived.
        if let Err(error) = self.carry.make_room(missing_bytes) {
            return Poll::Ready(ReadTurn::NoMemory(error));
        }
        with_long_read(|scratch| {
            let carried = self.carry.unused().len();
            let mut buffer = ReadBuf::new(&mut scratch[carried..]);
            match std::task::ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(ReadTurn::End),
                Ok(()) => {}
                Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
            }
            let read = buffer.filled().len();
            self.read_bytes += read as u64;
            scratch[..carried].copy_from_slice(self.carry.unused());
            let bytes = &scratch[..carried + read];
            Poll::Ready(match judge(bytes) {
                Ok(judged) => {
                    self.is_unjudged = judged.is_paused;
                    self.used_bytes += judged.used_bytes as u64;
                    self.carry.replace(&bytes[judged.used_bytes..]);
                    ReadTurn::Read
                }
                Err(error) => ReadTurn::Refused(error, first_bytes(bytes)),
            })
        })
    }

    fn judge_carry<E>(&mut self, judge: impl FnOnce(&[u8]) -> Result<Judged, E>) -> ReadTurn<E> {
        match judge(self.carry.unused()) {
            Ok(judged) => {
                self.is_unjudged = judged.is_paused;
                self.used_bytes += judged.used_bytes as u64;
                self.carry.use_up(judged.used_bytes);
                ReadTurn::Read
            }
            Err(error) => ReadTurn::Refused(error, first_bytes(self.carry.unused())),
        }
    }

    /// Whether a judge stopped before it had looked at everything.
    pub(crate) const fn is_paused(&self) -> bool {
        self.is_unjudged
    }

    /// Bytes of a partial frame at hand.
    pub(crate) fn carried(&self) -> &[u8] {
        self.carry.unused()
    }

    /// Forgets them: the frame was given up.
    pub(crate) fn forget(&mut self) {
        self.used_bytes += self.carry.unused().len() as u64;
        self.carry = Carry::default();
    }

    /// Reads and forgets, until the peer has nothing more to say.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carry = Carry::default();
        self.is_unjudged = false;
        loop {
            let all = |bytes: &[u8]| {
                let used_bytes = bytes.len();
                Ok::<Judged, std::convert::Infallible>(Judged { used_bytes, is_paused: false })
            };
            match std::task::ready!(self.poll_turn(cx, 1, all)) {
                ReadTurn::Read => {}
                ReadTurn::End | ReadTurn::Failed(_) | ReadTurn::NoMemory(_) => {
                    return Poll::Ready(());
                }
                ReadTurn::Refused(never, _) => match never {},
            }
        }
    }
}

impl Carry {
    fn make_room(&mut self, more: usize) -> Result<(), OutOfMemory> {
        if self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        try_grow(&mut self.bytes, more)
    }

    /// Keeps these bytes and no others.
    fn replace(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            *self = Self::default();
            return;
        }
        self.bytes.clear();
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    fn use_up(&mut self, bytes: usize) {
        self.at += bytes;
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn unused(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    const fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }
}

impl FrameWatch {
    /// Whether the watch begins with this: a frame is there in part, or a message, and nobody
    /// watches yet. `upload` is the first message of which a piece is outstanding, and how many
    /// bytes of pieces ever came.
    pub(crate) fn starts(&mut self, input: &InputStream, upload: Option<(CallId, u64)>) -> bool {
        let is_partial = !input.carry.is_empty();
        let begins = self.mark.is_none() && (is_partial || upload.is_some());
        if begins {
            let (read_bytes, used_bytes) = (input.read_bytes, input.used_bytes);
            self.mark = Some(Mark { read_bytes, used_bytes, is_partial, upload });
        }
        begins
    }

    /// The time is over: judges what has come. The watch begins anew with the next look.
    pub(crate) fn judge(
        &mut self,
        input: &InputStream,
        upload: Option<(CallId, u64)>,
    ) -> Result<(), Violation> {
        let Some(mark) = self.mark.take() else { return Ok(()) };
        let bytes = input.read_bytes - mark.read_bytes;
        let is_same = mark.used_bytes == input.used_bytes && !input.carry.is_empty();
        if mark.is_partial && is_same && bytes < FRAME_BYTES_MIN {
            return Err(Violation::Stuck { bytes, min: FRAME_BYTES_MIN });
        }
        if let (Some((first, before)), Some((call, taken))) = (mark.upload, upload)
            && first == call
            && taken - before < FRAME_BYTES_MIN
        {
            return Err(Violation::Stuck { bytes: taken - before, min: FRAME_BYTES_MIN }); // FL-9
        }
        Ok(())
    }
}

/// No fragment's frame is longer; a longer one is read by itself.
const FRAME_BYTES_LONG: usize = HEAD_BYTES + EXT_BYTES_MAX + FRAGMENT_BYTES_MAX + BODY_CRC_BYTES;
/// Of a frame that has begun, so much must come in the time there is.
const FRAME_BYTES_MIN: u64 = 5 * 1024;

fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(16)].to_vec()
}
