//! A server that listens: accepts, serves, drains.
//!
//! Invariants: no error of `accept` ends the server, it backs off and goes on; every connection
//! is accounted for until it has ended; a drain ends by itself, at the latest when its time is
//! over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::driver::{ConnectionHandle, Runtime, ServerSettings, ServerTotals, serve_stream};
use crate::error::{Error, ErrorKind};
use crate::server::ServerConfig;
use crate::server::serving::Parts;
use crate::service::{Dispatch, MethodStats};
use crate::transport::{Accept, Address, Stream};

/// A server that is bound to an address.
pub struct BoundServer {
    acceptor: Box<dyn Accept>,
    dispatch: Dispatch,
    settings: ServerSettings,
    config: ServerConfig,
    runtime: Runtime,
    connections: Arc<Connections>,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were open when the drain began, and ended in good order.
    pub connections: usize,
}

/// Those that are open.
#[derive(Debug, Default)]
struct Connections(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    handles: BTreeMap<u64, ConnectionHandle>,
    next: u64,
    /// Woken when one ends.
    waiting: Option<Waker>,
}

impl BoundServer {
    pub(crate) fn new(acceptor: Box<dyn Accept>, parts: Parts) -> Self {
        let Parts { dispatch, settings, config, runtime } = parts;
        let connections = Arc::new(Connections::default());
        Self { acceptor, dispatch, settings, config, runtime, connections }
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

    /// Serves until `shutdown` is ready, then drains: nothing is accepted any more, new calls are
    /// refused (NOT_PROCESSED), those that run are finished, at most for the drain's time.
    ///
    /// # Errors
    /// [`ErrorKind::DrainTimeout`] when calls had to be cut because the drain's time was over.
    ///
    /// # Cancellation
    /// Dropping the future stops accepting; open connections are cut.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Result<Drained, Error> {
        let mut shutdown = std::pin::pin!(shutdown);
        let cut = CutOnDrop(Arc::clone(&self.connections));
        {
            let mut accepting = std::pin::pin!(self.accept_forever());
            std::future::poll_fn(|cx| match shutdown.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => accepting.as_mut().poll(cx).map(|never| match never {}),
            })
            .await;
        }
        let Self { acceptor, connections, config, runtime, .. } = self;
        drop(acceptor); // Nobody waits in its queue for a server that will not come.
        let drained = drain(&connections, &config, &runtime).await;
        drop(cut);
        drained
    }

    async fn accept_forever(&self) -> std::convert::Infallible {
        let mut backoff = BACKOFF_MIN;
        loop {
            self.connections.until_below(self.config.connections_max).await;
            match self.acceptor.accept().await {
                Ok(stream) => {
                    backoff = BACKOFF_MIN;
                    self.serve(stream);
                }
                Err(error) => {
                    // Out of file descriptors, a peer that went away: never the server's end.
                    tracing::warn!(%error, ?backoff, "accept failed");
                    let clock = &self.runtime.clock;
                    clock.sleep_until(clock.now() + backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn serve(&self, stream: Stream) {
        let (dispatch, runtime) = (self.dispatch.clone(), self.runtime.clone());
        let (handle, served) = serve_stream(stream, self.settings.clone(), dispatch, runtime);
        let connections = Arc::clone(&self.connections);
        let id = connections.add(handle);
        // Made here: the task may be dropped before its first poll.
        let remove = RemoveOnDrop(connections, id);
        self.runtime.spawn.spawn(Box::pin(async move {
            let _remove = remove;
            served.await;
        }));
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
    let mut ended = std::pin::pin!(connections.until_below(1));
    std::future::poll_fn(|cx| match ended.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => timer.as_mut().poll(cx),
    })
    .await;
}

impl Connections {
    fn add(&self, handle: ConnectionHandle) -> u64 {
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.handles.insert(id, handle);
        id
    }

    fn handles(&self) -> Vec<ConnectionHandle> {
        self.lock().handles.values().cloned().collect()
    }

    /// Ends when fewer than `count` are open.
    fn until_below(&self, count: usize) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(move |cx| {
            let mut open = self.lock();
            if open.handles.len() < count {
                return Poll::Ready(());
            }
            open.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct RemoveOnDrop(Arc<Connections>, u64);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let mut open = self.0.lock();
        let handle = open.handles.remove(&self.1);
        let waiting = open.waiting.take();
        drop(open);
        drop(handle);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

struct CutOnDrop(Arc<Connections>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.handles().iter().for_each(ConnectionHandle::abort);
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
