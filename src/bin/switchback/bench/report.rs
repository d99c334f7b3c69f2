//! What a run found: counts, percentiles, a histogram; as a screen and as a document.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::bench::lanes::Plan;
use crate::bench::tally::{Merged, Tally};
use crate::durations::micros;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Screen, clean};

/// Why a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The server has been gone for a while.
    Gone,
    /// By Ctrl-C.
    Interrupted,
    /// It was done.
    Over,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) what: String,
    pub(crate) address: String,
    pub(crate) plan: Plan,
    pub(crate) elapsed: Duration,
    pub(crate) end: End,
    /// Calls that were under way when it ended.
    pub(crate) given_up: u64,
    pub(crate) tally: &'a Tally,
}

impl Report<'_> {
    /// The screen, the document, and the exit code.
    pub(crate) fn answer(&self, screen: &Screen) -> Result<Answer, Failure> {
        let merged = self.tally.merged();
        let ended = merged.ok + merged.failed() + self.given_up;
        let not_sent = self.plan.due_in(self.elapsed).map(|due| due.saturating_sub(ended));
        let json = Answer::json(&self.document(&merged, not_sent))?;
        let text = screen.fold(&self.text(&merged, not_sent, screen));
        let exit = match self.end {
            End::Gone => Some(Exit::NoConnection),
            End::Interrupted => Some(Exit::Interrupted),
            End::Over if merged.failed() > 0 => Some(Exit::No),
            End::Over => None,
        };
        Ok(Answer { text, json, exit })
    }

    fn text(&self, merged: &Merged, not_sent: Option<u64>, screen: &Screen) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let mut text = match self.end {
            End::Gone => format!(
                "{}: the server is gone, nothing was answered any more; what there is:\n",
                screen.strong("ended early")
            ),
            End::Interrupted => format!("{}; what there is:\n", screen.strong("interrupted")),
            End::Over => String::new(),
        };
        let Self { what, address, .. } = self;
        // Writing to a string does not fail, here and below.
        let _written = writeln!(text, "{} at {}", screen.strong(what), clean(address));
        let _written = writeln!(text, "  {}", self.plan.wish());
        let rate = merged.ok as f64 / seconds.max(f64::MIN_POSITIVE);
        let _written = writeln!(
            text,
            "\n  {} calls ok in {seconds:.2} s: {rate:.0} calls/s, {} failed",
            merged.ok,
            merged.failed()
        );
        if self.given_up > 0 {
            let _written = writeln!(text, "  {} calls under way were given up", self.given_up);
        }
        if let Some(not_sent) = not_sent.filter(|not_sent| *not_sent > 0) {
            let _written = writeln!(
                text,
                "  {not_sent} calls were due and not sent: the rate needs more than {} at once",
                self.plan.in_flight
            );
        }
        errors(&mut text, merged);
        if merged.ok > 0 {
            percentiles(&mut text, merged, self.plan.rate.is_some());
            histogram(&mut text, merged, screen);
        }
        text
    }

    fn document<'a>(&'a self, merged: &'a Merged, not_sent: Option<u64>) -> Document<'a> {
        let failed = merged.codes.iter().map(|(code, (count, message))| Failed {
            code,
            count: *count,
            message,
        });
        let at = |quantile| merged.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Document {
            call: &self.what,
            address: &self.address,
            seconds: self.elapsed.as_secs_f64(),
            interrupted: self.end == End::Interrupted,
            server_gone: self.end == End::Gone,
            ok: merged.ok,
            app_errors: merged.app_errors,
            failed: failed.collect(),
            given_up: self.given_up,
            due_not_sent: not_sent,
            rate_asked: self.plan.rate,
            rate: merged.ok as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            in_flight: self.plan.in_flight,
            connections: self.plan.connections,
            from_due: self.plan.rate.is_some(),
            latency_us: Latency {
                min: if merged.ok > 0 { merged.latencies.min() as f64 / 1e3 } else { 0.0 },
                mean: merged.latencies.mean() / 1e3,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: merged.latencies.max() as f64 / 1e3,
            },
            histogram: buckets(merged),
        }
    }
}

fn errors(text: &mut String, merged: &Merged) {
    if merged.app_errors > 0 {
        let _written = writeln!(text, "  {:>10}  the method's own error", merged.app_errors);
    }
    for (code, (count, message)) in &merged.codes {
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        let _written = writeln!(text, "  {count:>10}  {code}{}", clean(&message));
    }
}

fn percentiles(text: &mut String, merged: &Merged, is_from_due: bool) {
    let from = if is_from_due { "from when it was due" } else { "from when it was sent" };
    let _written = writeln!(text, "\n  latency of a call that was ok, {from}");
    let latencies = &merged.latencies;
    let rows = [
        ("min", latencies.min()),
        ("p50", latencies.value_at_quantile(0.5)),
        ("p90", latencies.value_at_quantile(0.9)),
        ("p99", latencies.value_at_quantile(0.99)),
        ("p99.9", latencies.value_at_quantile(0.999)),
        ("max", latencies.max()),
    ];
    for (name, nanos) in rows {
        let _written = writeln!(text, "    {name:<6} {:>9}", micros(nanos as f64 / 1e3));
    }
    let _written = writeln!(text, "    {:<6} {:>9}", "mean", micros(latencies.mean() / 1e3));
}

fn histogram(text: &mut String, merged: &Merged, screen: &Screen) {
    let buckets = buckets(merged);
    let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(0).max(1);
    let width = screen.columns.saturating_sub(BAR_BESIDE).clamp(BAR_MIN, BAR_MAX);
    text.push('\n');
    for Bucket { to_us, count } in buckets {
        let share = count as f64 / merged.ok as f64 * 100.0;
        let bar = "#".repeat(usize::try_from(count * width as u64 / most).unwrap_or(width));
        // One that is there shows, however few they are.
        let bar = if bar.is_empty() && count > 0 { ".".to_owned() } else { bar };
        let line = format!("    to {:>8} {share:>6.2} % {bar}", micros(to_us));
        let _written = writeln!(text, "{}", line.trim_end());
    }
}

/// Calls by latency, each bucket up to 1, 2 or 5 times a power of ten.
fn buckets(merged: &Merged) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut bound_ns = 1_000;
    let mut steps = [2, 5, 10].into_iter().cycle();
    let (mut decade, mut counted) = (1_000, 0);
    while counted < merged.ok {
        let to = merged.latencies.count_between(0, bound_ns - 1);
        let count = to.saturating_sub(counted);
        counted += count;
        if count > 0 || !buckets.is_empty() {
            buckets.push(Bucket { to_us: bound_ns as f64 / 1e3, count });
        }
        if bound_ns > BOUND_NS_MAX {
            break;
        }
        let step = steps.next().unwrap_or(10);
        bound_ns = decade * step;
        if step == 10 {
            decade = bound_ns;
        }
    }
    buckets
}

#[derive(Serialize)]
struct Document<'a> {
    call: &'a str,
    address: &'a str,
    seconds: f64,
    interrupted: bool,
    server_gone: bool,
    ok: u64,
    app_errors: u64,
    failed: Vec<Failed<'a>>,
    /// Under way when it ended.
    given_up: u64,
    /// `null`: no rate was asked for.
    due_not_sent: Option<u64>,
    rate_asked: Option<f64>,
    rate: f64,
    in_flight: u32,
    connections: u32,
    /// Whether latencies are from when a call was due, or from when it was sent.
    from_due: bool,
    latency_us: Latency,
    histogram: Vec<Bucket>,
}

#[derive(Serialize)]
struct Failed<'a> {
    code: &'a str,
    count: u64,
    /// Of the first of them.
    message: &'a str,
}

#[derive(Serialize)]
struct Latency {
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct Bucket {
    to_us: f64,
    count: u64,
}

/// Beside a bar: bound and share.
const BAR_BESIDE: usize = 28;
const BAR_MIN: usize = 4;
const BAR_MAX: usize = 60;
/// Where a histogram's own range ends.
const BOUND_NS_MAX: u64 = 3_600_000_000_000;
