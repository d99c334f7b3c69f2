//! What one client counts of its calls: who answered, how fast, what failed.
//!
//! Why every latency is kept: 4 bytes a call are less code than a histogram, and exact.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::caller::Answer;
use crate::contract::Execution;
use crate::words::{Answered, ClientReport, Failed, Latency, Progress};

/// Counts of one client.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Mutex<Counts>,
    /// Calls between two words of progress.
    step: u64,
}

#[derive(Debug, Default)]
struct Counts {
    calls: u64,
    /// By server process.
    downloads: BTreeMap<u64, u64>,
    in_phase: BTreeMap<usize, u64>,
    /// By phase, server process, version and build.
    answered: BTreeMap<(usize, u64, u16, u32), u64>,
    latencies_us: BTreeMap<u16, Vec<u32>>,
    /// By version, 0 for none, and kind.
    errors: BTreeMap<(u16, String), (u64, String)>,
}

impl Tally {
    /// Nothing yet, of about so many calls.
    pub(crate) fn new(calls: u64) -> Self {
        Self { counts: Mutex::default(), step: (calls / STEPS).max(1) }
    }

    /// Counts an answer, and as an error if something is `wrong` with it. From time to time says
    /// how far the client is.
    pub(crate) fn add_answer(
        &self,
        phase: usize,
        answer: &Answer,
        latency: Duration,
        wrong: Option<String>,
    ) -> Option<Progress> {
        let mut counts = self.lock();
        let progress = counts.add_call(phase, self.step);
        let Execution { instance, version, build, .. } = answer.by;
        *counts.downloads.entry(instance).or_default() += u64::from(answer.total.is_some());
        *counts.answered.entry((phase, instance, version, build)).or_default() += 1;
        let latency_us = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        counts.latencies_us.entry(version).or_default().push(latency_us);
        if let Some(wrong) = wrong {
            counts.add_error(version, "wrong_answer".to_owned(), wrong);
        }
        progress
    }

    /// Counts a call that failed.
    pub(crate) fn add_error(&self, phase: usize, kind: String, text: String) -> Option<Progress> {
        let mut counts = self.lock();
        counts.add_error(0, kind, text);
        counts.add_call(phase, self.step)
    }

    /// Everything, at the end.
    pub(crate) fn report(&self) -> ClientReport {
        let mut counts = self.lock();
        let answered = counts.answered.iter().map(|(key, &calls)| {
            let &(phase, instance, version, build) = key;
            Answered { phase, instance, version, build, calls }
        });
        let answered = answered.collect();
        let mut latencies = BTreeMap::new();
        for (version, all) in &mut counts.latencies_us {
            all.sort_unstable();
            let latency = Latency { p50_us: rank(all, 50), p99_us: rank(all, 99) };
            latencies.insert(*version, latency);
        }
        let errors = counts.errors.iter().map(|((version, kind), (calls, first))| Failed {
            version: *version,
            kind: kind.clone(),
            calls: *calls,
            first: first.clone(),
        });
        ClientReport {
            calls: counts.calls,
            downloads: counts.downloads.clone(),
            answered,
            latencies,
            errors: errors.collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add_call(&mut self, phase: usize, step: u64) -> Option<Progress> {
        self.calls += 1;
        let in_phase = self.in_phase.entry(phase).or_default();
        *in_phase += 1;
        let is_first = *in_phase == 1;
        (is_first || self.calls.is_multiple_of(step)).then_some(Progress {
            calls: self.calls,
            phase,
            in_phase: *in_phase,
        })
    }

    fn add_error(&mut self, version: u16, kind: String, text: String) {
        self.errors.entry((version, kind)).or_insert((0, text)).0 += 1;
    }
}

/// The value that `percent` of 100 are not above, by nearest rank.
fn rank(sorted: &[u32], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or(0).into()
}

const STEPS: u64 = 200;
