//! What people write themselves: `LengthDelimitedCodec`, bincode, a map of oneshots, a writer task
//! behind a channel on each side, a task for each request.
//!
//! The writers feed what waits and flush once; sending frame by frame would be six times slower
//! and nobody who measures leaves it so.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::fault::Fault;
use crate::caller::Job;
use crate::message::{Message, Seen};
use crate::peers::Peer;
use crate::serve;

/// See the file's header.
pub struct ThisPeer;

/// What travels, both ways.
#[derive(Deserialize, Serialize)]
struct Envelope {
    call: u64,
    content: Content,
}

#[derive(Debug, Deserialize, Serialize)]
enum Content {
    Echo(Message),
    Blob(Bytes),
}

/// A multiplexed connection.
#[derive(Debug)]
pub struct Multiplexer {
    next: AtomicU64,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Content>>>>,
    out: mpsc::Sender<Bytes>,
}

impl Peer for ThisPeer {
    const CRATES: &'static [&'static str] = &["tokio-util"];

    type Client = Arc<Multiplexer>;

    async fn serve(at: SocketAddr) -> Result<(), Fault> {
        let listener = serve::bind(at).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection ends when its client goes; there is nobody to tell.
            tokio::spawn(async move { drop(answer(stream).await) });
        }
    }

    async fn connect(server: SocketAddr) -> Result<Self::Client, Fault> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (out, queue) = mpsc::channel(QUEUED_FRAMES_MAX);
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Content>>>> = Arc::default();
        tokio::spawn(write(queue, writer));
        tokio::spawn({
            let waiting = Arc::clone(&waiting);
            async move {
                let mut frames = FramedRead::new(reader, codec());
                while let Some(frame) = frames.next().await {
                    let answer: Envelope = decode(&frame?)?;
                    let waiter = waiting.lock()?.remove(&answer.call);
                    // Nobody waits any more if its caller has gone.
                    if let Some(waiter) = waiter {
                        drop(waiter.send(answer.content));
                    }
                }
                waiting.lock()?.clear();
                Ok::<_, Fault>(())
            }
        });
        Ok(Arc::new(Multiplexer { next: AtomicU64::new(0), waiting, out }))
    }

    async fn echo(client: &Self::Client, id: u64) -> Result<Seen, Fault> {
        match client.call(Content::Echo(Message::new(id))).await? {
            Content::Echo(message) => Ok(message.seen()),
            Content::Blob(_) => Err(Fault::new("a body instead of a message".to_owned())),
        }
    }

    async fn blob(client: &Self::Client, body: Bytes) -> Result<impl AsRef<[u8]>, Fault> {
        match client.call(Content::Blob(body)).await? {
            Content::Blob(body) => Ok(body),
            Content::Echo(_) => Err(Fault::new("a message instead of a body".to_owned())),
        }
    }

    fn start(client: Self::Client, job: Job) -> Vec<JoinHandle<Result<(), Fault>>> {
        callers!(Self, client, job)
    }
}

impl Multiplexer {
    async fn call(&self, content: Content) -> Result<Content, Fault> {
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        let (waiter, answer) = oneshot::channel();
        let frame = encode(&Envelope { call, content })?;
        self.waiting.lock()?.insert(call, waiter);
        self.out.send(frame).await?;
        Ok(answer.await?)
    }
}

/// The server's side of a connection.
async fn answer(stream: TcpStream) -> Result<(), Fault> {
    let (reader, writer) = stream.into_split();
    let (out, queue) = mpsc::channel(QUEUED_FRAMES_MAX);
    tokio::spawn(write(queue, writer));
    let mut frames = FramedRead::new(reader, codec());
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        let out = out.clone();
        tokio::spawn(async move {
            let request: Envelope = decode(&frame)?;
            out.send(encode(&request)?).await?;
            Ok::<_, Fault>(())
        });
    }
    Ok(())
}

/// Writes what is queued, with one flush for all that waits.
async fn write(mut queue: mpsc::Receiver<Bytes>, writer: OwnedWriteHalf) -> Result<(), Fault> {
    let mut frames = FramedWrite::new(writer, codec());
    while let Some(frame) = queue.recv().await {
        frames.feed(frame).await?;
        while let Ok(frame) = queue.try_recv() {
            frames.feed(frame).await?;
        }
        SinkExt::<Bytes>::flush(&mut frames).await?;
    }
    Ok(())
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::new()
}

fn encode(envelope: &Envelope) -> Result<Bytes, Fault> {
    Ok(bincode::serde::encode_to_vec(envelope, bincode::config::standard())?.into())
}

fn decode(frame: &[u8]) -> Result<Envelope, Fault> {
    Ok(bincode::serde::decode_from_slice(frame, bincode::config::standard())?.0)
}

/// As many as there are calls in flight, so that nobody waits for room.
const QUEUED_FRAMES_MAX: usize = 1_024;
