//! The service of `tests/interop/SERVICE.md`, as this crate writes it.
//!
//! Invariant: the types' schema texts are those of that page; the peer compares their fingerprints
//! with its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchback::{Code, Cx, Dispatch, Schema, Status};

use crate::support::Count;

pub(crate) const ECHO: &str = "interop.Peer/echo";
/// Bytes of text in an answer of `echo`.
const TEXT_BYTES_MAX: usize = 1 << 26;

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct EchoV1 {
    text: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Echo {
    pub(crate) text: String,
    pub(crate) times: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Echoed {
    pub(crate) text: String,
    pub(crate) version: u16,
}

impl From<EchoV1> for Echo {
    fn from(old: EchoV1) -> Self {
        Self { text: old.text, times: 1 }
    }
}

impl TryFrom<Echo> for EchoV1 {
    type Error = &'static str;

    fn try_from(new: Echo) -> Result<Self, Self::Error> {
        if new.times == 1 { Ok(Self { text: new.text }) } else { Err("version 1 says it once") }
    }
}

impl From<Echoed> for EchoV1 {
    fn from(new: Echoed) -> Self {
        Self { text: new.text }
    }
}

impl From<EchoV1> for Echoed {
    fn from(old: EchoV1) -> Self {
        Self { text: old.text, version: 1 }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Divide {
    pub(crate) a: i64,
    pub(crate) b: i64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) enum DivideError {
    DivideByZero,
    Overflow { a: i64, b: i64 },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Sleep {
    pub(crate) ms: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Types {
    pub(crate) flag: bool,
    pub(crate) small: i8,
    pub(crate) big: u64,
    pub(crate) ratio: f64,
    pub(crate) letter: char,
    pub(crate) name: String,
    pub(crate) nothing: (),
    pub(crate) maybe: Option<u32>,
    pub(crate) absent: Option<u32>,
    pub(crate) list: Vec<i16>,
    pub(crate) map: BTreeMap<String, Vec<u8>>,
    pub(crate) pair: (u8, String),
    pub(crate) three: [u32; 3],
    pub(crate) shape: Shape,
    pub(crate) new: Newtype,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) enum Shape {
    Dot,
    Circle(f64),
    Rect { w: u32, h: u32 },
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Newtype(pub(crate) u64);

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Add {
    pub(crate) key: String,
    pub(crate) amount: u64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Added {
    pub(crate) key: String,
    pub(crate) total: u64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Caller {
    pub(crate) build: String,
    pub(crate) attempt: u8,
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Schema, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) message: String,
}

#[switchback::service(name = "interop.Peer")]
pub(crate) trait Interop {
    #[rpc(version = 2, idempotent)]
    #[compat(1, req = EchoV1, resp = EchoV1)]
    async fn echo(&self, cx: &Cx, req: Echo) -> Result<Echoed, Status>;

    #[rpc(version = 1, idempotent)]
    async fn divide(&self, cx: &Cx, req: Divide) -> Result<i64, DivideError>;

    #[rpc(version = 1, idempotent)]
    async fn sleep(&self, cx: &Cx, req: Sleep) -> u32;

    #[rpc(version = 1, idempotent)]
    async fn types(&self, cx: &Cx, req: Types) -> Types;

    #[rpc(version = 1)]
    async fn add(&self, cx: &Cx, req: Add) -> Result<Added, Status>;

    #[rpc(version = 1, idempotent)]
    async fn whoami(&self, cx: &Cx, req: ()) -> Caller;

    #[rpc(version = 1)]
    async fn fail(&self, cx: &Cx, req: Failure) -> Result<(), Status>;
}

/// How often each key was executed, by one server or by several.
pub(crate) type Executions = HashMap<String, u32>;

/// Serves it.
#[derive(Debug, Default)]
pub(crate) struct Served {
    total: Mutex<u64>,
    pub(crate) executions: Mutex<Executions>,
    /// The first `add` lowers the ceiling of `echo` to version 1 here.
    pub(crate) lowers: OnceLock<Dispatch>,
    /// Handlers of `sleep` that were stopped.
    pub(crate) stopped: Arc<Count>,
}

/// Counts what is dropped before its time.
struct Stopped(Option<Arc<Count>>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.add();
        }
    }
}

impl Interop for Arc<Served> {
    async fn echo(&self, _cx: &Cx, req: Echo) -> Result<Echoed, Status> {
        if req.text.len().saturating_mul(req.times as usize) > TEXT_BYTES_MAX {
            return Err(Status::new(Code::RESOURCE_EXHAUSTED, "too much text"));
        }
        Ok(Echoed { text: req.text.repeat(req.times as usize), version: 2 })
    }

    async fn divide(&self, _cx: &Cx, req: Divide) -> Result<i64, DivideError> {
        let Divide { a, b } = req;
        if b == 0 {
            return Err(DivideError::DivideByZero);
        }
        a.checked_div(b).ok_or(DivideError::Overflow { a, b })
    }

    async fn sleep(&self, _cx: &Cx, req: Sleep) -> u32 {
        let mut stopped = Stopped(Some(Arc::clone(&self.stopped)));
        tokio::time::sleep(Duration::from_millis(req.ms.into())).await;
        stopped.0 = None;
        req.ms
    }

    async fn types(&self, _cx: &Cx, req: Types) -> Types {
        req
    }

    async fn add(&self, _cx: &Cx, req: Add) -> Result<Added, Status> {
        *self.executions.lock().unwrap().entry(req.key.clone()).or_default() += 1;
        if let Some(dispatch) = self.lowers.get() {
            dispatch.set_ceiling(ECHO, Some(1)).unwrap();
        }
        let total = {
            let mut total = self.total.lock().unwrap();
            let full = || Status::new(Code::OUT_OF_RANGE, "the total is full");
            *total = total.checked_add(req.amount).ok_or_else(full)?;
            *total
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok(Added { key: req.key, total })
    }

    async fn whoami(&self, cx: &Cx, (): ()) -> Caller {
        let pairs = cx.metadata().iter();
        let metadata = pairs
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        Caller { build: cx.peer().build.clone(), attempt: cx.attempt(), metadata }
    }

    async fn fail(&self, _cx: &Cx, req: Failure) -> Result<(), Status> {
        Err(Status::new(Code::from_u16(req.code), req.message))
    }
}
