//! The client's side of a connection.
//!
//! ```text
//! Preface --preface--> Hello --HELLO_ACK--> Table --TABLE--> Open
//!                                   \--(hash known)--------> Open
//! ```
//!
//! Invariant: a frame that may not come in a state is a violation (FR-12), never ignored.
//! Requests may be sent in every state, within what the peer accepts unseen (HS-8).

use std::sync::Arc;
use std::time::Instant;

use crate::proto::{CallTable, KnownTable, TableCache, Violation, Window};
use crate::util::fnv64;
use crate::wire::append_control;
use crate::wire::{CallId, Close, Data, EARLY_CALLS_MAX, FRAME_BYTES_FLOOR, Frame, Head, Hello};
use crate::wire::{
    Goaway, HelloAck, Kind, Preface, RawFrame, TableError, TablePayload, VersionRange,
};

/// One connection as its client sees it. `T` is the token of a call, see [`CallTable`].
#[derive(Debug)]
pub struct ClientConnection<T> {
    state: State,
    limits: ClientLimits,
    transcript: u64,
    server: Option<HelloAck>,
    table: Option<Arc<KnownTable>>,
    cache: TableCache,
    /// The lowest call that a GOAWAY has named, once there was one.
    last_call: Option<CallId>,
    window: Window,
    /// The calls in flight.
    pub calls: CallTable<T>,
}

/// What a client brings to a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientLimits {
    /// Protocol versions offered.
    pub versions: VersionRange,
    /// `body_len` accepted from the server.
    pub frame_bytes_max: u32,
    /// Calls in flight, at most; the server may allow fewer.
    pub calls_max: u32,
    /// Bytes of fragments taken before some must be granted again (FL-10).
    pub window_connection: u32,
    /// Codecs, ascending.
    pub codecs: Vec<u8>,
    /// Which build this is, for people.
    pub build: String,
    /// The id of the first call, odd: 1, but where the end of the ids is to come soon.
    pub first_call: CallId,
}

/// What a frame meant.
#[derive(Debug)]
pub enum ClientEvent<'a, T> {
    /// The server is known; its table is too, if it was remembered.
    Accepted,
    /// The server's table, the first or a changed one.
    Table,
    /// A call was answered; its owner waits with this token.
    Answered(&'a mut T),
    /// A call was answered that its owner had given up: a place became free.
    Freed,
    /// A piece of an answer was filed, or thrown away. So much credit is to be granted, if it is.
    Piece(Option<u32>),
    /// The server takes so many bytes of fragments more.
    Credit(u32),
    /// To be echoed (LD-1).
    Ping([u8; 8]),
    /// A PING of ours was answered.
    Pong,
    /// The frame asked for nothing: a kind that is skipped.
    Skipped,
    /// The server wants us elsewhere: no further call here (LD-10).
    GoingAway(Goaway),
    /// The server says farewell.
    Closed(Close<'a>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Preface,
    Hello,
    Table,
    Open,
}

impl<T: Default> ClientConnection<T> {
    /// Begins: appends the preface and HELLO to `out` (HS-1, HS-5).
    #[must_use]
    pub fn new(limits: ClientLimits, cache: TableCache, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&Preface(limits.versions).to_bytes());
        let hello = Hello {
            frame_bytes_max: limits.frame_bytes_max,
            codecs: limits.codecs.clone(),
            build: limits.build.clone(),
            tables: cache.hashes(), // RT-4
            window_connection: Some(limits.window_connection),
        };
        append_control(out, Kind::HELLO, CallId::CONNECTION, &hello.to_ext(), &[]);
        // Not one of them is answered before HELLO_ACK: so many are sent, at most (HS-8).
        let calls = CallTable::new(limits.calls_max.min(EARLY_CALLS_MAX) as usize);
        let calls = calls.beginning_at(limits.first_call);
        let calls = calls.with_frame_bytes_max(limits.frame_bytes_max);
        let transcript = fnv64(&out[start..]);
        let state = State::Preface;
        let (server, table, last_call) = (None, None, None);
        let window = Window::new(limits.window_connection);
        Self { state, limits, transcript, server, table, cache, last_call, window, calls }
    }

    /// The server's first bytes.
    ///
    /// # Errors
    /// [`Violation::Preface`] for a range that is none (HS-3), [`Violation::NoCommonVersion`].
    pub fn handle_preface(&mut self, preface: Preface) -> Result<(), Violation> {
        let (ours, theirs) = (self.limits.versions, preface.0);
        theirs.check()?;
        if ours.choose(theirs).is_none() {
            return Err(Violation::NoCommonVersion { ours, theirs }); // HS-4
        }
        self.state = State::Hello;
        Ok(())
    }

    /// A frame.
    ///
    /// # Errors
    /// [`Violation`]; the connection must be closed.
    #[inline]
    pub fn handle_frame<'a>(
        &'a mut self,
        raw: RawFrame<'a>,
    ) -> Result<ClientEvent<'a, T>, Violation> {
        let Head { kind, call, .. } = raw.head;
        let frame = Frame::parse(raw)?;
        if !kind.takes_call(call) {
            return Err(out_of_turn(kind, "the call id is not of the kind's class")); // FR-12
        }
        match (self.state, frame) {
            (_, Frame::Skipped(_)) => Ok(ClientEvent::Skipped), // FR-7
            (_, Frame::Close(close)) => Ok(ClientEvent::Closed(close)),
            (State::Hello, Frame::HelloAck(ack)) => self.handle_hello_ack(ack),
            (State::Table, Frame::Table(payload)) => self.handle_table(payload),
            (State::Open, Frame::TableUpdate(update)) => {
                let table = self.table.as_ref();
                let table = table.ok_or_else(|| out_of_turn(kind, "no table to update"))?;
                self.set_table(table.updated(update)?); // RT-5
                Ok(ClientEvent::Table)
            }
            (State::Open, Frame::Response(response)) => {
                let token = self.calls.handle_response(&response)?;
                Ok(token.map_or(ClientEvent::Freed, ClientEvent::Answered))
            }
            (State::Open, Frame::Data(data)) => self.handle_data(data),
            (State::Table | State::Open, Frame::Credit(bytes)) => Ok(ClientEvent::Credit(bytes)),
            (State::Table | State::Open, Frame::Ping(echo)) => Ok(ClientEvent::Ping(echo)), // LD-1
            (State::Table | State::Open, Frame::Pong(_)) => Ok(ClientEvent::Pong),          // LD-1
            (State::Table | State::Open, Frame::Goaway(goaway)) => self.handle_goaway(goaway),
            (_, _) => Err(out_of_turn(kind, "a client does not expect it in this state")), // FR-12
        }
    }

    /// Whether calls may be opened: the server did not send us away (LD-10), and ids are left.
    #[must_use]
    pub const fn may_open(&self) -> bool {
        self.last_call.is_none() && !self.calls.is_exhausted()
    }

    /// The server's table; `None` until it is known, and some calls wait for that (RT-7).
    #[must_use]
    pub const fn table(&self) -> Option<&Arc<KnownTable>> {
        self.table.as_ref()
    }

    /// Every table worth remembering, for the next connection.
    #[must_use]
    pub const fn cache(&self) -> &TableCache {
        &self.cache
    }

    /// What the server said of itself; `None` until HELLO_ACK.
    #[must_use]
    pub const fn server(&self) -> Option<&HelloAck> {
        self.server.as_ref()
    }

    /// `body_len` that the server accepts, as far as is known yet (FR-4).
    #[must_use]
    pub fn frame_bytes_max(&self) -> u32 {
        self.server.as_ref().map_or(FRAME_BYTES_FLOOR, |ack| ack.frame_bytes_max)
    }

    /// Whether the server said that it lacks our codecs (CA-6).
    #[must_use]
    pub fn is_codec_refused(&self) -> bool {
        let ours = &self.limits.codecs;
        self.server.as_ref().is_some_and(|ack| !ours.iter().any(|id| ack.codecs.contains(id)))
    }

    /// Bytes of fragments that the server takes at a time; `None`: none, or it is not known yet.
    #[must_use]
    pub fn fragments(&self) -> Option<u32> {
        self.server.as_ref().and_then(|ack| ack.window_connection)
    }

    /// When the first deadline may come.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.calls.next_deadline()
    }

    /// A piece of an answer (FL-3).
    fn handle_data(&mut self, data: Data<'_>) -> Result<ClientEvent<'_, T>, Violation> {
        self.window.take(data.payload.len())?;
        if !data.has_more {
            return Err(out_of_turn(Kind::DATA, "it ends a message that a RESPONSE has to")); // FL-8
        }
        self.calls.handle_data(&data)?;
        Ok(if data.payload.is_empty() {
            ClientEvent::Skipped // FL-8
        } else {
            ClientEvent::Piece(self.window.grant())
        })
    }

    fn handle_hello_ack(&mut self, ack: HelloAck) -> Result<ClientEvent<'_, T>, Violation> {
        if ack.transcript != self.transcript {
            let (ours, theirs) = (self.transcript, ack.transcript);
            return Err(Violation::Transcript { ours, theirs }); // HS-7
        }
        // CA-11
        self.calls.set_calls_max(ack.calls_max.min(self.limits.calls_max) as usize);
        self.state = State::Table;
        // What HELLO named is still held: the cache changes with the table only (RT-4).
        if let Some(table) = self.cache.find(ack.table) {
            self.table = Some(table);
            self.state = State::Open;
        }
        self.server = Some(ack);
        Ok(ClientEvent::Accepted)
    }

    /// The table that HELLO_ACK announced, and no other (RT-4).
    fn handle_table(&mut self, payload: TablePayload) -> Result<ClientEvent<'_, T>, Violation> {
        let table = KnownTable::new(payload)?;
        let named = self.server.as_ref().map_or_else(|| table.hash(), |ack| ack.table);
        if table.hash() != named {
            return Err(TableError::Hash { computed: table.hash(), named }.into());
        }
        self.set_table(table);
        Ok(ClientEvent::Table)
    }

    fn handle_goaway(&mut self, goaway: Goaway) -> Result<ClientEvent<'_, T>, Violation> {
        if self.last_call.is_some_and(|last| goaway.last_call > last) {
            return Err(out_of_turn(Kind::GOAWAY, "its last call rises")); // LD-7
        }
        self.last_call = Some(goaway.last_call);
        Ok(ClientEvent::GoingAway(goaway))
    }

    fn set_table(&mut self, table: KnownTable) {
        let table = Arc::new(table);
        self.cache.remember(Arc::clone(&table));
        self.table = Some(table);
        self.state = State::Open;
    }
}

const fn out_of_turn(kind: Kind, why: &'static str) -> Violation {
    Violation::OutOfTurn { kind: kind.0, why }
}
