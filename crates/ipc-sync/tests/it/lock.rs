//! The lock between processes, and what its owner's death does.

use std::time::{Duration, Instant};

use ipc_pipe::{Receiver, Sender, pipe};
use ipc_process::Process;
use ipc_sync::{Lock, LockError, options::LockOptions};
use ipc_testkit::processes::{done, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};

use crate::tools::{Scratch, enter, hold, leave};

fn add(lock: Lock, mut go: Receiver<u64>, times: u32) -> u32 {
    let seed = go.recv().unwrap();
    let mut waited = 0;
    for turn in 0..times {
        let before = Instant::now();
        let guard = lock.lock().unwrap();
        waited += u32::from(before.elapsed() > Duration::from_millis(5));
        // A tiny critical section, now and then a long one.
        if (seed + u64::from(turn)).is_multiple_of(97) {
            std::thread::sleep(Duration::from_micros(50));
        }
        drop(guard);
    }
    waited
}

#[test]
fn two_processes_take_turns() {
    let _watchdog = watchdog("two_processes_take_turns");
    let lock = Lock::new().unwrap();
    let mut workers = Vec::new();
    let mut starts = Vec::new();
    for _ in 0..3 {
        let (tx, rx) = pipe().unwrap();
        workers.push(Process::spawn(add, (lock.clone(), rx, 20_000)).unwrap());
        starts.push(tx);
    }
    for (n, start) in starts.iter_mut().enumerate() {
        start.send(&(n as u64)).unwrap();
    }
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(lock.owner().is_none());
}

#[test]
fn a_held_lock_is_not_had() {
    let _watchdog = watchdog("a_held_lock_is_not_had");
    let lock = Lock::new().unwrap();
    let owner = started(hold, lock.clone());
    assert_eq!(lock.owner().unwrap().pid(), Some(owner.id()));
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(lock.lock_timeout(SHORT), Err(LockError::Timeout)));
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn a_dead_owner_is_told_until_it_is_repaired() {
    let _watchdog = watchdog("a_dead_owner_is_told_until_it_is_repaired");
    let lock = Lock::new().unwrap();
    let owner = started(hold, lock.clone());
    let pid = owner.id();
    owner.kill().unwrap();
    let told = |result: Result<_, LockError>| match result {
        Err(LockError::OwnerDied { owner }) => assert_eq!(owner.pid(), Some(pid)),
        other => panic!("{other:?}"),
    };
    told(lock.lock().map(drop));
    told(lock.try_lock().map(drop));
    assert_eq!(lock.owner().unwrap().pid(), Some(pid));
    let guard = lock.recover().unwrap();
    assert_eq!(guard.died().unwrap().pid(), Some(pid));
    drop(guard);
    told(lock.lock_timeout(SHORT).map(drop));
    let guard = lock.recover().unwrap();
    guard.repaired();
    assert!(guard.died().is_none());
    drop(guard);
    drop(lock.lock().unwrap());
    let again = lock.recover().unwrap();
    assert!(again.died().is_none(), "there is nothing to recover");
    again.repaired();
}

#[test]
fn a_sleeper_is_told_of_the_death() {
    let _watchdog = watchdog("a_sleeper_is_told_of_the_death");
    let lock = Lock::new().unwrap();
    let owner = started(hold, lock.clone());
    let theirs = lock.clone();
    let waiter = std::thread::spawn(move || {
        let error = theirs.lock().map(drop).unwrap_err();
        (Instant::now(), error)
    });
    std::thread::sleep(Duration::from_millis(300));
    let killed = Instant::now();
    owner.kill().unwrap();
    let (told, error) = waiter.join().unwrap();
    assert!(matches!(error, LockError::OwnerDied { .. }), "{error}");
    eprintln!("told after {:?}", told - killed);
}

#[test]
fn what_is_given_up_stays_so_until_it_is_reset() {
    let lock = Lock::new().unwrap();
    lock.lock().unwrap().give_up();
    for _ in 0..2 {
        assert!(
            matches!(lock.lock(), Err(LockError::GivenUp { owner }) if owner.pid() == Some(std::process::id()))
        );
        assert!(matches!(lock.recover(), Err(LockError::GivenUp { .. })));
    }
    assert!(lock.reset());
    assert!(!lock.reset());
    let _guard = lock.lock().unwrap();
    assert!(!lock.reset(), "a lock that is held is in use");
}

#[test]
fn a_lock_without_state_passes_silently() {
    let _watchdog = watchdog("a_lock_without_state_passes_silently");
    let lock = LockOptions::default().passes_silently(true).new().unwrap();
    started(hold, lock.clone()).kill().unwrap();
    let guard = lock.lock_timeout(PATIENCE).unwrap();
    assert!(guard.died().is_none());
}

#[test]
fn a_thread_that_ends_with_the_lock_has_died_with_it() {
    let _watchdog = watchdog("a_thread_that_ends_with_the_lock_has_died_with_it");
    let lock = Lock::new().unwrap();
    let theirs = lock.clone();
    std::thread::spawn(move || std::mem::forget(theirs.lock().unwrap())).join().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied { .. })));
    // And one that ends without it has not.
    let other = Lock::new().unwrap();
    let theirs = other.clone();
    std::thread::spawn(move || drop(theirs.lock().unwrap())).join().unwrap();
    drop(other.lock().unwrap());
}

#[test]
fn nobody_waits_for_himself() {
    let lock = Lock::new().unwrap();
    let _guard = lock.lock().unwrap();
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    assert!(matches!(lock.recover(), Err(LockError::Deadlock)));
}

fn share(locks: Vec<Lock>) -> usize {
    locks.iter().filter(|lock| lock.lock().is_ok()).count()
}

#[test]
fn hundreds_of_locks_cost_few_descriptors_and_pages() {
    ipc_testkit::alone("lock::hundreds_of_locks_cost_few_descriptors_and_pages", || {
        let _first = Lock::new().unwrap();
        Process::spawn(share, (vec![],)).unwrap().join().unwrap();
        let before = ipc_testkit::open_descriptors();
        let locks: Vec<_> = (0..500).map(|_| Lock::new().unwrap()).collect();
        assert_eq!(ipc_testkit::open_descriptors(), before, "one file for all of them");
        assert_eq!(Process::spawn(share, (locks.clone(),)).unwrap().join().unwrap(), 500);
        assert_eq!(ipc_testkit::open_descriptors(), before);
    });
}

#[test]
fn only_one_is_inside() {
    let _watchdog = watchdog("only_one_is_inside");
    fn work(lock: Lock, scratch: Scratch) {
        for _ in 0..3000 {
            let _guard = lock.lock().unwrap();
            enter(&scratch, 0);
            // Not atomic: a turn would be lost if two were inside.
            scratch.put(1, scratch.get(1) + 1);
            leave(&scratch, 0);
        }
    }
    let (lock, scratch) = (Lock::new().unwrap(), Scratch::new());
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(work, (lock.clone(), scratch.clone())).unwrap()).collect();
    workers.into_iter().for_each(|worker| done(worker));
    assert_eq!(scratch.get(1), 9000);
}

#[test]
fn who_sleeps_gets_it_when_it_is_free() {
    let _watchdog = watchdog("who_sleeps_gets_it_when_it_is_free");
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            started(
                |lock: Lock, mut up: Sender<u32>| {
                    ready(&mut up);
                    drop(lock.lock().unwrap());
                },
                lock.clone(),
            )
        })
        .collect();
    std::thread::sleep(SHORT);
    drop(guard);
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
    assert!(lock.owner().is_none());
}

#[test]
fn recover_waits_for_the_living_and_may_have_a_time() {
    let _watchdog = watchdog("recover_waits_for_the_living_and_may_have_a_time");
    let lock = Lock::new().unwrap();
    let owner = started(hold, lock.clone());
    assert!(matches!(lock.recover_timeout(SHORT), Err(LockError::Timeout)));
    owner.kill().unwrap();
    let guard = lock.recover_timeout(PATIENCE).unwrap();
    assert_eq!(guard.died().unwrap().pid(), Some(owner.id()));
    // Others wait meanwhile; it is only told to them when it is left unrepaired.
    assert!(std::thread::scope(|scope| {
        scope.spawn(|| matches!(lock.lock_timeout(SHORT), Err(LockError::Timeout))).join().unwrap()
    }));
    guard.give_up();
    assert!(matches!(lock.lock(), Err(LockError::GivenUp { owner: died }) if died.pid() == Some(owner.id())));
    assert!(matches!(lock.recover_timeout(SHORT), Err(LockError::GivenUp { .. })));
    assert!(lock.reset());
    drop(lock.lock().unwrap());
}
