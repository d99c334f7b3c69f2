//! P14: a peer of the next protocol version meets ours, in both directions.
//!
//! It offers versions 1..=2, settles on 1, and uses everything that version 1 promises to tolerate:
//! TLVs that are not known yet in every frame it writes, the low flags, kinds that are skipped
//! between all other frames (FR-7, at the rate of LD-11), statuses and reasons without a name.
//! Nothing of it may cost a call or the connection.

use std::time::Duration;

use switchback::service::Fingerprint;
use switchback::util::fnv64;
use switchback::wire::{
    CallId, CloseReason, Code, Disposition, Frame, Hello, HelloAck, Kind, MethodId, Preface,
    TablePayload, VersionRange, begin_frame, finish_frame, push_tlv, request_keys, seal_frame,
};
use switchback::{Channel, Cx, ErrorKind, Method, Router, ServerConfig, Stub};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::raw::{Raw, hello, table};
use crate::support::{
    Answer, Gate, Plain, assert_status, driven, echo, echo_stub, leak, raw_server, settle, status,
};

/// What the next version will offer.
const NEXT: Preface = Preface(VersionRange { lo: 1, hi: 2 });
/// A build that has dropped version 1.
const LATER: Preface = Preface(VersionRange { lo: 2, hi: 3 });
const ECHO: &str = "it.Echo/echo";
/// A GOAWAY's reason that has no name yet, and a CLOSE's.
const GOING: CloseReason = CloseReason(777);
const CLOSING: CloseReason = CloseReason(999);

/// A peer of the next version.
struct Next {
    raw: Raw,
    /// Frames that ask for nothing, so far.
    idle: u32,
}

impl Next {
    const fn new(raw: Raw) -> Self {
        Self { raw, idle: 0 }
    }

    /// Writes frames, with one that is to be skipped before each and one behind them all.
    async fn say(&mut self, frames: &[Vec<u8>]) {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(self.unknown());
            bytes.extend(frame);
        }
        bytes.extend(self.unknown());
        self.raw.write(&bytes).await;
    }

    /// A kind that nobody knows, of a call or of none, with TLVs that would be critical elsewhere.
    fn unknown(&mut self) -> Vec<u8> {
        let kinds = [0x93, 0x90, 0xf0, 0x80, 0xff];
        let calls = [0, 1, 2, u32::MAX, 7];
        let at = self.idle as usize % kinds.len();
        self.idle += 1;
        let mut critical = Vec::new();
        push_tlv(&mut critical, 0x8001, b"of a kind of its own");
        frame(Kind(kinds[at]), calls[at], &[], &critical, b"\x01payload")
    }

    /// Says hello to a server, as HS-10 has it: nothing more until the server's preface is there.
    async fn greet_server(&mut self) -> HelloAck {
        let hello = hello_of_next(&hello());
        let mut said = NEXT.to_bytes().to_vec();
        said.extend(self.unknown()); // Does not count for the transcript (HS-7).
        said.extend(&hello);
        said.extend(self.unknown());
        self.raw.write(&said).await;
        let ack = self.raw.hello_ack().await;
        assert_eq!(ack.transcript, fnv64(&[&NEXT.to_bytes()[..], &hello].concat()));
        assert_eq!(self.raw.frame().await.head().kind, Kind::TABLE);
        ack
    }

    /// The next client of a listener, greeted with a table.
    async fn accept(listener: &TcpListener, table: &TablePayload) -> Self {
        let mut next = Self::new(Raw::accept(listener).await);
        next.greet_client(table).await;
        next
    }

    async fn greet_client(&mut self, table: &TablePayload) {
        let (hello, transcript) = self.raw.client_hello().await;
        let ack = HelloAck {
            frame_bytes_max: 65_536,
            calls_max: 64,
            codecs: vec![1],
            build: "next".to_owned(),
            table: table.hash,
            transcript,
            has_fallback: false,
            window_connection: None,
        };
        self.raw.write(&NEXT.to_bytes()).await;
        let mut frames = vec![frame(Kind::HELLO_ACK, 0, &[], &ack.to_ext(), &[])];
        if !hello.tables.contains(&table.hash) {
            frames.push(frame(Kind::TABLE, 0, &[], &[], &table.to_bytes())); // RT-4
        }
        self.say(&frames).await;
    }

    /// The next frame of a client, which must be a REQUEST: its id, attempt and payload.
    async fn request(&mut self) -> (u32, u8, Vec<u8>) {
        let frame = self.raw.frame().await;
        let Frame::Request(request) = frame.parse().unwrap() else {
            panic!("expected a request, found {:?}", frame.parse());
        };
        (request.call.0, request.attempt_priority >> 4, request.payload.to_vec())
    }
}

/// What is waited for, unless the call ends before: it should have been made again.
async fn unless_ended<T>(call: &mut JoinHandle<Answer<u64>>, wanted: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        wanted = wanted => wanted,
        ended = call => panic!("the call has ended: {ended:?}"),
    }
}

/// A frame as the next version writes it: two TLVs behind the known ones, the second one twice,
/// and every flag that may be ignored.
fn frame(kind: Kind, call: u32, fixed: &[u8], ext: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut tlvs = ext.to_vec();
    // In a kind that is skipped keys may be critical, and must not descend after that.
    let critical = if kind.is_skippable() { 0x8000 } else { 0 };
    push_tlv(&mut tlvs, critical | 0x7ffe, b"of the next version");
    push_tlv(&mut tlvs, critical | 0x7fff, b"");
    push_tlv(&mut tlvs, critical | 0x7fff, b"again");
    let mut out = Vec::new();
    let start = begin_frame(&mut out, kind);
    out.extend_from_slice(fixed);
    out.extend_from_slice(&tlvs);
    out.extend_from_slice(payload);
    finish_frame(&mut out, start, tlvs.len(), u32::MAX).unwrap();
    out[5] = 0x0f; // FR-8
    seal_frame(&mut out, CallId(call));
    out
}

/// HELLO with keys that version 1 does not know there, in between and behind (HS-11).
fn hello_of_next(hello: &Hello) -> Vec<u8> {
    let mut ext = hello.to_ext();
    push_tlv(&mut ext, 6, b"no transcript");
    push_tlv(&mut ext, 7, b"no fallback");
    push_tlv(&mut ext, 8, &[0, 1, 0, 0]);
    push_tlv(&mut ext, 9, &[0, 16, 0, 0]);
    push_tlv(&mut ext, 10, &[0, 0, 0, 1]);
    frame(Kind::HELLO, 0, &[], &ext, &[])
}

/// A call, with a key in front of its one pair of metadata, `tag`.
fn request(call: u32, name: &str, n: u8) -> Vec<u8> {
    let method = MethodId::of(name).0.to_be_bytes();
    // Version 1, bincode, the first attempt, a minute, fingerprint unchecked.
    let fixed = [&method[..], &[0, 1, 1, 0], &60_000_u32.to_be_bytes(), &[0; 4]].concat();
    let mut ext = Vec::new();
    push_tlv(&mut ext, 1, b"not known in a request");
    push_tlv(&mut ext, request_keys::METADATA, &[3, b't', b'a', b'g', n]);
    frame(Kind::REQUEST, call, &fixed, &ext, &[n])
}

fn response(call: u32, status: Code, disposition: Disposition, payload: &[u8]) -> Vec<u8> {
    let [high, low] = status.as_u16().to_be_bytes();
    let codec = u8::from(!payload.is_empty());
    let mut ext = Vec::new();
    if payload.is_empty() {
        push_tlv(&mut ext, 1, b"said by the next version");
    }
    push_tlv(&mut ext, 8, b"not known in a response");
    frame(Kind::RESPONSE, call, &[high, low, disposition.as_u8(), codec], &ext, payload)
}

fn goaway(last_call: u32, reason: CloseReason) -> Vec<u8> {
    let fixed = [&last_call.to_be_bytes()[..], &reason.0.to_be_bytes(), &[0; 4]].concat();
    frame(Kind::GOAWAY, 0, &fixed, &[], &[])
}

fn close(reason: CloseReason, last_call: u32) -> Vec<u8> {
    let fixed = [&reason.0.to_be_bytes()[..], &last_call.to_be_bytes()].concat();
    frame(Kind::CLOSE, 0, &fixed, &[], b"for a reason of the next version")
}

fn ping(kind: Kind, echo: &[u8; 8]) -> Vec<u8> {
    frame(kind, 0, &[], &[], echo)
}

/// Answers with the metadata `tag`.
fn tag() -> Method {
    Method::infallible("it.Tag/get", 1, |cx: Cx, _: u64| async move {
        Answer::Ok(cx.metadata().get("tag").map_or(0, |tag| u64::from(tag[0])))
    })
}

/// P14: our server settles on version 1 with a client of 1..=2, answers its calls, sees through
/// the TLVs it does not know, cancels, echoes its pings, and drains with it. Shown by 40 calls and
/// a drain in the middle of one, a frame to be skipped between all others.
#[tokio::test(start_paused = true)]
async fn p_14_our_server_serves_a_client_of_the_next_version() {
    let gate = Gate::default();
    let router = Router::new().method(gate.method("it.Gate/pass")).method(echo()).method(tag());
    let (raw, handle, server) = driven(router, &ServerConfig::default(), 256 * 1024);
    let mut next = Next::new(raw);
    next.greet_server().await;

    let calls = (0..40_u8).map(|n| (2 * u32::from(n) + 1, n + 1));
    let name = |n: u8| if n.is_multiple_of(2) { ECHO } else { "it.Tag/get" };
    let asked: Vec<Vec<u8>> = calls.clone().map(|(id, n)| request(id, name(n), n)).collect();
    next.say(&asked).await;
    for (id, n) in calls {
        let reply = next.raw.reply().await;
        assert_eq!((reply.call, reply.status), (id, Code::OK));
        assert_eq!(reply.payload, [n], "what was sent, or the metadata beside it");
    }

    next.say(&[request(101, "it.Gate/pass", 1), request(103, "it.Gate/pass", 2)]).await;
    gate.entered.reach(2).await;
    next.say(&[frame(Kind::CANCEL, 101, &[], &[], &[])]).await;
    let reply = next.raw.reply().await;
    assert_eq!((reply.call, reply.status), (101, Code::CANCELLED));
    next.say(&[ping(Kind::PING, b"next one"), ping(Kind::PONG, b"unasked!")]).await;
    assert_eq!(next.raw.frame().await.parse().unwrap(), Frame::Pong(*b"next one"));

    handle.drain();
    let (_, asked) = next.raw.first_goaway().await;
    next.say(&[request(105, ECHO, 9), ping(Kind::PONG, &asked)]).await;
    assert_eq!(next.raw.reply().await.payload, [9]);
    assert_eq!(next.raw.goaway().await.last_call.0, 105);
    next.say(&[request(107, ECHO, 9)]).await;
    settle().await;
    gate.open.notify_one();
    let reply = next.raw.reply().await;
    assert_eq!((reply.call, reply.status, &reply.payload[..]), (103, Code::OK, &[2][..]));
    let (reason, last_call, _) = next.raw.close().await;
    assert_eq!((reason, last_call), (CloseReason::SHUTDOWN, 105));
    assert!((50..=256).contains(&next.idle), "{} frames to be skipped", next.idle);
    drop(next);
    assert_eq!(server.await.unwrap().close_reason(), Some(CloseReason::SHUTDOWN));
}

/// P14, LD-11: what is skipped may go on for ever at its rate, and a client's farewell may have a
/// reason without a name, which is kept. Shown by 256 frames at once and 32 in each of 60 seconds,
/// on the paused clock, and a call at the end.
#[tokio::test(start_paused = true)]
async fn p_14_our_server_skips_as_long_as_it_takes() {
    let router = Router::new().method(echo());
    let (raw, _handle, server) = driven(router, &ServerConfig::default(), 256 * 1024);
    let mut next = Next::new(raw);
    next.greet_server().await;

    while next.idle < 256 {
        let unknown = next.unknown();
        next.raw.write(&unknown).await;
    }
    for _ in 0..60 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..32 {
            let unknown = next.unknown();
            next.raw.write(&unknown).await;
        }
        settle().await;
    }
    next.raw.write(&request(1, ECHO, 5)).await;
    assert_eq!(next.raw.reply().await.payload, [5]);

    next.raw.write(&close(CLOSING, 0)).await;
    assert_eq!(next.raw.rest().await, [0; 0]);
    drop(next);
    let error = server.await.unwrap();
    let ErrorKind::ClosedByPeer { reason, .. } = error.kind() else { panic!("{error}") };
    assert_eq!(*reason, CLOSING);
}

/// P14: our client's calls to a server of 1..=2 succeed; statuses without a name reach the caller
/// as they are, and are tried again where nothing was executed. Shown by 40 calls answered in
/// reverse, each kind of status, a table that grows, and a ping.
#[tokio::test]
async fn p_14_our_client_calls_a_server_of_the_next_version() {
    let (channel, raw) = raw_server(Channel::builder());
    let mut next = Next::new(raw);
    let calls: Vec<_> = (0..40).map(|n| tokio::spawn(channel.call(echo_stub(), n))).collect();
    next.greet_client(&table(&[(ECHO, &[1])])).await;
    let mut asked = Vec::new();
    for _ in 0..40 {
        asked.push(next.request().await);
    }
    let answers = asked.iter().rev();
    let answers: Vec<Vec<u8>> = answers
        .map(|(id, _, payload)| response(*id, Code::OK, Disposition::Processed, payload))
        .collect();
    next.say(&answers).await;
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(n));
    }

    let update = table(&[(ECHO, &[1, 2])]);
    let update = frame(Kind::TABLE_UPDATE, 0, &[], &[], &update.to_bytes());
    next.say(&[update, ping(Kind::PING, b"you too?")]).await;
    assert_eq!(next.raw.frame().await.parse().unwrap(), Frame::Pong(*b"you too?"));

    for code in [16, 45, 0x7fff].map(Code::from_u16) {
        let call = tokio::spawn(channel.call(echo_stub(), 1));
        let (id, ..) = next.request().await;
        next.say(&[response(id, code, Disposition::Processed, &[])]).await;
        let failed = assert_status(call.await.unwrap(), code, Disposition::Processed);
        assert_eq!(failed.message(), "said by the next version");

        let mut call = tokio::spawn(channel.call(echo_stub(), 6));
        let (id, attempt, _) = next.request().await;
        assert_eq!(attempt, 0);
        next.say(&[response(id, code, Disposition::NotProcessed, &[])]).await;
        let (id, attempt, payload) = unless_ended(&mut call, next.request()).await;
        assert_eq!(attempt, 1, "nothing was executed, so it is made again");
        next.say(&[response(id, Code::OK, Disposition::Processed, &payload)]).await;
        assert_eq!(call.await.unwrap(), Ok(6));
    }
    assert!((50..=256).contains(&next.idle), "{} frames to be skipped", next.idle);
}

/// P14: a server of 1..=2 sends our client away, for reasons without a name: what it has not read
/// is made again on the next connection, what it has read is waited for. Shown over TCP, by a
/// GOAWAY in two steps and by a CLOSE.
#[tokio::test]
async fn p_14_our_client_is_sent_away_by_the_next_version() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = Channel::lazy(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let known = table(&[(ECHO, &[1])]);
    let read = tokio::spawn(channel.call(echo_stub(), 1));
    let mut old = Next::accept(&listener, &known).await;
    let (first, ..) = old.request().await;
    let mut unread = tokio::spawn(channel.call(echo_stub(), 2));
    old.request().await;

    old.say(&[goaway(u32::MAX, GOING), ping(Kind::PING, b"goodbye?")]).await;
    assert_eq!(old.raw.frame().await.parse().unwrap(), Frame::Pong(*b"goodbye?"));
    old.say(&[goaway(first, GOING)]).await;
    let mut new = unless_ended(&mut unread, Next::accept(&listener, &known)).await;
    let (again, attempt, payload) = new.request().await;
    assert_eq!((attempt, &payload[..]), (0, &[2][..]), "free: nobody read it");
    new.say(&[response(again, Code::OK, Disposition::Processed, &payload)]).await;
    assert_eq!(unread.await.unwrap(), Ok(2));
    assert!(!read.is_finished());
    old.say(&[response(first, Code::OK, Disposition::Processed, &[1])]).await;
    assert_eq!(read.await.unwrap(), Ok(1));
    old.raw.write(&close(CLOSING, first)).await;

    let mut unread = tokio::spawn(channel.call(echo_stub(), 3));
    let idempotent: Plain<u64, u64> =
        leak(Stub::infallible(ECHO, 1, Fingerprint::UNCHECKED).idempotent());
    let (id, ..) = new.request().await;
    let last_call = id - 2;
    new.raw.write(&close(CLOSING, last_call)).await;
    let mut third = unless_ended(&mut unread, Next::accept(&listener, &known)).await;
    let (id, _, payload) = third.request().await;
    third.say(&[response(id, Code::OK, Disposition::Processed, &payload)]).await;
    assert_eq!(unread.await.unwrap(), Ok(3));

    // Read, and the outcome is unknown: only an idempotent call is made again.
    let (lost, mut again) =
        (tokio::spawn(channel.call(echo_stub(), 4)), tokio::spawn(channel.call(idempotent, 5)));
    let (_, last) = (third.request().await, third.request().await);
    third.raw.write(&close(CLOSING, last.0)).await;
    let failed = status(lost.await.unwrap());
    assert_eq!((failed.code(), failed.disposition()), (Code::CONNECTION_LOST, Disposition::Maybe));
    let source = std::error::Error::source(&failed).unwrap().to_string();
    assert!(source.contains("999"), "{source}");
    let mut fourth = unless_ended(&mut again, Next::accept(&listener, &known)).await;
    let (id, attempt, payload) = fourth.request().await;
    assert_eq!((attempt, &payload[..]), (1, &[5][..]));
    fourth.say(&[response(id, Code::OK, Disposition::Processed, &payload)]).await;
    assert_eq!(again.await.unwrap(), Ok(5));
}

/// P14: a peer that has dropped version 1 is told so at HELLO, by either side, in words that name
/// both ranges and who is to be upgraded; nothing was executed. Shown both ways by one of 2..=3.
#[tokio::test]
async fn p_14_a_peer_without_version_1_fails_at_hello() {
    let told = "we speak protocol versions 1..=1, the peer 2..=3: upgrade this side";
    let (mut raw, _handle, server) =
        driven(Router::new().method(echo()), &ServerConfig::default(), 4096);
    let said = [&LATER.to_bytes()[..], &hello_of_next(&hello()), &request(1, ECHO, 1)].concat();
    raw.write(&said).await;
    assert_eq!(raw.bytes(8).await, Preface(VersionRange::OURS).to_bytes());
    let (reason, last_call, detail) = raw.close().await;
    assert_eq!((reason, last_call), (CloseReason::NO_COMMON_VERSION, 0));
    assert!(detail.contains("1..=1") && detail.contains("2..=3"), "{detail}");
    drop(raw);
    let text = server.await.unwrap().to_string();
    assert!(text.contains(told), "{text}");

    let (channel, mut raw) = raw_server(Channel::builder());
    let call = tokio::spawn(channel.call(echo_stub(), 1));
    raw.client_hello().await;
    raw.write(&LATER.to_bytes()).await;
    let failed = assert_status(call.await.unwrap(), Code::NOT_CONNECTED, Disposition::NotProcessed);
    assert!(failed.message().contains(told), "{failed}");

    let (ours, theirs) = (LATER.0, VersionRange::OURS);
    let kind = ErrorKind::NoCommonVersion { peer: "mem".to_owned(), ours, theirs };
    assert!(kind.to_string().ends_with("the peer 1..=1: upgrade the peer"), "{kind}");
}
