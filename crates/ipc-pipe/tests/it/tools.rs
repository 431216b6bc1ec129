//! What several files of these tests use.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc_core::handle::{Bundle, Kind};
use ipc_core::handle_kind;
use ipc_process::{JoinError, PidFd, Process, WorkerFn};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Runs a test in a process of its own: for what belongs to a whole process (descriptors, signals, the umask), and
/// for ends that must be closed as soon as they are dropped. In a process that starts others, as these tests do from
/// many threads, the kernel's copy of the descriptors for the new one keeps them open until it has begun its program.
#[track_caller]
pub(crate) fn alone<F: WorkerFn<(), Out = ()>>(test: F) {
    if let Err(error) = Process::spawn(test, ()).unwrap().join() {
        panic!("{error}: {error:?}");
    }
}

/// Ends this process with SIGKILL.
pub(crate) fn die() -> ! {
    PidFd::of_self().unwrap().signal(9).unwrap();
    unreachable!("SIGKILL is delivered before the call returns")
}

/// The process has died by SIGKILL.
#[track_caller]
pub(crate) fn assert_killed<R: serde::de::DeserializeOwned + std::fmt::Debug>(process: Process<R>) {
    let joined = process.join();
    assert!(matches!(joined, Err(JoinError::Killed { signal: 9, .. })), "{joined:?}");
}

/// Bytes of which each position tells where it is.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Text of that length.
pub(crate) fn text(len: usize) -> String {
    (0..len).map(|i| char::from(b'a' + (i % 26) as u8)).collect()
}

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
