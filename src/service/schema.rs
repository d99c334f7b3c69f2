//! The schema text of a type, and the fingerprint of a method made of three of them.
//!
//! ```text
//!   struct Transfer { from: u64, to: u64 }   ->   struct{from:u64,to:u64}
//!   (request text)->(response text)!(error text)   -- FNV-1a 64 -->   Fingerprint
//! ```
//!
//! Invariants: equal texts mean equal encodings and equal names of fields and variants; the name of
//! a type is not in its text. Recursion is written `^n`: n structs and enums further out.
//! Why field names, which bincode does not send: two swapped fields of one type decode without an
//! error, as each other.
//! Why text and not a tree: another language can write and hash it, and people can compare it.

use std::any::TypeId;
use std::fmt;

use crate::util::fnv64;

/// A type whose layout on the wire is known by name and order.
///
/// Derive it beside serde's traits. The derive reads serde's attributes and refuses those that a
/// compact codec cannot carry.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use switchback::{Schema, service::schema_text};
///
/// #[derive(Deserialize, Schema, Serialize)]
/// struct Order {
///     item: String,
///     #[serde(rename = "count")]
///     pieces: Option<u32>,
/// }
///
/// assert_eq!(schema_text::<Order>(), "struct{item:str,count:?u32}");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no schema",
    label = "a wire type must implement `switchback::Schema`",
    note = "add `#[derive(switchback::Schema)]` to your own type",
    note = "name a foreign one where it is used: `#[schema(opaque = \"uuid.v1\")]` on the field"
)]
pub trait Schema: 'static {
    /// Writes the type's text.
    fn write_schema(writer: &mut SchemaWriter);
}

/// The canonical text of a type (FP-1).
///
/// # Panics
/// If types are nested more than 128 deep, as one that is nothing but itself is, or the text grows
/// beyond 1 MiB, or bytes are beside what is no type of its own, [`Raw`](crate::service::Raw) say.
#[must_use]
pub fn schema_text<T: Schema>() -> String {
    let mut writer = SchemaWriter::new();
    writer.value::<T>();
    writer.text
}

/// Where a type writes its schema to.
#[derive(Debug)]
pub struct SchemaWriter {
    text: String,
    /// Structs and enums being written, outermost first: what `^n` counts (FP-2).
    open: Vec<TypeId>,
    depth: usize,
}

impl SchemaWriter {
    fn new() -> Self {
        Self { text: String::new(), open: Vec::new(), depth: 0 }
    }

    /// Another type's text, as it is.
    ///
    /// # Panics
    /// As [`schema_text`].
    pub fn value<T: Schema + ?Sized>(&mut self) {
        assert!(
            self.depth < DEPTH_MAX && self.text.len() < TEXT_BYTES_MAX,
            "the schema of `{}` does not end: more than {DEPTH_MAX} types in each other, or more \
             than {TEXT_BYTES_MAX} bytes of text; #[schema(opaque = \"...\")] on a field ends it",
            std::any::type_name::<T>(),
        );
        self.depth += 1;
        T::write_schema(self);
        self.depth -= 1;
    }

    /// `?T`
    pub fn option<T: Schema>(&mut self) {
        self.text.push('?');
        self.value::<T>();
    }

    /// `[T]`
    pub fn sequence<T: Schema>(&mut self) {
        self.text.push('[');
        self.value::<T>();
        self.text.push(']');
    }

    /// `[T;N]`: always `len` elements, no length on the wire.
    pub fn array<T: Schema>(&mut self, len: usize) {
        self.text.push('[');
        self.value::<T>();
        self.text.push_str(&format!(";{len}]"));
    }

    /// `{K:V}`
    pub fn map<K: Schema, V: Schema>(&mut self) {
        self.text.push('{');
        self.value::<K>();
        self.text.push(':');
        self.value::<V>();
        self.text.push('}');
    }

    /// `(A,B)`
    pub fn tuple(&mut self, elements: impl FnOnce(&mut SchemaFields<'_>)) {
        self.fields('(', ')', elements);
    }

    /// `struct{name:T}`, or `^n` if `T` is being written already.
    pub fn structure<T: 'static>(&mut self, fields: impl FnOnce(&mut SchemaFields<'_>)) {
        self.named::<T>(|writer| {
            writer.text.push_str("struct");
            writer.fields('{', '}', fields);
        });
    }

    /// `struct(A,B)`, newtypes included, or `^n` if `T` is being written already.
    pub fn tuple_structure<T: 'static>(&mut self, elements: impl FnOnce(&mut SchemaFields<'_>)) {
        self.named::<T>(|writer| {
            writer.text.push_str("struct");
            writer.fields('(', ')', elements);
        });
    }

    /// `enum{0:A,1:B(T)}`, or `^n` if `T` is being written already.
    pub fn enumeration<T: 'static>(&mut self, variants: impl FnOnce(&mut SchemaVariants<'_>)) {
        self.named::<T>(|writer| {
            writer.text.push_str("enum{");
            variants(&mut SchemaVariants { writer: &mut *writer, count: 0 });
            writer.text.push('}');
        });
    }

    /// `bytes`: a length and so many bytes, as serde's `serialize_bytes` writes them.
    pub fn bytes(&mut self) {
        self.text.push_str("bytes");
    }

    /// `unit`: nothing on the wire.
    pub fn unit(&mut self) {
        self.text.push_str("unit");
    }

    /// `opaque(text)`: an encoding that has a name of its own. The name must change with it.
    ///
    /// # Panics
    /// If `text` is not 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub fn opaque(&mut self, text: &str) {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert!(
            (1..=64).contains(&text.len()) && text.bytes().all(is_allowed),
            "the opaque schema {text:?} is not 1 to 64 of A-Z a-z 0-9 . _ -",
        );
        self.text.push_str("opaque(");
        self.text.push_str(text);
        self.text.push(')');
    }

    /// The word for a primitive.
    pub(crate) fn primitive(&mut self, word: &'static str) {
        self.text.push_str(word);
    }

    /// `T+raw`: bytes beside a type, which is neither `raw` nor `never` nor has bytes already.
    pub(crate) fn beside_raw<T: Schema>(&mut self) {
        self.value::<T>();
        // No other text ends so: an atom stands alone, and what else there is ends in a bracket.
        assert!(
            !self.text.ends_with("raw") && !self.text.ends_with("never"),
            "bytes beside `{}`, which is no type of its own: `WithBytes` holds a message",
            std::any::type_name::<T>(),
        );
        self.text.push_str("+raw");
    }

    fn fields(&mut self, begin: char, end: char, fields: impl FnOnce(&mut SchemaFields<'_>)) {
        self.text.push(begin);
        fields(&mut SchemaFields { writer: &mut *self, count: 0 });
        self.text.push(end);
    }

    fn named<T: 'static>(&mut self, write: impl FnOnce(&mut Self)) {
        let id = TypeId::of::<T>();
        if let Some(outward) = self.open.iter().rev().position(|open| *open == id) {
            self.text.push_str(&format!("^{outward}"));
            return;
        }
        self.open.push(id);
        write(self);
        self.open.pop();
    }

    fn separate(&mut self, count: &mut u32) {
        if *count > 0 {
            self.text.push(',');
        }
        *count += 1;
    }
}

/// Where a struct, tuple or variant writes its fields to, in their order.
#[derive(Debug)]
pub struct SchemaFields<'w> {
    writer: &'w mut SchemaWriter,
    count: u32,
}

impl SchemaFields<'_> {
    /// `name:T`, with the name on the wire.
    pub fn field<T: Schema>(&mut self, name: &str) {
        self.field_with(name, SchemaWriter::value::<T>);
    }

    /// `name:` and what `write` writes.
    pub fn field_with(&mut self, name: &str, write: impl FnOnce(&mut SchemaWriter)) {
        self.writer.separate(&mut self.count);
        self.writer.text.push_str(name);
        self.writer.text.push(':');
        write(self.writer);
    }

    /// `T`, for a field without a name.
    pub fn element<T: Schema>(&mut self) {
        self.element_with(SchemaWriter::value::<T>);
    }

    /// What `write` writes, for a field without a name.
    pub fn element_with(&mut self, write: impl FnOnce(&mut SchemaWriter)) {
        self.writer.separate(&mut self.count);
        write(self.writer);
    }
}

/// Where an enum writes its variants to, in the order of their numbers.
#[derive(Debug)]
pub struct SchemaVariants<'w> {
    writer: &'w mut SchemaWriter,
    count: u32,
}

impl SchemaVariants<'_> {
    /// `0:Name`
    pub fn unit(&mut self, name: &str) {
        self.begin(name);
    }

    /// `0:Name(A,B)`, also for one field.
    pub fn tuple(&mut self, name: &str, elements: impl FnOnce(&mut SchemaFields<'_>)) {
        self.begin(name);
        self.writer.fields('(', ')', elements);
    }

    /// `0:Name{f:T}`
    pub fn structure(&mut self, name: &str, fields: impl FnOnce(&mut SchemaFields<'_>)) {
        self.begin(name);
        self.writer.fields('{', '}', fields);
    }

    fn begin(&mut self, name: &str) {
        let index = self.count;
        self.writer.separate(&mut self.count);
        self.writer.text.push_str(&format!("{index}:{name}"));
    }
}

/// What tells two contracts apart that share a method id and a version.
///
/// It is no proof against a peer that lies, only against a mistake.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Zero on the wire: the contracts are not compared.
    pub const UNCHECKED: Self = Self(0);

    /// Of `request->response!error`. A method without an error of its own has
    /// [`Infallible`](std::convert::Infallible), whose text is `never`.
    ///
    /// # Panics
    /// As [`schema_text`].
    #[must_use]
    pub fn of_method<Request: Schema, Response: Schema, Error: Schema>() -> Self {
        Self::of_text(&method_text::<Request, Response, Error>())
    }

    /// As it stands in a method table.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// As it travels in a request, the halves folded by XOR (FP-4).
    /// Only [`Self::UNCHECKED`] gives 0.
    #[must_use]
    pub fn fold(self) -> u32 {
        if self == Self::UNCHECKED {
            return 0;
        }
        let [a, b, c, d, e, f, g, h] = self.0.to_be_bytes();
        let folded = u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h]);
        folded.max(1)
    }

    pub(crate) fn of_text(text: &str) -> Self {
        Self(fnv64(text.as_bytes()).max(1))
    }
}

impl From<u64> for Fingerprint {
    /// From a method table; 0 is [`Fingerprint::UNCHECKED`].
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The text that a fingerprint is made of.
pub fn method_text<Request: Schema, Response: Schema, Error: Schema>() -> String {
    let request = schema_text::<Request>();
    let response = schema_text::<Response>();
    let error = schema_text::<Error>();
    format!("{request}->{response}!{error}")
}

/// Types in each other, at most; a type that needs more is taken to be endless. The compiler itself
/// refuses one that contains ever new versions of itself.
const DEPTH_MAX: usize = 128;
/// Types that each hold the next one twice double the text on every level; this ends it.
const TEXT_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A type in terms of itself is written once, and then by how far out it is.
    #[test]
    fn recursion_counts_outward() {
        struct Tree;
        impl Schema for Tree {
            fn write_schema(writer: &mut SchemaWriter) {
                writer.structure::<Self>(|fields| {
                    fields.field::<Vec<Self>>("children");
                    fields.field::<Option<Leaf>>("leaf");
                });
            }
        }
        struct Leaf;
        impl Schema for Leaf {
            fn write_schema(writer: &mut SchemaWriter) {
                writer.enumeration::<Self>(|variants| {
                    variants.unit("None");
                    variants.tuple("Up", |elements| elements.element::<Tree>());
                    variants.structure("Side", |fields| fields.field::<Box<Self>>("to"));
                });
            }
        }

        let text = "struct{children:[^0],leaf:?enum{0:None,1:Up(^1),2:Side{to:^0}}}";
        assert_eq!(schema_text::<Tree>(), text);
    }

    /// A type that is nothing but itself is refused, not followed for ever.
    #[test]
    #[should_panic(expected = "does not end")]
    fn endless_types_are_refused() {
        struct Endless;
        impl Schema for Endless {
            fn write_schema(writer: &mut SchemaWriter) {
                writer.value::<Box<Self>>();
            }
        }

        let _ = schema_text::<Endless>();
    }

    /// 128 levels are written, one more is not.
    #[test]
    fn depth_is_limited() {
        struct Levels<const N: usize>;
        impl<const N: usize> Schema for Levels<N> {
            fn write_schema(writer: &mut SchemaWriter) {
                for _ in 0..N {
                    writer.depth += 1;
                }
                writer.value::<u8>();
                writer.depth -= N;
            }
        }

        assert_eq!(schema_text::<Levels<126>>(), "u8");
        assert!(std::panic::catch_unwind(schema_text::<Levels<127>>).is_err());
    }

    /// The fold is the XOR of the halves; no text folds to "not checked".
    #[test]
    fn fingerprints_fold() {
        assert_eq!(Fingerprint::from(0x0000_0001_0000_0003).fold(), 2);
        assert_eq!(Fingerprint::from(0x0000_0007_0000_0007).fold(), 1);
        assert_eq!(Fingerprint::UNCHECKED.fold(), 0);
        assert_eq!(Fingerprint::from(0x1f).to_string(), "000000000000001f");
    }

    /// The number is the hash of the text in the specification's form.
    #[test]
    fn fingerprints_hash_the_method_text() {
        let by_type = Fingerprint::of_method::<u64, Option<String>, std::convert::Infallible>();

        assert_eq!(by_type.as_u64(), fnv64(b"u64->?str!never"));
    }
}
