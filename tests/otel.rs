//! The feature `otel`: spans of OpenTelemetry over two tiers, in an exporter in memory.
//!
//! A binary of its own, since the tracer and the propagator are the process's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::sync::LazyLock;

use opentelemetry::trace::{SpanId, SpanKind, Status as SpanStatus, TraceContextExt};
use opentelemetry::{Context, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use switchback::service::Fingerprint;
use switchback::{CallError, Channel, Code, Cx, Method, Otel, Server, Status, Stub};
use tokio::sync::oneshot;

static BACK: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible("it.Back/back", 1, Fingerprint::UNCHECKED));
static FRONT: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible("it.Front/front", 1, Fingerprint::UNCHECKED));

async fn serve(method: Method) -> (String, oneshot::Sender<()>) {
    let server = Server::new().method(method).interceptor(Otel);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap();
    let (url, (stop, stopped)) = (server.url(), oneshot::channel::<()>());
    tokio::spawn(server.serve_until(async { drop(stopped.await) }));
    (url, stop)
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<std::borrow::Cow<'a, str>> {
    let found = span.attributes.iter().find(|pair| pair.key.as_str() == key);
    found.map(|pair| pair.value.as_str())
}

/// One trace over two tiers: each span is the child of the one above it, has the attributes of its
/// call and its end, and is current in its handler, after an await too.
#[tokio::test]
async fn a_trace_goes_through_two_tiers() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    global::set_tracer_provider(provider);
    global::set_text_map_propagator(TraceContextPropagator::new());
    let current = || Context::current().span().span_context().span_id();

    let back = Method::infallible("it.Back/back", 1, move |cx: Cx, n: u64| async move {
        let ours = cx.extensions().get::<Context>().unwrap().span().span_context().span_id();
        assert_eq!(current(), ours);
        tokio::task::yield_now().await;
        assert_eq!(current(), ours, "after an await");
        let failed = CallError::Rpc(Status::new(Code::NOT_FOUND, "nothing there"));
        if n == 2 { Err(failed) } else { Ok::<u64, CallError<Infallible>>(n) }
    });
    let (url, _stop_back) = serve(back).await;
    let next = Channel::builder().interceptor(Otel).connect(&url).await.unwrap();
    let front = Method::infallible("it.Front/front", 1, move |_cx: Cx, n: u64| {
        let next = next.clone();
        async move {
            tokio::task::yield_now().await;
            next.call(&BACK, n).await
        }
    });
    let (url, _stop_front) = serve(front).await;
    let channel = Channel::builder().interceptor(Otel).connect(&url).await.unwrap();

    assert_eq!(channel.call(&FRONT, 1).await, Ok(1));
    let mut spans = exporter.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 4);
    spans.reverse(); // The innermost ends first.
    let mut parent = SpanId::INVALID;
    let expected = [
        ("it.Front/front", SpanKind::Client),
        ("it.Front/front", SpanKind::Server),
        ("it.Back/back", SpanKind::Client),
        ("it.Back/back", SpanKind::Server),
    ];
    for (span, (name, kind)) in spans.iter().zip(expected) {
        assert_eq!((&*span.name, &span.span_kind), (name, &kind));
        assert_eq!(span.span_context.trace_id(), spans[0].span_context.trace_id());
        assert_eq!(span.parent_span_id, parent, "{name} {kind:?}");
        parent = span.span_context.span_id();
        let (service, method) = name.split_once('/').unwrap();
        assert_eq!(attribute(span, "rpc.system").as_deref(), Some("switchback"));
        assert_eq!(attribute(span, "rpc.service").as_deref(), Some(service));
        assert_eq!(attribute(span, "rpc.method").as_deref(), Some(method));
        assert_eq!(attribute(span, "rpc.switchback.status_code").as_deref(), Some("OK"));
        assert_eq!(attribute(span, "error.type"), None);
        assert_eq!(span.status, SpanStatus::Unset);
        let version = attribute(span, "rpc.switchback.version");
        assert_eq!(version.is_some(), kind == SpanKind::Server);
    }

    exporter.reset();
    assert!(channel.call(&FRONT, 2).await.is_err());
    for span in exporter.get_finished_spans().unwrap() {
        assert_eq!(attribute(&span, "error.type").as_deref(), Some("NOT_FOUND"));
        assert_eq!(span.status, SpanStatus::error("nothing there"));
    }
}
