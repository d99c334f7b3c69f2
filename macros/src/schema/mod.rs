//! `#[derive(Schema)]`: calls on a `SchemaWriter` that follow what serde's derive would write.
//!
//! Invariants: names are serde's, raw identifiers without `r#`; positions are those of the source,
//! less what is skipped both ways; generated code names only `::switchback::__private`.
//! Why not serde_derive_internals: the few attributes that change a name or an order are read in
//! less code than it takes to follow that crate's versions.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Type, Variant};

use crate::schema::attributes::{ContainerAttributes, FieldAttributes, VariantAttributes};
use crate::schema::case::RenameRule;

mod attributes;
mod bounds;
mod case;

/// The implementation, or what is wrong with the type.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let container = ContainerAttributes::parse(&input.attrs)?;
    let mut written = Vec::new();
    let body = match (&container.opaque, &input.data) {
        (_, Data::Union(union)) => {
            return Err(Error::new(
                union.union_token.span(),
                "serde cannot encode a union",
            ));
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

    let generics = bounds::bounded(&input.generics, &written);
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
        let span = variants
            .first()
            .map_or_else(proc_macro2::Span::call_site, |v| v.ident.span());
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
        None => LitStr::new(
            &rule.apply_to_field(&ident.unraw().to_string()),
            ident.span(),
        ),
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

fn is_phantom(of_type: &Type) -> bool {
    let Type::Path(path) = of_type else {
        return false;
    };
    path.path
        .segments
        .last()
        .is_some_and(|segment| segment.ident == "PhantomData")
}
