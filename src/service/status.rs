//! How a call failed, for the person or the code that must act on it.
//!
//! Invariants: the disposition is stamped by the framework alone. What a started handler returns
//! is PROCESSED, whatever status it passes on from a call of its own: otherwise a NOT_PROCESSED
//! from two tiers down would make the caller repeat executed work (CA-13).
//! Why boxed: errors are rare, and `Result<Response, Status>` travels on every call.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::{Code, Disposition, Response, Tlvs, push_message, push_tlv, response_keys};

/// Why a call failed, other than by the method's own error.
///
/// A handler gives one to say so without a type of its own; a caller asks it what may be done.
///
/// ```
/// use std::time::Duration;
/// use switchback::{Code, Disposition, Status};
///
/// let status = Status::new(Code::NOT_FOUND, "no account 17");
/// let status = status.with_retry_after(Duration::from_secs(1));
/// assert_eq!(status.code(), Code::NOT_FOUND);
/// // What a handler gives has been executed, whatever it says: it is not tried again.
/// assert_eq!(status.disposition(), Disposition::Processed);
/// assert!(!status.is_retry_safe(true));
/// assert_eq!(status.to_string(), "NOT_FOUND (processed): no account 17");
/// ```
#[derive(Clone)]
pub struct Status(Box<Inner>);

/// Who has to act.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The caller: the request cannot succeed as it is.
    Client,
    /// The server or its load: the same request may succeed later or elsewhere.
    Server,
    /// The way between them, or nobody.
    Network,
}

/// The error of a call: the method's own, or what went wrong around it.
///
/// ```
/// use switchback::{CallError, Disposition};
///
/// fn tell(error: &CallError<String>) -> &str {
///     match (error, error.disposition()) {
///         (CallError::App(reason), _) => reason, // A part of the contract.
///         (CallError::Rpc(_), Disposition::NotProcessed) => "try again",
///         (CallError::Rpc(_), _) => "ask somebody: it may have been executed",
///     }
/// }
/// assert_eq!(tell(&CallError::App("no funds".into())), "no funds");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum CallError<E> {
    /// The handler answered with the method's own error. The call was executed.
    App(E),
    /// Anything else; see [`Status::disposition`] for whether it was executed.
    Rpc(Status),
}

#[derive(Clone)]
struct Inner {
    code: Code,
    disposition: Disposition,
    message: String,
    retry_after: Option<Duration>,
    /// With UNSUPPORTED_VERSION: what is served, ascending.
    versions: Vec<u16>,
    /// With UNSUPPORTED_CODEC: what the server has.
    codecs: Vec<u8>,
    /// With SCHEMA_MISMATCH: the server's.
    fingerprint: Option<u32>,
    /// With TOO_LARGE: the value and the limit, in bytes.
    excess: Option<(u64, u64)>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Status {
    /// A status for a handler to answer with. `code` is one of those from
    /// [`Code::INVALID_ARGUMENT`] up, or one that came from a call of its own.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::stamped(code, Disposition::Processed, message)
    }

    pub(crate) fn stamped(
        code: Code,
        disposition: Disposition,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            code,
            disposition,
            message: message.into(),
            retry_after: None,
            versions: Vec::new(),
            codecs: Vec::new(),
            fingerprint: None,
            excess: None,
            source: None,
        }))
    }

    /// A refusal: no handler was started.
    pub(crate) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::stamped(code, Disposition::NotProcessed, message)
    }

    /// Says after which time another attempt makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    pub(crate) fn with_versions(mut self, versions: Vec<u16>) -> Self {
        self.0.versions = versions;
        self
    }

    pub(crate) fn with_codecs(mut self, codecs: Vec<u8>) -> Self {
        self.0.codecs = codecs;
        self
    }

    pub(crate) fn with_fingerprint(mut self, fingerprint: u32) -> Self {
        self.0.fingerprint = Some(fingerprint);
        self
    }

    pub(crate) fn with_excess(mut self, value: u64, limit: u64) -> Self {
        self.0.excess = Some((value, limit));
        self
    }

    pub(crate) fn with_source(mut self, source: Arc<dyn Error + Send + Sync>) -> Self {
        self.0.source = Some(source);
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the call was executed, as far as anyone can know.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        self.0.disposition
    }

    /// Text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How long the server asks to wait before another attempt.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// With [`Code::UNSUPPORTED_VERSION`]: the versions that may be called now, ascending.
    #[must_use]
    pub fn versions(&self) -> &[u16] {
        &self.0.versions
    }

    /// With [`Code::UNSUPPORTED_CODEC`]: the codecs the server has.
    #[must_use]
    pub fn codecs(&self) -> &[u8] {
        &self.0.codecs
    }

    /// With [`Code::SCHEMA_MISMATCH`]: the server's fingerprint of the method.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<u32> {
        self.0.fingerprint
    }

    /// With [`Code::TOO_LARGE`]: the size and the limit it passed, both in bytes.
    #[must_use]
    pub const fn excess_bytes(&self) -> Option<(u64, u64)> {
        self.0.excess
    }

    /// Whether the call may be sent again without risk of executing it twice (ST-3).
    #[must_use]
    pub const fn is_retry_safe(&self, idempotent: bool) -> bool {
        match self.0.disposition {
            Disposition::NotProcessed => true,
            Disposition::Maybe => idempotent,
            Disposition::Processed => false,
        }
    }

    /// Which side has to act.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.0.code {
            Code::CANCELLED | Code::CONNECTION_LOST | Code::NOT_CONNECTED => Fault::Network,
            Code::INTERNAL
            | Code::OVERLOADED
            | Code::DRAINING
            | Code::DEADLINE_EXCEEDED
            | Code::UNAVAILABLE
            | Code::DATA_LOSS
            | Code::BAD_RESPONSE => Fault::Server,
            Code::TOO_LARGE if self.0.disposition == Disposition::Processed => Fault::Server,
            Code::CONVERSION if self.0.disposition == Disposition::Processed => Fault::Server,
            _ => Fault::Client,
        }
    }

    /// This status as a handler passes it on: code and message, nothing that says what may be
    /// done about a call of its own (CA-13).
    pub(crate) fn passed_on(self) -> Self {
        let Inner { code, message, retry_after, .. } = *self.0;
        let mut status = Self::new(code, message);
        status.0.retry_after = retry_after;
        status
    }

    /// The same with another code.
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.0.code = code;
        self
    }

    /// The same with another text.
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.0.message = message;
        self
    }

    /// The same with another disposition.
    pub(crate) fn with_disposition(mut self, disposition: Disposition) -> Self {
        self.0.disposition = disposition;
        self
    }

    /// Appends the TLVs of this status to a RESPONSE (ST-4); returns their bytes.
    pub(crate) fn push_ext(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        push_message(out, &self.0.message);
        if let Some(after) = self.0.retry_after {
            let ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
            push_tlv(out, response_keys::RETRY_AFTER_MS, &ms.to_be_bytes());
        }
        if self.0.code == Code::UNSUPPORTED_VERSION {
            let bytes: Vec<u8> = self.0.versions.iter().flat_map(|v| v.to_be_bytes()).collect();
            push_tlv(out, response_keys::VERSIONS, &bytes);
        }
        if !self.0.codecs.is_empty() {
            push_tlv(out, response_keys::CODECS, &self.0.codecs);
        }
        if let Some(fingerprint) = self.0.fingerprint {
            push_tlv(out, response_keys::FINGERPRINT, &fingerprint.to_be_bytes());
        }
        if let Some((value, limit)) = self.0.excess {
            push_tlv(out, response_keys::LIMIT, &limit.to_be_bytes());
            push_tlv(out, response_keys::VALUE, &value.to_be_bytes());
        }
        out.len() - start
    }

    /// The status in a RESPONSE that is neither OK nor APP; its number as it came (ST-1).
    pub(crate) fn from_response(response: &Response<'_>) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut status = Self::stamped(response.status, response.disposition, "");
        let (mut limit, mut value) = (None, None);
        for tlv in Tlvs::new(response.ext) {
            match tlv.key {
                response_keys::MESSAGE => status.0.message = text(tlv.value),
                response_keys::RETRY_AFTER_MS => {
                    let ms = tlv.value.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
                    status.0.retry_after = Some(Duration::from_millis(ms.into()));
                }
                response_keys::VERSIONS => {
                    let (versions, _) = tlv.value.as_chunks::<2>();
                    status.0.versions = versions.iter().map(|v| u16::from_be_bytes(*v)).collect();
                }
                response_keys::CODECS => status.0.codecs = tlv.value.to_vec(),
                response_keys::FINGERPRINT => {
                    status.0.fingerprint = tlv.value.first_chunk().map(|b| u32::from_be_bytes(*b));
                }
                response_keys::LIMIT => limit = tlv.value.first_chunk(),
                response_keys::VALUE => value = tlv.value.first_chunk(),
                _ => {}
            }
        }
        if let (Some(value), Some(limit)) = (value, limit) {
            status.0.excess = Some((u64::from_be_bytes(*value), u64::from_be_bytes(*limit)));
        }
        status
    }
}

impl Error for Status {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl PartialEq for Status {
    /// Equal in what the wire carries; sources are not compared.
    fn eq(&self, other: &Self) -> bool {
        let key = |s: &Self| (s.0.code, s.0.disposition, s.0.retry_after, s.0.fingerprint);
        key(self) == key(other)
            && self.0.message == other.0.message
            && self.0.versions == other.0.versions
            && self.0.codecs == other.0.codecs
            && self.0.excess == other.0.excess
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.0.code, self.0.disposition)?;
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Status({self})")
    }
}

impl<E> CallError<E> {
    /// The status, unless it is the method's own error.
    #[must_use]
    pub const fn status(&self) -> Option<&Status> {
        match self {
            Self::App(_) => None,
            Self::Rpc(status) => Some(status),
        }
    }

    /// Whether the call was executed, as far as anyone can know.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::App(_) => Disposition::Processed,
            Self::Rpc(status) => status.disposition(),
        }
    }
}

impl<E> From<Status> for CallError<E> {
    fn from(status: Status) -> Self {
        Self::Rpc(status)
    }
}

impl<E: std::fmt::Display> std::fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::App(error) => error.fmt(f),
            Self::Rpc(status) => status.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::App(error) => error.source(),
            Self::Rpc(status) => Error::source(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sending again is safe if nothing ran, or if running twice does no harm and nobody knows.
    #[test]
    fn a_disposition_decides_whether_a_retry_is_safe() {
        let safe = |disposition| {
            let status = Status::stamped(Code::UNAVAILABLE, disposition, "");
            [status.is_retry_safe(false), status.is_retry_safe(true)]
        };
        assert_eq!(safe(Disposition::NotProcessed), [true, true]);
        assert_eq!(safe(Disposition::Maybe), [false, true]);
        assert_eq!(safe(Disposition::Processed), [false, false]);
    }
}
