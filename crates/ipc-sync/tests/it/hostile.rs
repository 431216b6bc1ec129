//! Objects whose words somebody else scribbles over: wrong values and errors, and nothing worse.

use std::time::Duration;

use ipc_process::Process;
use ipc_sync::object::Object;
use ipc_sync::{Barrier, Condition, Event, Lock, LockGuard, ReentrantLock, RwLock, Semaphore};
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::taken_for;
use ipc_testkit::processes::{alone, done};
use ipc_testkit::{PATIENCE, watchdog};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::tools::{KINDS, Raw, STOP, Scratch, goes_on};

const TURNS: u64 = 250;
const SCRIBBLES: u64 = 400;
const SOON: Duration = Duration::from_millis(2);

/// Anything that an object of that length could hold.
fn noise(numbers: &mut Numbers, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        // Small numbers, bits, and anything.
        let word = match numbers.below(6) {
            0 => 0,
            1 => 1 << numbers.below(64),
            2 => numbers.below(16),
            3 => u64::MAX,
            // Somebody who may be alive: seats are taken from the first on.
            4 => {
                (1 + numbers.below(6)) << 2
                    | numbers.below(4) << 12
                    | (1 + numbers.below(3)) << 18
                    | numbers.below(4)
            }
            _ => numbers.any(),
        };
        bytes.extend(word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Scribbles until it is told to end.
fn scribble<const KIND: usize>(object: Raw<KIND>, scratch: Scratch, seed: u64) {
    let mut numbers = Numbers(seed);
    while goes_on(&scratch) {
        let len = [4, 8, 64, object.0.len()][numbers.below(4) as usize].min(object.0.len());
        let offset = (numbers.below((object.0.len() - len) as u64 + 1) & !3) as usize;
        object.0.write(offset, &noise(&mut numbers, len)).unwrap();
        scratch.add(0);
        std::thread::sleep(Duration::from_micros(numbers.below(300)));
    }
    // So that who waits without a time gets on: as if nothing had ever been there.
    let header = vec![0; 8];
    object.0.write(0, &header).unwrap();
}

/// Uses the object while another process scribbles over it, and objects that are noise from the beginning.
fn endure<const KIND: usize, T>(object: T, work: impl Fn(&T, &mut Numbers))
where
    T: Serialize + DeserializeOwned,
{
    let mut numbers = Numbers(KIND as u64 + 11);
    let scratch = Scratch::new();
    let memory: Raw<KIND> = taken_for(&object).unwrap();
    let scribbler = Process::spawn(scribble::<KIND>, (memory.clone(), scratch.clone(), 77)).unwrap();
    ipc_testkit::eventually("it scribbles", || scratch.get(0) > 0);
    let mut turns = 0;
    while turns < TURNS || scratch.get(0) < SCRIBBLES {
        turns += 1;
        work(&object, &mut numbers);
        // As one who joins now finds it.
        if let Ok(another) = taken_for::<Raw<KIND>, T>(&memory) {
            work(&another, &mut numbers);
        }
    }
    scratch.put(STOP, 1);
    done(scribbler);
    for _ in 0..TURNS {
        let memory = Raw::<KIND>(Object::new(64 << numbers.below(5)).unwrap());
        let len = memory.0.len();
        memory.0.write(0, &noise(&mut numbers, len)).unwrap();
        if let Ok(object) = taken_for::<Raw<KIND>, T>(&memory) {
            work(&object, &mut numbers);
        }
    }
    eprintln!("{}: endured {} scribbles", KINDS[KIND].name(), scratch.get(0));
}

#[test]
fn a_scribbled_lock() {
    let _watchdog = watchdog("a_scribbled_lock");
    alone(|| {
        endure::<1, _>(Lock::new().unwrap(), |lock, numbers| {
            let _ = format!("{lock:?} {:?}", lock.owner());
            let give_up = |guard: LockGuard<'_>| guard.give_up();
            match numbers.below(6) {
                0 => drop(lock.try_lock()),
                1 => drop(lock.recover_timeout(SOON).map(|guard| guard.repaired())),
                2 => drop(lock.recover_timeout(SOON).map(give_up)),
                3 => _ = lock.reset(),
                _ => drop(lock.lock_timeout(SOON)),
            }
        });
    });
}

#[test]
fn a_scribbled_reentrant_lock() {
    let _watchdog = watchdog("a_scribbled_reentrant_lock");
    alone(|| {
        endure::<2, _>(ReentrantLock::new().unwrap(), |lock, _| {
            let _ = format!("{lock:?} {:?}", lock.owner());
            let outer = lock.lock_timeout(SOON);
            let inner = lock.try_lock();
            let _any = inner.as_ref().map(|guard| guard.depth());
            drop(outer);
            drop(inner);
        });
    });
}

#[test]
fn a_scribbled_rwlock() {
    let _watchdog = watchdog("a_scribbled_rwlock");
    alone(|| {
        endure::<3, _>(RwLock::new().unwrap(), |lock, numbers| {
            let _ = format!("{lock:?} {}", lock.readers());
            match numbers.below(5) {
                0 => drop((lock.try_read(), lock.try_read())),
                1 => drop(lock.try_write()),
                2 => drop(lock.write_timeout(SOON)),
                3 => _ = lock.reset(),
                _ => drop((lock.read_timeout(SOON), lock.write_timeout(SOON))),
            }
        });
    });
}

#[test]
fn a_scribbled_semaphore() {
    let _watchdog = watchdog("a_scribbled_semaphore");
    alone(|| {
        endure::<4, _>(Semaphore::new(3).unwrap(), |permits, numbers| {
            let _ = format!("{permits:?} {}", permits.available());
            match numbers.below(5) {
                0 => drop(permits.try_acquire()),
                1 => _ = permits.release(),
                2 => _ = permits.release_many(numbers.any() as u32),
                3 => drop(permits.try_acquire().map(|permit| permit.forget())),
                _ => drop((permits.acquire_timeout(SOON), permits.acquire_timeout(SOON))),
            }
        });
    });
}

#[test]
fn a_scribbled_event() {
    let _watchdog = watchdog("a_scribbled_event");
    alone(|| {
        endure::<5, _>(Event::new().unwrap(), |event, numbers| {
            let _ = format!("{event:?}");
            match numbers.below(4) {
                0 => event.set(),
                1 => _ = event.clear(),
                _ => _ = event.wait_timeout(SOON),
            }
        });
    });
}

#[test]
fn a_scribbled_condition() {
    let _watchdog = watchdog("a_scribbled_condition");
    alone(|| {
        // The lock that belongs to it is scribbled over too.
        let changed = Condition::new().unwrap();
        let use_it = |changed: &Condition, numbers: &mut Numbers| {
            let _ = format!("{changed:?}");
            let Ok(guard) = changed.lock().recover_timeout(SOON) else { return };
            match numbers.below(4) {
                0 => _ = changed.notify(&guard),
                1 => _ = changed.notify_all(&guard),
                2 => _ = changed.notify_many(&guard, numbers.any() as usize),
                _ => drop(changed.wait_timeout(guard, SOON)),
            }
        };
        let mut numbers = Numbers(5);
        // Not by `endure`: a condition's handle is not one object alone.
        let memory: (Raw<6>, Option<Lock>) = taken_for(&changed).unwrap();
        let scratch = Scratch::new();
        let scribbler = Process::spawn(scribble::<6>, (memory.0.clone(), scratch.clone(), 78)).unwrap();
        while scratch.get(0) < SCRIBBLES {
            use_it(&changed, &mut numbers);
            if let Ok(another) = taken_for::<_, Condition>(&memory) {
                use_it(&another, &mut numbers);
            }
        }
        scratch.put(STOP, 1);
        done(scribbler);
    });
}

#[test]
fn a_scribbled_barrier() {
    let _watchdog = watchdog("a_scribbled_barrier");
    alone(|| {
        endure::<7, _>(Barrier::new(2).unwrap(), |barrier, numbers| {
            let _ = format!("{barrier:?} {}", barrier.waiting());
            match numbers.below(5) {
                0 => _ = barrier.abort(),
                1 | 2 => _ = barrier.reset(),
                _ => _ = barrier.wait_timeout_and(SOON, || ()),
            }
        });
    });
}

#[test]
fn a_scribbled_object_is_of_use_again_when_it_is_put_in_order() {
    let _watchdog = watchdog("a_scribbled_object_is_of_use_again_when_it_is_put_in_order");
    let lock = Lock::new().unwrap();
    let memory: Raw<1> = taken_for(&lock).unwrap();
    memory.0.write(0, &[0xff; 64]).unwrap();
    assert!(lock.lock_timeout(PATIENCE).is_err());
    lock.recover_timeout(PATIENCE).unwrap().repaired();
    drop(lock.lock_timeout(PATIENCE).unwrap());
    // A guard whose word was taken away gives nothing back.
    let guard = lock.lock().unwrap();
    memory.0.write(0, &[0; 8]).unwrap();
    let second =
        std::thread::scope(|scope| scope.spawn(|| lock.try_lock().map(std::mem::forget)).join().unwrap());
    second.unwrap();
    drop(guard);
    assert!(lock.try_lock().is_err(), "it is the other one's");
}
