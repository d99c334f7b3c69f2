//! Both sides of a connection, fed with frames that anybody may have sent: each is taken in its
//! turn or closes the connection, no call is lost or answered twice, and what they send is sound.

use std::time::{Duration, Instant};

use switchback::proto::{CallOutcome, ClientConnection, ClientEvent, ClientLimits};
use switchback::proto::{LostDisposition, ServerConnection, ServerEvent, ServerLimits, TableCache};
use switchback::util::fnv64;
use switchback::wire::{
    CallId, Data, Decoder, FRAME_BYTES_DEFAULT, FRAME_BYTES_FLOOR, Frame, Kind, MethodId,
};
use switchback::wire::{MethodRow, Preface, RawFrame, TablePayload, VersionRange, VersionRow};

/// Feeds the frames to a server, before HELLO or after.
pub(super) fn serve(frames: &[RawFrame<'_>], setup: u8) {
    let mut server = ServerConnection::new(server_limits());
    let mut out = Vec::new();
    server.handle_preface(Preface(VersionRange::OURS), &mut out).expect("the versions are ours");
    if setup & 1 == 0 {
        let mut hello = Vec::new();
        let _client =
            ClientConnection::<u8>::new(client_limits(), TableCache::default(), &mut hello);
        let read = Decoder::new(FRAME_BYTES_DEFAULT).decode(&hello[Preface::BYTES..]);
        let (raw, _) = read.expect("our own HELLO is sound").expect("and whole");
        assert_eq!(server.handle_frame(raw), Ok(ServerEvent::Hello));
        server.accept(&table(), &mut out);
    }
    for raw in frames {
        let before = server.last_call();
        let is_new = |id: CallId| id > before && id.is_client();
        match server.handle_frame(*raw) {
            Ok(ServerEvent::Hello) => {
                assert!(!server.is_open() && server.client().is_some());
                server.accept(&table(), &mut out);
                assert!(server.is_open());
            }
            Ok(ServerEvent::Request(request)) => {
                assert!(is_new(request.call) && server.last_call() == request.call);
                assert_eq!(request.flags.unknown_critical(Kind::REQUEST), 0);
                assert_eq!(request.check_ext(), Ok(()));
            }
            Ok(ServerEvent::Refuse(id, ..)) => {
                assert!(is_new(id) && server.last_call() == id);
            }
            Ok(ServerEvent::Cancel(id)) => assert!(id <= before && id.is_client()),
            Ok(ServerEvent::Piece(data)) => assert!(data.call <= before && data.call.is_client()),
            Ok(ServerEvent::Stray(Data { call, .. })) => {
                assert!(call <= before && call.is_client())
            }
            Ok(ServerEvent::LostPiece(_)) => unreachable!("no frame was given up"),
            Ok(
                ServerEvent::Nothing
                | ServerEvent::Credit(_)
                | ServerEvent::Ping(_)
                | ServerEvent::Pong
                | ServerEvent::Skipped,
            ) => {}
            Ok(ServerEvent::GoawayRead) => unreachable!("no GOAWAY was sent"),
            Ok(ServerEvent::Closed(_)) => break,
            Err(error) => {
                assert!(error.close_reason().name().is_some() && !error.to_string().is_empty());
                break;
            }
        }
    }
    assert_sound(&out[Preface::BYTES..]);
}

/// Feeds the frames to a client that waits for answers, before HELLO_ACK or after.
pub(super) fn call(frames: &[RawFrame<'_>], setup: u8) {
    let (mut client, out) = waiting_client(setup);
    let mut reply = Vec::new();
    for raw in frames {
        let busy = client.calls.busy();
        let answered = match client.handle_frame(*raw) {
            Ok(ClientEvent::Answered(_)) => true,
            Ok(ClientEvent::Closed(_)) | Err(_) => break,
            Ok(_) => false,
        };
        if answered {
            let taken = client.calls.take(raw.head.call, &mut reply).expect("it was answered");
            assert!(taken.freed && client.calls.busy() + 1 == busy);
            let CallOutcome::Answered { ext_len, .. } = taken.outcome else {
                panic!("{:?} is no answer", taken.outcome);
            };
            assert!(ext_len <= reply.len());
        }
    }
    assert_sound(&out[Preface::BYTES..]);
    client.calls.lose_all(LostDisposition { handed_bytes: 0, last_call: None }, |_| {});
    for id in [1, 3, 5, 7].map(CallId) {
        client.calls.take(id, &mut reply);
    }
    assert_eq!(client.calls.busy(), 0, "a call without an outcome");
}

/// A table of one method.
pub(super) fn table() -> TablePayload {
    let versions = vec![VersionRow { version: 1, fingerprint: 7 }];
    let rows = vec![MethodRow { method: MethodId(9), ceiling: MethodRow::NO_CEILING, versions }];
    let mut table = TablePayload { hash: 0, rows };
    table.hash = fnv64(&table.to_bytes()[8..]);
    table
}

/// A client with call 1 given up, call 3 expired, and calls 5 and 7 open.
#[expect(clippy::disallowed_methods, reason = "any moment does as a start")]
fn waiting_client(setup: u8) -> (ClientConnection<u8>, Vec<u8>) {
    let mut out = Vec::new();
    let mut client = ClientConnection::new(client_limits(), TableCache::default(), &mut out);
    if setup & 2 == 0 {
        let mut server = ServerConnection::new(server_limits());
        let mut answer = Vec::new();
        let ours = Preface(VersionRange::OURS);
        server.handle_preface(ours, &mut answer).expect("the versions are ours");
        let read = Decoder::new(FRAME_BYTES_DEFAULT).decode(&out[Preface::BYTES..]);
        let (raw, _) = read.expect("our own HELLO is sound").expect("and whole");
        assert_eq!(server.handle_frame(raw), Ok(ServerEvent::Hello));
        server.accept(&table(), &mut answer);
        client.handle_preface(ours).expect("the versions are ours");
        let mut rest = &answer[Preface::BYTES..];
        // Without its last frame, the table, the client goes on waiting for one.
        let frames_max = if setup & 4 == 0 { 2 } else { 1 };
        for _ in 0..frames_max {
            let read = Decoder::new(FRAME_BYTES_DEFAULT).decode(rest);
            let (raw, used) = read.expect("our own answer is sound").expect("and whole");
            client.handle_frame(raw).expect("our own answer is accepted");
            rest = &rest[used..];
        }
    }
    let now = Instant::now();
    for (offset, late) in [(10, 5), (20, 0), (30, 5), (40, 5)] {
        let opened = client.calls.open(now + Duration::from_secs(late), offset, 0);
        opened.expect("eight calls are allowed");
    }
    client.calls.cancel(CallId(1));
    client.calls.expire(now, |id, _| assert_eq!(id, CallId(3)));
    let mut reply = Vec::new();
    let expired = client.calls.take(CallId(3), &mut reply).expect("it expired");
    assert_eq!(expired.outcome, CallOutcome::Expired);
    (client, out)
}

/// What a side sends is frames of this protocol.
fn assert_sound(mut out: &[u8]) {
    let mut decoder = Decoder::new(FRAME_BYTES_FLOOR);
    while !out.is_empty() {
        let (raw, used) = decoder.decode(out).expect("sent frames are sound").expect("and whole");
        Frame::parse(raw).expect("sent frames can be read");
        out = &out[used..];
    }
}

fn server_limits() -> ServerLimits {
    ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max: 8,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: String::from("server"),
    }
}

fn client_limits() -> ClientLimits {
    ClientLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max: 8,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: String::from("client"),
        first_call: CallId(1),
    }
}
