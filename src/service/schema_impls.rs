//! Schemas of the standard library's types, as serde encodes them (FP-3).
//!
//! Invariants: pointers have no text of their own; `usize` and `isize` are 64 bits on the wire,
//! whatever the machine; arrays go up to 32 elements and tuples to 12, as far as serde's do (16).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::service::schema::{Schema, SchemaWriter};

macro_rules! primitives {
    ($($type:ty => $word:literal;)*) => {$(
        impl Schema for $type {
            fn write_schema(writer: &mut SchemaWriter) {
                writer.primitive($word);
            }
        }
    )*};
}

primitives! {
    bool => "bool";
    i8 => "i8";
    i16 => "i16";
    i32 => "i32";
    i64 => "i64";
    i128 => "i128";
    isize => "i64";
    u8 => "u8";
    u16 => "u16";
    u32 => "u32";
    u64 => "u64";
    u128 => "u128";
    usize => "u64";
    f32 => "f32";
    f64 => "f64";
    char => "char";
    str => "str";
    String => "str";
    () => "unit";
    Infallible => "never";
}

impl<T: 'static + ?Sized> Schema for PhantomData<T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.unit();
    }
}

macro_rules! pointers {
    ($($pointer:ty;)*) => {$(
        impl<T: Schema + ?Sized> Schema for $pointer {
            fn write_schema(writer: &mut SchemaWriter) {
                writer.value::<T>();
            }
        }
    )*};
}

pointers! {
    &'static T;
    Arc<T>;
    Box<T>;
    Rc<T>;
}

impl<T: Schema + ToOwned + ?Sized> Schema for Cow<'static, T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.value::<T>();
    }
}

impl<T: Schema> Schema for Option<T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.option::<T>();
    }
}

impl<T: Schema> Schema for [T] {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.sequence::<T>();
    }
}

impl<T: Schema> Schema for Vec<T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.sequence::<T>();
    }
}

impl<T: Schema> Schema for VecDeque<T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.sequence::<T>();
    }
}

impl<T: Schema> Schema for BTreeSet<T> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.sequence::<T>();
    }
}

impl<T: Schema, S: 'static> Schema for HashSet<T, S> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.sequence::<T>();
    }
}

impl<K: Schema, V: Schema> Schema for BTreeMap<K, V> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.map::<K, V>();
    }
}

impl<K: Schema, V: Schema, S: 'static> Schema for HashMap<K, V, S> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.map::<K, V>();
    }
}

impl<T: Schema, const N: usize> Schema for [T; N] {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.array::<T>(N);
    }
}

impl<T: Schema, E: Schema> Schema for Result<T, E> {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.enumeration::<Self>(|variants| {
            variants.tuple("Ok", |elements| elements.element::<T>());
            variants.tuple("Err", |elements| elements.element::<E>());
        });
    }
}

impl Schema for Duration {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.structure::<Self>(|fields| {
            fields.field::<u64>("secs");
            fields.field::<u32>("nanos");
        });
    }
}

impl Schema for SystemTime {
    fn write_schema(writer: &mut SchemaWriter) {
        writer.structure::<Self>(|fields| {
            fields.field::<u64>("secs_since_epoch");
            fields.field::<u32>("nanos_since_epoch");
        });
    }
}

macro_rules! tuples {
    ($(($($element:ident)+))*) => {$(
        impl<$($element: Schema),+> Schema for ($($element,)+) {
            fn write_schema(writer: &mut SchemaWriter) {
                writer.tuple(|elements| {
                    $(elements.element::<$element>();)+
                });
            }
        }
    )*};
}

tuples! {
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
    (A B C D E F G H I)
    (A B C D E F G H I J)
    (A B C D E F G H I J K)
    (A B C D E F G H I J K L)
}

#[cfg(test)]
mod tests {
    use crate::service::schema_text;

    use super::*;

    /// Each form of the specification, once.
    #[test]
    fn standard_types_have_the_text_of_the_specification() {
        assert_eq!(schema_text::<(usize, isize, char)>(), "(u64,i64,char)");
        assert_eq!(schema_text::<Vec<Option<&'static str>>>(), "[?str]");
        assert_eq!(schema_text::<HashMap<String, [u8; 4]>>(), "{str:[u8;4]}");
        assert_eq!(schema_text::<Result<(), Box<str>>>(), "enum{0:Ok(unit),1:Err(str)}");
        assert_eq!(schema_text::<Cow<'static, [Arc<f32>]>>(), "[f32]");
        assert_eq!(schema_text::<(Duration,)>(), "(struct{secs:u64,nanos:u32})");
        assert_eq!(
            schema_text::<SystemTime>(),
            "struct{secs_since_epoch:u64,nanos_since_epoch:u32}"
        );
        assert_eq!(schema_text::<VecDeque<BTreeSet<HashSet<i8>>>>(), "[[[i8]]]");
    }
}
