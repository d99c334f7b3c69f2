//! Without the feature there is no mock, and rustc says where it was left out.

use switchback::Cx;

#[switchback::service(name = "demo.Mocked", mock)]
trait Mocked {
    #[rpc(version = 1)]
    async fn open(&self, cx: &Cx, req: u8) -> u8;
}

fn main() {
    let _ = MockedMock::new();
}
