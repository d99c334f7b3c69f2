//! From a type to the calls that write its schema.
//!
//! Invariant: what is written follows serde's derive field by field, including its two oddities:
//! the only field of a newtype is never skipped, and a variant whose only unnamed field is skipped
//! is a unit variant.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Type, Variant};

use crate::schema::attributes::{ContainerAttributes, FieldAttributes, VariantAttributes};
use crate::schema::bounds::bounded;
use crate::schema::case::RenameRule;

/// The implementation, or what is wrong with the type.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let container = ContainerAttributes::parse(&input.attrs)?;
    let mut written = Vec::new();
    let body = match (&container.opaque, &input.data) {
        (_, Data::Union(union)) => {
            return Err(Error::new(union.union_token.span(), "serde cannot encode a union"));
        }
        (Some(text), _) => quote!(__writer.opaque(#text);),
        (None, Data::Struct(data)) if container.transparent => {
            transparent(input, &data.fields, &mut written)?
        }
        (None, Data::Struct(data)) => structure(&data.fields, &container, &mut written)?,
        (None, Data::Enum(data)) => {
            let variants = data.variants.iter().collect::<Vec<_>>();
            enumeration(&variants, &container, &mut written)?
        }
    };

    let generics = bounded(&input.generics, &written);
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::switchback::__private::Schema for #name #type_generics
        #where_clause
        {
            fn write_schema(__writer: &mut ::switchback::__private::SchemaWriter) {
                #body
            }
        }
    })
}

/// The text of the one field that is encoded.
fn transparent<'t>(
    input: &DeriveInput,
    fields: &'t Fields,
    written: &mut Vec<&'t Type>,
) -> Result<TokenStream, Error> {
    let mut shown = Vec::new();
    for field in fields {
        let attributes = FieldAttributes::parse(&field.attrs)?;
        if !attributes.skip && !is_phantom(&field.ty) {
            shown.push((field, attributes));
        }
    }
    let [(field, attributes)] = shown.as_slice() else {
        let message = "`transparent` needs exactly one field that is not skipped";
        return Err(Error::new(input.ident.span(), message));
    };
    if let Some(text) = &attributes.opaque {
        return Ok(quote!(__writer.opaque(#text);));
    }
    let of_type = &field.ty;
    written.push(of_type);
    Ok(quote!(__writer.value::<#of_type>();))
}

fn structure<'t>(
    fields: &'t Fields,
    container: &ContainerAttributes,
    written: &mut Vec<&'t Type>,
) -> Result<TokenStream, Error> {
    let calls = field_calls(fields, container.rename_all, written)?;
    Ok(match fields {
        Fields::Named(_) => quote!(__writer.structure::<Self>(|__fields| { #(#calls)* });),
        Fields::Unnamed(unnamed) => {
            if unnamed.unnamed.len() == 1 && calls.is_empty() {
                // serde's derive writes such a field all the same.
                let message = "serde does not skip the only field of a newtype";
                return Err(Error::new(unnamed.span(), message));
            }
            quote!(__writer.tuple_structure::<Self>(|__fields| { #(#calls)* });)
        }
        Fields::Unit => quote!(__writer.unit();),
    })
}

fn enumeration<'t>(
    variants: &[&'t Variant],
    container: &ContainerAttributes,
    written: &mut Vec<&'t Type>,
) -> Result<TokenStream, Error> {
    if container.transparent {
        let span = variants.first().map_or_else(proc_macro2::Span::call_site, |v| v.ident.span());
        return Err(Error::new(span, "serde has no transparent enums"));
    }
    let mut calls = Vec::new();
    let mut skipped: Option<&Ident> = None;
    for variant in variants {
        let attributes = VariantAttributes::parse(&variant.attrs)?;
        if attributes.skip {
            skipped = Some(&variant.ident);
            continue;
        }
        if let Some(skipped) = skipped {
            // serde_derive numbers all variants to write, but only the others to read.
            let message = "a skipped variant must come after all others: serde writes and reads \
                           different numbers for the variants that follow it";
            return Err(Error::new(skipped.span(), message));
        }
        calls.push(variant_call(variant, &attributes, container, written)?);
    }
    Ok(quote!(__writer.enumeration::<Self>(|__variants| { #(#calls)* });))
}

fn variant_call<'t>(
    variant: &'t Variant,
    attributes: &VariantAttributes,
    container: &ContainerAttributes,
    written: &mut Vec<&'t Type>,
) -> Result<TokenStream, Error> {
    let name = match &attributes.rename {
        Some(name) => name.clone(),
        None => {
            let source = variant.ident.unraw().to_string();
            let name = container.rename_all.apply_to_variant(&source);
            LitStr::new(&name, variant.ident.span())
        }
    };
    check_name(&name)?;
    let rule = attributes.rename_all.or(container.rename_all_fields);
    let calls = field_calls(&variant.fields, rule, written)?;
    Ok(match &variant.fields {
        Fields::Named(_) => quote!(__variants.structure(#name, |__fields| { #(#calls)* });),
        // serde takes a variant whose only unnamed field is skipped for one without any.
        Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 && calls.is_empty() => {
            quote!(__variants.unit(#name);)
        }
        Fields::Unnamed(_) => quote!(__variants.tuple(#name, |__fields| { #(#calls)* });),
        Fields::Unit => quote!(__variants.unit(#name);),
    })
}

/// One call for each field that is encoded; the types they name are added to `written`.
fn field_calls<'t>(
    fields: &'t Fields,
    rule: RenameRule,
    written: &mut Vec<&'t Type>,
) -> Result<Vec<TokenStream>, Error> {
    let mut calls = Vec::new();
    for field in fields {
        let attributes = FieldAttributes::parse(&field.attrs)?;
        if attributes.skip {
            continue;
        }
        let name = field_name(field, &attributes, rule)?;
        let of_type = &field.ty;
        calls.push(match (name, &attributes.opaque) {
            (Some(name), Some(text)) => {
                quote!(__fields.field_with(#name, |__writer| __writer.opaque(#text));)
            }
            (None, Some(text)) => {
                quote!(__fields.element_with(|__writer| __writer.opaque(#text));)
            }
            (Some(name), None) => quote!(__fields.field::<#of_type>(#name);),
            (None, None) => quote!(__fields.element::<#of_type>();),
        });
        if attributes.opaque.is_none() {
            written.push(of_type);
        }
    }
    Ok(calls)
}

/// The name on the wire, for a field that has one.
fn field_name(
    field: &Field,
    attributes: &FieldAttributes,
    rule: RenameRule,
) -> Result<Option<LitStr>, Error> {
    let Some(ident) = &field.ident else {
        return Ok(None);
    };
    let name = match &attributes.rename {
        Some(name) => name.clone(),
        None => LitStr::new(&rule.apply_to_field(&ident.unraw().to_string()), ident.span()),
    };
    check_name(&name)?;
    Ok(Some(name))
}

/// A name must not look like the text around it, or two schemas could have one text.
fn check_name(name: &LitStr) -> Result<(), Error> {
    let is_reserved = |letter: char| {
        "{}()[],:;?!^>".contains(letter) || letter.is_whitespace() || letter.is_control()
    };
    if name.value().is_empty() || name.value().contains(is_reserved) {
        let message = "a name in a schema is not empty and has no space and none of {}()[],:;?!^>";
        return Err(Error::new(name.span(), message));
    }
    Ok(())
}

pub(crate) fn is_phantom(of_type: &Type) -> bool {
    let Type::Path(path) = of_type else {
        return false;
    };
    path.path.segments.last().is_some_and(|segment| segment.ident == "PhantomData")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(input: &str) -> Result<String, String> {
        let input = syn::parse_str::<DeriveInput>(input).expect("the test's type is Rust");
        expand(&input).map(|code| code.to_string()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn assert_refused(reason: &str, inputs: &[&str]) {
        for input in inputs {
            let error = expanded(input).expect_err(input);
            assert!(error.contains(reason), "{input}: {error:?} does not say {reason:?}");
        }
    }

    #[track_caller]
    fn assert_accepted(inputs: &[&str]) {
        for input in inputs {
            assert!(expanded(input).is_ok(), "{input}: {:?}", expanded(input));
        }
    }

    /// What only a codec with names can carry has no schema, whatever else is said about it.
    #[test]
    fn what_is_not_compact_is_refused() {
        let inputs = [
            "struct A { #[serde(flatten)] b: B }",
            "struct A { #[schema(opaque = \"b\")] #[serde(flatten)] b: B }",
            "struct A { #[serde(default, skip_serializing_if = \"f\")] b: B }",
            "enum A { B { #[serde(skip_serializing_if = \"f\")] c: C } }",
            "#[serde(untagged)] enum A { B }",
            "#[serde(tag = \"t\")] enum A { B }",
            "#[serde(tag = \"t\", content = \"c\")] enum A { B }",
            "enum A { #[serde(untagged)] B }",
            "enum A { B, #[serde(other)] C }",
        ];
        assert_refused("a compact one cannot carry it", &inputs);
    }

    /// An encoding that is not the type's own needs a name, and with one it is accepted.
    #[test]
    fn other_encodings_need_a_name() {
        let inputs = [
            "struct A { #[serde(with = \"w\")] b: B }",
            "struct A { #[serde(serialize_with = \"w\")] b: B }",
            "struct A { #[serde(deserialize_with = \"w\")] b: B }",
            "struct A { #[serde(getter = \"g\")] b: B }",
            "enum A { #[serde(with = \"w\")] B(C) }",
            "#[serde(from = \"B\")] struct A;",
            "#[serde(try_from = \"B\")] struct A;",
            "#[serde(into = \"B\")] struct A;",
            "#[serde(remote = \"B\")] struct A;",
        ];
        assert_refused("#[schema(opaque = \"name.v1\")]", &inputs);

        assert_accepted(&[
            "#[serde(from = \"B\", into = \"B\")] #[schema(opaque = \"a.v1\")] struct A;",
            "struct A { #[serde(skip, with = \"w\")] b: B }",
        ]);
    }

    /// Writing and reading must be the same names, fields and variants.
    #[test]
    fn one_way_attributes_are_refused() {
        let inputs = [
            "struct A { #[serde(skip_serializing)] b: B }",
            "struct A { #[serde(skip_deserializing)] b: B }",
            "enum A { #[serde(skip_serializing)] B }",
        ];
        assert_refused("skipped one way only", &inputs);
        assert_accepted(&["struct A { #[serde(skip_serializing, skip_deserializing)] b: B }"]);

        let inputs = [
            "struct A { #[serde(rename(serialize = \"x\"))] b: B }",
            "struct A { #[serde(rename(serialize = \"x\", deserialize = \"y\"))] b: B }",
            "#[serde(rename_all(serialize = \"lowercase\"))] struct A { b: B }",
        ];
        assert_refused("another name in one direction", &inputs);
    }

    /// serde numbers variants one way to write and another to read once one in the middle is
    /// skipped; at the end it does no harm.
    #[test]
    fn variants_may_be_skipped_at_the_end_only() {
        assert_refused("must come after all others", &["enum A { #[serde(skip)] B, C }"]);
        assert_accepted(&["enum A { C, #[serde(skip)] B }"]);
    }

    /// What has no text, or more than one reading, is refused.
    #[test]
    fn shapes_without_a_text_are_refused() {
        let cases = [
            ("union", "union A { b: u8 }"),
            ("union", "#[schema(opaque = \"u\")] union A { b: u8 }"),
            ("only field of a newtype", "struct A(#[serde(skip)] u8);"),
            ("exactly one", "#[serde(transparent)] struct A(u8, u8);"),
            ("transparent", "#[serde(transparent)] enum A { B(u8) }"),
            ("does not know", "#[serde(brand_new)] struct A;"),
            ("no such rule", "#[serde(rename_all = \"Any\")] struct A;"),
            ("none of", "struct A { #[serde(rename = \"a,b\")] b: B }"),
            ("not empty", "enum A { #[serde(rename = \"\")] B }"),
            ("1 to 64", "#[schema(opaque = \"a b\")] struct A;"),
            ("1 to 64", "#[schema(opaque = \"\")] struct A;"),
            ("the only thing", "#[schema(name = \"a\")] struct A;"),
        ];
        for (reason, input) in cases {
            assert_refused(reason, &[input]);
        }
    }

    /// Generated code reaches everything through one path, and bounds only what it writes.
    #[test]
    fn generated_code_names_only_the_private_module() {
        let code = expanded("struct A<'a, T, U> { t: &'a T, #[serde(skip)] u: U }")
            .expect("the type is a plain one");

        assert!(code.contains("T : :: switchback :: __private :: Schema"), "{code}");
        assert!(code.contains("U : 'static") && code.contains("'a : 'static"), "{code}");
        assert_eq!(code.matches("switchback").count(), code.matches(":: __private ::").count());
    }
}
