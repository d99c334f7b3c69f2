//! Metrics as text, in Prometheus' exposition format 0.0.4.
//!
//! Histograms show every third of their bounds, the doublings from 1 us to 67 s: 28 lines a series
//! instead of 80, always the same ones, so that rates can be made of them.

use std::fmt::Write;

use crate::observe::{Metric, Recorder, Sample, Source, Value};
use crate::util::Distribution;

/// Everything that `sources` have to report, to be served as `text/plain; version=0.0.4`.
///
/// Two sources that report the same series must not be given together.
///
/// ```
/// # #[cfg(feature = "tcp")]
/// # async fn run() -> Result<(), switchback::Error> {
/// use switchback::{Server, client::ClientMetrics, observe::prometheus};
///
/// let server = Server::new().bind("tcp://127.0.0.1:0").await?;
/// let metrics = server.metrics();
/// let text = prometheus(&[&metrics, &ClientMetrics]);
/// assert!(text.contains("switchback_server_panics_total 0"));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn prometheus(sources: &[&dyn Source]) -> String {
    let mut page = Page::default();
    for source in sources {
        source.report(&mut page);
    }
    let mut text = String::new();
    for (metric, lines) in page.metrics {
        let name = metric.name;
        // What is written to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {}", metric.meaning);
        let _ = writeln!(text, "# TYPE {name} {}", metric.kind.as_str());
        text.push_str(&lines);
    }
    text
}

/// Lines by metric: the format wants those of one metric together.
#[derive(Default)]
struct Page {
    /// Ascending by name.
    metrics: Vec<(&'static Metric, String)>,
}

impl Recorder for Page {
    fn record(&mut self, sample: &Sample<'_>) {
        let metric = sample.metric;
        let at = self.metrics.binary_search_by(|(known, _)| known.name.cmp(metric.name));
        let at = at.unwrap_or_else(|at| {
            self.metrics.insert(at, (metric, String::new()));
            at
        });
        let lines = &mut self.metrics[at].1;
        match sample.value {
            Value::Counter(value) | Value::Gauge(value) => {
                let labels = braces(sample, None);
                let _ = writeln!(lines, "{}{labels} {value}", metric.name);
            }
            Value::Histogram(durations) => histogram(lines, sample, durations),
        }
    }
}

fn histogram(lines: &mut String, sample: &Sample<'_>, durations: &Distribution) {
    let (name, mut below) = (sample.metric.name, 0);
    for (at, (bound, count)) in durations.buckets().enumerate() {
        below += count;
        let labels = match bound {
            Some(_) if at % 3 != 0 => continue,
            Some(bound) => braces(sample, Some(&bound.as_secs_f64().to_string())),
            None => braces(sample, Some("+Inf")),
        };
        let _ = writeln!(lines, "{name}_bucket{labels} {below}");
    }
    let (labels, sum) = (braces(sample, None), durations.sum().as_secs_f64());
    let _ = writeln!(lines, "{name}_sum{labels} {sum}");
    let _ = writeln!(lines, "{name}_count{labels} {below}");
}

/// `{method="a/b",le="0.001"}`, or nothing without labels.
fn braces(sample: &Sample<'_>, le: Option<&str>) -> String {
    let names = sample.metric.labels.iter().zip(sample.labels);
    let pairs = names.map(|(name, value)| (*name, *value)).chain(le.map(|le| ("le", le)));
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{name}=\"{value}\"");
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::{SERVER_CALL_SECONDS, SERVER_PANICS, SERVER_REFUSED};
    use crate::util::Histogram;

    struct Some3(Distribution);

    impl Source for Some3 {
        fn report(&self, recorder: &mut dyn Recorder) {
            recorder.record(&Sample::counter(SERVER_REFUSED, &["a\"b\\c\nd"], 3));
            recorder.record(&Sample::histogram(SERVER_CALL_SECONDS, &["s/m", "2"], &self.0));
            recorder.record(&Sample::counter(SERVER_PANICS, &[], 0));
            recorder.record(&Sample::counter(SERVER_REFUSED, &["OVERLOADED"], 4));
        }
    }

    /// Samples of one metric stand together below its type; label values are escaped; a histogram
    /// is cumulative and ends with all of it.
    #[test]
    fn the_text_is_what_prometheus_reads() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_micros(1), 2);
        histogram.record(Duration::from_micros(3), 1);
        histogram.record(Duration::from_secs(100), 1);

        let text = prometheus(&[&Some3(histogram.snapshot())]);

        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(lines.len(), 2 + 30 + 3 + 1, "{text}");
        assert_eq!(lines[0], "# TYPE switchback_server_call_seconds histogram");
        let of = |le: &str, n| {
            let labels = format!("{{method=\"s/m\",version=\"2\",le=\"{le}\"}}");
            format!("switchback_server_call_seconds_bucket{labels} {n}")
        };
        assert_eq!(lines[1], of("0.000001", 0));
        assert_eq!(lines[2], of("0.000002", 2));
        assert_eq!(lines[3], of("0.000004", 3));
        assert_eq!(lines[27], of("67.108864", 3));
        assert_eq!(lines[28], of("+Inf", 4));
        let labels = "{method=\"s/m\",version=\"2\"}";
        assert_eq!(lines[29], format!("switchback_server_call_seconds_sum{labels} 100.000005"));
        assert_eq!(lines[30], format!("switchback_server_call_seconds_count{labels} 4"));
        assert_eq!(
            &lines[31..],
            [
                "# TYPE switchback_server_panics_total counter",
                "switchback_server_panics_total 0",
                "# TYPE switchback_server_refused_total counter",
                "switchback_server_refused_total{code=\"a\\\"b\\\\c\\nd\"} 3",
                "switchback_server_refused_total{code=\"OVERLOADED\"} 4",
            ]
        );
    }
}
