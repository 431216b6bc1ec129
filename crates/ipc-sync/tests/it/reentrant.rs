//! The lock that its holder may take again.

use std::time::Instant;

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{LockError, ReentrantLock};
use ipc_testkit::processes::{done, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};

use crate::tools::{Scratch, enter, leave};

fn hold(lock: ReentrantLock, mut up: Sender<u32>) {
    let _outer = lock.lock().unwrap();
    let _inner = lock.lock().unwrap();
    ready(&mut up);
    park()
}

#[test]
fn it_is_free_when_all_guards_are_gone_in_whatever_order() {
    let lock = ReentrantLock::new().unwrap();
    let first = lock.lock().unwrap();
    let second = lock.try_lock().unwrap();
    let third = lock.lock_timeout(SHORT).unwrap();
    assert_eq!((first.depth(), third.depth()), (3, 3));
    let is_free = || std::thread::scope(|scope| scope.spawn(|| lock.try_lock().is_ok()).join().unwrap());
    drop(first);
    assert!(!is_free());
    drop(third);
    assert_eq!(second.depth(), 1);
    assert!(!is_free());
    drop(second);
    assert!(is_free() && lock.owner().is_none());
}

#[test]
fn another_process_waits_for_the_outermost_guard() {
    let _watchdog = watchdog("another_process_waits_for_the_outermost_guard");
    let lock = ReentrantLock::new().unwrap();
    let owner = started(hold, lock.clone());
    assert_eq!(lock.owner().unwrap().pid(), Some(owner.id()));
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(lock.lock_timeout(SHORT), Err(LockError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    owner.kill().unwrap();
    let guard = lock.lock_timeout(PATIENCE).unwrap();
    assert_eq!(guard.depth(), 1, "what the dead one had is forgotten");
    drop(guard);
    assert!(lock.owner().is_none());
}

#[test]
fn only_one_is_inside_however_deep() {
    let _watchdog = watchdog("only_one_is_inside_however_deep");
    fn work(lock: ReentrantLock, scratch: Scratch) {
        for turn in 0..1500 {
            let guards: Vec<_> = (0..1 + turn % 4).map(|_| lock.lock().unwrap()).collect();
            enter(&scratch, 0);
            scratch.put(1, scratch.get(1) + 1);
            leave(&scratch, 0);
            assert_eq!(guards[0].depth(), guards.len() as u32);
        }
    }
    let (lock, scratch) = (ReentrantLock::new().unwrap(), Scratch::new());
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(work, (lock.clone(), scratch.clone())).unwrap()).collect();
    workers.into_iter().for_each(|worker| done(worker));
    assert_eq!(scratch.get(1), 4500);
}
