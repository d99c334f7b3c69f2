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

/// The read half of a stream.
pub(crate) struct InputStream {
    io: Box<dyn AsyncRead + Send + Unpin>,
    carry: BytesMut,
    /// Whoever judged the carried bytes stopped before they were all looked at.
    is_unjudged: bool,
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
        Self { io, carry: BytesMut::new(), is_unjudged: false }
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
            let (io, carry) = (Pin::new(&mut *self.io), &mut self.carry);
            let is_unjudged = &mut self.is_unjudged;
            return with_read(|scratch| {
                match std::task::ready!(poll_read_buf(io, cx, scratch)) {
                    Ok(0) => return Poll::Ready(ReadTurn::End),
                    Ok(_) => {}
                    Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
                }
                Poll::Ready(match judge(scratch) {
                    Ok(judged) => {
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
            Ok(_) => {}
            Err(error) => return Poll::Ready(ReadTurn::Failed(error)),
        }
        Poll::Ready(self.judge_carry(judge))
    }

    fn judge_carry<E>(&mut self, judge: impl FnOnce(&[u8]) -> Result<Judged, E>) -> ReadTurn<E> {
        match judge(&self.carry) {
            Ok(judged) => {
                self.is_unjudged = judged.is_paused;
                self.carry.advance(judged.used_bytes);
                if self.carry.is_empty() {
                    self.carry = BytesMut::new();
                }
                ReadTurn::Read
            }
            Err(error) => ReadTurn::Refused(error, first_bytes(&self.carry)),
        }
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

fn first_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(16)].to_vec()
}
