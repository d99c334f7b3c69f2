//! What switchback is to reach, and whether it did.
//!
//! A missed target is a line in the report and no failure of the run; those whose peers or
//! workloads were not run are listed in the end.

use std::fmt::Write;

use crate::fault::Fault;
use crate::load::Round;
use crate::row::{Row, Spread, find};
use crate::runtime::Flavour::{self, Ct, Mt2};
use crate::sends::Sends;
use crate::table::times;
use crate::workload::BASE;

/// A line of the list.
struct Target {
    what: String,
    bound: Bound,
    measured: Option<Spread>,
}

/// What the median must keep to.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// The list.
///
/// # Errors
/// None that a number can cause.
pub fn text(rows: &[Row], sends: &[Sends]) -> Result<String, Fault> {
    let mut out = "\ntargets of switchback\n".to_owned();
    let mut left_out = Vec::new();
    for Target { what, bound, measured } in all(rows, sends) {
        let Some(spread) = measured else {
            left_out.push(what);
            continue;
        };
        let (sign, wanted) = match bound {
            Bound::AtLeast(wanted) => (">=", wanted),
            Bound::AtMost(wanted) => ("<=", wanted),
        };
        let is_reached = match bound {
            Bound::AtLeast(wanted) => spread.median >= wanted,
            Bound::AtMost(wanted) => spread.median <= wanted,
        };
        let verdict = if is_reached { "reached" } else { "MISSED" };
        writeln!(out, "  {what:62} {sign} {wanted:5.2}  {:24} {verdict}", figure(spread))?;
    }
    if !left_out.is_empty() {
        writeln!(out, "  not measured in this run: {}", left_out.join("; "))?;
    }
    Ok(out)
}

fn figure(spread: Spread) -> String {
    times(spread).replacen('x', "", 1)
}

fn all(rows: &[Row], sends: &[Sends]) -> Vec<Target> {
    let mut targets = rates(rows);
    targets.extend(bodies(rows));
    targets.extend(costs(rows, sends));
    targets
}

/// How much faster than others.
fn rates(rows: &[Row]) -> Vec<Target> {
    const FASTER: [(&str, Flavour, &str, f64); 12] = [
        ("1", Mt2, "tarpc", 1.45),
        ("1", Mt2, "tonic", 4.3),
        ("1", Mt2, "limit", 0.85),
        ("64", Mt2, "tarpc", 5.0),
        ("64", Mt2, "tonic", 16.0),
        ("64", Ct, "tarpc", 4.5),
        ("64", Ct, "tonic", 28.0),
        ("512", Mt2, "tarpc", 8.0),
        ("512", Mt2, "tonic", 33.0),
        ("512", Ct, "tarpc", 7.0),
        ("16x32", Mt2, "tarpc", 5.0),
        ("16x32", Mt2, "tonic", 25.0),
    ];
    let mut targets: Vec<Target> = FASTER
        .iter()
        .map(|&(workload, flavour, peer, wanted)| Target {
            what: format!("{workload}, {flavour}: calls/s over {peer}'s"),
            bound: Bound::AtLeast(wanted),
            measured: ratio(rows, workload, flavour, peer, |round| round.rate),
        })
        .collect();
    targets.push(Target {
        what: "1, mt2: p50 over raw's".to_owned(),
        bound: Bound::AtMost(1.05),
        measured: ratio(rows, "1", Mt2, "raw", |round| round.p50_us),
    });
    targets
}

/// Large bodies, and what they cost small calls.
fn bodies(rows: &[Row]) -> Vec<Target> {
    let mut targets = Vec::new();
    for (workload, over_best) in [("64k", 1.3), ("1m", 1.6)] {
        targets.push(Target {
            what: format!("{workload}, mt2: MiB/s over the best peer's"),
            bound: Bound::AtLeast(over_best),
            measured: over_the_best(rows, workload),
        });
        targets.push(Target {
            what: format!("{workload}, mt2: MiB/s over limit's"),
            bound: Bound::AtLeast(0.65),
            measured: ratio(rows, workload, Mt2, "limit", |round| round.rate),
        });
    }
    let both = ours(rows, "4+up").zip(ours(rows, "4"));
    targets.push(Target {
        what: "4+up, mt2: p99 beside an upload over p99 without".to_owned(),
        bound: Bound::AtMost(2.0),
        measured: both.map(|(beside, alone)| beside.ratio(alone, |round| round.p99_us)),
    });
    targets
}

/// What a call and a connection cost.
fn costs(rows: &[Row], sends: &[Sends]) -> Vec<Target> {
    let cpu = |round: &Round| round.cpu_us_client + round.cpu_us_server;
    let mine = sends.iter().find(|sends| sends.peer == US);
    let counted = ours(rows, "bytes").and_then(|row| row.counted.as_ref());
    // The user's own: the body of the request at the server, that of the answer at the client.
    let transport = |allocs: f64| Spread::of([(allocs - 1.0).max(0.0)]);
    vec![
        Target {
            what: "64, mt2: CPU of both processes over tarpc's".to_owned(),
            bound: Bound::AtMost(0.2),
            measured: ratio(rows, BASE, Mt2, "tarpc", cpu),
        },
        Target {
            what: "64, mt2: sends per call, client and server".to_owned(),
            bound: Bound::AtMost(0.1),
            measured: mine.and_then(|sends| Spread::of([sends.client + sends.server])),
        },
        Target {
            what: "idle, mt2: KiB of server memory per connection".to_owned(),
            bound: Bound::AtMost(6.5),
            measured: ours(rows, "idle").and_then(Row::kib_per_connection),
        },
        Target {
            what: "bytes, mt2: allocations per call, client, less 1 of the user's".to_owned(),
            bound: Bound::AtMost(ALLOCS_NONE),
            measured: counted.and_then(|round| transport(round.allocs_client)),
        },
        Target {
            what: "bytes, mt2: allocations per call, server, less 1 of the user's".to_owned(),
            bound: Bound::AtMost(1.0 + ALLOCS_NONE),
            measured: counted.and_then(|round| transport(round.allocs_server)),
        },
    ]
}

fn ours<'a>(rows: &'a [Row], workload: &str) -> Option<&'a Row> {
    find(rows, US, workload, Mt2)
}

fn ratio(
    rows: &[Row],
    workload: &str,
    flavour: Flavour,
    peer: &str,
    what: impl Fn(&Round) -> f64,
) -> Option<Spread> {
    let mine = find(rows, US, workload, flavour)?;
    Some(mine.ratio(find(rows, peer, workload, flavour)?, what))
}

/// Our rate over that of whichever peer was the best in the round; `limit` is no peer.
fn over_the_best(rows: &[Row], workload: &str) -> Option<Spread> {
    let mine = ours(rows, workload)?;
    let peers: Vec<&Row> = rows
        .iter()
        .filter(|row| row.workload == mine.workload && row.flavour == mine.flavour)
        .filter(|row| row.peer != US && row.peer != "limit")
        .collect();
    if peers.is_empty() {
        return None;
    }
    Spread::of(mine.rounds.iter().enumerate().map(|(at, round)| {
        let best = peers.iter().map(|row| row.rounds[at].rate).fold(0.0, f64::max);
        round.rate / best
    }))
}

const US: &str = "switchback";
/// A round begins and ends with a few allocations that are no call's.
const ALLOCS_NONE: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    fn row(peer: &str, workload: &str, rates: [f64; 3]) -> Row {
        let rounds = rates.map(|rate| Round { rate, ..Round::default() }).to_vec();
        let workload = Workload::named(workload).expect("listed");
        Row { peer: peer.to_owned(), workload, flavour: Mt2, rounds, counted: None }
    }

    /// The best peer may be another one in each round, and `limit` is none.
    #[test]
    fn the_best_peer_is_that_of_the_round() {
        let rows = [
            row(US, "64k", [10.0, 10.0, 10.0]),
            row("limit", "64k", [99.0, 99.0, 99.0]),
            row("raw", "64k", [5.0, 2.0, 10.0]),
            row("tarpc", "64k", [1.0, 4.0, 1.0]),
        ];

        assert_eq!(over_the_best(&rows, "64k"), Some(Spread { min: 1.0, median: 2.0, max: 2.5 }));
        assert_eq!(over_the_best(&rows[..2], "64k"), None);
    }

    /// Reached, missed, not run: three different words.
    #[test]
    fn every_target_has_a_verdict() {
        let rows = [
            row(US, "64", [10.0, 10.0, 10.0]),
            row("tarpc", "64", [1.0, 1.0, 1.0]),
            row("tonic", "64", [5.0, 5.0, 5.0]),
        ];
        let text = text(&rows, &[]).expect("numbers");
        let verdict = |what: &str| {
            let line = text.lines().find(|line| line.contains(what));
            line.expect("listed").to_owned()
        };

        assert!(verdict("64, mt2: calls/s over tarpc's").ends_with("reached"));
        assert!(verdict("64, mt2: calls/s over tonic's").ends_with("MISSED"));
        let not_run = verdict("512, mt2: calls/s over tonic's");
        assert!(not_run.trim_start().starts_with("not measured in this run"));
    }
}
