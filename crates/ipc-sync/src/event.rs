//! A flag that others wait for.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use ipc_os::futex;
use ipc_os::map::Word32;

use crate::error::{OpenError, WaitError};
use crate::handle::{layout, named, travels};
use crate::object::Object;
use crate::wait::{Nap, Rest};

const LEN: usize = 64;

/// The flag itself.
const SET: u32 = 1;
/// Somebody sleeps until it is set.
const SLEEPERS: u32 = 2;
/// From here on, how often it was set.
const ONCE: u32 = 4;

/// A flag that processes set, clear and wait for.
///
/// A handle: clone it, put it into a message, and it is the same event there. Nobody owns it, so a death costs nothing:
/// one that sets it sets it with a single store, and whoever sleeps is woken within a tick (at most 100 ms) if the process
/// that set it was killed before it could wake anybody. A wait that nobody is left to end says so
/// ([`WaitError::Abandoned`]).
///
/// An event that is set and cleared at once is not missed by those who wait already.
///
/// ```
/// use ipc_sync::Event;
/// use std::time::Duration;
///
/// let ready = Event::new()?;
/// assert!(ready.wait_timeout(Duration::from_millis(1)).is_err());
/// ready.set();
/// ready.wait()?;
/// assert!(ready.is_set());
/// ready.clear();
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Event {
    object: Object,
    word: Word32,
}

impl Event {
    /// A new event without a name, not set.
    ///
    /// # Errors
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new() -> Result<Self, OpenError> {
        Event::of(Object::new(LEN)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let word = object.word32(0).map_err(std::io::Error::from)?;
        Ok(Event { object, word })
    }

    /// Sets it, and wakes all who wait. What was written before is seen by those whose wait this ends.
    #[inline]
    pub fn set(&self) {
        let mut w = self.word.load(Relaxed);
        loop {
            let next = (w & !SLEEPERS | SET).wrapping_add(ONCE);
            // Release: with the Acquire of those who find it set.
            match self.word.compare_exchange_weak(w, next, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => w = now,
            }
        }
        if w & SLEEPERS != 0 {
            futex::wake_all((&*self.word).into());
        }
    }

    /// Clears it: whoever waits from now on waits for the next [`set`](Self::set). Whether it was set.
    #[inline]
    pub fn clear(&self) -> bool {
        // Acquire: who clears what it finds set has seen what was written before. Release: what it has read stays before.
        self.word.fetch_and(!SET, AcqRel) & SET != 0
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`WaitError::Abandoned`], [`WaitError::Io`].
    #[inline]
    pub fn wait(&self) -> Result<(), WaitError> {
        self.wait_with(Nap::forever)
    }

    /// Whether it is set, as a wait that does not wait.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`] if it is not.
    pub fn try_wait(&self) -> Result<(), WaitError> {
        if self.is_set() { Ok(()) } else { Err(WaitError::WouldBlock) }
    }

    /// Waits until it is set, for that time at most.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], else as of [`wait`](Self::wait).
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_with(|| Nap::within(timeout))
    }

    #[inline]
    fn wait_with(&self, nap: impl FnOnce() -> Nap) -> Result<(), WaitError> {
        // Acquire: with the Release of `set`.
        let first = self.word.load(Acquire);
        if first & SET != 0 {
            return Ok(());
        }
        self.wait_slowly(first, nap())
    }

    fn wait_slowly(&self, first: u32, mut nap: Nap) -> Result<(), WaitError> {
        let done = |w: u32| w & SET != 0 || w / ONCE != first / ONCE;
        if !nap.is_over() && self.object.spin_until(|| done(self.word.load(Acquire))) {
            return Ok(());
        }
        let mut rest = Rest::Woken;
        loop {
            let w = self.word.load(Acquire);
            if done(w) {
                return Ok(());
            }
            match rest {
                Rest::TimedOut => return Err(WaitError::Timeout),
                Rest::Abandoned => return Err(WaitError::Abandoned),
                Rest::Woken => {}
            }
            // Relaxed: the kernel compares it again before anybody sleeps.
            if w & SLEEPERS == 0 && self.word.compare_exchange(w, w | SLEEPERS, Relaxed, Relaxed).is_err() {
                continue;
            }
            let word: &AtomicU32 = &self.word;
            rest = self.object.rest((word.into(), w | SLEEPERS), &[], &mut nap).map_err(WaitError::Io)?;
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}

travels!(Event, "sync.event", LEN);
named!(Event, "event", (), || layout(LEN), Event::of);
