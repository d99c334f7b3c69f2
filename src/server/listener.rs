//! A server that listens: accepts, serves, drains.
//!
//! Invariants: no error of `accept` ends the server or keeps it from being shut down; it waits only
//! where waiting helps. Every connection is accounted for until it has ended; a drain ends by
//! itself, at the latest when its time is over.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::driver::{ConnectionHandle, Runtime, ServerSettings, ServerTotals, serve_stream};
use crate::error::{Error, ErrorKind};
use crate::server::accept_errors::Backoff;
use crate::server::connections::{Connections, ListenerHandle, Refusal};
use crate::server::serving::Parts;
use crate::server::watchdog::Watchdog;
use crate::server::{ServerConfig, ServerMetrics};
use crate::service::{Dispatch, MethodStats};
use crate::transport::{Accept, Address, Stream};
use crate::util::LogLimit;

/// A server that is bound to an address.
pub struct BoundServer {
    acceptor: Box<dyn Accept>,
    dispatch: Dispatch,
    settings: ServerSettings,
    config: ServerConfig,
    runtime: Runtime,
    connections: Arc<Connections>,
    #[cfg(feature = "builtin")]
    health: Option<crate::builtin::Health>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were open when the drain began, and ended in good order.
    pub connections: usize,
}

impl BoundServer {
    pub(crate) fn new(acceptor: Box<dyn Accept>, parts: Parts) -> Self {
        let Parts { dispatch, settings, config, runtime, connections, .. } = parts;
        Self {
            acceptor,
            dispatch,
            settings,
            config,
            runtime,
            connections,
            #[cfg(feature = "builtin")]
            health: parts.health,
        }
    }

    /// The address that was bound, with the port the system chose.
    #[must_use]
    pub fn local_addr(&self) -> Address {
        self.acceptor.local_addr()
    }

    /// The address as clients take it: `tcp://127.0.0.1:7400`.
    #[must_use]
    pub fn url(&self) -> String {
        self.local_addr().to_string()
    }

    /// A handle to the live methods: install, replace, retire, ceilings, counters.
    #[must_use]
    pub fn dispatch(&self) -> Dispatch {
        self.dispatch.clone()
    }

    /// Counters of every (method, version).
    #[must_use]
    pub fn stats(&self) -> Vec<MethodStats> {
        self.dispatch.stats()
    }

    /// What is in flight on all connections, and how connections ended; to be read at any time.
    #[must_use]
    pub fn totals(&self) -> Arc<ServerTotals> {
        Arc::clone(&self.settings.totals)
    }

    /// A handle to the listener's counters, to be read while it serves.
    #[must_use]
    pub fn listener(&self) -> ListenerHandle {
        ListenerHandle(Arc::clone(&self.connections))
    }

    /// Everything that this server counts, for [`prometheus`](crate::observe::prometheus) or
    /// another place; see `docs/metrics.md`.
    #[must_use]
    pub fn metrics(&self) -> ServerMetrics {
        ServerMetrics {
            dispatch: self.dispatch.clone(),
            totals: self.totals(),
            connections: Arc::clone(&self.connections),
        }
    }

    /// Serves until `shutdown` is ready, then drains: nothing is accepted any more, clients are
    /// sent elsewhere without losing a call (LD-7), calls that run are finished, at most for the
    /// drain's time.
    ///
    /// # Errors
    /// [`ErrorKind::DrainTimeout`] when calls had to be cut because the drain's time was over.
    ///
    /// # Cancellation
    /// Dropping the future stops accepting; open connections are cut.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<Drained, Error> {
        let mut shutdown = std::pin::pin!(shutdown);
        let cut = CutOnDrop(Arc::clone(&self.connections));
        let _watchdog = Watchdog::start(self.totals(), &self.dispatch, &self.runtime);
        {
            let mut accepting = std::pin::pin!(self.accept_forever());
            std::future::poll_fn(|cx| match shutdown.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => accepting.as_mut().poll(cx).map(|never| match never {}),
            })
            .await;
        }
        #[cfg(feature = "builtin")]
        if let Some(health) = &self.health {
            health.set_unfit(crate::builtin::Unfit::Draining);
        }
        self.accept_waiting().await;
        let Self { acceptor, connections, config, runtime, .. } = self;
        drop(acceptor); // Nobody waits in its queue for a server that will not come.
        let drained = drain(&connections, &config, &runtime).await;
        drop(cut);
        drained
    }

    async fn accept_forever(&self) -> std::convert::Infallible {
        let (mut backoff, mut log) = (Backoff::default(), LogLimit::default());
        loop {
            match self.acceptor.accept().await {
                Ok(stream) => {
                    backoff.reset();
                    if let Err((refusal, peer)) = self.receive(stream)
                        && let Some(unsaid) = log.admit(self.runtime.clock.now())
                    {
                        tracing::warn!(%peer, ?refusal, unsaid, "connection refused");
                    }
                }
                Err(error) => {
                    self.connections.count_accept_error();
                    let (wait, now) = (backoff.after(&error), self.runtime.clock.now());
                    if let Some(unsaid) = log.admit(now) {
                        tracing::warn!(%error, ?wait, unsaid, "accept failed");
                    }
                    if !wait.is_zero() {
                        self.runtime.clock.sleep_until(now + wait).await;
                    }
                }
            }
        }
    }

    /// Takes those that are connected already, so that they are sent away in good order: a queue
    /// that goes with its listener is reset, and with it calls that were sent on the spot.
    async fn accept_waiting(&self) {
        let until = self.runtime.clock.now() + LAST_LOOK;
        let mut timer = self.runtime.clock.sleep_until(until);
        for _ in 0..self.config.connections_max {
            let mut accepting = self.acceptor.accept();
            let next = std::future::poll_fn(|cx| match accepting.as_mut().poll(cx) {
                Poll::Ready(next) => Poll::Ready(Some(next)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
            });
            match next.await {
                // Who is refused is closed, as ever.
                Some(Ok(stream)) => drop(self.receive(stream)),
                Some(Err(_)) => self.connections.count_accept_error(),
                None => return,
            }
        }
    }

    /// Serves a stream, or closes it at once.
    fn receive(&self, stream: Stream) -> Result<(), (Refusal, String)> {
        let address = stream.ip().map(|address| address.to_canonical());
        if let Err(refusal) = self.connections.admit(address, &self.config) {
            return Err((refusal, stream.peer));
        }
        let (dispatch, runtime) = (self.dispatch.clone(), self.runtime.clone());
        let (handle, served) = serve_stream(stream, self.settings.clone(), dispatch, runtime);
        // Made here: the task may be dropped before its first poll.
        let place = self.connections.add(handle, address);
        self.runtime.spawn.spawn(Box::pin(async move {
            let _place = place;
            served.await;
        }));
        Ok(())
    }
}

impl std::fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoundServer").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// Lets every connection end in good order, and cuts those that take too long.
async fn drain(
    connections: &Connections,
    config: &ServerConfig,
    runtime: &Runtime,
) -> Result<Drained, Error> {
    let handles = connections.handles();
    let open = handles.len();
    handles.iter().for_each(ConnectionHandle::drain);
    all_ended(connections, config.drain_timeout, runtime).await;
    let left = connections.handles();
    if left.is_empty() {
        return Ok(Drained { connections: open });
    }
    let calls = left.iter().map(ConnectionHandle::pending_calls).sum();
    left.iter().for_each(ConnectionHandle::close); // CA-16
    all_ended(connections, config.linger_timeout, runtime).await;
    let (connections, after) = (left.len(), config.drain_timeout);
    Err(ErrorKind::DrainTimeout { connections, calls, after }.into())
}

/// Waits until no connection is left, at most so long.
async fn all_ended(connections: &Connections, at_most: Duration, runtime: &Runtime) {
    let mut timer = runtime.clock.sleep_until(runtime.after(at_most));
    let mut ended = std::pin::pin!(connections.until_none());
    std::future::poll_fn(|cx| match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.as_mut().poll(cx),
    })
    .await;
}

/// From the end of accepting to the last look at who waits. Of a connection that the system has
/// taken, the runtime knows only when it has asked the system again, which it has when it has
/// served a timer.
const LAST_LOOK: Duration = Duration::from_millis(1);

struct CutOnDrop(Arc<Connections>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.handles().iter().for_each(ConnectionHandle::abort);
    }
}
