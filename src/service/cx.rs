//! What a handler is told about the call it serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::service::Status;
use crate::wire::request_keys;
use crate::wire::{CallId, Code, EXT_BYTES_MAX, METADATA_ENTRIES_MAX, MethodId, Tlvs, push_tlv};

/// The call at hand: its deadline, its caller, its version, whether it was taken back.
#[derive(Clone, Debug)]
pub struct Cx {
    pub(crate) call: CallId,
    pub(crate) method: MethodId,
    pub(crate) version: u16,
    pub(crate) attempt: u8,
    /// What the payload is encoded in.
    pub(crate) codec: u8,
    /// Of the caller's types, folded; 0 = not checked.
    pub(crate) fingerprint: u32,
    pub(crate) deadline: Instant,
    pub(crate) metadata: Metadata,
    pub(crate) connection: Arc<dyn CallScope>,
}

/// What a handler's call hangs on: the connection it came over. The driver implements it.
pub(crate) trait CallScope: Send + Sync {
    /// Whether the caller took this call back, or its time is over.
    fn is_cancelled(&self, call: CallId) -> bool;
    fn now(&self) -> Instant;
    fn peer(&self) -> &Peer;
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// The address as the transport names it, for instance `127.0.0.1:50114`.
    pub address: String,
    /// The build the peer says it is; its word alone.
    pub build: String,
    /// Who the peer is, as the operating system says; over Unix sockets only.
    pub credentials: Option<Credentials>,
}

/// The process at the other end of a Unix socket, as it was when it connected. The system's word,
/// which no peer can forge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Credentials {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id, where the system tells. It may have ended, and another have its number.
    pub pid: Option<u32>,
}

impl Credentials {
    /// For a transport of one's own.
    #[must_use]
    pub const fn new(uid: u32, gid: u32, pid: Option<u32>) -> Self {
        Self { uid, gid, pid }
    }
}

/// Name and value pairs that travel beside a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata {
    /// The TLV block as it came, checked.
    ext: Vec<u8>,
}

impl Cx {
    /// When the caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the caller still waits; zero when the time is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(self.connection.now())
    }

    /// Whether the caller took the call back or its time is over. A handler that may be dropped
    /// needs not ask; one with `no_cancel` or `blocking` should, between its steps.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.connection.is_cancelled(self.call)
    }

    /// The method's number.
    #[must_use]
    pub const fn method(&self) -> MethodId {
        self.method
    }

    /// The version the caller called.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// 0 for the first attempt, then 1, 2, … up to 15 (CA-9).
    #[must_use]
    pub const fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.connection.peer()
    }

    /// What came beside the request.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Metadata {
    pub(crate) fn from_ext(ext: &[u8]) -> Self {
        Self { ext: ext.to_vec() }
    }

    /// Adds a name and a value. Names are 1 to 64 bytes of `[a-z0-9_.-]`; there are at most 64
    /// pairs and 8 KiB of them (CA-10).
    ///
    /// # Errors
    /// [`Code::BAD_METADATA`] for another name, [`Code::TOO_LARGE`] for too much.
    pub fn try_push(&mut self, name: &str, value: &[u8]) -> Result<(), Status> {
        push_metadata(&mut self.ext, name, value)
    }

    /// Appends the pairs as TLVs; says how many bytes they are.
    pub(crate) fn push_to(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        for tlv in Tlvs::new(&self.ext).filter(|tlv| tlv.key == request_keys::METADATA) {
            push_tlv(out, tlv.key, tlv.value);
        }
        out.len() - start
    }

    /// The pairs, in the order they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        Tlvs::new(&self.ext).filter(|tlv| tlv.key == request_keys::METADATA).filter_map(|tlv| {
            let (len, rest) = tlv.value.split_first()?;
            let (name, value) = rest.split_at_checked(usize::from(*len))?;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// The first value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(found, value)| (found == name).then_some(value))
    }
}

/// Appends one pair to a block of metadata TLVs.
///
/// # Errors
/// See [`Metadata::try_push`]; the block is as before.
pub(crate) fn push_metadata(ext: &mut Vec<u8>, name: &str, value: &[u8]) -> Result<(), Status> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    if !(1..=NAME_BYTES_MAX).contains(&name_len) || !name.bytes().all(allowed) {
        let text = format!("metadata name {name:?} is not 1 to 64 bytes of [a-z0-9_.-]");
        return Err(Status::refused(Code::BAD_METADATA, text));
    }
    let count = Tlvs::new(ext).count();
    let bytes = ext.len() + 5 + name.len() + value.len();
    if bytes > EXT_BYTES_MAX || count >= METADATA_ENTRIES_MAX {
        let text = "more than 64 metadata entries or 8192 bytes of them";
        let status = Status::refused(Code::TOO_LARGE, text);
        return Err(status.with_excess(bytes as u64, EXT_BYTES_MAX as u64));
    }
    let mut entry = vec![name_len];
    entry.extend_from_slice(name.as_bytes());
    entry.extend_from_slice(value);
    push_tlv(ext, request_keys::METADATA, &entry);
    Ok(())
}

/// Of a metadata name (CA-10).
const NAME_BYTES_MAX: u8 = 64;

impl std::fmt::Debug for dyn CallScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CallScope({})", self.peer().address)
    }
}
