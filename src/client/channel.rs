//! A channel: the handle through which a server is called.
//!
//! Cheap to clone; clones share one connection, on which all their calls are multiplexed. A
//! connection that has ended is made anew by the next call.

use std::sync::Arc;

use crate::client::connector::{Connector, OneStream, Wait};
use crate::client::described::Described;
use crate::client::hooks::ClientInterceptors;
use crate::client::{Call, ClientConfig};
use crate::driver::{ClientDriver, ClientTotals, Runtime};
use crate::error::{Error, ErrorKind};
use crate::service::{AttemptInterceptor, ClientInterceptor, Codec, Stub};
use crate::transport::{Connect, Stream};
use crate::wire::MethodRow;

/// A handle to a server. Clones share its connection; when the last of them and of their calls
/// is gone, the connection is closed.
///
/// ```
/// use std::time::Duration;
/// use switchback::{Channel, ClientConfig};
/// # use switchback::{Cx, Server};
/// # #[switchback::service(name = "demo.Echo")]
/// # trait Echo { #[rpc(version = 1)] async fn echo(&self, cx: &Cx, req: String) -> String; }
/// # #[switchback::service(name = "demo.Length")]
/// # trait Length { #[rpc(version = 1)] async fn length(&self, cx: &Cx, req: String) -> u64; }
/// # struct Both;
/// # impl Echo for Both { async fn echo(&self, _cx: &Cx, req: String) -> String { req } }
/// # impl Length for Both {
/// #     async fn length(&self, _cx: &Cx, req: String) -> u64 { req.len() as u64 }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::new().service(EchoServer::new(Both)).service(LengthServer::new(Both));
/// # let server = server.bind("tcp://127.0.0.1:0").await?;
/// # let url = server.url();
/// # tokio::spawn(server.serve_until(std::future::pending()));
/// let mut config = ClientConfig::default();
/// config.call_timeout = Duration::from_secs(2);
/// let channel = Channel::builder().config(config).connect(&url).await?;
///
/// // Two services on one connection.
/// let (echo, length) = (EchoClient::new(channel.clone()), LengthClient::new(channel));
/// let (text, count) = tokio::join!(echo.echo("hello".into()), length.length("hello".into()));
/// assert_eq!((text?.as_str(), count?), ("hello", 5));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Channel(Arc<Connector>);

/// A channel to be.
#[derive(Clone, Debug, Default)]
pub struct ChannelBuilder {
    config: ClientConfig,
    codec: Option<Codec>,
    runtime: Option<Runtime>,
    interceptors: ClientInterceptors,
    insecure: bool,
}

impl Channel {
    /// Connects to an address, `tcp://127.0.0.1:7400`, `unix:///run/app.sock` or `mem://name` say,
    /// and waits until the server has said what it serves.
    ///
    /// # Errors
    /// See [`ChannelBuilder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// # Cancellation
    /// Dropping the future gives the connection up.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        ChannelBuilder::default().connect(address).await
    }

    /// A channel that connects with its first call.
    ///
    /// # Errors
    /// [`ErrorKind::Address`], [`ErrorKind::SocketPathTooLong`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn lazy(address: &str) -> Result<Self, Error> {
        ChannelBuilder::default().lazy(address)
    }

    /// Settings first.
    #[must_use]
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder::default()
    }

    /// A call of a method. Nothing is sent before the call is first polled; options are set
    /// until then.
    pub fn call<Q, R, E>(&self, stub: &'static Stub<Q, R, E>, request: Q) -> Call<Q, R, E> {
        Call::new(Arc::clone(&self.0), Described::Shared(stub), request)
    }

    /// The build the server says it is; empty if it says nothing.
    ///
    /// # Errors
    /// Why there is no connection to ask.
    ///
    /// # Cancellation
    /// Safe; the attempt to connect goes on.
    pub async fn server_build(&self) -> Result<String, Error> {
        let driver = self.driver().await?;
        driver.ready().await?;
        Ok(driver.server_build())
    }

    /// What the server serves now, as it says on its connection: ids, versions, ceilings and
    /// fingerprints, ascending by id. A server with a fallback may answer other methods too.
    ///
    /// # Errors
    /// Why there is no connection to ask.
    ///
    /// # Cancellation
    /// Safe; the attempt to connect goes on.
    pub async fn server_methods(&self) -> Result<Vec<MethodRow>, Error> {
        let driver = self.driver().await?;
        driver.ready().await?;
        Ok(driver.table().map_or_else(Vec::new, |table| table.rows().to_vec()))
    }

    /// Waits until there is a connection and the server has said what it serves.
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Cancellation
    /// Safe; the attempt goes on.
    pub async fn ready(&self) -> Result<(), Error> {
        self.driver().await?.ready().await
    }

    /// How the connections of this channel ended, by reason; to be read at any time.
    #[must_use]
    pub fn totals(&self) -> Arc<ClientTotals> {
        Arc::clone(&self.0.totals)
    }

    pub(crate) const fn connector(&self) -> &Arc<Connector> {
        &self.0
    }

    async fn driver(&self) -> Result<ClientDriver, Error> {
        /// A place among those who wait for the connection, given up when the wait is.
        struct Place<'a>(&'a Connector, Wait);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.leave(&mut self.1);
            }
        }
        let mut place = Place(&self.0, Wait::new(self.0.config.wait_for_ready));
        std::future::poll_fn(|cx| self.0.poll_driver(&mut place.1, cx.waker())).await
    }
}

impl ChannelBuilder {
    /// Sets everything that [`ClientConfig`] holds.
    #[must_use]
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config.clamped();
        self
    }

    /// Sets the payload codec, instead of bincode.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = Some(codec);
        self
    }

    /// Adds hooks around every call, above its retries and inside of those that were added before.
    #[must_use]
    pub fn interceptor(mut self, interceptor: impl ClientInterceptor) -> Self {
        let name = interceptor.name().to_owned();
        self.interceptors.call.push(&name, Arc::new(interceptor));
        self
    }

    /// Adds hooks around every attempt of a call, below its retries and inside of those that were
    /// added before.
    #[must_use]
    pub fn attempt_interceptor(mut self, interceptor: impl AttemptInterceptor) -> Self {
        let name = interceptor.name().to_owned();
        self.interceptors.attempt.push(&name, Arc::new(interceptor));
        self
    }

    /// Sets where tasks run and what time it is, instead of the tokio runtime at hand.
    #[must_use]
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Allows plaintext to addresses that are not loopback: the network is trusted.
    #[must_use]
    pub const fn insecure_plaintext(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Connects and waits until the server has said what it serves.
    ///
    /// # Errors
    /// [`ErrorKind::Address`], [`ErrorKind::SocketPathTooLong`], [`ErrorKind::InsecureAddress`],
    /// [`ErrorKind::UnknownHost`], [`ErrorKind::Refused`], [`ErrorKind::ConnectTimeout`],
    /// [`ErrorKind::NotSwitchback`], [`ErrorKind::NoCommonVersion`],
    /// [`ErrorKind::HandshakeTimeout`] and what else may end a connection.
    ///
    /// # Cancellation
    /// Dropping the future gives the connection up.
    pub async fn connect(self, address: &str) -> Result<Channel, Error> {
        let channel = self.lazy(address)?;
        channel.ready().await?;
        Ok(channel)
    }

    /// A channel that connects with its first call.
    ///
    /// # Errors
    /// [`ErrorKind::Address`], [`ErrorKind::SocketPathTooLong`], [`ErrorKind::NoCodec`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`ChannelBuilder::runtime`] gave one.
    pub fn lazy(self, address: &str) -> Result<Channel, Error> {
        let address = crate::transport::Address::parse(address)?;
        let connector = crate::transport::connector(address, self.insecure)?;
        self.build(connector, false)
    }

    /// A channel over a stream that is connected already, an end of
    /// [`duplex`](crate::transport::duplex) say. There is no second connection after it.
    ///
    /// # Errors
    /// [`ErrorKind::NoCodec`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`ChannelBuilder::runtime`] gave one.
    pub fn stream(self, stream: Stream) -> Result<Channel, Error> {
        self.build(Box::new(OneStream::new(stream)), true)
    }

    /// A channel over a transport of one's own; it connects with its first call.
    ///
    /// # Errors
    /// [`ErrorKind::NoCodec`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless [`ChannelBuilder::runtime`] gave one.
    pub fn transport(self, connector: impl Connect) -> Result<Channel, Error> {
        self.build(Box::new(connector), false)
    }

    fn build(self, target: Box<dyn Connect>, is_single: bool) -> Result<Channel, Error> {
        let codec = self.codec.or_else(|| Codec::built_in().into_iter().next());
        let codec = codec.ok_or(ErrorKind::NoCodec)?;
        let runtime = self.runtime.unwrap_or_else(Runtime::tokio);
        let (target, codec) = ((target, is_single), (codec, self.interceptors));
        Ok(Channel(Connector::new(target, self.config, codec, runtime)))
    }
}
