//! `LedgerClient`: one function for each method, over a channel.
//!
//! Each function has one static `Stub`, made at its first call, that knows every version the
//! client can speak; which one is spoken is chosen on each connection.

use proc_macro2::TokenStream;
use quote::quote;

use crate::service::emit::{cfgs, error_or_never, full_name, id_call, named_after};
use crate::service::model::{Method, Service};

pub(crate) fn client(service: &Service) -> TokenStream {
    let client = named_after(service, "Client");
    let cfgs = cfgs(service);
    let visibility = &service.item.vis;
    let name = &service.name;
    let doc = format!("Calls the service `{name}`. Clones share one channel.");
    let addresses = by_address(service);
    let methods = service.methods.iter().map(|method| call(service, method));
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[derive(
            ::switchback::__private::Clone,
            ::switchback::__private::Debug,
        )]
        #[allow(dead_code, reason = "a program may use the server alone")]
        #visibility struct #client {
            channel: ::switchback::__private::Channel,
        }

        #(#cfgs)*
        #[allow(dead_code, reason = "a program may use the server alone, or some methods only")]
        #[allow(deprecated, reason = "old versions are often deprecated, and called all the same")]
        impl #client {
            #addresses

            /// Calls over `channel`.
            #[must_use]
            #visibility const fn new(channel: ::switchback::__private::Channel) -> Self {
                Self { channel }
            }

            /// What the calls go over.
            #[must_use]
            #visibility const fn channel(&self) -> &::switchback::__private::Channel {
                &self.channel
            }

            #(#methods)*
        }
    }
}

/// Constructors that make a channel too.
fn by_address(service: &Service) -> TokenStream {
    let (visibility, name) = (&service.item.vis, &service.name);
    let connect_doc = format!("Connects to a server of `{name}`.");
    let lazy_doc = format!("A client of `{name}` that connects at its first call.");
    quote! {
        #[doc = #connect_doc]
        ///
        /// # Errors
        /// If the address is not one, or nothing answers there.
        ///
        /// # Cancellation
        /// Dropping the future gives the connection up.
        #visibility async fn connect(
            address: &str,
        ) -> ::core::result::Result<Self, ::switchback::__private::Error> {
            let channel = ::switchback::__private::Channel::connect(address).await?;
            ::core::result::Result::Ok(Self::new(channel))
        }

        #[doc = #lazy_doc]
        ///
        /// # Errors
        /// If the address is not one.
        ///
        /// # Panics
        /// Outside of a tokio runtime.
        #visibility fn lazy(
            address: &str,
        ) -> ::core::result::Result<Self, ::switchback::__private::Error> {
            let channel = ::switchback::__private::Channel::lazy(address)?;
            ::core::result::Result::Ok(Self::new(channel))
        }
    }
}

fn call(service: &Service, method: &Method) -> TokenStream {
    let name = full_name(service, method);
    let mut docs: Vec<TokenStream> = method.attributes("doc").map(|doc| quote!(#doc)).collect();
    if docs.is_empty() {
        let doc = format!("Calls `{name}`.");
        docs.push(quote!(#[doc = #doc]));
    }
    let cfgs = method.attributes("cfg");
    let deprecated = method.attributes("deprecated");
    let visibility = &service.item.vis;
    let (function, argument) = (&method.signature.ident, &method.argument);
    let (request, response) = (&method.request, method.output.response());
    let error = error_or_never(method.output.error());
    let stub = stub(method, &name);
    quote! {
        #(#docs)*
        #(#cfgs)*
        #(#deprecated)*
        #[must_use = "a call is sent when it is awaited"]
        #visibility fn #function(
            &self,
            #argument: #request,
        ) -> ::switchback::__private::Call<#request, #response, #error> {
            static __STUB: ::switchback::__private::LazyLock<
                ::switchback::__private::Stub<#request, #response, #error>,
            > = ::switchback::__private::LazyLock::new(|| #stub);
            self.channel.call(&__STUB, #argument)
        }
    }
}

/// The method with every version that the client can speak. The static it is for says its types:
/// written here, a missing bound would be told as a missing function.
fn stub(method: &Method, name: &str) -> TokenStream {
    let constructor = match method.output.error() {
        Some(_) => quote!(new),
        None => quote!(infallible),
    };
    let (request, response) = (&method.request, method.output.response());
    let error = error_or_never(method.output.error());
    let version = method.version;
    let older = method.compats.iter().map(|old| {
        let (request, response) = (&old.request, &old.response);
        let error = error_or_never(old.error.as_ref());
        let version = old.version;
        let (add, types) = match &old.error {
            Some(error) => (quote!(compat), quote!(#request, #response, #error)),
            None => (quote!(compat_infallible), quote!(#request, #response)),
        };
        quote! {
            .#add::<#types>(
                #version,
                ::switchback::__private::Fingerprint::of_method::<#request, #response, #error>(),
            )
        }
    });
    let id = id_call(method);
    let idempotent = method.idempotent.then(|| quote!(.idempotent()));
    let timeout = method.timeout.map(|timeout| {
        let (secs, nanos) = (timeout.as_secs(), timeout.subsec_nanos());
        quote!(.timeout(::switchback::__private::Duration::new(#secs, #nanos)))
    });
    quote! {
        ::switchback::__private::Stub::#constructor(
            #name,
            #version,
            ::switchback::__private::Fingerprint::of_method::<#request, #response, #error>(),
        )
        #(#older)*
        #id
        #idempotent
        #timeout
    }
}
