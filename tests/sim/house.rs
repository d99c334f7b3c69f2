//! A server of the simulation: it writes down every execution, may be killed, and is opened anew
//! at the same address as another instance.
//!
//! Invariants: `start` is written before a handler's body does anything, `finish` before its
//! answer may leave, also when its future is dropped; of a killed instance the log ends with the
//! kill, whatever its destructors would like to add.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use switchback::driver::ServerTotals;
use switchback::service::Retirement;
use switchback::{CallError, Code, Cx, Dispatch, Method, Run, Server, ServerConfig, Status};
use tokio::sync::oneshot;

use crate::caller::Client;
use crate::executor::{Executor, ProcessId, Seams, us_of};
use crate::ledger::{How, Memory, Rest, Sent, ServerLog, Start};
use crate::net::Net;
use crate::relay::{self, PassedOn};

/// What every method takes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) client: u64,
    pub(crate) seq: u64,
    pub(crate) hold_us: u64,
    pub(crate) yields: u64,
    pub(crate) end: Ending,
    pub(crate) pad: Vec<u8>,
    pub(crate) answer_bytes: u64,
}

/// What the older version of the method with two takes: the same, laid out otherwise.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct OldOrder {
    pad: Vec<u8>,
    answer_bytes: u32,
    end: Ending,
    hold: (u64, u64),
    call: (u64, u64),
}

/// How a handler is to end.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Ending {
    Ok,
    Err,
    Panic,
}

/// What every method answers, and its error too: which execution served which call.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Receipt {
    pub(crate) nonce: u64,
    pub(crate) client: u64,
    pub(crate) seq: u64,
    pub(crate) instance: u64,
    pub(crate) version: u16,
    pub(crate) pad: Vec<u8>,
}

/// A method of the workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) is_idempotent: bool,
    pub(crate) versions: &'static [u16],
    pub(crate) run: Run,
    pub(crate) is_cancellable: bool,
}

/// One instance of a server, from its start to its end.
pub(crate) struct House {
    pub(crate) port: u16,
    pub(crate) instance: u64,
    pub(crate) process: ProcessId,
    pub(crate) seams: Arc<Seams>,
    /// Gone when it was killed.
    pub(crate) dispatch: Option<Dispatch>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    /// What is in flight on its connections.
    pub(crate) totals: Arc<ServerTotals>,
    desk: Arc<Desk>,
    memory: Memory,
    /// Of handlers that were replaced or retired.
    pub(crate) retirements: Vec<Retirement>,
    /// What was written until it was killed.
    obituary: Option<Vec<u8>>,
}

/// Where handlers report.
pub(crate) struct Desk {
    executor: Executor,
    log: ServerLog,
    instance: u64,
    running: AtomicU64,
    /// How serving ended, when it has.
    pub(crate) served: Mutex<Option<Result<(), String>>>,
    /// A client of the next tier, where there is one.
    next: Option<Arc<Client>>,
    passed_on: PassedOn,
    complaints: Complaints,
}

/// What was seen that must not be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<Mutex<Vec<String>>>);

/// An execution; dropping it unfinished is an end too.
pub(crate) struct Execution {
    desk: Arc<Desk>,
    nonce: u64,
    version: u16,
    is_finished: bool,
}

impl House {
    /// Opens an instance at a port.
    pub(crate) fn open(
        net: &Net,
        seams: Arc<Seams>,
        executor: &Executor,
        (port, instance): (u16, u64),
        (config, next): (ServerConfig, Option<Arc<Client>>),
        (passed_on, complaints): (&PassedOn, &Complaints),
    ) -> Self {
        let process = seams.process();
        let (log, memory) = ServerLog::in_memory(instance);
        let desk = Arc::new(Desk {
            executor: executor.clone(),
            log,
            instance,
            running: AtomicU64::new(0),
            served: Mutex::default(),
            next,
            passed_on: passed_on.clone(),
            complaints: complaints.clone(),
        });
        let versions = |kind: &'static Kind| kind.versions.iter().map(move |v| (kind, *v));
        let methods = KINDS.iter().flat_map(versions);
        let methods = methods.map(|(kind, version)| kind.method(version, &desk));
        let server = Server::new().config(config).runtime(seams.runtime());
        let server = methods.fold(server, Server::method);
        let relays = desk.next.iter().flat_map(|_| relay::methods(&desk));
        let server = relays.fold(server, Server::method);
        let bound = server.listen(net.listen(process, port)).expect("its methods fit together");
        let (dispatch, totals) = (Some(bound.dispatch()), bound.totals());
        let (stop, stopped) = oneshot::channel();
        let reporter = Arc::clone(&desk);
        executor.note("open", [port.into(), instance, process.0], || {
            format!("instance {instance} at {port}, process {}", process.0)
        });
        executor.spawn(process, async move {
            // The sender's end is a wish to stop too.
            let ended = bound.serve_until(async { drop(stopped.await) }).await;
            let ended = ended.map(drop).map_err(|error| error.to_string());
            reporter.executor.note("served", [instance, ended.is_ok().into(), 0], || {
                format!("instance {instance}: {ended:?}")
            });
            *reporter.served.lock().unwrap() = Some(ended);
            reporter.next.iter().for_each(|next| next.release());
        });
        let (retirements, obituary, stop) = (Vec::new(), None, Some(stop));
        Self {
            port,
            instance,
            process,
            seams,
            dispatch,
            stop,
            totals,
            desk,
            memory,
            retirements,
            obituary,
        }
    }

    /// Tells it to drain.
    pub(crate) fn drain(&mut self) {
        self.stop.take();
    }

    /// It takes calls: nobody killed it or told it to drain.
    pub(crate) const fn is_open(&self) -> bool {
        self.stop.is_some()
    }

    pub(crate) const fn is_killed(&self) -> bool {
        self.obituary.is_some()
    }

    /// Its process is about to be killed: what it wrote is all there is. `sent` is what was seen
    /// of its own calls.
    pub(crate) fn bury(&mut self, sent: Vec<Sent>) {
        self.obituary = Some(self.memory.bytes());
        self.desk.next.iter().for_each(|next| next.crash(&sent));
        self.dispatch = None;
        self.retirements.clear();
        self.stop = None;
    }

    /// The client that its handlers are, where there is a next tier.
    pub(crate) fn next(&self) -> Option<&Arc<Client>> {
        self.desk.next.as_ref()
    }

    /// Executions that have not ended.
    pub(crate) fn running(&self) -> u64 {
        self.desk.running.load(Ordering::Relaxed)
    }

    /// How serving ended, if it has.
    pub(crate) fn served(&self) -> Option<Result<(), String>> {
        self.desk.served.lock().unwrap().clone()
    }

    /// Its log: to its kill, or to its good end.
    pub(crate) fn close(self, rest: Rest) -> Vec<u8> {
        match self.obituary {
            Some(bytes) => bytes,
            None => {
                self.desk.log.rest(rest).expect("it is open");
                self.desk.log.close().expect("it is closed once");
                self.memory.bytes()
            }
        }
    }

    /// Another handler for a method.
    pub(crate) fn method(&self, kind: &'static Kind, version: u16) -> Method {
        kind.method(version, &self.desk)
    }
}

impl Kind {
    fn method(&'static self, version: u16, desk: &Arc<Desk>) -> Method {
        let desk = Arc::clone(desk);
        let method = if version < self.newest() {
            Method::new(self.name, version, move |cx: Cx, old: OldOrder| {
                serve(Arc::clone(&desk), self, version, cx, old.into())
            })
        } else {
            Method::new(self.name, version, move |cx: Cx, order: Order| {
                serve(Arc::clone(&desk), self, version, cx, order)
            })
        };
        let method = method.run(self.run);
        if self.is_cancellable { method } else { method.no_cancel() }
    }

    pub(crate) const fn newest(&self) -> u16 {
        self.versions[self.versions.len() - 1]
    }
}

/// Every handler: it takes its time, then ends as ordered.
async fn serve(
    desk: Arc<Desk>,
    kind: &'static Kind,
    version: u16,
    cx: Cx,
    order: Order,
) -> Result<Receipt, CallError<Receipt>> {
    let execution = desk.start(kind, version, &cx, &order)?;
    desk.dally(&order).await;
    execution.conclude(order)
}

impl Desk {
    /// A handler begins.
    pub(crate) fn start(
        self: &Arc<Self>,
        kind: &Kind,
        version: u16,
        cx: &Cx,
        order: &Order,
    ) -> Result<Execution, Status> {
        let Order { client, seq, .. } = *order;
        let started_at_us = self.executor.now_us();
        let start = Start {
            client,
            seq,
            attempt: cx.attempt().into(),
            method: kind.name,
            version,
            started_at_us,
            deadline_at_us: us_of(cx.deadline()),
        };
        let nonce = self.log.start(start);
        let nonce = nonce.map_err(|error| Status::new(Code::ABORTED, error.to_string()))?;
        let instance = self.instance;
        self.executor.note("start", [client, seq, nonce], || {
            format!("call {client}/{seq} on instance {instance}: {} v{version}", kind.name)
        });
        let tag = cx.metadata().get(TAG).map(<[u8]>::to_vec);
        if tag.is_none_or(|tag| tag != tag_of(client, seq)) {
            self.complaints.add(format!("call {client}/{seq} came with another's metadata"));
        }
        if cx.version() != version {
            let called = cx.version();
            self.complaints.add(format!("call {client}/{seq} of v{called} came to v{version}"));
        }
        if order.pad != filling(order.pad.len()) {
            self.complaints.add(format!("call {client}/{seq} came with other bytes"));
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        Ok(Execution { desk: Arc::clone(self), nonce, version, is_finished: false })
    }

    /// A handler takes its time.
    pub(crate) async fn dally(&self, order: &Order) {
        for _ in 0..order.yields {
            yield_now().await;
        }
        if order.hold_us > 0 {
            self.executor.sleep_us(order.hold_us).await;
        }
    }

    pub(crate) fn next(&self) -> Option<&Client> {
        self.next.as_deref()
    }

    pub(crate) const fn passed_on(&self) -> &PassedOn {
        &self.passed_on
    }
}

impl Execution {
    pub(crate) const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Ends as ordered.
    pub(crate) fn conclude(mut self, order: Order) -> Result<Receipt, CallError<Receipt>> {
        let pad = filling(order.answer_bytes.try_into().unwrap()).to_vec();
        let Self { nonce, version, .. } = self;
        let Order { client, seq, end, .. } = order;
        let instance = self.desk.instance;
        let receipt = Receipt { nonce, client, seq, instance, version, pad };
        match end {
            Ending::Ok => {
                self.finish(How::Ok);
                Ok(receipt)
            }
            Ending::Err => {
                self.finish(How::Err);
                Err(CallError::App(receipt))
            }
            Ending::Panic => panic!("{ORDERED}"),
        }
    }

    pub(crate) fn finish(&mut self, how: How) {
        self.is_finished = true;
        let now_us = self.desk.executor.now_us();
        self.desk.executor.note("finish", [self.nonce, 0, 0], || {
            let (nonce, instance) = (self.nonce, self.desk.instance);
            format!("execution {nonce} on instance {instance}: {}", how.as_str())
        });
        self.desk.log.finish(self.nonce, how, now_us).expect("open while executions run");
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(if std::thread::panicking() { How::Panic } else { How::Dropped });
        }
        self.desk.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Complaints {
    pub(crate) fn add(&self, text: String) {
        let mut texts = self.0.lock().unwrap();
        if texts.len() < COMPLAINTS_MAX {
            texts.push(text);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl From<Order> for OldOrder {
    fn from(order: Order) -> Self {
        let Order { client, seq, hold_us, yields, end, pad, answer_bytes } = order;
        let answer_bytes = u32::try_from(answer_bytes).expect("answers are below 4 GiB");
        Self { pad, answer_bytes, end, hold: (hold_us, yields), call: (client, seq) }
    }
}

impl From<OldOrder> for Order {
    fn from(old: OldOrder) -> Self {
        let OldOrder { pad, answer_bytes, end, hold: (hold_us, yields), call: (client, seq) } = old;
        Self { client, seq, hold_us, yields, end, pad, answer_bytes: answer_bytes.into() }
    }
}

/// So many bytes, of which none can be missing, or come in another's place.
pub(crate) fn filling(len: usize) -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let byte = |at: usize| u8::try_from((at % 251) ^ (at / 251 % 128)).unwrap();
        (0..FILLING_BYTES_MAX + 251).map(byte).collect()
    });
    &PATTERN[len % 251..][..len]
}

/// What travels beside some calls.
pub(crate) fn tag_of(client: u64, seq: u64) -> Vec<u8> {
    format!("{client}/{seq}").into_bytes()
}

/// Lets other tasks have their turn.
pub(crate) fn yield_now() -> impl Future<Output = ()> + Send {
    struct Yield(bool);
    impl Future for Yield {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Yield(false)
}

pub(crate) const fn kind(name: &'static str, run: Run) -> Kind {
    Kind { name, is_idempotent: false, versions: &[1], run, is_cancellable: true }
}

/// Answers at once or after a while, may be dropped.
pub(crate) const PLAIN: usize = 0;
/// The same, and may run twice.
pub(crate) const LOOK: usize = 1;
/// Runs to its end, whatever the caller wants.
pub(crate) const STUBBORN: usize = 2;
/// A task from the start.
pub(crate) const SPAWNED: usize = 3;
/// Runs on a thread; it never waits.
pub(crate) const BLOCKING: usize = 4;
/// Has two versions.
pub(crate) const TURN: usize = 5;
pub(crate) static KINDS: [Kind; 6] = [
    kind("sim.Work/plain", Run::Inline),
    Kind { is_idempotent: true, ..kind("sim.Work/look", Run::Inline) },
    Kind { is_cancellable: false, ..kind("sim.Work/stubborn", Run::Inline) },
    kind("sim.Work/spawned", Run::Spawn),
    kind("sim.Work/blocking", Run::Blocking),
    Kind { versions: &[1, 2], ..kind("sim.Work/turn", Run::Inline) },
];
/// The longest pad of a call or an answer.
pub(crate) const FILLING_BYTES_MAX: usize = 600_000;
/// The metadata's name.
pub(crate) const TAG: &str = "call";
/// What a handler says that panics because it was told to.
pub(crate) const ORDERED: &str = "a panic, as ordered";
const COMPLAINTS_MAX: usize = 20;
