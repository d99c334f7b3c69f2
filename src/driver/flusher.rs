//! The flusher: the task that writes what nobody else has written, and sweeps deadlines.
//!
//! Invariants: while bytes wait and nobody writes, it runs or is woken; it sweeps only while a
//! deadline is pending, between the deadline and 10 ms after it, never before; it ends when the
//! output was closed and everything is written, when the stream failed, or when the peer takes
//! nothing for too long (LD-12).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::driver::Runtime;
use crate::driver::outbound::{Outbound, Released};
use crate::driver::writer::Writer;

/// What a flusher works for: the shared half of a client's or a server's connection.
pub(crate) trait FlushHost: Send + Sync + 'static {
    /// Runs `f` under the connection's lock.
    fn with_outbound<T>(&self, f: impl FnOnce(&mut Outbound) -> T) -> T;
    /// Not later than the first deadline, if one is pending.
    fn next_deadline(&self) -> Option<Instant>;
    /// Ends what is due.
    fn sweep(&self, now: Instant);
    /// The output fell below its soft limit.
    fn handle_room(&self);
    /// Whoever reads the input, and has stopped, should look again.
    fn wake_reader(&self);
    /// The peer took bytes that had to wait for it.
    fn handle_progress(&self, now: Instant);
    /// The stream cannot be written any more.
    fn handle_write_error(&self, error: &io::Error);
    /// The peer has taken nothing for so long.
    fn handle_stall(&self, after: Duration);
    /// Everything was written and the write side is shut down.
    fn handle_done(&self);
}

/// One connection's flusher.
pub(crate) struct Flusher<H> {
    host: Arc<H>,
    runtime: Runtime,
    writer: Option<Writer>,
    timer: Option<Timer>,
    write_timeout: Duration,
    /// While the stream does not take all that it is offered.
    stall: Option<Stall>,
    /// While payloads wait for credit.
    hunger: Option<Hunger>,
    /// It gave other tasks a turn to append more.
    has_yielded: bool,
    is_shutting_down: bool,
}

/// A stream that takes less than it is offered.
#[derive(Clone, Copy)]
struct Stall {
    since: Instant,
    /// How much it had taken, and when that is too long ago.
    written: u64,
    until: Instant,
}

impl Stall {
    /// Whether it lasts so long that the stream is full: what it takes now, the peer has taken. A
    /// stream may be busy for a moment for reasons of its own, and then takes what nobody reads.
    fn is_full(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= FULL_AFTER
    }
}

/// A peer that takes its time with credit.
#[derive(Clone, Copy)]
struct Hunger {
    /// How many pieces it had credit for, and when that is too long ago.
    pieces: u64,
    until: Instant,
}

/// A wait that was begun, and for when.
struct Timer {
    at: Instant,
    wait: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<H: FlushHost> Flusher<H> {
    /// `write_timeout` is how long the peer may take nothing of what waits for it.
    pub(crate) const fn new(host: Arc<H>, runtime: Runtime, write_timeout: Duration) -> Self {
        Self {
            host,
            runtime,
            writer: None,
            timer: None,
            write_timeout,
            stall: None,
            hunger: None,
            has_yielded: false,
            is_shutting_down: false,
        }
    }

    /// Starts the task.
    pub(crate) fn spawn(mut self) {
        let spawn = Arc::clone(&self.runtime.spawn);
        spawn.spawn(Box::pin(std::future::poll_fn(move |cx| self.poll_run(cx))));
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if std::task::ready!(self.poll_write(cx)) {
                return Poll::Ready(());
            }
            let hunger = self.hunger.map(|hunger| hunger.until);
            if self.poll_sweep(cx, hunger).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Writes until nothing is left (`Ready(false)`), or until the connection is through
    /// (`Ready(true)`).
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut writes = 0_u8;
        loop {
            if writes == WRITES_MAX {
                // Others may append as fast as this is written: deadlines pass all the same.
                let _swept = self.poll_sweep(cx, None);
                writes = 0;
            }
            if let Some(writer) = &mut self.writer {
                let result = if self.is_shutting_down {
                    writer.poll_shutdown(cx)
                } else {
                    writer.poll_write_all(cx)
                };
                let Poll::Ready(result) = result else {
                    if self.is_stalled() {
                        self.fail();
                        self.host.handle_stall(self.write_timeout);
                        return Poll::Ready(true);
                    }
                    // Nobody else writes a rest; that it is in sight says what was not sent.
                    let writer = self.writer.take_if(|_| !self.is_shutting_down);
                    let failed = self.host.with_outbound(|out| out.watch(cx.waker(), writer));
                    if let Some(writer) = failed {
                        drop(writer);
                        self.writer = None;
                        return Poll::Ready(true);
                    }
                    // Deadlines pass while the peer does not read.
                    if self.poll_sweep(cx, None).is_ready() {
                        continue;
                    }
                    return Poll::Pending;
                };
                if let Err(error) = result {
                    self.fail();
                    self.host.handle_write_error(&error);
                    return Poll::Ready(true);
                }
                self.end_stall();
                if self.is_shutting_down {
                    drop(self.host.with_outbound(Outbound::fail));
                    self.host.handle_done();
                    return Poll::Ready(true);
                }
                if let Some(writer) = self.writer.take() {
                    release(&*self.host, writer);
                }
                continue;
            }
            match self.next(cx) {
                Next::End => return Poll::Ready(true),
                Next::Idle { starved } => {
                    self.has_yielded = false;
                    return Poll::Ready(self.has_starved(starved));
                }
                Next::Yield => {
                    self.has_yielded = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Write(writer) => {
                    self.writer = Some(writer);
                    writes += 1;
                }
                Next::Shutdown(writer) => {
                    self.writer = Some(writer);
                    self.is_shutting_down = true;
                }
            }
        }
    }

    /// Gives the stream up; the writer is dropped without the lock.
    fn fail(&mut self) {
        if let Some(writer) = self.writer.take() {
            drop(self.host.with_outbound(|out| out.fail_writing(writer)));
        }
    }

    /// Whether the stream has taken nothing for too long. Nothing of the last bytes of a shutdown
    /// is awaited here: the reader's linger ends that.
    fn is_stalled(&mut self) -> bool {
        let Some(writer) = self.writer.as_ref().filter(|_| !self.is_shutting_down) else {
            return false;
        };
        let (written, now) = (writer.written(), self.runtime.clock.now());
        match self.stall {
            Some(stall) if stall.written == written => return now >= stall.until,
            Some(stall) if stall.is_full(now) => self.host.handle_progress(now),
            Some(_) | None => {}
        }
        let since = self.stall.map_or(now, |stall| stall.since);
        self.stall = Some(Stall { since, written, until: self.runtime.after(self.write_timeout) });
        false
    }

    /// Gives the peer up that has granted no credit for too long, with so many pieces handed over;
    /// says whether it is one.
    fn has_starved(&mut self, pieces: Option<u64>) -> bool {
        let Some(pieces) = pieces else {
            self.hunger = None;
            return false;
        };
        if let Some(hunger) = self.hunger.filter(|hunger| hunger.pieces == pieces) {
            let is_over = self.runtime.clock.now() >= hunger.until;
            if is_over {
                self.host.handle_stall(self.write_timeout);
            }
            return is_over;
        }
        self.hunger = Some(Hunger { pieces, until: self.runtime.after(self.write_timeout) });
        false
    }

    /// The stream has taken all that it was offered.
    fn end_stall(&mut self) {
        let Some(stall) = self.stall.take() else { return };
        let now = self.runtime.clock.now();
        if stall.is_full(now) {
            self.host.handle_progress(now);
        }
    }

    /// What there is to do with the output, which nobody else may do meanwhile.
    fn next(&self, cx: &Context<'_>) -> Next {
        let waits = self.runtime.spawn.is_multi_thread() && !self.has_yielded;
        self.host.with_outbound(|out| {
            if out.is_failed() {
                return Next::End;
            }
            if waits && out.has_work() {
                return Next::Yield;
            }
            match out.take(cx.waker()) {
                Some(writer) => Next::Write(writer),
                None => match out.take_to_close() {
                    Some(writer) => Next::Shutdown(writer),
                    None => Next::Idle { starved: out.starved() },
                },
            }
        })
    }

    /// Sweeps if it is time (`Ready`), else sees to it that it is woken when it is. `hunger` is
    /// when a wait for credit becomes too long; who has something to write does not look at that,
    /// and would be woken again and again for one that is over.
    fn poll_sweep(&mut self, cx: &mut Context<'_>, hunger: Option<Instant>) -> Poll<()> {
        let waits = self.stall.map(|stall| stall.until).into_iter().chain(hunger);
        let Some(deadline) = self.host.next_deadline().into_iter().chain(waits).min() else {
            self.timer = None;
            return Poll::Pending;
        };
        let is_set = self.timer.as_ref().is_some_and(|timer| timer.at <= deadline + SWEEP_EVERY);
        if !is_set {
            let at = deadline + SWEEP_EVERY / 2;
            self.timer = Some(Timer { at, wait: self.runtime.clock.sleep_until(at) });
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        // By the clock first: a task that has used up its turn finds every timer pending.
        if self.runtime.clock.now() < timer.at {
            std::task::ready!(timer.wait.as_mut().poll(cx));
        }
        self.timer = None;
        self.host.sweep(self.runtime.clock.now());
        Poll::Ready(())
    }
}

/// What a look at the output came to.
enum Next {
    End,
    Idle {
        /// Payloads wait for credit, after so many pieces.
        starved: Option<u64>,
    },
    Yield,
    Write(Writer),
    Shutdown(Writer),
}

/// Gives a writer back and tells whom it concerns.
pub(crate) fn release<H: FlushHost>(host: &H, writer: Writer) {
    let released = host.with_outbound(|out| out.release(writer));
    let Released { wake, has_room, may_read, failed } = released;
    drop(failed);
    if let Some(waker) = wake {
        waker.wake();
    }
    if has_room {
        host.handle_room();
    } else if may_read {
        host.wake_reader();
    }
}

/// A stream that was busy for a moment takes more before this; a full one needs its peer for that.
const FULL_AFTER: Duration = Duration::from_millis(100);
/// Calls end up to this much after their deadline; one sweep serves all that fall within it.
const SWEEP_EVERY: Duration = Duration::from_millis(10);
/// Writes between two looks at the deadlines.
const WRITES_MAX: u8 = 32;
