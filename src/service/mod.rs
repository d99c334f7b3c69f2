//! What a method is: its names and versions, its types on the wire, its handler, and the table
//! that finds the handler. What the macros target; all of it works without them.

#[cfg(feature = "bincode")]
mod bincode_format;
mod body;
mod calls;
mod codec;
mod compat;
#[cfg(feature = "contract")]
mod contract;
mod counters;
mod cx;
mod dispatch;
mod extensions;
mod handler;
mod hook;
mod interceptor;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "tower")]
mod layers;
mod limits;
mod metadata;
mod method;
mod payload;
#[cfg(feature = "postcard")]
mod postcard_format;
#[cfg(feature = "protobuf")]
mod proto;
mod raw;
mod retire;
mod router;
mod routes;
mod schema;
mod schema_impls;
mod status;
mod stub;
mod trace;
mod with_bytes;

pub use calls::{CallStats, call_stats};
pub use codec::{Codec, CodecIdError, CustomCodec, DecodeError, EncodeError};
pub use compat::{Converts, convert_result, downgrade_request, upgrade_request};
#[cfg(feature = "contract")]
pub use contract::{Change, Comparison, Contract, ContractRow, Difference, LockError, Pledge};
#[cfg(feature = "contract")]
pub use contract::{SchemaTextError, SchemaTree, Variant, VariantContent};
pub use counters::MethodStats;
pub use cx::{Credentials, Cx, Peer};
pub use dispatch::{Dispatch, RouteError};
/// What a [`CustomCodec`] is written with.
pub use erased_serde;
pub use extensions::Extensions;
pub use hook::{End, Ended, Hook, Interceptors};
pub use interceptor::{AttemptInterceptor, ClientCx, ClientInterceptor, ServerInterceptor};
#[cfg(feature = "tower")]
pub use layers::{HandlerFuture, Handlers, ServerAnswer, ServerRequest};
pub use limits::DecodeLimits;
pub use metadata::Metadata;
pub use method::{Method, Refusal, Run, Service};
pub use payload::{Forms, Payload, Raw};
/// What the messages of a [`Proto`] are made with.
#[cfg(feature = "protobuf")]
pub use prost;
#[cfg(feature = "protobuf")]
pub use proto::Proto;
pub use raw::{Forward, RawRequest, RawResponse};
pub use retire::Retirement;
pub use router::Router;
pub use schema::{Fingerprint, Schema, SchemaFields, SchemaVariants, SchemaWriter};
pub use schema::{method_text, schema_text};
pub use status::{CallError, Fault, Status};
pub use stub::Stub;
pub use trace::TraceContext;
pub use with_bytes::WithBytes;

pub(crate) use body::{Body, Parts, PeerLimits, WHOLE_BYTES_MAX, finish_message};
pub(crate) use calls::CallEnd;
pub(crate) use codec::CodecIds;
pub(crate) use counters::{MethodCounters, Tally};
pub(crate) use cx::CallScope;
pub(crate) use dispatch::TableListener;
#[cfg(feature = "builtin")]
pub(crate) use dispatch::WeakDispatch;
pub(crate) use extensions::{served, with_served};
pub(crate) use handler::{Handler, Incoming, Outcome, Reply, Respond, append_status};
pub(crate) use hook::{Hooks, Running};
pub(crate) use interceptor::{Attempt, begin_attempt, begin_call};
#[cfg(feature = "tower")]
pub(crate) use layers::stack_of;
pub(crate) use metadata::MetadataBlock;
#[cfg(feature = "builtin")]
pub(crate) use routes::RoutedMethod;
pub(crate) use routes::{Entry, Lookup, Routes};
pub(crate) use stub::{Answer, StubVersion};
