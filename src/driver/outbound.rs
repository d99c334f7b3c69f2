//! A connection's output: a buffer that many append to and one at a time writes.
//!
//! ```text
//! append --> pending --take--> Writer{buf} --poll_write--> socket
//!               ^                  |
//!               +-- more meanwhile +--release--> (again, or rest)
//! ```
//!
//! Invariants: bytes leave in the order they were appended; whoever holds the [`Writer`] is the
//! only one that writes; a rest that could not be written goes out before anything else; what is
//! appended while somebody writes is never forgotten: on release, the flusher is woken for it.
//! Why two buffers: appending must not wait for the system call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite;

use crate::util::{OutOfMemory, try_grow};
use crate::wire::{CallId, Kind, append_control};

/// The write side of one connection; lives inside the connection's lock.
pub(crate) struct Outbound {
    pending: Vec<u8>,
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

/// The right to write, with the bytes to be written.
pub(crate) struct Writer {
    io: Box<dyn AsyncWrite + Send + Unpin>,
    buf: Vec<u8>,
    at: usize,
    /// Bytes that the stream ever took.
    written: u64,
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
    /// Whether the output fell below its soft limit: those who wait may go on.
    pub(crate) has_room: bool,
    /// The writer of a stream that has failed, to be dropped without the lock.
    pub(crate) failed: Option<Writer>,
}

impl Outbound {
    pub(crate) fn new(io: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        let writer = Some(Writer { io, buf: Vec::new(), at: 0, written: 0 });
        let (is_closing, is_failed) = (false, false);
        Self {
            pending: Vec::new(),
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
        self.handed - self.writer.as_ref().map_or(0, |writer| writer.rest().len() as u64)
    }

    /// Forgets what nobody has begun to write; bytes below the offset given back were sent or
    /// still will be.
    pub(crate) fn discard(&mut self) -> u64 {
        self.pending.clear();
        self.handed
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

    /// Bytes that wait to be written. What somebody writes at this moment is not among them.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.pending.len() + self.writer.as_ref().map_or(0, |writer| writer.rest().len())
    }

    /// Decides who writes what was just appended.
    pub(crate) fn after_append(&mut self, eagerness: Eagerness) -> Flush {
        let Some(writer) = self.writer.take_if(|writer| writer.rest().is_empty()) else {
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
        let rests = |writer: &Writer| !writer.rest().is_empty();
        self.writer.as_ref().is_some_and(|writer| rests(writer) || !self.is_empty())
    }

    const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.pong.is_none()
    }

    /// For the flusher: the writer, if there is something to write and nobody else does.
    pub(crate) fn take(&mut self, flusher: &Waker) -> Option<Writer> {
        match self.writer.take() {
            Some(writer) if !writer.rest().is_empty() => Some(writer),
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
            return Released { wake, has_room: false, failed: Some(writer) };
        }
        let was_full = self.pending.len() + writer.buf.len() > SOFT_BYTES_MAX;
        if writer.rest().is_empty() {
            writer.buf.clear();
            writer.at = 0;
            writer.buf.shrink_to(BUFFER_BYTES_KEPT);
        }
        let is_idle = writer.rest().is_empty() && self.is_empty();
        if is_idle {
            for buffer in [&mut writer.buf, &mut self.pending] {
                if buffer.capacity() > IDLE_BYTES_KEPT {
                    *buffer = Vec::new();
                }
            }
        }
        self.writer = Some(writer);
        let wake = if is_idle && !self.is_closing { None } else { self.flusher.take() };
        Released { wake, has_room: was_full && !self.is_full(), failed: None }
    }

    /// Nothing is appended any more; what is there is written, then the stream is shut down.
    pub(crate) const fn close(&mut self) {
        self.is_closing = true;
    }

    pub(crate) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// The stream failed, or was shut down: nothing is written any more. Gives the writer, unless
    /// somebody writes: the stream is closed when it is dropped, however long handles and handlers
    /// keep the connection's state. To be dropped without the lock.
    #[must_use]
    pub(crate) fn fail(&mut self) -> Option<Writer> {
        self.is_failed = true;
        self.pending = Vec::new();
        self.writer.take()
    }

    /// A write failed, or takes too long: as [`Outbound::fail`]. What the stream did not take was
    /// not sent, and is not counted as handed to it.
    #[must_use]
    pub(crate) fn fail_writing(&mut self, writer: Writer) -> (Writer, Option<Writer>) {
        self.handed -= writer.rest().len() as u64;
        (writer, self.fail())
    }

    pub(crate) const fn is_failed(&self) -> bool {
        self.is_failed
    }

    fn refill(&mut self, mut writer: Writer) -> Writer {
        debug_assert!(writer.rest().is_empty());
        writer.buf.clear();
        writer.at = 0;
        if let Some(echo) = self.pong.take().filter(|_| !self.is_closing) {
            append_control(&mut self.pending, Kind::PONG, CallId::CONNECTION, &[], &echo);
        }
        std::mem::swap(&mut writer.buf, &mut self.pending);
        self.handed += writer.buf.len() as u64;
        writer
    }
}

impl Writer {
    fn rest(&self) -> &[u8] {
        &self.buf[self.at..]
    }

    /// Bytes that the stream ever took.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Writes as much as the stream takes at once; the rest stays for the flusher.
    pub(crate) fn write_now(&mut self) -> io::Result<()> {
        // No waker: on a full socket the flusher polls again, with its own.
        match self.poll_write_all(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Writes everything.
    pub(crate) fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.at < self.buf.len() {
            let io = Pin::new(&mut *self.io);
            match std::task::ready!(io.poll_write(cx, &self.buf[self.at..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.at += written;
                    self.written += written as u64;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    /// Shuts the write side down.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
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
/// Each of the two buffers of an idle connection keeps this much, so that a lone call needs not
/// allocate.
const IDLE_BYTES_KEPT: usize = 1024;
/// A buffer that grew beyond this is given back to the system.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;
