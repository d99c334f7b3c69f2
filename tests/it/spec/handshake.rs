//! HELLO and HELLO_ACK: the limits they carry, the transcript, what may come before the answer.

use proptest::prelude::*;
use switchback::proto::{ServerConnection, TableCache};
use switchback::wire::{CallId, Decoder, Frame, Hello, HelloAck, Kind, append_control};

use crate::spec::bytes::{HELLO_ACK, PONG, Parts, REQUEST, fnv64, tlv};
use crate::spec::now;
use crate::spec::peers::table;
use crate::spec::peers::{Client, PREFACE, Server, ack_for, client_limits, reason, server_limits};

/// The bodies that a peer takes are 16,384 bytes long at most until it has read the other's
/// HELLO or HELLO_ACK, and then what it said itself, from the very next frame on.
#[test]
fn fr_4_the_limit_rises_with_the_handshake() {
    let head = |kind, body_len| Parts::sound(kind).body_len(body_len).build()[..16].to_vec();
    let limit = 4_194_304;
    let mut client = Client::new(client_limits(), TableCache::default());
    let first = client.out.clone();
    let at_once = |more: &[u8]| {
        let mut server = Server::new(server_limits(), table(&[]));
        server.feed(&[&first, more].concat())
    };
    assert_eq!(at_once(&head(REQUEST, limit)).map(|seen| seen.len()), Ok(2));
    assert_eq!(reason(at_once(&head(REQUEST, limit + 1))), "FRAME_TOO_LARGE");
    let mut server = Server::new(server_limits(), table(&[]));
    server.feed(&PREFACE).expect("a sound preface");
    assert_eq!(server.feed(&head(REQUEST, 16_384)), Ok(Vec::new()));
    let mut server = Server::new(server_limits(), table(&[]));
    server.feed(&PREFACE).expect("a sound preface");
    assert_eq!(reason(server.feed(&head(REQUEST, 16_385))), "FRAME_TOO_LARGE");

    client.feed(&PREFACE).expect("a sound preface");
    assert_eq!(reason(client.feed(&head(HELLO_ACK, 16_385))), "FRAME_TOO_LARGE");
    let mut client = Client::accepted(&table(&[]));
    assert_eq!(client.feed(&head(PONG, limit)), Ok(Vec::new()));
    let mut client = Client::accepted(&table(&[]));
    assert_eq!(reason(client.feed(&head(PONG, limit + 1))), "FRAME_TOO_LARGE");
}

/// A client keeps to 65,536 bytes until the server has said what it takes.
#[test]
fn fr_4_a_client_learns_what_the_server_takes() {
    let mut client = Client::new(client_limits(), TableCache::default());
    assert_eq!(client.connection.frame_bytes_max(), 65_536);
    let mut server = Server::new(server_limits(), table(&[]));
    server.feed(&client.out).expect("a sound client");
    client.feed(&server.out).expect("a sound server");
    assert_eq!(client.connection.frame_bytes_max(), 4_194_304);
    let hello = server.connection.client().expect("after HELLO");
    assert_eq!(hello.frame_bytes_max, 4_194_304);
}

/// HELLO is answered with one HELLO_ACK before anything else, which says what the server is.
#[test]
fn hs_5_hello_is_answered_with_hello_ack_first() {
    let client = Client::new(client_limits(), TableCache::default());
    let mut server = Server::new(server_limits(), table(&[(9, 65_535, &[1])]));
    let requests = Parts::sound(REQUEST).build();

    server.feed(&[&client.out[..], &requests].concat()).expect("a sound client");

    let mut decoder = Decoder::new(65_536);
    let (raw, used) = decoder.decode(&server.out[8..]).expect("sound").expect("whole");
    let Ok(Frame::HelloAck(ack)) = Frame::parse(raw) else {
        panic!("HELLO_ACK is the first frame")
    };
    assert_eq!((ack.calls_max, ack.codecs, &ack.build[..]), (1024, vec![1], "ledger 2.0.0"));
    assert_eq!(ack.table, server.table.hash);
    let (raw, rest) = decoder.decode(&server.out[8 + used..]).expect("sound").expect("whole");
    assert_eq!(Frame::parse(raw), Ok(Frame::Table(server.table.clone())));
    assert_eq!(8 + used + rest, server.out.len());
}

/// The transcript is that of preface and HELLO as they were read; frames skipped before HELLO do
/// not count. The client closes if it is another.
#[test]
fn hs_7_the_transcript_covers_preface_and_hello() {
    let mut client = Client::new(client_limits(), TableCache::default());
    let mut server = Server::new(server_limits(), table(&[]));
    let (preface, hello) = client.out.split_at(8);
    let skipped = Parts::sound(0x90).payload(b"ignored").build();
    let read = [preface, &skipped, hello].concat();
    assert_eq!(server.feed(&read), Ok(vec!["preface".into(), "nothing".into(), "hello".into()]));
    let expected = fnv64(&client.out).to_be_bytes();
    assert!(server.out.windows(8).any(|bytes| bytes == expected));
    assert!(client.feed(&server.out).is_ok());

    // A low flag changes nothing but the bytes: that is what the transcript is for.
    let mut client = Client::new(client_limits(), TableCache::default());
    let hello = Parts::sound(crate::spec::bytes::HELLO).flags(1);
    let changed = hello.ext(&client.out[24..client.out.len() - 4]).build();
    let mut server = Server::new(server_limits(), table(&[]));
    server.feed(&[&PREFACE[..], &changed].concat()).expect("a sound HELLO");
    assert_eq!(reason(client.feed(&server.out)), "TRANSCRIPT");
}

/// A client may send 64 REQUESTs before the answer, whatever it wants to have in flight later.
#[test]
fn hs_8_sends_at_most_64_requests_before_hello_ack() {
    let mut client = Client::new(client_limits(), TableCache::default());
    let deadline = now();
    for _ in 0..64 {
        client.call(1);
    }
    let calls = &mut client.connection.calls;
    assert_eq!(calls.open(deadline, 0, 1), None);
    // Giving one up frees no place: its REQUEST was sent.
    calls.cancel(CallId(1));
    calls.expire(deadline + std::time::Duration::from_secs(3600), |_, _| {});
    let mut reply = Vec::new();
    calls.take(CallId(3), &mut reply).expect("it has expired");
    assert_eq!(calls.open(deadline, 0, 1), None);

    // And the server takes them as if they had come later.
    let mut server = Server::new(server_limits(), table(&[]));
    let requests = (0..64).flat_map(|n| Parts::sound(REQUEST).call(2 * n + 1).build());
    let bytes: Vec<u8> = client.out.iter().copied().chain(requests).collect();
    let seen = server.feed(&bytes).expect("a sound client");
    assert_eq!(seen.len(), 2 + 64);
    assert_eq!(seen[65], "request 127");
}

/// After HELLO_ACK no more calls wait than the server accepts, those before it counted.
#[test]
fn ca_11_keeps_to_the_calls_that_the_server_accepts() {
    let mut client = Client::new(client_limits(), TableCache::default());
    for _ in 0..3 {
        client.call(1);
    }
    let ack = ack_for(&client, table(&[]).hash);
    client.feed(&[&PREFACE[..], &ack.build()].concat()).expect("calls_max 4");
    assert_eq!(client.connection.calls.room(), 1);
    client.call(1);
    assert_eq!(client.connection.calls.open(now(), 0, 1), None);

    // The server allows more than this client wants.
    let mut limits = client_limits();
    limits.calls_max = 2;
    let mut client = Client::new(limits, TableCache::default());
    let ack = ack_for(&client, table(&[]).hash);
    client.feed(&[&PREFACE[..], &ack.build()].concat()).expect("calls_max 4");
    assert_eq!(client.connection.calls.room(), 2);
}

/// Keys that are reserved for later are skipped in both frames.
#[test]
fn hs_6_skips_the_reserved_keys() {
    let hello = Parts::sound(crate::spec::bytes::HELLO);
    let reserved = [tlv(7, &[0; 4]), tlv(8, &[0; 4]), tlv(10, b"")].concat();
    let mut server = Server::new(server_limits(), table(&[]));
    let more = hello.clone().ext(&[&hello.ext[..], &reserved].concat()).build();
    assert!(server.feed(&[&PREFACE[..], &more].concat()).is_ok());
    assert!(server.connection.is_open());
}

/// A frame between HELLO and its acceptance is the owner's mistake, not the peer's.
#[test]
#[should_panic(expected = "HELLO is accepted before the next frame")]
fn a_server_accepts_before_it_goes_on() {
    let mut connection = ServerConnection::new(server_limits());
    let mut out = Vec::new();
    let preface = switchback::wire::Preface(server_limits().versions);
    connection.handle_preface(preface, &mut out).expect("a sound preface");
    let hello = Parts::sound(crate::spec::bytes::HELLO).build();
    for _ in 0..2 {
        let (raw, _) = Decoder::new(65_536).decode(&hello).expect("sound").expect("whole");
        let _ = connection.handle_frame(raw);
    }
}

fn codecs() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::btree_set(any::<u8>(), 1..=32).prop_map(|set| set.into_iter().collect())
}

proptest! {
    /// Whatever a HELLO or a HELLO_ACK says is read back as it was.
    #[test]
    fn hellos_come_back_as_they_were(
        frame_bytes_max in 65_536_u32..,
        calls_max in 1_u32..,
        codecs in codecs(),
        build in "\\PC{0,16}",
        tables in proptest::collection::vec(any::<u64>(), 0..=8),
        (table, transcript, has_fallback) in any::<(u64, u64, bool)>(),
        window_connection in proptest::option::of(65_536_u32..),
    ) {
        let (codecs_too, build_too) = (codecs.clone(), build.clone());
        let hello = Hello {
            frame_bytes_max, codecs: codecs_too, build: build_too, tables, window_connection,
        };
        let ack = HelloAck {
            frame_bytes_max,
            calls_max,
            codecs,
            build,
            table,
            transcript,
            has_fallback,
            window_connection,
        };
        let mut out = Vec::new();
        append_control(&mut out, Kind::HELLO, CallId::CONNECTION, &hello.to_ext(), &[]);
        let hello_bytes = out.len();
        append_control(&mut out, Kind::HELLO_ACK, CallId::CONNECTION, &ack.to_ext(), &[]);

        let mut decoder = Decoder::new(65_536);
        let (raw, used) = decoder.decode(&out).expect("sound").expect("whole");
        prop_assert_eq!(used, hello_bytes);
        prop_assert_eq!(Frame::parse(raw), Ok(Frame::Hello(hello)));
        let (raw, _) = decoder.decode(&out[used..]).expect("sound").expect("whole");
        prop_assert_eq!(Frame::parse(raw), Ok(Frame::HelloAck(ack)));
    }
}
