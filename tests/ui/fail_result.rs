//! An alias hides the error type, which is a part of the contract.

#![allow(unused_imports, reason = "nothing is left of the traits")]

use switchback::Cx;

#[switchback::service]
trait Hidden {
    #[rpc(version = 1)]
    async fn alias(&self, cx: &Cx, req: u8) -> std::io::Result<u8>;
    #[rpc(version = 1)]
    async fn never(&self, cx: &Cx, req: u8) -> Result<u8, std::convert::Infallible>;
}

fn main() {}
