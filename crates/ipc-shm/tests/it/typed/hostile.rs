//! Peers that lie: about what they send, and by writing over what they share. Whoever has such an object gets errors
//! or wrong values, and goes on.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_core::handle::{Bundle, Kind};
use ipc_core::handle_kind;
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_shm::{Array, Mutex, Plain, RwLock, Value};
use ipc_sync::LockError;
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::taken_for;
use ipc_testkit::processes::{done, kill, ready, started};
use ipc_testkit::{PATIENCE, alone, eventually, watchdog};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use super::tools::*;

/// A time-out that is over soon.
const SOON: Duration = Duration::from_micros(300);

/// All that can be done to something without waiting for ever.
trait Use {
    fn use_all(&self, numbers: &mut Numbers);
}

fn result<R>(result: Result<R, LockError>) -> Option<R> {
    match result {
        Ok(guard) => Some(guard),
        Err(
            LockError::OwnerDied { .. }
            | LockError::GivenUp { .. }
            | LockError::WouldBlock
            | LockError::Timeout
            | LockError::Deadlock
            | LockError::Abandoned
            | LockError::Io(_),
        ) => None,
        Err(other) => panic!("{other:?}"),
    }
}

impl<T: Plain + PartialEq + std::fmt::Debug> Use for Value<T> {
    fn use_all(&self, numbers: &mut Numbers) {
        let now = self.get();
        let guard = match numbers.below(2) {
            0 => result(self.try_lock()),
            _ => result(self.lock_timeout(SOON)),
        };
        if let Some(guard) = &guard {
            guard.set(guard.get());
            // The lock is this thread's, or was scribbled over meanwhile: neither waits.
            let _either = self.try_lock().map(drop);
        }
        drop(guard);
        if size_of::<T>() <= 8 {
            self.set(now).unwrap();
            let _before = self.swap(now).unwrap();
            let _either = self.compare_exchange(self.get(), now).unwrap();
            if let Some(guard) = result(self.lock_timeout(SOON)) {
                guard.set(now);
            }
        }
        assert!(format!("{self:?}").starts_with("Value("));
    }
}

impl<T: Plain + PartialEq> Use for Array<T> {
    fn use_all(&self, numbers: &mut Numbers) {
        let len = self.len();
        let index = numbers.below(2 * len as u64) as usize;
        assert_eq!(self.get(index).is_ok(), index < len);
        let value = self.get(0).unwrap();
        assert_eq!(self.set(index, value).is_ok(), index < len);
        assert_eq!(self.iter().count(), len);
        let all = self.to_vec();
        self.write(0, &all).unwrap();
        self.read_into(len / 2, &mut [value]).unwrap();
        let guard = match numbers.below(3) {
            0 => result(self.try_lock()),
            1 => result(self.lock_timeout(SOON)),
            _ => result(self.recover_timeout(SOON)),
        };
        if let Some(guard) = guard {
            guard.update_all(|_, old| old);
            let _died = guard.died();
            match numbers.below(4) {
                0 => guard.repaired(),
                1 => return guard.give_up(),
                _ => {}
            }
        }
        let _was_given_up = self.reset();
    }
}

impl<T: Plain> Use for Mutex<T> {
    fn use_all(&self, numbers: &mut Numbers) {
        let guard = match numbers.below(3) {
            0 => result(self.try_lock()),
            1 => result(self.lock_timeout(SOON)),
            _ => result(self.recover_timeout(SOON)),
        };
        if let Some(guard) = guard {
            guard.update(|old| old);
            let _died = guard.died();
            match numbers.below(4) {
                0 => guard.repaired(),
                1 => return guard.give_up(),
                _ => {}
            }
        }
        let _was_given_up = self.reset();
        assert!(format!("{self:?}").starts_with("Mutex"));
    }
}

impl<T: Plain> Use for RwLock<T> {
    fn use_all(&self, numbers: &mut Numbers) {
        if let Some(guard) = match numbers.below(2) {
            0 => result(self.try_read()),
            _ => result(self.read_timeout(SOON)),
        } {
            let _value = guard.get();
            // Refused to a reader, unless its place was written over.
            let _either = result(self.try_write());
        }
        let guard = match numbers.below(2) {
            0 => result(self.try_write()),
            _ => result(self.write_timeout(SOON)),
        };
        if let Some(guard) = guard {
            guard.update(|old| old);
            let _died = guard.died();
            match numbers.below(4) {
                0 => guard.repaired(),
                1 => return guard.give_up(),
                _ => {}
            }
        }
        let _was_given_up = self.reset();
        assert!(format!("{self:?}").starts_with("RwLock"));
    }
}

/// Writes over an object's memory: anything, zeros, ones, and words that were there before.
fn scribble<const KIND: usize>(raw: &Raw<KIND>, numbers: &mut Numbers, seen: &mut Vec<u64>, count: usize) {
    let words = raw.object.len() as u64 / 8;
    for _ in 0..count {
        // The first words decide the most.
        let at = match numbers.below(4) {
            0 => 0,
            1 => numbers.below(words.min(16)),
            _ => numbers.below(words),
        } as usize
            * 8;
        let old = raw.get(at);
        if at == 0 && old != 0 && seen.len() < 32 {
            seen.push(old);
        }
        let new = match numbers.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => old ^ 1 << numbers.below(64),
            3 => old.wrapping_add(1),
            4 | 5 if !seen.is_empty() => seen[numbers.below(seen.len() as u64) as usize] ^ numbers.below(4),
            _ => numbers.any(),
        };
        raw.put(at, new);
    }
}

/// Thousands of times: random contents, and all operations; received anew with them, too.
fn anything_goes<T, const KIND: usize>(make: impl Fn() -> T, seed: u64, times: u32)
where
    T: Use + Serialize + DeserializeOwned,
{
    let mut numbers = Numbers(seed);
    let mut seen = Vec::new();
    let mut received = 0;
    for turn in 0..times {
        let object = make();
        let raw = Raw::<KIND>::of(&object);
        // So that words that name this thread are seen.
        object.use_all(&mut numbers);
        if turn % 3 == 0 {
            let bytes: Vec<u8> = (0..raw.object.len()).map(|_| numbers.any() as u8).collect();
            raw.object.write(0, &bytes).unwrap();
        } else {
            let count = 1 + numbers.below(20) as usize;
            scribble(&raw, &mut numbers, &mut seen, count);
        }
        object.use_all(&mut numbers);
        if let Ok(again) = taken_for::<_, T>(&object) {
            received += 1;
            again.use_all(&mut numbers);
        }
    }
    eprintln!("{received} of {times} are received with what was written into them");
}

#[test]
fn values_of_anything() {
    let _watchdog = watchdog("values_of_anything");
    anything_goes::<_, VALUE>(|| Value::new(5_u16).unwrap(), 1, 700);
    anything_goes::<_, VALUE>(|| Value::new(-5_i32).unwrap(), 2, 700);
    anything_goes::<_, VALUE>(|| Value::new([1_u64; 40]).unwrap(), 3, 700);
}

#[test]
fn arrays_of_anything() {
    let _watchdog = watchdog("arrays_of_anything");
    anything_goes::<_, ARRAY>(|| Array::from_slice(&[5_u16; 33]).unwrap(), 4, 700);
    anything_goes::<_, ARRAY>(|| Array::from_slice(&[[5_u8; 3]; 7]).unwrap(), 5, 700);
}

#[test]
fn mutexes_of_anything() {
    let _watchdog = watchdog("mutexes_of_anything");
    anything_goes::<_, MUTEX>(|| Mutex::new([5_u8; 20]).unwrap(), 6, 1000);
}

#[test]
fn rwlocks_of_anything() {
    let _watchdog = watchdog("rwlocks_of_anything");
    anything_goes::<_, RWLOCK>(|| RwLock::new([5_u8; 20]).unwrap(), 7, 700);
}

fn scribble_on<const KIND: usize>(raw: Raw<KIND>, stop: Scratch, seed: u64) {
    let (mut numbers, mut seen) = (Numbers(seed), Vec::new());
    while goes_on(&stop) {
        for _ in 0..50 {
            scribble(&raw, &mut numbers, &mut seen, 20);
        }
        std::thread::sleep(Duration::from_micros(numbers.below(200)));
    }
}

/// One process writes over all of an object while another uses it.
fn written_over<T: Use + Serialize, const KIND: usize>(object: &T) {
    let stop = Array::new(1).unwrap();
    let raw = Raw::<KIND>::of(object);
    let scribbler = Process::spawn(scribble_on::<KIND>, (raw, stop.clone(), 0x1234_5678_9abc)).unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    let (mut uses, mut slowest) = (0, Duration::ZERO);
    while start.elapsed() < Duration::from_millis(400) {
        let before = Instant::now();
        object.use_all(&mut numbers);
        slowest = slowest.max(before.elapsed());
        uses += 1;
    }
    stop.set(0, 1).unwrap();
    done(scribbler);
    eprintln!("{uses} uses, the slowest took {slowest:?}");
}

#[test]
fn a_value_that_is_written_over() {
    let _watchdog = watchdog("a_value_that_is_written_over");
    written_over::<_, VALUE>(&Value::new(5_u16).unwrap());
    written_over::<_, VALUE>(&Value::new(5_u64).unwrap());
    written_over::<_, VALUE>(&Value::new([5_u64; 50]).unwrap());
}

#[test]
fn an_array_that_is_written_over() {
    let _watchdog = watchdog("an_array_that_is_written_over");
    written_over::<_, ARRAY>(&Array::from_slice(&[5_u16; 50]).unwrap());
    written_over::<_, ARRAY>(&Array::from_slice(&[[5_u64; 2]; 50]).unwrap());
}

#[test]
fn a_mutex_that_is_written_over() {
    let _watchdog = watchdog("a_mutex_that_is_written_over");
    written_over::<_, MUTEX>(&Mutex::new([5_u16; 50]).unwrap());
}

#[test]
fn an_rwlock_that_is_written_over() {
    let _watchdog = watchdog("an_rwlock_that_is_written_over");
    written_over::<_, RWLOCK>(&RwLock::new([5_u16; 50]).unwrap());
}

type Large = [u64; 2000];

/// The lock is never free, and the value never at rest: a reader is not held up for ever.
#[test]
fn a_reader_is_not_held_up_by_a_lock_that_is_never_given_back() {
    let _watchdog = watchdog("a_reader_is_not_held_up_by_a_lock_that_is_never_given_back");
    fn turn(raw: Raw<VALUE>, value: Value<Large>, mut up: Sender<u32>) {
        let _guard = value.lock().unwrap();
        ready(&mut up);
        let word = raw.object.u64(64).unwrap();
        loop {
            word.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn both(raw: (Raw<VALUE>, Value<Large>), up: Sender<u32>) {
        turn(raw.0, raw.1, up);
    }
    let value = Value::new([7; 2000]).unwrap();
    let raw = Raw::<VALUE>::of(&value);
    let hostile = started(both, (raw.clone(), value.clone()));
    eventually("it turns", || raw.get(64) > 1000);
    let start = Instant::now();
    // The one copy or the other: no one has ever written that.
    assert!([[7; 2000], [0; 2000]].contains(&value.get()));
    assert!(format!("{value:?}").starts_with("Value("));
    eprintln!("two reads in {:?}", start.elapsed());
    assert!(start.elapsed() < PATIENCE / 2);
    kill(hostile);
    let start = Instant::now();
    assert!([[7; 2000], [0; 2000]].contains(&value.get()));
    assert!(start.elapsed() < PATIENCE / 2);
    value.set([8; 2000]).unwrap();
    assert_eq!(value.get(), [8; 2000]);
}

/// The bytes behind a short value are nobody's: what stands there changes nothing.
#[test]
fn what_is_behind_a_short_value_does_not_count() {
    let value = Value::new([1_u8, 2, 3]).unwrap();
    let raw = Raw::<VALUE>::of(&value);
    raw.put(64, raw.get(64) | 0xdead_beef << 32);
    assert_eq!(value.get(), [1, 2, 3]);
    assert_eq!(value.compare_exchange([1, 2, 4], [0; 3]).unwrap(), Err([1, 2, 3]));
    assert_eq!(value.compare_exchange([1, 2, 3], [4, 5, 6]).unwrap(), Ok([1, 2, 3]));
    assert_eq!(value.get(), [4, 5, 6]);
    let small = Value::new(250_u8).unwrap();
    let raw = Raw::<VALUE>::of(&small);
    raw.put(64, raw.get(64) | !0xff);
    assert_eq!(small.fetch_add(10), 250);
    assert_eq!((small.get(), raw.get(64)), (4, 4));
}

/// A handle that says what it likes.
struct Forged {
    kind: Kind,
    bundle: Bundle,
}

impl Serialize for Forged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bundle.serialize(self.kind, serializer)
    }
}

/// The bundle that stands for a handle.
fn bundle_of<const KIND: usize>(handle: &impl Serialize) -> Bundle {
    struct Opened<const KIND: usize>(Bundle);
    impl<'de, const KIND: usize> serde::Deserialize<'de> for Opened<KIND> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Opened(Bundle::deserialize(KINDS[KIND], false, deserializer)?))
        }
    }
    taken_for::<_, Opened<KIND>>(handle).unwrap().0
}

fn forge<T: Use + Serialize + DeserializeOwned, const KIND: usize>(object: &T) {
    let real = bundle_of::<KIND>(object);
    let (file, board) = (&real.descriptors[0], &real.descriptors[1]);
    let other = |fd: OwnedFd| Arc::new(fd);
    let (pipe, _end) = std::io::pipe().unwrap();
    let null = other(std::fs::File::open("/dev/null").unwrap().into());
    let zero = other(std::fs::OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap().into());
    let directory = other(std::fs::File::open("/").unwrap().into());
    let text = other(std::fs::File::open("/proc/self/status").unwrap().into());
    let pipe = other(pipe.into());
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let socket = other(socket.into());
    let sealed = other(ipc_os::memfd::sealed("sealed", &[0; 1 << 20]).unwrap());
    let short = other(ipc_os::memfd::shared("short", 100).unwrap());
    let board_like = other(ipc_os::memfd::shared("board", 528_384).unwrap());
    let mut numbers = Numbers(42);
    let (mut taken, mut refused) = (0, 0);
    let mut attempt = |bundle: Bundle, must_fail: bool| {
        let forged = Forged { kind: KINDS[KIND], bundle };
        match taken_for::<_, T>(&forged) {
            Ok(object) => {
                assert!(!must_fail, "{:?}", forged.bundle);
                taken += 1;
                object.use_all(&mut numbers);
            }
            Err(_) => refused += 1,
        }
    };
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = real.clone();
        change(&mut bundle);
        bundle
    };
    attempt(real.clone(), false);
    for version in [0, 2, 255] {
        attempt(with(&|bundle| bundle.version = version), true);
    }
    for fingerprint in [0, 1, u64::MAX, real.fingerprint ^ 1] {
        attempt(with(&|bundle| bundle.fingerprint = fingerprint), true);
        attempt(
            with(&|bundle| {
                bundle.fingerprint = fingerprint;
                bundle.metadata = vec![0xff; 100_000];
            }),
            true,
        );
    }
    attempt(with(&|bundle| bundle.metadata.clear()), false);
    let file_len = ipc_os::fd::len(file).unwrap();
    let places =
        [0, 1, 63, 64, 4096, file_len - 64, file_len, file_len + 64, 1 << 40, u64::MAX - 63, u64::MAX];
    for offset in places {
        for length in
            [0, 1, 63, 64, 72, 4096, real.length, file_len, file_len - 64, 1 << 40, 1 << 63, u64::MAX]
        {
            let is_outside = offset.checked_add(length).is_none_or(|end| end > file_len);
            let fails = is_outside || offset % 64 != 0 || length < 64;
            attempt(
                with(&|bundle| {
                    bundle.offset = offset;
                    bundle.length = length;
                }),
                fails,
            );
        }
    }
    let descriptors: Vec<Vec<_>> = vec![
        vec![],
        vec![file],
        vec![board],
        vec![file, file],
        vec![board, file],
        vec![file, board, file],
        vec![&null, board],
        vec![&zero, board],
        vec![&zero],
        vec![&directory],
        vec![&text],
        vec![&pipe],
        vec![&socket],
        vec![&null],
        vec![&pipe, board],
        vec![&sealed, board],
        vec![&short, board],
        vec![file, &null],
        vec![file, &sealed],
        vec![file, &board_like],
        vec![file, &pipe],
    ];
    for descriptors in descriptors {
        attempt(
            with(&|bundle| bundle.descriptors = descriptors.iter().map(|fd| Arc::clone(fd)).collect()),
            true,
        );
    }
    // Another kind, with all the rest right.
    let kind = handle_kind!("sync.lock");
    assert!(taken_for::<_, T>(&Forged { kind, bundle: real.clone() }).is_err());
    eprintln!("{taken} were taken, {refused} refused");
}

#[test]
fn forged_handles() {
    let _watchdog = watchdog("forged_handles");
    // What is taken may be any other object of the process.
    alone("typed::hostile::forged_handles", || {
        forge::<_, VALUE>(&Value::new(5_u8).unwrap());
        forge::<_, VALUE>(&Value::new([5_u64; 33]).unwrap());
        forge::<_, ARRAY>(&Array::<u16>::new(100).unwrap());
        forge::<_, ARRAY>(&Array::<u64>::new(10_000).unwrap());
        forge::<_, MUTEX>(&Mutex::new([5_u64; 5]).unwrap());
        forge::<_, RWLOCK>(&RwLock::new([5_u64; 5]).unwrap());
    });
}

/// Everything of a named object is written over, with its header and its board.
#[test]
fn a_named_object_whose_file_is_written_over() {
    let _watchdog = watchdog("a_named_object_whose_file_is_written_over");
    private("typed::hostile::a_named_object_whose_file_is_written_over", |directory| {
        fn write(path: std::path::PathBuf, stop: Scratch) {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
            let len = file.metadata().unwrap().len();
            let mut numbers = Numbers(99);
            while goes_on(&stop) {
                for _ in 0..100 {
                    let at = match numbers.below(5) {
                        0 => numbers.below(len / 8),
                        // The header; the seats that are taken; the object.
                        1 => numbers.below(32),
                        2 | 3 => 1024 + numbers.below(256),
                        _ => 532_480 / 8 + numbers.below((len - 532_480) / 8),
                    };
                    let mut old = [0; 8];
                    file.read_exact_at(&mut old, 8 * at).unwrap();
                    let new = match numbers.below(4) {
                        0 => 0,
                        1 => u64::from_le_bytes(old) ^ 1 << numbers.below(64),
                        _ => numbers.any(),
                    };
                    file.write_all_at(&new.to_le_bytes(), 8 * at).unwrap();
                }
            }
        }
        fn all<T: Use + Serialize + DeserializeOwned>(
            object: &T,
            open: impl Fn() -> Option<T>,
            path: std::path::PathBuf,
        ) {
            let stop = Array::new(1).unwrap();
            let scribbler = Process::spawn(write, (path, stop.clone())).unwrap();
            let mut numbers = Numbers(7);
            let start = Instant::now();
            let (mut uses, mut opened) = (0, 0);
            while start.elapsed() < Duration::from_millis(300) {
                object.use_all(&mut numbers);
                if let Some(again) = open() {
                    again.use_all(&mut numbers);
                    opened += 1;
                }
                if let Ok(again) = taken_for::<_, T>(object) {
                    again.use_all(&mut numbers);
                }
                uses += 1;
            }
            stop.set(0, 1).unwrap();
            done(scribbler);
            println!("{uses} uses, opened {opened} times");
        }
        let value = Value::create("v", [5_u64; 20]).unwrap();
        all(&value, || Value::open("v").ok(), directory.join("value.v"));
        let array = Array::<u16>::create("a", 100).unwrap();
        all(&array, || Array::open("a").ok(), directory.join("array.a"));
        let mutex = Mutex::create("m", [5_u64; 3]).unwrap();
        all(&mutex, || Mutex::open("m").ok(), directory.join("mutex.m"));
        let lock = RwLock::create("r", [5_u64; 3]).unwrap();
        all(&lock, || RwLock::open("r").ok(), directory.join("rwlock-of.r"));
    });
}
