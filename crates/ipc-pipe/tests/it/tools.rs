//! What several files of these tests use.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipc_core::handle::{Bundle, Kind};
use ipc_core::handle_kind;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long a wait is that nothing ends before its time is over.
pub(crate) const SOME_TIME: Duration = Duration::from_millis(150);

/// Any open file as a handle that can be shared: what a crate above would write for a handle of its own.
#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<OwnedFd>);

const SHARED: Kind = handle_kind!("test.shared");

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bundle = Bundle::default();
        bundle.descriptors = vec![Arc::clone(&self.0)];
        bundle.serialize(SHARED, serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bundle = Bundle::deserialize(SHARED, false, deserializer)?;
        let fd = bundle.descriptors.into_iter().next();
        Ok(Shared(fd.ok_or_else(|| serde::de::Error::custom("no descriptor"))?))
    }
}

impl Shared {
    pub(crate) fn null() -> Self {
        Shared(Arc::new(std::fs::File::open("/dev/null").unwrap().into()))
    }
}

/// A value that is encoded as a bool, or refuses, or panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moody {
    Fine,
    Refuses,
    Panics,
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Moody::Fine => serializer.serialize_bool(true),
            Moody::Refuses => Err(serde::ser::Error::custom("not today")),
            Moody::Panics => panic!("Moody panics"),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bool::deserialize(deserializer).map(|_| Moody::Fine)
    }
}
