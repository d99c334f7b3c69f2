//! The wrapper itself: a serde `Deserializer` and `Visitor` around another one.
//!
//! Invariants: every value that can hold further values is entered through a `visit_*` below, which
//! is where depth is counted; strings and byte buffers are asked of the codec as borrowed ones, so
//! that a codec that reads a slice checks the length before anything is allocated.
//! Why depth is counted in the visitor: a self-describing codec decides there what a value is.

use std::fmt;

use serde::de::{Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};

use crate::service::limits::access::{Elements, Entries, Fields};
use crate::service::limits::budget::{Broken, Budget};
use crate::service::limits::room::Room;

/// A deserializer, visitor, enum or variant of serde that keeps to a [`Budget`].
///
/// `FIELDS`: whether a sequence or map holds fields, as many as the type says, not the bytes.
#[derive(Debug)]
pub(crate) struct Limited<'b, T, const FIELDS: bool = false> {
    pub(super) inner: T,
    pub(super) budget: &'b Budget,
    /// The size of the place that the value goes to, which is charged already: a variable, a field
    /// or an element. What does not fit in there is in a block of its own.
    pub(super) place_bytes: usize,
}

impl<'b, T> Limited<'b, T> {
    /// The outermost deserializer, for a `V` that goes to the stack.
    #[inline]
    pub(crate) fn root<V>(inner: T, budget: &'b Budget) -> Self {
        Self::new(inner, budget, size_of::<V>())
    }
}

impl<'b, T, const FIELDS: bool> Limited<'b, T, FIELDS> {
    #[inline]
    pub(super) fn new(inner: T, budget: &'b Budget, place_bytes: usize) -> Self {
        Self { inner, budget, place_bytes }
    }

    /// Charges the block of a scalar that its place is too small for.
    #[inline]
    fn take_scalar<V>(&self) -> Result<(), Broken> {
        self.take_box::<V>(size_of::<V>() > self.place_bytes)
    }

    /// The same for any other value. A place of one word may be a box around a smaller one.
    #[inline]
    fn take_composite<V>(&self) -> Result<(), Broken> {
        let may_be_box = self.place_bytes == size_of::<Box<()>>();
        self.take_box::<V>(size_of::<V>() > self.place_bytes || may_be_box)
    }

    #[inline]
    fn take_box<V>(&self, is_boxed: bool) -> Result<(), Broken> {
        if is_boxed { self.budget.take_memory(size_of::<V>() as u64) } else { Ok(()) }
    }

    /// Charges the copy of a string or of bytes.
    #[inline]
    fn take_copy<V>(&self, len_bytes: usize) -> Result<(), Broken> {
        self.take_scalar::<V>()?;
        self.budget.take_memory(len_bytes as u64)
    }
}

macro_rules! forward_deserialize {
    ($($from:ident => $to:ident;)*) => {$(
        #[inline]
        fn $from<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$to(Limited::<_>::new(visitor, self.budget, self.place_bytes))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Limited<'_, D> {
    type Error = D::Error;

    forward_deserialize! {
        deserialize_any => deserialize_any;
        deserialize_bool => deserialize_bool;
        deserialize_i8 => deserialize_i8;
        deserialize_i16 => deserialize_i16;
        deserialize_i32 => deserialize_i32;
        deserialize_i64 => deserialize_i64;
        deserialize_i128 => deserialize_i128;
        deserialize_u8 => deserialize_u8;
        deserialize_u16 => deserialize_u16;
        deserialize_u32 => deserialize_u32;
        deserialize_u64 => deserialize_u64;
        deserialize_u128 => deserialize_u128;
        deserialize_f32 => deserialize_f32;
        deserialize_f64 => deserialize_f64;
        deserialize_char => deserialize_char;
        deserialize_str => deserialize_str;
        // Owned turns into borrowed: bincode allocates a declared length before it has the bytes.
        deserialize_string => deserialize_str;
        deserialize_bytes => deserialize_bytes;
        deserialize_byte_buf => deserialize_bytes;
        deserialize_option => deserialize_option;
        deserialize_unit => deserialize_unit;
        deserialize_seq => deserialize_seq;
        deserialize_map => deserialize_map;
        deserialize_identifier => deserialize_identifier;
        deserialize_ignored_any => deserialize_ignored_any;
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(
            name,
            Limited::<_>::new(visitor, self.budget, self.place_bytes),
        )
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(
            name,
            Limited::<_, true>::new(visitor, self.budget, self.place_bytes),
        )
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner
            .deserialize_tuple(len, Limited::<_, true>::new(visitor, self.budget, self.place_bytes))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(
            name,
            len,
            Limited::<_, true>::new(visitor, self.budget, self.place_bytes),
        )
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(
            name,
            fields,
            Limited::<_, true>::new(visitor, self.budget, self.place_bytes),
        )
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(
            name,
            variants,
            Limited::<_>::new(visitor, self.budget, self.place_bytes),
        )
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_visit {
    ($($visit:ident $value:ty, |$this:ident, $given:ident| $take:expr;)*) => {$(
        #[inline]
        fn $visit<E: Error>(self, $given: $value) -> Result<V::Value, E> {
            let $this = &self;
            $take.map_err(Broken::error)?;
            self.inner.$visit($given)
        }
    )*};
}

impl<'de, V: Visitor<'de>, const FIELDS: bool> Visitor<'de> for Limited<'_, V, FIELDS> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_visit! {
        visit_bool bool, |this, value| this.take_scalar::<V::Value>();
        visit_i8 i8, |this, value| this.take_scalar::<V::Value>();
        visit_i16 i16, |this, value| this.take_scalar::<V::Value>();
        visit_i32 i32, |this, value| this.take_scalar::<V::Value>();
        visit_i64 i64, |this, value| this.take_scalar::<V::Value>();
        visit_i128 i128, |this, value| this.take_scalar::<V::Value>();
        visit_u8 u8, |this, value| this.take_scalar::<V::Value>();
        visit_u16 u16, |this, value| this.take_scalar::<V::Value>();
        visit_u32 u32, |this, value| this.take_scalar::<V::Value>();
        visit_u64 u64, |this, value| this.take_scalar::<V::Value>();
        visit_u128 u128, |this, value| this.take_scalar::<V::Value>();
        visit_f32 f32, |this, value| this.take_scalar::<V::Value>();
        visit_f64 f64, |this, value| this.take_scalar::<V::Value>();
        visit_char char, |this, value| this.take_scalar::<V::Value>();
        visit_str &str, |this, value| this.take_copy::<V::Value>(value.len());
        visit_borrowed_str &'de str, |this, value| this.take_copy::<V::Value>(value.len());
        visit_string String, |this, value| this.take_copy::<V::Value>(value.len());
        visit_bytes &[u8], |this, value| this.take_copy::<V::Value>(value.len());
        visit_borrowed_bytes &'de [u8], |this, value| this.take_copy::<V::Value>(value.len());
        visit_byte_buf Vec<u8>, |this, value| this.take_copy::<V::Value>(value.len());
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.take_composite::<V::Value>().map_err(Broken::error)?;
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.take_composite::<V::Value>().map_err(Broken::error)?;
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.nested(|inner, budget, place_bytes| {
            inner.visit_some(Limited::<_>::new(deserializer, budget, place_bytes))
        })
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.nested(|inner, budget, place_bytes| {
            inner.visit_newtype_struct(Limited::<_>::new(deserializer, budget, place_bytes))
        })
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.nested(|inner, budget, _| {
            if FIELDS {
                return inner.visit_seq(Fields::new(access, budget));
            }
            budget.check_declared(access.size_hint()).map_err(Broken::error)?;
            inner.visit_seq(Elements::new(access, budget, Room::sequence::<V::Value>()))
        })
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.nested(|inner, budget, _| {
            if FIELDS {
                return inner.visit_map(Fields::new(access, budget));
            }
            budget.check_declared(access.size_hint()).map_err(Broken::error)?;
            inner.visit_map(Entries::new(access, budget))
        })
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.nested(|inner, budget, place_bytes| {
            inner.visit_enum(Limited::<_>::new(access, budget, place_bytes))
        })
    }
}

impl<'b, V, const FIELDS: bool> Limited<'b, V, FIELDS> {
    /// Visits a value that may hold others: one level down, in the place that it takes itself.
    #[inline]
    fn nested<'de, E: Error>(
        self,
        visit: impl FnOnce(V, &'b Budget, usize) -> Result<V::Value, E>,
    ) -> Result<V::Value, E>
    where
        V: Visitor<'de>,
    {
        let taken = self.take_composite::<V::Value>();
        taken.and_then(|()| self.budget.enter()).map_err(Broken::error)?;
        let result = visit(self.inner, self.budget, size_of::<V::Value>());
        self.budget.leave();
        result
    }
}
