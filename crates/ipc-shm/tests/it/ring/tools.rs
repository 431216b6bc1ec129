//! What several files of these tests use.

use ipc_core::handle::{self, Kind};
use ipc_core::{Codec, DecodeError, handle_kind};
use ipc_pipe::{Sender, pipe};
use ipc_process::{JoinError, NeverStarted, Process, WorkerFn};
use ipc_shm::ring::{RingReader, RingWriter};
use ipc_sync::object::Object;
use ipc_testkit::PATIENCE;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt::Debug;
use std::time::Duration;

/// A time after which somebody who waits has a good chance to be asleep. No test needs it to be true.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

/// The bytes of frame `n`, of that length: each tells where it is, and in which frame.
pub(crate) fn payload(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (n.wrapping_mul(31) ^ i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

#[track_caller]
pub(crate) fn expect(reader: &mut RingReader, n: usize, len: usize) {
    let mut frame = Vec::new();
    assert_eq!(reader.read_timeout(&mut frame, PATIENCE).unwrap(), n as u32);
    assert!(frame == payload(n, len), "frame {n} of {len} bytes is not what was written");
}

pub(crate) fn put(writer: &mut RingWriter, n: usize, len: usize) {
    writer.write_timeout(n as u32, &payload(n, len), PATIENCE).unwrap();
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

/// Starts a process with an end, and waits until it says that it is as far as the test wants it.
#[track_caller]
pub(crate) fn started<T, F>(function: F, end: T) -> Process<F::Out>
where
    T: Serialize + DeserializeOwned,
    F: WorkerFn<(T, Sender<u32>)>,
    F::Out: Serialize + DeserializeOwned,
{
    let (tx, mut rx) = pipe().unwrap();
    let process = Process::spawn(function, (end, tx)).unwrap();
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

/// Where the words are.
pub(crate) const CAPACITY: usize = 16;
pub(crate) const TAIL: usize = 128;
pub(crate) const HEAD: usize = 256;
pub(crate) const READER_BELL: usize = 384;
pub(crate) const WRITER_BELL: usize = 512;
pub(crate) const DATA: usize = 4096;

const WRITER: Kind = handle_kind!("shm.ring-writer");

/// The memory that a ring is.
#[derive(Debug, Clone)]
pub(crate) struct Raw(pub(crate) Object);

impl Raw {
    pub(crate) fn of(writer: &RingWriter) -> Self {
        taken_for(writer).unwrap()
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.0.read(at, &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    pub(crate) fn put(&self, at: usize, value: u64) {
        self.0.write(at, &value.to_ne_bytes()).unwrap();
    }
}

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(WRITER, 0, Vec::new(), serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Raw(Object::deserialize(WRITER, 64, deserializer)?.0))
    }
}

/// A message with that value that is never sent, taken for one with a value of another type.
pub(crate) fn taken_for<A: Serialize, B: DeserializeOwned>(value: &A) -> Result<B, DecodeError> {
    let mut bytes = Vec::new();
    let ((), handles) = handle::outgoing(|| Codec::default().encode(value, &mut bytes)).unwrap();
    let copies: Vec<_> = handles.descriptors().iter().map(|fd| fd.try_clone().unwrap()).collect();
    handle::incoming(copies, || Codec::default().decode(&bytes))
}

/// The end, sent and received in this process.
pub(crate) fn echo<T: Serialize + DeserializeOwned>(end: &T) -> T {
    let mut bytes = Vec::new();
    let ((), handles) = handle::outgoing(|| Codec::default().encode(end, &mut bytes)).unwrap();
    let copies: Vec<_> = handles.descriptors().iter().map(|fd| fd.try_clone().unwrap()).collect();
    handles.commit();
    handle::incoming(copies, || Codec::default().decode(&bytes)).unwrap()
}
