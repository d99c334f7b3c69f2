//! The reader of a server's connection: handshake, dispatch, and the end.
//!
//! Requests are parsed in place. A handler is polled once, here, and becomes a task only if it is
//! not ready; the answers of one read are collected and written together, in pieces that keep
//! both sides busy.
//!
//! Invariants: every REQUEST that was read is answered exactly once (CA-5), refusals in the order
//! of CA-3; the dispatch table is loaded once per read; nothing is started after its deadline.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::driver::Runtime;
use crate::driver::alarms::Alarms;
use crate::driver::flusher::Flusher;
use crate::driver::input::{FrameWatch, InputStream, ReadTurn};
use crate::driver::outbound::{Eagerness, Outbound};
use crate::driver::server_frames::{Judge, Stop};
use crate::driver::server_settings::ServerSettings;
use crate::driver::server_shared::{ConnectionHandle, ServerShared};
use crate::driver::uploads::Uploads;
use crate::error::{Error, ErrorKind};
use crate::policy::connection_age;
use crate::proto::{Conduct, Inbound, ServerConnection, Violation};
use crate::service::{Dispatch, TableListener};
use crate::transport::Stream;
use crate::util::OutOfMemory;
use crate::wire::{CallId, Close, CloseReason};

/// Serves one stream. The future is the connection: it ends when the connection has ended, with
/// the reason, and takes the connection with it when it is dropped.
pub fn serve_stream(
    stream: Stream,
    settings: ServerSettings,
    dispatch: Dispatch,
    runtime: Runtime,
) -> (ConnectionHandle, impl Future<Output = Error> + Send) {
    let out = Outbound::new(stream.writer);
    let peer = (stream.peer, stream.credentials);
    let shared = ServerShared::new(out, dispatch, peer, runtime.clone(), &settings);
    let shared = Arc::new(shared);
    let listener: Arc<dyn TableListener> = Arc::<ServerShared>::clone(&shared);
    shared.dispatch.subscribe(Arc::downgrade(&listener));
    Flusher::new(Arc::clone(&shared), runtime, settings.write_timeout).spawn();
    let mut alarms = Alarms::new();
    let age = connection_age(settings.connection_age, shared.runtime.random.next_u64());
    alarms.set(Alarm::AGE, Some(shared.runtime.after(age)));
    alarms.set(Alarm::IDLE, Some(shared.runtime.after(settings.idle_timeout)));
    alarms.set(Alarm::PATIENCE, Some(shared.runtime.after(settings.handshake_timeout)));
    let mut reader = ServerReader {
        input: InputStream::new(stream.reader),
        inbound: Inbound::new(settings.limits.frame_bytes_max),
        proto: ServerConnection::new(settings.limits.clone()),
        conduct: Conduct::new(settings.conduct),
        frame_watch: FrameWatch::default(),
        heard_at: shared.runtime.clock.now(),
        leaving: None,
        uploads: Uploads::new(Arc::clone(&shared)),
        shared: Arc::clone(&shared),
        settings,
        alarms,
        end: None,
        is_lingering: false,
        is_awaited: false,
    };
    let totals = Arc::clone(&shared.totals);
    let served = std::future::poll_fn(move |cx| {
        let end = std::task::ready!(reader.poll_run(cx));
        totals.count_end(&end);
        Poll::Ready(end)
    });
    (ConnectionHandle(shared), served)
}

struct ServerReader {
    shared: Arc<ServerShared>,
    settings: ServerSettings,
    input: InputStream,
    inbound: Inbound,
    proto: ServerConnection,
    conduct: Conduct,
    frame_watch: FrameWatch,
    uploads: Uploads,
    /// When the last bytes came.
    heard_at: Instant,
    /// Why the client was asked to go.
    leaving: Option<CloseReason>,
    alarms: Alarms<{ Alarm::COUNT }>,
    /// Set when all was said; the client's last bytes are discarded then, since closing with
    /// unread input would destroy our answers on their way.
    end: Option<Error>,
    /// The linger has begun.
    is_lingering: bool,
    /// It is to go, and has not said HELLO yet.
    is_awaited: bool,
}

/// What a reader has to do at a time.
struct Alarm;

impl Alarm {
    /// Until HELLO: the handshake's end. After the end: the linger's.
    const PATIENCE: usize = 0;
    /// The frame that has begun has to have gone on.
    const FRAME: usize = 1;
    const IDLE: usize = 2;
    const AGE: usize = 3;
    /// The first GOAWAY must have been read by now.
    const GOAWAY: usize = 4;
    /// The calls that run have had their time.
    const GRACE: usize = 5;
    const COUNT: usize = 6;
}

impl ServerReader {
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.shared.reader.register(cx.waker());
        for _ in 0..TURNS_MAX {
            if self.shared.is_aborted.load(Ordering::Acquire) {
                let aborted = || Error::closed_here(CloseReason::SHUTDOWN);
                return Poll::Ready(self.end.take().unwrap_or_else(aborted));
            }
            if let Some(end) = &self.end {
                let end = end.clone();
                if !self.proto.is_greeted() {
                    return Poll::Ready(end); // Nothing was said that could be lost on its way.
                }
                if !self.is_lingering && self.shared.lock().out.is_failed() {
                    self.linger(); // The last byte was sent.
                }
                let is_over =
                    self.poll_alarm(cx).is_ready() || self.input.poll_discard(cx).is_ready();
                return if is_over { Poll::Ready(end) } else { Poll::Pending };
            }
            if let Some(failure) = self.failure() {
                return Poll::Ready(failure);
            }
            while let Some(call) = self.uploads.end_one(&self.shared) {
                self.proto.end_upload(call);
            }
            if self.poll_leave() {
                continue;
            }
            if let Poll::Ready(alarm) = self.poll_alarm(cx) {
                self.handle_alarm(alarm);
                continue;
            }
            if self.shared.lock().out.is_blocked() {
                // Woken when there is room again. What is not read cannot be late.
                self.frame_watch = FrameWatch::default();
                self.alarms.set(Alarm::FRAME, None);
                return Poll::Pending;
            }
            let Poll::Ready(end) = self.poll_turn(cx) else {
                let upload = self.upload();
                if self.proto.is_open() && self.frame_watch.starts(&self.input, upload) {
                    let until = self.shared.runtime.after(self.settings.frame_timeout);
                    self.alarms.set(Alarm::FRAME, Some(until));
                    continue; // To be woken by the alarm too.
                }
                return Poll::Pending;
            };
            if let Some(error) = end {
                self.shared.end();
                return Poll::Ready(error);
            }
            if self.input.is_paused() {
                break; // Its answers were many.
            }
        }
        cx.waker().wake_by_ref(); // Others have a turn.
        Poll::Pending
    }

    /// Why the stream is of no use any more, if it is not.
    fn failure(&self) -> Option<Error> {
        let state = self.shared.lock();
        let is_failed = state.out.is_failed();
        is_failed.then(|| {
            let broken = || Error::lost(&std::io::Error::from(std::io::ErrorKind::BrokenPipe));
            state.failure.clone().unwrap_or_else(broken)
        })
    }

    /// Goes a step further with going away, if one is due (CA-16, LD-7).
    fn poll_leave(&mut self) -> bool {
        if self.leaving.is_none() && self.shared.is_draining.load(Ordering::Acquire) {
            self.leaving = Some(CloseReason::SHUTDOWN);
        }
        let Some(reason) = self.leaving else { return false };
        let is_closing = self.shared.is_closing.load(Ordering::Acquire);
        if !self.proto.is_open() && !is_closing {
            // Its first calls may be on their way, with its HELLO: it is told what became of them.
            if !self.is_awaited {
                self.is_awaited = true;
                let until = self.shared.runtime.clock.now() + GOAWAY_ROUND_TRIP_MAX;
                self.alarms.set(Alarm::GOAWAY, Some(until));
                return true;
            }
            return false;
        }
        let pending = self.shared.pending_count.load(Ordering::Acquire);
        // Answers on their way are waited for too. Looked at last: they come from pending calls.
        let pending = pending + self.shared.lock().out.bodies();
        if is_closing && pending > 0 {
            let detail = format!("{pending} calls were cut");
            let reason = CloseReason::DRAIN_TIMEOUT;
            self.close(reason, &detail, Error::closed_here(reason));
            return true;
        }
        if is_closing || (self.proto.has_left() && pending == 0) {
            self.close(reason, "", Error::closed_here(reason));
            return true;
        }
        if !self.proto.is_leaving() {
            let now = self.shared.runtime.clock.now();
            self.alarms.set(Alarm::GOAWAY, Some(now + GOAWAY_ROUND_TRIP_MAX));
            self.alarms
                .set(Alarm::GRACE, Some(self.shared.runtime.after(self.settings.drain_timeout)));
            self.alarms.set(Alarm::AGE, None);
            let grace = self.settings.drain_timeout;
            // The PING behind it is the only one until its PONG has come (LD-7).
            self.shared.lock().keepalive.handle_asked();
            self.say(|proto, out| proto.announce_goaway(reason, grace, out));
            return true;
        }
        false
    }

    /// Lets the state machine append something to the output, and has it written.
    fn say(&mut self, what: impl FnOnce(&mut ServerConnection, &mut Vec<u8>)) {
        let mut state = self.shared.lock();
        what(&mut self.proto, state.out.pending());
        let flush = state.out.after_append(Eagerness { is_alone: true, threshold_bytes: 0 });
        drop(state);
        self.shared.flush(flush);
    }

    fn handle_alarm(&mut self, alarm: usize) {
        let now = self.shared.runtime.clock.now();
        match alarm {
            Alarm::PATIENCE if !self.proto.is_open() => {
                // HS-9
                let (peer, after) = (self.shared.address.clone(), self.settings.handshake_timeout);
                let error = ErrorKind::HandshakeTimeout { peer, after };
                self.close(CloseReason::HANDSHAKE_TIMEOUT, "", error.into());
            }
            Alarm::FRAME if self.proto.is_open() => {
                let upload = self.upload();
                if let Err(violation) = self.frame_watch.judge(&self.input, upload) {
                    let _said = self.refuse(violation, &[]); // It is greeted: it can be told.
                }
            }
            Alarm::IDLE => {
                let used_at =
                    if self.shared.is_idle() { self.heard_at } else { self.shared.runtime.now() };
                let until = used_at + self.settings.idle_timeout;
                if now >= until {
                    self.close(CloseReason::IDLE, "", Error::closed_here(CloseReason::IDLE));
                } else {
                    self.alarms.set(Alarm::IDLE, Some(until));
                }
            }
            Alarm::AGE => {
                self.leaving = Some(CloseReason::AGE);
                self.shared.is_draining.store(true, Ordering::Release);
            }
            Alarm::GOAWAY if !self.proto.is_open() => {
                let reason = self.leaving.unwrap_or(CloseReason::SHUTDOWN);
                self.close(reason, "", Error::closed_here(reason));
            }
            Alarm::GOAWAY => self.say(ServerConnection::finish_goaway),
            Alarm::GRACE => self.shared.is_closing.store(true, Ordering::Release),
            _ => {}
        }
    }

    /// The first request of which a piece is outstanding, and bytes of pieces that ever came.
    fn upload(&mut self) -> Option<(CallId, u64)> {
        let first = self.proto.first_upload()?;
        Some((first, self.proto.window().taken()))
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.alarms.poll(cx, &*self.shared.runtime.clock)
    }

    /// Reads once and serves what was read. `Some` when the stream is at its end.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        let missing_bytes = self.inbound.missing_bytes(self.input.carried().len());
        let mut judge = Judge {
            shared: &self.shared,
            settings: &self.settings,
            inbound: &mut self.inbound,
            proto: &mut self.proto,
            conduct: &mut self.conduct,
            heard_at: &mut self.heard_at,
        };
        let uploads = &mut self.uploads;
        let judge = |bytes: &[u8]| judge.judge(uploads, bytes);
        let turn = std::task::ready!(self.input.poll_turn(cx, missing_bytes, judge));
        Poll::Ready(match turn {
            ReadTurn::Read => None,
            ReadTurn::End => Some(ended("the client closed it without a word")),
            ReadTurn::Failed(error) => Some(Error::lost(&error)),
            ReadTurn::NoMemory(error) => {
                self.give_up(error);
                None
            }
            ReadTurn::Refused(Stop::Closed(error), _) => Some(error),
            ReadTurn::Refused(Stop::Violation(violation), bytes) => self.refuse(violation, &bytes),
        })
    }

    /// There is no memory for the frame at hand. A request is refused once it has come, and the
    /// connection goes on; without another frame it cannot.
    fn give_up(&mut self, error: OutOfMemory) {
        tracing::debug!(peer = %self.shared.address, %error, "frame given up");
        let given_up = self.inbound.give_up(self.input.carried());
        self.input.forget();
        match given_up {
            Ok(true) => {}
            Ok(false) => {
                let detail = error.to_string();
                let (peer, bytes) = (self.shared.address.clone(), error.bytes);
                let end = ErrorKind::OutOfMemory { peer, bytes };
                self.close(CloseReason::INTERNAL, &detail, end.into());
            }
            // It is greeted: it can be told.
            Err(violation) => drop(self.refuse(violation, &[])),
        }
    }

    /// Ends the connection for what the client did; `bytes` are what it said. Gives the error when
    /// nothing that we could say would be understood.
    fn refuse(&mut self, violation: Violation, bytes: &[u8]) -> Option<Error> {
        let error = Error::violation(violation, bytes, &self.shared.address);
        tracing::debug!(peer = %self.shared.address, %error, "connection refused");
        let reason = violation.close_reason();
        if reason == CloseReason::NOT_SWITCHBACK {
            return Some(error);
        }
        self.close(reason, &violation.to_string(), error);
        None
    }

    /// Says farewell; from then on only reads and discards (LD-3).
    fn close(&mut self, reason: CloseReason, detail: &str, error: Error) {
        if !self.proto.is_greeted() {
            self.shared.end(); // Not a word before the client's preface (HS-2).
            self.end = Some(error);
            return;
        }
        let last_call = self.proto.last_call();
        let mut state = self.shared.lock();
        Close { reason, last_call, detail }.append(state.out.pending());
        state.out.close(); // Before anybody writes: no PONG may stand behind it (LD-2).
        let flush = state.out.after_append(Eagerness { is_alone: true, threshold_bytes: 0 });
        let flusher = state.out.wake();
        drop(state);
        self.shared.flush(flush);
        if let Some(waker) = flusher {
            waker.wake();
        }
        self.alarms = Alarms::new();
        self.end = Some(error);
        // Who is sent away in good order gets all its answers, as long as it takes some in time;
        // nobody else is waited for.
        let is_orderly =
            matches!(reason, CloseReason::SHUTDOWN | CloseReason::AGE | CloseReason::IDLE);
        if !is_orderly {
            self.linger();
        }
    }

    /// From now on the client has some time to close its side.
    fn linger(&mut self) {
        self.is_lingering = true;
        let until = self.shared.runtime.after(self.settings.linger_timeout);
        self.alarms.set(Alarm::PATIENCE, Some(until));
    }
}

impl Drop for ServerReader {
    /// The connection ends with its reader: what still runs is asked to end.
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn ended(why: &'static str) -> Error {
    Error::lost(&std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why))
}

/// Reads in one turn of the task, before others have theirs.
const TURNS_MAX: usize = 32;
/// From the first GOAWAY to the second one, if the client does not answer; for the HELLO of a
/// client that is to go as much.
const GOAWAY_ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
