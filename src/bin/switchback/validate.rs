//! A request as JSON against its schema (PL-12), before it is sent: the path to what is wrong.
//!
//! The server has the last word; this is quicker, names what would be there, and also finds a
//! misspelt name of an optional field, which a server skips (PL-13).
//!
//! Invariant: what a server takes as PL-12 gives it passes here; what is not known here passes too.

use serde_json::Value;
use switchback::service::{SchemaTree, Variant, VariantContent};

/// What is wrong, with the path to it: `$.lines[3].cents: expected u64, found "x"`.
pub(crate) fn validate(value: &Value, tree: &SchemaTree) -> Result<(), String> {
    Walk { path: "$".to_owned(), open: Vec::new() }.check(value, tree)
}

/// The least and the greatest of an integer type; of `u128` and `i128` what JSON's reader tells
/// apart here.
pub(crate) fn integer(word: &str) -> Option<(i128, i128)> {
    let bits: u32 = word.get(1..)?.parse().ok()?;
    match (word.as_bytes()[0], bits) {
        (b'u', 8 | 16 | 32 | 64) => Some((0, (1_i128 << bits) - 1)),
        (b'i', 8 | 16 | 32 | 64) => Some((-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)),
        (b'u', 128) => Some((0, i128::MAX)),
        (b'i', 128) => Some((i128::MIN, i128::MAX)),
        _ => None,
    }
}

/// On the way down.
struct Walk<'a> {
    path: String,
    /// Structs and enums that are open around the place, for `^n` (FP-2).
    open: Vec<&'a SchemaTree>,
}

impl<'a> Walk<'a> {
    fn check(&mut self, value: &Value, tree: &'a SchemaTree) -> Result<(), String> {
        match tree {
            SchemaTree::Array(element, len) => {
                let values = self.array(value, Some(*len))?;
                self.each(values.iter().zip(std::iter::repeat(&**element)))
            }
            SchemaTree::Atom(word) => self.atom(value, word),
            SchemaTree::Back(outward) => {
                let outward = usize::try_from(*outward).unwrap_or(usize::MAX);
                let Some(at) = self.open.len().checked_sub(1 + outward.min(usize::MAX - 1)) else {
                    return Ok(()); // No schema of ours.
                };
                // The place is inside that type again, and no longer inside those within it.
                let inner = self.open.split_off(at);
                let result = self.check(value, inner[0]);
                self.open.truncate(at);
                self.open.extend(inner);
                result
            }
            SchemaTree::Enum(variants) => self.within(tree, |walk| walk.variant(value, variants)),
            SchemaTree::Map(_, inner) => {
                let Value::Object(entries) = value else {
                    return self.wrong("an object", value);
                };
                entries.iter().try_for_each(|(key, value)| {
                    self.at(&step(key), |walk| walk.check(value, inner))
                })
            }
            SchemaTree::Option(_) if value.is_null() => Ok(()),
            SchemaTree::Option(inner) => self.check(value, inner),
            SchemaTree::Sequence(element) => {
                let values = self.array(value, None)?;
                self.each(values.iter().zip(std::iter::repeat(&**element)))
            }
            SchemaTree::Struct(fields) => self.within(tree, |walk| walk.fields(value, fields)),
            SchemaTree::Tuple(elements) => self.elements(value, elements),
            SchemaTree::TupleStruct(elements) => self.within(tree, |walk| match &elements[..] {
                [content] => walk.check(value, content),
                elements => walk.elements(value, elements),
            }),
            SchemaTree::WithRaw(message) => self.check(value, message),
            // Opaque types, and whatever schemas may say one day.
            _ => Ok(()),
        }
    }

    fn atom(&self, value: &Value, word: &str) -> Result<(), String> {
        let fits = match word {
            "bool" => value.is_boolean(),
            // An array of numbers; serde takes a string as well (PL-14).
            "bytes" => match value {
                Value::Array(bytes) => {
                    bytes.iter().all(|byte| byte.as_u64().is_some_and(|byte| byte < 256))
                }
                other => other.is_string(),
            },
            "char" => value.as_str().is_some_and(|text| text.chars().count() == 1),
            "f32" | "f64" => value.is_number(),
            "str" => value.is_string(),
            "unit" => value.is_null(),
            word => match integer(word) {
                None => true, // A word of a later version.
                Some((least, greatest)) => {
                    let number = value.as_u64().map(i128::from);
                    let number = number.or_else(|| value.as_i64().map(i128::from));
                    match number {
                        Some(number) => (least..=greatest).contains(&number),
                        // Beyond 64 bits: the server reads it exactly.
                        None => word.ends_with("128") && value.is_number(),
                    }
                }
            },
        };
        if fits { Ok(()) } else { self.wrong(&expected(word), value) }
    }

    fn variant(&mut self, value: &Value, variants: &'a [Variant]) -> Result<(), String> {
        let (name, content) = match value {
            Value::String(name) => (name, None),
            Value::Object(entries) if entries.len() == 1 => {
                let Some((name, content)) = entries.iter().next() else { return Ok(()) };
                (name, Some(content))
            }
            other => return self.wrong(&format!("one of {}", names(variants)), other),
        };
        let Some(variant) = variants.iter().find(|variant| variant.name == *name) else {
            return self.wrong(&format!("one of {}", names(variants)), &Value::from(name.clone()));
        };
        let content = match (&variant.content, content) {
            (VariantContent::Unit, None | Some(Value::Null)) => return Ok(()),
            (VariantContent::Unit, Some(other)) => {
                return self.wrong(&format!("{name:?} alone, it has no content"), other);
            }
            (_, None) => {
                let what = format!("an object {{{name:?}: …}}, it has content");
                return self.wrong(&what, value);
            }
            (_, Some(content)) => content,
        };
        self.at(&step(name), |walk| match &variant.content {
            VariantContent::Struct(fields) => walk.fields(content, fields),
            VariantContent::Tuple(elements) if elements.len() == 1 => {
                walk.check(content, &elements[0])
            }
            VariantContent::Tuple(elements) => walk.elements(content, elements),
            VariantContent::Unit => Ok(()),
        })
    }

    fn fields(&mut self, value: &Value, fields: &'a [(String, SchemaTree)]) -> Result<(), String> {
        let Value::Object(entries) = value else {
            return self.wrong("an object", value);
        };
        for (name, tree) in fields {
            match entries.get(name) {
                Some(value) => self.at(&step(name), |walk| walk.check(value, tree))?,
                None if matches!(tree, SchemaTree::Option(_)) => {}
                None => return Err(format!("{}: the field {name:?} is missing", self.path)),
            }
        }
        let is_known = |key: &String| fields.iter().any(|(name, _)| name == key);
        if let Some(key) = entries.keys().find(|key| !is_known(key)) {
            let known: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(format!("{}: there is no field {key:?}, there is {known}", self.path));
        }
        Ok(())
    }

    fn elements(&mut self, value: &Value, elements: &'a [SchemaTree]) -> Result<(), String> {
        let values = self.array(value, Some(elements.len() as u64))?;
        self.each(values.iter().zip(elements))
    }

    fn each<'v>(
        &mut self,
        pairs: impl Iterator<Item = (&'v Value, &'a SchemaTree)>,
    ) -> Result<(), String> {
        let mut pairs = pairs.enumerate();
        pairs.try_for_each(|(at, (value, tree))| {
            self.at(&format!("[{at}]"), |walk| walk.check(value, tree))
        })
    }

    fn array<'v>(&self, value: &'v Value, len: Option<u64>) -> Result<&'v Vec<Value>, String> {
        match (value, len) {
            (Value::Array(values), Some(len)) if values.len() as u64 != len => {
                Err(format!("{}: expected {len} elements, found {}", self.path, values.len()))
            }
            (Value::Array(values), _) => Ok(values),
            (other, _) => self.wrong("an array", other),
        }
    }

    fn within(
        &mut self,
        tree: &'a SchemaTree,
        check: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.open.push(tree);
        let result = check(self);
        self.open.pop();
        result
    }

    fn at(
        &mut self,
        step: &str,
        check: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let len = self.path.len();
        self.path.push_str(step);
        let result = check(self);
        self.path.truncate(len);
        result
    }

    fn wrong<T>(&self, expected: &str, found: &Value) -> Result<T, String> {
        let found = match found {
            Value::Array(_) => "an array".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string().chars().take(FOUND_CHARS_MAX).collect(),
        };
        Err(format!("{}: expected {expected}, found {found}", self.path))
    }
}

fn expected(word: &str) -> String {
    match word {
        "bytes" => "an array of numbers 0 to 255".to_owned(),
        "char" => "a string of one character".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "str" => "a string".to_owned(),
        "unit" => "null".to_owned(),
        "bool" => "true or false".to_owned(),
        word => match integer(word) {
            Some((least, greatest)) if !word.ends_with("128") => {
                format!("a whole number {least} to {greatest} ({word})")
            }
            _ => format!("a whole number ({word})"),
        },
    }
}

fn names(variants: &[Variant]) -> String {
    variants.iter().map(|variant| variant.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// As the server's own errors write it.
fn step(name: &str) -> String {
    format!(".{name}")
}

/// Of a value that is shown.
const FOUND_CHARS_MAX: usize = 60;
