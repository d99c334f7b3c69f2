//! What is counted, and how it is reported: per method and version on both sides, and bounded
//! whatever peers send.

use std::collections::BTreeSet;
use std::time::Duration;

use switchback::client::ClientMetrics;
use switchback::observe::{METRICS, Recorder, Sample, Source, Value, prometheus};
use switchback::service::{CallStats, Fingerprint, MethodStats, call_stats};
use switchback::{
    CallError, Channel, Code, Cx, Disposition, Method, Run, Server, ServerConfig, Status, Stub,
};

use crate::raw::{Ask, Raw, table};
use crate::support::{Answer, Gate, echo, leak, mem, plain, raw_server, run, status};

/// Every series by metric and labels, as a test reads them.
#[derive(Default)]
struct Seen(Vec<(String, u64)>);

impl Recorder for Seen {
    fn record(&mut self, sample: &Sample<'_>) {
        let value = match sample.value {
            Value::Counter(value) | Value::Gauge(value) => value,
            Value::Histogram(durations) => durations.count(),
            _ => panic!("a value of another kind"),
        };
        assert!(METRICS.contains(&sample.metric), "{} is not in the table", sample.metric.name);
        self.0.push((format!("{}{:?}", sample.metric.name, sample.labels), value));
    }
}

impl Seen {
    fn of(source: &dyn Source) -> Self {
        let mut seen = Self::default();
        source.report(&mut seen);
        let series: BTreeSet<&str> = seen.0.iter().map(|(series, _)| series.as_str()).collect();
        assert_eq!(series.len(), seen.0.len(), "no series twice");
        seen
    }

    fn get(&self, series: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| known == series).map(|(_, value)| *value)
    }
}

fn server_stats(stats: &[MethodStats], name: &str) -> MethodStats {
    stats.iter().find(|stats| &*stats.name == name).unwrap().clone()
}

fn client_stats(name: &str) -> CallStats {
    call_stats().into_iter().find(|stats| &*stats.name == name).unwrap()
}

/// The page has a row for every metric, with its kind, labels and meaning, and no other row.
#[test]
fn the_page_is_the_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let found: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();

    let expected: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let (name, kind) = (metric.name, metric.kind.as_str());
            format!("| `{name}` | {kind} | {} | {} |", metric.labels.join(", "), metric.meaning)
        })
        .collect();
    assert_eq!(found, expected);
}

/// A call's time is from the read of its request to its answer, whether its handler is ready at
/// once, waits in a task of its own, or is taken back: each started call is timed once. Shown on a
/// paused clock, where a handler sleeps 100 ms.
#[tokio::test(start_paused = true)]
async fn each_call_is_timed_once_however_it_runs() {
    async fn rest() -> Answer<u64> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Answer::Ok(7)
    }
    let slow = Method::infallible("it.Observe/slow", 1, |_cx: Cx, (): ()| rest());
    let task = Method::infallible("it.Observe/task", 1, |_cx: Cx, (): ()| rest()).run(Run::Spawn);
    let gate = Gate::default();
    let server = Server::new().method(echo()).method(slow).method(task);
    let (channel, dispatch, _server) = mem(server.method(gate.method("it.Observe/gated")));

    for n in 0..10 {
        assert_eq!(channel.call(crate::support::echo_stub(), n).await, Ok(n));
    }
    for name in ["it.Observe/slow", "it.Observe/task"] {
        assert_eq!(channel.call(plain::<(), u64>(name), ()).await, Ok(7));
    }
    let gated = channel.call(plain::<u64, u64>("it.Observe/gated"), 1);
    let late = gated.timeout(Duration::from_secs(3)).await;
    assert_eq!(status(late).code(), Code::DEADLINE_EXCEEDED);
    gate.left.reach(1).await;

    let stats = dispatch.stats();
    let echoed = server_stats(&stats, "it.Echo/echo");
    assert_eq!((echoed.ok, echoed.latency.count(), echoed.in_flight), (10, 10, 0));
    assert_eq!(echoed.latency.quantile(1.0), Some(Duration::from_micros(1)));
    for name in ["it.Observe/slow", "it.Observe/task"] {
        let rested = server_stats(&stats, name);
        assert_eq!((rested.ok, rested.latency.count()), (1, 1));
        let p50 = rested.latency.quantile(0.5).unwrap();
        assert!((100..=134).contains(&p50.as_millis()), "{name} {p50:?}");
        assert!(rested.latency.sum() >= Duration::from_millis(100), "{name}");
    }
    let gated = server_stats(&stats, "it.Observe/gated");
    assert_eq!((gated.cancelled, gated.latency.count()), (1, 1));
    assert!(gated.latency.quantile(0.5).unwrap() >= Duration::from_secs(3));
}

/// A client counts each call once, by what its caller saw, with its time up to the answer.
#[tokio::test(start_paused = true)]
async fn a_client_counts_what_its_callers_saw() {
    let gate = Gate::default();
    let says = |_cx: Cx, n: u64| async move {
        match n {
            0 => Ok(n),
            1 => Err(CallError::App("no".to_owned())),
            _ => Err(CallError::Rpc(Status::new(Code::NOT_FOUND, "gone"))),
        }
    };
    let server = Server::new().method(Method::new("it.Observed/says", 1, says));
    let (channel, _dispatch, _server) = mem(server.method(gate.method("it.Observed/gated")));
    let stub: &'static Stub<u64, u64, String> =
        leak(Stub::new("it.Observed/says", 1, Fingerprint::UNCHECKED));
    // A second stub of the same method, as another part of the program may have one.
    let twin: &'static Stub<u64, u64, String> =
        leak(Stub::new("it.Observed/says", 1, Fingerprint::UNCHECKED));

    for n in [0, 0, 1, 2, 2, 2] {
        let _result = channel.call(stub, n).await;
    }
    channel.call(twin, 0).await.unwrap();
    drop(channel.call(stub, 0)); // Never polled: no call.
    let gated = tokio::spawn(channel.call(plain::<u64, u64>("it.Observed/gated"), 1));
    gate.entered.reach(1).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    gated.abort();
    assert!(gated.await.unwrap_err().is_cancelled());

    let says = client_stats("it.Observed/says");
    assert_eq!((says.ok, says.app_errors, says.cancelled), (3, 1, 0));
    assert_eq!(says.failed.into_iter().collect::<Vec<_>>(), [(Code::NOT_FOUND, 3)]);
    assert_eq!(says.latency.count(), 7);
    let gated = client_stats("it.Observed/gated");
    assert_eq!((gated.ok, gated.cancelled, gated.latency.count()), (0, 1, 1));
    assert!(gated.latency.sum() >= Duration::from_secs(1));
    let seen = Seen::of(&ClientMetrics);
    let calls = |rest: &str| seen.get(&format!("switchback_client_calls_total{rest}"));
    assert_eq!(calls(r#"["it.Observed/says", "1", "ok", "OK"]"#), Some(3));
    assert_eq!(calls(r#"["it.Observed/says", "1", "failed", "NOT_FOUND"]"#), Some(3));
}

/// Retries and replays are counted apart; a code that nobody knows makes no label of its own, so
/// that a server cannot make a client's series grow. Shown by a server of bytes.
#[tokio::test(start_paused = true)]
async fn a_server_cannot_make_series() {
    let name = "it.Observed/codes";
    let (channel, mut raw) = raw_server(Channel::builder());
    let stub: &'static Stub<u64, u64, std::convert::Infallible> =
        leak(Stub::infallible(name, 1, Fingerprint::UNCHECKED));
    let calls = tokio::spawn(async move {
        for _ in 0..100 {
            status(channel.call(stub, 1).await);
        }
        channel.call(stub, 1).await
    });
    raw.greet_client(&table(&[(name, &[1])]), 8, 65_536).await;
    for code in 1000..1100 {
        let (call, ..) = raw.request().await;
        raw.answer(call, Code::from_u16(code), Disposition::Processed, &[]).await;
    }
    let (call, attempt) = raw.attempt().await;
    assert_eq!(attempt, 0);
    raw.answer(call, Code::OVERLOADED, Disposition::NotProcessed, &[]).await;
    let (call, attempt) = raw.attempt().await;
    assert_eq!(attempt, 1);
    raw.answer_ok(call, &[5]).await;
    assert_eq!(calls.await.unwrap(), Ok(5));

    let stats = client_stats(name);

    assert_eq!(stats.failed.into_iter().collect::<Vec<_>>(), [(Code::UNKNOWN, 100)]);
    assert_eq!((stats.ok, stats.retries, stats.replays), (1, 1, 0));
}

/// A24: 100,000 methods that there are not make one series more, if any: all are one count of one
/// status, and of the bytes a peer sent nothing is a label.
#[tokio::test]
async fn unknown_methods_make_no_series() {
    const UNKNOWN: u32 = 100_000;
    const GROUP: u32 = 500;
    let mut config = ServerConfig::default();
    config.conduct.errors = u32::MAX; // Else it is closed after a few: see patience.rs.
    let server = Server::new().method(echo()).config(config);
    let server = server.bind("tcp://127.0.0.1:0").await.unwrap();
    let metrics = server.metrics();
    let served = run(server);
    let mut raw = Raw::connect(&served.url).await;
    raw.greet_server().await;
    raw.ask(Ask::new(1, "it.None/first")).await;
    assert_eq!(raw.reply().await.status, Code::UNKNOWN_METHOD);
    let before = Seen::of(&metrics);

    let version = |n: u32| u16::try_from(1 + n % 60_000).unwrap();
    for group in 0..(UNKNOWN - 1).div_ceil(GROUP) {
        let mut bytes = Vec::new();
        let ids = (1..UNKNOWN).skip((group * GROUP) as usize).take(GROUP as usize);
        for n in ids.clone() {
            let name = format!("it.None/{n}");
            bytes.extend(Ask { version: version(n), ..Ask::new(1 + 2 * n, &name) }.to_bytes());
        }
        raw.write(&bytes).await;
        for _ in ids {
            assert_eq!(raw.reply().await.status, Code::UNKNOWN_METHOD);
        }
    }

    let after = Seen::of(&metrics);
    let names = |seen: &Seen| seen.0.iter().map(|(series, _)| series.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    let refused = after.get("switchback_server_refused_total[\"UNKNOWN_METHOD\"]");
    assert_eq!(refused, Some(UNKNOWN.into()));
    assert_eq!(after.get("switchback_server_connections[\"greeted\"]"), Some(1));
    assert!(!prometheus(&[&metrics]).contains("it.None"));
    drop(raw);
    drop(served.stop);
    served.drained.await.unwrap().unwrap();
    // What is reported goes on after the end, and every connection has ended with a reason.
    let end = Seen::of(&metrics);
    assert_eq!(end.get("switchback_server_connections[\"greeted\"]"), Some(0));
}

/// The answer's bytes are not looked at when a refusal is counted: a code that a handler's
/// conversion made up counts as UNKNOWN, one that is named under its name.
#[tokio::test]
async fn refusals_are_counted_by_code() {
    use switchback::service::Refusal;
    let method = Method::try_infallible("it.Observe/refuses", 1, |_cx: Cx, n: u16| {
        let future = std::future::ready(Answer::Ok(n));
        if n == 0 { Ok(future) } else { Err(Refusal::new(Code::from_u16(n), "no")) }
    });
    let server = Server::new().method(method).bind("tcp://127.0.0.1:0").await.unwrap();
    let metrics = server.metrics();
    let served = run(server);
    let mut raw = Raw::connect(&served.url).await; // A channel would try again.
    raw.greet_server().await;

    let payloads: [&[u8]; 5] = [&[0], &[10], &[30], &[31], &[0xfb, 0x88, 0x13]];
    for (call, payload) in (1..).step_by(2).zip(payloads) {
        raw.ask(Ask { payload, ..Ask::new(call, "it.Observe/refuses") }).await;
        raw.reply().await;
    }

    let seen = Seen::of(&metrics);
    let refused = |code| seen.get(&format!("switchback_server_refused_total[\"{code}\"]"));
    assert_eq!(refused("CONVERSION"), Some(1));
    assert_eq!(refused("UNKNOWN"), Some(3));
    let started = seen.get("switchback_server_calls_started_total[\"it.Observe/refuses\", \"1\"]");
    assert_eq!(started, Some(1));
}

/// The `metrics` crate is given the same figures: counters absolute, durations once each, however
/// often they are exported. Shown with metrics-util's own recorder.
#[cfg(feature = "metrics")]
#[tokio::test]
async fn the_facade_hands_over_each_call_once() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    use switchback::observe::Facade;

    let server = Server::new().method(echo()).bind("tcp://127.0.0.1:0").await.unwrap();
    let metrics = server.metrics();
    let served = run(server);
    let channel = Channel::connect(&served.url).await.unwrap();
    let recorder = DebuggingRecorder::new();
    let (snapshotter, mut facade) = (recorder.snapshotter(), Facade::new());
    let mut export = || {
        ::metrics::with_local_recorder(&recorder, || facade.export(&[&metrics]));
        let all = snapshotter.snapshot().into_vec();
        let of = |name: &str, label: &str| {
            let found = all.iter().find(|(key, ..)| {
                let key = key.key();
                let has = key.labels().any(|known| known.value() == label);
                key.name() == name && has
            });
            let (_, _, described, value) = found.unwrap();
            assert!(described.is_some(), "{name} is described");
            match value {
                DebugValue::Counter(count) => (*count, 0),
                DebugValue::Histogram(samples) => (0, samples.len()),
                DebugValue::Gauge(level) => panic!("{name} is no gauge: {level}"),
            }
        };
        let ended = of("switchback_server_calls_total", "ok").0;
        (ended, of("switchback_server_call_seconds", "it.Echo/echo").1)
    };

    for n in 0..5 {
        channel.call(crate::support::echo_stub(), n).await.unwrap();
    }
    assert_eq!(export(), (5, 5));
    channel.call(crate::support::echo_stub(), 5).await.unwrap();
    // The recorder forgets samples that it has shown: what comes is what is new.
    assert_eq!(export(), (6, 1));
    assert_eq!(export(), (6, 0));
}
