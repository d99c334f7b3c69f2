//! `LedgerMock`: the service with answers that a test gives, for `mock` in `#[service(...)]`.
//!
//! It serves the same versions through the same conversions as `LedgerServer`; only what answers a
//! call is another. Where a handler runs is left out: an answer that waits on virtual time would
//! keep it from going on, on a thread of its own.
//!
//! Without switchback's feature `testing` nothing is made, so that a contract may say `mock` and
//! leave it to its tests to turn the feature on; rustc then says where the type was left out.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Ident;
use syn::ext::IdentExt;

use crate::service::emit::{cfgs, error_or_never, full_name, named_after};
use crate::service::emit_server::{Target, into_methods};
use crate::service::model::{Method, Service};
use crate::service::signature::{Output, hidden};

pub(crate) fn mock(service: &Service, asked_for: Span) -> TokenStream {
    let (mock, visibility) = (named_after(service, "Mock"), &service.item.vis);
    if !cfg!(feature = "testing") {
        return quote_spanned! {asked_for=> #[cfg(any())] #visibility struct #mock; };
    }
    let cfgs = cfgs(service);
    let name = &service.name;
    let doc = format!(
        "The service `{name}` with the answers of a test. Clones share answers and counts.\n\n\
         A method without an answer fails with UNIMPLEMENTED. An answer that is set again takes \
         the place of the one before, for connected clients too.",
    );
    let fields = service.methods.iter().map(field);
    let functions = functions(service, &mock);
    let into_methods = into_methods(service, |method| {
        let (of_call, cx, request) = (hidden("of_call"), hidden("cx"), hidden("request"));
        let field = &method.signature.ident;
        Target {
            shared: quote!(self.#field),
            answer: quote!(#of_call.answer(#cx, #request).await),
            run: None,
        }
    });
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[derive(
            ::switchback::__private::Clone,
            ::switchback::__private::Debug,
        )]
        #[allow(dead_code, reason = "for tests, which may be elsewhere")]
        #visibility struct #mock {
            #(#fields)*
        }

        #(#cfgs)*
        #[allow(dead_code, reason = "for tests, which may be elsewhere or need some of it only")]
        impl #mock {
            #functions
        }

        #(#cfgs)*
        #[automatically_derived]
        impl ::core::default::Default for #mock {
            fn default() -> Self {
                Self::new()
            }
        }

        #(#cfgs)*
        #[automatically_derived]
        impl ::switchback::__private::Service for #mock {
            #into_methods
        }
    }
}

/// What the mock can do.
fn functions(service: &Service, mock: &Ident) -> TokenStream {
    let (client, visibility) = (named_after(service, "Client"), &service.item.vis);
    let inits = service.methods.iter().map(|method| init(service, method));
    let setters = service.methods.iter().map(|method| setters(service, method));
    let counts = service.methods.iter().map(count);
    let mock_name = mock.to_string();
    quote! {
        /// Without any answer.
        #[must_use]
        #visibility fn new() -> Self {
            Self { #(#inits)* }
        }

        /// A client that is connected to this mock, over memory.
        ///
        /// # Panics
        /// Outside of a tokio runtime.
        #[must_use]
        #visibility fn client(&self) -> #client {
            #client::new(::switchback::__private::client_channel(
                ::core::clone::Clone::clone(self),
            ))
        }

        /// How many calls of a method came here, in whatever version, answered or not. The
        /// method's name is that of its function.
        ///
        /// # Panics
        /// If there is no such method.
        #[must_use]
        #[track_caller]
        #visibility fn calls(&self, method: &str) -> u64 {
            match method {
                #(#counts)*
                _ => ::switchback::__private::no_such_method(#mock_name, method),
            }
        }

        #(#setters)*
    }
}

fn field(method: &Method) -> TokenStream {
    let (cfgs, field, types) = (method.attributes("cfg"), &method.signature.ident, types(method));
    quote! { #(#cfgs)* #field: ::switchback::__private::MockMethod<#types>, }
}

fn init(service: &Service, method: &Method) -> TokenStream {
    let (cfgs, field) = (method.attributes("cfg"), &method.signature.ident);
    let name = full_name(service, method);
    quote! { #(#cfgs)* #field: ::switchback::__private::MockMethod::new(#name), }
}

fn count(method: &Method) -> TokenStream {
    let (cfgs, field) = (method.attributes("cfg"), &method.signature.ident);
    let name = field.unraw().to_string();
    quote! { #(#cfgs)* #name => self.#field.calls(), }
}

/// `transfer(|req| ..)` and `transfer_with(|cx, req| async { .. })`.
fn setters(service: &Service, method: &Method) -> TokenStream {
    let cfgs: Vec<_> = method.attributes("cfg").collect();
    let (visibility, field) = (&service.item.vis, &method.signature.ident);
    let with = format_ident!("{}_with", field.unraw());
    let (request, response) = (&method.request, method.output.response());
    let given = match &method.output {
        Output::Plain(_) => quote!(#response),
        Output::Fallible(_, error) => quote! {
            ::core::result::Result<#response, ::switchback::__private::CallError<#error>>
        },
        Output::OrStatus(_) => quote! {
            ::core::result::Result<#response, ::switchback::__private::Status>
        },
    };
    let answered = hidden("answered");
    let result = match &method.output {
        Output::Plain(_) => quote! {
            ::core::result::Result::Ok::<
                _,
                ::switchback::__private::CallError<::switchback::__private::Infallible>,
            >(#answered)
        },
        Output::Fallible(_, _) => quote!(#answered),
        Output::OrStatus(_) => quote! {
            #answered.map_err(
                ::switchback::__private::CallError::<::switchback::__private::Infallible>::Rpc,
            )
        },
    };
    let name = full_name(service, method);
    let doc = format!("Answers calls of `{name}`.");
    let with_doc = format!("Answers calls of `{name}` by a future, which may wait.");
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[must_use]
        #visibility fn #field(
            self,
            answer: impl Fn(#request) -> #given
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static,
        ) -> Self {
            self.#field.set(move |_, request| {
                let #answered = answer(request);
                ::core::future::ready(#result)
            });
            self
        }

        #(#cfgs)*
        #[doc = #with_doc]
        #[must_use]
        #visibility fn #with<__A, __F>(self, answer: __A) -> Self
        where
            __A: Fn(::switchback::__private::Cx, #request) -> __F
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static,
            __F: ::core::future::Future<Output = #given> + ::core::marker::Send + 'static,
        {
            self.#field.set(move |cx, request| {
                let answering = answer(cx, request);
                async move {
                    let #answered = answering.await;
                    #result
                }
            });
            self
        }
    }
}

/// The request, the response and the error of a method.
fn types(method: &Method) -> TokenStream {
    let (request, response) = (&method.request, method.output.response());
    let error = error_or_never(method.output.error());
    quote!(#request, #response, #error)
}
