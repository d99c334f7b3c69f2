//! Every key and every shape, under every lint that speaks about interfaces.

#![deny(warnings)]
#![deny(missing_docs, missing_debug_implementations, unreachable_pub, unnameable_types)]
#![deny(refining_impl_trait, async_fn_in_trait, single_use_lifetimes, elided_lifetimes_in_paths)]

use serde::{Deserialize, Serialize};
use switchback::{Cx, Schema, Status};

/// Named as the generated code might name its own.
#[derive(Clone, Debug, Serialize, Deserialize, Schema)]
pub struct S {
    /// A number.
    pub methods: u64,
}

/// All that a method can be.
#[switchback::service(name = "demo.Everything")]
pub trait Everything: std::fmt::Debug {
    /// Fails with an error of its own.
    #[rpc(version = 2, idempotent, timeout = "1500ms", spawn, no_cancel)]
    #[compat(1)]
    async fn fallible(&self, cx: &Cx, req: S) -> Result<S, String>;

    /// Fails with a status.
    #[rpc(version = 1, name = "other", id = 0x1234_5678)]
    async fn or_status(&self, _: &switchback::Cx, _: S) -> std::result::Result<S, Status>;

    /// Blocks.
    #[rpc(version = 65534, blocking, timeout = "1h")]
    fn blocking(&self, cx: &Cx, service: Vec<S>) -> Option<S>;

    /// Is not used any more.
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

    // Neither half is used.
    #[switchback::service]
    trait Unused {
        #[rpc(version = 1)]
        async fn ping(&self, cx: &Cx, req: u8) -> u8;
    }
}

#[derive(Debug)]
struct Handler;

impl Everything for Handler {
    async fn fallible(&self, cx: &Cx, req: S) -> Result<S, String> {
        if cx.is_cancelled() { Err("cancelled".to_owned()) } else { Ok(req) }
    }

    async fn or_status(&self, _cx: &Cx, req: S) -> Result<S, Status> {
        Ok(req)
    }

    fn blocking(&self, _cx: &Cx, mut service: Vec<S>) -> Option<S> {
        service.pop()
    }

    async fn r#loop(&self, _cx: &Cx, (): ()) {}
}

fn main() {
    let server = EverythingServer::new(Handler);
    let router = switchback::Router::new().service(server.clone());
    let dispatch = router.into_dispatch().expect("names and versions are distinct");

    let served: Vec<_> = dispatch.stats().iter().map(|s| (s.name.to_string(), s.version)).collect();
    let expected = [
        ("demo.Everything/blocking", 65_534),
        ("demo.Everything/fallible", 1),
        ("demo.Everything/fallible", 2),
        ("demo.Everything/loop", 1),
        ("demo.Everything/other", 1),
    ];
    assert_eq!(served, expected.map(|(name, version)| (name.to_owned(), version)));
    assert_eq!(format!("{server:?}"), "EverythingServer { .. }");
}
