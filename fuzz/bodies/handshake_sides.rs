//! A server and a client that do nothing but greet, as their drivers would run them.

use switchback::proto::{ClientConnection, ClientEvent, ClientLimits, Inbound, Input};
use switchback::proto::{ServerConnection, ServerEvent, ServerLimits, TableCache, Violation};
use switchback::wire::{
    CallId, Close, CloseReason, DecodeError, FRAME_BYTES_HANDSHAKE, HEAD_BYTES,
};
use switchback::wire::{TablePayload, seal_frame};

/// Why a side has ended the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    Violation(Violation),
    /// The other side said why.
    Closed(CloseReason),
}

pub(super) struct Server {
    pub(super) proto: ServerConnection,
    limits: ServerLimits,
    table: TablePayload,
    inbound: Inbound,
    input: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) requests: Vec<CallId>,
    pub(super) stop: Option<Stop>,
}

pub(super) struct Client {
    pub(super) proto: ClientConnection<u8>,
    limits: ClientLimits,
    inbound: Inbound,
    input: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) stop: Option<Stop>,
}

impl Server {
    pub(super) fn new(limits: ServerLimits, table: TablePayload) -> Self {
        Self {
            proto: ServerConnection::new(limits.clone()),
            inbound: Inbound::new(limits.frame_bytes_max),
            limits,
            table,
            input: Vec::new(),
            out: Vec::new(),
            requests: Vec::new(),
            stop: None,
        }
    }

    /// Bytes come.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while self.stop.is_none() {
            check_limit(
                &self.inbound,
                &input[at..],
                self.proto.client().is_some().then_some(self.limits.frame_bytes_max),
            );
            let result = match self.inbound.next(&input[at..]) {
                Ok(None) => break,
                Ok(Some((piece, used))) => {
                    at += used;
                    self.handle(piece)
                }
                Err(violation) => Err(violation),
            };
            if let Err(violation) = result {
                self.stop = Some(Stop::Violation(violation));
                let reason = reason_of(violation);
                if self.proto.is_greeted() {
                    let last_call = self.proto.last_call();
                    Close { reason, last_call, detail: "" }.append(&mut self.out);
                } else {
                    assert!(self.out.is_empty(), "a word before the preface was read");
                    assert_eq!(reason, CloseReason::NOT_SWITCHBACK);
                }
            }
        }
        input.drain(..at);
        self.input = input;
    }

    fn handle(&mut self, piece: Input<'_>) -> Result<(), Violation> {
        let raw = match piece {
            Input::Preface(preface) => return self.proto.handle_preface(preface, &mut self.out),
            Input::Frame(raw) => raw,
        };
        match self.proto.handle_frame(raw)? {
            ServerEvent::Hello => {
                assert!(!self.proto.is_open() && self.proto.client().is_some());
                self.proto.accept(&self.table, &mut self.out);
                assert!(self.proto.is_open());
            }
            ServerEvent::Request(request) => {
                assert!(self.proto.is_open(), "a call before the handshake");
                self.requests.push(request.call);
            }
            ServerEvent::Closed(close) => self.stop = Some(Stop::Closed(close.reason)),
            ServerEvent::Skipped => {}
            event => assert!(self.proto.is_open(), "{event:?} before the handshake"),
        }
        Ok(())
    }
}

impl Client {
    pub(super) fn new(limits: ClientLimits, cache: TableCache) -> Self {
        let mut out = Vec::new();
        Self {
            proto: ClientConnection::new(limits.clone(), cache, &mut out),
            inbound: Inbound::new(limits.frame_bytes_max),
            limits,
            input: Vec::new(),
            out,
            stop: None,
        }
    }

    /// Bytes come.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        while self.stop.is_none() {
            check_limit(
                &self.inbound,
                &input[at..],
                self.proto.server().is_some().then_some(self.limits.frame_bytes_max),
            );
            let result = match self.inbound.next(&input[at..]) {
                Ok(None) => break,
                Ok(Some((piece, used))) => {
                    at += used;
                    self.handle(piece)
                }
                Err(violation) => Err(violation),
            };
            if let Err(violation) = result {
                self.stop = Some(Stop::Violation(violation));
                let reason = reason_of(violation);
                let is_stranger = [CloseReason::NOT_SWITCHBACK, CloseReason::NO_COMMON_VERSION];
                if !is_stranger.contains(&reason) {
                    let last_call = CallId::CONNECTION;
                    Close { reason, last_call, detail: "" }.append(&mut self.out);
                }
            }
        }
        input.drain(..at);
        self.input = input;
    }

    fn handle(&mut self, piece: Input<'_>) -> Result<(), Violation> {
        let raw = match piece {
            Input::Preface(preface) => return self.proto.handle_preface(preface),
            Input::Frame(raw) => raw,
        };
        let is_acked = self.proto.server().is_some();
        match self.proto.handle_frame(raw)? {
            ClientEvent::Accepted => assert!(!is_acked, "accepted twice"),
            ClientEvent::Closed(close) => self.stop = Some(Stop::Closed(close.reason)),
            ClientEvent::Skipped => {}
            event => assert!(is_acked, "{event:?} before HELLO_ACK"),
        }
        Ok(())
    }
}

/// Every violation has a reason and a text for people.
fn reason_of(violation: Violation) -> CloseReason {
    let reason = violation.close_reason();
    assert!(reason.name().is_some() && !violation.to_string().is_empty());
    reason
}

/// At the start of a frame: a body as long as allowed is waited for, a longer one is not (FR-4).
/// `limit` is the side's own, once the handshake's frame of the peer was read.
fn check_limit(inbound: &Inbound, rest: &[u8], limit: Option<u32>) {
    if !rest.is_empty() || inbound.missing_bytes(0) != HEAD_BYTES {
        return;
    }
    let limit = limit.unwrap_or(FRAME_BYTES_HANDSHAKE);
    let mut head = vec![0; HEAD_BYTES];
    head[..4].copy_from_slice(&limit.to_be_bytes());
    head[4] = 0x90;
    seal_frame(&mut head, CallId::CONNECTION);
    assert_eq!(inbound.clone().next(&head), Ok(None), "{limit} bytes are allowed");
    let Some(bytes) = limit.checked_add(1) else { return };
    head[..4].copy_from_slice(&bytes.to_be_bytes());
    seal_frame(&mut head, CallId::CONNECTION);
    let refused = DecodeError::FrameTooLarge { bytes, max: limit };
    assert_eq!(inbound.clone().next(&head), Err(refused.into()));
}
