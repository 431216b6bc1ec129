//! Waits that nobody is left to end. Who waits is a process with one thread, as nobody in it could end the wait either.

use std::time::Duration;

use ipc_core::Classify;
use ipc_pipe::{Duplex, Sender, duplex, pipe};
use ipc_process::{Process, WorkerFn};
use ipc_sync::{Barrier, Condition, Event, Lock, LockError, ReentrantLock, RwLock, Semaphore, WaitError};
use ipc_testkit::processes::{alone, done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::tools::told;

/// The waiter alone has the object. While the others have it too it does not end; when they do not, it does.
fn ends<T, F>(make: fn() -> T, wait: F)
where
    T: Clone + Serialize + DeserializeOwned,
    F: WorkerFn<(T, Sender<u32>), Out = String>,
{
    let object = make();
    let waiter = started(wait, object.clone());
    std::thread::sleep(5 * SHORT);
    assert!(waiter.is_alive(), "this process still has it");
    let second = object.clone();
    drop(object);
    std::thread::sleep(2 * SHORT);
    assert!(waiter.is_alive(), "this process still has another handle");
    drop(second);
    assert_eq!(done(waiter), "Abandoned");
}

/// How a wait ended, in a form that travels.
fn kind<R, E: Classify>(result: Result<R, E>) -> String {
    result.map_or_else(|error| format!("{:?}", error.kind()), |_| "as it should".to_owned())
}

/// Waits for an event, and tells how that ended.
fn wait_for(event: Event, mut up: Sender<u32>) -> String {
    ready(&mut up);
    kind(event.wait())
}

#[test]
fn an_event_that_nobody_can_set() {
    let _watchdog = watchdog("an_event_that_nobody_can_set");
    ends(|| Event::new().unwrap(), wait_for);
}

#[test]
fn permits_that_nobody_has() {
    let _watchdog = watchdog("permits_that_nobody_has");
    ends(
        || Semaphore::new(1).unwrap(),
        |permits: Semaphore, mut up: Sender<u32>| {
            // Its own permit comes from nobody else either.
            let _held = permits.acquire().unwrap();
            ready(&mut up);
            kind(permits.acquire())
        },
    );
}

#[test]
fn a_condition_that_nobody_can_notify() {
    let _watchdog = watchdog("a_condition_that_nobody_can_notify");
    ends(
        || Condition::new().unwrap(),
        |changed: Condition, mut up: Sender<u32>| {
            ready(&mut up);
            let guard = changed.lock().lock().unwrap();
            let ended = kind(changed.wait(guard));
            // It is not held after an error, and the condition is of use.
            drop(changed.lock().try_lock().unwrap());
            assert_eq!(changed.waiting(), 0);
            ended
        },
    );
}

#[test]
fn a_barrier_that_nobody_can_come_to() {
    let _watchdog = watchdog("a_barrier_that_nobody_can_come_to");
    ends(
        || Barrier::new(2).unwrap(),
        |barrier: Barrier, mut up: Sender<u32>| {
            ready(&mut up);
            let ended = kind(barrier.wait());
            assert!(barrier.is_broken());
            ended
        },
    );
}

/// Takes something for good, and then has the object no more, but is alive and among those who share.
fn keep<T>(object: T, mut up: Sender<u32>, other: Event, take: impl FnOnce(&T)) {
    take(&object);
    drop(object);
    ready(&mut up);
    let _among_them = other.is_set();
    park();
}

/// What somebody holds who cannot give it back any more. `take` is what that one does, `wait` the waiter.
fn kept<T, F, G>(object: T, take: F, wait: G)
where
    T: Clone + Serialize + DeserializeOwned,
    F: WorkerFn<(T, Sender<u32>, Event), Out = ()>,
    G: WorkerFn<(T, Sender<u32>), Out = String>,
{
    let (tx, mut rx) = pipe().unwrap();
    let _keeper = Process::spawn(take, (object.clone(), tx, Event::new().unwrap())).unwrap();
    told::<u32>(&mut rx);
    let waiter = started(wait, object.clone());
    std::thread::sleep(5 * SHORT);
    assert!(waiter.is_alive(), "this process could still do something about it");
    drop(object);
    assert_eq!(done(waiter), "Abandoned");
}

#[test]
fn a_lock_whose_owner_has_it_no_more() {
    let _watchdog = watchdog("a_lock_whose_owner_has_it_no_more");
    kept(
        Lock::new().unwrap(),
        |lock: Lock, up: Sender<u32>, other: Event| {
            keep(lock, up, other, |lock| std::mem::forget(lock.lock().unwrap()))
        },
        |lock: Lock, mut up: Sender<u32>| {
            ready(&mut up);
            kind(lock.lock())
        },
    );
    kept(
        ReentrantLock::new().unwrap(),
        |lock: ReentrantLock, up: Sender<u32>, other: Event| {
            keep(lock, up, other, |lock| std::mem::forget(lock.lock().unwrap()))
        },
        |lock: ReentrantLock, mut up: Sender<u32>| {
            ready(&mut up);
            kind(lock.lock())
        },
    );
}

#[test]
fn a_rwlock_whose_owner_has_it_no_more() {
    let _watchdog = watchdog("a_rwlock_whose_owner_has_it_no_more");
    let write = |lock: RwLock, mut up: Sender<u32>| {
        ready(&mut up);
        kind(lock.write())
    };
    let read = |lock: RwLock, mut up: Sender<u32>| {
        ready(&mut up);
        kind(lock.read())
    };
    let writer = |lock: RwLock, up: Sender<u32>, other: Event| {
        keep(lock, up, other, |lock| std::mem::forget(lock.write().unwrap()))
    };
    let reader = |lock: RwLock, up: Sender<u32>, other: Event| {
        keep(lock, up, other, |lock| std::mem::forget(lock.read().unwrap()))
    };
    kept(RwLock::new().unwrap(), writer, read);
    kept(RwLock::new().unwrap(), writer, write);
    kept(RwLock::new().unwrap(), reader, write);
    // No place for another reader.
    kept(RwLock::with_readers(1).unwrap(), reader, read);
}

#[test]
fn who_has_nothing_of_it_any_more_is_as_good_as_dead() {
    let _watchdog = watchdog("who_has_nothing_of_it_any_more_is_as_good_as_dead");
    // As above, but the guard was all that the process had from this one.
    let lock = Lock::new().unwrap();
    let _keeper = started(
        |lock: Lock, mut up: Sender<u32>| {
            std::mem::forget(lock.lock().unwrap());
            drop(lock);
            ready(&mut up);
            park();
        },
        lock.clone(),
    );
    assert!(matches!(lock.lock_timeout(PATIENCE), Err(LockError::OwnerDied { .. })));
}

#[test]
fn a_handle_in_flight_could_be_received_yet() {
    let _watchdog = watchdog("a_handle_in_flight_could_be_received_yet");
    let (tx, rx) = duplex::<Event, Event>().unwrap();
    let mut tx = tx;
    let event = Event::new().unwrap();
    tx.send(&event).unwrap();
    let waiter = started(wait_for, event.clone());
    drop(event);
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiter.is_alive(), "it is in the pipe");
    drop(rx);
    assert_eq!(done(waiter), "Abandoned");

    // And if it is received, it is of use.
    let (mut tx, mut rx) = duplex::<Event, Event>().unwrap();
    let event = Event::new().unwrap();
    tx.send(&event).unwrap();
    let waiter = started(wait_for, event.clone());
    drop(event);
    std::thread::sleep(2 * SHORT);
    rx.recv_timeout(PATIENCE).unwrap().set();
    assert_eq!(done(waiter), "as it should");
}

#[test]
fn the_death_of_the_creator_ends_the_wait() {
    let _watchdog = watchdog("the_death_of_the_creator_ends_the_wait");
    fn create(mut to: Duplex<(Event, Semaphore), ()>) {
        let made = (Event::new().unwrap(), Semaphore::new(0).unwrap());
        to.send(&made).unwrap();
        park();
    }
    fn wait(mut from: Duplex<(), (Event, Semaphore)>, mut up: Sender<u32>) -> [String; 2] {
        let (event, permits) = from.recv().unwrap();
        ready(&mut up);
        [kind(event.wait()), kind(permits.acquire())]
    }
    let (to, from) = duplex().unwrap();
    let creator = Process::spawn(create, (to,)).unwrap();
    let (up, mut rx) = pipe::<u32>().unwrap();
    let waiter = Process::spawn(wait, (from, up)).unwrap();
    told(&mut rx);
    std::thread::sleep(4 * SHORT);
    assert!(waiter.is_alive());
    kill(creator);
    assert_eq!(done(waiter), ["Abandoned", "Abandoned"]);
}

#[test]
fn the_last_of_several_is_told() {
    let _watchdog = watchdog("the_last_of_several_is_told");
    let event = Event::new().unwrap();
    let mut waiters: Vec<_> = (0..3).map(|_| started(wait_for, event.clone())).collect();
    drop(event);
    std::thread::sleep(5 * SHORT);
    // Each could set it.
    assert!(waiters.iter().all(Process::is_alive));
    let last = waiters.pop().unwrap();
    waiters.into_iter().for_each(kill);
    assert_eq!(done(last), "Abandoned");
}

#[test]
fn another_thread_could_end_the_wait() {
    let _watchdog = watchdog("another_thread_could_end_the_wait");
    alone(|| {
        let event = Event::new().unwrap();
        let theirs = event.clone();
        let setter = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            theirs.set();
        });
        event.wait().unwrap();
        setter.join().unwrap();
        event.clear();
        assert!(matches!(event.wait(), Err(WaitError::Abandoned)));
    });
}

#[test]
fn a_time_is_over_before_anybody_is_missed() {
    alone(|| {
        let event = Event::new().unwrap();
        assert!(matches!(event.wait_timeout(Duration::from_millis(1)), Err(WaitError::Timeout)));
        assert!(matches!(event.wait_timeout(PATIENCE), Err(WaitError::Abandoned)));
        let permits = Semaphore::new(0).unwrap();
        assert!(matches!(permits.try_acquire(), Err(WaitError::WouldBlock)));
        assert!(matches!(permits.acquire_timeout(PATIENCE), Err(WaitError::Abandoned)));
    });
}
