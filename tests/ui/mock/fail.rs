//! A mock's own functions are not a method's, and its answers have the types of the contract.

use switchback::Cx;

#[switchback::service(mock)]
trait Taken {
    #[rpc(version = 1)]
    async fn client(&self, cx: &Cx, req: u8) -> u8;

    #[rpc(version = 1)]
    async fn open(&self, cx: &Cx, req: u8) -> u8;

    #[rpc(version = 1)]
    async fn open_with(&self, cx: &Cx, req: u8) -> u8;
}

#[switchback::service(name = "demo.Mocked", mocked)]
trait Misspelt {
    #[rpc(version = 1)]
    async fn open(&self, cx: &Cx, req: u8) -> u8;
}

#[switchback::service(name = "demo.Mocked", mock)]
trait Mocked {
    #[rpc(version = 1)]
    async fn open(&self, cx: &Cx, req: u8) -> u8;
}

fn main() {
    let _ = MockedMock::new().open(|n: u8| n.to_string());
}
