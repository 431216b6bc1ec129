//! What several files of these tests use.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_core::handle::{self, Kind};
use ipc_core::{Codec, DecodeError, handle_kind};
use ipc_pipe::{Sender, pipe};
use ipc_process::{JoinError, NeverStarted, Process, WorkerFn};
use ipc_shm::Array;
use ipc_sync::object::Object;
use ipc_testkit::PATIENCE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time after which somebody who waits has a good chance to be asleep. No test needs it to be true.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

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
    // It may have been killed before it came to its function.
    let is_killed = matches!(
        joined,
        Err(JoinError::Killed { signal: 9, .. } | JoinError::NeverStarted(NeverStarted::Killed(9)))
    );
    assert!(is_killed, "{joined:?}");
}

/// Stays as it is until it is killed.
pub(crate) fn park() -> ! {
    loop {
        std::thread::park();
    }
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

/// What workers of a soak tell, and are told: a worker is to end when the first one is not zero.
pub(crate) type Scratch = Array<u64>;

/// Keeps `count` workers going for that time, kills one of them again and again at some random time, and then has them
/// end. A worker that panics fails the test. `between` is called after each death.
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
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let spawn = |numbers: &mut Numbers| {
        Process::spawn(worker, (handle.clone(), scratch.clone(), numbers.next())).unwrap()
    };
    let mut workers: Vec<_> = (0..count).map(|_| spawn(&mut numbers)).collect();
    let start = Instant::now();
    let mut deaths = 0;
    while start.elapsed() < time {
        std::thread::sleep(Duration::from_micros(500 + numbers.below(12_000)));
        let victim = workers.swap_remove(numbers.below(count as u64) as usize);
        kill(victim);
        deaths += 1;
        between(&scratch);
        workers.push(spawn(&mut numbers));
    }
    scratch.set(0, 1).unwrap();
    for mut worker in workers {
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

/// Set in the process that [`private`] starts, to the name of the test.
const PRIVATE: &str = "IPC_SHM_TEST_PRIVATE";

/// Runs the body of a test in a process of its own, with a directory of names that is its own too: it and its workers
/// find no object of anybody else's. As `ipc_testkit::alone`.
#[track_caller]
pub(crate) fn private(test: &str, body: impl FnOnce(&Path)) {
    if std::env::var_os(PRIVATE).is_some_and(|name| name == test) {
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
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(PRIVATE, test)
        .env("IPC_RUNTIME_DIR", &directory.0)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test} ended with {}:\n{text}", output.status);
    assert!(text.contains("1 passed"), "there is no test of the name {test}:\n{text}");
    println!("{text}");
}
