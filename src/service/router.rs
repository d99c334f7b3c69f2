//! The methods a server starts with.
//!
//! Invariants, checked when the router is made live: no (method, version) twice, no two names
//! with one number, names and versions well-formed, the table within what a frame can hold.

use crate::service::{Codec, Dispatch, Method, RouteError, Service};

/// A set of methods and codecs, to be served.
#[derive(Clone, Debug)]
pub struct Router {
    pub(crate) methods: Vec<Method>,
    pub(crate) codecs: Vec<Codec>,
}

impl Router {
    /// No methods yet; the codecs that are built in.
    #[must_use]
    pub fn new() -> Self {
        Self { methods: Vec::new(), codecs: Codec::built_in() }
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
        self.codecs.push(codec);
        self.codecs.sort_by_key(Codec::id);
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
