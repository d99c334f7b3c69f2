//! Every metric, by name: kind, labels, meaning.
//!
//! Names are those that Prometheus asks for: the unit and `_total` at the end. A name or a label
//! that was released is never used for something else. The page `docs/metrics.md` is this table;
//! a test compares them.

/// What is known of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// With the unit, and `_total` for a counter, at the end.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The names of its labels, in the order in which samples give their values.
    pub labels: &'static [&'static str],
    /// What it says, in one line.
    pub meaning: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets, in seconds.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:ident, [$($label:literal),*], $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $id: &Metric = &Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                meaning: $meaning,
            };
        )*

        /// All of them, in the order of their page.
        pub const METRICS: &[&Metric] = &[$($id),*];
    };
}

metrics! {
    SERVER_CALLS_STARTED = "switchback_server_calls_started_total", Counter, ["method", "version"],
        "Handlers that were started.";
    SERVER_CALLS = "switchback_server_calls_total", Counter, ["method", "version", "outcome"],
        "Handlers that ended. outcome: ok, app_error (the method's own error), failed (a status, \
         panics included), cancelled (taken back, or given up at their deadline).";
    SERVER_CALL_SECONDS = "switchback_server_call_seconds", Histogram, ["method", "version"],
        "From the read of a request to its answer's place in the output, or to its handler's drop.";
    SERVER_REFUSED = "switchback_server_refused_total", Counter, ["code"],
        "Requests that were refused before a handler was started, by status. Not by method: a \
         peer may name methods that there are not.";
    SERVER_OVERLOADS = "switchback_server_overloads_total", Counter, [],
        "Of those: refused because a limit of calls or bytes was reached.";
    SERVER_PANICS = "switchback_server_panics_total", Counter, [],
        "Handlers that panicked.";
    SERVER_STALLS = "switchback_server_stalls_total", Counter, [],
        "Times that handlers held a thread of the runtime for 20 ms and more.";
    SERVER_STALL_MS = "switchback_server_stall_milliseconds_total", Counter, [],
        "How long they did in all, to 20 ms each.";
    SERVER_CALLS_PENDING = "switchback_server_calls_pending", Gauge, [],
        "Calls in flight beyond their first turn.";
    SERVER_BYTES_PENDING = "switchback_server_pending_bytes", Gauge, [],
        "Bytes of requests that run and of answers that wait to be written, in steps of 16 KiB per \
         connection.";
    SERVER_CONNECTIONS = "switchback_server_connections", Gauge, ["state"],
        "Connections that are open. state: handshaking (no HELLO yet), greeted.";
    SERVER_ACCEPTED = "switchback_server_connections_accepted_total", Counter, [],
        "Connections taken from the transport, those that were turned away included.";
    SERVER_TURNED_AWAY = "switchback_server_connections_turned_away_total", Counter, ["why"],
        "Connections closed to keep a limit. why: full, per_address, displaced (in its handshake, \
         for a newer one).";
    SERVER_ACCEPT_ERRORS = "switchback_server_accept_errors_total", Counter, [],
        "Errors of accept.";
    SERVER_CLOSED = "switchback_server_connections_closed_total", Counter, ["reason"],
        "Connections that ended, by the reason that was given or received; lost: without a word.";
    CLIENT_CALLS =
        "switchback_client_calls_total", Counter, ["method", "version", "outcome", "code"],
        "Calls that ended, as their callers saw it, over all channels of the process. outcome: ok, \
         app_error, failed (code: the status), cancelled (the future was dropped). Attempts are \
         these, retries and replays together.";
    CLIENT_RETRIES = "switchback_client_retries_total", Counter, ["method", "version"],
        "Attempts beyond a call's first that drew on the retry budget.";
    CLIENT_REPLAYS = "switchback_client_replays_total", Counter, ["method", "version"],
        "Attempts in the place of one that the server had not read.";
    CLIENT_CALL_SECONDS = "switchback_client_call_seconds", Histogram, ["method", "version"],
        "From a call's first poll to its answer's arrival, or to its end without one; rests \
         between attempts included.";
}
