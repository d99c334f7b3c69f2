//! The statuses that a client makes for what happened before an answer, or instead of one.
//!
//! Invariant: a disposition is only what is known: what was not sent is NOT_PROCESSED.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::service::{Status, Stub};
use crate::wire::{Code, Disposition};

pub(crate) fn not_connected(name: &str, error: Error) -> Status {
    let is_full = matches!(error.kind(), ErrorKind::QueueFull { .. });
    let code = if is_full { Code::QUEUE_FULL } else { Code::NOT_CONNECTED };
    Status::refused(code, format!("{name}: {error}")).with_source(Arc::new(error))
}

pub(crate) fn lost(name: &str, disposition: Disposition, why: Option<Error>) -> Status {
    let message = format!("{name}: the connection ended under the call");
    let status = Status::stamped(Code::CONNECTION_LOST, disposition, message);
    match why {
        Some(error) => status.with_source(Arc::new(error)),
        None => status,
    }
}

pub(crate) fn unsupported<Q, R, E>(stub: &Stub<Q, R, E>, served: Vec<u16>) -> Status {
    let ours: Vec<u16> = stub.versions.iter().map(|known| known.version).collect();
    let message = format!(
        "{}: this client speaks versions {ours:?}, the server serves {served:?}",
        stub.name
    );
    Status::refused(Code::UNSUPPORTED_VERSION, message).with_versions(served)
}
