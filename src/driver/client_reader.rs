//! The reader of a client's connection: judges what arrives and files the answers.
//!
//! Frames are cut and checked outside the lock, up to 64 at a time, then filed under one lock;
//! the wakers are called after it is released.
//!
//! Invariant: it ends when the stream ends, the peer breaks the protocol, or the connection was
//! closed here; every call has an outcome then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::AsyncRead;

use crate::driver::alarms::Alarms;
use crate::driver::client::{ClientShared, ClientState};
use crate::driver::client_settings::ClientSettings;
use crate::driver::input::{FrameWatch, InputStream, Judged, ReadTurn};
use crate::error::{Error, ErrorKind};
use crate::proto::{ClientEvent, Inbound, Input, Violation};
use crate::wire::{CallId, CloseReason, PrefaceError, append_credit};

pub(crate) struct ClientReader {
    shared: Arc<ClientShared>,
    input: InputStream,
    inbound: Inbound,
    handshake_timeout: Duration,
    frame_timeout: Duration,
    frame_watch: FrameWatch,
    alarms: Alarms<{ Alarm::COUNT }>,
    is_lingering: bool,
    /// The server will say no more.
    is_read_out: bool,
}

/// What a reader has to do at a time.
struct Alarm;

impl Alarm {
    /// Until the table is known: the handshake's end. After the end: the linger's.
    const PATIENCE: usize = 0;
    /// The frame that has begun has to have gone on.
    const FRAME: usize = 1;
    const COUNT: usize = 2;
}

/// What a group of frames came to, to be acted upon after the lock is released.
struct Filed {
    wakers: [Option<Waker>; GROUP],
    others: Vec<Waker>,
    closed: Option<(CloseReason, CallId, String)>,
}

impl ClientReader {
    pub(crate) fn new(
        shared: Arc<ClientShared>,
        io: Box<dyn AsyncRead + Send + Unpin>,
        settings: &ClientSettings,
    ) -> Self {
        let handshake_timeout = settings.handshake_timeout;
        let mut alarms = Alarms::new();
        alarms.set(Alarm::PATIENCE, Some(shared.runtime.after(handshake_timeout)));
        let inbound = Inbound::new(settings.limits.frame_bytes_max);
        Self {
            shared,
            input: InputStream::new(io),
            inbound,
            handshake_timeout,
            frame_timeout: settings.frame_timeout,
            frame_watch: FrameWatch::default(),
            alarms,
            is_lingering: false,
            is_read_out: false,
        }
    }

    /// Starts the task.
    pub(crate) fn spawn(mut self) {
        let spawn = Arc::clone(&self.shared.runtime.spawn);
        spawn.spawn(Box::pin(std::future::poll_fn(move |cx| self.poll_run(cx))));
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.reader.register(cx.waker());
        for _ in 0..TURNS_MAX {
            if self.shared.lock().end.is_some() {
                return self.poll_linger(cx);
            }
            if let Poll::Ready(alarm) = self.alarms.poll(cx, &*self.shared.runtime.clock) {
                self.handle_alarm(alarm);
                continue;
            }
            let (shared, inbound) = (&self.shared, &mut self.inbound);
            let missing_bytes = inbound.missing_bytes(self.input.carried().len());
            let judge = |bytes: &[u8]| {
                let used_bytes = judge(shared, inbound, bytes)?;
                Ok(Judged { used_bytes, is_paused: false })
            };
            let Poll::Ready(turn) = self.input.poll_turn(cx, missing_bytes, judge) else {
                if self.frame_watch.starts(&self.input, None) {
                    let until = self.shared.runtime.after(self.frame_timeout);
                    self.alarms.set(Alarm::FRAME, Some(until));
                    continue; // To be woken by the alarm too.
                }
                return Poll::Pending;
            };
            match turn {
                ReadTurn::Read => {}
                ReadTurn::End => {
                    let why = "the peer closed it without a word";
                    let error = io::Error::new(io::ErrorKind::UnexpectedEof, why);
                    self.shared.finish(Error::lost(&error), None, None);
                }
                ReadTurn::Failed(error) => self.shared.finish(Error::lost(&error), None, None),
                ReadTurn::NoMemory(error) => {
                    let (peer, bytes) = (self.shared.peer.clone(), error.bytes);
                    let close = (CloseReason::INTERNAL, error.to_string());
                    let end = ErrorKind::OutOfMemory { peer, bytes };
                    self.shared.finish(end.into(), None, Some(close));
                }
                ReadTurn::Refused(violation, bytes) => self.refuse(violation, &bytes),
            }
        }
        cx.waker().wake_by_ref(); // Others have a turn.
        Poll::Pending
    }

    /// After a farewell, reads and forgets until the server has closed its side: closing with
    /// unread input would destroy the farewell on its way (LD-3). All of it has a limit, so that a
    /// server that does not read keeps nothing alive.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_farewell = self.shared.lock().out.is_closing();
        if !self.is_lingering {
            self.is_lingering = true;
            self.alarms = Alarms::new();
            self.alarms.set(Alarm::PATIENCE, Some(self.shared.runtime.after(LINGER)));
        }
        if is_farewell && self.alarms.poll(cx, &*self.shared.runtime.clock).is_pending() {
            self.is_read_out = self.is_read_out || self.input.poll_discard(cx).is_ready();
            if !self.is_read_out || !self.shared.lock().out.is_failed() {
                return Poll::Pending;
            }
        }
        let mut state = self.shared.lock();
        let failed = state.out.fail();
        let flusher = state.out.wake();
        drop(state);
        drop(failed);
        if let Some(waker) = flusher {
            waker.wake();
        }
        Poll::Ready(())
    }

    fn handle_alarm(&mut self, alarm: usize) {
        match alarm {
            Alarm::PATIENCE if self.shared.table.load().is_none() => {
                let (peer, after) = (self.shared.peer.clone(), self.handshake_timeout);
                let error = ErrorKind::HandshakeTimeout { peer, after };
                let close = (CloseReason::HANDSHAKE_TIMEOUT, String::new());
                self.shared.finish(error.into(), None, Some(close));
            }
            Alarm::FRAME => {
                if let Err(violation) = self.frame_watch.judge(&self.input, None) {
                    self.refuse(violation, &[]);
                }
            }
            _ => {}
        }
    }

    fn refuse(&self, violation: Violation, bytes: &[u8]) {
        let error = Error::violation(violation, bytes, &self.shared.peer);
        let close = match violation {
            Violation::Preface(PrefaceError::NotSwitchback) | Violation::NoCommonVersion { .. } => {
                None
            }
            violation => Some((violation.close_reason(), violation.to_string())),
        };
        self.shared.finish(error, None, close);
    }
}

impl Drop for ClientReader {
    /// Nobody files answers any more. Where the runtime dropped the task, or a panic ended it,
    /// the connection ends with it, and the calls have an outcome.
    fn drop(&mut self) {
        self.shared.finish(Error::closed_here(CloseReason::NORMAL), None, None);
    }
}

/// Cuts `bytes` into frames and files them; returns the bytes used.
fn judge(shared: &ClientShared, inbound: &mut Inbound, bytes: &[u8]) -> Result<usize, Violation> {
    let mut at = 0;
    loop {
        let mut group = [const { None }; GROUP];
        let mut len = 0;
        let mut violation = None;
        while len < GROUP {
            match inbound.next(&bytes[at..]) {
                Ok(Some((input, used))) => {
                    group[len] = Some(input);
                    len += 1;
                    at += used;
                }
                Ok(None) => break,
                Err(found) => {
                    violation = Some(found);
                    break;
                }
            }
        }
        // What came before the violation counts.
        file(shared, &group[..len])?;
        if let Some(violation) = violation {
            return Err(violation);
        }
        if len < GROUP {
            return Ok(at);
        }
    }
}

fn file(shared: &ClientShared, group: &[Option<Input<'_>>]) -> Result<(), Violation> {
    let wakers = [const { None }; GROUP];
    let mut filed = Filed { wakers, others: Vec::new(), closed: None };
    let now = shared.runtime.now();
    let mut state = shared.lock();
    state.heard_at = now;
    if group.is_empty() || !group.iter().flatten().all(Input::is_ping) {
        state.keepalive.handle_bytes(now);
    }
    let mut result = Ok(());
    for (at, input) in group.iter().flatten().enumerate() {
        result = state.file(shared, input, &mut filed, at, now);
        if result.is_err() || filed.closed.is_some() {
            break;
        }
    }
    filed.others.extend(state.next_waiters());
    shared.note_usable(&state);
    drop(state);
    filed.wakers.into_iter().flatten().chain(filed.others).for_each(Waker::wake);
    if let Some((reason, last_call, detail)) = filed.closed {
        let error = ErrorKind::ClosedByPeer { reason, last_call, detail };
        shared.finish(error.into(), Some(last_call), None);
    }
    result
}

impl ClientState {
    fn file(
        &mut self,
        shared: &ClientShared,
        input: &Input<'_>,
        filed: &mut Filed,
        at: usize,
        now: Instant,
    ) -> Result<(), Violation> {
        let raw = match *input {
            Input::Preface(preface) => return self.proto.handle_preface(preface),
            Input::Frame(raw) => raw,
        };
        match self.proto.handle_frame(raw)? {
            ClientEvent::Freed => return Ok(()),
            ClientEvent::Pong if self.keepalive.handle_pong() => return Ok(()),
            ClientEvent::Pong | ClientEvent::Skipped => {
                return self.conduct.handle_idle_frame(now);
            }
            ClientEvent::GoingAway(goaway) => {
                tracing::debug!(peer = %shared.peer, reason = %goaway.reason, "server goes away");
                self.leave(goaway, &mut filed.others);
                // The PING behind it is part of it.
                self.conduct.handle_goaway();
                return Ok(());
            }
            ClientEvent::Answered(token) => {
                filed.wakers[at] = token.take();
                // One that was refused before its last piece was sent (FL-7).
                self.out.drop_body(raw.head.call);
                return Ok(());
            }
            ClientEvent::Piece(None) => return Ok(()),
            ClientEvent::Piece(Some(bytes)) => {
                append_credit(self.out.pending(), bytes); // FL-11
                filed.others.extend(self.out.wake());
                return Ok(());
            }
            ClientEvent::Credit(bytes) => {
                filed.others.extend(self.out.grant(bytes)?);
                return Ok(());
            }
            ClientEvent::Ping(echo) => {
                self.conduct.handle_ping(now)?; // LD-8
                filed.others.extend(self.out.answer_ping(echo));
                return Ok(());
            }
            ClientEvent::Closed(close) => {
                filed.closed = Some((close.reason, close.last_call, close.detail.to_owned()));
                return Ok(());
            }
            ClientEvent::Accepted => {
                if let Some(bytes) = self.proto.fragments() {
                    self.out.open_window(bytes, self.proto.frame_bytes_max());
                }
            }
            ClientEvent::Table => {}
        }
        shared.frame_bytes_max.store(self.proto.frame_bytes_max(), Ordering::Relaxed);
        shared.has_window.store(self.proto.fragments().is_some(), Ordering::Release);
        shared.is_codec_refused.store(self.proto.is_codec_refused(), Ordering::Relaxed);
        if let Some(table) = self.proto.table() {
            shared.table.store(Some(Arc::clone(table)));
            filed.others.extend(self.waiting.clear());
        }
        Ok(())
    }
}

/// Frames filed under one lock.
const GROUP: usize = 64;
/// How long a closed connection may take to write its last bytes.
const LINGER: Duration = Duration::from_secs(1);
/// Reads in one turn of the task, before others have theirs.
const TURNS_MAX: usize = 32;
