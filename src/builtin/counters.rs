//! `switchback.Counters`: what a server has counted.
//!
//! Invariant: a page has at most 64 rows, each at most 560 bytes as JSON, and what holds for the
//! server, at most 6 KiB: below 48 KiB together (BI-2).

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback_macros::Schema;

use crate::builtin::reflection::gone;
use crate::service::WeakDispatch;
use crate::service::{CallError, Cx, Fingerprint, Method, MethodStats, Run, Stub};
use crate::util::Distribution;

/// What is asked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct ReadCounters {
    /// The last row of the page before; `None` begins.
    pub after: Option<AfterVersion>,
}

/// The key of a row.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Schema, Serialize)]
pub struct AfterVersion {
    /// `"service/method"`.
    pub method: String,
    /// The version.
    pub version: u16,
}

/// Counters of some of a server's methods, and of the server.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct CountersPage {
    /// Ascending by name and version.
    pub methods: Vec<MethodCount>,
    /// Whether there are rows after these.
    pub more: bool,
    /// Of the server as a whole.
    pub server: ServerCount,
}

/// Counters of one (method, version) since the server started; see
/// [`MethodStats`].
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct MethodCount {
    /// `"service/method"`.
    pub name: String,
    /// The version.
    pub version: u16,
    /// Whether it may be called now.
    pub callable: bool,
    /// Handlers started.
    pub started: u64,
    /// Answered with a response.
    pub ok: u64,
    /// Answered with the method's own error.
    pub app_errors: u64,
    /// Answered with a status.
    pub failed: u64,
    /// Taken back, or given up at their deadline, while they ran.
    pub cancelled: u64,
    /// How long those that ended took.
    pub latency: Latency,
}

/// How long calls took, in microseconds; percentiles are at most a third too high.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct Latency {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum_us: u64,
    /// Half of them took no longer; 0 if there were none, as below.
    pub p50_us: u64,
    /// 90 % of them took no longer.
    pub p90_us: u64,
    /// 99 % of them took no longer.
    pub p99_us: u64,
}

/// What is counted for all connections of a server.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct ServerCount {
    /// Calls in flight beyond their first turn.
    pub calls: u64,
    /// Bytes of their requests, and of answers that wait to be written.
    pub bytes: u64,
    /// Calls that were refused because a limit was reached.
    pub overloads: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Requests refused before a handler was started, by status.
    pub refusals: Vec<RefusalCount>,
    /// Connections that ended, by reason.
    pub closes: Vec<CloseCount>,
    /// Connections that ended without a word.
    pub lost: u64,
    /// `None` if the server does not listen.
    pub listener: Option<ListenerCount>,
}

/// Requests refused with one status.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct RefusalCount {
    /// The status, as a number.
    pub code: u16,
    /// How many.
    pub count: u64,
}

/// Connections that ended for one reason.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct CloseCount {
    /// The close reason, as a number.
    pub reason: u16,
    /// How many.
    pub count: u64,
}

/// What a listener counted; see [`ListenerStats`](crate::server::ListenerStats).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct ListenerCount {
    /// Connections taken from the transport.
    pub accepted: u64,
    /// Open now.
    pub open: u64,
    /// Of those: no HELLO yet.
    pub handshaking: u64,
    /// Closed at once: there were too many.
    pub refused_full: u64,
    /// Closed at once: too many of one address.
    pub refused_per_address: u64,
    /// Closed in their handshake for a newer one.
    pub displaced: u64,
    /// Errors of accepting.
    pub accept_errors: u64,
}

/// `read`, for the server with this table; `server` counts what is not the table's (BI-6).
pub(crate) fn counters_method(
    dispatch: WeakDispatch,
    server: impl Fn() -> ServerCount + Send + Sync + 'static,
) -> Method {
    let read = move |_cx: Cx, request: ReadCounters| {
        let after = request.after.map(|after| (after.method, after.version));
        let rows = dispatch.upgrade().map(|dispatch| dispatch.stats_after(after, ROWS_MAX + 1));
        std::future::ready(match rows {
            None => Err(CallError::Rpc(gone())),
            Some(rows) => Ok(CountersPage {
                methods: rows.iter().take(ROWS_MAX).map(MethodCount::from).collect(),
                more: rows.len() > ROWS_MAX,
                server: server(),
            }),
        })
    };
    // In a task: it is long for a handler, and nobody's calls should wait for it.
    let method = Method::infallible(READ, 1, read).run(Run::Spawn);
    method.schema::<ReadCounters, CountersPage, Infallible>().idempotent()
}

impl From<&MethodStats> for MethodCount {
    fn from(stats: &MethodStats) -> Self {
        Self {
            name: stats.name.to_string(),
            version: stats.version,
            callable: stats.callable,
            started: stats.started,
            ok: stats.ok,
            app_errors: stats.app_errors,
            failed: stats.failed,
            cancelled: stats.cancelled,
            latency: Latency::from(&stats.latency),
        }
    }
}

impl From<&Distribution> for Latency {
    fn from(durations: &Distribution) -> Self {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // Rounded up, as the bounds are.
        let at = |quantile| {
            let found = durations.quantile(quantile);
            found.map_or(0, |found| us(found + Duration::from_nanos(999)))
        };
        Self {
            count: durations.count(),
            sum_us: us(durations.sum()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
        }
    }
}

pub(crate) static COUNTERS_READ: LazyLock<Stub<ReadCounters, CountersPage, Infallible>> =
    LazyLock::new(|| {
        let fingerprint = Fingerprint::of_method::<ReadCounters, CountersPage, Infallible>();
        Stub::infallible(READ, 1, fingerprint).idempotent()
    });

const READ: &str = "switchback.Counters/read";
const ROWS_MAX: usize = 64;
