//! A mock of every shape of method, under every lint that speaks about interfaces.

#![deny(warnings)]
#![deny(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types)]

use switchback::{Code, Cx, Status};

/// Named as the generated code might name its own.
#[switchback::service(name = "demo.Mocked", mock)]
pub trait Mocked {
    /// Fails with an error of its own.
    #[rpc(version = 2, idempotent, no_cancel)]
    #[compat(1)]
    async fn fallible(&self, cx: &Cx, req: u8) -> Result<u16, String>;

    /// Fails with a status.
    #[rpc(version = 1, name = "other")]
    async fn answer(&self, _: &Cx, _: u8) -> Result<u16, Status>;

    /// Blocks.
    #[rpc(version = 1, blocking)]
    fn request(&self, cx: &Cx, answer: Vec<u8>) -> Option<u8>;

    /// Gives nothing, and is not used any more.
    #[deprecated]
    #[rpc(version = 1)]
    async fn r#loop(&self, cx: &Cx, r#type: ());

    /// Is not there.
    #[cfg(any())]
    #[rpc(version = 1)]
    async fn left_out(&self, cx: &Cx, req: Unknown) -> Unknown;
}

mod inner {
    use switchback::Cx;

    // Nothing of it is used.
    #[switchback::service(mock)]
    trait Unused {
        #[rpc(version = 1)]
        async fn ping(&self, cx: &Cx, req: u8) -> u8;
    }
}

fn main() {
    let mock = MockedMock::default()
        .fallible(|n| if n > 0 { Ok(n.into()) } else { Err(String::from("none").into_app()) })
        .fallible_with(|_, n| async move { Ok(u16::from(n)) })
        .answer(|n| n.checked_mul(2).map(u16::from).ok_or_else(|| Status::new(Code::NOT_FOUND, "")))
        .answer_with(|_, n| async move { Ok(u16::from(n)) })
        .request(|mut bytes| bytes.pop())
        .request_with(|_, mut bytes| async move { bytes.pop() })
        .r#loop(|()| ())
        .loop_with(|_, ()| async {});
    assert_eq!(mock.calls("loop"), 0);

    let router = switchback::Router::new().service(mock);
    let dispatch = router.into_dispatch().expect("names and versions are distinct");
    assert_eq!(dispatch.stats().len(), 5);
}

trait IntoApp: Sized {
    fn into_app(self) -> switchback::CallError<Self> {
        switchback::CallError::App(self)
    }
}

impl IntoApp for String {}
