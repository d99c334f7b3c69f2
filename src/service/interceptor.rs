//! Code of the user's around every call: on a server, and at two named points of a client.
//!
//! ```text
//!   client   per call (ClientInterceptor) > retry > per attempt (AttemptInterceptor) > connection
//!   server   admission > ServerInterceptor > decode > handler
//! ```
//!
//! Invariants: what a `before` refuses was not executed, and is answered so; who let a call pass
//! is told its end exactly once; no hook runs under a lock.
//! Why hooks before and after instead of a chain of wrappers: a refusal, a hang and a panic can be
//! told apart and named, and a call that is not ready needs no stack of futures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::service::{Cx, Ended, Extensions, Hook, MetadataBlock, Running, Status};
use crate::wire::MethodId;

/// Hooks around every call that a server serves.
///
/// `before` runs when the call was admitted and its method found, before its payload is decoded;
/// what it puts into [`Cx::extensions_mut`] the handler finds in [`Cx::extensions`]. Calls made in
/// a hook inherit the deadline.
///
/// ```
/// use switchback::{Code, Cx, Ended, Hook, Server, ServerInterceptor, Status};
///
/// /// Only our own network may call.
/// struct Inside;
///
/// impl ServerInterceptor for Inside {
///     fn name(&self) -> &str {
///         "inside"
///     }
///
///     fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
///         if cx.peer().address.starts_with("10.") {
///             return Hook::pass();
///         }
///         Hook::ready(Err(Status::new(Code::PERMISSION_DENIED, "not from there")))
///     }
///
///     fn after(&self, cx: &Cx, ended: &Ended) {
///         tracing::info!(method = %cx.method_name(), code = %ended.code(), "ended");
///     }
/// }
///
/// let server = Server::new().interceptor(Inside);
/// # let _ = server;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no interceptor of a server",
    note = "implement `ServerInterceptor` for a type of your own: a name, and `before` or `after`"
)]
pub trait ServerInterceptor: Send + Sync + 'static {
    /// For messages: who refused, who hangs. Asked once, when the interceptor is added.
    fn name(&self) -> &str;

    /// Lets the call pass or refuses it. Bounded by the call's deadline: then the future is
    /// dropped and the answer names this interceptor. A panic is answered INTERNAL. Either way
    /// nothing was executed.
    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a>;

    /// The call that this interceptor let pass has ended. Called where the call ends: keep it
    /// short. Its answer is made by then, so metadata that is added now goes nowhere. A panic in it
    /// costs a line of log.
    fn after(&self, cx: &Cx, ended: &Ended) {
        let _ = (cx, ended);
    }
}

/// Hooks around every call of a channel, above its retries.
///
/// ```
/// use std::time::Duration;
/// use switchback::{Channel, ClientCx, ClientInterceptor, Hook};
///
/// /// Every call says for whom it is made, and takes 2 s at most.
/// struct Tenant(String);
///
/// impl ClientInterceptor for Tenant {
///     fn name(&self) -> &str {
///         "tenant"
///     }
///
///     fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
///         cx.shorten_timeout(Duration::from_secs(2));
///         Hook::ready(cx.add_metadata("tenant", self.0.as_bytes()))
///     }
/// }
///
/// let builder = Channel::builder().interceptor(Tenant("acme".into()));
/// # let _ = builder;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no interceptor of a client",
    note = "implement `ClientInterceptor` for a type of your own: a name, and `before` or `after`"
)]
pub trait ClientInterceptor: Send + Sync + 'static {
    /// For messages: who refused, who hangs. Asked once, when the interceptor is added.
    fn name(&self) -> &str;

    /// Runs before the first attempt: may add metadata for all of them, shorten the timeout, wait,
    /// refuse. Bounded by the call's deadline. A panic goes through to who awaits the call.
    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a>;

    /// The call that this interceptor let pass has ended, or its future was dropped. A panic in it
    /// costs a line of log.
    fn after(&self, cx: &ClientCx, ended: &Ended) {
        let _ = (cx, ended);
    }
}

/// Hooks around every attempt of a call, below the retries: one for each request that is sent.
/// For what must be fresh each time, a token say: [the guide](crate::guide::interceptors) has one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no interceptor of attempts",
    note = "implement `AttemptInterceptor` for a type of your own: a name, and `before` or `after`"
)]
pub trait AttemptInterceptor: Send + Sync + 'static {
    /// For messages: who refused, who hangs. Asked once, when the interceptor is added.
    fn name(&self) -> &str;

    /// Runs when there is a connection and a version was chosen. Metadata that it adds travels
    /// with this attempt alone. A refusal ends the call.
    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a>;

    /// The attempt that this interceptor let pass has ended.
    fn after(&self, cx: &ClientCx, ended: &Ended) {
        let _ = (cx, ended);
    }
}

/// A call, or one attempt of it, as a client's interceptors see it.
#[derive(Clone, Debug)]
pub struct ClientCx {
    pub(crate) name: Arc<str>,
    pub(crate) method: MethodId,
    pub(crate) is_idempotent: bool,
    pub(crate) begun: Instant,
    pub(crate) deadline: Instant,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) metadata: MetadataBlock,
    pub(crate) extensions: Extensions,
    pub(crate) served: Extensions,
}

/// What is known of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: u8,
    pub(crate) version: u16,
    pub(crate) peer: Arc<str>,
}

impl ClientCx {
    /// Adds a name and a value that travel beside the request: all attempts of it, or one, as the
    /// interceptor is one of the call or of the attempt.
    ///
    /// # Errors
    /// BAD_METADATA for a name that is not 1 to 64 bytes of `[a-z0-9_.-]`, TOO_LARGE for more than
    /// 64 pairs or 8 KiB of them; give it back to refuse the call, or go on without.
    pub fn add_metadata(&mut self, name: &str, value: &[u8]) -> Result<(), Status> {
        self.metadata.push(name, value)
    }

    /// Shortens the call's timeout, which counts from its first poll. Longer ones change nothing,
    /// and so does an interceptor of attempts.
    pub fn shorten_timeout(&mut self, timeout: Duration) {
        if let Some(deadline) = self.begun.checked_add(timeout) {
            self.deadline = self.deadline.min(deadline);
        }
    }

    /// Values that go along with the call, from hook to hook, until it has ended: what is put here
    /// in `before` is found in `after`, also what an attempt's interceptor puts here.
    pub const fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Values that go along with the call.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// The values of the call that was being served where this one was first polled; empty outside
    /// of a handler. For what is to be passed on: a trace, a tenant.
    #[must_use]
    pub const fn served(&self) -> &Extensions {
        &self.served
    }

    /// `"service/method"`.
    #[must_use]
    pub fn method_name(&self) -> &str {
        &self.name
    }

    /// The method's number.
    #[must_use]
    pub const fn method(&self) -> MethodId {
        self.method
    }

    /// Whether the method may be executed twice.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// When the call's time is over.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The attempt's number as it travels: 0 for the first, and for replays of what was not read;
    /// `None` for an interceptor of the call.
    #[must_use]
    pub fn attempt(&self) -> Option<u8> {
        self.attempt.as_ref().map(|attempt| attempt.number)
    }

    /// The version that this attempt is made in.
    #[must_use]
    pub fn version(&self) -> Option<u16> {
        self.attempt.as_ref().map(|attempt| attempt.version)
    }

    /// The address of the server that this attempt goes to.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.attempt.as_ref().map(|attempt| &*attempt.peer)
    }

    /// The first value with this name that travels beside the request.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.metadata.iter().find_map(|(found, value)| (found == name).then_some(value))
    }
}

pub(crate) fn begin_call(hooks: Arc<dyn ClientInterceptor>, mut cx: ClientCx) -> Running<ClientCx> {
    Box::pin(async move {
        let verdict = hooks.before(&mut cx).await;
        (cx, verdict)
    })
}

pub(crate) fn begin_attempt(
    hooks: Arc<dyn AttemptInterceptor>,
    mut cx: ClientCx,
) -> Running<ClientCx> {
    Box::pin(async move {
        let verdict = hooks.before(&mut cx).await;
        (cx, verdict)
    })
}
