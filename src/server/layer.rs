//! A tower user's layers around all handlers of a server.

use tower::{BoxError, Layer, Service};

use crate::server::Server;
use crate::service::{Handlers, ServerAnswer, ServerRequest, stack_of};

impl Server {
    /// Puts a layer around all handlers, those of methods installed later and of the fallback
    /// included. What several calls add stands around what is there: the last one is outermost.
    ///
    /// The layer is applied once and each call uses a clone of the service, so limits that clones
    /// share (`concurrency_limit`, `buffer`) are the server's. A layer sees the request encoded;
    /// what it refuses was never decoded. Its errors become statuses:
    ///
    /// | error, or what is behind it | code |
    /// |---|---|
    /// | a [`Status`](crate::Status) | its own; code, message and `retry_after` |
    /// | `tower::timeout::error::Elapsed` | DEADLINE_EXCEEDED |
    /// | `tower::load_shed::error::Overloaded` | OVERLOADED |
    /// | any other | UNAVAILABLE, with its text |
    ///
    /// Whatever a layer says, the framework says whether the call was executed: NOT_PROCESSED if
    /// the handler has not started (it never will then), PROCESSED if it has ended, and MAYBE
    /// if it was cut off between the two.
    ///
    /// A call that is in a layer counts as started, one that a layer refuses as failed.
    ///
    /// A service that waits keeps its call's place among those in flight, within its deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use switchback::Server;
    /// use tower::ServiceBuilder;
    ///
    /// let layers = ServiceBuilder::new()
    ///     .load_shed()
    ///     .concurrency_limit(64)
    ///     .timeout(Duration::from_secs(2));
    /// let server = Server::new().layer(layers);
    /// # let _ = server;
    /// ```
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
        self.router.wraps.push(stack_of(&layer));
        self
    }
}
