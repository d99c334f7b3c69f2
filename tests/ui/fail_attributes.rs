//! What `#[rpc]` and `#[service]` do not know, or cannot mean.

#![allow(unused_imports, reason = "nothing is left of the traits")]

use switchback::Cx;

#[switchback::service(name = "bank Ledger")]
trait Named {
    #[rpc(version = 1)]
    async fn ping(&self, cx: &Cx, req: u8) -> u8;
}

#[switchback::service(version = 1)]
trait Keyed {
    #[rpc(version = 0)]
    async fn zero(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1, timeout = "2 s")]
    async fn unit(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1, timeout = "61m")]
    async fn long(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1, retry)]
    async fn unknown(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(idempotent)]
    async fn unversioned(&self, cx: &Cx, req: u8) -> u8;
    async fn bare(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1)]
    async fn connect(&self, cx: &Cx, req: u8) -> u8;
}

#[switchback::service]
struct NoTrait;

fn main() {}
