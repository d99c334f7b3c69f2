//! Watches what both ends of a connection write: every frame, whoever reads it.
//!
//! The retries that a server refuses are in no server's log; here they are. A request is known by
//! the metadata that every call of the simulation carries. Pieces and credit are counted here by
//! somebody who takes part in neither (FL-10, FL-11).
//!
//! Invariants: what an end writes is sound to the last bit, up to where its connection ends; ids
//! ascend; no piece is written without credit, nor of a call that was taken back; no credit is
//! granted for what was not sent, and at rest what is owed is less than what must be granted.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use switchback::proto::{Inbound, Input, Violation};
use switchback::wire::{CallId, FRAME_BYTES_DEFAULT, Frame, GRANT_BYTES, RawFrame};
use switchback::wire::{Request, Tlvs, request_keys};

use crate::house::{Complaints, TAG};
use crate::ledger::Sent;
use crate::link::Side;

/// Everything that was seen, by client.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    seen: Arc<Mutex<Vec<(u64, Sent)>>>,
    figures: Arc<Mutex<Figures>>,
    complaints: Complaints,
}

/// What was seen of messages in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) pieces: u64,
    pub(crate) credits: u64,
    /// Pieces of requests that had been answered.
    pub(crate) strays: u64,
    /// Answers that were cut short.
    pub(crate) cuts: u64,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Ear {
    tap: Tap,
    ways: [Way; 2],
    books: Books,
}

/// What one end writes.
#[derive(Debug)]
struct Way {
    inbound: Inbound,
    /// Of a frame that is not whole yet.
    bytes: Vec<u8>,
    is_deaf: bool,
}

/// What was said of pieces and credit, by who wrote it.
#[derive(Debug, Default)]
struct Books {
    ends: [End; 2],
    last_call: CallId,
    cancelled: BTreeSet<CallId>,
    answered: BTreeSet<CallId>,
    /// Answers of which pieces were written.
    begun: BTreeSet<CallId>,
}

#[derive(Debug, Default)]
struct End {
    /// What it takes at first.
    window: Option<u32>,
    /// Bytes of pieces that it wrote, and bytes that it granted.
    pieces: u64,
    granted: u64,
}

impl Tap {
    pub(crate) fn new(complaints: &Complaints) -> Self {
        Self { seen: Arc::default(), figures: Arc::default(), complaints: complaints.clone() }
    }

    pub(crate) fn ear(&self) -> Ear {
        let way = || {
            let inbound = Inbound::new(FRAME_BYTES_DEFAULT);
            Way { inbound, bytes: Vec::new(), is_deaf: false }
        };
        Ear { tap: self.clone(), ways: [way(), way()], books: Books::default() }
    }

    /// What one client sent.
    pub(crate) fn sent_by(&self, client: u64) -> Vec<Sent> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(known, _)| *known == client).map(|(_, sent)| *sent).collect()
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.figures.lock().unwrap()
    }

    fn note(&self, request: &Request<'_>, at_us: u64) {
        let mut values = Tlvs::new(request.ext)
            .filter(|tlv| tlv.key == request_keys::METADATA)
            .filter_map(|tlv| tlv.value.get(1..)?.strip_prefix(TAG.as_bytes()));
        let key = values.next().and_then(|value| {
            let (client, seq) = std::str::from_utf8(value).ok()?.split_once('/')?;
            Some((client.parse::<u64>().ok()?, seq.parse::<u64>().ok()?))
        });
        let attempt = u32::from(request.attempt_priority >> 4);
        let timeout_us = u64::from(request.timeout_ms) * 1000;
        match key {
            Some((client, seq)) => {
                let sent = Sent { seq, attempt, at_us, timeout_us };
                self.seen.lock().unwrap().push((client, sent));
            }
            None => self.complaints.add(format!("a request without its metadata: {request:?}")),
        }
    }
}

impl Ear {
    /// One end wrote this.
    pub(crate) fn hear(&mut self, side: Side, bytes: &[u8], now_us: u64) {
        let Self { tap, ways, books } = self;
        let way = &mut ways[side.index()];
        if way.is_deaf {
            return;
        }
        way.bytes.extend_from_slice(bytes);
        let heard = way.frames(|raw| {
            let frame = Frame::parse(raw)?;
            if let Frame::Request(request) = &frame {
                tap.note(request, now_us);
            }
            books.count(side, &frame, &mut tap.figures.lock().unwrap());
            if let Some(wrong) = books.note(side, &frame) {
                tap.complaints.add(format!("a {} wrote {wrong}", side.word()));
            }
            Ok(())
        });
        if let Err(violation) = heard {
            tap.complaints.add(format!("a {} wrote nonsense: {violation}", side.word()));
            way.is_deaf = true;
        }
    }

    /// What the ends owe each other, when everything that was written has been read.
    pub(crate) fn unrest(&self) -> Option<String> {
        let [client, server] = &self.books.ends;
        client.owes(server).or_else(|| server.owes(client))
    }
}

impl Way {
    fn frames(
        &mut self,
        mut note: impl FnMut(RawFrame<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut at = 0;
        while let Some((input, used)) = self.inbound.next(&self.bytes[at..])? {
            at += used;
            if let Input::Frame(raw) = input {
                note(raw)?;
            }
        }
        self.bytes.drain(..at);
        Ok(())
    }
}

impl Books {
    fn count(&mut self, side: Side, frame: &Frame<'_>, figures: &mut Figures) {
        match frame {
            Frame::Data(data) => {
                figures.pieces += 1;
                if side == Side::Server {
                    self.begun.insert(data.call);
                } else if self.answered.contains(&data.call) {
                    figures.strays += 1;
                }
            }
            Frame::Response(response) => {
                self.answered.insert(response.call);
                let is_cut = self.begun.remove(&response.call) && !response.status.has_payload();
                figures.cuts += u64::from(is_cut);
            }
            Frame::Credit(_) => figures.credits += 1,
            _ => {}
        }
    }

    /// Enters a frame; says what is wrong with it.
    fn note(&mut self, side: Side, frame: &Frame<'_>) -> Option<String> {
        let Self { ends, last_call, cancelled, .. } = self;
        let [client, server] = ends;
        let (end, peer) = if side == Side::Client { (client, server) } else { (server, client) };
        match frame {
            Frame::Hello(hello) => end.window = hello.window_connection,
            Frame::HelloAck(ack) => end.window = ack.window_connection,
            Frame::Request(request) => {
                let last = std::mem::replace(last_call, request.call);
                return (request.call <= last)
                    .then(|| format!("{:?} after {last:?}", request.call));
            }
            Frame::Cancel(call) => {
                cancelled.insert(*call);
            }
            Frame::Data(data) => {
                end.pieces += data.payload.len() as u64;
                let credit = u64::from(peer.window.unwrap_or_default()) + peer.granted;
                if end.pieces > credit {
                    let pieces = end.pieces;
                    return Some(format!("{pieces} bytes of pieces with credit for {credit}"));
                }
                if side == Side::Client && cancelled.contains(&data.call) {
                    return Some(format!("a piece of {:?}, which it took back", data.call));
                }
            }
            Frame::Credit(bytes) => {
                end.granted += u64::from(*bytes);
                let (granted, sent) = (end.granted, peer.pieces);
                return (granted > sent).then(|| format!("credit for {granted} of {sent} bytes"));
            }
            _ => {}
        }
        None
    }
}

impl End {
    /// What it should have granted by now.
    fn owes(&self, peer: &Self) -> Option<String> {
        let (window, due) = (self.window?, peer.pieces - self.granted);
        let most = GRANT_BYTES.min(window.div_ceil(2));
        let owes = due >= u64::from(most);
        owes.then(|| format!("{due} bytes of a window of {window} were not granted again"))
    }
}
