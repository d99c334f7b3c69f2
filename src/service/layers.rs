//! tower's layers around handlers: what their users have already runs here as it is.
//!
//! ```text
//!   REQUEST --> Layered: a clone of the stack, made ready, called --> layer --> layer --> Handlers
//!                  |                                                                        |
//!                  +-- answer, or an error as a status <------------------- decode, run, encode
//! ```
//!
//! The payload is decoded in the innermost service, so that a layer that sheds load saves that
//! too; the price is a copy of it and some allocations a call, for calls that have layers.
//!
//! Invariants: what a layer refuses says NOT_PROCESSED only if the handler has not started, and
//! then it never will, wherever the layer has put it; what was begun and not ended is MAYBE; a
//! handler does not start after its deadline. Layers cannot make an answer, only pass one on.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;
use tower::{BoxError, Layer, Service};

use crate::service::handler::{Handler, Incoming, Outcome, Reply, Respond, Wrap};
use crate::service::{Codec, Cx, DecodeLimits, Method, PeerLimits, Status, with_served};
use crate::util::{Scope, try_grow, with_scope};
use crate::wire::{Code, Disposition, HEAD_BYTES, seal_frame};

/// A request on its way through layers to its handler.
pub struct ServerRequest {
    cx: Cx,
    payload: Bytes,
    codec: Codec,
    limits: DecodeLimits,
    handler: Arc<dyn Handler>,
    progress: Arc<Progress>,
}

/// A whole answer on its way back; only a handler makes one.
pub struct ServerAnswer {
    frame: Vec<u8>,
    outcome: Outcome,
}

/// The innermost service: the handlers. It is always ready and does not fail: what a handler
/// refuses is an answer too.
#[derive(Clone, Copy, Debug)]
pub struct Handlers(());

/// A handler that runs inside layers.
#[must_use = "futures do nothing unless polled"]
pub struct HandlerFuture {
    request: Option<ServerRequest>,
    running: Option<Running>,
}

struct Running {
    call: Pin<Box<dyn Respond>>,
    cx: Cx,
    progress: Arc<Progress>,
}

impl ServerRequest {
    /// The call: its deadline, its caller, its method and version, its metadata.
    #[must_use]
    pub const fn cx(&self) -> &Cx {
        &self.cx
    }

    /// The encoded request.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl ServerAnswer {
    /// [`Code::OK`], [`Code::APP`] for the method's own error, or why it failed.
    #[must_use]
    pub fn code(&self) -> Code {
        let [high, low] = [self.frame[HEAD_BYTES], self.frame[HEAD_BYTES + 1]];
        Code::from_u16(u16::from_be_bytes([high, low]))
    }

    fn status(cx: &Cx, status: &Status) -> Self {
        let mut frame = Vec::new();
        let (call, scope) = (cx.call, &*cx.connection);
        let mut reply =
            Reply { out: &mut frame, bodies: None, call, limits: PeerLimits::NONE, scope };
        reply.status(status);
        Self { frame, outcome: Outcome::Failed }
    }
}

impl Service<ServerRequest> for Handlers {
    type Response = ServerAnswer;
    type Error = Infallible;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ServerRequest) -> HandlerFuture {
        HandlerFuture { request: Some(request), running: None }
    }
}

impl HandlerFuture {
    /// Decodes the request, and has the call begin unless it is too late for that.
    fn begin(request: ServerRequest) -> Result<Running, ServerAnswer> {
        let ServerRequest { cx, payload, codec, limits, handler, progress } = request;
        let incoming =
            Incoming { payload: &payload, bytes: Some(&payload), codec: &codec, limits: &limits };
        let call = handler.start(cx.clone(), incoming).map_err(|status| {
            cx.connection.note_refusal(status.code());
            ServerAnswer::status(&cx, &status)
        })?;
        let late = if cx.remaining().is_zero() {
            Some((Code::DEADLINE_EXCEEDED, "over before its handler could be started"))
        } else if cx.is_cancelled() || !progress.begin() {
            Some((Code::CANCELLED, "answered or taken back before its handler could be started"))
        } else {
            None
        };
        match late {
            Some((code, why)) => Err(ServerAnswer::status(&cx, &Status::refused(code, why))),
            None => Ok(Running { call, cx, progress }),
        }
    }
}

impl Future for HandlerFuture {
    type Output = Result<ServerAnswer, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(request) = this.request.take() {
            match Self::begin(request) {
                Ok(running) => this.running = Some(running),
                Err(answer) => return Poll::Ready(Ok(answer)),
            }
        }
        let Some(running) = &mut this.running else { return Poll::Pending };
        let Running { call, cx: served, progress } = running;
        let mut frame = Vec::new();
        let (id, scope) = (served.call, &*served.connection);
        let mut reply =
            Reply { out: &mut frame, bodies: None, call: id, limits: PeerLimits::NONE, scope };
        // A layer may poll it from a task of its own, which inherits nothing.
        let scope = Scope { deadline: served.deadline, is_retry: served.attempt > 0 };
        let polled = with_scope(scope, || {
            with_served(served.extensions(), || call.as_mut().poll_respond(cx, &mut reply))
        });
        let outcome = std::task::ready!(polled);
        progress.end();
        this.running = None;
        Poll::Ready(Ok(ServerAnswer { frame, outcome }))
    }
}

/// How far a call has come, for what may be said of it when a layer fails.
#[derive(Default)]
struct Progress(AtomicU8);

impl Progress {
    /// The handler is about to start; says whether it may.
    fn begin(&self) -> bool {
        self.0.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn end(&self) {
        self.0.store(ENDED, Ordering::Release);
    }

    /// Nobody waits for the handler any more: says what is true of it from now on.
    fn give_up(&self) -> Disposition {
        match self.0.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(GIVEN_UP) => Disposition::NotProcessed,
            Err(ENDED) => Disposition::Processed,
            Err(_) => Disposition::Maybe,
        }
    }
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const ENDED: u8 = 2;
const GIVEN_UP: u8 = 3;

/// Keeps a handler from starting when its call is not there any more.
struct Hold(Arc<Progress>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// A handler inside a stack of layers.
struct Layered<S> {
    stack: Arc<S>,
    inner: Arc<dyn Handler>,
}

/// A stack of layers, to be put around handlers.
struct Stack<S>(Arc<S>);

/// A stack, made once, of which every call uses a clone.
pub(crate) fn stack_of<L>(layer: &L) -> Arc<dyn Wrap>
where
    L: Layer<Handlers>,
    L::Service: Service<ServerRequest, Response = ServerAnswer, Error: Into<BoxError>>
        + Clone
        + Send
        + Sync
        + 'static,
    <L::Service as Service<ServerRequest>>::Future: Send,
{
    Arc::new(Stack(Arc::new(layer.layer(Handlers(())))))
}

impl<S> Wrap for Stack<S>
where
    S: Service<ServerRequest, Response = ServerAnswer, Error: Into<BoxError>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    fn around(&self, inner: Arc<dyn Handler>) -> Arc<dyn Handler> {
        Arc::new(Layered { stack: Arc::clone(&self.0), inner })
    }
}

impl Method {
    /// Puts a layer around this handler alone: see
    /// [`Server::layer`](crate::server::Server::layer).
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Handlers>,
        L::Service: Service<ServerRequest, Response = ServerAnswer, Error: Into<BoxError>>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<ServerRequest>>::Future: Send,
    {
        self.handler = stack_of(&layer).around(self.handler);
        self
    }
}

impl<S> Handler for Layered<S>
where
    S: Service<ServerRequest, Response = ServerAnswer, Error: Into<BoxError>>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    fn start(&self, cx: Cx, incoming: Incoming<'_>) -> Result<Pin<Box<dyn Respond>>, Status> {
        let progress = Arc::new(Progress::default());
        let hold = Hold(Arc::clone(&progress));
        let request = ServerRequest {
            cx,
            payload: incoming.to_bytes()?,
            codec: incoming.codec.clone(),
            limits: *incoming.limits,
            handler: Arc::clone(&self.inner),
            progress,
        };
        let stack = Arc::clone(&self.stack);
        let future = async move {
            let mut stack = S::clone(&stack);
            std::future::poll_fn(|cx| stack.poll_ready(cx)).await.map_err(Into::into)?;
            stack.call(request).await.map_err(Into::into)
        };
        Ok(Box::pin(LayeredCall { future, hold }))
    }
}

pin_project_lite::pin_project! {
    /// A call inside layers that was started.
    struct LayeredCall<Fut> {
        #[pin]
        future: Fut,
        hold: Hold,
    }
}

impl<Fut> Respond for LayeredCall<Fut>
where
    Fut: Future<Output = Result<ServerAnswer, BoxError>> + Send,
{
    fn poll_respond(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        reply: &mut Reply<'_>,
    ) -> Poll<Outcome> {
        let this = self.project();
        let status = match std::task::ready!(this.future.poll(cx)) {
            Ok(answer) => match answer.send(reply) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(status) => status,
            },
            Err(error) => told(&*error).with_disposition(this.hold.0.give_up()),
        };
        reply.status(&status);
        Poll::Ready(Outcome::Failed)
    }

    fn give_up(self: Pin<&mut Self>) -> Disposition {
        match self.project().hold.0.give_up() {
            Disposition::NotProcessed => Disposition::NotProcessed,
            // Who was to be told of its end is not there any more.
            Disposition::Maybe | Disposition::Processed => Disposition::Maybe,
        }
    }
}

impl ServerAnswer {
    /// Appends the answer, unless it is too large for the client (CA-14).
    fn send(mut self, reply: &mut Reply<'_>) -> Result<Outcome, Status> {
        let bytes = self.frame.len() - HEAD_BYTES;
        let max = reply.limits.frame_bytes_max;
        if bytes > usize::try_from(max).unwrap_or(usize::MAX) {
            let message = format!("the answer's body of {bytes} bytes is over the limit of {max}");
            let status = Status::new(Code::TOO_LARGE, message);
            return Err(status.with_excess(bytes as u64, max.into()));
        }
        if let Err(error) = try_grow(reply.out, self.frame.len()) {
            return Err(Status::new(Code::INTERNAL, format!("the answer: {error}")));
        }
        seal_frame(&mut self.frame, reply.call); // Whatever layers do: an answer to this call.
        reply.out.extend_from_slice(&self.frame);
        Ok(self.outcome)
    }
}

/// What a layer's error is to the caller, its disposition aside.
fn told(error: &(dyn Error + 'static)) -> Status {
    let mut next = Some(error);
    for _ in 0..SOURCES_MAX {
        let Some(error) = next else { break };
        if let Some(status) = error.downcast_ref::<Status>() {
            return status.clone().passed_on();
        }
        if error.is::<Elapsed>() {
            return Status::new(Code::DEADLINE_EXCEEDED, "the time of a layer was over");
        }
        if error.is::<Overloaded>() {
            return Status::new(Code::OVERLOADED, "shed by a layer");
        }
        next = error.source();
    }
    Status::new(Code::UNAVAILABLE, format!("a layer failed: {error}"))
}

/// Errors behind an error that are looked at: a `Buffer` adds one; who makes a circle of them must
/// not hold up a connection.
const SOURCES_MAX: usize = 16;

impl std::fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerRequest").field("cx", &self.cx).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ServerAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerAnswer").field("code", &self.code()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HandlerFuture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandlerFuture")
            .field("has_begun", &self.request.is_none())
            .finish_non_exhaustive()
    }
}
