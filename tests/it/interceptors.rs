//! A server's interceptors: order, refusals, hangs, panics, what the handler and the caller see.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use switchback::service::{End, Metadata, Peer};
use switchback::wire::CloseReason;
use switchback::{
    CallError, Channel, ClientConfig, Code, Cx, Disposition, Ended, Hook, Method, Run, Server,
    ServerConfig, ServerInterceptor, Status, Stub,
};

use crate::raw::Ask;
use crate::support::{
    Answer, Count, Gate, Leaving, Plain, assert_status, echo, echo_stub, leak, mem, mem_raw,
    mem_with, plain, settle,
};

const MS: Duration = Duration::from_millis(1);

/// What happened, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// How an end is written into a log.
pub(crate) fn end_text(ended: &Ended) -> String {
    match &ended.end {
        End::Failed(status) => format!("{} {:?}", status.code(), status.disposition()),
        end => format!("{end:?}"),
    }
}

/// What an interceptor does with a call.
#[derive(Clone, Copy, Debug)]
enum Act {
    Pass,
    /// After a turn of the runtime.
    Later,
    Refuse,
    Hang,
    /// Until the very deadline.
    Linger,
    Panic,
    PanicAfter,
}

/// Logs, and does what it is told.
struct Probe {
    name: &'static str,
    act: Act,
    log: Log,
    /// One for each hook that hangs.
    entered: Arc<Count>,
    dropped: Arc<Count>,
}

impl Probe {
    fn new(name: &'static str, act: Act, log: &Log) -> Self {
        Self { name, act, log: log.clone(), entered: Arc::default(), dropped: Arc::default() }
    }
}

impl ServerInterceptor for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        self.log.say(format!("before {}", self.name));
        match self.act {
            Act::Pass | Act::PanicAfter => Hook::pass(),
            Act::Later => Hook::wait(async {
                tokio::task::yield_now().await;
                Ok(())
            }),
            Act::Refuse => {
                cx.add_response_metadata("www-authenticate", b"token").unwrap();
                let status = Status::new(Code::UNAUTHENTICATED, "who are you");
                Hook::ready(Err(status.with_retry_after(MS * 250)))
            }
            Act::Hang => Hook::wait(async {
                let _dropped = Leaving(Arc::clone(&self.dropped));
                self.entered.add();
                pending().await
            }),
            Act::Linger => {
                let until = cx.deadline();
                Hook::wait(async move {
                    tokio::time::sleep_until(until.into()).await;
                    Ok(())
                })
            }
            Act::Panic => panic!("a secret"),
        }
    }

    fn after(&self, cx: &Cx, ended: &Ended) {
        assert_eq!(&*cx.method_name(), "it.Echo/echo");
        self.log.say(format!("after {}: {}", self.name, end_text(ended)));
        if matches!(self.act, Act::PanicAfter) {
            panic!("another secret");
        }
    }
}

/// A server with two places, an echo that logs, and interceptors.
fn server(log: &Log, acts: &[(&'static str, Act)]) -> Server {
    let mut config = ServerConfig::default();
    config.calls_max = 2;
    let inner = log.clone();
    let method = Method::infallible("it.Echo/echo", 1, move |_cx: Cx, n: u64| {
        let log = inner.clone();
        async move {
            log.say("handler");
            if n == 13 {
                panic!("unlucky");
            }
            Answer::Ok(n)
        }
    });
    let server = Server::new().config(config).method(method);
    acts.iter().fold(server, |server, (name, act)| server.interceptor(Probe::new(name, *act, log)))
}

/// Hooks run in the order in which they were added, around the handler; those after it in reverse.
/// Shown with hooks that are ready and hooks that are not.
#[tokio::test]
async fn hooks_run_around_the_handler_in_their_order() {
    for act in [Act::Pass, Act::Later] {
        let log = Log::default();
        let (channel, dispatch, _server) = mem(server(&log, &[("a", act), ("b", act)]));
        for n in 0..4 {
            assert_eq!(channel.call(echo_stub(), n).await, Ok(n));
            let all = ["before a", "before b", "handler", "after b: Ok", "after a: Ok"];
            assert_eq!(log.take(), all);
        }
        let stats = &dispatch.stats()[0];
        assert_eq!((stats.started, stats.ok, stats.in_flight), (4, 4, 0));
    }
}

/// CA-19: what an interceptor refuses has its code, its text behind its name and its retry_after,
/// and was not executed: the handler does not run and is not counted. Those that had let the call
/// pass are told. Shown with metadata beside the refusal.
#[tokio::test]
async fn ca_19_a_refusal_is_not_processed() {
    let log = Log::default();
    let acts = [("a", Act::Later), ("auth", Act::Refuse), ("c", Act::Pass)];
    let (channel, dispatch, _server) = mem(server(&log, &acts));
    for _ in 0..4 {
        let call = channel.call(echo_stub(), 1);
        let (result, metadata) = call.with_metadata().await;

        let status = assert_status(result, Code::UNAUTHENTICATED, Disposition::NotProcessed);
        assert_eq!(status.message(), "auth: who are you");
        assert_eq!(status.retry_after(), Some(MS * 250));
        assert_eq!(metadata.get("www-authenticate"), Some(&b"token"[..]));
        let all = ["before a", "before auth", "after a: UNAUTHENTICATED NotProcessed"];
        assert_eq!(log.take(), all);
    }
    let stats = &dispatch.stats()[0];
    assert_eq!((stats.started, stats.failed, stats.in_flight), (0, 0, 0));
}

/// CA-19: a refusal passes on code and text only. Shown by an interceptor that passes on a status
/// which the framework makes: it is not sent again, and names no versions.
#[tokio::test]
async fn ca_19_a_refusal_passes_on_nothing_else() {
    struct Relay;
    impl ServerInterceptor for Relay {
        fn name(&self) -> &'static str {
            "relay"
        }
        fn before<'a>(&'a self, _cx: &'a mut Cx) -> Hook<'a> {
            Hook::wait(async {
                let one = Method::infallible("it.Echo/echo", 7, |_cx: Cx, n: u64| async move {
                    Answer::Ok(n)
                });
                let (back, _, _back) = mem(Server::new().method(one));
                match back.call(echo_stub(), 1).await {
                    Err(CallError::Rpc(status)) => Err(status),
                    _ => Ok(()),
                }
            })
        }
    }
    let (channel, dispatch, _server) = mem(Server::new().method(echo()).interceptor(Relay));

    let result = channel.call(echo_stub(), 1).await;
    let status = assert_status(result, Code::UNSUPPORTED_VERSION, Disposition::NotProcessed);
    assert_eq!(status.versions(), [0; 0]);
    assert_eq!(dispatch.stats()[0].started, 0);
}

/// CA-19: the payload is decoded after the interceptors: who may not call learns nothing about it.
/// What does not decode then was not executed either.
#[tokio::test]
async fn ca_19_interceptors_come_before_the_payload() {
    for (act, code) in [(Act::Refuse, Code::UNAUTHENTICATED), (Act::Pass, Code::BAD_PAYLOAD)] {
        let log = Log::default();
        let (mut raw, dispatch, _server) = mem_raw(server(&log, &[("auth", act)])).await;
        raw.ask(Ask { payload: &[251], ..Ask::new(1, "it.Echo/echo") }).await;

        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.disposition), (code, Disposition::NotProcessed));
        assert_eq!(dispatch.stats()[0].started, 0);
        let told = log.take().contains(&"after auth: BAD_PAYLOAD NotProcessed".to_owned());
        assert_eq!(told, matches!(act, Act::Pass));
    }
}

/// LD-11: payloads that do not decode are judged also where interceptors keep them from being found
/// at once. Shown on both sides of the limit of 100, with hooks that are ready and that are not.
#[tokio::test(start_paused = true)]
async fn ld_11_bad_payloads_behind_interceptors_are_judged() {
    for act in [Act::Pass, Act::Later] {
        let (mut raw, _, _server) = mem_raw(server(&Log::default(), &[("a", act)])).await;
        let bad = |call| Ask { payload: &[251], ..Ask::new(call, "it.Echo/echo") };
        for n in 0..100 {
            raw.ask(bad(2 * n + 1)).await;
            assert_eq!(raw.reply().await.status, Code::BAD_PAYLOAD);
        }
        raw.ask(Ask::new(201, "it.Echo/echo")).await;
        assert_eq!(raw.reply().await.status, Code::OK);
        raw.ask(bad(203)).await;
        assert_eq!(raw.reply().await.status, Code::BAD_PAYLOAD);
        // What is found late is judged with the next read.
        let _may_be_closed = raw.try_write(&Ask::new(205, "it.Echo/echo").to_bytes()).await;
        assert_eq!(raw.last_word().await, CloseReason::TOO_MANY_ERRORS);
    }
}

/// Hooks that are ready cost no task: the call runs where its connection is read. Shown by the task
/// that handlers run in, the same for all calls, or one for each.
#[tokio::test]
async fn ready_hooks_cost_no_task() {
    for (act, tasks) in [(Act::Pass, 1), (Act::Later, 4)] {
        let method = Method::infallible("it.Echo/echo", 1, |_cx: Cx, _: u64| async move {
            Answer::Ok(tokio::task::id().to_string())
        });
        let log = Log::default();
        let server = Server::new().method(method).interceptor(Probe::new("a", act, &log));
        let (channel, _, _server) = mem(server);
        let stub: Plain<u64, String> = plain("it.Echo/echo");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..4 {
            seen.insert(channel.call(stub, 1).await.unwrap());
        }
        assert_eq!(seen.len(), tasks, "{act:?}");
    }
}

/// CA-19: a hook that hangs ends with the call's time, the answer names it, and nothing was
/// executed. Shown on the wire inline and spawned, with two places, on the paused clock.
#[tokio::test(start_paused = true)]
async fn ca_19_a_hook_that_hangs_ends_with_the_deadline() {
    // A blocking thread would keep the paused clock from going on.
    for run in [Run::Inline, Run::Spawn] {
        let log = Log::default();
        let probe = Probe::new("slow", Act::Hang, &log);
        let dropped = Arc::clone(&probe.dropped);
        let server = Server::new().method(echo().run(run).no_cancel());
        let server = server.interceptor(Probe::new("a", Act::Pass, &log)).interceptor(probe);
        let (mut raw, dispatch, _server) = mem_raw(server).await;
        for n in [1, 3, 5] {
            let begun = crate::support::now();
            raw.ask(Ask { timeout_ms: 100, ..Ask::new(n, "it.Echo/echo") }).await;
            let reply = raw.reply().await;

            let took = crate::support::now() - begun;
            assert!(took >= MS * 100 && took <= MS * 115, "{took:?}");
            assert_eq!(reply.status, Code::DEADLINE_EXCEEDED);
            assert_eq!(reply.disposition, Disposition::NotProcessed);
            let text = String::from_utf8_lossy(&reply.ext).into_owned();
            assert!(text.contains("in the interceptor slow"), "{text}");
            let all = ["before a", "before slow", "after a: DEADLINE_EXCEEDED NotProcessed"];
            assert_eq!(log.take(), all);
        }
        assert_eq!(dropped.get(), 3);
        assert_eq!(dispatch.stats()[0].started, 0);
    }
}

/// CA-8, CA-19: a handler is not started after the interceptors took all the time. Shown by hooks
/// that let calls pass at their very deadlines.
#[tokio::test(start_paused = true)]
async fn ca_8_nothing_is_started_after_the_interceptors_took_the_time() {
    let log = Log::default();
    let (mut raw, dispatch, _server) = mem_raw(server(&log, &[("late", Act::Linger)])).await;
    for n in 0..20 {
        let ask = Ask::new(2 * n + 1, "it.Echo/echo");
        raw.ask(Ask { timeout_ms: 20 + n, ..ask }).await;
        let reply = raw.reply().await;
        assert_eq!(reply.status, Code::DEADLINE_EXCEEDED);
        assert_eq!(reply.disposition, Disposition::NotProcessed);
    }
    assert!(!log.take().contains(&"handler".to_owned()));
    assert_eq!(dispatch.stats()[0].started, 0);
}

/// A hook that panics costs its call, which was not executed; one that panics when it is told the
/// end costs nothing. Shown with two places on the connection, four times each.
#[tokio::test]
async fn a_panic_in_a_hook_costs_its_call_at_most() {
    let log = Log::default();
    let acts = [("a", Act::Later), ("bad", Act::Panic)];
    // It was not executed, so it would be tried again.
    let mut config = ClientConfig::default();
    config.retry.attempts_max = 1;
    let (channel, dispatch, _server) =
        mem_with(server(&log, &acts), Channel::builder().config(config));
    for _ in 0..4 {
        let result = channel.call(echo_stub(), 1).await;
        let status = assert_status(result, Code::INTERNAL, Disposition::NotProcessed);
        assert_eq!(status.message(), "bad: the interceptor panicked");
        assert_eq!(log.take(), ["before a", "before bad", "after a: INTERNAL NotProcessed"]);
    }
    assert_eq!(dispatch.stats()[0].started, 0);

    let acts = [("a", Act::Pass), ("bad", Act::PanicAfter)];
    let (channel, dispatch, _server) = mem(server(&log, &acts));
    for n in 0..4 {
        assert_eq!(channel.call(echo_stub(), n).await, Ok(n));
        let all = ["before a", "before bad", "handler", "after bad: Ok", "after a: Ok"];
        assert_eq!(log.take(), all);
    }
    assert_eq!(dispatch.stats()[0].ok, 4);
}

/// CA-13: a handler that panics behind interceptors is PROCESSED as ever, and they are told.
#[tokio::test]
async fn ca_13_a_panic_behind_interceptors_is_processed() {
    let log = Log::default();
    let (channel, dispatch, _server) = mem(server(&log, &[("a", Act::Pass), ("b", Act::Later)]));
    for _ in 0..4 {
        let result = channel.call(echo_stub(), 13).await;
        assert_status(result, Code::INTERNAL, Disposition::Processed);
        let all = ["before a", "before b", "handler", "after b: Panicked", "after a: Panicked"];
        assert_eq!(log.take(), all);
    }
    let stats = &dispatch.stats()[0];
    assert_eq!((stats.started, stats.failed, stats.in_flight), (4, 4, 0));
}

/// CA-12: a call that is taken back while an interceptor has it was not executed, one whose handler
/// runs may have been. Either way what ran is dropped, and who let it pass is told once. Shown in
/// every mode.
#[tokio::test]
async fn ca_12_a_cancel_among_the_hooks_is_not_processed() {
    let log = Log::default();
    for run in [Run::Inline, Run::Spawn, Run::Blocking] {
        let probe = Probe::new("slow", Act::Hang, &log);
        let (entered, dropped) = (Arc::clone(&probe.entered), Arc::clone(&probe.dropped));
        let hung = Server::new().method(echo().run(run));
        let hung = hung.interceptor(Probe::new("a", Act::Pass, &log)).interceptor(probe);
        let (mut raw, dispatch, _server) = mem_raw(hung).await;
        raw.ask(Ask::new(1, "it.Echo/echo")).await;
        entered.reach(1).await;
        assert_eq!(dropped.get(), 0);
        raw.cancel(1).await;
        let reply = raw.reply().await;
        assert_eq!((reply.status, reply.disposition), (Code::CANCELLED, Disposition::NotProcessed));
        assert_eq!(dropped.get(), 1);
        assert_eq!(log.take(), ["before a", "before slow", "after a: Cancelled"]);
        let stats = &dispatch.stats()[0];
        assert_eq!((stats.started, stats.cancelled), (0, 0));
    }

    let gate = Gate::default();
    let running = Server::new().method(gate.method("it.Echo/echo"));
    let running = running.interceptor(Probe::new("a", Act::Later, &log));
    let (mut raw, dispatch, _server) = mem_raw(running).await;
    raw.ask(Ask::new(1, "it.Echo/echo")).await;
    gate.entered.reach(1).await;
    raw.cancel(1).await;
    let reply = raw.reply().await;
    assert_eq!((reply.status, reply.disposition), (Code::CANCELLED, Disposition::Maybe));
    assert_eq!(gate.left.get(), 1);
    assert_eq!(log.take(), ["before a", "after a: Cancelled"]);
    let stats = &dispatch.stats()[0];
    assert_eq!((stats.started, stats.cancelled), (1, 1));
}

/// Who let calls pass is told of them when the connection goes, and nothing hangs on.
#[tokio::test]
async fn hooks_are_told_when_the_connection_goes() {
    let log = Log::default();
    let gate = Gate::default();
    let hung = Server::new().method(gate.method("it.Echo/echo"));
    let (mut raw, _, served) = mem_raw(hung.interceptor(Probe::new("a", Act::Later, &log))).await;
    raw.ask(Ask::new(1, "it.Echo/echo")).await;
    gate.entered.reach(1).await;
    drop(raw);
    served.await.unwrap();
    gate.left.reach(1).await;
    settle().await;
    assert_eq!(log.take(), ["before a", "after a: Cancelled"]);
}

/// A typed user, as an interceptor finds it out.
#[derive(Debug)]
struct User(String);

/// Reads who calls from the metadata.
struct Auth;

impl ServerInterceptor for Auth {
    fn name(&self) -> &'static str {
        "auth"
    }

    fn before<'a>(&'a self, cx: &'a mut Cx) -> Hook<'a> {
        Hook::wait(async move {
            let token = cx.metadata().get("token").map(<[u8]>::to_vec);
            tokio::task::yield_now().await;
            let token = token.and_then(|token| String::from_utf8(token).ok());
            let token = token.ok_or_else(|| Status::new(Code::UNAUTHENTICATED, "no token"))?;
            let Peer { address, .. } = cx.peer();
            let user = User(format!("{token} from {address}"));
            cx.extensions_mut().insert(user);
            Ok(())
        })
    }
}

/// The handler finds what interceptors put into the extensions, in every mode.
#[tokio::test]
async fn extensions_reach_the_handler() {
    let whoami = |run| {
        let method = Method::infallible("it.Who/ami", 1, |cx: Cx, _: u64| async move {
            let user = cx.extensions().get::<User>().map(|user| user.0.clone());
            Answer::Ok(user.unwrap_or_default())
        });
        Server::new().method(method.run(run)).interceptor(Auth)
    };
    for run in [Run::Inline, Run::Spawn, Run::Blocking] {
        let (channel, _, _server) = mem(whoami(run));
        let stub: Plain<u64, String> = plain("it.Who/ami");
        let known = channel.call(stub, 1).metadata("token", b"ada").await;
        assert_eq!(known, Ok("ada from mem".to_owned()));
        let unknown = channel.call(stub, 1).await;
        assert_status(unknown, Code::UNAUTHENTICATED, Disposition::NotProcessed);
    }
}

/// ST-4: what a handler adds travels beside a response, the method's own error and a status, and
/// beside nothing else. Shown from the first poll and from a task.
#[tokio::test]
async fn st_4_metadata_travels_beside_every_answer() {
    let method = Method::new("it.Meta/meta", 1, |cx: Cx, n: u64| async move {
        if n >= 10 {
            tokio::task::yield_now().await;
        }
        if n % 10 != 3 {
            cx.add_response_metadata("n", n.to_string().as_bytes()).unwrap();
            cx.add_response_metadata("n", b"again").unwrap();
        }
        match n % 10 {
            1 => Err(CallError::App(n)),
            2 => Err(CallError::Rpc(Status::new(Code::NOT_FOUND, "x".repeat(2000)))),
            _ => Ok(n),
        }
    });
    let (channel, _, _server) = mem(Server::new().method(method));
    let stub: &Stub<u64, u64, u64> =
        leak(Stub::new("it.Meta/meta", 1, switchback::service::Fingerprint::UNCHECKED));
    let pairs = |metadata: &Metadata| {
        let pairs = metadata.iter();
        pairs.map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect::<Vec<_>>()
    };
    for n in [0, 1, 2, 3, 10, 11, 12, 13, 0] {
        let (result, metadata) = channel.call(stub, n).with_metadata().await;
        match n % 10 {
            1 => assert_eq!(result, Err(CallError::App(n))),
            2 => drop(assert_status(result, Code::NOT_FOUND, Disposition::Processed)),
            _ => assert_eq!(result, Ok(n)),
        }
        let expected = if n % 10 == 3 { vec![] } else { vec![format!("n={n}"), "n=again".into()] };
        assert_eq!(pairs(&metadata), expected, "{n}");
    }
}

/// CA-10, ST-4: 64 pairs and 8 KiB fit beside a response; beside an error, what its text leaves. A
/// context that outlives its call adds nothing, neither to that call nor to others.
#[tokio::test]
async fn ca_10_metadata_of_answers_has_its_limits() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let method = Method::infallible("it.Meta/fill", 1, move |cx: Cx, n: u64| {
        *keep.lock().unwrap() = Some(cx.clone());
        async move {
            let mut codes = Vec::new();
            for (count, bytes) in [(65, 1), (3, 4090)].into_iter().skip(usize::from(n > 0)) {
                for _ in 0..count {
                    let added = cx.add_response_metadata("n", &vec![7; bytes]);
                    codes.extend(added.err().map(|status| status.code()));
                }
                if n == 0 {
                    break;
                }
            }
            assert!(cx.add_response_metadata("N", b"").is_err());
            assert_eq!(codes, [Code::TOO_LARGE]);
            if n == 2 {
                return Err(CallError::Rpc(Status::new(Code::NOT_FOUND, "x".repeat(2000))));
            }
            Answer::Ok(n)
        }
    });
    let (channel, _, _server) = mem(Server::new().method(method).method(echo()));
    let stub: Plain<u64, u64> = plain("it.Meta/fill");
    for (n, pairs) in [(0, 64), (1, 2), (2, 1)] {
        let (result, metadata) = channel.call(stub, n).with_metadata().await;
        assert_eq!(metadata.iter().count(), pairs, "{n}: {result:?}");
        let outlived: Cx = kept.lock().unwrap().take().unwrap();
        let status = outlived.add_response_metadata("late", b"").unwrap_err();
        assert_eq!(status.code(), Code::FAILED_PRECONDITION);
        let (result, metadata) = channel.call(echo_stub(), 1).with_metadata().await;
        assert_eq!((result, metadata), (Ok(1), Metadata::default()));
    }
}
