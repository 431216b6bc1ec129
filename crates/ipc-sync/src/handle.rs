//! What all handles have in common: how they travel.

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

pub(crate) use travels;
