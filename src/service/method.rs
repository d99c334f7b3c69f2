//! Methods without macros: a name, a version, a handler.
//!
//! Why beside the macro: it makes these, and whoever cannot use it loses nothing but comfort.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::service::handler::{EncodeApp, Handler, Typed};
use crate::service::{CallError, Cx, Fingerprint, Forms, Payload, Schema, Status, method_text};
use crate::wire::{Code, MethodId};

/// One version of one method with its handler: what [`service`](macro@crate::service) makes of a
/// trait's function, or what you write without it.
///
/// ```
/// use std::convert::Infallible;
/// use std::sync::LazyLock;
/// use switchback::service::Fingerprint;
/// use switchback::{CallError, Channel, Cx, Method, Server, Stub};
///
/// /// The client's side.
/// static DOUBLE: LazyLock<Stub<u64, u64, Infallible>> = LazyLock::new(|| {
///     let types = Fingerprint::of_method::<u64, u64, Infallible>();
///     Stub::infallible("demo.Math/double", 1, types)
/// });
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let double = Method::infallible("demo.Math/double", 1, |_cx: Cx, n: u64| async move {
///     Ok::<u64, CallError<Infallible>>(n * 2)
/// });
/// let double = double.schema::<u64, u64, Infallible>().idempotent();
/// assert_eq!((double.version(), double.text().as_deref()), (1, Some("u64->u64!never")));
///
/// let server = Server::new().method(double).bind("mem://").await?;
/// let channel = Channel::lazy(&server.url())?;
/// tokio::spawn(server.serve_until(std::future::pending()));
/// assert_eq!(channel.call(&DOUBLE, 21).await?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Method {
    pub(crate) name: Arc<str>,
    pub(crate) id: MethodId,
    pub(crate) version: u16,
    pub(crate) fingerprint: Fingerprint,
    /// Writes the text behind the fingerprint, for those who ask; the table needs the hash alone.
    pub(crate) text: Option<fn() -> String>,
    pub(crate) idempotent: bool,
    /// The codecs that request, response and error all have a form in.
    pub(crate) forms: Forms,
    pub(crate) run: Run,
    pub(crate) cancellable: bool,
    pub(crate) handler: Arc<dyn Handler>,
}

/// Where a handler runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Run {
    /// Polled once in the connection's read loop and made a task only if it is not ready: the
    /// fastest, and right for handlers that do not burn CPU.
    ///
    /// One that blocks holds its connection and a thread of the runtime. Other connections go on
    /// when the runtime has another thread: a [`BoundServer`](crate::server::BoundServer) on
    /// tokio's multi-thread runtime notices within 40 ms, hands on the waiting for the system, and
    /// counts it ([`ServerLoad::stalls`](crate::driver::ServerLoad::stalls)). On a current-thread
    /// runtime nothing can help: all connections stand still until it returns.
    #[default]
    Inline,
    /// A task from the start: a handler that computes for long does not stall its connection. It
    /// holds a thread of the runtime as an inline one does, with the same consequences for others.
    Spawn,
    /// A thread of the blocking pool: the handler may block, on a current-thread runtime too. It
    /// cannot be dropped half-way; a cancelled one runs on and holds its slot (CA-12).
    Blocking,
}

/// What a group of methods is made of; the server half of `#[service]` implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served as it is",
    note = "wrap the type that implements the trait `Name` of a `#[service]`: `NameServer::new(..)`"
)]
pub trait Service {
    /// Every (method, version) with its handler.
    fn into_methods(self) -> Vec<Method>;
}

impl Method {
    /// A method whose handler answers with `R` or with an error `E` of its own.
    ///
    /// `name` is `"service/method"`; `version` is 1 to 65,534. Both are checked when the method
    /// is installed. The fingerprint is unchecked until [`Method::schema`] or
    /// [`Method::fingerprint`] sets it.
    pub fn new<Q, R, E, F, Fut>(name: &str, version: u16, handler: F) -> Self
    where
        F: Fn(Cx, Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, CallError<E>>> + Send + 'static,
        Q: Payload,
        R: Payload,
        E: Payload,
    {
        let handler = Arc::new(handler);
        Self::try_new(name, version, move |cx, request| {
            let handler = Arc::clone(&handler);
            // The function is called with the first poll, not when the request is read: until
            // then the call may be refused as not executed, and nothing of the user's has run.
            Ok(async move { handler(cx, request).await })
        })
    }

    /// A method without an error of its own: what fails is a [`Status`].
    pub fn infallible<Q, R, F, Fut>(name: &str, version: u16, handler: F) -> Self
    where
        F: Fn(Cx, Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, CallError<Infallible>>> + Send + 'static,
        Q: Payload,
        R: Payload,
    {
        let handler = Arc::new(handler);
        Self::try_infallible(name, version, move |cx, request| {
            let handler = Arc::clone(&handler);
            Ok(async move { handler(cx, request).await }) // As above.
        })
    }

    /// Like [`Method::new`], for a handler that may refuse the request before it starts: the
    /// caller is told that nothing was executed. For conversions between versions: `start` itself
    /// must not do the call's work, that is for the future it gives.
    pub fn try_new<Q, R, E, F, Fut>(name: &str, version: u16, start: F) -> Self
    where
        F: Fn(Cx, Q) -> Result<Fut, Refusal> + Send + Sync + 'static,
        Fut: Future<Output = Result<R, CallError<E>>> + Send + 'static,
        Q: Payload,
        R: Payload,
        E: Payload,
    {
        let forms = const { some(Q::FORMS.and(R::FORMS).and(E::FORMS)) };
        Self::typed(name, version, forms, start, EncodeApp::<E>::of_payload())
    }

    /// [`Method::try_new`] for a method without an error of its own.
    pub fn try_infallible<Q, R, F, Fut>(name: &str, version: u16, start: F) -> Self
    where
        F: Fn(Cx, Q) -> Result<Fut, Refusal> + Send + Sync + 'static,
        Fut: Future<Output = Result<R, CallError<Infallible>>> + Send + 'static,
        Q: Payload,
        R: Payload,
    {
        let forms = const { some(Q::FORMS.and(R::FORMS)) };
        Self::typed(name, version, forms, start, EncodeApp::never())
    }

    fn typed<Q, R, E, F, Fut>(
        name: &str,
        version: u16,
        forms: Forms,
        start: F,
        app: EncodeApp<E>,
    ) -> Self
    where
        F: Fn(Cx, Q) -> Result<Fut, Refusal> + Send + Sync + 'static,
        Fut: Future<Output = Result<R, CallError<E>>> + Send + 'static,
        Q: Payload,
        R: Payload,
        E: 'static,
    {
        let start = move |cx, request| start(cx, request).map_err(|refusal| refusal.0);
        let handler = Arc::new(Typed { start, encode_app: app, request: PhantomData });
        Self { forms, ..Self::with_handler(name, version, handler) }
    }

    /// A method whose handler takes every codec.
    pub(crate) fn with_handler(name: &str, version: u16, handler: Arc<dyn Handler>) -> Self {
        Self {
            id: MethodId::of(name),
            name: name.into(),
            version,
            fingerprint: Fingerprint::UNCHECKED,
            text: None,
            idempotent: false,
            forms: Forms::ALL,
            run: Run::default(),
            cancellable: true,
            handler,
        }
    }

    /// Sets the method's number, instead of the CRC-32 of its name (RT-1).
    #[must_use]
    pub const fn id(mut self, id: MethodId) -> Self {
        self.id = id;
        self
    }

    /// Sets the fingerprint to that of these types (CA-7), and keeps how their text is written
    /// (FP-4), so that the method can be described to those who do not have the types. A method
    /// without an error of its own has [`Infallible`] for one.
    ///
    /// # Panics
    /// As [`schema_text`](crate::service::schema_text).
    #[must_use]
    pub fn schema<Q: Schema, R: Schema, E: Schema>(mut self) -> Self {
        self.fingerprint = Fingerprint::of_method::<Q, R, E>();
        self.text = Some(method_text::<Q, R, E>);
        self
    }

    /// Sets the fingerprint of the request, response and error types (CA-7), where their text is
    /// not known here.
    #[must_use]
    pub const fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = fingerprint;
        self.text = None;
        self
    }

    /// Says that executing a call twice does no harm. Whether it is tried again is for the
    /// client's stub to say; here it is kept for those who ask what the method is.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets where the handler runs.
    #[must_use]
    pub const fn run(mut self, run: Run) -> Self {
        self.run = run;
        self
    }

    /// A cancelled call runs to its end; the handler may ask [`Cx::is_cancelled`].
    #[must_use]
    pub const fn no_cancel(mut self) -> Self {
        self.cancellable = false;
        self
    }

    /// `"service/method"`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// Whether executing a call twice does no harm, as [`Method::idempotent`] said.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// `request->response!error` in schema texts (FP-4); `None` unless [`Method::schema`] was
    /// told the types.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.text.map(|text| text())
    }
}

impl std::fmt::Debug for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Method")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The forms as they are, if there are any: a method that no codec can carry does not compile.
const fn some(forms: Forms) -> Forms {
    assert!(!forms.is_empty(), "no codec carries both messages of protobuf and values of serde's");
    forms
}

/// A request was refused before its handler started: nothing was executed.
#[derive(Clone, Debug)]
pub struct Refusal(Status);

impl Refusal {
    /// The request makes no sense to this handler.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Status::refused(code, message))
    }
}
