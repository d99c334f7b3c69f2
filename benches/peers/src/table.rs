//! The report: what was run and how, the table, the targets.

use std::fmt::Write;

use crate::fault::Fault;
use crate::load::Round;
use crate::peers::{self, About, Ask};
use crate::row::{Row, Spread, find};
use crate::run::Plan;
use crate::runtime::Flavour;
use crate::sends::Sends;
use crate::targets;
use crate::workload::{BASE, Kind};

/// Peers that every row is compared with.
const AGAINST: [&str; 4] = ["limit", "raw", "tarpc", "tonic"];

/// The whole report.
///
/// # Errors
/// If a peer cannot be asked about itself.
pub fn text(plan: &Plan, rows: &[Row], sends: &[Sends]) -> Result<String, Fault> {
    let mut out = String::new();
    let abouts = abouts(&plan.peers)?;
    head(&mut out, plan, &abouts)?;
    for chunk in rows.chunk_by(|one, other| one.flavour == other.flavour) {
        let flavour = chunk[0].flavour;
        writeln!(out, "\nruntime {flavour}: {}; {}", flavour.meaning(), plan.cores)?;
        for group in chunk.chunk_by(|one, other| one.workload == other.workload) {
            let workload = group[0].workload;
            writeln!(out, "\n{}: {}", workload.name, workload.meaning())?;
            match workload.kind {
                Kind::Idle => idle(&mut out, group)?,
                _ => busy(&mut out, group, rows)?,
            }
        }
    }
    if !sends.is_empty() {
        writeln!(out, "\nsends per call, 64 in flight, mt2, under strace")?;
        for Sends { peer, client, server } in sends {
            writeln!(out, "  {peer:11} client {client:7.4}  server {server:7.4}")?;
        }
    }
    notes(&mut out, &abouts)?;
    out.push_str(&targets::text(rows, sends)?);
    Ok(out)
}

fn head(out: &mut String, plan: &Plan, abouts: &[(&str, About)]) -> Result<(), Fault> {
    let versions = abouts.iter().flat_map(|(_, about)| about.crates).map(|name| version(name));
    let versions: Vec<String> = versions.collect::<Result<_, _>>()?;
    writeln!(out, "{}", versions.join(", "))?;
    let cores = std::thread::available_parallelism()?;
    let (processor, kernel, load) = (processor()?, kernel()?, plan.machine_load);
    writeln!(out, "{processor}, {cores} cores, Linux {kernel}, load {load:.2} before the run")?;
    writeln!(
        out,
        "Server and client are two processes on 127.0.0.1 with TCP_NODELAY. {} rounds of {} ms\n\
         after {} ms of warm-up, peers interleaved. Figures are medians over the rounds, [lowest\n\
         .. highest]; ratios are medians of the ratios inside each round. CPU in us per call,\n\
         which is s per million calls. Allocations per call are those of the whole process, in\n\
         one round of its own. p50, p99, p999 in us.",
        plan.rounds,
        plan.measured.as_millis(),
        plan.warm_up.as_millis(),
    )?;
    Ok(())
}

fn busy(out: &mut String, group: &[Row], rows: &[Row]) -> Result<(), Fault> {
    let unit = group[0].workload.unit();
    writeln!(
        out,
        "  {:11} {:>10} {:>24} {:>8} {:>8} {:>8} {:>15} {:>13}  x limit   x raw x tarpc x tonic",
        "", unit, "", "p50", "p99", "p999", "CPU cl/sv", "allocs cl/sv",
    )?;
    for row in group {
        let rate = row.spread(|round| round.rate);
        let span = format!("[{} .. {}]", figure(rate.min), figure(rate.max));
        let allocs = row.counted.as_ref().map_or_else(
            || DASH.to_owned(),
            |counted| format!("{:.2}/{:.2}", counted.allocs_client, counted.allocs_server),
        );
        let client_us = row.median(|round| round.cpu_us_client);
        let server_us = row.median(|round| round.cpu_us_server);
        let cpu = match row.workload.is_alone() {
            true => format!("{client_us:.2}/{server_us:.2}"),
            false => DASH.to_owned(),
        };
        write!(
            out,
            "  {:11} {:>10} {span:>24} {:>8.1} {:>8.1} {:>8.1} {cpu:>15} {allocs:>13} ",
            row.peer,
            figure(rate.median),
            row.median(|round| round.p50_us),
            row.median(|round| round.p99_us),
            row.median(|round| round.p999_us),
        )?;
        for peer in AGAINST {
            let other = find(rows, peer, row.workload.name, row.flavour);
            let ratio = match other {
                Some(other) if peer != row.peer => {
                    format!("{:.2}", row.ratio(other, |round| round.rate).median)
                }
                _ => DASH.to_owned(),
            };
            write!(out, " {ratio:>7}")?;
        }
        writeln!(out, "{}", beside(row, rows))?;
    }
    Ok(())
}

/// What was done beside the calls, and what it cost.
fn beside(row: &Row, rows: &[Row]) -> String {
    let mut text = String::new();
    let base = match row.workload.kind {
        Kind::Upload => {
            let upload = row.median(|round| round.upload_mib_per_second);
            text = format!("  beside {upload:.0} MiB/s");
            "4"
        }
        Kind::Cancel | Kind::Late => {
            let aside = row.median(|round| round.aside_per_call) * 100.0;
            text = format!("  {aside:.2} % aside");
            BASE
        }
        _ if row.workload.flooded => BASE,
        _ => return text,
    };
    if let Some(base_row) = find(rows, &row.peer, base, row.flavour) {
        let ratio = row.ratio(base_row, |round| round.p99_us);
        text.push_str(&format!("  p99 {} of `{base}`", times(ratio)));
    }
    text
}

fn idle(out: &mut String, group: &[Row]) -> Result<(), Fault> {
    writeln!(out, "  {:11} {:>14}  one more call, us", "", "KiB/connection")?;
    for row in group {
        let kib = row.kib_per_connection().ok_or_else(|| Fault::new("no memory".to_owned()))?;
        let span = format!("[{:.1} .. {:.1}]", kib.min, kib.max);
        let call = row.median(|round: &Round| round.p50_us);
        writeln!(out, "  {:11} {:>14.1}  {call:>17.0}  {span}", row.peer, kib.median)?;
    }
    Ok(())
}

fn notes(out: &mut String, abouts: &[(&str, About)]) -> Result<(), Fault> {
    writeln!(out)?;
    for (peer, about) in abouts.iter().filter(|(_, about)| !about.note.is_empty()) {
        writeln!(out, "{peer}: {}", about.note)?;
    }
    Ok(())
}

fn abouts(names: &[String]) -> Result<Vec<(&str, About)>, Fault> {
    let ask = |name| Ok((name, Flavour::Ct.run(peers::visit(name, Ask))??));
    names.iter().map(String::as_str).map(ask).collect()
}

/// A ratio with its spread.
pub fn times(spread: Spread) -> String {
    format!("{:.2}x [{:.2} .. {:.2}]", spread.median, spread.min, spread.max)
}

/// A figure with as many digits as it has meaning.
fn figure(figure: f64) -> String {
    match figure {
        figure if figure >= 1e6 => format!("{:.2}M", figure / 1e6),
        figure if figure >= 1e4 => format!("{:.1}k", figure / 1e3),
        figure => format!("{figure:.0}"),
    }
}

/// A crate and its version, from the lock file that this program was built with.
fn version(name: &str) -> Result<String, Fault> {
    let lines: Vec<&str> = LOCK.lines().collect();
    let named = format!("name = \"{name}\"");
    let version = lines.windows(2).find_map(|pair| {
        (pair[0] == named).then(|| pair[1].trim_start_matches("version = ").trim_matches('"'))
    });
    let version = version.ok_or_else(|| Fault::new(format!("{name} is not in Cargo.lock")))?;
    Ok(format!("{name} {version}"))
}

fn processor() -> Result<String, Fault> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned());
    Ok(name.unwrap_or_else(|| "a processor without a name".to_owned()))
}

fn kernel() -> Result<String, Fault> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned())
}

const LOCK: &str = include_str!("../Cargo.lock");
const DASH: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    /// Each peer of the build names crates that are in the lock file.
    #[test]
    fn versions_are_found() {
        for name in peers::NAMES {
            let about = abouts(&[(*name).to_owned()]).expect("a peer of the build")[0].1;
            for name in about.crates {
                let version = version(name).expect("locked");
                assert!(version.contains('.'), "{version}");
            }
        }
        assert!(version("no-such-crate").is_err());
    }
}
