//! A network with faults, below a real client or a real server.
//!
//! ```text
//!   client's driver <--> near end  --- to_server --->  the wrapped stream <--> server
//!                                  <-- to_client ----
//! ```
//!
//! Each connection has a task that carries bytes both ways (`link`): only so do bytes arrive late
//! that nobody waits for. It runs on the [`Runtime`]'s tasks and clock, so in virtual time too.
//!
//! Invariants: bytes keep their order, none is made up or lost on a connection that is not cut;
//! what is drawn depends on the seed and on the connection's number alone, so that a run repeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::driver::Runtime;
use crate::error::{Error, ErrorKind};
use crate::testing::FaultPlan;
use crate::testing::link::{Link, Side};
use crate::transport::{Accept, Accepting, Address, Connect, Connecting, Stream};

/// Faults of a network, to be changed while it is used. Clones are the same network.
///
/// ```
/// use std::time::Duration;
/// use switchback::testing::Faults;
/// use switchback::{Channel, Code, Server};
/// # use switchback::{CallError, Cx, Method, Stub, service::Fingerprint};
/// # use std::{convert::Infallible, sync::LazyLock};
/// # static ECHO: LazyLock<Stub<u64, u64, Infallible>> =
/// #     LazyLock::new(|| Stub::infallible("doc.Echo/echo", 1, Fingerprint::UNCHECKED));
/// # async fn echo(_: Cx, n: u64) -> Result<u64, CallError<Infallible>> { Ok(n) }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), switchback::Error> {
/// # tokio::time::pause(); // In a test: #[tokio::test(start_paused = true)]
/// # let echo = Method::infallible("doc.Echo/echo", 1, echo);
/// let server = Server::new().method(echo).bind("mem://").await?;
/// let faults = Faults::seeded(7);
/// let channel = Channel::builder().transport(faults.connector_to(&server.url())?)?;
/// tokio::spawn(server.serve_until(std::future::pending()));
///
/// faults.change(|plan| plan.to_server.latency = Duration::from_millis(200));
/// assert_eq!(channel.call(&ECHO, 1).await.ok(), Some(1)); // 200 ms later, in no time.
///
/// faults.change(|plan| plan.to_client.is_blackhole = true);
/// let call = channel.call(&ECHO, 2).timeout(Duration::from_secs(3));
/// let status = call.await.unwrap_err().status().cloned().expect("no answer arrives");
/// assert_eq!(status.code(), Code::DEADLINE_EXCEEDED);
///
/// faults.heal();
/// assert_eq!(channel.call(&ECHO, 3).await.ok(), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Faults(Arc<Network>);

/// Connects through [`Faults`].
#[derive(Clone)]
pub struct FaultyConnector {
    target: Arc<dyn Connect>,
    network: Arc<Network>,
}

/// Accepts through [`Faults`].
pub struct FaultyAcceptor {
    inner: Box<dyn Accept>,
    network: Arc<Network>,
}

/// What all connections share.
pub(crate) struct Network {
    pub(crate) runtime: Runtime,
    pub(crate) seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: FaultPlan,
    links: BTreeMap<u64, Arc<Link>>,
    next: u64,
    /// Those that wait to connect, by the numbers of their links.
    waiting: BTreeMap<u64, Waker>,
}

impl Faults {
    /// A network without a fault so far; what it draws later comes from `seed`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::on(Runtime::tokio(), seed)
    }

    /// [`Faults::seeded`] on other tasks and another clock. A seed from the system is
    /// `runtime.random.next_u64()`.
    #[must_use]
    pub fn on(runtime: Runtime, seed: u64) -> Self {
        Self(Arc::new(Network { runtime, seed, state: Mutex::default() }))
    }

    /// Wraps a transport: what connects through it has the faults.
    #[must_use]
    pub fn connector(&self, target: impl Connect) -> FaultyConnector {
        FaultyConnector { target: Arc::new(target), network: Arc::clone(&self.0) }
    }

    /// Wraps the transport of an address. Plaintext that leaves loopback is refused.
    ///
    /// # Errors
    /// [`ErrorKind::Address`], [`ErrorKind::SocketPathTooLong`].
    pub fn connector_to(&self, address: &str) -> Result<FaultyConnector, Error> {
        let target = crate::transport::connector(Address::parse(address)?, false)?;
        Ok(FaultyConnector { target: target.into(), network: Arc::clone(&self.0) })
    }

    /// Wraps a listener: what comes in through it has the faults.
    #[must_use]
    pub fn acceptor(&self, inner: impl Accept) -> FaultyAcceptor {
        FaultyAcceptor { inner: Box::new(inner), network: Arc::clone(&self.0) }
    }

    /// Listens at an address, for [`Server::listen`](crate::server::Server::listen). Plaintext that
    /// leaves loopback is refused.
    ///
    /// # Errors
    /// As [`Server::bind`](crate::server::Server::bind), the methods apart.
    ///
    /// # Cancellation
    /// Dropping the future leaves everything as it was.
    pub async fn acceptor_at(&self, address: &str) -> Result<FaultyAcceptor, Error> {
        let inner = crate::transport::acceptor(&Address::parse(address)?, false).await?;
        Ok(FaultyAcceptor { inner, network: Arc::clone(&self.0) })
    }

    /// Changes what happens, at once and on every connection, also on those that are open. What is
    /// on its way already keeps its latency. Of two changes at the same time one may be lost.
    pub fn change(&self, edit: impl FnOnce(&mut FaultPlan)) {
        let mut plan = self.plan();
        edit(&mut plan); // Not under the lock: it is the user's.
        let mut state = self.0.lock();
        state.plan = plan;
        let waiting = std::mem::take(&mut state.waiting);
        let links: Vec<Arc<Link>> = state.links.values().cloned().collect();
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        links.iter().for_each(|link| link.wake());
    }

    /// Ends every fault. What a blackhole has held arrives; what was cut stays so.
    pub fn heal(&self) {
        self.change(|plan| *plan = FaultPlan::default());
    }

    /// Cuts every connection that is open: reads and writes at the wrapped end fail with
    /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset), the other end sees its transport's
    /// end. What is on its way is lost. New ones may be made at once.
    pub fn cut(&self) {
        let links: Vec<Arc<Link>> = self.0.lock().links.values().cloned().collect();
        links.iter().for_each(|link| link.cut());
    }

    /// What happens now.
    #[must_use]
    pub fn plan(&self) -> FaultPlan {
        self.0.plan()
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.lock().links.len()
    }

    /// How many connections were begun, those that were refused or never came about included.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.0.lock().next
    }
}

impl Connect for FaultyConnector {
    /// Fails as the wrapped transport does, and with [`ErrorKind::Refused`] when the plan says so.
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let number = self.network.begin();
            let refused = || ErrorKind::Refused { address: self.target.address() };
            let until = self.network.until_passable(number).await.ok_or_else(refused)?;
            self.network.runtime.clock.sleep_until(until).await;
            let stream = self.target.connect().await?;
            let full = |error: String| ErrorKind::Connect { address: self.address(), error };
            Ok(self.network.carry(number, stream, Side::Client).map_err(full)?)
        })
    }

    fn address(&self) -> String {
        self.target.address()
    }
}

impl Accept for FaultyAcceptor {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(async {
            loop {
                let stream = self.inner.accept().await?;
                let number = self.network.begin();
                if self.network.plan().refuses {
                    continue; // Closed at once.
                }
                return self
                    .network
                    .carry(number, stream, Side::Server)
                    .map_err(|error| std::io::Error::new(ABORTED, error));
            }
        })
    }

    fn local_addr(&self) -> Address {
        self.inner.local_addr()
    }
}

impl Network {
    pub(crate) fn plan(&self) -> FaultPlan {
        self.lock().plan.clone()
    }

    pub(crate) fn forget(&self, number: u64) {
        let link = self.lock().links.remove(&number);
        drop(link); // Not under the lock: it holds a waker.
    }

    /// The number of a new connection.
    fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.next += 1;
        state.next
    }

    /// Waits while nothing arrives; then says when the other end has heard of us and we of it.
    /// `None` if nobody listens.
    async fn until_passable(&self, number: u64) -> Option<Instant> {
        let waiting = Waiting { network: self, number };
        let latency = std::future::poll_fn(|cx| waiting.poll_latency(cx.waker())).await?;
        Some(self.runtime.after(latency))
    }

    /// Puts a link between a stream and the end that is given out.
    fn carry(self: &Arc<Self>, number: u64, stream: Stream, side: Side) -> Result<Stream, String> {
        let (near, task) = Link::between(Arc::clone(self), number, stream, side);
        let mut state = self.lock();
        if state.links.len() >= LINKS_MAX {
            return Err(format!("{LINKS_MAX} connections have faults, which is the limit"));
        }
        state.links.insert(number, Arc::clone(task.link()));
        drop(state);
        self.runtime.spawn.spawn(Box::pin(task));
        Ok(near)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait to connect, given up when the wait is.
struct Waiting<'a> {
    network: &'a Network,
    number: u64,
}

impl Waiting<'_> {
    fn poll_latency(&self, waker: &Waker) -> Poll<Option<Duration>> {
        let mut state = self.network.lock();
        let plan = &state.plan;
        if plan.refuses {
            return Poll::Ready(None);
        }
        if !plan.to_server.is_blackhole && !plan.to_client.is_blackhole {
            let latency = plan.to_server.latency.saturating_add(plan.to_client.latency);
            return Poll::Ready(Some(latency));
        }
        let before = state.waiting.insert(self.number, waker.clone());
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waker = self.network.lock().waiting.remove(&self.number);
        drop(waker); // Not under the lock.
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("seed", &self.0.seed).field("plan", &self.plan()).finish()
    }
}

impl std::fmt::Debug for FaultyConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.target.address();
        f.debug_struct("FaultyConnector").field("address", &address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FaultyAcceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.inner.local_addr();
        f.debug_struct("FaultyAcceptor").field("address", &address).finish_non_exhaustive()
    }
}

/// Connections at a time: more than a test makes, few enough that a leak is found.
const LINKS_MAX: usize = 4096;
const ABORTED: std::io::ErrorKind = std::io::ErrorKind::ConnectionAborted;
