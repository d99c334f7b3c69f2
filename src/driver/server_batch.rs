//! The requests of one read: looked up, started, answered together.
//!
//! Invariants: the table is loaded once and held until the batch ends, so that a handler that
//! was replaced meanwhile is not gone before its last inline call; refusals say NOT_PROCESSED and
//! come in the order of CA-3; counters are added up here and given to the method once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::driver::call_task::{CallTask, Polled, drop_handler, panicked, poll_handler};
use crate::driver::intercepted::Intercepted;
use crate::driver::outbound::{Eagerness, PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use crate::driver::server_settings::ServerSettings;
use crate::driver::server_shared::{ServerShared, append_no_memory};
use crate::driver::turns::Turn;
use crate::driver::uploads::Uploads;
use crate::proto::Admitted;
use crate::service::append_status;
use crate::service::{Body, Codec, CodecIds, Cx, Entry, Extensions, Incoming, Lookup, Metadata};
use crate::service::{Outcome, PeerLimits, Reply, Respond, Routes, Run, Status, Tally};
use crate::util::bugs::{Bug, is_seeded};
use crate::util::{Scope, with_scope};
use crate::wire::{CallId, Code, Request, TIMEOUT_MS_MAX};

pub(crate) struct Batch<'a> {
    pub(super) shared: &'a Arc<ServerShared>,
    pub(super) settings: &'a ServerSettings,
    out: &'a mut Vec<u8>,
    /// Answers that are too long for `out`.
    bodies: Vec<Body>,
    pub(super) uploads: &'a mut Uploads,
    threshold_bytes: usize,
    /// Elsewhere while a request is served.
    routes: Option<Arc<Routes>>,
    /// When this batch was read; the time of its calls counts from here (CA-8).
    read_at: Instant,
    /// The last reading of the clock.
    now: Instant,
    is_output_full: bool,
    /// Bytes of answers handed over so far.
    answered_bytes: usize,
    /// Counts of `counted`, not given to it yet.
    tally: Tally,
    counted: Option<Arc<Entry>>,
    /// From the first handler on: this thread is not free for others.
    turn: Option<Turn<'a>>,
}

impl<'a> Batch<'a> {
    /// `read_bytes` were read at once: half of it is a good piece to answer in.
    pub(crate) fn new(
        shared: &'a Arc<ServerShared>,
        settings: &'a ServerSettings,
        (out, uploads): (&'a mut Vec<u8>, &'a mut Uploads),
        read_bytes: usize,
    ) -> Self {
        let threshold_bytes = (read_bytes / 2).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let (routes, tally) = (Some(shared.dispatch.routes()), Tally::default());
        let read_at = shared.runtime.clock.now();
        Self {
            shared,
            settings,
            out,
            bodies: Vec::new(),
            uploads,
            threshold_bytes,
            routes,
            read_at,
            now: read_at,
            is_output_full: false,
            answered_bytes: 0,
            tally,
            counted: None,
            turn: None,
        }
    }

    /// Whether the rest of the read must wait: the client has answers to take, or others have
    /// waited long enough for their turn.
    pub(crate) const fn must_pause(&self) -> bool {
        self.is_output_full || self.answered_bytes > TURN_ANSWER_BYTES_MAX
    }

    pub(super) fn now(&self) -> Instant {
        self.shared.runtime.clock.now()
    }

    pub(crate) const fn read_at(&self) -> Instant {
        self.read_at
    }

    pub(crate) const fn out(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Takes the table as it is now.
    pub(crate) fn reload(&mut self) {
        self.routes = Some(self.shared.dispatch.routes());
    }

    pub(crate) fn finish(mut self) {
        self.time();
        self.count(None); // Who has an answer finds it counted.
        self.flush();
    }

    /// Sends the answers so far.
    pub(crate) fn flush(&mut self) {
        if !self.out.is_empty() || !self.bodies.is_empty() {
            self.time();
            let eagerness = Eagerness { is_alone: true, threshold_bytes: 0 };
            let long_bytes: usize = self.bodies.iter().map(Body::bytes_held).sum();
            self.answered_bytes += self.out.len() + long_bytes;
            self.is_output_full = self.shared.send(self.out, &mut self.bodies, eagerness);
            self.out.clear();
        }
    }

    /// Answers that a call was not even looked at.
    pub(crate) fn refuse(&mut self, call: CallId, code: Code, why: &'static str) {
        self.refuse_with(call, &Status::refused(code, why));
    }

    fn refuse_with(&mut self, call: CallId, status: &Status) {
        self.shared.totals.count_refusal(status.code());
        append_status(self.out, call, (status, None), status.disposition());
        self.flush_if_large();
    }

    /// Records how long the calls took that were answered since the last time: one reading of the
    /// clock for all that go out in one piece.
    fn time(&mut self) {
        if self.tally.timed > 0
            && let Some(counted) = &self.counted
        {
            self.now = self.shared.runtime.clock.now();
            let took = self.now.saturating_duration_since(self.read_at);
            counted.counters.time(std::mem::take(&mut self.tally.timed), took);
        }
    }

    fn flush_if_large(&mut self) {
        if self.out.len() >= self.threshold_bytes {
            self.flush();
        }
    }

    /// Serves one request, or starts to. Says with which status it was refused, if it was.
    pub(crate) fn request(&mut self, request: &Request<'_>) -> Option<Code> {
        // Taken out, not cloned: that would be two atomic operations on what all threads share.
        let routes = self.routes.take().unwrap_or_else(|| self.shared.dispatch.routes());
        let refused = self.request_among(&routes, request);
        self.routes = Some(routes);
        refused
    }

    fn request_among(&mut self, routes: &Routes, request: &Request<'_>) -> Option<Code> {
        let (entry, codec) = match self.admit(routes, request) {
            Ok(admitted) => admitted,
            Err(status) => {
                self.refuse_with(request.call, &status);
                if !is_seeded(Bug::RefusedRuns) || status.code() != Code::OVERLOADED {
                    return Some(status.code());
                }
                let Lookup::Found(entry) = routes.lookup(request.method, request.version) else {
                    return None;
                };
                (entry, &self.shared.dispatch.codecs()[0])
            }
        };
        let timeout_ms = request.timeout_ms.min(TIMEOUT_MS_MAX);
        let deadline = self.read_at + Duration::from_millis(timeout_ms.into());
        self.now = self.shared.runtime.clock.now();
        if !is_seeded(Bug::LateStart) && self.now >= deadline {
            let message = "over before its handler could be started";
            self.refuse(request.call, Code::DEADLINE_EXCEEDED, message);
            return Some(Code::DEADLINE_EXCEEDED);
        }
        let bytes = request_bytes(request);
        let admitted = Admitted { read_at: self.read_at, deadline, bytes };
        let attempt = request.attempt_priority >> 4; // CA-9
        let scope = Scope { deadline, is_retry: attempt > 0 };
        let cx = Cx {
            call: request.call,
            method: request.method,
            version: request.version,
            attempt,
            codec: request.codec,
            fingerprint: request.fingerprint,
            deadline,
            metadata: Metadata::from_ext(request.ext),
            extensions: Extensions::new(),
            name: None,
            connection: Arc::<ServerShared>::clone(self.shared),
        };
        if request.flags.has_more() {
            let entry = Arc::clone(entry);
            return self.begin_upload((entry, codec), cx, (admitted, scope), request.payload);
        }
        let (payload, limits) = (request.payload, &self.settings.decode);
        let incoming = Incoming { payload, bytes: None, codec, limits };
        if !self.settings.interceptors.is_empty() {
            return self.intercept(entry, (admitted, scope), cx, incoming);
        }
        let started = catch_unwind(AssertUnwindSafe(|| {
            if is_seeded(Bug::StartTwice) {
                self.run_once_more(entry, cx.clone(), scope, incoming);
            }
            with_scope(scope, || entry.method.handler.start(cx, incoming))
        }));
        match started {
            Ok(Ok(call)) => return self.run(entry, request.call, (admitted, scope), call),
            Ok(Err(status)) => {
                if status.code() == Code::OVERLOADED {
                    self.shared.totals.count_overload();
                }
                self.refuse_with(request.call, &status);
                return Some(status.code());
            }
            Err(panic) => {
                let status = panicked(self.shared, &*panic);
                self.answer_panic(entry, request.call, &status);
            }
        }
        None
    }

    /// User code ran: nobody may take this for not processed.
    fn answer_panic(&mut self, entry: &Arc<Entry>, call: CallId, status: &Status) {
        self.count(Some(entry));
        self.tally.started += 1;
        self.tally.ended(Outcome::Failed);
        append_status(self.out, call, (status, None), status.disposition());
        self.flush_if_large();
    }

    /// Puts the interceptors between a call and its handler.
    fn intercept(
        &mut self,
        entry: &Arc<Entry>,
        (admitted, scope): (Admitted, Scope),
        cx: Cx,
        incoming: Incoming<'_>,
    ) -> Option<Code> {
        let id = cx.call;
        match Intercepted::new(self.shared, self.settings, entry, (cx, scope), incoming) {
            Ok(call) => self.run(entry, id, (admitted, scope), Box::pin(call)),
            Err(status) => {
                self.shared.totals.count_overload();
                self.refuse_with(id, &status);
                Some(status.code())
            }
        }
    }

    /// A bug, seeded on purpose: the call is run, and its answer is lost.
    fn run_once_more(&self, entry: &Arc<Entry>, cx: Cx, scope: Scope, incoming: Incoming<'_>) {
        let call = cx.call;
        if let Ok(mut started) = entry.method.handler.start(cx, incoming) {
            let mut out = Vec::new();
            let scope_of_call: &ServerShared = self.shared;
            let mut reply = Reply {
                out: &mut out,
                bodies: None,
                call,
                limits: PeerLimits::NONE,
                scope: scope_of_call,
            };
            let mut cx = Context::from_waker(Waker::noop());
            poll_handler(self.shared, started.as_mut(), scope, &mut cx, &mut reply);
        }
    }

    /// The checks of CA-3, in their order.
    fn admit<'r>(
        &self,
        routes: &'r Routes,
        request: &Request<'_>,
    ) -> Result<(&'r Arc<Entry>, &'a Codec), Status> {
        let shared: &'a Arc<ServerShared> = self.shared;
        let (pending, max) = (shared.pending_count.load(Ordering::Acquire), self.calls_max());
        if pending >= max {
            let message = format!("{pending} calls in flight on this connection, at most {max}");
            return Err(overloaded(shared, message));
        }
        let bytes_max = self.settings.in_flight_bytes_max;
        if let Some(message) = shared.refusal(request_bytes(request), bytes_max) {
            return Err(overloaded(shared, message));
        }
        let entry = match routes.lookup(request.method, request.version) {
            Lookup::Found(entry) => entry,
            Lookup::Fallback(entry) => return self.admit_unlisted(entry, request),
            Lookup::Unknown => {
                let message = format!("no method has the id {}", request.method);
                return Err(Status::refused(Code::UNKNOWN_METHOD, message));
            }
            Lookup::Version(method) => {
                let (name, versions) = (&method.name, method.callable());
                let message =
                    format!("{name} version {} is not served, {versions:?} are", request.version);
                let status = Status::refused(Code::UNSUPPORTED_VERSION, message);
                return Err(status.with_versions(versions));
            }
        };
        let codecs = shared.dispatch.codecs();
        // PL-15: the server has it, and the method's types have a form in it.
        let has = |codec: &&Codec| entry.method.forms.has(codec);
        let codec = codecs.iter().find(|codec| codec.id() == request.codec).filter(has);
        let codec = codec.ok_or_else(|| {
            let name = &entry.method.name;
            unsupported_codec(name, codecs.iter().filter(has), request.codec)
        })?;
        let ours = entry.method.fingerprint.fold();
        if ours != 0 && request.fingerprint != 0 && ours != request.fingerprint {
            let message = format!(
                "{} version {} has fingerprint {ours:08x} here, {:08x} at the caller: its types \
                 differ",
                entry.method.name, entry.method.version, request.fingerprint
            );
            return Err(Status::refused(Code::SCHEMA_MISMATCH, message).with_fingerprint(ours));
        }
        if request.timeout_ms == 0 {
            return Err(Status::refused(Code::DEADLINE_EXCEEDED, OVER));
        }
        Ok((entry, codec))
    }

    /// A request for the fallback: its codec and its types are not judged here (CA-17).
    fn admit_unlisted<'r>(
        &self,
        entry: &'r Arc<Entry>,
        request: &Request<'_>,
    ) -> Result<(&'r Arc<Entry>, &'a Codec), Status> {
        let shared: &'a Arc<ServerShared> = self.shared;
        if request.timeout_ms == 0 {
            return Err(Status::refused(Code::DEADLINE_EXCEEDED, OVER));
        }
        // Any will do, nothing is decoded with it.
        let codecs = shared.dispatch.codecs();
        let codec = codecs
            .first()
            .ok_or_else(|| unsupported_codec(&entry.method.name, codecs.iter(), request.codec))?;
        Ok((entry, codec))
    }

    /// Polls a started call once; it becomes a task if it is not ready. Says with which status an
    /// interceptor refused it, if one did.
    fn run(
        &mut self,
        entry: &Arc<Entry>,
        id: CallId,
        (admitted, scope): (Admitted, Scope),
        mut call: std::pin::Pin<Box<dyn Respond>>,
    ) -> Option<Code> {
        if entry.method.run != Run::Inline {
            self.spawn(entry, id, (admitted, scope), call, false);
            return None;
        }
        self.count(Some(entry));
        // An intercepted call counts by itself when its handler is started.
        self.tally.started += u64::from(self.settings.interceptors.is_empty());
        let answer_at = self.out.len();
        let limits = self.shared.client_limits();
        let shared: &ServerShared = self.shared;
        let bodies = Some(&mut self.bodies);
        let mut reply = Reply { out: self.out, bodies, call: id, limits, scope: shared };
        shared.serving.store(id.0, Ordering::Relaxed);
        // No waker: a call that is not ready is polled again at once, by its own task.
        let mut cx = Context::from_waker(Waker::noop());
        let mut refused = None;
        match unconstrained(
            |cx| poll_handler(shared, call.as_mut(), scope, cx, &mut reply),
            &mut cx,
        ) {
            Polled::Pending => {
                self.spawn(entry, id, (admitted, scope), call, true);
                shared.serving.store(0, Ordering::Relaxed);
                return None;
            }
            Polled::Ended(Outcome::Refused(code)) => refused = Some(code),
            Polled::Ended(outcome) => self.tally.ended(outcome),
            Polled::Panicked => self.tally.ended(Outcome::Failed),
        }
        shared.serving.store(0, Ordering::Relaxed);
        drop_handler(shared, Some(call));
        if !self.bodies.is_empty() {
            self.flush();
        }
        if self.out.len() >= self.threshold_bytes {
            // What stands before it is small: if something is too large, it is this one.
            if let Err(error) = shared.make_room(self.out.len()) {
                self.out.truncate(answer_at);
                append_no_memory(self.out, id, error);
            }
            self.flush();
        }
        refused
    }

    fn spawn(
        &self,
        entry: &Arc<Entry>,
        id: CallId,
        (admitted, scope): (Admitted, Scope),
        call: std::pin::Pin<Box<dyn Respond>>,
        has_started: bool,
    ) {
        self.shared.add_pending(id, admitted);
        let (shared, entry, run) = (Arc::clone(self.shared), Arc::clone(entry), entry.method.run);
        let (read_at, call) = (admitted.read_at, Some(call));
        let task = CallTask { shared, entry, id, scope, read_at, call, has_started };
        let spawn = &self.shared.runtime.spawn;
        match run {
            Run::Inline | Run::Spawn => spawn.spawn(Box::pin(task)),
            Run::Blocking => spawn.spawn_blocking(Box::new(move || task.block())),
        }
    }

    fn calls_max(&self) -> usize {
        self.settings.limits.calls_max as usize
    }

    /// Makes `entry` the one that is counted; the one before gets its counts.
    fn count(&mut self, entry: Option<&Arc<Entry>>) {
        let same = match (&self.counted, entry) {
            (Some(counted), Some(entry)) => Arc::ptr_eq(counted, entry),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            if let Some(counted) = self.counted.take() {
                // What is not timed yet ended before this reading of the clock, just before.
                let took = self.now.saturating_duration_since(self.read_at);
                counted.counters.add(std::mem::take(&mut self.tally), took);
            }
            if let Some(Entry { method, .. }) = entry.map(|entry| &**entry) {
                let shared: &'a Arc<ServerShared> = self.shared;
                let turn = self.turn.get_or_insert_with(|| shared.totals.turns.enter(method.id));
                turn.set_method(method.id);
            }
            self.counted = entry.cloned();
        }
    }
}

/// Answers made in one turn, before others have theirs: large ones take their time, and a runtime
/// looks for news from its sockets only after so many turns (tokio: 61).
const TURN_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a request costs while it runs: its payload and its metadata.
const fn request_bytes(request: &Request<'_>) -> usize {
    request.payload.len() + request.ext.len()
}

/// Of a request whose time was over when it was read.
const OVER: &str = "over when it arrived";

fn unsupported_codec<'c>(name: &str, codecs: impl Iterator<Item = &'c Codec>, asked: u8) -> Status {
    let ids: Vec<u8> = codecs.map(Codec::id).collect();
    let (here, asked) = (CodecIds(&ids), [asked]);
    let message = format!("{name}: the server has {here}, not {}", CodecIds(&asked));
    Status::refused(Code::UNSUPPORTED_CODEC, message).with_codecs(ids)
}

/// Refused for want of room, before anything was decoded.
pub(super) fn overloaded(shared: &ServerShared, message: String) -> Status {
    shared.totals.count_overload();
    Status::refused(Code::OVERLOADED, message)
}

/// Polls outside of tokio's budget: after 128 ready operations in one task it would report false
/// Pendings, and every further handler of the batch would become a task.
fn unconstrained(mut poll: impl FnMut(&mut Context<'_>) -> Polled, cx: &mut Context<'_>) -> Polled {
    let mut polled = Polled::Pending;
    let once = std::future::poll_fn(|cx| {
        polled = poll(cx);
        std::task::Poll::Ready(())
    });
    let once = std::pin::pin!(tokio::task::unconstrained(once));
    let _ready = once.poll(cx);
    polled
}
