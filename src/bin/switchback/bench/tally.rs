//! What has been counted: calls by their end, and how long those took that were answered.
//!
//! Lanes write into shards, so that they seldom wait for each other; whoever looks adds the shards
//! up. Latencies are exact to three digits, up to an hour.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use switchback::service::RawResponse;
use switchback::{Code, Status};

/// Everything, in shards.
#[derive(Debug)]
pub(crate) struct Tally {
    shards: Vec<Mutex<Merged>>,
    under_way: AtomicU64,
}

/// A shard, or all of them together.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    /// Of calls answered with a response, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Answered with a response.
    pub(crate) ok: u64,
    /// Answered with the method's own error.
    pub(crate) app_errors: u64,
    /// Failed, by code, with the first message.
    pub(crate) codes: BTreeMap<String, (u64, String)>,
    /// Failed because there was no connection, or none any more.
    lost: u64,
    /// Failed with what the server itself said.
    refused: u64,
}

/// What the live view needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// The server said something.
    pub(crate) answered: u64,
    /// There was no connection.
    pub(crate) lost: u64,
    /// Calls that have not ended.
    pub(crate) under_way: u64,
}

impl Tally {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Merged::new())).collect();
        Self { shards, under_way: AtomicU64::new(0) }
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// A call of this lane has ended.
    pub(crate) fn end(&self, lane: usize, took: Duration, result: &Result<RawResponse, Status>) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let mut shard = locked(&self.shards[lane % SHARDS]);
        match result {
            Ok(response) if response.is_app_error => shard.app_errors += 1,
            Ok(_) => {
                shard.ok += 1;
                let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                shard.latencies.saturating_record(nanos);
            }
            Err(status) => shard.fail(status),
        }
    }

    /// Calls that have not ended.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts { under_way: self.under_way(), ..Counts::default() };
        for shard in self.shards.iter().map(locked) {
            counts.answered += shard.ok + shard.app_errors + shard.refused;
            counts.lost += shard.lost;
        }
        counts
    }

    /// All shards together.
    pub(crate) fn merged(&self) -> Merged {
        let mut all = Merged::new();
        for shard in self.shards.iter().map(locked) {
            all.ok += shard.ok;
            all.app_errors += shard.app_errors;
            all.lost += shard.lost;
            all.refused += shard.refused;
            for (code, (count, message)) in &shard.codes {
                all.codes.entry(code.clone()).or_insert_with(|| (0, message.clone())).0 += count;
            }
            // Both have the same range and precision.
            let _same_shape = all.latencies.add(&shard.latencies);
        }
        all
    }
}

impl Merged {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
        let latencies = latencies.expect("1 is at most half of an hour, and 3 digits are allowed");
        let codes = BTreeMap::new();
        Self { latencies, ok: 0, app_errors: 0, codes, lost: 0, refused: 0 }
    }

    /// Calls that ended with anything but a response.
    pub(crate) fn failed(&self) -> u64 {
        self.app_errors + self.codes.values().map(|(count, _)| count).sum::<u64>()
    }

    fn fail(&mut self, status: &Status) {
        match status.code() {
            Code::CONNECTION_LOST | Code::NOT_CONNECTED => self.lost += 1,
            // The client's own clock says so, and may say it of a server that is not there.
            Code::DEADLINE_EXCEEDED => {}
            _ => self.refused += 1,
        }
        let code = status.code().to_string();
        let first = || (0, status.message().to_owned());
        self.codes.entry(code).or_insert_with(first).0 += 1;
    }
}

fn locked(shard: &Mutex<Merged>) -> MutexGuard<'_, Merged> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many as a machine for this has cores.
const SHARDS: usize = 16;
/// An hour; longer calls count as that.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;
