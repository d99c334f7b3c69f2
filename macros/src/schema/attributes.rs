//! What serde's and our own attributes say about a type, a variant or a field.
//!
//! Invariant: an attribute of serde's that is not known here is refused, so that a new one cannot
//! change an encoding behind the schema's back.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, MetaList, Token};

use crate::schema::case::RenameRule;

/// Attributes of a struct or an enum.
#[derive(Default)]
pub(crate) struct ContainerAttributes {
    pub(crate) rename_all: RenameRule,
    pub(crate) rename_all_fields: RenameRule,
    pub(crate) transparent: bool,
    pub(crate) opaque: Option<LitStr>,
}

/// Attributes of a variant.
#[derive(Default)]
pub(crate) struct VariantAttributes {
    pub(crate) rename: Option<LitStr>,
    pub(crate) rename_all: RenameRule,
    pub(crate) skip: bool,
}

/// Attributes of a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) rename: Option<LitStr>,
    pub(crate) skip: bool,
    pub(crate) opaque: Option<LitStr>,
}

impl ContainerAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut parsed = Self { opaque: parse_opaque(attributes)?, ..Self::default() };
        if parsed.opaque.is_some() {
            // The name stands for the whole encoding, however serde makes it.
            return Ok(parsed);
        }
        for meta in metas_of(attributes, "serde")? {
            match name_of(&meta).as_str() {
                "rename" | "default" | "bound" | "crate" | "deny_unknown_fields" | "expecting" => {}
                "rename_all" => parsed.rename_all = rename_rule(&meta)?,
                "rename_all_fields" => parsed.rename_all_fields = rename_rule(&meta)?,
                "transparent" => parsed.transparent = true,
                name @ ("untagged" | "tag" | "content") => return Err(not_compact(&meta, name)),
                name @ ("from" | "try_from" | "into" | "remote") => {
                    return Err(needs_name(&meta, name, "type"));
                }
                name => return Err(unknown(&meta, name)),
            }
        }
        Ok(parsed)
    }
}

impl VariantAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self, Error> {
        if let Some(text) = parse_opaque(attributes)? {
            let message = "`opaque` belongs on the enum or on a field of the variant";
            return Err(Error::new(text.span(), message));
        }
        let mut parsed = Self::default();
        let mut skips = Skips::default();
        for meta in metas_of(attributes, "serde")? {
            match name_of(&meta).as_str() {
                "alias" | "bound" | "borrow" => {}
                "rename" => parsed.rename = Some(both_ways(&meta)?),
                "rename_all" => parsed.rename_all = rename_rule(&meta)?,
                name @ ("skip" | "skip_serializing" | "skip_deserializing") => {
                    skips.add(name, &meta);
                }
                name @ ("untagged" | "other") => return Err(not_compact(&meta, name)),
                name @ ("with" | "serialize_with" | "deserialize_with") => {
                    return Err(needs_name(&meta, name, "enum"));
                }
                name => return Err(unknown(&meta, name)),
            }
        }
        parsed.skip = skips.both_ways()?;
        Ok(parsed)
    }
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut parsed = Self { opaque: parse_opaque(attributes)?, ..Self::default() };
        let mut skips = Skips::default();
        let mut foreign = None;
        for meta in metas_of(attributes, "serde")? {
            match name_of(&meta).as_str() {
                "alias" | "bound" | "borrow" | "default" => {}
                "rename" => parsed.rename = Some(both_ways(&meta)?),
                name @ ("skip" | "skip_serializing" | "skip_deserializing") => {
                    skips.add(name, &meta);
                }
                name @ ("flatten" | "skip_serializing_if") => {
                    return Err(not_compact(&meta, name));
                }
                name @ ("with" | "serialize_with" | "deserialize_with" | "getter") => {
                    foreign = Some(needs_name(&meta, name, "field"));
                }
                name => return Err(unknown(&meta, name)),
            }
        }
        parsed.skip = skips.both_ways()?;
        match foreign {
            Some(error) if parsed.opaque.is_none() && !parsed.skip => Err(error),
            Some(_) | None => Ok(parsed),
        }
    }
}

/// `skip`, or its two halves.
#[derive(Default)]
struct Skips {
    serializing: Option<Span>,
    deserializing: Option<Span>,
}

impl Skips {
    fn add(&mut self, name: &str, meta: &Meta) {
        if name != "skip_deserializing" {
            self.serializing = Some(meta.span());
        }
        if name != "skip_serializing" {
            self.deserializing = Some(meta.span());
        }
    }

    fn both_ways(&self) -> Result<bool, Error> {
        match (self.serializing, self.deserializing) {
            (Some(_), Some(_)) => Ok(true),
            (None, None) => Ok(false),
            (Some(span), None) | (None, Some(span)) => Err(Error::new(
                span,
                "skipped one way only: the bytes would not be those that are read; use `skip`",
            )),
        }
    }
}

/// The elements of all `#[path(...)]`.
fn metas_of(attributes: &[Attribute], path: &str) -> Result<Vec<Meta>, Error> {
    let mut metas = Vec::new();
    for attribute in attributes {
        if attribute.path().is_ident(path) {
            let list = Punctuated::<Meta, Token![,]>::parse_terminated;
            metas.extend(attribute.parse_args_with(list)?);
        }
    }
    Ok(metas)
}

fn name_of(meta: &Meta) -> String {
    meta.path().get_ident().map_or_else(String::new, ToString::to_string)
}

fn parse_opaque(attributes: &[Attribute]) -> Result<Option<LitStr>, Error> {
    let mut opaque = None;
    for meta in metas_of(attributes, "schema")? {
        if name_of(&meta) != "opaque" {
            let message = "the only thing to say here is #[schema(opaque = \"name.v1\")]";
            return Err(Error::new(meta.span(), message));
        }
        let text = string_of(&meta)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&text.value().len()) || !text.value().bytes().all(is_allowed) {
            let message = "an opaque name is 1 to 64 of A-Z a-z 0-9 . _ -";
            return Err(Error::new(text.span(), message));
        }
        opaque = Some(text);
    }
    Ok(opaque)
}

fn rename_rule(meta: &Meta) -> Result<RenameRule, Error> {
    let text = both_ways(meta)?;
    RenameRule::parse(&text.value())
        .ok_or_else(|| Error::new(text.span(), "serde has no such rule"))
}

/// The string of `x = "a"`, or of `x(serialize = "a", deserialize = "a")` if both are the same.
fn both_ways(meta: &Meta) -> Result<LitStr, Error> {
    let Meta::List(list) = meta else {
        return string_of(meta);
    };
    let differs = || {
        let message = "another name in one direction: both sides must write what the other reads";
        Error::new(meta.span(), message)
    };
    let halves = parse_list(list)?;
    let half = |name: &str| halves.iter().find(|half| name_of(half) == name);
    let (Some(serialize), Some(deserialize)) = (half("serialize"), half("deserialize")) else {
        return Err(differs());
    };
    let (serialize, deserialize) = (string_of(serialize)?, string_of(deserialize)?);
    if serialize.value() == deserialize.value() { Ok(serialize) } else { Err(differs()) }
}

fn parse_list(list: &MetaList) -> Result<Punctuated<Meta, Token![,]>, Error> {
    list.parse_args_with(Punctuated::parse_terminated)
}

fn string_of(meta: &Meta) -> Result<LitStr, Error> {
    if let Meta::NameValue(pair) = meta
        && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value
    {
        return Ok(text.clone());
    }
    Err(Error::new(meta.span(), "expected `= \"...\"`"))
}

fn not_compact(meta: &Meta, name: &str) -> Error {
    let message = format!(
        "`{name}` needs a codec that writes names; a compact one cannot carry it, so it has no \
         schema",
    );
    Error::new(meta.span(), message)
}

fn needs_name(meta: &Meta, name: &str, place: &str) -> Error {
    let message = format!(
        "`{name}` makes the encoding another one than the type's: name it with \
         #[schema(opaque = \"name.v1\")] on the {place}",
    );
    Error::new(meta.span(), message)
}

fn unknown(meta: &Meta, name: &str) -> Error {
    let message = format!("derive(Schema) does not know what serde's `{name}` does to the bytes");
    Error::new(meta.span(), message)
}
