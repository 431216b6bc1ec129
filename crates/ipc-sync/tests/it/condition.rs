//! Waiting, with a lock let go meanwhile.

use std::time::{Duration, Instant};

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::options::LockOptions;
use ipc_sync::{Condition, Lock, LockError};
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};

use crate::tools::Scratch;

fn wait(changed: Condition, mut up: Sender<u32>) -> bool {
    let guard = changed.lock().lock().unwrap();
    ready(&mut up);
    // Ready, but nobody can notify before this one waits: that takes the lock.
    changed.wait_timeout(guard, PATIENCE).unwrap().1
}

fn waiters(changed: &Condition, count: usize) -> Vec<Process<bool>> {
    let before = changed.waiting();
    let waiters = (0..count).map(|_| started(wait, changed.clone())).collect();
    eventually("they wait", || changed.waiting() == before + count);
    waiters
}

#[test]
fn one_or_some_or_all_are_woken() {
    let _watchdog = watchdog("one_or_some_or_all_are_woken");
    let changed = Condition::new().unwrap();
    let waiters = waiters(&changed, 6);
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify(&guard).unwrap(), 1);
    assert_eq!(changed.waiting(), 5);
    assert_eq!(changed.notify_many(&guard, 2).unwrap(), 2);
    assert_eq!(changed.notify_many(&guard, 0).unwrap(), 0);
    drop(guard);
    let ended = || waiters.iter().filter(|waiter| !waiter.is_alive()).count();
    eventually("three are woken", || ended() == 3);
    std::thread::sleep(SHORT);
    assert_eq!((ended(), changed.waiting()), (3, 3));
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_all(&guard).unwrap(), 3);
    assert_eq!(changed.notify_all(&guard).unwrap(), 0);
    drop(guard);
    assert!(waiters.into_iter().all(done));
}

#[test]
fn the_longest_waiting_is_woken_first() {
    let _watchdog = watchdog("the_longest_waiting_is_woken_first");
    let changed = Condition::new().unwrap();
    let mut waiters: Vec<_> = (0..5).flat_map(|_| waiters(&changed, 1)).collect();
    while !waiters.is_empty() {
        let guard = changed.lock().lock().unwrap();
        assert_eq!(changed.notify(&guard).unwrap(), 1);
        drop(guard);
        assert!(done(waiters.remove(0)));
        assert!(waiters.iter().all(Process::is_alive));
    }
}

#[test]
fn the_lock_is_free_meanwhile_and_held_afterwards() {
    let _watchdog = watchdog("the_lock_is_free_meanwhile_and_held_afterwards");
    let changed = Condition::new().unwrap();
    let guard = changed.lock().lock().unwrap();
    let theirs = changed.clone();
    let notifier = std::thread::spawn(move || {
        let guard = theirs.lock().lock().unwrap();
        assert_eq!(theirs.notify(&guard).unwrap(), 1);
    });
    let (guard, notified) = changed.wait_timeout(guard, PATIENCE).unwrap();
    assert!(notified);
    notifier.join().unwrap();
    let is_free =
        || std::thread::scope(|scope| scope.spawn(|| changed.lock().try_lock().is_ok()).join().unwrap());
    assert!(!is_free());
    let start = Instant::now();
    let (guard, notified) = changed.wait_timeout(guard, SHORT).unwrap();
    assert!(!notified && start.elapsed() >= SHORT);
    assert!(!is_free());
    drop(guard);
    assert!(is_free());
}

/// Items that one process puts in and others take out, and two conditions on one lock.
fn consume(filled: Condition, emptied: Condition, scratch: Scratch) -> u64 {
    let mut taken = 0;
    loop {
        let guard = filled.lock().lock().unwrap();
        let guard = filled.wait_for(guard, || scratch.get(0) > 0 || scratch.get(1) == 1).unwrap();
        if scratch.get(0) == 0 {
            return taken;
        }
        scratch.put(0, scratch.get(0) - 1);
        taken += 1;
        emptied.notify(&guard).unwrap();
    }
}

fn produce_for_two(lock: &Lock) {
    let (filled, emptied) = (Condition::on(lock).unwrap(), Condition::on(lock).unwrap());
    let scratch = Scratch::new();
    let consumers: Vec<_> = (0..2)
        .map(|_| Process::spawn(consume, (filled.clone(), emptied.clone(), scratch.clone())).unwrap())
        .collect();
    for _ in 0..400 {
        let guard = lock.lock().unwrap();
        let (guard, holds) = emptied.wait_for_timeout(guard, PATIENCE, || scratch.get(0) < 3).unwrap();
        assert!(holds);
        scratch.put(0, scratch.get(0) + 1);
        filled.notify(&guard).unwrap();
    }
    let guard = lock.lock().unwrap();
    scratch.put(1, 1);
    filled.notify_all(&guard).unwrap();
    drop(guard);
    assert_eq!(consumers.into_iter().map(done).sum::<u64>(), 400);
}

#[test]
fn several_conditions_share_a_lock() {
    let _watchdog = watchdog("several_conditions_share_a_lock");
    produce_for_two(&Lock::new().unwrap());
    produce_for_two(&LockOptions::default().passes_silently(true).new().unwrap());
}

#[test]
fn a_condition_may_belong_to_another_processs_lock() {
    let _watchdog = watchdog("a_condition_may_belong_to_another_processs_lock");
    // The worker's condition is in memory of its own, and the lock is this process's.
    fn use_it(lock: Lock) {
        // So that both have a different place among those who share the objects.
        let _other = Lock::new().unwrap().lock().map(drop);
        produce_for_two(&lock);
        let changed = Condition::on(&lock).unwrap();
        let waiters = waiters(&changed, 2);
        std::thread::sleep(Duration::from_millis(150));
        assert!(waiters.iter().all(Process::is_alive), "woken for no reason");
        let guard = lock.lock().unwrap();
        assert_eq!(changed.waiting(), 2);
        assert_eq!(changed.notify(&guard).unwrap(), 1);
        assert_eq!(changed.notify(&guard).unwrap(), 1);
        drop(guard);
        assert!(waiters.into_iter().all(done));
    }
    let lock = Lock::new().unwrap();
    let _mine = lock.lock().map(drop);
    done(Process::spawn(use_it, (lock.clone(),)).unwrap());
}

#[test]
fn another_locks_guard_is_refused() {
    let (changed, other) = (Condition::new().unwrap(), Lock::new().unwrap());
    let guard = other.lock().unwrap();
    let error = changed.notify(&guard).unwrap_err();
    assert!(matches!(error, LockError::WrongLock) && error.kind() == ErrorKind::InvalidInput);
    assert!(matches!(changed.notify_all(&guard), Err(LockError::WrongLock)));
    assert!(matches!(changed.wait_timeout(guard, SHORT), Err(LockError::WrongLock)));
    drop(other.try_lock().unwrap());
    let on = Condition::on(&other).unwrap();
    assert!(on.lock().is(&other) && !changed.lock().is(&other));
}

#[test]
fn more_than_there_are_places_wait_too() {
    let _watchdog = watchdog("more_than_there_are_places_wait_too");
    let (changed, scratch) = (Condition::new().unwrap(), Scratch::new());
    let wait = |changed: Condition, scratch: Scratch| {
        std::thread::scope(|scope| {
            for _ in 0..27 {
                scope.spawn(|| {
                    scratch.add(1);
                    let guard = changed.lock().lock().unwrap();
                    drop(changed.wait_for(guard, || scratch.get(0) == 1).unwrap());
                });
            }
        });
    };
    let processes: Vec<_> =
        (0..2).map(|_| Process::spawn(wait, (changed.clone(), scratch.clone())).unwrap()).collect();
    eventually("all have begun", || scratch.get(1) == 54);
    eventually("30 wait", || changed.waiting() == 30);
    let guard = changed.lock().lock().unwrap();
    scratch.put(0, 1);
    // With the lock held, those without a place are none of those who are notified.
    assert_eq!(changed.notify_all(&guard).unwrap(), 30);
    drop(guard);
    processes.into_iter().for_each(|process| done(process));
}

#[test]
fn a_notification_goes_to_those_who_wait_then_and_no_later_one() {
    let _watchdog = watchdog("a_notification_goes_to_those_who_wait_then_and_no_later_one");
    let changed = Condition::new().unwrap();
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_many(&guard, 5).unwrap(), 0);
    let (guard, notified) = changed.wait_timeout(guard, 4 * SHORT).unwrap();
    assert!(!notified);
    // One that gave up is not counted.
    assert_eq!(changed.notify(&guard).unwrap(), 0);
    drop(guard);
    let waiter = waiters(&changed, 1).remove(0);
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_many(&guard, 5).unwrap(), 1);
    drop(guard);
    assert!(done(waiter));
}
