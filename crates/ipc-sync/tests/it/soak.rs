//! Processes that are killed at random, again and again, while they use one object.

use std::time::Duration;

use ipc_process::Process;
use ipc_sync::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, LockGuard, ReentrantLock, RwLock, Semaphore,
};
use ipc_testkit::data::Numbers;
use ipc_testkit::processes::done;
use ipc_testkit::{PATIENCE, watchdog};

use crate::tools::{Scratch, enter, goes_on, leave, soak};

/// Some time that is over before one has looked at a clock.
fn dawdle(numbers: &mut Numbers) {
    for _ in 0..numbers.below(300) {
        std::hint::spin_loop();
    }
}

/// The lock, repaired if that was needed: two numbers that it protects are to be the same.
fn lock_and_repair<'a>(lock: &'a Lock, scratch: &Scratch) -> LockGuard<'a> {
    match lock.lock_timeout(PATIENCE) {
        Ok(guard) => {
            assert_eq!(scratch.get(1), scratch.get(2), "torn, and not told");
            return guard;
        }
        Err(LockError::OwnerDied { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let guard = lock.recover_timeout(PATIENCE).unwrap();
    if guard.died().is_some() {
        scratch.put(2, scratch.get(1));
    }
    guard.repaired();
    guard
}

#[test]
fn a_lock_is_never_had_by_two_and_torn_data_is_always_told() {
    let _watchdog = watchdog("soak of a lock");
    fn work(lock: Lock, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let guard = lock_and_repair(&lock, &scratch);
            enter(&scratch, 0);
            let next = scratch.add(1) + 1;
            dawdle(&mut numbers);
            scratch.put(2, next);
            leave(&scratch, 0);
            drop(guard);
        }
    }
    let lock = Lock::new().unwrap();
    let scratch = soak(3, &lock, work, |_| ());
    drop(lock_and_repair(&lock, &scratch));
    assert!(scratch.get(1) > 100);
}

#[test]
fn a_reentrant_lock_is_never_had_by_two() {
    let _watchdog = watchdog("soak of a reentrant lock");
    fn work(lock: ReentrantLock, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let outer = lock.lock_timeout(PATIENCE).unwrap();
            assert_eq!(outer.depth(), 1);
            enter(&scratch, 0);
            let inner = lock.try_lock().unwrap();
            assert_eq!(inner.depth(), 2);
            dawdle(&mut numbers);
            drop(outer);
            scratch.add(1);
            leave(&scratch, 0);
            drop(inner);
        }
    }
    let lock = ReentrantLock::new().unwrap();
    let scratch = soak(3, &lock, work, |_| ());
    drop(lock.lock_timeout(PATIENCE).unwrap());
    assert!(scratch.get(1) > 100);
}

#[test]
fn readers_never_see_torn_data_and_a_writer_is_alone() {
    let _watchdog = watchdog("soak of a reader-writer lock");
    fn work(lock: RwLock, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let write = numbers.below(3) == 0;
            let told = if write {
                let written = lock.write_timeout(PATIENCE).map(|guard| {
                    enter(&scratch, 0);
                    let next = scratch.add(1) + 1;
                    dawdle(&mut numbers);
                    scratch.put(2, next);
                    leave(&scratch, 0);
                    drop(guard);
                });
                written.err()
            } else {
                let read = lock.read_timeout(PATIENCE).map(|guard| {
                    let first = scratch.get(1);
                    dawdle(&mut numbers);
                    assert_eq!(first, scratch.get(2), "torn, and not told");
                    assert_eq!(first, scratch.get(1), "written while it was read");
                    drop(guard);
                });
                read.err()
            };
            match told {
                None => {}
                Some(LockError::OwnerDied { .. }) => {
                    let guard = lock.recover().unwrap();
                    enter(&scratch, 0);
                    scratch.put(2, scratch.get(1));
                    leave(&scratch, 0);
                    // Now and then without having repaired it.
                    if numbers.below(4) != 0 {
                        guard.repaired();
                    }
                }
                Some(error) => panic!("{error}"),
            }
        }
    }
    for lock in [RwLock::new().unwrap(), RwLock::with_readers(2).unwrap()] {
        let scratch = soak(4, &lock, work, |_| ());
        let guard = lock.recover().unwrap();
        guard.repaired();
        drop(guard);
        drop(lock.try_read().unwrap());
        assert_eq!(lock.readers(), 0);
        assert!(scratch.get(1) > 50);
    }
}

#[test]
fn permits_are_neither_lost_nor_doubled() {
    let _watchdog = watchdog("soak of a semaphore");
    fn work(permits: Semaphore, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let held = match numbers.below(3) {
                0 => permits.try_acquire().ok(),
                1 => permits.acquire_timeout(Duration::from_millis(1)).ok(),
                _ => Some(permits.acquire_timeout(PATIENCE).unwrap()),
            };
            dawdle(&mut numbers);
            let second = permits.try_acquire();
            assert!(permits.available() <= 3);
            drop(held);
            drop(second);
            scratch.add(1);
        }
    }
    let permits = Semaphore::new(3).unwrap();
    let scratch = soak(3, &permits, work, |_| ());
    assert!(scratch.get(1) > 100);
    let held: Vec<_> = (0..3).map(|_| permits.acquire_timeout(PATIENCE).unwrap()).collect();
    assert!(permits.try_acquire().is_err());
    drop(held);
    assert_eq!(permits.available(), 3);
}

#[test]
fn one_permit_is_never_had_by_two() {
    let _watchdog = watchdog("soak of a semaphore with one permit");
    fn work(permits: Semaphore, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let permit = permits.acquire_timeout(PATIENCE).unwrap();
            enter(&scratch, 0);
            dawdle(&mut numbers);
            scratch.add(1);
            leave(&scratch, 0);
            drop(permit);
        }
    }
    let permits = Semaphore::new(1).unwrap();
    let scratch = soak(3, &permits, work, |_| ());
    assert!(scratch.get(1) > 100);
    drop(permits.acquire_timeout(PATIENCE).unwrap());
    assert_eq!(permits.available(), 1);
}

#[test]
fn an_events_waiters_are_always_woken() {
    let _watchdog = watchdog("soak of an event");
    fn work(event: Event, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            match numbers.below(4) {
                0 => event.set(),
                1 => _ = event.clear(),
                // Somebody sets it all the time.
                _ => event.wait_timeout(PATIENCE / 4).unwrap(),
            }
            scratch.add(1);
        }
    }
    let event = Event::new().unwrap();
    let scratch = soak(4, &event, work, |_| event.set());
    assert!(scratch.get(1) > 100);
}

#[test]
fn a_notification_is_never_lost() {
    let _watchdog = watchdog("soak of a condition");
    const ITEMS: usize = 3;
    /// Puts in and takes out; who finds nothing waits until it is notified of something.
    fn work(changed: Condition, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let mut guard = lock_and_repair(changed.lock(), &scratch);
            if numbers.below(2) == 0 {
                scratch.add(ITEMS);
                changed.notify(&guard).unwrap();
                continue;
            }
            while scratch.get(ITEMS) == 0 && goes_on(&scratch) {
                guard = match changed.wait_timeout(guard, PATIENCE / 4) {
                    Ok((guard, notified)) => {
                        assert!(
                            notified || scratch.get(ITEMS) == 0,
                            "nobody told it that there is something"
                        );
                        guard
                    }
                    Err(LockError::OwnerDied { .. }) => lock_and_repair(changed.lock(), &scratch),
                    Err(error) => panic!("{error}"),
                };
            }
            enter(&scratch, 0);
            scratch.put(ITEMS, scratch.get(ITEMS).saturating_sub(1));
            let next = scratch.add(1) + 1;
            dawdle(&mut numbers);
            scratch.put(2, next);
            leave(&scratch, 0);
            drop(guard);
        }
    }
    let changed = Condition::new().unwrap();
    let put_in = |scratch: &Scratch| {
        let guard = lock_and_repair(changed.lock(), scratch);
        scratch.add(ITEMS);
        changed.notify(&guard).unwrap();
    };
    let scratch = soak(4, &changed, work, put_in);
    assert!(scratch.get(1) > 50);
    assert_eq!(changed.waiting(), 0);
}

#[test]
fn a_barrier_breaks_with_each_death_and_is_revived() {
    let _watchdog = watchdog("soak of a barrier");
    fn work(barrier: Barrier, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed);
        while goes_on(&scratch) {
            let met = barrier.wait_timeout_and(PATIENCE, || {
                enter(&scratch, 0);
                dawdle(&mut numbers);
                leave(&scratch, 0);
            });
            match met {
                Ok(number) => assert!(number < 3),
                Err(BarrierError::Broken) => std::thread::sleep(Duration::from_micros(300)),
                Err(error) => panic!("{error}"),
            }
            scratch.add(if met.is_ok() { 1 } else { 2 });
        }
    }
    let barrier = Barrier::new(3).unwrap();
    let revive = |scratch: &Scratch| {
        if goes_on(scratch) {
            std::thread::sleep(Duration::from_millis(2));
            barrier.reset().unwrap();
        } else {
            barrier.abort().unwrap();
        }
    };
    let scratch = soak(3, &barrier, work, revive);
    eprintln!("{} met, {} did not", scratch.get(1), scratch.get(2));
    assert!(scratch.get(1) > 50);
    barrier.reset().unwrap();
    let meet = |barrier: Barrier| (0..50).for_each(|_| _ = barrier.wait_timeout(PATIENCE).unwrap());
    let parties: Vec<_> = (0..3).map(|_| Process::spawn(meet, (barrier.clone(),)).unwrap()).collect();
    parties.into_iter().for_each(|party| done(party));
}
