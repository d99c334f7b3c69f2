//! What can go wrong with a call, and what each failure allows its caller to do.
//!
//! ```text
//!   cargo run --example errors
//! ```
//!
//! A failure answers two questions: *what* went wrong (a code, or the method's own error) and
//! *whether the call was executed* (its disposition). The second decides whether it may be made
//! again; nobody has to guess that from the first.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::{CallError, Code, Cx, Disposition, Schema, Server, Status};

/// What this service refuses, as part of its contract.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
enum StockError {
    /// So many are left.
    OutOfStock { left: u32 },
}

#[switchback::service(name = "demo.Stock")]
trait Stock {
    /// Takes some away. An error of its own is typed on both sides.
    #[rpc(version = 1)]
    async fn take(&self, cx: &Cx, count: u32) -> Result<u32, StockError>;

    /// Fails in a way that needs no type: with a status.
    #[rpc(version = 1)]
    async fn audit(&self, cx: &Cx, day: String) -> Result<u32, Status>;

    /// Never ends in time.
    #[rpc(version = 1)]
    async fn count_all(&self, cx: &Cx, req: ()) -> u32;

    /// Has a bug.
    #[rpc(version = 1)]
    async fn recount(&self, cx: &Cx, req: ()) -> u32;
}

struct Shelf;

impl Stock for Shelf {
    async fn take(&self, _cx: &Cx, count: u32) -> Result<u32, StockError> {
        if count > 3 { Err(StockError::OutOfStock { left: 3 }) } else { Ok(count) }
    }

    async fn audit(&self, _cx: &Cx, day: String) -> Result<u32, Status> {
        Err(Status::new(Code::NOT_FOUND, format!("nothing was counted on {day}")))
    }

    async fn count_all(&self, _cx: &Cx, _req: ()) -> u32 {
        std::future::pending().await
    }

    async fn recount(&self, _cx: &Cx, _req: ()) -> u32 {
        panic!("the shelf is not there")
    }
}

/// What a caller may do, read from what it was told.
fn advice<E: std::fmt::Debug>(error: &CallError<E>) -> String {
    match error {
        CallError::App(error) => format!("the method's own error {error:?}: handle it"),
        CallError::Rpc(status) => {
            let again = match status.disposition() {
                Disposition::NotProcessed => "it was not executed: make it again if you like",
                Disposition::Maybe => "nobody knows: again only if twice does no harm",
                Disposition::Processed => "it was executed, and this is its outcome",
            };
            format!("{status}\n    at fault: {:?}; {again}", status.fault())
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The panic below is meant; its backtrace would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    let server = Server::new().service(StockServer::new(Shelf)).bind("tcp://127.0.0.1:0").await?;
    let address = server.url();
    let serving = tokio::spawn(server.serve_until(std::future::pending()));
    let stock = StockClient::connect(&address).await?;

    let error = stock.take(5).await.expect_err("there are three");
    assert_eq!(error, CallError::App(StockError::OutOfStock { left: 3 }));
    println!("take:\n    {}", advice(&error));

    let error = stock.audit("Sunday".into()).await.expect_err("nothing was counted");
    assert_eq!(error.status().map(Status::code), Some(Code::NOT_FOUND));
    assert_eq!(error.disposition(), Disposition::Processed);
    println!("audit:\n    {}", advice(&error));

    let error = stock.recount(()).await.expect_err("it panics");
    assert_eq!(error.status().map(Status::code), Some(Code::INTERNAL));
    println!("recount:\n    {}", advice(&error));

    let call = stock.count_all(()).timeout(Duration::from_millis(50));
    let error = call.await.expect_err("it never ends");
    assert_eq!(error.status().map(Status::code), Some(Code::DEADLINE_EXCEEDED));
    assert_eq!(error.disposition(), Disposition::Maybe);
    println!("count_all:\n    {}", advice(&error));

    // The server is gone for good: nobody listens there any more.
    serving.abort();
    let _aborted = serving.await;
    let lazy = StockClient::lazy(&address)?;
    let error = lazy.take(1).await.expect_err("nobody is there");
    assert_eq!(error.status().map(Status::code), Some(Code::NOT_CONNECTED));
    assert_eq!(error.disposition(), Disposition::NotProcessed);
    println!("take, without a server:\n    {}", advice(&error));
    Ok(())
}
