//! A service as it is emitted: every name, version and type, checked against each other.
//!
//! Invariants: a (wire name, version) has one handler; wire names are `service/method`, 3 to 128
//! bytes of `A-Z a-z 0-9 . _ -` on both sides of the slash; compat versions lie below the method's
//! own and are distinct; a version without an error of its own has none in any older version.

use std::collections::BTreeSet;
use std::time::Duration;

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, ItemTrait, LitStr, Signature, TraitItem, TraitItemFn, Type};

use crate::service::errors::Errors;
use crate::service::parse::{CompatArgs, RpcArgs, RunArg, ServiceArgs};
use crate::service::signature::{self, Output, last_segment};

/// A trait that is a service.
pub(crate) struct Service {
    /// The trait, still with its items.
    pub(crate) item: ItemTrait,
    /// `bank.Ledger`
    pub(crate) name: String,
    pub(crate) methods: Vec<Method>,
    /// Where `mock` was asked for.
    pub(crate) mock: Option<Span>,
}

/// One method in all versions that this trait knows.
pub(crate) struct Method {
    /// Without the macro's own.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) signature: Signature,
    /// What follows the slash of the wire name.
    pub(crate) wire_name: LitStr,
    pub(crate) version: u16,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) run: RunArg,
    pub(crate) no_cancel: bool,
    pub(crate) id: Option<u32>,
    pub(crate) argument: Ident,
    pub(crate) request: Type,
    pub(crate) output: Output,
    pub(crate) compats: Vec<Compat>,
}

/// An older version, served and called through conversions.
pub(crate) struct Compat {
    pub(crate) version: u16,
    /// Of the version.
    pub(crate) span: Span,
    pub(crate) request: Type,
    pub(crate) response: Type,
    /// As [`Output::error`] of the method.
    pub(crate) error: Option<Type>,
}

impl Service {
    /// The service under its trait's name.
    pub(crate) fn new(item: &ItemTrait) -> Result<Self, Error> {
        let mut errors = Errors::default();
        check_trait(item, &mut errors);
        let mut methods = Vec::new();
        for part in &item.items {
            methods.extend(errors.keep(method_of(part)));
        }
        check_distinct(&methods, &mut errors);
        let name = item.ident.unraw().to_string();
        errors.or(Self { item: item.clone(), name, methods, mock: None })
    }

    /// The service under the name it was given, if any; checks all names.
    pub(crate) fn named(self, arguments: &ServiceArgs, item: &ItemTrait) -> Result<Self, Error> {
        let mut errors = Errors::default();
        let name = match &arguments.name {
            Some(name) => name.clone(),
            None => LitStr::new(&self.name, item.ident.span()),
        };
        let is_service = errors.keep(check_name(&name, "service")).is_some();
        for method in &self.methods {
            let is_method = errors.keep(check_name(&method.wire_name, "method"));
            let len_bytes = name.value().len() + 1 + method.wire_name.value().len();
            if is_service && is_method.is_some() && len_bytes > NAME_BYTES_MAX {
                let message = format!(
                    "\"service/method\" is {len_bytes} bytes, at most {NAME_BYTES_MAX} fit"
                );
                errors.at(method.wire_name.span(), message);
            }
        }
        if arguments.mock.is_some() {
            check_mock(&self.methods, &mut errors);
        }
        errors.or(Self { name: name.value(), mock: arguments.mock, ..self })
    }
}

impl Method {
    fn new(item: &TraitItemFn) -> Result<Self, Error> {
        let mut errors = Errors::default();
        if let Some(body) = &item.default {
            let message = "no default body: a method that is not served is not in the trait";
            errors.at(body.span(), message);
        }
        let name = &item.sig.ident;
        if RESERVED.contains(&name.to_string().as_str()) {
            let message = format!(
                "the client has a function `{name}` of its own: give this one another name and \
                 keep the wire's by #[rpc(name = \"{name}\")]"
            );
            errors.at(name.span(), message);
        }
        let rpc = errors.keep(RpcArgs::parse(&item.attrs, name));
        let run = rpc.as_ref().map(|rpc| rpc.run);
        let shape = errors.keep(signature::check(&item.sig, run));
        let compats: Vec<CompatArgs> = own(&item.attrs, "compat")
            .filter_map(|attribute| errors.keep(CompatArgs::parse(attribute)))
            .collect();
        let (Some(rpc), Some(shape)) = (rpc, shape) else {
            return Err(errors.or(()).expect_err("what is missing has left an error"));
        };
        check_compats(&compats, rpc.version, &shape.output, &mut errors);
        let with_defaults = |old: CompatArgs| Compat {
            version: old.version,
            span: old.span,
            request: old.request.unwrap_or_else(|| shape.request.clone()),
            response: old.response.unwrap_or_else(|| shape.output.response().clone()),
            error: old.error.or_else(|| shape.output.error().cloned()),
        };
        let compats = compats.into_iter().map(with_defaults).collect();
        let is_kept = |attribute: &&Attribute| {
            !attribute.path().is_ident("rpc") && !attribute.path().is_ident("compat")
        };
        errors.or(Self {
            attributes: item.attrs.iter().filter(is_kept).cloned().collect(),
            signature: item.sig.clone(),
            wire_name: rpc
                .name
                .unwrap_or_else(|| LitStr::new(&name.unraw().to_string(), name.span())),
            version: rpc.version,
            idempotent: rpc.idempotent,
            timeout: rpc.timeout,
            run: rpc.run,
            no_cancel: rpc.no_cancel,
            id: rpc.id,
            argument: shape.argument,
            request: shape.request,
            output: shape.output,
            compats,
        })
    }

    /// Its attributes of this name.
    pub(crate) fn attributes(&self, name: &str) -> impl Iterator<Item = &Attribute> {
        own(&self.attributes, name)
    }
}

/// The attributes of this name.
pub(crate) fn own<'a>(
    attributes: &'a [Attribute],
    name: &str,
) -> impl Iterator<Item = &'a Attribute> {
    attributes.iter().filter(move |attribute| attribute.path().is_ident(name))
}

fn method_of(item: &TraitItem) -> Result<Method, Error> {
    let refused = |what: &str| {
        let message =
            format!("a service has methods only, no {what}: the client could not know it");
        Error::new_spanned(item, message)
    };
    match item {
        TraitItem::Fn(method) => Method::new(method),
        TraitItem::Const(_) => Err(refused("constants")),
        TraitItem::Type(_) => Err(refused("types")),
        TraitItem::Macro(_) => Err(refused("macros")),
        _ => Err(refused("other items")),
    }
}

fn check_trait(item: &ItemTrait, errors: &mut Errors) {
    if let Some(token) = &item.unsafety {
        errors.at(token.span, "a service is not an `unsafe` trait");
    }
    if let Some(token) = &item.modifiers.auto_token {
        errors.at(token.span, "a service is not an `auto` trait");
    }
    if !item.generics.params.is_empty() {
        let message = "a service has no parameters: its methods' types are fixed by their versions";
        errors.at(item.generics.params.span(), message);
    }
    if let Some(clause) = &item.generics.where_clause {
        errors.at(clause.span(), "a service has no `where`");
    }
    if item.items.is_empty() {
        errors.at(item.ident.span(), "a service has at least one method");
    }
}

/// One handler for each (wire name, version), compat versions included.
fn check_distinct(methods: &[Method], errors: &mut Errors) {
    let mut served = BTreeSet::new();
    for method in methods {
        // One of two that exclude each other by `cfg` may be left out; the server checks again.
        if method.attributes("cfg").next().is_some() {
            continue;
        }
        let name = method.wire_name.value();
        let own = (method.version, method.signature.ident.span());
        let older = method.compats.iter().map(|old| (old.version, old.span));
        for (version, span) in std::iter::once(own).chain(older) {
            if !served.insert((name.clone(), version)) {
                let message = format!("`{name}` version {version} is served already, above");
                errors.at(span, message);
            }
        }
    }
}

/// A mock has two functions for each method, and some of its own.
fn check_mock(methods: &[Method], errors: &mut Errors) {
    let names: BTreeSet<String> =
        methods.iter().map(|method| method.signature.ident.unraw().to_string()).collect();
    for method in methods {
        let ident = &method.signature.ident;
        let name = ident.unraw().to_string();
        let is_doubled = name.strip_suffix("_with").is_some_and(|other| names.contains(other));
        if is_doubled || RESERVED_OF_MOCK.contains(&name.as_str()) {
            let message = format!(
                "the mock has a function `{name}` of its own: give this one another name and keep \
                 the wire's by #[rpc(name = \"{name}\")]"
            );
            errors.at(ident.span(), message);
        }
    }
}

fn check_compats(compats: &[CompatArgs], current: u16, output: &Output, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for old in compats {
        let version = old.version;
        if version >= current {
            let message = format!("version {version} is not older than {current}, the method's");
            errors.at(old.span, message);
        } else if !seen.insert(version) {
            let message = format!("version {version} has a #[compat] already");
            errors.at(old.span, message);
        }
        for of_type in [&old.request, &old.response, &old.error].into_iter().flatten() {
            errors.keep(signature::check_owned(of_type));
        }
        let Some(error) = &old.error else { continue };
        let is_named = |name: &str| last_segment(error).is_some_and(|last| last.ident == name);
        if output.error().is_none() {
            let message = "the method has no error of its own, so an older version cannot have one";
            errors.push(Error::new_spanned(error, message));
        } else if is_named("Status") || is_named("Infallible") {
            let message = "an older version without an error of its own needs a trait of its own";
            errors.push(Error::new_spanned(error, message));
        }
    }
}

fn check_name(name: &LitStr, what: &str) -> Result<(), Error> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.value().is_empty() || !name.value().bytes().all(is_allowed) {
        let message = format!("a {what}'s name on the wire is one or more of A-Z a-z 0-9 . _ -");
        return Err(Error::new(name.span(), message));
    }
    Ok(())
}

/// Functions of the generated client.
const RESERVED: &[&str] = &["channel", "clone", "connect", "lazy", "new"];
/// Functions of the generated mock, beside those of the client.
const RESERVED_OF_MOCK: &[&str] = &["calls", "client"];
/// Of a method's whole name.
const NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    use syn::parse_quote;

    use crate::service::signature::text_of;

    fn errors(item: &ItemTrait) -> Vec<String> {
        let named = Service::new(item).and_then(|s| s.named(&ServiceArgs::default(), item));
        match named {
            Ok(_) => Vec::new(),
            Err(error) => error.into_iter().map(|e| e.to_string()).collect(),
        }
    }

    /// Types that a compat does not name are those of the current version.
    #[test]
    fn compat_types_default_to_the_current_ones() {
        let item = parse_quote! {
            trait Ledger {
                #[rpc(version = 3)]
                #[compat(2, req = Q2)]
                #[compat(1, resp = R1, err = E1)]
                async fn transfer(&self, cx: &Cx, req: Q3) -> Result<R3, E3>;
            }
        };

        let service = Service::new(&item).unwrap();

        let [two, one] = service.methods[0].compats.as_slice() else {
            panic!("two of them were written");
        };
        assert_eq!(text_of(&two.request), "Q2");
        assert_eq!(text_of(&two.response), "R3");
        assert_eq!(two.error.as_ref().map(text_of).as_deref(), Some("E3"));
        assert_eq!(text_of(&one.request), "Q3");
        assert_eq!(text_of(&one.response), "R1");
        assert_eq!(one.error.as_ref().map(text_of).as_deref(), Some("E1"));
    }

    /// Mistakes of several methods are reported in one go.
    #[test]
    fn a_service_reports_all_at_once() {
        let found = errors(&parse_quote! {
            auto trait Ledger<T> {
                type Item;
                async fn a(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 1)]
                fn b(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 1)]
                async fn connect(&self, cx: &Cx, req: Q) -> R {}
            }
        });

        assert_eq!(found.len(), 7, "{found:#?}");
    }

    /// Two handlers for one version would be refused at start; here it costs a compilation only.
    #[test]
    fn a_version_has_one_handler() {
        let found = errors(&parse_quote! {
            trait Ledger {
                #[rpc(version = 2)]
                #[compat(1)]
                async fn a(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 1, name = "a")]
                async fn a_v1(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 3, name = "a")]
                async fn a_v3(&self, cx: &Cx, req: Q) -> R;
            }
        });

        assert_eq!(found, ["`a` version 1 is served already, above"]);
    }

    /// Older versions are older, distinct, and have no error that the method lacks.
    #[test]
    fn compats_are_checked() {
        let found = errors(&parse_quote! {
            trait Ledger {
                #[rpc(version = 2)]
                #[compat(1)]
                #[compat(1)]
                #[compat(2)]
                #[compat(3, err = E)]
                async fn a(&self, cx: &Cx, req: Q) -> Result<R, Status>;
            }
        });

        assert_eq!(
            found,
            [
                "version 1 has a #[compat] already",
                "version 2 is not older than 2, the method's",
                "version 3 is not older than 2, the method's",
                "the method has no error of its own, so an older version cannot have one",
            ]
        );
    }

    /// A mock's own functions, and those it has for another method, are not a method's.
    #[test]
    fn mocks_have_functions_of_their_own() {
        let item: ItemTrait = parse_quote! {
            trait Ledger {
                #[rpc(version = 1)]
                async fn open(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 1)]
                async fn open_with(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 1)]
                async fn calls(&self, cx: &Cx, req: Q) -> R;
                #[rpc(version = 1)]
                async fn paid_with(&self, cx: &Cx, req: Q) -> R;
            }
        };
        let arguments = ServiceArgs { name: None, mock: Some(Span::call_site()) };

        let Err(error) = Service::new(&item).unwrap().named(&arguments, &item) else {
            panic!("two names are taken");
        };

        let found: Vec<String> = error.into_iter().map(|error| error.to_string()).collect();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("`open_with`") && found[1].contains("`calls`"), "{found:#?}");
        assert_eq!(errors(&item).len(), 0, "without a mock they are as good as any");
    }

    /// Names are the wire's: the service's limit holds for both parts together.
    #[test]
    fn names_have_limits() {
        let of_length = |len: usize| -> ItemTrait {
            let name = "x".repeat(len);
            parse_quote! {
                trait Ledger {
                    #[rpc(version = 1, name = #name)]
                    async fn a(&self, cx: &Cx, req: Q) -> R;
                }
            }
        };

        // "Ledger/" is 7 bytes of the 128.
        assert_eq!(errors(&of_length(121)).len(), 0);
        assert_eq!(errors(&of_length(122)).len(), 1);
        assert_eq!(errors(&of_length(0)).len(), 1);
        let slash: ItemTrait = parse_quote! {
            trait Ledger {
                #[rpc(version = 1, name = "a/b")]
                async fn a(&self, cx: &Cx, req: Q) -> R;
            }
        };
        assert_eq!(errors(&slash).len(), 1);
        let foreign: ItemTrait = parse_quote! {
            trait Käse {
                #[rpc(version = 1)]
                async fn a(&self, cx: &Cx, req: Q) -> R;
            }
        };
        assert_eq!(errors(&foreign).len(), 1);
    }
}
