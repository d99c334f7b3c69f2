//! Older versions are older, distinct, and no more fallible than the method.

#![allow(unused_imports, reason = "nothing is left of the traits")]

use switchback::{Cx, Status};

#[switchback::service]
trait Compat {
    #[rpc(version = 2)]
    #[compat(2)]
    #[compat(1)]
    #[compat(1)]
    async fn versions(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 2)]
    #[compat(1, err = String)]
    async fn errors(&self, cx: &Cx, req: u8) -> Result<u8, Status>;
    #[rpc(version = 2)]
    #[compat(req = u8)]
    async fn unversioned(&self, cx: &Cx, req: u8) -> u8;
}

#[switchback::service]
trait Twice {
    #[rpc(version = 2)]
    #[compat(1)]
    async fn ping(&self, cx: &Cx, req: u8) -> u8;
    #[rpc(version = 1, name = "ping")]
    async fn ping_v1(&self, cx: &Cx, req: u8) -> u8;
}

fn main() {}
