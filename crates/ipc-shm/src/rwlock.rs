//! A value that many read at once, or one writes.
//!
//! ```text
//!   0  lock (512 bytes)
//! 512  the value
//! ```

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::time::Duration;

use ipc_sync::object::{Fresh, Object};
use ipc_sync::{self as sync, LockError, OpenError, Owner};

use crate::Plain;
use crate::typed::{self, named_value, travels};

/// A value of a plain type that processes share: many read it at once, or one writes it.
///
/// A handle, like [`Mutex`](crate::Mutex); deaths as for [`ipc_sync::RwLock`]. To read a value without any lock see
/// [`Value`](crate::Value).
///
/// ```
/// let limits = ipc_shm::RwLock::new([10_u32, 20])?;
/// assert_eq!(limits.read()?.get(), [10, 20]);
/// limits.write()?.set([30, 40]);
/// assert_eq!(limits.read()?.get(), [30, 40]);
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub struct RwLock<T> {
    object: Object,
    lock: sync::RwLock,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for RwLock<T> {
    fn clone(&self) -> Self {
        RwLock { object: self.object.clone(), lock: self.lock.clone(), of: PhantomData }
    }
}

impl<T: Plain> RwLock<T> {
    const LEN: usize = sync::RwLock::LEN + size_of::<T>();

    named_value!("rwlock-of", T);

    fn prepare(fresh: &Fresh<'_>, value: T) -> io::Result<()> {
        sync::RwLock::prepare(fresh)?;
        Ok(fresh.write(sync::RwLock::LEN, value.as_bytes())?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        // A peer decides how many readers its words are for: those must not reach into the value.
        let lock = sync::RwLock::of(object.clone())?;
        Ok(RwLock { lock, object, of: PhantomData })
    }

    /// Takes the lock for reading, waiting as long as it takes.
    ///
    /// # Errors
    /// Those of [`ipc_sync::RwLock::read`].
    pub fn read(&self) -> Result<ReadGuard<'_, T>, LockError> {
        Ok(ReadGuard { value: self, _lock: self.lock.read()? })
    }

    /// Takes the lock for reading if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`read`](Self::read).
    pub fn try_read(&self) -> Result<ReadGuard<'_, T>, LockError> {
        Ok(ReadGuard { value: self, _lock: self.lock.try_read()? })
    }

    /// Takes the lock for reading within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_, T>, LockError> {
        Ok(ReadGuard { value: self, _lock: self.lock.read_timeout(timeout)? })
    }

    /// Takes the lock for writing, waiting as long as it takes.
    ///
    /// # Errors
    /// Those of [`ipc_sync::RwLock::write`].
    pub fn write(&self) -> Result<WriteGuard<'_, T>, LockError> {
        Ok(WriteGuard { value: self, lock: self.lock.write()? })
    }

    /// Takes the lock for writing if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`write`](Self::write).
    pub fn try_write(&self) -> Result<WriteGuard<'_, T>, LockError> {
        Ok(WriteGuard { value: self, lock: self.lock.try_write()? })
    }

    /// Takes the lock for writing within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`write`](Self::write).
    pub fn write_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_, T>, LockError> {
        Ok(WriteGuard { value: self, lock: self.lock.write_timeout(timeout)? })
    }

    /// Takes the lock for writing also when a writer died, to repair the value.
    ///
    /// # Errors
    /// Those of [`ipc_sync::RwLock::recover`].
    pub fn recover(&self) -> Result<WriteGuard<'_, T>, LockError> {
        Ok(WriteGuard { value: self, lock: self.lock.recover()? })
    }

    /// Takes a value that was given up into use again. Whether it was.
    pub fn reset(&self) -> bool {
        self.lock.reset()
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("lock", &self.lock).finish_non_exhaustive()
    }
}

travels!(RwLock, "shm.rwlock", RwLock::<T>::LEN);

/// Has a [`RwLock`] for reading until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct ReadGuard<'a, T> {
    value: &'a RwLock<T>,
    _lock: sync::ReadGuard<'a>,
}

impl<T: Plain> ReadGuard<'_, T> {
    /// The value.
    pub fn get(&self) -> T {
        typed::read(&self.value.object, sync::RwLock::LEN)
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&self.get()).finish()
    }
}

/// Has a [`RwLock`] for writing until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct WriteGuard<'a, T> {
    value: &'a RwLock<T>,
    lock: sync::WriteGuard<'a>,
}

impl<T: Plain> WriteGuard<'_, T> {
    /// The value.
    pub fn get(&self) -> T {
        typed::read(&self.value.object, sync::RwLock::LEN)
    }

    /// Sets the value. Killed in the middle of this, the process leaves it half written, and the next one is told.
    pub fn set(&self, value: T) {
        typed::write(&self.value.object, sync::RwLock::LEN, &value);
    }

    /// Replaces the value by what `f` makes of it, and gives the one before.
    pub fn update(&self, f: impl FnOnce(T) -> T) -> T {
        let before = self.get();
        self.set(f(before));
        before
    }

    /// The writer that died, if the value has not been declared repaired since.
    pub fn died(&self) -> Option<Owner> {
        self.lock.died()
    }

    /// Says that the value is consistent again.
    pub fn repaired(&self) {
        self.lock.repaired();
    }

    /// Says that the value cannot be repaired: everybody gets [`LockError::GivenUp`] until somebody calls
    /// [`RwLock::reset`].
    pub fn give_up(self) {
        self.lock.give_up();
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(&self.get()).finish()
    }
}
