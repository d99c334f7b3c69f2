//! A request made from its schema, as JSON (PL-12): the simplest value that shows every field.
//!
//! Invariant: what is made passes `validate`; a type that contains itself ends at its first option,
//! sequence or variant that lets it end.

use switchback::service::{SchemaTree, Variant, VariantContent};

/// An example; `None` if the type has no form as JSON that is known here.
pub(crate) fn example(tree: &SchemaTree) -> Option<String> {
    Some(match tree {
        SchemaTree::Array(element, len) => {
            let element = example(element)?;
            if *len > ELEMENTS_MAX {
                return None;
            }
            let elements: Vec<String> = (0..*len).map(|_| element.clone()).collect();
            format!("[{}]", elements.join(","))
        }
        SchemaTree::Atom(word) => match word.as_str() {
            "bool" => "false",
            "bytes" => "[]",
            "char" => "\"a\"",
            "f32" | "f64" => "0.5",
            "str" => "\"\"",
            "unit" => "null",
            word if crate::validate::integer(word).is_some() => "0",
            _ => return None, // `never`, `raw`, words of a later version.
        }
        .to_owned(),
        SchemaTree::Enum(variants) => variants.iter().find_map(of_variant)?,
        SchemaTree::Map(key, value) => match (key_example(key), example(value)) {
            (Some(key), Some(value)) => format!("{{{key}:{value}}}"),
            _ => "{}".to_owned(),
        },
        // Of two options within each other JSON has but one (PL-14).
        SchemaTree::Option(inner) => example(inner).unwrap_or_else(|| "null".to_owned()),
        SchemaTree::Sequence(element) => format!("[{}]", example(element).unwrap_or_default()),
        SchemaTree::Struct(fields) => object(fields)?,
        SchemaTree::TupleStruct(elements) if elements.len() == 1 => example(&elements[0])?,
        SchemaTree::Tuple(elements) | SchemaTree::TupleStruct(elements) => array(elements)?,
        SchemaTree::WithRaw(message) => example(message)?,
        // `Back`: a level more says nothing. `Opaque`: not known.
        _ => return None,
    })
}

fn of_variant(variant: &Variant) -> Option<String> {
    let name = quoted(&variant.name);
    let content = match &variant.content {
        VariantContent::Struct(fields) => object(fields)?,
        VariantContent::Tuple(elements) if elements.len() == 1 => example(&elements[0])?,
        VariantContent::Tuple(elements) => array(elements)?,
        VariantContent::Unit => return Some(name),
    };
    Some(format!("{{{name}:{content}}}"))
}

fn object(fields: &[(String, SchemaTree)]) -> Option<String> {
    let field = |(name, tree): &(String, SchemaTree)| {
        example(tree).map(|value| format!("{}:{value}", quoted(name)))
    };
    let fields: Option<Vec<String>> = fields.iter().map(field).collect();
    Some(format!("{{{}}}", fields?.join(",")))
}

fn array(elements: &[SchemaTree]) -> Option<String> {
    let elements: Option<Vec<String>> = elements.iter().map(example).collect();
    Some(format!("[{}]", elements?.join(",")))
}

/// Keys are in quotes, whatever they are.
fn key_example(key: &SchemaTree) -> Option<String> {
    match key {
        SchemaTree::Atom(word) if word == "str" => Some("\"key\"".to_owned()),
        key => {
            let key = example(key)?;
            Some(if key.starts_with('"') { key } else { quoted(&key) })
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A longer array is no example.
const ELEMENTS_MAX: u64 = 32;
