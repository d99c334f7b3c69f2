//! Where a call has its stub from.
//!
//! Typed calls share one per method; a raw call brings its own (`client::raw`).

use crate::service::Stub;

/// The method of a call: of all calls of it, or of this one alone.
pub(crate) enum Described<Q: 'static, R: 'static, E: 'static> {
    Shared(&'static Stub<Q, R, E>),
    Own(Box<Stub<Q, R, E>>),
}

impl<Q, R, E> std::ops::Deref for Described<Q, R, E> {
    type Target = Stub<Q, R, E>;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Shared(stub) => stub,
            Self::Own(stub) => stub,
        }
    }
}
