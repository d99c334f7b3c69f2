//! What `#[service(...)]`, `#[rpc(...)]` and `#[compat(...)]` say, each by itself.
//!
//! Invariants: a key stands at most once; versions are 1 to 65,534; a timeout is 1 ms to 1 h, the
//! most that a server waits. What needs a second attribute or the signature is checked in `model`.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::meta::ParseNestedMeta;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, LitInt, LitStr, Token, Type};

use crate::service::errors::Errors;

/// `#[service(name = "bank.Ledger", mock)]`
#[derive(Default)]
pub(crate) struct ServiceArgs {
    pub(crate) name: Option<LitStr>,
    /// Where `mock` stands.
    pub(crate) mock: Option<Span>,
}

/// `#[rpc(version = 2, ...)]`
pub(crate) struct RpcArgs {
    pub(crate) version: u16,
    pub(crate) idempotent: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) run: RunArg,
    pub(crate) no_cancel: bool,
    pub(crate) id: Option<u32>,
    pub(crate) name: Option<LitStr>,
}

/// Where a handler runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RunArg {
    Inline,
    Spawn,
    Blocking,
}

/// `#[compat(1, req = T, resp = T, err = T)]`
pub(crate) struct CompatArgs {
    pub(crate) version: u16,
    /// Of the version.
    pub(crate) span: Span,
    pub(crate) request: Option<Type>,
    pub(crate) response: Option<Type>,
    pub(crate) error: Option<Type>,
}

impl ServiceArgs {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut seen = Keys::default();
        let parser = syn::meta::parser(|meta| {
            match seen.add(&meta)?.as_str() {
                "name" => parsed.name = Some(meta.value()?.parse()?),
                "mock" => parsed.mock = Some(meta.path.span()),
                _ => return Err(meta.error(UNKNOWN_SERVICE_KEY)),
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        Ok(parsed)
    }
}

impl RpcArgs {
    /// Of a method's one `#[rpc(...)]`; `method` is where to say that there is none.
    pub(crate) fn parse(attributes: &[Attribute], method: &Ident) -> Result<Self, Error> {
        let mut found = attributes.iter().filter(|a| a.path().is_ident("rpc"));
        let Some(attribute) = found.next() else {
            let message = "a method of a service needs its version: #[rpc(version = 1)]";
            return Err(Error::new(method.span(), message));
        };
        if let Some(second) = found.next() {
            return Err(Error::new_spanned(second, "a second #[rpc]: write one"));
        }
        Self::parse_one(attribute)
    }

    fn parse_one(attribute: &Attribute) -> Result<Self, Error> {
        let mut errors = Errors::default();
        let mut version = None;
        let (mut spawn, mut blocking) = (None, None);
        let mut parsed = Self {
            version: 0,
            idempotent: false,
            timeout: None,
            run: RunArg::Inline,
            no_cancel: false,
            id: None,
            name: None,
        };
        let mut seen = Keys::default();
        let read = |meta: ParseNestedMeta<'_>| {
            let key = seen.add(&meta)?;
            match key.as_str() {
                "version" => version = Some(parse_version(&meta.value()?.parse()?)),
                "idempotent" => parsed.idempotent = true,
                "timeout" => parsed.timeout = errors.keep(parse_timeout(&meta.value()?.parse()?)),
                "spawn" => spawn = Some(meta.path.span()),
                "blocking" => blocking = Some(meta.path.span()),
                "no_cancel" => parsed.no_cancel = true,
                "id" => parsed.id = errors.keep(parse_id(&meta.value()?.parse()?)),
                "name" => parsed.name = Some(meta.value()?.parse()?),
                _ => return Err(meta.error(UNKNOWN_RPC_KEY)),
            }
            Ok(())
        };
        if matches!(attribute.meta, syn::Meta::Path(_)) {
            errors.push(Error::new_spanned(attribute, NO_VERSION));
            return errors.or(parsed);
        }
        if let Err(error) = attribute.parse_nested_meta(read) {
            // What follows it was not read: no telling what is missing.
            errors.push(error);
            return errors.or(parsed);
        }
        match version {
            Some(version) => parsed.version = errors.keep(version).unwrap_or_default(),
            None => errors.push(Error::new_spanned(attribute, NO_VERSION)),
        }
        parsed.run = match (spawn, blocking) {
            (None, None) => RunArg::Inline,
            (Some(_), None) => RunArg::Spawn,
            (None, Some(_)) => RunArg::Blocking,
            (Some(_), Some(span)) => {
                let message = "`spawn` and `blocking` exclude each other: a blocking method has \
                               a thread to itself already";
                errors.at(span, message);
                RunArg::Blocking
            }
        };
        errors.or(parsed)
    }
}

impl CompatArgs {
    pub(crate) fn parse(attribute: &Attribute) -> Result<Self, Error> {
        attribute.parse_args_with(Self::read)
    }

    fn read(input: ParseStream<'_>) -> Result<Self, Error> {
        if !input.peek(LitInt) {
            return Err(input.error("the old version comes first: #[compat(1, req = OldRequest)]"));
        }
        let literal: LitInt = input.parse()?;
        let mut parsed = Self {
            version: parse_version(&literal)?,
            span: literal.span(),
            request: None,
            response: None,
            error: None,
        };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let slot = match key.to_string().as_str() {
                "req" => &mut parsed.request,
                "resp" => &mut parsed.response,
                "err" => &mut parsed.error,
                _ => {
                    let message = "expected `req`, `resp` or `err`, the types of the old version";
                    return Err(Error::new(key.span(), message));
                }
            };
            if slot.is_some() {
                return Err(Error::new(key.span(), format!("`{key}` stands twice")));
            }
            *slot = Some(input.parse()?);
        }
        Ok(parsed)
    }
}

/// The keys of one attribute so far.
#[derive(Default)]
struct Keys(Vec<String>);

impl Keys {
    fn add(&mut self, meta: &ParseNestedMeta<'_>) -> Result<String, Error> {
        let key = meta.path.get_ident().map_or_else(String::new, Ident::to_string);
        if self.0.contains(&key) {
            return Err(meta.error(format!("`{key}` stands twice")));
        }
        self.0.push(key.clone());
        Ok(key)
    }
}

fn parse_version(literal: &LitInt) -> Result<u16, Error> {
    let is_version = |version: &u16| (1..=VERSION_MAX).contains(version);
    literal
        .base10_parse::<u16>()
        .ok()
        .filter(is_version)
        .ok_or_else(|| Error::new(literal.span(), "a version is 1 to 65534"))
}

fn parse_id(literal: &LitInt) -> Result<u32, Error> {
    literal
        .base10_parse::<u32>()
        .map_err(|_| Error::new(literal.span(), "an id has 32 bits: 0 to 0xffff_ffff"))
}

fn parse_timeout(literal: &LitStr) -> Result<Duration, Error> {
    timeout_of(&literal.value()).map_err(|message| Error::new(literal.span(), message))
}

/// `200ms`, `2s`, `1m` or `1h`.
fn timeout_of(text: &str) -> Result<Duration, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a timeout is a whole number and its unit: \"200ms\", \"2s\", \"1m\""),
    };
    if number.is_empty() {
        return Err("a timeout is a whole number and its unit: \"200ms\", \"2s\", \"1m\"");
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_ms))
        .filter(|ms| (1..=TIMEOUT_MS_MAX).contains(ms))
        .map(Duration::from_millis)
        .ok_or("a timeout is 1ms to 1h: no server waits for longer")
}

const NO_VERSION: &str = "the version is missing: #[rpc(version = 1)]";
const UNKNOWN_SERVICE_KEY: &str = "what can be said here is `name = \"bank.Ledger\"` and `mock`";
const UNKNOWN_RPC_KEY: &str = "expected `version`, `idempotent`, `timeout`, `spawn`, `blocking`, \
                               `no_cancel`, `id` or `name`";
const VERSION_MAX: u16 = 65_534;
/// What a server caps a request's timeout at.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    use syn::parse_quote;

    use crate::service::signature::text_of;

    fn rpc(attribute: Attribute) -> Result<RpcArgs, String> {
        RpcArgs::parse(&[attribute], &parse_quote!(f)).map_err(|error| error.to_string())
    }

    /// Every unit is read, and the limits hold at both ends.
    #[test]
    fn timeouts_have_units_and_limits() {
        assert_eq!(timeout_of("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(timeout_of("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(timeout_of("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(timeout_of("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(timeout_of("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(timeout_of("3600s"), Ok(Duration::from_secs(3600)));

        for wrong in ["", "2", "s", "2 s", " 2s", "2S", "-2s", "+2s", "1.5s", "2d", "٣s"] {
            assert!(timeout_of(wrong).is_err(), "{wrong:?}");
        }
        for outside in ["0s", "3601s", "61m", "2h", "99999999999999999999ms"] {
            assert!(timeout_of(outside).is_err_and(|m| m.contains("1ms to 1h")), "{outside:?}");
        }
    }

    /// Versions end where the wire's end.
    #[test]
    fn versions_have_limits() {
        let version = |text: &str| {
            let literal: LitInt = syn::parse_str(text).unwrap();
            parse_version(&literal).ok()
        };

        assert_eq!(version("1"), Some(1));
        assert_eq!(version("65534"), Some(65_534));
        for wrong in ["0", "65535", "65536"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
    }

    /// Every key arrives where it belongs.
    #[test]
    fn rpc_reads_every_key() {
        let attribute = parse_quote!(#[rpc(
            version = 7, idempotent, timeout = "2s", spawn, no_cancel, id = 0x1234_5678,
            name = "other",
        )]);

        let parsed = rpc(attribute).unwrap();

        assert_eq!(parsed.version, 7);
        assert!(parsed.idempotent && parsed.no_cancel);
        assert_eq!(parsed.timeout, Some(Duration::from_secs(2)));
        assert_eq!(parsed.run, RunArg::Spawn);
        assert_eq!(parsed.id, Some(0x1234_5678));
        assert_eq!(parsed.name.unwrap().value(), "other");
    }

    /// What a key may not be, and which keys there are.
    #[test]
    fn rpc_refuses() {
        let refused = |attribute| rpc(attribute).err().unwrap();

        assert_eq!(refused(parse_quote!(#[rpc])), NO_VERSION);
        assert_eq!(refused(parse_quote!(#[rpc(idempotent)])), NO_VERSION);
        assert_eq!(
            refused(parse_quote!(#[rpc(version = 1, version = 2)])),
            "`version` stands twice"
        );
        assert_eq!(refused(parse_quote!(#[rpc(version = 1, retries = 2)])), UNKNOWN_RPC_KEY);
        assert!(refused(parse_quote!(#[rpc(version = 1, spawn, blocking)])).contains("exclude"));
        assert!(refused(parse_quote!(#[rpc(version = 1, id = 0x1_0000_0000)])).contains("32 bits"));
    }

    /// Several mistakes in one attribute are all reported.
    #[test]
    fn rpc_reports_all_at_once() {
        let attribute = parse_quote!(#[rpc(version = 0, timeout = "2", spawn, blocking)]);

        let error = RpcArgs::parse(&[attribute], &parse_quote!(f)).err().unwrap();

        assert_eq!(error.into_iter().count(), 3);
    }

    /// Types that are left out are none, and nothing stands twice.
    #[test]
    fn compat_reads_its_types() {
        let attribute = parse_quote!(#[compat(1, req = Old<u8>, err = old::Error,)]);

        let parsed = CompatArgs::parse(&attribute).unwrap();

        assert_eq!(parsed.version, 1);
        let text = |of_type: &Option<Type>| of_type.as_ref().map(text_of);
        assert_eq!(text(&parsed.request).as_deref(), Some("Old < u8 >"));
        assert_eq!(text(&parsed.response), None);
        assert_eq!(text(&parsed.error).as_deref(), Some("old :: Error"));
        for wrong in [
            parse_quote!(#[compat]),
            parse_quote!(#[compat(0)]),
            parse_quote!(#[compat(req = Old)]),
            parse_quote!(#[compat(1, req = Old, req = Old)]),
            parse_quote!(#[compat(1, request = Old)]),
        ] {
            assert!(CompatArgs::parse(&wrong).is_err());
        }
    }
}
