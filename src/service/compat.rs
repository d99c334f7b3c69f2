//! Conversions between the types of two versions of a method.
//!
//! Four of them make an old and a new side meet (RT-7): on the server the old request to the new
//! one and the new answer to the old one; on a client the other way round. All are `TryFrom`: a
//! value that has no counterpart in the other version is a typed error, never a wrong value.
//!
//! Invariant: a request that does not convert was not executed; an answer that does not was.

use std::fmt::Display;

use crate::service::{CallError, Refusal, Status};
use crate::wire::Code;

/// Server: the request of an old caller, as the handler's type.
///
/// # Errors
/// A [`Refusal`] with [`Code::CONVERSION`]; nothing was executed.
pub fn upgrade_request<Old, New>(request: Old) -> Result<New, Refusal>
where
    New: TryFrom<Old, Error: Display>,
{
    New::try_from(request).map_err(|error| Refusal::new(Code::CONVERSION, text("request", &error)))
}

/// Client: the request of a new caller, as an old server knows it.
///
/// # Errors
/// [`Code::CONVERSION`], NOT_PROCESSED: nothing was sent.
pub fn downgrade_request<New, Old>(request: New) -> Result<Old, Status>
where
    Old: TryFrom<New, Error: Display>,
{
    Old::try_from(request)
        .map_err(|error| Status::refused(Code::CONVERSION, text("request", &error)))
}

/// An answer in the other version's types: on a server the handler's for an old caller, on a
/// client an old server's for a new caller. Whatever fails here, the call was executed.
///
/// # Errors
/// The method's error converted; or [`Code::CONVERSION`], PROCESSED.
pub fn convert_result<A, B, AError, BError>(
    result: Result<A, CallError<AError>>,
) -> Result<B, CallError<BError>>
where
    B: TryFrom<A, Error: Display>,
    BError: TryFrom<AError, Error: Display>,
{
    let failed = |message| CallError::Rpc(Status::new(Code::CONVERSION, message));
    match result {
        Ok(value) => B::try_from(value).map_err(|error| failed(text("response", &error))),
        Err(CallError::App(error)) => match BError::try_from(error) {
            Ok(error) => Err(CallError::App(error)),
            Err(error) => Err(failed(text("error", &error))),
        },
        Err(CallError::Rpc(status)) => Err(CallError::Rpc(status)),
    }
}

/// `Other: TryFrom<Self>` with an error that can be shown; named by what `#[compat]` asks for.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not convert to `{Other}`, which `#[compat]` needs",
    label = "no conversion from `{Self}` to `{Other}`",
    note = "implement `TryFrom<{Self}> for {Other}`, with an `Error` that implements `Display`, or \
            `From` if nothing can be lost"
)]
pub trait Converts<Other> {}

#[diagnostic::do_not_recommend]
impl<T, Other: TryFrom<T, Error: Display>> Converts<Other> for T {}

fn text(what: &str, error: &dyn Display) -> String {
    format!("the {what} has no counterpart in the other version: {error}")
}
