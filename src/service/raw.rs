//! Calls as bytes: a request and a response whose payloads nobody here decodes.
//!
//! For tools, gateways and proxies. A raw request names what a typed one takes from its stub: the
//! method's number, a version, the payload's codec and its types' fingerprint.
//!
//! Invariants: a payload goes through untouched; a response is in the codec of its request (CA-6);
//! only a [`Forward`] tells what another server stamped, and only this crate makes one (CA-18):
//! what a user's fallback answers is PROCESSED like the answer of any handler.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::service::handler::{Handler, Incoming, Outcome, Reply, Respond};
use crate::service::{Cx, Metadata, Status};
use crate::util::{OutOfMemory, try_grow};
use crate::wire::MethodId;

/// A request whose payload is bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RawRequest {
    /// Which method; [`MethodId::of`] makes it from `"service/method"`.
    pub method: MethodId,
    /// Which version of it, 1 to 65,534.
    pub version: u16,
    /// What the payload is encoded in, as numbered on the wire (PL-1): 1 is bincode.
    pub codec: u8,
    /// Of the method's types, folded (FP-4). Default: 0, not checked.
    pub fingerprint: u32,
    /// The encoded request.
    pub payload: Bytes,
    /// What travels beside it. Default: nothing.
    pub metadata: Metadata,
    /// Whether executing it twice does no harm: then it may be tried again when nobody knows
    /// whether it was executed. A server never knows. Default: no.
    pub idempotent: bool,
    /// From the first poll to the outcome; in a fallback, what is left. Default: the channel's.
    pub timeout: Option<Duration>,
}

/// A response whose payload is bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RawResponse {
    /// What the payload is encoded in: the codec of the request, or the call fails.
    pub codec: u8,
    /// The encoded response, or the method's encoded error.
    pub payload: Bytes,
    /// What travels beside it. Default: nothing.
    pub metadata: Metadata,
    /// Whether the payload is the method's own error. Default: no.
    pub is_app_error: bool,
}

/// A server to forward requests to; made from a [`Channel`](crate::client::Channel).
#[derive(Clone)]
pub struct Forward(pub(crate) Arc<dyn Handler>);

impl RawRequest {
    /// A request of one version of a method, its payload in `codec`.
    #[must_use]
    pub fn new(method: MethodId, version: u16, codec: u8, payload: impl Into<Bytes>) -> Self {
        Self {
            method,
            version,
            codec,
            fingerprint: 0,
            payload: payload.into(),
            metadata: Metadata::default(),
            idempotent: false,
            timeout: None,
        }
    }

    /// The request that a server has read.
    ///
    /// # Errors
    /// A refusal: there is no memory for it.
    pub(crate) fn of_call(cx: &Cx, incoming: Incoming<'_>) -> Result<Self, Status> {
        Ok(Self {
            method: cx.method,
            version: cx.version,
            codec: cx.codec,
            fingerprint: cx.fingerprint,
            payload: incoming.to_bytes()?,
            metadata: cx.metadata.clone(),
            idempotent: false,
            timeout: Some(cx.remaining()),
        })
    }
}

impl RawResponse {
    /// A response, its payload in `codec`.
    #[must_use]
    pub fn new(codec: u8, payload: impl Into<Bytes>) -> Self {
        Self { codec, payload: payload.into(), ..Self::default() }
    }

    /// The method's own error, its payload in `codec`.
    #[must_use]
    pub fn app_error(codec: u8, payload: impl Into<Bytes>) -> Self {
        Self { is_app_error: true, ..Self::new(codec, payload) }
    }
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forward")
    }
}

/// A payload of its own.
pub(crate) fn copied(payload: &[u8]) -> Result<Bytes, OutOfMemory> {
    let mut copy = Vec::new();
    try_grow(&mut copy, payload.len())?;
    copy.extend_from_slice(payload);
    Ok(copy.into())
}

/// A fallback made of a function.
pub(crate) struct RawHandler<F>(Arc<F>);

impl<F> RawHandler<F> {
    pub(crate) fn new(handler: F) -> Self {
        Self(Arc::new(handler))
    }
}

impl<F, Fut> Handler for RawHandler<F>
where
    F: Fn(Cx, RawRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<RawResponse, Status>> + Send + 'static,
{
    fn start(&self, cx: Cx, incoming: Incoming<'_>) -> Result<Pin<Box<dyn Respond>>, Status> {
        let request = RawRequest::of_call(&cx, incoming)?;
        let (codec, handler) = (cx.codec, Arc::clone(&self.0));
        // The function is called with the first poll, as that of a typed handler.
        let future = async move { handler(cx, request).await };
        Ok(Box::pin(Running { future, codec }))
    }
}

pin_project_lite::pin_project! {
    /// A raw call that was started.
    struct Running<Fut> {
        #[pin]
        future: Fut,
        codec: u8,
    }
}

impl<Fut> Respond for Running<Fut>
where
    Fut: Future<Output = Result<RawResponse, Status>> + Send,
{
    fn poll_respond(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Outcome> {
        let this = self.project();
        let result = std::task::ready!(this.future.poll(cx));
        let written = match result {
            Ok(response) => reply.raw(*this.codec, &response),
            Err(status) => Err(status.passed_on()),
        };
        Poll::Ready(written.unwrap_or_else(|status| reply.failed(&status)))
    }
}
