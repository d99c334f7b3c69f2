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
use std::time::Duration;

use crate::driver::Runtime;
use crate::driver::flusher::Flusher;
use crate::driver::input::{InputStream, Judged, ReadTurn};
use crate::driver::outbound::{Eagerness, Outbound};
use crate::driver::scratch::with_batch;
use crate::driver::server_batch::Batch;
use crate::driver::server_shared::{ConnectionHandle, ServerShared};
use crate::error::{Error, ErrorKind};
use crate::proto::{Inbound, Input, ServerConnection, ServerEvent, ServerLimits, Violation};
use crate::service::{DecodeLimits, Dispatch, Peer, TableListener};
use crate::transport::Stream;
use crate::wire::{Close, CloseReason};

/// What a server's connection is told.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// What the state machine is told.
    pub limits: ServerLimits,
    /// Limits of decoding a payload.
    pub decode: DecodeLimits,
    /// From the accepted stream to the client's HELLO.
    pub handshake_timeout: Duration,
    /// After the last byte was sent: how long the client may take to close its side.
    pub linger_timeout: Duration,
}

/// Serves one stream. The future is the connection: it ends when the connection has ended, with
/// the reason, and takes the connection with it when it is dropped.
pub fn serve_stream(
    stream: Stream,
    settings: ServerSettings,
    dispatch: Dispatch,
    runtime: Runtime,
) -> (ConnectionHandle, impl Future<Output = Error> + Send) {
    let out = Outbound::new(stream.writer);
    let shared = Arc::new(ServerShared::new(out, dispatch, stream.peer, runtime.clone()));
    let listener: Arc<dyn TableListener> = Arc::<ServerShared>::clone(&shared);
    shared.dispatch.subscribe(Arc::downgrade(&listener));
    Flusher::new(Arc::clone(&shared), runtime).spawn();
    let until = shared.runtime.after(settings.handshake_timeout);
    let timer = Some(shared.runtime.clock.sleep_until(until));
    let mut reader = ServerReader {
        input: InputStream::new(stream.reader),
        inbound: Inbound::new(settings.limits.frame_bytes_max),
        proto: ServerConnection::new(settings.limits.clone()),
        shared: Arc::clone(&shared),
        settings,
        timer,
        end: None,
    };
    (ConnectionHandle(shared), std::future::poll_fn(move |cx| reader.poll_run(cx)))
}

struct ServerReader {
    shared: Arc<ServerShared>,
    settings: ServerSettings,
    input: InputStream,
    inbound: Inbound,
    proto: ServerConnection,
    /// Until HELLO: the handshake's. After the end: the linger's.
    timer: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Set when all was said; the client's last bytes are discarded then, since closing with
    /// unread input would destroy our answers on their way.
    end: Option<Error>,
}

/// Why the reader stops judging.
enum Stop {
    Violation(Violation),
    Closed(Error),
}

impl ServerReader {
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.shared.reader.register(cx.waker());
        for _ in 0..TURNS_MAX {
            if self.shared.is_aborted.load(Ordering::Acquire) {
                return Poll::Ready(
                    self.end.take().unwrap_or_else(|| ErrorKind::ClosedHere.into()),
                );
            }
            if let Some(end) = &self.end {
                let end = end.clone();
                if !self.proto.is_greeted() {
                    return Poll::Ready(end); // Nothing was said that could be lost on its way.
                }
                let is_over =
                    self.poll_timer(cx).is_ready() || self.input.poll_discard(cx).is_ready();
                return if is_over { Poll::Ready(end) } else { Poll::Pending };
            }
            if self.shared.lock().out.is_failed() {
                let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
                return Poll::Ready(Error::lost(&error));
            }
            if self.is_drained() {
                // CA-16
                self.close(CloseReason::SHUTDOWN, "", ErrorKind::ClosedHere.into());
                continue;
            }
            if !self.proto.is_open() && self.poll_timer(cx).is_ready() {
                // HS-9
                let (peer, after) = (self.shared.address.clone(), self.settings.handshake_timeout);
                let error = ErrorKind::HandshakeTimeout { peer, after };
                self.close(CloseReason::HANDSHAKE_TIMEOUT, "", error.into());
                continue;
            }
            if self.shared.lock().out.is_full() {
                return Poll::Pending; // Woken when there is room again.
            }
            if let Some(error) = std::task::ready!(self.poll_turn(cx)) {
                self.shared.end();
                return Poll::Ready(error);
            }
        }
        cx.waker().wake_by_ref(); // Others have a turn.
        Poll::Pending
    }

    /// Reads once and serves what was read. `Some` when the stream is at its end.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        let missing_bytes = self.inbound.missing_bytes(self.input.carried_bytes());
        let (shared, settings) = (&self.shared, &self.settings);
        let (inbound, proto) = (&mut self.inbound, &mut self.proto);
        let judge = |bytes: &[u8]| judge(shared, settings, inbound, proto, bytes);
        let turn = std::task::ready!(self.input.poll_turn(cx, missing_bytes, judge));
        Poll::Ready(match turn {
            ReadTurn::Read => None,
            ReadTurn::End => Some(ended("the client closed it without a word")),
            ReadTurn::Failed(error) => Some(Error::lost(&error)),
            ReadTurn::Refused(Stop::Closed(error), _) => Some(error),
            ReadTurn::Refused(Stop::Violation(violation), bytes) => {
                let error = Error::violation(violation, &bytes, &self.shared.address);
                tracing::debug!(peer = %self.shared.address, %error, "connection refused");
                let reason = violation.close_reason();
                if reason == CloseReason::NOT_SWITCHBACK {
                    Some(error) // Nothing that we could say would be understood.
                } else {
                    self.close(reason, &violation.to_string(), error);
                    None
                }
            }
        })
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
        let flush = state.out.after_append(Eagerness { is_alone: true, threshold_bytes: 0 });
        state.out.close();
        let flusher = state.out.wake();
        drop(state);
        self.shared.flush(flush);
        if let Some(waker) = flusher {
            waker.wake();
        }
        let runtime = &self.shared.runtime;
        let until = runtime.after(self.settings.linger_timeout);
        self.timer = Some(runtime.clock.sleep_until(until));
        self.end = Some(error);
    }

    fn is_drained(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
            && (self.shared.pending_count.load(Ordering::Acquire) == 0
                || self.shared.is_closing.load(Ordering::Acquire))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}

impl Drop for ServerReader {
    /// The connection ends with its reader: what still runs is asked to end.
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// Serves the frames in `bytes`, until the output is over its limit: what one read brought may ask
/// for far more than it holds.
fn judge(
    shared: &Arc<ServerShared>,
    settings: &ServerSettings,
    inbound: &mut Inbound,
    proto: &mut ServerConnection,
    bytes: &[u8],
) -> Result<Judged, Stop> {
    with_batch(|out| {
        let mut batch = Batch::new(shared, settings, out, bytes.len());
        let mut at = 0;
        let result = loop {
            match inbound.next(&bytes[at..]) {
                Ok(Some((input, used))) => {
                    at += used;
                    if let Err(stop) = handle(shared, proto, &mut batch, input) {
                        break Err(stop);
                    }
                    if batch.is_output_full() {
                        break Ok(Judged { used_bytes: at, is_paused: true });
                    }
                }
                Ok(None) => break Ok(Judged { used_bytes: at, is_paused: false }),
                Err(violation) => break Err(Stop::Violation(violation)),
            }
        };
        batch.finish();
        result
    })
}

fn handle(
    shared: &Arc<ServerShared>,
    proto: &mut ServerConnection,
    batch: &mut Batch<'_>,
    input: Input<'_>,
) -> Result<(), Stop> {
    let raw = match input {
        Input::Preface(preface) => {
            return proto.handle_preface(preface, batch.out()).map_err(Stop::Violation);
        }
        Input::Frame(raw) => raw,
    };
    match proto.handle_frame(raw).map_err(Stop::Violation)? {
        ServerEvent::Nothing => {}
        ServerEvent::Request(request) => batch.request(&request),
        ServerEvent::Refuse(call, code, why) => batch.refuse(call, code, why),
        ServerEvent::Cancel(call) => shared.cancel(call),
        ServerEvent::Ping(echo) => {
            if let Some(flusher) = shared.lock().out.answer_ping(echo) {
                flusher.wake();
            }
        }
        ServerEvent::Hello => accept(shared, proto, batch),
        ServerEvent::Closed(close) => {
            let (reason, last_call) = (close.reason, close.last_call);
            let detail = close.detail.to_owned();
            return Err(Stop::Closed(ErrorKind::ClosedByPeer { reason, last_call, detail }.into()));
        }
    }
    Ok(())
}

/// Answers HELLO with the table as it is now; changes are told from here on.
fn accept(shared: &Arc<ServerShared>, proto: &mut ServerConnection, batch: &mut Batch<'_>) {
    if let Some(hello) = proto.client() {
        shared.client_frame_bytes_max.store(hello.frame_bytes_max, Ordering::Relaxed);
        let (address, build) = (shared.address.clone(), hello.build.clone());
        let first = shared.peer.set(Peer { address, build });
        debug_assert!(first.is_ok(), "HELLO comes once, before any handler");
    }
    batch.flush(); // What was said before must not come after the answer.
    let mut state = shared.lock();
    let routes = shared.dispatch.routes();
    proto.accept(routes.payload(), state.out.pending());
    state.announced = Some(Arc::clone(routes.payload()));
    let flush = state.out.after_append(Eagerness { is_alone: true, threshold_bytes: 0 });
    drop(state);
    shared.flush(flush);
    batch.reload();
}

fn ended(why: &'static str) -> Error {
    Error::lost(&std::io::Error::new(std::io::ErrorKind::UnexpectedEof, why))
}

/// Reads in one turn of the task, before others have theirs.
const TURNS_MAX: usize = 32;
