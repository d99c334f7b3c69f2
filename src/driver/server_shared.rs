//! What the reader, the flusher and the running handlers of a server's connection share.
//!
//! Invariants: a call that outlived its read batch is pending until its handler has really
//! ended; every such call is answered exactly once, or the connection has ended; the table is
//! announced in the order of its changes, under the connection's lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::driver::Runtime;
use crate::driver::flusher::{FlushHost, release};
use crate::driver::outbound::{Eagerness, Flush, Outbound, threshold_bytes};
use crate::driver::server_settings::ServerSettings;
use crate::driver::signal::Signal;
use crate::driver::totals::ServerTotals;
use crate::error::{Error, ErrorKind};
use crate::proto::{Admitted, Beat, Conduct, Keepalive, KeepaliveLimits, PendingCalls, PendingEnd};
use crate::service::{Body, CallScope, Credentials, Dispatch, MetadataBlock, Peer, PeerLimits};
use crate::service::{Status, TableListener, append_status};
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{FlatMap, OutOfMemory};
use crate::wire::append_control;
use crate::wire::{CallId, Code, Disposition, FRAME_BYTES_FLOOR, Kind, MethodId, TablePayload};

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
    pub(crate) client_has_window: AtomicBool,
    pub(crate) reader: Signal,
    pub(crate) dispatch: Dispatch,
    pub(crate) address: String,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) peer: OnceLock<Peer>,
    pub(crate) runtime: Runtime,
    pub(crate) totals: Arc<ServerTotals>,
    pub(crate) keepalive: KeepaliveLimits,
    /// As many bytes as `state.charged` says, to be read without the lock.
    pub(crate) held_bytes: AtomicUsize,
    /// Whether `state.keepalive` listens, to be read without the lock.
    pub(crate) is_watching: AtomicBool,
    /// The call that the reader polls just now; 0 if none.
    pub(crate) serving: AtomicU32,
    /// Payloads that did not decode, found behind admission, and not judged yet.
    pub(crate) bad_payloads: AtomicU32,
    /// Whether `state.answers` may hold something, to be read without the lock.
    pub(crate) has_answers: AtomicBool,
}

pub(crate) struct ServerState {
    pub(crate) out: Outbound,
    pub(crate) pending: PendingCalls<Option<Waker>>,
    /// The table the client was told last.
    pub(crate) announced: Option<Arc<TablePayload>>,
    pub(crate) keepalive: Keepalive,
    /// What travels beside the answers of calls that have none yet.
    pub(crate) answers: FlatMap<CallId, MetadataBlock>,
    /// Why the stream failed, where more is known than that it did.
    pub(crate) failure: Option<Error>,
    pub(crate) is_ended: bool,
    /// What `totals` knows of the bytes here.
    charged: usize,
}

/// What a pending call finds when it is polled.
pub(crate) struct Turn {
    /// Why it should end.
    pub(crate) end: Option<PendingEnd>,
    /// Its client does not take the answers of other calls: another one would only be held here.
    pub(crate) must_wait: bool,
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
        (address, credentials): (String, Option<Credentials>),
        runtime: Runtime,
        settings: &ServerSettings,
    ) -> Self {
        let state = ServerState {
            out,
            pending: PendingCalls::new(),
            announced: None,
            keepalive: Keepalive::new(settings.keepalive),
            answers: FlatMap::new(),
            failure: None,
            is_ended: false,
            charged: 0,
        };
        Self {
            state: Mutex::new(state),
            pending_count: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
            client_frame_bytes_max: AtomicU32::new(FRAME_BYTES_FLOOR),
            client_has_window: AtomicBool::new(false),
            reader: Signal::default(),
            dispatch,
            address,
            credentials,
            peer: OnceLock::new(),
            runtime,
            totals: Arc::clone(&settings.totals),
            keepalive: settings.keepalive,
            held_bytes: AtomicUsize::new(0),
            is_watching: AtomicBool::new(false),
            serving: AtomicU32::new(0),
            bad_payloads: AtomicU32::new(0),
            has_answers: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client takes.
    pub(crate) fn client_limits(&self) -> PeerLimits {
        let frame_bytes_max = self.client_frame_bytes_max.load(Ordering::Relaxed);
        PeerLimits { frame_bytes_max, has_window: self.client_has_window.load(Ordering::Relaxed) }
    }

    /// Appends whole frames and has them written as `eagerness` says, and `bodies` after them; says
    /// whether nothing more should be read for now.
    pub(crate) fn send(&self, frames: &[u8], bodies: &mut Vec<Body>, eagerness: Eagerness) -> bool {
        let mut state = self.lock();
        if state.is_ended || state.out.is_closing() {
            return false;
        }
        if let Err(error) = state.out.make_room(frames.len()) {
            drop(state);
            // Whose answers they are is not known here any more.
            let (peer, bytes) = (self.address.clone(), error.bytes);
            self.fail(ErrorKind::OutOfMemory { peer, bytes }.into());
            return false;
        }
        state.out.append(frames);
        bodies.drain(..).for_each(|body| state.out.push_body(body));
        let flush = state.out.after_append(eagerness);
        drop(state);
        self.flush(flush);
        let mut state = self.lock();
        self.recharge(&mut state);
        state.out.is_blocked()
    }

    /// Whether the output has room for so many bytes, or can make it.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<(), OutOfMemory> {
        self.lock().out.make_room(bytes)
    }

    /// Tells the server how much this connection holds.
    fn recharge(&self, state: &mut ServerState) {
        let held = state.pending.bytes() + state.out.queued_bytes();
        let charged = self.totals.recharge(state.charged, held);
        if charged != state.charged {
            state.charged = charged;
            self.held_bytes.store(charged, Ordering::Relaxed);
        }
    }

    /// Does what an append asked for. Not under the lock.
    pub(crate) fn flush(&self, flush: Flush) {
        match flush {
            Flush::Nothing => {}
            Flush::Wake(waker) => waker.wake(),
            Flush::Write(mut writer) => match writer.write_now() {
                Ok(()) => release(self, writer),
                Err(error) => self.fail(Error::lost(&error)),
            },
        }
    }

    /// A call goes on beyond its read batch.
    pub(crate) fn add_pending(&self, id: CallId, admitted: Admitted) {
        self.totals.add_call();
        let mut state = self.lock();
        let is_earliest = state.pending.insert(id, admitted, None);
        self.pending_count.store(state.pending.len(), Ordering::Release);
        let is_news = state.keepalive.arm(admitted.read_at);
        self.is_watching.store(true, Ordering::Release);
        self.recharge(&mut state);
        let sweeper = if is_earliest || is_news { state.out.wake() } else { None };
        drop(state);
        if let Some(waker) = sweeper {
            waker.wake();
        }
    }

    /// A byte came from the client.
    pub(crate) fn handle_bytes(&self, now: Instant) {
        if self.is_watching.load(Ordering::Acquire) {
            self.lock().keepalive.handle_bytes(now);
        }
    }

    /// Whether a PONG that came was asked for.
    pub(crate) fn take_pong(&self) -> bool {
        self.lock().keepalive.handle_pong()
    }

    /// Whether no call is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending_count.load(Ordering::Acquire) == 0 && self.lock().out.bodies() == 0
    }

    /// Why a request of so many bytes does not fit, if it does not.
    pub(crate) fn refusal(&self, bytes: usize, bytes_max: usize) -> Option<String> {
        // Without the lock: what is charged is exact enough, and nearly always far below.
        let held = self.held_bytes.load(Ordering::Relaxed);
        if held.saturating_add(bytes) > bytes_max {
            return Some(format!("{held} bytes in flight on this connection, at most {bytes_max}"));
        }
        self.totals.refusal(bytes)
    }

    /// So many bytes of a pending call's request came.
    pub(crate) fn grow_pending(&self, id: CallId, bytes: usize) {
        let mut state = self.lock();
        state.pending.grow(id, bytes);
        self.recharge(&mut state);
    }

    /// Whether a call is in flight beyond its read batch.
    pub(crate) fn is_pending(&self, id: CallId) -> bool {
        self.lock().pending.admitted(id).is_some()
    }

    /// Whether a pending call should end or wait; `waker` is woken when that changes.
    pub(crate) fn poll_end(&self, id: CallId, waker: &Waker) -> Turn {
        let mut state = self.lock();
        let mut end = state.pending.is_ended(id);
        if end.is_none() {
            let is_ended = state.is_ended;
            match state.pending.token_mut(id) {
                Some(Some(known)) => known.clone_from(waker),
                Some(token) => *token = Some(waker.clone()),
                None => {}
            }
            end = is_ended.then_some(PendingEnd::Cancelled);
        }
        let must_wait = end.is_none() && state.out.is_full();
        Turn { end, must_wait }
    }

    /// Why a pending call was asked to end, if it was.
    pub(crate) fn asked_to_end(&self, id: CallId) -> Option<PendingEnd> {
        self.lock().pending.is_ended(id)
    }

    /// A pending call has ended with this answer.
    pub(crate) fn complete(&self, id: CallId, answer: &[u8], bodies: Vec<Body>) {
        let mut state = self.lock();
        let before = state.pending.len();
        let waker = state.pending.remove(id);
        let unsent = state.answers.remove(&id);
        let left = state.pending.len();
        if !state.is_ended || !is_seeded(Bug::CrashLeaks) {
            self.totals.remove_calls(before - left);
        }
        self.pending_count.store(left, Ordering::Release);
        let mut flush = Flush::Nothing;
        if !state.is_ended && !state.out.is_closing() {
            match state.out.make_room(answer.len()) {
                Ok(()) => {
                    state.out.append(answer);
                    bodies.into_iter().for_each(|body| state.out.push_body(body));
                }
                Err(error) => append_no_memory(state.out.pending(), id, error),
            }
            let threshold_bytes = threshold_bytes(left);
            flush = state.out.after_append(Eagerness { is_alone: left == 0, threshold_bytes });
        }
        self.recharge(&mut state);
        drop(state);
        drop((waker, unsent));
        self.flush(flush);
        if left == 0 && self.is_draining.load(Ordering::Acquire) {
            self.reader.wake();
        }
    }

    /// The caller takes a call back. Says whether it did so early; one that is not pending has
    /// been answered.
    pub(crate) fn cancel(&self, id: CallId, now: Instant) -> bool {
        let mut state = self.lock();
        let is_early =
            state.pending.admitted(id).is_some_and(|Admitted { read_at, deadline, .. }| {
                let age = now.saturating_duration_since(read_at);
                Conduct::is_early(age, deadline.saturating_duration_since(read_at))
            });
        let waker = state.pending.end(id, PendingEnd::Cancelled).and_then(Option::take);
        // Nobody waits for what is left of its answer (FL-7): its end waits for no credit.
        let was_full = state.out.is_full();
        let is_cut = state.out.drop_body(id);
        let mut flusher = None;
        if is_cut && !is_seeded(Bug::CutLoses) {
            append_cut_answer(state.out.pending(), id);
            flusher = state.out.wake();
        }
        let has_room = was_full && !state.out.is_full();
        self.recharge(&mut state);
        drop(state);
        waker.into_iter().chain(flusher).for_each(Waker::wake);
        if has_room {
            self.handle_room();
        }
        is_early
    }

    /// The stream failed, and why.
    pub(crate) fn fail(&self, error: Error) {
        tracing::debug!(peer = %self.address, %error, "connection failed");
        self.lock().failure.get_or_insert(error);
        self.end();
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
        let mut state = self.lock();
        let result = f(&mut state.out);
        self.recharge(&mut state);
        result
    }

    fn next_deadline(&self) -> Option<Instant> {
        let state = self.lock();
        state.pending.next_deadline().into_iter().chain(state.keepalive.due()).min()
    }

    fn sweep(&self, now: Instant) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let mut has_expired = false;
        state.pending.expire(now, |token| {
            has_expired = true;
            wakers.extend(token.take());
        });
        let is_waiting = !state.pending.is_empty() && !state.is_ended;
        let beat = state.keepalive.beat(now, is_waiting);
        self.is_watching.store(state.keepalive.is_armed(), Ordering::Release);
        if beat == Beat::Ping && !state.out.is_closing() {
            // The flusher itself is here: it writes what was appended.
            append_control(state.out.pending(), Kind::PING, CallId::CONNECTION, &[], &PING);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if has_expired {
            self.reader.wake(); // It may be one of the uploads.
        }
        if beat == Beat::Dead {
            let KeepaliveLimits { silence, patience } = self.keepalive;
            let (peer, after) = (self.address.clone(), silence + patience);
            self.fail(ErrorKind::Silent { peer, after }.into());
        }
    }

    fn handle_room(&self) {
        // Handlers that wait until their client takes answers may go on.
        let mut state = self.lock();
        let wakers: Vec<Waker> = state.pending.tokens_mut().filter_map(Option::take).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.reader.wake();
        self.handle_table_change();
    }

    fn wake_reader(&self) {
        self.reader.wake();
    }

    fn handle_stall(&self, after: Duration) {
        self.fail(ErrorKind::Stalled { peer: self.address.clone(), after }.into());
    }

    fn handle_done(&self) {
        self.reader.wake();
    }

    fn handle_progress(&self, now: Instant) {
        self.handle_bytes(now);
    }

    fn handle_write_error(&self, error: &std::io::Error) {
        self.fail(Error::lost(error));
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
        let (address, credentials) = (&self.address, self.credentials);
        let unnamed = || Peer { address: address.clone(), credentials, ..Peer::default() };
        self.peer.get_or_init(unnamed)
    }

    fn method_name(&self, method: MethodId) -> Option<Arc<str>> {
        self.dispatch.routes().method(method).map(|method| Arc::clone(&method.name))
    }

    fn add_metadata(&self, call: CallId, name: &str, value: &[u8]) -> Result<(), Status> {
        self.add_answer_metadata(call, name, value)
    }

    fn take_metadata(&self, call: CallId) -> Option<MetadataBlock> {
        // Set by the very handler that has ended, so that its own is always seen.
        if !self.has_answers.load(Ordering::Acquire) {
            return None;
        }
        self.take_answer_metadata(call)
    }

    fn note_refusal(&self, code: Code) {
        if code == Code::BAD_PAYLOAD {
            self.bad_payloads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for ServerShared {
    /// Handlers that were dropped with their runtime may still be counted.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.totals.remove_calls(state.pending.len());
        self.totals.recharge(state.charged, 0);
    }
}

/// Appends the answer to a call whose own answer does not fit into memory (CA-13).
pub(crate) fn append_no_memory(out: &mut Vec<u8>, call: CallId, error: OutOfMemory) {
    let status = Status::new(Code::INTERNAL, format!("the answer is lost: {error}"));
    append_status(out, call, (&status, None), Disposition::Processed);
}

/// Appends the end of an answer that its caller does not want any more.
fn append_cut_answer(out: &mut Vec<u8>, call: CallId) {
    let message = "taken back by the caller while the answer was on its way";
    let status = Status::stamped(Code::CANCELLED, Disposition::Processed, message);
    append_status(out, call, (&status, None), Disposition::Processed);
}

/// The bytes of a keepalive's PING.
const PING: [u8; 8] = *b"alive?\0\0";

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
