//! A client process: one connection, many calls at a time, every answer compared with the truth.
//!
//! Invariants: a call is in the ledger before it is made and its outcome once it is in hand; every
//! other call is not idempotent; a call belongs to the phase in which it was made.
//! Why clients go on until told to finish: whatever the director does on the server must happen
//! under traffic, however slow the machine is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::{CallError, Channel, ClientConfig, Code, Disposition, Status};
use tokio::task::JoinSet;

use crate::World;
use crate::caller::{Answer, Caller};
use crate::clock::{Clock, us};
use crate::contract::{CallKey, DOWNLOAD, FIND, PackagesError, two_fields};
use crate::ledger::{self, ClientLog, End, Issue, Outcome};
use crate::packages::{Package, Packages};
use crate::tally::Tally;
use crate::words::{Order, Progress, Word, orders, say};

/// How to run a client process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ClientTask {
    /// Which versions it knows.
    pub(crate) world: World,
    /// Its number in the ledger.
    pub(crate) client: u64,
    /// The server.
    pub(crate) address: String,
    /// Calls to make, at least.
    pub(crate) calls: u64,
    /// The file with the packages.
    pub(crate) packages: PathBuf,
    /// The ledger to write.
    pub(crate) log: PathBuf,
}

/// What the workers share.
struct Work {
    task: ClientTask,
    caller: Caller,
    packages: Packages,
    log: ClientLog,
    clock: Clock,
    next: AtomicU64,
    phase: AtomicUsize,
    is_finishing: AtomicBool,
    tally: Tally,
}

/// Calls until told to finish, and reports.
///
/// # Errors
/// If there is no connection, the ledger cannot be written or the director is gone. A call that
/// fails is no error here: it is counted.
pub(crate) async fn run(task: ClientTask) -> Result<(), crate::Failure> {
    let mut orders = orders()?;
    let mut config = ClientConfig::default();
    config.build = format!("coexist {}", task.world.name());
    config.call_timeout = CALL_TIMEOUT;
    // A server that is started again is worth waiting for.
    config.wait_for_ready = true;
    let channel = Channel::builder().config(config).connect(&task.address).await?;
    let work = Arc::new(Work {
        caller: Caller::new(task.world, channel),
        packages: Packages::load(&task.packages)?,
        log: ClientLog::create(&task.log, task.client)?,
        clock: Clock::start(),
        next: AtomicU64::new(0),
        phase: AtomicUsize::new(0),
        is_finishing: AtomicBool::new(false),
        tally: Tally::new(task.calls),
        task,
    });
    say(&Word::Connected)?;

    let mut workers = JoinSet::new();
    let mut working = false;
    loop {
        tokio::select! {
            // Both are safe to drop: an order stays in the channel, a result in the set.
            order = orders.recv() => match order.ok_or("the director is gone")?? {
                Order::Begin => {
                    (0..CALLS_AT_A_TIME).for_each(|_| { workers.spawn(Arc::clone(&work).run()); });
                    working = true;
                }
                Order::Phase(phase) => work.phase.store(phase, Ordering::SeqCst),
                Order::Finish => work.is_finishing.store(true, Ordering::SeqCst),
                other @ (Order::Replace | Order::Ceiling(_) | Order::Stop) => {
                    return Err(format!("{other:?} is no order for a client").into());
                }
            },
            ended = workers.join_next(), if working => match ended {
                Some(ended) => ended??,
                None => break,
            },
        }
    }
    work.log.close()?;
    say(&Word::Finished(work.tally.report()))?;
    Ok(())
}

impl Work {
    /// One call after the other.
    async fn run(self: Arc<Self>) -> std::io::Result<()> {
        loop {
            let seq = self.next.fetch_add(1, Ordering::Relaxed);
            if seq >= self.task.calls && self.is_finishing.load(Ordering::SeqCst) {
                return Ok(());
            }
            let phase = self.phase.load(Ordering::SeqCst);
            if let Some(progress) = self.call(seq, phase).await? {
                say(&Word::Progress(progress))?;
            }
        }
    }

    async fn call(&self, seq: u64, phase: usize) -> std::io::Result<Option<Progress>> {
        let key = CallKey { client: self.task.client, seq };
        // Any odd stride visits the packages in an order that is not theirs.
        let package = self.packages.at(seq.wrapping_mul(STRIDE));
        let name = package.name.clone();
        let is_find = seq.is_multiple_of(2);
        let issued_at_us = self.clock.now_us();
        self.log.issue(Issue {
            seq,
            method: if is_find { FIND } else { DOWNLOAD },
            version: self.task.world.newest(),
            idempotent: is_find,
            issued_at_us,
            deadline_at_us: issued_at_us.saturating_add(us(CALL_TIMEOUT)),
        })?;
        let result = if is_find {
            self.caller.find(key, name).await
        } else {
            self.caller.download(key, name).await
        };
        let ended_at_us = self.clock.now_us();
        self.end(seq, ended_at_us, &result)?;
        Ok(match result {
            Ok(answer) => {
                let wrong = self.what_is_wrong(key, package, &answer);
                let latency = Duration::from_micros(ended_at_us - issued_at_us);
                self.tally.add_answer(phase, &answer, latency, wrong)
            }
            Err(error) => {
                let kind = with_outcome(&error, |outcome, _| outcome.to_string());
                self.tally.add_error(phase, kind, error.to_string())
            }
        })
    }

    fn end(
        &self,
        seq: u64,
        ended_at_us: u64,
        result: &Result<Answer, CallError<PackagesError>>,
    ) -> std::io::Result<()> {
        match result {
            Ok(answer) => {
                let by = answer.by;
                self.log.end(End {
                    seq,
                    outcome: Outcome::Ok,
                    disposition: ledger::Disposition::Processed,
                    ended_at_us,
                    answer: Some(ledger::Answer {
                        nonce: by.nonce,
                        client: by.key.client,
                        seq: by.key.seq,
                        instance: by.instance,
                        version: by.version,
                    }),
                })
            }
            Err(error) => with_outcome(error, |outcome, disposition| {
                self.log.end(End { seq, outcome, disposition, ended_at_us, answer: None })
            }),
        }
    }

    /// Compares an answer with what is true.
    fn what_is_wrong(&self, key: CallKey, package: &Package, answer: &Answer) -> Option<String> {
        let by = answer.by;
        if by.key != key {
            return Some(format!("call {key:?} got the answer to {:?}", by.key));
        }
        let is_right = match by.version {
            1 => answer.fields == two_fields(package.name.clone(), package.version.clone()),
            2 => self.task.world == World::V2 && answer.fields == package.fields,
            _ => false,
        };
        let counted = answer.total.is_none_or(|total| total > 0);
        (!is_right || !counted).then(|| {
            let (name, version) = (&package.name, by.version);
            let mut text = format!("{name} in version {version} is not {:?}", answer.fields);
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text
        })
    }
}

/// What the ledger calls this failure, and what the caller was told of its execution.
fn with_outcome<T>(
    error: &CallError<PackagesError>,
    then: impl FnOnce(Outcome<'_>, ledger::Disposition) -> T,
) -> T {
    let disposition = match error.disposition() {
        Disposition::NotProcessed => ledger::Disposition::NotProcessed,
        Disposition::Maybe => ledger::Disposition::Maybe,
        Disposition::Processed => ledger::Disposition::Processed,
    };
    match error {
        CallError::App(PackagesError::Unknown(_)) => then(Outcome::App("unknown"), disposition),
        CallError::App(PackagesError::Ledger(_)) => then(Outcome::App("ledger"), disposition),
        CallError::Rpc(status) => {
            let code = status.code().to_string();
            then(outcome_of(status, &code), disposition)
        }
    }
}

fn outcome_of<'a>(status: &Status, code: &'a str) -> Outcome<'a> {
    match (status.code(), status.disposition()) {
        (Code::DEADLINE_EXCEEDED, _) => Outcome::Deadline,
        (Code::CANCELLED, _) => Outcome::Cancelled,
        (Code::CONNECTION_LOST, Disposition::Maybe) => Outcome::Unknown,
        // What the server said, and what says on its own that nothing was sent.
        (_, Disposition::NotProcessed) if status.code().is_local() => Outcome::NotSent,
        _ => Outcome::Failed(code),
    }
}

/// The library's own default, named because the ledger needs it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are in flight on the connection.
pub(crate) const CALLS_AT_A_TIME: u64 = 64;
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;
const TEXT_BYTES_MAX: usize = 200;
