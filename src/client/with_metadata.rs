//! A call whose caller wants what came beside the answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::client::Call;
use crate::service::{CallError, Metadata};

/// A call that gives its answer's metadata too; see [`Call::with_metadata`].
///
/// # Errors
/// As those of [`Call`]; what came beside an error is given too.
///
/// # Cancellation
/// As that of [`Call`].
#[derive(Debug)]
#[must_use = "a call is sent when it is awaited"]
pub struct CallWithMetadata<Q: 'static, R: 'static, E: 'static>(pub(crate) Call<Q, R, E>);

impl<Q, R, E> Future for CallWithMetadata<Q, R, E> {
    /// The outcome, and what came with the answer that it is; nothing if it is none of a server.
    type Output = (Result<R, CallError<E>>, Metadata);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut self.get_mut().0;
        let result = std::task::ready!(Pin::new(&mut *call).poll(cx));
        Poll::Ready((result, call.take_answer_metadata()))
    }
}
