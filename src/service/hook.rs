//! What interceptors give back, what they are told, and how a chain of them runs.
//!
//! ```text
//!   before 1 -> before 2 -> before 3 -> the call        3 refuses, hangs or panics:
//!   after 1  <- after 2  <- after 3  <--/               after 2, after 1
//! ```
//!
//! Invariants: hooks run one after another, each over the context that those before it left; who
//! let the call pass is told its end exactly once, in reverse order, and nobody else is.
//! Why a hook works on a clone of the context: one that is dropped or panics half-way leaves the
//! context as it was, for those who are told the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::service::Status;
use crate::wire::{Code, Disposition};

/// What an interceptor's `before` gives back: its verdict, or a future of it.
///
/// `Ok` lets the call pass; a [`Status`] refuses it: the caller gets its code and message, with
/// the interceptor's name before it, as [`Disposition::NotProcessed`].
#[must_use = "a hook that is not given back decides nothing"]
pub struct Hook<'a>(Verdict<'a>);

enum Verdict<'a> {
    /// Gone when it was given.
    Ready(Option<Result<(), Status>>),
    Later(Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>),
}

/// How a call ended, or one attempt of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// With what.
    pub end: End,
    /// A client's call: attempts that were made, replays included. Else 1.
    pub attempts: u32,
    /// Since the first hook was asked.
    pub duration: Duration,
}

/// With what a call ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// With a response.
    Ok,
    /// With the method's own error.
    App,
    /// With a status: refused, failed, past its deadline.
    Failed(Status),
    /// It was taken back by its caller; at a client: its future was dropped.
    Cancelled,
    /// Its handler panicked; the caller is answered INTERNAL.
    Panicked,
}

/// Interceptors in their order. Clones share them.
pub struct Interceptors<T: ?Sized>(Arc<Vec<Named<T>>>);

/// One interceptor.
pub(crate) struct Named<T: ?Sized> {
    /// Asked for once, so that naming it runs no code of the user's.
    pub(crate) name: Arc<str>,
    pub(crate) hooks: Arc<T>,
}

/// The `before` hooks of one chain, on their way.
pub(crate) struct Hooks<C> {
    /// How many have let the call pass.
    passed: usize,
    running: Option<Running<C>>,
}

/// A hook at work, with the context it may change.
pub(crate) type Running<C> = Pin<Box<dyn Future<Output = (C, Result<(), Status>)> + Send>>;

impl<'a> Hook<'a> {
    /// Lets the call pass.
    pub const fn pass() -> Self {
        Self(Verdict::Ready(Some(Ok(()))))
    }

    /// A verdict that needs no waiting.
    pub const fn ready(verdict: Result<(), Status>) -> Self {
        Self(Verdict::Ready(Some(verdict)))
    }

    /// A verdict to be waited for. The call's deadline bounds the wait; dropping the call drops
    /// the future.
    pub fn wait(future: impl Future<Output = Result<(), Status>> + Send + 'a) -> Self {
        Self(Verdict::Later(Box::pin(future)))
    }
}

impl Future for Hook<'_> {
    type Output = Result<(), Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Verdict::Ready(verdict) => verdict.take().map_or(Poll::Pending, Poll::Ready),
            Verdict::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl Ended {
    /// The status as a code: OK and APP too, CANCELLED for a call that was taken back, INTERNAL for
    /// one whose handler panicked.
    #[must_use]
    pub const fn code(&self) -> Code {
        match &self.end {
            End::Ok => Code::OK,
            End::App => Code::APP,
            End::Failed(status) => status.code(),
            End::Cancelled => Code::CANCELLED,
            End::Panicked => Code::INTERNAL,
        }
    }
}

impl<T: ?Sized> Interceptors<T> {
    /// Adds one at the end, inside of those that are there.
    pub fn push(&mut self, name: &str, hooks: Arc<T>) {
        Arc::make_mut(&mut self.0).push(Named { name: name.into(), hooks });
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Named<T>> {
        self.0.get(at)
    }
}

impl<C: Clone> Hooks<C> {
    pub(crate) const fn new() -> Self {
        Self { passed: 0, running: None }
    }

    /// Runs what is left of the chain; `begin` begins one hook with a context of its own. Ready
    /// when all have passed, or one has refused: its name is in the status, which is stamped.
    pub(crate) fn poll<T: ?Sized>(
        &mut self,
        chain: &Interceptors<T>,
        context: &mut C,
        begin: fn(Arc<T>, C) -> Running<C>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Status>> {
        while let Some(next) = chain.get(self.passed) {
            let begin = || begin(Arc::clone(&next.hooks), context.clone());
            let running = self.running.get_or_insert_with(begin);
            let (changed, verdict) = std::task::ready!(running.as_mut().poll(cx));
            self.running = None;
            if let Err(status) = verdict {
                return Poll::Ready(Err(refusal(&next.name, status)));
            }
            *context = changed;
            self.passed += 1;
        }
        Poll::Ready(Ok(()))
    }

    /// The hook that has the call, if one has.
    pub(crate) fn holder<'a, T: ?Sized>(&self, chain: &'a Interceptors<T>) -> Option<&'a str> {
        chain.get(self.passed).map(|named| &*named.name)
    }

    /// Drops the hook at work.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Those who are to be told the end, in their order; once.
    pub(crate) fn finish<'a, T: ?Sized>(
        &mut self,
        chain: &'a Interceptors<T>,
    ) -> impl Iterator<Item = &'a Named<T>> + use<'a, T, C> {
        let passed = std::mem::take(&mut self.passed);
        chain.0[..passed.min(chain.0.len())].iter().rev()
    }
}

/// What a refusal says: code and message, nothing that came with them (CA-13, CA-19).
fn refusal(name: &str, status: Status) -> Status {
    let message = format!("{name}: {}", status.message());
    status.passed_on().with_message(message).with_disposition(Disposition::NotProcessed)
}

impl<T: ?Sized> Clone for Interceptors<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Default for Interceptors<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: ?Sized> Clone for Named<T> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), hooks: Arc::clone(&self.hooks) }
    }
}

impl<T: ?Sized> std::fmt::Debug for Interceptors<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|named| &named.name)).finish()
    }
}

impl std::fmt::Debug for Hook<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Verdict::Ready(verdict) => f.debug_tuple("Hook").field(verdict).finish(),
            Verdict::Later(_) => f.write_str("Hook(..)"),
        }
    }
}
