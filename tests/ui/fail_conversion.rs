//! A compat version needs conversions both ways, and a request that can be kept.

use serde::{Deserialize, Serialize};
use switchback::{Cx, Schema};

#[derive(Serialize, Deserialize, Schema)]
struct New(u64);

#[derive(Serialize, Deserialize, Schema)]
struct Old(u32);

impl From<Old> for New {
    fn from(old: Old) -> Self {
        Self(old.0.into())
    }
}

#[switchback::service]
trait Ledger {
    #[rpc(version = 2)]
    #[compat(1, req = Old)]
    async fn transfer(&self, cx: &Cx, req: New) -> u8;
}

fn main() {}
