//! One way of a connection: bytes are read, held until they are due, and written.
//!
//! ```text
//!   read --> due at now + bytes/bandwidth + latency + jitter --> held --> written in pieces
//! ```
//!
//! Invariants: what is held is at most 4 MiB and one read, beyond which nothing is read; order is
//! kept; the end of a stream takes its turn like bytes; when the far end takes nothing more, what
//! comes is thrown away until it ends, so that the other way is served to its end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::driver::Clock;
use crate::testing::WayFaults;
use crate::util::splitmix64;

/// One way of a connection.
pub(crate) struct Pipe {
    from: Box<dyn AsyncRead + Send + Unpin>,
    to: Box<dyn AsyncWrite + Send + Unpin>,
    held: VecDeque<Piece>,
    held_bytes: usize,
    /// When all that was read has left, at this bandwidth.
    free_at: Option<Instant>,
    passed_bytes: u64,
    /// The stream's end was read.
    is_read_out: bool,
    /// The far end takes nothing any more.
    is_deaf: bool,
    is_unflushed: bool,
    draws: Draws,
    timer: Option<Timer>,
}

/// Why a way carries nothing any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// The whole connection is cut.
    Cut,
    /// The stream has ended, and its end was passed on.
    End,
}

/// Numbers that depend on the seed and on how many were drawn before.
#[derive(Debug)]
pub(crate) struct Draws {
    seed: u64,
    drawn: u64,
    /// For the piece at hand: how often it is tried must not show.
    piece: Option<u64>,
}

struct Timer {
    at: Instant,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct Piece {
    due: Instant,
    what: What,
}

enum What {
    /// From this index on.
    Bytes(Vec<u8>, usize),
    End,
    Reset,
}

/// What a step came to.
enum Step {
    Done(Stop),
    /// It may go on.
    More,
    /// There is nothing to do until something happens.
    Nothing,
    /// It may go on, but others should have a turn first.
    Yield,
}

impl Pipe {
    pub(crate) fn new(
        from: Box<dyn AsyncRead + Send + Unpin>,
        to: Box<dyn AsyncWrite + Send + Unpin>,
        draws: Draws,
    ) -> Self {
        Self {
            from,
            to,
            held: VecDeque::new(),
            held_bytes: 0,
            free_at: None,
            passed_bytes: 0,
            is_read_out: false,
            is_deaf: false,
            is_unflushed: false,
            draws,
            timer: None,
        }
    }

    /// Carries what can be carried now.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        faults: &WayFaults,
        clock: &dyn Clock,
    ) -> Poll<Stop> {
        for _ in 0..STEPS_MAX {
            let now = clock.now();
            let has_read = self.poll_read(cx, faults, now);
            match self.poll_write(cx, faults, now) {
                Step::Done(stop) => return Poll::Ready(stop),
                Step::More => continue,
                Step::Yield => break,
                Step::Nothing if has_read => continue,
                Step::Nothing => {}
            }
            if self.is_unflushed && Pin::new(&mut self.to).poll_flush(cx).is_ready() {
                self.is_unflushed = false;
            }
            if self.poll_due(cx, faults, clock).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, if there is room.
    fn poll_read(&mut self, cx: &mut Context<'_>, faults: &WayFaults, now: Instant) -> bool {
        if self.is_read_out || self.held_bytes >= HELD_BYTES_MAX {
            return false;
        }
        let mut scratch = [0; READ_BYTES_MAX];
        // At most a hundredth of a second at a time, so that a narrow way does not come in gulps.
        let at_once = faults.bytes_per_second.map_or(READ_BYTES_MAX, |bytes| {
            usize::try_from(bytes.get() / 100).unwrap_or(READ_BYTES_MAX).clamp(1, READ_BYTES_MAX)
        });
        let mut buf = ReadBuf::new(&mut scratch[..at_once]);
        let what = match Pin::new(&mut self.from).poll_read(cx, &mut buf) {
            Poll::Pending => return false,
            Poll::Ready(Err(_)) => What::Reset,
            Poll::Ready(Ok(())) if buf.filled().is_empty() => What::End,
            Poll::Ready(Ok(())) => What::Bytes(buf.filled().to_vec(), 0),
        };
        let bytes = buf.filled().len();
        if matches!(what, What::End | What::Reset) {
            self.is_read_out = true;
        } else if self.is_deaf {
            return true;
        }
        let leaves_at = match faults.bytes_per_second {
            None => now,
            Some(per_second) => {
                let begins_at = self.free_at.map_or(now, |free_at| free_at.max(now));
                begins_at + Duration::from_secs(bytes as u64) / per_second.get()
            }
        };
        self.free_at = Some(leaves_at);
        let late = faults.latency.saturating_add(self.draws.up_to(faults.jitter)).min(FOREVER);
        self.held_bytes += bytes;
        self.held.push_back(Piece { due: leaves_at + late, what });
        true
    }

    /// Writes once, if something is due.
    fn poll_write(&mut self, cx: &mut Context<'_>, faults: &WayFaults, now: Instant) -> Step {
        let left = faults.cut_after_bytes.map(|max| max.saturating_sub(self.passed_bytes));
        if left == Some(0) {
            return Step::Done(Stop::Cut);
        }
        if faults.is_blackhole {
            return Step::Nothing;
        }
        let Some(Piece { what, .. }) = self.held.front_mut().filter(|piece| piece.due <= now)
        else {
            return Step::Nothing;
        };
        let (bytes, at) = match what {
            What::Bytes(bytes, at) => (bytes, at),
            What::End if self.is_deaf => return Step::Done(Stop::End),
            What::End => {
                let has_ended = Pin::new(&mut self.to).poll_shutdown(cx).is_ready();
                return if has_ended { Step::Done(Stop::End) } else { Step::Nothing };
            }
            What::Reset => return Step::Done(Stop::Cut),
        };
        let rest = &bytes[*at..];
        let may_pass = left
            .map_or(rest.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(rest.len()));
        let piece = self.draws.piece(faults, may_pass);
        match Pin::new(&mut self.to).poll_write(cx, &rest[..piece]) {
            Poll::Pending => return Step::Nothing,
            Poll::Ready(Ok(written)) if written > 0 => {
                self.draws.end_piece();
                *at += written;
                let is_written = *at == bytes.len();
                self.passed_bytes += written as u64;
                self.held_bytes -= written;
                self.is_unflushed = true;
                if is_written {
                    self.held.pop_front();
                }
            }
            Poll::Ready(_) => {
                self.is_deaf = true;
                self.held.retain(|piece| !matches!(piece.what, What::Bytes(..)));
                self.held_bytes = 0;
            }
        }
        // The reader must see the pieces apart, so it has a turn after each.
        if faults.piece_bytes_max.is_some() { Step::Yield } else { Step::More }
    }

    /// Ready when the next piece has become due.
    fn poll_due(
        &mut self,
        cx: &mut Context<'_>,
        faults: &WayFaults,
        clock: &dyn Clock,
    ) -> Poll<()> {
        let due = self.held.front().map(|piece| piece.due).filter(|due| *due > clock.now());
        let Some(due) = due.filter(|_| !faults.is_blackhole) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.take().filter(|timer| timer.at == due);
        let new = || Timer { at: due, sleep: clock.sleep_until(due) };
        let timer = self.timer.insert(timer.unwrap_or_else(new));
        std::task::ready!(timer.sleep.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }
}

impl Draws {
    /// The sequence of this number, one of many of `seed`.
    pub(crate) const fn new(seed: u64, number: u64) -> Self {
        Self { seed: splitmix64(seed, number), drawn: 0, piece: None }
    }

    /// How many of `bytes` go at a time; none only of none. The same until it has gone.
    pub(crate) fn piece(&mut self, faults: &WayFaults, bytes: usize) -> usize {
        let Some(max) = faults.piece_bytes_max else { return bytes };
        let number = self.piece.unwrap_or_else(|| self.next());
        self.piece = Some(number);
        let drawn = number % max.get() as u64;
        usize::try_from(drawn).unwrap_or(usize::MAX).saturating_add(1).min(bytes)
    }

    /// The piece has gone: the next one has a size of its own.
    pub(crate) const fn end_piece(&mut self) {
        self.piece = None;
    }

    fn up_to(&mut self, max: Duration) -> Duration {
        if max.is_zero() {
            return max;
        }
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX - 1);
        Duration::from_nanos(self.next() % (nanos + 1))
    }

    const fn next(&mut self) -> u64 {
        let number = splitmix64(self.seed, self.drawn);
        self.drawn += 1;
        number
    }
}

/// Held at most; as much as a way of 4 MiB/s with a second of latency has under way.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;
const READ_BYTES_MAX: usize = 8 * 1024;
/// Before others have their turn.
const STEPS_MAX: usize = 64;
/// Longer than any test; a clock cannot add up every duration.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
