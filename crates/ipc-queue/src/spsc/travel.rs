//! How the ends travel: the structure of the messages, and the end of the ring.

use ipc_core::{Fingerprint, Schema};
use ipc_shm::ring::{RingReader, RingWriter};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::{Receiver, Sender};

#[derive(Serialize)]
struct Going<'a, E> {
    fingerprint: Fingerprint,
    structure: &'a str,
    ring: &'a E,
}

/// The same, as it arrives.
#[derive(Deserialize)]
struct Arrived<E> {
    fingerprint: Fingerprint,
    structure: String,
    ring: E,
}

macro_rules! end {
    ($type:ty, $ring:ty) => {
        impl<T: DeserializeOwned> Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let schema = Schema::of::<T>();
                let going =
                    Going { fingerprint: schema.fingerprint(), structure: schema.text(), ring: &self.ring };
                going.serialize(serializer)
            }
        }

        impl<'de, T: DeserializeOwned> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let Arrived { fingerprint, structure, ring } = Arrived::<$ring>::deserialize(deserializer)?;
                let theirs: String = structure.chars().take(4096).collect();
                Schema::of::<T>().check(fingerprint, &theirs).map_err(D::Error::custom)?;
                Ok(<$type>::over(ring))
            }
        }
    };
}

end!(Sender<T>, RingWriter);
end!(Receiver<T>, RingReader);
