//! The old version of a service as a trait of its own, beside the new one in one router.

#![deny(warnings)]

use serde::{Deserialize, Serialize};
use switchback::{Cx, Router, Schema};

#[derive(Clone, Debug, Serialize, Deserialize, Schema)]
pub struct TransferV1 {
    pub amount: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, Schema)]
pub struct Transfer {
    pub amount: u64,
}

#[switchback::service(name = "bank.Ledger")]
pub trait LedgerV1 {
    #[rpc(version = 1)]
    async fn transfer(&self, cx: &Cx, req: TransferV1) -> u32;
}

#[switchback::service(name = "bank.Ledger")]
pub trait Ledger {
    #[rpc(version = 2)]
    async fn transfer(&self, cx: &Cx, req: Transfer) -> u64;
}

struct Bank;

impl LedgerV1 for Bank {
    async fn transfer(&self, _cx: &Cx, req: TransferV1) -> u32 {
        req.amount
    }
}

impl Ledger for Bank {
    async fn transfer(&self, _cx: &Cx, req: Transfer) -> u64 {
        req.amount
    }
}

fn main() {
    let bank = std::sync::Arc::new(Bank);
    let router = Router::new()
        .service(LedgerV1Server::from_arc(bank.clone()))
        .service(LedgerServer::from_arc(bank.clone()));
    let dispatch = router.into_dispatch().expect("the two versions are distinct");
    let versions: Vec<u16> = dispatch.stats().iter().map(|stats| stats.version).collect();
    assert_eq!(versions, [1, 2]);

    let twice = Router::new()
        .service(LedgerServer::from_arc(bank.clone()))
        .service(LedgerServer::from_arc(bank));
    assert!(twice.into_dispatch().is_err());
}
