//! Watches what clients write: every request, whoever reads it.
//!
//! The retries that a server refuses are in no server's log; here they are. A request is known by
//! the metadata that every call of the simulation carries.
//!
//! Invariant: what a client writes is sound to the last bit, up to where its connection ends.

use std::sync::{Arc, Mutex};

use switchback::proto::{Inbound, Input};
use switchback::wire::{FRAME_BYTES_DEFAULT, Frame, Request, Tlvs, request_keys};

use crate::house::{Complaints, TAG};
use crate::ledger::Sent;

/// Everything that was seen, by client.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    seen: Arc<Mutex<Vec<(u64, Sent)>>>,
    complaints: Complaints,
}

/// One client's end of one connection.
#[derive(Debug)]
pub(crate) struct Ear {
    tap: Tap,
    inbound: Inbound,
    /// Of a frame that is not whole yet.
    bytes: Vec<u8>,
    is_deaf: bool,
}

impl Tap {
    pub(crate) fn new(complaints: &Complaints) -> Self {
        Self { seen: Arc::default(), complaints: complaints.clone() }
    }

    pub(crate) fn ear(&self) -> Ear {
        let inbound = Inbound::new(FRAME_BYTES_DEFAULT);
        Ear { tap: self.clone(), inbound, bytes: Vec::new(), is_deaf: false }
    }

    /// What one client sent.
    pub(crate) fn sent_by(&self, client: u64) -> Vec<Sent> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(known, _)| *known == client).map(|(_, sent)| *sent).collect()
    }
}

impl Ear {
    /// The client wrote this.
    pub(crate) fn hear(&mut self, bytes: &[u8], now_us: u64) {
        if self.is_deaf {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let (input, used) = match self.inbound.next(&self.bytes[at..]) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(violation) => {
                    self.tap.complaints.add(format!("a client wrote nonsense: {violation}"));
                    self.is_deaf = true;
                    return;
                }
            };
            at += used;
            if let Input::Frame(raw) = input
                && let Ok(Frame::Request(request)) = Frame::parse(raw)
            {
                self.tap.note(&request, now_us);
            }
        }
        self.bytes.drain(..at);
    }
}

impl Tap {
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
