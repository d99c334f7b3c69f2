//! Drives one protocol connection over one byte stream; the only place where both meet.
//!
//! A connection has two tasks. The *reader* takes bytes from the stream, lets the state machine
//! judge them, and hands on what they mean. The *flusher* writes what stands in the output and
//! sweeps deadlines. Callers append to the output themselves, and write it themselves when they
//! are alone or cross a threshold: a hop to another task costs more than a small write.
//!
//! Invariants: one owner of the write side at a time; no lock is held while user code runs or a
//! waker is called; an idle connection holds 2 KiB of buffers at most.

mod alarms;
mod answer_metadata;
mod call_task;
mod client;
mod client_flush;
mod client_reader;
mod client_settings;
mod ends;
mod entered;
mod flusher;
mod input;
mod intercepted;
#[cfg(feature = "otel")]
mod otel;
mod outbound;
mod runtime;
mod scratch;
mod server;
mod server_batch;
mod server_frames;
mod server_settings;
mod server_shared;
mod server_uploads;
mod signal;
mod totals;
mod trace_spans;
mod turns;
mod uploads;
mod writer;

pub use client::ClientDriver;
pub use client_settings::ClientSettings;
pub use ends::{ClientLoad, ClientTotals};
#[cfg(feature = "otel")]
pub use otel::Otel;
pub use runtime::{Clock, Random, Runtime, Spawn, TokioRuntime};
pub use server::serve_stream;
pub use server_settings::ServerSettings;
pub use server_shared::ConnectionHandle;
pub use totals::{ServerLoad, ServerTotals};
pub use trace_spans::Tracing;

pub(crate) use client::{Chosen, Start};
pub(crate) use scratch::with_reply;
pub(crate) use turns::{SLOTS, is_inside};
