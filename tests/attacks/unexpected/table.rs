//! The table: what is judged of a row, its line, and the summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::unexpected::data::{Side, Then};
use crate::unexpected::measure::Stood;
use crate::victim::Harm;

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) lines: Vec<Line>,
    pub(crate) stands: Vec<Stood>,
    /// Rows that are held in memory only.
    pub(crate) left_out: Vec<(String, Side)>,
}

/// A row against one side.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) side: Side,
    pub(crate) result: String,
    /// How the process counted the ends of the row's connections.
    pub(crate) counted: BTreeMap<String, u64>,
    pub(crate) times: usize,
    pub(crate) peak_kib: u64,
    pub(crate) growth_kib: i64,
    pub(crate) harm: Harm,
    pub(crate) p99_max: Duration,
    pub(crate) faults: Vec<String>,
}

/// A column's name and what stands in it.
type Column = (&'static str, fn(&Line) -> i64);

impl Line {
    /// A fault unless `holds`.
    pub(crate) fn check(mut self, holds: bool, fault: impl Into<String>) -> Self {
        if !holds {
            self.faults.push(fault.into());
        }
        self
    }

    /// Judges what was measured: of handlers that ran and of calls that were said to be
    /// executed, of memory, of the counters, of the victim.
    pub(crate) fn judge(self, width: usize, then: &Then, ran: (Option<u64>, u64)) -> Self {
        let times = self.times as u64;
        let peak_kib_max = PEAK_KIB_MAX + width as u64 * PEAK_KIB_EACH;
        let is_counted = match then {
            Then::Close { close, .. } => self.counted == BTreeMap::from([(close.clone(), times)]),
            Then::End { .. } | Then::Open { .. } => self.counted.values().sum::<u64>() == times,
        };
        let ran_right = match (then, ran) {
            (Then::Open { .. }, (Some(ran), processed)) => ran == processed,
            _ => true,
        };
        let (peak_kib, growth_kib) = (self.peak_kib, self.growth_kib);
        let Harm { calls, errors, p99, .. } = self.harm;
        let (p99_max, said) = (self.p99_max, self.harm.first_error.clone());
        self.check(is_counted, format!("not {times} ends as they should be counted"))
            .check(ran_right, format!("handlers that ran, and calls executed: {ran:?}"))
            .check(peak_kib <= peak_kib_max, format!("a peak above {peak_kib_max} KiB"))
            .check(growth_kib <= GROWTH_KIB_MAX, format!("growth above {GROWTH_KIB_MAX} KiB"))
            .check(errors == 0, format!("victim: {said}"))
            .check(calls >= VICTIM_CALLS_MIN, "too few calls of the victim")
            .check(p99 <= p99_max, format!("the victim waited more than {p99_max:.1?}"))
    }

    fn side(&self) -> &'static str {
        match self.side {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Harm { calls, errors, p50, p99, max, .. } = self.harm;
        let [p50, p99, max] = [p50, p99, max].map(|time| time.as_micros());
        let counted: Vec<String> =
            self.counted.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let verdict =
            if self.faults.is_empty() { "pass".to_owned() } else { self.faults.join("; ") };
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {calls} | {p50} | {p99} | {max} | {errors} | \
             {verdict} |",
            self.id,
            self.side(),
            self.result.replace('|', "/"),
            counted.join(", "),
            self.times,
            self.peak_kib,
            self.growth_kib,
        )
    }
}

impl Table {
    /// Writes the table and its summary; fails if a row has.
    pub(crate) fn finish(mut self) {
        self.lines.sort_by(|a, b| (a.side(), &a.id).cmp(&(b.side(), &b.id)));
        let mut text = HEAD.to_owned();
        self.lines.iter().for_each(|line| writeln!(text, "{line}").unwrap());
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/unexpected.md");
        std::fs::write(path, text).unwrap();
        let summary = self.summary();
        // Not by the macros, which the harness keeps to itself: this is the suite's result.
        std::io::stderr().write_all(summary.as_bytes()).unwrap();
        let failed: Vec<String> = self.failed().map(ToString::to_string).collect();
        assert!(failed.is_empty(), "{} rows of {path}:\n{}", failed.len(), failed.join("\n"));
        for Stood { side, first, last, .. } in &self.stands {
            let growth_kib = last.rss_kib.saturating_sub(first.rss_kib);
            assert!(growth_kib <= STAND_KIB_MAX, "{side:?}: {growth_kib} KiB in all rows");
        }
        assert!(self.lines.len() >= LINES_MIN, "{} rows were held", self.lines.len());
    }

    fn failed(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.faults.is_empty())
    }

    fn summary(&self) -> String {
        let (rows, failed) = (self.lines.len(), self.failed().count());
        let times: usize = self.lines.iter().map(|line| line.times).sum();
        let calls: usize = self.lines.iter().map(|line| line.harm.calls).sum();
        let errors: usize = self.lines.iter().map(|line| line.harm.errors).sum();
        let mut text = format!(
            "unexpected: {rows} rows, {failed} failed; {times} conversations; the victims: \
             {errors} of {calls} calls failed\n"
        );
        for Stood { side, idle, first, last } in &self.stands {
            let (p99, was, is) = (idle.p99, first.rss_kib, last.rss_kib);
            writeln!(text, "  {side:?}: idle p99 {p99:.1?}; {was} KiB before, {is} after").unwrap();
        }
        let columns: [Column; 4] = [
            ("peak KiB", |line| line.peak_kib.cast_signed()),
            ("growth KiB", |line| line.growth_kib),
            ("victim's p99 us", |line| i64::try_from(line.harm.p99.as_micros()).unwrap()),
            ("victim's max us", |line| i64::try_from(line.harm.max.as_micros()).unwrap()),
        ];
        for (name, of) in columns {
            let mut worst: Vec<&Line> = self.lines.iter().collect();
            worst.sort_by_key(|line| std::cmp::Reverse(of(line)));
            let worst = worst.iter().take(5);
            let worst: Vec<String> =
                worst.map(|line| format!("{} {} {}", line.id, line.side(), of(line))).collect();
            writeln!(text, "  worst {name}: {}", worst.join(", ")).unwrap();
        }
        let left_out = self.left_out.iter().map(|(id, side)| format!("{id} {side:?}"));
        writeln!(text, "  in memory only: {}", left_out.collect::<Vec<_>>().join(", ")).unwrap();
        text
    }
}

const HEAD: &str = "\
| id | under test | result | counted | times | peak KiB | growth KiB | victim calls | p50 us | \
p99 us | max us | errors | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
";
/// Of memory above what there was before the row: nothing in a row is larger than a read buffer.
const PEAK_KIB_MAX: u64 = 4 * 1024;
/// And for each conversation that is held at the same time.
const PEAK_KIB_EACH: u64 = 64;
/// From a quarter of the repetitions to the end; what leaked 64 KiB each time would be above it.
const GROWTH_KIB_MAX: i64 = 1024;
/// In all quick rows together, which are hundreds of thousands of connections: 100 bytes that
/// leaked on each would be above it.
const STAND_KIB_MAX: u64 = 8 * 1024;
/// Fewer say nothing of a p99.
const VICTIM_CALLS_MIN: usize = 50;
/// A table that is shorter has lost its rows.
const LINES_MIN: usize = if cfg!(debug_assertions) { 50 } else { 580 };
