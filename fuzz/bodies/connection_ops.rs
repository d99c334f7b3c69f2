//! Both sides of one connection, with any operations in any order, and all that lies between them:
//! bytes that wait, time that passes, a farewell, the end of the stream, and on request a peer that
//! keeps to nothing.
//!
//! ```text
//!  data = setup op*
//!
//!  callers -> Client -> Outbox -> Wire -> Server -> handlers
//!                ^                           |
//!                +---- Wire <---- Outbox <---+
//! ```
//!
//! Invariants: every caller is told exactly one thing; NOT_PROCESSED is never said of a call whose
//! handler was started; an answer is that of its own call; both sides count as their models do, and
//! nothing is left at the end; an honest peer is never blamed, whatever comes first; with an honest
//! peer and a stream that holds, every call is answered.
//!
//! How far the data goes: `honest` changes nothing on the way; `damage` flips, drops and repeats
//! bytes, which the CRCs and the order of frames must catch, so that what callers are told is still
//! true; `evil` also sends sound frames of any kind, where only counts and bounds can hold.

mod ops_client;
mod ops_fate;
mod ops_out;
mod ops_server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use ops_client::{Client, End};
use ops_out::{Wire, append_piece};
use ops_server::{Server, table_of};
use switchback::proto::{ConductLimits, KeepaliveLimits, KnownTable, TableCache};
use switchback::wire::{CallId, CloseReason, Code, Disposition, FRAGMENT_BYTES_MAX, Flags};
use switchback::wire::{Goaway, Kind};
use switchback::wire::{append_control, append_credit, begin_frame, finish_frame, seal_frame};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut u) else {
        return;
    };
    for _ in 0..OPS_MAX {
        if u.is_empty() || world.op(&mut u).is_err() {
            break;
        }
        world.client.check();
        world.server.check();
    }
    if world.is_whole() {
        world.settle();
    }
    world.end();
}

/// What both sides are told.
#[derive(Clone, Copy, Debug)]
struct Setup {
    is_honest: bool,
    client_calls_max: u32,
    server_calls_max: u32,
    queued_max: usize,
    keepalive: KeepaliveLimits,
    conduct: ConductLimits,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Peers {
    Honest,
    Damage,
    Evil,
}

struct World {
    peers: Peers,
    client: Client,
    server: Server,
    to_server: Wire,
    to_client: Wire,
    now: Instant,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "any moment does as a start")]
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let peers = match u.int_in_range(0..=3_u8)? {
            0 | 1 => Peers::Honest,
            2 => Peers::Damage,
            _ => Peers::Evil,
        };
        let is_honest = peers == Peers::Honest;
        let mut conduct = ConductLimits::default();
        if !is_honest && u.arbitrary()? {
            conduct.pings = u.int_in_range(1..=8)?;
            conduct.idle_frames = u.int_in_range(1..=8)?;
            conduct.errors = u.int_in_range(1..=8)?;
            conduct.cancel_window = u.int_in_range(2..=16)?;
        }
        let silence = Duration::from_millis(u.int_in_range(1000..=6000)?);
        let patience = Duration::from_millis(u.int_in_range(500..=6000)?);
        let setup = Setup {
            is_honest,
            client_calls_max: u.int_in_range(1..=80)?,
            server_calls_max: u.int_in_range(1..=80)?,
            queued_max: u.int_in_range(0..=4)?,
            keepalive: KeepaliveLimits { silence, patience },
            conduct,
        };
        let mut cache = TableCache::default();
        if u.arbitrary()? {
            let known = KnownTable::new(table_of(u.int_in_range(0..=2)?));
            cache.remember(Arc::new(known.expect("its hash is right")));
        }
        let (client, server) = (Client::new(setup, cache), Server::new(setup));
        let (to_server, to_client) = (Wire::default(), Wire::default());
        Ok(Self { peers, client, server, to_server, to_client, now: Instant::now() })
    }

    /// One operation.
    fn op(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=25_u8)? {
            op @ (0 | 1 | 22) => {
                let timeout = Duration::from_millis(u.int_in_range(0..=20_000)?);
                self.client.call(self.now, timeout, u.int_in_range(0..=60)?, op == 22);
            }
            op @ (23 | 24) => {
                let (nth, len, is_last) = (u.int_in_range(0..=3)?, piece(u)?, u.ratio(1, 4)?);
                if op == 23 {
                    self.client.send_piece(nth, len, is_last);
                } else {
                    self.server.send_piece(nth, len, is_last);
                }
            }
            2 => self.client.cancel(self.caller(u)?),
            3 => self.client.look(self.caller(u)?),
            4 => self.client.enter(self.caller(u)?, self.now, 0),
            5 => self.client.out.hand(),
            6 => self.client.out.write(u.int_in_range(0..=200)?, &mut self.to_server),
            7 => drop(self.client.out.flush(&mut self.to_server)),
            8 => self.server.out.hand(),
            9 => self.server.out.write(u.int_in_range(0..=200)?, &mut self.to_client),
            10 => drop(self.server.out.flush(&mut self.to_client)),
            11 => self.deliver_to_server(u.int_in_range(0..=300)?),
            12 => self.deliver_to_client(u.int_in_range(0..=300)?),
            13 => drop(self.exchange()),
            14 => self.server.work(u.int_in_range(0..=8)?, self.now),
            15 => self.pass_time(u)?,
            16 => self.server.announce_goaway(),
            17 => self.server.finish_goaway(),
            18 => self.server.change_table(u.int_in_range(0..=5)?),
            19 => self.finish(u)?,
            20 => self.damage(u)?,
            _ => self.inject(u)?,
        }
        Ok(())
    }

    /// Time passes; who looks at the clock, and who is still heard a little, is drawn.
    fn pass_time(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.now += Duration::from_millis(u.int_in_range(0..=8000)?);
        let who: u8 = u.arbitrary()?;
        if who & 1 == 0 {
            self.client.sweep(self.now);
        }
        if who & 2 == 0 {
            self.server.sweep(self.now);
        }
        if who & 4 != 0 {
            let _sent = self.client.out.flush(&mut self.to_server);
            self.deliver_to_server(1);
        }
        if who & 8 != 0 {
            let _sent = self.server.out.flush(&mut self.to_client);
            self.deliver_to_client(1);
        }
        Ok(())
    }

    fn caller(&self, u: &mut Unstructured<'_>) -> Result<usize> {
        u.choose_index(self.client.callers.len())
    }

    fn deliver_to_server(&mut self, max: usize) {
        let bytes: Vec<u8> = drain(&mut self.to_server.bytes, max);
        self.server.hear(&bytes, self.now);
        if self.to_server.is_cut && self.to_server.bytes.is_empty() {
            self.server.stop(End::Lost);
        }
    }

    fn deliver_to_client(&mut self, max: usize) {
        let bytes: Vec<u8> = drain(&mut self.to_client.bytes, max);
        self.client.hear(&bytes, self.now);
        if self.to_client.is_cut && self.to_client.bytes.is_empty() {
            self.client.finish(End::Lost, None, false);
        }
    }

    /// Everything that was said reaches the other side. Says whether there was anything.
    fn exchange(&mut self) -> bool {
        let sent =
            self.client.out.flush(&mut self.to_server) | self.server.out.flush(&mut self.to_client);
        self.deliver_to_server(usize::MAX);
        self.deliver_to_client(usize::MAX);
        sent
    }

    /// An end of the connection, in one of the ways there are.
    fn finish(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=7_u8)? {
            0 => self.client.finish(End::Here, None, true),
            1 => self.client.finish(End::Here, None, false),
            2 => self.server.close(CloseReason::SHUTDOWN, End::Here),
            3 => self.server.stop(End::Here),
            4 => self.server.close_if_done(),
            5 => {
                for wire in [&mut self.to_server, &mut self.to_client] {
                    let left = u.int_in_range(0..=wire.bytes.len())?;
                    wire.bytes.truncate(left);
                    wire.is_cut = true;
                }
            }
            _ => {} // Most conversations should last.
        }
        Ok(())
    }

    /// Bytes on the way are changed, lost, or come twice.
    fn damage(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.peers == Peers::Honest {
            return Ok(());
        }
        let wire = if u.arbitrary()? { &mut self.to_server } else { &mut self.to_client };
        if wire.bytes.is_empty() {
            return Ok(());
        }
        let at = u.choose_index(wire.bytes.len())?;
        let end = wire.bytes.len().min(at + u.int_in_range(1..=60)?);
        match u.int_in_range(0..=3_u8)? {
            0 => wire.bytes[at] ^= 1 << u.int_in_range(0..=7)?,
            1 => drop(wire.bytes.drain(at..end)),
            2 => wire.bytes.extend_from_within(at..end),
            // Whole frames are lost or come twice, if the pieces are whole frames.
            _ => wire.bytes.extend_from_within(..),
        }
        Ok(())
    }

    /// A frame, or bytes, that nobody of us has sent.
    fn inject(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.peers != Peers::Evil {
            return Ok(());
        }
        let mut frame = Vec::new();
        let kind = *u.choose(&KINDS)?;
        let call = CallId(u.int_in_range(0..=40)?);
        let call = match kind {
            Kind::REQUEST | Kind::RESPONSE | Kind::CANCEL | Kind::DATA if u.arbitrary()? => {
                CallId(call.0 | 1)
            }
            Kind::REQUEST | Kind::RESPONSE | Kind::CANCEL | Kind::DATA => call,
            _ if u.ratio(1, 8)? => call,
            _ => CallId::CONNECTION,
        };
        let number: u32 = u.int_in_range(0..=40)?;
        match kind {
            Kind::GOAWAY => {
                let last_call = if u.arbitrary()? { Goaway::ANY_CALL } else { CallId(number) };
                let reason = CloseReason::SHUTDOWN;
                Goaway { last_call, reason, grace_ms: number }.append(&mut frame);
            }
            Kind::PING | Kind::PONG => append_control(&mut frame, kind, call, &[], &[7; 8]),
            Kind::CANCEL => append_control(&mut frame, kind, call, &[], &[]),
            Kind::CREDIT => append_credit(&mut frame, number),
            Kind::DATA => {
                let flags = if u.arbitrary()? { Flags::MORE } else { Flags::NONE };
                append_piece(&mut frame, call, 0, piece(u)?, flags);
            }
            _ => {
                let start = begin_frame(&mut frame, kind);
                let fixed: &[u8] = match kind {
                    Kind::REQUEST => &[0, 0, 0, 9, 0, 1, 1, 0, 0, 0, 9, 9, 0, 0, 0, 0],
                    Kind::RESPONSE => &[0, 0, 2, 1],
                    Kind::CLOSE => &[0, 0, 0, 0, 0, 9],
                    _ => &[],
                };
                frame.extend_from_slice(fixed);
                if u.arbitrary()? {
                    let at = frame.len() - fixed.len();
                    for byte in frame.get_mut(at..).into_iter().flatten() {
                        *byte = u.arbitrary()?;
                    }
                }
                let len = u.int_in_range(0..=20)?.min(u.len());
                frame.extend_from_slice(u.bytes(len)?);
                finish_frame(&mut frame, start, 0, u32::MAX).expect("it is short");
                if kind == Kind::REQUEST && u.arbitrary()? {
                    start.set_more(&mut frame);
                }
                seal_frame(&mut frame, call);
            }
        }
        let wire = if u.arbitrary()? { &mut self.to_server } else { &mut self.to_client };
        for _ in 0..u.int_in_range(1..=3)? {
            wire.bytes.extend_from_slice(&frame);
        }
        Ok(())
    }

    /// Whether nothing stands between the callers and their answers.
    fn is_whole(&self) -> bool {
        let is_on = self.client.end.is_none() && self.server.end.is_none();
        self.peers == Peers::Honest && is_on && !self.to_server.is_cut && !self.to_client.is_cut
    }

    /// Everybody does what is left to do: every call is answered, and nothing remains.
    fn settle(&mut self) {
        let is_leaving = self.server.proto.is_leaving();
        for _ in 0..ROUNDS_MAX {
            let sent = self.exchange();
            while self.server.can_work() {
                self.server.work(0, self.now);
            }
            while self.client.send_piece(0, 10, true) || self.server.send_piece(0, 10, true) {}
            self.server.finish_goaway();
            let callers = 0..self.client.callers.len();
            callers.for_each(|who| self.client.look(who));
            while let Some(who) = self.client.first_waiting() {
                self.client.enter(who, self.now, 0);
                if self.client.first_waiting() == Some(who) {
                    break;
                }
            }
            if !sent && self.client.out.len() == 0 && self.server.out.len() == 0 {
                break;
            }
        }
        assert_eq!((self.client.end, self.server.end), (None, None), "nobody has ended it");
        assert!(!self.client.is_owed() && self.client.proto.calls.busy() == 0, "calls are left");
        assert!(self.client.callers.iter().all(|caller| caller.fate.is_some()), "somebody waits");
        let known = self.client.proto.table().map(|table| table.hash());
        assert_eq!(known, Some(self.server.table.hash), "the client knows another table");
        assert_eq!(self.client.proto.may_open(), !is_leaving);
        self.server.close_if_done();
        self.exchange();
        assert_eq!(self.client.end, is_leaving.then_some(End::Closed));
    }

    /// The connection ends, at the latest now. What is on the way still arrives.
    fn end(&mut self) {
        self.client.finish(End::Here, None, false);
        self.deliver_to_server(usize::MAX);
        while self.server.can_work() {
            self.server.work(0, self.now);
        }
        self.server.stop(End::Lost);
        while self.server.can_work() {
            self.server.work(0, self.now); // Requests whose last piece will not come.
        }
        for who in 0..self.client.callers.len() {
            self.client.enter(who, self.now, 0); // Who waited for room is told that it ended.
            self.client.look(who);
        }
        self.client.check();
        self.server.check();
        assert_eq!(self.client.proto.calls.busy(), 0, "slots are left");
        assert_eq!(self.server.busy(), 0, "calls are left");
        let max = self.client.proto.server().map_or(64, |ack| ack.calls_max.max(64)) as usize;
        assert!(self.client.slots() <= (2 * max).next_power_of_two().max(16), "too many slots");
        for (who, caller) in self.client.callers.iter().enumerate() {
            assert!(caller.fate.is_some(), "caller {who} was told nothing");
        }
        if self.peers != Peers::Evil {
            self.check_truth();
        }
    }

    /// What callers were told is what happened.
    fn check_truth(&self) {
        let runs = || self.server.calls.iter();
        let mut seen = BTreeSet::new();
        for (id, run) in runs() {
            let who = usize::try_from(run.nonce).ok().and_then(|n| self.client.callers.get(n));
            let is_its_own = who.is_some_and(|caller| caller.id == Some(CallId(*id)));
            assert!(is_its_own, "call {id} was not made");
            assert!(seen.insert(run.nonce), "call {id} was read twice");
        }
        let started: BTreeSet<u64> =
            runs().filter(|(_, run)| run.is_started).map(|(_, run)| run.nonce).collect();
        for (nonce, caller) in (0_u64..).zip(&self.client.callers) {
            let fate = caller.fate.as_ref().expect("everybody was told something");
            let is_started = started.contains(&nonce);
            assert!(!(fate.is_not_processed() && is_started), "{caller:?}: it was executed");
            let Some((status, disposition, payload)) = fate.answer() else { continue };
            assert!(disposition == Disposition::NotProcessed || is_started, "{caller:?}: it not");
            // Of an answer in pieces whole frames may be lost on the way.
            let pieces = caller.id.map_or(0, |id| self.client.pieces_of(id));
            if self.peers == Peers::Honest || pieces == 0 {
                assert_eq!(status == Code::OK, fate.is_answer_to(nonce, pieces), "{caller:?}");
            }
            assert!(status == Code::OK || payload.is_empty(), "{caller:?}");
            let is_refused = status == Code::OVERLOADED;
            assert!(!is_refused || caller.is_early, "{caller:?}: the client knew the limit");
        }
    }
}

fn drain(bytes: &mut Vec<u8>, max: usize) -> Vec<u8> {
    bytes.drain(..max.min(bytes.len())).collect()
}

/// How long a piece is.
fn piece(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=15_u8)? {
        0 => 20_000,
        1 => FRAGMENT_BYTES_MAX,
        _ => u.int_in_range(0..=300)?,
    })
}

const KINDS: [Kind; 14] = [
    Kind::HELLO,
    Kind::HELLO_ACK,
    Kind::TABLE,
    Kind::TABLE_UPDATE,
    Kind::REQUEST,
    Kind::RESPONSE,
    Kind::CANCEL,
    Kind::PING,
    Kind::PONG,
    Kind::GOAWAY,
    Kind::CLOSE,
    Kind::DATA,
    Kind::CREDIT,
    Kind(0x90),
];
/// Operations in one run: too few for an honest client to take back as many calls as a flood.
const OPS_MAX: usize = 300;
/// In one round every open call is answered, and another may take its place.
const ROUNDS_MAX: usize = 400;
