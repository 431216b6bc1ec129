//! What all handles have in common: how they travel, and how they are found by name.

use std::io;

use crate::error::OpenError;
use crate::object::Fresh;

/// Implements serde's traits for a handle that is one [`Object`](crate::object::Object): `$of` makes it of the object,
/// which has at least `$len` bytes, and checks what the object says of itself.
macro_rules! travels {
    ($type:ty, $kind:literal, $len:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.object.serialize(ipc_core::handle_kind!($kind), 0, Vec::new(), serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let kind = ipc_core::handle_kind!($kind);
                let (object, ..) = crate::object::Object::deserialize(kind, $len, deserializer)?;
                <$type>::of(object).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The layout of an object that begins as zeros.
pub(crate) fn layout(len: usize) -> Result<(usize, impl FnOnce(&Fresh<'_>) -> io::Result<()>), OpenError> {
    Ok((len, |_: &Fresh<'_>| Ok(())))
}

/// Implements `create`, `open` and `open_or_create` for a handle. `$init` is called with the arguments that make one (a
/// name, then those in the list), and gives its length and what fills it; `$of` makes it of its object.
macro_rules! named {
    ($type:ty, $kind:literal, ($($arg:ident : $arg_type:ty),*), $layout:expr, $of:expr) => {
        impl $type {
            fn named(
                opening: crate::object::Opening,
                name: &str,
                $($arg: $arg_type),*
            ) -> Result<Self, crate::error::OpenError> {
                let (len, init) = $layout($($arg),*)?;
                let typed = crate::object::Typed { kind: $kind, len, len_min: len, reserved: len, fingerprint: 0, structure: "" };
                $of(crate::object::Object::named(opening, name, &typed, init)?)
            }

            /// Makes one with a name, which other processes of this user can [`open`](Self::open). The name goes with
            /// the last of those who have it, also if they are killed.
            ///
            /// # Errors
            /// [`OpenError::AlreadyExists`](crate::OpenError::AlreadyExists) if somebody has one of that name, and
            /// what else [`OpenError`](crate::OpenError) says.
            pub fn create(name: &str, $($arg: $arg_type),*) -> Result<Self, crate::error::OpenError> {
                <$type>::named(crate::object::Opening::Create, name, $($arg),*)
            }

            /// Opens the one of that name, or makes it. Of several processes that do so at once, all get the same.
            ///
            /// # Errors
            /// As of [`create`](Self::create) and [`open`](Self::open).
            pub fn open_or_create(name: &str, $($arg: $arg_type),*) -> Result<Self, crate::error::OpenError> {
                <$type>::named(crate::object::Opening::OpenOrCreate, name, $($arg),*)
            }

            /// Takes a name away on purpose: who has the object keeps it, and the name is free for another at once.
            ///
            /// # Errors
            /// [`OpenError::NotFound`](crate::OpenError::NotFound) if nobody has one of that name, and what else
            /// [`OpenError`](crate::OpenError) says.
            pub fn remove(name: &str) -> Result<(), crate::error::OpenError> {
                crate::named::remove($kind, name)
            }

            /// Opens the one of that name.
            ///
            /// # Errors
            /// [`OpenError::NotFound`](crate::OpenError::NotFound) if nobody has one of that name,
            /// [`OpenError::Mismatch`](crate::OpenError::Mismatch), and what else [`OpenError`](crate::OpenError)
            /// says.
            pub fn open(name: &str) -> Result<Self, crate::error::OpenError> {
                let typed = crate::object::Typed { kind: $kind, len: 64, len_min: 64, reserved: 64, fingerprint: 0, structure: "" };
                $of(crate::object::Object::named(crate::object::Opening::Open, name, &typed, |_| Ok(()))?)
            }
        }
    };
}

pub(crate) use {named, travels};
