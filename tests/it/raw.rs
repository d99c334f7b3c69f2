//! A peer of bytes: says what it is told to, right or wrong, and shows what comes back.
//!
//! Frames are built with the crate's own wire module; whoever wants broken ones changes the bytes.

use std::net::SocketAddr;

use bytes::BytesMut;
use switchback::transport::{FrameCodec, OwnedFrame, Stream};
use switchback::util::{Fnv64, fnv64};
use switchback::wire::{
    CallId, Close, CloseReason, Code, Disposition, Frame, Goaway, Hello, HelloAck, Kind, MethodId,
    MethodRow, Preface, RequestFields, Response, TablePayload, VersionRange, VersionRow,
    append_control, begin_request, begin_response, finish_frame, seal_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Decoder;

/// The other end of a connection, as bytes.
pub(crate) struct Raw {
    io: Box<dyn Io>,
    unread: BytesMut,
    codec: FrameCodec,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A RESPONSE that owns its parts.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) call: u32,
    pub(crate) status: Code,
    pub(crate) disposition: Disposition,
    pub(crate) ext: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A REQUEST to be written; the rest of its fields are what most tests want.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) call: u32,
    pub(crate) name: &'a str,
    pub(crate) version: u16,
    pub(crate) codec: u8,
    pub(crate) attempt_priority: u8,
    pub(crate) timeout_ms: u32,
    pub(crate) fingerprint: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Ask<'a> {
    /// Version 1, a minute, bincode, fingerprint unchecked, the payload of a small number.
    pub(crate) const fn new(call: u32, name: &'a str) -> Self {
        Self {
            call,
            name,
            version: 1,
            codec: 1,
            attempt_priority: 0,
            timeout_ms: 60_000,
            fingerprint: 0,
            payload: &[7],
        }
    }

    /// With MORE: its payload goes on in DATA.
    pub(crate) fn more(self) -> Vec<u8> {
        self.frame(true)
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        self.frame(false)
    }

    fn frame(self, has_more: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let fields = RequestFields {
            method: MethodId::of(self.name),
            version: self.version,
            codec: self.codec,
            attempt_priority: self.attempt_priority,
            timeout_ms: self.timeout_ms,
            fingerprint: self.fingerprint,
        };
        let start = begin_request(&mut out, &fields);
        out.extend_from_slice(self.payload);
        finish_frame(&mut out, start, 0, u32::MAX).unwrap();
        if has_more {
            start.set_more(&mut out);
        }
        seal_frame(&mut out, CallId(self.call));
        out
    }
}

impl Raw {
    pub(crate) fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (unread, codec) = (BytesMut::new(), FrameCodec::with_frame_bytes_max(u32::MAX));
        Self { io: Box::new(io), unread, codec }
    }

    /// One end of a duplex; the other is for the real side.
    pub(crate) fn pair(buffer_bytes: usize) -> (Self, Stream) {
        let (ours, theirs) = tokio::io::duplex(buffer_bytes);
        let (reader, writer) = tokio::io::split(theirs);
        (Self::new(ours), Stream::new(reader, writer, "mem"))
    }

    /// To a server at `tcp://...`.
    pub(crate) async fn connect(url: &str) -> Self {
        let address: SocketAddr = url.trim_start_matches("tcp://").parse().unwrap();
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// The next client of a listener.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().await.unwrap().0)
    }

    /// A half that reads and one that writes, for two tasks.
    pub(crate) fn split(self) -> (Self, Self) {
        let Self { io, unread, codec } = self;
        let (reader, writer) = tokio::io::split(io);
        let reading =
            Self { io: Box::new(tokio::io::join(reader, tokio::io::sink())), unread, codec };
        (reading, Self::new(tokio::io::join(tokio::io::empty(), writer)))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub(crate) async fn ask(&mut self, ask: Ask<'_>) {
        self.write(&ask.to_bytes()).await;
    }

    pub(crate) async fn cancel(&mut self, call: u32) {
        let mut out = Vec::new();
        append_control(&mut out, Kind::CANCEL, CallId(call), &[], &[]);
        self.write(&out).await;
    }

    /// No more from this side.
    pub(crate) async fn shutdown(&mut self) {
        self.io.shutdown().await.unwrap();
    }

    /// Exactly `len` bytes.
    pub(crate) async fn bytes(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            assert_ne!(self.io.read_buf(&mut self.unread).await.unwrap(), 0, "the stream ended");
        }
        self.unread.split_to(len).to_vec()
    }

    /// Exactly `len` bytes, or why they did not come.
    pub(crate) async fn try_bytes(&mut self, len: usize) -> Result<Vec<u8>, String> {
        while self.unread.len() < len {
            if self.io.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return Err(format!("the end after {} of {len} bytes", self.unread.len()));
            }
        }
        Ok(self.unread.split_to(len).to_vec())
    }

    /// The next frame, `None` at the end of the stream (a reset counts as one), or what is no
    /// frame.
    pub(crate) async fn try_next(&mut self) -> Result<Option<OwnedFrame>, String> {
        loop {
            match self.codec.decode(&mut self.unread) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => return Err(format!("bytes that are no frame ({error})")),
            }
            if self.io.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                let unread = self.unread.len();
                return if unread == 0 { Ok(None) } else { Err(format!("{unread} stray bytes")) };
            }
        }
    }

    /// Everything up to the end of the stream; a reset counts as one.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.io.read_buf(&mut self.unread).await.unwrap_or(0) > 0 {}
        self.unread.split().to_vec()
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<OwnedFrame> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.unread).unwrap() {
                return Some(frame);
            }
            if self.io.read_buf(&mut self.unread).await.unwrap() == 0 {
                assert!(self.unread.is_empty(), "half a frame at the end");
                return None;
            }
        }
    }

    /// The next frame, which must be there.
    pub(crate) async fn frame(&mut self) -> OwnedFrame {
        self.next().await.expect("a frame, not the end")
    }

    /// The next frame, which must be a RESPONSE.
    pub(crate) async fn reply(&mut self) -> Reply {
        let frame = self.frame().await;
        let Frame::Response(response) = frame.parse().unwrap() else {
            panic!("expected a response, found {:?}", frame.parse());
        };
        let Response { call, status, disposition, ext, payload, .. } = response;
        let (ext, payload) = (ext.to_vec(), payload.to_vec());
        Reply { call: call.0, status, disposition, ext, payload }
    }

    /// The next frame, which must be a CLOSE, and then the end.
    pub(crate) async fn close(&mut self) -> (CloseReason, u32, String) {
        let frame = self.frame().await;
        let Frame::Close(Close { reason, last_call, detail }) = frame.parse().unwrap() else {
            panic!("expected a close, found {:?}", frame.parse());
        };
        assert_eq!(self.rest().await, [0; 0], "bytes after a close");
        (reason, last_call.0, detail.to_owned())
    }

    /// The next two frames, which must be a GOAWAY that names no call, and a PING behind it.
    pub(crate) async fn first_goaway(&mut self) -> (Goaway, [u8; 8]) {
        let goaway = self.goaway().await;
        assert_eq!(goaway.last_call, Goaway::ANY_CALL);
        let frame = self.frame().await;
        let Frame::Ping(echo) = frame.parse().unwrap() else {
            panic!("expected a ping, found {:?}", frame.parse());
        };
        (goaway, echo)
    }

    /// The next frame, which must be a GOAWAY.
    pub(crate) async fn goaway(&mut self) -> Goaway {
        let frame = self.frame().await;
        let Frame::Goaway(goaway) = frame.parse().unwrap() else {
            panic!("expected a goaway, found {:?}", frame.parse());
        };
        goaway
    }

    /// Makes a channel connect, with [`Raw::greet_client`], to a server with one method.
    pub(crate) async fn greet_client_of(&mut self, channel: &switchback::Channel) {
        let ready = tokio::spawn({
            let channel = channel.clone();
            async move { channel.ready().await }
        });
        self.greet_client(&table(&[("it.Echo/echo", &[1])]), 8, 65_536).await;
        ready.await.unwrap().unwrap();
    }

    /// Reads until a CLOSE, and says its reason.
    pub(crate) async fn last_word(&mut self) -> CloseReason {
        loop {
            let frame = self.frame().await;
            if let Frame::Close(close) = frame.parse().unwrap() {
                return close.reason;
            }
        }
    }

    /// Writes, unless the other end is gone.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Whether something was said that was not read yet. Does not wait.
    pub(crate) async fn has_unread(&mut self) -> bool {
        let Self { io, unread, .. } = self;
        std::future::poll_fn(|cx| {
            let mut reading = std::pin::pin!(io.read_buf(unread));
            let _read = reading.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
        !self.unread.is_empty()
    }

    /// A frame of the connection without TLVs.
    pub(crate) async fn control(&mut self, kind: Kind, payload: &[u8]) {
        let mut out = Vec::new();
        append_control(&mut out, kind, CallId::CONNECTION, &[], payload);
        self.write(&out).await;
    }

    /// The next frame, which must be a REQUEST: its id, version and payload.
    pub(crate) async fn request(&mut self) -> (u32, u16, Vec<u8>) {
        let frame = self.frame().await;
        let Frame::Request(request) = frame.parse().unwrap() else {
            panic!("expected a request, found {:?}", frame.parse());
        };
        (request.call.0, request.version, request.payload.to_vec())
    }

    /// The next frame, which must be a REQUEST: its id and its attempt.
    pub(crate) async fn attempt(&mut self) -> (u32, u8) {
        self.maybe_attempt().await.expect("a request, not the end")
    }

    /// [`Raw::attempt`], or `None` after a CLOSE or at the end.
    pub(crate) async fn maybe_attempt(&mut self) -> Option<(u32, u8)> {
        let frame = self.next().await?;
        match frame.parse().unwrap() {
            Frame::Request(request) => Some((request.call.0, request.attempt_priority >> 4)),
            Frame::Close(_) => None,
            frame => panic!("expected a request, found {frame:?}"),
        }
    }

    /// The time that is left, of the next frame, which must be a REQUEST.
    pub(crate) async fn timeout_ms(&mut self) -> u32 {
        let frame = self.frame().await;
        let Frame::Request(request) = frame.parse().unwrap() else {
            panic!("expected a request, found {:?}", frame.parse());
        };
        request.timeout_ms
    }

    /// Says hello as a client; returns what the server says, its table included.
    pub(crate) async fn greet_server(&mut self) -> (HelloAck, TablePayload) {
        self.write(&client_hello(&hello())).await;
        let ack = self.hello_ack().await;
        let frame = self.frame().await;
        let Frame::Table(table) = frame.parse().unwrap() else {
            panic!("expected a table, found {:?}", frame.parse());
        };
        (ack, table)
    }

    /// Reads a server's preface and HELLO_ACK.
    pub(crate) async fn hello_ack(&mut self) -> HelloAck {
        assert_eq!(self.bytes(8).await, Preface(VersionRange::OURS).to_bytes());
        let frame = self.frame().await;
        let Frame::HelloAck(ack) = frame.parse().unwrap() else {
            panic!("expected HELLO_ACK, found {:?}", frame.parse());
        };
        ack
    }

    /// Reads a client's preface and HELLO; also gives the transcript to answer with.
    pub(crate) async fn client_hello(&mut self) -> (Hello, u64) {
        let preface = self.bytes(8).await;
        let frame = self.frame().await;
        let mut transcript = Fnv64::new();
        transcript.write(&preface);
        transcript.write(frame.as_bytes());
        let Frame::Hello(hello) = frame.parse().unwrap() else {
            panic!("expected HELLO, found {:?}", frame.parse());
        };
        (hello, transcript.finish())
    }

    /// Answers a client's hello as a server with this table; `calls_max` and `frame_bytes_max`
    /// are its limits.
    pub(crate) async fn greet_client(
        &mut self,
        table: &TablePayload,
        calls_max: u32,
        frame_bytes_max: u32,
    ) {
        let (hello, transcript) = self.client_hello().await;
        let ack = ack(table, transcript, calls_max, frame_bytes_max);
        self.write(&ack).await;
        if !hello.tables.contains(&table.hash) {
            self.table(Kind::TABLE, table).await; // RT-4
        }
    }

    /// [`Raw::greet_client`] of a server that takes pieces, in the smallest window.
    pub(crate) async fn greet_client_with_window(&mut self, table: &TablePayload) {
        let (_, transcript) = self.client_hello().await;
        let ack = HelloAck {
            frame_bytes_max: 4 << 20,
            calls_max: 8,
            codecs: vec![1],
            build: String::new(),
            table: table.hash,
            transcript,
            has_fallback: false,
            window_connection: Some(65_536),
        };
        let mut out = Preface(VersionRange::OURS).to_bytes().to_vec();
        append_control(&mut out, Kind::HELLO_ACK, CallId::CONNECTION, &ack.to_ext(), &[]);
        self.write(&out).await;
        self.table(Kind::TABLE, table).await;
    }

    /// A TABLE or TABLE_UPDATE.
    pub(crate) async fn table(&mut self, kind: Kind, table: &TablePayload) {
        let mut out = Vec::new();
        append_control(&mut out, kind, CallId::CONNECTION, &[], &table.to_bytes());
        self.write(&out).await;
    }

    /// An answer without a payload; `ext` is its TLVs.
    pub(crate) async fn answer(
        &mut self,
        call: u32,
        status: Code,
        disposition: Disposition,
        ext: &[u8],
    ) {
        self.write(&response(call, status, disposition, ext, &[])).await;
    }

    /// An answer with a payload, in bincode.
    pub(crate) async fn answer_ok(&mut self, call: u32, payload: &[u8]) {
        self.write(&response(call, Code::OK, Disposition::Processed, &[], payload)).await;
    }
}

/// What a client without peculiarities says.
pub(crate) fn hello() -> Hello {
    let (frame_bytes_max, codecs) = (4 * 1024 * 1024, vec![1]);
    Hello {
        frame_bytes_max,
        codecs,
        build: String::new(),
        tables: Vec::new(),
        window_connection: None,
    }
}

/// A client's first bytes.
pub(crate) fn client_hello(hello: &Hello) -> Vec<u8> {
    let mut out = Preface(VersionRange::OURS).to_bytes().to_vec();
    append_control(&mut out, Kind::HELLO, CallId::CONNECTION, &hello.to_ext(), &[]);
    out
}

/// A server's first bytes, up to HELLO_ACK.
pub(crate) fn ack(
    table: &TablePayload,
    transcript: u64,
    calls_max: u32,
    frame_bytes_max: u32,
) -> Vec<u8> {
    let ack = HelloAck {
        frame_bytes_max,
        calls_max,
        codecs: vec![1],
        build: "raw 1".to_owned(),
        table: table.hash,
        transcript,
        has_fallback: false,
        window_connection: None,
    };
    let mut out = Preface(VersionRange::OURS).to_bytes().to_vec();
    append_control(&mut out, Kind::HELLO_ACK, CallId::CONNECTION, &ack.to_ext(), &[]);
    out
}

/// A RESPONSE in bincode.
pub(crate) fn response(
    call: u32,
    status: Code,
    disposition: Disposition,
    ext: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin_response(&mut out, status, disposition, 1);
    out.extend_from_slice(ext);
    out.extend_from_slice(payload);
    finish_frame(&mut out, start, ext.len(), u32::MAX).unwrap();
    seal_frame(&mut out, CallId(call));
    out
}

/// The full table of these methods, each with its versions, without ceilings.
pub(crate) fn table(methods: &[(&str, &[u16])]) -> TablePayload {
    let row = |(name, versions): &(&str, &[u16])| {
        let row = |version: &u16| VersionRow { version: *version, fingerprint: 0 };
        let (method, ceiling) = (MethodId::of(name), MethodRow::NO_CEILING);
        MethodRow { method, ceiling, versions: versions.iter().map(row).collect() }
    };
    let mut rows: Vec<MethodRow> = methods.iter().map(row).collect();
    rows.sort_by_key(|row| row.method);
    let mut table = TablePayload { hash: 0, rows };
    table.hash = fnv64(&table.to_bytes()[8..]);
    table
}
