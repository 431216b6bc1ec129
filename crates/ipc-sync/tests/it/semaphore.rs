//! Permits that processes share.

use std::time::Instant;

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_sync::{BoundedSemaphore, Semaphore, WaitError};
use ipc_testkit::processes::{done, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};

use crate::tools::Scratch;

#[test]
fn there_are_as_many_as_there_are() {
    let permits = Semaphore::new(3).unwrap();
    let held: Vec<_> = (0..3).map(|_| permits.try_acquire().unwrap()).collect();
    assert!(matches!(permits.try_acquire(), Err(WaitError::WouldBlock)));
    assert_eq!(permits.available(), 0);
    let start = Instant::now();
    assert!(matches!(permits.acquire_timeout(SHORT), Err(WaitError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    drop(held);
    assert_eq!(permits.available(), 3);
    permits.release_many(2).unwrap();
    assert_eq!(permits.available(), 5);
    permits.release_many(0).unwrap();
    permits.acquire().unwrap().forget();
    assert_eq!(permits.available(), 4);
    assert_eq!(permits.release_many(u32::MAX).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(permits.available(), 4);
    assert_eq!(Semaphore::new(u32::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    let most = Semaphore::new(i32::MAX as u32).unwrap();
    assert!(most.release().is_err() && most.try_acquire().is_ok());
    let none = Semaphore::new(0).unwrap();
    assert!(matches!(none.try_acquire(), Err(WaitError::WouldBlock)));
    none.release().unwrap();
    none.try_acquire().unwrap().forget();
    assert_eq!(none.available(), 0);
}

#[test]
fn who_sleeps_gets_a_permit_that_comes_back() {
    let _watchdog = watchdog("who_sleeps_gets_a_permit_that_comes_back");
    let permits = Semaphore::new(2).unwrap();
    let held = (permits.acquire().unwrap(), permits.acquire().unwrap());
    let sleepers: Vec<_> = (0..4)
        .map(|_| {
            started(
                |permits: Semaphore, mut up: Sender<u32>| {
                    ready(&mut up);
                    drop(permits.acquire().unwrap());
                },
                permits.clone(),
            )
        })
        .collect();
    std::thread::sleep(SHORT);
    drop(held);
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
    assert_eq!(permits.available(), 2);
}

#[test]
fn a_signal_wakes_as_many_as_there_are_permits() {
    let _watchdog = watchdog("a_signal_wakes_as_many_as_there_are_permits");
    let signal = Semaphore::new(0).unwrap();
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            started(
                |signal: Semaphore, mut up: Sender<u32>| {
                    ready(&mut up);
                    signal.acquire().unwrap().forget();
                },
                signal.clone(),
            )
        })
        .collect();
    std::thread::sleep(SHORT);
    signal.release_many(3).unwrap();
    sleepers.into_iter().for_each(|sleeper| done(sleeper));
    assert_eq!(signal.available(), 0);
}

#[test]
fn nobody_has_more_than_there_are() {
    let _watchdog = watchdog("nobody_has_more_than_there_are");
    fn work(permits: Semaphore, scratch: Scratch) {
        for turn in 0..1000 {
            let held: Vec<_> = (0..1 + turn % 2).map(|_| permits.acquire()).collect();
            for _ in &held {
                assert!(scratch.add(0) < 4, "five at the same time");
            }
            for _ in &held {
                scratch.at(0).fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    // Three who want two each at most, of four: one always gets on.
    let (permits, scratch) = (Semaphore::new(4).unwrap(), Scratch::new());
    let workers: Vec<_> =
        (0..3).map(|_| Process::spawn(work, (permits.clone(), scratch.clone())).unwrap()).collect();
    workers.into_iter().for_each(|worker| done(worker));
    assert_eq!(permits.available(), 4);
}

#[test]
fn a_bounded_one_has_no_more_than_at_first() {
    let permits = BoundedSemaphore::new(2).unwrap();
    assert_eq!(permits.bound(), 2);
    let error = permits.release().unwrap_err();
    assert_eq!((error.kind(), error.bound), (ErrorKind::Limit, 2));
    let held = permits.acquire().unwrap();
    assert!(permits.release().is_err(), "one that somebody has comes back by itself");
    held.forget();
    permits.release().unwrap();
    assert!(permits.release().is_err());
    assert_eq!(permits.available(), 2);
    let theirs = Process::spawn(
        |permits: BoundedSemaphore| {
            let _held = (permits.try_acquire().unwrap(), permits.acquire_timeout(PATIENCE).unwrap());
            (permits.release().is_err(), permits.bound(), permits.available())
        },
        (permits.clone(),),
    );
    assert_eq!(done(theirs.unwrap()), (true, 2, 0));
    assert_eq!(permits.available(), 2, "they came back when the process ended");
}

#[test]
fn permits_belong_to_the_process_and_not_to_a_thread() {
    let _watchdog = watchdog("permits_belong_to_the_process_and_not_to_a_thread");
    let permits = Semaphore::new(1).unwrap();
    let theirs = permits.clone();
    let permit = std::thread::spawn(move || theirs.acquire().unwrap()).join().unwrap();
    std::thread::sleep(SHORT);
    assert!(permits.try_acquire().is_err());
    std::thread::spawn(move || drop(permit)).join().unwrap();
    drop(permits.try_acquire().unwrap());
}

#[test]
fn more_processes_than_places_wait_for_a_place() {
    let _watchdog = watchdog("more_processes_than_places_wait_for_a_place");
    // Twelve places for holders, and many more permits.
    let permits = Semaphore::new(1).unwrap();
    permits.release_many(30).unwrap();
    let hold = |permits: Semaphore, mut up: Sender<u32>| {
        let _permit = permits.acquire().unwrap();
        ready(&mut up);
        park()
    };
    let holders: Vec<Process<()>> = (0..12).map(|_| started(hold, permits.clone())).collect();
    assert!(matches!(permits.try_acquire(), Err(WaitError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(permits.acquire_timeout(SHORT), Err(WaitError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    let waiter = started(
        |permits: Semaphore, mut up: Sender<u32>| {
            ready(&mut up);
            drop(permits.acquire().unwrap());
        },
        permits.clone(),
    );
    std::thread::sleep(SHORT);
    holders[5].kill().unwrap();
    done(waiter);
    ipc_testkit::eventually("the dead one's place is free", || permits.try_acquire().is_ok());
}
