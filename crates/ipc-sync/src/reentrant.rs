//! A lock that its holder may take again.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use ipc_os::map::Word64;
use ipc_os::robust::thread_id;

use crate::error::{LockError, OpenError, Owner};
use crate::handle::{layout, named, travels};
use crate::id::Id;
use crate::lock::{LEN, Outcome, at_once, lock_slowly};
use crate::object::Object;
use crate::raw::lock::{self as raw, OnDeath};
use crate::thread::Me;
use crate::wait::Nap;

/// How often the owner has it. Written by the owner alone.
const DEPTH: usize = 12;
/// The thread that has it, if the owner's word names the process as a whole. Written by the owner alone.
const THREAD: usize = 16;

/// A lock that the thread that holds it may take again; it is free when all its guards are gone.
///
/// A handle, like [`Lock`](crate::Lock). If its owner dies, it passes silently to the next: a reentrant lock cannot
/// say in the middle of which nesting its owner was.
///
/// ```
/// let lock = ipc_sync::ReentrantLock::new()?;
/// let outer = lock.lock()?;
/// let inner = lock.lock()?;
/// assert_eq!(inner.depth(), 2);
/// # drop((inner, outer));
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct ReentrantLock {
    object: Object,
    word: Word64,
}

impl ReentrantLock {
    /// A new one without a name.
    ///
    /// # Errors
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new() -> Result<Self, OpenError> {
        ReentrantLock::of(Object::new(LEN)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let word = object.word64(0).map_err(std::io::Error::from)?;
        object.u32(DEPTH).map_err(std::io::Error::from)?;
        object.u64(THREAD).map_err(std::io::Error::from)?;
        Ok(ReentrantLock { object, word })
    }

    fn depth(&self) -> &AtomicU32 {
        self.object.u32(DEPTH).expect("checked when it was made")
    }

    fn thread(&self) -> &AtomicU64 {
        self.object.u64(THREAD).expect("checked when it was made")
    }

    /// As whom this thread has the lock, if it does: a thread that had no word of its own when it took it has it in the
    /// name of its process.
    fn mine(&self, me: Id) -> Option<Id> {
        let owner = Id::of(self.word.load(Relaxed))?;
        // Nobody but this thread puts it there, and it takes it away again before the lock is free.
        let is_mine = if owner.is_thread() {
            owner == me
        } else {
            owner == me.process() && self.thread().load(Relaxed) == this_thread(owner)
        };
        is_mine.then_some(owner)
    }

    /// Takes the lock once more, waiting as long as another thread has it.
    ///
    /// # Errors
    /// [`LockError::Abandoned`], [`LockError::Io`]. Nothing is held then that was not before.
    pub fn lock(&self) -> Result<ReentrantGuard<'_>, LockError> {
        self.lock_within(Nap::forever())
    }

    /// Takes the lock once more if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ReentrantGuard<'_>, LockError> {
        self.lock_within(Nap::none()).map_err(at_once)
    }

    /// Takes the lock once more within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ReentrantGuard<'_>, LockError> {
        self.lock_within(Nap::within(timeout))
    }

    fn lock_within(&self, mut nap: Nap) -> Result<ReentrantGuard<'_>, LockError> {
        let me = self.object.me().map_err(LockError::Io)?;
        let depth = self.depth();
        let id = if let Some(id) = self.mine(me.id) {
            let Some(deeper) = depth.load(Relaxed).checked_add(1) else { return Err(LockError::Deadlock) };
            depth.store(deeper, Relaxed);
            id
        } else {
            me.hold();
            if !raw::try_fast(&*self.word, me.id) {
                let Outcome { .. } = lock_slowly(&self.word, &self.object, me, OnDeath::Pass, &mut nap)
                    .inspect_err(|_| me.let_go())?;
            }
            depth.store(1, Relaxed);
            if !me.id.is_thread() {
                self.thread().store(this_thread(me.id), Relaxed);
            }
            me.id
        };
        let guard = ReentrantGuard { lock: self, me, id, not_send: PhantomData };
        self.object.check().map_err(LockError::Io)?;
        Ok(guard)
    }

    /// Who holds the lock now. It may be another by the time this returns.
    pub fn owner(&self) -> Option<Owner> {
        Id::of(self.word.load(Relaxed)).map(|id| self.object.owner(id))
    }
}

/// What names this thread of its process, and no thread of any other: of one that died with the lock, say.
fn this_thread(process: Id) -> u64 {
    u64::from(thread_id()) << 32 | process.word() >> 2 & 0xffff_ffff
}

impl fmt::Debug for ReentrantLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantLock").field("owner", &self.owner()).finish_non_exhaustive()
    }
}

travels!(ReentrantLock, "sync.reentrant-lock", LEN);
named!(ReentrantLock, "reentrant-lock", (), || layout(LEN), ReentrantLock::of);

/// Holds a [`ReentrantLock`] once until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct ReentrantGuard<'a> {
    lock: &'a ReentrantLock,
    me: Me,
    /// As whom this thread has it.
    id: Id,
    not_send: PhantomData<*const ()>,
}

impl ReentrantGuard<'_> {
    /// How many guards this thread has of the lock.
    pub fn depth(&self) -> u32 {
        self.lock.depth().load(Relaxed)
    }
}

impl Drop for ReentrantGuard<'_> {
    fn drop(&mut self) {
        let of_thread = self.id.is_thread();
        let is_still =
            if of_thread { self.me.is_still() } else { self.lock.object.board().is_this_process(self.id) };
        if !is_still {
            return;
        }
        let depth = self.lock.depth();
        let left = depth.load(Relaxed).saturating_sub(1);
        depth.store(left, Relaxed);
        if left == 0 {
            if !of_thread {
                // Before the lock is free: from then on it is the next one's.
                self.lock.thread().store(0, Relaxed);
            }
            raw::release(&*self.lock.word, self.id, &self.lock.object);
            if of_thread {
                self.me.let_go();
            }
        }
    }
}

impl fmt::Debug for ReentrantGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantGuard").field("depth", &self.depth()).finish_non_exhaustive()
    }
}
