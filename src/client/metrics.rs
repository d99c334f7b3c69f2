//! What the clients of this process have to report.

use crate::observe::{self, Recorder, Sample, Source};
use crate::service::{CallStats, call_stats};

/// The metrics of all calls that this process makes, whatever their channel; see
/// [`call_stats`] for the figures themselves.
#[derive(Clone, Copy, Debug)]
pub struct ClientMetrics;

impl Source for ClientMetrics {
    fn report(&self, recorder: &mut dyn Recorder) {
        for stats in call_stats() {
            report_method(recorder, &stats);
        }
    }
}

fn report_method(recorder: &mut dyn Recorder, stats: &CallStats) {
    let version = stats.version.to_string();
    let labels = [&*stats.name, version.as_str()];
    let mut outcome = |outcome, code, count| {
        let labels = [&*stats.name, version.as_str(), outcome, code];
        recorder.record(&Sample::counter(observe::CLIENT_CALLS, &labels, count));
    };
    outcome("ok", "OK", stats.ok);
    outcome("app_error", "APP", stats.app_errors);
    outcome("cancelled", "", stats.cancelled);
    for (code, count) in &stats.failed {
        outcome("failed", code.name().unwrap_or("UNKNOWN"), *count);
    }
    recorder.record(&Sample::counter(observe::CLIENT_RETRIES, &labels, stats.retries));
    recorder.record(&Sample::counter(observe::CLIENT_REPLAYS, &labels, stats.replays));
    recorder.record(&Sample::histogram(observe::CLIENT_CALL_SECONDS, &labels, &stats.latency));
}
