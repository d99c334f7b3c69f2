//! The handshake: two honest sides with any legal limits, the same with a stream that is damaged on
//! its way, and each side against a stranger who says anything.
//!
//! ```text
//!  data = mode:1 rest
//!         0 honest   1 damaged   2 a stranger at the server   3 a stranger at the client
//! ```
//!
//! Invariants: two honest sides open with the same view of each other, or both know that no version
//! is common; over a damaged stream a client that opens has the server's view, or its connection
//! ends with a reason; what a stranger says is judged the same however its bytes are cut, and opens
//! a connection only if it keeps to HS-3 to HS-7 and RT-4, which are written down here once more.

mod handshake_sides;
mod strangers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use handshake_sides::{Client, Server, Stop};
use switchback::proto::{ClientLimits, KnownTable, ServerLimits, TableCache, Violation};
use switchback::util::fnv64;
use switchback::wire::{CallId, Decoder, FRAME_BYTES_FLOOR, Hello, HelloAck, Kind, MethodId};
use switchback::wire::{MethodRow, Preface, RequestFields, TablePayload, VersionRange};
use switchback::wire::{VersionRow, begin_request, finish_frame, seal_frame};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    let mut u = Unstructured::new(rest);
    // Drawing ends where the data does.
    let _ended = match mode & 3 {
        0 => pair(&mut u, false),
        1 => pair(&mut u, true),
        2 => strangers::at_server(&mut u),
        _ => strangers::at_client(&mut u),
    };
}

/// Two honest sides and what was said.
struct Pair {
    client: Client,
    server: Server,
    client_limits: ClientLimits,
    server_limits: ServerLimits,
    cache: TableCache,
    table: TablePayload,
    /// Calls that the client made before it knew anything (HS-8).
    early: Vec<CallId>,
    said_by_client: Vec<u8>,
    said_by_server: Vec<u8>,
}

fn pair(u: &mut Unstructured<'_>, is_damaged: bool) -> Result<()> {
    let mut pair = Pair::new(u)?;
    pair.call_early(u.int_in_range(0..=70)?);
    let mut damages = u8::from(is_damaged);
    loop {
        let (mut up, mut down) =
            (std::mem::take(&mut pair.client.out), std::mem::take(&mut pair.server.out));
        if up.is_empty() && down.is_empty() {
            break;
        }
        pair.said_by_client.extend_from_slice(&up);
        pair.said_by_server.extend_from_slice(&down);
        if damages > 0 && u.ratio(1, 2)? {
            damages -= 1;
            damage(u, if down.is_empty() { &mut up } else { &mut down })?;
        }
        cut(u, &up, |piece| pair.server.hear(piece));
        cut(u, &down, |piece| pair.client.hear(piece));
    }
    if is_damaged {
        pair.check_damaged();
    } else if pair.client_limits.versions.choose(pair.server_limits.versions).is_some() {
        pair.check_open();
    } else {
        pair.check_strangers();
    }
    Ok(())
}

impl Pair {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let client_limits = ClientLimits {
            versions: versions(u)?,
            frame_bytes_max: u.int_in_range(FRAME_BYTES_FLOOR..=u32::MAX)?,
            calls_max: u.int_in_range(1..=100)?,
            window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
            codecs: codecs(u)?,
            build: text(u)?,
            first_call: CallId(1),
        };
        let server_limits = ServerLimits {
            versions: versions(u)?,
            frame_bytes_max: u.int_in_range(FRAME_BYTES_FLOOR..=u32::MAX)?,
            calls_max: u.int_in_range(1..=100)?,
            window_connection: switchback::wire::WINDOW_BYTES_DEFAULT,
            codecs: codecs(u)?,
            build: text(u)?,
        };
        let table = table(u)?;
        let mut cache = TableCache::default();
        for _ in 0..u.int_in_range(0..=10)? {
            let known = if u.ratio(1, 4)? { table.clone() } else { self::table(u)? };
            cache.remember(Arc::new(KnownTable::new(known).expect("its hash is right")));
        }
        Ok(Self {
            client: Client::new(client_limits.clone(), cache.clone()),
            server: Server::new(server_limits.clone(), table.clone()),
            client_limits,
            server_limits,
            cache,
            table,
            early: Vec::new(),
            said_by_client: Vec::new(),
            said_by_server: Vec::new(),
        })
    }

    #[expect(clippy::disallowed_methods, reason = "any moment does as a start")]
    fn call_early(&mut self, wanted: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let room = self.client_limits.calls_max.min(64) as usize;
        for at in 0..wanted {
            let opened = self.client.proto.calls.open(deadline, 0, 0);
            assert_eq!(opened.is_some(), at < room, "64 calls may go ahead (HS-8)");
            let Some(opened) = opened else { break };
            let (method, version, codec) = (MethodId(1), 1, 1);
            let (attempt_priority, timeout_ms, fingerprint) = (0, 5000, 0);
            let fields =
                RequestFields { method, version, codec, attempt_priority, timeout_ms, fingerprint };
            let out = &mut self.client.out;
            let start = begin_request(out, &fields);
            finish_frame(out, start, 0, FRAME_BYTES_FLOOR).expect("it is empty");
            seal_frame(&mut out[start.index()..], opened.id);
            self.early.push(opened.id);
        }
    }

    /// Both are open and see the same.
    fn check_open(&self) {
        let (client, server) = (&self.client.proto, &self.server.proto);
        assert_eq!((self.client.stop, self.server.stop), (None, None));
        assert!(server.is_open());
        self.check_views();
        assert_eq!(self.server.requests, self.early, "calls that went ahead");
        let busy = self.early.len();
        let max = self.client_limits.calls_max.min(self.server_limits.calls_max) as usize;
        assert_eq!(client.calls.room(), max.saturating_sub(busy));
        let frames = frames(&self.said_by_server[Preface::BYTES..]);
        let is_known = self.cache.find(self.table.hash).is_some();
        let wanted = [Kind::HELLO_ACK, Kind::TABLE];
        assert_eq!(frames, wanted[..if is_known { 1 } else { 2 }], "the table is sent if needed");
        let first = client.cache().hashes().into_iter().next();
        assert!(is_known || first == Some(self.table.hash), "a new table is remembered");
        assert!(client.cache().hashes().len() <= Hello::TABLES_MAX);
        let codecs = &self.client_limits.codecs;
        let is_refused = !codecs.iter().any(|id| self.server_limits.codecs.contains(id));
        assert_eq!(client.is_codec_refused(), is_refused);
    }

    /// What each knows of the other is what the other is.
    fn check_views(&self) {
        let (client, server) = (&self.client.proto, &self.server.proto);
        let limits = &self.client_limits;
        let hello = Hello {
            frame_bytes_max: limits.frame_bytes_max,
            codecs: limits.codecs.clone(),
            build: shortened(&limits.build),
            tables: self.cache.hashes(),
            window_connection: Some(self.client_limits.window_connection),
        };
        assert_eq!(server.client(), Some(&hello));
        let limits = &self.server_limits;
        let hello_end = Preface::BYTES + frame_bytes(&self.said_by_client[Preface::BYTES..]);
        let ack = HelloAck {
            frame_bytes_max: limits.frame_bytes_max,
            calls_max: limits.calls_max,
            codecs: limits.codecs.clone(),
            build: shortened(&limits.build),
            table: self.table.hash,
            transcript: fnv64(&self.said_by_client[..hello_end]),
            has_fallback: false,
            window_connection: Some(limits.window_connection),
        };
        assert_eq!(client.server(), Some(&ack));
        assert_eq!(client.frame_bytes_max(), limits.frame_bytes_max);
        assert_eq!(client.table().map(|table| table.hash()), Some(self.table.hash));
        for row in &self.table.rows {
            assert_eq!(client.table().and_then(|table| table.row(row.method)), Some(row));
        }
    }

    /// No version in common: both know, and which versions the other has (HS-4).
    fn check_strangers(&self) {
        let (ours, theirs) = (self.client_limits.versions, self.server_limits.versions);
        let violation = Violation::NoCommonVersion { ours, theirs };
        assert_eq!(self.client.stop, Some(Stop::Violation(violation)));
        let violation = Violation::NoCommonVersion { ours: theirs, theirs: ours };
        assert_eq!(self.server.stop, Some(Stop::Violation(violation)));
        assert!(self.server.requests.is_empty(), "a call was taken");
        assert_eq!(frames(&self.said_by_server[Preface::BYTES..]), [Kind::CLOSE]);
    }

    /// A client that opened has the server's view; who has not, waits or knows why.
    fn check_damaged(&self) {
        if self.client.proto.table().is_some() {
            assert!(self.server.proto.is_open(), "open with nobody");
            self.check_views();
        }
        let is_prefix = self.early.starts_with(&self.server.requests);
        let is_told = self.server.stop.is_some() || self.client.stop.is_some();
        assert!(is_prefix || is_told || !self.server.requests.is_empty(), "calls out of nothing");
        assert!(self.server.requests.iter().all(|id| self.early.contains(id)));
    }
}

/// Flips a bit, or loses or repeats some bytes.
fn damage(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let at = u.choose_index(bytes.len())?;
    let end = bytes.len().min(at + u.int_in_range(1..=100)?);
    match u.int_in_range(0..=3_u8)? {
        0 | 1 => bytes[at] ^= 1 << u.int_in_range(0..=7)?,
        2 => drop(bytes.drain(at..end)),
        _ => bytes.extend_from_within(at..end),
    }
    Ok(())
}

/// Hands bytes over in pieces of any length.
fn cut(u: &mut Unstructured<'_>, bytes: &[u8], mut hear: impl FnMut(&[u8])) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = u.int_in_range(1..=64_usize).unwrap_or(1);
        let len = if len == 64 || u.is_empty() { rest.len() } else { len.min(rest.len()) };
        let (piece, tail) = rest.split_at(len);
        hear(piece);
        rest = tail;
    }
}

/// The kinds of the frames in a stream that is sound.
fn frames(mut stream: &[u8]) -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut decoder = Decoder::new(u32::MAX);
    while !stream.is_empty() {
        let (raw, used) = decoder.decode(stream).expect("it is sound").expect("it is whole");
        kinds.push(raw.head.kind);
        stream = &stream[used..];
    }
    kinds
}

/// Bytes of the frame at the start.
fn frame_bytes(stream: &[u8]) -> usize {
    let read = Decoder::new(u32::MAX).decode(stream);
    read.expect("it is sound").expect("it is whole").1
}

fn versions(u: &mut Unstructured<'_>) -> Result<VersionRange> {
    let lo = u.int_in_range(1..=4)?;
    let hi = if u.arbitrary()? { u.int_in_range(lo..=6)? } else { u.int_in_range(lo..=u16::MAX)? };
    Ok(VersionRange { lo, hi })
}

/// Between 1 and 32 ids that ascend.
fn codecs(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = u.int_in_range(0..=31)?.min(u.len());
    let mut codecs = u.bytes(len)?.to_vec();
    codecs.push(u.arbitrary()?);
    codecs.sort_unstable();
    codecs.dedup();
    Ok(codecs)
}

/// Text, longer than allowed too: it is cut when it is sent.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let len = u.int_in_range(0..=80)?.min(u.len());
    Ok(String::from_utf8_lossy(u.bytes(len)?).into_owned())
}

fn shortened(build: &str) -> String {
    build[..build.floor_char_boundary(Hello::BUILD_BYTES_MAX)].to_owned()
}

fn table(u: &mut Unstructured<'_>) -> Result<TablePayload> {
    let mut rows = Vec::new();
    for method in 0..u.int_in_range(0..=6)? {
        let versions = 1..=u.int_in_range(1..=4)?;
        let row = |version| VersionRow { version, fingerprint: 7 };
        let (method, versions) = (MethodId(method), versions.map(row).collect());
        rows.push(MethodRow { method, ceiling: u.arbitrary()?, versions });
    }
    let mut table = TablePayload { hash: 0, rows };
    table.hash = fnv64(&table.to_bytes()[8..]);
    Ok(table)
}
