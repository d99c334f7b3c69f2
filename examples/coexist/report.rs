//! The result as a person reads it, and as a program does.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::director::Seen;
use crate::judge::{Cell, around_changes, doubled, matrix};
use crate::plan::CHANGES;
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
    write!(out, "{}", seen.verdict)?;
    writeln!(out)?;
    let (calls, took) = (thousands(seen.verdict.calls), time(seen.took_us));
    if faults.is_empty() {
        let downloads = thousands(seen.servers.iter().map(|server| server.downloads).sum());
        writeln!(out, "good: {calls} calls in {took}, none lost, none executed twice, no error;")?;
        writeln!(out, "      {downloads} downloads, each counted once")?;
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
        "changes to server v2, and the calls         client v1,  client v2,  client v2,"
    )?;
    writeln!(out, "that were made around them                  version 1   version 1   version 2")?;
    writeln!(out, "{rule}")?;
    for (change, around) in CHANGES.iter().zip(around_changes(seen)) {
        writeln!(out, "{}", change.text)?;
        let rows =
            [("before", around.before), ("meanwhile", around.meanwhile), ("after", around.after)];
        for (when, counts) in rows {
            let [old, new_in_1, new_in_2] = counts.map(thousands);
            writeln!(out, "  {when:<39}{old:>12}{new_in_1:>12}{new_in_2:>12}")?;
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
    let downloads: u64 = seen.servers.iter().map(|server| server.downloads).sum();
    json!({
        "calls": seen.verdict.calls,
        "ok": seen.verdict.ok,
        "not_idempotent": downloads,
        "errors": errors,
        "lost": seen.verdict.lost,
        "doubled": doubled(seen),
        "matrix": matrix,
        "changes": changes,
        "faults": faults,
        "took_ms": seen.took_us / 1000,
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
