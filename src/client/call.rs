//! One call, as a future.
//!
//! ```text
//! Connecting --driver--> Choosing --version--> Starting --id--> Waiting --outcome--> done
//!                            ^                                      |
//!                            +---- UNSUPPORTED_VERSION, once -------+
//! ```
//!
//! Invariants: exactly one outcome; dropping the future before it takes the call back; the
//! request is kept until the outcome, since it may have to be sent again in another version;
//! a call that was not sent says NOT_PROCESSED.

mod hooked;
mod outcome;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::client::connector::{Connector, Wait};
use crate::client::described::Described;
use crate::client::failures::{lost, not_connected, unsupported};
use crate::client::hooks::CallHooks;
use crate::client::with_metadata::CallWithMetadata;
use crate::driver::{Chosen, ClientDriver, Start, with_reply};
use crate::error::{Error, ErrorKind};
use crate::policy::{Decision, FailedAttempt};
use crate::proto::{CallOutcome, Ticket};
use crate::service::{Answer, CallEnd, CallError, CodecIds, End, Metadata, MetadataBlock};
use crate::service::{Parts, Status, StubVersion, WHOLE_BYTES_MAX, finish_message};
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{current_scope, pool};
use crate::wire::{CallId, CloseReason, Code, Disposition, FrameTooLarge, RequestFields, Response};
use crate::wire::{TIMEOUT_MS_MAX, begin_request};

/// A call. It is a future: nothing is sent before it is first polled, options are set until
/// then, and dropping it takes the call back. [`client`](crate::client) shows one.
///
/// # Errors
/// It ends with the method's own error, or with a [`Status`] that says whether it was executed.
///
/// # Cancellation
/// Dropping the future tells the server, which drops the handler at its next await. Whether the
/// call was executed is then unknown to the caller.
#[must_use = "a call is sent when it is awaited"]
pub struct Call<Q: 'static, R: 'static, E: 'static> {
    connector: Arc<Connector>,
    stub: Described<Q, R, E>,
    /// Until the outcome.
    request: Option<Q>,
    timeout: Option<Duration>,
    metadata: MetadataBlock,
    metadata_error: Option<Status>,
    /// Only with interceptors.
    hooks: Option<Box<CallHooks>>,
    /// What came beside the answer, if somebody wants it.
    answer: Option<Metadata>,
    state: State,
    /// Of the first poll.
    begun_at: Option<Instant>,
    deadline: Option<Instant>,
    /// The time that is left, as long as the first poll lasts: a call that is sent at once need
    /// not read the clock again.
    left: Option<Duration>,
    /// When the connection that gave the answer had read it.
    heard_at: Option<Instant>,
    /// Only for a call that must wait before it is sent: the connection's sweep serves the rest.
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    driver: Option<ClientDriver>,
    /// The index of the version it is made in.
    version: usize,
    was_resent: bool,
    /// The attempt's number, as it travels (CA-9).
    attempt: u8,
    /// Attempts that nobody read, and that therefore do not count.
    replays: u32,
    /// How an attempt ended that may have been executed: the last one.
    unknown: Option<Status>,
    /// Made by a handler that serves a call which was itself tried again.
    is_nested_retry: bool,
    wait_for_ready: bool,
}

enum State {
    /// With the interceptors of the call.
    Admitting,
    /// With those of the attempt, which is about to be sent.
    Readying,
    /// Between two attempts.
    Resting(Pin<Box<dyn Future<Output = ()> + Send>>),
    Connecting(Wait),
    /// A place among those who wait for the table.
    Choosing(Option<Ticket>),
    /// A place among those who wait for room.
    Starting(Option<Ticket>),
    Waiting(CallId),
    Done,
}

impl<Q, R, E> Call<Q, R, E> {
    pub(crate) fn new(connector: Arc<Connector>, stub: Described<Q, R, E>, request: Q) -> Self {
        let wait_for_ready = connector.config.wait_for_ready;
        Self {
            connector,
            request: Some(request),
            timeout: stub.timeout,
            stub,
            metadata: MetadataBlock::new(),
            metadata_error: None,
            hooks: None,
            answer: None,
            state: State::Connecting(Wait::new(wait_for_ready)),
            begun_at: None,
            deadline: None,
            left: None,
            heard_at: None,
            timer: None,
            driver: None,
            version: 0,
            was_resent: false,
            attempt: 0,
            replays: 0,
            unknown: None,
            is_nested_retry: false,
            wait_for_ready,
        }
    }

    /// Sets the timeout, from the first poll to the outcome, instead of the method's or the
    /// channel's. Inside a handler the time left to that handler's own call bounds it too.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Waits while the server cannot be reached, until the deadline, instead of failing when an
    /// attempt to connect has failed; or the other way round. Default: as the channel says.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self.state = State::Connecting(Wait::new(wait));
        self
    }

    /// Adds a name and a value that travel beside the request. Names are 1 to 64 bytes of
    /// `[a-z0-9_.-]`; one call has at most 64 pairs and 8 KiB of them, or it fails when polled.
    pub fn metadata(mut self, name: &str, value: &[u8]) -> Self {
        if let Err(status) = self.metadata.push(name, value) {
            self.metadata_error = Some(status);
        }
        self
    }

    /// Adds metadata that was checked before.
    pub(crate) fn with_pairs(mut self, metadata: &Metadata) -> Self {
        self.metadata = MetadataBlock::of(metadata);
        self
    }

    /// Made for a call of somebody else, in that one's attempt: whether to make another attempt
    /// is for them to say; what was never read may be replayed.
    pub(crate) fn on_behalf(mut self, attempt: u8) -> Self {
        self.attempt = attempt;
        self.is_nested_retry = true;
        self
    }

    /// The same call, which gives what came beside the answer too, whatever the answer is.
    pub fn with_metadata(mut self) -> CallWithMetadata<Q, R, E> {
        self.answer = Some(Metadata::default());
        CallWithMetadata(self)
    }

    pub(crate) fn take_answer_metadata(&mut self) -> Metadata {
        self.answer.take().unwrap_or_default()
    }

    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<R, CallError<E>>> {
        let deadline = self.begin();
        if let Some(status) = self.metadata_error.take() {
            return Poll::Ready(Err(status.into()));
        }
        loop {
            let deadline = self.deadline.unwrap_or(deadline);
            let advanced = match &mut self.state {
                State::Resting(rest) => {
                    std::task::ready!(rest.as_mut().poll(cx));
                    self.state = State::Connecting(Wait::new(self.wait_for_ready));
                    continue;
                }
                State::Admitting => self.poll_admit(cx),
                State::Readying => self.poll_ready(cx),
                State::Connecting(_) => self.poll_connect(cx.waker()),
                State::Choosing(_) => self.poll_choose(cx.waker()),
                State::Starting(_) => self.poll_start(deadline, cx.waker()),
                State::Waiting(id) => {
                    let id = *id;
                    match std::task::ready!(self.poll_answer(id, cx)) {
                        Some(Err(CallError::Rpc(status))) => match self.rest(status, deadline) {
                            None => continue, // To be tried again.
                            Some(status) => return Poll::Ready(Err(status.into())),
                        },
                        Some(result) => return Poll::Ready(result),
                        None => continue, // To be sent again in another version.
                    }
                }
                State::Done => return Poll::Pending,
            };
            match advanced {
                // It was sent just now, and is woken when there is an outcome.
                Poll::Ready(Ok(())) if matches!(self.state, State::Waiting(_)) => {
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(status)) => return Poll::Ready(Err(status.into())),
                Poll::Pending => return self.poll_timer(deadline, cx),
            }
        }
    }

    /// The timer of a call that waits before it is sent.
    fn poll_timer(
        &mut self,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R, CallError<E>>> {
        let clock = &self.connector.runtime.clock;
        let timer = self.timer.get_or_insert_with(|| clock.sleep_until(deadline));
        std::task::ready!(timer.as_mut().poll(cx));
        let what = match self.state {
            State::Admitting | State::Readying => {
                let holder = self.hooks.as_ref().and_then(|hooks| hooks.holder(&self.connector));
                &*format!("the interceptor {} had the call", holder.unwrap_or_default())
            }
            State::Connecting(_) => "waiting for a connection",
            State::Choosing(_) => "waiting for the server's method table",
            _ => "waiting for room",
        };
        let message =
            format!("{}: the time was over while {what}; nothing was sent", self.stub.name);
        Poll::Ready(Err(Status::refused(Code::DEADLINE_EXCEEDED, message).into()))
    }

    fn poll_connect(&mut self, waker: &Waker) -> Poll<Result<(), Status>> {
        let State::Connecting(wait) = &mut self.state else { return Poll::Ready(Ok(())) };
        match std::task::ready!(self.connector.poll_driver(wait, waker)) {
            Ok(driver) => {
                // One version need not wait for the table, but obeys it once it is there (RT-7).
                let waits = self.stub.versions.len() > 1 || driver.has_table();
                self.driver = Some(driver);
                self.state = if waits { State::Choosing(None) } else { self.starting() };
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(not_connected(&self.stub.name, error))),
        }
    }

    fn poll_choose(&mut self, waker: &Waker) -> Poll<Result<(), Status>> {
        let (State::Choosing(ticket), Some(driver)) = (&mut self.state, &self.driver) else {
            return Poll::Ready(Ok(()));
        };
        let ours = self.stub.versions.iter().map(|known| known.version);
        let chosen = std::task::ready!(driver.poll_choose(ticket, self.stub.id, ours, waker));
        let name = &self.stub.name;
        let version = match chosen {
            Err(error) => return Poll::Ready(self.reconnect(error)),
            Ok(Chosen::Version(version)) => version,
            Ok(Chosen::UnknownMethod) => {
                let message = format!("{name}: the server has no such method");
                return Poll::Ready(Err(Status::refused(Code::UNKNOWN_METHOD, message)));
            }
            Ok(Chosen::NoneInCommon(table)) => {
                let row = table.row(self.stub.id);
                let served: Vec<u16> = row.map_or_else(Vec::new, |row| {
                    let versions = row.versions.iter().map(|known| known.version);
                    versions.filter(|version| row.is_callable(*version)).collect()
                });
                return Poll::Ready(Err(unsupported(&self.stub, served)));
            }
        };
        let known = self.stub.versions.iter().position(|known| known.version == version);
        self.version = known.unwrap_or(self.version);
        self.state = self.starting();
        Poll::Ready(Ok(()))
    }

    fn poll_start(&mut self, deadline: Instant, waker: &Waker) -> Poll<Result<(), Status>> {
        let (State::Starting(ticket), Some(driver)) = (&self.state, &self.driver) else {
            return Poll::Ready(Ok(()));
        };
        let encode = |out: &mut Vec<u8>| self.encode(deadline, driver, out);
        let started = driver.poll_start(*ticket, deadline, waker, encode);
        self.state = match started {
            Start::Started(id) => State::Waiting(id),
            Start::Waiting(ticket) => {
                self.state = State::Starting(Some(ticket));
                return Poll::Pending;
            }
            Start::QueueFull(full) => {
                let message = format!("{}: {full}", self.stub.name);
                return Poll::Ready(Err(Status::refused(Code::QUEUE_FULL, message)));
            }
            // The server may accept more than every server must: wait for its word (CA-14).
            Start::Refused(status) if status.code() == Code::TOO_LARGE && !driver.has_table() => {
                State::Choosing(None)
            }
            Start::Refused(status) => return Poll::Ready(Err(status)),
            Start::Ended(error) => return Poll::Ready(self.reconnect(error)),
        };
        self.timer = None;
        Poll::Ready(Ok(()))
    }

    /// Appends the request's frame, not sealed.
    fn encode(
        &self,
        deadline: Instant,
        driver: &ClientDriver,
        out: &mut Vec<u8>,
    ) -> Result<Option<Parts>, Status> {
        let (connector, known, codec) = (&self.connector, self.known(), self.codec_id());
        if let Some(codecs) = driver.refused_codec(self.stub.id, self.stub.codec) {
            let (name, ours) = (&self.stub.name, [codec]);
            let (here, ours) = (CodecIds(&codecs), CodecIds(&ours));
            let message = format!("{name}: the server has {here}, not {ours}");
            let status = Status::refused(Code::UNSUPPORTED_CODEC, message);
            return Err(status.with_codecs(codecs)); // CA-6
        }
        let remaining = self
            .left
            .unwrap_or_else(|| deadline.saturating_duration_since(connector.runtime.clock.now()));
        if remaining.is_zero() {
            let message = format!("{}: the time was over before it was sent", self.stub.name);
            return Err(Status::refused(Code::DEADLINE_EXCEEDED, message));
        }
        // Rounded up: less than a millisecond is not nothing (CA-4). A timeout is bounded, so its
        // seconds fit (`deadline`).
        let ms = remaining.subsec_nanos().div_ceil(1_000_000);
        let timeout_ms = u32::try_from(remaining.as_secs() * 1_000 + u64::from(ms));
        let fields = RequestFields {
            method: self.stub.id,
            version: known.version,
            codec,
            attempt_priority: self.attempt.min(15) << 4, // CA-9
            timeout_ms: timeout_ms.map_or(TIMEOUT_MS_MAX, |ms| ms.min(TIMEOUT_MS_MAX)),
            fingerprint: known.fingerprint.fold(),
        };
        let start = begin_request(out, &fields);
        let metadata = match &self.hooks {
            Some(hooks) => hooks.metadata(),
            None => &self.metadata,
        };
        out.extend_from_slice(metadata.as_bytes());
        let Some(request) = &self.request else { return Ok(None) };
        let (ext_len, payload_at) = (metadata.as_bytes().len(), out.len());
        let tail = (known.encode.0)(request, &connector.codec, out)?;
        let finished = finish_message(out, (start, payload_at), ext_len, tail, driver.limits());
        let parts = finished.map_err(|error| {
            let FrameTooLarge { bytes, max } = error;
            let message = format!("{}: the request's {error}", self.stub.name);
            Status::refused(Code::TOO_LARGE, message).with_excess(bytes as u64, max.into())
        })?;
        if parts.is_some() {
            start.set_more(out);
        }
        Ok(parts)
    }

    /// The outcome; `None` when the call is to be sent once more in another version.
    fn poll_answer(
        &mut self,
        id: CallId,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<R, CallError<E>>>> {
        with_reply(|reply| {
            let Some(driver) = &self.driver else { return Poll::Ready(None) };
            let (outcome, heard_at) = std::task::ready!(driver.poll_outcome(id, cx, reply));
            let name = &self.stub.name;
            let status = match outcome {
                CallOutcome::Answered { status, disposition, codec, ext_len } => {
                    self.heard_at = Some(heard_at);
                    let payload_len = reply.len() - ext_len;
                    // A long one is not copied for whoever wants to keep it.
                    let is_long = payload_len > WHOLE_BYTES_MAX;
                    let whole = is_long.then(|| pool::into_bytes(std::mem::take(reply)));
                    let (payload, ext) = whole.as_deref().unwrap_or(reply).split_at(payload_len);
                    let response = Response { call: id, status, disposition, codec, ext, payload };
                    let bytes = whole.as_ref().map(|whole| whole.slice(..payload_len));
                    return Poll::Ready(self.handle_answer(&Answer { response, bytes }));
                }
                CallOutcome::Expired => {
                    let message = format!("{name}: no answer in time");
                    Status::stamped(Code::DEADLINE_EXCEEDED, Disposition::Maybe, message)
                }
                CallOutcome::Lost(_) if driver.end().is_some_and(|end| end.is_stranger()) => {
                    let end =
                        driver.end().unwrap_or_else(|| Error::closed_here(CloseReason::NORMAL));
                    not_connected(name, end)
                }
                CallOutcome::Lost(disposition) => {
                    let leaving = || driver.leaving().map(|reason| ErrorKind::GoingAway { reason });
                    let why = driver.end().or_else(|| leaving().map(Error::from));
                    lost(name, disposition, why)
                }
            };
            self.state = State::Done;
            Poll::Ready(Some(Err(status.into())))
        })
    }

    /// After an attempt that failed: goes to rest until the next one, or gives the status back.
    fn rest(&mut self, status: Status, deadline: Instant) -> Option<Status> {
        self.end_attempt(|| End::Failed(status.clone()));
        let now = self.connector.runtime.now();
        let failed = FailedAttempt {
            code: status.code(),
            disposition: status.disposition(),
            retry_after: status.retry_after(),
            attempt: self.attempt,
            replays: self.replays,
            is_idempotent: self.stub.idempotent,
            is_nested_retry: self.is_nested_retry,
            time_left: deadline.saturating_duration_since(now),
        };
        // Who waits for a connection waits in the connector; of a single one there is no other.
        let is_lost = status.code() == Code::CONNECTION_LOST;
        if status.code() == Code::NOT_CONNECTED || (is_lost && self.connector.is_single) {
            return Some(status);
        }
        match self.connector.decide(&failed, now) {
            Decision::GiveUp(_) => Some(status),
            Decision::Retry { after, attempt, is_free } => {
                tracing::debug!(method = %self.stub.name, %status, ?after, attempt, "tried again");
                self.attempt = attempt;
                self.replays += u32::from(is_free);
                self.stub.counters(self.version).count_retry(is_free);
                self.heard_at = None;
                if status.disposition() == Disposition::Maybe {
                    self.unknown = Some(status);
                }
                self.driver = None;
                self.forget_answer_metadata();
                self.was_resent = false; // Another connection is another choice (CA-5).
                self.state = if after.is_zero() {
                    State::Connecting(Wait::new(self.wait_for_ready))
                } else {
                    State::Resting(self.connector.runtime.clock.sleep_until(now + after))
                };
                None
            }
        }
    }

    /// The connection ended, or goes away, before the call was sent on it.
    fn reconnect(&mut self, error: Error) -> Result<(), Status> {
        self.state = State::Done;
        let Some(deadline) = self.deadline else { return Ok(()) };
        if error.is_stranger() || matches!(error.kind(), ErrorKind::QueueFull { .. }) {
            return Err(not_connected(&self.stub.name, error));
        }
        let is_drain =
            matches!(error.close_reason(), Some(CloseReason::SHUTDOWN | CloseReason::AGE));
        let has_table = self.driver.as_ref().is_none_or(ClientDriver::has_table);
        let is_refused = !has_table && !is_drain;
        if is_refused && !self.wait_for_ready {
            // It never came to a handshake: that is an attempt to connect that failed.
            return Err(not_connected(&self.stub.name, error));
        }
        let status = lost(&self.stub.name, Disposition::NotProcessed, Some(error));
        self.rest(status, deadline).map_or(Ok(()), Err)
    }

    /// With the first poll the time begins; gives when it is over.
    fn begin(&mut self) -> Instant {
        if let Some(deadline) = self.deadline {
            self.left = None;
            return deadline;
        }
        let timeout = self.timeout.unwrap_or(self.connector.config.call_timeout);
        let timeout = timeout.min(Duration::from_millis(TIMEOUT_MS_MAX.into()));
        let now = self.connector.runtime.now();
        self.connector.count_call(now);
        self.begun_at = Some(now);
        let (own, scope) = (now + timeout, current_scope());
        let is_retry = scope.is_some_and(|scope| scope.is_retry);
        self.is_nested_retry |= is_retry && !is_seeded(Bug::NestRetries);
        let inherited = scope.filter(|_| !is_seeded(Bug::NestOverstays));
        let deadline = inherited.map_or(own, |scope| own.min(scope.deadline));
        self.left = Some(timeout).filter(|_| deadline == own);
        self.deadline = Some(deadline);
        if self.connector.interceptors.is_some() {
            let of = (Arc::clone(&self.stub.name), self.stub.id, self.stub.idempotent);
            let metadata = std::mem::take(&mut self.metadata);
            self.hooks = Some(Box::new(CallHooks::new(of, (now, deadline), metadata)));
            self.state = State::Admitting;
        }
        deadline
    }

    /// Of the payload; a raw call brings its own.
    fn codec_id(&self) -> u8 {
        self.stub.codec.unwrap_or_else(|| self.connector.codec.id())
    }

    fn known(&self) -> &StubVersion<Q, R, E> {
        &self.stub.versions[self.version]
    }
}

/// Nothing in it is pinned.
impl<Q, R, E> Unpin for Call<Q, R, E> {}

impl<Q, R, E> Future for Call<Q, R, E> {
    type Output = Result<R, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = std::task::ready!(this.poll_call(cx));
        this.give_up();
        this.request = None;
        let result = this.of_all_attempts(result);
        this.count(match &result {
            Ok(_) => CallEnd::Ok,
            Err(CallError::App(_)) => CallEnd::App,
            Err(CallError::Rpc(status)) => CallEnd::Failed(status.code()),
        });
        this.end_hooks(|| match &result {
            Ok(_) => End::Ok,
            Err(CallError::App(_)) => End::App,
            Err(CallError::Rpc(status)) => End::Failed(status.clone()),
        });
        Poll::Ready(result)
    }
}

impl<Q, R, E> Call<Q, R, E> {
    /// Leaves wherever it waits, and takes the call back if it was sent.
    fn give_up(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        match (state, &self.driver) {
            (State::Connecting(mut wait), _) => self.connector.leave(&mut wait),
            (State::Choosing(ticket), Some(driver)) => driver.leave_table(ticket),
            (State::Starting(ticket), Some(driver)) => driver.leave(ticket),
            (State::Waiting(id), Some(driver)) => driver.cancel(id),
            (_, _) => {}
        }
    }
}

impl<Q, R, E> Drop for Call<Q, R, E> {
    fn drop(&mut self) {
        if self.begun_at.is_some() || self.hooks.is_some() {
            self.give_up();
            self.count(CallEnd::Cancelled);
            self.end_hooks(|| End::Cancelled);
        }
    }
}

impl<Q, R, E> std::fmt::Debug for Call<Q, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("method", &self.stub.name).finish_non_exhaustive()
    }
}
