//! One connection through a faulty network: the end that is given out, and the task behind it.
//!
//! Invariants: a link is known to its network until its task is gone; once it is cut, a write at
//! the near end fails, and a read does after what had arrived.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf};

use crate::testing::WayFaults;
use crate::testing::faults::Network;
use crate::testing::pipe::{Draws, Pipe, Stop};
use crate::transport::Stream;

/// What is known of a connection outside of its task.
#[derive(Debug, Default)]
pub(crate) struct Link {
    is_cut: AtomicBool,
    task: Mutex<Option<Waker>>,
}

/// Whose end is given out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    ToClient,
    ToServer,
}

/// Carries the bytes of one connection.
pub(crate) struct LinkTask {
    network: Arc<Network>,
    link: Arc<Link>,
    number: u64,
    /// Until a way has ended.
    pipes: [(Way, Option<Pipe>); 2],
}

struct NearReader {
    inner: ReadHalf<DuplexStream>,
    network: Arc<Network>,
    link: Arc<Link>,
    way: Way,
    draws: Draws,
}

struct NearWriter {
    inner: WriteHalf<DuplexStream>,
    network: Arc<Network>,
    link: Arc<Link>,
    way: Way,
    draws: Draws,
}

impl Link {
    /// The end that is given out for `stream`, and what carries the bytes between the two.
    pub(crate) fn between(
        network: Arc<Network>,
        number: u64,
        stream: Stream,
        side: Side,
    ) -> (Stream, LinkTask) {
        let link = Arc::new(Self::default());
        let (near, behind) = tokio::io::duplex(BUFFER_BYTES);
        let (reader, writer) = tokio::io::split(near);
        let (from_near, to_near) = tokio::io::split(behind);
        let (outwards, inwards) = match side {
            Side::Client => (Way::ToServer, Way::ToClient),
            Side::Server => (Way::ToClient, Way::ToServer),
        };
        let draws = |index| Draws::new(network.seed, number * DRAWS_PER_LINK + index);
        let of_stream = (stream.ip(), stream.credentials());
        let (peer, far_reader, far_writer) = (stream.peer, stream.reader, stream.writer);
        let out = Pipe::new(Box::new(from_near), far_writer, draws(0));
        let back = Pipe::new(far_reader, Box::new(to_near), draws(1));
        let reader = NearReader {
            inner: reader,
            network: Arc::clone(&network),
            link: Arc::clone(&link),
            way: inwards,
            draws: draws(2),
        };
        let writer = NearWriter {
            inner: writer,
            network: Arc::clone(&network),
            link: Arc::clone(&link),
            way: outwards,
            draws: draws(3),
        };
        let mut near = Stream::new(reader, writer, peer);
        if let Some(ip) = of_stream.0 {
            near = near.with_ip(ip);
        }
        if let Some(credentials) = of_stream.1 {
            near = near.with_credentials(credentials);
        }
        let pipes = [(outwards, Some(out)), (inwards, Some(back))];
        (near, LinkTask { network, link, number, pipes })
    }

    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.wake();
    }

    /// Has the task look again.
    pub(crate) fn wake(&self) {
        let waker = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn register(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let before = task.replace(waker.clone());
        drop(task);
        drop(before);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }
}

impl LinkTask {
    pub(crate) const fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Future for LinkTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { network, link, pipes, .. } = &mut *self;
        link.register(cx.waker());
        if link.is_cut() {
            return Poll::Ready(()); // The ends go with the task.
        }
        let plan = network.plan();
        for (way, open) in pipes.iter_mut() {
            let Some(pipe) = open else { continue };
            let faults = way.of(&plan);
            match pipe.poll(cx, faults, &*network.runtime.clock) {
                Poll::Ready(Stop::Cut) => {
                    link.cut();
                    return Poll::Ready(());
                }
                Poll::Ready(Stop::End) => *open = None,
                Poll::Pending => {}
            }
        }
        let is_over = pipes.iter().all(|(_, pipe)| pipe.is_none());
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for LinkTask {
    fn drop(&mut self) {
        self.network.forget(self.number);
    }
}

impl Way {
    const fn of(self, plan: &crate::testing::FaultPlan) -> &WayFaults {
        match self {
            Self::ToClient => &plan.to_client,
            Self::ToServer => &plan.to_server,
        }
    }
}

impl AsyncRead for NearReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let plan = me.network.plan();
        let bytes = me.draws.piece(me.way.of(&plan), buf.remaining());
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(bytes));
        std::task::ready!(Pin::new(&mut me.inner).poll_read(cx, &mut piece))?;
        me.draws.end_piece();
        let read_bytes = piece.filled().len();
        buf.advance(read_bytes);
        if read_bytes == 0 && bytes > 0 && me.link.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NearWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        if me.link.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let plan = me.network.plan();
        let piece = me.draws.piece(me.way.of(&plan), bytes.len());
        let written = std::task::ready!(Pin::new(&mut me.inner).poll_write(cx, &bytes[..piece]));
        me.draws.end_piece();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Between the near end and the task.
const BUFFER_BYTES: usize = 64 * 1024;
/// Two pipes and two halves.
const DRAWS_PER_LINK: u64 = 4;
