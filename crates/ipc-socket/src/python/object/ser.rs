//! From any serializable value to an [`Object`].

use std::fmt;

use serde::ser::{self, Serialize};

use super::{Object, ObjectError, descend};

type Result<T = Object> = std::result::Result<T, ObjectError>;

/// A serializer whose output is an [`Object`].
pub(super) struct ToObject {
    depth_left: usize,
}

impl ToObject {
    pub(super) fn new(depth_left: usize) -> Self {
        ToObject { depth_left }
    }

    /// The serializer for what this one contains.
    fn inner(&self) -> Result<ToObject> {
        Ok(ToObject { depth_left: descend(self.depth_left)? })
    }

    fn sequence(self, make: Make, variant: Option<&'static str>) -> Result<Sequence> {
        Ok(Sequence { depth_left: descend(self.depth_left)?, elements: Vec::new(), make, variant })
    }

    fn map(self, variant: Option<&'static str>) -> Result<Map> {
        Ok(Map { depth_left: descend(self.depth_left)?, entries: Vec::new(), key: None, variant })
    }
}

/// The payload under the name of its variant, if it is one.
fn tagged(variant: Option<&'static str>, payload: Object) -> Object {
    match variant {
        Some(name) => Object::Dict(vec![(name.into(), payload)]),
        None => payload,
    }
}

macro_rules! into {
    ($($method:ident: $ty:ty,)*) => {$(
        fn $method(self, value: $ty) -> Result {
            Ok(value.into())
        }
    )*};
}

impl ser::Serializer for ToObject {
    type Ok = Object;
    type Error = ObjectError;
    type SerializeSeq = Sequence;
    type SerializeTuple = Sequence;
    type SerializeTupleStruct = Sequence;
    type SerializeTupleVariant = Sequence;
    type SerializeMap = Map;
    type SerializeStruct = Map;
    type SerializeStructVariant = Map;

    into! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_none(self) -> Result {
        Ok(Object::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self.inner()?)
    }

    fn serialize_unit(self) -> Result {
        Ok(Object::None)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result {
        Ok(Object::None)
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result {
        value.serialize(self.inner()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        Ok(tagged(Some(variant), value.serialize(self.inner()?)?))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Sequence> {
        self.sequence(Object::List, None)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Sequence> {
        self.sequence(Object::Tuple, None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Sequence> {
        self.sequence(Object::Tuple, None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Sequence> {
        self.inner()?.sequence(Object::Tuple, Some(variant))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Map> {
        self.map(None)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Map> {
        self.map(None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Map> {
        self.inner()?.map(Some(variant))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result {
        Ok(value.to_string().into())
    }
}

/// Whether it becomes a list or a tuple.
type Make = fn(Vec<Object>) -> Object;

pub(super) struct Sequence {
    depth_left: usize,
    elements: Vec<Object>,
    make: Make,
    variant: Option<&'static str>,
}

impl Sequence {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<()> {
        self.elements.push(element.serialize(ToObject { depth_left: self.depth_left })?);
        Ok(())
    }
}

macro_rules! sequence {
    ($($trait:ident $method:ident,)*) => {$(
        impl ser::$trait for Sequence {
            type Ok = Object;
            type Error = ObjectError;

            fn $method<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<()> {
                self.push(element)
            }

            fn end(self) -> Result {
                Ok(tagged(self.variant, (self.make)(self.elements)))
            }
        }
    )*};
}

sequence! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

pub(super) struct Map {
    depth_left: usize,
    entries: Vec<(Object, Object)>,
    /// The key that waits for its value.
    key: Option<Object>,
    variant: Option<&'static str>,
}

impl ser::SerializeMap for Map {
    type Ok = Object;
    type Error = ObjectError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(key.serialize(ToObject { depth_left: self.depth_left })?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let Some(key) = self.key.take() else {
            return Err(ObjectError::Encode("a Serialize wrote a map's value before its key".to_owned()));
        };
        self.entries.push((key, value.serialize(ToObject { depth_left: self.depth_left })?));
        Ok(())
    }

    fn end(self) -> Result {
        Ok(tagged(self.variant, Object::Dict(self.entries)))
    }
}

macro_rules! fields {
    ($($trait:ident,)*) => {$(
        impl ser::$trait for Map {
            type Ok = Object;
            type Error = ObjectError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                let value = value.serialize(ToObject { depth_left: self.depth_left })?;
                self.entries.push((name.into(), value));
                Ok(())
            }

            fn end(self) -> Result {
                Ok(tagged(self.variant, Object::Dict(self.entries)))
            }
        }
    )*};
}

fields! {
    SerializeStruct,
    SerializeStructVariant,
}
