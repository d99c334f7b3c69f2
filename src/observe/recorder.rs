//! The seam between those who count and those who want to know.

use crate::observe::Metric;
use crate::util::Distribution;

/// Takes samples: a metrics library, a text, a test.
pub trait Recorder {
    /// One series' value as it is now.
    fn record(&mut self, sample: &Sample<'_>);
}

/// Has something to report: a server, this process's clients.
pub trait Source {
    /// Gives every series to `recorder`, each once.
    fn report(&self, recorder: &mut dyn Recorder);
}

/// The value of one series.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// Which metric.
    pub metric: &'static Metric,
    /// The values of its labels, in the order of [`Metric::labels`].
    pub labels: &'a [&'a str],
    /// Since the process started, for a counter or histogram; now, for a gauge.
    pub value: Value<'a>,
}

/// What was measured; the variant is the metric's kind.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A total.
    Counter(u64),
    /// A level.
    Gauge(u64),
    /// All durations.
    Histogram(&'a Distribution),
}

impl<'a> Sample<'a> {
    /// A counter's sample.
    #[must_use]
    pub fn counter(metric: &'static Metric, labels: &'a [&'a str], total: u64) -> Self {
        Self::new(metric, labels, Value::Counter(total))
    }

    /// A gauge's sample.
    #[must_use]
    pub fn gauge(metric: &'static Metric, labels: &'a [&'a str], level: u64) -> Self {
        Self::new(metric, labels, Value::Gauge(level))
    }

    /// A histogram's sample.
    #[must_use]
    pub fn histogram(
        metric: &'static Metric,
        labels: &'a [&'a str],
        durations: &'a Distribution,
    ) -> Self {
        Self::new(metric, labels, Value::Histogram(durations))
    }

    fn new(metric: &'static Metric, labels: &'a [&'a str], value: Value<'a>) -> Self {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{} has other labels", metric.name);
        Self { metric, labels, value }
    }
}
