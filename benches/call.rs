//! Calls a second, one connection, 1, 64 and 512 calls in flight, over TCP, a Unix socket and in
//! memory.
//!
//! Server and client each have a thread and a current-thread runtime of their own, so that the
//! figure is that of two parties and not of one scheduler. One iteration is a batch of calls.
//! Ratios to other crates are another matter: see the peers bench of a later issue.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use switchback::service::Fingerprint;
use switchback::{CallError, Channel, Cx, Method, Server, Stub};
use tokio::runtime::Runtime;

/// About 50 bytes encoded: an id, a name of 16 bytes, eight tags.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Message {
    id: u64,
    name: String,
    tags: Vec<u32>,
}

static ECHO: LazyLock<Stub<Message, Message, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/echo", 1, Fingerprint::UNCHECKED));

const CALLS: u64 = 2_000;

fn calls(c: &mut Criterion) {
    for transport in ["tcp", "unix", "mem"] {
        let mut group = c.benchmark_group(format!("call/{transport}"));
        group.throughput(Throughput::Elements(CALLS));
        group.measurement_time(Duration::from_secs(5));
        group.sample_size(20);
        for in_flight in [1_u64, 64, 512] {
            let (runtime, channel) = connect(transport);
            group.bench_function(BenchmarkId::from_parameter(in_flight), |b| {
                b.iter(|| runtime.block_on(run(&channel, in_flight)));
            });
        }
        group.finish();
    }
}

async fn run(channel: &Channel, in_flight: u64) {
    let mut tasks = Vec::new();
    for task in 0..in_flight {
        let channel = channel.clone();
        let share = CALLS / in_flight + u64::from(task < CALLS % in_flight);
        tasks.push(tokio::spawn(async move {
            for id in 0..share {
                let echoed = channel.call(&ECHO, message(id)).await.expect("the bench's server");
                assert_eq!(black_box(echoed).id, id);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
}

fn message(id: u64) -> Message {
    Message { id, name: "sixteen bytes...".to_owned(), tags: vec![1, 2, 3, 4, 5, 6, 7, 8] }
}

fn server() -> Server {
    let echo =
        |_cx: Cx, message: Message| async move { Ok::<Message, CallError<Infallible>>(message) };
    Server::new().method(Method::infallible("bench.Echo/echo", 1, echo))
}

fn connect(transport: &str) -> (Runtime, Channel) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (send, receive) = std::sync::mpsc::channel();
    let address = match transport {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        "unix" => {
            // Every server stays up until the end, so each has a socket of its own.
            let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
            let name = format!("switchback-bench-{}-{number}.sock", std::process::id());
            format!("unix://{}", std::env::temp_dir().join(name).display())
        }
        _ => "mem://".to_owned(),
    };
    in_thread(async move {
        let server = server().bind(&address).await.expect("a free address");
        send.send(server.url()).expect("somebody waits");
        server.serve_until(std::future::pending()).await.expect("never told to stop");
    });
    let address = receive.recv().expect("the server's address");
    let channel = runtime.block_on(Channel::connect(&address)).expect("a connection");
    (runtime, channel)
}

/// A party of its own; it ends with the process.
fn in_thread(work: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work);
    });
}

static SOCKETS: AtomicU64 = AtomicU64::new(0);

criterion_group!(benches, calls);
criterion_main!(benches);
