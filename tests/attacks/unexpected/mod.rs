//! `spec/unexpected.md` over real sockets: what each row costs the process that meets it, and
//! whether anybody else feels it.
//!
//! The rows and the conversation are those of `tests/it/unexpected`, where every row is held in
//! memory; here each is held again and again, against a server and against a client in a process
//! of its own, while a victim makes calls beside it: another client of that server, or another
//! channel of that client, to an honest server. In an optimized build this is
//!
//! ```text
//! cargo test --release --locked --test attacks unexpected_table
//! ```
//!
//! and takes some minutes; in another build a sample of the rows is held, a few times each. The
//! table goes to `unexpected.md` in cargo's folder for test files (`target/tmp`), a summary to
//! standard error. One row of it reads
//!
//! ```text
//! | UX101 | server | CLOSE HEAD_CRC | 64 HEAD_CRC | 64 | 12 | 0 | 75 | 80 | 210 | 350 | 0 | pass |
//! ```
//!
//! the row's id and who was under test; what it did, which is what the row says or a failure; how
//! the process counted the ends of these connections; how often the row was held; KiB of memory:
//! its peak above what there was before the row, and how it grew from the first quarter of the
//! repetitions to the end; the victim's calls, half of which took at most so many microseconds,
//! 99 % and all of them; its errors; the verdict.
//!
//! A row passes if the side did what the row says each time, every connection was counted, with
//! the reason that was given, and memory, latency and leftovers are within the bounds of `judge`.
//! The memory that all rows take together is judged too, since a small leak adds up.
//!
//! Rows in which time passes are held at the same time, each with processes of its own.
//!
//! Left to memory, where a clock can be paused and a pipe be small: rows of minutes, and a write
//! that does not go on (a kernel's buffers take megabytes).

#[path = "../../it/unexpected/data.rs"]
#[expect(dead_code, reason = "tests/it needs more of it")]
mod data;
mod hold;
mod measure;
#[path = "../../it/raw.rs"]
#[expect(dead_code, reason = "tests/it needs more of it")]
mod raw;
pub(crate) mod role;
mod table;
#[path = "../../it/unexpected/talk.rs"]
mod talk;

use std::time::Duration;

use raw::Raw;

use crate::suite::alone;
use crate::unexpected::data::{Case, Held, Side, Step, Suite};
use crate::unexpected::measure::{Plan, Stand};
use crate::unexpected::table::{Line, Table};
use crate::victim::PERIOD;

/// Lets so much time pass, and a little more: rows stand on the very limits, and what is sent is
/// not read at the same moment.
async fn elapse(wait: Duration) {
    tokio::time::sleep(wait + Duration::from_millis(50)).await;
}

/// Every row of the table over sockets: what the side does, what it costs, who feels it.
#[test]
fn unexpected_table() {
    let _alone = alone();
    let (suite, mut table) = (Suite::read(), Table::default());
    for side in [Side::Server, Side::Client] {
        let rows = suite.cases.iter().filter_map(|case| Some((case, case.held(side)?)));
        let (left_out, rows): (Vec<_>, Vec<_>) = rows.partition(|(_, held)| !suits(held));
        table.left_out.extend(left_out.iter().map(|(case, _)| (case.id.clone(), side)));
        let (slow, quick): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, held)| time_that_passes(held) > Duration::ZERO);
        let (quick, slow) = (sample(quick, QUICK_STEP), sample(slow, SLOW_STEP));

        let mut stand = Stand::start(&suite, side, VICTIM_PERIOD);
        for (n, (case, held)) in quick.iter().enumerate() {
            table.lines.push(stand.hold(case, held, &Plan::quick(held), n));
        }
        table.stands.push(stand.finish());

        table.lines.extend(hold_slow(&suite, side, &slow));
    }
    table.finish();
}

/// Rows in which time passes, all at the same time, each on a stand of its own.
fn hold_slow(suite: &Suite, side: Side, rows: &[(&Case, &Held)]) -> Vec<Line> {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (n, (case, held)) in rows.iter().copied().enumerate() {
            running.push(scope.spawn(move || {
                let mut stand = Stand::start(suite, side, PERIOD);
                let line = stand.hold(case, held, &Plan::slow(held), n);
                drop(stand.finish());
                line
            }));
        }
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// A row that says something else than what happens, or a reason that is not the one that is
/// counted, is seen. Shown by rows that were changed.
#[test]
fn a_wrong_row_is_seen_over_sockets() {
    let _alone = alone();
    for (id, side, place, value, fault) in WRONG {
        let suite = Suite::changed(id, place, value);
        let held = suite.cases[0].held(*side).unwrap();
        let mut stand = Stand::start(&suite, *side, VICTIM_PERIOD);
        let line = stand.hold(&suite.cases[0], held, &Plan::quick(held), 0).to_string();
        assert!(line.contains(fault), "{line}");
    }
}

/// A row, who is under test, a place in it, what is written there instead, what must be said.
type Wrong = (&'static str, Side, &'static str, &'static str, &'static str);

const WRONG: &[Wrong] = &[
    ("UX101", Side::Server, "/server/then/close", r#""BODY_CRC""#, "got CLOSE HEAD_CRC"),
    ("UX134", Side::Server, "/server/then", r#"{"end": true}"#, "expected the end without a word"),
    ("UX101", Side::Client, "/client/call/0/disposition", r#""PROCESSED""#, "got CONNECTION_LOST"),
    (
        "UX134",
        Side::Client,
        "/client/call/0/payload",
        r#""08""#,
        "the call to end as OK 08, got OK 07",
    ),
];

/// Whether it can be held over sockets, in the time there is.
fn suits(held: &Held) -> bool {
    !held.needs("write_timeout") && time_that_passes(held) <= TIME_MAX
}

/// How long the conversation waits, at least.
fn time_that_passes(held: &Held) -> Duration {
    let waits = held.steps.iter().map(|step| match step {
        Step::Wait { wait_ms } => *wait_ms,
        Step::Expect(expect) if expect.expect == "nothing" => 1000,
        _ => 0,
    });
    Duration::from_millis(waits.sum())
}

/// Every row, or some of them where unoptimized code would take too long.
fn sample<T>(rows: Vec<T>, step: usize) -> Vec<T> {
    rows.into_iter().step_by(if cfg!(debug_assertions) { step } else { 1 }).collect()
}

/// How often the victim of rows that last for a moment calls.
const VICTIM_PERIOD: Duration = Duration::from_millis(2);
/// Rows of minutes are left to a clock that can be paused; in an unoptimized build, of seconds.
const TIME_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 30 });
/// One of so many rows is held in an unoptimized build.
const QUICK_STEP: usize = 12;
const SLOW_STEP: usize = 5;
