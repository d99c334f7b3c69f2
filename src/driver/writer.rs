//! The right to write to a connection's stream, and what is to be written.
//!
//! ```text
//! buf:    frames, header | CRC, header | CRC, frames
//! pieces:                |             |               payloads of DATA
//! ```
//!
//! Invariants: bytes leave in this order; a rest that could not be written goes out before anything
//! else; a piece is written from where the message is, and its CRC is made here, outside the lock.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::wire::BODY_CRC_BYTES;

/// The right to write, with the bytes to be written.
pub(crate) struct Writer {
    io: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whole frames, and what stands before, between and behind the pieces.
    pub(super) buf: Vec<u8>,
    /// Each with where in `buf` it stands; four bytes there are for its CRC.
    pieces: Vec<(usize, Bytes)>,
    piece_bytes: usize,
    has_crcs: bool,
    /// Of all of it, written.
    at: usize,
    /// Bytes that the stream ever took.
    written: u64,
}

impl Writer {
    pub(super) fn new(io: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self {
            io,
            buf: Vec::new(),
            pieces: Vec::new(),
            piece_bytes: 0,
            has_crcs: false,
            at: 0,
            written: 0,
        }
    }

    /// Adds a piece, whose header stands at the end of `buf`, and room for its CRC.
    pub(super) fn push_piece(&mut self, bytes: Bytes) {
        self.piece_bytes += bytes.len();
        self.pieces.push((self.buf.len(), bytes));
        self.buf.extend_from_slice(&[0; BODY_CRC_BYTES]);
        self.has_crcs = false;
    }

    /// Bytes that are to be written.
    pub(super) fn bytes_left(&self) -> usize {
        self.bytes_held() - self.at
    }

    /// Bytes that it was given at once.
    pub(super) fn bytes_held(&self) -> usize {
        self.buf.len() + self.piece_bytes
    }

    pub(super) fn has_piece(&self) -> bool {
        !self.pieces.is_empty()
    }

    pub(super) fn is_done(&self) -> bool {
        self.bytes_left() == 0
    }

    /// Forgets what was written.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.is_done());
        self.buf.clear();
        self.pieces.clear();
        self.piece_bytes = 0;
        self.at = 0;
    }

    /// Bytes that the stream ever took.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Writes as much as the stream takes at once; the rest stays for the flusher.
    pub(crate) fn write_now(&mut self) -> io::Result<()> {
        // No waker: on a full socket the flusher polls again, with its own.
        match self.poll_write_all(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Writes everything.
    pub(crate) fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_crcs {
            self.has_crcs = true;
            for (at, bytes) in &self.pieces {
                let crc = crc32fast::hash(bytes).to_be_bytes();
                self.buf[*at..*at + BODY_CRC_BYTES].copy_from_slice(&crc);
            }
        }
        while !self.is_done() {
            match std::task::ready!(self.poll_write(cx)) {
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

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut *self.io);
        if self.pieces.is_empty() {
            return io.poll_write(cx, &self.buf[self.at..]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut count, mut from, mut written) = (0, 0, self.at);
        let ends = self.pieces.iter().map(|(at, bytes)| (*at, &bytes[..]));
        for (end, piece) in ends.chain([(self.buf.len(), &[][..])]) {
            for part in [&self.buf[from..end], piece] {
                let skipped = written.min(part.len());
                written -= skipped;
                if skipped < part.len() && count < SLICES_MAX {
                    slices[count] = IoSlice::new(&part[skipped..]);
                    count += 1;
                }
            }
            from = end;
        }
        io.poll_write_vectored(cx, &slices[..count])
    }

    /// Shuts the write side down.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

/// Pieces in one write, at most.
pub(super) const PIECES_MAX: usize = 4;
/// A piece, and what stands before it, between two and behind the last.
const SLICES_MAX: usize = 2 * PIECES_MAX + 1;
