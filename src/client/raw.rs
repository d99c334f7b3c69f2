//! A call as bytes, and a server that forwards such calls.
//!
//! A raw call is a [`Call`] whose stub is its own: one version, a codec that it names, payloads
//! that nobody decodes. So it has the same deadline, cancellation, retries and dispositions.
//!
//! Invariant: a forwarded call tells what was stamped behind it; nothing ran here (CA-18).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::client::described::Described;
use crate::client::{Call, Channel};
use crate::service::{CallError, Cx, Forward, Handler, Incoming, Outcome, RawRequest, RawResponse};
use crate::service::{Reply, Respond, Status, Stub};
use crate::wire::{Code, Disposition};

/// A raw call. It is a future: nothing is sent before it is first polled.
///
/// # Errors
/// It ends with a [`Status`] that says whether it was executed.
///
/// # Cancellation
/// As that of a [`Call`]: dropping it takes the call back.
#[must_use = "a call is sent when it is awaited"]
pub struct RawCall(Call<RawRequest, RawResponse, Infallible>);

impl RawCall {
    /// Waits while the server cannot be reached, until the deadline, or the other way round.
    /// Default: as the channel says.
    pub fn wait_for_ready(self, wait: bool) -> Self {
        Self(self.0.wait_for_ready(wait))
    }
}

impl Future for RawCall {
    type Output = Result<RawResponse, Status>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|error| match error {
            CallError::App(never) => match never {},
            CallError::Rpc(status) => status,
        })
    }
}

impl std::fmt::Debug for RawCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RawCall").field(&self.0).finish()
    }
}

impl Channel {
    /// A call as bytes. Its version is called as it is, or the call fails; the method's own error
    /// is an `Ok` here, told by [`RawResponse::is_app_error`].
    ///
    /// Codecs and types are the caller's business: see [`RawRequest`].
    ///
    /// ```
    /// # use switchback::service::RawRequest;
    /// # use switchback::wire::MethodId;
    /// # use switchback::{Channel, Status};
    /// # async fn run(channel: Channel) -> Result<(), Status> {
    /// let request = RawRequest::new(MethodId::of("demo.Math/double"), 1, 1, vec![21]);
    /// let response = channel.call_raw(request).await?;
    /// assert_eq!(&response.payload[..], [42]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_raw(&self, request: RawRequest) -> RawCall {
        let stub = Described::Own(Box::new(Stub::raw(&request)));
        let metadata = request.metadata.clone();
        RawCall(Call::new(Arc::clone(self.connector()), stub, request).with_pairs(&metadata))
    }
}

impl From<Channel> for Forward {
    fn from(channel: Channel) -> Self {
        Self(Arc::new(Forwarding(channel)))
    }
}

/// A fallback that is another server.
struct Forwarding(Channel);

impl Handler for Forwarding {
    fn start(&self, cx: Cx, incoming: Incoming<'_>) -> Result<Pin<Box<dyn Respond>>, Status> {
        let (codec, attempt) = (cx.codec, cx.attempt);
        let RawCall(call) = self.0.call_raw(RawRequest::of_call(&cx, incoming)?);
        Ok(Box::pin(Forwarded { call: RawCall(call.on_behalf(attempt)), codec }))
    }
}

/// A call that was passed on.
struct Forwarded {
    call: RawCall,
    codec: u8,
}

impl Respond for Forwarded {
    fn poll_respond(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Outcome> {
        let status = match std::task::ready!(Pin::new(&mut self.call).poll(cx)) {
            Ok(response) => match reply.raw(self.codec, &response) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(status) => status, // Answered there, and not to be told here: PROCESSED.
            },
            // Its own queue was full, which is a want of room like others.
            Err(status) if status.code() == Code::QUEUE_FULL => status.with_code(Code::OVERLOADED),
            Err(status) => status,
        };
        if status.disposition() == Disposition::NotProcessed {
            // The server behind judges this one for it (LD-11), as this one its client.
            reply.scope.note_refusal(status.code());
        }
        reply.status(&status); // As it was stamped (CA-18).
        Poll::Ready(Outcome::Failed)
    }
}
