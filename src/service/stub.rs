//! The client's side of a method: every version it can speak, and how.
//!
//! Invariants: versions descend, so that the first one the server can be called in is the best
//! (RT-6); each owns functions for its own frozen types. A stub is made once per method and shared.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::service::calls::{CallCounters, counters_of};
use crate::service::raw::copied;
use crate::service::{CallError, Codec, DecodeError, DecodeLimits, Fingerprint, Metadata};
use crate::service::{Payload, Raw, RawRequest, RawResponse, Status};
use crate::wire::{Code, MethodId, Response};

/// One method as a client calls it: requests `Q`, responses `R`, errors `E`. [`Method`] shows one.
///
/// [`Method`]: crate::Method
pub struct Stub<Q, R, E> {
    pub(crate) name: Arc<str>,
    pub(crate) id: MethodId,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    /// What payloads are encoded in, where that is not the channel's to say: in raw calls.
    pub(crate) codec: Option<u8>,
    /// Descending by version, never empty.
    pub(crate) versions: Vec<StubVersion<Q, R, E>>,
}

/// One version of a method: how its request is encoded and its answer decoded.
pub(crate) struct StubVersion<Q, R, E> {
    pub(crate) version: u16,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) encode: Encode<Q>,
    pub(crate) decode: Decode<R, E>,
    /// Looked up with the first call.
    counters: OnceLock<Arc<CallCounters>>,
}

/// Appends the request in one version's types; what it gives back comes behind that.
pub(crate) struct Encode<Q>(pub(crate) fn(&Q, &Codec, &mut Vec<u8>) -> Result<Bytes, Status>);

/// Reads the answer in one version's types.
pub(crate) struct Decode<R, E>(
    pub(crate) fn(&Answer<'_>, &Codec, &DecodeLimits) -> Result<R, CallError<E>>,
);

/// A RESPONSE, and its payload as bytes of its own if it has come so: a value may keep them.
pub(crate) struct Answer<'a> {
    pub(crate) response: Response<'a>,
    pub(crate) bytes: Option<Bytes>,
}

impl Answer<'_> {
    /// Of one that has a payload, it is OK or APP.
    fn is_app(&self) -> bool {
        self.response.status == Code::APP
    }

    fn decode<T: Payload>(&self, codec: &Codec, limits: &DecodeLimits) -> Result<T, DecodeError> {
        match &self.bytes {
            Some(bytes) => T::decode_bytes(codec, bytes, limits),
            None => T::decode_payload(codec, self.response.payload, limits),
        }
    }
}

impl<Q: Payload, R: Payload, E: Payload> Stub<Q, R, E> {
    /// A method in one version.
    #[must_use]
    pub fn new(name: &str, version: u16, fingerprint: Fingerprint) -> Self {
        Self::single(name, version, fingerprint, |found, codec, limits| {
            if found.is_app() { app(found, codec, limits) } else { response(found, codec, limits) }
        })
    }
}

impl<Q: Payload, R: Payload> Stub<Q, R, Infallible> {
    /// A method in one version, without an error of its own.
    #[must_use]
    pub fn infallible(name: &str, version: u16, fingerprint: Fingerprint) -> Self {
        Self::single(name, version, fingerprint, |found, codec, limits| {
            if found.is_app() { Err(unexpected_app()) } else { response(found, codec, limits) }
        })
    }

    /// Adds an older version, spoken through conversions.
    #[must_use]
    pub fn compat_infallible<OldQ, OldR>(mut self, version: u16, fingerprint: Fingerprint) -> Self
    where
        Q: Clone,
        OldQ: Payload + TryFrom<Q, Error: std::fmt::Display>,
        OldR: Payload,
        R: TryFrom<OldR, Error: std::fmt::Display>,
    {
        self.push(version, fingerprint, encode_old::<Q, OldQ>, |found, codec, limits| {
            let old = if found.is_app() {
                Err(unexpected_app())
            } else {
                response::<OldR, Infallible>(found, codec, limits)
            };
            crate::service::convert_result(old)
        });
        self
    }
}

impl Stub<RawRequest, RawResponse, Infallible> {
    /// What a raw call says of its method.
    pub(crate) fn raw(request: &RawRequest) -> Self {
        let mut stub = Self {
            name: format!("method {}", request.method).into(),
            id: request.method,
            idempotent: request.idempotent,
            timeout: request.timeout,
            codec: Some(request.codec),
            versions: Vec::with_capacity(1),
        };
        let fingerprint = Fingerprint::from(u64::from(request.fingerprint)); // Folds to itself.
        let encode = |request: &RawRequest, codec: &Codec, out: &mut Vec<u8>| {
            encode_new(&Raw(request.payload.clone()), codec, out)
        };
        stub.push(request.version, fingerprint, encode, |found, _, _| {
            let Answer { response, bytes } = found;
            let payload = bytes.clone().map_or_else(|| copied(response.payload), Ok);
            let payload = payload.map_err(|error| {
                CallError::Rpc(Status::new(Code::BAD_RESPONSE, format!("the response: {error}")))
            })?;
            Ok(RawResponse {
                codec: response.codec,
                payload,
                metadata: Metadata::from_ext(response.ext),
                is_app_error: found.is_app(),
            })
        });
        stub
    }
}

impl<Q, R, E> Stub<Q, R, E> {
    fn single(
        name: &str,
        version: u16,
        fingerprint: Fingerprint,
        decode: fn(&Answer<'_>, &Codec, &DecodeLimits) -> Result<R, CallError<E>>,
    ) -> Self
    where
        Q: Payload,
    {
        let mut stub = Self {
            name: name.into(),
            id: MethodId::of(name),
            idempotent: false,
            timeout: None,
            codec: None,
            versions: Vec::new(),
        };
        stub.push(version, fingerprint, encode_new::<Q>, decode);
        stub
    }

    /// Adds an older version, spoken through conversions.
    #[must_use]
    pub fn compat<OldQ, OldR, OldE>(mut self, version: u16, fingerprint: Fingerprint) -> Self
    where
        Q: Clone,
        OldQ: Payload + TryFrom<Q, Error: std::fmt::Display>,
        OldR: Payload,
        OldE: Payload,
        R: TryFrom<OldR, Error: std::fmt::Display>,
        E: TryFrom<OldE, Error: std::fmt::Display>,
    {
        self.push(version, fingerprint, encode_old::<Q, OldQ>, |found, codec, limits| {
            let old = if found.is_app() {
                app::<OldR, OldE>(found, codec, limits)
            } else {
                response(found, codec, limits)
            };
            crate::service::convert_result(old)
        });
        self
    }

    /// Sets the method's number, instead of the CRC-32 of its name (RT-1).
    #[must_use]
    pub const fn id(mut self, id: MethodId) -> Self {
        self.id = id;
        self
    }

    /// Says that executing a call twice does no harm.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets the timeout of calls that name none, instead of the channel's.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// `"service/method"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is counted of the calls in one of the versions.
    pub(crate) fn counters(&self, at: usize) -> &CallCounters {
        let known = &self.versions[at];
        known.counters.get_or_init(|| match self.codec {
            // A raw call's method and version may be a peer's word: they must not become series.
            Some(_) => counters_of(&Arc::from(RAW), 0),
            None => counters_of(&self.name, known.version),
        })
    }

    fn push(
        &mut self,
        version: u16,
        fingerprint: Fingerprint,
        encode: fn(&Q, &Codec, &mut Vec<u8>) -> Result<Bytes, Status>,
        decode: fn(&Answer<'_>, &Codec, &DecodeLimits) -> Result<R, CallError<E>>,
    ) {
        let (encode, decode) = (Encode(encode), Decode(decode));
        let counters = OnceLock::new();
        let known = StubVersion { version, fingerprint, encode, decode, counters };
        // Not pushed and sorted: a sort is much code, and this is made for each method's types.
        let at = self.versions.partition_point(|other| other.version >= version);
        self.versions.insert(at, known);
    }
}

impl<Q, R, E> std::fmt::Debug for Stub<Q, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let versions: Vec<u16> = self.versions.iter().map(|known| known.version).collect();
        f.debug_struct("Stub")
            .field("name", &self.name)
            .field("versions", &versions)
            .finish_non_exhaustive()
    }
}

/// What all raw calls are counted as.
const RAW: &str = "raw";

fn encode_new<Q: Payload>(request: &Q, codec: &Codec, out: &mut Vec<u8>) -> Result<Bytes, Status> {
    request.encode_parts(codec, out).map_err(|error| {
        Status::refused(Code::ENCODE, format!("the request does not encode: {error}"))
    })
}

fn encode_old<Q: Clone, OldQ>(
    request: &Q,
    codec: &Codec,
    out: &mut Vec<u8>,
) -> Result<Bytes, Status>
where
    OldQ: Payload + TryFrom<Q, Error: std::fmt::Display>,
{
    encode_new(&crate::service::downgrade_request::<Q, OldQ>(request.clone())?, codec, out)
}

/// A payload that does not decode fails its call alone (CA-15).
fn response<R: Payload, E>(
    found: &Answer<'_>,
    codec: &Codec,
    limits: &DecodeLimits,
) -> Result<R, CallError<E>> {
    found.decode::<R>(codec, limits).map_err(|error| {
        CallError::Rpc(Status::new(Code::BAD_RESPONSE, format!("the response: {error}")))
    })
}

fn app<R, E: Payload>(
    found: &Answer<'_>,
    codec: &Codec,
    limits: &DecodeLimits,
) -> Result<R, CallError<E>> {
    match found.decode::<E>(codec, limits) {
        Ok(error) => Err(CallError::App(error)),
        Err(error) => {
            let message = format!("the method's error: {error}");
            Err(CallError::Rpc(Status::new(Code::BAD_RESPONSE, message)))
        }
    }
}

fn unexpected_app<E>() -> CallError<E> {
    let message = "the server answered with an error of the method's own, which has none";
    CallError::Rpc(Status::new(Code::BAD_RESPONSE, message))
}
