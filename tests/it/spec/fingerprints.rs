//! Schema texts, fingerprints and method ids against the golden values.

use std::collections::BTreeMap;
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use switchback::Schema;
use switchback::service::{Fingerprint, Raw, method_text, schema_text};
use switchback::util::fnv64;

use crate::spec::{hash, text, vectors};

#[derive(Deserialize, Schema, Serialize)]
struct Shaped {
    #[serde(rename = "kebab-name")]
    first: u8,
    #[serde(skip)]
    _hidden: u64,
    _x9: Option<String>,
}

#[derive(Deserialize, Schema, Serialize)]
enum Variants {
    Unit,
    New(u32),
    Tup(u8, String),
    Str { x: i32 },
}

#[derive(Deserialize, Schema, Serialize)]
struct List {
    value: u8,
    next: Option<Box<Self>>,
}

#[derive(Deserialize, Schema, Serialize)]
struct Folder {
    kids: Vec<Kid>,
}

#[derive(Deserialize, Schema, Serialize)]
enum Kid {
    File(u64),
    Dir(Folder),
    Link(Box<Self>),
}

#[derive(Deserialize, Schema, Serialize)]
struct Named {
    #[schema(opaque = "uuid.v1")]
    id: u128,
}

#[derive(Deserialize, Schema, Serialize)]
struct FromTo {
    from: u64,
    to: u64,
}

/// The derive writes the grammar's texts (FP-1): recursion (FP-2), Rust's types (FP-3).
#[test]
fn fp_1_fp_2_fp_3_the_derive_writes_schema_text() {
    let texts = [
        (schema_text::<Shaped>(), "struct{kebab-name:u8,_x9:?str}"),
        (schema_text::<Variants>(), "enum{0:Unit,1:New(u32),2:Tup(u8,str),3:Str{x:i32}}"),
        (schema_text::<List>(), "struct{value:u8,next:?^0}"),
        (schema_text::<Folder>(), "struct{kids:[enum{0:File(u64),1:Dir(^1),2:Link(^0)}]}"),
        (schema_text::<Named>(), "struct{id:opaque(uuid.v1)}"),
        (schema_text::<FromTo>(), "struct{from:u64,to:u64}"),
        (schema_text::<BTreeMap<(u8, char), Vec<f64>>>(), "{(u8,char):[f64]}"),
        (schema_text::<[[i16; 2]; 0]>(), "[[i16;2];0]"),
    ];
    for (found, wanted) in texts {
        assert_eq!(found, wanted);
    }
}

/// Texts hash to the golden fingerprints, in 64 bits and folded to 32; 0 becomes 1.
#[test]
fn fp_4_texts_hash_to_the_golden_fingerprints() {
    let file = vectors("fingerprints.json");
    let vectors = file.as_array().unwrap();
    let mut folds_to_zero = 0;
    for vector in vectors {
        let key = if vector["schema_text"].is_string() { "schema_text" } else { "method_text" };
        let fingerprint = Fingerprint::from(fnv64(text(vector, key).as_bytes()));
        assert_eq!(fingerprint.as_u64(), hash(&vector["fingerprint64"]));
        assert_eq!(format!("{:08x}", fingerprint.fold()), text(vector, "fingerprint32"));
        folds_to_zero += u32::from(fingerprint.fold() == 1);
    }
    assert!(folds_to_zero > 0, "one text whose halves are the same is among them");
}

/// A method's text is request, response and error; one without an error says `never`.
#[test]
fn fp_4_a_method_has_one_text() {
    assert_eq!(method_text::<u64, i64, Infallible>(), "u64->i64!never");
    assert_eq!(method_text::<String, String, String>(), "str->str!str");
    assert_eq!(method_text::<Raw, Raw, Raw>(), "raw->raw!raw");
    let of_method = Fingerprint::of_method::<u64, i64, Infallible>();
    assert_eq!(of_method.as_u64(), 0xc784_5e9d_ee56_4dc5);
    assert_eq!(of_method.fold(), 0x29d2_1358);
    assert_eq!(Fingerprint::UNCHECKED.fold(), 0);
}
