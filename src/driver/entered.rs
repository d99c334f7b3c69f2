//! What surrounds code of the user's that serves an intercepted call, while it is polled.
//!
//! Invariant: what was current before is current again afterwards, also after a panic.

use crate::service::{Extensions, with_served};

/// Runs `f` with the call's extensions to be inherited, and inside of the span that an interceptor
/// put among them.
pub(crate) fn entered<T>(extensions: &Extensions, f: impl FnOnce() -> T) -> T {
    let _span = extensions.get::<tracing::Span>().map(tracing::Span::enter);
    #[cfg(feature = "otel")]
    let _context = extensions.get::<opentelemetry::Context>().cloned().map(|cx| cx.attach());
    with_served(extensions, f)
}
