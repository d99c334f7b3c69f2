//! A client as its driver would run it, beside a model of its calls that is as simple as can be:
//! whatever the state machine says is compared with the model.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Setup;
use super::ops_fate::Fate;
use super::ops_out::{Books, MESSAGE_BYTES, Outbox, append_piece};
use switchback::proto::{Beat, CallOutcome, Cancelled, ClientConnection, ClientEvent, Conduct};
use switchback::proto::{ClientLimits, Credit, Inbound, Input, Keepalive, LostDisposition};
use switchback::proto::{TableCache, Ticket, Violation, WaitQueue};
use switchback::wire::{CallId, Close, CloseReason, Data, Disposition, Flags, Frame, Goaway};
use switchback::wire::{FRAME_BYTES_DEFAULT, Kind, MethodId, RawFrame, RequestFields, Response};
use switchback::wire::{VersionRange, WINDOW_BYTES_FLOOR};
use switchback::wire::{append_control, append_credit, begin_request, finish_frame, seal_frame};

/// A client and who calls through it.
pub(super) struct Client {
    pub(super) proto: ClientConnection<Option<usize>>,
    inbound: Inbound,
    input: Vec<u8>,
    pub(super) out: Outbox,
    queue: WaitQueue<usize>,
    keepalive: Keepalive,
    conduct: Conduct,
    setup: Setup,
    /// How it ended.
    pub(super) end: Option<End>,
    pub(super) callers: Vec<Caller>,
    /// The model: every id that was given.
    calls: BTreeMap<u32, Call>,
    /// Requests whose last piece was not sent, and how much of them was.
    uploads: BTreeMap<u32, usize>,
    credit: Credit,
    /// The model of the window.
    books: Books,
    /// The model of the queue.
    waiting: VecDeque<usize>,
    /// The lowest call that a GOAWAY named.
    named: Option<CallId>,
    /// When a byte was heard, or the watch began.
    heard_at: Option<Instant>,
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Violation(Violation),
    /// The other side said farewell.
    Closed,
    /// No byte will come.
    Lost,
    /// No byte came.
    Silent,
    /// Wanted here.
    Here,
}

/// Somebody who wants an answer; numbered, and the number is the payload.
#[derive(Debug)]
pub(super) struct Caller {
    deadline: Instant,
    /// Its request is to go in pieces, where the server takes them.
    is_long: bool,
    ticket: Option<Ticket>,
    pub(super) id: Option<CallId>,
    /// Sent before the server's limits were known (HS-8).
    pub(super) is_early: bool,
    pub(super) fate: Option<Fate>,
}

/// What the model knows of an id.
#[derive(Debug)]
struct Call {
    caller: usize,
    is_owned: bool,
    is_owed: bool,
    outcome: Option<CallOutcome>,
    offset: u64,
    /// Bytes of pieces of its answer.
    pieces: usize,
}

impl Client {
    pub(super) fn new(setup: Setup, cache: TableCache) -> Self {
        let limits = ClientLimits {
            versions: VersionRange::OURS,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            calls_max: setup.client_calls_max,
            window_connection: WINDOW_BYTES_FLOOR,
            codecs: vec![1],
            build: String::from("client"),
            first_call: CallId(1),
        };
        let mut out = Outbox::default();
        let proto = ClientConnection::new(limits, cache, &mut out.pending);
        out.hand(); // At once: a farewell must not overtake the preface.
        Self {
            proto,
            inbound: Inbound::new(FRAME_BYTES_DEFAULT),
            input: Vec::new(),
            out,
            queue: WaitQueue::new(setup.queued_max),
            keepalive: Keepalive::new(setup.keepalive),
            conduct: Conduct::new(setup.conduct),
            setup,
            end: None,
            callers: Vec::new(),
            calls: BTreeMap::new(),
            uploads: BTreeMap::new(),
            credit: Credit::default(),
            books: Books::new(WINDOW_BYTES_FLOOR),
            waiting: VecDeque::new(),
            named: None,
            heard_at: None,
        }
    }

    /// Somebody new wants to call.
    pub(super) fn call(&mut self, now: Instant, timeout: Duration, filler: usize, is_long: bool) {
        let (deadline, ticket, id, fate) = (now + timeout, None, None, None);
        self.callers.push(Caller { deadline, is_long, ticket, id, is_early: false, fate });
        self.enter(self.callers.len() - 1, now, filler);
    }

    /// A caller without an id tries to get one.
    pub(super) fn enter(&mut self, who: usize, now: Instant, filler: usize) {
        if self.callers[who].id.is_some() || self.callers[who].fate.is_some() {
            return;
        }
        let ticket = self.callers[who].ticket;
        if self.end.is_some() || !self.proto.may_open() {
            self.leave(who);
            self.callers[who].fate = Some(Fate::NotSent);
            return;
        }
        let room = self.proto.calls.room();
        let ahead = self.waiting.iter().position(|waits| *waits == who);
        let may_enter = ahead.unwrap_or(self.waiting.len()) < room;
        assert_eq!(self.queue.may_enter(ticket, room), may_enter, "somebody overtakes");
        if may_enter {
            self.leave(who);
            return self.open(who, now, filler);
        }
        if ticket.is_some() {
            return;
        }
        let is_full = self.waiting.len() >= self.setup.queued_max;
        match self.queue.join(who) {
            Ok(ticket) => {
                assert!(!is_full, "the queue is over its limit");
                self.callers[who].ticket = Some(ticket);
                self.waiting.push_back(who);
            }
            Err(_) => {
                assert!(is_full, "there is room in the queue");
                self.callers[who].fate = Some(Fate::NotSent);
            }
        }
    }

    fn open(&mut self, who: usize, now: Instant, filler: usize) {
        let (deadline, offset) = (self.callers[who].deadline, self.out.offset());
        let opened = self.proto.calls.open(deadline, offset, Some(who)).expect("there is room");
        let id = opened.id;
        let last = self.calls.last_key_value().map_or(0, |(id, _)| *id);
        assert!(id.is_client() && id.0 > last, "{id:?} after {last}");
        let timeout = deadline.saturating_duration_since(now).as_millis();
        let fields = RequestFields {
            method: MethodId(9),
            version: 1,
            codec: 1,
            attempt_priority: 0,
            timeout_ms: u32::try_from(timeout).expect("deadlines are near"),
            fingerprint: 0,
        };
        let mut frame = Vec::new();
        let start = begin_request(&mut frame, &fields);
        frame.extend_from_slice(&(who as u64).to_be_bytes());
        frame.resize(frame.len() + filler, 0xee);
        finish_frame(&mut frame, start, 0, self.proto.frame_bytes_max()).expect("it is short");
        if self.callers[who].is_long && self.proto.fragments().is_some() {
            start.set_more(&mut frame);
            self.uploads.insert(id.0, 0);
        }
        seal_frame(&mut frame, id);
        self.out.pending.extend_from_slice(&frame);
        if self.keepalive.arm(now) {
            self.heard_at = Some(now);
        }
        self.callers[who].id = Some(id);
        self.callers[who].is_early = self.proto.server().is_none();
        let (is_owned, is_owed, outcome) = (true, true, None);
        let call = Call { caller: who, is_owned, is_owed, outcome, offset, pieces: 0 };
        self.calls.insert(id.0, call);
    }

    /// Sends the next piece of a request, as long as there is credit for. Says whether there was
    /// one to send.
    pub(super) fn send_piece(&mut self, nth: usize, len: usize, is_last: bool) -> bool {
        if self.end.is_some() {
            return false;
        }
        let Some((id, sent)) = self.uploads.iter_mut().nth(nth) else { return false };
        let (id, at) = (*id, *sent);
        let len = len.min(self.credit.left() as usize).min(MESSAGE_BYTES - at);
        if len == 0 && !is_last {
            return false; // It would ask for nothing.
        }
        let flags = if is_last { Flags::NONE } else { Flags::MORE };
        append_piece(&mut self.out.pending, CallId(id), at, len, flags);
        self.credit.spend(u32::try_from(len).expect("pieces are short"));
        *sent += len;
        if is_last {
            self.uploads.remove(&id);
        }
        true
    }

    fn leave(&mut self, who: usize) {
        let Some(ticket) = self.callers[who].ticket.take() else { return };
        assert_eq!(self.queue.leave(ticket), Some(who));
        assert_eq!(self.queue.leave(ticket), None, "it left twice");
        self.waiting.retain(|waits| *waits != who);
    }

    /// A caller goes away.
    pub(super) fn cancel(&mut self, who: usize) {
        if self.callers[who].fate.is_some() {
            return;
        }
        self.leave(who);
        self.callers[who].fate = Some(Fate::GoneAway);
        let Some(id) = self.callers[who].id else { return };
        let call = self.calls.get_mut(&id.0).expect("every id is in the model");
        let expected = match (call.is_owed, call.outcome) {
            (false, _) => Cancelled::Freed,
            (true, Some(_)) => Cancelled::Nothing,
            (true, None) => Cancelled::TellPeer,
        };
        (call.is_owned, call.outcome) = (false, None);
        assert_eq!(self.proto.calls.cancel(id), expected);
        assert_eq!(self.proto.calls.cancel(id), Cancelled::Nothing, "it is not there any more");
        if expected == Cancelled::TellPeer && self.end.is_none() {
            self.uploads.remove(&id.0); // FL-7
            append_control(&mut self.out.pending, Kind::CANCEL, id, &[], &[]);
        }
    }

    /// A caller looks whether its call has ended.
    pub(super) fn look(&mut self, who: usize) {
        let caller = &mut self.callers[who];
        let (Some(id), None) = (caller.id, &caller.fate) else { return };
        let call = self.calls.get_mut(&id.0).expect("every id is in the model");
        let mut reply = Vec::new();
        let taken = self.proto.calls.take(id, &mut reply);
        assert_eq!(taken.map(|taken| taken.outcome), call.outcome, "{id:?}");
        let Some(taken) = taken else { return };
        assert_eq!(taken.freed, !call.is_owed, "{id:?}");
        (call.is_owned, call.outcome) = (false, None);
        caller.fate = Some(Fate::Told(taken.outcome, reply));
        assert_eq!(self.proto.calls.take(id, &mut Vec::new()), None, "a second outcome");
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
            let mut inbound = self.inbound.clone();
            let result = match self.inbound.next(&input[at..]) {
                Ok(None) => break,
                Ok(Some((piece, used))) => {
                    at += used;
                    self.handle(piece, now)
                }
                Err(violation) => {
                    assert_eq!(inbound.next(&input[at..]), Err(violation), "judged twice");
                    Err(violation)
                }
            };
            if let Err(violation) = result {
                assert!(!self.setup.is_honest, "the client blames an honest server: {violation}");
                let is_told =
                    !matches!(violation, Violation::Preface(_) | Violation::NoCommonVersion { .. });
                self.finish(End::Violation(violation), None, is_told);
            }
        }
        input.drain(..at);
        assert!(self.inbound.missing_bytes(input.len()) > 0);
        self.input = input;
    }

    fn handle(&mut self, piece: Input<'_>, now: Instant) -> Result<(), Violation> {
        let raw = match piece {
            Input::Preface(preface) => return self.proto.handle_preface(preface),
            Input::Frame(raw) => raw,
        };
        let expected = self.expected(raw);
        let due = self.due(raw, expected.as_ref());
        let event = self.proto.handle_frame(raw);
        if let Some(expected) = expected {
            assert_eq!(Said::of(&event), expected, "{raw:?}");
        }
        match event? {
            ClientEvent::Answered(token) => drop(token.take()),
            ClientEvent::Accepted => {
                if let Some(bytes) = self.proto.fragments() {
                    self.credit = Credit::new(bytes);
                }
            }
            ClientEvent::Freed | ClientEvent::Table => {}
            ClientEvent::Piece(grant) => {
                assert_eq!(grant, due, "what is granted");
                grant.into_iter().for_each(|bytes| append_credit(&mut self.out.pending, bytes));
            }
            ClientEvent::Credit(bytes) => {
                let before = self.credit.left();
                self.credit.grant(bytes)?;
                assert_eq!(self.credit.left(), before + bytes);
            }
            ClientEvent::Ping(echo) => {
                self.conduct.handle_ping(now)?;
                self.out.pong = Some(echo);
            }
            ClientEvent::Pong if self.keepalive.handle_pong() => {}
            ClientEvent::Pong | ClientEvent::Skipped => self.conduct.handle_idle_frame(now)?,
            ClientEvent::GoingAway(goaway) => {
                self.conduct.handle_goaway();
                if goaway.last_call != Goaway::ANY_CALL {
                    self.lose_above(goaway.last_call);
                }
            }
            ClientEvent::Closed(close) => {
                let last_call = close.last_call;
                self.finish(End::Closed, Some(last_call), false);
            }
        }
        Ok(())
    }

    /// What the model says of a frame, where it has something to say; changes the model.
    fn expected(&mut self, raw: RawFrame<'_>) -> Option<Said> {
        let is_open = self.proto.table().is_some();
        match Frame::parse(raw).ok()? {
            Frame::Response(response) if is_open && response.call.is_client() => {
                self.uploads.remove(&response.call.0); // FL-7
                Some(self.expected_answer(&response))
            }
            Frame::Data(data) if is_open && data.call.is_client() => {
                Some(self.expected_piece(&data))
            }
            Frame::Goaway(goaway) if self.proto.server().is_some() => {
                raw.head.kind.takes_call(raw.head.call).then_some(())?;
                let rises = self.named.is_some_and(|named| goaway.last_call > named);
                if !rises {
                    self.named = Some(goaway.last_call);
                }
                Some(if rises { Said::Violation } else { Said::GoingAway })
            }
            _ => None,
        }
    }

    fn expected_piece(&mut self, data: &Data<'_>) -> Said {
        let call = self.calls.get_mut(&data.call.0).filter(|call| call.is_owed);
        match call {
            Some(call) if data.has_more && self.books.may_come(data.payload.len()) => {
                call.pieces += data.payload.len();
                Said::Other
            }
            _ => Said::Violation,
        }
    }

    /// What is to be granted with this frame.
    fn due(&mut self, raw: RawFrame<'_>, said: Option<&Said>) -> Option<u32> {
        match Frame::parse(raw).ok()? {
            Frame::Data(data) if said == Some(&Said::Other) => self.books.take(data.payload.len()),
            _ => None,
        }
    }

    fn expected_answer(&mut self, response: &Response<'_>) -> Said {
        let Some(call) = self.calls.get_mut(&response.call.0).filter(|call| call.is_owed) else {
            return Said::Violation;
        };
        call.is_owed = false;
        if !call.is_owned || call.outcome.is_some() {
            return Said::Freed;
        }
        call.outcome = Some(CallOutcome::Answered {
            status: response.status,
            disposition: response.disposition,
            codec: response.codec,
            ext_len: response.ext.len(),
        });
        Said::Answered(Some(call.caller))
    }

    fn lose_above(&mut self, last: CallId) {
        let mut told = Vec::new();
        self.proto.calls.lose_above(last, |token| told.extend(token.take()));
        let known = LostDisposition { handed_bytes: u64::MAX, last_call: Some(last) };
        self.uploads.retain(|id, _| *id <= last.0);
        let above = self.calls.range_mut(last.0.saturating_add(1)..);
        assert_eq!(told_of(above.map(|(id, call)| (*id, call)), known), sorted(told));
    }

    /// Time has passed.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.end.is_some() {
            return;
        }
        let mut expired = Vec::new();
        self.proto.calls.expire(now, |id, token| {
            append_control(&mut self.out.pending, Kind::CANCEL, id, &[], &[]);
            expired.push((id.0, token.take()));
        });
        let mut wanted = Vec::new();
        for (id, call) in &mut self.calls {
            let is_over = self.callers[call.caller].deadline <= now;
            if is_over && call.is_owned && call.outcome.is_none() {
                self.uploads.remove(id); // FL-7
                call.outcome = Some(CallOutcome::Expired);
                wanted.push((*id, Some(call.caller)));
            }
        }
        expired.sort_unstable();
        assert_eq!(expired, wanted, "who is too late");
        let is_waiting = self.proto.calls.busy() > 0 && self.proto.server().is_some();
        match self.keepalive.beat(now, is_waiting) {
            Beat::Ping => {
                append_control(&mut self.out.pending, Kind::PING, CallId::CONNECTION, &[], &PING);
            }
            Beat::Dead => {
                let since = self.heard_at.expect("the watch has begun");
                let patience = self.setup.keepalive.silence + self.setup.keepalive.patience;
                assert!(now - since >= patience, "taken for dead after {:?}", now - since);
                self.finish(End::Silent, None, false);
            }
            Beat::Nothing | Beat::Suspect => {}
        }
    }

    /// The connection ends here; every call gets its outcome.
    pub(super) fn finish(&mut self, end: End, last_call: Option<CallId>, is_told: bool) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        let handed_bytes = if is_told { self.out.discard() } else { self.out.fail() };
        for id in std::mem::take(&mut self.uploads).into_keys() {
            // LD-5: it was not sent whole.
            self.proto.calls.set_unsent(CallId(id));
            self.calls.get_mut(&id).expect("every id is in the model").offset = u64::MAX;
        }
        let known = LostDisposition { handed_bytes, last_call };
        let mut told = Vec::new();
        self.proto.calls.lose_all(known, |token| told.extend(token.take()));
        let all = self.calls.iter_mut().map(|(id, call)| (*id, call));
        assert_eq!(told_of(all, known), sorted(told), "who is told of the end");
        assert!(self.queue.clear().eq(self.waiting.drain(..)));
        for caller in &mut self.callers {
            caller.ticket = None;
        }
        if is_told {
            let (reason, last_call) = (CloseReason::NORMAL, CallId::CONNECTION);
            Close { reason, last_call, detail: "" }.append(&mut self.out.pending);
            self.out.is_closing = true;
        }
    }

    /// Who waits for room, first come first.
    pub(super) fn first_waiting(&self) -> Option<usize> {
        self.waiting.front().copied()
    }

    /// The state machine counts as the model does.
    pub(super) fn check(&self) {
        let calls = &self.proto.calls;
        let busy = self.calls.values().filter(|call| call.is_owned || call.is_owed).count();
        assert_eq!(calls.busy(), busy, "slots in use");
        let of_server = self.proto.server().map_or(64, |ack| ack.calls_max);
        let max = self.setup.client_calls_max.min(of_server) as usize;
        assert_eq!(calls.room(), max.saturating_sub(busy));
        assert_eq!(self.queue.len(), self.waiting.len());
        let room = calls.room();
        assert!(self.queue.first(room).eq(self.waiting.iter().take(room)), "who is next");
        let open = self.calls.values().filter(|call| call.is_owned && call.outcome.is_none());
        let first = open.map(|call| self.callers[call.caller].deadline).min();
        if let Some(first) = first {
            assert!(calls.next_deadline().is_some_and(|at| at <= first), "nobody would look");
        }
        let is_whole = self.input.len() as u64 <= u64::from(FRAME_BYTES_DEFAULT) + 16;
        assert!(is_whole, "{} bytes are kept", self.input.len());
    }

    /// Slots that were ever made.
    pub(super) fn slots(&self) -> usize {
        format!("{:?}", self.proto.calls).matches("Slot {").count()
    }

    /// Bytes of pieces that came of a call's answer.
    pub(super) fn pieces_of(&self, id: CallId) -> usize {
        self.calls.get(&id.0).map_or(0, |call| call.pieces)
    }

    /// Whether a RESPONSE is still owed to somebody.
    pub(super) fn is_owed(&self) -> bool {
        self.calls.values().any(|call| call.is_owed)
    }
}

/// An event, as far as the model knows such things.
#[derive(Debug, PartialEq)]
enum Said {
    Answered(Option<usize>),
    Freed,
    GoingAway,
    Violation,
    Other,
}

impl Said {
    fn of(event: &Result<ClientEvent<'_, Option<usize>>, Violation>) -> Self {
        match event {
            Ok(ClientEvent::Answered(token)) => Self::Answered(**token),
            Ok(ClientEvent::Freed) => Self::Freed,
            Ok(ClientEvent::GoingAway(_)) => Self::GoingAway,
            Ok(_) => Self::Other,
            Err(_) => Self::Violation,
        }
    }
}

/// The model's calls lose the server; gives who is told, in order.
fn told_of<'a>(
    calls: impl Iterator<Item = (u32, &'a mut Call)>,
    known: LostDisposition,
) -> Vec<usize> {
    let mut told = Vec::new();
    for (id, call) in calls.filter(|(_, call)| call.is_owed) {
        call.is_owed = false;
        if call.is_owned && call.outcome.is_none() {
            let is_unread = known.last_call.is_some_and(|last| id > last.0);
            let is_unsent = call.offset >= known.handed_bytes;
            call.outcome = Some(CallOutcome::Lost(if is_unread || is_unsent {
                Disposition::NotProcessed
            } else {
                Disposition::Maybe
            }));
            told.push(call.caller);
        }
    }
    sorted(told)
}

fn sorted(mut list: Vec<usize>) -> Vec<usize> {
    list.sort_unstable();
    list
}

const PING: [u8; 8] = *b"alive?\0\0";
