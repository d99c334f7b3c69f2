//! Typed frames: what a checked frame says.
//!
//! Invariant: a value here obeys every rule on the shape of its frame that closes a connection
//! when broken. Side, call id and turn are judged after it, by the connection (FR-12); what only
//! refuses a call (unknown flags and TLVs of a REQUEST) is kept for the server to answer.

use crate::wire::cursor::Cursor;
use crate::wire::{CallId, Close, CloseReason, Code, DecodeError, Disposition, Flags, Head};
use crate::wire::{
    FRAGMENT_BYTES_MAX, MESSAGE_BYTES_MAX, METADATA_ENTRIES_MAX, MethodRow, is_codec_list,
};
use crate::wire::{Goaway, Hello, HelloAck, Kind, MethodId, RawFrame, TableError, TablePayload};
use crate::wire::{Tlv, TlvError, TlvRule, check_tlvs, request_keys, response_keys};

/// A REQUEST.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request<'a> {
    /// The call it opens.
    pub call: CallId,
    /// MORE, or none; those that are not known refuse the call.
    pub flags: Flags,
    /// Which method.
    pub method: MethodId,
    /// Which version of it.
    pub version: u16,
    /// The payload's codec.
    pub codec: u8,
    /// High nibble: attempt; bits 0-1: priority.
    pub attempt_priority: u8,
    /// Remaining time in milliseconds, rounded up; 0 = over.
    pub timeout_ms: u32,
    /// Of the types the client has; 0 = not checked.
    pub fingerprint: u32,
    /// The TLV block, not checked yet: see [`Request::check_ext`].
    pub ext: &'a [u8],
    /// The encoded request.
    pub payload: &'a [u8],
}

/// A RESPONSE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Response<'a> {
    /// The call it ends.
    pub call: CallId,
    /// How the call ended.
    pub status: Code,
    /// Whether it was executed.
    pub disposition: Disposition,
    /// The payload's codec.
    pub codec: u8,
    /// The TLV block, checked.
    pub ext: &'a [u8],
    /// The encoded response, or error when the status is APP.
    pub payload: &'a [u8],
}

/// A DATA: a piece of a message (FL-2, FL-3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Data<'a> {
    /// The call that the message belongs to.
    pub call: CallId,
    /// Whether the message goes on after it.
    pub has_more: bool,
    /// The piece, at most [`FRAGMENT_BYTES_MAX`].
    pub payload: &'a [u8],
}

/// Any frame of version 1, or one that may be skipped.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each variant is the frame kind of that name")]
pub enum Frame<'a> {
    Hello(Hello),
    HelloAck(HelloAck),
    Table(TablePayload),
    TableUpdate(TablePayload),
    Request(Request<'a>),
    Response(Response<'a>),
    Cancel(CallId),
    Data(Data<'a>),
    /// So many bytes of DATA more may be sent.
    Credit(u32),
    Ping([u8; 8]),
    Pong([u8; 8]),
    Goaway(Goaway),
    Close(Close<'a>),
    /// A kind that is not known and may be skipped.
    Skipped(Kind),
}

impl<'a> Frame<'a> {
    /// Reads the body of a checked frame.
    ///
    /// # Errors
    /// [`DecodeError`]: TLVs that must be understood and are not, and bodies that contradict the
    /// layout of their kind. Kind and flags were judged with the header, see [`Head::parse`].
    #[inline]
    pub fn parse(raw: RawFrame<'a>) -> Result<Self, DecodeError> {
        let Head { kind, call, .. } = raw.head;
        let parts = Parts::split(raw)?;
        Ok(match kind {
            Kind::REQUEST => Self::Request(request(raw.head, parts)?),
            Kind::RESPONSE => Self::Response(response(raw.head, parts)?),
            Kind::CANCEL => parts.empty().map(|()| Self::Cancel(call))?,
            Kind::DATA => Self::Data(data(raw.head, parts)?),
            Kind::CREDIT => Self::Credit(credit(parts)?),
            Kind::HELLO => {
                let hello = Hello::parse(parts.ext)?;
                parts.no_payload()?;
                Self::Hello(hello)
            }
            Kind::HELLO_ACK => {
                let ack = HelloAck::parse(parts.ext)?;
                parts.no_payload()?;
                Self::HelloAck(ack)
            }
            Kind::TABLE => Self::Table(table(parts, 1)?),
            Kind::TABLE_UPDATE => Self::TableUpdate(table(parts, 0)?),
            Kind::PING => Self::Ping(echo(parts)?),
            Kind::PONG => Self::Pong(echo(parts)?),
            Kind::GOAWAY => Self::Goaway(goaway(parts)?),
            Kind::CLOSE => Self::Close(close(parts)?),
            _ if kind.is_skippable() => Self::Skipped(kind), // FR-7
            _ => return Err(DecodeError::UnknownKind(kind.0)),
        })
    }
}

impl Request<'_> {
    /// Checks the TLV block.
    ///
    /// # Errors
    /// [`TlvError`]: the call is refused with BAD_METADATA, the connection goes on (CA-3).
    pub fn check_ext(&self) -> Result<(), TlvError> {
        if self.ext.is_empty() {
            return Ok(());
        }
        check_tlvs(self.ext, |tlv| match tlv.key {
            request_keys::METADATA => judge_metadata(tlv.value),
            _ => Ok(TlvRule::Unknown),
        })
    }
}

/// A body cut into its three parts.
#[derive(Clone, Copy)]
struct Parts<'a> {
    fixed: Cursor<'a>,
    ext: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(raw: RawFrame<'a>) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(raw.body);
        let fixed = cursor.take(raw.head.fixed_bytes()).ok_or(malformed("body too short"))?;
        let ext = cursor.take(usize::from(raw.head.ext_len)).ok_or(malformed("body too short"))?;
        Ok(Self { fixed: Cursor::new(fixed), ext, payload: cursor.rest() })
    }

    fn no_payload(self) -> Result<(), DecodeError> {
        if self.payload.is_empty() {
            Ok(())
        } else {
            Err(malformed("payload where none belongs")) // FR-11
        }
    }

    /// No TLVs are defined for this kind: checks that those there may be skipped.
    fn no_ext(self) -> Result<(), DecodeError> {
        close_on(check_tlvs(self.ext, |_| Ok(TlvRule::Unknown)))
    }

    fn empty(self) -> Result<(), DecodeError> {
        self.no_ext()?;
        self.no_payload()
    }
}

fn request<'a>(head: Head, mut parts: Parts<'a>) -> Result<Request<'a>, DecodeError> {
    let short = malformed("body too short");
    Ok(Request {
        call: head.call,
        flags: head.flags,
        method: MethodId(parts.fixed.u32().ok_or(short)?),
        version: parts.fixed.u16().ok_or(short)?,
        codec: parts.fixed.u8().ok_or(short)?,
        attempt_priority: parts.fixed.u8().ok_or(short)?,
        timeout_ms: parts.fixed.u32().ok_or(short)?,
        fingerprint: parts.fixed.u32().ok_or(short)?,
        ext: parts.ext,
        payload: parts.payload,
    })
}

fn response<'a>(head: Head, mut parts: Parts<'a>) -> Result<Response<'a>, DecodeError> {
    let short = malformed("body too short");
    let status = Code::from_u16(parts.fixed.u16().ok_or(short)?);
    if status.is_local() {
        return Err(malformed("status from 0x8000 on the wire")); // ST-2
    }
    let disposition = parts.fixed.u8().and_then(Disposition::from_u8);
    let disposition = disposition.ok_or(malformed("disposition is not 0, 1 or 2"))?; // ST-3
    let codec = parts.fixed.u8().ok_or(short)?;
    if !parts.ext.is_empty() {
        close_on(check_tlvs(parts.ext, judge_response))?;
    }
    if !status.has_payload() {
        parts.no_payload()?; // CA-6
    }
    let (ext, payload) = (parts.ext, parts.payload);
    Ok(Response { call: head.call, status, disposition, codec, ext, payload })
}

fn data(head: Head, parts: Parts<'_>) -> Result<Data<'_>, DecodeError> {
    parts.no_ext()?;
    if parts.payload.len() > FRAGMENT_BYTES_MAX {
        return Err(malformed("a fragment over 65536 bytes")); // FL-4
    }
    Ok(Data { call: head.call, has_more: head.flags.has_more(), payload: parts.payload })
}

fn credit(mut parts: Parts<'_>) -> Result<u32, DecodeError> {
    parts.empty()?; // FR-11
    parts.fixed.u32().ok_or(malformed("body too short"))
}

/// The keys of a RESPONSE (ST-4); each may come with any status.
fn judge_response(tlv: Tlv<'_>) -> Result<TlvRule, &'static str> {
    let Tlv { key, value } = tlv;
    let is_sound = match key {
        response_keys::MESSAGE => {
            value.len() <= MESSAGE_BYTES_MAX && std::str::from_utf8(value).is_ok()
        }
        response_keys::RETRY_AFTER_MS | response_keys::FINGERPRINT => value.len() == 4,
        response_keys::VERSIONS => {
            let (versions, rest) = value.as_chunks::<2>();
            let is_ascending = versions.is_sorted_by(|a, b| a < b);
            rest.is_empty() && is_ascending && versions.len() <= MethodRow::VERSIONS_MAX
        }
        response_keys::CODECS => is_codec_list(value),
        response_keys::LIMIT | response_keys::VALUE => value.len() == 8,
        response_keys::METADATA => return judge_metadata(value),
        _ => return Ok(TlvRule::Unknown),
    };
    if is_sound { Ok(TlvRule::Once) } else { Err("the value of a response key is not allowed") }
}

/// One metadata entry: `name_len:1 name value` (CA-10).
fn judge_metadata(value: &[u8]) -> Result<TlvRule, &'static str> {
    let mut cursor = Cursor::new(value);
    let name = cursor.u8().and_then(|len| cursor.take(usize::from(len)));
    let is_sound = name.is_some_and(|name| {
        (1..=METADATA_NAME_BYTES_MAX).contains(&name.len()) && name.iter().all(is_name_byte)
    });
    if is_sound {
        Ok(TlvRule::UpTo(METADATA_ENTRIES_MAX))
    } else {
        Err("a metadata name is not 1 to 64 of [a-z0-9_.-]")
    }
}

fn is_name_byte(byte: &u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-')
}

fn table(parts: Parts<'_>, versions_min: usize) -> Result<TablePayload, DecodeError> {
    parts.no_ext()?;
    let payload = TablePayload::parse(parts.payload).map_err(|error| match error {
        TableError::Malformed(what) => malformed(what),
        TableError::Hash { .. } => malformed("table hash"),
    })?;
    if payload.rows.iter().any(|row| row.versions.len() < versions_min) {
        return Err(malformed("a method without versions in a full table")); // RT-3
    }
    Ok(payload)
}

fn echo(parts: Parts<'_>) -> Result<[u8; 8], DecodeError> {
    parts.no_ext()?;
    parts.payload.try_into().map_err(|_| malformed("a ping is 8 bytes")) // FR-11
}

fn goaway(mut parts: Parts<'_>) -> Result<Goaway, DecodeError> {
    parts.empty()?; // FR-11
    let short = malformed("body too short");
    let last_call = CallId(parts.fixed.u32().ok_or(short)?);
    let reason = CloseReason(parts.fixed.u16().ok_or(short)?);
    let grace_ms = parts.fixed.u32().ok_or(short)?;
    Ok(Goaway { last_call, reason, grace_ms })
}

fn close(mut parts: Parts<'_>) -> Result<Close<'_>, DecodeError> {
    parts.no_ext()?;
    let short = malformed("body too short");
    let reason = CloseReason(parts.fixed.u16().ok_or(short)?);
    let last_call = CallId(parts.fixed.u32().ok_or(short)?);
    if parts.payload.len() > Close::DETAIL_BYTES_MAX {
        return Err(malformed("close detail over 256 bytes")); // FR-11
    }
    match std::str::from_utf8(parts.payload) {
        Ok(detail) => Ok(Close { reason, last_call, detail }),
        Err(_) => Err(malformed("close detail is not UTF-8")),
    }
}

fn close_on(checked: Result<(), TlvError>) -> Result<(), DecodeError> {
    checked.map_err(|error| match error {
        TlvError::UnknownCritical(key) => DecodeError::UnknownTlv(key), // FR-10
        TlvError::Malformed(what) => malformed(what),
    })
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what }
}

const METADATA_NAME_BYTES_MAX: usize = 64;
