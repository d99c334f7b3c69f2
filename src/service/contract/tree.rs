//! A schema text read back into a tree: to compare two of them, to show one to people.
//!
//! ```text
//!   struct{from:u64,note:?str}   ->   Struct [("from", Atom u64), ("note", Option (Atom str))]
//! ```
//!
//! Invariants: what parses prints as the same text (FP-1 gives each type exactly one); a text
//! nested deeper than 128 is refused, so that neither parsing nor dropping can exhaust the stack.

use std::fmt;

/// A type as its schema text says it (FP-1).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SchemaTree {
    /// `[T;N]`
    Array(Box<Self>, u64),
    /// `u64`, `str`, `unit` and their kin; also `never` and words of later versions.
    Atom(String),
    /// `^n`: the struct or enum that is open n levels further out (FP-2).
    Back(u64),
    /// `enum{0:A,1:B(T)}`
    Enum(Vec<Variant>),
    /// `{K:V}`
    Map(Box<Self>, Box<Self>),
    /// `opaque(name)`
    Opaque(String),
    /// `?T`
    Option(Box<Self>),
    /// `[T]`
    Sequence(Box<Self>),
    /// `struct{name:T}`
    Struct(Vec<(String, Self)>),
    /// `(A,B)`
    Tuple(Vec<Self>),
    /// `struct(A,B)`
    TupleStruct(Vec<Self>),
    /// `T+raw`: a type and bytes beside it, a whole payload (PL-17).
    WithRaw(Box<Self>),
}

/// A variant of an enum; its number is its place.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Variant {
    /// As on the wire.
    pub name: String,
    /// What it holds.
    pub content: VariantContent,
}

/// What a variant holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VariantContent {
    /// Nothing.
    Unit,
    /// `(A,B)`
    Tuple(Vec<SchemaTree>),
    /// `{name:T}`
    Struct(Vec<(String, SchemaTree)>),
}

/// A text that is no schema.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no schema at byte {at}: {what}")]
#[non_exhaustive]
pub struct SchemaTextError {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// What was expected.
    pub what: &'static str,
}

impl SchemaTree {
    /// Reads a schema text.
    ///
    /// # Errors
    /// [`SchemaTextError`], with the place.
    pub fn parse(text: &str) -> Result<Self, SchemaTextError> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        let tree = reader.payload()?;
        if reader.at < text.len() {
            return Err(reader.error("the text goes on after the type"));
        }
        Ok(tree)
    }

    /// Reads `request->response!error`, the text of a method.
    ///
    /// # Errors
    /// [`SchemaTextError`], with the place.
    pub fn parse_method(text: &str) -> Result<[Self; 3], SchemaTextError> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        let request = reader.payload()?;
        reader.expect("->", "expected `->` and the response")?;
        let response = reader.payload()?;
        reader.expect("!", "expected `!` and the error")?;
        let error = reader.payload()?;
        if reader.at < text.len() {
            return Err(reader.error("the text goes on after the error"));
        }
        Ok([request, response, error])
    }
}

impl fmt::Display for SchemaTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(element, len) => write!(f, "[{element};{len}]"),
            Self::Atom(word) => f.write_str(word),
            Self::Back(outward) => write!(f, "^{outward}"),
            Self::Enum(variants) => {
                f.write_str("enum{")?;
                for (number, Variant { name, content }) in variants.iter().enumerate() {
                    let comma = if number > 0 { "," } else { "" };
                    write!(f, "{comma}{number}:{name}")?;
                    match content {
                        VariantContent::Unit => {}
                        VariantContent::Tuple(elements) => list(f, ["(", ")"], elements)?,
                        VariantContent::Struct(fields) => record(f, ["{", "}"], fields)?,
                    }
                }
                f.write_str("}")
            }
            Self::Map(key, value) => write!(f, "{{{key}:{value}}}"),
            Self::Opaque(name) => write!(f, "opaque({name})"),
            Self::Option(inner) => write!(f, "?{inner}"),
            Self::Sequence(element) => write!(f, "[{element}]"),
            Self::Struct(fields) => record(f, ["struct{", "}"], fields),
            Self::Tuple(elements) => list(f, ["(", ")"], elements),
            Self::TupleStruct(elements) => list(f, ["struct(", ")"], elements),
            Self::WithRaw(inner) => write!(f, "{inner}+raw"),
        }
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    [begin, end]: [&str; 2],
    elements: &[SchemaTree],
) -> fmt::Result {
    f.write_str(begin)?;
    for (number, element) in elements.iter().enumerate() {
        write!(f, "{}{element}", if number > 0 { "," } else { "" })?;
    }
    f.write_str(end)
}

fn record(
    f: &mut fmt::Formatter<'_>,
    [begin, end]: [&str; 2],
    fields: &[(String, SchemaTree)],
) -> fmt::Result {
    f.write_str(begin)?;
    for (number, (name, field)) in fields.iter().enumerate() {
        write!(f, "{}{name}:{field}", if number > 0 { "," } else { "" })?;
    }
    f.write_str(end)
}

/// Reads a text from the front.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// A type, `raw` or `never`; bytes are beside a type only.
    fn payload(&mut self) -> Result<SchemaTree, SchemaTextError> {
        let tree = self.tree()?;
        let is_no_type =
            matches!(&tree, SchemaTree::Atom(word) if word == "raw" || word == "never");
        if !is_no_type && self.take("+raw") {
            return Ok(SchemaTree::WithRaw(Box::new(tree)));
        }
        Ok(tree)
    }

    fn tree(&mut self) -> Result<SchemaTree, SchemaTextError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error("types are nested more than 128 deep"));
        }
        self.depth += 1;
        let tree = self.tree_here();
        self.depth -= 1;
        tree
    }

    fn tree_here(&mut self) -> Result<SchemaTree, SchemaTextError> {
        if self.take("?") {
            return Ok(SchemaTree::Option(Box::new(self.tree()?)));
        }
        if self.take("^") {
            return Ok(SchemaTree::Back(self.number()?));
        }
        if self.take("[") {
            let element = Box::new(self.tree()?);
            if self.take(";") {
                let len = self.number()?;
                self.expect("]", "expected `]` after the length")?;
                return Ok(SchemaTree::Array(element, len));
            }
            self.expect("]", "expected `]` or `;` after the element")?;
            return Ok(SchemaTree::Sequence(element));
        }
        if self.take("{") {
            let key = Box::new(self.tree()?);
            self.expect(":", "expected `:` and the value of the map")?;
            let value = Box::new(self.tree()?);
            self.expect("}", "expected `}` after the map")?;
            return Ok(SchemaTree::Map(key, value));
        }
        if self.take("(") {
            return Ok(SchemaTree::Tuple(self.many(")", Self::tree)?));
        }
        if self.take("struct{") {
            return Ok(SchemaTree::Struct(self.many("}", Self::field)?));
        }
        if self.take("struct(") {
            return Ok(SchemaTree::TupleStruct(self.many(")", Self::tree)?));
        }
        if self.take("enum{") {
            return self.variants();
        }
        if self.take("opaque(") {
            let name = self.name()?.to_owned();
            self.expect(")", "expected `)` after the opaque name")?;
            return Ok(SchemaTree::Opaque(name));
        }
        Ok(SchemaTree::Atom(self.word()?.to_owned()))
    }

    fn variants(&mut self) -> Result<SchemaTree, SchemaTextError> {
        let mut count = 0;
        let variants = self.many("}", |reader| {
            if reader.number()? != count {
                return Err(reader.error("variants are numbered 0, 1, 2 …"));
            }
            count += 1;
            reader.expect(":", "expected `:` and the variant's name")?;
            let name = reader.name()?.to_owned();
            let content = if reader.take("(") {
                VariantContent::Tuple(reader.many(")", Self::tree)?)
            } else if reader.take("{") {
                VariantContent::Struct(reader.many("}", Self::field)?)
            } else {
                VariantContent::Unit
            };
            Ok(Variant { name, content })
        })?;
        Ok(SchemaTree::Enum(variants))
    }

    fn field(&mut self) -> Result<(String, SchemaTree), SchemaTextError> {
        let name = self.name()?.to_owned();
        self.expect(":", "expected `:` and the field's type")?;
        Ok((name, self.tree()?))
    }

    /// Items between commas up to `end`; none is legal.
    fn many<T>(
        &mut self,
        end: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, SchemaTextError>,
    ) -> Result<Vec<T>, SchemaTextError> {
        let mut items = Vec::new();
        if self.take(end) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(end) {
                return Ok(items);
            }
            self.expect(",", "expected `,` or the end of the list")?;
        }
    }

    fn number(&mut self) -> Result<u64, SchemaTextError> {
        let rest = &self.text[self.at..];
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let is_canonical = len == 1 || !rest.starts_with('0');
        match rest[..len].parse() {
            Ok(number) if is_canonical => {
                self.at += len;
                Ok(number)
            }
            _ => Err(self.error("expected a number without leading zeros")),
        }
    }

    fn word(&mut self) -> Result<&'a str, SchemaTextError> {
        let rest = &self.text[self.at..];
        let len = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if len == 0 {
            return Err(self.error("expected a type"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn name(&mut self) -> Result<&'a str, SchemaTextError> {
        let rest = &self.text[self.at..];
        let is_end = |c: char| ",:;{}()[]?^!".contains(c) || c.is_whitespace() || c.is_control();
        let len = rest.find(is_end).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.error("expected a name"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn take(&mut self, token: &str) -> bool {
        let is_there = self.text[self.at..].starts_with(token);
        if is_there {
            self.at += token.len();
        }
        is_there
    }

    fn expect(&mut self, token: &str, what: &'static str) -> Result<(), SchemaTextError> {
        if self.take(token) { Ok(()) } else { Err(self.error(what)) }
    }

    const fn error(&self, what: &'static str) -> SchemaTextError {
        SchemaTextError { at: self.at, what }
    }
}

/// As deep as the writer of schema texts goes.
const DEPTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text of the golden vectors is read, and printed as it was.
    #[test]
    fn golden_texts_survive() {
        let vectors = include_str!("../../../spec/vectors/fingerprints.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
        let mut types = 0;
        for text in vectors.iter().filter_map(|vector| vector["schema_text"].as_str()) {
            let tree = SchemaTree::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(tree.to_string(), text);
            types += 1;
        }
        assert!(types > 30, "{types} texts");
        let [request, response, error] = SchemaTree::parse_method("[u8]->?str!never").unwrap();
        assert_eq!(format!("{request} {response} {error}"), "[u8] ?str never");
        let text = "struct{a+b:u8}+raw->?str+raw!raw";
        let [request, response, error] = SchemaTree::parse_method(text).unwrap();
        assert!(
            matches!(&request, SchemaTree::WithRaw(inner) if inner.to_string() == "struct{a+b:u8}")
        );
        assert_eq!(format!("{request}->{response}!{error}"), text);
    }

    /// What is no schema is refused with the place and what was expected there.
    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (text, at, what) in [
            ("", 0, "expected a type"),
            ("struct{a}", 8, "`:`"),
            ("struct{:u8}", 7, "a name"),
            ("enum{1:A}", 6, "numbered"),
            ("[u8;007]", 4, "leading zeros"),
            ("[u8", 3, "`]`"),
            ("u8 ", 2, "goes on"),
            ("{u8}", 3, "value of the map"),
            ("raw+raw", 3, "goes on"),
            ("never+raw", 5, "goes on"),
            ("u8+raw+raw", 6, "goes on"),
            ("[u8+raw]", 3, "`]`"),
        ] {
            let error = SchemaTree::parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
        let deep = "?".repeat(200);
        assert!(SchemaTree::parse(&deep).unwrap_err().what.contains("128 deep"));
        assert!(SchemaTree::parse_method("u8->u8").unwrap_err().what.contains("the error"));
    }
}
