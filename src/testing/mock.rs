//! What the mocks of `#[service(mock)]` are made of.
//!
//! A mock is a service like every other: its methods are served by the real server and called by
//! the real client, over streams in memory.
//!
//! Invariants: answers are the user's and run under no lock; a method without an answer says so by
//! name; a client may connect anew as often as it must, so that a test may let days pass.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::client::Channel;
use crate::driver::Runtime;
use crate::error::Error;
use crate::server::Server;
use crate::service::{CallError, Cx, Router, Service, Status};
use crate::transport::{Connect, Connecting, duplex};
use crate::wire::Code;

/// One method of a mock. Clones are the same method.
pub struct MockMethod<Q, R, E>(Arc<Shared<Q, R, E>>);

struct Shared<Q, R, E> {
    /// `bank.Ledger/transfer`
    name: &'static str,
    calls: AtomicU64,
    answer: Mutex<Option<Answer<Q, R, E>>>,
}

type Answer<Q, R, E> = Arc<dyn Fn(Cx, Q) -> Answering<R, E> + Send + Sync>;
type Answering<R, E> = Pin<Box<dyn Future<Output = Result<R, CallError<E>>> + Send>>;

/// Serves a mock anew on each connection.
struct MockServer {
    server: Server,
    runtime: Runtime,
}

impl<Q, R, E> MockMethod<Q, R, E> {
    /// Without an answer.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self(Arc::new(Shared { name, calls: AtomicU64::new(0), answer: Mutex::new(None) }))
    }

    /// Sets what answers from now on.
    pub fn set<F, Fut>(&self, answer: F)
    where
        F: Fn(Cx, Q) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, CallError<E>>> + Send + 'static,
    {
        let answer: Answer<Q, R, E> = Arc::new(move |cx, request| Box::pin(answer(cx, request)));
        let mut current = self.0.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let before = current.replace(answer);
        drop(current);
        drop(before); // Not under the lock: it is the user's.
    }

    /// How many calls came here, answered or not.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Counts a call and answers it.
    ///
    /// # Errors
    /// What the answer says; UNIMPLEMENTED without one.
    ///
    /// # Cancellation
    /// Drops the answer's future.
    pub async fn answer(&self, cx: Cx, request: Q) -> Result<R, CallError<E>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let answer = self.0.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(answer) = answer else {
            let message = format!("the mock has no answer for {}", self.0.name);
            return Err(CallError::Rpc(Status::new(Code::UNIMPLEMENTED, message)));
        };
        answer(cx, request).await
    }
}

impl<Q, R, E> Clone for MockMethod<Q, R, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Q, R, E> std::fmt::Debug for MockMethod<Q, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let calls = self.calls();
        f.debug_struct("MockMethod")
            .field("name", &self.0.name)
            .field("calls", &calls)
            .finish_non_exhaustive()
    }
}

/// A channel to a service in this process.
///
/// # Panics
/// Outside of a tokio runtime; for methods that cannot stand side by side; without a payload codec.
#[must_use]
pub fn client_channel(service: impl Service + Clone) -> Channel {
    let served = Router::new().service(service.clone()).into_dispatch().map_err(Error::from);
    let (server, runtime) = (Server::new().service(service), Runtime::tokio());
    let channel = served.and_then(|_| Channel::builder().transport(MockServer { server, runtime }));
    channel.unwrap_or_else(|error| panic!("the mock cannot be served: {error}"))
}

/// Tells a test that it asked for a method that is none.
///
/// # Panics
/// Always.
#[track_caller]
pub fn no_such_method(mock: &str, method: &str) -> ! {
    panic!("{mock} has no method {method:?}")
}

impl Connect for MockServer {
    fn connect(&self) -> Connecting<'_> {
        let (client_end, server_end) = duplex(BUFFER_BYTES);
        let served = self.server.clone().runtime(self.runtime.clone()).serve_stream(server_end);
        Box::pin(std::future::ready(served.map(|(_dispatch, served)| {
            self.runtime.spawn.spawn(Box::pin(async move { drop(served.await) }));
            client_end
        })))
    }

    fn address(&self) -> String {
        "mock".to_owned()
    }
}

/// On their way in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
