//! The seam between typed handlers and bytes: decode, run, encode, with one allocation a call.
//!
//! A handler is started with the request's bytes, which it decodes at once (the future must not
//! borrow the input), and gives back a boxed [`Respond`]. Polling that to the end writes one
//! whole RESPONSE frame into the caller's buffer. So the driver knows no types and the future's
//! result needs no box of its own.
//!
//! Invariant: every way out of [`Reply`] leaves exactly one finished RESPONSE in the buffer, and
//! stamps PROCESSED: a handler was started (CA-13).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::service::{Body, End, MetadataBlock, Payload, PeerLimits, RawResponse, Status};
use crate::service::{CallError, CallScope, Codec, Cx, DecodeError, DecodeLimits, EncodeError};
use crate::service::{WHOLE_BYTES_MAX, finish_message, raw::copied};
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{OutOfMemory, try_grow};
use crate::wire::{BODY_CRC_BYTES, CallId, Code, Disposition, FrameStart};
use crate::wire::{begin_response, finish_frame, seal_frame};

/// One version of a method, without its types.
pub(crate) trait Handler: Send + Sync {
    /// Decodes the request and makes the future that serves it.
    ///
    /// # Errors
    /// A refusal: the payload does not decode or convert (CA-3, checks 11 and 12). Nothing was
    /// started.
    fn start(&self, cx: Cx, incoming: Incoming<'_>) -> Result<Pin<Box<dyn Respond>>, Status>;
}

/// Puts something around a handler when it is installed.
pub(crate) trait Wrap: Send + Sync {
    fn around(&self, handler: Arc<dyn Handler>) -> Arc<dyn Handler>;
}

/// A request's payload and how to read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) payload: &'a [u8],
    /// The payload as bytes of its own, if it has come so: a value may keep them.
    pub(crate) bytes: Option<&'a Bytes>,
    pub(crate) codec: &'a Codec,
    pub(crate) limits: &'a DecodeLimits,
}

impl Incoming<'_> {
    fn decode<Q: Payload>(self) -> Result<Q, DecodeError> {
        match self.bytes {
            Some(bytes) => Q::decode_bytes(self.codec, bytes, self.limits),
            None => Q::decode_payload(self.codec, self.payload, self.limits),
        }
    }

    /// The payload, to be kept without the buffer it was read into.
    ///
    /// # Errors
    /// A refusal: there is no memory for a copy (CA-11).
    pub(crate) fn to_bytes(self) -> Result<Bytes, Status> {
        match self.bytes {
            Some(bytes) => Ok(bytes.clone()),
            None => copied(self.payload).map_err(|error| {
                Status::refused(Code::OVERLOADED, format!("the request: {error}"))
            }),
        }
    }
}

/// A call that was started.
pub(crate) trait Respond: Send {
    /// Like a future's `poll`; when ready, one RESPONSE was written to `reply`.
    fn poll_respond(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Outcome>;

    /// The interceptor that has the call, as long as its handler was not started.
    fn holder(&self) -> Option<&str> {
        None
    }

    /// Nobody waits for the handler any more: what is true of it from now on, if it was not held
    /// up by an interceptor.
    fn give_up(self: Pin<&mut Self>) -> Disposition {
        Disposition::Maybe
    }

    /// The call ends before it is done: it is not polled any more.
    fn handle_end(self: Pin<&mut Self>, _end: End) {}
}

/// How a started call ended, for the counters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Ok,
    App,
    Failed,
    /// Its handler was not started (CA-13).
    Refused(Code),
}

/// Where the answer of one call goes.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    /// For an answer that is too long for the buffer; `None` where it has to be there all the same.
    pub(crate) bodies: Option<&'a mut Vec<Body>>,
    pub(crate) call: CallId,
    /// The client's.
    pub(crate) limits: PeerLimits,
    /// Has what travels beside the answer.
    pub(crate) scope: &'a dyn CallScope,
}

impl Reply<'_> {
    /// How much there is of other answers, for [`Reply::truncate`].
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.out.len(), self.bodies.as_ref().map_or(0, |bodies| bodies.len()))
    }

    /// Forgets what was written since.
    pub(crate) fn truncate(&mut self, (out, bodies): (usize, usize)) {
        self.out.truncate(out);
        if let Some(all) = &mut self.bodies {
            all.truncate(bodies);
        }
    }

    /// Answers with whatever `encode` appends, under `code` (CA-6).
    fn payload(
        &mut self,
        code: Code,
        codec: u8,
        metadata: Option<&MetadataBlock>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Bytes, EncodeError>,
    ) -> Result<(), Status> {
        let start = begin_response(self.out, code, Disposition::Processed, codec);
        let ext_len = metadata.map_or(0, |metadata| metadata.push_ext(0, self.out));
        let payload_at = self.out.len();
        let encoded = encode(self.out).map_err(|error| error.to_string()).and_then(|tail| {
            self.make_room(&tail).map_err(|error| error.to_string())?;
            Ok(tail)
        });
        match encoded {
            Ok(tail) => self.finish((start, payload_at), ext_len, tail),
            Err(error) => {
                self.out.truncate(start.index());
                let message = format!("the answer does not encode: {error}");
                Err(Status::new(Code::INTERNAL, message))
            }
        }
    }

    /// Without this room the end of a large frame would ask for twice as much.
    fn make_room(&mut self, tail: &Bytes) -> Result<(), OutOfMemory> {
        let is_apart = self.has_window() && tail.len() > WHOLE_BYTES_MAX;
        let tail_bytes = if is_apart { 0 } else { tail.len() };
        try_grow(self.out, tail_bytes + BODY_CRC_BYTES)
    }

    const fn has_window(&self) -> bool {
        self.limits.has_window && self.bodies.is_some()
    }

    /// Answers with a payload as it is; the request was in `codec`.
    ///
    /// # Errors
    /// The answer is in another codec, or too large.
    pub(crate) fn raw(&mut self, codec: u8, response: &RawResponse) -> Result<Outcome, Status> {
        if response.codec != codec {
            let found = response.codec; // CA-6
            let message = format!("the answer is in codec {found}, the request in {codec}");
            return Err(Status::new(Code::INTERNAL, message));
        }
        let (code, outcome) =
            if response.is_app_error { (Code::APP, Outcome::App) } else { (Code::OK, Outcome::Ok) };
        let start = begin_response(self.out, code, Disposition::Processed, codec);
        let ext_len = match self.scope.take_metadata(self.call) {
            None => response.metadata.push_to(self.out),
            Some(added) => {
                let mut metadata = MetadataBlock::of(&response.metadata);
                metadata.extend(&added);
                metadata.push_ext(0, self.out)
            }
        };
        let (tail, payload_at) = (response.payload.clone(), self.out.len());
        if let Err(error) = self.make_room(&tail) {
            self.out.truncate(start.index());
            return Err(Status::new(Code::INTERNAL, format!("the answer: {error}")));
        }
        self.finish((start, payload_at), ext_len, tail)?;
        Ok(outcome)
    }

    /// Answers that a handler failed. Whatever the status says: it was started (CA-13).
    pub(crate) fn failed(&mut self, status: &Status) -> Outcome {
        let metadata = self.scope.take_metadata(self.call);
        append_status(self.out, self.call, (status, metadata.as_ref()), Disposition::Processed);
        Outcome::Failed
    }

    fn finish(
        &mut self,
        (start, payload_at): (FrameStart, usize),
        ext_len: usize,
        tail: Bytes,
    ) -> Result<(), Status> {
        let limits = PeerLimits { has_window: self.has_window(), ..self.limits };
        let finished = finish_message(self.out, (start, payload_at), ext_len, tail, limits);
        let parts = finished.map_err(|error| {
            // CA-14
            let (value, limit) = (error.bytes as u64, u64::from(error.max));
            let message = format!("the answer's {error}");
            Status::new(Code::TOO_LARGE, message).with_excess(value, limit)
        })?;
        seal_frame(&mut self.out[start.index()..], self.call);
        if let (Some(parts), Some(bodies)) = (parts, &mut self.bodies) {
            let end = self.out.split_off(start.index());
            bodies.push(Body::of_response(self.call, parts, end));
        }
        Ok(())
    }

    /// Answers with a status as it is stamped.
    pub(crate) fn status(&mut self, status: &Status) {
        let metadata = self.scope.take_metadata(self.call);
        append_status(self.out, self.call, (status, metadata.as_ref()), status.disposition());
    }

    fn result<R: Payload, E>(
        &mut self,
        codec: &Codec,
        result: Result<R, CallError<E>>,
        encode_app: EncodeApp<E>,
    ) -> Outcome {
        let metadata = self.scope.take_metadata(self.call);
        let metadata = metadata.as_ref();
        let written = match result {
            Ok(response) => {
                let encode = |out: &mut Vec<u8>| response.encode_parts(codec, out);
                self.payload(Code::OK, codec.id(), metadata, encode).map(|()| Outcome::Ok)
            }
            Err(CallError::App(error)) => {
                let encode =
                    |out: &mut Vec<u8>| encode_app.0(&error, codec, out).map(|()| Bytes::new());
                self.payload(Code::APP, codec.id(), metadata, encode).map(|()| Outcome::App)
            }
            Err(CallError::Rpc(status)) if is_seeded(Bug::NestLies) => Err(status),
            Err(CallError::Rpc(status)) => Err(status.passed_on()),
        };
        written.unwrap_or_else(|status| {
            // Whatever it says: a handler was started (CA-13).
            let is_lie = is_seeded(Bug::NestLies);
            let stamp = if is_lie { status.disposition() } else { Disposition::Processed };
            append_status(self.out, self.call, (&status, metadata), stamp);
            Outcome::Failed
        })
    }
}

/// Appends the RESPONSE of a call that did not end with a payload.
pub(crate) fn append_status(
    out: &mut Vec<u8>,
    call: CallId,
    (status, metadata): (&Status, Option<&MetadataBlock>),
    disposition: Disposition,
) {
    // A local code came from a call the handler made itself; the wire has none of them (ST-2).
    let code = if status.code().is_local() { Code::UNAVAILABLE } else { status.code() };
    let code = if matches!(code, Code::OK | Code::APP) { Code::INTERNAL } else { code };
    let start = begin_response(out, code, disposition, 0);
    let mut ext_len = status.push_ext(out);
    ext_len += metadata.map_or(0, |metadata| metadata.push_ext(ext_len, out));
    finish_frame(out, start, ext_len, u32::MAX).expect("a status is bounded to a few KiB");
    seal_frame(&mut out[start.index()..], call);
}

/// Encodes a method's own error. Infallible methods have none, and no codec could carry it.
pub(crate) struct EncodeApp<E>(fn(&E, &Codec, &mut Vec<u8>) -> Result<(), EncodeError>);

impl<E> Clone for EncodeApp<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for EncodeApp<E> {}

impl<E: Payload> EncodeApp<E> {
    pub(crate) const fn of_payload() -> Self {
        Self(E::encode_payload)
    }
}

impl EncodeApp<Infallible> {
    pub(crate) const fn never() -> Self {
        Self(|never, _, _| match *never {})
    }
}

/// A handler made of a function: decodes `Q`, calls, encodes `R` or `E`.
pub(crate) struct Typed<F, Q, E> {
    pub(crate) start: F,
    pub(crate) encode_app: EncodeApp<E>,
    pub(crate) request: std::marker::PhantomData<fn(Q)>,
}

impl<F, Fut, Q, R, E> Handler for Typed<F, Q, E>
where
    F: Fn(Cx, Q) -> Result<Fut, Status> + Send + Sync,
    Fut: Future<Output = Result<R, CallError<E>>> + Send + 'static,
    Q: Payload,
    R: Payload,
    E: 'static,
{
    fn start(&self, cx: Cx, incoming: Incoming<'_>) -> Result<Pin<Box<dyn Respond>>, Status> {
        let codec = incoming.codec;
        let request = incoming.decode::<Q>().map_err(|error| {
            let is_short = matches!(error, DecodeError::NoMemory { .. });
            let code = if is_short { Code::OVERLOADED } else { Code::BAD_PAYLOAD }; // CA-11
            Status::refused(code, format!("the request does not decode: {error}"))
        })?;
        let future = (self.start)(cx, request)?;
        Ok(Box::pin(Running { future, codec: codec.clone(), encode_app: self.encode_app }))
    }
}

pin_project_lite::pin_project! {
    /// A typed call that was started.
    struct Running<Fut, E> {
        #[pin]
        future: Fut,
        codec: Codec,
        encode_app: EncodeApp<E>,
    }
}

impl<Fut, R, E> Respond for Running<Fut, E>
where
    Fut: Future<Output = Result<R, CallError<E>>> + Send,
    R: Payload,
{
    fn poll_respond(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Outcome> {
        let this = self.project();
        let result = std::task::ready!(this.future.poll(cx));
        Poll::Ready(reply.result(this.codec, result, *this.encode_app))
    }
}

impl std::fmt::Debug for dyn Wrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wrap")
    }
}
