//! How to test what you build on switchback, without a network and without waiting.
//!
//! `Cashier` below is a user's own code: it asks a ledger, another team's service, to move money.
//! Its tests need that ledger to be there, to be broke, to be slow, to be gone. Four ways, each a
//! function here, in your project a `#[tokio::test(start_paused = true)]`:
//!
//! 1. `mocked`   the ledger answers what the test says           `#[service(.., mock)]`
//! 2. `in_time`  ten seconds pass in no time                     tokio's paused clock
//! 3. `for_real` a real server, in memory, no port               `mem://`
//! 4. `faulty`   the network is cut, silent, slow                `testing::Faults`
//!
//! `cargo run --example testing --features testing`; it ends by itself.

// An example talks to whoever runs it.
#![expect(clippy::print_stdout, reason = "this is what the program is for")]
#![expect(clippy::disallowed_methods, reason = "a test reads tokio's clock, which is paused here")]

use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::testing::Faults;
use switchback::{CallError, Channel, Code, Cx, Schema, Server};

// The contract, as the ledger's team publishes it. `mock` makes `LedgerMock` where the feature
// `testing` is on; elsewhere it makes nothing, so a contract may always say it.

/// What is to be moved.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub struct Transfer {
    /// Of this payment alone.
    pub key: String,
    /// How much.
    pub cents: u64,
}

/// That it was moved.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub struct Receipt {
    /// In the ledger's book.
    pub number: u64,
}

/// Why nothing was moved.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub enum LedgerError {
    /// There is not so much.
    Overdrawn {
        /// How much is not there.
        missing_cents: u64,
    },
}

/// Keeps accounts.
#[switchback::service(name = "bank.Ledger", mock)]
pub trait Ledger {
    /// Moves money. The same key moves it once, however often it is sent.
    #[rpc(version = 1, idempotent)]
    async fn transfer(&self, cx: &Cx, req: Transfer) -> Result<Receipt, LedgerError>;
}

// The code under test.

/// What a customer is told.
#[derive(Debug, PartialEq)]
enum Told {
    Paid { receipt: u64 },
    NotEnoughMoney,
    TryLater,
}

struct Cashier {
    ledger: LedgerClient,
}

impl Cashier {
    async fn pay(&self, key: &str, cents: u64) -> Told {
        let transfer = Transfer { key: key.to_owned(), cents };
        match self.ledger.transfer(transfer).await {
            Ok(receipt) => Told::Paid { receipt: receipt.number },
            Err(CallError::App(LedgerError::Overdrawn { .. })) => Told::NotEnoughMoney,
            Err(CallError::Rpc(_)) => Told::TryLater,
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Way 1: The ledger answers what the test says. The call is a real one: it is encoded, framed,
/// dispatched and decoded, in the versions of the contract.
async fn mocked() -> Outcome {
    let ledger = LedgerMock::new().transfer(|req| match req.cents {
        0..=100 => Ok(Receipt { number: 17 }),
        cents => Err(CallError::App(LedgerError::Overdrawn { missing_cents: cents - 100 })),
    });
    let cashier = Cashier { ledger: ledger.client() };

    assert_eq!(cashier.pay("a", 100).await, Told::Paid { receipt: 17 });
    assert_eq!(cashier.pay("b", 101).await, Told::NotEnoughMoney);
    assert_eq!(ledger.calls("transfer"), 2);
    Ok(())
}

/// Way 2: An answer that waits, and a deadline that passes. The clock stands still while anybody
/// has something to do, and jumps when nobody has.
async fn in_time() -> Outcome {
    let ledger = LedgerMock::new().transfer_with(|cx: Cx, _| async move {
        assert!(cx.remaining() <= Duration::from_secs(10), "the default deadline of a call");
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(Receipt { number: 17 })
    });
    let cashier = Cashier { ledger: ledger.client() };

    let begun = tokio::time::Instant::now();
    assert_eq!(cashier.pay("a", 100).await, Told::TryLater);
    let waited = tokio::time::Instant::now() - begun;

    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11));
    Ok(())
}

/// Way 3: The other side's own implementation, when you have it, behind a server of this process.
async fn for_real() -> Outcome {
    struct Poor;

    impl Ledger for Poor {
        async fn transfer(&self, _cx: &Cx, req: Transfer) -> Result<Receipt, LedgerError> {
            Err(LedgerError::Overdrawn { missing_cents: req.cents })
        }
    }

    let server = Server::new().service(LedgerServer::new(Poor)).bind("mem://").await?;
    let url = server.url(); // Like port 0: a name that is free.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(server.serve_until(async move { drop(stopped.await) }));

    let cashier = Cashier { ledger: LedgerClient::connect(&url).await? };
    assert_eq!(cashier.pay("a", 1).await, Told::NotEnoughMoney);

    drop(stop);
    served.await??; // Drains, as in production.
    assert_eq!(cashier.pay("b", 1).await, Told::TryLater);
    Ok(())
}

/// Way 4: A network with faults between the two. They are switched while it runs; what is drawn
/// comes from the seed, so that a failure can be had again.
async fn faulty() -> Outcome {
    let faults = Faults::seeded(42);
    let ledger = LedgerMock::new().transfer(|_| Ok(Receipt { number: 17 }));
    let server = Server::new().service(ledger.clone()).bind("mem://").await?;
    let channel = Channel::builder().transport(faults.connector_to(&server.url())?)?;
    tokio::spawn(server.serve_until(std::future::pending()));
    let cashier = Cashier { ledger: LedgerClient::new(channel.clone()) };

    // A slow network: half a second each way.
    faults.change(|plan| {
        plan.to_server.latency = Duration::from_millis(500);
        plan.to_client.latency = Duration::from_millis(500);
    });
    assert_eq!(cashier.pay("a", 1).await, Told::Paid { receipt: 17 });

    // The answer is lost with its connection. The method is idempotent, so the call is made again:
    // the ledger sees it twice, the customer hears of it once.
    faults.heal();
    faults.change(|plan| plan.to_client.cut_after_bytes = Some(1));
    let paying = cashier.pay("b", 1);
    let repaired = async {
        while ledger.calls("transfer") < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        faults.heal();
    };
    let (told, ()) = tokio::join!(paying, repaired);
    assert_eq!(told, Told::Paid { receipt: 17 });
    assert!(ledger.calls("transfer") > 2, "the first answer did not arrive");

    // Half-open: the ledger hears us, we hear nothing. Found after 10 s instead of never.
    faults.change(|plan| plan.to_client.is_blackhole = true);
    assert_eq!(cashier.pay("c", 1).await, Told::TryLater);

    // Over: what comes next is answered, on a new connection.
    faults.heal();
    let transfer = Transfer { key: "d".to_owned(), cents: 1 };
    let receipt = cashier.ledger.transfer(transfer).wait_for_ready(true).await;
    assert_eq!(receipt, Ok(Receipt { number: 17 }));

    // Nobody listens.
    faults.change(|plan| plan.refuses = true);
    faults.cut();
    let transfer = Transfer { key: "e".to_owned(), cents: 1 };
    let error = cashier.ledger.transfer(transfer).await.expect_err("nobody listens");
    let CallError::Rpc(status) = error else { return Err("a status was expected".into()) };
    assert_eq!(status.code(), Code::NOT_CONNECTED);
    Ok(())
}

/// In a project these are tests: `#[tokio::test(start_paused = true)]` is what happens here.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    mocked().await?;
    println!("mocked    a test says what the ledger answers");
    in_time().await?;
    println!("in_time   a deadline of 10 s has passed in no time");
    for_real().await?;
    println!("for_real  a real server without a port, drained at the end");
    faulty().await?;
    println!("faulty    slow, cut, half-open and refused, and well again");
    println!("ok        {:?} of virtual time", tokio::time::Instant::now() - begun);
    Ok(())
}
