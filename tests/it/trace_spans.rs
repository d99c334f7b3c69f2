//! Trace context over two tiers, and the spans that show it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use switchback::driver::Runtime;
use switchback::service::TraceContext;
use switchback::{CallError, Channel, Cx, Method, Server, Status, Tracing};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Answer, Plain, echo_stub, log_to, mem_with, plain, tcp};

/// One span, as it was opened and recorded.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    /// Names of the events inside.
    events: Vec<String>,
}

/// Keeps the spans and events of this crate's target and of the tests.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    spans: Vec<Seen>,
    entered: Vec<u64>,
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.0.insert(field.name(), text.trim_matches('"').to_owned());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "switchback" || metadata.target() == "it"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut state = self.0.lock().unwrap();
        let parent = state.entered.last().copied();
        let mut seen = Seen { name: attributes.metadata().name(), parent, ..Seen::default() };
        attributes.record(&mut Fields(&mut seen.fields));
        state.spans.push(seen);
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let at = usize::try_from(span.into_u64()).unwrap() - 1;
        values.record(&mut Fields(&mut self.0.lock().unwrap().spans[at].fields));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut state = self.0.lock().unwrap();
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        if let Some(id) = state.entered.last().copied() {
            let at = usize::try_from(id).unwrap() - 1;
            state.spans[at].events.push(fields.remove("message").unwrap_or_default());
        }
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let left = self.0.lock().unwrap().entered.pop();
        assert_eq!(left, Some(span.into_u64()), "spans are left in the order of their entering");
    }
}

/// A method that passes its call on, after an await, and says so inside.
fn relay(next: Channel) -> Method {
    Method::infallible("it.Relay/relay", 1, move |_cx: Cx, n: u64| {
        let next = next.clone();
        async move {
            tracing::info!(target: "it", "first");
            tokio::task::yield_now().await;
            tracing::info!(target: "it", "second");
            let answer = next.call(echo_stub(), n).metadata("own", b"1").await;
            answer.map_err(|error| match error {
                CallError::App(never) => match never {},
                CallError::Rpc(status) => CallError::Rpc(status),
            })
        }
    })
}

/// What the back server found of a trace.
struct Found {
    theirs: Option<TraceContext>,
    ours: TraceContext,
}

/// The back server: tells what it was sent, and fails for 2.
fn back(sent: &Arc<Mutex<Vec<Found>>>) -> Method {
    let sent = Arc::clone(sent);
    Method::infallible("it.Echo/echo", 1, move |cx: Cx, n: u64| {
        let ours = cx.extensions().get::<TraceContext>().cloned().unwrap();
        let theirs = TraceContext::from_metadata(cx.metadata());
        sent.lock().unwrap().push(Found { theirs, ours });
        async move {
            tracing::info!(target: "it", "back");
            let failed = CallError::Rpc(Status::new(switchback::Code::NOT_FOUND, ""));
            if n == 2 { Err(failed) } else { Answer::Ok(n) }
        }
    })
}

/// A trace goes through two tiers over TCP: one trace, each span the part of the one above it, the
/// vendor's state unchanged, and events of handlers inside of their spans at every poll.
#[tokio::test]
async fn a_trace_goes_through_two_tiers() {
    let spans = Spans::default();
    let _guard = log_to(spans.clone());
    let sent = Arc::default();
    let tracing = || Tracing::new(&Runtime::tokio());
    let back = tcp(Server::new().method(back(&sent)).interceptor(tracing())).await;
    let next = Channel::builder().interceptor(tracing()).connect(&back.url).await.unwrap();
    let front = Server::new().method(relay(next)).interceptor(tracing());
    let front = tcp(front).await;
    let channel = Channel::builder().interceptor(tracing()).connect(&front.url).await.unwrap();
    let stub: Plain<u64, u64> = plain("it.Relay/relay");

    assert_eq!(channel.call(stub, 1).await, Ok(1));
    let seen = std::mem::take(&mut spans.0.lock().unwrap().spans);
    let names: Vec<&str> = seen.iter().map(|span| span.name).collect();
    assert_eq!(names, ["rpc.client", "rpc.server", "rpc.client", "rpc.server"]);
    let field = |at: usize, name: &str| seen[at].fields.get(name).cloned().unwrap_or_default();
    for at in 0..4 {
        assert_eq!(field(at, "trace_id"), field(0, "trace_id"), "one trace");
        assert_eq!(
            (field(at, "rpc.system"), field(at, "status")),
            ("switchback".into(), "OK".into())
        );
    }
    assert_eq!(
        (field(1, "rpc.service"), field(1, "rpc.method")),
        ("it.Relay".into(), "relay".into())
    );
    assert_eq!((field(3, "rpc.service"), field(3, "rpc.version")), ("it.Echo".into(), "1".into()));
    assert_eq!(seen[2].parent, Some(2), "made inside of the first server's span");
    assert_eq!(seen[1].events, ["first", "second"]);
    assert_eq!(seen[3].events, ["back"]);
    let Found { theirs: parent, ours } = sent.lock().unwrap().pop().unwrap();
    let parent = parent.unwrap();
    assert_eq!(format!("{:016x}", parent.span_id()), field(2, "span_id"));
    assert_eq!(format!("{:016x}", ours.span_id()), field(3, "span_id"));
    assert_eq!(parent.trace_id(), ours.trace_id());
    let ids: std::collections::BTreeSet<_> = (0..4).map(|at| field(at, "span_id")).collect();
    assert_eq!(ids.len(), 4, "four spans");

    // A caller that brings a trace of its own.
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = channel.call(stub, 2).metadata("traceparent", own.as_bytes());
    assert!(call.metadata("tracestate", b"a=1,b=2").await.is_err());
    let Found { theirs: parent, ours } = sent.lock().unwrap().pop().unwrap();
    assert_eq!(parent.map(|p| (p.trace_id(), p.state().to_owned())), {
        Some((0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, "a=1,b=2".to_owned()))
    });
    assert!(ours.is_sampled());
    let statuses: Vec<String> = spans
        .0
        .lock()
        .unwrap()
        .spans
        .iter()
        .map(|span| span.fields.get("status").cloned().unwrap_or_default())
        .collect();
    assert_eq!(statuses, ["NOT_FOUND"; 4]);
}

/// What is malformed begins a new trace; the call goes on. Shown by what the handler finds.
#[tokio::test]
async fn a_malformed_trace_begins_anew() {
    let method = Method::infallible("it.Trace/id", 1, |cx: Cx, _: u64| async move {
        let context = cx.extensions().get::<TraceContext>();
        Answer::Ok(context.map(TraceContext::traceparent).unwrap_or_default())
    });
    let server = Server::new().method(method).interceptor(Tracing::new(&Runtime::tokio()));
    let (channel, _, _server) = mem_with(server, Channel::builder());
    let stub: Plain<u64, String> = plain("it.Trace/id");
    let mut traces = std::collections::BTreeSet::new();
    for parent in ["", "00-zz", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"] {
        let call = channel.call(stub, 0).metadata("traceparent", parent.as_bytes());
        let found = call.metadata("tracestate", b"a=1").await.unwrap();
        let context = TraceContext::parse(found.as_bytes()).unwrap();
        assert!(!found.contains("4bf92f35"), "{found}");
        traces.insert(context.trace_id());
    }
    assert_eq!(traces.len(), 3, "three new traces");
}
