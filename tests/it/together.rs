//! Everything at once: interceptors on all sides, layers, a proxy, and callers who go any time.
//!
//! ```text
//!   client: per call, per attempt > proxy: interceptor, layer > server: both again, handler
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use switchback::driver::ServerTotals;
use switchback::service::{AttemptInterceptor, ClientCx, ClientInterceptor, Ended, Hook};
use switchback::service::{Fingerprint, ServerInterceptor};
use switchback::{CallError, Channel, Code, Cx, Dispatch, Method, Server, Status, Stub};
use tower::ServiceBuilder;

use crate::support::{Answer, Count, Plain, echo, echo_stub, in_time, leak, plain, settle};

/// Counts the calls that it has let pass, and the ends that it was told.
#[derive(Clone, Default)]
struct Counting(Arc<[Count; 2]>);

impl Counting {
    fn before(&self) -> Hook<'_> {
        Hook::wait(async {
            tokio::task::yield_now().await;
            self.0[0].add();
            Ok(())
        })
    }

    fn after(&self) {
        self.0[1].add();
    }

    /// So many passed, and so many ends.
    fn counts(&self) -> [usize; 2] {
        [self.0[0].get(), self.0[1].get()]
    }
}

impl ServerInterceptor for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn before<'a>(&'a self, _cx: &'a mut Cx) -> Hook<'a> {
        self.before()
    }

    fn after(&self, _cx: &Cx, _ended: &Ended) {
        self.after();
    }
}

impl ClientInterceptor for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn before<'a>(&'a self, _cx: &'a mut ClientCx) -> Hook<'a> {
        self.before()
    }

    fn after(&self, _cx: &ClientCx, _ended: &Ended) {
        self.after();
    }
}

impl AttemptInterceptor for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn before<'a>(&'a self, _cx: &'a mut ClientCx) -> Hook<'a> {
        self.before()
    }

    fn after(&self, _cx: &ClientCx, _ended: &Ended) {
        self.after();
    }
}

/// A server with an interceptor and a layer, and what it counts.
struct Side {
    url: String,
    counting: Counting,
    totals: Arc<ServerTotals>,
    dispatch: Dispatch,
}

async fn side(server: Server) -> Side {
    let counting = Counting::default();
    // One at a time, so that a permit that is lost is missed.
    let layers = ServiceBuilder::new().buffer(64).concurrency_limit(1);
    let server = server.interceptor(counting.clone()).layer(layers).bind("mem://").await.unwrap();
    let (url, totals, dispatch) = (server.url(), server.totals(), server.dispatch());
    drop(tokio::spawn(server.serve_until(std::future::pending())));
    Side { url, counting, totals, dispatch }
}

impl Side {
    fn assert_nothing_is_left(&self) {
        let load = self.totals.load();
        assert_eq!((load.calls, load.bytes), (0, 0), "{load:?}");
        let [passed, told] = self.counting.counts();
        assert_eq!(passed, told);
        for stats in self.dispatch.stats() {
            let ended = stats.ok + stats.app_errors + stats.failed + stats.cancelled;
            assert_eq!(stats.started, ended, "{stats:?}");
        }
    }
}

fn methods() -> [Method; 3] {
    let wait = |_cx: Cx, n: u64| async move {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        Answer::Ok(n)
    };
    let fail = |_cx: Cx, n: u64| async move {
        tokio::task::yield_now().await;
        let status = CallError::Rpc(Status::new(Code::NOT_FOUND, ""));
        Err::<u64, CallError<u64>>(if n == 2 { status } else { CallError::App(n) })
    };
    let panic = |_cx: Cx, n: u64| async move {
        tokio::task::yield_now().await;
        assert_eq!(n, 0, "told to");
        Answer::Ok(n)
    };
    [
        Method::infallible("it.All/wait", 1, wait),
        Method::new("it.All/fail", 1, fail),
        Method::infallible("it.All/panic", 1, panic),
    ]
}

/// Polls a call so often, with everybody else's turn between, and drops it.
async fn poll_and_drop(call: impl Future, polls: usize) {
    let mut call = Box::pin(call);
    for _ in 0..polls {
        let mut cx = Context::from_waker(Waker::noop());
        if Pin::new(&mut call).poll(&mut cx).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Whenever a caller goes, every interceptor that let its call pass is told one end, every handler
/// that was started is counted as ended, and no place, byte or permit stays taken. Shown by calls
/// that are dropped after each number of polls, and by deadlines at each millisecond.
#[tokio::test(start_paused = true)]
async fn whoever_goes_leaves_nothing_behind() {
    let sleep = |_cx: Cx, ms: u64| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Answer::Ok(ms)
    };
    let behind = Server::new().method(echo()).method(Method::infallible("it.All/sleep", 1, sleep));
    let behind = side(methods().into_iter().fold(behind, Server::method)).await;
    let front = side(Server::new().forward(Channel::lazy(&behind.url).unwrap())).await;
    let (per_call, per_attempt) = (Counting::default(), Counting::default());
    let builder = Channel::builder().interceptor(per_call.clone());
    let builder = builder.attempt_interceptor(per_attempt.clone());
    let channel = builder.connect(&front.url).await.unwrap();
    let fail = leak(Stub::<u64, u64, u64>::new("it.All/fail", 1, Fingerprint::UNCHECKED));
    let stubs: [Plain<u64, u64>; 3] = [echo_stub(), plain("it.All/wait"), plain("it.All/panic")];

    for polls in 0..48 {
        for stub in stubs {
            poll_and_drop(channel.call(stub, 7), polls).await;
        }
        for n in [2, 7] {
            poll_and_drop(channel.call(fail, n), polls).await;
        }
        settle().await;
    }
    let sleep: Plain<u64, u64> = plain("it.All/sleep");
    for ms in 1..24 {
        let call = channel.call(sleep, 12).timeout(Duration::from_millis(ms));
        let _may_be_late = in_time(call).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(in_time(channel.call(echo_stub(), 1)).await, Ok(1), "permits are free");
    settle().await;

    front.assert_nothing_is_left();
    behind.assert_nothing_is_left();
    for counting in [per_call, per_attempt] {
        let [passed, told] = counting.counts();
        assert_eq!(passed, told);
        assert!(passed > 100, "{passed}");
    }
}
