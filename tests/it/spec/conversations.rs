//! `conversations.json`: the worked example, spoken by both state machines, byte by byte.

use std::time::Duration;

use serde_json::Value;
use switchback::proto::{CallOutcome, Cancelled, TableCache, VersionChoice};
use switchback::wire::{CallId, Close, CloseReason, Code, Disposition, Kind, MethodId, Tlvs};
use switchback::wire::{
    RequestFields, TablePayload, append_control, begin_request, begin_response,
};
use switchback::wire::{finish_frame, push_tlv, response_keys, seal_frame};

use crate::spec::now;
use crate::spec::peers::{Client, Server, client_limits, server_limits};
use crate::spec::{list, text, unhex, vectors};

/// The conversation, and how far it was spoken.
struct Script {
    lines: Vec<Value>,
    at: usize,
    client: Client,
    server: Server,
}

impl Script {
    fn new() -> Self {
        let lines = vectors("conversations.json").as_array().expect("a list").clone();
        let client = Client::new(client_limits(), TableCache::default());
        let server = Server::new(server_limits(), named_table("two_methods"));
        Self { lines, at: 0, client, server }
    }

    /// The next line must be of this side, about this, and these bytes.
    fn line(&mut self, from: &str, what: &str, bytes: &[u8]) {
        let line = &self.lines[self.at];
        self.at += 1;
        assert_eq!(text(line, "from"), from);
        assert!(text(line, "what").starts_with(what), "{line}");
        assert_eq!(bytes, unhex(&line["hex"]), "{line}");
    }

    /// A client's frames go out, one line each, and the server sees these events.
    fn client_says(&mut self, whats: &[&str], events: &[&str]) {
        let bytes = std::mem::take(&mut self.client.out);
        self.lines("client", whats, &bytes);
        assert_eq!(self.server.feed(&bytes).expect("a sound client"), events);
    }

    /// A server's frames go out, one line each, and the client sees these events.
    fn server_says(&mut self, whats: &[&str], events: &[&str]) {
        let bytes = std::mem::take(&mut self.server.out);
        self.lines("server", whats, &bytes);
        assert_eq!(self.client.feed(&bytes).expect("a sound server"), events);
    }

    fn lines(&mut self, from: &str, whats: &[&str], mut bytes: &[u8]) {
        for what in whats {
            let len = match bytes {
                [b'S', b'W', b'B', b'K', ..] => 8,
                [a, b, c, d, ..] => 16 + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
                _ => panic!("{what} was not written"),
            };
            let (frame, rest) = bytes.split_at(len);
            self.line(from, what, frame);
            bytes = rest;
        }
        assert_eq!(bytes, b"", "nothing but {whats:?} was written");
    }

    /// A client's call, in the version that its table gives.
    fn request(&mut self, call: &Call<'_>) -> CallId {
        let table = self.client.connection.table().expect("after the handshake");
        let chosen = table.choose(call.method, call.versions.iter().map(|known| known.0));
        let VersionChoice::Version(version) = chosen else {
            panic!("{chosen:?}");
        };
        let known = call.versions.iter().find(|known| known.0 == version).expect("one of its own");
        let out = &mut self.client.out;
        let fields = RequestFields {
            method: call.method,
            version,
            codec: 1,
            attempt_priority: 0,
            timeout_ms: call.timeout_ms,
            fingerprint: known.1,
        };
        let start = begin_request(out, &fields);
        let ext_len = if call.tenant.is_empty() { 0 } else { 4 + 7 + call.tenant.len() };
        if ext_len > 0 {
            push_tlv(out, 16, &[b"\x06tenant", call.tenant].concat());
        }
        out.extend_from_slice(known.2);
        finish_frame(out, start, ext_len, 65_536).expect("small");
        let deadline = now() + Duration::from_millis(call.timeout_ms.into());
        let opened = self.client.connection.calls.open(deadline, 0, 7).expect("there is room");
        seal_frame(&mut out[start.index()..], opened.id);
        opened.id
    }

    /// A server's answer.
    fn respond(
        &mut self,
        call: CallId,
        status: Code,
        how: Disposition,
        ext: &[u8],
        payload: &[u8],
    ) {
        let out = &mut self.server.out;
        let start = begin_response(out, status, how, 1);
        out.extend_from_slice(ext);
        out.extend_from_slice(payload);
        finish_frame(out, start, ext.len(), 65_536).expect("small");
        seal_frame(&mut out[start.index()..], call);
    }

    /// What the client's call has come to.
    fn take(&mut self, call: CallId) -> (CallOutcome, Vec<u8>) {
        let mut reply = Vec::new();
        let taken = self.client.connection.calls.take(call, &mut reply).expect("it has ended");
        assert!(taken.freed);
        (taken.outcome, reply)
    }
}

/// What a client calls: version, fingerprint, payload of each version it knows, the best first.
struct Call<'a> {
    method: MethodId,
    timeout_ms: u32,
    versions: &'a [(u16, u32, &'a [u8])],
    tenant: &'a [u8],
}

fn named_table(name: &str) -> TablePayload {
    let vectors = vectors("tables.json");
    let vector = list(&vectors, "tables").iter().find(|vector| text(vector, "name") == name);
    TablePayload::parse(&unhex(&vector.expect("a table of the vectors")["payload_hex"]))
        .expect("a valid table")
}

fn answered(status: Code, disposition: Disposition, codec: u8, ext_len: usize) -> CallOutcome {
    CallOutcome::Answered { status, disposition, codec, ext_len }
}

/// The whole conversation of the specification, both sides at once: every byte as written there.
#[test]
fn the_worked_example_is_spoken_to_the_byte() {
    let mut script = Script::new();
    script.client_says(&["preface", "HELLO"], &["preface", "hello"]);
    script.server_says(&["preface", "HELLO_ACK", "TABLE"], &["preface", "accepted", "table"]);

    let transfer = MethodId::of("bank.Ledger/transfer");
    let payloads: [(u16, u32, &[u8]); 2] = [
        (2, 0xec3b_b7be, b"\x07\x09\xfb\xd4\x30\x04rent"),
        (1, 0x647a_b57f, b"\x07\x09\xfb\xd4\x30"),
    ];
    let both = |tenant| Call { method: transfer, timeout_ms: 10_000, versions: &payloads, tenant };
    let call = script.request(&both(b"acme"));
    script.client_says(&["REQUEST: transfer, version 2"], &["request 1"]);
    script.respond(call, Code::OK, Disposition::Processed, &[], b"\x29\xfb\x57\x02");
    script.server_says(&["RESPONSE: OK"], &["answered 7"]);
    let ok = answered(Code::OK, Disposition::Processed, 1, 0);
    assert_eq!(script.take(call), (ok, b"\x29\xfb\x57\x02".to_vec()));

    // The ceiling falls while a call is on its way; the client goes on with version 1.
    let call = script.request(&both(b""));
    script.client_says(&["REQUEST: transfer, version 2"], &["request 3"]);
    let lowered = named_table("ceiling_lowered");
    for update in lowered.updates_from(&script.server.table.clone()) {
        let payload = update.to_bytes();
        let out = &mut script.server.out;
        append_control(out, Kind::TABLE_UPDATE, CallId::CONNECTION, &[], &payload);
    }
    let mut ext = Vec::new();
    push_tlv(&mut ext, response_keys::VERSIONS, &[0, 1]);
    script.respond(call, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed, &ext, &[]);
    script
        .server_says(&["TABLE_UPDATE", "RESPONSE: UNSUPPORTED_VERSION"], &["table", "answered 7"]);
    assert_eq!(script.client.connection.table().map(|table| table.hash()), Some(lowered.hash));
    let (outcome, reply) = script.take(call);
    assert_eq!(outcome, answered(Code::UNSUPPORTED_VERSION, Disposition::NotProcessed, 0, 6));
    assert_eq!(Tlvs::new(&reply).find(response_keys::VERSIONS), Some(&[0, 1][..]));

    let call = script.request(&Call { timeout_ms: 9998, ..both(b"") });
    script.client_says(&["REQUEST: the same call again, version 1"], &["request 5"]);
    script.respond(call, Code::OK, Disposition::Processed, &[], b"\x2a");
    script.server_says(&["RESPONSE: OK"], &["answered 7"]);
    assert_eq!(script.take(call), (ok, b"\x2a".to_vec()));
    the_end(script);
}

/// The rest: a call is cancelled, a PING answered, the connection closed.
fn the_end(mut script: Script) {
    let balance = MethodId::of("bank.Ledger/balance");
    let versions: [(u16, u32, &[u8]); 1] = [(1, 0x29d2_1358, b"\x07")];
    let call = script.request(&Call {
        method: balance,
        timeout_ms: 10_000,
        versions: &versions,
        tenant: b"",
    });
    script.client_says(&["REQUEST: balance, version 1"], &["request 7"]);
    assert_eq!(script.client.connection.calls.cancel(call), Cancelled::TellPeer);
    append_control(&mut script.client.out, Kind::CANCEL, call, &[], &[]);
    script.client_says(&["CANCEL"], &["cancel 7"]);
    assert_eq!(script.client.connection.calls.busy(), 1, "the slot is held");
    script.respond(call, Code::CANCELLED, Disposition::Maybe, &[], &[]);
    script.server_says(&["RESPONSE: CANCELLED"], &["freed"]);
    assert_eq!(script.client.connection.calls.busy(), 0);

    let out = &mut script.server.out;
    append_control(out, Kind::PING, CallId::CONNECTION, &[], &[0, 1, 2, 3, 4, 5, 6, 7]);
    script.server_says(&["PING"], &["ping [0, 1, 2, 3, 4, 5, 6, 7]"]);
    let out = &mut script.client.out;
    append_control(out, Kind::PONG, CallId::CONNECTION, &[], &[0, 1, 2, 3, 4, 5, 6, 7]);
    script.client_says(&["PONG"], &["pong"]);

    let last_call = script.server.connection.last_call();
    let detail = "shutting down";
    let close = Close { reason: CloseReason::SHUTDOWN, last_call, detail };
    close.append(&mut script.server.out);
    script.server_says(&["CLOSE: SHUTDOWN"], &["closed SHUTDOWN 7 shutting down"]);
    assert_eq!(script.at, script.lines.len(), "every line was spoken");
}
