//! A stream that follows a script: what the peer says and when, where reads and writes are cut,
//! and where one of them fails.
//!
//! ```text
//!   says   0: hello....   96: answer answer      each piece once so many bytes were written
//!   cuts        |    |            |              a read or a write ends here; the next is Pending
//!   fault            x                           this read or write fails, and all after it
//! ```
//!
//! Invariants: bytes come and go in order, none twice; between two cuts as much as the caller takes
//! goes at once; a poll that is Pending for a cut wakes its caller at once, so no time passes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use switchback::transport::{FrameCodec, OwnedFrame, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::codec::Decoder;

/// What is to happen on a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// What the peer says, each piece once so many bytes were written to it; ascending.
    pub(crate) says: Vec<(usize, Vec<u8>)>,
    /// The peer closes its side, after all that, once so many bytes were written.
    pub(crate) closes_after: Option<usize>,
    /// Offsets in what the peer says, ascending.
    pub(crate) read_cuts: Vec<usize>,
    /// Offsets in what is written, ascending.
    pub(crate) write_cuts: Vec<usize>,
    pub(crate) fault: Option<Fault>,
}

/// A read or a write that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) half: Half,
    /// Which read or write, of those that move bytes, from 0 on.
    pub(crate) at: usize,
    pub(crate) how: How,
    pub(crate) other: Other,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Half {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Error(io::ErrorKind),
    /// Nothing comes or goes any more, and nobody says so.
    Silence,
    /// `Ok(0)`: of a write, that nothing can be taken; of a read, the end.
    Zero,
}

/// What the half that did not fail does from then on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Other {
    Fails,
    /// As if nothing had happened.
    GoesOn,
    /// Is Pending for ever, as on a path that is dead in this direction.
    Hangs,
}

/// What became of a script so far. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Played(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    script: Script,
    heard: Vec<u8>,
    read: Progress,
    write: Progress,
    written: Vec<u8>,
    failed: Option<Fault>,
    watching: Option<Waker>,
}

/// How far one half is.
#[derive(Debug, Default)]
struct Progress {
    at: usize,
    /// Polls that moved bytes.
    moves: usize,
    /// All polls after the fault.
    polls_after: usize,
    /// It was Pending for the cut at which it stands.
    is_paused: bool,
    waker: Option<Waker>,
}

struct Reader(Played);
struct Writer(Played);

impl Script {
    /// The stream, and what becomes of it.
    pub(crate) fn play(&self) -> (Stream, Played) {
        let heard = self.says.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let state = State { script: self.clone(), heard, ..State::default() };
        let played = Played(Arc::new(Mutex::new(state)));
        (Stream::new(Reader(played.clone()), Writer(played.clone()), "script"), played)
    }
}

impl Played {
    /// What was written so far.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.lock().written.clone()
    }

    /// Bytes that were read so far.
    pub(crate) fn read_bytes(&self) -> usize {
        self.lock().read.at
    }

    /// Reads and writes so far that moved bytes.
    pub(crate) fn moves(&self, half: Half) -> usize {
        let state = self.lock();
        match half {
            Half::Read => state.read.moves,
            Half::Write => state.write.moves,
        }
    }

    /// Polls of a half after the fault, the failing one included.
    pub(crate) fn polls_after_fault(&self, half: Half) -> usize {
        let state = self.lock();
        match half {
            Half::Read => state.read.polls_after,
            Half::Write => state.write.polls_after,
        }
    }

    /// The fault, if it has happened.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.lock().failed
    }

    /// Waits until so many bytes were written; a minute of the paused clock at most.
    pub(crate) async fn until_written(&self, bytes: usize) {
        let written = std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.written.len() >= bytes {
                return Poll::Ready(());
            }
            state.watching = Some(cx.waker().clone());
            Poll::Pending
        });
        let waited = tokio::time::timeout(Duration::from_secs(60), written).await;
        assert!(waited.is_ok(), "{} of {bytes} bytes were written", self.lock().written.len());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Where the half that asks must stop, and whether it has to pause before it goes on.
    fn stop(progress: &mut Progress, cuts: &[usize], end: usize, cx: &Context<'_>) -> Poll<usize> {
        if cuts.contains(&progress.at) && !progress.is_paused {
            progress.is_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = cuts.iter().copied().find(|cut| *cut > progress.at);
        Poll::Ready(next.map_or(end, |cut| cut.min(end)))
    }

    /// What a poll of this half comes to once the stream has failed.
    fn poll_failed(&mut self, half: Half, cx: &Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let goes_on = |fault: &Fault| fault.half != half && fault.other == Other::GoesOn;
        let fault = self.failed.filter(|fault| !goes_on(fault))?;
        let progress = match half {
            Half::Read => &mut self.read,
            Half::Write => &mut self.write,
        };
        progress.polls_after += 1;
        Some(match (fault.how, fault.other) {
            (How::Error(kind), _) if fault.half == half => Poll::Ready(Err(kind.into())),
            (How::Zero, _) if fault.half == half => Poll::Ready(Ok(0)),
            (How::Silence, _) | (_, Other::Hangs | Other::GoesOn) => {
                progress.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            (_, Other::Fails) if half == Half::Read => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            (_, Other::Fails) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    /// Fails if it is time.
    fn fail_if_due(&mut self, half: Half) {
        let moves = match half {
            Half::Read => self.read.moves,
            Half::Write => self.write.moves,
        };
        let fault = self.script.fault.filter(|fault| fault.half == half && fault.at == moves);
        if let Some(fault) = fault.filter(|_| self.failed.is_none()) {
            self.failed = Some(fault);
            self.wake();
        }
    }

    fn wake(&mut self) {
        let wakers = [&mut self.read.waker, &mut self.write.waker, &mut self.watching];
        wakers.into_iter().filter_map(Option::take).for_each(Waker::wake);
    }

    fn poll_read(&mut self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if let Some(failed) = self.poll_failed(Half::Read, cx) {
            return failed;
        }
        let written = self.written.len();
        let is_said = |(after, _): &&(usize, Vec<u8>)| *after <= written;
        let said: usize =
            self.script.says.iter().take_while(is_said).map(|(_, bytes)| bytes.len()).sum();
        if self.read.at == said {
            let closes = self.script.closes_after.is_some_and(|after| after <= written);
            if closes && said == self.heard.len() {
                return Poll::Ready(Ok(0));
            }
            self.read.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let stop = std::task::ready!(Self::stop(&mut self.read, &self.script.read_cuts, said, cx));
        self.fail_if_due(Half::Read);
        if let Some(failed) = self.poll_failed(Half::Read, cx) {
            return failed;
        }
        let bytes = buf.remaining().min(stop - self.read.at);
        buf.put_slice(&self.heard[self.read.at..self.read.at + bytes]);
        self.read.move_by(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn poll_write(&mut self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(failed) = self.poll_failed(Half::Write, cx) {
            return failed;
        }
        let end = self.write.at + bytes.len();
        let stop = std::task::ready!(Self::stop(&mut self.write, &self.script.write_cuts, end, cx));
        self.fail_if_due(Half::Write);
        if let Some(failed) = self.poll_failed(Half::Write, cx) {
            return failed;
        }
        let taken = stop - self.write.at;
        self.written.extend_from_slice(&bytes[..taken]);
        self.write.move_by(taken);
        self.wake();
        Poll::Ready(Ok(taken))
    }
}

impl Progress {
    fn move_by(&mut self, bytes: usize) {
        self.at += bytes;
        self.moves += 1;
        self.is_paused = false;
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.lock().poll_read(cx, buf).map_ok(drop)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Cuts what one side wrote, from its preface on, into frames; every byte must belong to one.
pub(crate) fn frames(bytes: &[u8]) -> Vec<OwnedFrame> {
    let (frames, rest) = frames_and_rest(bytes);
    assert_eq!(rest, [0; 0], "bytes that are no whole frame");
    frames
}

/// [`frames`], and what is left of one that was not written to its end.
pub(crate) fn frames_and_rest(bytes: &[u8]) -> (Vec<OwnedFrame>, Vec<u8>) {
    let Some((_preface, bytes)) = bytes.split_at_checked(8) else {
        return (Vec::new(), bytes.to_vec());
    };
    let (mut codec, mut bytes) = (FrameCodec::new(), BytesMut::from(bytes));
    let mut frames = Vec::new();
    while let Some(frame) = codec.decode(&mut bytes).unwrap() {
        frames.push(frame);
    }
    (frames, bytes.to_vec())
}
