//! The `metrics` crate as a place for samples: whatever exporter the program installed there.
//!
//! Pulled, not pushed: the program calls [`Facade::export`] as often as its exporter is read, from
//! a task of its own or before a scrape. That keeps calls free of it.
//!
//! Invariant: histograms are handed over as what came since the last export, each bucket as so
//! many samples of its upper bound, since that crate takes samples and no buckets; so one program
//! has one `Facade`, and what it shows of durations is at most a third too long.

use std::collections::BTreeMap;

use metrics::Label;

use crate::observe::{Recorder, Sample, Source, Value};
use crate::util::Distribution;

/// Gives samples to the recorder that the program has installed for the `metrics` crate.
///
/// ```
/// # #[cfg(feature = "tcp")]
/// # async fn run() -> Result<(), switchback::Error> {
/// use switchback::{Server, client::ClientMetrics, observe::Facade};
///
/// let server = Server::new().bind("tcp://127.0.0.1:0").await?;
/// let metrics = server.metrics();
/// tokio::spawn(async move {
///     let mut facade = Facade::new();
///     let mut every = tokio::time::interval(std::time::Duration::from_secs(10));
///     loop {
///         every.tick().await;
///         facade.export(&[&metrics, &ClientMetrics]);
///     }
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Facade {
    /// By series; as bounded as the series are.
    before: BTreeMap<(&'static str, Vec<String>), Distribution>,
    is_described: bool,
}

impl Facade {
    /// Nothing exported yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over everything that `sources` have to report now. The first time it describes the
    /// metrics too.
    pub fn export(&mut self, sources: &[&dyn Source]) {
        if !std::mem::replace(&mut self.is_described, true) {
            describe();
        }
        for source in sources {
            source.report(self);
        }
    }
}

impl Recorder for Facade {
    fn record(&mut self, sample: &Sample<'_>) {
        let (metric, names) = (sample.metric, sample.metric.labels.iter().zip(sample.labels));
        let labels: Vec<Label> =
            names.map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        match sample.value {
            Value::Counter(total) => metrics::counter!(metric.name, labels).absolute(total),
            #[expect(clippy::cast_precision_loss, reason = "a level is far below 2^52")]
            Value::Gauge(level) => metrics::gauge!(metric.name, labels).set(level as f64),
            Value::Histogram(durations) => {
                let values = sample.labels.iter().map(|value| (*value).to_owned()).collect();
                let before = self.before.entry((metric.name, values)).or_default();
                let handle = metrics::histogram!(metric.name, labels);
                let mut top = 0.0;
                for (bound, count) in durations.since(before).buckets() {
                    top = bound.map_or(top, |bound| bound.as_secs_f64());
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    if count > 0 {
                        handle.record_many(top, count);
                    }
                }
                before.clone_from(durations);
            }
        }
    }
}

fn describe() {
    use crate::observe::{Kind, METRICS};
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            Kind::Histogram => {
                let unit = metrics::Unit::Seconds;
                metrics::describe_histogram!(metric.name, unit, metric.meaning);
            }
        }
    }
}
