//! The wrapper around what a codec hands to a visitor: sequences, maps, enums and their variants.
//!
//! Invariants: every element of a sequence and every key of a map is counted before it is decoded,
//! and room is made for each before the collection takes it; values of a map, fields and contents
//! of a variant do not count again.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::service::limits::Limited;
use crate::service::limits::budget::{Broken, Budget};
use crate::service::limits::room::{Entry, Room};

/// The fields of a struct or tuple: in their value's own place, and not counted.
pub(super) struct Fields<'b, A> {
    inner: A,
    budget: &'b Budget,
}

impl<'b, A> Fields<'b, A> {
    #[inline]
    pub(super) fn new(inner: A, budget: &'b Budget) -> Self {
        Self { inner, budget }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Part { inner: seed, budget: self.budget })
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Part { inner: seed, budget: self.budget })
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Part { inner: seed, budget: self.budget })
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The elements of a sequence.
pub(super) struct Elements<'b, A> {
    inner: A,
    budget: &'b Budget,
    room: Room,
}

impl<'b, A> Elements<'b, A> {
    #[inline]
    pub(super) fn new(inner: A, budget: &'b Budget, room: Room) -> Self {
        Self { inner, budget, room }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let seed = Element { inner: seed, budget: self.budget, room: &mut self.room };
        self.inner.next_element_seed(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.room.size_hint(self.inner.size_hint())
    }
}

/// The entries of a map.
pub(super) struct Entries<'b, A> {
    inner: A,
    budget: &'b Budget,
    room: Room,
    /// The key that was decoded last.
    key: Entry,
}

impl<'b, A> Entries<'b, A> {
    #[inline]
    pub(super) fn new(inner: A, budget: &'b Budget) -> Self {
        Self { inner, budget, room: Room::map(), key: Entry::of::<()>() }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.key = Entry::of::<S::Value>();
        self.inner.next_key_seed(Key { inner: seed, budget: self.budget })
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        // Only here are both halves of the entry known; it is inserted after this.
        let entry = self.key.with(Entry::of::<S::Value>());
        self.room.add(self.budget, entry).map_err(Broken::error)?;
        self.inner.next_value_seed(Part { inner: seed, budget: self.budget })
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.room.size_hint(self.inner.size_hint())
    }
}

impl<'b, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Limited<'b, A> {
    type Error = A::Error;
    type Variant = Limited<'b, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let seed = Part { inner: seed, budget: self.budget };
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((value, Limited::<_>::new(variant, self.budget, self.place_bytes)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Limited<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Part { inner: seed, budget: self.budget })
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let Self { inner, budget, place_bytes } = self;
        let visitor = Limited::<_, true>::new(visitor, budget, place_bytes);
        budget.same_level(|| inner.tuple_variant(len, visitor))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let Self { inner, budget, place_bytes } = self;
        let visitor = Limited::<_, true>::new(visitor, budget, place_bytes);
        budget.same_level(|| inner.struct_variant(fields, visitor))
    }
}

/// The seed of a sequence's element.
struct Element<'b, 'r, S> {
    inner: S,
    budget: &'b Budget,
    room: &'r mut Room,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Element<'_, '_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let counted = self.budget.count_element();
        let added = counted.and_then(|()| self.room.add(self.budget, Entry::of::<S::Value>()));
        added.map_err(Broken::error)?;
        Part { inner: self.inner, budget: self.budget }.deserialize(deserializer)
    }
}

/// The seed of a map's key.
struct Key<'b, S> {
    inner: S,
    budget: &'b Budget,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.budget.count_element().map_err(Broken::error)?;
        Part { inner: self.inner, budget: self.budget }.deserialize(deserializer)
    }
}

/// The seed of a value whose place is part of another one.
struct Part<'b, S> {
    inner: S,
    budget: &'b Budget,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Part<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let place_bytes = size_of::<S::Value>();
        self.inner.deserialize(Limited::<_>::new(deserializer, self.budget, place_bytes))
    }
}
