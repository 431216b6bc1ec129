//! Many values that processes share.

use std::fmt::Debug;
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_pipe::Sender;
use ipc_process::Process;
use ipc_shm::{Array, OutOfRange, Plain};
use ipc_sync::{LockError, OpenError};
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::echo;
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::tools::*;

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Cell {
    count: u64,
    sum: f64,
}

fn outside<R: Debug>(result: Result<R, OutOfRange>, range: std::ops::Range<usize>, len: usize) {
    let error = result.unwrap_err();
    assert_eq!((error.range.clone(), error.len, error.kind()), (range, len, ErrorKind::InvalidInput));
}

/// All that can be done to an array, with a process at the other end.
fn elements<T: Plain + PartialEq + Debug>(make: fn(usize) -> T) {
    for len in [1, 2, 3, 7, 64, 1000, 20_001] {
        let array = Array::from_iter((0..len).map(make)).unwrap();
        assert_eq!((array.len(), array.is_empty()), (len, false));
        assert_eq!(echo(&array).to_vec(), (0..len).map(make).collect::<Vec<_>>());
        assert!(array.iter().eq((0..len).map(make)));
        let last = len - 1;
        array.set(last, make(5)).unwrap();
        assert_eq!((array.get(last).unwrap(), array.get(0).unwrap() == make(0)), (make(5), len > 1));
        array.set(0, make(6)).unwrap();
        if len > 2 {
            // The neighbours are what they were.
            assert_eq!((array.get(1).unwrap(), array.get(last - 1).unwrap()), (make(1), make(last - 1)));
        }
        array.write(0, &(0..len).map(|n| make(n + 3)).collect::<Vec<_>>()).unwrap();
        let mut part = vec![make(0); len / 2];
        array.read_into(len - len / 2, &mut part).unwrap();
        assert!(part.iter().enumerate().all(|(n, x)| *x == make(n + len - len / 2 + 3)));
        array.write(len, &[]).unwrap();
        array.read_into(len, &mut []).unwrap();
        for index in [len, len + 1, usize::MAX / 2, usize::MAX - 1, usize::MAX] {
            assert!(array.get(index).is_err() && array.set(index, make(0)).is_err());
            assert!(array.write(index, &[make(0)]).is_err());
            assert!(array.read_into(index, &mut [make(0), make(0)]).is_err());
            assert!(index == len || array.write(index, &[]).is_err());
        }
        assert!(array.write(1, &vec![make(0); len]).is_err());
        assert_eq!(array.get(0).unwrap(), make(3), "nothing is copied");
        let guard = array.lock().unwrap();
        guard.update_all(|n, old| if old == make(n + 3) { make(n + 1) } else { old });
        assert_eq!((guard.len(), guard.is_empty()), (len, false));
        assert!(guard.iter().eq((0..len).map(|n| make(n + 1))));
        assert_eq!(
            guard.update(last, |old| if old == make(len) { make(9) } else { old }).unwrap(),
            make(len)
        );
        assert_eq!(guard.get(last).unwrap(), make(9));
        guard.set(last, make(8)).unwrap();
        guard.write(0, &[make(7)]).unwrap();
        guard.read_into(0, &mut part[..len / 2]).unwrap();
        assert_eq!(guard.to_vec()[0], if len == 1 { make(7) } else { part[0] });
        assert!(guard.get(len).is_err() && guard.set(usize::MAX, make(0)).is_err());
        assert!(guard.update(usize::MAX, |x| x).is_err() && guard.write(last, &[make(0); 2]).is_err());
        assert!(guard.read_into(usize::MAX, &mut part[..1.min(len / 2)]).is_err());
        assert!(guard.died().is_none());
        guard.repaired();
    }
    let array = Array::from_iter((0..1001).map(make)).unwrap();
    fn reverse<T: Plain>(array: Array<T>) {
        let all = array.to_vec();
        array.lock().unwrap().update_all(|n, _| all[all.len() - 1 - n]);
    }
    done(Process::spawn(reverse::<T>, (array.clone(),)).unwrap());
    assert!(array.iter().eq((0..1001).rev().map(make)));
    assert_eq!(format!("{array:?}"), "Array { len: 1001, .. }");
}

#[test]
fn elements_of_all_sizes() {
    let _watchdog = watchdog("elements_of_all_sizes");
    elements::<u8>(|n| (n * 7) as u8);
    elements::<i16>(|n| (n * 777) as i16);
    elements::<[u8; 3]>(|n| [n as u8, (n >> 8) as u8, !n as u8]);
    elements::<f32>(|n| n as f32 / 3.0);
    elements::<[u16; 2]>(|n| [n as u16, !n as u16]);
    elements::<u64>(|n| (n as u64) << 40 | 1);
    elements::<[i8; 8]>(|n| (n as u64).to_le_bytes().map(|b| b as i8));
    elements::<Cell>(|n| Cell { count: n as u64, sum: -(n as f64) });
    elements::<u128>(|n| n as u128 | 1 << 127);
}

#[test]
fn places_outside_are_told() {
    let array = Array::from_slice(&[1_u16, 2, 3]).unwrap();
    outside(array.get(3), 3..4, 3);
    outside(array.set(3, 0), 3..4, 3);
    outside(array.write(2, &[0, 0]), 2..4, 3);
    outside(array.read_into(0, &mut [0; 4]), 0..4, 3);
    outside(array.get(usize::MAX), usize::MAX..usize::MAX, 3);
    outside(array.write(usize::MAX - 1, &[0; 2]), usize::MAX - 1..usize::MAX, 3);
    assert_eq!(array.get(3).unwrap_err().to_string(), "elements 3 to 4 of an array that has 3");
}

#[test]
fn lengths_that_no_array_has() {
    fn no(result: Result<Array<impl Plain>, OpenError>) {
        assert!(matches!(result, Err(OpenError::InvalidInput(_))), "{result:?}");
    }
    no(Array::<u64>::new(0));
    no(Array::<u8>::from_slice(&[]));
    no(Array::<u8>::from_iter([]));
    no(Array::<[u8; 0]>::new(10));
    no(Array::<u64>::new(usize::MAX));
    no(Array::<u64>::new(usize::MAX / 8));
    no(Array::<u8>::new(usize::MAX - 128));
    no(Array::<u8>::new(usize::MAX));
    no(Array::<u8>::new(isize::MAX as usize));
    no(Array::<u64>::create("none", 0));
    no(Array::<u64>::open_or_create("none", usize::MAX / 4));
    // More than there are addresses: before any memory is taken.
    let result = Array::<u64>::new(1 << 56);
    assert!(matches!(&result, Err(OpenError::NoSpace(_) | OpenError::Io(_))), "{result:?}");
}

#[test]
fn memory_that_is_used_again_is_zero() {
    let _watchdog = watchdog("memory_that_is_used_again_is_zero");
    for round in 0..200_usize {
        // Also other sizes of the same place, and after another process has scribbled into it.
        let array = Array::<u16>::new(1 + round * 37 % 600).unwrap();
        assert!(array.iter().all(|element| element == 0), "round {round}");
        assert!(array.lock().unwrap().died().is_none());
        array.lock().unwrap().update_all(|_, _| 0xffff);
        if round % 50 == 7 {
            let fill = |array: Array<u16>| array.lock().unwrap().give_up();
            done(Process::spawn(fill, (array.clone(),)).unwrap());
            assert!(matches!(array.lock(), Err(LockError::GivenUp { .. })));
        }
    }
}

#[test]
fn tens_of_megabytes() {
    let _watchdog = watchdog("tens_of_megabytes");
    const LEN: usize = 6 << 20;
    fn sum(array: Array<f64>) -> f64 {
        array.set(7, 1e9).unwrap();
        let mut part = vec![0.0; 1 << 20];
        (0..6)
            .map(|n| {
                array.read_into(n << 20, &mut part).unwrap();
                part.iter().sum::<f64>()
            })
            .sum()
    }
    let array = Array::<f64>::new(LEN).unwrap();
    let ones = vec![1.0; 1 << 20];
    for n in 0..6 {
        array.write(n << 20, &ones).unwrap();
    }
    assert_eq!(done(Process::spawn(sum, (array.clone(),)).unwrap()), LEN as f64 - 1.0 + 1e9);
    assert_eq!((array.get(7).unwrap(), array.get(LEN - 1).unwrap()), (1e9, 1.0));
}

#[test]
fn nothing_is_lost_under_the_lock() {
    let _watchdog = watchdog("nothing_is_lost_under_the_lock");
    fn count<T: Plain>(array: Array<T>, wide: Array<u64>, add: fn(T) -> T) {
        for turn in 0..2000 {
            let guard = array.lock().unwrap();
            guard.update(turn % 10, add).unwrap();
            drop(guard);
            let guard = wide.lock().unwrap();
            let mut pair = [0; 2];
            guard.read_into(3, &mut pair).unwrap();
            assert_eq!(pair[0], pair[1]);
            guard.write(3, &pair.map(|n| n + 1)).unwrap();
        }
    }
    fn narrow(array: Array<u16>, wide: Array<u64>) {
        count(array, wide, |n| n + 1);
    }
    fn odd(array: Array<[u8; 3]>, wide: Array<u64>) {
        count(array, wide, |n| {
            let n = u32::from_le_bytes([n[0], n[1], n[2], 0]) + 1;
            n.to_le_bytes()[..3].try_into().unwrap()
        });
    }
    let (a, b) = (Array::<u16>::new(10).unwrap(), Array::<[u8; 3]>::new(10).unwrap());
    let wide = Array::<u64>::new(5).unwrap();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Process::spawn(narrow, (a.clone(), wide.clone())).unwrap());
        workers.push(Process::spawn(odd, (b.clone(), wide.clone())).unwrap());
    }
    workers.into_iter().for_each(done);
    assert_eq!(a.to_vec(), [600; 10]);
    assert_eq!(b.to_vec(), [[(600 & 0xff) as u8, (600 >> 8) as u8, 0]; 10]);
    assert_eq!(wide.to_vec(), [0, 0, 0, 12_000, 12_000]);
}

/// Elements of two bytes and their neighbours are set by several at once: none is ever half of one and half of another.
#[test]
fn small_elements_are_never_torn() {
    let _watchdog = watchdog("small_elements_are_never_torn");
    fn set(array: Array<u16>, stop: Array<u64>, own: usize) {
        let mut n = 0_u16;
        while goes_on(&stop) {
            for _ in 0..200 {
                n = n.wrapping_add(1);
                let byte = n & 0xff;
                array.set(0, byte << 8 | byte).unwrap();
                array.set(own, n).unwrap();
                assert_eq!(array.get(own).unwrap(), n, "only this process sets it");
                let shared = array.get(0).unwrap();
                assert_eq!(shared >> 8, shared & 0xff, "{shared:#x}");
            }
        }
    }
    let (array, stop) = (Array::<u16>::new(5).unwrap(), Array::<u64>::new(1).unwrap());
    let workers: Vec<_> =
        [1, 2].map(|own| Process::spawn(set, (array.clone(), stop.clone(), own)).unwrap()).into();
    std::thread::sleep(Duration::from_millis(300));
    stop.set(0, 1).unwrap();
    workers.into_iter().for_each(done);
    assert_eq!((array.get(3).unwrap(), array.get(4).unwrap()), (0, 0));
}

#[test]
fn large_elements_are_torn_only_without_the_lock() {
    let _watchdog = watchdog("large_elements_are_torn_only_without_the_lock");
    fn set(array: Array<[u64; 8]>, scratch: Scratch, seed: u64) {
        let mut n = seed;
        while goes_on(&scratch) {
            n = n.wrapping_add(1);
            let guard = array.lock().unwrap();
            guard.set(1, [n; 8]).unwrap();
            assert_eq!(guard.get(1).unwrap(), [n; 8]);
        }
    }
    let array = Array::<[u64; 8]>::new(3).unwrap();
    let scratch = Array::new(64).unwrap();
    let worker = Process::spawn(set, (array.clone(), scratch.clone(), 1)).unwrap();
    for _ in 0..2000 {
        let guard = array.lock().unwrap();
        let element = guard.get(1).unwrap();
        assert_eq!(element, [element[0]; 8]);
    }
    scratch.set(0, 1).unwrap();
    done(worker);
}

fn half_done(array: Array<u32>, mut up: Sender<u32>) {
    let guard = array.lock().unwrap();
    guard.write(0, &[1; 50]).unwrap();
    ready(&mut up);
    park();
}

#[test]
fn an_owner_that_dies_half_way_is_told_and_repaired() {
    let _watchdog = watchdog("an_owner_that_dies_half_way_is_told_and_repaired");
    let array = Array::<u32>::new(100).unwrap();
    let owner = started(half_done, array.clone());
    assert!(matches!(array.try_lock(), Err(LockError::WouldBlock)));
    assert!(matches!(array.lock_timeout(SHORT), Err(LockError::Timeout)));
    assert_eq!(array.get(49).unwrap(), 1, "reading needs no lock");
    let pid = owner.id();
    kill(owner);
    for result in [array.lock(), array.try_lock(), array.lock_timeout(PATIENCE)] {
        assert!(matches!(result, Err(LockError::OwnerDied { owner }) if owner.pid() == Some(pid)));
    }
    // Left unrepaired it is told again, in another process too.
    let guard = array.recover().unwrap();
    assert_eq!(guard.died().unwrap().pid(), Some(pid));
    assert!(format!("{guard:?}").contains("len: 100"));
    drop(guard);
    let is_told = |array: Array<u32>| matches!(array.lock(), Err(LockError::OwnerDied { owner }) if owner.pid().is_some());
    assert!(done(Process::spawn(is_told, (array.clone(),)).unwrap()));
    let repair = |array: Array<u32>| {
        let guard = array.recover().unwrap();
        guard.update_all(|_, _| 5);
        guard.repaired();
        assert!(guard.died().is_none());
    };
    done(Process::spawn(repair, (array.clone(),)).unwrap());
    assert_eq!(array.lock().unwrap().to_vec(), [5; 100]);
    assert!(array.recover().unwrap().died().is_none());
}

#[test]
fn what_is_given_up_is_so_until_it_is_reset() {
    let _watchdog = watchdog("what_is_given_up_is_so_until_it_is_reset");
    let array = Array::<u32>::new(100).unwrap();
    assert!(!array.reset());
    kill(started(half_done, array.clone()));
    array.recover().unwrap().give_up();
    assert!(matches!(array.lock(), Err(LockError::GivenUp { .. })));
    assert!(matches!(array.recover(), Err(LockError::GivenUp { .. })));
    let reset = |array: Array<u32>| array.reset();
    assert!(done(Process::spawn(reset, (array.clone(),)).unwrap()));
    assert!(!array.reset());
    assert!(array.lock().unwrap().died().is_none());
}

/// Workers add to two elements that must agree, and are killed at random; who is told repairs. At the end no step but
/// the half-done ones is lost.
#[test]
fn whatever_is_killed_is_told_or_had_not_begun() {
    let _watchdog = watchdog("whatever_is_killed_is_told_or_had_not_begun");
    fn add(array: Array<u64>, scratch: Scratch, seed: u64) {
        let mut numbers = Numbers(seed | 1);
        while goes_on(&scratch) {
            let guard = match array.lock() {
                Err(LockError::OwnerDied { .. }) => {
                    let guard = array.recover().unwrap();
                    if guard.died().is_some() {
                        let first = guard.get(0).unwrap();
                        let second = guard.get(1).unwrap();
                        assert!(first == second || first == second + 1);
                        guard.set(1, first).unwrap();
                        guard.repaired();
                    }
                    guard
                }
                other => other.unwrap(),
            };
            let now = guard.get(0).unwrap();
            assert_eq!(guard.get(1).unwrap(), now);
            guard.set(0, now + 1).unwrap();
            if numbers.below(4) == 0 {
                std::thread::yield_now();
            }
            guard.set(1, now + 1).unwrap();
        }
    }
    let array = Array::new(2).unwrap();
    soak(Duration::from_millis(700), 3, &array, add, |_| {});
    let guard = array.recover().unwrap();
    let (first, second) = (guard.get(0).unwrap(), guard.get(1).unwrap());
    assert!(guard.died().is_some() || first == second);
    assert!(first > 100, "{first}");
    guard.repaired();
}
