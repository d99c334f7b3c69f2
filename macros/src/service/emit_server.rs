//! `LedgerServer<S>`: one `Method` for each version of each method, over one shared `S`.
//!
//! An older version is upgraded on the way in, before the handler starts, and downgraded on the
//! way out:
//!
//! ```text
//!   OldQ --upgrade_request--> Q --handler--> Result<R, E> --convert_result--> Result<OldR, OldE>
//! ```

use proc_macro2::TokenStream;
use quote::quote;
use syn::Type;

use crate::service::emit::{cfgs, checks, error_or_never, full_name, id_call, named_after};
use crate::service::model::{Compat, Method, Service};
use crate::service::parse::RunArg;
use crate::service::signature::{Output, hidden};

pub(crate) fn server(service: &Service) -> TokenStream {
    let interface = &service.item.ident;
    let server = named_after(service, "Server");
    let cfgs = cfgs(service);
    let definition = definition(service);
    let into_methods = into_methods(service, |method| Target {
        shared: quote!(self.0),
        answer: answer(service, method),
        run: run(method),
    });
    quote! {
        #definition

        #(#cfgs)*
        #[automatically_derived]
        #[allow(deprecated, reason = "old versions are often deprecated, and served all the same")]
        impl<__S: #interface> ::switchback::__private::Service for #server<__S> {
            #into_methods
        }
    }
}

/// What answers the calls of a method.
pub(crate) struct Target {
    /// What of `self` its calls share; a clone of it is `of_call`.
    pub(crate) shared: TokenStream,
    /// From `of_call`, `cx` and `request` to a `Result<R, CallError<E>>`.
    pub(crate) answer: TokenStream,
    /// Where it runs.
    pub(crate) run: Option<TokenStream>,
}

/// `Service::into_methods`, with every version of every method.
pub(crate) fn into_methods(
    service: &Service,
    target_of: impl Fn(&Method) -> Target,
) -> TokenStream {
    let methods_of = hidden("methods");
    let methods = service.methods.iter().map(|method| {
        let cfgs = method.attributes("cfg");
        let name = full_name(service, method);
        let target = target_of(method);
        let current = current(method, &target, &name);
        let older = method.compats.iter().map(|old| older(method, old, &target, &name));
        quote! {
            #(#cfgs)*
            {
                #methods_of.push(#current);
                #(#methods_of.push(#older);)*
            }
        }
    });
    let checks = checks(service);
    quote! {
        fn into_methods(self) -> ::switchback::__private::Vec<::switchback::__private::Method> {
            #checks
            let mut #methods_of = ::switchback::__private::Vec::new();
            #(#methods)*
            #methods_of
        }
    }
}

/// The type with its constructors.
fn definition(service: &Service) -> TokenStream {
    let server = named_after(service, "Server");
    let cfgs = cfgs(service);
    let visibility = &service.item.vis;
    let doc = format!(
        "Serves a [`{}`] under the name `{}`: every version of every method.",
        service.item.ident, service.name,
    );
    let debug_name = server.to_string();
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[allow(dead_code, reason = "a program may use the client alone")]
        #visibility struct #server<S>(::switchback::__private::Arc<S>);

        #(#cfgs)*
        #[allow(dead_code, reason = "a program may use the client alone")]
        impl<S> #server<S> {
            /// Serves `service`.
            #[must_use]
            #visibility fn new(service: S) -> Self {
                Self(::switchback::__private::Arc::new(service))
            }

            /// Serves `service`, which others hold too.
            #[must_use]
            #visibility const fn from_arc(service: ::switchback::__private::Arc<S>) -> Self {
                Self(service)
            }
        }

        #(#cfgs)*
        #[automatically_derived]
        impl<S> ::core::clone::Clone for #server<S> {
            fn clone(&self) -> Self {
                Self(::switchback::__private::Arc::clone(&self.0))
            }
        }

        #(#cfgs)*
        #[automatically_derived]
        impl<S> ::core::fmt::Debug for #server<S> {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                formatter.debug_struct(#debug_name).finish_non_exhaustive()
            }
        }
    }
}

/// The method in its own version.
fn current(method: &Method, target: &Target, name: &str) -> TokenStream {
    let (of_server, of_call) = (hidden("service"), hidden("of_call"));
    let (cx, request) = (hidden("cx"), hidden("request"));
    let request_type = &method.request;
    let response = method.output.response();
    let version = method.version;
    let (constructor, types) = match method.output.error() {
        Some(error) => (quote!(new), quote!(#request_type, #response, #error, _, _)),
        None => (quote!(infallible), quote!(#request_type, #response, _, _)),
    };
    let Target { shared, answer, run } = target;
    let options = options(method, request_type, response, method.output.error());
    quote! {{
        let #of_server = ::core::clone::Clone::clone(&#shared);
        ::switchback::__private::Method::#constructor::<#types>(
            #name,
            #version,
            move |#cx, #request| {
                let #of_call = ::core::clone::Clone::clone(&#of_server);
                async move { #answer }
            },
        )
        #options
        #run
    }}
}

/// The method in an older version.
fn older(method: &Method, old: &Compat, target: &Target, name: &str) -> TokenStream {
    let (of_server, of_call) = (hidden("service"), hidden("of_call"));
    let (cx, request) = (hidden("cx"), hidden("request"));
    let (new_request, old_request) = (&method.request, &old.request);
    let (new_response, old_response) = (method.output.response(), &old.response);
    let new_error = error_or_never(method.output.error());
    let old_error = error_or_never(old.error.as_ref());
    let version = old.version;
    let (constructor, types) = match &old.error {
        Some(error) => (quote!(try_new), quote!(#old_request, #old_response, #error, _, _)),
        None => (quote!(try_infallible), quote!(#old_request, #old_response, _, _)),
    };
    let Target { shared, answer, run } = target;
    let options = options(method, old_request, old_response, old.error.as_ref());
    quote! {{
        let #of_server = ::core::clone::Clone::clone(&#shared);
        ::switchback::__private::Method::#constructor::<#types>(
            #name,
            #version,
            move |#cx, #request| {
                let #request = ::switchback::__private::upgrade_request::<
                    #old_request,
                    #new_request,
                >(#request)?;
                let #of_call = ::core::clone::Clone::clone(&#of_server);
                ::core::result::Result::Ok(async move {
                    ::switchback::__private::convert_result::<
                        #new_response,
                        #old_response,
                        #new_error,
                        #old_error,
                    >(#answer)
                })
            },
        )
        #options
        #run
    }}
}

/// Calls the handler and makes a `Result<R, CallError<E>>` of what it gives.
fn answer(service: &Service, method: &Method) -> TokenStream {
    let interface = &service.item.ident;
    let function = &method.signature.ident;
    let (of_call, cx, request) = (hidden("of_call"), hidden("cx"), hidden("request"));
    let call = quote!(<__S as #interface>::#function(&#of_call, &#cx, #request));
    let given = match method.run {
        RunArg::Blocking => call,
        RunArg::Inline | RunArg::Spawn => quote!(#call.await),
    };
    match &method.output {
        Output::Plain(_) => quote! {
            ::core::result::Result::Ok::<
                _,
                ::switchback::__private::CallError<::switchback::__private::Infallible>,
            >(#given)
        },
        Output::Fallible(_, _) => quote! {
            #given.map_err(::switchback::__private::CallError::App)
        },
        Output::OrStatus(_) => quote! {
            #given.map_err(
                ::switchback::__private::CallError::<::switchback::__private::Infallible>::Rpc,
            )
        },
    }
}

/// Where the handler runs.
fn run(method: &Method) -> Option<TokenStream> {
    match method.run {
        RunArg::Inline => None,
        RunArg::Spawn => Some(quote!(.run(::switchback::__private::Run::Spawn))),
        RunArg::Blocking => Some(quote!(.run(::switchback::__private::Run::Blocking))),
    }
}

/// What is set on every version of a method.
fn options(method: &Method, request: &Type, response: &Type, error: Option<&Type>) -> TokenStream {
    let error = error_or_never(error);
    let id = id_call(method);
    let no_cancel = method.no_cancel.then(|| quote!(.no_cancel()));
    let idempotent = method.idempotent.then(|| quote!(.idempotent()));
    quote! {
        .schema::<#request, #response, #error>()
        #id
        #idempotent
        #no_cancel
    }
}
