//! One value that processes share.
//!
//! ```text
//!   0  lock (64 bytes), passes silently
//!  64  up to 8 bytes: the value, in one word of 4 or 8 bytes
//!      more:          turn u64 | copy 0 | copy 1, each padded to 8 bytes; copy turn % 2 is the value
//! ```
//!
//! What fits a word is read and written by single atomic instructions. What does not has two copies: a writer, with the
//! lock, fills the one that is not the value and then counts `turn` on, with one store. A reader copies and looks whether
//! `turn` is still the same; nobody writes into the copy that it has read before `turn` changes. So a value is never torn,
//! whoever is killed when (a sequence lock that keeps the old value; readers never wait for a dead writer).

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_os::map::{Word32, Word64};
use ipc_sync::object::{Fresh, Object};
use ipc_sync::options::LockOptions;
use ipc_sync::{Lock, LockError, LockGuard, OpenError};

use crate::Plain;
use crate::turn;
use crate::typed::{self, named_value, travels};

/// Where the word, or the turn, is: on a cache line of its own.
const CELL: usize = 64;
const COPIES: usize = CELL + 8;

/// How often a reader tries while writers come in between, before it keeps them out.
const TRIES: u32 = 64;
/// How often it tries to keep them out, and for how long each time. Together longer than any writer that is not hostile
/// can be in the way of both.
const ROUNDS: u32 = 20;
const ROUND: Duration = Duration::from_millis(50);

/// One value of a plain type, shared by processes: the counterpart of `multiprocessing.Value`.
///
/// A handle: clone it, put it into a message or the arguments of a worker, and it is the same value there. Values of up
/// to 8 bytes are read and written without a lock, larger ones are read without a lock. A value is never seen torn, also
/// when a writer was killed half way: it has written it, or it has not.
///
/// [`update`](Self::update) and [`lock`](Self::lock) keep each other out, in all processes. The operations without a lock
/// (of values of up to 8 bytes: all of the others) do not look at it. If the owner of the lock dies, the lock passes on: the
/// value is what it last set.
///
/// ```
/// use ipc_shm::Value;
///
/// let hits = Value::new(5_u64)?;
/// assert_eq!(hits.fetch_add(2), 5);
/// hits.update(|hits| hits * 10)?;
/// assert_eq!(hits.get(), 70);
///
/// let position = Value::new([1.0, 2.0, 3.0])?;
/// position.set([4.0, 5.0, 6.0])?;
/// assert_eq!(position.get(), [4.0, 5.0, 6.0]);
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub struct Value<T> {
    object: Object,
    lock: Lock,
    cell: Cell,
    of: PhantomData<fn() -> T>,
}

#[derive(Clone)]
enum Cell {
    Four(Word32),
    Eight(Word64),
    /// The turn.
    Copies(Word64),
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        let Value { object, lock, cell, .. } = self;
        Value { object: object.clone(), lock: lock.clone(), cell: cell.clone(), of: PhantomData }
    }
}

impl<T: Plain> Value<T> {
    /// Whether values are single words.
    const IS_WORD: bool = size_of::<T>() <= 8;
    const COPY: usize = size_of::<T>().next_multiple_of(8);
    const LEN: usize = if Self::IS_WORD { CELL + 8 } else { COPIES + 2 * Self::COPY };

    named_value!("value", T);

    fn prepare(fresh: &Fresh<'_>, value: T) -> io::Result<()> {
        LockOptions::default().passes_silently(true).prepare(fresh)?;
        let at = if Self::IS_WORD { CELL } else { COPIES };
        if Self::IS_WORD {
            let bits = to_bits(value);
            fresh
                .write(at, &if size_of::<T>() == 4 { u64::from(bits as u32) } else { bits }.to_ne_bytes())?;
        } else {
            fresh.write(at, value.as_bytes())?;
        }
        Ok(())
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let lock = Lock::of(object.clone())?;
        let cell = if size_of::<T>() == 4 {
            object.word32(CELL).map(Cell::Four)
        } else if Self::IS_WORD {
            object.word64(CELL).map(Cell::Eight)
        } else {
            object.word64(CELL).map(Cell::Copies)
        };
        Ok(Value { object, lock, cell: cell.map_err(io::Error::from)?, of: PhantomData })
    }

    /// The value as it is now.
    #[inline]
    pub fn get(&self) -> T {
        // Acquire, both: with the Release of `set`, and of all that changes the word in one step.
        match &self.cell {
            Cell::Four(word) => from_bits(u64::from(word.load(Acquire))),
            Cell::Eight(word) => from_bits(word.load(Acquire)),
            Cell::Copies(turn) => self.get_copy(turn),
        }
    }

    fn get_copy(&self, turn: &AtomicU64) -> T {
        for _ in 0..ROUNDS {
            for _ in 0..TRIES {
                if let Some(value) = self.try_get_copy(turn) {
                    return value;
                }
                std::hint::spin_loop();
            }
            // Writers come without end: the lock keeps them out. It may be scribbled over, so it is not waited for without
            // end either.
            let lock = self.lock.lock_timeout(ROUND);
            if let Some(value) = self.try_get_copy(turn) {
                return value;
            }
            if lock.is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Somebody writes without the lock, or never gives it back and writes: what is there is that one's.
        // Acquire: with the Release in `turn::write`.
        self.copy_of(turn.load(Acquire))
    }

    fn try_get_copy(&self, turn: &AtomicU64) -> Option<T> {
        turn::try_read(turn, |turn| self.copy_of(turn))
    }

    fn copy_of(&self, turn: u64) -> T {
        typed::read(&self.object, Self::copy_at(turn))
    }

    fn copy_at(turn: u64) -> usize {
        COPIES + (turn % 2) as usize * Self::COPY
    }

    /// With the lock.
    fn put_copy(&self, turn: &AtomicU64, value: &T) {
        turn::write(turn, |turn| typed::write(&self.object, Self::copy_at(turn), value));
    }

    /// Sets the value.
    ///
    /// # Errors
    /// Never for values of up to 8 bytes; for larger ones those of [`Lock::lock`](ipc_sync::Lock::lock).
    #[inline]
    pub fn set(&self, value: T) -> Result<(), LockError> {
        // Release, both: with the Acquire in `get`, and of all that changes the word in one step.
        match &self.cell {
            Cell::Four(word) => word.store(to_bits(value) as u32, Release),
            Cell::Eight(word) => word.store(to_bits(value), Release),
            Cell::Copies(turn) => {
                let _lock = self.lock.lock()?;
                self.put_copy(turn, &value);
            }
        }
        Ok(())
    }

    /// Sets the value, and gives the one before.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    #[inline]
    pub fn swap(&self, value: T) -> Result<T, LockError> {
        // AcqRel, both: as in `get`, and as in `set`.
        Ok(match &self.cell {
            Cell::Four(word) => from_bits(u64::from(word.swap(to_bits(value) as u32, AcqRel))),
            Cell::Eight(word) => from_bits(word.swap(to_bits(value), AcqRel)),
            Cell::Copies(turn) => {
                let _lock = self.lock.lock()?;
                let before = self.copy_of(turn.load(Relaxed));
                self.put_copy(turn, &value);
                before
            }
        })
    }

    /// Sets the value if it is `current`, byte for byte; else gives what it is, in an `Err` of the inner result.
    ///
    /// # Errors
    /// As of [`set`](Self::set).
    pub fn compare_exchange(&self, current: T, new: T) -> Result<Result<T, T>, LockError> {
        let narrow = |result: Result<u32, u32>| result.map(u64::from).map_err(u64::from);
        // AcqRel, both: as in `get`, and as in `set`. Acquire: what it is instead has been read, as in `get`.
        let words = match &self.cell {
            Cell::Four(word) => {
                narrow(word.compare_exchange(to_bits(current) as u32, to_bits(new) as u32, AcqRel, Acquire))
            }
            Cell::Eight(word) => {
                let mut now = to_bits(current);
                loop {
                    match word.compare_exchange(now, to_bits(new), AcqRel, Acquire) {
                        // Only the bytes behind the value differ, which nobody but a scribbler writes.
                        Err(other) if to_bits(from_bits::<T>(other)) == to_bits(current) => now = other,
                        done => break done,
                    }
                }
            }
            Cell::Copies(turn) => {
                let _lock = self.lock.lock()?;
                let before = self.copy_of(turn.load(Relaxed));
                if before.as_bytes() != current.as_bytes() {
                    return Ok(Err(before));
                }
                self.put_copy(turn, &new);
                return Ok(Ok(before));
            }
        };
        Ok(words.map(from_bits).map_err(from_bits))
    }

    /// Replaces the value by what `f` makes of it, with the lock: no other [`update`](Self::update) or guard comes in
    /// between. The value before.
    ///
    /// # Errors
    /// Those of [`Lock::lock`](ipc_sync::Lock::lock). The value is as it was.
    ///
    /// # Panics
    /// If `f` does. The value is as it was.
    pub fn update(&self, f: impl FnOnce(T) -> T) -> Result<T, LockError> {
        let guard = self.lock()?;
        let before = guard.get();
        guard.set(f(before));
        Ok(before)
    }

    /// Takes the lock of the value, waiting as long as it takes.
    ///
    /// # Errors
    /// Those of [`Lock::lock`](ipc_sync::Lock::lock).
    pub fn lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard { value: self, _lock: self.lock.lock()? })
    }

    /// Takes the lock if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard { value: self, _lock: self.lock.try_lock()? })
    }

    /// Takes the lock within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ValueGuard<'_, T>, LockError> {
        Ok(ValueGuard { value: self, _lock: self.lock.lock_timeout(timeout)? })
    }
}

impl<T: Number> Value<T> {
    #[inline]
    fn fetch(&self, f: impl Fn(T) -> T) -> T {
        let bits = |bits: u64| to_bits(f(from_bits(bits)));
        // AcqRel, both: as in `get`, and as in `set`. Relaxed: what is only tried is compared again.
        match &self.cell {
            Cell::Four(word) => {
                let mut now = word.load(Relaxed);
                loop {
                    match word.compare_exchange_weak(now, bits(u64::from(now)) as u32, AcqRel, Relaxed) {
                        Ok(before) => return from_bits(u64::from(before)),
                        Err(other) => now = other,
                    }
                }
            }
            // Numbers have 8 bytes at most: there are no copies.
            Cell::Eight(word) | Cell::Copies(word) => {
                let mut now = word.load(Relaxed);
                loop {
                    match word.compare_exchange_weak(now, bits(now), AcqRel, Relaxed) {
                        Ok(before) => return from_bits(before),
                        Err(other) => now = other,
                    }
                }
            }
        }
    }

    /// Adds to the value in one step, wrapping around, and gives the value before.
    #[inline]
    pub fn fetch_add(&self, more: T) -> T {
        // AcqRel, both: as in `get`, and as in `set`.
        match &self.cell {
            Cell::Eight(word) if T::IS_INTEGER && size_of::<T>() == 8 => {
                from_bits(word.fetch_add(to_bits(more), AcqRel))
            }
            Cell::Four(word) if T::IS_INTEGER => {
                from_bits(u64::from(word.fetch_add(to_bits(more) as u32, AcqRel)))
            }
            _ => self.fetch(|value| value.plus(more)),
        }
    }

    /// Subtracts from the value in one step, wrapping around, and gives the value before.
    #[inline]
    pub fn fetch_sub(&self, less: T) -> T {
        // AcqRel: as in `get`, and as in `set`.
        match &self.cell {
            Cell::Eight(word) if T::IS_INTEGER && size_of::<T>() == 8 => {
                from_bits(word.fetch_sub(to_bits(less), AcqRel))
            }
            _ => self.fetch(|value| value.minus(less)),
        }
    }

    /// Sets the value to the larger of it and `other` in one step, and gives the value before.
    pub fn fetch_max(&self, other: T) -> T {
        self.fetch(|value| if other > value { other } else { value })
    }

    /// Sets the value to the smaller of it and `other` in one step, and gives the value before.
    pub fn fetch_min(&self, other: T) -> T {
        self.fetch(|value| if other < value { other } else { value })
    }
}

impl<T: Bits> Value<T> {
    /// Sets the bits that both have, in one step, and gives the value before.
    pub fn fetch_and(&self, other: T) -> T {
        self.fetch(|value| value & other)
    }

    /// Sets the bits that either has, in one step, and gives the value before.
    pub fn fetch_or(&self, other: T) -> T {
        self.fetch(|value| value | other)
    }

    /// Sets the bits that one of them has, in one step, and gives the value before.
    pub fn fetch_xor(&self, other: T) -> T {
        self.fetch(|value| value ^ other)
    }
}

/// Numbers that a [`Value`] adds to in one step: the integers of up to 64 bits, `f32` and `f64`.
pub trait Number: Plain + PartialOrd + sealed::Arithmetic {}

/// Integers, for operations on bits.
pub trait Bits:
    Number + std::ops::BitAnd<Output = Self> + std::ops::BitOr<Output = Self> + std::ops::BitXor<Output = Self>
{
}

mod sealed {
    pub trait Arithmetic: Copy {
        const IS_INTEGER: bool;
        fn plus(self, other: Self) -> Self;
        fn minus(self, other: Self) -> Self;
    }
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(
            impl sealed::Arithmetic for $type {
                const IS_INTEGER: bool = true;
                #[inline]
                fn plus(self, other: Self) -> Self {
                    self.wrapping_add(other)
                }
                #[inline]
                fn minus(self, other: Self) -> Self {
                    self.wrapping_sub(other)
                }
            }
            impl Number for $type {}
            impl Bits for $type {}
        )*
    };
}

macro_rules! floats {
    ($($type:ty)*) => {
        $(
            impl sealed::Arithmetic for $type {
                const IS_INTEGER: bool = false;
                fn plus(self, other: Self) -> Self {
                    self + other
                }
                fn minus(self, other: Self) -> Self {
                    self - other
                }
            }
            impl Number for $type {}
        )*
    };
}

integers!(u8 i8 u16 i16 u32 i32 u64 i64 usize isize);
floats!(f32 f64);

/// The bytes of a value of up to 8, and zeros behind them.
#[inline]
fn to_bits<T: Plain>(value: T) -> u64 {
    let mut bytes = [0; 8];
    let len = size_of::<T>().min(8);
    bytes[..len].copy_from_slice(&value.as_bytes()[..len]);
    u64::from_le_bytes(bytes)
}

#[inline]
fn from_bits<T: Plain>(bits: u64) -> T {
    let mut value = T::new_zeroed();
    let len = size_of::<T>().min(8);
    value.as_mut_bytes()[..len].copy_from_slice(&bits.to_le_bytes()[..len]);
    value
}

impl<T: Plain + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.get()).finish()
    }
}

travels!(Value, "shm.value", Value::<T>::LEN);

/// Holds the lock of a [`Value`] until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct ValueGuard<'a, T: Plain> {
    value: &'a Value<T>,
    _lock: LockGuard<'a>,
}

impl<T: Plain> ValueGuard<'_, T> {
    /// The value.
    pub fn get(&self) -> T {
        match &self.value.cell {
            // Nobody counts it on meanwhile.
            Cell::Copies(turn) => self.value.copy_of(turn.load(Relaxed)),
            _ => self.value.get(),
        }
    }

    /// Sets the value, in one step for all who read it.
    pub fn set(&self, value: T) {
        // Release, both: as in `Value::set`.
        match &self.value.cell {
            Cell::Four(word) => word.store(to_bits(value) as u32, Release),
            Cell::Eight(word) => word.store(to_bits(value), Release),
            Cell::Copies(turn) => self.value.put_copy(turn, &value),
        }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ValueGuard").field(&self.get()).finish()
    }
}
