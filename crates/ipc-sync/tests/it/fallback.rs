//! Kernels that lack `futex_waitv` (before 5.16), and places where `get_robust_list` is forbidden: all the same, if later.

use std::time::Duration;

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, ReentrantLock, RwLock, Semaphore, WaitError,
};
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::seccomp::{self, FUTEX_WAITV, GET_ROBUST_LIST};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};

use crate::tools::{Scratch, hold, read_on, write_on};

/// Runs all below in a process that has not these calls, and nor have its children.
#[track_caller]
fn without(calls: &[i64]) {
    fn restricted(calls: Vec<i64>) {
        if let Err(error) = seccomp::deny(&calls) {
            return eprintln!("skipped: no filters here: {error}");
        }
        assert_eq!(ipc_os::futex::can_watch_several(), !calls.contains(&FUTEX_WAITV));
        assert_eq!(
            ipc_os::robust::Pending::of_this_thread().is_none(),
            calls.contains(&GET_ROBUST_LIST),
            "the other evidence"
        );
        locks();
        permits();
        events();
        conditions();
        barriers();
    }
    done(Process::spawn(restricted, (calls.to_vec(),)).unwrap());
}

#[test]
fn without_futex_waitv() {
    let _watchdog = watchdog("without_futex_waitv");
    without(&[FUTEX_WAITV]);
}

#[test]
fn without_the_robust_list() {
    let _watchdog = watchdog("without_the_robust_list");
    without(&[GET_ROBUST_LIST]);
}

#[test]
fn without_either() {
    let _watchdog = watchdog("without_either");
    without(&[FUTEX_WAITV, GET_ROBUST_LIST]);
}

fn locks() {
    fn take_turns(lock: Lock, rwlock: RwLock, reentrant: ReentrantLock, scratch: Scratch) {
        for _ in 0..200 {
            let guards = (lock.lock().unwrap(), reentrant.lock().unwrap(), rwlock.write().unwrap());
            scratch.put(0, scratch.get(0) + 1);
            drop(guards);
            drop(rwlock.read().unwrap());
        }
    }
    let (lock, rwlock) = (Lock::new().unwrap(), RwLock::new().unwrap());
    let (reentrant, scratch) = (ReentrantLock::new().unwrap(), Scratch::new());
    let handles = (lock.clone(), rwlock.clone(), reentrant.clone(), scratch.clone());
    let others: Vec<_> = (0..2).map(|_| Process::spawn(take_turns, handles.clone()).unwrap()).collect();
    others.into_iter().for_each(|other| done(other));
    assert_eq!(scratch.get(0), 400);
    assert!(matches!(lock.lock().map(|_guard| lock.lock().map(drop)), Ok(Err(LockError::Deadlock))));

    // Who sleeps is told of the death.
    let owner = started(hold, lock.clone());
    let sleeper = started(
        |lock: Lock, mut up: Sender<u32>| {
            ready(&mut up);
            matches!(lock.lock(), Err(LockError::OwnerDied { .. }))
        },
        lock.clone(),
    );
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(lock.lock_timeout(SHORT), Err(LockError::Timeout)));
    kill(owner);
    assert!(done(sleeper));
    lock.recover_timeout(PATIENCE).unwrap().repaired();
    // Who never waits, too.
    kill(started(hold, lock.clone()));
    eventually("the death is told", || matches!(lock.try_lock(), Err(LockError::OwnerDied { .. })));
    lock.recover_timeout(PATIENCE).unwrap().repaired();

    kill(started(read_on, rwlock.clone()));
    drop(rwlock.write_timeout(PATIENCE).unwrap());
    kill(started(read_on, rwlock.clone()));
    eventually("the dead reader is gone", || rwlock.try_write().is_ok());
    kill(started(write_on, rwlock.clone()));
    assert!(matches!(rwlock.read_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
    rwlock.recover().unwrap().repaired();
    kill(started(write_on, rwlock.clone()));
    eventually("the dead writer is told", || matches!(rwlock.try_read(), Err(LockError::OwnerDied { .. })));

    // A thread that ends with the lock.
    let theirs = lock.clone();
    std::thread::spawn(move || std::mem::forget(theirs.lock().unwrap())).join().unwrap();
    assert!(matches!(lock.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
}

fn permits() {
    let permits = Semaphore::new(2).unwrap();
    let hold = |permits: Semaphore, mut up: Sender<u32>| {
        let _held = (permits.acquire().unwrap(), permits.acquire().unwrap());
        ready(&mut up);
        park();
    };
    let take = |permits: Semaphore, mut up: Sender<u32>| {
        ready(&mut up);
        drop(permits.acquire().unwrap());
    };
    let holder = started(hold, permits.clone());
    let takers: Vec<_> = (0..2).map(|_| started(take, permits.clone())).collect();
    assert!(matches!(permits.acquire_timeout(SHORT), Err(WaitError::Timeout)));
    kill(holder);
    takers.into_iter().for_each(|taker| done(taker));
    let held = (permits.acquire_timeout(PATIENCE).unwrap(), permits.acquire_timeout(PATIENCE).unwrap());
    let taker = started(take, permits.clone());
    std::thread::sleep(SHORT);
    drop(held);
    done(taker);
    assert_eq!(permits.available(), 2);
}

fn events() {
    let event = Event::new().unwrap();
    let wait = |event: Event, mut up: Sender<u32>| {
        ready(&mut up);
        event.wait().unwrap();
    };
    let waiters: Vec<_> = (0..3).map(|_| started(wait, event.clone())).collect();
    std::thread::sleep(SHORT);
    event.set();
    waiters.into_iter().for_each(|waiter| done(waiter));
    let wait_alone = |mut up: Sender<u32>| {
        ready(&mut up);
        matches!(Event::new().unwrap().wait(), Err(WaitError::Abandoned))
    };
    let (tx, _rx) = ipc_pipe::pipe().unwrap();
    assert!(done(Process::spawn(wait_alone, (tx,)).unwrap()));
}

fn conditions() {
    let changed = Condition::new().unwrap();
    let wait = |changed: Condition, mut up: Sender<u32>| {
        let guard = changed.lock().lock().unwrap();
        ready(&mut up);
        match changed.wait(guard) {
            Ok(_guard) => true,
            Err(LockError::OwnerDied { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let waiters: Vec<_> = (0..2).map(|_| started(wait, changed.clone())).collect();
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_all(&guard).unwrap(), 2);
    drop(guard);
    assert!(waiters.into_iter().all(done));
    // Nobody here waits for the lock: those at the condition find out by themselves.
    let waiters: Vec<_> = (0..2).map(|_| started(wait, changed.clone())).collect();
    eventually("they wait", || changed.waiting() == 2);
    kill(started(hold, changed.lock().clone()));
    assert!(!waiters.into_iter().any(done));
    changed.lock().recover_timeout(PATIENCE).unwrap().repaired();
    // The notification of a dead one.
    let first = started(wait, changed.clone());
    eventually("it waits", || changed.waiting() == 1);
    let second = started(wait, changed.clone());
    eventually("both wait", || changed.waiting() == 2);
    crate::tools::stop(&first);
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify(&guard).unwrap(), 1);
    drop(guard);
    kill(first);
    assert!(done(second));
}

fn barriers() {
    let barrier = Barrier::new(3).unwrap();
    let meet = |barrier: Barrier, mut up: Sender<u32>| {
        ready(&mut up);
        barrier.wait().is_ok()
    };
    let others: Vec<_> = (0..2).map(|_| started(meet, barrier.clone())).collect();
    assert!(barrier.wait_timeout(PATIENCE).is_ok());
    assert!(others.into_iter().all(done));
    let mut others: Vec<_> = (0..2).map(|_| started(meet, barrier.clone())).collect();
    eventually("they wait", || barrier.waiting() == 2);
    kill(others.remove(0));
    assert!(!others.into_iter().any(done));
    barrier.reset().unwrap();
    let other = started(meet, barrier.clone());
    assert!(matches!(barrier.wait_timeout(Duration::from_millis(40)), Err(BarrierError::Timeout)));
    assert!(!done(other));
}
