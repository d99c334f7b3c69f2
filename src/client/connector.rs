//! Makes a connection when one is wanted, once for all who want it.
//!
//! ```text
//! Idle --wanted--> Connecting --ok--> Ready --ended--> (wanted again) Connecting
//!                      \--failed--> Idle, and everybody who waits is told
//! ```
//!
//! After a failed attempt the next one waits, longer each time. Whoever wants a connection waits
//! with it, unless that would take long and waiting was not asked for.
//!
//! Invariants: at most one attempt at a time; an attempt has its own task, so that a caller who
//! goes away does not take it along; table contents learned on one connection serve the next.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::client::ClientConfig;
use crate::client::hooks::ClientInterceptors;
use crate::driver::{ClientDriver, ClientSettings, ClientTotals, Clock, Runtime};
use crate::error::{Error, ErrorKind};
use crate::policy::{Decision, FailedAttempt, RetryBudget};
use crate::proto::{ClientLimits, TableCache, Ticket, WaitQueue};
use crate::service::Codec;
use crate::transport::{Connect, Connecting, Stream};
use crate::wire::{CloseReason, VersionRange};

/// The transport of a single stream, used once.
pub(crate) struct OneStream {
    stream: Mutex<Option<Stream>>,
    peer: String,
}

pub(crate) struct Connector {
    target: Box<dyn Connect>,
    /// There is one connection and no other after it.
    pub(crate) is_single: bool,
    pub(crate) config: ClientConfig,
    pub(crate) codec: Codec,
    pub(crate) runtime: Runtime,
    /// `None` without any, so that a call looks once.
    pub(crate) interceptors: Option<ClientInterceptors>,
    state: Mutex<State>,
    /// Of all calls of this channel.
    budget: Mutex<RetryBudget>,
    /// Of all connections of this channel.
    pub(crate) totals: Arc<ClientTotals>,
    /// For the attempt's task, which must not keep a channel alive that nobody wants any more.
    me: Weak<Self>,
}

struct State {
    driver: Option<ClientDriver>,
    is_connecting: bool,
    /// Counts attempts, so that a waiter knows whether the one it waited for failed.
    attempts: u64,
    failed: Option<(u64, Error)>,
    /// Attempts that failed one after another.
    failures: u32,
    /// When the next attempt may be made, after a failed one.
    not_before: Option<Instant>,
    waiting: WaitQueue<Waker>,
    cache: TableCache,
}

/// A caller's wait for a connection.
#[derive(Debug, Default)]
pub(crate) struct Wait {
    ticket: Option<Ticket>,
    attempt: u64,
    /// Attempts may fail: it waits for one that does not.
    is_patient: bool,
}

impl Wait {
    pub(crate) const fn new(is_patient: bool) -> Self {
        Self { ticket: None, attempt: 0, is_patient }
    }
}

impl Connector {
    pub(crate) fn new(
        (target, is_single): (Box<dyn Connect>, bool),
        config: ClientConfig,
        (codec, interceptors): (Codec, ClientInterceptors),
        runtime: Runtime,
    ) -> Arc<Self> {
        let state = Mutex::new(State {
            driver: None,
            is_connecting: false,
            attempts: 0,
            failed: None,
            failures: 0,
            not_before: None,
            waiting: WaitQueue::new(config.queued_calls_max),
            cache: TableCache::default(),
        });
        let budget = Mutex::new(RetryBudget::new(config.retry_budget, runtime.now()));
        Arc::new_cyclic(|me| {
            let (me, totals) = (Weak::clone(me), Arc::default());
            Self {
                target,
                is_single,
                config,
                codec,
                runtime,
                interceptors: interceptors.any(),
                state,
                budget,
                totals,
                me,
            }
        })
    }

    /// A connection that calls can be opened on; makes one if there is none. One that has used
    /// up its ids is left to the calls that are on it, and ends with the last of them (CA-1).
    pub(crate) fn poll_driver(
        &self,
        wait: &mut Wait,
        waker: &Waker,
    ) -> Poll<Result<ClientDriver, Error>> {
        // Declared before the lock is taken, so that it is dropped after that is released.
        let mut gone = None;
        let mut state = self.lock();
        if let Some(driver) = &state.driver {
            if driver.is_usable() {
                let driver = driver.clone();
                let before = state.leave(wait);
                drop(state);
                drop(before);
                return Poll::Ready(Ok(driver));
            }
            // Those who wait for this very attempt are told its end, not to try again.
            let (cache, end, was_ready) = (driver.cache(), driver.end(), driver.has_table());
            if was_ready || end.is_none() {
                state.failures = 0;
            } else {
                self.back_off(&mut state);
            }
            state.failed = end.map(|error| (state.attempts, error));
            state.cache = cache;
            gone = state.driver.take();
        }
        let mut before = None;
        if let Some(ticket) = wait.ticket {
            let told = |(attempt, _): &&(u64, Error)| *attempt >= wait.attempt && !wait.is_patient;
            let failed = state.failed.as_ref().filter(told);
            if let Some((_, error)) = failed {
                let error = error.clone();
                let before = state.leave(wait);
                drop(state);
                drop((before, gone));
                return Poll::Ready(Err(error));
            }
            before = state.waiting.set_waker(ticket, waker.clone());
        } else {
            if let Some(error) = state.refusal(wait, self.runtime.now()) {
                drop(state);
                drop(gone);
                return Poll::Ready(Err(error));
            }
            match state.waiting.join(waker.clone()) {
                Ok(ticket) => wait.ticket = Some(ticket),
                Err(full) => {
                    return Poll::Ready(Err(ErrorKind::QueueFull { max: full.max }.into()));
                }
            }
        }
        let begins = !state.is_connecting;
        if begins {
            state.is_connecting = true;
            state.attempts += 1;
        }
        wait.attempt = state.attempts;
        let not_before = state.not_before;
        drop(state);
        drop((before, gone));
        if begins {
            let (connector, clock) = (Weak::clone(&self.me), Arc::clone(&self.runtime.clock));
            let attempt = Attempt { connector, has_ended: false };
            self.runtime.spawn.spawn(Box::pin(attempt.run(not_before, clock)));
        }
        Poll::Pending
    }

    /// Gives up waiting.
    pub(crate) fn leave(&self, wait: &mut Wait) {
        if wait.ticket.is_some() {
            let waker = self.lock().leave(wait);
            drop(waker);
        }
    }

    async fn connect(&self) -> Result<ClientDriver, Error> {
        let stream = self.connect_in_time().await?;
        let limits = ClientLimits {
            versions: VersionRange::OURS,
            frame_bytes_max: self.config.frame_bytes_max,
            calls_max: self.config.in_flight_calls_max,
            window_connection: self.config.window_connection,
            codecs: vec![self.codec.id()],
            build: self.config.build.clone(),
            first_call: self.config.first_call,
        };
        let settings = ClientSettings {
            limits,
            handshake_timeout: self.config.handshake_timeout,
            queued_calls_max: self.config.queued_calls_max,
            keepalive: self.config.keepalive,
            conduct: self.config.conduct,
            frame_timeout: self.config.frame_timeout,
            write_timeout: self.config.write_timeout,
            totals: Arc::clone(&self.totals),
        };
        let cache = self.lock().cache.clone();
        Ok(ClientDriver::start(stream, &settings, cache, self.runtime.clone()))
    }

    async fn connect_in_time(&self) -> Result<Stream, Error> {
        let after = self.config.connect_timeout;
        let mut timer = self.runtime.clock.sleep_until(self.runtime.after(after));
        let mut work = self.target.connect();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            std::task::ready!(timer.as_mut().poll(cx));
            let address = self.target.address();
            Poll::Ready(Err(ErrorKind::ConnectTimeout { address, after }.into()))
        })
        .await
    }

    /// A call is made for the first time.
    pub(crate) fn count_call(&self, now: Instant) {
        self.lock_budget().deposit(now);
    }

    /// Whether a call whose attempt failed is to be made again.
    pub(crate) fn decide(&self, failed: &FailedAttempt, now: Instant) -> Decision {
        let draw = self.runtime.random.next_u64();
        self.config.retry.decide(failed, &mut self.lock_budget(), now, draw)
    }

    fn lock_budget(&self) -> std::sync::MutexGuard<'_, RetryBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt failed: the next one waits.
    fn back_off(&self, state: &mut State) {
        let wait = self.config.reconnect.delay(state.failures, self.runtime.random.next_u64());
        state.failures = state.failures.saturating_add(1);
        state.not_before = Some(self.runtime.after(wait));
    }

    /// The attempt has ended.
    fn handle_attempt(&self, result: Result<ClientDriver, Error>) {
        let mut state = self.lock();
        state.is_connecting = false;
        match result {
            Ok(driver) => {
                state.driver = Some(driver);
                state.failed = None;
                state.not_before = None;
            }
            Err(error) => {
                self.back_off(&mut state);
                state.failed = Some((state.attempts, error));
            }
        }
        let wakers: Vec<Waker> = state.waiting.first(usize::MAX).cloned().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt to connect, for everybody who waits.
struct Attempt {
    connector: Weak<Connector>,
    has_ended: bool,
}

impl Attempt {
    async fn run(mut self, not_before: Option<Instant>, clock: Arc<dyn Clock>) {
        if let Some(at) = not_before {
            clock.sleep_until(at).await;
        }
        let Some(connector) = self.connector.upgrade() else { return };
        let result = connector.connect().await;
        self.has_ended = true;
        connector.handle_attempt(result);
    }
}

impl Drop for Attempt {
    /// An attempt that was dropped or panicked has failed: else nobody made another one.
    fn drop(&mut self) {
        let connector = self.connector.upgrade().filter(|_| !self.has_ended);
        if let Some(connector) = connector {
            connector.handle_attempt(Err(Error::closed_here(CloseReason::NORMAL)));
        }
    }
}

impl OneStream {
    pub(crate) fn new(stream: Stream) -> Self {
        let peer = stream.peer().to_owned();
        Self { stream: Mutex::new(Some(stream)), peer }
    }
}

impl Connect for OneStream {
    fn connect(&self) -> Connecting<'_> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(std::future::ready(stream.ok_or_else(|| ErrorKind::StreamUsed.into())))
    }

    fn address(&self) -> String {
        self.peer.clone()
    }
}

impl State {
    /// Why this one need not wait: the last attempt failed, and the next one is far away.
    fn refusal(&self, wait: &Wait, now: Instant) -> Option<Error> {
        let next = self.not_before.filter(|_| !wait.is_patient)?;
        let is_far = next.saturating_duration_since(now) > IMPATIENCE;
        self.failed.as_ref().filter(|_| is_far).map(|(_, error)| error.clone())
    }

    /// Gives the place up, and back what would have woken it, to be dropped without the lock.
    fn leave(&mut self, wait: &mut Wait) -> Option<Waker> {
        wait.ticket.take().and_then(|ticket| self.waiting.leave(ticket))
    }
}

/// Nobody waits longer for an attempt to connect to begin, unless waiting was asked for.
const IMPATIENCE: Duration = Duration::from_secs(1);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Connector")
            .field("config", &self.config)
            .field("driver", &state.driver)
            .field("waiting", &state.waiting.len())
            .finish_non_exhaustive()
    }
}
