//! What there is to measure: the name and meaning of every metric, and where samples go.
//!
//! Counting happens where the work is, in plain counters that are always on; nothing here is
//! called by a call. Whoever wants to look asks a [`Source`] to report: a server's or a client's.
//! Where the samples go is a [`Recorder`]: text for Prometheus ([`prometheus`](fn@prometheus)), the
//! `metrics` crate (`Facade`, feature `metrics`), or one's own.
//!
//! Invariants: labels come from the program (methods that were installed or called, codes and
//! reasons that the specification names), never from a peer: whatever peers send, the number of
//! series is bounded. Counters only grow, for as long as the process lives.
//!
//! Every metric is described in `docs/metrics.md`.

#[cfg(feature = "metrics")]
mod facade;
mod names;
mod prometheus;
mod recorder;

#[cfg(feature = "metrics")]
pub use facade::Facade;
pub use names::*;
pub use prometheus::prometheus;
pub use recorder::{Recorder, Sample, Source, Value};
