//! `fragments.json`: conversations in which long messages travel in pieces, followed by both state
//! machines; and `numbers.json`: what has a number on the wire.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use switchback::proto::{CallOutcome, Cancelled, Credit, TableCache};
use switchback::wire::{CallId, CloseReason, Code, Decoder, Flags, Frame, Kind, TablePayload};

use crate::spec::bytes::{KINDS, crc32};
use crate::spec::peers::{Client, Server, client_limits, server_limits};
use crate::spec::{list, number, text, unhex, vectors};

const WINDOW: u32 = 65_536;
const TOKEN: u32 = 7;

/// Both sides of one conversation, and what has come of it.
struct Followed {
    client: Client,
    server: Server,
    /// What each side may still send.
    up: Credit,
    down: Credit,
    /// Credit that each side has come to owe, and has not granted yet.
    owed_by_server: Vec<u32>,
    owed_by_client: Vec<u32>,
    /// Payloads of requests as far as they have come, and those that are whole.
    requests: BTreeMap<u32, Vec<u8>>,
    whole: BTreeSet<u32>,
    cancelled: BTreeSet<u32>,
    /// Status and payload of answers that a caller was waiting for.
    answers: BTreeMap<u32, (Code, Vec<u8>)>,
}

impl Followed {
    /// After the handshake, which both sides write as it stands there.
    fn begin(steps: &[Value]) -> Self {
        let mut limits = client_limits();
        (limits.build, limits.window_connection) = (String::new(), WINDOW);
        let mut client = Client::new(limits, TableCache::default());
        let mut limits = server_limits();
        (limits.build, limits.window_connection) = (String::new(), WINDOW);
        let frame = unhex(&steps[4]["hex"]);
        let table = TablePayload::parse(&frame[16..frame.len() - 4]).expect("a sound table");
        let mut server = Server::new(limits, table);

        let said: Vec<u8> = steps[..2].iter().flat_map(|step| unhex(&step["hex"])).collect();
        assert_eq!(client.out, said, "preface and HELLO");
        server.feed(&client.out).expect("a sound client");
        let said: Vec<u8> = steps[2..5].iter().flat_map(|step| unhex(&step["hex"])).collect();
        assert_eq!(server.out, said, "preface, HELLO_ACK and TABLE");
        client.feed(&server.out).expect("a sound server");
        Self {
            client,
            server,
            up: Credit::new(WINDOW),
            down: Credit::new(WINDOW),
            owed_by_server: Vec::new(),
            owed_by_client: Vec::new(),
            requests: BTreeMap::new(),
            whole: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            answers: BTreeMap::new(),
        }
    }

    /// The client writes this.
    fn up(&mut self, bytes: &[u8]) {
        let (raw, _) = Decoder::new(u32::MAX).decode(bytes).expect("sound").expect("whole");
        let seen = self.server.feed(bytes).expect("within the rules");
        match Frame::parse(raw).expect("sound") {
            Frame::Request(request) => {
                let id = request.call.0;
                assert_eq!((self.client.call(TOKEN).0, seen), (id, vec![format!("request {id}")]));
                self.requests.insert(id, request.payload.to_vec());
                if !request.flags.has_more() {
                    self.whole.insert(id);
                }
            }
            Frame::Data(data) => {
                let (id, bytes) = (data.call.0, u32::try_from(data.payload.len()).unwrap());
                assert!(bytes <= self.up.left(), "beyond the credit");
                self.up.spend(bytes);
                if seen == [format!("piece {id}")] {
                    self.requests.get_mut(&id).expect("begun").extend_from_slice(data.payload);
                    if !data.has_more {
                        self.whole.insert(id);
                    }
                } else {
                    assert_eq!(seen, [format!("stray {id}")]);
                    assert!(!self.whole.contains(&id), "thrown away: it was answered before");
                }
                self.owed_by_server.extend(self.server.connection.window().grant());
            }
            Frame::Credit(bytes) => {
                assert_eq!(seen, [format!("credit {bytes}")]);
                assert_eq!(self.owed_by_client.pop(), Some(bytes));
                self.down.grant(bytes).expect("credit for what was sent");
            }
            Frame::Cancel(call) => {
                assert_eq!(self.client.connection.calls.cancel(call), Cancelled::TellPeer);
                self.cancelled.insert(call.0);
            }
            Frame::Pong(_) => {}
            frame => panic!("{frame:?}"),
        }
    }

    /// The server writes this.
    fn down(&mut self, bytes: &[u8]) {
        let (raw, _) = Decoder::new(u32::MAX).decode(bytes).expect("sound").expect("whole");
        let seen = self.client.feed(bytes).expect("within the rules");
        match Frame::parse(raw).expect("sound") {
            Frame::Response(response) => {
                let id = response.call.0;
                self.server.connection.end_upload(response.call);
                if self.cancelled.contains(&id) {
                    assert_eq!(seen, ["freed"]);
                    return;
                }
                assert_eq!(seen, [format!("answered {TOKEN}")]);
                let mut reply = Vec::new();
                let taken = self.client.connection.calls.take(CallId(id), &mut reply).unwrap();
                let CallOutcome::Answered { status, ext_len, .. } = taken.outcome else {
                    panic!("{taken:?}");
                };
                reply.truncate(reply.len() - ext_len);
                self.answers.insert(id, (status, reply));
            }
            Frame::Data(data) => {
                let bytes = u32::try_from(data.payload.len()).unwrap();
                assert!(bytes <= self.down.left(), "beyond the credit");
                self.down.spend(bytes);
                match seen[0].strip_prefix("piece, to grant ") {
                    Some(bytes) => self.owed_by_client.push(bytes.parse().unwrap()),
                    None => assert_eq!(seen, ["piece"]),
                }
            }
            Frame::Credit(bytes) => {
                assert_eq!(seen, [format!("credit {bytes}")]);
                assert_eq!(self.owed_by_server.pop(), Some(bytes));
                self.up.grant(bytes).expect("credit for what was sent");
            }
            Frame::Goaway(_) | Frame::Ping(_) | Frame::Close(_) => {}
            frame => panic!("{frame:?}"),
        }
    }

    /// Checks what a call has come to.
    fn check(&self, call: &Value) {
        let id: u32 = number(&call["call"]);
        let request = self.whole.contains(&id).then(|| &self.requests[&id][..]);
        assert_eq!(request.map(sum), sum_of(call, "request"), "{call}");
        if let Some((status, payload)) = self.answers.get(&id) {
            assert_eq!(u64::from(status.as_u16()), call["status"], "{call}");
            let payload = status.has_payload().then_some(&payload[..]);
            assert_eq!(payload.map(sum), sum_of(call, "response"), "{call}");
        } else {
            assert!(self.cancelled.contains(&id), "{call}");
        }
    }
}

fn sum(bytes: &[u8]) -> (usize, u32) {
    (bytes.len(), crc32(bytes))
}

fn sum_of(call: &Value, what: &str) -> Option<(usize, u32)> {
    let bytes = call.get(format!("{what}_bytes"))?;
    Some((number(bytes), number(&call[format!("{what}_crc")])))
}

/// FL-2, FL-3, FL-7, FL-10, FL-11: each conversation is within the rules for both sides, the
/// messages are whole, and credit is granted when half of a window was taken, and not before.
#[test]
fn fl_2_messages_in_pieces_come_whole() {
    for conversation in list(&vectors("fragments.json"), "conversations") {
        let steps = list(conversation, "steps");
        let mut followed = Followed::begin(steps);
        for step in &steps[5..] {
            let bytes = unhex(&step["hex"]);
            match text(step, "from") {
                "client" => followed.up(&bytes),
                _ => followed.down(&bytes),
            }
        }
        let calls = list(conversation, "calls");
        calls.iter().for_each(|call| followed.check(call));
        assert_eq!(calls.len(), followed.answers.len() + followed.cancelled.len());
        assert!(followed.owed_by_server.is_empty() && followed.owed_by_client.is_empty());
    }
}

/// Every kind, flag, status and reason of the tables is known by its number, and no others are.
#[test]
fn the_numbers_of_the_wire_are_those_of_the_tables() {
    let numbers = vectors("numbers.json");
    let of = |key: &str| -> Vec<u16> {
        list(&numbers, key).iter().map(|row| number(&row["number"])).collect()
    };
    assert_eq!(of("kinds"), KINDS.map(u16::from));
    assert_eq!(of("kinds"), Kind::ALL.map(|kind| u16::from(kind.0)));
    assert_eq!(of("flags"), [u16::from(Flags::MORE.0)]);
    for row in list(&numbers, "kinds") {
        let kind = Kind(number(&row["number"]));
        assert_eq!(kind.takes_call(CallId(1)), row["has_call"], "{row}");
        assert_eq!(kind.takes_call(CallId::CONNECTION), row["has_call"] == false, "{row}");
    }
    for row in list(&numbers, "reasons") {
        assert_eq!(CloseReason(number(&row["number"])).name(), row["name"].as_str(), "{row}");
    }
    let unknown = u16::try_from(list(&numbers, "reasons").len()).unwrap();
    assert_eq!(CloseReason(unknown).name(), None);
    for row in list(&numbers, "statuses") {
        assert_eq!(Code::from_u16(number(&row["number"])).to_string(), row["name"], "{row}");
    }
}
