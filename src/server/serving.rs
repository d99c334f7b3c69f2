//! A server before it listens: its methods, its settings.

use std::sync::Arc;

use crate::driver::{Runtime, ServerSettings, ServerTotals, serve_stream};
use crate::error::{Error, ErrorKind};
use crate::proto::ServerLimits;
use crate::server::connections::Connections;
use crate::server::{BoundServer, ServerConfig};
use crate::service::{Codec, Cx, Dispatch, Forward, Interceptors, Method, RawRequest, RawResponse};
use crate::service::{Router, ServerInterceptor, Service, Status};
use crate::transport::{Accept, Stream};
use crate::wire::VersionRange;

/// A server to be: add services, then bind.
///
/// ```
/// # use switchback::{CallError, Cx, Method, Server};
/// # use std::convert::Infallible;
/// # async fn run() -> Result<(), switchback::Error> {
/// let double = Method::infallible("demo.Math/double", 1, |_cx: Cx, n: u64| async move {
///     Ok::<u64, CallError<Infallible>>(n * 2)
/// });
/// let server = Server::new().method(double).bind("tcp://127.0.0.1:0").await?;
/// println!("listening at {}", server.url());
/// server.serve_until(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub(crate) router: Router,
    config: ServerConfig,
    interceptors: Interceptors<dyn ServerInterceptor>,
    runtime: Option<Runtime>,
    #[cfg(feature = "builtin")]
    builtin: crate::server::builtin::BuiltIn,
    insecure: bool,
}

/// What a server is made of, whatever it listens to.
pub(crate) struct Parts {
    pub(crate) dispatch: Dispatch,
    pub(crate) settings: ServerSettings,
    pub(crate) config: ServerConfig,
    pub(crate) runtime: Runtime,
    pub(crate) connections: Arc<Connections>,
    #[cfg(feature = "builtin")]
    pub(crate) health: Option<crate::builtin::Health>,
}

impl Server {
    /// No services yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the methods of a service.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.router = self.router.service(service);
        self
    }

    /// Adds one method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.router = self.router.method(method);
        self
    }

    /// Serves requests for methods that are not here, instead of answering UNKNOWN_METHOD: with
    /// their payloads as they came, under the same limits, deadlines and cancellation as those of
    /// any method (CA-17). A method that is here stays its own, in whatever version it is asked
    /// for. Counted as `fallback`, version 0.
    ///
    /// ```
    /// # use switchback::service::{RawRequest, RawResponse};
    /// # use switchback::{Cx, Server, Status};
    /// let server = Server::new().fallback(|_cx: Cx, request: RawRequest| async move {
    ///     Ok::<_, Status>(RawResponse::new(request.codec, request.payload)) // An echo of all.
    /// });
    /// # let _ = server;
    /// ```
    #[must_use]
    pub fn fallback<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Cx, RawRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<RawResponse, Status>> + Send + 'static,
    {
        self.router = self.router.fallback(handler);
        self
    }

    /// Forwards requests for methods that are not here to another server, and tells what that
    /// one answers, its word on whether the call was executed included (CA-18). Deadline,
    /// cancellation, versions, codecs, fingerprints and metadata pass through; the metadata of a
    /// refusal does not. A call is sent again only if it provably was not read.
    ///
    /// It takes the place of a fallback. Servers that forward to each other in a circle pass a
    /// call on until one of them has no room for it; nothing else ends the circle.
    ///
    /// To the server behind, all clients of this one are one client, over one connection. Payloads
    /// that do not decode there are counted against the client that sent them here; but a server
    /// that judges its proxy like everybody else closes that connection, with all calls on it, for
    /// what a few clients send. Have it trust its proxies: raise `errors` and `cancel_window` of
    /// its [`ServerConfig::conduct`].
    ///
    /// ```
    /// # use switchback::{Channel, Server};
    /// # async fn run() -> Result<(), switchback::Error> {
    /// let behind = Channel::lazy("tcp://127.0.0.1:7400")?;
    /// let proxy = Server::new().forward(behind).bind("tcp://127.0.0.1:0").await?;
    /// # let _ = proxy;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn forward(mut self, target: impl Into<Forward>) -> Self {
        self.router = self.router.forward(target);
        self
    }

    /// Adds a payload codec beside those that are built in.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.router = self.router.codec(codec);
        self
    }

    /// Adds hooks around every call, inside of those that were added before.
    #[must_use]
    pub fn interceptor(mut self, interceptor: impl ServerInterceptor) -> Self {
        let name = interceptor.name().to_owned();
        self.interceptors.push(&name, Arc::new(interceptor));
        self
    }

    /// Adds the built-in service `switchback.Health` (BI-3): it says whether calls of a service
    /// are welcome, by the table, by what `health` is told while the server runs, and that they
    /// are not while it drains. One handle is for one server.
    #[cfg(feature = "builtin")]
    #[must_use]
    pub fn health(mut self, health: crate::builtin::Health) -> Self {
        self.builtin.health = Some(health);
        self
    }

    /// Adds the built-in service `switchback.Reflection` (BI-4, BI-5): methods, versions,
    /// fingerprints and, where known, types, to whoever may call.
    #[cfg(feature = "builtin")]
    #[must_use]
    pub const fn reflection(mut self) -> Self {
        self.builtin.reflection = true;
        self
    }

    /// Adds the built-in service `switchback.Counters` (BI-6): what was counted, to whoever may
    /// call.
    #[cfg(feature = "builtin")]
    #[must_use]
    pub const fn counters(mut self) -> Self {
        self.builtin.counters = true;
        self
    }

    /// Sets everything that [`ServerConfig`] holds.
    #[must_use]
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config.clamped();
        self
    }

    /// Sets where tasks run and what time it is, instead of the tokio runtime at hand.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Allows plaintext on addresses that are not loopback: the network is trusted.
    #[must_use]
    pub const fn insecure_plaintext(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Listens at an address: `tcp://127.0.0.1:7400`, whose port 0 lets the system choose,
    /// `unix:///run/app.sock`, or `mem://name` within this process. Nothing is accepted before the
    /// server serves.
    ///
    /// # Errors
    /// [`ErrorKind::Route`] for methods that cannot stand side by side,
    /// [`ErrorKind::AddressInUse`], [`ErrorKind::Bind`], [`ErrorKind::InsecureAddress`],
    /// [`ErrorKind::UnknownHost`], [`ErrorKind::Address`], [`ErrorKind::SocketPathTooLong`],
    /// [`ErrorKind::NoCodec`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`Server::runtime`] gave one; for `tcp://` and `unix://`
    /// in any case.
    ///
    /// # Cancellation
    /// Dropping the future gives everything up: nothing is bound.
    pub async fn bind(self, address: &str) -> Result<BoundServer, Error> {
        let parsed = crate::transport::Address::parse(address)?;
        let insecure = self.insecure;
        // The methods first: who asks for what cannot be served must not hold the port.
        let parts = self.into_parts()?;
        let acceptor = crate::transport::acceptor(&parsed, insecure).await?;
        Ok(BoundServer::new(acceptor, parts))
    }

    /// Listens with a transport of one's own.
    ///
    /// # Errors
    /// [`ErrorKind::Route`], [`ErrorKind::NoCodec`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`Server::runtime`] gave one.
    pub fn listen(self, acceptor: impl Accept) -> Result<BoundServer, Error> {
        Ok(BoundServer::new(Box::new(acceptor), self.into_parts()?))
    }

    /// Serves one stream, an end of [`duplex`](crate::transport::duplex) say, until it ends.
    /// The handle changes methods while it is served.
    ///
    /// # Errors
    /// [`ErrorKind::Route`], [`ErrorKind::NoCodec`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`Server::runtime`] gave one.
    ///
    /// # Cancellation
    /// Dropping the future cuts the connection.
    pub fn serve_stream(
        self,
        stream: Stream,
    ) -> Result<(Dispatch, impl Future<Output = Error> + Send), Error> {
        let Parts { dispatch, settings, runtime, .. } = self.into_parts()?;
        let (_handle, served) = serve_stream(stream, settings, dispatch.clone(), runtime);
        Ok((dispatch, served))
    }

    fn into_parts(self) -> Result<Parts, Error> {
        let (config, dispatch) = (self.config, self.router.into_dispatch()?);
        let codecs: Vec<u8> = dispatch.codecs().iter().map(Codec::id).collect();
        if codecs.is_empty() {
            return Err(ErrorKind::NoCodec.into());
        }
        let limits = ServerLimits {
            versions: VersionRange::OURS,
            frame_bytes_max: config.frame_bytes_max,
            calls_max: config.calls_max,
            window_connection: config.window_connection,
            codecs,
            build: config.build.clone(),
        };
        let totals = ServerTotals::new(config.server_calls_max, config.server_in_flight_bytes_max);
        let (totals, connections) = (Arc::new(totals), Arc::new(Connections::default()));
        #[cfg(feature = "builtin")]
        self.builtin.install(&dispatch, &totals, &connections)?;
        let settings = ServerSettings {
            limits,
            decode: config.decode,
            handshake_timeout: config.handshake_timeout,
            linger_timeout: config.linger_timeout,
            drain_timeout: config.drain_timeout,
            keepalive: config.keepalive,
            conduct: config.conduct,
            frame_timeout: config.frame_timeout,
            write_timeout: config.write_timeout,
            idle_timeout: config.idle_timeout,
            connection_age: config.connection_age,
            in_flight_bytes_max: config.in_flight_bytes_max,
            interceptors: self.interceptors,
            totals,
        };
        let runtime = self.runtime.unwrap_or_else(Runtime::tokio);
        Ok(Parts {
            dispatch,
            settings,
            config,
            runtime,
            connections,
            #[cfg(feature = "builtin")]
            health: self.builtin.health,
        })
    }
}
