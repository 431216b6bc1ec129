//! What several files of these tests use.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ipc_core::handle::Kind;
use ipc_core::handle_kind;
use ipc_process::{Process, WorkerFn};
use ipc_shm::Array;
use ipc_sync::object::Object;
use ipc_testkit::messages::taken_for;
use ipc_testkit::{is_alone, processes, run_alone};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kinds of typed objects.
pub(crate) const KINDS: [Kind; 4] = [
    handle_kind!("shm.value"),
    handle_kind!("shm.array"),
    handle_kind!("shm.mutex"),
    handle_kind!("shm.rwlock"),
];
pub(crate) const VALUE: usize = 0;
pub(crate) const ARRAY: usize = 1;
pub(crate) const MUTEX: usize = 2;
pub(crate) const RWLOCK: usize = 3;

/// An object of the kind with that index, as the memory that it is, with the fingerprint and structure that it came with.
#[derive(Debug, Clone)]
pub(crate) struct Raw<const KIND: usize> {
    pub(crate) object: Object,
    pub(crate) fingerprint: u64,
    pub(crate) structure: Vec<u8>,
}

impl<const KIND: usize> Raw<KIND> {
    pub(crate) fn of(handle: &impl Serialize) -> Self {
        taken_for(handle).unwrap()
    }

    /// Reads a word of 64 bits.
    pub(crate) fn get(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.object.read(at, &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    /// Writes a word of 64 bits.
    pub(crate) fn put(&self, at: usize, value: u64) {
        self.object.write(at, &value.to_ne_bytes()).unwrap();
    }
}

impl<const KIND: usize> Serialize for Raw<KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(KINDS[KIND], self.fingerprint, self.structure.clone(), serializer)
    }
}

impl<'de, const KIND: usize> Deserialize<'de> for Raw<KIND> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (object, fingerprint, structure) = Object::deserialize(KINDS[KIND], 64, deserializer)?;
        Ok(Raw { object, fingerprint, structure })
    }
}

/// What workers of a soak tell, and are told: a worker is to end when the first one is not zero.
pub(crate) type Scratch = Array<u64>;

/// [`processes::soak`] for that time, with workers that share a handle and some scratch memory.
#[track_caller]
pub(crate) fn soak<T, F>(
    time: Duration,
    count: usize,
    handle: &T,
    worker: F,
    mut between: impl FnMut(&Scratch),
) -> Scratch
where
    T: Clone + Serialize + DeserializeOwned,
    F: WorkerFn<(T, Scratch, u64), Out = ()>,
{
    let scratch = Array::new(64).unwrap();
    let start = |seed| Process::spawn(worker, (handle.clone(), scratch.clone(), seed)).unwrap();
    processes::soak(time, count, start, || between(&scratch), || scratch.set(0, 1).unwrap());
    scratch
}

/// Ends a loop in another thread also when the test panics.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Whether a soak goes on.
pub(crate) fn goes_on(scratch: &Scratch) -> bool {
    scratch.get(0).unwrap() == 0
}

/// Runs the body of a test in a process of its own, with a directory of names that is its own too: it and its workers
/// find no object of anybody else's. As `ipc_testkit::alone`.
#[track_caller]
pub(crate) fn private(test: &str, body: impl FnOnce(&Path)) {
    if is_alone(test) {
        let base = PathBuf::from(std::env::var_os("IPC_RUNTIME_DIR").unwrap());
        let user =
            std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me)).unwrap();
        return body(&base.join(format!("ipc-{user}")));
    }
    struct Directory(PathBuf);
    impl Drop for Directory {
        fn drop(&mut self) {
            let _ignored = std::fs::remove_dir_all(&self.0);
        }
    }
    let name = format!("ipc-test-{}-{}", std::process::id(), test.replace("::", "-"));
    let directory = Directory(Path::new("/dev/shm").join(name));
    std::fs::create_dir_all(&directory.0).unwrap();
    run_alone(test, &[("IPC_RUNTIME_DIR", directory.0.as_os_str())]);
}
