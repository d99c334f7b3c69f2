//! One direction of a connection: what a side has appended, what its writer holds, what is on the
//! way. As the driver's output, without its wakers.

use switchback::wire::{CallId, Flags, GRANT_BYTES, Kind};
use switchback::wire::{append_control, append_data_head};

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

/// The model of a window, as its receiver keeps it: what came, and what was granted.
#[derive(Debug)]
pub(super) struct Books {
    window: u64,
    taken: u64,
    granted: u64,
}

impl Books {
    pub(super) const fn new(window: u32) -> Self {
        Self { window: window as u64, taken: 0, granted: 0 }
    }

    /// Whether the sender has credit for so many bytes.
    pub(super) fn may_come(&self, bytes: usize) -> bool {
        self.taken + bytes as u64 <= self.window + self.granted
    }

    /// A piece came: what is to be granted now (FL-11).
    pub(super) fn take(&mut self, bytes: usize) -> Option<u32> {
        self.taken += bytes as u64;
        let due = self.taken - self.granted;
        let is_due = due >= self.window.div_ceil(2).min(u64::from(GRANT_BYTES));
        is_due.then(|| {
            self.granted = self.taken;
            u32::try_from(due).expect("no more than a window")
        })
    }
}

/// Appends a piece of a message: so many bytes of it, from `at` on.
pub(super) fn append_piece(out: &mut Vec<u8>, call: CallId, at: usize, len: usize, flags: Flags) {
    append_data_head(out, call, u32::try_from(len).expect("pieces are short"), flags);
    let payload_at = out.len();
    out.extend((at..at + len).map(filling));
    let crc = crc32fast::hash(&out[payload_at..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// What stands at this place of every message in pieces.
pub(super) fn filling(at: usize) -> u8 {
    u8::try_from(at % 251).expect("below 256")
}

/// No message here is longer.
pub(super) const MESSAGE_BYTES: usize = 1 << 20;
