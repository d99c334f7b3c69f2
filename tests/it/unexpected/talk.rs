//! One conversation with a side under test, step by step, until something is not as it should be.

use std::time::Duration;

use switchback::transport::OwnedFrame;
use switchback::util::Fnv64;
use switchback::wire::{Disposition, Frame, Kind, Preface, Tlvs, VersionRange};

use crate::unexpected::data::{Expect, Outcome, Side, Step, Then};
use crate::unexpected::{Raw, elapse};

/// The runner's end of a connection.
pub(crate) struct Talk {
    raw: Raw,
    side: Side,
    /// Over what a client under test has said first.
    transcript: Fnv64,
    /// The call of a client under test.
    call: u32,
    /// The call that was made last of many.
    made: u32,
    /// What the PING said that was read last.
    ping: [u8; 8],
    /// Calls that came while something else was waited for.
    early: Vec<u32>,
    /// REQUESTs read, in all.
    pub(crate) asked: usize,
    /// RESPONSEs read that say that a handler ran to its end.
    pub(crate) processed: usize,
}

/// What came.
enum Seen {
    End,
    Frame(OwnedFrame),
    Nothing,
}

impl Talk {
    pub(crate) fn new(raw: Raw, side: Side) -> Self {
        let (transcript, early) = (Fnv64::new(), Vec::new());
        let (call, made, ping, asked, processed) = (0, 0, [0; 8], 0, 0);
        Self { raw, side, transcript, call, made, ping, early, asked, processed }
    }

    /// Does one step.
    pub(crate) async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send { send, times } => {
                let mut bytes = Vec::new();
                (0..*times).for_each(|_| bytes.extend(self.bytes_of(send)));
                let written = tokio::time::timeout(PATIENCE, self.raw.try_write(&bytes)).await;
                // It may be gone already: what follows says so.
                written.map(drop).map_err(|_| "it does not read what is sent".to_owned())
            }
            Step::Expect(expect) => {
                for _ in 0..expect.times {
                    self.expect(expect).await?;
                }
                Ok(())
            }
            Step::Wait { wait_ms } => {
                elapse(Duration::from_millis(*wait_ms)).await;
                Ok(())
            }
            Step::EndOfInput { .. } => {
                self.raw.shutdown().await;
                Ok(())
            }
            Step::Caller { .. } | Step::Subject { .. } => {
                Err("a caller and a subject are not the conversation's".to_owned())
            }
        }
    }

    /// Checks how it ends; `open` shows that it does not.
    pub(crate) async fn then(&mut self, then: &Then, open: &[Step]) -> Result<(), String> {
        match then {
            Then::Close { close, last_call, passed } => {
                let call = last_call.map_or(String::new(), |id| format!(" with last_call {id}"));
                let wanted = format!("CLOSE {close}{call}");
                let seen = self.next_after(passed).await?;
                let found = match &seen {
                    Seen::Frame(frame) => match frame.parse() {
                        Ok(Frame::Close(found)) => {
                            let is_right = found.reason.to_string() == *close
                                && last_call.is_none_or(|id| id == found.last_call.0);
                            is_right.then_some(())
                        }
                        _ => None,
                    },
                    Seen::End | Seen::Nothing => None,
                };
                found.ok_or_else(|| unlike(&wanted, &describe(&seen)))?;
                self.ended("the end after CLOSE", &[]).await
            }
            Then::End { passed, .. } => self.ended("the end without a word", passed).await,
            Then::Open { .. } => {
                for step in open {
                    let went_on = self.step(step).await;
                    went_on.map_err(|failure| format!("it does not go on: {failure}"))?;
                }
                Ok(())
            }
        }
    }

    /// Checks what the caller of a client under test was told.
    pub(crate) fn told(&self, wanted: &[Outcome], found: &Outcome) -> Result<(), String> {
        // A client that had not sent its call yet says so.
        let is_unsent = self.asked == 0
            && found.disposition.as_deref() == Some("NOT_PROCESSED")
            && ["CONNECTION_LOST", "NOT_CONNECTED"].contains(&found.status.as_str());
        if wanted.contains(found) || is_unsent {
            return Ok(());
        }
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let wanted = format!("the call to end as {}", wanted.join(" or "));
        Err(unlike(&wanted, &found.to_string()))
    }

    async fn ended(&mut self, wanted: &str, passed: &[String]) -> Result<(), String> {
        match self.next_after(passed).await {
            Ok(Seen::End) => Ok(()),
            Ok(seen) => Err(unlike(wanted, &describe(&seen))),
            // The last of the frames that may come was not written to its end.
            Err(stray) if !passed.is_empty() && stray.ends_with("stray bytes") => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// What comes after frames of these kinds.
    async fn next_after(&mut self, passed: &[String]) -> Result<Seen, String> {
        loop {
            let seen = self.next_but("").await?;
            let is_passed = match &seen {
                Seen::Frame(frame) => match frame.head().kind {
                    Kind::RESPONSE => passed.iter().any(|kind| kind == "RESPONSE"),
                    Kind::PONG => passed.iter().any(|kind| kind == "PONG"),
                    _ => false,
                },
                Seen::End | Seen::Nothing => false,
            };
            if !is_passed {
                return Ok(seen);
            }
        }
    }

    async fn expect(&mut self, expect: &Expect) -> Result<(), String> {
        match expect.expect.as_str() {
            "nothing" => match tokio::time::timeout(A_WHILE, self.raw.try_bytes(1)).await {
                Err(_) => Ok(()),
                Ok(found) => Err(unlike("nothing", &format!("{found:02x?}"))),
            },
            "preface" => self.expect_preface(expect.optional).await,
            "REQUEST" if !self.early.is_empty() => {
                self.call = self.early.remove(0);
                Ok(())
            }
            _ => {
                let wanted = describe_wanted(expect);
                loop {
                    let seen = self.next_but(&expect.expect).await?;
                    let Seen::Frame(frame) = &seen else {
                        return Err(unlike(&wanted, &describe(&seen)));
                    };
                    if self.is_wanted(frame, expect) {
                        return Ok(());
                    }
                    let may_come = matches!(frame.parse(), Ok(Frame::Pong(opaque))
                        if expect.after.contains(&hex(&opaque)));
                    if !may_come {
                        return Err(unlike(&wanted, &describe(&seen)));
                    }
                }
            }
        }
    }

    async fn expect_preface(&mut self, is_optional: bool) -> Result<(), String> {
        let read = tokio::time::timeout(PATIENCE, self.raw.try_bytes(8)).await;
        let bytes = match read.map_err(|_| unlike("a preface", "nothing"))? {
            Ok(bytes) => bytes,
            Err(_) if is_optional => return Ok(()),
            Err(found) => return Err(unlike("a preface", &found)),
        };
        self.transcript.write(&bytes);
        let [b'S', b'W', b'B', b'K', range @ ..] = bytes.as_slice() else {
            return Err(unlike("a preface", &hex(&bytes)));
        };
        let found = u32::from_be_bytes(range.try_into().expect("8 bytes less 4"));
        let found = VersionRange { lo: (found >> 16) as u16, hi: (found & 0xffff) as u16 };
        let is_right = found.lo == 1 && found.hi >= 1 && Preface(found).to_bytes() == *bytes;
        is_right.then_some(()).ok_or_else(|| unlike("a preface from version 1", &hex(&bytes)))
    }

    /// Whether the frame is what is expected; takes note of what later steps need.
    fn is_wanted(&mut self, frame: &OwnedFrame, expect: &Expect) -> bool {
        let name = expect.expect.as_str();
        match frame.parse() {
            Ok(Frame::Hello(_)) => {
                self.transcript.write(frame.as_bytes());
                name == "HELLO"
            }
            Ok(Frame::HelloAck(_)) => name == "HELLO_ACK",
            Ok(Frame::Table(_)) => name == "TABLE",
            Ok(Frame::Request(request)) => {
                self.call = request.call.0;
                name == "REQUEST"
            }
            Ok(Frame::Cancel(call)) => name == "CANCEL" && call.0 == self.call,
            Ok(Frame::Ping(opaque)) => {
                self.ping = opaque;
                name == "PING"
            }
            Ok(Frame::Pong(opaque)) => name == "PONG" && is_hex(&expect.opaque, &opaque),
            Ok(Frame::Credit(bytes)) => {
                name == "CREDIT" && expect.bytes.is_none_or(|wanted| wanted == bytes)
            }
            Ok(Frame::Goaway(found)) => {
                name == "GOAWAY" && expect.last_call.is_none_or(|id| id == found.last_call.0)
            }
            Ok(Frame::Response(found)) => {
                let disposition = disposition_name(found.disposition);
                let has_tlv = expect.tlv.as_ref().is_none_or(|(key, value)| {
                    Tlvs::new(found.ext).find(*key).is_some_and(|found| hex(found) == *value)
                });
                name == "RESPONSE"
                    && expect.call.is_none_or(|call| call == found.call.0)
                    && expect.status.as_ref().is_none_or(|name| found.status.to_string() == *name)
                    && expect.disposition.as_ref().is_none_or(|name| disposition == name)
                    && is_hex(&expect.payload, found.payload)
                    && has_tlv
            }
            _ => false,
        }
    }

    /// What comes next, apart from what a peer may say at any time, unless it is `wanted`: PING,
    /// CREDIT, a changed table, and the call of a client under test.
    async fn next_but(&mut self, wanted: &str) -> Result<Seen, String> {
        loop {
            let Ok(read) = tokio::time::timeout(PATIENCE, self.raw.try_next()).await else {
                return Ok(Seen::Nothing);
            };
            let Some(frame) = read? else { return Ok(Seen::End) };
            match (self.side, frame.parse()) {
                (_, Ok(Frame::Ping(_))) if wanted != "PING" => continue,
                (_, Ok(Frame::Credit(_))) if wanted != "CREDIT" => continue,
                (Side::Server, Ok(Frame::TableUpdate(_))) => continue,
                (Side::Client, Ok(Frame::Request(request))) => {
                    self.asked += 1;
                    if wanted != "REQUEST" {
                        self.early.push(request.call.0);
                        continue;
                    }
                }
                (Side::Server, Ok(Frame::Response(response))) => {
                    let is_processed = response.disposition == Disposition::Processed;
                    self.processed += usize::from(is_processed);
                }
                _ => {}
            }
            return Ok(Seen::Frame(frame));
        }
    }

    /// The bytes of a send, its places filled in.
    fn bytes_of(&mut self, text: &str) -> Vec<u8> {
        let (mut out, mut body_at) = (Vec::new(), 0);
        for part in text.split('}') {
            let (literal, place) = part.split_once('{').unwrap_or((part, ""));
            out.extend(unhex(literal));
            let bytes = match place {
                "" => Vec::new(),
                "call" => self.call.to_be_bytes().to_vec(),
                "call+2" => (self.call + 2).to_be_bytes().to_vec(),
                "next" => {
                    self.made = if self.made == 0 { 1 } else { self.made + 2 };
                    self.made.to_be_bytes().to_vec()
                }
                "same" => self.made.to_be_bytes().to_vec(),
                "ping" => self.ping.to_vec(),
                zeros if zeros.starts_with("zeros ") => vec![0; zeros[6..].parse().unwrap()],
                "transcript" => self.transcript.finish().to_be_bytes().to_vec(),
                "head_crc" | "~head_crc" => {
                    body_at = out.len() + 4;
                    crc(&out[out.len() - 12..], place)
                }
                "body_crc" | "~body_crc" => crc(&out[body_at..], place),
                other => panic!("no such place: {other:?}"),
            };
            out.extend(bytes);
        }
        out
    }
}

/// The CRC of these bytes, or the opposite of it.
fn crc(bytes: &[u8], place: &str) -> Vec<u8> {
    let crc = crc32fast::hash(bytes);
    let crc = if place.starts_with('~') { !crc } else { crc };
    crc.to_be_bytes().to_vec()
}

pub(crate) fn unlike(wanted: &str, found: &str) -> String {
    format!("expected {wanted}, got {found}")
}

/// What was expected, in words.
fn describe_wanted(expect: &Expect) -> String {
    let mut text = expect.expect.clone();
    if let Some(number) = expect.call.or(expect.last_call).or(expect.bytes) {
        text.push_str(&format!(" {number}"));
    }
    let tlv = expect.tlv.as_ref().map(|(key, value)| format!("TLV {key} = {value}"));
    let parts = [&expect.status, &expect.disposition, &expect.payload, &expect.opaque, &tlv];
    for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
        text.push_str(&format!(" {part}"));
    }
    text
}

fn describe(seen: &Seen) -> String {
    let frame = match seen {
        Seen::End => return "the end".to_owned(),
        Seen::Nothing => return format!("nothing for {} s", PATIENCE.as_secs()),
        Seen::Frame(frame) => frame,
    };
    match frame.parse() {
        Ok(Frame::Close(close)) => {
            let (reason, last_call) = (close.reason, close.last_call.0);
            format!("CLOSE {reason} with last_call {last_call} ({:?})", close.detail)
        }
        Ok(Frame::Response(found)) => {
            let (status, disposition) = (found.status, disposition_name(found.disposition));
            let (call, payload, ext) = (found.call.0, hex(found.payload), hex(found.ext));
            format!("RESPONSE {call} {status} {disposition} payload {payload:?} TLVs {ext:?}")
        }
        Ok(Frame::Pong(opaque)) => format!("PONG {}", hex(&opaque)),
        Ok(frame) => format!("{frame:?}"),
        Err(error) => format!("kind {:?}, broken: {error}", Kind(frame.head().kind.0)),
    }
}

pub(crate) const fn disposition_name(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::NotProcessed => "NOT_PROCESSED",
        Disposition::Maybe => "MAYBE",
        Disposition::Processed => "PROCESSED",
    }
}

fn is_hex(wanted: &Option<String>, found: &[u8]) -> bool {
    wanted.as_ref().is_none_or(|wanted| *wanted == hex(found))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "hexadecimal of whole bytes: {text:?}");
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// How long a side under test may take to say something; on a paused clock this costs nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it must be silent to have said nothing.
const A_WHILE: Duration = Duration::from_secs(1);
