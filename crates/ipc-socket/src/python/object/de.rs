//! From an [`Object`] to anything that can be deserialized.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, Unexpected, VariantAccess, Visitor,
};

use super::{Object, ObjectError, descend};

type Result<T> = std::result::Result<T, ObjectError>;

/// A deserializer whose input is an [`Object`].
pub(super) struct FromObject {
    object: Object,
    depth_left: usize,
}

impl FromObject {
    pub(super) fn new(object: Object, depth_left: usize) -> Self {
        FromObject { object, depth_left }
    }

    /// How deep what this one contains may go.
    fn inner_depth(&self) -> Result<usize> {
        descend(self.depth_left)
    }
}

/// Serde's own adapters for sequences and maps ask for this.
impl<'de> IntoDeserializer<'de, ObjectError> for FromObject {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn visit_sequence<'de, V: Visitor<'de>>(
    elements: Vec<Object>,
    depth_left: usize,
    visitor: V,
) -> Result<V::Value> {
    let readers = elements.into_iter().map(|element| FromObject::new(element, depth_left));
    let mut seq = SeqDeserializer::new(readers);
    let out = visitor.visit_seq(&mut seq)?;
    seq.end()?;
    Ok(out)
}

fn visit_entries<'de, V: Visitor<'de>>(
    entries: Vec<(Object, Object)>,
    depth_left: usize,
    visitor: V,
) -> Result<V::Value> {
    let reader = |value| FromObject::new(value, depth_left);
    let readers = entries.into_iter().map(|(key, value)| (reader(key), reader(value)));
    let mut map = MapDeserializer::new(readers);
    let out = visitor.visit_map(&mut map)?;
    map.end()?;
    Ok(out)
}

impl<'de> Deserializer<'de> for FromObject {
    type Error = ObjectError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.object {
            Object::None => visitor.visit_unit(),
            Object::Bool(value) => visitor.visit_bool(value),
            // As unsigned first: where serde expects an index, it takes no other.
            Object::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(small), _) => visitor.visit_u64(small),
                (_, Ok(small)) => visitor.visit_i64(small),
                _ => visitor.visit_i128(value),
            },
            Object::BigInt(value) => match (value.to_i128(), value.to_u128()) {
                (Some(value), _) => visitor.visit_i128(value),
                (_, Some(value)) => visitor.visit_u128(value),
                _ => Err(ObjectError::invalid_type(
                    Unexpected::Other("an integer of more than 128 bits"),
                    &visitor,
                )),
            },
            Object::Float(value) => visitor.visit_f64(value),
            Object::Str(text) => visitor.visit_string(text),
            Object::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Object::List(elements)
            | Object::Tuple(elements)
            | Object::Set(elements)
            | Object::FrozenSet(elements) => visit_sequence(elements, descend(self.depth_left)?, visitor),
            Object::Dict(entries) => visit_entries(entries, descend(self.depth_left)?, visitor),
        }
    }

    // A number of more than 64 bits that happens to be small would come as one of 64 bits, which the
    // visitors of these two types take as well.
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.object {
            Object::None => visitor.visit_none(),
            _ => {
                let depth_left = self.inner_depth()?;
                visitor.visit_some(FromObject::new(self.object, depth_left))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        let depth_left = self.inner_depth()?;
        visitor.visit_newtype_struct(FromObject::new(self.object, depth_left))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let depth_left = self.inner_depth()?;
        match self.object {
            Object::Dict(entries) => {
                let [(name, payload)]: [(Object, Object); 1] = entries.try_into().map_err(|_| {
                    ObjectError::custom("expected an enum, as a map of one variant to its payload")
                })?;
                visitor.visit_enum(Choice { name, payload: Some(payload), depth_left })
            }
            name => visitor.visit_enum(Choice { name, payload: None, depth_left }),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}

/// A variant, by its name or (which serde allows) its index.
struct Choice {
    name: Object,
    payload: Option<Object>,
    depth_left: usize,
}

impl<'de> de::EnumAccess<'de> for Choice {
    type Error = ObjectError;
    type Variant = Payload;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Payload)> {
        let variant = seed.deserialize(FromObject::new(self.name, self.depth_left))?;
        Ok((variant, Payload { payload: self.payload, depth_left: self.depth_left }))
    }
}

struct Payload {
    payload: Option<Object>,
    depth_left: usize,
}

impl<'de> VariantAccess<'de> for Payload {
    type Error = ObjectError;

    fn unit_variant(self) -> Result<()> {
        match self.payload {
            None | Some(Object::None) => Ok(()),
            Some(_) => Err(ObjectError::invalid_type(Unexpected::Other("a payload"), &"a unit variant")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        // Without a payload there may still be one that is nothing: `Variant(())`.
        seed.deserialize(FromObject::new(self.payload.unwrap_or_default(), self.depth_left))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        match self.payload {
            Some(Object::List(elements) | Object::Tuple(elements)) => {
                visit_sequence(elements, descend(self.depth_left)?, visitor)
            }
            _ => Err(ObjectError::invalid_type(Unexpected::UnitVariant, &"a tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.payload {
            Some(Object::List(elements) | Object::Tuple(elements)) => {
                visit_sequence(elements, descend(self.depth_left)?, visitor)
            }
            Some(Object::Dict(entries)) => visit_entries(entries, descend(self.depth_left)?, visitor),
            _ => Err(ObjectError::invalid_type(Unexpected::UnitVariant, &"a struct variant")),
        }
    }
}
