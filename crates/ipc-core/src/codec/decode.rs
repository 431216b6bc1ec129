//! Decoding: postcard's deserializer, within a budget for memory and depth.
//!
//! Postcard reads the scalars, strings and lengths; what nests is walked here, since every level of it has
//! to be counted and every element be charged.

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::budget::{Budget, Entries, Room, Slot, Store, bytes_cost};
use super::error::{DecodeError, DecodeFailure};
use crate::Limits;

type Result<T> = std::result::Result<T, DecodeFailure>;

/// The value that all of `bytes` encode.
#[inline]
pub(super) fn decode<'de, T: Deserialize<'de>>(limits: &Limits, bytes: &'de [u8]) -> Result<T> {
    if bytes.len() > limits.frame_len_max {
        let (len, limit) = (bytes.len(), limits.frame_len_max);
        return Err(DecodeError::FrameTooLong { len, limit }.into());
    }
    let mut input =
        Input { rest: bytes, budget: Budget::new(limits.memory_max), depth_max: limits.depth_max };
    let reader = Reader { input: &mut input, depth_left: limits.depth_max, slot: Slot::of::<T>() };
    let value = T::deserialize(reader)?;
    match input.rest.len() {
        0 => Ok(value),
        count => Err(DecodeError::TrailingBytes { count }.into()),
    }
}

/// What remains of the message, and of what it may cost.
struct Input<'de> {
    rest: &'de [u8],
    budget: Budget,
    depth_max: usize,
}

impl<'de> Input<'de> {
    /// Reads something that does not nest.
    #[inline]
    fn take<T: Deserialize<'de>>(&mut self) -> Result<T> {
        let (value, rest) = postcard::take_from_bytes(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    /// Reads how many elements follow.
    #[inline]
    fn take_len(&mut self) -> Result<usize> {
        let len = self.take()?;
        self.budget.foresee(len, self.rest.len())?;
        Ok(len)
    }
}

/// The deserializer that a `Deserialize` implementation sees.
struct Reader<'r, 'de> {
    input: &'r mut Input<'de>,
    depth_left: usize,
    slot: Slot,
}

impl<'r, 'de> Reader<'r, 'de> {
    /// Accounts for the memory of a `T`.
    #[inline]
    fn admit<T>(&mut self) -> Result<()> {
        match self.slot.cost::<T>() {
            0 => Ok(()),
            cost => self.input.budget.charge(cost),
        }
    }

    /// Accounts for a level of nesting.
    #[inline]
    fn descend(self) -> Result<Level<'r, 'de>> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Level { input: self.input, depth_left }),
            None => Err(DecodeError::TooDeep { limit: self.input.depth_max }.into()),
        }
    }

    /// Accounts for the memory of a `T`, and for the level that it opens.
    #[inline]
    fn nest<T>(mut self) -> Result<Level<'r, 'de>> {
        self.admit::<T>()?;
        self.descend()
    }
}

/// A level of nesting.
struct Level<'r, 'de> {
    input: &'r mut Input<'de>,
    depth_left: usize,
}

impl<'r, 'de> Level<'r, 'de> {
    /// The deserializer for one of the values of this level.
    #[inline]
    fn reader(&mut self, slot: Slot) -> Reader<'_, 'de> {
        Reader { input: self.input, depth_left: self.depth_left, slot }
    }

    /// The same, for the only value.
    #[inline]
    fn into_reader(self, slot: Slot) -> Reader<'r, 'de> {
        Reader { input: self.input, depth_left: self.depth_left, slot }
    }

    /// The fields of a `T`.
    #[inline]
    fn fields<T>(self, len: usize) -> Fields<'r, 'de> {
        Fields { level: self, left: len, room: Room::of::<T>() }
    }
}

macro_rules! plain {
    ($($method:ident $visit:ident $ty:ty,)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
            self.admit::<V::Value>()?;
            let value: $ty = self.input.take()?;
            visitor.$visit(value)
        }
    )*};
}

macro_rules! not_self_describing {
    ($($method:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value> {
            Err(DecodeError::NotSelfDescribing.into())
        }
    )*};
}

impl<'r, 'de> de::Deserializer<'de> for Reader<'r, 'de> {
    type Error = DecodeFailure;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    plain! {
        deserialize_bool visit_bool bool,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
        deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64,
        deserialize_char visit_char char,
    }

    not_self_describing! {
        deserialize_any,
        deserialize_identifier,
        deserialize_ignored_any,
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        self.admit::<V::Value>()?;
        let text: &'de str = self.input.take()?;
        self.input.budget.charge(bytes_cost(text.len()))?;
        visitor.visit_borrowed_str(text)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        self.admit::<V::Value>()?;
        let bytes: &'de [u8] = self.input.take()?;
        self.input.budget.charge(bytes_cost(bytes.len()))?;
        visitor.visit_borrowed_bytes(bytes)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        self.admit::<V::Value>()?;
        // An `Option<()>` is encoded as any other, but for the value.
        match self.input.take::<Option<()>>()? {
            None => visitor.visit_none(),
            Some(()) => {
                let level = self.descend()?;
                visitor.visit_some(level.into_reader(Slot::OptionOf(typeid::of::<V::Value>())))
            }
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        self.admit::<V::Value>()?;
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        let level = self.nest::<V::Value>()?;
        visitor.visit_newtype_struct(level.into_reader(Slot::Around(size_of::<V::Value>())))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let level = self.nest::<V::Value>()?;
        let left = level.input.take_len()?;
        visitor.visit_seq(Elements { level, left, store: Store::empty::<V::Value>() })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        let level = self.nest::<V::Value>()?;
        visitor.visit_seq(level.fields::<V::Value>(len))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let level = self.nest::<V::Value>()?;
        let left = level.input.take_len()?;
        visitor.visit_map(Pairs { level, left, entries: Entries::empty() })
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let level = self.nest::<V::Value>()?;
        visitor.visit_enum(Variant { level, room: Room::of::<V::Value>() })
    }
}

/// The fields of a struct, a tuple, an array or a variant.
struct Fields<'r, 'de> {
    level: Level<'r, 'de>,
    left: usize,
    room: Room,
}

impl<'de> de::SeqAccess<'de> for Fields<'_, 'de> {
    type Error = DecodeFailure;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        match self.room.cost::<S::Value>() {
            0 => {}
            cost => self.level.input.budget.charge(cost)?,
        }
        seed.deserialize(self.level.reader(Slot::of::<S::Value>())).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// The elements of a sequence.
struct Elements<'r, 'de> {
    level: Level<'r, 'de>,
    left: usize,
    store: Store,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = DecodeFailure;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let cost = self.store.cost::<S::Value>();
        self.level.input.budget.charge(cost)?;
        seed.deserialize(self.level.reader(Slot::of::<S::Value>())).map(Some)
    }

    // The number is the sender's word alone: nothing is reserved for it.
    #[inline]
    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// The entries of a map.
struct Pairs<'r, 'de> {
    level: Level<'r, 'de>,
    left: usize,
    entries: Entries,
}

impl<'de> de::MapAccess<'de> for Pairs<'_, 'de> {
    type Error = DecodeFailure;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let cost = self.entries.key_cost::<S::Value>();
        self.level.input.budget.charge(cost)?;
        seed.deserialize(self.level.reader(Slot::of::<S::Value>())).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let cost = self.entries.value_cost::<S::Value>();
        self.level.input.budget.charge(cost)?;
        seed.deserialize(self.level.reader(Slot::of::<S::Value>()))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        None
    }
}

/// A variant of an enum. Its payload lies in the memory of the enum.
struct Variant<'r, 'de> {
    level: Level<'r, 'de>,
    room: Room,
}

impl<'r, 'de> Variant<'r, 'de> {
    /// The payload, which its visitor makes a `T` of: usually the enum itself.
    #[inline]
    fn fields<T>(mut self, len: usize) -> Result<Fields<'r, 'de>> {
        let cost = self.room.cost::<T>();
        self.level.input.budget.charge(cost)?;
        Ok(self.level.fields::<T>(len))
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeFailure;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self)> {
        let index: u32 = self.level.input.take()?;
        let index: de::value::U32Deserializer<DecodeFailure> = index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = DecodeFailure;

    #[inline]
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value> {
        let cost = self.room.cost::<S::Value>();
        self.level.input.budget.charge(cost)?;
        seed.deserialize(self.level.into_reader(Slot::of::<S::Value>()))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(self.fields::<V::Value>(len)?)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_seq(self.fields::<V::Value>(fields.len())?)
    }
}
