//! A handler's future moves between threads.

use switchback::Cx;

#[switchback::service]
trait Ledger {
    #[rpc(version = 1)]
    async fn ping(&self, cx: &Cx, req: u8) -> u8;
}

struct Bank;

impl Ledger for Bank {
    async fn ping(&self, _cx: &Cx, req: u8) -> u8 {
        let held = std::rc::Rc::new(req);
        std::future::ready(()).await;
        *held
    }
}

fn main() {}
