//! Types that do not travel are named where they stand.

use serde::{Deserialize, Serialize};
use switchback::{Cx, Schema};

#[derive(Serialize, Deserialize)]
struct NoSchema;

#[derive(Schema)]
struct NoSerde;

#[switchback::service]
trait Wire {
    #[rpc(version = 1)]
    async fn schema(&self, cx: &Cx, req: NoSchema) -> u8;
    #[rpc(version = 1)]
    async fn serde(&self, cx: &Cx, req: u8) -> NoSerde;
}

fn main() {}
