//! Objects with names, one after the other.

use std::fmt::Debug;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ipc_core::{Classify, ErrorKind};
use ipc_os::ofd::{self, Mode};
use ipc_pipe::{Duplex, Receiver, Sender, duplex, pipe};
use ipc_process::Process;
use ipc_shm::{Array, Mutex, RwLock, Value};
use ipc_sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, OpenError, ReentrantLock, Semaphore};
use ipc_testkit::messages::echo;
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::tools::*;

/// What lies under the directory of names.
fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What all kinds have: making, opening, and either.
struct Kind<T> {
    kind: &'static str,
    create: fn(&str) -> Result<T, OpenError>,
    open: fn(&str) -> Result<T, OpenError>,
    either: fn(&str) -> Result<T, OpenError>,
}

macro_rules! kind {
    ($type:ty, $kind:literal $(, $arg:expr)*) => {
        Kind::<$type> {
            kind: $kind,
            create: |name| <$type>::create(name $(, $arg)*),
            open: <$type>::open,
            either: |name| <$type>::open_or_create(name $(, $arg)*),
        }
    };
}

impl<T: Clone + Serialize + DeserializeOwned + 'static> Kind<T> {
    fn rules(self, directory: &Path) {
        let not_found = |result: Result<T, OpenError>| match result {
            Err(error @ OpenError::NotFound { .. }) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert!(error.to_string().contains(&format!("no {}.thing: create it", self.kind)), "{error}");
            }
            other => panic!("{}: {:?}", self.kind, other.err()),
        };
        let exists = |result: Result<T, OpenError>| match result {
            Err(error @ OpenError::AlreadyExists { .. }) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                assert!(error.to_string().contains(&format!("{}.thing exists", self.kind)), "{error}");
            }
            other => panic!("{}: {:?}", self.kind, other.err()),
        };
        not_found((self.open)("thing"));
        let first = (self.create)("thing").unwrap();
        exists((self.create)("thing"));
        let second = (self.open)("thing").unwrap();
        let third = (self.either)("thing").unwrap();
        drop(first);
        exists((self.create)("thing"));
        drop(second);
        // Held by another process, through a handle that was sent to it.
        let (tx, rx) = pipe().unwrap();
        let keeper = Process::spawn(keep::<T>, (third, rx)).unwrap();
        let again = (self.open)("thing").unwrap();
        exists((self.create)("thing"));
        drop(again);
        exists((self.create)("thing"));
        drop(tx);
        done(keeper);
        not_found((self.open)("thing"));
        assert_eq!(files(directory), [""; 0], "{}", self.kind);
        let made = (self.either)("thing").unwrap();
        assert_eq!(files(directory), [format!("{}.thing", self.kind)]);
        drop(made);
        assert_eq!(files(directory), [""; 0], "{}", self.kind);
        let long = "x".repeat(201);
        for bad in ["", ".x", "..", "a/b", "/a", "ä", "a b", "a\0b", "a\nb", &long] {
            for result in [(self.create)(bad), (self.open)(bad), (self.either)(bad)] {
                let error = result.err().unwrap();
                assert!(matches!(&error, OpenError::BadName { name } if name == bad), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
        }
        for good in ["a", "A-b_c.d", "x..", &long[1..]] {
            drop((self.create)(good).unwrap());
        }
        assert_eq!(files(directory), [""; 0], "{}", self.kind);
    }
}

/// Has the handle until the other end of the pipe is gone.
fn keep<T>(_handle: T, mut until: Receiver<()>) {
    assert!(until.recv().is_err());
}

#[test]
fn rules_of_all_kinds() {
    let _watchdog = watchdog("rules_of_all_kinds");
    private("typed::named::rules_of_all_kinds", |directory| {
        kind!(Lock, "lock").rules(directory);
        kind!(ReentrantLock, "reentrant-lock").rules(directory);
        kind!(ipc_sync::RwLock, "rwlock").rules(directory);
        kind!(Semaphore, "semaphore", 3).rules(directory);
        kind!(BoundedSemaphore, "bounded-semaphore", 3).rules(directory);
        kind!(Event, "event").rules(directory);
        kind!(Condition, "condition").rules(directory);
        kind!(Barrier, "barrier", 2).rules(directory);
        kind!(Value<u8>, "value", 5).rules(directory);
        kind!(Value<[u64; 100]>, "value", [5; 100]).rules(directory);
        kind!(Array<f32>, "array", 10).rules(directory);
        kind!(Mutex<i64>, "mutex", 7).rules(directory);
        kind!(RwLock<[u8; 3]>, "rwlock-of", [7; 3]).rules(directory);
    });
}

#[test]
fn kinds_do_not_share_names() {
    private("typed::named::kinds_do_not_share_names", |directory| {
        let all = (
            Value::create("x", 1_u8).unwrap(),
            Array::<u8>::create("x", 1).unwrap(),
            Mutex::create("x", 1_u8).unwrap(),
            RwLock::create("x", 1_u8).unwrap(),
            ipc_sync::RwLock::create("x").unwrap(),
            Lock::create("x").unwrap(),
        );
        assert_eq!(files(directory).len(), 6);
        drop(all);
        assert_eq!(files(directory).len(), 0);
    });
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Before {
    rate: f64,
}

fn mismatch<T: Debug>(result: Result<T, OpenError>, what: &[&str]) {
    match result {
        Err(error @ OpenError::Mismatch { .. }) => {
            let text = error.to_string();
            assert!(what.iter().all(|what| text.contains(what)), "{text}");
            assert_eq!(error.kind(), ErrorKind::Mismatch);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_types_show_both_structures() {
    private("typed::named::wrong_types_show_both_structures", |_| {
        let _value = Value::create("v", Before { rate: 0.5 }).unwrap();
        mismatch(
            Value::<[u8; 8]>::open("v"),
            &["value.v", "Before, 8 bytes aligned to 8", "[u8; 8], 8 bytes aligned to 1"],
        );
        mismatch(Value::open_or_create("v", 5_u16), &["Before, 8 bytes", "u16, 2 bytes"]);
        let _array = Array::<u16>::create("a", 10).unwrap();
        mismatch(Array::<i16>::open("a"), &["u16, 2 bytes", "i16, 2 bytes"]);
        for len in [1, 9, 11, 500] {
            let asked = format!("{len} were asked for");
            mismatch(Array::<u16>::open_or_create("a", len), &["array.a", "10 elements", &asked]);
        }
        assert_eq!(Array::<u16>::open_or_create("a", 10).unwrap().len(), 10);
        let _mutex = Mutex::create("m", 1_u32).unwrap();
        mismatch(Mutex::<f32>::open("m"), &["u32, 4 bytes", "f32, 4 bytes"]);
        let _lock = RwLock::create("r", [1_u32; 2]).unwrap();
        mismatch(RwLock::<u64>::open("r"), &["[u32; 2], 8 bytes", "u64, 8 bytes"]);
        assert_eq!(Value::<Before>::open("v").unwrap().get().rate, 0.5);
    });
}

fn edit(path: &Path, at: u64, bytes: &[u8]) -> Vec<u8> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut old = vec![0; bytes.len()];
    file.read_exact_at(&mut old, at).unwrap();
    file.write_all_at(bytes, at).unwrap();
    old
}

#[test]
fn files_of_another_make_are_refused() {
    private("typed::named::files_of_another_make_are_refused", |directory| {
        let value = Value::create("v", 0x1122_3344_u32).unwrap();
        let path = directory.join("value.v");
        // Another process has it open and mapped: this one is to read the header anew.
        let refused = |what: &[&str]| {
            mismatch(Value::<u32>::open("v"), what);
            mismatch(Value::<u32>::open_or_create("v", 1), what);
            assert!(matches!(Value::create("v", 1_u32), Err(OpenError::AlreadyExists { .. })));
        };
        let changes: [(u64, &[u8], &[&str]); 8] = [
            (0, b"IPCNAMED", &["not one of an object"]),
            (0, &[0; 8], &["not one of an object"]),
            (8, &2_u32.to_le_bytes(), &["version 2", "version 1"]),
            (8, &u32::MAX.to_le_bytes(), &["version 4294967295"]),
            (16, &[1; 8], &["u32, 4 bytes aligned to 4"]),
            (24, &u64::MAX.to_le_bytes(), &["cut short"]),
            (24, &8_u64.to_le_bytes(), &["it has 8 bytes, and 72 are needed"]),
            (4096, &[0; 12], &["board"]),
        ];
        for (at, bytes, what) in changes {
            let old = edit(&path, at, bytes);
            refused(what);
            edit(&path, at, &old);
            assert_eq!(Value::<u32>::open("v").unwrap().get(), 0x1122_3344);
        }
        // The length of the structure is believed for what there is of it.
        let old = edit(&path, 12, &u32::MAX.to_le_bytes());
        mismatch(Value::<i32>::open("v"), &["u32, 4 bytes"]);
        edit(&path, 12, &old);
        let old = edit(&path, 32, &[0xff; 4064]);
        mismatch(Value::<i32>::open("v"), &["i32, 4 bytes"]);
        edit(&path, 32, &old);

        // Cut short, while a process that does not touch its memory any more keeps the name.
        let len = path.metadata().unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for short in [len - 1, 532_480, 4096 + 12, 4096, 100, 0] {
            file.set_len(short).unwrap();
            mismatch(Value::<u32>::open("v"), &[if short > 4096 + 11 { "cut short" } else { "header" }]);
        }
        file.set_len(len).unwrap();
        drop(value);
        assert_eq!(files(directory), [""; 0]);
    });
}

#[test]
fn a_file_that_is_cut_short_in_use_is_an_error_and_no_signal() {
    private("typed::named::a_file_that_is_cut_short_in_use_is_an_error_and_no_signal", |directory| {
        let cut = |name: &str| {
            let file = std::fs::OpenOptions::new().write(true).open(directory.join(name)).unwrap();
            file.set_len(0).unwrap();
        };
        #[track_caller]
        fn truncated<T, E: Classify + std::fmt::Debug>(result: Result<T, E>) {
            let kind = result.map(drop).map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::Truncated));
        }
        let lock = Lock::create("l").unwrap();
        drop(lock.lock().unwrap());
        cut("lock.l");
        truncated(lock.lock());
        truncated(lock.try_lock());
        truncated(lock.recover());

        let held = Lock::create("h").unwrap();
        let guard = held.lock().unwrap();
        cut("lock.h");
        truncated(held.try_lock());
        drop(guard);

        let reentrant = ReentrantLock::create("r").unwrap();
        cut("reentrant-lock.r");
        truncated(reentrant.lock());

        let rwlock = ipc_sync::RwLock::create("w").unwrap();
        cut("rwlock.w");
        truncated(rwlock.read());
        truncated(rwlock.write());

        let semaphore = Semaphore::create("s", 3).unwrap();
        cut("semaphore.s");
        truncated(semaphore.try_acquire());

        let mutex = Mutex::create("m", 7_u64).unwrap();
        cut("mutex.m");
        truncated(mutex.lock());

        let array = Array::<u64>::create("a", 100).unwrap();
        cut("array.a");
        truncated(array.lock());

        // One that sleeps is told, too, when it looks after the others.
        let event = Event::create("e").unwrap();
        let sleeper = std::thread::spawn({
            let event = event.clone();
            move || event.wait()
        });
        // Most likely it sleeps by then.
        std::thread::sleep(SHORT);
        cut("event.e");
        truncated(sleeper.join().unwrap());
    });
}

/// The byte that every user of a file has locked.
const USERS: std::ops::Range<u64> = 1 << 42..(1 << 42) + 1;

#[test]
fn what_is_not_finished_is_not_opened() {
    private("typed::named::what_is_not_finished_is_not_opened", |directory| {
        drop(Lock::create("makes-the-directory").unwrap());
        let path = directory.join("value.v");
        let unfinished = |len: u64| {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            file.set_len(len).unwrap();
            file
        };
        for len in [0, 10, 4096, 532_480 + 72] {
            // Somebody uses it, so it is there; but it is none.
            let file = unfinished(len);
            assert!(ofd::try_lock(&file, USERS, Mode::Read).unwrap());
            mismatch(Value::<u32>::open("v"), &["value.v"]);
            mismatch(Value::open_or_create("v", 5_u32), &["value.v"]);
            assert!(matches!(Value::create("v", 5_u32), Err(OpenError::AlreadyExists { .. })));
            // Nobody uses it: it is removed, and another made.
            drop(file);
            assert!(matches!(Value::<u32>::open("v"), Err(OpenError::NotFound { .. })));
            unfinished(len);
            assert_eq!(Value::create("v", 5_u32).unwrap().get(), 5);
            unfinished(len);
            assert_eq!(Value::open_or_create("v", 6_u32).unwrap().get(), 6);
            unfinished(len);
            drop(Lock::create("another").unwrap());
            assert_eq!(files(directory), [""; 0], "swept");
        }
        // What is no file is not touched.
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(Value::<u32>::open("v"), Err(OpenError::WrongOwner { .. })));
        assert!(matches!(Value::create("v", 5_u32), Err(OpenError::WrongOwner { .. })));
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Value::<u32>::open("v").is_err() && Value::create("v", 5_u32).is_err());
        assert_eq!(ipc_sync::reclaim().unwrap(), 0);
    });
}

#[test]
fn the_name_goes_with_the_last_user_wherever_it_is() {
    let _watchdog = watchdog("the_name_goes_with_the_last_user_wherever_it_is");
    private("typed::named::the_name_goes_with_the_last_user_wherever_it_is", |_| {
        let open = |_: ()| Value::<u64>::open("v").map(|value| value.get()).ok();
        let elsewhere = || done(Process::spawn(open, ((),)).unwrap());
        let is_used = || {
            assert!(matches!(Value::create("v", 1_u64), Err(OpenError::AlreadyExists { .. })));
            assert_eq!(elsewhere(), Some(42));
        };
        // In flight, in a message that nobody has read.
        let (mut here, mut there) = duplex::<Value<u64>, u32>().unwrap();
        here.send(&Value::create("v", 42_u64).unwrap()).unwrap();
        is_used();
        // Received: who has it is a user, and the only one.
        let received = there.recv_timeout(PATIENCE).unwrap();
        is_used();
        assert_eq!(received.get(), 42);
        // And on, to another process, which is killed.
        here.send(&received).unwrap();
        drop(received);
        is_used();
        let keeper = Process::spawn(have, (there,)).unwrap();
        assert_eq!(here.recv_timeout(PATIENCE).unwrap(), keeper.id());
        is_used();
        kill(keeper);
        assert_eq!(elsewhere(), None);
        // In flight, in a message that nobody ever reads.
        let (mut here, there) = duplex::<Value<u64>, u32>().unwrap();
        here.send(&Value::create("v", 42_u64).unwrap()).unwrap();
        is_used();
        drop((here, there));
        assert_eq!(elsewhere(), None);
        // Dropped by all, in whatever order.
        let value = Value::create("v", 42_u64).unwrap();
        let clone = echo(&value);
        let opened = Value::<u64>::open("v").unwrap();
        drop(value);
        is_used();
        drop(opened);
        is_used();
        drop(clone);
        assert_eq!(elsewhere(), None);
    });
}

fn have(mut end: Duplex<u32, Value<u64>>) {
    let _value = end.recv().unwrap();
    end.send(&std::process::id()).unwrap();
    park();
}

#[test]
fn a_name_that_is_removed_is_free_at_once() {
    private("typed::named::a_name_that_is_removed_is_free_at_once", |directory| {
        let first = Array::<u32>::create("a", 3).unwrap();
        first.set(0, 1).unwrap();
        assert!(matches!(ipc_sync::remove("array", "b"), Err(OpenError::NotFound { .. })));
        assert!(matches!(ipc_sync::remove("value", "a"), Err(OpenError::NotFound { .. })));
        assert!(matches!(ipc_sync::remove("array", "../a"), Err(OpenError::BadName { .. })));
        ipc_sync::remove("array", "a").unwrap();
        assert_eq!(files(directory), [""; 0]);
        assert!(matches!(ipc_sync::remove("array", "a"), Err(OpenError::NotFound { .. })));
        assert!(matches!(Array::<u32>::open("a"), Err(OpenError::NotFound { .. })));
        let second = Array::<u32>::create("a", 5).unwrap();
        assert_eq!((first.get(0).unwrap(), second.get(0).unwrap()), (1, 0));
        // The first one can still be sent, and goes without taking the name of the second.
        let sum = |array: Array<u32>| array.iter().sum::<u32>();
        assert_eq!(done(Process::spawn(sum, (first.clone(),)).unwrap()), 1);
        drop(first);
        assert_eq!(Array::<u32>::open("a").unwrap().len(), 5);
        drop(second);
        assert_eq!(files(directory), [""; 0]);
    });
}

#[test]
fn handles_of_named_objects_are_sent_to_workers() {
    let _watchdog = watchdog("handles_of_named_objects_are_sent_to_workers");
    private("typed::named::handles_of_named_objects_are_sent_to_workers", |directory| {
        type All = (Value<u64>, Array<u16>, Mutex<[u64; 2]>, RwLock<f64>, Lock, Barrier);
        fn work(all: All) {
            all.5.wait_timeout(PATIENCE).unwrap();
            for _ in 0..500 {
                all.0.fetch_add(1);
                all.1.lock().unwrap().update(2, |n| n + 1).unwrap();
                all.2.lock().unwrap().update(|[a, b]| [a + 1, b + 2]);
                all.3.write().unwrap().update(|n| n + 0.5);
                drop(all.4.lock().unwrap());
            }
            // What was sent and what is opened is the same.
            let opened = Mutex::<[u64; 2]>::open("m").unwrap();
            opened.lock().unwrap().update(|[a, b]| [a, b + 1000]);
        }
        let all: All = (
            Value::create("v", 0).unwrap(),
            Array::create("a", 3).unwrap(),
            Mutex::create("m", [0, 0]).unwrap(),
            RwLock::create("r", 0.0).unwrap(),
            Lock::create("l").unwrap(),
            Barrier::create("b", 3).unwrap(),
        );
        let workers: Vec<_> = (0..3).map(|_| Process::spawn(work, (all.clone(),)).unwrap()).collect();
        workers.into_iter().for_each(done);
        assert_eq!((all.0.get(), all.1.to_vec()), (1500, vec![0, 0, 1500]));
        assert_eq!((all.2.lock().unwrap().get(), all.3.read().unwrap().get()), ([1500, 6000], 750.0));
        // A named one whose owner is killed.
        fn hold(mutex: Mutex<[u64; 2]>, mut up: Sender<u32>) {
            let _guard = mutex.lock().unwrap();
            ready(&mut up);
            park();
        }
        kill(started(hold, all.2.clone()));
        let opened = Mutex::<[u64; 2]>::open("m").unwrap();
        assert!(matches!(opened.lock(), Err(ipc_sync::LockError::OwnerDied { .. })));
        opened.recover().unwrap().repaired();
        drop(all.2.lock().unwrap());
        drop((all, opened));
        assert_eq!(files(directory), [""; 0]);
    });
}

#[test]
fn a_hundred_named_locks() {
    let _watchdog = watchdog("a_hundred_named_locks");
    private("typed::named::a_hundred_named_locks", |directory| {
        let share = |locks: Vec<Lock>| locks.iter().filter(|lock| lock.lock().is_ok()).count();
        done(Process::spawn(share, (Vec::new(),)).unwrap());
        let before = ipc_testkit::open_descriptors();
        let locks: Vec<_> = (0..100).map(|n| Lock::create(&format!("lock-{n}")).unwrap()).collect();
        let made = ipc_testkit::open_descriptors();
        locks.iter().for_each(|lock| drop(lock.lock().unwrap()));
        let used = ipc_testkit::open_descriptors();
        let paths: Vec<PathBuf> = files(directory).iter().map(|name| directory.join(name)).collect();
        assert_eq!(paths.len(), 100);
        let blocks: u64 = paths.iter().map(|path| path.metadata().unwrap().blocks()).sum();
        println!(
            "a named lock: {} descriptors, {} once used, {} bytes",
            (made - before) as f64 / 100.0,
            (used - before) as f64 / 100.0,
            blocks * 512 / 100
        );
        assert_eq!(done(Process::spawn(share, (locks.clone(),)).unwrap()), 100);
        drop(locks);
        assert_eq!(ipc_testkit::open_descriptors(), before);
        eventually("all are gone", || files(directory).is_empty());
    });
}
