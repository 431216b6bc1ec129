//! One value that processes share.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ipc_process::Process;
use ipc_shm::{Bits, Number, Plain, Value};
use ipc_sync::LockError;
use ipc_testkit::data::Numbers;
use ipc_testkit::messages::{echo, taken_for};
use ipc_testkit::processes::{done, kill, park, ready, started};
use ipc_testkit::{PATIENCE, SHORT, watchdog};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::tools::*;

#[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Particle {
    position: [f64; 3],
    charge: i32,
    kind: u16,
    flags: [u8; 2],
}

const PARTICLE: Particle =
    Particle { position: [1.5, -2.0, f64::MAX], charge: -7, kind: 0xffff, flags: [1, 2] };

fn bytes<const N: usize>(seed: u8) -> [u8; N] {
    std::array::from_fn(|index| (index as u8).wrapping_mul(31) ^ seed)
}

fn other_end<const N: usize>(value: Value<[u8; N]>) {
    assert_eq!(value.get(), bytes(1));
    value.set(bytes(2)).unwrap();
    assert_eq!(value.swap(bytes(3)).unwrap(), bytes(2));
    assert_eq!(value.compare_exchange(bytes(3), bytes(4)).unwrap(), Ok(bytes(3)));
    assert_eq!(value.compare_exchange(bytes(3), bytes(5)).unwrap(), Err(bytes(4)));
    assert_eq!(value.update(|old| if old == bytes(4) { bytes(6) } else { old }).unwrap(), bytes(4));
    let guard = value.lock().unwrap();
    assert_eq!(guard.get(), bytes(6));
    guard.set(bytes(7));
    assert_eq!(value.get(), bytes(7), "the lock does not keep readers out");
}

#[test]
fn all_sizes_go_there_and_back() {
    let _watchdog = watchdog("all_sizes_go_there_and_back");
    fn size<const N: usize>() {
        let value = Value::new(bytes::<N>(1)).unwrap();
        done(Process::spawn(other_end::<N>, (value.clone(),)).unwrap());
        assert_eq!(value.get(), bytes(7));
        value.set(bytes(1)).unwrap();
        other_end(echo(&value));
    }
    let sizes: [fn(); 8] =
        [size::<1>, size::<2>, size::<3>, size::<4>, size::<5>, size::<6>, size::<7>, size::<8>];
    sizes.iter().for_each(|size| size());
    let sizes: [fn(); 5] = [size::<9>, size::<16>, size::<100>, size::<4096>, size::<40_000>];
    sizes.iter().for_each(|size| size());
}

#[test]
fn values_without_bytes_are_values() {
    let value = Value::new([0_u64; 0]).unwrap();
    value.set([]).unwrap();
    assert_eq!((value.get(), value.swap([]).unwrap()), ([], []));
    assert_eq!(value.compare_exchange([], []).unwrap(), Ok([]));
}

#[test]
fn plain_types_go_there_and_back() {
    let _watchdog = watchdog("plain_types_go_there_and_back");
    fn add_one<T: Plain + PartialEq + Debug>(value: &Value<T>, from: T, to: T) {
        assert_eq!(value.swap(to).unwrap(), from);
    }
    type All = (Value<i8>, Value<u16>, Value<i32>, Value<f32>, Value<f64>, Value<i64>, Value<usize>);
    fn change(all: All, more: (Value<Particle>, Value<[[i16; 3]; 2]>, Value<u128>)) {
        add_one(&all.0, i8::MIN, i8::MAX);
        add_one(&all.1, 65_535, 0);
        add_one(&all.2, -1, 1);
        add_one(&all.3, 1.5, f32::INFINITY);
        add_one(&all.4, -0.5, f64::MIN_POSITIVE);
        add_one(&all.5, i64::MIN, -1);
        add_one(&all.6, usize::MAX, 5);
        add_one(&more.0, PARTICLE, Particle { charge: 8, ..PARTICLE });
        add_one(&more.1, [[-1, 2, 3], [4, 5, 6]], [[0; 3]; 2]);
        add_one(&more.2, u128::MAX, 1 << 100);
    }
    let all: All = (
        Value::new(i8::MIN).unwrap(),
        Value::new(65_535).unwrap(),
        Value::new(-1).unwrap(),
        Value::new(1.5).unwrap(),
        Value::new(-0.5).unwrap(),
        Value::new(i64::MIN).unwrap(),
        Value::new(usize::MAX).unwrap(),
    );
    let more = (
        Value::new(PARTICLE).unwrap(),
        Value::new([[-1_i16, 2, 3], [4, 5, 6]]).unwrap(),
        Value::new(u128::MAX).unwrap(),
    );
    done(Process::spawn(change, (all.clone(), more.clone())).unwrap());
    assert_eq!((all.0.get(), all.1.get(), all.2.get(), all.3.get()), (i8::MAX, 0, 1, f32::INFINITY));
    assert_eq!((all.4.get(), all.5.get(), all.6.get()), (f64::MIN_POSITIVE, -1, 5));
    assert_eq!((more.0.get().charge, more.1.get(), more.2.get()), (8, [[0; 3]; 2], 1 << 100));
    assert_eq!(format!("{:?}", all.2), "Value(1)");
    assert_eq!(format!("{:?}", all.2.lock().unwrap()), "ValueGuard(1)");
}

/// Does the same to a value and to a number, as the standard library's operations do it.
macro_rules! model {
    ($($name:ident: $type:ty, $atomic:ty;)*) => {
        $(
            #[test]
            fn $name() {
                let value = Value::<$type>::new(0).unwrap();
                let model = <$atomic>::new(0);
                let mut numbers = Numbers(0x1234_5678_9abc_def1 + size_of::<$type>() as u64);
                let edges = [<$type>::MIN, <$type>::MAX, 0, 1, (0 as $type).wrapping_sub(1), <$type>::MIN + 1];
                for _ in 0..3000 {
                    let n = match numbers.below(8) {
                        edge @ 0..6 => edges[edge as usize],
                        _ => numbers.any() as $type,
                    };
                    let (mine, theirs) = match numbers.below(11) {
                        0 => (value.fetch_add(n), model.fetch_add(n, Relaxed)),
                        1 => (value.fetch_sub(n), model.fetch_sub(n, Relaxed)),
                        2 => (value.fetch_max(n), model.fetch_max(n, Relaxed)),
                        3 => (value.fetch_min(n), model.fetch_min(n, Relaxed)),
                        4 => (value.fetch_and(n), model.fetch_and(n, Relaxed)),
                        5 => (value.fetch_or(n), model.fetch_or(n, Relaxed)),
                        6 => (value.fetch_xor(n), model.fetch_xor(n, Relaxed)),
                        7 => (value.swap(n).unwrap(), model.swap(n, Relaxed)),
                        8 => (
                            value.update(|old| old.wrapping_mul(n)).unwrap(),
                            model.fetch_update(Relaxed, Relaxed, |old| Some(old.wrapping_mul(n))).unwrap(),
                        ),
                        9 => {
                            let mine = value.compare_exchange(n, 77).unwrap();
                            assert_eq!(mine, model.compare_exchange(n, 77, Relaxed, Relaxed));
                            let current = value.get();
                            assert_eq!(value.compare_exchange(current, n).unwrap(), Ok(current));
                            (current, model.swap(n, Relaxed))
                        }
                        _ => {
                            value.set(n).unwrap();
                            model.store(n, Relaxed);
                            (0, 0)
                        }
                    };
                    assert_eq!(mine, theirs);
                    assert_eq!(value.get(), model.load(Relaxed));
                }
                // Nothing of it is ever behind the value.
                let raw = Raw::<VALUE>::of(&value);
                let behind = if size_of::<$type>() == 8 { 0 } else { raw.get(64) >> (8 * size_of::<$type>() % 64) };
                assert_eq!(behind, 0);
            }
        )*
    };
}

model! {
    steps_of_u8: u8, std::sync::atomic::AtomicU8;
    steps_of_i8: i8, std::sync::atomic::AtomicI8;
    steps_of_u16: u16, std::sync::atomic::AtomicU16;
    steps_of_i16: i16, std::sync::atomic::AtomicI16;
    steps_of_u32: u32, std::sync::atomic::AtomicU32;
    steps_of_i32: i32, std::sync::atomic::AtomicI32;
    steps_of_u64: u64, std::sync::atomic::AtomicU64;
    steps_of_i64: i64, std::sync::atomic::AtomicI64;
    steps_of_usize: usize, std::sync::atomic::AtomicUsize;
    steps_of_isize: isize, std::sync::atomic::AtomicIsize;
}

#[test]
fn steps_of_floats() {
    let value = Value::new(1.5_f32).unwrap();
    assert_eq!(value.fetch_add(2.0), 1.5);
    assert_eq!(value.fetch_sub(10.0), 3.5);
    assert_eq!(value.fetch_max(-3.0), -6.5);
    assert_eq!(value.fetch_min(f32::NEG_INFINITY), -3.0);
    assert_eq!(value.get(), f32::NEG_INFINITY);
    let value = Value::new(0.1_f64).unwrap();
    assert_eq!(value.fetch_add(0.2), 0.1);
    assert_eq!(value.get(), 0.1 + 0.2);
    assert_eq!(value.fetch_min(f64::NAN), 0.1 + 0.2);
    assert_eq!(value.get(), 0.1 + 0.2, "what is no number is neither larger nor smaller");
    // Byte for byte: the two zeros differ, and the same NaN is the same.
    let zero = Value::new(0.0_f64).unwrap();
    assert_eq!(zero.compare_exchange(-0.0, 1.0).unwrap(), Err(0.0));
    zero.set(f64::NAN).unwrap();
    assert!(zero.compare_exchange(f64::NAN, 1.0).unwrap().is_ok());
}

const TIMES: u32 = 3000;

#[test]
fn nothing_is_lost_between_processes() {
    let _watchdog = watchdog("nothing_is_lost_between_processes");
    type Counters = (Value<u8>, Value<i16>, Value<u32>, Value<i64>, Value<f32>, Value<f64>, Value<[u64; 5]>);
    fn count(all: Counters, swaps: Value<u64>, plain: Value<[u8; 3]>, sum: Value<[u16; 40]>) {
        fn by_exchange<T: Plain + PartialEq + Debug>(value: &Value<T>, f: impl Fn(T) -> T) {
            let mut now = value.get();
            while let Err(other) = value.compare_exchange(now, f(now)).unwrap() {
                now = other;
            }
        }
        for _ in 0..TIMES {
            all.0.fetch_add(1);
            all.1.fetch_sub(3);
            all.2.fetch_add(1);
            all.3.fetch_add(-1);
            all.4.fetch_add(1.0);
            all.5.fetch_add(0.5);
            all.6.update(|n| n.map(|n| n + 1)).unwrap();
            swaps.update(|n| n + 1).unwrap();
            by_exchange(&plain, |[a, b, c]| {
                let n = u32::from_le_bytes([a, b, c, 0]) + 1;
                n.to_le_bytes()[..3].try_into().unwrap()
            });
        }
        for _ in 0..TIMES / 4 {
            by_exchange(&sum, |n| n.map(|n| n + 1));
        }
    }
    let all: Counters = (
        Value::new(0).unwrap(),
        Value::new(0).unwrap(),
        Value::new(u32::MAX - 5).unwrap(),
        Value::new(0).unwrap(),
        Value::new(0.0).unwrap(),
        Value::new(0.0).unwrap(),
        Value::new([0; 5]).unwrap(),
    );
    let swaps = Value::new(0).unwrap();
    let plain = Value::new([0; 3]).unwrap();
    let sum = Value::new([0; 40]).unwrap();
    let args = (all.clone(), swaps.clone(), plain.clone(), sum.clone());
    let workers: Vec<_> = (0..3).map(|_| Process::spawn(count, args.clone()).unwrap()).collect();
    workers.into_iter().for_each(done);
    let n = 3 * TIMES;
    assert_eq!(all.0.get(), n as u8);
    assert_eq!(all.1.get(), (0_i16).wrapping_sub((3 * n) as i16));
    assert_eq!(all.2.get(), n - 6);
    assert_eq!(all.3.get(), -i64::from(n));
    assert_eq!(all.4.get(), n as f32);
    assert_eq!(all.5.get(), 0.5 * f64::from(n));
    assert_eq!(all.6.get(), [u64::from(n); 5]);
    assert_eq!(swaps.get(), u64::from(n));
    assert_eq!(plain.get(), n.to_le_bytes()[..3]);
    assert_eq!(sum.get(), [3 * (TIMES / 4) as u16; 40]);
}

fn hold<T: Plain>(value: Value<T>, mut up: ipc_pipe::Sender<u32>) {
    let _guard = value.lock().unwrap();
    ready(&mut up);
    park();
}

#[test]
fn a_lock_that_is_held() {
    let _watchdog = watchdog("a_lock_that_is_held");
    let (word, large) = (Value::new(5_u32).unwrap(), Value::new([5_u32; 3]).unwrap());
    let holders = (started(hold::<u32>, word.clone()), started(hold::<[u32; 3]>, large.clone()));
    assert!(matches!(word.try_lock().map(drop), Err(LockError::WouldBlock)));
    assert!(matches!(large.try_lock().map(drop), Err(LockError::WouldBlock)));
    let start = Instant::now();
    assert!(matches!(large.lock_timeout(SHORT).map(drop), Err(LockError::Timeout)));
    assert!(start.elapsed() >= SHORT);
    // Words do without it, and nobody who reads looks at it.
    word.set(6).unwrap();
    assert_eq!((word.fetch_add(1), word.get(), large.get()), (6, 7, [5; 3]));
    let waiter = large.clone();
    let waiter = std::thread::spawn(move || waiter.set([9; 3]));
    std::thread::sleep(SHORT);
    assert_eq!(large.get(), [5; 3]);
    kill(holders.0);
    kill(holders.1);
    // The owner is dead: it passes silently to who waits, and to who comes.
    waiter.join().unwrap().unwrap();
    assert_eq!(large.get(), [9; 3]);
    assert_eq!(large.lock_timeout(PATIENCE).unwrap().get(), [9; 3]);
    assert_eq!(word.update(|n| n + 1).unwrap(), 7);
    drop(word.try_lock().unwrap());
}

#[test]
fn whoever_has_the_lock_sets_through_the_guard() {
    let value = Value::new([1_u64; 4]).unwrap();
    let guard = value.lock().unwrap();
    assert!(matches!(value.set([2; 4]), Err(LockError::Deadlock)));
    assert!(matches!(value.update(|v| v), Err(LockError::Deadlock)));
    guard.set([3; 4]);
    assert_eq!(value.get(), [3; 4]);
    drop(guard);
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        value.update(|_| std::panic::resume_unwind(Box::new(())))
    }));
    assert!(panicked.is_err());
    assert_eq!(value.swap([4; 4]).unwrap(), [3; 4], "as it was, and free");
}

/// A value whose parts must agree.
trait Agree: Plain {
    fn made(seed: u64) -> Self;
    fn agrees(&self) -> bool;
}

impl<const N: usize> Agree for [u64; N] {
    fn made(seed: u64) -> Self {
        std::array::from_fn(|index| seed.wrapping_mul(index as u64 + 1))
    }
    fn agrees(&self) -> bool {
        *self == Self::made(self[0])
    }
}

impl Agree for [u8; 7] {
    fn made(seed: u64) -> Self {
        [seed as u8; 7]
    }
    fn agrees(&self) -> bool {
        *self == [self[0]; 7]
    }
}

fn write<T: Agree + PartialEq + Debug>(value: Value<T>, scratch: Scratch, seed: u64) {
    let mut numbers = Numbers(seed | 1);
    while goes_on(&scratch) {
        let next = T::made(numbers.any());
        let before = match numbers.below(4) {
            0 => value.swap(next).unwrap(),
            1 => value.update(|_| next).unwrap(),
            2 => {
                let now = value.get();
                value.compare_exchange(now, next).unwrap().unwrap_or_else(|other| other)
            }
            _ => {
                value.set(next).unwrap();
                value.get()
            }
        };
        assert!(before.agrees(), "{before:?}");
    }
}

/// Writers come and go by SIGKILL; who reads is never held up, and never sees a value that nobody set.
fn never_torn<T: Agree + PartialEq + Debug>() {
    let value = Value::new(T::made(1)).unwrap();
    let stop = AtomicBool::new(false);
    let (reads, slowest) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, mut slowest) = (0_u64, Duration::ZERO);
            while !stop.load(Relaxed) {
                let start = Instant::now();
                let now = value.get();
                slowest = slowest.max(start.elapsed());
                assert!(now.agrees(), "{now:?}");
                reads += 1;
            }
            (reads, slowest)
        });
        let stop = Stop(&stop);
        soak(Duration::from_millis(700), 3, &value, write::<T>, |_| {
            assert!(value.get().agrees());
        });
        drop(stop);
        reader.join().unwrap()
    });
    eprintln!("{} bytes: {reads} reads, the slowest took {slowest:?}", size_of::<T>());
    assert!(slowest < PATIENCE / 4);
    value.lock_timeout(PATIENCE).unwrap().set(T::made(2));
    assert_eq!(value.get(), T::made(2));
}

#[test]
fn a_value_of_7_bytes_is_never_torn() {
    let _watchdog = watchdog("a_value_of_7_bytes_is_never_torn");
    never_torn::<[u8; 7]>();
}

#[test]
fn a_value_of_16_bytes_is_never_torn() {
    let _watchdog = watchdog("a_value_of_16_bytes_is_never_torn");
    never_torn::<[u64; 2]>();
}

#[test]
fn a_value_of_4096_bytes_is_never_torn() {
    let _watchdog = watchdog("a_value_of_4096_bytes_is_never_torn");
    never_torn::<[u64; 512]>();
}

#[test]
fn a_value_of_120000_bytes_is_never_torn() {
    let _watchdog = watchdog("a_value_of_120000_bytes_is_never_torn");
    never_torn::<[u64; 15_000]>();
}

#[test]
fn more_threads_than_have_words_read_and_write() {
    let _watchdog = watchdog("more_threads_than_have_words_read_and_write");
    let value = Value::new(<[u64; 64]>::made(1)).unwrap();
    let start = std::sync::Barrier::new(80);
    std::thread::scope(|scope| {
        for n in 0..80 {
            let (value, start) = (&value, &start);
            scope.spawn(move || {
                // All have a word of the board, or none is left for them.
                drop(value.lock().unwrap());
                start.wait();
                for seed in 0..30 {
                    if n % 2 == 0 {
                        value.set(Agree::made(n * 100 + seed)).unwrap();
                    }
                    assert!(value.get().agrees());
                }
                start.wait();
            });
        }
    });
}

#[test]
fn handles_are_of_their_type() {
    let value = Value::new(5_u32).unwrap();
    let refused = |error: ipc_core::DecodeError, what: &str| {
        let text = error.to_string();
        assert!(text.contains(what), "{text}");
    };
    refused(
        taken_for::<_, Value<i32>>(&value).unwrap_err(),
        "u32, 4 bytes aligned to 4 cannot be one of i32, 4 bytes",
    );
    refused(taken_for::<_, Value<[u32; 1]>>(&value).unwrap_err(), "u32");
    refused(taken_for::<_, ipc_shm::Mutex<u32>>(&value).unwrap_err(), "shm.mutex");
    refused(taken_for::<_, ipc_shm::Array<u32>>(&value).unwrap_err(), "shm.array");
    assert_eq!(taken_for::<_, Value<u32>>(&value).unwrap().get(), 5);
}

#[test]
fn numbers_have_their_traits() {
    fn number<T: Number>() {}
    fn bits<T: Bits>() {}
    number::<f32>();
    number::<i8>();
    bits::<u16>();
    bits::<isize>();
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Value<[f64; 9]>>();
}
