//! `#[service]`: a trait of versioned methods becomes that trait, its server and its client.
//!
//! ```text
//!   tokens -- parse --> what the attributes say -- model --> a checked service -- emit --> tokens
//! ```
//!
//! Invariants: whatever is wrong with the text is found before anything is emitted, and all of it
//! is reported at once; generated code names only `::switchback::__private` and what the trait
//! itself names; a service that passes here is refused at start only for what spans several traits.
//! Why return types are read from their text: a macro sees no types, and `Result<T, E>` must be
//! told from a plain response without asking the user to say it twice.

use proc_macro2::TokenStream;
use syn::{Error, ItemTrait};

use crate::service::model::Service;
use crate::service::parse::ServiceArgs;

mod emit;
mod emit_client;
mod emit_mock;
mod emit_server;
mod errors;
mod model;
mod parse;
mod signature;

/// The trait with its server and client, or everything that is wrong with it.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let arguments = ServiceArgs::parse(arguments);
    let item: ItemTrait = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("#[service] is for traits: {error}")))?;
    match (arguments, Service::new(&item)) {
        (Ok(arguments), Ok(service)) => {
            let service = service.named(&arguments, &item)?;
            Ok(emit::service(&service))
        }
        (Err(mut first), Err(second)) => {
            first.combine(second);
            Err(first)
        }
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}
