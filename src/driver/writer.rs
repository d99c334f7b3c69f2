//! The right to write to a connection's stream, and what is to be written.
//!
//! ```text
//! buf: whole frames, and the header of a DATA | piece: its payload | tail: its CRC, a RESPONSE
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
    pub(super) buf: Vec<u8>,
    piece: Option<Piece>,
    /// Of all three, written.
    at: usize,
    /// Bytes that the stream ever took.
    written: u64,
}

/// The payload of a DATA, and what comes behind it.
struct Piece {
    bytes: Bytes,
    /// Four bytes for the CRC, then whole frames.
    tail: Vec<u8>,
    has_crc: bool,
}

impl Writer {
    pub(super) fn new(io: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { io, buf: Vec::new(), piece: None, at: 0, written: 0 }
    }

    /// Takes a piece, whose header stands at the end of `buf`; `frames` come behind it.
    pub(super) fn set_piece(&mut self, bytes: Bytes, frames: &[u8]) {
        let mut tail = Vec::with_capacity(BODY_CRC_BYTES + frames.len());
        tail.extend_from_slice(&[0; BODY_CRC_BYTES]);
        tail.extend_from_slice(frames);
        self.piece = Some(Piece { bytes, tail, has_crc: false });
    }

    /// Bytes that are to be written.
    pub(super) fn bytes_left(&self) -> usize {
        let piece = self.piece.as_ref().map_or(0, |piece| piece.bytes.len() + piece.tail.len());
        self.buf.len() + piece - self.at
    }

    /// Bytes that it was given at once.
    pub(super) fn bytes_held(&self) -> usize {
        self.bytes_left() + self.at
    }

    pub(super) const fn has_piece(&self) -> bool {
        self.piece.is_some()
    }

    pub(super) fn is_done(&self) -> bool {
        self.bytes_left() == 0
    }

    /// Forgets what was written.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.is_done());
        self.buf.clear();
        self.piece = None;
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
        if let Some(piece) = &mut self.piece
            && !piece.has_crc
        {
            piece.has_crc = true;
            let crc = crc32fast::hash(&piece.bytes).to_be_bytes();
            piece.tail[..BODY_CRC_BYTES].copy_from_slice(&crc);
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
        let Some(Piece { bytes, tail, .. }) = &self.piece else {
            return io.poll_write(cx, &self.buf[self.at..]);
        };
        let mut at = self.at;
        let slices = [&self.buf[..], bytes, tail].map(|part| {
            let written = at.min(part.len());
            at -= written;
            IoSlice::new(&part[written..])
        });
        let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or_default();
        io.poll_write_vectored(cx, &slices[first..])
    }

    /// Shuts the write side down.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
