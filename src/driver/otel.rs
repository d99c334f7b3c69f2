//! Interceptors that carry OpenTelemetry's context along and open its spans.
//!
//! Invariants: the context travels as the global text-map propagator says, in the metadata; spans
//! are the global tracer's; both are asked for with each call, so that it does not matter when they
//! are set. A handler runs with its span's context current, and calls made inside of it are parts
//! of that. Names that are no metadata names of this protocol are not sent.
//! Why the API crate alone: which SDK and exporter there are is the program's matter.

use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};

use crate::driver::trace_spans::parts;
use crate::service::ServerInterceptor;
use crate::service::{ClientCx, ClientInterceptor, Cx, End, Ended, Hook, Metadata};

/// Opens a span of OpenTelemetry's global tracer for each call, client or server, and carries its
/// context in the metadata.
///
/// Spans are named by the method, `service/method`, and have the attributes `rpc.system`,
/// `rpc.service`, `rpc.method`, `rpc.switchback.version` (servers) and, when the call has ended,
/// `rpc.switchback.status_code` and, for what is not OK, `error.type`. The extensions of a call
/// hold its [`opentelemetry::Context`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Otel;

impl ClientInterceptor for Otel {
    fn name(&self) -> &'static str {
        "otel"
    }

    fn before<'a>(&'a self, cx: &'a mut ClientCx) -> Hook<'a> {
        let served = cx.served().get::<Context>().cloned();
        let parent = served.unwrap_or_else(Context::current);
        let context = begin(SpanKind::Client, cx.method_name(), None, &parent);
        let mut pairs = Pairs(Vec::new());
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut pairs);
        });
        let pairs = pairs.0.iter().filter(|(name, _)| cx.metadata(name).is_none());
        let pairs: Vec<_> = pairs.cloned().collect();
        cx.extensions_mut().insert(context);
        for (name, value) in pairs {
            if let Err(status) = cx.add_metadata(&name, value.as_bytes()) {
                tracing::debug!(name, %status, "a name of the propagator's is not sent");
            }
        }
        Hook::pass()
    }

    fn after(&self, cx: &ClientCx, ended: &Ended) {
        end(cx.extensions().get(), ended);
    }
}

impl ServerInterceptor for Otel {
    fn name(&self) -> &'static str {
        "otel"
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        let sent = Sent(cx.metadata());
        let parent = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &sent)
        });
        let version = Some(cx.version());
        let context = begin(SpanKind::Server, &cx.method_name(), version, &parent);
        cx.extensions_mut().insert(context);
        Hook::pass()
    }

    fn after(&self, cx: &Cx, ended: &Ended) {
        end(cx.extensions().get(), ended);
    }
}

fn begin(kind: SpanKind, name: &str, version: Option<u16>, parent: &Context) -> Context {
    let (service, method) = parts(name);
    let mut attributes = vec![
        KeyValue::new("rpc.system", "switchback"),
        KeyValue::new("rpc.service", service.to_owned()),
        KeyValue::new("rpc.method", method.to_owned()),
    ];
    attributes
        .extend(version.map(|version| KeyValue::new("rpc.switchback.version", i64::from(version))));
    let tracer = global::tracer("switchback");
    let builder = tracer.span_builder(name.to_owned()).with_kind(kind);
    let span = builder.with_attributes(attributes).start_with_context(&tracer, parent);
    parent.with_span(span)
}

fn end(context: Option<&Context>, ended: &Ended) {
    let Some(span) = context.map(TraceContextExt::span) else { return };
    let code = ended.code().to_string();
    if ended.end != End::Ok {
        let description = match &ended.end {
            End::Failed(status) => status.message().to_owned(),
            _ => String::new(),
        };
        span.set_status(Status::error(description));
        span.set_attribute(KeyValue::new("error.type", code.clone()));
    }
    span.set_attribute(KeyValue::new("rpc.switchback.status_code", code));
    span.end();
}

/// What a propagator wants to be sent.
struct Pairs(Vec<(String, String)>);

impl Injector for Pairs {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.to_ascii_lowercase(), value));
    }
}

/// What a caller sent, as far as it is text.
struct Sent<'a>(&'a Metadata);

impl Extractor for Sent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.get(&key.to_ascii_lowercase())?;
        std::str::from_utf8(value).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name).collect()
    }
}
