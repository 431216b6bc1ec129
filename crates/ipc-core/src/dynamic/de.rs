//! From a [`Dynamic`] value to anything that can be deserialized.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, Unexpected, VariantAccess, Visitor,
};

use super::{Dynamic, Kind, descend};
use crate::value::ValueError;

type Result<T> = std::result::Result<T, ValueError>;

/// A deserializer whose input is a [`Dynamic`] value. Also the payload of a variant, which is null if there is none.
pub(super) struct FromDynamic<D> {
    kind: std::result::Result<Kind<D>, &'static str>,
    depth_left: usize,
}

impl<D: Dynamic> FromDynamic<D> {
    pub(super) fn new(value: D, depth_left: usize) -> Self {
        FromDynamic { kind: value.take_apart(), depth_left }
    }

    /// The same, one level further down.
    fn inner(self) -> Result<Self> {
        Ok(FromDynamic { depth_left: descend(self.depth_left)?, ..self })
    }
}

/// Serde's own adapters for sequences and maps ask for this.
impl<'de, D: Dynamic> IntoDeserializer<'de, ValueError> for FromDynamic<D> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// `depth_left`: of what they are in.
fn visit_elements<'de, D: Dynamic, V: Visitor<'de>>(
    elements: Vec<D>,
    depth_left: usize,
    visitor: V,
) -> Result<V::Value> {
    let depth_left = descend(depth_left)?;
    let readers = elements.into_iter().map(|element| FromDynamic::new(element, depth_left));
    let mut seq = SeqDeserializer::new(readers);
    let out = visitor.visit_seq(&mut seq)?;
    seq.end()?;
    Ok(out)
}

/// `depth_left`: of what they are in.
fn visit_entries<'de, D: Dynamic, V: Visitor<'de>>(
    entries: Vec<(D, D)>,
    depth_left: usize,
    visitor: V,
) -> Result<V::Value> {
    let depth_left = descend(depth_left)?;
    let reader = |value| FromDynamic::new(value, depth_left);
    let readers = entries.into_iter().map(|(key, value)| (reader(key), reader(value)));
    let mut map = MapDeserializer::new(readers);
    let out = visitor.visit_map(&mut map)?;
    map.end()?;
    Ok(out)
}

impl<'de, D: Dynamic> Deserializer<'de> for FromDynamic<D> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let kind = self.kind.map_err(|name| ValueError::invalid_type(Unexpected::Other(name), &visitor))?;
        match kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(value),
            // As unsigned first: where serde expects an index, it takes no other.
            Kind::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(small), _) => visitor.visit_u64(small),
                (_, Ok(small)) => visitor.visit_i64(small),
                _ => visitor.visit_i128(value),
            },
            Kind::UInt(value) => visitor.visit_u128(value),
            Kind::Float(value) => visitor.visit_f64(value),
            Kind::Text(text) => visitor.visit_string(text),
            Kind::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Kind::List(elements) | Kind::Tuple(elements) | Kind::Set(elements) => {
                visit_elements(elements, self.depth_left, visitor)
            }
            Kind::Map(entries) => visit_entries(entries, self.depth_left, visitor),
        }
    }

    // A number of more than 64 bits that happens to be small would come as one of 64 bits, which the
    // visitors of these two types take as well.
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.kind {
            Ok(Kind::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self.inner()?),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self.inner()?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let FromDynamic { kind, depth_left } = self.inner()?;
        visitor.visit_enum(match kind {
            Ok(Kind::Map(entries)) => {
                let [(name, payload)]: [(D, D); 1] = entries.try_into().map_err(|_| {
                    ValueError::custom("expected an enum, as a map of one variant to its payload")
                })?;
                Choice {
                    name: FromDynamic::new(name, depth_left),
                    payload: FromDynamic::new(payload, depth_left),
                }
            }
            name => Choice {
                name: FromDynamic { kind: name, depth_left },
                payload: FromDynamic { kind: Ok(Kind::Null), depth_left },
            },
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}

/// A variant, by its name or (which serde allows) its index.
struct Choice<D> {
    name: FromDynamic<D>,
    payload: FromDynamic<D>,
}

impl<'de, D: Dynamic> de::EnumAccess<'de> for Choice<D> {
    type Error = ValueError;
    type Variant = FromDynamic<D>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, FromDynamic<D>)> {
        Ok((seed.deserialize(self.name)?, self.payload))
    }
}

impl<'de, D: Dynamic> VariantAccess<'de> for FromDynamic<D> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<()> {
        match self.kind {
            Ok(Kind::Null) => Ok(()),
            _ => Err(ValueError::invalid_type(Unexpected::Other("a payload"), &"a unit variant")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value> {
        match self.kind {
            Ok(Kind::List(elements) | Kind::Tuple(elements)) => {
                visit_elements(elements, self.depth_left, visitor)
            }
            _ => Err(ValueError::invalid_type(Unexpected::UnitVariant, &"a tuple variant")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.kind {
            Ok(Kind::List(elements) | Kind::Tuple(elements)) => {
                visit_elements(elements, self.depth_left, visitor)
            }
            Ok(Kind::Map(entries)) => visit_entries(entries, self.depth_left, visitor),
            _ => Err(ValueError::invalid_type(Unexpected::UnitVariant, &"a struct variant")),
        }
    }
}
