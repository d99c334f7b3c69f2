//! One conversation, of ten frames and more in each direction, over a stream that is scripted: our
//! client in it, or our server.
//!
//! Invariant: what either side says and when depends on the script alone; the clock is paused, and
//! whoever is pending for a cut goes on at once.

use std::sync::Arc;
use std::time::Duration;

use switchback::driver::{Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::transport::OwnedFrame;
use switchback::util::Fnv64;
use switchback::wire::{
    CallId, FRAME_BYTES_DEFAULT, Kind, RequestFields, VersionRange, append_control, begin_request,
    finish_frame, push_tlv, request_keys, seal_frame,
};
use switchback::{CallError, Channel, Code, Cx, Disposition, Error, Method, Router};
use tokio::task::JoinHandle;

use crate::raw::{Ask, ack, client_hello, hello, response, table};
use crate::scripted::{Played, Script, frames, frames_and_rest};
use crate::support::{Answer, Count, Gate, Plain, now, plain, settle};

const ECHO: &str = "it.Echo/echo";
const TEXT: &str = "it.Text/turn";
const GATE: &str = "it.Gate/pass";
const FAIL: &str = "it.Fail/fail";

/// Calls that the client makes.
pub(crate) const CALLS: usize = 6;

/// How a call of the client ended.
pub(crate) type Called = Result<String, CallError<std::convert::Infallible>>;

/// What our client came to.
pub(crate) struct ClientRun {
    pub(crate) calls: Vec<Called>,
    pub(crate) played: Played,
    /// From the first poll until all calls had ended.
    pub(crate) took: Duration,
}

/// What our server came to.
pub(crate) struct ServerRun {
    pub(crate) played: Played,
    /// Handlers that started.
    pub(crate) started: usize,
    pub(crate) served: JoinHandle<Error>,
    pub(crate) gate: Gate,
}

/// The scripts without a cut, and what our sides write in them.
pub(crate) struct Conversation {
    /// For our client.
    pub(crate) client: Script,
    /// Where each call's request begins and ends in what the client writes.
    pub(crate) requests: Vec<std::ops::Range<usize>>,
    /// Where each call's answer ends in what the client reads.
    pub(crate) answers: Vec<usize>,
    /// What the client writes before it says goodbye, in frames, and in bytes.
    pub(crate) client_bytes: usize,
    pub(crate) client_frames: Vec<OwnedFrame>,
    /// For our server.
    pub(crate) server: Script,
    pub(crate) server_bytes: usize,
    pub(crate) server_frames: Vec<OwnedFrame>,
}

impl Conversation {
    /// Plays both sides without a cut.
    pub(crate) async fn new() -> Self {
        let (client, requests, answers) = client_script().await;
        let run = play_client(&client).await;
        settle().await;
        let written = run.played.written();
        let server = Script { says: vec![(0, client_says())], ..Script::default() };
        let served = play_server(&server).await;
        settle().await;
        let answered = served.played.written();
        Self {
            client,
            requests,
            answers,
            client_bytes: written.len(),
            client_frames: sorted(&written),
            server,
            server_bytes: answered.len(),
            server_frames: sorted(&answered),
        }
    }

    /// Bytes that our client reads.
    pub(crate) fn client_reads(&self) -> usize {
        self.client.says.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Bytes that our server reads.
    pub(crate) fn server_reads(&self) -> usize {
        self.server.says[0].1.len()
    }
}

/// A cut in the head of every frame, and one behind it, so that many reads and writes may fail.
pub(crate) fn cuts_of(bytes: &[u8]) -> Vec<usize> {
    let mut at = 8;
    let mut cuts = vec![3, 8];
    for frame in frames_and_rest(bytes).0 {
        cuts.extend([at + 7, at + frame.as_bytes().len()]);
        at += frame.as_bytes().len();
    }
    cuts
}

/// Frames in an order that does not depend on who was quicker.
pub(crate) fn sorted(bytes: &[u8]) -> Vec<OwnedFrame> {
    let mut frames = frames(bytes);
    frames.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    frames
}

/// Makes the calls of our client, all at once, and waits for them.
pub(crate) async fn play_client(script: &Script) -> ClientRun {
    let (stream, played) = script.play();
    let channel = Channel::builder().stream(stream).unwrap();
    let begun = now();
    let tasks = spawn_calls(&channel);
    let mut calls = Vec::new();
    for task in tasks {
        calls.push(task.await.unwrap());
    }
    let took = now() - begun;
    let last = script.says.last().map_or(0, |(after, _)| *after);
    if script.fault.is_none() {
        played.until_written(last + PONG_BYTES).await;
    }
    drop(channel);
    ClientRun { calls, played, took }
}

fn spawn_calls(channel: &Channel) -> Vec<JoinHandle<Called>> {
    let text: Plain<String, String> = plain(TEXT);
    let call = |n: usize| channel.call(text, format!("{n}").repeat(1 + 40 * (n % 2)));
    (0..CALLS).map(|n| tokio::spawn(call(n).timeout(Duration::from_secs(60)))).collect()
}

/// The script for our client; where its requests stand in what it writes, and the answers end in
/// what it reads.
async fn client_script() -> (Script, Vec<std::ops::Range<usize>>, Vec<usize>) {
    // What it says before anything is said to it.
    let (stream, played) = Script::default().play();
    let channel = Channel::builder().stream(stream).unwrap();
    let tasks = spawn_calls(&channel);
    settle().await;
    let written = played.written();
    tasks.iter().for_each(JoinHandle::abort);
    drop(channel);
    let mut requests = Vec::new();
    let (mut at, mut transcript) = (8, Fnv64::new());
    transcript.write(&written[..8]);
    for frame in frames(&written) {
        let bytes = frame.as_bytes();
        match frame.head().kind {
            Kind::HELLO => transcript.write(bytes),
            Kind::REQUEST => requests.push(at..at + bytes.len()),
            kind => panic!("{kind:?}"),
        }
        at += bytes.len();
    }
    assert_eq!(requests.len(), CALLS);
    let methods = table(&[(TEXT, &[1])]);
    let mut says = ack(&methods, transcript.finish(), 64, 65_536);
    append_control(&mut says, Kind::TABLE, CallId::CONNECTION, &[], &methods.to_bytes());
    append_control(&mut says, Kind(0x90), CallId::CONNECTION, &[], b"skipped");
    let hello_bytes = says.len();
    let mut answers = Vec::new();
    for (n, id) in (0..CALLS).zip((1..).step_by(2)) {
        let payload = [&[u8::try_from(n + 2).unwrap()], &b"answers!"[..n + 2]].concat();
        let (code, disposition) = match n {
            4 => (Code::NOT_FOUND, Disposition::Processed),
            _ => (Code::OK, Disposition::Processed),
        };
        let payload = if n == 4 { &[][..] } else { &payload };
        says.extend(response(id, code, disposition, &[], payload));
        answers.push(says.len());
        if n == 2 {
            append_control(&mut says, Kind::PING, CallId::CONNECTION, &[], b"how now?");
        }
    }
    let then = says.split_off(hello_bytes);
    let script = Script { says: vec![(HELLO_BYTES_MIN, says), (at, then)], ..Script::default() };
    (script, requests, answers)
}

/// Serves until what is there was answered.
pub(crate) async fn play_server(script: &Script) -> ServerRun {
    let (stream, played) = script.play();
    let (gate, started) = (Gate::default(), Arc::new(Count::default()));
    let dispatch = methods(&gate, &started).into_dispatch().unwrap();
    let settings = ServerSettings::new(ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max: 64,
        window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
        codecs: vec![1],
        build: "scripted".to_owned(),
    });
    let (_handle, served) = serve_stream(stream, settings, dispatch, Runtime::tokio());
    let served = tokio::spawn(served);
    settle().await;
    ServerRun { played, started: started.get(), served, gate }
}

fn methods(gate: &Gate, started: &Arc<Count>) -> Router {
    let [first, second, third, fourth] = std::array::from_fn(|_| Arc::clone(started));
    let gate = gate.clone();
    let echo = Method::infallible(ECHO, 1, move |_cx: Cx, n: u64| {
        first.add();
        async move { Answer::Ok(n) }
    });
    let text = Method::infallible(TEXT, 1, move |_cx: Cx, text: String| {
        second.add();
        async move { Answer::Ok(text.chars().rev().collect::<String>()) }
    });
    let wait = Method::infallible(GATE, 1, move |_cx: Cx, n: u64| {
        third.add();
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Answer::Ok(n)
        }
    });
    let fail = Method::new(FAIL, 1, move |_cx: Cx, n: u64| {
        fourth.add();
        async move { Err::<u64, CallError<u64>>(CallError::App(n)) }
    });
    Router::new().method(echo).method(text).method(wait).method(fail)
}

/// Ten frames of a client.
fn client_says() -> Vec<u8> {
    let mut out = client_hello(&hello());
    out.extend(Ask::new(1, ECHO).to_bytes());
    let text = [&[200], &[b'x'; 199][..], b"y"].concat();
    out.extend(Ask { payload: &text, ..Ask::new(3, TEXT) }.to_bytes());
    append_control(&mut out, Kind::PING, CallId::CONNECTION, &[], b"and you?");
    out.extend(Ask::new(5, "it.Nothing/none").to_bytes());
    out.extend(Ask::new(7, GATE).to_bytes());
    append_control(&mut out, Kind(0x91), CallId::CONNECTION, &[], b"skip this");
    append_control(&mut out, Kind::CANCEL, CallId(7), &[], &[]);
    out.extend(with_metadata(9));
    out.extend(Ask::new(11, FAIL).to_bytes());
    assert_eq!(frames(&out).len(), 10);
    out
}

/// A request with metadata.
fn with_metadata(call: u32) -> Vec<u8> {
    let (mut out, mut ext) = (Vec::new(), Vec::new());
    push_tlv(&mut ext, request_keys::METADATA, b"\x05traceabc");
    let fields = RequestFields {
        method: switchback::wire::MethodId::of(ECHO),
        version: 1,
        codec: 1,
        attempt_priority: 0,
        timeout_ms: 60_000,
        fingerprint: 0,
    };
    let start = begin_request(&mut out, &fields);
    out.extend_from_slice(&ext);
    out.push(9);
    finish_frame(&mut out, start, ext.len(), u32::MAX).unwrap();
    seal_frame(&mut out, CallId(call));
    out
}

/// A preface and a header: more than nothing, less than HELLO.
const HELLO_BYTES_MIN: usize = 24;
/// Header, eight bytes, CRC.
const PONG_BYTES: usize = 28;
