//! One connection: two ways of bytes, and everything that may happen to them.
//!
//! ```text
//!  writer --poll_write--> [on the way: (due, bytes | FIN | RST)] --due--> [arrived] --> reader
//!              ^ room: what is on the way or has arrived counts
//! ```
//!
//! A socket behaves as the system's: a half that is dropped sends FIN; a socket that is closed
//! with unread input, or gets more input afterwards, sends RST; who gets RST fails at once and
//! has lost what it had not read.
//!
//! Invariants: bytes arrive whole, in order and once, or their way ends; how many bytes a read or
//! write moves, and when they arrive, is drawn; only the newest waker of a reader or writer is
//! woken, and none while the link's lock is held.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::executor::{Executor, ProcessId};
use crate::random::Random;
use crate::tap::Ear;
use crate::weather::{FAIR_CAPACITY, Weather};

/// Whose end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A connection.
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) processes: [ProcessId; 2],
    executor: Executor,
    state: Mutex<State>,
    me: Weak<Self>,
}

struct State {
    /// Towards the server, towards the client: whoever writes has the same index.
    ways: [Way; 2],
    ends: [End; 2],
    random: Random,
    weather: Weather,
    next_tick_us: Option<u64>,
    ear: Ear,
}

/// One end's socket.
#[derive(Debug, Default)]
struct End {
    is_reset: bool,
    /// Its process is gone: it writes nothing more.
    is_frozen: bool,
    reads: bool,
    writes: bool,
    /// Reads are put off until then.
    reads_from_us: u64,
}

/// What goes in one direction.
struct Way {
    sent: VecDeque<(u64, Item)>,
    sent_bytes: u64,
    arrived: VecDeque<u8>,
    has_ended: bool,
    is_shut: bool,
    /// What is sent never arrives.
    vanishes: bool,
    latency_us: u64,
    capacity: u64,
    last_due_us: u64,
    held_until_us: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Item {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

/// The read half of one end.
pub(crate) struct Reader(Arc<Link>, Side);

/// The write half of one end.
pub(crate) struct Writer(Arc<Link>, Side);

impl Side {
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Server => 1,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl Link {
    pub(crate) fn new(
        executor: &Executor,
        id: u64,
        processes: [ProcessId; 2],
        weather: Weather,
        (mut random, ear): (Random, Ear),
    ) -> Arc<Self> {
        let mut way = || Way {
            sent: VecDeque::new(),
            sent_bytes: 0,
            arrived: VecDeque::new(),
            has_ended: false,
            is_shut: false,
            vanishes: false,
            latency_us: random.between(0, weather.latency_us_max),
            capacity: random.magnitude(weather.capacity_min, weather.capacity_min * 4),
            last_due_us: 0,
            held_until_us: 0,
            reader: None,
            writer: None,
        };
        let ways = [way(), way()];
        let ends = [End::open(), End::open()];
        let state = Mutex::new(State { ways, ends, random, weather, next_tick_us: None, ear });
        let executor = executor.clone();
        Arc::new_cyclic(|me| Self { id, processes, executor, state, me: Weak::clone(me) })
    }

    /// The two halves of one end.
    pub(crate) fn halves(link: &Arc<Self>, side: Side) -> (Reader, Writer) {
        (Reader(Arc::clone(link), side), Writer(Arc::clone(link), side))
    }

    /// Whether a half of it is still in use.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().ends.iter().any(|end| end.reads || end.writes)
    }

    /// Both ends fail at once; what was not read is lost.
    pub(crate) fn cut(&self) {
        self.executor.note("cut", [self.id, 0, 0], || format!("link {}", self.id));
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.reset(0, &mut wakers);
        state.reset(1, &mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What is sent from now on in these directions never arrives, and nobody is told.
    pub(crate) fn vanish(&self, from_client: bool, from_server: bool) {
        let numbers = [self.id, from_client.into(), from_server.into()];
        self.executor.note("vanish", numbers, || {
            let who = match (from_client, from_server) {
                (true, true) => "both ends",
                (true, false) => "the client",
                (false, _) => "the server",
            };
            format!("link {}: what {who} sends", self.id)
        });
        let mut state = self.lock();
        for (way, vanishes) in state.ways.iter_mut().zip([from_client, from_server]) {
            if vanishes {
                way.vanishes = true;
                way.sent.clear(); // Their bytes stay counted, as in a socket that gets no ACK.
            }
        }
    }

    /// Nothing arrives in these directions for so long; then all of it does.
    pub(crate) fn hold(&self, side: Side, for_us: u64) {
        let (id, word) = (self.id, side.word());
        self.executor.note("hold", [id, for_us, side.index() as u64], || {
            format!("link {id}: what the {word} sends, for {for_us} us")
        });
        let until_us = self.executor.now_us() + for_us;
        let mut state = self.lock();
        let way = &mut state.ways[side.index()];
        way.held_until_us = way.held_until_us.max(until_us);
        self.set_tick(&mut state);
    }

    /// This end reads nothing for so long.
    pub(crate) fn pause_reader(&self, side: Side, for_us: u64) {
        let (id, word) = (self.id, side.word());
        self.executor.note("pause", [id, for_us, side.index() as u64], || {
            format!("link {id}: the {word} reads nothing for {for_us} us")
        });
        self.lock().ends[side.index()].reads_from_us = self.executor.now_us() + for_us;
    }

    /// Faults are over. Who heard nothing for a while is told that it is not known any more, or
    /// has to find out by itself.
    pub(crate) fn heal(&self, tells: bool) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.weather = state.weather.fair();
        for end in &mut state.ends {
            end.reads_from_us = 0;
        }
        let now_us = self.executor.now_us();
        for way in &mut state.ways {
            way.held_until_us = 0;
            way.capacity = way.capacity.max(FAIR_CAPACITY);
            let latest_us = now_us + way.latency_us;
            way.sent.iter_mut().for_each(|(due_us, _)| *due_us = latest_us.min(*due_us));
            way.last_due_us = latest_us.min(way.last_due_us);
        }
        let is_half_open = state.ways.iter().any(|way| way.vanishes);
        for way in &mut state.ways {
            wakers.extend(way.reader.take());
            wakers.extend(way.writer.take());
        }
        self.set_tick(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if is_half_open && tells {
            self.cut();
        }
    }

    /// What its ends owe each other, once nothing is wrong with it and nothing on its way.
    pub(crate) fn unrest(&self) -> Option<String> {
        let state = self.lock();
        let is_well = |end: &End| end.reads && end.writes && !end.is_reset && !end.is_frozen;
        let is_empty = |way: &Way| !way.vanishes && !way.is_shut && way.room_taken() == 0;
        let is_quiet = state.ends.iter().all(is_well) && state.ways.iter().all(is_empty);
        let unrest = state.ear.unrest().filter(|_| is_quiet)?;
        Some(format!("link {} at rest: {unrest}", self.id))
    }

    /// The process of this end is being killed: nothing that its destructors do is seen outside.
    pub(crate) fn freeze(&self, side: Side) {
        self.lock().ends[side.index()].is_frozen = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Sees to it that what is on the way arrives.
    fn set_tick(&self, state: &mut State) {
        let Some(due_us) = state.ways.iter().filter_map(Way::due_us).min() else { return };
        if state.next_tick_us.is_some_and(|known| known <= due_us) {
            return;
        }
        state.next_tick_us = Some(due_us);
        if let Some(me) = self.me.upgrade() {
            self.executor.wake_at(due_us, Waker::from(me));
        }
    }

    /// What is due arrives.
    fn tick(&self) {
        let now_us = self.executor.now_us();
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.next_tick_us = None;
        for at in [0, 1] {
            while state.ways[at].due_us().is_some_and(|due_us| due_us <= now_us) {
                let Some((_, item)) = state.ways[at].sent.pop_front() else { break };
                self.arrive(&mut state, at, item, &mut wakers);
            }
        }
        self.set_tick(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn arrive(&self, state: &mut State, at: usize, item: Item, wakers: &mut Vec<Waker>) {
        let to = 1 - at;
        let (id, word) = (self.id, if to == 0 { "client" } else { "server" });
        match item {
            Item::Bytes(bytes) => {
                let len = bytes.len();
                state.ways[at].sent_bytes -= u64::try_from(len).unwrap();
                self.executor.note("arrive", [id, to as u64, len as u64], || {
                    format!("link {id}: {len} bytes at the {word}")
                });
                if state.ends[to].is_closed() {
                    state.send(to, self.executor.now_us(), Item::Rst);
                } else if !state.ends[to].is_reset && state.ends[to].reads {
                    let way = &mut state.ways[at];
                    way.arrived.extend(bytes);
                    wakers.extend(way.reader.take());
                } else {
                    // Nobody will read them, and the socket lives on for its other half.
                    wakers.extend(state.ways[at].writer.take());
                }
            }
            Item::Fin => {
                self.executor.note("fin", [id, to as u64, 0], || format!("link {id}: {word}"));
                let way = &mut state.ways[at];
                way.has_ended = true;
                wakers.extend(way.reader.take());
            }
            Item::Rst => {
                self.executor.note("rst", [id, to as u64, 0], || format!("link {id}: {word}"));
                state.reset(to, wakers);
            }
        }
    }

    fn poll_read(&self, side: Side, cx: &Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Option<()>> {
        let (at, now_us) = (1 - side.index(), self.executor.now_us());
        let mut state = self.lock();
        let State { ways, ends, random, weather, .. } = &mut *state;
        let (end, way) = (&ends[side.index()], &mut ways[at]);
        if end.is_reset || end.is_frozen {
            return Poll::Ready(None);
        }
        let is_put_off = !way.arrived.is_empty() && random.percent(weather.put_off);
        if now_us < end.reads_from_us || is_put_off {
            let until_us = end.reads_from_us.max(now_us + random.below(50));
            let before = way.reader.replace(cx.waker().clone());
            drop(state);
            drop(before);
            self.executor.wake_at(until_us, cx.waker().clone());
            return Poll::Pending;
        }
        if way.arrived.is_empty() {
            if way.has_ended {
                return Poll::Ready(Some(()));
            }
            let before = way.reader.replace(cx.waker().clone());
            drop(state);
            drop(before);
            return Poll::Pending;
        }
        let len = weather.chunk(random, way.arrived.len().min(into.remaining()));
        let bytes: Vec<u8> = way.arrived.drain(..len).collect();
        into.put_slice(&bytes);
        let writer = way.writer.take();
        drop(state);
        self.executor.note("read", [self.id, at as u64, len as u64], || {
            format!("link {}: {len} bytes by the {}", self.id, side.word())
        });
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(Some(()))
    }

    fn poll_write(&self, side: Side, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now_us = self.executor.now_us();
        let mut state = self.lock();
        let State { ways, ends, random, weather, .. } = &mut *state;
        let (end, way) = (&ends[side.index()], &mut ways[side.index()]);
        if end.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if way.is_shut || end.is_frozen {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = way.room();
        let is_put_off = random.percent(weather.put_off);
        if room == 0 || is_put_off {
            let before = way.writer.replace(cx.waker().clone());
            if is_put_off {
                let (waker, until_us) = (cx.waker().clone(), now_us + random.below(50));
                drop(state);
                self.executor.wake_at(until_us, waker);
            } else {
                drop(state);
            }
            drop(before);
            return Poll::Pending;
        }
        let len = weather.chunk(random, bytes.len().min(room));
        state.ear.hear(side, &bytes[..len], now_us);
        state.send(side.index(), now_us, Item::Bytes(bytes[..len].to_vec()));
        self.set_tick(&mut state);
        drop(state);
        self.executor.note("write", [self.id, side.index() as u64, len as u64], || {
            format!("link {}: {len} of {} bytes by the {}", self.id, bytes.len(), side.word())
        });
        Poll::Ready(Ok(len))
    }

    fn shut(&self, side: Side) {
        let mut state = self.lock();
        let is_reset = state.ends[side.index()].is_reset;
        let way = &mut state.ways[side.index()];
        if !way.is_shut && !is_reset {
            way.is_shut = true;
            state.send(side.index(), self.executor.now_us(), Item::Fin);
            self.set_tick(&mut state);
        }
    }

    /// Half of an end was dropped.
    fn close_half(&self, side: Side, reads: bool) {
        if !reads {
            self.shut(side);
        }
        let mut state = self.lock();
        let end = &mut state.ends[side.index()];
        if reads {
            end.reads = false;
        } else {
            end.writes = false;
        }
        let is_unread = !state.ways[1 - side.index()].arrived.is_empty();
        if state.ends[side.index()].is_closed() && is_unread {
            state.send(side.index(), self.executor.now_us(), Item::Rst);
            self.set_tick(&mut state);
        }
        // Nobody wakes the task of a half that is gone.
        let gone = if reads {
            state.ways[1 - side.index()].reader.take()
        } else {
            state.ways[side.index()].writer.take()
        };
        drop(state);
        drop(gone);
    }
}

impl End {
    fn open() -> Self {
        Self { reads: true, writes: true, ..Self::default() }
    }

    const fn is_closed(&self) -> bool {
        !self.reads && !self.writes
    }
}

impl Way {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.room_taken()).try_into().unwrap()
    }

    fn room_taken(&self) -> u64 {
        self.sent_bytes + u64::try_from(self.arrived.len()).unwrap()
    }

    /// When the next thing arrives.
    fn due_us(&self) -> Option<u64> {
        self.sent.front().map(|(due_us, _)| (*due_us).max(self.held_until_us))
    }
}

impl State {
    fn send(&mut self, at: usize, now_us: u64, item: Item) {
        let way = &mut self.ways[at];
        let bytes = match &item {
            Item::Bytes(bytes) => u64::try_from(bytes.len()).unwrap(),
            Item::Fin | Item::Rst => 0,
        };
        way.sent_bytes += bytes;
        if way.vanishes {
            return;
        }
        let slow_us = (bytes * 1000).checked_div(self.weather.bytes_per_ms).unwrap_or(0);
        let jitter_us = self.random.between(0, way.latency_us / 4);
        let due_us = now_us + way.latency_us + jitter_us;
        way.last_due_us = due_us.max(way.last_due_us) + slow_us;
        way.sent.push_back((way.last_due_us, item));
    }

    /// An end gets RST.
    fn reset(&mut self, to: usize, wakers: &mut Vec<Waker>) {
        self.ends[to].is_reset = true;
        self.ways[1 - to].arrived.clear();
        wakers.extend(self.ways[1 - to].reader.take());
        wakers.extend(self.ways[to].writer.take());
        self.ways[to].sent.clear();
    }
}

impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.tick();
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match std::task::ready!(self.0.poll_read(self.1, cx, into)) {
            Some(()) => Poll::Ready(Ok(())),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(self.1, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shut(self.1);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.close_half(self.1, true);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.close_half(self.1, false);
    }
}
