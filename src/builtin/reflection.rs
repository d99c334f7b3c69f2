//! `switchback.Reflection`: what a server serves, to those who know nothing of it.
//!
//! Invariant: a page ends before its JSON, the longest form, could pass 48 KiB, and has at least
//! one method; a method with the 64 versions that it may have is below 8 KiB (BI-2).

use std::convert::Infallible;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use switchback_macros::Schema;

use crate::service::{CallError, Cx, Dispatch, Entry, Fingerprint, Method, RoutedMethod, Run};
use crate::service::{Status, Stub, WeakDispatch};
use crate::wire::Code;

/// What is asked.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct ListMethods {
    /// The id of the last method of the page before; `None` begins.
    pub after: Option<u32>,
}

/// Some of a server's methods.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct MethodsPage {
    /// Ascending by id.
    pub methods: Vec<ListedMethod>,
    /// Whether there are methods after these.
    pub more: bool,
}

/// A method as its server knows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct ListedMethod {
    /// `"service/method"`.
    pub name: String,
    /// Its number on the wire.
    pub id: u32,
    /// Versions above it are not callable; 65535: no such limit.
    pub ceiling: u16,
    /// Ascending.
    pub versions: Vec<ListedVersion>,
}

/// One version of a method.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct ListedVersion {
    /// 1 to 65,534.
    pub version: u16,
    /// Whether it is not above the ceiling.
    pub callable: bool,
    /// Of its types, 64 bits; 0: not known.
    pub fingerprint: u64,
    /// Whether the server knows that calling it twice does no harm.
    pub idempotent: bool,
    /// Where its handler runs.
    pub run: RunMode,
}

/// Where a handler runs; see [`Run`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub enum RunMode {
    /// In its connection's turn.
    Inline,
    /// In a task of its own.
    Spawn,
    /// In a thread that may block.
    Blocking,
}

/// Which method's text is asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct DescribeMethod {
    /// `"service/method"`.
    pub method: String,
    /// Which of its versions.
    pub version: u16,
}

/// A method's contract.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize)]
pub struct DescribedMethod {
    /// `request->response!error` in schema texts; `None`: the server was not told the types.
    pub text: Option<String>,
    /// Of the types, 64 bits; 0: not known.
    pub fingerprint: u64,
    /// Whether the server knows that calling it twice does no harm.
    pub idempotent: bool,
}

/// There is nothing to describe.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Schema, Serialize, thiserror::Error)]
pub enum NotDescribed {
    /// The server has no method of this name.
    #[error("the server has no such method")]
    NoSuchMethod,
    /// It has this method in these versions only.
    #[error("the server has no such version, it has {0:?}")]
    NoSuchVersion(Vec<u16>),
}

/// `list` and `describe`, for the server with this table.
pub(crate) fn reflection_methods(dispatch: WeakDispatch) -> [Method; 2] {
    let of_list = dispatch.clone();
    let list = move |_cx: Cx, request: ListMethods| {
        let page = of_list.upgrade().map(|dispatch| page(&dispatch, request.after));
        std::future::ready(page.ok_or_else(|| CallError::Rpc(gone())))
    };
    let describe = move |_cx: Cx, request: DescribeMethod| {
        let described = dispatch.upgrade().map(|dispatch| described(&dispatch, &request));
        std::future::ready(match described {
            None => Err(CallError::Rpc(gone())),
            Some(described) => described.map_err(CallError::App),
        })
    };
    // In tasks: they are long for a handler, and nobody's calls should wait for them.
    let list = Method::infallible(LIST, 1, list).run(Run::Spawn);
    let describe = Method::new(DESCRIBE, 1, describe).run(Run::Spawn);
    [
        list.schema::<ListMethods, MethodsPage, Infallible>().idempotent(),
        describe.schema::<DescribeMethod, DescribedMethod, NotDescribed>().idempotent(),
    ]
}

/// BI-4
fn page(dispatch: &Dispatch, after: Option<u32>) -> MethodsPage {
    let routes = dispatch.routes();
    let mut rest = routes.methods().iter().filter(|method| after.is_none_or(|id| method.id.0 > id));
    let (mut methods, mut bytes) = (Vec::new(), 0);
    for method in rest.by_ref() {
        methods.push(listed(method));
        bytes += METHOD_JSON_BYTES_MAX + method.entries.len() * VERSION_JSON_BYTES_MAX;
        if bytes > PAGE_JSON_BYTES {
            break;
        }
    }
    let more = rest.next().is_some();
    MethodsPage { methods, more }
}

fn listed(method: &RoutedMethod) -> ListedMethod {
    let version = |entry: &std::sync::Arc<Entry>| ListedVersion {
        version: entry.method.version,
        callable: entry.method.version <= method.ceiling,
        fingerprint: entry.method.fingerprint.as_u64(),
        idempotent: entry.method.idempotent,
        run: match entry.method.run {
            Run::Inline => RunMode::Inline,
            Run::Spawn => RunMode::Spawn,
            Run::Blocking => RunMode::Blocking,
        },
    };
    ListedMethod {
        name: method.name.to_string(),
        id: method.id.0,
        ceiling: method.ceiling,
        versions: method.entries.iter().map(version).collect(),
    }
}

/// BI-5
fn described(
    dispatch: &Dispatch,
    request: &DescribeMethod,
) -> Result<DescribedMethod, NotDescribed> {
    let routes = dispatch.routes();
    let mut methods = routes.methods().iter();
    let method = methods.find(|method| *method.name == *request.method);
    let method = method.ok_or(NotDescribed::NoSuchMethod)?;
    let mut entries = method.entries.iter();
    let Some(entry) = entries.find(|entry| entry.method.version == request.version) else {
        let versions = method.entries.iter().map(|entry| entry.method.version).collect();
        return Err(NotDescribed::NoSuchVersion(versions));
    };
    let method = &entry.method;
    let (text, fingerprint) = (method.text(), method.fingerprint.as_u64());
    Ok(DescribedMethod { text, fingerprint, idempotent: method.idempotent })
}

/// The table is held by those who serve it; a call that outlives them asks for what is gone.
pub(crate) fn gone() -> Status {
    Status::new(Code::UNAVAILABLE, "the server has ended")
}

pub(crate) static REFLECTION_LIST: LazyLock<Stub<ListMethods, MethodsPage, Infallible>> =
    LazyLock::new(|| {
        let fingerprint = Fingerprint::of_method::<ListMethods, MethodsPage, Infallible>();
        Stub::infallible(LIST, 1, fingerprint).idempotent()
    });

pub(crate) static REFLECTION_DESCRIBE: LazyLock<
    Stub<DescribeMethod, DescribedMethod, NotDescribed>,
> = LazyLock::new(|| {
    let fingerprint = Fingerprint::of_method::<DescribeMethod, DescribedMethod, NotDescribed>();
    Stub::new(DESCRIBE, 1, fingerprint).idempotent()
});

const LIST: &str = "switchback.Reflection/list";
const DESCRIBE: &str = "switchback.Reflection/describe";
/// A page ends with the method that passes this: with a method of 64 versions it is below 48 KiB.
const PAGE_JSON_BYTES: usize = 40 * 1024;
/// `{"name":"","id":4294967295,"ceiling":65535,"versions":[]},` and a name of 128 bytes.
const METHOD_JSON_BYTES_MAX: usize = 58 + 128;
/// `{"version":65534,"callable":false,"fingerprint":18446744073709551615,"idempotent":false,
/// "run":"Blocking"},`
const VERSION_JSON_BYTES_MAX: usize = 110;
