//! A method takes `&self`, `&Cx` and one request; everything that does not is said at once.

#![allow(unused_imports, reason = "nothing is left of the traits")]

use switchback::Cx;

#[switchback::service]
trait Shapes<T> {
    const LIMIT: u8;
    type Item;
    #[rpc(version = 1)]
    async fn own(self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1)]
    async fn no_cx(&self, req: u8) -> u8;
    #[rpc(version = 1)]
    async fn two(&self, cx: &Cx, from: u64, to: u64) -> u8;
    #[rpc(version = 1)]
    async fn generic<Q>(&self, cx: &Cx, req: Q) -> u8;
    #[rpc(version = 1)]
    async fn borrowed(&self, cx: &Cx, req: &str) -> u8;
    #[rpc(version = 1)]
    async fn associated(&self, cx: &Cx, req: u8) -> Self::Item;
    #[rpc(version = 1)]
    async fn default(&self, cx: &Cx, req: u8) -> u8 {
        req
    }
}

fn main() {}
