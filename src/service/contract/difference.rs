//! What differs between two types, by the path to each place.
//!
//! ```text
//!   struct{from:u64,to:u64}       request.to: was u64, is str
//!   struct{from:u64,to:str}
//! ```
//!
//! Fields and variants are matched by name, so that one that was added in the middle is told as
//! that, and not as a change of all that follow.
//!
//! Invariant: equal texts have no difference, different ones at least one. No more than 32 are
//! told: whoever replaced a type needs no list.

use std::fmt;

use crate::service::contract::tree::{SchemaTree, Variant, VariantContent};

/// One place at which two types differ.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// From the method down: `request.lines[].amount`, `error::NoSuchAccount.0`.
    pub path: String,
    /// For people: `was u64, is str`.
    pub what: String,
}

impl Difference {
    /// Between two types; `path` names them.
    #[must_use]
    pub fn between(path: &str, old: &SchemaTree, new: &SchemaTree) -> Vec<Self> {
        let mut found = Vec::new();
        compare(path, old, new, &mut found);
        found
    }

    fn push(found: &mut Vec<Self>, path: &str, what: String) {
        if found.len() < DIFFERENCES_MAX {
            found.push(Self { path: path.to_owned(), what });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

fn compare(path: &str, old: &SchemaTree, new: &SchemaTree, found: &mut Vec<Difference>) {
    match (old, new) {
        (SchemaTree::Option(old), SchemaTree::Option(new)) => {
            compare(&format!("{path}?"), old, new, found);
        }
        (SchemaTree::Sequence(old), SchemaTree::Sequence(new)) => {
            compare(&format!("{path}[]"), old, new, found);
        }
        (SchemaTree::Array(old, old_len), SchemaTree::Array(new, new_len))
            if old_len == new_len =>
        {
            compare(&format!("{path}[]"), old, new, found);
        }
        (SchemaTree::Map(old_key, old), SchemaTree::Map(new_key, new)) => {
            compare(&format!("{path}{{key}}"), old_key, new_key, found);
            compare(&format!("{path}{{value}}"), old, new, found);
        }
        (SchemaTree::Struct(old), SchemaTree::Struct(new)) => fields(path, old, new, found),
        (SchemaTree::Tuple(old), SchemaTree::Tuple(new))
        | (SchemaTree::TupleStruct(old), SchemaTree::TupleStruct(new)) => {
            elements(path, old, new, found);
        }
        (SchemaTree::Enum(old), SchemaTree::Enum(new)) => variants(path, old, new, found),
        (SchemaTree::WithRaw(old), SchemaTree::WithRaw(new)) => compare(path, old, new, found),
        (old, new) if old != new => {
            Difference::push(found, path, format!("was {}, is {}", cut(old), cut(new)));
        }
        _ => {}
    }
}

fn fields(
    path: &str,
    old: &[(String, SchemaTree)],
    new: &[(String, SchemaTree)],
    found: &mut Vec<Difference>,
) {
    let count = found.len();
    for (name, before) in old {
        match new.iter().find(|(other, _)| other == name) {
            Some((_, after)) => compare(&format!("{path}.{name}"), before, after, found),
            None => {
                let what = format!("field was taken away ({})", cut(before));
                Difference::push(found, &format!("{path}.{name}"), what);
            }
        }
    }
    for (at, (name, after)) in new.iter().enumerate() {
        if !old.iter().any(|(other, _)| other == name) {
            let what = format!("field was added at place {} ({})", at + 1, cut(after));
            Difference::push(found, &format!("{path}.{name}"), what);
        }
    }
    let is_moved = old.iter().map(|(name, _)| name).ne(new.iter().map(|(name, _)| name));
    if found.len() == count && is_moved {
        let names = |fields: &[(String, SchemaTree)]| {
            fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let what = format!("the order of the fields was {}; is {}", names(old), names(new));
        Difference::push(found, path, what);
    }
}

fn elements(path: &str, old: &[SchemaTree], new: &[SchemaTree], found: &mut Vec<Difference>) {
    if old.len() != new.len() {
        let what = format!("had {} elements, has {}", old.len(), new.len());
        return Difference::push(found, path, what);
    }
    for (at, (old, new)) in old.iter().zip(new).enumerate() {
        compare(&format!("{path}.{at}"), old, new, found);
    }
}

fn variants(path: &str, old: &[Variant], new: &[Variant], found: &mut Vec<Difference>) {
    for (number, variant) in old.iter().enumerate() {
        let here = format!("{path}::{}", variant.name);
        match new.iter().position(|other| other.name == variant.name) {
            None => Difference::push(found, &here, "variant was taken away".to_owned()),
            Some(at) if at != number => {
                let what = format!("variant had the number {number}, has {at}");
                Difference::push(found, &here, what);
            }
            Some(at) => contents(&here, &variant.content, &new[at].content, found),
        }
    }
    for (number, variant) in new.iter().enumerate() {
        if !old.iter().any(|other| other.name == variant.name) {
            let here = format!("{path}::{}", variant.name);
            let what = format!("variant was added with the number {number}");
            Difference::push(found, &here, what);
        }
    }
}

fn contents(path: &str, old: &VariantContent, new: &VariantContent, found: &mut Vec<Difference>) {
    match (old, new) {
        (VariantContent::Unit, VariantContent::Unit) => {}
        (VariantContent::Tuple(old), VariantContent::Tuple(new)) => {
            elements(path, old, new, found);
        }
        (VariantContent::Struct(old), VariantContent::Struct(new)) => {
            fields(path, old, new, found);
        }
        (old, new) => {
            let what = format!("held {}, holds {}", held(old), held(new));
            Difference::push(found, path, what);
        }
    }
}

const fn held(content: &VariantContent) -> &'static str {
    match content {
        VariantContent::Unit => "nothing",
        VariantContent::Tuple(_) => "values without names",
        VariantContent::Struct(_) => "fields",
    }
}

/// A type's text, at most so much of it that a line stays a line.
fn cut(tree: &SchemaTree) -> String {
    let text = tree.to_string();
    if text.len() <= TEXT_BYTES_SAID {
        return text;
    }
    format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_SAID)])
}

/// Told of one pair of types, at most.
const DIFFERENCES_MAX: usize = 32;
/// Of one type's text in a message.
const TEXT_BYTES_SAID: usize = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(old: &str, new: &str) -> Vec<String> {
        let [old, new] = [old, new].map(|text| SchemaTree::parse(text).unwrap());
        Difference::between("request", &old, &new).iter().map(ToString::to_string).collect()
    }

    /// Each kind of change is named at its place.
    #[test]
    fn a_change_is_named_where_it_is() {
        for (old, new, what) in [
            ("struct{a:u8,b:u64}", "struct{a:u8,b:u32}", "request.b: was u64, is u32"),
            ("struct{a:u8}", "struct{x:str,a:u8}", "request.x: field was added at place 1 (str)"),
            ("struct{a:u8,b:u8}", "struct{b:u8}", "request.a: field was taken away (u8)"),
            (
                "struct{a:u8,b:u8}",
                "struct{b:u8,a:u8}",
                "request: the order of the fields was a, b; is b, a",
            ),
            ("[struct{a:?u8}]", "[struct{a:?u16}]", "request[].a?: was u8, is u16"),
            ("{str:[u8;4]}", "{str:[u8;5]}", "request{value}: was [u8;4], is [u8;5]"),
            ("enum{0:A,1:B(u8)}", "enum{0:A,1:B(u16)}", "request::B.0: was u8, is u16"),
            ("enum{0:A,1:B}", "enum{0:B,1:A}", "request::A: variant had the number 0, has 1"),
            ("enum{0:A}", "enum{0:A,1:B}", "request::B: variant was added with the number 1"),
            ("enum{0:A}", "enum{0:A{x:u8}}", "request::A: held nothing, holds fields"),
            ("struct(u8,u8)", "struct(u8)", "request: had 2 elements, has 1"),
            ("?u8", "u8", "request: was ?u8, is u8"),
            ("u8", "u8+raw", "request: was u8, is u8+raw"),
            ("u8+raw", "raw", "request: was u8+raw, is raw"),
            ("struct{a:u8}+raw", "struct{a:u16}+raw", "request.a: was u8, is u16"),
        ] {
            assert_eq!(told(old, new)[0], what);
            assert!(told(old, old).is_empty());
        }
    }

    fn trees() -> impl Strategy<Value = SchemaTree> {
        let leaf = prop_oneof![
            prop::sample::select(vec!["u8", "str", "unit"])
                .prop_map(|word| SchemaTree::Atom(word.to_owned())),
            (0_u64..3).prop_map(SchemaTree::Back),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let named = prop::collection::btree_map("[a-c]", inner.clone(), 0..3)
                .prop_map(|fields| fields.into_iter().collect::<Vec<_>>());
            prop_oneof![
                inner.clone().prop_map(|inner| SchemaTree::Option(Box::new(inner))),
                inner.clone().prop_map(|inner| SchemaTree::Sequence(Box::new(inner))),
                (inner.clone(), inner.clone())
                    .prop_map(|(k, v)| SchemaTree::Map(Box::new(k), Box::new(v))),
                prop::collection::vec(inner, 1..3).prop_map(SchemaTree::Tuple),
                named.clone().prop_map(SchemaTree::Struct),
                named.prop_map(|fields| {
                    let variants = fields.into_iter().map(|(name, tree)| Variant {
                        name,
                        content: VariantContent::Tuple(vec![tree]),
                    });
                    SchemaTree::Enum(variants.collect())
                }),
            ]
        })
    }

    /// Types, some of them with bytes beside them.
    fn payloads() -> impl Strategy<Value = SchemaTree> {
        (trees(), any::<bool>()).prop_map(|(tree, has_raw)| match has_raw {
            true => SchemaTree::WithRaw(Box::new(tree)),
            false => tree,
        })
    }

    proptest! {
        /// Different texts have a difference, equal ones none; a tree survives its text.
        #[test]
        fn different_texts_differ(old in payloads(), new in payloads()) {
            prop_assert_eq!(SchemaTree::parse(&old.to_string()), Ok(old.clone()));
            let found = Difference::between("x", &old, &new);
            prop_assert_eq!(found.is_empty(), old.to_string() == new.to_string());
            prop_assert!(Difference::between("x", &old, &old).is_empty());
        }
    }
}
