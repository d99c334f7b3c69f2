//! The macros of switchback. Use them through that crate, which re-exports them.
//!
//! Only entry points are here; what a macro does is in the module of its name.

use proc_macro::TokenStream;

mod schema;
mod service;

/// Implements `switchback::Schema`: the type's layout on the wire, as text.
///
/// Reads serde's attributes and follows `rename`, `rename_all`, `rename_all_fields`, `skip` and
/// `transparent`. Refuses what a compact codec cannot carry: `flatten`, `untagged`, `tag`,
/// `skip_serializing_if`. An encoding that is not the type's own, such as `with` or `from`, needs a
/// name: `#[schema(opaque = "uuid.v1")]` on the field or the type.
#[proc_macro_derive(Schema, attributes(schema))]
pub fn derive_schema(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    schema::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Turns a trait into a service.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
