//! The server's side of a connection: handshake, order of call ids, what a frame asks for.
//!
//! ```text
//! Preface --preface--> Hello --HELLO--> Accepting --accept()--> Open
//! ```
//!
//! Invariants: the server says nothing before it has read the whole preface (HS-2); ids are odd
//! and increase (CA-1); every REQUEST that was read is handed out exactly once, to be answered
//! exactly once by the owner (CA-2).

use crate::proto::Violation;
use crate::util::Fnv64;
use crate::wire::Request;
use crate::wire::{CallId, Close, Code, Frame, Head, Hello, HelloAck, Kind, Preface, RawFrame};
use crate::wire::{TablePayload, VersionRange, append_control};

/// One connection as its server sees it.
#[derive(Debug)]
pub struct ServerConnection {
    state: State,
    limits: ServerLimits,
    transcript: Fnv64,
    client: Option<Hello>,
    last_call: CallId,
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
    /// A call to be answered.
    Request(Request<'a>),
    /// A call that must be refused, and why: the frame asks for what is not known (CA-3).
    Refuse(CallId, Code, &'static str),
    /// The caller takes the call back; it may have ended already.
    Cancel(CallId),
    /// To be echoed.
    Ping([u8; 8]),
    /// The client says farewell.
    Closed(Close<'a>),
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
        let (transcript, last_call) = (Fnv64::new(), CallId::CONNECTION);
        Self { state: State::Preface, limits, transcript, client: None, last_call }
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
    pub fn handle_frame<'a>(&mut self, raw: RawFrame<'a>) -> Result<ServerEvent<'a>, Violation> {
        assert!(self.state != State::Preface, "the preface is handled before any frame");
        assert!(self.state != State::Accepting, "HELLO is accepted before the next frame");
        let Head { kind, call, .. } = raw.head;
        let frame = Frame::parse(raw)?;
        if !kind.takes_call(call) {
            return Err(out_of_turn(kind, "the call id is not of the kind's class")); // FR-12
        }
        match (self.state, frame) {
            (_, Frame::Skipped(_)) => Ok(ServerEvent::Nothing), // FR-7
            (_, Frame::Close(close)) => Ok(ServerEvent::Closed(close)),
            (State::Hello, Frame::Hello(hello)) => {
                self.transcript.write(raw.bytes); // HS-7
                self.client = Some(hello);
                self.state = State::Accepting;
                Ok(ServerEvent::Hello)
            }
            (State::Open, Frame::Request(request)) => self.handle_request(request),
            (State::Open, Frame::Cancel(call)) if call <= self.last_call => {
                Ok(ServerEvent::Cancel(call)) // CA-12
            }
            (State::Open, Frame::Ping(echo)) => Ok(ServerEvent::Ping(echo)), // LD-1
            (State::Open, Frame::Pong(_)) => Ok(ServerEvent::Nothing),       // LD-1
            (_, _) => Err(out_of_turn(kind, "a server does not expect it in this state")), // FR-12
        }
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
        };
        append_control(out, Kind::HELLO_ACK, CallId::CONNECTION, &ack.to_ext(), &[]);
        let known = self.client.as_ref().is_some_and(|hello| hello.tables.contains(&table.hash));
        if !known {
            append_control(out, Kind::TABLE, CallId::CONNECTION, &[], &table.to_bytes());
        }
        self.state = State::Open;
    }

    /// What the client said of itself; `None` until HELLO.
    #[must_use]
    pub const fn client(&self) -> Option<&Hello> {
        self.client.as_ref()
    }

    /// The highest REQUEST id that was read: what a CLOSE names (LD-4).
    #[must_use]
    pub const fn last_call(&self) -> CallId {
        self.last_call
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

    /// The first three checks of CA-3; the others need the server's tables.
    fn handle_request<'a>(&mut self, request: Request<'a>) -> Result<ServerEvent<'a>, Violation> {
        let Request { call, flags, .. } = request;
        if call <= self.last_call {
            return Err(Violation::CallId { id: call.0, last: self.last_call.0 }); // CA-1
        }
        self.last_call = call;
        if flags.unknown_critical() != 0 {
            let why = "a flag of the request is not known here";
            return Ok(ServerEvent::Refuse(call, Code::UNSUPPORTED_FLAG, why)); // FR-8
        }
        match request.check_ext() {
            Ok(()) => Ok(ServerEvent::Request(request)),
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

const fn out_of_turn(kind: Kind, why: &'static str) -> Violation {
    Violation::OutOfTurn { kind: kind.0, why }
}
