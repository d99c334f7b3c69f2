//! `bench`: load and its report, interrupted, and left alone by its server.

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use serde_json::Value;

use crate::program::{ended, program, ran, signal};
use crate::served::{bank, double, math};

/// So many calls, no more; a screen with percentiles and a histogram, a document that agrees with
/// itself.
#[test]
fn calls_are_counted() {
    let served = math([double::<u64>(1)]);
    let arguments = ["bench", &served.url, "demo.Math/double", "7", "--calls", "500"];
    let screen = ran(&arguments).ended(0);
    for part in ["500 calls ok in", " 0 failed", "p99.9", "from when it was sent", " % #", "to "] {
        assert!(screen.contains(part), "{part:?} is not in:\n{screen}");
    }
    let more = ["--in-flight", "3", "--connections", "2", "--json"];
    let json = ran(&[&arguments[..], &more[..]].concat()).json(0);
    assert_eq!((&json["ok"], &json["due_not_sent"]), (&500.into(), &Value::Null));
    let buckets = json["histogram"].as_array().unwrap();
    assert_eq!(buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum::<u64>(), 500);
    let us = |name: &str| json["latency_us"][name].as_f64().unwrap();
    assert!(us("min") > 0.0 && us("min") <= us("p50") && us("p50") <= us("max"), "{json}");
}

/// At a rate calls are made when they are due: fifty at a thousand in a second take 49 ms at
/// least. A rate that is not reached is told, and what waited is counted from when it was due.
#[test]
fn a_rate_is_kept() {
    let served = math([double::<u64>(1)]);
    let arguments = ["bench", &served.url, "demo.Math/double", "7", "--json", "--rate", "1000"];
    let json = ran(&[&arguments[..], &["--calls", "50"][..]].concat()).json(0);
    assert_eq!((&json["ok"], &json["from_due"]), (&50.into(), &true.into()));
    assert!(json["seconds"].as_f64().unwrap() >= 0.049, "{json}");

    let served = bank();
    let slow = [
        "bench",
        &served.url,
        "bank.Ledger/count",
        r#"{"name":"","children":[]}"#,
        "--json",
        "--rate",
        "10000000",
        "--in-flight",
        "1",
        "--duration",
        "200ms",
    ];
    let json = ran(&slow).json(0);
    assert!(json["due_not_sent"].as_u64().unwrap() > 0, "{json}");
    // The last ones were due long before they were sent: far above a call's own time.
    assert!(json["latency_us"]["max"].as_f64().unwrap() > 100_000.0, "{json}");
}

/// Calls that fail make it exit code 1, and are listed by code.
#[test]
fn failures_are_listed() {
    let served = bank();
    let request = r#"{"lines":[{"to":"nobody","cents":1}],"mode":"Now"}"#;
    let arguments = ["bench", &served.url, "bank.Ledger/transfer", request, "--calls", "20"];
    let screen = ran(&arguments).ended(1);
    assert!(screen.contains("20  the method's own error"), "{screen}");

    let wrong = ran(&["bench", &served.url, "bank.Ledger/transfer", "{}"]);
    wrong.failed(2, &["the field \"lines\" is missing"]);
    let never = ["bench", &served.url, "bank.Ledger/never", "--timeout", "200ms"];
    ran(&never).failed(4, &["DEADLINE_EXCEEDED"]);
}

/// Ctrl-C in the middle ends it at once with what there is, exit code 130. The signal is sent when
/// the first line of progress is there.
#[test]
fn ctrl_c_in_the_middle_prints_what_there_is() {
    let served = math([double::<u64>(1)]);
    for more in [&[][..], &["--rate", "100"][..]] {
        let mut arguments = vec!["bench", &served.url, "demo.Math/double", "7", "--duration", "1h"];
        arguments.extend_from_slice(more);
        let mut child = program(&arguments).spawn().unwrap();
        let err = second_line(&mut child);
        assert!(err.contains(" ok  0 failed  p50 "), "{err}");
        signal("INT", child.id());
        let screen = ended(child).ended(130);
        assert!(screen.starts_with("interrupted; what there is:\n"), "{screen}");
        assert!(screen.contains(" calls ok in ") && screen.contains("p99.9"), "{screen}");
    }
}

/// A server that dies in the middle does not hang it: it ends by itself some seconds later, with
/// what there is, the errors by code, and exit code 3.
#[test]
fn a_server_that_dies_in_the_middle_ends_it() {
    let served = math([double::<u64>(1)]);
    let arguments = ["bench", &served.url, "demo.Math/double", "7", "--duration", "1h"];
    let mut child = program(&arguments).spawn().unwrap();
    second_line(&mut child);
    drop(served);
    let screen = ended(child).ended(3);
    assert!(screen.starts_with("ended early: the server is gone"), "{screen}");
    assert!(screen.contains("  NOT_CONNECTED") && screen.contains("p99.9"), "{screen}");
}

/// Waits for the first line of progress, the second of standard error; the rest is read by nobody
/// but must not fill the pipe.
fn second_line(child: &mut Child) -> String {
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        err.read_line(&mut line).unwrap();
    }
    std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
    line
}
