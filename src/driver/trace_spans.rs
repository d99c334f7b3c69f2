//! Interceptors that carry a trace along and open `tracing` spans.
//!
//! ```text
//!   rpc.client --traceparent--> rpc.server --served--> rpc.client --traceparent--> rpc.server
//! ```
//!
//! Invariants: a call made inside of a handler is a part of the trace of the call that is served;
//! what a caller says of its trace is believed only if it is well-formed, else a trace begins here.
//! The server's span is entered whenever the handler is polled, so that its events are inside.

use std::sync::Arc;

use tracing::field::{Empty, display};

use crate::driver::{Random, Runtime};
use crate::service::TraceContext;
use crate::service::{ClientCx, ClientInterceptor, Cx, Ended, Hook, ServerInterceptor};

/// Carries W3C trace context in metadata, and opens a span for each call: `rpc.client` at a
/// client, `rpc.server` at a server.
///
/// Both are at level INFO, with target `switchback` and the fields `rpc.system`, `rpc.service`,
/// `rpc.method`, `rpc.version` (servers), `trace_id`, `span_id` and, when the call has ended,
/// `status`. The extensions of a call hold its [`TraceContext`] and its [`tracing::Span`].
///
/// A call whose metadata has a `traceparent` of its own keeps it.
#[derive(Clone)]
pub struct Tracing {
    random: Arc<dyn Random>,
}

impl Tracing {
    /// Draws its ids from this runtime.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        Self { random: Arc::clone(&runtime.random) }
    }

    fn begin(&self, parent: Option<&TraceContext>) -> TraceContext {
        let span = self.random.next_u64();
        parent.map_or_else(
            || {
                let (high, low) = (self.random.next_u64(), self.random.next_u64());
                TraceContext::new(u128::from(high) << 64 | u128::from(low), span, true)
            },
            |parent| parent.child(span),
        )
    }
}

impl ClientInterceptor for Tracing {
    fn name(&self) -> &'static str {
        "tracing"
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        let given = cx.metadata(TraceContext::TRACEPARENT).map(TraceContext::parse);
        let context = match given {
            Some(given) => given.unwrap_or_else(|| self.begin(None)),
            None => {
                let context = self.begin(cx.served().get());
                let state = context.state().as_bytes();
                let parent = context.traceparent();
                let mut added = cx.add_metadata(TraceContext::TRACEPARENT, parent.as_bytes());
                if !state.is_empty() {
                    added = added.and_then(|()| cx.add_metadata(TraceContext::TRACESTATE, state));
                }
                if let Err(status) = added {
                    return Hook::ready(Err(status));
                }
                context
            }
        };
        let (service, method) = parts(cx.method_name());
        let span = tracing::info_span!(
            target: "switchback", "rpc.client", rpc.system = "switchback", rpc.service = service,
            rpc.method = method, trace_id = %trace_id(&context), span_id = %span_id(&context),
            status = Empty
        );
        cx.extensions_mut().insert(span);
        cx.extensions_mut().insert(context);
        Hook::pass()
    }

    fn after(&self, cx: &ClientCx, ended: &Ended) {
        record(cx.extensions().get(), ended);
    }
}

impl ServerInterceptor for Tracing {
    fn name(&self) -> &'static str {
        "tracing"
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        let context = self.begin(TraceContext::from_metadata(cx.metadata()).as_ref());
        let name = cx.method_name();
        let (service, method) = parts(&name);
        let span = tracing::info_span!(
            target: "switchback", "rpc.server", rpc.system = "switchback", rpc.service = service,
            rpc.method = method, rpc.version = cx.version(), trace_id = %trace_id(&context),
            span_id = %span_id(&context), status = Empty
        );
        cx.extensions_mut().insert(span);
        cx.extensions_mut().insert(context);
        Hook::pass()
    }

    fn after(&self, cx: &Cx, ended: &Ended) {
        record(cx.extensions().get(), ended);
    }
}

/// Service and method of a method's name.
pub(crate) fn parts(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or(("", name))
}

fn trace_id(context: &TraceContext) -> String {
    format!("{:032x}", context.trace_id())
}

fn span_id(context: &TraceContext) -> String {
    format!("{:016x}", context.span_id())
}

fn record(span: Option<&tracing::Span>, ended: &Ended) {
    if let Some(span) = span {
        span.record("status", display(ended.code()));
    }
}

impl std::fmt::Debug for Tracing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracing").finish_non_exhaustive()
    }
}
