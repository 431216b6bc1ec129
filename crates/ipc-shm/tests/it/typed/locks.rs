//! Plain data behind a lock: for one at a time, and for many readers or one writer.

use std::time::Duration;

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_shm::{Mutex, RwLock};
use ipc_sync::LockError;
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::{echo, taken_for};
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::tools::*;

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Account {
    balance: i64,
    entries: [i32; 5],
    count: u32,
}

const EMPTY: Account = Account { balance: 0, entries: [0; 5], count: 0 };

impl Account {
    fn book(mut self, amount: i32) -> Self {
        self.entries[self.count as usize % 5] += amount;
        self.balance += i64::from(amount);
        self.count += 1;
        self
    }

    fn is_right(&self) -> bool {
        self.balance == self.entries.iter().map(|n| i64::from(*n)).sum::<i64>()
    }
}

#[test]
fn a_mutex_counts_exactly() {
    let _watchdog = watchdog("a_mutex_counts_exactly");
    fn book(mutex: Mutex<Account>, byte: Mutex<u8>) {
        for _ in 0..2000 {
            let before = mutex.lock().unwrap().update(|account| account.book(3));
            assert!(before.is_right());
            byte.lock().unwrap().update(|n| n.wrapping_add(1));
        }
    }
    let (mutex, byte) = (Mutex::new(EMPTY).unwrap(), Mutex::new(0_u8).unwrap());
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(book, (mutex.clone(), byte.clone())).unwrap()).collect();
    workers.into_iter().for_each(done);
    let guard = mutex.lock().unwrap();
    assert_eq!(guard.get(), Account { balance: 18_000, entries: [3600; 5], count: 6000 });
    assert!(format!("{guard:?}").contains("balance: 18000"));
    assert_eq!(byte.lock().unwrap().get(), 6000_u32 as u8);
    assert!(format!("{mutex:?}").starts_with("Mutex"));
}

#[test]
fn a_mutex_whose_owner_dies() {
    let _watchdog = watchdog("a_mutex_whose_owner_dies");
    fn half(mutex: Mutex<Account>, mut up: Sender<u32>) {
        let guard = mutex.lock().unwrap();
        guard.set(Account { balance: 77, ..EMPTY });
        ready(&mut up);
        park();
    }
    let mutex = Mutex::new(EMPTY).unwrap();
    let owner = started(half, mutex.clone());
    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(mutex.lock_timeout(SHORT), Err(LockError::Timeout)));
    let waiter = {
        let mutex = mutex.clone();
        std::thread::spawn(move || mutex.lock().map(drop))
    };
    let pid = owner.id();
    kill(owner);
    assert!(
        matches!(waiter.join().unwrap(), Err(LockError::OwnerDied { owner }) if owner.pid() == Some(pid))
    );
    drop(mutex.recover().unwrap());
    assert!(matches!(mutex.try_lock(), Err(LockError::OwnerDied { .. })));
    let guard = mutex.recover().unwrap();
    assert_eq!((guard.died().unwrap().pid(), guard.get().balance), (Some(pid), 77));
    guard.set(EMPTY);
    guard.repaired();
    assert!(guard.died().is_none());
    drop(guard);
    assert_eq!(mutex.lock().unwrap().get(), EMPTY);
    kill(started(half, mutex.clone()));
    mutex.recover().unwrap().give_up();
    assert!(matches!(mutex.lock(), Err(LockError::GivenUp { .. })));
    assert!(mutex.reset() && !mutex.reset());
    assert_eq!(mutex.lock_timeout(PATIENCE).unwrap().get().balance, 77);
}

#[test]
fn a_mutex_that_many_die_with() {
    let _watchdog = watchdog("a_mutex_that_many_die_with");
    fn book(mutex: Mutex<Account>, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed | 1);
        while goes_on(&scratch) {
            let guard = match mutex.lock() {
                Err(LockError::OwnerDied { .. }) => {
                    let guard = mutex.recover().unwrap();
                    let account = guard.get();
                    if guard.died().is_some() && !account.is_right() {
                        scratch.lock().unwrap().update(1, |n| n + 1).unwrap();
                        let balance = account.entries.iter().map(|n| i64::from(*n)).sum();
                        guard.set(Account { balance, ..account });
                    }
                    guard.repaired();
                    guard
                }
                other => other.unwrap(),
            };
            let account = guard.get();
            assert!(account.is_right(), "{account:?}");
            let amount = numbers.below(100) as i32;
            let booked = account.book(amount);
            // In two parts, so that there is something to repair.
            guard.set(Account { balance: booked.balance, ..account });
            std::hint::black_box(&guard);
            guard.set(booked);
        }
    }
    let mutex = Mutex::new(EMPTY).unwrap();
    let scratch = soak(Duration::from_millis(500), 3, &mutex, book, |_| {});
    let guard = mutex.recover().unwrap();
    assert!(guard.died().is_some() || guard.get().is_right());
    assert!(guard.get().count > 100);
    guard.repaired();
    eprintln!("{} half done", scratch.get(1).unwrap());
}

#[test]
fn readers_together_and_a_writer_alone() {
    let _watchdog = watchdog("readers_together_and_a_writer_alone");
    fn read(lock: RwLock<Account>, mut up: Sender<u32>) {
        let guard = lock.read().unwrap();
        assert_eq!(guard.get(), EMPTY.book(5));
        ready(&mut up);
        park();
    }
    let lock = RwLock::new(EMPTY).unwrap();
    assert_eq!(lock.write().unwrap().update(|account| account.book(5)), EMPTY);
    let mut readers: Vec<_> = (0..3).map(|_| started(read, lock.clone())).collect();
    // Together also with this one.
    drop(lock.try_read().unwrap());
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.write_timeout(SHORT), Err(LockError::Timeout)));
    readers.drain(1..).for_each(kill);
    assert!(matches!(lock.write_timeout(SHORT), Err(LockError::Timeout)));
    // Readers that die just disappear.
    readers.drain(..).for_each(kill);
    let guard = lock.write_timeout(PATIENCE).unwrap();
    assert!(guard.died().is_none());
    assert!(matches!(lock.try_read(), Err(LockError::Deadlock)));
    let outside = |lock: RwLock<Account>| {
        matches!(lock.try_read(), Err(LockError::WouldBlock))
            && matches!(lock.read_timeout(SHORT), Err(LockError::Timeout))
            && matches!(lock.try_write(), Err(LockError::WouldBlock))
    };
    assert!(done(Process::spawn(outside, (lock.clone(),)).unwrap()));
    guard.set(EMPTY);
    assert!(format!("{guard:?}").contains("balance: 0"));
    drop(guard);
    assert_eq!(lock.read_timeout(PATIENCE).unwrap().get(), EMPTY);
    assert!(format!("{:?}", lock.read().unwrap()).contains("balance: 0"));
    assert!(format!("{lock:?}").starts_with("RwLock"));
}

#[test]
fn a_writer_that_dies_is_told_and_one_that_waits_is_not() {
    let _watchdog = watchdog("a_writer_that_dies_is_told_and_one_that_waits_is_not");
    fn write(lock: RwLock<Account>, mut up: Sender<u32>) {
        let guard = lock.write().unwrap();
        guard.set(Account { balance: 9, ..EMPTY });
        ready(&mut up);
        park();
    }
    fn want(lock: RwLock<Account>, mut up: Sender<u32>) {
        ready(&mut up);
        drop(lock.write());
        park();
    }
    let lock = RwLock::new(EMPTY).unwrap();
    let reading = lock.read().unwrap();
    let waits = started(want, lock.clone());
    let keeps_out = |lock: RwLock<Account>| matches!(lock.try_read(), Err(LockError::WouldBlock));
    eventually("the writer waits, and keeps others out", || {
        done(Process::spawn(keeps_out, (lock.clone(),)).unwrap())
    });
    kill(waits);
    drop(reading);
    assert_eq!(lock.read_timeout(PATIENCE).unwrap().get(), EMPTY);
    drop(lock.write().unwrap());

    let writer = started(write, lock.clone());
    let pid = writer.id();
    kill(writer);
    for result in [lock.read(), lock.try_read(), lock.read_timeout(PATIENCE)] {
        assert!(matches!(result, Err(LockError::OwnerDied { owner }) if owner.pid() == Some(pid)));
    }
    assert!(matches!(lock.write(), Err(LockError::OwnerDied { .. })));
    drop(lock.recover().unwrap());
    assert!(matches!(lock.read(), Err(LockError::OwnerDied { .. })), "left unrepaired");
    let guard = lock.recover().unwrap();
    assert_eq!((guard.died().unwrap().pid(), guard.get().balance), (Some(pid), 9));
    guard.set(EMPTY);
    guard.repaired();
    drop(guard);
    assert_eq!(lock.read().unwrap().get(), EMPTY);

    kill(started(write, lock.clone()));
    lock.recover().unwrap().give_up();
    assert!(matches!(lock.read(), Err(LockError::GivenUp { .. })));
    assert!(matches!(lock.recover(), Err(LockError::GivenUp { .. })));
    assert!(lock.reset() && !lock.reset());
    assert_eq!(lock.read().unwrap().get().balance, 9);
}

#[test]
fn readers_see_what_a_writer_has_finished() {
    let _watchdog = watchdog("readers_see_what_a_writer_has_finished");
    fn work(lock: RwLock<Account>, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed | 1);
        while goes_on(&scratch) {
            if numbers.below(3) > 0 {
                match lock.read() {
                    Ok(guard) => assert!(guard.get().is_right()),
                    Err(LockError::OwnerDied { .. }) => {
                        let guard = lock.recover().unwrap();
                        if guard.died().is_some() {
                            guard.set(EMPTY);
                            guard.repaired();
                        }
                    }
                    Err(other) => panic!("{other}"),
                }
            } else if let Ok(guard) = lock.write() {
                let account = guard.get();
                assert!(account.is_right());
                guard.set(Account { balance: i64::MIN, ..account });
                std::thread::yield_now();
                guard.set(account.book(numbers.below(50) as i32));
            }
        }
    }
    let lock = RwLock::new(EMPTY).unwrap();
    soak(Duration::from_millis(500), 4, &lock, work, |_| {});
    let guard = lock.recover().unwrap();
    assert!(guard.died().is_some() || guard.get().is_right());
    guard.repaired();
}

#[test]
fn handles_are_of_their_type() {
    let mutex = Mutex::new(5_u32).unwrap();
    assert!(taken_for::<_, Mutex<f32>>(&mutex).unwrap_err().to_string().contains("u32, 4 bytes"));
    assert!(taken_for::<_, RwLock<u32>>(&mutex).is_err());
    assert!(taken_for::<_, ipc_sync::Lock>(&mutex).is_err());
    assert_eq!(echo(&mutex).lock().unwrap().get(), 5);
    let lock = RwLock::new(6_u64).unwrap();
    assert!(taken_for::<_, RwLock<i64>>(&lock).unwrap_err().to_string().contains("i64, 8 bytes"));
    assert!(taken_for::<_, ipc_sync::RwLock>(&lock).is_err());
    assert_eq!(echo(&lock).read().unwrap().get(), 6);
}
