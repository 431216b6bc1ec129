//! Processes in PID namespaces of their own: process and thread ids say nothing about who is who.

use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{Condition, Event, Lock, LockError, Semaphore};
use ipc_testkit::processes::{alone, done, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, eventually, watchdog};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::tools::{Scratch, enter, leave};

/// From now on each process that this one starts first is number 1 of a new namespace. Whether that is allowed here.
fn new_namespace() -> bool {
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => true,
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => {
            eprintln!("skipped: no PID namespaces of one's own here");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

type Handles = (Lock, Semaphore, Event, Scratch);

/// In a namespace: holds both until it is killed.
fn hold((lock, permits, held, _): Handles) {
    assert_eq!(std::process::id(), 1);
    let _held = (lock.lock().unwrap(), permits.acquire().unwrap());
    held.set();
    park();
}

/// Takes turns with others, who are number 1 of a namespace as well.
fn take_turns((lock, permits, _, scratch): Handles) {
    assert_eq!(std::process::id(), 1);
    for _ in 0..500 {
        let guard = lock.lock_timeout(PATIENCE).unwrap();
        scratch.put(0, scratch.get(0) + 1);
        drop(guard);
        let permit = permits.acquire_timeout(PATIENCE).unwrap();
        scratch.put(1, scratch.get(1) + 1);
        drop(permit);
    }
}

fn handles() -> Handles {
    (Lock::new().unwrap(), Semaphore::new(1).unwrap(), Event::new().unwrap(), Scratch::new())
}

/// Starts a process in a namespace of its own, and waits for it. Whether that is allowed.
fn first_of_a_namespace(handles: Handles, mut up: Sender<u32>) -> bool {
    ready(&mut up);
    if !new_namespace() {
        return false;
    }
    done(Process::spawn(take_turns, (handles,)).unwrap());
    true
}

#[test]
fn equal_numbers_are_different_processes() {
    let _watchdog = watchdog("equal_numbers_are_different_processes");
    let handles = handles();
    let others: Vec<_> = (0..3).map(|_| started(first_of_a_namespace, handles.clone())).collect();
    let ran = others.into_iter().map(done).filter(|ran| *ran).count() as u64;
    assert_eq!((handles.3.get(0), handles.3.get(1)), (500 * ran, 500 * ran));
    assert!(handles.0.try_lock().is_ok());
}

#[test]
fn a_death_inside_is_told_outside() {
    let _watchdog = watchdog("a_death_inside_is_told_outside");
    fn test() {
        if !new_namespace() {
            return;
        }
        let handles = handles();
        let (lock, permits, held, _) = &handles;
        let inside = Process::spawn(hold, (handles.clone(),)).unwrap();
        held.wait_timeout(PATIENCE).unwrap();
        // Alive: nobody's number makes it dead.
        assert!(matches!(lock.lock_timeout(5 * SHORT), Err(LockError::Timeout)));
        assert!(permits.acquire_timeout(SHORT).is_err());
        assert_eq!(lock.owner().unwrap().pid(), Some(1), "as it knows itself");
        inside.kill().unwrap();
        match lock.lock_timeout(PATIENCE) {
            Err(LockError::OwnerDied { owner }) => assert_eq!(owner.pid(), Some(1)),
            ended => panic!("{ended:?}"),
        }
        drop(permits.acquire_timeout(PATIENCE).unwrap());
    }
    alone(test);
}

#[test]
fn a_death_outside_is_told_inside() {
    let _watchdog = watchdog("a_death_outside_is_told_inside");
    fn wait((lock, _, held, scratch): Handles) -> bool {
        scratch.put(0, 1);
        held.wait_timeout(PATIENCE).unwrap();
        matches!(lock.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. }))
    }
    fn inside(handles: Handles, mut up: Sender<u32>) -> bool {
        ready(&mut up);
        !new_namespace() || done(Process::spawn(wait, (handles,)).unwrap())
    }
    let handles = handles();
    let holder = started(
        |(lock, ..): Handles, mut up: Sender<u32>| {
            let _guard = lock.lock().unwrap();
            ready(&mut up);
            park();
        },
        handles.clone(),
    );
    let waiter = started(inside, handles.clone());
    handles.2.set();
    std::thread::sleep(2 * SHORT);
    holder.kill().unwrap();
    assert!(done(waiter));
}

#[test]
fn a_condition_over_the_border() {
    let _watchdog = watchdog("a_condition_over_the_border");
    fn wait(changed: Condition, scratch: Scratch) -> bool {
        let guard = changed.lock().lock().unwrap();
        let (_guard, holds) = changed.wait_for_timeout(guard, PATIENCE, || scratch.get(0) == 1).unwrap();
        holds
    }
    fn test() {
        if !new_namespace() {
            return;
        }
        let (changed, scratch) = (Condition::new().unwrap(), Scratch::new());
        let waiter = Process::spawn(wait, (changed.clone(), scratch.clone())).unwrap();
        eventually("it waits", || changed.waiting() == 1);
        enter(&scratch, 1);
        let guard = changed.lock().lock().unwrap();
        scratch.put(0, 1);
        assert_eq!(changed.notify(&guard).unwrap(), 1);
        drop(guard);
        leave(&scratch, 1);
        assert!(done(waiter));
    }
    alone(test);
}
