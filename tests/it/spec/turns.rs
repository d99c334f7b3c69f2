//! Who may send what when: every kind, in every state of both sides.

use crate::spec::bytes::{
    CANCEL, CLOSE, CREDIT, DATA, GOAWAY, HELLO, HELLO_ACK, KINDS, MORE, PING, PONG, Parts, REQUEST,
    RESPONSE, TABLE, TABLE_UPDATE,
};
use crate::spec::peers::{Client, PREFACE, Server, client_limits, reason, server_limits, table};
use switchback::proto::{ServerEvent, TableCache};
use switchback::wire::{CallId, Code};

/// Feeds one sound frame of every kind to a peer in some state; those kinds that are taken.
fn taken<P>(
    peer: impl Fn() -> P,
    feed: impl Fn(&mut P, &[u8]) -> Result<(), &'static str>,
) -> Vec<u8> {
    let mut taken = Vec::new();
    for kind in 0..=u8::MAX {
        match feed(&mut peer(), &Parts::sound(kind).build()) {
            Ok(()) => taken.push(kind),
            Err("PROTOCOL") if KINDS.contains(&kind) => {}
            Err("UNKNOWN_KIND") if kind < 0x80 && !KINDS.contains(&kind) => {}
            Err(reason) => panic!("kind {kind:#04x} closes with {reason}"),
        }
    }
    taken
}

/// `kinds`, and those that are always skipped.
fn and_skipped(kinds: &[u8]) -> Vec<u8> {
    [kinds, &(0x80..=0xff).collect::<Vec<u8>>()].concat()
}

fn greeted_server() -> Server {
    let mut server = Server::new(server_limits(), table(&[]));
    server.feed(&PREFACE).expect("a sound preface");
    server
}

fn open_server() -> Server {
    let mut server = Server::open();
    // CANCEL may name call 1, and REQUEST 3 has not been read: the sound frame's id is 1.
    server.feed(&Parts::sound(REQUEST).build()).expect("a sound request");
    server
}

fn feed_server(server: &mut Server, bytes: &[u8]) -> Result<(), &'static str> {
    server.feed(bytes).map(drop).map_err(|violation| reason::<()>(Err(violation)))
}

fn greeted_client() -> Client {
    let mut client = Client::new(client_limits(), TableCache::default());
    client.feed(&PREFACE).expect("a sound preface");
    client
}

fn open_client() -> Client {
    let mut client = Client::open(&table(&[]));
    client.call(7);
    client
}

fn feed_client(client: &mut Client, bytes: &[u8]) -> Result<(), &'static str> {
    client.feed(bytes).map(drop).map_err(|violation| reason::<()>(Err(violation)))
}

/// Before HELLO a server takes HELLO and CLOSE; and skippable kinds at any time.
#[test]
fn fr_12_a_server_takes_hello_first() {
    assert_eq!(taken(greeted_server, feed_server), and_skipped(&[HELLO, CLOSE]));
}

/// After HELLO a server takes what a client sends, and no second HELLO.
#[test]
fn fr_12_an_open_server_takes_what_clients_send() {
    let fresh = taken(Server::open, |server, bytes| {
        let is_about_a_call = matches!(bytes[4], CANCEL | DATA);
        let first = if is_about_a_call { Parts::sound(REQUEST).build() } else { Vec::new() };
        feed_server(server, &[&first, bytes].concat())
    });
    assert_eq!(fresh, and_skipped(&[REQUEST, CANCEL, DATA, CREDIT, PING, PONG, CLOSE]));
}

/// Before HELLO_ACK a client takes HELLO_ACK and CLOSE.
#[test]
fn fr_12_a_client_takes_hello_ack_first() {
    let taken = taken(greeted_client, |client, bytes| match feed_client(client, bytes) {
        // The sound frame's transcript is another one's: its turn it is.
        Err("TRANSCRIPT") if bytes[4] == HELLO_ACK => Ok(()),
        result => result,
    });
    assert_eq!(taken, and_skipped(&[HELLO_ACK, CLOSE]));
}

/// While an announced TABLE is outstanding, nothing comes that depends on it.
#[test]
fn fr_12_a_client_waits_for_the_announced_table() {
    let waiting = || {
        let mut client = Client::accepted(&table(&[]));
        client.call(7);
        client
    };
    let expected = and_skipped(&[TABLE, CREDIT, PING, PONG, GOAWAY, CLOSE]);
    assert_eq!(taken(waiting, feed_client), expected);
}

/// After the table a client takes what a server sends, no second HELLO_ACK and no second TABLE.
#[test]
fn fr_12_an_open_client_takes_what_servers_send() {
    let expected = and_skipped(&[TABLE_UPDATE, RESPONSE, DATA, CREDIT, PING, PONG, GOAWAY, CLOSE]);
    assert_eq!(taken(open_client, feed_client), expected);
}

/// A call id of the wrong class closes with PROTOCOL on every kind; the body is judged before it.
#[test]
fn fr_12_refuses_call_ids_of_the_wrong_class() {
    for kind in KINDS {
        let is_of_call = matches!(kind, REQUEST | RESPONSE | CANCEL | DATA);
        let wrong: &[u32] = if is_of_call { &[0, 2, u32::MAX - 1] } else { &[1, 2, u32::MAX] };
        for call in wrong {
            let frame = Parts::sound(kind).call(*call);
            assert_eq!(feed_server(&mut open_server(), &frame.build()), Err("PROTOCOL"));
            assert_eq!(feed_client(&mut open_client(), &frame.build()), Err("PROTOCOL"));
            if kind != REQUEST {
                let cut = frame.clone().ext(&[0x70]).build();
                assert_eq!(feed_server(&mut open_server(), &cut), Err("MALFORMED"), "{kind:#04x}");
                assert_eq!(feed_client(&mut open_client(), &cut), Err("MALFORMED"), "{kind:#04x}");
            }
        }
    }
    let hello = Parts::sound(HELLO).call(1).build();
    assert_eq!(feed_server(&mut greeted_server(), &hello), Err("PROTOCOL"));
}

/// The id of a REQUEST is judged before its flags and its TLVs.
#[test]
fn ca_3_judges_the_call_id_first() {
    let spoilt = Parts::sound(REQUEST).flags(0x40).ext(&[0x70]);
    assert_eq!(feed_server(&mut open_server(), &spoilt.clone().call(2).build()), Err("PROTOCOL"));
    assert_eq!(feed_server(&mut open_server(), &spoilt.clone().call(1).build()), Err("CALL_ID"));
    let seen = open_server().feed(&spoilt.clone().call(3).build());
    assert_eq!(seen, Ok(vec!["refuse 3 UNSUPPORTED_FLAG".to_owned()]));
    let seen = open_server().feed(&spoilt.flags(0).call(3).build());
    assert_eq!(seen, Ok(vec!["refuse 3 BAD_METADATA".to_owned()]));
}

/// Ids are odd and increase, with any first one and any gaps; a refused call uses its id up.
#[test]
fn ca_1_call_ids_increase() {
    let request = |call| Parts::sound(REQUEST).call(call).build();
    let mut server = Server::open();
    for call in [5, 7, 1001, u32::MAX] {
        assert_eq!(server.feed(&request(call)), Ok(vec![format!("request {call}")]));
        for earlier in [1, 3, call] {
            let mut copy = Server::open();
            copy.feed(&request(call)).expect("a sound request");
            assert_eq!(reason(copy.feed(&request(earlier))), "CALL_ID");
        }
    }
    let mut server = Server::open();
    server.feed(&Parts::sound(REQUEST).call(9).flags(0x40).build()).expect("a refusal");
    assert_eq!(server.connection.last_call().0, 9);
    assert_eq!(reason(server.feed(&request(9))), "CALL_ID");
}

/// CANCEL names any id up to the highest read: of a call that runs or is answered, or of a gap.
#[test]
fn ca_12_cancel_names_a_call_that_was_read() {
    let cancel = |call| Parts::sound(CANCEL).call(call).build();
    let mut server = Server::open();
    assert_eq!(reason(Server::open().feed(&cancel(1))), "PROTOCOL");
    server.feed(&Parts::sound(REQUEST).call(5).build()).expect("a sound request");
    for call in [5, 3, 1, 5] {
        assert_eq!(server.feed(&cancel(call)), Ok(vec![format!("cancel {call}")]));
    }
    assert_eq!(reason(server.feed(&cancel(7))), "PROTOCOL");
}

/// A piece belongs to a request whose last one has not come, or to a call that waits; what is for
/// no call in flight is handed out to be thrown away.
#[test]
fn fl_8_pieces_have_their_turn() {
    let piece = |call, flags| Parts::sound(DATA).call(call).flags(flags).payload(b"x").build();
    let request = |call, flags| Parts::sound(REQUEST).call(call).flags(flags).build();
    let mut server = Server::open();
    assert_eq!(reason(Server::open().feed(&piece(1, MORE))), "PROTOCOL");
    server.feed(&request(5, MORE)).expect("a sound request");
    for (call, flags, seen) in [
        (5, MORE, "piece 5"),
        (3, MORE, "stray 3"), // A gap.
        (5, 0, "piece 5"),
        (5, MORE, "stray 5"), // Its owner knows whether it is in flight.
    ] {
        assert_eq!(server.feed(&piece(call, flags)), Ok(vec![seen.to_owned()]));
    }
    assert_eq!(reason(server.feed(&piece(7, MORE))), "PROTOCOL");

    let waiting = open_client;
    assert_eq!(waiting().feed(&piece(1, MORE)), Ok(vec!["piece".to_owned()]));
    assert_eq!(reason(waiting().feed(&piece(1, 0))), "PROTOCOL");
    assert_eq!(reason(waiting().feed(&piece(3, MORE))), "PROTOCOL");
    let answer = Parts::sound(RESPONSE).build();
    let late = [answer, piece(1, MORE)].concat();
    assert_eq!(reason(waiting().feed(&late)), "PROTOCOL");
}

/// A PING is handed out to be echoed, on both sides; a PONG that nobody asked for is ignored.
#[test]
fn ld_1_hands_out_pings_and_ignores_pongs() {
    let ping = Parts::sound(PING).payload(b"12345678").build();
    let pong = Parts::sound(PONG).payload(b"12345678").build();
    let to_echo = Ok(vec![format!("ping {:?}", b"12345678")]);
    let ignored = Ok(vec!["pong".to_owned()]);
    for mut client in [Client::accepted(&table(&[])), open_client()] {
        assert_eq!(client.feed(&ping), to_echo);
        assert_eq!(client.feed(&pong), ignored);
    }
    let mut server = Server::open();
    assert_eq!(server.feed(&ping), to_echo);
    assert_eq!(server.feed(&pong), ignored);
}

/// A CLOSE is understood in every state, whatever its reason; what it says is kept.
#[test]
fn ld_2_close_is_read_at_any_time() {
    let close = Parts::sound(CLOSE).fixed(&[0xab, 0xcd, 0, 0, 0, 7]).payload("só".as_bytes());
    let expected = Ok(vec!["closed close reason 43981 7 só".to_owned()]);
    for mut server in [greeted_server(), Server::open()] {
        assert_eq!(server.feed(&close.build()), expected);
    }
    for mut client in [greeted_client(), Client::accepted(&table(&[])), open_client()] {
        assert_eq!(client.feed(&close.build()), expected);
    }
}

/// What has no payload gets none, a ping is 8 bytes, a detail at most 256 of UTF-8.
#[test]
fn fr_11_refuses_payloads_of_the_wrong_shape() {
    let seen = |parts: Parts| crate::spec::frames::read(&parts.build(), 65_536, []);
    let malformed = crate::spec::frames::Seen::Closed("MALFORMED");
    for kind in [HELLO, HELLO_ACK, CANCEL, CREDIT] {
        assert_eq!(seen(Parts::sound(kind).payload(b"x")), malformed);
    }
    for kind in [PING, PONG] {
        for len in [0, 7, 9, 100] {
            assert_eq!(seen(Parts::sound(kind).payload(&[0; 100][..len])), malformed);
        }
    }
    let longer = Parts::sound(DATA).payload(&[0; 65_537]).build(); // FL-4
    assert_eq!(crate::spec::frames::read(&longer, 131_072, []), malformed);
    assert_eq!(seen(Parts::sound(CLOSE).payload(&[b'x'; 257])), malformed);
    assert_eq!(seen(Parts::sound(CLOSE).payload(b"\xc3")), malformed);
    assert!(matches!(
        seen(Parts::sound(CLOSE).payload(&[b'x'; 256])),
        crate::spec::frames::Seen::Frame(..)
    ));
}

/// CA-11: a REQUEST for which there was no memory is refused when it has come whole, and was read:
/// the next one is served, one with its id is a violation. A kind that may be skipped is skipped;
/// others cannot be done without, and before the handshake none can.
#[test]
fn ca_11_a_request_that_was_given_up_is_refused() {
    let request = |call| Parts::sound(REQUEST).call(call).build();
    let give_up = |server: &mut Server, bytes: &[u8]| {
        assert_eq!(server.feed(&bytes[..20]), Ok(vec![]));
        server.inbound.give_up(&bytes[..20])
    };
    let mut server = Server::open();
    let bytes = request(5);
    assert_eq!(give_up(&mut server, &bytes), Ok(true));
    assert_eq!(server.inbound.skip(&bytes[20..30]), Ok((10, None)));
    let rest = [&bytes[30..], &request(7)].concat();
    let (used, head) = server.inbound.skip(&rest).expect("it is not damaged");
    assert_eq!(used, bytes.len() - 30);
    let event = server.connection.handle_skipped(head.expect("it is whole"));
    assert!(matches!(event, Ok(ServerEvent::Refuse(CallId(5), Code::OVERLOADED, _))), "{event:?}");
    assert_eq!(server.feed(&rest[used..]), Ok(vec!["request 7".to_owned()]));
    assert_eq!(give_up(&mut server, &bytes), Ok(true));
    let (_, head) = server.inbound.skip(&bytes[20..]).expect("it is not damaged");
    let again = server.connection.handle_skipped(head.expect("it is whole")).map(drop);
    assert_eq!(reason(again), "CALL_ID");

    let skippable = Parts::sound(0x90).payload(b"12345678").build();
    let mut server = Server::open();
    assert_eq!(give_up(&mut server, &skippable), Ok(true));
    let (_, head) = server.inbound.skip(&skippable[20..]).expect("it is not damaged");
    let event = server.connection.handle_skipped(head.expect("it is whole"));
    assert!(matches!(event, Ok(ServerEvent::Skipped)), "{event:?}");
    assert_eq!(give_up(&mut Server::open(), &Parts::sound(PING).build()), Ok(false));
    let early = greeted_server().inbound.give_up(&[]);
    assert_eq!(early, Ok(false));
}
