//! Types for people: a schema text as something that looks like the Rust it came from.
//!
//! ```text
//!   struct{key:struct{seq:u64},to:?str}   ->   { key: { seq: u64 }, to: Option<str> }
//! ```
//!
//! `Self` is the struct or enum around it, `Self(1 out)` the one around that, and so on (FP-2).
//! What does not fit into its line is broken into one line for each field or variant.

use switchback::service::{SchemaTree, Variant, VariantContent};

use crate::output::clean;

/// The type on lines of at most `columns`.
pub(crate) fn show(tree: &SchemaTree, columns: usize) -> String {
    show_at(tree, 0, 0, columns)
}

/// The type, its first line in column `start`, those below indented by `indent`.
fn show_at(tree: &SchemaTree, start: usize, indent: usize, columns: usize) -> String {
    let line = line(tree);
    if start + line.chars().count() <= columns {
        return line;
    }
    let inner = |tree: &SchemaTree| show_at(tree, start, indent, columns);
    match tree {
        SchemaTree::Array(element, len) => format!("[{}; {len}]", inner(element)),
        SchemaTree::Enum(variants) => {
            let variant = |variant: &Variant| {
                format!("{}| {}", newline(indent), broken_variant(variant, indent, columns))
            };
            variants.iter().map(variant).collect::<String>().trim_start().to_owned()
        }
        SchemaTree::Map(key, value) => format!("map<{}, {}>", inner(key), inner(value)),
        SchemaTree::Option(some) => format!("Option<{}>", inner(some)),
        SchemaTree::Sequence(element) => format!("[{}]", inner(element)),
        SchemaTree::Struct(fields) => broken_fields(fields, indent, columns),
        SchemaTree::WithRaw(message) => format!("{} + raw", inner(message)),
        SchemaTree::TupleStruct(elements) if elements.len() == 1 => inner(&elements[0]),
        SchemaTree::Tuple(elements) | SchemaTree::TupleStruct(elements) => {
            broken_elements(elements, indent, columns)
        }
        _ => line,
    }
}

fn broken_variant(variant: &Variant, indent: usize, columns: usize) -> String {
    let Variant { name, content, .. } = variant;
    let indent = indent + INDENT;
    match content {
        VariantContent::Struct(fields) => {
            format!("{} {}", clean(name), broken_fields(fields, indent, columns))
        }
        VariantContent::Tuple(elements) if elements.len() == 1 => {
            let start = indent + name.chars().count() + 1;
            format!("{}({})", clean(name), show_at(&elements[0], start, indent, columns))
        }
        VariantContent::Tuple(elements) => {
            format!("{}{}", clean(name), broken_elements(elements, indent, columns))
        }
        VariantContent::Unit => clean(name),
    }
}

fn broken_fields(fields: &[(String, SchemaTree)], indent: usize, columns: usize) -> String {
    let below = indent + INDENT;
    let field = |(name, tree): &(String, SchemaTree)| {
        let name = clean(name);
        let tree = show_at(tree, below + name.chars().count() + 2, below, columns);
        format!("{}{name}: {tree}", newline(below))
    };
    format!("{{{}{}}}", fields.iter().map(field).collect::<String>(), newline(indent))
}

fn broken_elements(elements: &[SchemaTree], indent: usize, columns: usize) -> String {
    let below = indent + INDENT;
    let element =
        |tree: &SchemaTree| format!("{}{},", newline(below), show_at(tree, below, below, columns));
    format!("({}{})", elements.iter().map(element).collect::<String>(), newline(indent))
}

/// The type on one line.
fn line(tree: &SchemaTree) -> String {
    match tree {
        SchemaTree::Array(element, len) => format!("[{}; {len}]", line(element)),
        SchemaTree::Atom(word) => clean(word),
        SchemaTree::Back(0) => "Self".to_owned(),
        SchemaTree::Back(outward) => format!("Self({outward} out)"),
        SchemaTree::Enum(variants) => join(variants.iter().map(variant_line), " | "),
        SchemaTree::Map(key, value) => format!("map<{}, {}>", line(key), line(value)),
        SchemaTree::Opaque(name) => format!("opaque({})", clean(name)),
        SchemaTree::Option(some) => format!("Option<{}>", line(some)),
        SchemaTree::Sequence(element) => format!("[{}]", line(element)),
        SchemaTree::Struct(fields) => fields_line(fields),
        SchemaTree::TupleStruct(elements) if elements.len() == 1 => line(&elements[0]),
        SchemaTree::Tuple(elements) | SchemaTree::TupleStruct(elements) => {
            format!("({})", join(elements.iter().map(line), ", "))
        }
        SchemaTree::WithRaw(message) => format!("{} + raw", line(message)),
        other => clean(&other.to_string()),
    }
}

fn variant_line(variant: &Variant) -> String {
    let name = clean(&variant.name);
    match &variant.content {
        VariantContent::Struct(fields) => format!("{name} {}", fields_line(fields)),
        VariantContent::Tuple(elements) => {
            format!("{name}({})", join(elements.iter().map(line), ", "))
        }
        VariantContent::Unit => name,
    }
}

fn fields_line(fields: &[(String, SchemaTree)]) -> String {
    if fields.is_empty() {
        return "{}".to_owned();
    }
    let fields = fields.iter().map(|(name, tree)| format!("{}: {}", clean(name), line(tree)));
    format!("{{ {} }}", join(fields, ", "))
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

fn newline(indent: usize) -> String {
    format!("\n{}", " ".repeat(indent))
}

const INDENT: usize = 2;
