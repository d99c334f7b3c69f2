//! The trait as it is implemented, the checks of its types, and beside it what `emit_server`,
//! `emit_client` and `emit_mock` make.
//!
//! ```text
//!   async fn f(&self, cx: &Cx, req: Q) -> R;
//!   fn f(&self, cx: &Cx, req: Q) -> impl Future<Output = R> + Send;     implemented by `async fn`
//! ```
//!
//! Invariants: names that the code introduces cannot meet the user's (mixed-site hygiene for
//! locals, `__` for parameters); a bound that does not hold is reported at the type it is about;
//! no lint of the user's speaks about generated code.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, ReturnType, Type};

use crate::service::emit_client;
use crate::service::emit_mock;
use crate::service::emit_server;
use crate::service::model::{Method, Service, own};
use crate::service::parse::RunArg;
use crate::service::signature::{moved_to, text_of};

/// Everything that `#[service]` makes of a trait.
pub(crate) fn service(service: &Service) -> TokenStream {
    let interface = interface(service);
    let server = emit_server::server(service);
    let client = emit_client::client(service);
    let mock = service.mock.map(|asked_for| emit_mock::mock(service, asked_for));
    quote! {
        #interface
        #server
        #client
        #mock
    }
}

/// The trait: plain functions in place of `async` ones, so that their futures are `Send`.
fn interface(service: &Service) -> TokenStream {
    let item = &service.item;
    let (attributes, visibility, name) = (&item.attrs, &item.vis, &item.ident);
    let supertraits = item.supertraits.iter();
    let methods = service.methods.iter().map(|method| {
        let attributes = &method.attributes;
        let mut signature = method.signature.clone();
        if method.run != RunArg::Blocking {
            let output = match &signature.output {
                ReturnType::Default => quote!(()),
                ReturnType::Type(_, output) => quote!(#output),
            };
            signature.asyncness = None;
            signature.output = syn::parse_quote! {
                -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
            };
        }
        quote! { #(#attributes)* #signature; }
    });
    quote! {
        #(#attributes)*
        #visibility trait #name: #(#supertraits +)*
            ::core::marker::Send + ::core::marker::Sync + 'static
        {
            #(#methods)*
        }
    }
}

/// Statements that ask for every bound where its type was written.
///
/// They stand before code that needs the same bounds: rustc reports one error for a bound and a
/// place in a body, and this one says what it is for.
pub(crate) fn checks(service: &Service) -> TokenStream {
    let methods = service.methods.iter().map(|method| {
        let cfgs = method.attributes("cfg");
        let current =
            [Some(&method.request), Some(method.output.response()), method.output.error()];
        let older = method
            .compats
            .iter()
            .flat_map(|old| [Some(&old.request), Some(&old.response), old.error.as_ref()]);
        let wire = current.into_iter().chain(older).flatten().map(|of_type| {
            quote_spanned! {of_type.span()=> __assert_wire::<#of_type>(); }
        });
        let conversions = conversions(method);
        quote! { #(#cfgs)* { #(#wire)* #conversions } }
    });
    quote! {
        fn __assert_wire<
            __T: ::switchback::__private::Payload + ::switchback::__private::Schema,
        >() {}
        #[allow(dead_code, reason = "for services with #[compat]")]
        fn __assert_converts<__A: ::switchback::__private::Converts<__B>, __B>() {}
        #[allow(dead_code, reason = "for services with #[compat]")]
        fn __assert_clone_for_compat<__T: ::core::clone::Clone>() {}
        #(#methods)*
    }
}

/// The four conversions of a call between two versions, on both sides.
fn conversions(method: &Method) -> TokenStream {
    let request = &method.request;
    let response = method.output.response();
    let both_ways = |old: &Type, new: &Type| {
        (text_of(old) != text_of(new)).then(|| {
            // At the old type, which is the one that somebody adds.
            let new = moved_to(old.span(), new);
            quote_spanned! {old.span()=>
                __assert_converts::<#old, #new>();
                __assert_converts::<#new, #old>();
            }
        })
    };
    let older = method.compats.iter().map(|old| {
        let clone = quote_spanned! {old.span=> __assert_clone_for_compat::<#request>(); };
        let request = both_ways(&old.request, request);
        let response = both_ways(&old.response, response);
        let error = old
            .error
            .as_ref()
            .zip(method.output.error())
            .and_then(|(old, new)| both_ways(old, new));
        quote! { #clone #request #response #error }
    });
    quote! { #(#older)* }
}

/// The attributes that decide whether the service exists at all.
pub(crate) fn cfgs(service: &Service) -> Vec<&Attribute> {
    own(&service.item.attrs, "cfg").collect()
}

/// `bank.Ledger/transfer`
pub(crate) fn full_name(service: &Service, method: &Method) -> String {
    format!("{}/{}", service.name, method.wire_name.value())
}

/// `LedgerServer` of `Ledger`.
pub(crate) fn named_after(service: &Service, suffix: &str) -> Ident {
    format_ident!("{}{suffix}", service.item.ident)
}

/// The error in a call's result: the method's own, or one that cannot be.
pub(crate) fn error_or_never(error: Option<&Type>) -> TokenStream {
    match error {
        Some(error) => quote!(#error),
        None => quote!(::switchback::__private::Infallible),
    }
}

/// The number of a method that has one of its own.
pub(crate) fn id_call(method: &Method) -> Option<TokenStream> {
    method.id.map(|id| quote!(.id(::switchback::__private::MethodId(#id))))
}
