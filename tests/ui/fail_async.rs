//! `blocking` methods are plain functions, all others are not.

#![allow(unused_imports, reason = "nothing is left of the traits")]

use switchback::Cx;

#[switchback::service]
trait Async {
    #[rpc(version = 1)]
    fn forgotten(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1, blocking)]
    async fn surplus(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1, spawn, blocking)]
    fn both(&self, cx: &Cx, req: u8) -> u8;
}

fn main() {}
