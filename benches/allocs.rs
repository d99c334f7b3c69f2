//! Allocations per call, counted by thread: the client's and the server's apart.
//!
//! Two rows: a message with a string and a vector, whose own allocations are the user's, and a
//! plain number, where all that is left is the crate's. Each is the difference of a long run and
//! a short one, so that connecting does not count.

use std::convert::Infallible;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use switchback::service::{Fingerprint, Payload};
use switchback::{CallError, Channel, Cx, Method, Server, Stub};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Message {
    id: u64,
    name: String,
    tags: Vec<u32>,
}

static NUMBER: LazyLock<Stub<u64, u64, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/number", 1, Fingerprint::UNCHECKED));
static MESSAGE: LazyLock<Stub<Message, Message, Infallible>> =
    LazyLock::new(|| Stub::infallible("bench.Echo/message", 1, Fingerprint::UNCHECKED));

const SHORT: u64 = 1_024;
const LONG: u64 = 11_264;

#[expect(clippy::print_stdout, reason = "the table is what this bench is for")]
fn main() {
    let name = "sixteen bytes...".to_owned();
    let message = Message { id: 7, name, tags: vec![1, 2, 3, 4, 5, 6, 7, 8] };
    println!("allocations per call");
    for in_flight in [1, 64, 512] {
        println!("{in_flight:4} in flight, {}", row("number", &NUMBER, 7, in_flight));
        println!(
            "{in_flight:4} in flight, {}",
            row("message", &MESSAGE, message.clone(), in_flight)
        );
    }
}

fn row<T: Clone + Payload + Sync>(
    what: &str,
    stub: &'static Stub<T, T, Infallible>,
    value: T,
    in_flight: u64,
) -> String {
    let [short, long] = [SHORT, LONG].map(|calls| measure(stub, value.clone(), calls, in_flight));
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let per_call =
        |long: u64, short: u64| long.saturating_sub(short) as f64 / (LONG - SHORT) as f64;
    let (client, server) = (per_call(long.0, short.0), per_call(long.1, short.1));
    format!("{what:8} client {client:6.3}   server {server:6.3}")
}

/// Allocations of the client's thread and of the server's, in one run.
fn measure<T: Clone + Payload + Sync>(
    stub: &'static Stub<T, T, Infallible>,
    value: T,
    calls: u64,
    in_flight: u64,
) -> (u64, u64) {
    let (send, receive) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        allocation_counter::measure(|| {
            runtime().block_on(async move {
                let echo = |_cx: Cx, value: T| async move { Ok::<T, CallError<Infallible>>(value) };
                let method = Method::infallible(stub.name(), 1, echo);
                let server = Server::new().method(method).bind("tcp://127.0.0.1:0");
                let server = server.await.expect("a free port");
                send.send(server.url()).expect("somebody waits");
                server.serve_until(async { drop(stopped.await) }).await.expect("a drain");
            });
        })
    });
    let address = receive.recv().expect("the server's address");
    let client = allocation_counter::measure(|| {
        runtime().block_on(async move {
            let channel = Channel::connect(&address).await.expect("a connection");
            let mut tasks = Vec::new();
            for _ in 0..in_flight {
                let (channel, value) = (channel.clone(), value.clone());
                tasks.push(tokio::spawn(async move {
                    for _ in 0..calls / in_flight {
                        channel.call(stub, value.clone()).await.expect("the bench's server");
                    }
                }));
            }
            for task in tasks {
                task.await.expect("no panic");
            }
        });
    });
    drop(stop);
    let server = server.join().expect("no panic");
    (client.count_total, server.count_total)
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}
