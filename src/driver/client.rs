//! A client's connection: what callers share, and what they do with it.
//!
//! A call is encoded into the thread's scratch; under the lock it gets a slot and an id and is
//! appended. Its answer is filed by the reader and taken by the caller.
//!
//! Invariants: the user's serializer never runs under the lock; a call that waits for room holds
//! no id; whoever makes room wakes who waits for it; when the connection ends, every call has an
//! outcome with a disposition that is true.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use crate::driver::client_reader::ClientReader;
use crate::driver::flusher::{FlushHost, Flusher, release};
use crate::driver::outbound::{Eagerness, Flush, Outbound, threshold_bytes};
use crate::driver::scratch::with_encode;
use crate::driver::signal::Signal;
use crate::driver::{ClientSettings, ClientTotals, Runtime};
use crate::error::{Error, ErrorKind};
use crate::proto::{CallOutcome, Cancelled, ClientConnection, Conduct, Keepalive};
use crate::proto::{KeepaliveLimits, KnownTable, LostDisposition, QueueFull, TableCache, Ticket};
use crate::proto::{VersionChoice, WaitQueue};
use crate::service::{Body, Parts, PeerLimits};
use crate::transport::Stream;
use crate::util::bugs::{Bug, is_seeded};
use crate::wire::{CallId, Close, CloseReason, FRAME_BYTES_FLOOR, Goaway, Kind, MethodId};
use crate::wire::{append_control, seal_frame};

/// A connection. Clones share it; when the last one goes, it is closed.
#[derive(Clone, Debug)]
pub struct ClientDriver(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<ClientShared>);

/// What callers, the reader and the flusher share.
pub(crate) struct ClientShared {
    state: Mutex<ClientState>,
    /// The newest table, to be read without the lock.
    pub(crate) table: ArcSwapOption<KnownTable>,
    pub(crate) frame_bytes_max: AtomicU32,
    pub(crate) has_window: AtomicBool,
    pub(crate) is_codec_refused: AtomicBool,
    /// As [`ClientState::is_usable`], to be read without the lock: with every call.
    pub(crate) is_usable: AtomicBool,
    pub(crate) reader: Signal,
    pub(crate) keepalive: KeepaliveLimits,
    /// The server's address, for errors.
    pub(crate) peer: String,
    pub(crate) runtime: Runtime,
    totals: Arc<ClientTotals>,
}

pub(crate) struct ClientState {
    pub(crate) proto: ClientConnection<Option<Waker>>,
    pub(crate) out: Outbound,
    pub(crate) queue: WaitQueue<Waker>,
    /// Who waits for the table; as bounded as the queue.
    pub(crate) waiting: WaitQueue<Waker>,
    pub(crate) keepalive: Keepalive,
    /// When answers were filed last.
    pub(crate) heard_at: Instant,
    pub(crate) conduct: Conduct,
    /// The server goes away, and why: calls that it has read are waited for, none is opened.
    pub(crate) leaving: Option<CloseReason>,
    pub(crate) end: Option<Error>,
}

/// Which version a call is to be made in.
#[derive(Clone, Debug)]
pub(crate) enum Chosen {
    Version(u16),
    NoneInCommon(Arc<KnownTable>),
    UnknownMethod,
}

/// How a call's start went.
#[derive(Debug)]
pub(crate) enum Start<E> {
    Started(CallId),
    /// No room: woken when it may be tried again.
    Waiting(Ticket),
    QueueFull(QueueFull),
    /// The request cannot be sent; the caller's own error.
    Refused(E),
    /// The connection has ended, or has used up its ids; nothing was sent.
    Ended(Error),
}

impl ClientDriver {
    /// Begins a connection on a stream: says HELLO and starts the tasks.
    #[must_use]
    pub fn start(
        stream: Stream,
        settings: &ClientSettings,
        cache: TableCache,
        runtime: Runtime,
    ) -> Self {
        let mut out = Outbound::new(stream.writer);
        let proto = ClientConnection::new(settings.limits.clone(), cache, out.pending());
        let (queue, waiting) =
            (WaitQueue::new(settings.queued_calls_max), WaitQueue::new(settings.queued_calls_max));
        let state = ClientState {
            proto,
            out,
            queue,
            waiting,
            keepalive: Keepalive::new(settings.keepalive),
            heard_at: runtime.now(),
            conduct: Conduct::new(settings.conduct),
            leaving: None,
            end: None,
        };
        let shared = Arc::new(ClientShared {
            state: Mutex::new(state),
            table: ArcSwapOption::empty(),
            frame_bytes_max: AtomicU32::new(FRAME_BYTES_FLOOR),
            has_window: AtomicBool::new(false),
            is_codec_refused: AtomicBool::new(false),
            is_usable: AtomicBool::new(true),
            reader: Signal::default(),
            keepalive: settings.keepalive,
            peer: stream.peer,
            runtime: runtime.clone(),
            totals: Arc::clone(&settings.totals),
        });
        let flush = shared.lock().out.after_append(ALONE);
        shared.flush(flush);
        Flusher::new(Arc::clone(&shared), runtime, settings.write_timeout).spawn();
        ClientReader::new(Arc::clone(&shared), stream.reader, settings).spawn();
        Self(Arc::new(Handle(shared)))
    }

    /// Waits until the server's table is known: calls of every method can be made then.
    ///
    /// # Errors
    /// Why the connection ended before that. Dropping the future is safe.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut place = TablePlace { driver: self, ticket: None };
        std::future::poll_fn(|cx| {
            std::task::ready!(self.poll_table(&mut place.ticket, cx.waker())).map(drop).into()
        })
        .await
    }

    /// Whether calls should still be opened on it: it has not ended, the server does not go away
    /// and answers, and ids are left.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.shared().is_usable.load(Ordering::Acquire)
    }

    /// Why the server goes away, if it does.
    #[must_use]
    pub fn leaving(&self) -> Option<CloseReason> {
        self.shared().lock().leaving
    }

    /// Why the connection ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<Error> {
        self.shared().lock().end.clone()
    }

    /// The tables this connection has seen and been given, for the next one.
    #[must_use]
    pub fn cache(&self) -> TableCache {
        self.shared().lock().proto.cache().clone()
    }

    /// The build the server says it is; empty until it did.
    #[must_use]
    pub fn server_build(&self) -> String {
        let state = self.shared().lock();
        state.proto.server().map(|ack| ack.build.clone()).unwrap_or_default()
    }

    /// Whether the server's table is known.
    pub(crate) fn has_table(&self) -> bool {
        self.shared().table.load().is_some()
    }

    /// The server's table, once it is known.
    pub(crate) fn table(&self) -> Option<Arc<KnownTable>> {
        self.shared().table.load_full()
    }

    /// The codecs the server has, if that of a call is not among them (CA-6): the client's, or
    /// the call's own. A fallback may have others (CA-17).
    pub(crate) fn refused_codec(&self, method: MethodId, own: Option<u8>) -> Option<Vec<u8>> {
        if own.is_none() && !self.shared().is_codec_refused.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.shared().lock();
        let ack = state.proto.server()?;
        let is_listed = state.proto.table().is_some_and(|table| table.row(method).is_some());
        let is_there = own.is_some_and(|codec| ack.codecs.contains(&codec));
        let is_refused = !is_there && (is_listed || !ack.has_fallback);
        is_refused.then(|| ack.codecs.clone())
    }

    /// What the server takes, as far as is known.
    pub(crate) fn limits(&self) -> PeerLimits {
        // The window first: it is stored last.
        let has_window = self.shared().has_window.load(Ordering::Acquire);
        let frame_bytes_max = self.shared().frame_bytes_max.load(Ordering::Relaxed);
        PeerLimits { frame_bytes_max, has_window }
    }

    /// The best version for a method, from this connection's table (RT-6); waits for the table.
    #[inline]
    pub(crate) fn poll_choose(
        &self,
        ticket: &mut Option<Ticket>,
        method: MethodId,
        versions: impl Iterator<Item = u16> + Clone,
        waker: &Waker,
    ) -> Poll<Result<Chosen, Error>> {
        let known = self.shared().table.load(); // A guard: with every call.
        let awaited;
        let table = match &*known {
            Some(table) => table,
            None => match std::task::ready!(self.poll_table(ticket, waker)) {
                Ok(table) => {
                    awaited = table;
                    &awaited
                }
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        Poll::Ready(Ok(match table.choose(method, versions.clone()) {
            VersionChoice::Version(version) => Chosen::Version(version),
            VersionChoice::NoneInCommon => Chosen::NoneInCommon(Arc::clone(table)),
            // Who serves what is not listed says itself which versions it has (RT-6).
            VersionChoice::UnknownMethod => match { versions }.next() {
                Some(highest) if self.has_fallback() => Chosen::Version(highest),
                Some(_) | None => Chosen::UnknownMethod,
            },
        }))
    }

    /// Starts a call: `encode` appends one finished frame, not sealed, and gives the payload, if
    /// that is to go in pieces. `ticket` is the caller's place in the queue, if it was told to wait
    /// before.
    pub(crate) fn poll_start<E>(
        &self,
        ticket: Option<Ticket>,
        deadline: Instant,
        waker: &Waker,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Option<Parts>, E>,
    ) -> Start<E> {
        if let Some(ticket) = ticket {
            let mut state = self.shared().lock();
            let is_open = state.end.is_none() && state.leaving.is_none();
            if is_open && !state.queue.may_enter(Some(ticket), state.room()) {
                let before = state.queue.set_waker(ticket, waker.clone());
                drop((state, before));
                return Start::Waiting(ticket);
            }
        }
        with_encode(|frame| match encode(frame) {
            Ok(parts) => self.shared().start(ticket, deadline, waker, (frame, parts)),
            Err(error) => {
                self.leave(ticket);
                Start::Refused(error)
            }
        })
    }

    /// The outcome of a call; `reply` is exchanged for the bytes that came with it.
    #[inline]
    pub(crate) fn poll_outcome(
        &self,
        id: CallId,
        cx: &Context<'_>,
        reply: &mut Vec<u8>,
    ) -> Poll<(CallOutcome, Instant)> {
        let mut state = self.shared().lock();
        let Some(taken) = state.proto.calls.take(id, reply) else {
            let before = match state.proto.calls.token_mut(id) {
                Some(Some(known)) if known.will_wake(cx.waker()) => None,
                Some(token) => token.replace(cx.waker().clone()),
                None => None,
            };
            drop((state, before));
            return Poll::Pending;
        };
        let next = if taken.freed { state.next_waiters() } else { Vec::new() };
        let heard_at = state.heard_at;
        drop(state);
        next.into_iter().for_each(Waker::wake);
        Poll::Ready((taken.outcome, heard_at))
    }

    /// Takes a call back.
    pub(crate) fn cancel(&self, id: CallId) {
        let mut state = self.shared().lock();
        let waker = state.proto.calls.token_mut(id).and_then(Option::take);
        let flush = match state.proto.calls.cancel(id) {
            Cancelled::TellPeer if state.end.is_none() => {
                state.out.drop_body(id); // FL-7
                append_control(state.out.pending(), Kind::CANCEL, id, &[], &[]);
                state.out.after_append(LATER)
            }
            Cancelled::TellPeer | Cancelled::Freed | Cancelled::Nothing => Flush::Nothing,
        };
        let next = state.next_waiters();
        drop(state);
        drop(waker);
        self.shared().flush(flush);
        next.into_iter().for_each(Waker::wake);
    }

    /// Gives up a place in the queue.
    pub(crate) fn leave(&self, ticket: Option<Ticket>) {
        let Some(ticket) = ticket else { return };
        let mut state = self.shared().lock();
        let waker = state.queue.leave(ticket);
        let next = state.next_waiters();
        drop(state);
        drop(waker);
        next.into_iter().for_each(Waker::wake);
    }

    /// Gives up waiting for the table.
    pub(crate) fn leave_table(&self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            let waker = self.shared().lock().waiting.leave(ticket);
            drop(waker);
        }
    }

    fn poll_table(
        &self,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
    ) -> Poll<Result<Arc<KnownTable>, Error>> {
        if let Some(table) = self.shared().table.load_full() {
            return Poll::Ready(Ok(table));
        }
        let mut state = self.shared().lock();
        if let Some(error) = &state.end {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some(table) = state.proto.table() {
            return Poll::Ready(Ok(Arc::clone(table)));
        }
        let before = match *ticket {
            Some(ticket) => state.waiting.set_waker(ticket, waker.clone()),
            None => match state.waiting.join(waker.clone()) {
                Ok(joined) => {
                    *ticket = Some(joined);
                    None
                }
                Err(full) => {
                    return Poll::Ready(Err(ErrorKind::QueueFull { max: full.max }.into()));
                }
            },
        };
        drop((state, before));
        Poll::Pending
    }

    fn has_fallback(&self) -> bool {
        self.shared().lock().proto.server().is_some_and(|ack| ack.has_fallback)
    }

    pub(crate) fn shared(&self) -> &ClientShared {
        &self.0.0
    }
}

/// A place among those who wait for the table, given up when the wait is.
struct TablePlace<'a> {
    driver: &'a ClientDriver,
    ticket: Option<Ticket>,
}

impl Drop for TablePlace<'_> {
    fn drop(&mut self) {
        self.driver.leave_table(self.ticket);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let why = CloseReason::NORMAL;
        self.0.finish(Error::closed_here(CloseReason::NORMAL), None, Some((why, String::new())));
    }
}

impl ClientShared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ClientState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called under the lock, by whoever has changed what it depends on.
    pub(crate) fn note_usable(&self, state: &ClientState) {
        self.is_usable.store(state.is_usable(), Ordering::Release);
    }

    fn start<E>(
        &self,
        ticket: Option<Ticket>,
        deadline: Instant,
        waker: &Waker,
        (frame, parts): (&mut [u8], Option<Parts>),
    ) -> Start<E> {
        let mut state = self.lock();
        if let Some(error) = &state.end {
            return Start::Ended(error.clone());
        }
        if let Some(reason) = state.leaving {
            let before = ticket.and_then(|ticket| state.queue.leave(ticket));
            drop((state, before));
            return Start::Ended(ErrorKind::GoingAway { reason }.into()); // LD-10
        }
        if !state.queue.may_enter(ticket, state.room()) {
            let Some(ticket) = ticket else {
                return match state.queue.join(waker.clone()) {
                    Ok(ticket) => Start::Waiting(ticket),
                    Err(full) => Start::QueueFull(full),
                };
            };
            // The room went while the request was encoded; it may have been polled by another.
            let before = state.queue.set_waker(ticket, waker.clone());
            drop((state, before));
            return Start::Waiting(ticket);
        }
        let before = ticket.and_then(|ticket| state.queue.leave(ticket));
        let offset = state.out.offset();
        let Some(opened) = state.proto.calls.open(deadline, offset, Some(waker.clone())) else {
            // The next in the queue learns it too, and so on.
            self.note_usable(&state);
            let next = state.next_waiters();
            drop((state, before));
            next.into_iter().for_each(Waker::wake);
            return Start::Ended(ErrorKind::IdsExhausted.into());
        };
        if state.proto.calls.is_exhausted() {
            self.note_usable(&state);
        }
        seal_frame(frame, opened.id);
        state.out.append(frame);
        if let Some(parts) = parts {
            if is_seeded(Bug::BodyLies) {
                state.proto.calls.set_unsent(opened.id);
            }
            state.out.push_body(Body::of_request(opened.id, parts));
        }
        let in_flight = state.proto.calls.busy();
        let eagerness =
            Eagerness { is_alone: in_flight == 1, threshold_bytes: threshold_bytes(in_flight) };
        let flush = state.out.after_append(eagerness);
        let watches = !state.keepalive.is_armed() && state.keepalive.arm(self.runtime.now());
        let sweeper = if opened.is_earliest || watches { state.out.wake() } else { None };
        drop((state, before));
        self.flush(flush);
        if let Some(waker) = sweeper {
            waker.wake(); // Its timer is set too late for this call.
        }
        Start::Started(opened.id)
    }

    /// Does what an append asked for. Not under the lock.
    pub(crate) fn flush(&self, flush: Flush) {
        match flush {
            Flush::Nothing => {}
            Flush::Wake(waker) => waker.wake(),
            Flush::Write(mut writer) => match writer.write_now() {
                Ok(()) => release(self, writer),
                Err(error) => {
                    let failed = self.lock().out.fail_writing(writer);
                    drop(failed);
                    self.handle_write_error(&error);
                }
            },
        }
    }

    /// The connection is at its end: every call gets an outcome, everybody who waits is told.
    /// `close` says farewell with a reason; without it the stream is given up as it is.
    pub(crate) fn finish(
        &self,
        error: Error,
        last_call: Option<CallId>,
        close: Option<(CloseReason, String)>,
    ) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        tracing::debug!(%error, "connection ended");
        self.totals.count_end(&error);
        state.end = Some(error);
        self.note_usable(&state);
        let mut wakers = Vec::new();
        let unsent: Vec<CallId> = state.out.unsent().collect();
        let sent_bytes = match &close {
            // The farewell goes out behind what was handed over, and must not take along what
            // is said not to have been sent.
            Some(_) => state.out.discard(),
            None => state.out.sent_offset(),
        };
        // Who has no version in common with us executed nothing (HS-4).
        let is_stranger = state.end.as_ref().is_some_and(Error::is_stranger);
        let handed_bytes = if is_stranger { 0 } else { sent_bytes };
        for call in unsent {
            state.proto.calls.set_unsent(call);
        }
        let known = LostDisposition { handed_bytes, last_call };
        state.proto.calls.lose_all(known, |token| wakers.extend(token.take()));
        wakers.extend(state.queue.clear());
        wakers.extend(state.waiting.clear());
        let mut failed = None;
        let flush = match close {
            Some((reason, detail)) => {
                let last_call = CallId::CONNECTION;
                Close { reason, last_call, detail: &detail }.append(state.out.pending());
                let flush = state.out.after_append(LATER);
                state.out.close();
                flush
            }
            None => {
                failed = state.out.fail();
                Flush::Nothing
            }
        };
        wakers.extend(state.out.wake());
        drop(state);
        drop(failed);
        self.flush(flush);
        wakers.into_iter().for_each(Waker::wake);
        self.reader.wake();
    }
}

impl ClientState {
    fn is_usable(&self) -> bool {
        self.end.is_none() && self.proto.may_open() && !self.keepalive.is_suspect()
    }

    /// The server sends its client away (LD-10): what it has not read may go elsewhere, and so may
    /// those who wait for room here.
    pub(crate) fn leave(&mut self, goaway: Goaway, wakers: &mut Vec<Waker>) {
        self.leaving = Some(goaway.reason);
        if goaway.last_call != Goaway::ANY_CALL {
            self.proto.calls.lose_above(goaway.last_call, |token| wakers.extend(token.take()));
            self.out.drop_bodies_above(goaway.last_call);
        }
        wakers.extend(self.queue.first(usize::MAX).cloned());
    }

    fn room(&self) -> usize {
        if self.out.holds_calls() { 0 } else { self.proto.calls.room() }
    }

    /// Who may enter now.
    pub(crate) fn next_waiters(&self) -> Vec<Waker> {
        if self.queue.is_empty() {
            return Vec::new();
        }
        self.queue.first(self.room()).cloned().collect()
    }
}

impl std::fmt::Debug for ClientShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("ClientShared")
            .field("calls", &(state.proto.calls.busy() + state.queue.len() + state.waiting.len()))
            .field("out", &state.out)
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

/// Written at once.
const ALONE: Eagerness = Eagerness { is_alone: true, threshold_bytes: 0 };
/// Left to the flusher.
pub(crate) const LATER: Eagerness = Eagerness { is_alone: false, threshold_bytes: usize::MAX };
