//! A lock for many readers or one writer.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use ipc_os::map::{Word32, Word64};

use crate::error::{LockError, OpenError, Owner};
use crate::handle::{named, travels};
use crate::id::{Id, Ownerless};
use crate::lock::{at_once, died_of, refusal};
use crate::object::{Fresh, Object};
use crate::raw::lock as word;
use crate::raw::lock::OnDeath;
use crate::raw::rwlock::{self as raw, Words};
use crate::thread::Me;
use crate::wait::Nap;

const READERS: usize = 12;
const PHASE: usize = 16;
const HEADER: usize = 64;
/// As many readers as fit with the rest into 512 bytes.
const READERS_DEFAULT: u32 = 56;
const READERS_MAX: u32 = 4096;

/// A lock that many may have for reading, or one for writing.
///
/// A handle: clone it, put it into a message, and it is the same lock there. A writer that waits keeps new readers out,
/// so a thread that has it for reading must not take it again.
///
/// A reader that dies just disappears. A writer that dies is told as for a [`Lock`](crate::Lock): [`LockError::OwnerDied`]
/// for readers and writers until somebody calls [`recover`](Self::recover) and declares it
/// [repaired](WriteGuard::repaired); but one that dies while it waits for the readers has changed nothing, and is not
/// told.
///
/// At most 56 can read at the same time ([`with_readers`](Self::with_readers) for more); the next one waits.
///
/// ```
/// let lock = ipc_sync::RwLock::new()?;
/// let (a, b) = (lock.read()?, lock.try_read()?);
/// assert!(lock.try_write().is_err());
/// drop((a, b));
/// let _alone = lock.write()?;
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct RwLock {
    object: Object,
    words: Arc<Cells>,
}

/// The words, for the protocol.
struct Cells {
    writer: Word64,
    phase: Word32,
    places: Vec<Word64>,
}

impl Words<AtomicU64> for Cells {
    fn writer(&self) -> &AtomicU64 {
        &self.writer
    }
    fn places(&self) -> usize {
        self.places.len()
    }
    fn place(&self, index: usize) -> &AtomicU64 {
        &self.places[index]
    }
    fn may_have_written(&self) -> bool {
        self.phase.load(Relaxed) != 0
    }
    fn set_phase(&self, may_have_written: bool) {
        let phase: &AtomicU32 = &self.phase;
        phase.store(u32::from(may_have_written), Relaxed);
    }
}

impl RwLock {
    /// A new one without a name.
    ///
    /// # Errors
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new() -> Result<Self, OpenError> {
        RwLock::with_readers(READERS_DEFAULT)
    }

    /// As [`new`](Self::new), for that many readers at the same time.
    ///
    /// # Errors
    /// [`OpenError::InvalidInput`] for none or more than 4,096, else as of [`new`](Self::new).
    pub fn with_readers(readers: u32) -> Result<Self, OpenError> {
        let (len, init) = layout(readers)?;
        RwLock::of(Object::new_with(len, init)?)
    }

    /// How many bytes of an object a lock for the usual number of readers takes, at its beginning.
    pub const LEN: usize = HEADER + 8 * READERS_DEFAULT as usize;

    /// Writes a free lock for the usual number of readers into the beginning of a new object, for [`of`](Self::of).
    ///
    /// # Errors
    /// If it is too short.
    pub fn prepare(fresh: &Fresh<'_>) -> io::Result<()> {
        layout(READERS_DEFAULT).map_err(io::Error::other)?.1(fresh)
    }

    /// The lock at the beginning of an object, for crates that put more into one.
    ///
    /// # Errors
    /// [`OpenError::Io`] if there is none.
    pub fn of(object: Object) -> Result<Self, OpenError> {
        let readers = object.u32(READERS).map_err(io::Error::from)?.load(Relaxed);
        if readers == 0 || readers > READERS_MAX || HEADER + 8 * readers as usize > object.len() {
            return Err(OpenError::Io(raw::scribbled()));
        }
        let words = Cells {
            writer: object.word64(0).map_err(io::Error::from)?,
            phase: object.word32(PHASE).map_err(io::Error::from)?,
            places: (0..readers as usize)
                .map(|index| object.word64(HEADER + 8 * index))
                .collect::<Result<_, _>>()
                .map_err(io::Error::from)?,
        };
        Ok(RwLock { object, words: Arc::new(words) })
    }

    /// Takes the lock for reading, waiting as long as it takes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] if a writer died, [`LockError::GivenUp`], [`LockError::Deadlock`] if this thread
    /// is the writer, [`LockError::Abandoned`], [`LockError::Io`].
    pub fn read(&self) -> Result<ReadGuard<'_>, LockError> {
        self.read_within(Nap::forever())
    }

    /// Takes the lock for reading if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`read`](Self::read).
    pub fn try_read(&self) -> Result<ReadGuard<'_>, LockError> {
        self.read_within(Nap::none()).map_err(at_once)
    }

    /// Takes the lock for reading within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<ReadGuard<'_>, LockError> {
        self.read_within(Nap::within(timeout))
    }

    fn read_within(&self, mut nap: Nap) -> Result<ReadGuard<'_>, LockError> {
        let me = self.object.me().map_err(LockError::Io)?;
        me.hold();
        match raw::read(&*self.words, me.id, &self.object, OnDeath::Tell, &mut nap) {
            Ok(place) => {
                let guard = ReadGuard { lock: self, me, place };
                self.object.check().map_err(LockError::Io)?;
                Ok(guard)
            }
            Err(refused) => {
                me.let_go();
                Err(refusal(&self.object, refused))
            }
        }
    }

    /// Takes the lock for writing, waiting as long as it takes.
    ///
    /// # Errors
    /// As of [`read`](Self::read); [`LockError::Deadlock`] also if this thread is a reader.
    pub fn write(&self) -> Result<WriteGuard<'_>, LockError> {
        self.write_within(OnDeath::Tell, Nap::forever())
    }

    /// Takes the lock for writing if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`write`](Self::write).
    pub fn try_write(&self) -> Result<WriteGuard<'_>, LockError> {
        self.write_within(OnDeath::Tell, Nap::none()).map_err(at_once)
    }

    /// Takes the lock for writing within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`write`](Self::write).
    pub fn write_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_>, LockError> {
        self.write_within(OnDeath::Tell, Nap::within(timeout))
    }

    /// Takes the lock for writing also when a writer died, as [`Lock::recover`](crate::Lock::recover).
    ///
    /// # Errors
    /// [`LockError::GivenUp`], else as of [`write`](Self::write) but for `OwnerDied`.
    pub fn recover(&self) -> Result<WriteGuard<'_>, LockError> {
        self.write_within(OnDeath::Recover, Nap::forever())
    }

    /// As [`recover`](Self::recover), within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as of [`recover`](Self::recover).
    pub fn recover_timeout(&self, timeout: Duration) -> Result<WriteGuard<'_>, LockError> {
        self.write_within(OnDeath::Recover, Nap::within(timeout))
    }

    /// As [`recover`](Self::recover), if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as of [`recover`](Self::recover).
    pub fn try_recover(&self) -> Result<WriteGuard<'_>, LockError> {
        self.write_within(OnDeath::Recover, Nap::none()).map_err(at_once)
    }

    fn write_within(&self, on_death: OnDeath, mut nap: Nap) -> Result<WriteGuard<'_>, LockError> {
        let me = self.object.me().map_err(LockError::Io)?;
        me.hold();
        match raw::write(&*self.words, me.id, &self.object, on_death, &mut nap) {
            Ok(taken) => {
                let guard = WriteGuard { lock: self, me, died: Cell::new(died_of(&self.object, taken)) };
                self.object.check().map_err(LockError::Io)?;
                Ok(guard)
            }
            Err(refused) => {
                me.let_go();
                Err(refusal(&self.object, refused))
            }
        }
    }

    /// Takes a lock that was given up into use again. Whether it was.
    pub fn reset(&self) -> bool {
        word::reset(&*self.words.writer)
    }

    /// Who has the lock for writing now, or had it when it died.
    pub fn owner(&self) -> Option<Owner> {
        Id::of(self.words.writer.load(Relaxed)).map(|id| self.object.owner(id))
    }

    /// How many read now.
    pub fn readers(&self) -> usize {
        let is_alive =
            |place: &&Word64| Id::of(place.load(Relaxed)).is_some_and(|id| !self.object.board().dead(id));
        self.words.places.iter().filter(is_alive).count()
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, readers) = (self.owner(), self.readers());
        f.debug_struct("RwLock").field("owner", &owner).field("readers", &readers).finish_non_exhaustive()
    }
}

travels!(RwLock, "sync.rwlock", HEADER);
named!(RwLock, "rwlock", (), || layout(READERS_DEFAULT), RwLock::of);

fn layout(readers: u32) -> Result<(usize, impl FnOnce(&Fresh<'_>) -> io::Result<()>), OpenError> {
    if readers == 0 || readers > READERS_MAX {
        return Err(OpenError::InvalidInput(format!("a lock has places for 1 to {READERS_MAX} readers")));
    }
    let init = move |fresh: &Fresh<'_>| Ok(fresh.set_u32(READERS, readers)?);
    Ok((HEADER + 8 * readers as usize, init))
}

/// Has a [`RwLock`] for reading until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct ReadGuard<'a> {
    lock: &'a RwLock,
    me: Me,
    place: usize,
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        if self.me.is_still() {
            raw::unread(&*self.lock.words, self.place, self.me.id, &self.lock.object);
            self.me.let_go();
        }
    }
}

impl fmt::Debug for ReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard").finish_non_exhaustive()
    }
}

/// Has a [`RwLock`] for writing until it is dropped. Belongs to the thread that took it.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct WriteGuard<'a> {
    lock: &'a RwLock,
    me: Me,
    died: Cell<Option<Owner>>,
}

impl WriteGuard<'_> {
    /// The writer that died, if what it wrote has not been declared repaired since.
    pub fn died(&self) -> Option<Owner> {
        self.died.get()
    }

    /// Says that what the lock protects is consistent again. Does nothing if nobody died.
    pub fn repaired(&self) {
        if self.died.take().is_some() {
            word::repaired(&*self.lock.words.writer, self.me.id);
        }
    }

    /// Says that what the lock protects cannot be repaired: everybody gets [`LockError::GivenUp`] until somebody calls
    /// [`RwLock::reset`].
    pub fn give_up(self) {
        let owner = self.died.take().unwrap_or(Owner::new(Some(std::process::id())));
        self.release_as(Ownerless::GivenUp, owner);
        std::mem::forget(self);
    }

    fn release_as(&self, why: Ownerless, owner: Owner) {
        if self.me.is_still() {
            let pid = owner.pid().unwrap_or(0);
            word::abandon(&*self.lock.words.writer, self.me.id, &self.lock.object, why, pid);
            self.me.let_go();
        }
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if let Some(owner) = self.died.get() {
            return self.release_as(Ownerless::Unrepaired, owner);
        }
        if self.me.is_still() {
            raw::unwrite(&*self.lock.words, self.me.id, &self.lock.object);
            self.me.let_go();
        }
    }
}

impl fmt::Debug for WriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard").field("died", &self.died.get()).finish_non_exhaustive()
    }
}
