//! Both state machines with what feeds them, for tests: bytes in, a line per event and bytes out.

use std::time::Duration;

use switchback::proto::{ClientConnection, ClientEvent, ClientLimits, Inbound, Input, TableCache};
use switchback::proto::{ServerConnection, ServerEvent, ServerLimits, Violation};
use switchback::wire::{CallId, MethodId, MethodRow, TablePayload, VersionRange, VersionRow};

use crate::spec::bytes::{HELLO, HELLO_ACK, Parts, fnv64, tlv};
use crate::spec::now;

/// A server's connection, as far as the wire goes.
pub(crate) struct Server {
    pub(crate) connection: ServerConnection,
    pub(crate) inbound: Inbound,
    pub(crate) table: TablePayload,
    /// What it wrote.
    pub(crate) out: Vec<u8>,
}

/// A client's connection. Its calls carry a number.
pub(crate) struct Client {
    pub(crate) connection: ClientConnection<u32>,
    inbound: Inbound,
    /// What it wrote.
    pub(crate) out: Vec<u8>,
}

impl Server {
    /// A server that has read nothing.
    pub(crate) fn new(limits: ServerLimits, table: TablePayload) -> Self {
        let inbound = Inbound::new(limits.frame_bytes_max);
        Self { connection: ServerConnection::new(limits), inbound, table, out: Vec::new() }
    }

    /// A server after the handshake.
    pub(crate) fn open() -> Self {
        let mut server = Self::new(server_limits(), table(&[]));
        let seen = server.feed(&[&PREFACE[..], &Parts::sound(HELLO).build()].concat());
        assert_eq!(seen.expect("a sound handshake"), ["preface", "hello"]);
        server
    }

    /// Handles bytes: one line for each thing they meant. Leftovers are forgotten.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, Violation> {
        let mut seen = Vec::new();
        while let Some((input, used)) = self.inbound.next(bytes)? {
            bytes = &bytes[used..];
            seen.push(match input {
                Input::Preface(preface) => {
                    self.connection.handle_preface(preface, &mut self.out)?;
                    "preface".to_owned()
                }
                Input::Frame(raw) => match self.connection.handle_frame(raw)? {
                    ServerEvent::Nothing | ServerEvent::Skipped => "nothing".to_owned(),
                    ServerEvent::Pong => "pong".to_owned(),
                    ServerEvent::GoawayRead => "goaway read".to_owned(),
                    ServerEvent::Hello => {
                        self.connection.accept(&self.table, &mut self.out);
                        "hello".to_owned()
                    }
                    ServerEvent::Request(request) => format!("request {}", request.call.0),
                    ServerEvent::Refuse(call, code, _) => format!("refuse {} {code}", call.0),
                    ServerEvent::Cancel(call) => format!("cancel {}", call.0),
                    ServerEvent::Piece(data) => format!("piece {}", data.call.0),
                    ServerEvent::Stray(data) => format!("stray {}", data.call.0),
                    ServerEvent::LostPiece(call) => format!("lost piece {}", call.0),
                    ServerEvent::Credit(bytes) => format!("credit {bytes}"),
                    ServerEvent::Ping(echo) => format!("ping {echo:?}"),
                    ServerEvent::Closed(close) => {
                        format!("closed {} {} {}", close.reason, close.last_call.0, close.detail)
                    }
                },
            });
        }
        Ok(seen)
    }
}

impl Client {
    /// A client that has written its preface and HELLO.
    pub(crate) fn new(limits: ClientLimits, cache: TableCache) -> Self {
        let inbound = Inbound::new(limits.frame_bytes_max);
        let mut out = Vec::new();
        let connection = ClientConnection::new(limits, cache, &mut out);
        Self { connection, inbound, out }
    }

    /// A client after HELLO_ACK, which announced `table`, but before TABLE.
    pub(crate) fn accepted(table: &TablePayload) -> Self {
        let mut client = Self::new(client_limits(), TableCache::default());
        let ack = ack_for(&client, table.hash).build();
        let seen = client.feed(&[&PREFACE[..], &ack].concat()).expect("a sound handshake");
        assert_eq!(seen, ["preface", "accepted"]);
        client.out.clear();
        client
    }

    /// A client after the handshake.
    pub(crate) fn open(table: &TablePayload) -> Self {
        let mut client = Self::accepted(table);
        let frame = Parts::sound(crate::spec::bytes::TABLE).payload(&table.to_bytes());
        assert_eq!(client.feed(&frame.build()).expect("a sound table"), ["table"]);
        client
    }

    /// Opens a call that ends in a minute.
    pub(crate) fn call(&mut self, token: u32) -> CallId {
        let deadline = now() + Duration::from_secs(60);
        self.connection.calls.open(deadline, 0, token).expect("there is room").id
    }

    /// Handles bytes: one line for each thing they meant. Leftovers are forgotten.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, Violation> {
        let mut seen = Vec::new();
        while let Some((input, used)) = self.inbound.next(bytes)? {
            bytes = &bytes[used..];
            seen.push(match input {
                Input::Preface(preface) => {
                    self.connection.handle_preface(preface)?;
                    "preface".to_owned()
                }
                Input::Frame(raw) => match self.connection.handle_frame(raw)? {
                    ClientEvent::Skipped => "nothing".to_owned(),
                    ClientEvent::Pong => "pong".to_owned(),
                    ClientEvent::GoingAway(goaway) => format!("goaway {}", goaway.last_call.0),
                    ClientEvent::Accepted => "accepted".to_owned(),
                    ClientEvent::Table => "table".to_owned(),
                    ClientEvent::Answered(token) => format!("answered {token}"),
                    ClientEvent::Freed => "freed".to_owned(),
                    ClientEvent::Piece(None) => "piece".to_owned(),
                    ClientEvent::Piece(Some(bytes)) => format!("piece, to grant {bytes}"),
                    ClientEvent::Credit(bytes) => format!("credit {bytes}"),
                    ClientEvent::Ping(echo) => format!("ping {echo:?}"),
                    ClientEvent::Closed(close) => {
                        format!("closed {} {} {}", close.reason, close.last_call.0, close.detail)
                    }
                },
            });
        }
        Ok(seen)
    }
}

/// A HELLO_ACK that answers this client's preface and HELLO.
pub(crate) fn ack_for(client: &Client, table: u64) -> Parts {
    let transcript = fnv64(&client.out);
    let numbers = [tlv(1, &[0, 1, 0, 0]), tlv(2, &[0, 0, 0, 4]), tlv(3, &[1])].concat();
    let hashes = [tlv(5, &table.to_be_bytes()), tlv(6, &transcript.to_be_bytes())].concat();
    Parts::sound(HELLO_ACK).ext(&[numbers, hashes].concat())
}

pub(crate) fn server_limits() -> ServerLimits {
    ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: 4_194_304,
        calls_max: 1024,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: "ledger 2.0.0".to_owned(),
    }
}

pub(crate) fn client_limits() -> ClientLimits {
    ClientLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: 4_194_304,
        calls_max: 1024,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: "ledger-client 1.4.0".to_owned(),
        first_call: CallId(1),
    }
}

/// A table of methods, each with its ceiling and its versions.
pub(crate) fn table(methods: &[(u32, u16, &[u16])]) -> TablePayload {
    let rows = methods.iter().map(|(method, ceiling, versions)| {
        let rows = versions.iter().map(|version| VersionRow { version: *version, fingerprint: 9 });
        MethodRow { method: MethodId(*method), ceiling: *ceiling, versions: rows.collect() }
    });
    let mut table = TablePayload { hash: 0, rows: rows.collect() };
    table.hash = fnv64(&table.to_bytes()[8..]);
    table
}

/// The name of the reason with which a violation closes.
pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Violation>) -> &'static str {
    let violation = result.expect_err("the peer broke a rule");
    violation.close_reason().name().expect("a reason that the specification has")
}

pub(crate) const PREFACE: [u8; 8] = *b"SWBK\x00\x01\x00\x01";
