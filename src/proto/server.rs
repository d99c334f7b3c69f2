//! The server's side of a connection: handshake, order of call ids, what a frame asks for.
//!
//! ```text
//! Preface --preface--> Hello --HELLO--> Accepting --accept()--> Open
//! ```
//!
//! Invariants: the server says nothing before it has read the whole preface (HS-2); ids are odd
//! and increase (CA-1); every REQUEST that was read is handed out exactly once, to be answered
//! exactly once by the owner (CA-2).

use std::time::Duration;

use crate::proto::{Violation, Window};
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{FlatMap, Fnv64};
use crate::wire::{BODY_CRC_BYTES, Data, DecodeError, REQUEST_FIXED_BYTES, Request};
use crate::wire::{CallId, Close, CloseReason, Code, Frame, Goaway, Head, Hello, HelloAck};
use crate::wire::{Kind, Preface, RawFrame, TablePayload, VersionRange, append_control};

/// One connection as its server sees it.
#[derive(Debug)]
pub struct ServerConnection {
    state: State,
    limits: ServerLimits,
    transcript: Fnv64,
    client: Option<Hello>,
    has_fallback: bool,
    /// The highest id read.
    highest: CallId,
    leaving: Leaving,
    window: Window,
    /// Requests whose last fragment has not come: how long they would be in one frame by now. As
    /// many as calls are in flight, at most.
    uploads: FlatMap<CallId, u32>,
}

/// What a server brings to a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerLimits {
    /// Protocol versions spoken.
    pub versions: VersionRange,
    /// `body_len` accepted from the client.
    pub frame_bytes_max: u32,
    /// Calls in flight accepted on this connection.
    pub calls_max: u32,
    /// Bytes of fragments taken before some must be granted again (FL-10).
    pub window_connection: u32,
    /// Codecs, ascending.
    pub codecs: Vec<u8>,
    /// Which build this is, for people.
    pub build: String,
}

/// What a frame meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerEvent<'a> {
    /// Nothing to do.
    Nothing,
    /// The client said HELLO: answer with [`ServerConnection::accept`].
    Hello,
    /// A call to be answered. With MORE its payload goes on in pieces, until the last one or
    /// [`ServerConnection::end_upload`].
    Request(Request<'a>),
    /// The next piece of a request's payload.
    Piece(Data<'a>),
    /// A piece of a request that has ended, thrown away. If the call is in flight it came after
    /// the last one, which is a [`ServerConnection::stray`].
    Stray(Data<'a>),
    /// A piece of a request for which there was no memory.
    LostPiece(CallId),
    /// The client takes so many bytes of fragments more.
    Credit(u32),
    /// A call that must be refused, and why: the frame asks for what is not known (CA-3).
    Refuse(CallId, Code, &'static str),
    /// The caller takes the call back; it may have ended already.
    Cancel(CallId),
    /// To be echoed.
    Ping([u8; 8]),
    /// A PING of ours was answered.
    Pong,
    /// The client has read the first GOAWAY: the second one is due.
    GoawayRead,
    /// The frame asked for nothing: a kind that is skipped.
    Skipped,
    /// The client says farewell.
    Closed(Close<'a>),
}

/// How far the server is with going away (LD-7).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaving {
    No,
    /// It said that it wants no call any more, and waits until that must have been read.
    Announced {
        reason: CloseReason,
        grace_ms: u32,
    },
    /// It said which call is the last that it has read.
    Final(CallId),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Preface,
    Hello,
    Accepting,
    Open,
}

impl ServerConnection {
    /// Waits for a client's preface.
    #[must_use]
    pub const fn new(limits: ServerLimits) -> Self {
        let (transcript, highest) = (Fnv64::new(), CallId::CONNECTION);
        let (state, leaving) = (State::Preface, Leaving::No);
        let window = Window::new(limits.window_connection);
        Self {
            state,
            limits,
            transcript,
            client: None,
            has_fallback: false,
            highest,
            leaving,
            window,
            uploads: FlatMap::new(),
        }
    }

    /// The client's first bytes. The server's own preface is appended to `out`.
    ///
    /// # Errors
    /// [`Violation::NoCommonVersion`], or [`Violation::Preface`] for a range that is none: send
    /// `out`, then close.
    pub fn handle_preface(&mut self, preface: Preface, out: &mut Vec<u8>) -> Result<(), Violation> {
        let (ours, theirs) = (self.limits.versions, preface.0);
        self.transcript.write(&preface.to_bytes());
        out.extend_from_slice(&Preface(ours).to_bytes());
        self.state = State::Hello;
        theirs.check()?; // HS-3
        match ours.choose(theirs) {
            Some(_) => Ok(()),
            None => Err(Violation::NoCommonVersion { ours, theirs }), // HS-4
        }
    }

    /// A frame.
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    ///
    /// # Panics
    /// Before [`ServerConnection::handle_preface`], and between [`ServerEvent::Hello`] and
    /// [`ServerConnection::accept`]: what is missing there is not the peer's.
    #[inline]
    pub fn handle_frame<'a>(&mut self, raw: RawFrame<'a>) -> Result<ServerEvent<'a>, Violation> {
        assert!(self.state != State::Preface, "the preface is handled before any frame");
        assert!(self.state != State::Accepting, "HELLO is accepted before the next frame");
        let Head { kind, call, .. } = raw.head;
        let frame = Frame::parse(raw)?;
        if !kind.takes_call(call) {
            return Err(out_of_turn(kind, "the call id is not of the kind's class")); // FR-12
        }
        match (self.state, frame) {
            (_, Frame::Skipped(_)) => Ok(ServerEvent::Skipped), // FR-7
            (_, Frame::Close(close)) => Ok(ServerEvent::Closed(close)),
            (State::Hello, Frame::Hello(hello)) => {
                self.transcript.write(raw.bytes); // HS-7
                self.client = Some(hello);
                self.state = State::Accepting;
                Ok(ServerEvent::Hello)
            }
            (State::Open, Frame::Request(request)) => self.handle_request(request),
            (State::Open, Frame::Cancel(call)) if self.is_thrown_away(call) => {
                Ok(ServerEvent::Nothing) // LD-9
            }
            (State::Open, Frame::Cancel(call)) if call <= self.highest => {
                Ok(ServerEvent::Cancel(call)) // CA-12
            }
            (State::Open, Frame::Data(data)) => self.handle_data(data),
            (State::Open, Frame::Credit(bytes)) => Ok(ServerEvent::Credit(bytes)),
            (State::Open, Frame::Ping(echo)) => Ok(ServerEvent::Ping(echo)), // LD-1
            (State::Open, Frame::Pong(echo)) => Ok(self.handle_pong(echo)),  // LD-1, LD-7
            (_, _) => Err(out_of_turn(kind, "a server does not expect it in this state")), // FR-12
        }
    }

    /// Methods outside of the table may be answered: HELLO_ACK is to say so (CA-17).
    pub const fn set_fallback(&mut self) {
        self.has_fallback = true;
    }

    /// A frame that has come whole, of which only the header was kept: there was no memory for its
    /// body (CA-11).
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    pub fn handle_skipped(&mut self, head: Head) -> Result<ServerEvent<'static>, Violation> {
        let Head { kind, call, .. } = head;
        if kind.is_skippable() {
            return Ok(ServerEvent::Skipped); // FR-7
        }
        if kind == Kind::DATA && kind.takes_call(call) && self.is_open() {
            let payload = head.body_len as usize - BODY_CRC_BYTES - usize::from(head.ext_len);
            self.window.take(payload)?;
            let is_expected = self.uploads.contains_key(&call);
            return Ok(if is_expected {
                ServerEvent::LostPiece(call)
            } else {
                ServerEvent::Nothing
            });
        }
        if kind != Kind::REQUEST || !kind.takes_call(call) || !self.is_open() {
            return Err(out_of_turn(kind, "a server does not expect it in this state")); // FR-12
        }
        if self.admit(call)? {
            let why = "no memory for its body";
            return Ok(ServerEvent::Refuse(call, Code::OVERLOADED, why));
        }
        Ok(ServerEvent::Nothing)
    }

    /// Answers HELLO: appends HELLO_ACK, and the table unless the client knows it (HS-5, RT-4).
    pub fn accept(&mut self, table: &TablePayload, out: &mut Vec<u8>) {
        let ack = HelloAck {
            frame_bytes_max: self.limits.frame_bytes_max,
            calls_max: self.limits.calls_max,
            codecs: self.limits.codecs.clone(),
            build: self.limits.build.clone(),
            table: table.hash,
            transcript: self.transcript.finish(),
            has_fallback: self.has_fallback,
            window_connection: Some(self.limits.window_connection),
        };
        append_control(out, Kind::HELLO_ACK, CallId::CONNECTION, &ack.to_ext(), &[]);
        let known = self.client.as_ref().is_some_and(|hello| hello.tables.contains(&table.hash));
        if !known {
            append_control(out, Kind::TABLE, CallId::CONNECTION, &[], &table.to_bytes());
        }
        self.state = State::Open;
    }

    /// A request has ended before its last piece came: what still comes is thrown away (FL-7).
    pub fn end_upload(&mut self, call: CallId) {
        self.uploads.remove(&call);
    }

    /// Whether requests have begun whose last piece has not come; the lowest of them.
    #[must_use]
    pub fn first_upload(&self) -> Option<CallId> {
        self.uploads.iter().next().map(|(call, _)| *call)
    }

    /// A piece came after the last one of its request (FL-8).
    #[must_use]
    pub const fn stray() -> Violation {
        out_of_turn(Kind::DATA, "its request has ended")
    }

    /// The books of the fragments that came: what they are, and what is to be granted.
    pub const fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// What the client said of itself; `None` until HELLO.
    #[must_use]
    pub const fn client(&self) -> Option<&Hello> {
        self.client.as_ref()
    }

    /// The highest REQUEST id that was read and not thrown away: what a CLOSE names (LD-4, LD-9).
    #[must_use]
    pub const fn last_call(&self) -> CallId {
        match self.leaving {
            Leaving::No | Leaving::Announced { .. } => self.highest,
            Leaving::Final(last) => last,
        }
    }

    /// Says that no further call is wanted, and asks to be told when that was read (LD-7). Once.
    pub fn announce_goaway(&mut self, reason: CloseReason, grace: Duration, out: &mut Vec<u8>) {
        if self.leaving == Leaving::No && self.is_open() {
            let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
            self.leaving = Leaving::Announced { reason, grace_ms };
            Goaway { last_call: Goaway::ANY_CALL, reason, grace_ms }.append(out);
            append_control(out, Kind::PING, CallId::CONNECTION, &[], &GOAWAY_PING);
        }
    }

    /// Names the last call that was read; what comes after it is thrown away (LD-7, LD-9). Once.
    pub fn finish_goaway(&mut self, out: &mut Vec<u8>) {
        if let Leaving::Announced { reason, grace_ms } = self.leaving {
            self.leaving = Leaving::Final(self.highest);
            let is_lie = is_seeded(Bug::GoawayLies);
            let last_call = if is_lie { CallId::CONNECTION } else { self.highest };
            Goaway { last_call, reason, grace_ms }.append(out);
        }
    }

    /// Whether the first GOAWAY was sent.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Whether the first GOAWAY was sent, and the second one was not.
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        matches!(self.leaving, Leaving::Announced { .. })
    }

    /// Whether the second GOAWAY was sent: nothing is admitted any more.
    #[must_use]
    pub const fn has_left(&self) -> bool {
        matches!(self.leaving, Leaving::Final(_))
    }

    /// Whether the client's preface was read, and answered with our own.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.state != State::Preface
    }

    /// Whether the handshake is through.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the client was told that this call is not read.
    fn is_thrown_away(&self, call: CallId) -> bool {
        matches!(self.leaving, Leaving::Final(last) if call > last && call <= self.highest)
    }

    fn handle_pong(&self, echo: [u8; 8]) -> ServerEvent<'static> {
        if self.is_announced() && echo == GOAWAY_PING {
            ServerEvent::GoawayRead
        } else {
            ServerEvent::Pong
        }
    }

    /// A REQUEST was read. Says whether it is for somebody, or to be thrown away.
    fn admit(&mut self, call: CallId) -> Result<bool, Violation> {
        if call <= self.highest {
            return Err(Violation::CallId { id: call.0, last: self.highest.0 }); // CA-1
        }
        self.highest = call;
        let is_lost = self.is_leaving() && is_seeded(Bug::GoawayLoses);
        Ok(!self.has_left() && !is_lost) // LD-9
    }

    /// A piece of a request, or of one that has ended (FL-8).
    fn handle_data<'a>(&mut self, data: Data<'a>) -> Result<ServerEvent<'a>, Violation> {
        let Data { call, has_more, payload } = data;
        if !is_seeded(Bug::CreditForgets) || self.uploads.contains_key(&call) {
            self.window.take(payload.len())?;
        }
        if call > self.highest {
            return Err(out_of_turn(Kind::DATA, "no request has begun with its call id"));
        }
        let max = self.limits.frame_bytes_max;
        let Some(length) = self.uploads.get_mut(&call) else {
            return Ok(ServerEvent::Stray(data));
        };
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(*length);
        if bytes > max {
            return Err(DecodeError::FrameTooLarge { bytes, max }.into()); // FL-4
        }
        *length = bytes;
        if !has_more {
            self.uploads.remove(&call);
        }
        Ok(ServerEvent::Piece(data))
    }

    /// The first three checks of CA-3; the others need the server's tables.
    #[inline]
    fn handle_request<'a>(&mut self, request: Request<'a>) -> Result<ServerEvent<'a>, Violation> {
        let Request { call, flags, .. } = request;
        if !self.admit(call)? {
            return Ok(ServerEvent::Nothing);
        }
        if flags.unknown_critical(Kind::REQUEST) != 0 {
            let why = "a flag of the request is not known here";
            return Ok(ServerEvent::Refuse(call, Code::UNSUPPORTED_FLAG, why)); // FR-8
        }
        match request.check_ext() {
            Ok(()) => {
                if flags.has_more() {
                    let parts = [REQUEST_FIXED_BYTES, request.ext.len(), request.payload.len()];
                    let length = parts.iter().sum::<usize>() + BODY_CRC_BYTES;
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    self.uploads.insert(call, length);
                }
                Ok(ServerEvent::Request(request))
            }
            Err(error) => {
                let why = match error {
                    crate::wire::TlvError::UnknownCritical(_) => "a critical key is not known here",
                    crate::wire::TlvError::Malformed(why) => why,
                };
                Ok(ServerEvent::Refuse(call, Code::BAD_METADATA, why)) // FR-9, FR-10
            }
        }
    }
}

/// The PING behind the first GOAWAY; those of the keepalive have other bytes.
const GOAWAY_PING: [u8; 8] = *b"goaway 1";

const fn out_of_turn(kind: Kind, why: &'static str) -> Violation {
    Violation::OutOfTurn { kind: kind.0, why }
}
