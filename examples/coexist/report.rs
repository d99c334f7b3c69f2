//! The result as a person reads it, and as a program does.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::director::Seen;
use crate::judge::{Cell, around_changes, doubled, downloads, matrix};
use crate::loss::{Ending, Loss};
use crate::plan::{Action, CHANGES};
use crate::show::{thousands, time};
use crate::words::{Failed, Latency};

/// Prints tables and verdict.
///
/// # Errors
/// If nobody takes them.
pub(crate) fn print(seen: &Seen, faults: &[String], out: &mut impl Write) -> io::Result<()> {
    let rule = "-".repeat(78);
    writeln!(out, "client  server  version      calls        p50        p99  errors")?;
    writeln!(out, "{rule}")?;
    for cell in matrix(seen) {
        let (client, server) = (cell.client.name(), cell.server.name());
        let version = if cell.version == 0 { "none".to_owned() } else { cell.version.to_string() };
        let (p50, p99) = cell.latency.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |Latency { p50_us, p99_us }| (time(p50_us), time(p99_us)),
        );
        let (calls, errors) = (thousands(cell.calls), errors_of(&cell));
        let line = format!("{client:<8}{server:<8}{version:<8}{calls:>10}{p50:>11}{p99:>11}");
        writeln!(out, "{line}  {errors}")?;
    }
    writeln!(out)?;
    print_changes(seen, out)?;
    writeln!(out)?;
    print_endings(seen, out)?;
    writeln!(out)?;
    write!(out, "{}", seen.verdict)?;
    writeln!(out)?;
    let (calls, took) = (thousands(seen.verdict.calls), time(seen.took_us));
    if faults.is_empty() {
        let downloads = thousands(downloads(seen));
        let errors = thousands(seen.verdict.errors.values().sum());
        writeln!(out, "good: {calls} calls in {took}, none lost, none executed twice;")?;
        writeln!(out, "      {downloads} downloads answered, each counted once;")?;
        writeln!(out, "      {errors} errors, each of them explained by the kill")?;
    } else {
        let (count, s) = (faults.len(), if faults.len() == 1 { "" } else { "s" });
        writeln!(out, "bad: {calls} calls in {took}, {count} fault{s}")?;
        for fault in faults {
            writeln!(out, "  {fault}")?;
        }
    }
    Ok(())
}

fn print_changes(seen: &Seen, out: &mut impl Write) -> io::Result<()> {
    let rule = "-".repeat(78);
    writeln!(
        out,
        "changes, and the calls that were made       client v1,  client v2,  client v2,"
    )?;
    writeln!(out, "to that server around them                  version 1   version 1   version 2")?;
    writeln!(out, "{rule}")?;
    for (change, around) in CHANGES.iter().zip(around_changes(seen)) {
        writeln!(out, "server {}: {}", change.server.name(), change.text)?;
        let rows =
            [("before", around.before), ("meanwhile", around.meanwhile), ("after", around.after)];
        for (when, counts) in rows {
            let [old, new_in_1, new_in_2] = counts.map(thousands);
            writeln!(out, "  {when:<39}{old:>12}{new_in_1:>12}{new_in_2:>12}")?;
        }
    }
    Ok(())
}

/// What became of the calls when a server process ended.
fn print_endings(seen: &Seen, out: &mut impl Write) -> io::Result<()> {
    let rule = "-".repeat(78);
    writeln!(out, "server processes that ended under traffic")?;
    writeln!(out, "{rule}")?;
    for (ending, loss) in &seen.endings {
        let is_kill = ending.action == Action::Kill;
        let how = if is_kill { "killed with SIGKILL" } else { "drained, exit code 0" };
        let (of, after) = (ending.instance, ending.successor);
        let over = time(ending.over_us - ending.begun_us);
        writeln!(out, "process {of} {how}; process {after} at its address after {over}")?;
        let mut row =
            |what: &str, count: u64| writeln!(out, "  {what:<63}{:>12}", thousands(count));
        row("calls in flight when it began", loss.in_flight)?;
        row("calls in flight or made until the successor listened", loss.calls_during)?;
        row("errors", loss.errors.values().sum())?;
        if is_kill {
            row("  idempotent calls", loss.idempotent_failed)?;
            row("  other calls, their outcome unknown, explained by the kill", loss.explained)?;
            row("    of them executed, or begun, as the killed one wrote down", loss.executed)?;
            row("idempotent calls tried again by the successor, and answered", loss.tried_again)?;
        }
    }
    Ok(())
}

fn errors_of(cell: &Cell<'_>) -> String {
    if !cell.errors.is_empty() {
        let each = cell.errors.iter().map(|failed| format!("{} {}", failed.calls, failed.kind));
        return each.collect::<Vec<_>>().join(", ");
    }
    let text = if cell.is_possible() { "0" } else { "(cannot be)" };
    text.to_owned()
}

/// The result in one line.
pub(crate) fn json(seen: &Seen, faults: &[String]) -> Value {
    let matrix: Vec<Value> = matrix(seen).iter().map(cell_json).collect();
    let mut errors = serde_json::Map::new();
    for failed in seen.clients.iter().flat_map(|report| &report.errors) {
        add_error(&mut errors, failed);
    }
    let changes: Vec<Value> = CHANGES
        .iter()
        .zip(around_changes(seen))
        .map(|(change, around)| {
            let by_client = |[old, new_in_1, new_in_2]: [u64; 3]| {
                json!({ "v1": old, "v2_in_1": new_in_1, "v2_in_2": new_in_2 })
            };
            json!({
                "change": change.name,
                "before": by_client(around.before),
                "meanwhile": by_client(around.meanwhile),
                "after": by_client(around.after),
            })
        })
        .collect();
    let ended = |action| seen.endings.iter().find(|(ending, _)| ending.action == action);
    json!({
        "calls": seen.verdict.calls,
        "ok": seen.verdict.ok,
        "not_idempotent": downloads(seen),
        "errors": errors,
        "lost": seen.verdict.lost,
        "doubled": doubled(seen),
        "matrix": matrix,
        "changes": changes,
        "drained": ended(Action::Drain).map(ending_json),
        "killed": ended(Action::Kill).map(ending_json),
        "faults": faults,
        "took_ms": seen.took_us / 1000,
    })
}

fn ending_json((ending, loss): &(Ending, Loss)) -> Value {
    let took_ms = (ending.over_us - ending.begun_us) / 1000;
    if ending.action != Action::Kill {
        return json!({
            "in_flight": loss.in_flight,
            "calls_during": loss.calls_during,
            "errors": loss.errors.values().sum::<u64>(),
            "took_ms": took_ms,
        });
    }
    json!({
        "in_flight": loss.in_flight,
        "calls_during": loss.calls_during,
        "tried_again": loss.tried_again,
        "errors": loss.errors,
        "explained": loss.explained,
        "executed": loss.executed,
        "took_ms": took_ms,
    })
}

fn cell_json(cell: &Cell<'_>) -> Value {
    let mut errors = serde_json::Map::new();
    cell.errors.iter().for_each(|failed| add_error(&mut errors, failed));
    json!({
        "client": cell.client.name(),
        "server": cell.server.name(),
        "version": cell.version,
        "calls": cell.calls,
        "errors": errors,
        "p50_us": cell.latency.map(|latency| latency.p50_us),
        "p99_us": cell.latency.map(|latency| latency.p99_us),
    })
}

fn add_error(errors: &mut serde_json::Map<String, Value>, failed: &Failed) {
    let before = errors.get(&failed.kind).and_then(Value::as_u64).unwrap_or(0);
    errors.insert(failed.kind.clone(), (before + failed.calls).into());
}
