//! The servers that the program is pointed at, each in a runtime of its own that can be killed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchback::builtin::Health;
use switchback::service::{DecodeError, DecodeLimits, EncodeError, Forms, Payload};
use switchback::{CallError, Code, Codec, Cx, Method, Schema, Server, Status};
use tokio::runtime::Runtime;

#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Transfer {
    pub(crate) lines: Vec<Line>,
    pub(crate) note: Option<String>,
    pub(crate) mode: Mode,
}

#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Line {
    pub(crate) to: String,
    pub(crate) cents: u64,
}

#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) enum Mode {
    Now,
    Later { days: u8 },
    Split(u8, u8),
}

#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Receipt {
    pub(crate) total: u64,
    pub(crate) largest: u128,
    pub(crate) by: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize, Schema, Serialize, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no such account: {0}")]
    NoSuchAccount(String),
}

/// A type that contains itself.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) children: Vec<Child>,
}

/// What is in it, two types away from itself.
#[derive(Clone, Debug, Deserialize, Schema, Serialize)]
pub(crate) enum Child {
    Leaf(u8),
    Node(Box<Tree>),
}

#[switchback::service(name = "bank.Ledger")]
pub(crate) trait Ledger {
    #[rpc(version = 1)]
    async fn transfer(&self, cx: &Cx, req: Transfer) -> Result<Receipt, Refused>;
    #[rpc(version = 1, idempotent)]
    async fn count(&self, cx: &Cx, req: Tree) -> u64;
    #[rpc(version = 1)]
    async fn never(&self, cx: &Cx, req: ()) -> ();
}

struct Bank;

impl Ledger for Bank {
    async fn transfer(&self, cx: &Cx, req: Transfer) -> Result<Receipt, Refused> {
        if let Some(line) = req.lines.iter().find(|line| line.to == "nobody") {
            return Err(Refused::NoSuchAccount(format!("\x1b[31m{}", line.to)));
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut by: BTreeMap<String, String> =
            cx.metadata().iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
        by.insert("mode".to_owned(), format!("{:?}, {:?}", req.mode, req.note));
        let total = req.lines.iter().map(|line| line.cents).sum();
        Ok(Receipt { total, largest: u128::MAX, by })
    }

    async fn count(&self, _cx: &Cx, req: Tree) -> u64 {
        fn count(tree: &Tree) -> u64 {
            let below = |child: &Child| match child {
                Child::Leaf(_) => 1,
                Child::Node(tree) => count(tree),
            };
            1 + tree.children.iter().map(below).sum::<u64>()
        }
        count(&req)
    }

    async fn never(&self, _cx: &Cx, (): ()) {
        std::future::pending().await
    }
}

/// A server that is up until it is dropped, which kills it: no goodbye on its connections.
pub(crate) struct Served {
    pub(crate) url: String,
    runtime: Option<Runtime>,
}

impl Served {
    pub(crate) fn new(server: Server) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bound = runtime.block_on(server.bind("tcp://127.0.0.1:0")).unwrap();
        let url = bound.url();
        runtime.spawn(bound.serve_until(std::future::pending()));
        Self { url, runtime: Some(runtime) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// The bank with everything that this program asks for.
pub(crate) fn bank() -> Served {
    let server = Server::new().service(LedgerServer::new(Bank));
    Served::new(server.health(Health::new()).reflection().counters())
}

/// A server that tells nothing but what every server does.
pub(crate) fn silent() -> Served {
    Served::new(Server::new().service(LedgerServer::new(Bank)))
}

/// A service of one method, `demo.Math/double` in these versions.
pub(crate) fn math(methods: impl IntoIterator<Item = Method>) -> Served {
    let server = methods.into_iter().fold(Server::new(), Server::method);
    Served::new(server.reflection())
}

/// One version of `demo.Math/double`.
pub(crate) fn double<Q: Payload + Schema>(version: u16) -> Method {
    let handler = |_cx: Cx, request: Q| async move { Ok::<Q, CallError<Never>>(request) };
    Method::infallible("demo.Math/double", version, handler).schema::<Q, Q, Never>()
}

pub(crate) type Never = std::convert::Infallible;

/// A payload with no form in JSON.
pub(crate) struct Opaque;

impl Payload for Opaque {
    const FORMS: Forms = Forms::PROTOBUF;

    fn encode_payload(&self, _codec: &Codec, _out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Ok(())
    }

    fn decode_payload(
        _codec: &Codec,
        _bytes: &[u8],
        _limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// `demo.Math/rude`, whose status would paint a terminal red.
pub(crate) fn rude() -> Method {
    let handler = |_cx: Cx, _request: u64| async {
        let status = Status::new(Code::NOT_FOUND, "\x1b[31mred\r\x07");
        Err::<u64, CallError<Never>>(CallError::Rpc(status))
    };
    Method::infallible("demo.Math/rude", 1, handler).schema::<u64, u64, Never>()
}

/// `demo.Math/opaque`, whose types nobody was told.
pub(crate) fn opaque() -> Method {
    let handler = |_cx: Cx, request: Opaque| async move { Ok::<Opaque, CallError<Never>>(request) };
    Method::infallible("demo.Math/opaque", 1, handler)
}
