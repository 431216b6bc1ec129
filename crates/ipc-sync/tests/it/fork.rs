//! Children that were forked, and programs that replace a process.

use std::ffi::CString;
use std::process::exit;
use std::time::Duration;

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{Barrier, Condition, Event, Lock, LockError, ReentrantLock, RwLock, Semaphore, WaitError};
use ipc_testkit::processes::{alone, die, done, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execv, fork};

use crate::tools::Scratch;

/// Forks a child that does that and exits: with 0 if it says that all is well.
fn child(body: impl FnOnce() -> bool) -> Pid {
    // SAFETY: the tests here fork in a process of their own, which has no other thread that could hold a lock of the
    // allocator or of this crate: the one that waits for the parent sleeps in a system call.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => {
            // What it has captured, as guards, stays as it is in the parent.
            std::mem::forget(body);
            child
        }
        ForkResult::Child => {
            // Nobody else ends it if it hangs.
            nix::unistd::alarm::set(PATIENCE.as_secs() as u32);
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // Not the exit of the harness or of the worker: this is neither.
            nix::sys::signal::raise(if well.unwrap_or(false) {
                nix::sys::signal::Signal::SIGUSR1
            } else {
                nix::sys::signal::Signal::SIGUSR2
            })
            .unwrap();
            exit(0)
        }
    }
}

#[track_caller]
fn is_well(child: Pid) {
    let status = waitpid(child, None).unwrap();
    assert!(matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGUSR1, _)), "{status:?}");
}

#[test]
fn a_forked_child_does_not_hold_what_its_parent_holds() {
    let _watchdog = watchdog("a_forked_child_does_not_hold_what_its_parent_holds");
    alone(|| {
        let (lock, reentrant, rwlock) =
            (Lock::new().unwrap(), ReentrantLock::new().unwrap(), RwLock::new().unwrap());
        let guards = (lock.lock().unwrap(), reentrant.lock().unwrap(), rwlock.write().unwrap());
        let parent = std::process::id();
        is_well(child(|| {
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            assert!(matches!(lock.lock_timeout(SHORT), Err(LockError::Timeout)));
            assert!(
                matches!(reentrant.try_lock(), Err(LockError::WouldBlock)),
                "it is not nested in the parent's"
            );
            assert!(matches!(rwlock.try_read(), Err(LockError::WouldBlock)));
            drop(guards);
            // Its copies of the guards did nothing.
            assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
            assert!(matches!(reentrant.try_lock(), Err(LockError::WouldBlock)));
            assert!(matches!(rwlock.try_write(), Err(LockError::WouldBlock)));
            let owners = [lock.owner(), reentrant.owner(), rwlock.owner()];
            owners.iter().all(|owner| owner.unwrap().pid() == Some(parent))
        }));
    });
}

#[test]
fn copies_of_guards_do_nothing_without_any_operation_before() {
    let _watchdog = watchdog("copies_of_guards_do_nothing_without_any_operation_before");
    alone(|| {
        let (lock, reentrant, rwlock) =
            (Lock::new().unwrap(), ReentrantLock::new().unwrap(), RwLock::new().unwrap());
        let guards = (lock.lock().unwrap(), reentrant.lock().unwrap(), rwlock.read().unwrap());
        let given_up = Lock::new().unwrap();
        let guard = given_up.lock().unwrap();
        // Moved into the child alone, as the parent's memory is another.
        is_well(child(|| {
            drop(guards);
            guard.give_up();
            true
        }));
        for thread in [false, true] {
            let tried = || {
                [
                    matches!(lock.try_lock(), Err(LockError::WouldBlock)),
                    reentrant.try_lock().is_err(),
                    matches!(rwlock.try_write(), Err(LockError::WouldBlock)),
                    matches!(given_up.try_lock(), Err(LockError::WouldBlock)),
                ]
            };
            if thread {
                assert_eq!(std::thread::scope(|scope| scope.spawn(tried).join().unwrap()), [true; 4]);
            } else {
                assert_eq!(lock.owner().unwrap().pid(), Some(std::process::id()));
            }
        }
    });
}

#[test]
fn a_copy_of_a_guard_without_a_word_does_nothing_either() {
    let _watchdog = watchdog("a_copy_of_a_guard_without_a_word_does_nothing_either");
    alone(|| {
        let (lock, reentrant, rwlock) =
            (Lock::new().unwrap(), ReentrantLock::new().unwrap(), RwLock::new().unwrap());
        let (stop, all) = (std::sync::Barrier::new(57), std::sync::Barrier::new(57));
        std::thread::scope(|scope| {
            for _ in 0..56 {
                scope.spawn(|| {
                    drop(lock.lock().unwrap());
                    all.wait();
                    stop.wait();
                });
            }
            all.wait();
            // They have all the words that there are.
            let guards = (lock.lock().unwrap(), reentrant.lock().unwrap(), rwlock.write().unwrap());
            is_well(child(|| {
                drop(guards);
                true
            }));
            let me = Some(std::process::id());
            let owners =
                [lock.owner(), reentrant.owner(), rwlock.owner()].map(|owner| owner.and_then(|of| of.pid()));
            stop.wait();
            assert_eq!(owners, [me, me, me]);
        });
    });
}

#[test]
fn a_forked_child_is_another_and_its_end_is_its_own() {
    let _watchdog = watchdog("a_forked_child_is_another_and_its_end_is_its_own");
    alone(|| {
        let (lock, permits) = (Lock::new().unwrap(), Semaphore::new(2).unwrap());
        let guard = lock.lock().unwrap();
        let permit = permits.acquire().unwrap();
        is_well(child(|| {
            // What it does itself is its own.
            let own = Lock::new().unwrap();
            std::mem::forget(own.lock().unwrap());
            std::mem::forget(permits.acquire().unwrap());
            matches!(permits.try_acquire(), Err(WaitError::WouldBlock))
        }));
        // Its death is not its parent's.
        let theirs = lock.clone();
        let other = std::thread::spawn(move || theirs.lock_timeout(5 * SHORT).map(drop)).join().unwrap();
        assert!(matches!(other, Err(LockError::Timeout)), "{other:?}");
        drop(permits.acquire_timeout(PATIENCE).unwrap());
        drop(guard);
        drop(lock.lock().unwrap());
        drop(permit);
        assert_eq!(permits.available(), 2);
    });
}

#[test]
fn the_death_of_the_parent_is_told_to_a_forked_child() {
    let _watchdog = watchdog("the_death_of_the_parent_is_told_to_a_forked_child");
    fn fork_and_die(lock: Lock, held: Event, permits: Semaphore) {
        let own = Lock::new().unwrap();
        let _guards = (lock.lock().unwrap(), own.lock().unwrap(), permits.acquire().unwrap());
        // The child's copy of the permit is nothing, whoever is alive.
        child(|| {
            held.set();
            let own = matches!(own.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. }));
            drop(permits.acquire_timeout(PATIENCE).unwrap());
            own && matches!(lock.recover_timeout(PATIENCE).unwrap().repaired(), ())
        });
        park()
    }
    let (lock, held, permits) = (Lock::new().unwrap(), Event::new().unwrap(), Semaphore::new(1).unwrap());
    let parent = Process::spawn(fork_and_die, (lock.clone(), held.clone(), permits.clone())).unwrap();
    held.wait_timeout(PATIENCE).unwrap();
    std::thread::sleep(SHORT);
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    parent.kill().unwrap();
    eventually("the child has repaired it", || lock.try_lock().is_ok());
    drop(permits.acquire_timeout(PATIENCE).unwrap());
}

#[test]
fn a_copy_of_a_guard_does_not_give_back_what_the_child_has_taken_since() {
    let _watchdog = watchdog("a_copy_of_a_guard_does_not_give_back");
    fn fork_and_die(lock: Lock, told: Event) {
        let copy = lock.lock().unwrap();
        child(|| {
            let own = lock.recover_timeout(PATIENCE).unwrap();
            own.repaired();
            drop(copy);
            let other = || matches!(lock.try_lock(), Err(LockError::WouldBlock));
            let is_held = std::thread::scope(|scope| scope.spawn(other).join().unwrap());
            drop(own);
            if is_held {
                told.set();
            }
            is_held
        });
        die();
    }
    let (lock, told) = (Lock::new().unwrap(), Event::new().unwrap());
    let parent = Process::spawn(fork_and_die, (lock.clone(), told.clone())).unwrap();
    parent.join().unwrap_err();
    told.wait_timeout(PATIENCE / 4).unwrap();
    drop(lock.lock_timeout(PATIENCE).unwrap());
}

#[test]
fn permits_are_nothing_in_a_forked_child() {
    let _watchdog = watchdog("permits_are_nothing_in_a_forked_child");
    alone(|| {
        let permits = Semaphore::new(3).unwrap();
        let held = (permits.acquire().unwrap(), permits.acquire().unwrap());
        is_well(child(|| {
            held.0.forget();
            drop(held.1);
            let own = permits.acquire().unwrap();
            assert!(matches!(permits.try_acquire(), Err(WaitError::WouldBlock)));
            drop(own);
            permits.available() == 1
        }));
        assert_eq!(permits.available(), 1);
        permits.try_acquire().unwrap().forget();
        assert_eq!(permits.available(), 0);
    });
}

#[test]
fn parent_and_child_wait_for_each_other() {
    let _watchdog = watchdog("parent_and_child_wait_for_each_other");
    alone(|| {
        let (event, barrier, changed) =
            (Event::new().unwrap(), Barrier::new(2).unwrap(), Condition::new().unwrap());
        let scratch = Scratch::new();
        let other = child(|| {
            // Long enough for the parent to look whether anybody is left who could set it.
            std::thread::sleep(Duration::from_millis(150));
            event.set();
            barrier.wait_timeout(PATIENCE).unwrap();
            let guard = changed.lock().lock().unwrap();
            scratch.put(0, 1);
            changed.notify(&guard).unwrap();
            drop(guard);
            true
        });
        event.wait().unwrap();
        barrier.wait_timeout(PATIENCE).unwrap();
        let guard = changed.lock().lock().unwrap();
        let (guard, holds) = changed.wait_for_timeout(guard, PATIENCE, || scratch.get(0) == 1).unwrap();
        assert!(holds);
        drop(guard);
        is_well(other);
    });
}

#[test]
fn a_parent_waits_for_a_child_that_has_not_begun() {
    let _watchdog = watchdog("a_parent_waits_for_a_child_that_has_not_begun");
    alone(|| {
        // Nothing was done with the object before the fork, and the child does nothing with it for a while.
        let event = Event::new().unwrap();
        let other = child(|| {
            std::thread::sleep(Duration::from_millis(250));
            event.set();
            true
        });
        event.wait().unwrap();
        is_well(other);
    });
}

#[test]
fn a_child_that_waits_is_told_when_its_parent_has_gone() {
    let _watchdog = watchdog("a_child_that_waits_is_told_when_its_parent_has_gone");
    fn parent(told: Event) {
        let event = Event::new().unwrap();
        child(|| {
            if matches!(event.wait(), Err(WaitError::Abandoned)) {
                told.set();
            }
            true
        });
        std::thread::sleep(2 * SHORT);
        // Returns: its end is the end of the child's hopes.
    }
    let told = Event::new().unwrap();
    done(Process::spawn(parent, (told.clone(),)).unwrap());
    told.wait_timeout(PATIENCE).unwrap();
}

fn sleep_instead() {
    let sleep = CString::new("/bin/sleep").unwrap();
    let Err(error) = execv(&sleep, &[sleep.clone(), CString::new("60").unwrap()]);
    panic!("{error}");
}

#[test]
fn exec_drops_everything() {
    let _watchdog = watchdog("exec_drops_everything");
    let hold = |(lock, permits): (Lock, Semaphore), mut up: Sender<u32>| {
        let _held = (lock.lock().unwrap(), permits.acquire().unwrap());
        ready(&mut up);
        std::thread::sleep(SHORT);
        sleep_instead();
    };
    let (lock, permits) = (Lock::new().unwrap(), Semaphore::new(1).unwrap());
    let other = started(hold, (lock.clone(), permits.clone()));
    match lock.lock_timeout(PATIENCE) {
        Err(LockError::OwnerDied { owner }) => assert_eq!(owner.pid(), Some(other.id())),
        ended => panic!("{ended:?}"),
    }
    drop(permits.acquire_timeout(PATIENCE).unwrap());
    assert!(other.is_alive(), "the process goes on as another program");
    other.kill().unwrap();
}

#[test]
fn exec_from_another_thread_drops_everything_of_all_threads() {
    let _watchdog = watchdog("exec_from_another_thread_drops_everything_of_all_threads");
    alone(|| {
        let hold = |(lock, leaders): (Lock, Lock), mut up: Sender<u32>| {
            let _of_the_leader = leaders.lock().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _guard = lock.lock().unwrap();
                    ready(&mut up);
                    std::thread::sleep(SHORT);
                    sleep_instead();
                });
            });
        };
        for wait in [true, false] {
            let (lock, leaders) = (Lock::new().unwrap(), Lock::new().unwrap());
            let other = started(hold, (lock.clone(), leaders.clone()));
            let is_told = |lock: &Lock| {
                if wait {
                    matches!(lock.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. }))
                } else {
                    // Also by one who never waits.
                    eventually("it is told", || matches!(lock.try_lock(), Err(LockError::OwnerDied { .. })));
                    true
                }
            };
            assert!(is_told(&lock) && is_told(&leaders));
            assert!(other.is_alive());
            other.kill().unwrap();
        }
    });
}
