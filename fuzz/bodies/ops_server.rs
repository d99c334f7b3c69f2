//! A server as its driver would run it, beside a model of what it was asked and what it ran.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Setup;
use super::ops_client::End;
use super::ops_out::{Books, MESSAGE_BYTES, Outbox, append_piece, filling};
use switchback::proto::{Admitted, Beat, Conduct, Credit, Inbound, Input, Keepalive, PendingCalls};
use switchback::proto::{PendingEnd, ServerConnection, ServerEvent, ServerLimits, Violation};
use switchback::util::fnv64;
use switchback::wire::{CallId, Close, CloseReason, Code, Data, Disposition, FRAME_BYTES_DEFAULT};
use switchback::wire::{FRAME_BYTES_FLOOR, Flags, Frame, Kind, MethodId, MethodRow, Request};
use switchback::wire::{
    TIMEOUT_MS_MAX, TablePayload, VersionRange, VersionRow, WINDOW_BYTES_FLOOR,
};
use switchback::wire::{append_control, append_credit, begin_response, finish_frame, seal_frame};

/// A server and what it runs.
pub(super) struct Server {
    pub(super) proto: ServerConnection,
    inbound: Inbound,
    input: Vec<u8>,
    pub(super) out: Outbox,
    pending: PendingCalls<u64>,
    keepalive: Keepalive,
    conduct: Conduct,
    setup: Setup,
    pub(super) table: TablePayload,
    announced: Option<TablePayload>,
    pub(super) end: Option<End>,
    /// The model: every call that was read, refused ones too.
    pub(super) calls: BTreeMap<u32, Run>,
    /// Answers of which pieces are left, how much of them was sent, and their numbers.
    replies: BTreeMap<u32, (usize, u64)>,
    credit: Credit,
    /// The model of the window.
    books: Books,
    /// What the second GOAWAY named.
    last: Option<u32>,
    heard_at: Option<Instant>,
}

/// What became of a call that was read.
#[derive(Debug)]
pub(super) struct Run {
    /// What its payload begins with.
    pub(super) nonce: u64,
    deadline: Instant,
    bytes: usize,
    end: Option<PendingEnd>,
    /// Its last piece was read.
    is_whole: bool,
    /// Bytes of its pieces.
    pieces: usize,
    /// Its handler was started.
    pub(super) is_started: bool,
    /// It holds no place any more.
    is_over: bool,
}

impl Server {
    pub(super) fn new(setup: Setup) -> Self {
        let limits = ServerLimits {
            versions: VersionRange::OURS,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            calls_max: setup.server_calls_max,
            window_connection: WINDOW_BYTES_FLOOR,
            codecs: vec![1],
            build: String::from("server"),
        };
        Self {
            proto: ServerConnection::new(limits),
            inbound: Inbound::new(FRAME_BYTES_DEFAULT),
            input: Vec::new(),
            out: Outbox::default(),
            pending: PendingCalls::new(),
            keepalive: Keepalive::new(setup.keepalive),
            conduct: Conduct::new(setup.conduct),
            setup,
            table: table_of(1),
            announced: None,
            end: None,
            calls: BTreeMap::new(),
            replies: BTreeMap::new(),
            credit: Credit::default(),
            books: Books::new(WINDOW_BYTES_FLOOR),
            last: None,
            heard_at: None,
        }
    }

    /// Bytes come.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Instant) {
        if self.end.is_some() || bytes.is_empty() {
            return;
        }
        self.keepalive.handle_bytes(now);
        self.heard_at = Some(now);
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while self.end.is_none() {
            let result = match self.inbound.next(&input[at..]) {
                Ok(None) => break,
                Ok(Some((piece, used))) => {
                    at += used;
                    self.handle(piece, now)
                }
                Err(violation) => Err(violation),
            };
            if let Err(violation) = result {
                assert!(!self.setup.is_honest, "the server blames an honest client: {violation}");
                self.close(violation.close_reason(), End::Violation(violation));
            }
        }
        input.drain(..at);
        assert!(self.inbound.missing_bytes(input.len()) > 0);
        self.input = input;
    }

    fn handle(&mut self, piece: Input<'_>, now: Instant) -> Result<(), Violation> {
        let raw = match piece {
            Input::Preface(preface) => {
                return self.proto.handle_preface(preface, &mut self.out.pending);
            }
            Input::Frame(raw) => raw,
        };
        let before = self.highest();
        let piece = match Frame::parse(raw) {
            Ok(Frame::Data(data)) if self.proto.is_open() => Some(data.payload.len()),
            _ => None,
        };
        let event = self.proto.handle_frame(raw);
        let has_credit = piece.is_none_or(|bytes| self.books.may_come(bytes));
        assert!(has_credit || event.is_err(), "a piece beyond the credit: {event:?}");
        let event = event?;
        let due = piece.and_then(|bytes| self.books.take(bytes));
        match event {
            ServerEvent::Nothing => {
                assert!(self.last.is_some(), "only who has left throws frames away");
            }
            ServerEvent::Hello => self.accept(),
            ServerEvent::Request(request) => {
                assert!(request.call.is_client() && request.call.0 > before && self.last.is_none());
                self.conduct.handle_request();
                if let Some(status) = self.admit(&request, now) {
                    self.conduct.handle_refusal(status, now)?;
                }
            }
            ServerEvent::Refuse(call, code, _) => {
                assert!(call.is_client() && call.0 > before && self.last.is_none());
                self.conduct.handle_request();
                self.note(call, 0, now, 0).is_over = true;
                self.answer(call, code, Disposition::NotProcessed, &[]);
                self.conduct.handle_refusal(code, now)?;
            }
            ServerEvent::Piece(_)
            | ServerEvent::Stray(_)
            | ServerEvent::LostPiece(_)
            | ServerEvent::Credit(_) => self.handle_flow(&event, before, now)?,
            ServerEvent::Cancel(call) => {
                assert!(call.is_client() && call.0 <= before);
                let is_early = self.cancel(call, now);
                self.conduct.handle_cancel(is_early)?;
            }
            ServerEvent::Ping(echo) => {
                self.conduct.handle_ping(now)?;
                self.out.pong = Some(echo);
            }
            ServerEvent::Pong if self.keepalive.handle_pong() => {}
            ServerEvent::Pong | ServerEvent::Skipped => self.conduct.handle_idle_frame(now)?,
            ServerEvent::GoawayRead => {
                self.keepalive.handle_pong();
                self.finish_goaway();
            }
            ServerEvent::Closed(_) => self.stop(End::Closed),
        }
        if piece.is_some() {
            let grant = self.proto.window().grant();
            assert_eq!(grant, due, "what is granted");
            grant.into_iter().for_each(|bytes| append_credit(&mut self.out.pending, bytes));
        }
        assert_eq!(self.proto.last_call().0, self.last.unwrap_or_else(|| self.highest()));
        Ok(())
    }

    /// Pieces and credit.
    fn handle_flow(
        &mut self,
        event: &ServerEvent<'_>,
        before: u32,
        now: Instant,
    ) -> Result<(), Violation> {
        match event {
            ServerEvent::Piece(data) => {
                if data.payload.is_empty() && data.has_more {
                    self.conduct.handle_idle_frame(now)?;
                }
                self.take_piece(data);
            }
            ServerEvent::Stray(data) if self.pending.admitted(data.call).is_some() => {
                return Err(ServerConnection::stray());
            }
            ServerEvent::Stray(data) => {
                // After the second GOAWAY there are requests that are in no model.
                let is_known = data.call.0 <= before || self.last.is_some();
                assert!(data.call.is_client() && is_known, "{:?} was not begun", data.call);
            }
            ServerEvent::LostPiece(_) => unreachable!("no frame was given up"),
            ServerEvent::Credit(bytes) => {
                let left = self.credit.left();
                self.credit.grant(*bytes)?;
                assert_eq!(self.credit.left(), left + bytes);
            }
            _ => unreachable!("it is neither a piece nor credit"),
        }
        Ok(())
    }

    fn take_piece(&mut self, data: &Data<'_>) {
        let call = data.call;
        let run = self.calls.get_mut(&call.0).filter(|run| !run.is_over && !run.is_whole);
        let run = run.unwrap_or_else(|| panic!("{call:?} waits for no piece"));
        if self.setup.is_honest {
            let mut filled = (run.pieces..).zip(data.payload);
            assert!(filled.all(|(at, byte)| *byte == filling(at)), "{call:?}: other bytes");
        }
        run.pieces += data.payload.len();
        run.bytes += data.payload.len();
        run.is_whole = !data.has_more;
        self.pending.grow(call, data.payload.len());
    }

    fn accept(&mut self) {
        if let Some(bytes) = self.proto.client().and_then(|client| client.window_connection) {
            self.credit = Credit::new(bytes);
        }
        self.proto.accept(&self.table, &mut self.out.pending);
        self.announced = Some(self.table.clone());
    }

    /// A call is taken, or refused with the status given back.
    fn admit(&mut self, request: &Request<'_>, now: Instant) -> Option<Code> {
        let call = request.call;
        let nonce = request.payload.first_chunk().map_or(u64::MAX, |n| u64::from_be_bytes(*n));
        let (bytes, timeout) = (request.payload.len(), request.timeout_ms.min(TIMEOUT_MS_MAX));
        let deadline = now + Duration::from_millis(timeout.into());
        let is_full = self.pending.len() >= self.setup.server_calls_max as usize;
        let run = self.note(call, nonce, deadline, bytes);
        run.is_whole = !request.flags.has_more();
        let refusal = if is_full {
            Code::OVERLOADED
        } else if request.method != METHOD {
            Code::UNKNOWN_METHOD
        } else if request.timeout_ms == 0 {
            Code::DEADLINE_EXCEEDED
        } else {
            self.pending.insert(call, Admitted { read_at: now, deadline, bytes }, nonce);
            if self.keepalive.arm(now) {
                self.heard_at = Some(now);
            }
            return None;
        };
        run.is_over = true;
        self.proto.end_upload(call);
        self.answer(call, refusal, Disposition::NotProcessed, &[]);
        Some(refusal)
    }

    fn note(&mut self, call: CallId, nonce: u64, deadline: Instant, bytes: usize) -> &mut Run {
        let (end, is_started, is_over, is_whole, pieces) = (None, false, false, true, 0);
        let run = Run { nonce, deadline, bytes, end, is_whole, pieces, is_started, is_over };
        let before = self.calls.insert(call.0, run);
        assert!(before.is_none(), "{call:?} was handed out twice");
        self.calls.get_mut(&call.0).expect("just put there")
    }

    fn cancel(&mut self, call: CallId, now: Instant) -> bool {
        let is_early = self.pending.admitted(call).is_some_and(|admitted| {
            let age = now.saturating_duration_since(admitted.read_at);
            Conduct::is_early(age, admitted.deadline.saturating_duration_since(admitted.read_at))
        });
        let run = self.calls.get_mut(&call.0).filter(|run| !run.is_over && run.end.is_none());
        let token = self.pending.end(call, PendingEnd::Cancelled).copied();
        assert_eq!(token, run.as_ref().map(|run| run.nonce), "{call:?} is asked to end");
        if let Some(run) = run {
            run.end = Some(PendingEnd::Cancelled);
        }
        if self.replies.remove(&call.0).is_some() {
            self.answer(call, Code::CANCELLED, Disposition::Processed, &[]); // FL-7
        }
        is_early
    }

    /// Whether one of the calls here can go a step further.
    pub(super) fn can_work(&self) -> bool {
        self.calls.values().any(Run::can_work)
    }

    /// The handler of one of the calls here goes a step further: starts, then ends. One of which
    /// pieces are missing only ends.
    pub(super) fn work(&mut self, nth: usize, now: Instant) {
        let mut here = self.calls.iter_mut().filter(|(_, run)| run.can_work());
        let Some((id, run)) = here.nth(nth) else { return };
        let call = CallId(*id);
        assert_eq!(self.pending.is_ended(call), run.end, "{call:?}");
        let end = run.end.or_else(|| (now >= run.deadline).then_some(PendingEnd::Expired));
        let (status, disposition) = match (run.is_started, end) {
            (false, None) => {
                run.is_started = true;
                return;
            }
            (true, None) => (Code::OK, Disposition::Processed),
            (is_started, Some(end)) => (
                match end {
                    PendingEnd::Cancelled => Code::CANCELLED,
                    PendingEnd::Expired => Code::DEADLINE_EXCEEDED,
                },
                if is_started { Disposition::Maybe } else { Disposition::NotProcessed },
            ),
        };
        let nonce = run.nonce;
        run.is_over = true;
        if !run.is_whole {
            self.proto.end_upload(call);
        }
        assert_eq!(self.pending.remove(call), Some(nonce), "{call:?} has ended");
        assert_eq!(self.pending.remove(call), None, "{call:?} has ended before");
        if end.is_none() && nonce % 3 == 0 && self.credit != Credit::default() {
            if !self.out.is_closing && !self.out.is_failed {
                self.replies.insert(call.0, (0, nonce));
            }
            return;
        }
        let payload = nonce.to_be_bytes();
        self.answer(call, status, disposition, if end.is_none() { &payload } else { &[] });
    }

    /// Sends the next piece of an answer, as long as there is credit for, or its end. Says whether
    /// there was one to send.
    pub(super) fn send_piece(&mut self, nth: usize, len: usize, is_last: bool) -> bool {
        let Some((id, (sent, nonce))) = self.replies.iter_mut().nth(nth) else { return false };
        let (id, at, nonce) = (*id, *sent, *nonce);
        let len = len.min(self.credit.left() as usize).min(MESSAGE_BYTES - at);
        if len > 0 {
            append_piece(&mut self.out.pending, CallId(id), at, len, Flags::MORE);
            self.credit.spend(u32::try_from(len).expect("pieces are short"));
            *sent += len;
        }
        if is_last {
            self.replies.remove(&id);
            self.answer(CallId(id), Code::OK, Disposition::Processed, &nonce.to_be_bytes());
        }
        true
    }

    fn answer(&mut self, call: CallId, status: Code, disposition: Disposition, payload: &[u8]) {
        if self.out.is_closing || self.out.is_failed {
            return;
        }
        let start = begin_response(&mut self.out.pending, status, disposition, 1);
        self.out.pending.extend_from_slice(payload);
        let finished = finish_frame(&mut self.out.pending, start, 0, FRAME_BYTES_FLOOR);
        finished.expect("it is short");
        seal_frame(&mut self.out.pending[start.index()..], call);
    }

    /// Time has passed.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut asked = Vec::new();
        self.pending.expire(now, |nonce| asked.push(*nonce));
        let mut wanted = Vec::new();
        for run in self.calls.values_mut() {
            if !run.is_over && run.end.is_none() && run.deadline <= now {
                run.end = Some(PendingEnd::Expired);
                wanted.push(run.nonce);
            }
        }
        assert_eq!(asked, wanted, "who is too late");
        let is_waiting = !self.pending.is_empty() && !self.out.is_failed;
        match self.keepalive.beat(now, is_waiting) {
            Beat::Ping if !self.out.is_closing => {
                append_control(&mut self.out.pending, Kind::PING, CallId::CONNECTION, &[], &PING);
            }
            Beat::Dead => {
                let since = self.heard_at.expect("the watch has begun");
                let patience = self.setup.keepalive.silence + self.setup.keepalive.patience;
                assert!(now - since >= patience, "taken for dead after {:?}", now - since);
                self.stop(End::Silent);
            }
            Beat::Nothing | Beat::Suspect | Beat::Ping => {}
        }
    }

    /// Another table from here on.
    pub(super) fn change_table(&mut self, versions: u16) {
        self.table = table_of(versions);
        let Some(before) = &self.announced else { return };
        if self.end.is_some() {
            return;
        }
        for update in self.table.updates_from(before) {
            let (out, bytes) = (&mut self.out.pending, update.to_bytes());
            append_control(out, Kind::TABLE_UPDATE, CallId::CONNECTION, &[], &bytes);
        }
        self.announced = Some(self.table.clone());
    }

    /// The first GOAWAY.
    pub(super) fn announce_goaway(&mut self) {
        if self.end.is_none() {
            let grace = Duration::from_secs(30);
            self.proto.announce_goaway(CloseReason::SHUTDOWN, grace, &mut self.out.pending);
            assert_eq!(self.proto.is_leaving(), self.proto.is_open());
        }
    }

    /// The second one.
    pub(super) fn finish_goaway(&mut self) {
        if self.end.is_none() && self.proto.is_leaving() {
            self.proto.finish_goaway(&mut self.out.pending);
            assert!(self.proto.has_left());
            self.last.get_or_insert_with(|| self.calls.keys().last().copied().unwrap_or(0));
        }
    }

    /// Who has gone away and has no call left, closes.
    pub(super) fn close_if_done(&mut self) {
        if self.proto.has_left() && self.pending.is_empty() && self.replies.is_empty() {
            self.close(CloseReason::SHUTDOWN, End::Here);
        }
    }

    /// Says farewell.
    pub(super) fn close(&mut self, reason: CloseReason, end: End) {
        if self.end.is_some() {
            return;
        }
        if !self.proto.is_greeted() {
            return self.stop(end);
        }
        self.replies.clear();
        let last_call = self.proto.last_call();
        Close { reason, last_call, detail: "" }.append(&mut self.out.pending);
        self.out.is_closing = true;
        self.end = Some(end);
    }

    /// The stream is of no use any more: what runs is asked to end.
    pub(super) fn stop(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.out.fail();
        self.replies.clear();
        let mut asked = Vec::new();
        self.pending.end_all(|nonce| asked.push(*nonce));
        let mut wanted = Vec::new();
        for run in self.calls.values_mut().filter(|run| !run.is_over && run.end.is_none()) {
            run.end = Some(PendingEnd::Cancelled);
            wanted.push(run.nonce);
        }
        assert_eq!(asked, wanted, "who is asked to end");
    }

    /// The state machine counts as the model does.
    pub(super) fn check(&self) {
        let here = || self.calls.values().filter(|run| !run.is_over);
        assert_eq!(self.pending.len(), here().count(), "calls here");
        assert_eq!(self.pending.is_empty(), here().next().is_none());
        assert!(self.pending.len() <= self.setup.server_calls_max as usize, "too many calls");
        assert_eq!(self.pending.bytes(), here().map(|run| run.bytes).sum::<usize>());
        let mut uploads = self.calls.iter().filter(|(_, run)| !run.is_over && !run.is_whole);
        assert_eq!(self.proto.first_upload(), uploads.next().map(|(id, _)| CallId(*id)));
        let first = here().filter(|run| run.end.is_none()).map(|run| run.deadline).min();
        if let Some(first) = first {
            assert!(self.pending.next_deadline().is_some_and(|at| at <= first), "nobody looks");
        }
        let is_whole = self.input.len() as u64 <= u64::from(FRAME_BYTES_DEFAULT) + 16;
        assert!(is_whole, "{} bytes are kept", self.input.len());
    }

    /// Calls that hold a place.
    pub(super) fn busy(&self) -> usize {
        self.pending.len()
    }

    fn highest(&self) -> u32 {
        self.calls.keys().last().copied().unwrap_or(0)
    }
}

impl Run {
    const fn can_work(&self) -> bool {
        !self.is_over && (self.is_whole || self.end.is_some())
    }
}

/// A table of this many versions of two methods.
pub(super) fn table_of(versions: u16) -> TablePayload {
    let row = |method: MethodId, versions: u16| {
        let versions = (1..=versions).map(|version| VersionRow { version, fingerprint: 7 });
        let (ceiling, versions) = (MethodRow::NO_CEILING, versions.collect());
        MethodRow { method, ceiling, versions }
    };
    let mut rows = vec![row(METHOD, 1), row(MethodId(10), versions)];
    rows.retain(|row| !row.versions.is_empty());
    let mut table = TablePayload { hash: 0, rows };
    table.hash = fnv64(&table.to_bytes()[8..]);
    table
}

const METHOD: MethodId = MethodId(9);
const PING: [u8; 8] = *b"alive?\0\0";
