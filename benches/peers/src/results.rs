//! The results as lines of JSON: one object per peer, workload and runtime, medians over rounds.

use serde::Serialize;

use crate::fault::Fault;
use crate::load::Round;
use crate::row::Row;
use crate::workload::Kind;

/// A line. What was not measured is `null`.
#[derive(Serialize)]
struct Line<'a> {
    peer: &'a str,
    workload: &'a str,
    runtime: String,
    rate: Option<f64>,
    rate_min: Option<f64>,
    rate_max: Option<f64>,
    unit: &'a str,
    p50_us: f64,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    cpu_us_client: Option<f64>,
    cpu_us_server: Option<f64>,
    allocs_client: Option<f64>,
    allocs_server: Option<f64>,
    kib_per_conn: Option<f64>,
    rounds: usize,
}

/// All lines.
///
/// # Errors
/// None that a number can cause.
pub fn text(rows: &[Row]) -> Result<String, Fault> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(&line(row))?);
        text.push('\n');
    }
    Ok(text)
}

fn line(row: &Row) -> Line<'_> {
    let is_busy = row.workload.kind != Kind::Idle;
    let is_alone = row.workload.is_alone();
    let busy = |what: fn(&Round) -> f64| is_busy.then(|| rounded(row.median(what)));
    let rate = row.spread(|round| round.rate);
    let counted = |what: fn(&Round) -> f64| row.counted.as_ref().map(|round| rounded(what(round)));
    Line {
        peer: &row.peer,
        workload: row.workload.name,
        runtime: row.flavour.to_string(),
        rate: is_busy.then_some(rounded(rate.median)),
        rate_min: is_busy.then_some(rounded(rate.min)),
        rate_max: is_busy.then_some(rounded(rate.max)),
        unit: row.workload.unit(),
        p50_us: rounded(row.median(|round| round.p50_us)),
        p99_us: busy(|round| round.p99_us),
        p999_us: busy(|round| round.p999_us),
        cpu_us_client: is_alone.then(|| rounded(row.median(|round| round.cpu_us_client))),
        cpu_us_server: is_alone.then(|| rounded(row.median(|round| round.cpu_us_server))),
        allocs_client: counted(|round| round.allocs_client),
        allocs_server: counted(|round| round.allocs_server),
        kib_per_conn: row.kib_per_connection().map(|spread| rounded(spread.median)),
        rounds: row.rounds.len(),
    }
}

/// To a thousandth: more would be noise.
fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}
