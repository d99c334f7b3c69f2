//! How a peer behaves: what it may cost before the connection is closed.
//!
//! Every frame that it judges was legal in itself; it is their number that is not. Token buckets
//! (GCRA: Rathgeb, "Modeling and performance comparison of policing mechanisms for ATM networks",
//! 1991; the form with one theoretical arrival time per bucket) for what has a rate, plain counts
//! for what has none.
//!
//! Invariants: a peer that keeps to the specification never reaches a limit (LD-8, LD-11); a
//! verdict names the reason, what was too much, and the limit. Pure: the time is an argument.

use std::time::{Duration, Instant};

use crate::proto::Violation;
use crate::wire::{CloseReason, Code};

/// What a peer may do; all of it finite.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ConductLimits {
    /// PINGs in a row.
    ///
    /// Default: 4, one of which comes back every second (LD-8).
    pub pings: u32,
    /// Frames that ask for nothing, in a row.
    ///
    /// Default: 256, of which 32 come back every second.
    pub idle_frames: u32,
    /// Requests that make no sense, in a row.
    ///
    /// Default: 100, of which 33 come back every second.
    pub errors: u32,
    /// Of so many calls half may be taken back early: within a second of their start, and before
    /// half of their time is over.
    ///
    /// Default: 500. Too low: clients that race calls against each other look like an attack.
    pub cancel_window: u32,
}

impl Default for ConductLimits {
    fn default() -> Self {
        Self { pings: 4, idle_frames: 256, errors: 100, cancel_window: 500 }
    }
}

/// What one peer has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    limits: ConductLimits,
    pings: Bucket,
    idle_frames: Bucket,
    errors: Bucket,
    requests: u64,
    cancels: u64,
    window_requests: u32,
    window_cancels: u32,
}

impl Conduct {
    /// Of a peer that has done nothing yet.
    #[must_use]
    pub const fn new(limits: ConductLimits) -> Self {
        Self {
            limits,
            pings: Bucket::new(1),
            idle_frames: Bucket::new(32),
            errors: Bucket::new(33),
            requests: 0,
            cancels: 0,
            window_requests: 0,
            window_cancels: 0,
        }
    }

    /// It goes away, with a PING that does not count (LD-7).
    pub const fn handle_goaway(&mut self) {
        self.pings = Bucket::new(1);
    }

    /// It sent a PING.
    ///
    /// # Errors
    /// [`Violation::Conduct`]: TOO_MANY_PINGS.
    pub fn handle_ping(&mut self, now: Instant) -> Result<(), Violation> {
        let (reason, limit) = (CloseReason::TOO_MANY_PINGS, self.limits.pings);
        let what = "pings in a row, one back each second";
        self.pings.take(now, limit).ok_or(Violation::Conduct { reason, what, limit })
    }

    /// It sent a frame that asks for nothing: a kind that is skipped, a PONG nobody asked for.
    ///
    /// # Errors
    /// [`Violation::Conduct`]: TOO_MANY_FRAMES.
    pub fn handle_idle_frame(&mut self, now: Instant) -> Result<(), Violation> {
        let (reason, limit) = (CloseReason::TOO_MANY_FRAMES, self.limits.idle_frames);
        let what = "frames in a row that ask for nothing, 32 back each second";
        self.idle_frames.take(now, limit).ok_or(Violation::Conduct { reason, what, limit })
    }

    /// It sent a REQUEST.
    pub const fn handle_request(&mut self) {
        self.requests += 1;
        self.window_requests += 1;
        if self.window_requests >= self.limits.cancel_window {
            self.window_requests = 0;
            self.window_cancels = 0;
        }
    }

    /// It sent a CANCEL; `is_early` is whether the call still runs and has only just begun, see
    /// [`Conduct::is_early`].
    ///
    /// # Errors
    /// [`Violation::Conduct`]: TOO_MANY_CANCELS.
    pub fn handle_cancel(&mut self, is_early: bool) -> Result<(), Violation> {
        let reason = CloseReason::TOO_MANY_CANCELS;
        self.cancels += 1;
        if self.cancels > self.requests {
            let limit = u32::try_from(self.requests).unwrap_or(u32::MAX);
            let what = "more cancels than requests";
            return Err(Violation::Conduct { reason, what, limit });
        }
        self.window_cancels += u32::from(is_early);
        let limit = self.limits.cancel_window / 2;
        if self.window_cancels > limit {
            let what = "calls taken back as soon as they were made";
            return Err(Violation::Conduct { reason, what, limit });
        }
        Ok(())
    }

    /// Whether a call of this age is taken back early. One whose time is nearly over is not:
    /// that is what a client does in a brown-out.
    #[must_use]
    pub fn is_early(age: Duration, timeout: Duration) -> bool {
        age < EARLY_CANCEL.min(timeout / 2)
    }

    /// One of its requests was refused with this status.
    ///
    /// # Errors
    /// [`Violation::Conduct`]: TOO_MANY_ERRORS.
    pub fn handle_refusal(&mut self, status: Code, now: Instant) -> Result<(), Violation> {
        // The others happen to an honest client: in an upgrade, under load.
        let is_its_fault = matches!(
            status,
            Code::UNKNOWN_METHOD | Code::UNSUPPORTED_FLAG | Code::BAD_METADATA | Code::BAD_PAYLOAD
        );
        if !is_its_fault {
            return Ok(());
        }
        let (reason, limit) = (CloseReason::TOO_MANY_ERRORS, self.limits.errors);
        let what = "requests in a row that make no sense, 33 back each second";
        self.errors.take(now, limit).ok_or(Violation::Conduct { reason, what, limit })
    }
}

/// So many at once, and so many back each second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    each: Duration,
    /// When the bucket is full again, if it is not.
    full_at: Option<Instant>,
}

impl Bucket {
    const fn new(per_second: u64) -> Self {
        Self { each: Duration::from_nanos(1_000_000_000 / per_second), full_at: None }
    }

    /// Takes one of `burst`, if one is left.
    fn take(&mut self, now: Instant, burst: u32) -> Option<()> {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        let missing = full_at.saturating_duration_since(now);
        if missing > self.each.saturating_mul(burst.saturating_sub(1)) {
            return None;
        }
        self.full_at = Some(full_at + self.each);
        Some(())
    }
}

/// A call taken back so soon was hardly meant.
const EARLY_CANCEL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    fn start() -> Instant {
        Instant::now()
    }

    fn reason(result: Result<(), Violation>) -> Option<CloseReason> {
        result.err().map(Violation::close_reason)
    }

    /// Four at once are fine, the fifth is not; one a second is fine for ever.
    #[test]
    fn ld_8_pings_have_a_rate() {
        let t0 = start();
        let mut conduct = Conduct::new(ConductLimits::default());
        for _ in 0..4 {
            assert_eq!(conduct.handle_ping(t0), Ok(()));
        }
        assert_eq!(reason(conduct.handle_ping(t0)), Some(CloseReason::TOO_MANY_PINGS));
        for second in 1..1000 {
            assert_eq!(conduct.handle_ping(t0 + Duration::from_secs(second)), Ok(()));
        }
    }

    /// More than half of 500 calls taken back at once is a flood; a brown-out, in which they are
    /// taken back when their time is over, is not.
    #[test]
    fn ld_11_cancels_are_judged_by_their_share() {
        let mut flood = Conduct::new(ConductLimits::default());
        let mut pairs = 0;
        while flood.handle_cancel_of_new_call().is_ok() {
            pairs += 1;
        }
        assert!(pairs < 1000, "{pairs}");

        let mut brown_out = Conduct::new(ConductLimits::default());
        for _ in 0..100_000 {
            brown_out.handle_request();
            let is_early = Conduct::is_early(Duration::from_millis(60), Duration::from_millis(100));
            assert_eq!(brown_out.handle_cancel(is_early), Ok(()));
        }

        let mut twice = Conduct::new(ConductLimits::default());
        twice.handle_request();
        assert_eq!(twice.handle_cancel(false), Ok(()));
        assert_eq!(reason(twice.handle_cancel(false)), Some(CloseReason::TOO_MANY_CANCELS));
    }

    impl Conduct {
        fn handle_cancel_of_new_call(&mut self) -> Result<(), Violation> {
            self.handle_request();
            self.handle_cancel(Self::is_early(Duration::ZERO, EARLY_CANCEL))
        }
    }

    /// Frames that ask for nothing, and requests that make no sense, have their budgets.
    #[test]
    fn ld_11_frames_that_ask_for_nothing_have_a_budget() {
        let t0 = start();
        let mut conduct = Conduct::new(ConductLimits::default());
        for _ in 0..256 {
            assert_eq!(conduct.handle_idle_frame(t0), Ok(()));
        }
        assert_eq!(reason(conduct.handle_idle_frame(t0)), Some(CloseReason::TOO_MANY_FRAMES));

        for _ in 0..100 {
            assert_eq!(conduct.handle_refusal(Code::UNKNOWN_METHOD, t0), Ok(()));
        }
        let verdict = conduct.handle_refusal(Code::BAD_PAYLOAD, t0);
        assert_eq!(reason(verdict), Some(CloseReason::TOO_MANY_ERRORS));
        assert_eq!(conduct.handle_refusal(Code::OVERLOADED, t0), Ok(()), "not its fault");
        let text = verdict.unwrap_err().to_string();
        assert!(text.contains("limit of 100"), "{text}");
    }
}
