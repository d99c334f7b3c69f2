//! The bounds that a generic type's implementation needs.
//!
//! Invariants: a parameter that a written field mentions must have a schema itself; every other one
//! and every lifetime must be `'static`, since recursion is found by `TypeId`.
//! Why not a bound per field type: a recursive type would need itself to prove itself.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Generics, Ident, Type, parse_quote};

use crate::schema::expand::is_phantom;

/// `generics` with bounds for the types that the implementation writes.
pub(crate) fn bounded(generics: &Generics, written: &[&Type]) -> Generics {
    let mut bounded = generics.clone();
    let clause = bounded.make_where_clause();
    for lifetime in generics.lifetimes() {
        let lifetime = &lifetime.lifetime;
        clause.predicates.push(parse_quote!(#lifetime: 'static));
    }
    for parameter in generics.type_params() {
        let parameter = &parameter.ident;
        let is_written = written
            .iter()
            .any(|of_type| !is_phantom(of_type) && mentions(of_type.to_token_stream(), parameter));
        let bound =
            if is_written { quote!(::switchback::__private::Schema) } else { quote!('static) };
        clause.predicates.push(parse_quote!(#parameter: #bound));
        for of_type in written.iter().filter(|of_type| is_associated(of_type, parameter)) {
            clause.predicates.push(parse_quote!(#of_type: ::switchback::__private::Schema));
        }
    }
    bounded
}

fn mentions(tokens: TokenStream, parameter: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *parameter,
        TokenTree::Group(group) => mentions(group.stream(), parameter),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Whether the type is `T::Something`.
fn is_associated(of_type: &Type, parameter: &Ident) -> bool {
    let Type::Path(path) = of_type else {
        return false;
    };
    let segments = &path.path.segments;
    path.qself.is_none() && segments.len() > 1 && segments[0].ident == *parameter
}
