//! The methods a server starts with.
//!
//! Invariants, checked when the router is made live: no (method, version) twice, no two names
//! with one number, names and versions well-formed, the table within what a frame can hold.

use std::sync::Arc;

use crate::service::handler::{Handler, Wrap};
use crate::service::raw::RawHandler;
use crate::service::{Codec, Cx, Dispatch, Forward, Method, RawRequest, RawResponse, RouteError};
use crate::service::{Service, Status};

/// A set of methods and codecs, to be served.
///
/// A [`Server`](crate::Server) has one of its own; by itself it is for whoever drives connections
/// without it, and for a `Contract` (feature `contract`).
///
/// ```
/// use std::convert::Infallible;
/// use switchback::{CallError, Cx, Method, Router};
///
/// let double = Method::infallible("demo.Math/double", 2, |_cx: Cx, n: u64| async move {
///     Ok::<u64, CallError<Infallible>>(n * 2)
/// });
/// let router = Router::new().method(double.schema::<u64, u64, Infallible>());
/// # #[cfg(feature = "contract")]
/// # {
/// let contract = switchback::service::Contract::from(&router);
/// let row = contract.row("demo.Math/double", 2).expect("it is served");
/// assert_eq!(row.text, "u64->u64!never");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Router {
    pub(crate) methods: Vec<Method>,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) fallback: Option<Method>,
    /// Around every handler, innermost first.
    pub(crate) wraps: Vec<Arc<dyn Wrap>>,
}

impl Router {
    /// No methods yet; the codecs that are built in.
    #[must_use]
    pub fn new() -> Self {
        let (methods, codecs) = (Vec::new(), Codec::built_in());
        Self { methods, codecs, fallback: None, wraps: Vec::new() }
    }

    /// Adds the methods of a service.
    #[must_use]
    pub fn service(mut self, service: impl Service) -> Self {
        self.methods.extend(service.into_methods());
        self
    }

    /// Adds one method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Adds a payload codec; one with the same id is replaced.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codecs.retain(|known| known.id() != codec.id());
        let at = self.codecs.partition_point(|known| known.id() < codec.id());
        self.codecs.insert(at, codec);
        self
    }

    /// Serves requests for methods that are not here, with their payloads as they came (CA-17),
    /// instead of answering UNKNOWN_METHOD. It is counted as `fallback`, version 0.
    #[must_use]
    pub fn fallback<F, Fut>(self, handler: F) -> Self
    where
        F: Fn(Cx, RawRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<RawResponse, Status>> + Send + 'static,
    {
        self.falling_back_to(Arc::new(RawHandler::new(handler)))
    }

    /// Forwards requests for methods that are not here to another server, and tells what that
    /// one answers (CA-18). It takes the place of a fallback.
    #[must_use]
    pub fn forward(self, target: impl Into<Forward>) -> Self {
        self.falling_back_to(target.into().0)
    }

    fn falling_back_to(mut self, handler: Arc<dyn Handler>) -> Self {
        self.fallback = Some(Method::with_handler(FALLBACK, 0, handler));
        self
    }

    /// Checks the methods and makes them live.
    ///
    /// # Errors
    /// [`RouteError`] for the first method that cannot stand beside the others.
    pub fn into_dispatch(self) -> Result<Dispatch, RouteError> {
        Dispatch::new(self)
    }
}

impl Default for Router {
    fn default() -> Self {
        Self::new()
    }
}

/// What the fallback is counted as. No method has that name: it lacks the slash.
pub(crate) const FALLBACK: &str = "fallback";
