//! A flag that others wait for.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ipc_os::futex;
use ipc_os::map::Word32;

use crate::error::{OpenError, WaitError};
use crate::handle::{layout, named, travels};
use crate::object::Object;
use crate::raw::event::{self as raw, Sleeps};
use crate::wait::{Nap, Rest};

const LEN: usize = 64;

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
        if raw::set(&*self.word) {
            futex::wake_all((&*self.word).into());
        }
    }

    /// Clears it: whoever waits from now on waits for the next [`set`](Self::set). Whether it was set.
    #[inline]
    pub fn clear(&self) -> bool {
        raw::clear(&*self.word)
    }

    /// Whether it is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        raw::is_set(&*self.word)
    }

    /// Waits until it is set.
    ///
    /// # Errors
    /// [`WaitError::Abandoned`], [`WaitError::Io`].
    #[inline]
    pub fn wait(&self) -> Result<(), WaitError> {
        raw::wait(&*self.word, &self.object, Nap::forever)
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
        raw::wait(&*self.word, &self.object, || Nap::within(timeout))
    }
}

impl Sleeps<AtomicU32> for Object {
    #[inline]
    fn spin(&self, done: impl FnMut() -> bool) -> bool {
        self.spin_for_news(done)
    }
    fn sleep(&self, word: &AtomicU32, expected: u32, nap: &mut Nap) -> io::Result<Rest> {
        self.rest((word.into(), expected), &[], nap)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}

travels!(Event, "sync.event", LEN);
named!(Event, "event", (), || layout(LEN), Event::of);
