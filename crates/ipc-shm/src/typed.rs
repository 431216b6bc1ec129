//! What the typed objects have in common: how a type is told from another, and how their bytes come and go.

use std::io;
use std::mem::size_of;

use ipc_sync::OpenError;
use ipc_sync::object::{Fresh, Object, Opening, Typed};
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;

use ipc_core::handle::Kind;

use crate::Plain;

/// The name of a type without the paths of what it is made of, its size and its alignment. Two programs have the same
/// type in two places, so the path does not count.
pub(crate) fn structure<T: Plain>() -> String {
    let mut name = String::new();
    let mut word = String::new();
    for c in std::any::type_name::<T>().chars() {
        if c.is_alphanumeric() || c == '_' || c == ':' {
            word.push(c);
        } else {
            name.push_str(word.rsplit("::").next().unwrap_or_default());
            word.clear();
            name.push(c);
        }
    }
    name.push_str(word.rsplit("::").next().unwrap_or_default());
    format!("{name}, {} bytes aligned to {}", size_of::<T>(), align_of::<T>())
}

/// FNV-1a of the structure: it only has to tell types apart that were confused by mistake.
pub(crate) fn fingerprint(structure: &str) -> u64 {
    structure
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes or opens an object of `len` bytes for values of type `T`.
pub(crate) fn named<T: Plain>(
    opening: Opening,
    kind: &str,
    name: &str,
    len: usize,
    init: impl FnOnce(&Fresh<'_>) -> io::Result<()>,
) -> Result<Object, OpenError> {
    let structure = structure::<T>();
    let typed = Typed {
        kind,
        len,
        len_min: len,
        reserved: len,
        fingerprint: fingerprint(&structure),
        structure: &structure,
    };
    Object::named(opening, name, &typed, init)
}

/// Puts an object into the message at hand, with the structure of its values.
pub(crate) fn serialize<T: Plain, S: Serializer>(
    object: &Object,
    kind: Kind,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let structure = structure::<T>();
    object.serialize(kind, fingerprint(&structure), structure.into_bytes(), serializer)
}

/// Takes an object out of the message at hand, if its values are of type `T`.
pub(crate) fn deserialize<'de, T: Plain, D: Deserializer<'de>>(
    kind: Kind,
    len_min: usize,
    deserializer: D,
) -> Result<Object, D::Error> {
    let (object, theirs, text) = Object::deserialize(kind, len_min, deserializer)?;
    let structure = structure::<T>();
    if theirs != fingerprint(&structure) {
        let text: String = String::from_utf8_lossy(&text).chars().take(200).collect();
        return Err(D::Error::custom(format_args!(
            "a {} handle of {text} cannot be one of {structure}",
            kind.name()
        )));
    }
    Ok(object)
}

/// The value at a place, whatever the bytes there are while this reads them.
#[inline]
pub(crate) fn read<T: Plain>(object: &Object, offset: usize) -> T {
    let mut value = T::new_zeroed();
    // The place was checked when the handle was made: an object keeps its length.
    let _checked = object.read(offset, value.as_mut_bytes());
    value
}

/// Puts the value at a place.
#[inline]
pub(crate) fn write<T: Plain>(object: &Object, offset: usize, value: &T) {
    let _checked = object.write(offset, value.as_bytes());
}

/// `new`, `create`, `open`, `open_or_create` and `remove`, within the `impl` of a type that holds one `$value`. That has
/// `LEN`, `prepare` (which puts the value into a fresh object) and `of` (which makes a handle of its object).
macro_rules! named_value {
    ($kind:literal, $value:ty) => {
        /// A new one without a name.
        ///
        /// # Errors
        /// [`OpenError::NoSpace`], [`OpenError::Io`].
        pub fn new(value: $value) -> Result<Self, OpenError> {
            Self::of(Object::new_with(Self::LEN, |fresh| Self::prepare(fresh, value))?)
        }

        /// Makes one with a name, which other processes of this user can [`open`](Self::open). The name goes with the
        /// last of those who have it, also if they are killed.
        ///
        /// # Errors
        /// [`OpenError::AlreadyExists`] if somebody has one of that name, and what else [`OpenError`] says.
        pub fn create(name: &str, value: $value) -> Result<Self, OpenError> {
            Self::named(ipc_sync::object::Opening::Create, name, Some(value))
        }

        /// Takes a name away on purpose: who has the object keeps it, and the name is free for another at once.
        ///
        /// # Errors
        /// [`OpenError::NotFound`] if nobody has one of that name, and what else [`OpenError`] says.
        pub fn remove(name: &str) -> Result<(), OpenError> {
            ipc_sync::remove($kind, name)
        }

        /// Opens the one of that name.
        ///
        /// # Errors
        /// [`OpenError::NotFound`]; [`OpenError::Mismatch`] if it holds a value of another type; and what else
        /// [`OpenError`] says.
        pub fn open(name: &str) -> Result<Self, OpenError> {
            Self::named(ipc_sync::object::Opening::Open, name, None)
        }

        /// Opens the one of that name, or makes it. Of several processes that do so at once, all get the same.
        ///
        /// # Errors
        /// As of [`create`](Self::create) and [`open`](Self::open).
        pub fn open_or_create(name: &str, value: $value) -> Result<Self, OpenError> {
            Self::named(ipc_sync::object::Opening::OpenOrCreate, name, Some(value))
        }

        fn named(
            opening: ipc_sync::object::Opening,
            name: &str,
            value: Option<$value>,
        ) -> Result<Self, OpenError> {
            // To open one there is no value, and nothing is made.
            let init = |fresh: &Fresh<'_>| value.map_or(Ok(()), |value| Self::prepare(fresh, value));
            Self::of(crate::typed::named::<$value>(opening, $kind, name, Self::LEN, init)?)
        }
    };
}

/// Implements serde's traits for a handle of one object of values of type `T`.
macro_rules! travels {
    ($type:ident, $kind:literal, $len:expr) => {
        impl<T: crate::Plain> serde::Serialize for $type<T> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::typed::serialize::<T, S>(&self.object, ipc_core::handle_kind!($kind), serializer)
            }
        }

        impl<'de, T: crate::Plain> serde::Deserialize<'de> for $type<T> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let kind = ipc_core::handle_kind!($kind);
                let object = crate::typed::deserialize::<T, D>(kind, $len, deserializer)?;
                $type::of(object).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {named_value, travels};

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
    #[repr(C)]
    struct Point {
        x: f64,
        y: f64,
    }

    #[test]
    fn types_are_told_apart_by_name_and_size() {
        assert_eq!(structure::<Point>(), "Point, 16 bytes aligned to 8");
        assert_eq!(structure::<[[u16; 3]; 2]>(), "[[u16; 3]; 2], 12 bytes aligned to 2");
        assert_ne!(fingerprint(&structure::<u64>()), fingerprint(&structure::<i64>()));
    }
}
