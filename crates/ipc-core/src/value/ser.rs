//! From any serializable value to a [`Value`].

use std::fmt;

use serde::ser::{self, Serialize};

use super::{Value, ValueError, descend};

type Result<T = Value> = std::result::Result<T, ValueError>;

/// A serializer whose output is a [`Value`].
pub(super) struct ToValue {
    depth_left: usize,
}

impl ToValue {
    pub(super) fn new(depth_left: usize) -> Self {
        ToValue { depth_left }
    }

    /// The serializer for what this one contains.
    fn inner(&self) -> Result<ToValue> {
        Ok(ToValue { depth_left: descend(self.depth_left)? })
    }

    fn list(self, variant: Option<&'static str>) -> Result<List> {
        Ok(List { depth_left: descend(self.depth_left)?, elements: Vec::new(), variant })
    }

    fn map(self, variant: Option<&'static str>) -> Result<Map> {
        Ok(Map { depth_left: descend(self.depth_left)?, entries: Vec::new(), key: None, variant })
    }
}

/// The payload under the name of its variant, if it is one.
fn tagged(variant: Option<&'static str>, payload: Value) -> Value {
    match variant {
        Some(name) => Value::Map(vec![(name.into(), payload)]),
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

impl ser::Serializer for ToValue {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
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
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self.inner()?)
    }

    fn serialize_unit(self) -> Result {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result {
        Ok(Value::Null)
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

    fn serialize_seq(self, _len: Option<usize>) -> Result<List> {
        self.list(None)
    }

    fn serialize_tuple(self, _len: usize) -> Result<List> {
        self.list(None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<List> {
        self.list(None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<List> {
        self.inner()?.list(Some(variant))
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

pub(super) struct List {
    depth_left: usize,
    elements: Vec<Value>,
    variant: Option<&'static str>,
}

impl List {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<()> {
        self.elements.push(element.serialize(ToValue { depth_left: self.depth_left })?);
        Ok(())
    }
}

macro_rules! list {
    ($($trait:ident $method:ident,)*) => {$(
        impl ser::$trait for List {
            type Ok = Value;
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<()> {
                self.push(element)
            }

            fn end(self) -> Result {
                Ok(tagged(self.variant, Value::List(self.elements)))
            }
        }
    )*};
}

list! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

pub(super) struct Map {
    depth_left: usize,
    entries: Vec<(Value, Value)>,
    /// The key that waits for its value.
    key: Option<Value>,
    variant: Option<&'static str>,
}

impl ser::SerializeMap for Map {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(key.serialize(ToValue { depth_left: self.depth_left })?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let Some(key) = self.key.take() else {
            return Err(ValueError::Encode("a Serialize wrote a map's value before its key".to_owned()));
        };
        self.entries.push((key, value.serialize(ToValue { depth_left: self.depth_left })?));
        Ok(())
    }

    fn end(self) -> Result {
        Ok(tagged(self.variant, Value::Map(self.entries)))
    }
}

macro_rules! fields {
    ($($trait:ident,)*) => {$(
        impl ser::$trait for Map {
            type Ok = Value;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                let value = value.serialize(ToValue { depth_left: self.depth_left })?;
                self.entries.push((name.into(), value));
                Ok(())
            }

            fn end(self) -> Result {
                Ok(tagged(self.variant, Value::Map(self.entries)))
            }
        }
    )*};
}

fields! {
    SerializeStruct,
    SerializeStructVariant,
}
