//! The lock for many readers or one writer.

use std::time::Instant;

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{LockError, RwLock};
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};

use crate::tools::{Scratch, read_on, write_on};

#[test]
fn readers_share_and_a_writer_is_alone() {
    let _watchdog = watchdog("readers_share_and_a_writer_is_alone");
    let lock = RwLock::new().unwrap();
    let readers: Vec<_> = (0..3).map(|_| started(read_on, lock.clone())).collect();
    assert_eq!(lock.readers(), 3);
    let mine = lock.read().unwrap();
    assert!(matches!(lock.try_write(), Err(LockError::Deadlock)), "this thread reads itself");
    drop(mine);
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(lock.write_timeout(SHORT), Err(LockError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    assert!(lock.owner().is_none(), "who gave up is not the writer");
    drop(lock.try_read().unwrap());
    readers.iter().for_each(|reader| reader.kill().unwrap());
    drop(lock.write_timeout(PATIENCE).unwrap());

    let writer = started(write_on, lock.clone());
    assert_eq!(lock.owner().unwrap().pid(), Some(writer.id()));
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(lock.read_timeout(SHORT), Err(LockError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    assert_eq!(lock.readers(), 0, "who gave up does not read");
}

#[test]
fn a_writer_that_waits_keeps_new_readers_out_until_it_gives_up() {
    let _watchdog = watchdog("a_writer_that_waits_keeps_new_readers_out_until_it_gives_up");
    let lock = RwLock::new().unwrap();
    let guard = lock.read().unwrap();
    let writer =
        Process::spawn(|lock: RwLock| lock.write_timeout(10 * SHORT).is_ok(), (lock.clone(),)).unwrap();
    eventually("a writer waits", || lock.owner().is_some());
    // It reads on when the writer has given up, while this thread reads all the time.
    let theirs = lock.clone();
    let reader = std::thread::spawn(move || drop(theirs.read_timeout(PATIENCE).unwrap()));
    reader.join().unwrap();
    assert!(!done(writer));
    drop(guard);
    drop(lock.write().unwrap());
}

#[test]
fn who_sleeps_gets_it_when_it_is_free() {
    let _watchdog = watchdog("rwlock::who_sleeps_gets_it_when_it_is_free");
    let lock = RwLock::new().unwrap();
    let guard = lock.write().unwrap();
    let sleepers: Vec<_> = (0..4)
        .map(|n| {
            let read = |lock: RwLock, mut up: Sender<u32>| {
                ready(&mut up);
                drop(lock.read().unwrap());
            };
            let write = |lock: RwLock, mut up: Sender<u32>| {
                ready(&mut up);
                drop(lock.write().unwrap());
            };
            if n % 2 == 0 { started(read, lock.clone()) } else { started(write, lock.clone()) }
        })
        .collect();
    std::thread::sleep(SHORT);
    drop(guard);
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
}

#[test]
fn what_is_read_is_whole() {
    let _watchdog = watchdog("what_is_read_is_whole");
    fn work(lock: RwLock, scratch: Scratch, n: u64) -> u64 {
        let mut writes = 0;
        for turn in 0..2500 {
            if (turn + n).is_multiple_of(4) {
                let _guard = lock.write().unwrap();
                let next = scratch.get(0) + 1;
                for index in 0..4 {
                    scratch.put(index, next);
                }
                writes += 1;
            } else {
                let _guard = lock.read().unwrap();
                let first = scratch.get(0);
                assert!((1..4).all(|index| scratch.get(index) == first));
            }
        }
        writes
    }
    let (lock, scratch) = (RwLock::new().unwrap(), Scratch::new());
    let workers: Vec<_> =
        (0..3).map(|n| Process::spawn(work, (lock.clone(), scratch.clone(), n)).unwrap()).collect();
    let writes: u64 = workers.into_iter().map(done).sum();
    assert_eq!(scratch.get(3), writes);
}

#[test]
fn a_reader_without_a_place_waits_for_one() {
    let _watchdog = watchdog("a_reader_without_a_place_waits_for_one");
    assert_eq!(RwLock::with_readers(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(RwLock::with_readers(4097).unwrap_err().kind(), ErrorKind::InvalidInput);
    let lock = RwLock::with_readers(2).unwrap();
    let (first, second) = (lock.read().unwrap(), lock.read().unwrap());
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(lock.read_timeout(SHORT), Err(LockError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    let third = started(
        |lock: RwLock, mut up: Sender<u32>| {
            ready(&mut up);
            drop(lock.read().unwrap());
        },
        lock.clone(),
    );
    std::thread::sleep(SHORT);
    drop((first, second));
    done(third);
    drop(lock.write().unwrap());
}

#[test]
fn as_many_read_as_there_are_places() {
    let lock = RwLock::new().unwrap();
    let guards: Vec<_> = (0..56).map(|_| lock.try_read().unwrap()).collect();
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    assert_eq!(lock.readers(), 56);
    drop(guards);
    assert_eq!(lock.readers(), 0);
    drop(lock.try_write().unwrap());
    let large = RwLock::with_readers(4096).unwrap();
    let guards: Vec<_> = (0..100).map(|_| large.try_read().unwrap()).collect();
    drop(guards);
    drop(large.try_write().unwrap());
}

#[test]
fn a_writer_does_not_wait_for_itself() {
    let lock = RwLock::new().unwrap();
    let _guard = lock.write().unwrap();
    assert!(matches!(lock.read(), Err(LockError::Deadlock)));
    assert!(matches!(lock.write(), Err(LockError::Deadlock)));
    assert!(matches!(lock.recover(), Err(LockError::Deadlock)));
    assert!(!lock.reset());
}
