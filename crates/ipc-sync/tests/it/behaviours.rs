//! Behaviours 48 to 59 of CPython's synchronisation tests: see the table at the root.

use std::time::{Duration, Instant};

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{
    Barrier, BarrierError, BoundedSemaphore, Condition, Event, Lock, LockError, ReentrantLock, Semaphore,
    WaitError,
};
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};

use crate::tools::Scratch;

#[test]
fn b48_a_held_lock_is_not_had_and_a_free_one_is() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    let tried =
        Process::spawn(|lock: Lock| matches!(lock.try_lock(), Err(LockError::WouldBlock)), (lock.clone(),));
    assert!(done(tried.unwrap()));
    drop(guard);
    let tried = Process::spawn(|lock: Lock| lock.try_lock().is_ok(), (lock.clone(),));
    assert!(done(tried.unwrap()));
}

#[test]
fn b49_a_reentrant_lock_nests_three_times() {
    let lock = ReentrantLock::new().unwrap();
    let guards = [lock.lock().unwrap(), lock.lock().unwrap(), lock.lock().unwrap()];
    let free = |lock: &ReentrantLock| {
        done(Process::spawn(|lock: ReentrantLock| lock.try_lock().is_ok(), (lock.clone(),)).unwrap())
    };
    assert_eq!(guards[0].depth(), 3);
    for guard in guards {
        assert!(!free(&lock));
        drop(guard);
    }
    assert!(free(&lock));
}

#[test]
fn b50_nothing_is_released_beyond_the_bound() {
    let permits = BoundedSemaphore::new(2).unwrap();
    assert!(permits.release().is_err());
    let mut held = vec![permits.acquire().unwrap(), permits.acquire().unwrap()];
    assert_eq!(permits.available(), 0);
    held.pop();
    held.pop();
    assert_eq!(permits.available(), 2);
    assert!(permits.release().is_err());
    let unbounded = Semaphore::new(2).unwrap();
    unbounded.release().unwrap();
    assert_eq!(unbounded.available(), 3);
}

#[test]
fn b51_taking_fails_when_the_time_is_over() {
    let _watchdog = watchdog("b51");
    let (lock, reentrant) = (Lock::new().unwrap(), ReentrantLock::new().unwrap());
    let permits = Semaphore::new(0).unwrap();
    let _held = (lock.lock().unwrap(), reentrant.lock().unwrap());
    let theirs = Process::spawn(
        |lock: Lock, reentrant: ReentrantLock, permits: Semaphore| {
            let took = |take: &dyn Fn() -> bool| {
                let start = Instant::now();
                assert!(!take());
                start.elapsed()
            };
            let of_lock = took(&|| !matches!(lock.lock_timeout(SHORT), Err(LockError::Timeout)));
            let of_reentrant = took(&|| !matches!(reentrant.lock_timeout(SHORT), Err(LockError::Timeout)));
            let of_permits = took(&|| !matches!(permits.acquire_timeout(SHORT), Err(WaitError::Timeout)));
            let at_once =
                took(&|| !matches!(permits.acquire_timeout(Duration::ZERO), Err(WaitError::Timeout)));
            let _not_measured: Duration = at_once;
            [of_lock, of_reentrant, of_permits]
        },
        (lock.clone(), reentrant.clone(), permits.clone()),
    );
    assert!(done(theirs.unwrap()).iter().all(|time| *time >= SHORT));
}

/// Waits, as CPython's test does it: counts who sleeps, and who was woken.
fn sleep(changed: Condition, mut up: Sender<u32>) -> bool {
    let guard = changed.lock().lock().unwrap();
    ready(&mut up);
    changed.wait_timeout(guard, PATIENCE).unwrap().1
}

fn sleepers(changed: &Condition, count: usize) -> Vec<Process<bool>> {
    let sleepers = (0..count).map(|_| started(sleep, changed.clone())).collect();
    eventually("they sleep", || changed.waiting() == count);
    sleepers
}

#[test]
fn b52_notify_wakes_as_many_as_it_is_told_and_stores_nothing() {
    let _watchdog = watchdog("b52");
    let changed = Condition::new().unwrap();
    let sleepers = sleepers(&changed, 6);
    let awake = || sleepers.iter().filter(|sleeper| !sleeper.is_alive()).count();
    let notify = |count| changed.notify_many(&changed.lock().lock().unwrap(), count).unwrap();
    assert_eq!(changed.notify(&changed.lock().lock().unwrap()).unwrap(), 1);
    eventually("one is awake", || awake() == 1);
    assert_eq!(notify(2), 2);
    eventually("three are awake", || awake() == 3);
    std::thread::sleep(SHORT);
    assert_eq!(awake(), 3);
    // More than there are: what is too much is not there for those who come.
    assert_eq!(notify(10), 3);
    assert!(sleepers.into_iter().all(done));
    assert_eq!(notify(3), 0);
    let guard = changed.lock().lock().unwrap();
    assert!(!changed.wait_timeout(guard, SHORT).unwrap().1);
}

#[test]
fn b53_a_wait_needs_the_lock_and_says_that_its_time_is_over() {
    let (changed, other) = (Condition::new().unwrap(), Lock::new().unwrap());
    let guard = other.lock().unwrap();
    assert!(matches!(changed.wait_timeout(guard, SHORT), Err(LockError::WrongLock)));
    let guard = changed.lock().lock().unwrap();
    let start = Instant::now();
    let (_guard, notified) = changed.wait_timeout(guard, SHORT).unwrap();
    assert!(!notified && start.elapsed() >= SHORT);
}

#[test]
fn b54_a_wait_for_something_keeps_its_time_over_all_wakes() {
    let _watchdog = watchdog("b54");
    let (changed, scratch) = (Condition::new().unwrap(), Scratch::new());
    let wake = |changed: Condition, scratch: Scratch| {
        while scratch.get(0) == 0 {
            changed.notify(&changed.lock().lock().unwrap()).unwrap();
            std::thread::sleep(Duration::from_millis(3));
        }
    };
    let waker = Process::spawn(wake, (changed.clone(), scratch.clone())).unwrap();
    let guard = changed.lock().lock().unwrap();
    let start = Instant::now();
    let mut looked = 0;
    let (guard, holds) = changed
        .wait_for_timeout(guard, 4 * SHORT, || {
            looked += 1;
            false
        })
        .unwrap();
    assert!(!holds && start.elapsed() >= 4 * SHORT);
    drop(guard);
    scratch.put(0, 1);
    done(waker);
    assert!(looked >= 2, "looked {looked} times");
    let guard = changed.lock().lock().unwrap();
    assert!(changed.wait_for_timeout(guard, Duration::ZERO, || true).unwrap().1);
}

#[test]
fn b55_who_timed_out_does_not_disturb_later_notifications() {
    let _watchdog = watchdog("b55");
    let changed = Condition::new().unwrap();
    for round in 0..3 {
        let timed_out = Process::spawn(
            |changed: Condition| {
                let guard = changed.lock().lock().unwrap();
                changed.wait_timeout(guard, SHORT).unwrap().1
            },
            (changed.clone(),),
        );
        assert!(!done(timed_out.unwrap()), "round {round}");
        let sleepers = sleepers(&changed, 1);
        assert_eq!(changed.notify(&changed.lock().lock().unwrap()).unwrap(), 1, "round {round}");
        assert!(sleepers.into_iter().all(done));
        assert_eq!(changed.waiting(), 0);
    }
}

#[test]
fn b56_a_wait_for_an_event_says_whether_it_is_set() {
    let _watchdog = watchdog("b56");
    let event = Event::new().unwrap();
    assert!(!event.is_set());
    assert!(matches!(event.wait_timeout(Duration::ZERO), Err(WaitError::Timeout)));
    assert!(matches!(event.wait_timeout(SHORT), Err(WaitError::Timeout)));
    event.set();
    assert!(event.is_set() && event.wait_timeout(Duration::ZERO).is_ok() && event.wait().is_ok());
    event.clear();
    assert!(!event.is_set());
    let setter = Process::spawn(
        |event: Event| {
            std::thread::sleep(SHORT);
            event.set();
        },
        (event.clone(),),
    );
    event.wait().unwrap();
    done(setter.unwrap());
}

const PARTIES: u32 = 5;

#[test]
fn b57_one_party_is_the_first_and_the_action_runs_once() {
    let _watchdog = watchdog("b57");
    let (barrier, scratch) = (Barrier::new(PARTIES).unwrap(), Scratch::new());
    let meet = |barrier: Barrier, scratch: Scratch| barrier.wait_and(|| _ = scratch.add(0)).unwrap();
    let parties: Vec<_> =
        (0..PARTIES).map(|_| Process::spawn(meet, (barrier.clone(), scratch.clone())).unwrap()).collect();
    let numbers: Vec<_> = parties.into_iter().map(done).collect();
    assert_eq!(numbers.iter().filter(|number| **number == 0).count(), 1);
    assert_eq!(scratch.get(0), 1);
}

#[test]
fn b58_abort_and_time_out_break_it_and_reset_revives_it() {
    let _watchdog = watchdog("b58");
    let barrier = Barrier::new(PARTIES).unwrap();
    let wait = |barrier: Barrier| matches!(barrier.wait(), Err(BarrierError::Broken));
    let spawn = || Process::spawn(wait, (barrier.clone(),)).unwrap();
    for abort in [true, false] {
        let parties: Vec<_> = (0..PARTIES - 1).map(|_| spawn()).collect();
        if abort {
            eventually("they wait", || barrier.waiting() == PARTIES - 1);
            barrier.abort().unwrap();
        } else {
            eventually("all but one wait", || barrier.waiting() >= PARTIES - 2);
            let short = Barrier::wait_timeout(&barrier, Duration::ZERO);
            // The last one of them may have made it a meeting.
            if short.is_ok() {
                assert!(!parties.into_iter().any(done));
                continue;
            }
        }
        assert!(parties.into_iter().all(done));
        assert!(barrier.is_broken());
        barrier.reset().unwrap();
        assert!(!barrier.is_broken());
    }
    let parties: Vec<_> = (0..PARTIES - 1).map(|_| spawn()).collect();
    barrier.wait().unwrap();
    assert!(!parties.into_iter().any(done));
}

#[test]
fn b59_a_thousand_meetings_in_lockstep() {
    let _watchdog = watchdog("b59");
    fn meet(barrier: Barrier, scratch: Scratch, me: usize) {
        for turn in 1..=1000 {
            scratch.put(me, turn);
            barrier.wait_timeout(PATIENCE).unwrap();
            assert!((0..3).all(|other| [turn, turn + 1].contains(&scratch.get(other))));
        }
    }
    let (barrier, scratch) = (Barrier::new(3).unwrap(), Scratch::new());
    let parties: Vec<_> =
        (0..3).map(|me| Process::spawn(meet, (barrier.clone(), scratch.clone(), me)).unwrap()).collect();
    parties.into_iter().for_each(|party| done(party));
}
