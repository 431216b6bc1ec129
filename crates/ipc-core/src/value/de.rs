//! From a [`Value`] to anything that can be deserialized.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, Unexpected, VariantAccess, Visitor,
};

use super::{Value, ValueError, descend};

type Result<T> = std::result::Result<T, ValueError>;

/// A deserializer whose input is a [`Value`].
pub(super) struct FromValue {
    value: Value,
    depth_left: usize,
}

impl FromValue {
    pub(super) fn new(value: Value, depth_left: usize) -> Self {
        FromValue { value, depth_left }
    }

    /// How deep what this one contains may go.
    fn inner_depth(&self) -> Result<usize> {
        descend(self.depth_left)
    }
}

/// Serde's own adapters for sequences and maps ask for this.
impl<'de> IntoDeserializer<'de, ValueError> for FromValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn visit_list<'de, V: Visitor<'de>>(elements: Vec<Value>, depth_left: usize, visitor: V) -> Result<V::Value> {
    let readers = elements.into_iter().map(|element| FromValue::new(element, depth_left));
    let mut seq = SeqDeserializer::new(readers);
    let out = visitor.visit_seq(&mut seq)?;
    seq.end()?;
    Ok(out)
}

fn visit_entries<'de, V: Visitor<'de>>(
    entries: Vec<(Value, Value)>,
    depth_left: usize,
    visitor: V,
) -> Result<V::Value> {
    let reader = |value| FromValue::new(value, depth_left);
    let readers = entries.into_iter().map(|(key, value)| (reader(key), reader(value)));
    let mut map = MapDeserializer::new(readers);
    let out = visitor.visit_map(&mut map)?;
    map.end()?;
    Ok(out)
}

impl<'de> Deserializer<'de> for FromValue {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            // As unsigned first: where serde expects an index, it takes no other.
            Value::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(small), _) => visitor.visit_u64(small),
                (_, Ok(small)) => visitor.visit_i64(small),
                _ => visitor.visit_i128(value),
            },
            Value::UInt(value) => visitor.visit_u128(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Text(text) => visitor.visit_string(text),
            Value::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Value::List(elements) => visit_list(elements, descend(self.depth_left)?, visitor),
            Value::Map(entries) => visit_entries(entries, descend(self.depth_left)?, visitor),
        }
    }

    // A number of more than 64 bits that happens to be small would come as one of 64 bits, which the
    // visitors of these two types take as well.
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => {
                let depth_left = self.inner_depth()?;
                visitor.visit_some(FromValue::new(self.value, depth_left))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        let depth_left = self.inner_depth()?;
        visitor.visit_newtype_struct(FromValue::new(self.value, depth_left))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let depth_left = self.inner_depth()?;
        match self.value {
            Value::Map(entries) => {
                let [(name, payload)]: [(Value, Value); 1] = entries.try_into().map_err(|_| {
                    ValueError::custom("expected an enum, as a map of one variant to its payload")
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
    name: Value,
    payload: Option<Value>,
    depth_left: usize,
}

impl<'de> de::EnumAccess<'de> for Choice {
    type Error = ValueError;
    type Variant = Payload;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Payload)> {
        let variant = seed.deserialize(FromValue::new(self.name, self.depth_left))?;
        Ok((variant, Payload { value: self.payload, depth_left: self.depth_left }))
    }
}

struct Payload {
    value: Option<Value>,
    depth_left: usize,
}

impl<'de> VariantAccess<'de> for Payload {
    type Error = ValueError;

    fn unit_variant(self) -> Result<()> {
        match self.value {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(ValueError::invalid_type(Unexpected::Other("a payload"), &"a unit variant")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        // Without a payload there may still be one that is nothing: `Variant(())`.
        seed.deserialize(FromValue::new(self.value.unwrap_or_default(), self.depth_left))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        match self.value {
            Some(Value::List(elements)) => visit_list(elements, descend(self.depth_left)?, visitor),
            _ => Err(ValueError::invalid_type(Unexpected::UnitVariant, &"a tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.value {
            Some(Value::List(elements)) => visit_list(elements, descend(self.depth_left)?, visitor),
            Some(Value::Map(entries)) => visit_entries(entries, descend(self.depth_left)?, visitor),
            _ => Err(ValueError::invalid_type(Unexpected::UnitVariant, &"a struct variant")),
        }
    }
}
