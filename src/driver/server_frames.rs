//! What a server's reader makes of the frames of one read.
//!
//! Invariants: frames are served in their order, until the output is over its limit, or the answers
//! over those of one turn: what one read brought may ask for far more than it holds; what came
//! before a violation counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::driver::input::Judged;
use crate::driver::outbound::Eagerness;
use crate::driver::scratch::with_batch;
use crate::driver::server_batch::Batch;
use crate::driver::server_settings::ServerSettings;
use crate::driver::server_shared::ServerShared;
use crate::driver::uploads::Uploads;
use crate::error::{Error, ErrorKind};
use crate::proto::{Conduct, Inbound, Input, ServerConnection, ServerEvent, Violation};
use crate::service::Peer;
use crate::wire::{Code, Data, Kind, append_credit};

/// Why the reader stops judging.
pub(crate) enum Stop {
    Violation(Violation),
    Closed(Error),
}

/// The parts of a reader that judge its input.
pub(crate) struct Judge<'a> {
    pub(crate) shared: &'a Arc<ServerShared>,
    pub(crate) settings: &'a ServerSettings,
    pub(crate) inbound: &'a mut Inbound,
    pub(crate) proto: &'a mut ServerConnection,
    pub(crate) conduct: &'a mut Conduct,
    /// When bytes came last.
    pub(crate) heard_at: &'a mut Instant,
}

impl Judge<'_> {
    pub(crate) fn judge(&mut self, uploads: &mut Uploads, bytes: &[u8]) -> Result<Judged, Stop> {
        with_batch(|out| {
            let mut batch = Batch::new(self.shared, self.settings, (out, uploads), bytes.len());
            *self.heard_at = batch.read_at();
            let result = self.judge_frames(&mut batch, bytes);
            batch.finish();
            result
        })
    }

    fn judge_frames(&mut self, batch: &mut Batch<'_>, bytes: &[u8]) -> Result<Judged, Stop> {
        self.judge_late(batch.read_at())?;
        let mut at = self.skip(batch, bytes)?;
        let mut is_heard = false;
        loop {
            let next = self.inbound.next(&bytes[at..]);
            let is_ping = matches!(&next, Ok(Some((input, _))) if input.is_ping());
            if !is_heard && !is_ping && at < bytes.len() {
                is_heard = true;
                self.shared.handle_bytes(batch.read_at());
            }
            let Some((input, used)) = next? else {
                return Ok(Judged { used_bytes: at, is_paused: false });
            };
            at += used;
            self.handle(batch, input)?;
            if batch.must_pause() {
                return Ok(Judged { used_bytes: at, is_paused: true });
            }
        }
    }

    /// Throws away what belongs to a frame that was given up, and refuses it when it has come
    /// whole. Says how many bytes that were.
    fn skip(&mut self, batch: &mut Batch<'_>, bytes: &[u8]) -> Result<usize, Stop> {
        let (used, skipped) = self.inbound.skip(bytes)?;
        if used > 0 {
            self.shared.handle_bytes(batch.read_at());
        }
        if let Some(head) = skipped {
            let event = self.proto.handle_skipped(head)?;
            self.grant(batch);
            if matches!(event, ServerEvent::Refuse(..)) {
                self.shared.totals.count_overload();
            }
            self.handle_event(batch, event)?;
        }
        Ok(used)
    }

    /// Judges what was not found in its own read: interceptors and layers were before the payload,
    /// or another server was asked (LD-11).
    fn judge_late(&mut self, now: Instant) -> Result<(), Violation> {
        if self.shared.bad_payloads.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let count = self.shared.bad_payloads.swap(0, Ordering::Relaxed);
        (0..count).try_for_each(|_| self.conduct.handle_refusal(Code::BAD_PAYLOAD, now))
    }

    fn handle(&mut self, batch: &mut Batch<'_>, input: Input<'_>) -> Result<(), Stop> {
        let raw = match input {
            Input::Preface(preface) => {
                return self.proto.handle_preface(preface, batch.out()).map_err(Stop::Violation);
            }
            Input::Frame(raw) => raw,
        };
        let event = self.proto.handle_frame(raw)?;
        self.handle_event(batch, event)?;
        if raw.head.kind == Kind::DATA {
            self.grant(batch);
        }
        Ok(())
    }

    /// A piece that asks for nothing costs as what is skipped (FL-8).
    fn judge_piece(&mut self, data: &Data<'_>, now: Instant) -> Result<(), Violation> {
        if data.payload.is_empty() && data.has_more {
            self.conduct.handle_idle_frame(now)?;
        }
        Ok(())
    }

    /// Grants what pieces have taken, if it is time (FL-11).
    fn grant(&mut self, batch: &mut Batch<'_>) {
        if let Some(bytes) = self.proto.window().grant() {
            append_credit(batch.out(), bytes);
        }
    }

    fn handle_event(&mut self, batch: &mut Batch<'_>, event: ServerEvent<'_>) -> Result<(), Stop> {
        let now = batch.read_at();
        match event {
            ServerEvent::Nothing => {}
            ServerEvent::Request(request) => {
                self.conduct.handle_request();
                if let Some(status) = batch.request(&request) {
                    self.proto.end_upload(request.call);
                    self.conduct.handle_refusal(status, now)?; // LD-11
                }
            }
            ServerEvent::Piece(data) => {
                self.judge_piece(&data, now)?;
                if let Some(status) = batch.piece(&data) {
                    self.proto.end_upload(data.call);
                    self.conduct.handle_refusal(status, now)?; // LD-11
                }
            }
            ServerEvent::LostPiece(call) => {
                self.proto.end_upload(call);
                batch.lose_piece(call);
            }
            ServerEvent::Stray(data) if self.shared.is_pending(data.call) => {
                return Err(ServerConnection::stray().into()); // FL-8
            }
            ServerEvent::Stray(data) if data.payload.is_empty() => {
                self.conduct.handle_idle_frame(now)?; // FL-8
            }
            ServerEvent::Stray(_) => {}
            ServerEvent::Credit(bytes) => {
                let flusher = self.shared.lock().out.grant(bytes)?;
                if let Some(flusher) = flusher {
                    flusher.wake();
                }
            }
            ServerEvent::Refuse(call, code, why) => {
                self.conduct.handle_request();
                batch.refuse(call, code, why);
                self.conduct.handle_refusal(code, now)?;
            }
            ServerEvent::Cancel(call) => {
                let is_early = self.shared.cancel(call, now);
                self.conduct.handle_cancel(is_early)?; // LD-11
            }
            ServerEvent::Ping(echo) => {
                self.conduct.handle_ping(now)?; // LD-8
                if let Some(flusher) = self.shared.lock().out.answer_ping(echo) {
                    flusher.wake();
                }
            }
            ServerEvent::Pong if self.shared.take_pong() => {
                if self.proto.is_announced() {
                    // That of a PING before the GOAWAY: the one behind it is still to come (LD-7).
                    self.shared.lock().keepalive.handle_asked();
                }
            }
            ServerEvent::Pong | ServerEvent::Skipped => self.conduct.handle_idle_frame(now)?,
            ServerEvent::GoawayRead => {
                self.shared.take_pong(); // A PING of the keepalive before it has no PONG (LD-1).
                self.proto.finish_goaway(batch.out());
            }
            ServerEvent::Hello => self.accept(batch),
            ServerEvent::Closed(close) => {
                let (reason, last_call) = (close.reason, close.last_call);
                let detail = close.detail.to_owned();
                let error = ErrorKind::ClosedByPeer { reason, last_call, detail };
                return Err(Stop::Closed(error.into()));
            }
        }
        Ok(())
    }

    /// Answers HELLO with the table as it is now; changes are told from here on.
    fn accept(&mut self, batch: &mut Batch<'_>) {
        let shared = self.shared;
        if let Some(hello) = self.proto.client() {
            let frame_bytes_max = hello.frame_bytes_max;
            shared.client_frame_bytes_max.store(frame_bytes_max, Ordering::Relaxed);
            if let Some(window) = hello.window_connection {
                shared.lock().out.open_window(window, frame_bytes_max);
                shared.client_has_window.store(true, Ordering::Relaxed);
            }
            let (address, build) = (shared.address.clone(), hello.build.clone());
            let credentials = shared.credentials;
            let first = shared.peer.set(Peer { address, build, credentials });
            debug_assert!(first.is_ok(), "HELLO comes once, before any handler");
        }
        batch.flush(); // What was said before must not come after the answer.
        let mut state = shared.lock();
        let routes = shared.dispatch.routes();
        if routes.fallback().is_some() {
            self.proto.set_fallback();
        }
        self.proto.accept(routes.payload(), state.out.pending());
        state.announced = Some(Arc::clone(routes.payload()));
        let flush = state.out.after_append(Eagerness { is_alone: true, threshold_bytes: 0 });
        drop(state);
        shared.flush(flush);
        batch.reload();
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}
