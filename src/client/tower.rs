//! A method of a server as a tower service.
//!
//! Invariant: calls behave as those of [`Channel::call`]: nothing waits in the service itself.

use std::task::{Context, Poll};

use tower::Service;

use crate::client::{Call, Channel};
use crate::service::{CallError, Stub};

/// One method, called through a channel. Clones share the channel.
///
/// It is always ready: a call waits for a connection and for room in its place, first come first
/// served, and within its own deadline, which a service that is not ready could not keep. So a
/// `LoadShed` around it sheds nothing; put a `ConcurrencyLimit` between the two.
pub struct ChannelService<Q: 'static, R: 'static, E: 'static> {
    channel: Channel,
    stub: &'static Stub<Q, R, E>,
}

impl Channel {
    /// A method as a tower service, for layers of one's own around its calls.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::sync::LazyLock;
    /// # use std::time::Duration;
    /// # use switchback::service::Fingerprint;
    /// # use switchback::{Channel, Stub};
    /// use tower::{Service, ServiceBuilder, ServiceExt};
    ///
    /// static DOUBLE: LazyLock<Stub<u64, u64, Infallible>> =
    ///     LazyLock::new(|| Stub::infallible("demo.Math/double", 1, Fingerprint::UNCHECKED));
    /// # async fn run(channel: Channel) -> Result<(), tower::BoxError> {
    /// let mut double = ServiceBuilder::new()
    ///     .concurrency_limit(8)
    ///     .timeout(Duration::from_millis(200))
    ///     .service(channel.service(&DOUBLE));
    /// assert_eq!(double.ready().await?.call(21).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn service<Q, R, E>(&self, stub: &'static Stub<Q, R, E>) -> ChannelService<Q, R, E> {
        ChannelService { channel: self.clone(), stub }
    }
}

impl<Q, R, E> Service<Q> for ChannelService<Q, R, E> {
    type Response = R;
    type Error = CallError<E>;
    type Future = Call<Q, R, E>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Q) -> Self::Future {
        self.channel.call(self.stub, request)
    }
}

impl<Q, R, E> Clone for ChannelService<Q, R, E> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), stub: self.stub }
    }
}

impl<Q, R, E> std::fmt::Debug for ChannelService<Q, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelService").field("stub", self.stub).finish_non_exhaustive()
    }
}
