//! One direction of a connection: what a side has appended, what its writer holds, what is on the
//! way. As the driver's output, without its wakers.

use switchback::wire::{CallId, Kind, append_control};

/// A side's output.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Appended, and nobody has begun to write it.
    pub(super) pending: Vec<u8>,
    /// The newest PING without an answer (LD-1).
    pub(super) pong: Option<[u8; 8]>,
    /// What the writer holds.
    buf: Vec<u8>,
    /// Bytes that ever left `pending`.
    handed: u64,
    /// Nothing is appended any more.
    pub(super) is_closing: bool,
    /// Nothing is written any more.
    pub(super) is_failed: bool,
}

/// What is on the way to a side.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) bytes: Vec<u8>,
    /// Nothing comes after `bytes`.
    pub(super) is_cut: bool,
}

impl Outbox {
    /// Where the next appended byte will stand.
    pub(super) const fn offset(&self) -> u64 {
        self.handed + self.pending.len() as u64
    }

    /// Hands the writer what was appended, if it has nothing left.
    pub(super) fn hand(&mut self) {
        if self.is_failed || !self.buf.is_empty() {
            return;
        }
        if let Some(echo) = self.pong.take().filter(|_| !self.is_closing) {
            append_control(&mut self.pending, Kind::PONG, CallId::CONNECTION, &[], &echo);
        }
        std::mem::swap(&mut self.buf, &mut self.pending);
        self.handed += self.buf.len() as u64;
    }

    /// Writes up to `max` bytes of what the writer holds.
    pub(super) fn write(&mut self, max: usize, wire: &mut Wire) {
        let len = max.min(self.buf.len());
        let written = self.buf.drain(..len);
        if !wire.is_cut {
            wire.bytes.extend(written);
        }
    }

    /// Everything, then the end if there is one. Says whether anything happened.
    pub(super) fn flush(&mut self, wire: &mut Wire) -> bool {
        let before = (wire.bytes.len(), wire.is_cut);
        self.write(usize::MAX, wire);
        self.hand();
        self.write(usize::MAX, wire);
        wire.is_cut |= self.is_failed || self.is_closing;
        before != (wire.bytes.len(), wire.is_cut)
    }

    /// Forgets what nobody has begun to write; says below which offset all was or will be sent.
    pub(super) fn discard(&mut self) -> u64 {
        self.pending.clear();
        self.handed
    }

    /// Gives up; says below which offset all was sent.
    pub(super) fn fail(&mut self) -> u64 {
        let sent = self.handed - self.buf.len() as u64;
        self.is_failed = true;
        self.buf.clear();
        self.pending.clear();
        sent
    }

    /// Bytes that wait.
    pub(super) const fn len(&self) -> usize {
        self.pending.len() + self.buf.len()
    }
}
