//! From any serializable value to a [`Dynamic`] one.

use std::fmt;
use std::marker::PhantomData;

use serde::ser::{self, Serialize};

use super::{Dynamic, Kind, descend};
use crate::value::ValueError;

type Result<T> = std::result::Result<T, ValueError>;

/// A serializer whose output is a [`Dynamic`] value.
pub(super) struct ToDynamic<D> {
    depth_left: usize,
    out: PhantomData<D>,
}

impl<D: Dynamic> ToDynamic<D> {
    pub(super) fn new(depth_left: usize) -> Self {
        ToDynamic { depth_left, out: PhantomData }
    }

    /// The serializer for what this one contains.
    fn inner(&self) -> Result<Self> {
        Ok(Self::new(descend(self.depth_left)?))
    }

    fn elements(self, make: Make<D>, variant: Option<&'static str>) -> Result<Elements<D>> {
        Ok(Elements { depth_left: descend(self.depth_left)?, elements: Vec::new(), make, variant })
    }

    fn entries(self, variant: Option<&'static str>) -> Result<Entries<D>> {
        Ok(Entries { depth_left: descend(self.depth_left)?, entries: Vec::new(), key: None, variant })
    }
}

fn text<D: Dynamic>(text: impl Into<String>) -> D {
    D::build(Kind::Text(text.into()))
}

/// The payload under the name of its variant, if it is one.
fn tagged<D: Dynamic>(variant: Option<&'static str>, payload: Kind<D>) -> D {
    let payload = D::build(payload);
    match variant {
        Some(name) => D::build(Kind::Map(vec![(text(name), payload)])),
        None => payload,
    }
}

macro_rules! build {
    ($($method:ident: $ty:ty, $value:ident => $kind:expr;)*) => {$(
        fn $method(self, $value: $ty) -> Result<D> {
            Ok(D::build($kind))
        }
    )*};
}

impl<D: Dynamic> ser::Serializer for ToDynamic<D> {
    type Ok = D;
    type Error = ValueError;
    type SerializeSeq = Elements<D>;
    type SerializeTuple = Elements<D>;
    type SerializeTupleStruct = Elements<D>;
    type SerializeTupleVariant = Elements<D>;
    type SerializeMap = Entries<D>;
    type SerializeStruct = Entries<D>;
    type SerializeStructVariant = Entries<D>;

    build! {
        serialize_bool: bool, value => Kind::Bool(value);
        serialize_i8: i8, value => Kind::Int(value.into());
        serialize_i16: i16, value => Kind::Int(value.into());
        serialize_i32: i32, value => Kind::Int(value.into());
        serialize_i64: i64, value => Kind::Int(value.into());
        serialize_i128: i128, value => Kind::Int(value);
        serialize_u8: u8, value => Kind::Int(value.into());
        serialize_u16: u16, value => Kind::Int(value.into());
        serialize_u32: u32, value => Kind::Int(value.into());
        serialize_u64: u64, value => Kind::Int(value.into());
        serialize_u128: u128, value => i128::try_from(value).map_or(Kind::UInt(value), Kind::Int);
        serialize_f32: f32, value => Kind::Float(value.into());
        serialize_f64: f64, value => Kind::Float(value);
        serialize_char: char, value => Kind::Text(value.into());
        serialize_str: &str, value => Kind::Text(value.into());
        serialize_bytes: &[u8], value => Kind::Bytes(value.into());
        serialize_unit_struct: &'static str, _name => Kind::Null;
    }

    fn serialize_none(self) -> Result<D> {
        Ok(D::build(Kind::Null))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<D> {
        value.serialize(self.inner()?)
    }

    fn serialize_unit(self) -> Result<D> {
        Ok(D::build(Kind::Null))
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result<D> {
        Ok(text(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _name: &'static str, value: &T) -> Result<D> {
        value.serialize(self.inner()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<D> {
        Ok(D::build(Kind::Map(vec![(text(variant), value.serialize(self.inner()?)?)])))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Elements<D>> {
        self.elements(Kind::List, None)
    }

    fn serialize_tuple(self, _len: usize) -> Result<Elements<D>> {
        self.elements(Kind::Tuple, None)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Elements<D>> {
        self.elements(Kind::Tuple, None)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Elements<D>> {
        self.inner()?.elements(Kind::Tuple, Some(variant))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries<D>> {
        self.entries(None)
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Entries<D>> {
        self.entries(None)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Entries<D>> {
        self.inner()?.entries(Some(variant))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<D> {
        Ok(text(value.to_string()))
    }
}

/// Whether it becomes a list or a tuple.
type Make<D> = fn(Vec<D>) -> Kind<D>;

pub(super) struct Elements<D> {
    depth_left: usize,
    elements: Vec<D>,
    make: Make<D>,
    variant: Option<&'static str>,
}

impl<D: Dynamic> Elements<D> {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<()> {
        self.elements.push(element.serialize(ToDynamic::new(self.depth_left))?);
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:ident $method:ident,)*) => {$(
        impl<D: Dynamic> ser::$trait for Elements<D> {
            type Ok = D;
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<()> {
                self.push(element)
            }

            fn end(self) -> Result<D> {
                Ok(tagged(self.variant, (self.make)(self.elements)))
            }
        }
    )*};
}

elements! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field,
}

pub(super) struct Entries<D> {
    depth_left: usize,
    entries: Vec<(D, D)>,
    /// The key that waits for its value.
    key: Option<D>,
    variant: Option<&'static str>,
}

impl<D: Dynamic> ser::SerializeMap for Entries<D> {
    type Ok = D;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        self.key = Some(key.serialize(ToDynamic::new(self.depth_left))?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let Some(key) = self.key.take() else {
            return Err(ValueError::Encode("a Serialize wrote a map's value before its key".to_owned()));
        };
        self.entries.push((key, value.serialize(ToDynamic::new(self.depth_left))?));
        Ok(())
    }

    fn end(self) -> Result<D> {
        Ok(tagged(self.variant, Kind::Map(self.entries)))
    }
}

macro_rules! fields {
    ($($trait:ident,)*) => {$(
        impl<D: Dynamic> ser::$trait for Entries<D> {
            type Ok = D;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
                let value = value.serialize(ToDynamic::new(self.depth_left))?;
                self.entries.push((text(name), value));
                Ok(())
            }

            fn end(self) -> Result<D> {
                Ok(tagged(self.variant, Kind::Map(self.entries)))
            }
        }
    )*};
}

fields! {
    SerializeStruct,
    SerializeStructVariant,
}
