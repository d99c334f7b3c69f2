//! The read side: bytes from a stream to whoever judges them, in place.
//!
//! Invariants: bytes are handed over in order, those not used first in the next turn; a partial
//! frame moves to a carry buffer, which grows with what arrived, never with what was declared;
//! an idle stream holds no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::driver::scratch::{READ_BYTES, with_read};
use crate::proto::Violation;

/// The read half of a stream.
pub(crate) struct InputStream {
    io: Box<dyn AsyncRead + Send + Unpin>,
    carry: BytesMut,
    /// Whoever judged the carried bytes stopped before they were all looked at.
    is_unjudged: bool,
    /// Bytes that ever came, and bytes that a judge has used.
    read_bytes: u64,
    used_bytes: u64,
}

/// Sees to it that a frame that was begun goes on (LD-12).
#[derive(Debug, Default)]
pub(crate) struct FrameWatch {
    /// What was read and used when the watch began.
    mark: Option<(u64, u64)>,
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
    /// Whoever judges the bytes had enough; these are the bytes.
    Refused(E, Vec<u8>),
}

impl InputStream {
    pub(crate) fn new(io: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { io, carry: BytesMut::new(), is_unjudged: false, read_bytes: 0, used_bytes: 0 }
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
        if self.carry.is_empty() {
            let Self { io, carry, is_unjudged, read_bytes, used_bytes } = self;
            return with_read(|scratch| {
                match std::task::ready!(poll_read_buf(Pin::new(&mut **io), cx, scratch)) {
                    Ok(0) => return Poll::Ready(ReadTurn::End),
                    Ok(read) => *read_bytes += read as u64,
                    Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
                }
                Poll::Ready(match judge(scratch) {
                    Ok(judged) => {
                        *used_bytes += judged.used_bytes as u64;
                        carry.extend_from_slice(&scratch[judged.used_bytes..]);
                        *is_unjudged = judged.is_paused;
                        ReadTurn::Read
                    }
                    Err(error) => ReadTurn::Refused(error, first_bytes(scratch)),
                })
            });
        }
        // Doubles with what arrived, up to the frame's end; at least one plain read.
        let wanted = missing_bytes.min(self.carry.len().max(READ_BYTES));
        self.carry.reserve(wanted);
        match std::task::ready!(poll_read_buf(Pin::new(&mut *self.io), cx, &mut self.carry)) {
            Ok(0) => return Poll::Ready(ReadTurn::End),
            Ok(read) => self.read_bytes += read as u64,
            Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
        }
        Poll::Ready(self.judge_carry(judge))
    }

    fn judge_carry<E>(&mut self, judge: impl FnOnce(&[u8]) -> Result<Judged, E>) -> ReadTurn<E> {
        match judge(&self.carry) {
            Ok(judged) => {
                self.is_unjudged = judged.is_paused;
                self.used_bytes += judged.used_bytes as u64;
                self.carry.advance(judged.used_bytes);
                if self.carry.is_empty() {
                    self.carry = BytesMut::new();
                }
                ReadTurn::Read
            }
            Err(error) => ReadTurn::Refused(error, first_bytes(&self.carry)),
        }
    }

    /// Whether a judge stopped before it had looked at everything.
    pub(crate) const fn is_paused(&self) -> bool {
        self.is_unjudged
    }

    /// Bytes of a partial frame at hand.
    pub(crate) fn carried_bytes(&self) -> usize {
        self.carry.len()
    }

    /// Reads and forgets, until the peer has nothing more to say.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.carry = BytesMut::new();
        self.is_unjudged = false;
        loop {
            let all = |bytes: &[u8]| {
                let used_bytes = bytes.len();
                Ok::<Judged, std::convert::Infallible>(Judged { used_bytes, is_paused: false })
            };
            match std::task::ready!(self.poll_turn(cx, 1, all)) {
                ReadTurn::Read => {}
                ReadTurn::End | ReadTurn::Failed(_) => return Poll::Ready(()),
                ReadTurn::Refused(never, _) => match never {},
            }
        }
    }
}

impl FrameWatch {
    /// Whether the watch begins with this: a frame is there in part, and nobody watches yet.
    pub(crate) fn starts(&mut self, input: &InputStream) -> bool {
        let begins = self.mark.is_none() && !input.carry.is_empty();
        if begins {
            self.mark = Some((input.read_bytes, input.used_bytes));
        }
        begins
    }

    /// The time is over: judges what has come. The watch begins anew with the next look.
    pub(crate) fn judge(&mut self, input: &InputStream) -> Result<(), Violation> {
        let Some((read_bytes, used_bytes)) = self.mark.take() else { return Ok(()) };
        let bytes = input.read_bytes - read_bytes;
        let is_same_frame = used_bytes == input.used_bytes && !input.carry.is_empty();
        if is_same_frame && bytes < FRAME_BYTES_MIN {
            return Err(Violation::Stuck { bytes, min: FRAME_BYTES_MIN });
        }
        Ok(())
    }
}

/// Of a frame that has begun, so much must come in the time there is.
const FRAME_BYTES_MIN: u64 = 5 * 1024;

fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(16)].to_vec()
}
