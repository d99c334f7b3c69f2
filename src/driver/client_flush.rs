//! What a client's flusher does for its connection: sweeps deadlines, asks a silent server, ends
//! the connection when its stream does.
//!
//! Invariants: wakers are called after the lock is released; whoever changes what the connection is
//! good for says so (`note_usable`).

use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::client::{ClientShared, ClientState};
use crate::driver::flusher::FlushHost;
use crate::driver::outbound::Outbound;
use crate::error::{Error, ErrorKind};
use crate::proto::{Beat, KeepaliveLimits};
use crate::wire::{CallId, Kind, append_control};

impl FlushHost for ClientShared {
    fn with_outbound<T>(&self, f: impl FnOnce(&mut Outbound) -> T) -> T {
        f(&mut self.lock().out)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let state = self.lock();
        if state.end.is_some() {
            return None;
        }
        state.proto.next_deadline().into_iter().chain(state.keepalive.due()).min()
    }

    fn sweep(&self, now: Instant) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let ClientState { proto, out, keepalive, .. } = &mut *state;
        proto.calls.expire(now, |id, token| {
            out.drop_body(id); // FL-7
            append_control(out.pending(), Kind::CANCEL, id, &[], &[]);
            wakers.extend(token.take());
        });
        // The handshake has its own time limit, and knows no PING.
        let is_waiting = proto.calls.busy() > 0 && proto.server().is_some();
        let beat = keepalive.beat(now, is_waiting);
        if beat == Beat::Ping {
            append_control(out.pending(), Kind::PING, CallId::CONNECTION, &[], &PING);
        }
        wakers.extend(state.next_waiters()); // A payload that was given up makes room.
        self.note_usable(&state);
        drop(state); // The flusher itself is here: it writes what was appended.
        wakers.into_iter().for_each(Waker::wake);
        if beat == Beat::Dead {
            let KeepaliveLimits { silence, patience } = self.keepalive;
            let (peer, after) = (self.peer.clone(), silence + patience);
            self.finish(ErrorKind::Silent { peer, after }.into(), None, None);
        }
    }

    fn handle_room(&self) {
        let next = self.lock().next_waiters();
        next.into_iter().for_each(Waker::wake);
    }

    fn wake_reader(&self) {
        // It never stops (LD-12).
    }

    fn handle_done(&self) {
        self.reader.wake();
    }

    fn handle_progress(&self, now: Instant) {
        let mut state = self.lock();
        state.keepalive.handle_bytes(now);
        self.note_usable(&state);
    }

    fn handle_write_error(&self, error: &std::io::Error) {
        self.finish(Error::lost(error), None, None);
    }

    fn handle_stall(&self, after: Duration) {
        let peer = self.peer.clone();
        self.finish(ErrorKind::Stalled { peer, after }.into(), None, None);
    }
}

/// The bytes of a keepalive's PING.
const PING: [u8; 8] = *b"alive?\0\0";
