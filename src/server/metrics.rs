//! What a server has to report, read from the counters that its parts keep anyway.

use std::sync::Arc;

use crate::driver::ServerTotals;
use crate::observe::{self, Recorder, Sample, Source};
use crate::server::connections::Connections;
use crate::server::{ListenerHandle, ListenerStats};
use crate::service::{Dispatch, MethodStats};

/// A server's metrics, to be reported at any time: while it serves and after.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    pub(crate) dispatch: Dispatch,
    pub(crate) totals: Arc<ServerTotals>,
    pub(crate) connections: Arc<Connections>,
}

impl Source for ServerMetrics {
    fn report(&self, recorder: &mut dyn Recorder) {
        for method in self.dispatch.stats() {
            report_method(recorder, &method);
        }
        let load = self.totals.load();
        let mut counter = |metric, labels: &[&str], total| {
            recorder.record(&Sample::counter(metric, labels, total));
        };
        for (code, count) in &load.refusals {
            counter(observe::SERVER_REFUSED, &[code.name().unwrap_or("UNKNOWN")], *count);
        }
        for (reason, count) in &load.closes {
            counter(observe::SERVER_CLOSED, &[reason.name().unwrap_or("unknown")], *count);
        }
        counter(observe::SERVER_CLOSED, &["lost"], load.lost);
        counter(observe::SERVER_OVERLOADS, &[], load.overloads);
        counter(observe::SERVER_PANICS, &[], load.panics);
        counter(observe::SERVER_STALLS, &[], load.stalls);
        counter(observe::SERVER_STALL_MS, &[], load.executor_stall_ms);
        recorder.record(&Sample::gauge(observe::SERVER_CALLS_PENDING, &[], load.calls as u64));
        recorder.record(&Sample::gauge(observe::SERVER_BYTES_PENDING, &[], load.bytes as u64));
        report_listener(recorder, &ListenerHandle(Arc::clone(&self.connections)).stats());
    }
}

fn report_method(recorder: &mut dyn Recorder, method: &MethodStats) {
    let version = method.version.to_string();
    let labels = [&*method.name, version.as_str()];
    recorder.record(&Sample::counter(observe::SERVER_CALLS_STARTED, &labels, method.started));
    let outcomes = [
        ("ok", method.ok),
        ("app_error", method.app_errors),
        ("failed", method.failed),
        ("cancelled", method.cancelled),
    ];
    for (outcome, count) in outcomes {
        let labels = [&*method.name, version.as_str(), outcome];
        recorder.record(&Sample::counter(observe::SERVER_CALLS, &labels, count));
    }
    recorder.record(&Sample::histogram(observe::SERVER_CALL_SECONDS, &labels, &method.latency));
}

fn report_listener(recorder: &mut dyn Recorder, stats: &ListenerStats) {
    let greeted = stats.open.saturating_sub(stats.handshaking);
    for (state, level) in [("handshaking", stats.handshaking), ("greeted", greeted)] {
        recorder.record(&Sample::gauge(observe::SERVER_CONNECTIONS, &[state], level as u64));
    }
    recorder.record(&Sample::counter(observe::SERVER_ACCEPTED, &[], stats.accepted));
    let turned_away = [
        ("full", stats.refused_full),
        ("per_address", stats.refused_per_address),
        ("displaced", stats.displaced),
    ];
    for (why, count) in turned_away {
        recorder.record(&Sample::counter(observe::SERVER_TURNED_AWAY, &[why], count));
    }
    recorder.record(&Sample::counter(observe::SERVER_ACCEPT_ERRORS, &[], stats.accept_errors));
}
