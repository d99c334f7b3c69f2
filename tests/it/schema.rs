//! `derive(Schema)` against what serde really does, traced by serde-reflection; what changes a
//! fingerprint and what does not; what the derive refuses.
#![cfg(all(feature = "bincode", feature = "macros"))]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_reflection::{
    ContainerFormat, Format, Named, Registry, Tracer, TracerConfig, VariantFormat,
};
use switchback::service::{Codec, DecodeLimits, Fingerprint, schema_text};
use switchback::{Cx, Schema};

/// The text that serde's own calls give is ours. Each enum has to be traced by itself: those that
/// `T` contains come after it.
macro_rules! assert_as_traced {
    ($type:ty $(, $inner:ty)*) => {{
        let mut tracer = Tracer::new(TracerConfig::default());
        $(trace::<$inner>(&mut tracer);)*
        let root = trace::<$type>(&mut tracer);
        let registry = tracer.registry().unwrap();
        let mut text = String::new();
        write_format(&normal(root), &registry, &mut Vec::new(), &mut text);
        assert_eq!(schema_text::<$type>(), text);
    }};
}

fn trace<T: DeserializeOwned>(tracer: &mut Tracer) -> Format {
    tracer.trace_simple_type::<T>().expect("serde can be traced").0
}

/// Without the variables that tracing leaves in a format.
fn normal(mut format: Format) -> Format {
    use serde_reflection::FormatHolder;
    format.normalize().expect("the format was traced to its end");
    format
}

/// `open` holds the names of the structs and enums around, outermost first.
fn write_format(format: &Format, registry: &Registry, open: &mut Vec<String>, text: &mut String) {
    let word = match format {
        Format::Variable(_) => unreachable!("the registry is complete"),
        Format::TypeName(name) => return write_container(name, registry, open, text),
        Format::Option(inner) => {
            text.push('?');
            return write_format(inner, registry, open, text);
        }
        Format::Seq(inner) => {
            text.push('[');
            write_format(inner, registry, open, text);
            "]"
        }
        Format::Map { key, value } => {
            text.push('{');
            write_format(key, registry, open, text);
            text.push(':');
            write_format(value, registry, open, text);
            "}"
        }
        Format::Tuple(formats) => {
            write_list(formats, registry, open, text);
            ""
        }
        Format::TupleArray { content, size } => {
            text.push('[');
            write_format(content, registry, open, text);
            text.push_str(&format!(";{size}"));
            "]"
        }
        primitive => {
            text.push_str(&format!("{primitive:?}").to_lowercase());
            ""
        }
    };
    text.push_str(word);
}

fn write_container(name: &str, registry: &Registry, open: &mut Vec<String>, text: &mut String) {
    if let Some(outward) = open.iter().rev().position(|open| open == name) {
        text.push_str(&format!("^{outward}"));
        return;
    }
    open.push(name.to_owned());
    match &registry[name] {
        ContainerFormat::UnitStruct => text.push_str("unit"),
        ContainerFormat::NewTypeStruct(inner) => {
            text.push_str("struct");
            write_list(std::slice::from_ref(&**inner), registry, open, text);
        }
        ContainerFormat::TupleStruct(formats) => {
            text.push_str("struct");
            write_list(formats, registry, open, text);
        }
        ContainerFormat::Struct(fields) => {
            text.push_str("struct");
            write_fields(fields, registry, open, text);
        }
        ContainerFormat::Enum(variants) => {
            text.push_str("enum{");
            for (place, (index, variant)) in variants.iter().enumerate() {
                let comma = if place > 0 { "," } else { "" };
                text.push_str(&format!("{comma}{index}:{}", variant.name));
                match &variant.value {
                    VariantFormat::Variable(_) => unreachable!("the registry is complete"),
                    VariantFormat::Unit => {}
                    VariantFormat::NewType(inner) => {
                        write_list(std::slice::from_ref(&**inner), registry, open, text);
                    }
                    VariantFormat::Tuple(formats) => write_list(formats, registry, open, text),
                    VariantFormat::Struct(fields) => write_fields(fields, registry, open, text),
                }
            }
            text.push('}');
        }
    }
    open.pop();
}

fn write_list(formats: &[Format], registry: &Registry, open: &mut Vec<String>, text: &mut String) {
    text.push('(');
    for (place, format) in formats.iter().enumerate() {
        text.push_str(if place > 0 { "," } else { "" });
        write_format(format, registry, open, text);
    }
    text.push(')');
}

fn write_fields(
    fields: &[Named<Format>],
    registry: &Registry,
    open: &mut Vec<String>,
    text: &mut String,
) {
    text.push('{');
    for (place, field) in fields.iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        text.push_str(&format!("{comma}{}:", field.name));
        write_format(&field.value, registry, open, text);
    }
    text.push('}');
}

#[derive(Serialize, Deserialize, Schema)]
struct Transfer {
    from: u64,
    to: u64,
    amount: i128,
    memo: Option<String>,
    r#type: char,
}

#[derive(Serialize, Deserialize, Schema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Renamed {
    first_name: String,
    #[serde(rename = "surname")]
    last_name: String,
    #[serde(rename(serialize = "AGE", deserialize = "AGE"), default)]
    age_in_years: u8,
    #[serde(skip)]
    _cached: Option<Duration>,
    x: f32,
}

#[derive(Serialize, Deserialize, Schema)]
struct Unit;

#[derive(Serialize, Deserialize, Schema)]
struct Empty {}

#[derive(Serialize, Deserialize, Schema)]
struct EmptyTuple();

#[derive(Serialize, Deserialize, Schema)]
struct Newtype(Vec<u16>);

#[derive(Serialize, Deserialize, Schema)]
struct Pair(i8, #[serde(skip)] (), bool, Newtype);

#[derive(Serialize, Deserialize, Schema)]
#[serde(transparent)]
struct Transparent {
    inner: BTreeMap<String, Pair>,
    #[serde(skip)]
    _marker: std::marker::PhantomData<u8>,
}

#[derive(Serialize, Deserialize, Schema)]
enum Every {
    Plain,
    Wrapped(Newtype),
    Two(u8, Unit),
    Named { at: (i64, f64, char), ok: bool },
    NoneLeft(#[serde(skip)] u8),
    OneOfTwo(#[serde(skip)] u8, u32),
    NoFields {},
    Result(Result<u8, Empty>),
}

#[derive(Serialize, Deserialize, Schema)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE", rename_all_fields = "PascalCase")]
enum Loud {
    FirstThing {
        in_it: u8,
    },
    #[serde(rename = "2nd")]
    SecondThing,
    #[serde(rename_all = "kebab-case")]
    HTTPThing {
        in_it: u8,
        r#as: u8,
    },
    #[serde(skip)]
    _Hidden,
}

#[derive(Serialize, Deserialize, Schema)]
#[serde(rename_all = "snake_case")]
enum Snake {
    OneTwo,
    ABTest { in_it: u8 },
}

#[derive(Serialize, Deserialize, Schema)]
struct Tree {
    value: Leaf,
    children: Vec<Self>,
    parent: Option<Box<Self>>,
}

#[derive(Serialize, Deserialize, Schema)]
enum Leaf {
    Here(String),
    There(Box<Tree>),
    Both { left: Box<Self>, right: Option<Box<Tree>> },
}

#[derive(Serialize, Deserialize, Schema)]
struct Generic<T, U, const N: usize> {
    item: T,
    more: Vec<(T, u8)>,
    marker: std::marker::PhantomData<U>,
}

#[derive(Serialize, Deserialize, Schema)]
struct Standard {
    tuple: (u8, String, Option<()>),
    array: [Transfer; 3],
    duration: Duration,
    time: SystemTime,
    map: BTreeMap<u32, Vec<Every>>,
    size: usize,
    offset: isize,
    text: std::borrow::Cow<'static, str>,
    shared: Box<[i16]>,
}

/// For each shape of type, our text is what serde's calls are.
#[test]
fn schemas_are_as_serde_traces_them() {
    assert_as_traced!(Transfer);
    assert_as_traced!(Renamed);
    assert_as_traced!(Unit);
    assert_as_traced!(Empty);
    assert_as_traced!(EmptyTuple);
    assert_as_traced!(Newtype);
    assert_as_traced!(Pair);
    assert_as_traced!(Transparent);
    assert_as_traced!(Every, Result<u8, Empty>);
    assert_as_traced!(Loud);
    assert_as_traced!(Snake);
    assert_as_traced!(Tree, Leaf);
    assert_as_traced!(Leaf);
    assert_as_traced!(Generic<Every, u8, 3>, Every, Result<u8, Empty>);
    assert_as_traced!(Standard, Every, Result<u8, Empty>);
}

/// The same, spelled out once: a mistake shared by both sides of the comparison would show.
#[test]
fn texts_are_the_specifications() {
    assert_eq!(
        schema_text::<Transfer>(),
        "struct{from:u64,to:u64,amount:i128,memo:?str,type:char}"
    );
    assert_eq!(schema_text::<Renamed>(), "struct{firstName:str,surname:str,AGE:u8,x:f32}");
    assert_eq!(schema_text::<Transparent>(), "{str:struct(i8,bool,struct([u16]))}");
    assert_eq!(
        schema_text::<Loud>(),
        "enum{0:FIRST-THING{InIt:u8},1:2nd,2:H-T-T-P-THING{in-it:u8,as:u8}}"
    );
    assert_eq!(
        schema_text::<Every>(),
        "enum{0:Plain,1:Wrapped(struct([u16])),2:Two(u8,unit),3:Named{at:(i64,f64,char),ok:bool},\
         4:NoneLeft,5:OneOfTwo(u32),6:NoFields{},7:Result(enum{0:Ok(u8),1:Err(struct{})})}"
    );
    assert_eq!(
        schema_text::<Tree>(),
        "struct{value:enum{0:Here(str),1:There(^1),2:Both{left:^0,right:?^1}},\
         children:[^0],parent:?^0}"
    );
}

mod changed {
    use super::*;

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(super) struct Swapped {
        to: u64,
        from: u64,
        amount: i128,
        memo: Option<String>,
        r#type: char,
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(super) struct Narrower {
        from: u64,
        to: u64,
        amount: i64,
        memo: Option<String>,
        r#type: char,
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(super) struct FieldRenamed {
        from: u64,
        to: u64,
        amount: i128,
        note: Option<String>,
        r#type: char,
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(super) struct OnlyTheTypeRenamed {
        from: u64,
        to: u64,
        amount: i128,
        memo: Option<String>,
        r#type: char,
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(super) enum Ordered {
        A(u8),
        B(u8),
    }

    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    pub(super) enum Reordered {
        B(u8),
        A(u8),
    }
}

/// Other names that are read, but never written, change neither the text nor the bytes.
#[test]
fn aliases_have_no_effect() {
    #[derive(Debug, PartialEq, Serialize, Deserialize, Schema)]
    struct Aliased {
        #[serde(alias = "one", alias = "uno")]
        first: u8,
        second: u16,
    }
    assert_eq!(schema_text::<Aliased>(), "struct{first:u8,second:u16}");

    let mut bytes = Vec::new();
    Codec::BINCODE.encode(&Aliased { first: 1, second: 2 }, &mut bytes).unwrap();
    assert_eq!(bytes, [1, 2]);
    let decoded = Codec::BINCODE.decode(&bytes, &DecodeLimits::default());
    assert_eq!(decoded, Ok(Aliased { first: 1, second: 2 }));
}

/// Whatever changes bytes or their meaning changes the fingerprint, in each of the three places.
#[test]
fn fingerprints_tell_contracts_apart() {
    fn request<T: Schema>() -> Fingerprint {
        Fingerprint::of_method::<T, u8, Infallible>()
    }
    let transfer = request::<Transfer>();

    assert_ne!(transfer, request::<changed::Swapped>());
    assert_ne!(transfer, request::<changed::Narrower>());
    assert_ne!(transfer, request::<changed::FieldRenamed>());
    assert_eq!(transfer, request::<changed::OnlyTheTypeRenamed>());
    assert_ne!(request::<changed::Ordered>(), request::<changed::Reordered>());
    assert_ne!(transfer.fold(), request::<changed::Swapped>().fold());

    assert_ne!(transfer, Fingerprint::of_method::<u8, Transfer, Infallible>());
    assert_ne!(transfer, Fingerprint::of_method::<Transfer, u8, Transfer>());
}

#[switchback::service(name = "it.Texts")]
trait Texts {
    #[rpc(version = 2, idempotent)]
    #[compat(1, req = u32, resp = u32, err = String)]
    async fn echo(&self, cx: &Cx, req: u64) -> Result<u64, String>;
    #[rpc(version = 1)]
    async fn plain(&self, cx: &Cx, req: u64) -> u8;
}

/// A method keeps the text that its fingerprint is the hash of (FP-4), and whether it is
/// idempotent, for those who ask what it is; without its types it has no text, and a fingerprint
/// of one's own takes the text away. Shown on what the macro makes, old versions included.
#[test]
fn fp_4_a_method_keeps_its_text() {
    struct Quiet;
    impl Texts for Quiet {
        async fn echo(&self, _cx: &Cx, req: u64) -> Result<u64, String> {
            Ok(req)
        }
        async fn plain(&self, _cx: &Cx, req: u64) -> u8 {
            req.to_be_bytes()[7]
        }
    }

    let methods = switchback::service::Service::into_methods(TextsServer::new(Quiet));

    let mut found: Vec<_> = methods
        .iter()
        .map(|method| {
            (method.name(), method.version(), method.text().unwrap(), method.is_idempotent())
        })
        .collect();
    found.sort();
    let expected = [
        ("it.Texts/echo", 1, "u32->u32!str", true),
        ("it.Texts/echo", 2, "u64->u64!str", true),
        ("it.Texts/plain", 1, "u64->u8!never", false),
    ];
    assert_eq!(found, expected.map(|(name, version, text, is)| (name, version, text.into(), is)));
    let untyped = methods[0].clone().fingerprint(Fingerprint::from(7));
    assert_eq!(untyped.text(), None);
}

mod foreign {
    use super::*;

    /// A type of another crate's, without a schema.
    #[derive(Clone, Serialize, Deserialize)]
    pub(super) struct Uuid(pub(super) [u8; 16]);

    pub(super) mod as_millis {
        use super::*;

        pub(in super::super) fn serialize<S: serde::Serializer>(
            time: &Duration,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            u64::try_from(time.as_millis()).expect("tests use short times").serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: serde::Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Duration, D::Error> {
            u64::deserialize(deserializer).map(Duration::from_millis)
        }
    }
}

#[derive(Serialize, Deserialize, Schema)]
struct Opaque {
    #[schema(opaque = "uuid.v1")]
    id: foreign::Uuid,
    #[serde(with = "foreign::as_millis")]
    #[schema(opaque = "millis-u64")]
    timeout: Duration,
    maybe: Option<Tagged>,
}

#[derive(Clone, Serialize, Deserialize, Schema)]
#[serde(from = "u8", into = "u8")]
#[schema(opaque = "tagged_1")]
struct Tagged(u8);

impl From<u8> for Tagged {
    fn from(number: u8) -> Self {
        Self(number)
    }
}

impl From<Tagged> for u8 {
    fn from(tagged: Tagged) -> Self {
        tagged.0
    }
}

/// A foreign type or encoding has the text it was given.
#[test]
fn opaque_names_stand_for_encodings() {
    assert_eq!(
        schema_text::<Opaque>(),
        "struct{id:opaque(uuid.v1),timeout:opaque(millis-u64),maybe:?opaque(tagged_1)}"
    );
}

/// What compiles under a borrowed type, and a parameter that is only named in a skipped field.
#[test]
fn generics_need_no_more_than_they_write() {
    #[derive(Serialize, Schema)]
    struct Borrowed<'a, T> {
        #[serde(borrow)]
        text: &'a str,
        #[serde(skip)]
        _local: Vec<T>,
    }
    struct NoSchema;

    assert_eq!(schema_text::<Borrowed<'static, NoSchema>>(), "struct{text:str}");

    trait Kind {
        type Item;
    }
    struct Numbers;
    impl Kind for Numbers {
        type Item = u32;
    }
    #[derive(Schema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Of<K: Kind> {
        item: K::Item,
    }
    impl Schema for Numbers {
        fn write_schema(writer: &mut switchback::service::SchemaWriter) {
            writer.unit();
        }
    }
    assert_eq!(schema_text::<Of<Numbers>>(), "struct{item:u32}");
}
