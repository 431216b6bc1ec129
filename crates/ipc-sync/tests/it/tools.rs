//! What several files of these tests use.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ipc_core::handle::Kind;
use ipc_core::handle_kind;
use ipc_pipe::{Receiver, Sender};
use ipc_process::{Process, WorkerFn};
use ipc_sync::object::Object;
use ipc_sync::{Lock, RwLock};
use ipc_testkit::processes::{self, park, ready};
use ipc_testkit::{PATIENCE, eventually, process_state};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Stops a process, so that it takes no further step until it is killed or continued.
pub(crate) fn stop<R>(process: &Process<R>) {
    process.sentinel().signal(19).unwrap();
    eventually("it has stopped", || process_state(process.id()) == Some('T'));
}

/// Lets a stopped process go on.
pub(crate) fn go_on<R>(process: &Process<R>) {
    process.sentinel().signal(18).unwrap();
}

/// A process that has the lock until it is killed.
pub(crate) fn hold(lock: Lock, mut up: Sender<u32>) {
    let _guard = lock.lock().unwrap();
    ready(&mut up);
    park()
}

/// One that reads until then.
pub(crate) fn read_on(lock: RwLock, mut up: Sender<u32>) {
    let _guard = lock.read().unwrap();
    ready(&mut up);
    park()
}

/// One that writes.
pub(crate) fn write_on(lock: RwLock, mut up: Sender<u32>) {
    let _guard = lock.write().unwrap();
    ready(&mut up);
    park()
}

/// Touches so much memory that the kernel needs some time to take it apart.
pub(crate) fn touch(mib: usize) -> Vec<u8> {
    let mut memory = vec![0; mib << 20];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    memory
}

/// The kinds of objects, and plain memory.
pub(crate) const KINDS: [Kind; 8] = [
    handle_kind!("test.scratch"),
    handle_kind!("sync.lock"),
    handle_kind!("sync.reentrant-lock"),
    handle_kind!("sync.rwlock"),
    handle_kind!("sync.semaphore"),
    handle_kind!("sync.event"),
    handle_kind!("sync.condition"),
    handle_kind!("sync.barrier"),
];

/// An object of the kind with that index, as the memory that it is.
#[derive(Debug, Clone)]
pub(crate) struct Raw<const KIND: usize>(pub(crate) Object);

impl<const KIND: usize> Serialize for Raw<KIND> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(KINDS[KIND], 0, Vec::new(), serializer)
    }
}

impl<'de, const KIND: usize> Deserialize<'de> for Raw<KIND> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Raw(Object::deserialize(KINDS[KIND], 64, deserializer)?.0))
    }
}

/// Memory that processes share: 64-bit numbers.
pub(crate) type Scratch = Raw<0>;

impl Scratch {
    pub(crate) fn new() -> Self {
        Raw(Object::new(512).unwrap())
    }

    pub(crate) fn at(&self, index: usize) -> &std::sync::atomic::AtomicU64 {
        self.0.u64(8 * index).unwrap()
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.at(index).load(Relaxed)
    }

    pub(crate) fn put(&self, index: usize, value: u64) {
        self.at(index).store(value, Relaxed);
    }

    pub(crate) fn add(&self, index: usize) -> u64 {
        self.at(index).fetch_add(1, Relaxed)
    }
}

/// For how long processes are killed at random.
pub(crate) const SOAK: Duration = Duration::from_millis(1200);

/// In the scratch memory of a soak: the workers are to end.
pub(crate) const STOP: usize = 63;

/// [`processes::soak`] for [`SOAK`], with workers that share a handle and some scratch memory.
#[track_caller]
pub(crate) fn soak<T, F>(count: usize, handle: &T, worker: F, mut between: impl FnMut(&Scratch)) -> Scratch
where
    T: Clone + Serialize + DeserializeOwned,
    F: WorkerFn<(T, Scratch, u64), Out = ()>,
{
    let scratch = Scratch::new();
    let start = |seed| Process::spawn(worker, (handle.clone(), scratch.clone(), seed)).unwrap();
    processes::soak(SOAK, count, start, || between(&scratch), || scratch.put(STOP, 1));
    scratch
}

/// Whether a soak goes on.
pub(crate) fn goes_on(scratch: &Scratch) -> bool {
    scratch.get(STOP) == 0
}

/// Enters a place where only one may be: whoever was there before must be dead.
#[track_caller]
pub(crate) fn enter(scratch: &Scratch, index: usize) {
    let before = scratch.at(index).swap(u64::from(std::process::id()), Relaxed);
    if before != 0 && ipc_testkit::is_running(before as u32) {
        // One who was just killed may still look as if it ran.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!ipc_testkit::is_running(before as u32), "{before} and {} together", std::process::id());
    }
}

/// Leaves it.
#[track_caller]
pub(crate) fn leave(scratch: &Scratch, index: usize) {
    let me = scratch.at(index).swap(0, Relaxed);
    assert_eq!(me, u64::from(std::process::id()), "somebody else was here too");
}

/// Waits for a word.
pub(crate) fn told<T: DeserializeOwned + Serialize>(from: &mut Receiver<T>) -> T {
    from.recv_timeout(PATIENCE).unwrap()
}

/// A descriptor that several bundles can share.
pub(crate) type Fd = Arc<std::os::fd::OwnedFd>;
