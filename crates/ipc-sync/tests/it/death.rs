//! What SIGKILL costs, at chosen moments. At random ones: `soak`.

use std::time::{Duration, Instant};

use ipc_pipe::{Sender, pipe};
use ipc_process::Process;
use ipc_sync::{Barrier, BarrierError, Condition, Event, Lock, LockError, ReentrantLock, RwLock, Semaphore};
use ipc_testkit::processes::{alone, die, done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};

use crate::tools::{Scratch, go_on, hold, read_on, stop, told, touch, write_on};

fn wait_for_lock(lock: Lock, mut up: Sender<u32>) -> bool {
    ready(&mut up);
    matches!(lock.lock(), Err(LockError::OwnerDied { .. }))
}

#[test]
fn all_who_sleep_are_told_of_the_owners_death() {
    let _watchdog = watchdog("all_who_sleep_are_told_of_the_owners_death");
    let lock = Lock::new().unwrap();
    let owner = started(hold, lock.clone());
    let sleepers: Vec<_> = (0..4).map(|_| started(wait_for_lock, lock.clone())).collect();
    std::thread::sleep(2 * SHORT);
    kill(owner);
    assert!(sleepers.into_iter().all(done));
}

#[test]
fn who_is_killed_while_it_sleeps_is_not_waited_for() {
    let _watchdog = watchdog("who_is_killed_while_it_sleeps_is_not_waited_for");
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    let mut sleepers: Vec<_> = (0..4).map(|_| started(wait_for_lock, lock.clone())).collect();
    std::thread::sleep(2 * SHORT);
    // The first are stopped: they may get the wake, and do nothing with it.
    stop(&sleepers[0]);
    stop(&sleepers[1]);
    drop(guard);
    kill(sleepers.remove(0));
    kill(sleepers.remove(0));
    for sleeper in sleepers {
        assert!(!done(sleeper), "nobody died with the lock");
    }
    drop(lock.lock().unwrap());
}

#[test]
fn a_stopped_owner_is_alive() {
    let _watchdog = watchdog("a_stopped_owner_is_alive");
    let lock = Lock::new().unwrap();
    let owner = started(hold, lock.clone());
    stop(&owner);
    assert!(matches!(lock.lock_timeout(10 * SHORT), Err(LockError::Timeout)));
    go_on(&owner);
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    kill(owner);
    assert!(matches!(lock.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
}

#[test]
fn the_death_of_who_recovers_is_told_again() {
    let _watchdog = watchdog("the_death_of_who_recovers_is_told_again");
    let lock = Lock::new().unwrap();
    kill(started(hold, lock.clone()));
    let recover = |lock: Lock, mut up: Sender<u32>| {
        let guard = lock.recover().unwrap();
        assert!(guard.died().is_some());
        ready(&mut up);
        park();
        drop(guard);
    };
    let repairer = started(recover, lock.clone());
    let pid = repairer.id();
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    kill(repairer);
    for _ in 0..2 {
        assert!(matches!(lock.lock(), Err(LockError::OwnerDied { owner }) if owner.pid() == Some(pid)));
    }
    lock.recover().unwrap().repaired();
    drop(lock.try_lock().unwrap());
}

#[test]
fn one_who_never_waits_is_told_too() {
    let _watchdog = watchdog("one_who_never_waits_is_told_too");
    // In a process of its own: here others come and go, and who takes the place of a dead one tells everybody.
    alone(|| {
        // The owner has used objects of its own since: the kernel marks one word of a thread, and that is not the one.
        fn hold_on((lock, reentrant, rwlock): (Lock, ReentrantLock, RwLock), mut up: Sender<u32>) {
            let _guards = (lock.lock().unwrap(), reentrant.lock().unwrap(), rwlock.write().unwrap());
            let own = Lock::new().unwrap();
            drop(own.lock().unwrap());
            ready(&mut up);
            park()
        }
        for wait in [None, Some(Duration::from_millis(3))] {
            let (lock, reentrant, rwlock) =
                (Lock::new().unwrap(), ReentrantLock::new().unwrap(), RwLock::new().unwrap());
            let handles = (lock.clone(), reentrant.clone(), rwlock.clone());
            kill(started(hold_on, handles));
            let lock_result =
                || wait.map_or_else(|| lock.try_lock(), |time| lock.lock_timeout(time)).map(drop);
            eventually("the lock tells", || matches!(lock_result(), Err(LockError::OwnerDied { .. })));
            let retake =
                || wait.map_or_else(|| reentrant.try_lock(), |time| reentrant.lock_timeout(time)).map(drop);
            eventually("the reentrant one passes", || retake().is_ok());
            let read = || wait.map_or_else(|| rwlock.try_read(), |time| rwlock.read_timeout(time)).map(drop);
            eventually("the other one tells", || matches!(read(), Err(LockError::OwnerDied { .. })));
        }
    });
}

#[test]
fn a_reader_that_never_was_marked_is_noticed_by_one_who_never_waits() {
    let _watchdog = watchdog("a_reader_that_never_was_marked_is_noticed_by_one_who_never_waits");
    // In a process of its own: here others come and go, and who takes the place of a dead one tells everybody.
    alone(|| {
        let read_on = |lock: RwLock, mut up: Sender<u32>| {
            let _guard = lock.read().unwrap();
            let own = Lock::new().unwrap();
            drop(own.lock().unwrap());
            ready(&mut up);
            park()
        };
        let (lock, single) = (RwLock::new().unwrap(), RwLock::with_readers(1).unwrap());
        kill(started(read_on, lock.clone()));
        eventually("the writer gets it", || lock.try_write().is_ok());
        kill(started(read_on, single.clone()));
        eventually("the reader gets the place", || single.try_read().is_ok());
    });
}

#[test]
fn a_reentrant_lock_forgets_how_deep_the_dead_one_was() {
    let _watchdog = watchdog("a_reentrant_lock_forgets_how_deep_the_dead_one_was");
    let lock = ReentrantLock::new().unwrap();
    let nest = |lock: ReentrantLock, mut up: Sender<u32>| {
        let _guards = [lock.lock().unwrap(), lock.lock().unwrap(), lock.lock().unwrap()];
        ready(&mut up);
        park()
    };
    let sleep = |lock: ReentrantLock, mut up: Sender<u32>| {
        ready(&mut up);
        lock.lock().unwrap().depth()
    };
    let owner = started(nest, lock.clone());
    let sleepers: Vec<_> = (0..2).map(|_| started(sleep, lock.clone())).collect();
    std::thread::sleep(SHORT);
    kill(owner);
    assert!(sleepers.into_iter().all(|sleeper| done(sleeper) == 1));
}

// Readers and writers

#[test]
fn a_dead_reader_just_disappears() {
    let _watchdog = watchdog("a_dead_reader_just_disappears");
    let lock = RwLock::new().unwrap();
    let readers: Vec<_> = (0..2).map(|_| started(read_on, lock.clone())).collect();
    let writer = started(
        |lock: RwLock, mut up: Sender<u32>| {
            ready(&mut up);
            drop(lock.write().unwrap());
        },
        lock.clone(),
    );
    std::thread::sleep(2 * SHORT);
    readers.into_iter().for_each(kill);
    done(writer);
    assert_eq!(lock.readers(), 0);
    drop(lock.try_read().unwrap());
}

#[test]
fn the_places_of_dead_readers_are_used_again() {
    let _watchdog = watchdog("the_places_of_dead_readers_are_used_again");
    fn fill(lock: RwLock, mut up: Sender<u32>) {
        let _guards: Vec<_> = (0..56).map(|_| lock.read().unwrap()).collect();
        ready(&mut up);
        park()
    }
    let lock = RwLock::new().unwrap();
    let readers = started(fill, lock.clone());
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    let sleeper = started(
        |lock: RwLock, mut up: Sender<u32>| {
            ready(&mut up);
            drop(lock.read().unwrap());
        },
        lock.clone(),
    );
    std::thread::sleep(SHORT);
    kill(readers);
    done(sleeper);
    let guards: Vec<_> = (0..56).map(|_| lock.read_timeout(PATIENCE).unwrap()).collect();
    drop(guards);
    drop(lock.try_write().unwrap());
}

#[test]
fn a_dead_writer_is_told_until_it_is_repaired() {
    let _watchdog = watchdog("a_dead_writer_is_told_until_it_is_repaired");
    let lock = RwLock::new().unwrap();
    let writer = started(write_on, lock.clone());
    let pid = writer.id();
    fn sleep<const WRITE: bool>(lock: RwLock, mut up: Sender<u32>) -> bool {
        ready(&mut up);
        let ended = if WRITE { lock.write().map(drop) } else { lock.read().map(drop) };
        matches!(ended, Err(LockError::OwnerDied { .. }))
    }
    let sleepers = [started(sleep::<true>, lock.clone()), started(sleep::<false>, lock.clone())];
    std::thread::sleep(2 * SHORT);
    kill(writer);
    assert!(sleepers.into_iter().all(done));
    let told = |result: Result<(), LockError>| {
        assert!(matches!(result, Err(LockError::OwnerDied { owner }) if owner.pid() == Some(pid)));
    };
    told(lock.read().map(drop));
    told(lock.try_read().map(drop));
    told(lock.write().map(drop));
    told(lock.try_write().map(drop));
    let guard = lock.recover().unwrap();
    assert_eq!(guard.died().unwrap().pid(), Some(pid));
    drop(guard);
    // Unrepaired: again.
    told(lock.read().map(drop));
    let guard = lock.recover().unwrap();
    guard.repaired();
    assert!(guard.died().is_none());
    drop(guard);
    drop((lock.try_read().unwrap(), lock.try_read().unwrap()));
    let again = lock.recover().unwrap();
    assert!(again.died().is_none());
    again.give_up();
    assert!(matches!(lock.read(), Err(LockError::GivenUp { .. })));
    assert!(matches!(lock.write(), Err(LockError::GivenUp { .. })));
    assert!(matches!(lock.recover(), Err(LockError::GivenUp { .. })));
    assert!(lock.reset() && !lock.reset());
    drop(lock.read().unwrap());
    drop(lock.write().unwrap());
}

/// A writer that is killed while it waits for this process, which reads.
fn kill_a_waiting_writer(lock: &RwLock) {
    let guard = lock.read().unwrap();
    let writer = started(
        |lock: RwLock, mut up: Sender<u32>| {
            ready(&mut up);
            drop(lock.write().unwrap());
        },
        lock.clone(),
    );
    eventually("it waits", || lock.owner().is_some());
    std::thread::sleep(SHORT);
    kill(writer);
    drop(guard);
}

#[test]
fn a_writer_that_dies_before_it_writes_is_not_told() {
    let _watchdog = watchdog("a_writer_that_dies_before_it_writes_is_not_told");
    let lock = RwLock::new().unwrap();
    for turn in 0..3 {
        kill_a_waiting_writer(&lock);
        match turn {
            0 => drop(lock.read().unwrap()),
            1 => drop(lock.write().unwrap()),
            _ => {
                let guard = lock.recover().unwrap();
                assert!(guard.died().is_none());
                guard.give_up();
                assert!(lock.reset());
            }
        }
    }
    // Nor if one before has written, and given up.
    kill_a_waiting_writer(&lock);
    drop(lock.read_timeout(PATIENCE).unwrap());
}

#[test]
fn who_would_have_repaired_and_dies_while_it_waits_for_readers_leaves_it_unrepaired() {
    let _watchdog = watchdog("who_would_have_repaired_and_dies");
    let lock = RwLock::new().unwrap();
    kill(started(write_on, lock.clone()));
    let recover = |lock: RwLock, mut up: Sender<u32>| {
        let guard = lock.recover().unwrap();
        ready(&mut up);
        park();
        drop(guard);
    };
    kill(started(recover, lock.clone()));
    assert!(matches!(lock.read(), Err(LockError::OwnerDied { .. })));
    assert!(matches!(lock.write(), Err(LockError::OwnerDied { .. })));
    lock.recover().unwrap().repaired();
    drop(lock.read().unwrap());
}

// Permits

#[test]
fn permits_come_back_from_a_process_that_takes_long_to_die() {
    let _watchdog = watchdog("permits_come_back_from_a_process_that_takes_long_to_die");
    fn hold(permits: Semaphore, mut up: Sender<u32>) {
        let _memory = touch(96);
        let _held: Vec<_> = (0..4).map(|_| permits.acquire().unwrap()).collect();
        permits.acquire().unwrap().forget();
        ready(&mut up);
        park()
    }
    let permits = Semaphore::new(6).unwrap();
    let mine = permits.acquire().unwrap();
    let holder = started(hold, permits.clone());
    assert_eq!(permits.available(), 0);
    let sleep = |permits: Semaphore, mut up: Sender<u32>| {
        ready(&mut up);
        drop(permits.acquire().unwrap());
    };
    let sleepers: Vec<_> = (0..3).map(|_| started(sleep, permits.clone())).collect();
    std::thread::sleep(2 * SHORT);
    let start = Instant::now();
    holder.kill().unwrap();
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
    eprintln!("they had them after {:?}", start.elapsed());
    // Four of five: one was forgotten. Exactly those.
    let held: Vec<_> = (0..4).map(|_| permits.acquire_timeout(PATIENCE).unwrap()).collect();
    assert!(permits.acquire_timeout(4 * SHORT).is_err());
    drop((held, mine));
    assert_eq!(permits.available(), 5);
}

#[test]
fn permits_come_back_for_those_who_never_wait_and_those_who_only_look() {
    let _watchdog = watchdog("permits_come_back_for_those_who_never_wait_and_those_who_only_look");
    // In a process of its own: here others come and go, and who takes the place of a dead one tells everybody.
    alone(|| {
        let hold = |permits: Semaphore, mut up: Sender<u32>| {
            let _held: Vec<_> = (0..2).map(|_| permits.acquire().unwrap()).collect();
            ready(&mut up);
            park()
        };
        let permits = Semaphore::new(2).unwrap();
        kill(started(hold, permits.clone()));
        eventually("tried", || permits.try_acquire().is_ok());
        assert_eq!(permits.available(), 2);
        kill(started(hold, permits.clone()));
        eventually("hardly waited", || permits.acquire_timeout(Duration::from_millis(2)).is_ok());
        assert_eq!(permits.available(), 2);
        kill(started(hold, permits.clone()));
        eventually("looked", || permits.available() == 2);
    });
}

#[test]
fn a_permit_that_a_killed_sleeper_was_woken_for_is_not_lost() {
    let _watchdog = watchdog("a_permit_that_a_killed_sleeper_was_woken_for_is_not_lost");
    let permits = Semaphore::new(1).unwrap();
    let held = permits.acquire().unwrap();
    let sleep = |permits: Semaphore, mut up: Sender<u32>| {
        ready(&mut up);
        drop(permits.acquire().unwrap());
    };
    let mut sleepers: Vec<_> = (0..4).map(|_| started(sleep, permits.clone())).collect();
    std::thread::sleep(2 * SHORT);
    stop(&sleepers[0]);
    stop(&sleepers[1]);
    drop(held);
    kill(sleepers.remove(0));
    kill(sleepers.remove(0));
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
    assert_eq!(permits.available(), 1);
}

#[test]
fn what_was_released_by_one_who_died_since_stays() {
    let _watchdog = watchdog("what_was_released_by_one_who_died_since_stays");
    let permits = Semaphore::new(0).unwrap();
    let release = |permits: Semaphore| {
        permits.release_many(3).unwrap();
        die();
    };
    Process::spawn(release, (permits.clone(),)).unwrap().join().unwrap_err();
    assert_eq!(permits.available(), 3);
}

// Meeting points

fn meet(barrier: Barrier, mut up: Sender<u32>) -> bool {
    ready(&mut up);
    matches!(barrier.wait(), Err(BarrierError::Broken))
}

#[test]
fn a_party_that_dies_while_it_waits_breaks_the_barrier() {
    let _watchdog = watchdog("a_party_that_dies_while_it_waits_breaks_the_barrier");
    let barrier = Barrier::new(4).unwrap();
    let mut parties: Vec<_> = (0..3).map(|_| started(meet, barrier.clone())).collect();
    eventually("they wait", || barrier.waiting() == 3);
    kill(parties.remove(1));
    assert!(parties.into_iter().all(done), "those who wait");
    assert!(barrier.is_broken());
    assert!(matches!(barrier.wait(), Err(BarrierError::Broken)), "who comes");
    barrier.reset().unwrap();

    // All others are there, and the last one comes after the death.
    let mut parties: Vec<_> = (0..3).map(|_| started(meet, barrier.clone())).collect();
    eventually("they wait", || barrier.waiting() == 3);
    parties.iter().for_each(stop);
    kill(parties.remove(0));
    let error = barrier.wait_timeout(PATIENCE).unwrap_err();
    assert!(matches!(error, BarrierError::Broken), "{error}");
    parties.iter().for_each(go_on);
    assert!(parties.into_iter().all(done));
    barrier.reset().unwrap();
    let parties: Vec<_> = (0..3).map(|_| started(meet, barrier.clone())).collect();
    assert!(barrier.wait_timeout(PATIENCE).is_ok());
    assert!(!parties.into_iter().any(done));
}

#[test]
fn a_party_that_dies_in_the_action_breaks_the_barrier() {
    let _watchdog = watchdog("a_party_that_dies_in_the_action_breaks_the_barrier");
    let barrier = Barrier::new(3).unwrap();
    let waiting: Vec<_> = (0..2).map(|_| started(meet, barrier.clone())).collect();
    eventually("they wait", || barrier.waiting() == 2);
    let last = Process::spawn(|barrier: Barrier| _ = barrier.wait_and(die), (barrier.clone(),)).unwrap();
    last.join().unwrap_err();
    assert!(waiting.into_iter().all(done));
    assert!(barrier.is_broken() && matches!(barrier.wait(), Err(BarrierError::Broken)));
    barrier.reset().unwrap();
    let waiting: Vec<_> = (0..2).map(|_| started(meet, barrier.clone())).collect();
    assert!(barrier.wait_timeout_and(PATIENCE, || ()).is_ok());
    assert!(!waiting.into_iter().any(done));
}

// Events

#[test]
fn dead_waiters_and_setters_of_an_event_cost_nothing() {
    let _watchdog = watchdog("dead_waiters_and_setters_of_an_event_cost_nothing");
    let event = Event::new().unwrap();
    let wait = |event: Event, mut up: Sender<u32>| {
        ready(&mut up);
        event.wait().unwrap();
    };
    let mut waiters: Vec<_> = (0..3).map(|_| started(wait, event.clone())).collect();
    std::thread::sleep(SHORT);
    kill(waiters.remove(0));
    let set = |event: Event| {
        event.set();
        die();
    };
    Process::spawn(set, (event.clone(),)).unwrap().join().unwrap_err();
    waiters.into_iter().for_each(|waiter| done(waiter));
    assert!(event.is_set());
}

// Conditions

fn wait_at(changed: Condition, mut up: Sender<u32>) -> bool {
    let guard = changed.lock().lock().unwrap();
    ready(&mut up);
    changed.wait(guard).is_ok()
}

fn waiting_at(changed: &Condition, count: usize) -> Vec<Process<bool>> {
    (0..count)
        .map(|already| {
            let process = started(wait_at, changed.clone());
            eventually("it waits", || changed.waiting() == already + 1);
            process
        })
        .collect()
}

#[test]
fn dead_waiters_are_passed_over() {
    let _watchdog = watchdog("dead_waiters_are_passed_over");
    let changed = Condition::new().unwrap();
    let mut waiters = waiting_at(&changed, 4);
    kill(waiters.remove(0));
    kill(waiters.remove(1));
    assert_eq!(changed.waiting(), 2);
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_many(&guard, 2).unwrap(), 2);
    drop(guard);
    assert!(waiters.into_iter().all(done));
}

#[test]
fn the_notification_of_one_who_dies_goes_to_another() {
    let _watchdog = watchdog("the_notification_of_one_who_dies_goes_to_another");
    let changed = Condition::new().unwrap();
    let mut waiters = waiting_at(&changed, 4);
    // It will not look at it any more.
    let first = waiters.remove(0);
    stop(&first);
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify(&guard).unwrap(), 1);
    drop(guard);
    std::thread::sleep(5 * SHORT);
    assert!(waiters.iter().all(Process::is_alive), "the first one has it");
    kill(first);
    let ended = || waiters.iter().filter(|waiter| !waiter.is_alive()).count();
    eventually("another one has it", || ended() == 1);
    std::thread::sleep(8 * SHORT);
    assert_eq!((ended(), changed.waiting()), (1, 2), "one, and no more");
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_all(&guard).unwrap(), 2);
    drop(guard);
    assert!(waiters.into_iter().all(done));
}

#[test]
fn a_notification_that_nobody_is_left_for_is_not_kept() {
    let _watchdog = watchdog("a_notification_that_nobody_is_left_for_is_not_kept");
    let changed = Condition::new().unwrap();
    for _ in 0..3 {
        let waiter = waiting_at(&changed, 1).remove(0);
        stop(&waiter);
        let guard = changed.lock().lock().unwrap();
        assert_eq!(changed.notify(&guard).unwrap(), 1);
        drop(guard);
        kill(waiter);
    }
    // They left no places behind that are of no use.
    let waiters = waiting_at(&changed, 1);
    let guard = changed.lock().lock().unwrap();
    changed.notify_all(&guard).unwrap();
    drop(guard);
    assert!(waiters.into_iter().all(done));
}

#[test]
fn the_death_of_who_holds_the_lock_is_told_to_those_who_wait() {
    let _watchdog = watchdog("the_death_of_who_holds_the_lock_is_told_to_those_who_wait");
    let lock = Lock::new().unwrap();
    let other = Condition::on(&lock).unwrap();
    for changed in [Condition::new().unwrap(), other] {
        let wait = |changed: Condition, mut up: Sender<u32>| {
            let guard = changed.lock().lock().unwrap();
            ready(&mut up);
            matches!(changed.wait(guard), Err(LockError::OwnerDied { .. }))
        };
        let waiters: Vec<_> = (0..3).map(|_| started(wait, changed.clone())).collect();
        eventually("they wait", || changed.waiting() == 3);
        kill(started(hold, changed.lock().clone()));
        assert!(waiters.into_iter().all(done));
        assert_eq!(changed.waiting(), 0);
        changed.lock().recover().unwrap().repaired();
        drop(changed.lock().lock().unwrap());
    }
}

#[test]
fn a_waiter_whose_lock_passes_silently_waits_on() {
    let _watchdog = watchdog("a_waiter_whose_lock_passes_silently_waits_on");
    let lock = ipc_sync::options::LockOptions::default().passes_silently(true).new().unwrap();
    let changed = Condition::on(&lock).unwrap();
    let waiters = waiting_at(&changed, 2);
    kill(started(hold, lock.clone()));
    std::thread::sleep(5 * SHORT);
    assert!(waiters.iter().all(Process::is_alive));
    let guard = lock.lock().unwrap();
    assert_eq!(changed.notify_all(&guard).unwrap(), 2);
    drop(guard);
    assert!(waiters.into_iter().all(done));
}

#[test]
fn dozens_of_dead_waiters_leave_room() {
    let _watchdog = watchdog("dozens_of_dead_waiters_leave_room");
    let (changed, scratch) = (Condition::new().unwrap(), Scratch::new());
    let (tx, mut rx) = pipe().unwrap();
    let many = Process::spawn(
        |changed: Condition, mut up: Sender<u32>| {
            for _ in 0..30 {
                let changed = changed.clone();
                std::thread::spawn(move || {
                    let guard = changed.lock().lock().unwrap();
                    drop(changed.wait(guard));
                });
            }
            ready(&mut up);
            park()
        },
        (changed.clone(), tx),
    )
    .unwrap();
    told::<u32>(&mut rx);
    eventually("all places are taken", || changed.waiting() == 30);
    kill(many);
    assert_eq!(changed.waiting(), 0);
    let waiters = waiting_at(&changed, 2);
    scratch.put(0, 1);
    let guard = changed.lock().lock().unwrap();
    assert_eq!(changed.notify_all(&guard).unwrap(), 2);
    drop(guard);
    assert!(waiters.into_iter().all(done));
}
