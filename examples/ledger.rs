//! Money: what may be tried again by itself, what may not, and how a key makes the difference.
//!
//! ```text
//!   cargo run --example ledger
//! ```
//!
//! `transfer` is not idempotent: if its outcome is unknown, nobody tries it again, and the caller
//! is told so. `transfer_once` carries a key that the caller draws once for each intent; the bank
//! keeps the receipt under it, so doing it twice gives the same receipt. That makes it idempotent,
//! and a failure in the middle is tried again without a word.
//!
//! The connection of both is cut in the very moment in which the bank has booked and not answered
//! yet: the worst moment there is.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use switchback::{Cx, Disposition, Schema, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Moves money.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
struct Transfer {
    cents: u64,
}

/// The same, at most once for each key.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
struct KeyedTransfer {
    /// Drawn by the caller for this intent, and the same in each attempt.
    key: u64,
    cents: u64,
}

/// What was booked.
#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
struct Receipt {
    entry: u64,
    balance: u64,
}

#[switchback::service(name = "bank.Ledger")]
trait Ledger {
    /// Books at once. Twice is wrong.
    #[rpc(version = 1)]
    async fn transfer(&self, cx: &Cx, req: Transfer) -> Receipt;

    /// Books unless this key was booked before. Twice is the same as once: idempotent.
    #[rpc(version = 1, idempotent)]
    async fn transfer_once(&self, cx: &Cx, req: KeyedTransfer) -> Receipt;
}

#[derive(Default)]
struct Books {
    entries: Vec<u64>,
    /// A bank would keep these in the same transaction as the entry, and for as long as callers
    /// may try again.
    receipts: BTreeMap<u64, Receipt>,
}

#[derive(Default)]
struct Bank {
    books: Mutex<Books>,
    /// Whether the next booking's answer is to be held back, until the line is cut.
    holds_answer: AtomicBool,
    booked: Notify,
}

impl Bank {
    fn book(&self, cents: u64, key: Option<u64>) -> Receipt {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receipt) = key.and_then(|key| books.receipts.get(&key)) {
            return receipt.clone();
        }
        books.entries.push(cents);
        let entry = books.entries.len() as u64;
        let receipt = Receipt { entry, balance: books.entries.iter().sum() };
        if let Some(key) = key {
            books.receipts.insert(key, receipt.clone());
        }
        receipt
    }

    async fn answer(&self, receipt: Receipt) -> Receipt {
        if self.holds_answer.swap(false, Ordering::AcqRel) {
            self.booked.notify_one();
            std::future::pending::<()>().await;
        }
        receipt
    }

    fn entries(&self) -> usize {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }
}

/// The service's side of it: what others hold too is behind an `Arc`.
struct Counter(Arc<Bank>);

impl Ledger for Counter {
    async fn transfer(&self, _cx: &Cx, req: Transfer) -> Receipt {
        let receipt = self.0.book(req.cents, None);
        self.0.answer(receipt).await
    }

    async fn transfer_once(&self, _cx: &Cx, req: KeyedTransfer) -> Receipt {
        let receipt = self.0.book(req.cents, Some(req.key));
        self.0.answer(receipt).await
    }
}

/// A line between client and bank that can be cut: whoever is connected is gone, the next may come.
async fn line(bank: String, cut: Arc<Notify>) -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("tcp://{}", listener.local_addr()?);
    let bank = bank.trim_start_matches("tcp://").to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (bank, cut) = (bank.clone(), Arc::clone(&cut));
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(bank).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    () = cut.notified() => {} // Both ends are dropped here.
                }
            });
        }
    });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bank = Arc::new(Bank::default());
    let service = LedgerServer::new(Counter(Arc::clone(&bank)));
    let server = Server::new().service(service).bind("tcp://127.0.0.1:0").await?;
    let cut = Arc::new(Notify::new());
    let address = line(server.url(), Arc::clone(&cut)).await?;
    tokio::spawn(server.serve_until(std::future::pending()));
    let ledger = LedgerClient::connect(&address).await?;

    // Cuts the line when the bank has booked, before it answers.
    let cut_after_booking = || {
        bank.holds_answer.store(true, Ordering::Release);
        let (bank, cut) = (Arc::clone(&bank), Arc::clone(&cut));
        tokio::spawn(async move {
            bank.booked.notified().await;
            cut.notify_waiters();
        })
    };

    let cutting = cut_after_booking();
    let error = ledger.transfer(Transfer { cents: 100 }).await.expect_err("the line was cut");
    cutting.await?;
    assert_eq!(error.disposition(), Disposition::Maybe);
    assert_eq!(bank.entries(), 1);
    println!("transfer: {error}");
    println!("    booked {} time; nobody tries it again: that would book twice", bank.entries());

    let cutting = cut_after_booking();
    let receipt = ledger.transfer_once(KeyedTransfer { key: 8731, cents: 250 }).await?;
    cutting.await?;
    assert_eq!(receipt, Receipt { entry: 2, balance: 350 });
    assert_eq!(bank.entries(), 2);
    println!("transfer_once: {receipt:?}");
    println!("    tried again under its key after the cut; {} entries in all", bank.entries());
    Ok(())
}
