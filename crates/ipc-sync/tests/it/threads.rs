//! Threads of one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{Barrier, Condition, Lock, LockError, ReentrantLock, RwLock, Semaphore};
use ipc_testkit::processes::{alone, done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};

#[test]
fn threads_contend_like_processes() {
    let _watchdog = watchdog("threads_contend_like_processes");
    let (lock, rwlock, permits) = (Lock::new().unwrap(), RwLock::new().unwrap(), Semaphore::new(1).unwrap());
    let counts: [AtomicU64; 3] = Default::default();
    // Not atomic: turns would be lost if two were inside.
    let add = |index: usize| counts[index].store(counts[index].load(Relaxed) + 1, Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let guard = lock.lock().unwrap();
                    add(0);
                    drop(guard);
                    let guard = rwlock.write().unwrap();
                    add(1);
                    drop(guard);
                    let permit = permits.acquire().unwrap();
                    add(2);
                    drop(permit);
                    drop(rwlock.read().unwrap());
                }
            });
        }
    });
    assert!(counts.iter().all(|count| count.load(Relaxed) == 4000));
}

/// More than have a word of their own.
const MANY: u64 = 90;

#[test]
fn more_threads_than_words_exclude_each_other_too() {
    let _watchdog = watchdog("more_threads_than_words_exclude_each_other_too");
    alone(|| {
        let (lock, rwlock) = (Lock::new().unwrap(), RwLock::new().unwrap());
        let (reentrant, permits) = (ReentrantLock::new().unwrap(), Semaphore::new(1).unwrap());
        let all = std::sync::Barrier::new(MANY as usize);
        let counts: [AtomicU64; 4] = Default::default();
        let add = |index: usize| {
            let now = counts[index].load(Relaxed);
            std::thread::yield_now();
            counts[index].store(now + 1, Relaxed);
        };
        std::thread::scope(|scope| {
            for _ in 0..MANY {
                scope.spawn(|| {
                    // All have their identity before any of them ends.
                    drop(lock.lock().unwrap());
                    all.wait();
                    for _ in 0..5 {
                        let guard = lock.lock().unwrap();
                        add(0);
                        drop(guard);
                        let guard = rwlock.write().unwrap();
                        add(1);
                        drop(guard);
                        let outer = reentrant.lock_timeout(PATIENCE).unwrap();
                        let inner = reentrant.lock_timeout(PATIENCE).unwrap();
                        assert_eq!(inner.depth(), 2);
                        add(2);
                        // In either order.
                        drop(outer);
                        drop(inner);
                        let permit = permits.acquire().unwrap();
                        add(3);
                        drop(permit);
                        drop(rwlock.read().unwrap());
                    }
                    all.wait();
                });
            }
        });
        assert!(counts.iter().all(|count| count.load(Relaxed) == 5 * MANY));
        assert_eq!((rwlock.readers(), permits.available()), (0, 1));
        assert!(lock.owner().is_none() && reentrant.owner().is_none() && rwlock.owner().is_none());
    });
}

#[test]
fn a_thread_may_get_its_word_between_two_nested_guards() {
    let _watchdog = watchdog("a_thread_may_get_its_word_between_two_nested_guards");
    alone(|| {
        let (lock, other) = (ReentrantLock::new().unwrap(), Lock::new().unwrap());
        let (stop, all) = (std::sync::Barrier::new(57), std::sync::Barrier::new(57));
        std::thread::scope(|scope| {
            for _ in 0..56 {
                scope.spawn(|| {
                    drop(other.lock().unwrap());
                    all.wait();
                    stop.wait();
                });
            }
            all.wait();
            // Without a word of its own.
            let outer = lock.lock().unwrap();
            stop.wait();
            ipc_testkit::eventually("the threads have ended", || ipc_os::threads::count().unwrap() == 1);
            let inner = lock.lock_timeout(PATIENCE).unwrap();
            assert_eq!(inner.depth(), 2);
            drop(outer);
            std::thread::scope(|scope| {
                scope.spawn(|| assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock))));
            });
            drop(inner);
        });
        std::thread::scope(|scope| {
            scope.spawn(|| drop(lock.try_lock().unwrap()));
        });
    });
}

#[test]
fn many_threads_meet_and_notify_each_other() {
    let _watchdog = watchdog("many_threads_meet_and_notify_each_other");
    alone(|| {
        let (barrier, changed) = (Barrier::new(MANY as u32).unwrap(), Condition::new().unwrap());
        let (turns, numbers) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for me in 0..MANY {
                let (barrier, changed, turns, numbers) = (&barrier, &changed, &turns, &numbers);
                scope.spawn(move || {
                    numbers.fetch_add(u64::from(barrier.wait_timeout(PATIENCE).unwrap()), Relaxed);
                    // One after the other.
                    let guard = changed.lock().lock().unwrap();
                    let (guard, holds) =
                        changed.wait_for_timeout(guard, PATIENCE, || turns.load(Relaxed) == me).unwrap();
                    assert!(holds);
                    turns.store(me + 1, Relaxed);
                    changed.notify_all(&guard).unwrap();
                    drop(guard);
                    barrier.wait_timeout(PATIENCE).unwrap();
                });
            }
        });
        assert_eq!(numbers.into_inner(), MANY * (MANY - 1) / 2);
    });
}

#[test]
fn a_process_with_many_threads_dies_with_the_lock_of_one() {
    let _watchdog = watchdog("a_process_with_many_threads_dies_with_the_lock_of_one");
    fn hold((lock, rwlock): (Lock, RwLock), mut up: Sender<u32>) {
        let other = Lock::new().unwrap();
        let all = Arc::new(std::sync::Barrier::new(61));
        for _ in 0..60 {
            let (mine, rwlock, all) = (lock.clone(), rwlock.clone(), Arc::clone(&all));
            std::thread::spawn(move || {
                let _reads = rwlock.read().unwrap();
                drop(mine.lock().unwrap());
                all.wait();
                park()
            });
        }
        all.wait();
        drop(other.lock().unwrap());
        // Of a thread that has no word of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = lock.lock().unwrap();
                ready(&mut up);
                park()
            });
        });
    }
    let (lock, rwlock) = (Lock::new().unwrap(), RwLock::with_readers(100).unwrap());
    let other = started(hold, (lock.clone(), rwlock.clone()));
    assert_eq!(rwlock.readers(), 60);
    assert!(matches!(rwlock.try_write(), Err(LockError::WouldBlock)));
    kill(other);
    assert!(matches!(lock.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
    drop(rwlock.write_timeout(PATIENCE).unwrap());
}

#[test]
fn thousands_of_short_threads_leave_nothing_behind() {
    let _watchdog = watchdog("thousands_of_short_threads_leave_nothing_behind");
    alone(|| {
        let (lock, rwlock, changed) =
            (Lock::new().unwrap(), RwLock::new().unwrap(), Condition::new().unwrap());
        let barrier = Barrier::new(1).unwrap();
        for turn in 0..2000 {
            let of_thread = std::thread::scope(|scope| {
                scope
                    .spawn(|| {
                        drop(lock.lock().unwrap());
                        drop(rwlock.read().unwrap());
                        drop(rwlock.write().unwrap());
                        barrier.wait().unwrap();
                        if turn % 100 == 0 {
                            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                                std::panic::set_hook(Box::new(|_| {}));
                                barrier.wait_and(|| panic!("on purpose"))
                            }));
                            assert!(panicked.is_err());
                            barrier.reset().unwrap();
                            let guard = changed.lock().lock().unwrap();
                            drop(changed.wait_timeout(guard, std::time::Duration::ZERO).unwrap());
                        }
                        let guard = lock.lock().unwrap();
                        let _refused = (lock.try_lock().is_err(), lock.recover().is_err());
                        // One without a word of its own would not be told that it waits for itself.
                        let mine = lock.lock_timeout(SHORT).unwrap_err().kind() == ErrorKind::InvalidInput;
                        drop(guard);
                        mine
                    })
                    .join()
                    .unwrap()
            });
            assert!(of_thread, "turn {turn}: no word is left");
        }
    });
}

#[test]
fn leaked_guards_are_deaths_and_cost_a_word_each() {
    let _watchdog = watchdog("leaked_guards_are_deaths_and_cost_a_word_each");
    alone(|| {
        let locks: Vec<_> = (0..70).map(|_| Lock::new().unwrap()).collect();
        let leak = |lock: &Lock| {
            std::thread::scope(|scope| {
                scope.spawn(|| std::mem::forget(lock.lock().unwrap())).join().unwrap();
            })
        };
        let start = Instant::now();
        locks.iter().for_each(leak);
        let dead = |lock: &Lock| matches!(lock.lock_timeout(SHORT / 10), Err(LockError::OwnerDied { .. }));
        let told = locks.iter().filter(|lock| dead(lock)).count();
        // This thread has no word any more, and nor have the last ones: theirs is not a death as long as the process lives.
        assert!((50..=56).contains(&told), "{told} were told after {:?}", start.elapsed());
        for lock in &locks {
            if dead(lock) {
                lock.recover().unwrap().repaired();
                leak(lock);
                assert!(!dead(lock), "by one without a word");
            }
        }
        let mine = Lock::new().unwrap();
        drop(mine.lock().unwrap());
        let theirs = Process::spawn(
            |locks: Vec<Lock>| locks.iter().filter(|lock| lock.try_lock().is_err()).count(),
            (locks.clone(),),
        );
        assert_eq!(done(theirs.unwrap()), 70);
    });
}

#[test]
fn a_guard_of_another_board_is_leaked_too() {
    let _watchdog = watchdog("a_guard_of_another_board_is_leaked_too");
    fn leak(theirs: Lock) -> (Lock, Lock) {
        let (own, more) = (Lock::new().unwrap(), Lock::new().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::mem::forget(theirs.lock().unwrap());
                std::mem::forget(own.lock().unwrap());
                // The kernel marks one of its words.
                drop(more.lock().unwrap());
            });
        });
        assert!(matches!(theirs.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
        assert!(matches!(own.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
        (theirs, own)
    }
    let lock = Lock::new().unwrap();
    let (theirs, own) = done(Process::spawn(leak, (lock.clone(),)).unwrap());
    assert!(theirs.is(&lock) && !own.is(&lock));
    for lock in [lock, own] {
        assert!(matches!(lock.try_lock(), Err(LockError::OwnerDied { .. })));
        lock.recover().unwrap().repaired();
        drop(lock.try_lock().unwrap());
    }
}
