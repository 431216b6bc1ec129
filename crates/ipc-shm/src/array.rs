//! Many values of one type that processes share.
//!
//! ```text
//!   0  lock (64 bytes)
//!  64  len u64: how many elements, written once
//! 128  elements, as in a Rust array, padded to 8 bytes
//! ```

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_sync::object::{Fresh, Object, Opening};
use ipc_sync::{Lock, LockError, LockGuard, OpenError, Owner};
use zerocopy::IntoBytes;

use crate::Plain;
use crate::typed::{self, travels};

const LEN: usize = Lock::LEN;
const ELEMENTS: usize = 128;

/// An index or a range that an array does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfRange {
    /// What was asked for.
    pub range: Range<usize>,
    /// How many elements there are.
    pub len: usize,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range;
        write!(f, "elements {start} to {end} of an array that has {}", self.len)
    }
}

impl std::error::Error for OutOfRange {}

impl Classify for OutOfRange {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// A fixed number of values of a plain type, shared by processes: the counterpart of `multiprocessing.Array`.
///
/// A handle: clone it, put it into a message or the arguments of a worker, and it is the same array there.
///
/// Elements can be read and written without a lock: each of 1, 2, 4 or 8 bytes in one piece, so it is never seen torn;
/// larger ones, and ranges, may be seen half written. Whoever changes several together takes the [`lock`](Self::lock). If
/// the owner of that dies, what it was changing may be half changed: the next one is told
/// ([`LockError::OwnerDied`]), as with a [`Lock`](ipc_sync::Lock).
///
/// ```
/// use ipc_shm::Array;
///
/// let array = Array::from_slice(&[0, 1, 2, 3, 4])?;
/// array.lock()?.update(2, |x| x + 40)?;
/// assert_eq!(array.to_vec(), [0, 1, 42, 3, 4]);
///
/// let zeros = Array::<f64>::new(1_000)?;
/// zeros.write(10, &[1.5; 20])?;
/// let mut part = [0.0; 3];
/// zeros.read_into(28, &mut part)?;
/// assert_eq!(part, [1.5, 1.5, 0.0]);
/// assert!(zeros.get(1_000).is_err());
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub struct Array<T> {
    object: Object,
    lock: Lock,
    len: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Array { object: self.object.clone(), lock: self.lock.clone(), len: self.len, of: PhantomData }
    }
}

impl<T: Plain> Array<T> {
    /// A new one without a name, of `len` elements that are all zero.
    ///
    /// # Errors
    /// [`OpenError::InvalidInput`] for no elements, elements without bytes, or more than there can be;
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new(len: usize) -> Result<Self, OpenError> {
        Array::of(Object::new_with(Self::bytes(len)?, |fresh| Self::prepare(fresh, len, &[]))?)
    }

    /// A new one without a name, of these elements.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn from_slice(elements: &[T]) -> Result<Self, OpenError> {
        let len = elements.len();
        Array::of(Object::new_with(Self::bytes(len)?, |fresh| Self::prepare(fresh, len, elements))?)
    }

    /// A new one without a name, of what the iterator gives.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    #[expect(clippy::should_implement_trait, reason = "it can fail")]
    pub fn from_iter(elements: impl IntoIterator<Item = T>) -> Result<Self, OpenError> {
        Array::from_slice(&elements.into_iter().collect::<Vec<_>>())
    }

    /// Makes one with a name, of `len` elements that are all zero, which other processes of this user can
    /// [`open`](Self::open). The name goes with the last of those who have it, also if they are killed.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`] if somebody has one of that name; else as of [`new`](Self::new), and what else
    /// [`OpenError`] says.
    pub fn create(name: &str, len: usize) -> Result<Self, OpenError> {
        Self::named(Opening::Create, name, len)
    }

    /// Takes a name away on purpose: who has the object keeps it, and the name is free for another at once.
    ///
    /// # Errors
    /// [`OpenError::NotFound`] if nobody has one of that name, and what else [`OpenError`] says.
    pub fn remove(name: &str) -> Result<(), OpenError> {
        ipc_sync::remove("array", name)
    }

    /// Opens the one of that name, however long it is.
    ///
    /// # Errors
    /// [`OpenError::NotFound`]; [`OpenError::Mismatch`] if it holds values of another type; and what else
    /// [`OpenError`] says.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        let object = typed::named::<T>(Opening::Open, "array", name, ELEMENTS, |_| Ok(()))?;
        Array::of(object)
    }

    /// Opens the one of that name, or makes it with `len` elements that are all zero.
    ///
    /// # Errors
    /// As of [`create`](Self::create) and [`open`](Self::open); [`OpenError::Mismatch`] if there is one of another
    /// length.
    pub fn open_or_create(name: &str, len: usize) -> Result<Self, OpenError> {
        let array = match Self::named(Opening::OpenOrCreate, name, len) {
            // It may be one of fewer elements, which is better said in elements.
            Err(error @ OpenError::Mismatch { .. }) => Array::open(name).or(Err(error))?,
            other => other?,
        };
        if array.len != len {
            let what = format!("it has {} elements, and {len} were asked for", array.len);
            return Err(OpenError::Mismatch { name: format!("array.{name}"), what });
        }
        Ok(array)
    }

    fn named(opening: Opening, name: &str, len: usize) -> Result<Self, OpenError> {
        let init = |fresh: &Fresh<'_>| Self::prepare(fresh, len, &[]);
        Array::of(typed::named::<T>(opening, "array", name, Self::bytes(len)?, init)?)
    }

    fn bytes(len: usize) -> Result<usize, OpenError> {
        let bytes = len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(ELEMENTS));
        // Padded, so that each of two bytes is in a whole word.
        bytes
            .and_then(|bytes| bytes.checked_next_multiple_of(8))
            .filter(|bytes| *bytes > ELEMENTS && *bytes < isize::MAX as usize / 2)
            .ok_or_else(|| OpenError::InvalidInput(format!("there is no array of {len} such elements")))
    }

    fn prepare(fresh: &Fresh<'_>, len: usize, elements: &[T]) -> io::Result<()> {
        fresh.set_u64(LEN, len as u64)?;
        fresh.write(ELEMENTS, elements.as_bytes())?;
        Ok(())
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let invalid = || OpenError::Io(io::Error::new(io::ErrorKind::InvalidData, "an array that is none"));
        let len = usize::try_from(object.u64(LEN).map_err(io::Error::from)?.load(Relaxed))
            .map_err(|_| invalid())?;
        if Self::bytes(len).map_err(|_| invalid())? > object.len() {
            return Err(invalid());
        }
        Ok(Array { lock: Lock::of(object.clone())?, object, len, of: PhantomData })
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn at(&self, start: usize, count: usize) -> Result<usize, OutOfRange> {
        match start.checked_add(count) {
            Some(end) if end <= self.len => Ok(ELEMENTS + start * size_of::<T>()),
            _ => Err(OutOfRange { range: start..start.saturating_add(count), len: self.len }),
        }
    }

    /// One element.
    ///
    /// # Errors
    /// [`OutOfRange`].
    #[inline]
    pub fn get(&self, index: usize) -> Result<T, OutOfRange> {
        let at = self.at(index, 1)?;
        // Acquire: with the Release in `set`.
        let word = match size_of::<T>() {
            8 => self.object.u64(at).ok().map(|word| word.load(Acquire)),
            4 => self.object.u32(at).ok().map(|word| u64::from(word.load(Acquire))),
            // A copy of two bytes may be made byte by byte; so it is half of a word.
            2 => self.object.u32(at & !3).ok().map(|word| u64::from(word.load(Acquire) >> (8 * (at & 2)))),
            _ => None,
        };
        Ok(match word {
            Some(word) => {
                let mut value = T::new_zeroed();
                value.as_mut_bytes().copy_from_slice(&word.to_le_bytes()[..size_of::<T>()]);
                value
            }
            None => typed::read(&self.object, at),
        })
    }

    /// Sets one element.
    ///
    /// # Errors
    /// [`OutOfRange`].
    #[inline]
    pub fn set(&self, index: usize, value: T) -> Result<(), OutOfRange> {
        let at = self.at(index, 1)?;
        let bytes = value.as_bytes();
        // Release: with the Acquire in `get`.
        if let Ok(bytes) = <[u8; 8]>::try_from(bytes)
            && let Ok(word) = self.object.u64(at)
        {
            word.store(u64::from_le_bytes(bytes), Release);
        } else if let Ok(bytes) = <[u8; 4]>::try_from(bytes)
            && let Ok(word) = self.object.u32(at)
        {
            word.store(u32::from_le_bytes(bytes), Release);
        } else if let Ok(bytes) = <[u8; 2]>::try_from(bytes)
            && let Ok(word) = self.object.u32(at & !3)
        {
            let (shift, half) = (8 * (at & 2), u32::from(u16::from_le_bytes(bytes)));
            let mut now = word.load(Relaxed);
            // The other half stays what it is, whoever sets it meanwhile.
            while let Err(other) =
                word.compare_exchange_weak(now, now & !(0xffff << shift) | half << shift, Release, Relaxed)
            {
                now = other;
            }
        } else {
            typed::write(&self.object, at, &value);
        }
        Ok(())
    }

    /// Copies elements from `start` on into `elements`.
    ///
    /// # Errors
    /// [`OutOfRange`], and none is copied.
    pub fn read_into(&self, start: usize, elements: &mut [T]) -> Result<(), OutOfRange> {
        let at = self.at(start, elements.len())?;
        let _checked = self.object.read(at, elements.as_mut_bytes());
        Ok(())
    }

    /// Copies `elements` to `start` and on.
    ///
    /// # Errors
    /// [`OutOfRange`], and none is copied.
    pub fn write(&self, start: usize, elements: &[T]) -> Result<(), OutOfRange> {
        let at = self.at(start, elements.len())?;
        let _checked = self.object.write(at, elements.as_bytes());
        Ok(())
    }

    /// A copy of all elements.
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = vec![T::new_zeroed(); self.len];
        let _fits = self.read_into(0, &mut elements);
        elements
    }

    /// The elements one after the other, each read when its turn comes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.len).map(|index| self.get(index).unwrap_or_else(|_| T::new_zeroed()))
    }

    /// Takes the lock of the array, waiting as long as it takes.
    ///
    /// # Errors
    /// Those of [`Lock::lock`](ipc_sync::Lock::lock).
    pub fn lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard { array: self, lock: self.lock.lock()? })
    }

    /// Takes the lock if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard { array: self, lock: self.lock.try_lock()? })
    }

    /// Takes the lock within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard { array: self, lock: self.lock.lock_timeout(timeout)? })
    }

    /// Takes the lock also when its owner died, to repair the elements: see [`Lock::recover`](ipc_sync::Lock::recover).
    ///
    /// # Errors
    /// Those of [`Lock::recover`](ipc_sync::Lock::recover).
    pub fn recover(&self) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard { array: self, lock: self.lock.recover()? })
    }

    /// As [`recover`](Self::recover), within that time.
    ///
    /// # Errors
    /// Those of [`Lock::recover_timeout`](ipc_sync::Lock::recover_timeout).
    pub fn recover_timeout(&self, timeout: Duration) -> Result<ArrayGuard<'_, T>, LockError> {
        Ok(ArrayGuard { array: self, lock: self.lock.recover_timeout(timeout)? })
    }

    /// Takes an array that was given up into use again. Whether it was.
    pub fn reset(&self) -> bool {
        self.lock.reset()
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("len", &self.len).finish_non_exhaustive()
    }
}

travels!(Array, "shm.array", ELEMENTS + size_of::<T>());

/// Holds the lock of an [`Array`] until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct ArrayGuard<'a, T> {
    array: &'a Array<T>,
    lock: LockGuard<'a>,
}

impl<T: Plain> ArrayGuard<'_, T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.array.len
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// One element.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn get(&self, index: usize) -> Result<T, OutOfRange> {
        self.array.get(index)
    }

    /// Sets one element.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn set(&self, index: usize, value: T) -> Result<(), OutOfRange> {
        self.array.set(index, value)
    }

    /// Replaces one element by what `f` makes of it, and gives the one before.
    ///
    /// # Errors
    /// [`OutOfRange`].
    pub fn update(&self, index: usize, f: impl FnOnce(T) -> T) -> Result<T, OutOfRange> {
        let before = self.array.get(index)?;
        self.array.set(index, f(before))?;
        Ok(before)
    }

    /// Replaces every element by what `f` makes of it and its index.
    pub fn update_all(&self, mut f: impl FnMut(usize, T) -> T) {
        for (index, value) in self.array.iter().enumerate() {
            let _fits = self.array.set(index, f(index, value));
        }
    }

    /// Copies elements from `start` on into `elements`.
    ///
    /// # Errors
    /// [`OutOfRange`], and none is copied.
    pub fn read_into(&self, start: usize, elements: &mut [T]) -> Result<(), OutOfRange> {
        self.array.read_into(start, elements)
    }

    /// Copies `elements` to `start` and on.
    ///
    /// # Errors
    /// [`OutOfRange`], and none is copied.
    pub fn write(&self, start: usize, elements: &[T]) -> Result<(), OutOfRange> {
        self.array.write(start, elements)
    }

    /// A copy of all elements, as they are together.
    pub fn to_vec(&self) -> Vec<T> {
        self.array.to_vec()
    }

    /// The elements one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.array.iter()
    }

    /// The process that died holding the lock, if the elements have not been declared repaired since.
    pub fn died(&self) -> Option<Owner> {
        self.lock.died()
    }

    /// Says that the elements are consistent again.
    pub fn repaired(&self) {
        self.lock.repaired();
    }

    /// Says that the elements cannot be repaired: everybody gets [`LockError::GivenUp`] until somebody calls
    /// [`Array::reset`].
    pub fn give_up(self) {
        self.lock.give_up();
    }
}

impl<T> fmt::Debug for ArrayGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrayGuard").field("len", &self.array.len).finish_non_exhaustive()
    }
}
