//! A value that is only touched with its lock.
//!
//! ```text
//!   0  lock (64 bytes)
//!  64  the value
//! ```

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::size_of;
use std::time::Duration;

use ipc_sync::object::{Fresh, Object};
use ipc_sync::options::LockOptions;
use ipc_sync::{Condition, Lock, LockError, LockGuard, OpenError, Owner};

use crate::Plain;
use crate::typed::{self, named_value, travels};

/// A value of a plain type that processes share, and touch one at a time.
///
/// A handle: clone it, put it into a message or the arguments of a worker, and it is the same mutex there. The guard gives
/// copies of the value and takes new ones; no reference into shared memory is had. If the owner dies, the next one is told
/// ([`LockError::OwnerDied`]), and recovers the value as it was left.
///
/// ```
/// let total = ipc_shm::Mutex::new([0_u64; 4])?;
/// total.lock()?.update(|mut total| { total[1] += 5; total });
/// assert_eq!(total.lock()?.get(), [0, 5, 0, 0]);
/// # Ok::<(), ipc_core::Error>(())
/// ```
pub struct Mutex<T> {
    object: Object,
    lock: Lock,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Mutex { object: self.object.clone(), lock: self.lock.clone(), of: PhantomData }
    }
}

impl<T: Plain> Mutex<T> {
    const LEN: usize = Lock::LEN + size_of::<T>();

    named_value!("mutex", T);

    fn prepare(fresh: &Fresh<'_>, value: T) -> io::Result<()> {
        LockOptions::default().prepare(fresh)?;
        Ok(fresh.write(Lock::LEN, value.as_bytes())?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        Ok(Mutex { lock: Lock::of(object.clone())?, object, of: PhantomData })
    }

    /// Takes the lock, waiting as long as it takes.
    ///
    /// # Errors
    /// Those of [`Lock::lock`](ipc_sync::Lock::lock).
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(MutexGuard { mutex: self, lock: self.lock.lock()? })
    }

    /// Takes the lock if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(MutexGuard { mutex: self, lock: self.lock.try_lock()? })
    }

    /// Takes the lock within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(MutexGuard { mutex: self, lock: self.lock.lock_timeout(timeout)? })
    }

    /// Takes the lock also when its owner died, to repair the value: see [`Lock::recover`](ipc_sync::Lock::recover).
    ///
    /// # Errors
    /// Those of [`Lock::recover`](ipc_sync::Lock::recover).
    pub fn recover(&self) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(MutexGuard { mutex: self, lock: self.lock.recover()? })
    }

    /// As [`recover`](Self::recover), within that time.
    ///
    /// # Errors
    /// Those of [`Lock::recover_timeout`](ipc_sync::Lock::recover_timeout).
    pub fn recover_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(MutexGuard { mutex: self, lock: self.lock.recover_timeout(timeout)? })
    }

    /// Takes a value that was given up into use again. Whether it was.
    pub fn reset(&self) -> bool {
        self.lock.reset()
    }
}

impl<T: Plain> Mutex<T> {
    /// A new condition that belongs to this mutex: for [`MutexGuard::wait`] and [`MutexGuard::notify`]. Those who wait and
    /// those who notify need the same one, so it is made once and sent along with the mutex.
    ///
    /// ```
    /// use ipc_shm::Mutex;
    ///
    /// let level = Mutex::new(0_u32)?;
    /// let rose = level.condition()?;
    /// # let (their_level, their_rose) = (level.clone(), rose.clone());
    /// # let other = std::thread::spawn(move || {
    /// #     let (level, rose) = (their_level, their_rose);
    /// // In one process:
    /// let guard = level.lock().unwrap().wait_for(&rose, |level| level > 3).unwrap();
    /// assert_eq!(guard.get(), 5);
    /// # });
    /// // In another:
    /// let guard = level.lock()?;
    /// guard.set(5);
    /// guard.notify_all(&rose)?;
    /// # drop(guard);
    /// # other.join().unwrap();
    /// # Ok::<(), ipc_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn condition(&self) -> Result<Condition, OpenError> {
        Condition::on(&self.lock)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("lock", &self.lock).finish_non_exhaustive()
    }
}

travels!(Mutex, "shm.mutex", Mutex::<T>::LEN);

/// Holds the lock of a [`Mutex`] until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    lock: LockGuard<'a>,
}

impl<T: Plain> MutexGuard<'_, T> {
    /// The value.
    pub fn get(&self) -> T {
        typed::read(&self.mutex.object, Lock::LEN)
    }

    /// Sets the value. Killed in the middle of this, the process leaves it half written, and the next owner is told.
    pub fn set(&self, value: T) {
        typed::write(&self.mutex.object, Lock::LEN, &value);
    }

    /// Replaces the value by what `f` makes of it, and gives the one before.
    pub fn update(&self, f: impl FnOnce(T) -> T) -> T {
        let before = self.get();
        self.set(f(before));
        before
    }

    /// The process that died holding the lock, if the value has not been declared repaired since.
    pub fn died(&self) -> Option<Owner> {
        self.lock.died()
    }

    /// Says that the value is consistent again.
    pub fn repaired(&self) {
        self.lock.repaired();
    }

    /// Says that the value cannot be repaired: everybody gets [`LockError::GivenUp`] until somebody calls
    /// [`Mutex::reset`].
    pub fn give_up(self) {
        self.lock.give_up();
    }
}

impl<'a, T: Plain> MutexGuard<'a, T> {
    fn again(mutex: &'a Mutex<T>, lock: LockGuard<'a>) -> Self {
        MutexGuard { mutex, lock }
    }

    /// Lets the mutex go, waits to be notified, and takes it again. It may also end for no reason.
    ///
    /// # Errors
    /// Those of [`Condition::wait`]: the mutex is not held then. [`LockError::WrongLock`] if the condition is not one of
    /// this mutex.
    pub fn wait(self, condition: &'a Condition) -> Result<Self, LockError> {
        Ok(Self::again(self.mutex, condition.wait(self.lock)?))
    }

    /// As [`wait`](Self::wait), for that time at most; and whether it was notified.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_timeout(
        self,
        condition: &'a Condition,
        timeout: Duration,
    ) -> Result<(Self, bool), LockError> {
        let (lock, notified) = condition.wait_timeout(self.lock, timeout)?;
        Ok((Self::again(self.mutex, lock), notified))
    }

    /// Waits until the value is as wanted.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_for(
        self,
        condition: &'a Condition,
        mut wanted: impl FnMut(T) -> bool,
    ) -> Result<Self, LockError> {
        let MutexGuard { mutex, lock } = self;
        let lock = condition.wait_for(lock, || wanted(typed::read(&mutex.object, Lock::LEN)))?;
        Ok(Self::again(mutex, lock))
    }

    /// As [`wait_for`](Self::wait_for), for that time at most over all; and whether the value is as wanted.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_for_timeout(
        self,
        condition: &'a Condition,
        timeout: Duration,
        mut wanted: impl FnMut(T) -> bool,
    ) -> Result<(Self, bool), LockError> {
        let MutexGuard { mutex, lock } = self;
        let wanted = || wanted(typed::read(&mutex.object, Lock::LEN));
        let (lock, is_wanted) = condition.wait_for_timeout(lock, timeout, wanted)?;
        Ok((Self::again(mutex, lock), is_wanted))
    }

    /// Notifies one of those who wait, the one that has waited longest. How many that were.
    ///
    /// # Errors
    /// [`LockError::WrongLock`] if the condition is not one of this mutex.
    pub fn notify(&self, condition: &Condition) -> Result<usize, LockError> {
        condition.notify(&self.lock)
    }

    /// Notifies all who wait. How many that were.
    ///
    /// # Errors
    /// As of [`notify`](Self::notify).
    pub fn notify_all(&self, condition: &Condition) -> Result<usize, LockError> {
        condition.notify_all(&self.lock)
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&self.get()).finish()
    }
}
