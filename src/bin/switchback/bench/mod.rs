//! `switchback bench`: load on one method, and how long its calls took.
//!
//! ```text
//!   lanes (one call at a time each) --> tally: shards of a histogram --> live view, report
//! ```
//!
//! Invariants: it ends when its time is over and the calls under way have ended, each of which has
//! a deadline; by Ctrl-C, with what there is; or when the server has been gone for a while.
//! Without `--rate` a lane makes its next call when the last has ended, so a server that stands
//! still is asked less. With it calls are due at fixed times, and one that is sent late because all
//! lanes waited has waited since it was due (no coordinated omission).

mod lanes;
mod report;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use switchback::driver::Runtime;

use crate::args::BenchArgs;
use crate::bench::lanes::{Lanes, Plan};
use crate::bench::report::{End, Report};
use crate::bench::tally::Tally;
use crate::call::{refused, request, what};
use crate::durations::micros;
use crate::failure::Failure;
use crate::method::Target;
use crate::output::{Answer, Screen};
use crate::remote::{Remote, config};

/// Makes load until it is over.
pub(crate) async fn run(
    args: &BenchArgs,
    text: Option<String>,
    screen: &Screen,
) -> Result<Answer, Failure> {
    // Heard from here on, so that none is lost between two waits.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let begun = async {
        let remote = Remote::connect(&args.request.of.server).await?;
        let target = Target::find(&remote, &args.request.of.method, args.request.version).await?;
        let request = request(&args.request, &target, text)?;
        let what = what(&args.request, &target);
        // One call before the load: whoever gets no answer to it gets none to the others.
        let tried = remote.channel().call_raw(request.clone()).await;
        tried.map_err(|status| refused(&remote.address, &what, &status))?;
        Ok((remote.address, request, what))
    };
    let (address, request, what) = tokio::select! {
        begun = begun => begun?,
        _ = &mut interrupt => return Err(Failure::interrupted()),
    };

    let runtime = Runtime::tokio();
    let mut config = config(&args.request.of.server);
    config.in_flight_calls_max = args.in_flight;
    // The server may allow fewer on a connection; the others wait here, and their time counts.
    config.queued_calls_max = args.in_flight as usize;
    let plan = Plan::new(args, request);
    let tally = Arc::new(Tally::new());
    let channels = lanes::channels(args, &address, &config).await?;
    if screen.is_told() {
        screen.progress(&format!("{what} at {address}, {}", plan.wish()));
        if screen.is_live {
            screen.progress_end();
        }
    }
    let mut lanes = Lanes::start(&plan, &channels, &tally, &runtime);
    let mut watch = Watch::new(screen.is_live, args.request.of.server.timeout);
    let end = loop {
        tokio::select! {
            () = lanes.ended() => break End::Over,
            _ = &mut interrupt => break End::Interrupted,
            () = tokio::time::sleep(watch.pause()) => {
                let elapsed = lanes.elapsed();
                if let Some(line) = watch.line(&tally, elapsed) {
                    screen.progress(&line);
                }
                if watch.is_gone() {
                    break End::Gone;
                }
            }
        }
    };
    let elapsed = lanes.elapsed();
    let given_up = lanes.stop().await;
    screen.progress_end();
    Report { what, address, plan, elapsed, end, given_up, tally: &tally }.answer(screen)
}

/// Looks at the tally now and then: to tell how it goes, and to see that the server is there.
struct Watch {
    is_live: bool,
    /// Of a call: for so long nothing may be answered although all is well.
    timeout: Duration,
    last: tally::Counts,
    last_told: Duration,
    told: tally::Counts,
    /// Since when nothing was answered while calls were made.
    unanswered: Duration,
    is_lost: bool,
}

impl Watch {
    fn new(is_live: bool, timeout: Duration) -> Self {
        let zero = Duration::ZERO;
        Self {
            is_live,
            timeout,
            last: tally::Counts::default(),
            last_told: zero,
            told: tally::Counts::default(),
            unanswered: zero,
            is_lost: false,
        }
    }

    const fn pause(&self) -> Duration {
        LOOK
    }

    /// A line to tell, if it is time.
    fn line(&mut self, tally: &Tally, elapsed: Duration) -> Option<String> {
        let counts = tally.counts();
        if counts.answered == self.last.answered && counts.under_way > 0 {
            self.unanswered += LOOK;
        } else if counts.answered != self.last.answered {
            self.unanswered = Duration::ZERO;
        }
        self.is_lost =
            counts.lost > self.last.lost || (self.is_lost && counts.answered == self.last.answered);
        self.last = counts;
        let every = if self.is_live { LOOK } else { TELL };
        let since = elapsed.saturating_sub(self.last_told);
        if since < every {
            return None;
        }
        let rate = (counts.answered - self.told.answered) as f64 / since.as_secs_f64();
        (self.last_told, self.told) = (elapsed, counts);
        let merged = tally.merged();
        let at = |quantile| micros(merged.latencies.value_at_quantile(quantile) as f64 / 1e3);
        let seconds = elapsed.as_secs_f64();
        let failed = merged.failed();
        let state = match self.unanswered {
            silence if silence > SILENT => {
                format!("  no answer for {:.0} s", silence.as_secs_f64())
            }
            _ => String::new(),
        };
        Some(format!(
            "{seconds:5.1} s  {rate:7.0}/s  {} ok  {failed} failed  p50 {}  p99 {}{state}",
            merged.ok,
            at(0.5),
            at(0.99)
        ))
    }

    /// Whether to wait any longer makes no sense.
    fn is_gone(&self) -> bool {
        let patience = if self.is_lost { GONE } else { self.timeout + GONE };
        self.unanswered > patience
    }
}

/// Between two looks, and two lines on a terminal.
const LOOK: Duration = Duration::from_millis(250);
/// Between two lines where no line can be drawn anew.
const TELL: Duration = Duration::from_secs(1);
/// After so long without an answer the live view says so.
const SILENT: Duration = Duration::from_secs(1);
/// A server that could not be reached for so long is gone. Restarts take less.
const GONE: Duration = Duration::from_secs(5);
