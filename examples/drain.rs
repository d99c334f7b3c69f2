//! Replacing a server under load, and losing nothing.
//!
//! ```text
//!   cargo run --example drain
//! ```
//!
//! A client keeps eight calls in flight, none of them idempotent. The server is told to stop, as
//! SIGTERM would: it finishes the calls it has read and sends the client away, which waits for the
//! next server on the same address and makes there what the first one never read. In the end every
//! call was answered once, and the two servers together executed each of them once.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use switchback::{Channel, Cx, Server};
use tokio::sync::oneshot;

#[switchback::service(name = "demo.Printer")]
trait Printer {
    /// Prints a page. Twice would waste paper, so it is not idempotent.
    #[rpc(version = 1)]
    async fn print(&self, cx: &Cx, page: u64) -> u64;
}

struct Shop {
    printed: Arc<AtomicU64>,
}

impl Printer for Shop {
    async fn print(&self, _cx: &Cx, page: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.printed.fetch_add(1, Ordering::Relaxed);
        page
    }
}

/// A server that is running: how it is told to stop, and what it says when it has.
struct Running {
    address: String,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<switchback::server::Drained, switchback::Error>>,
}

async fn start(address: &str, printed: &Arc<AtomicU64>) -> Result<Running, switchback::Error> {
    let shop = Shop { printed: Arc::clone(printed) };
    let server = Server::new().service(PrinterServer::new(shop)).bind(address).await?;
    let address = server.url();
    let (stop, stopped) = oneshot::channel::<()>();
    // A program of its own would give `tokio::signal::ctrl_c()` or SIGTERM instead.
    let ended = tokio::spawn(server.serve_until(async move {
        let _told_or_dropped = stopped.await;
    }));
    Ok(Running { address, stop, ended })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (first_printed, second_printed) = (Arc::default(), Arc::default());
    let first = start("tcp://127.0.0.1:0", &first_printed).await?;
    let address = first.address.clone();

    let mut config = switchback::ClientConfig::default();
    // There is a moment with no server at all: calls wait for the next one instead of failing.
    config.wait_for_ready = true;
    let channel = Channel::builder().config(config).connect(&address).await?;
    let printer = PrinterClient::new(channel);

    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let printer = printer.clone();
            tokio::spawn(async move {
                for page in 0..PAGES {
                    let number = caller * PAGES + page;
                    assert_eq!(printer.print(number).await, Ok(number));
                }
            })
        })
        .collect();

    // In the middle of it the first server stops and a second one takes its place.
    while first_printed.load(Ordering::Relaxed) < CALLERS * PAGES / 2 {
        tokio::task::yield_now().await;
    }
    first.stop.send(()).map_err(|()| "the first server is gone already")?;
    let drained = first.ended.await??;
    let (pages, connections) = (first_printed.load(Ordering::Relaxed), drained.connections);
    println!("first server: printed {pages}, then drained {connections} connection in good order");
    let second = start(&address, &second_printed).await?;

    for caller in callers {
        caller.await?;
    }
    second.stop.send(()).map_err(|()| "the second server is gone already")?;
    second.ended.await??;

    let printed = [first_printed, second_printed].map(|it| it.load(Ordering::Relaxed));
    println!("second server: printed {}", printed[1]);
    assert_eq!(printed[0] + printed[1], CALLERS * PAGES, "each page once");
    println!("{} pages asked for, answered and printed once", CALLERS * PAGES);
    Ok(())
}

const CALLERS: u64 = 8;
const PAGES: u64 = 50;
