//! The floor: frames of switchback's shape, encoded beforehand, in perfect batches.
//!
//!   head: body_len:4 kind:1 flags:1 ext_len:2 call:4 head_crc:4   body: bytes   body_crc:4
//!
//! Both CRCs are made and checked on both sides; there is no serde, no table, no waker, no limit.
//! A batch is as many small frames as there are calls in flight, written at once and awaited as a
//! whole; bodies go as frames of 64 KiB, eight bodies in flight. The server really echoes: what
//! one read gave goes back in one write.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use crc32fast::hash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;

use crate::fault::Fault;
use crate::caller::Job;
use crate::message::{NAME, Seen, TAGS};
use crate::peers::Peer;
use crate::serve;
use crate::workload::Kind;

/// See the file's header.
pub struct ThisPeer;

impl Peer for ThisPeer {
    type Client = Arc<Mutex<Link>>;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let listener = serve::bind(at).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection ends when its client goes; there is nobody to tell.
            tokio::spawn(async move { drop(echo(stream).await) });
        }
    }

    async fn connect(server: SocketAddr) -> Result<Self::Client, Fault> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Arc::new(Mutex::new(Link { stream, input: Input::default() })))
    }

    async fn echo(client: &Self::Client, id: u64) -> Result<Seen, Fault> {
        let mut link = client.lock().await;
        link.batch(&mut [small()]).await?;
        Ok(Seen { id, name_bytes: NAME.len(), tags: TAGS.len() })
    }

    async fn blob(client: &Self::Client, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        let mut link = client.lock().await;
        let mut frames: Vec<_> = body.chunks(FRAME_BODY_BYTES).map(frame).collect();
        link.batch(&mut frames).await?;
        Ok(body)
    }

    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        vec![tokio::spawn(async move {
            let link = Arc::into_inner(client).expect("nobody else has the connection now");
            match job.workload.kind {
                Kind::Blob(bytes) => bodies(link.into_inner(), job, bytes).await,
                _ => batches(link.into_inner(), job).await,
            }
        })]
    }
}

/// A connection and what has been read of it.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    input: Input,
}

impl Link {
    /// Writes these frames at once and reads as many back.
    async fn batch(&mut self, frames: &mut [Vec<u8>]) -> Result<(), Fault> {
        let mut out = Vec::new();
        for (call, frame) in frames.iter_mut().enumerate() {
            seal(frame, call as u32);
            out.extend_from_slice(frame);
        }
        let count = frames.len() as u32;
        self.exchange(&out, count).await
    }

    async fn exchange(&mut self, out: &[u8], count: u32) -> Result<(), Fault> {
        // Larger than both socket buffers: write and read at once, or both sides wait forever.
        let (mut reader, mut writer) = self.stream.split();
        let write = async { writer.write_all(out).await.map_err(Fault::from) };
        let input = &mut self.input;
        let read = async {
            let mut next = 0;
            while next < count {
                input.fill(&mut reader).await?;
                while let Some(frame) = input.take()? {
                    expect(frame, next)?;
                    next += 1;
                }
            }
            Ok(())
        };
        tokio::try_join!(write, read).map(|_| ())
    }
}

/// Batches of small frames, one after the other.
async fn batches(mut link: Link, job: Job) -> Result<(), Fault> {
    let count = job.workload.in_flight;
    let one = small();
    let mut out = one.repeat(count);
    let mut began = Instant::now();
    while began < job.until {
        for (call, frame) in out.chunks_exact_mut(one.len()).enumerate() {
            seal(frame, call as u32);
        }
        link.stream.write_all(&out).await?;
        let mut next = 0;
        while next < count {
            link.input.fill(&mut link.stream).await?;
            while let Some(frame) = link.input.take()? {
                expect(frame, next as u32)?;
                next += 1;
            }
        }
        began = job.note(began, count as u64);
    }
    Ok(())
}

/// Bodies in frames, as many in flight as the workload says.
async fn bodies(link: Link, job: Job, bytes: usize) -> Result<(), Fault> {
    let (mut reader, mut writer) = link.stream.into_split();
    let room = Arc::new(Semaphore::new(job.workload.in_flight));
    let sent = Arc::new(std::sync::Mutex::new(VecDeque::new()));
    let mut frames: Vec<Vec<u8>> =
        vec![frame(&vec![7; FRAME_BODY_BYTES]); bytes.div_ceil(FRAME_BODY_BYTES)];
    let in_body = frames.len() as u32;
    let writing = tokio::spawn({
        let (room, sent) = (Arc::clone(&room), Arc::clone(&sent));
        async move {
            while Instant::now() < job.until {
                room.acquire().await?.forget();
                sent.lock()?.push_back(Instant::now());
                for (call, frame) in frames.iter_mut().enumerate() {
                    seal(frame, call as u32);
                    writer.write_all(frame).await?;
                }
            }
            Ok::<_, Fault>(writer)
        }
    });
    let mut input = link.input;
    let mut next = 0;
    while Instant::now() < job.until {
        input.fill(&mut reader).await?;
        while let Some(frame) = input.take()? {
            expect(frame, next)?;
            next += 1;
            if next < in_body {
                continue;
            }
            next = 0;
            room.add_permits(1);
            let began = sent.lock()?.pop_front().ok_or_else(|| Fault::new(UNASKED.to_owned()))?;
            job.note(began, 1);
        }
    }
    writing.abort();
    Ok(())
}

/// The server's side of a connection.
async fn echo(mut stream: TcpStream) -> Result<(), Fault> {
    let mut input = Input::default();
    let mut out = Vec::new();
    loop {
        input.fill(&mut stream).await?;
        while let Some(frame) = input.take()? {
            let begin = out.len();
            out.extend_from_slice(frame);
            let call = call(frame);
            seal(&mut out[begin..], call);
        }
        stream.write_all(&out).await?;
        out.clear();
    }
}

/// Bytes that were read and are not yet taken.
#[derive(Debug)]
struct Input {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { buffer: vec![0; SMALL_READ_BYTES], begin: 0, end: 0 }
    }
}

impl Input {
    /// Reads once.
    async fn fill(&mut self, reader: &mut (impl AsyncReadExt + Unpin)) -> Result<(), Fault> {
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        if self.end >= HEAD_BYTES && self.length() > self.buffer.len() {
            self.buffer.resize(LARGE_READ_BYTES, 0);
        }
        let read = reader.read(&mut self.buffer[self.end..]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.end += read;
        Ok(())
    }

    /// The next whole frame, its CRCs checked.
    fn take(&mut self) -> Result<Option<&[u8]>, Fault> {
        if self.end - self.begin < HEAD_BYTES || self.end - self.begin < self.length() {
            return Ok(None);
        }
        let begin = self.begin;
        self.begin += self.length();
        let frame = &self.buffer[begin..self.begin];
        let (content, crc) = frame.split_at(frame.len() - CRC_BYTES);
        let good = hash(&content[..12]).to_be_bytes() == content[12..16]
            && hash(&content[HEAD_BYTES..]).to_be_bytes() == crc;
        if good { Ok(Some(frame)) } else { Err(Fault::new("a CRC does not match".to_owned())) }
    }

    /// Of the frame whose head is there.
    fn length(&self) -> usize {
        let head = &self.buffer[self.begin..];
        u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize + HEAD_BYTES
    }
}

/// A frame with this body, without its CRCs.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEAD_BYTES + body.len() + CRC_BYTES];
    frame[..4].copy_from_slice(&((body.len() + CRC_BYTES) as u32).to_be_bytes());
    frame[HEAD_BYTES..HEAD_BYTES + body.len()].copy_from_slice(body);
    frame
}

/// A frame as large as a request of the other rows.
fn small() -> Vec<u8> {
    frame(&[7; SMALL_BODY_BYTES])
}

/// Makes both CRCs.
fn seal(frame: &mut [u8], call: u32) {
    frame[8..12].copy_from_slice(&call.to_be_bytes());
    let head_crc = hash(&frame[..12]);
    frame[12..16].copy_from_slice(&head_crc.to_be_bytes());
    let (content, crc) = frame.split_at_mut(frame.len() - CRC_BYTES);
    crc.copy_from_slice(&hash(&content[HEAD_BYTES..]).to_be_bytes());
}

fn call(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]])
}

fn expect(frame: &[u8], expected: u32) -> Result<(), Fault> {
    let call = call(frame);
    if call == expected {
        return Ok(());
    }
    Err(Fault::new(format!("frame {call} where {expected} was due")))
}

const HEAD_BYTES: usize = 16;
const CRC_BYTES: usize = 4;
/// Fixed fields of a request and the message in bincode.
const SMALL_BODY_BYTES: usize = 16 + 53;
const FRAME_BODY_BYTES: usize = 64 << 10;
/// Best for small frames: a reply goes out while the rest of a batch is still read.
const SMALL_READ_BYTES: usize = 16 << 10;
const LARGE_READ_BYTES: usize = 256 << 10;
const UNASKED: &str = "a body came back that was not sent";
