//! The server of the workload: it writes down every execution, and its connections can be cut.
//!
//! Invariants: `start` is written before a handler's body does anything, `finish` before its
//! answer may leave, also when its future is dropped. The log is closed when nothing runs.
//!
//! When a handler started: the log says when this thread last looked at the server's clock, if
//! that is at most `LOOK_AGE_MAX` ago. The server can only promise not to start what was late
//! when it looked; between its look and our first line the thread may lose its core.

use std::cell::Cell;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchback::driver::{Clock, ConnectionHandle, Runtime, ServerSettings, serve_stream};
use switchback::proto::ServerLimits;
use switchback::transport::{Accept, Address, TcpAcceptor};
use switchback::wire::{CloseReason, FRAME_BYTES_DEFAULT, VersionRange};
use switchback::{CallError, Code, Cx, Dispatch, Error, ErrorKind, Method, Router, Run, Status};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ledger::{How, Rest, ServerLog, Start};
use crate::ledgered::{Order, Receipt, Time, WINDOW};

/// A method of the workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    run: Run,
    is_cancellable: bool,
}

/// A server at an address of its own.
pub(crate) struct House {
    pub(crate) address: String,
    desk: Arc<Desk>,
    connections: Arc<Connections>,
    accepting: JoinHandle<()>,
}

/// How a house looked back on its connections.
#[derive(Debug, Default)]
pub(crate) struct Retrospect {
    pub(crate) connections: usize,
    /// Ends that no workload explains: somebody broke the protocol, or a task panicked.
    pub(crate) faults: Vec<String>,
}

type Connections = Mutex<Vec<(ConnectionHandle, JoinHandle<Error>)>>;

/// Where handlers report.
pub(crate) struct Desk {
    log: ServerLog,
    instance: u64,
    time: Time,
    /// Executions that have not ended.
    running: watch::Sender<u64>,
}

/// An execution; dropping it unfinished is an end too.
struct Execution {
    desk: Arc<Desk>,
    nonce: u64,
    is_finished: bool,
}

impl House {
    /// Opens a house that takes at most `calls_max` calls on a connection.
    pub(crate) async fn open(log: &Path, instance: u64, calls_max: u32, time: &Time) -> Self {
        let log = ServerLog::create(log, instance).unwrap();
        let desk = Desk::new(log, instance, time);
        let methods = desk.methods();
        let dispatch = methods.fold(Router::new(), Router::method).into_dispatch().unwrap();
        let address = Address::parse("tcp://127.0.0.1:0").unwrap();
        let acceptor = TcpAcceptor::bind(&address, false).await.unwrap();
        let address = acceptor.local_addr().to_string();
        let connections = Arc::new(Connections::default());
        let accepting =
            tokio::spawn(accept(acceptor, settings(calls_max), dispatch, Arc::clone(&connections)));
        Self { address, desk, connections, accepting }
    }

    /// Cuts one of the connections that are open, in the middle of whatever it does.
    pub(crate) fn cut(&self, any: u64) {
        self.pick(any).inspect(ConnectionHandle::abort);
    }

    /// Asks the client of one of the connections that are open to go: what runs is finished.
    pub(crate) fn drain(&self, any: u64) {
        self.pick(any).inspect(ConnectionHandle::drain);
    }

    /// Cuts every connection, waits for the last execution, and closes the log.
    pub(crate) async fn close(self) -> Retrospect {
        self.accepting.abort();
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        let mut seen = Retrospect { connections: connections.len(), faults: Vec::new() };
        for (handle, ended) in connections {
            handle.abort();
            match ended.await {
                Ok(error) if is_usual(&error) => {}
                Ok(error) => seen.faults.push(error.to_string()),
                Err(panic) => seen.faults.push(panic.to_string()),
            }
        }
        if !self.desk.is_empty_soon().await {
            seen.faults.push(format!("executions still run after {LAST_RUN_MAX:?}"));
        }
        self.desk.log.close().unwrap();
        seen
    }

    fn pick(&self, any: u64) -> Option<ConnectionHandle> {
        let connections = self.connections.lock().unwrap();
        let open: Vec<_> = connections.iter().filter(|(_, task)| !task.is_finished()).collect();
        let at = usize::try_from(any).unwrap().checked_rem(open.len())?;
        Some(open[at].0.clone())
    }
}

impl Kind {
    fn method(&'static self, desk: &Arc<Desk>) -> Method {
        let desk = Arc::clone(desk);
        let handler = move |cx: Cx, order: Order| serve(Arc::clone(&desk), self, cx, order);
        let method = Method::new(self.name, VERSION, handler).run(self.run);
        if self.is_cancellable { method } else { method.no_cancel() }
    }
}

/// Every handler: it takes its time, then answers, with an error of its own if so ordered.
async fn serve(
    desk: Arc<Desk>,
    kind: &'static Kind,
    cx: Cx,
    order: Order,
) -> Result<Receipt, CallError<Receipt>> {
    let mut execution = desk.start(kind, &cx, &order)?;
    for _ in 0..order.yields {
        tokio::task::yield_now().await;
    }
    if order.hold_us > 0 {
        tokio::time::sleep(Duration::from_micros(order.hold_us)).await;
    }
    let (nonce, instance) = (execution.nonce, desk.instance);
    let Order { client, seq, pad, .. } = order;
    let receipt = Receipt { nonce, client, seq, instance, version: cx.version(), pad };
    if order.fails {
        execution.finish(How::Err);
        Err(CallError::App(receipt))
    } else {
        execution.finish(How::Ok);
        Ok(receipt)
    }
}

impl Desk {
    pub(crate) fn new(log: ServerLog, instance: u64, time: &Time) -> Arc<Self> {
        let (running, _) = watch::channel(0);
        Arc::new(Self { log, instance, time: time.clone(), running })
    }

    /// A handler of each kind.
    pub(crate) fn methods(self: &Arc<Self>) -> impl Iterator<Item = Method> {
        KINDS.iter().map(|kind| kind.method(self))
    }

    /// Waits for the last execution; says whether it ended.
    pub(crate) async fn is_empty_soon(&self) -> bool {
        let mut running = self.running.subscribe();
        let last = tokio::time::timeout(LAST_RUN_MAX, running.wait_for(|count| *count == 0));
        last.await.is_ok()
    }

    /// Closes the log.
    pub(crate) fn close(&self, rest: Rest) {
        self.log.rest(rest).unwrap();
        self.log.close().unwrap();
    }

    fn start(self: &Arc<Self>, kind: &Kind, cx: &Cx, order: &Order) -> Result<Execution, Status> {
        let now = self.time.now();
        let looked = LOOKED_AT.get().filter(|at| now.duration_since(*at) <= LOOK_AGE_MAX);
        let started_at_us = self.time.us(looked.unwrap_or(now));
        let start = Start {
            client: order.client,
            seq: order.seq,
            attempt: cx.attempt().into(),
            method: kind.name,
            version: cx.version(),
            started_at_us,
            deadline_at_us: self.time.us(cx.deadline()),
        };
        // Counted first: who waits for the last execution must see this one.
        self.running.send_modify(|count| *count += 1);
        let desk = Arc::clone(self);
        match self.log.start(start) {
            Ok(nonce) => Ok(Execution { desk, nonce, is_finished: false }),
            Err(error) => {
                self.running.send_modify(|count| *count -= 1);
                Err(Status::new(Code::ABORTED, error.to_string()))
            }
        }
    }
}

impl Execution {
    fn finish(&mut self, how: How) {
        self.is_finished = true;
        let at_us = self.desk.time.us(self.desk.time.now());
        self.desk.log.finish(self.nonce, how, at_us).expect("open while executions run");
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(if std::thread::panicking() { How::Panic } else { How::Dropped });
        }
        self.desk.running.send_modify(|count| *count -= 1);
    }
}

/// Accepts until it is aborted.
async fn accept(
    acceptor: TcpAcceptor,
    settings: ServerSettings,
    dispatch: Dispatch,
    connections: Arc<Connections>,
) {
    let Runtime { spawn, clock, random } = Runtime::tokio();
    let runtime = Runtime { spawn, clock: Arc::new(Watched(clock)), random };
    loop {
        let stream = acceptor.accept().await.unwrap();
        let (handle, served) =
            serve_stream(stream, settings.clone(), dispatch.clone(), runtime.clone());
        connections.lock().unwrap().push((handle, tokio::spawn(served)));
    }
}

/// A clock that remembers when each thread last looked at it.
pub(crate) struct Watched(pub(crate) Arc<dyn Clock>);

thread_local! {
    static LOOKED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Clock for Watched {
    fn now(&self) -> Instant {
        let now = self.0.now();
        LOOKED_AT.set(Some(now));
        now
    }

    fn sleep_until(&self, at: Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.sleep_until(at)
    }
}

/// Cut or drained by the house, or closed in good order by the client.
fn is_usual(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::ClosedHere { .. } | ErrorKind::Lost { .. } => true,
        ErrorKind::ClosedByPeer { reason, .. } => *reason == CloseReason::NORMAL,
        _ => false,
    }
}

fn settings(calls_max: u32) -> ServerSettings {
    ServerSettings::new(ServerLimits {
        versions: VersionRange::OURS,
        frame_bytes_max: FRAME_BYTES_DEFAULT,
        calls_max,
        window_connection: WINDOW,
        codecs: vec![1],
        build: String::from("ledgered"),
    })
}

const fn kind(name: &'static str, run: Run, is_cancellable: bool) -> Kind {
    Kind { name, run, is_cancellable }
}

/// Answers at once or after a while, may be dropped.
pub(crate) const PLAIN: usize = 0;
/// Runs to its end, whatever the caller wants.
pub(crate) const STUBBORN: usize = 1;
/// A task from the start.
pub(crate) const SPAWNED: usize = 2;
/// Holds a thread.
pub(crate) const BLOCKING: usize = 3;
pub(crate) static KINDS: [Kind; 4] = [
    kind("work.Ledger/plain", Run::Inline, true),
    kind("work.Ledger/stubborn", Run::Inline, false),
    kind("work.Ledger/spawned", Run::Spawn, true),
    kind("work.Ledger/blocking", Run::Blocking, true),
];
pub(crate) const VERSION: u16 = 1;
/// Enough for a thread to lose its core to a compiler and get it back.
const LOOK_AGE_MAX: Duration = Duration::from_millis(250);
const LAST_RUN_MAX: Duration = Duration::from_secs(5);
