//! The wrapper itself: a serde `Deserializer` and `Visitor` around another one.
//!
//! Invariants: every value that can hold further values is entered through a `visit_*` below, which
//! is where depth is counted; strings and byte buffers are asked of the codec as borrowed ones, so
//! that a codec that reads a slice checks the length before anything is allocated.
//! Why depth is counted in the visitor: a self-describing codec decides there what a value is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use crate::service::limits::budget::{Budget, Content};

/// A deserializer, visitor, access or seed of serde that keeps to a [`Budget`].
#[derive(Debug)]
pub(crate) struct Limited<'b, T> {
    pub(super) inner: T,
    pub(super) budget: &'b Budget,
    pub(super) content: Content,
}

impl<'b, T> Limited<'b, T> {
    #[inline]
    pub(crate) fn new(inner: T, budget: &'b Budget) -> Self {
        Self { inner, budget, content: Content::Elements }
    }

    #[inline]
    pub(super) fn fields(inner: T, budget: &'b Budget) -> Self {
        Self { inner, budget, content: Content::Fields }
    }
}

macro_rules! forward_deserialize {
    ($($from:ident => $to:ident $wrap:ident;)*) => {$(
        #[inline]
        fn $from<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$to(Limited::$wrap(visitor, self.budget))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<'_, D> {
    type Error = D::Error;

    forward_deserialize! {
        deserialize_any => deserialize_any new;
        deserialize_bool => deserialize_bool new;
        deserialize_i8 => deserialize_i8 new;
        deserialize_i16 => deserialize_i16 new;
        deserialize_i32 => deserialize_i32 new;
        deserialize_i64 => deserialize_i64 new;
        deserialize_i128 => deserialize_i128 new;
        deserialize_u8 => deserialize_u8 new;
        deserialize_u16 => deserialize_u16 new;
        deserialize_u32 => deserialize_u32 new;
        deserialize_u64 => deserialize_u64 new;
        deserialize_u128 => deserialize_u128 new;
        deserialize_f32 => deserialize_f32 new;
        deserialize_f64 => deserialize_f64 new;
        deserialize_char => deserialize_char new;
        deserialize_str => deserialize_str new;
        // Owned turns into borrowed: bincode allocates a declared length before it has the bytes.
        deserialize_string => deserialize_str new;
        deserialize_bytes => deserialize_bytes new;
        deserialize_byte_buf => deserialize_bytes new;
        deserialize_option => deserialize_option new;
        deserialize_unit => deserialize_unit new;
        deserialize_seq => deserialize_seq new;
        deserialize_map => deserialize_map new;
        deserialize_identifier => deserialize_identifier new;
        deserialize_ignored_any => deserialize_ignored_any new;
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, Limited::new(visitor, self.budget))
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, Limited::fields(visitor, self.budget))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(len, Limited::fields(visitor, self.budget))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, len, Limited::fields(visitor, self.budget))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Limited::fields(visitor, self.budget))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, Limited::new(visitor, self.budget))
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_visit {
    ($($visit:ident $value:ty;)*) => {$(
        #[inline]
        fn $visit<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.inner.$visit(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Limited<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_visit! {
        visit_bool bool;
        visit_i8 i8;
        visit_i16 i16;
        visit_i32 i32;
        visit_i64 i64;
        visit_i128 i128;
        visit_u8 u8;
        visit_u16 u16;
        visit_u32 u32;
        visit_u64 u64;
        visit_u128 u128;
        visit_f32 f32;
        visit_f64 f64;
        visit_char char;
        visit_str &str;
        visit_borrowed_str &'de str;
        visit_string String;
        visit_bytes &[u8];
        visit_borrowed_bytes &'de [u8];
        visit_byte_buf Vec<u8>;
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.budget.enter()?;
        let result = self.inner.visit_some(Limited::new(deserializer, self.budget));
        self.budget.leave();
        result
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.budget.enter()?;
        let result = self.inner.visit_newtype_struct(Limited::new(deserializer, self.budget));
        self.budget.leave();
        result
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.budget.enter()?;
        if self.content == Content::Elements {
            self.budget.check_declared(access.size_hint())?;
        }
        let limited = Limited { inner: access, budget: self.budget, content: self.content };
        let result = self.inner.visit_seq(limited);
        self.budget.leave();
        result
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.budget.enter()?;
        if self.content == Content::Elements {
            self.budget.check_declared(access.size_hint())?;
        }
        let limited = Limited { inner: access, budget: self.budget, content: self.content };
        let result = self.inner.visit_map(limited);
        self.budget.leave();
        result
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.budget.enter()?;
        let result = self.inner.visit_enum(Limited::new(access, self.budget));
        self.budget.leave();
        result
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Limited<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        if self.content == Content::Elements {
            self.budget.count_element()?;
        }
        self.inner.deserialize(Limited::new(deserializer, self.budget))
    }
}
