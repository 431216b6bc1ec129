//! What several files of these tests use.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_core::handle::{self, Kind};
use ipc_core::{Codec, DecodeError, handle_kind};
use ipc_pipe::{Receiver, Sender, pipe};
use ipc_process::{JoinError, NeverStarted, PidFd, Process, WorkerFn};
use ipc_sync::object::Object;
use ipc_testkit::PATIENCE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time after which somebody who waits has a good chance to be asleep. No test needs it to be true.
pub(crate) const SHORT: Duration = Duration::from_millis(30);

/// Runs a test in a process of its own, which has one thread: for forks, for waits that nobody could end, for
/// descriptors.
#[track_caller]
pub(crate) fn alone<F: WorkerFn<(), Out = ()>>(test: F) {
    done(Process::spawn(test, ()).unwrap());
}

/// The process has returned.
#[track_caller]
pub(crate) fn done<R: Serialize + DeserializeOwned>(mut process: Process<R>) -> R {
    match process.join_timeout(PATIENCE) {
        Ok(result) => result,
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// Kills the process, and waits until it has ended.
#[track_caller]
pub(crate) fn kill<R: Serialize + DeserializeOwned + Debug>(process: Process<R>) {
    process.kill().unwrap();
    let joined = process.join();
    // It may not even have begun.
    let killed = |error: &JoinError| {
        matches!(
            error,
            JoinError::Killed { signal: 9, .. } | JoinError::NeverStarted(NeverStarted::Killed(9))
        )
    };
    assert!(joined.as_ref().is_err_and(killed), "{joined:?}");
}

/// Ends this process with SIGKILL.
pub(crate) fn die() {
    PidFd::of_self().unwrap().signal(9).unwrap();
    unreachable!("SIGKILL is delivered before the call returns")
}

/// Stays as it is until it is killed.
pub(crate) fn park() {
    loop {
        std::thread::park();
    }
}

/// Stops a process, so that it takes no further step until it is killed or continued.
pub(crate) fn stop<R>(process: &Process<R>) {
    process.sentinel().signal(19).unwrap();
    ipc_testkit::eventually("it has stopped", || ipc_testkit::process_state(process.id()) == Some('T'));
}

/// Lets a stopped process go on.
pub(crate) fn go_on<R>(process: &Process<R>) {
    process.sentinel().signal(18).unwrap();
}

/// Starts a process with a handle, and waits until it says that it is as far as the test wants it.
#[track_caller]
pub(crate) fn started<T, F>(function: F, handle: &T) -> Process<F::Out>
where
    T: Clone + Serialize + DeserializeOwned,
    F: WorkerFn<(T, Sender<u32>)>,
    F::Out: Serialize + DeserializeOwned,
{
    let (tx, mut rx) = pipe().unwrap();
    let process = Process::spawn(function, (handle.clone(), tx)).unwrap();
    match rx.recv_timeout(PATIENCE) {
        Ok(pid) => assert_eq!(pid, process.id()),
        Err(error) => panic!("{error}: {:?}", process.join().err()),
    }
    process
}

/// Says that this process is as far as the test wants it.
pub(crate) fn ready(to: &mut Sender<u32>) {
    to.send(&std::process::id()).unwrap();
}

/// Touches so much memory that the kernel needs some time to take it apart.
pub(crate) fn touch(mib: usize) -> Vec<u8> {
    let mut memory = vec![0; mib << 20];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    memory
}

/// Numbers that look random, the same each time (xorshift, G. Marsaglia 2003).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
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

/// A message with that value, taken for one with a value of another type.
pub(crate) fn taken_for<A: Serialize, B: DeserializeOwned>(value: &A) -> Result<B, DecodeError> {
    let mut bytes = Vec::new();
    let ((), handles) = handle::outgoing(|| Codec::default().encode(value, &mut bytes)).unwrap();
    let copies: Vec<_> = handles.descriptors().iter().map(|fd| fd.try_clone().unwrap()).collect();
    handle::incoming(copies, || Codec::default().decode(&bytes))
}

/// The handle, received anew.
pub(crate) fn echo<T: Serialize + DeserializeOwned>(value: &T) -> T {
    taken_for(value).unwrap()
}

/// For how long processes are killed at random.
pub(crate) const SOAK: Duration = Duration::from_millis(1200);

/// In the scratch memory of a soak: the workers are to end.
pub(crate) const STOP: usize = 63;

/// Keeps `count` workers going, kills one of them again and again at some random time, and then has them end. A worker
/// that panics fails the test. `between` is called after each death.
#[track_caller]
pub(crate) fn soak<T, F>(count: usize, handle: &T, worker: F, mut between: impl FnMut(&Scratch)) -> Scratch
where
    T: Clone + Serialize + DeserializeOwned,
    F: WorkerFn<(T, Scratch, u64), Out = ()>,
{
    let scratch = Scratch::new();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let spawn = |numbers: &mut Numbers| {
        Process::spawn(worker, (handle.clone(), scratch.clone(), numbers.next())).unwrap()
    };
    let mut workers: Vec<_> = (0..count).map(|_| spawn(&mut numbers)).collect();
    let start = Instant::now();
    let mut deaths = 0;
    while start.elapsed() < SOAK {
        std::thread::sleep(Duration::from_micros(500 + numbers.below(12_000)));
        let victim = workers.swap_remove(numbers.below(count as u64) as usize);
        kill(victim);
        deaths += 1;
        between(&scratch);
        workers.push(spawn(&mut numbers));
    }
    scratch.put(STOP, 1);
    for mut worker in workers {
        // A worker may be waiting for one that was killed: `between` is what helps it.
        let until = Instant::now() + PATIENCE;
        loop {
            match worker.join_timeout(Duration::from_millis(20)) {
                Ok(()) => break,
                Err(JoinError::Running) if Instant::now() < until => between(&scratch),
                Err(error) => panic!("{error}: {error:?}"),
            }
        }
    }
    eprintln!("{deaths} deaths");
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
