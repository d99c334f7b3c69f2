//! What the reader, the flusher and the running handlers of a server's connection share.
//!
//! Invariants: a call that outlived its read batch is pending until its handler has really
//! ended; every such call is answered exactly once, or the connection has ended; the table is
//! announced in the order of its changes, under the connection's lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::driver::Runtime;
use crate::driver::flusher::{FlushHost, release};
use crate::driver::outbound::{Eagerness, Flush, Outbound, threshold_bytes};
use crate::driver::signal::Signal;
use crate::proto::{PendingCalls, PendingEnd};
use crate::service::{CallScope, Dispatch, Peer, TableListener};
use crate::wire::{CallId, FRAME_BYTES_FLOOR, Kind, TablePayload, append_control};

/// A server's handle to one of its connections.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(pub(crate) Arc<ServerShared>);

pub(crate) struct ServerShared {
    pub(crate) state: Mutex<ServerState>,
    /// As many as `state.pending` holds, to be read without the lock.
    pub(crate) pending_count: AtomicUsize,
    pub(crate) is_draining: AtomicBool,
    /// Running calls are not waited for any more.
    pub(crate) is_closing: AtomicBool,
    pub(crate) is_aborted: AtomicBool,
    pub(crate) client_frame_bytes_max: AtomicU32,
    pub(crate) reader: Signal,
    pub(crate) dispatch: Dispatch,
    pub(crate) address: String,
    pub(crate) peer: OnceLock<Peer>,
    pub(crate) runtime: Runtime,
}

pub(crate) struct ServerState {
    pub(crate) out: Outbound,
    pub(crate) pending: PendingCalls<Option<Waker>>,
    /// The table the client was told last.
    pub(crate) announced: Option<Arc<TablePayload>>,
    pub(crate) is_ended: bool,
}

impl ConnectionHandle {
    /// Ends the connection in good order: new calls are refused, those that run are finished.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Release);
        self.0.reader.wake();
    }

    /// Ends a drain whose patience is over: the client is told which calls were read, and those
    /// that run are taken back when it has closed its side, at most after the linger's time.
    pub fn close(&self) {
        self.0.is_closing.store(true, Ordering::Release);
        self.drain();
    }

    /// Ends the connection now. Handlers that may be dropped are.
    pub fn abort(&self) {
        self.0.is_aborted.store(true, Ordering::Release);
        self.0.end();
    }

    /// Whether the client has said HELLO.
    pub(crate) fn is_greeted(&self) -> bool {
        self.0.peer.get().is_some()
    }

    /// Calls whose handlers are running beyond their first turn.
    #[must_use]
    pub fn pending_calls(&self) -> usize {
        self.0.pending_count.load(Ordering::Acquire)
    }
}

impl ServerShared {
    pub(crate) fn new(
        out: Outbound,
        dispatch: Dispatch,
        address: String,
        runtime: Runtime,
    ) -> Self {
        let (pending, announced, is_ended) = (PendingCalls::new(), None, false);
        Self {
            state: Mutex::new(ServerState { out, pending, announced, is_ended }),
            pending_count: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
            client_frame_bytes_max: AtomicU32::new(FRAME_BYTES_FLOOR),
            reader: Signal::default(),
            dispatch,
            address,
            peer: OnceLock::new(),
            runtime,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends whole frames and has them written as `eagerness` says; says whether the output is
    /// over its soft limit now.
    pub(crate) fn send(&self, frames: &[u8], eagerness: Eagerness) -> bool {
        let mut state = self.lock();
        if state.is_ended || state.out.is_closing() {
            return false;
        }
        state.out.pending().extend_from_slice(frames);
        let flush = state.out.after_append(eagerness);
        drop(state);
        self.flush(flush);
        self.lock().out.is_full()
    }

    /// Does what an append asked for. Not under the lock.
    pub(crate) fn flush(&self, flush: Flush) {
        match flush {
            Flush::Nothing => {}
            Flush::Wake(waker) => waker.wake(),
            Flush::Write(mut writer) => match writer.write_now() {
                Ok(()) => release(self, writer),
                Err(_) => self.end(),
            },
        }
    }

    /// A call goes on beyond its read batch.
    pub(crate) fn add_pending(&self, id: CallId, deadline: Instant) {
        let mut state = self.lock();
        let is_earliest = state.pending.insert(id, deadline, None);
        self.pending_count.store(state.pending.len(), Ordering::Release);
        let sweeper = if is_earliest { state.out.wake() } else { None };
        drop(state);
        if let Some(waker) = sweeper {
            waker.wake();
        }
    }

    /// Whether a pending call should end; else wakes `waker` when it should.
    pub(crate) fn poll_end(&self, id: CallId, waker: &Waker) -> Option<PendingEnd> {
        let mut state = self.lock();
        let end = state.pending.is_ended(id);
        if end.is_none() {
            let is_ended = state.is_ended;
            match state.pending.token_mut(id) {
                Some(Some(known)) => known.clone_from(waker),
                Some(token) => *token = Some(waker.clone()),
                None => {}
            }
            return is_ended.then_some(PendingEnd::Cancelled);
        }
        end
    }

    /// Why a pending call was asked to end, if it was.
    pub(crate) fn asked_to_end(&self, id: CallId) -> Option<PendingEnd> {
        self.lock().pending.is_ended(id)
    }

    /// A pending call has ended with this answer.
    pub(crate) fn complete(&self, id: CallId, answer: &[u8]) {
        let mut state = self.lock();
        let waker = state.pending.remove(id);
        let left = state.pending.len();
        self.pending_count.store(left, Ordering::Release);
        let mut flush = Flush::Nothing;
        if !state.is_ended && !state.out.is_closing() {
            state.out.pending().extend_from_slice(answer);
            let threshold_bytes = threshold_bytes(left);
            flush = state.out.after_append(Eagerness { is_alone: left == 0, threshold_bytes });
        }
        drop(state);
        drop(waker);
        self.flush(flush);
        if left == 0 && self.is_draining.load(Ordering::Acquire) {
            self.reader.wake();
        }
    }

    /// The caller takes a call back. One that is not pending has been answered.
    pub(crate) fn cancel(&self, id: CallId) {
        let waker = self.lock().pending.end(id, PendingEnd::Cancelled).and_then(Option::take);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The stream is of no use any more: nothing is written, running calls are asked to end.
    pub(crate) fn end(&self) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.is_ended = true;
        let failed = state.out.fail();
        state.pending.end_all(|token| wakers.extend(token.take()));
        wakers.extend(state.out.wake());
        drop(state);
        drop(failed);
        wakers.into_iter().for_each(Waker::wake);
        self.reader.wake();
    }
}

impl FlushHost for ServerShared {
    fn with_outbound<T>(&self, f: impl FnOnce(&mut Outbound) -> T) -> T {
        f(&mut self.lock().out)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.lock().pending.next_deadline()
    }

    fn sweep(&self, now: Instant) {
        let mut wakers = Vec::new();
        self.lock().pending.expire(now, |token| wakers.extend(token.take()));
        wakers.into_iter().for_each(Waker::wake);
    }

    fn handle_room(&self) {
        self.reader.wake();
        self.handle_table_change();
    }

    fn handle_done(&self) {
        self.reader.wake();
    }

    fn handle_write_error(&self, error: &std::io::Error) {
        tracing::debug!(peer = %self.address, %error, "connection cannot be written");
        self.end();
    }
}

impl TableListener for ServerShared {
    /// Tells the client, unless it was not told of any table yet.
    fn handle_table_change(&self) {
        let mut state = self.lock();
        let Some(announced) = state.announced.clone() else { return };
        let routes = self.dispatch.routes();
        // Who does not read is told when there is room again, of the last table only.
        let is_told = state.out.is_full() || *routes.payload() == announced;
        if state.is_ended || state.out.is_closing() || is_told {
            drop(state); // Before the table: these handlers may be its last.
            return;
        }
        for update in routes.payload().updates_from(&announced) {
            let (out, update) = (state.out.pending(), update.to_bytes());
            append_control(out, Kind::TABLE_UPDATE, CallId::CONNECTION, &[], &update);
        }
        state.announced = Some(Arc::clone(routes.payload()));
        let flush = state.out.after_append(Eagerness { is_alone: true, threshold_bytes: 0 });
        drop(state);
        self.flush(flush);
    }
}

impl CallScope for ServerShared {
    fn is_cancelled(&self, call: CallId) -> bool {
        let state = self.lock();
        state.is_ended || state.pending.is_ended(call).is_some()
    }

    fn now(&self) -> Instant {
        self.runtime.clock.now()
    }

    fn peer(&self) -> &Peer {
        self.peer.get_or_init(|| Peer { address: self.address.clone(), ..Peer::default() })
    }
}

impl std::fmt::Debug for ServerShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("ServerShared")
            .field("peer", &self.address)
            .field("pending", &state.pending.len())
            .field("out", &state.out)
            .finish_non_exhaustive()
    }
}
