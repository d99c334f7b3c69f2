//! The connection without a socket: both sides' state machines, pure.
//!
//! How to drive one: feed bytes to [`Inbound`], hand what comes out to `handle_preface` and
//! `handle_frame`, act on the event, send what was appended to `out`. Time is an argument.
//!
//! ```text
//! bytes --> Inbound --> Preface | RawFrame --> ClientConnection | ServerConnection --> event
//!                                                     |
//!                                                     +--> bytes to send
//! ```
//!
//! Kinds of method: `handle_*` take input, `is_*` and `next_*` answer questions, the rest change
//! something on the owner's behalf. A peer's mistake is a [`Violation`], which closes the
//! connection with a reason; it never panics. Events borrow the input, never the connection.

mod calls;
mod client;
mod conduct;
mod earliest;
mod inbound;
mod keepalive;
mod known;
mod pending;
mod queue;
mod server;
mod violation;
mod window;

pub use calls::{CallOutcome, CallTable, Cancelled, LostDisposition, Opened, Taken};
pub use client::{ClientConnection, ClientEvent, ClientLimits};
pub use conduct::{Conduct, ConductLimits};
pub use inbound::{Inbound, Input};
pub use keepalive::{Beat, Keepalive, KeepaliveLimits};
pub use known::{KnownTable, TableCache, VersionChoice};
pub use pending::{Admitted, PendingCalls, PendingEnd};
pub use queue::{QueueFull, Ticket, WaitQueue};
pub use server::{ServerConnection, ServerEvent, ServerLimits};
pub use violation::Violation;
pub use window::{Credit, Window};
