//! A lock between processes.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ipc_os::map::Word64;

use crate::error::{LockError, OpenError, Owner};
use crate::handle::{named, travels};
use crate::id::{I, Id, Ownerless};
use crate::object::{Fresh, Object, Opening, Typed};
use crate::raw::lock::{self as raw, OnDeath, Refused, Taken};
use crate::thread::Me;
use crate::wait::Nap;

/// How many bytes a lock takes: its word, flags, and what a reentrant one counts.
pub(crate) const LEN: usize = 64;
const WORD: usize = 0;
const FLAGS: usize = 8;
const PASSES_SILENTLY: u32 = 1;

/// Mutual exclusion between threads of any processes.
///
/// A handle: clone it, put it into a message or the arguments of a worker, and it is the same lock there. It protects
/// whatever those who take it agree on; for a value that lies in shared memory itself see `ipc_shm::Mutex`.
///
/// # When its owner dies
/// A process that ends (SIGKILL included) or a thread that ends while it holds the lock has left what it protects in
/// some state. So [`lock`](Self::lock) then fails with [`LockError::OwnerDied`], for everybody, until somebody calls
/// [`recover`](Self::recover), repairs, and says so with [`LockGuard::repaired`]. Those who sleep are told within
/// milliseconds. A lock that guards no state can do without: [`Options::passes_silently`].
///
/// # Fork
/// A child that was forked while this thread held the lock does not hold it: its copy of the guard does nothing.
///
/// ```
/// use ipc_sync::Lock;
///
/// let lock = Lock::new()?;
/// {
///     let _guard = lock.lock()?;
///     assert!(lock.try_lock().is_err());
/// }
/// assert!(lock.try_lock().is_ok());
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Lock {
    object: Object,
    word: Word64,
    on_death: OnDeath,
}

impl Lock {
    /// A new lock without a name.
    ///
    /// # Errors
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new() -> Result<Self, OpenError> {
        Options::default().new()
    }

    /// Choices for a new lock.
    pub fn options() -> Options {
        Options::default()
    }

    /// How many bytes of an object a lock takes, at its beginning.
    pub const LEN: usize = LEN;

    /// The lock at the beginning of an object, for crates that put more into one. Zeros are a free lock; the others
    /// who share the object must use its first [`LEN`](Self::LEN) bytes as a lock too.
    ///
    /// # Errors
    /// [`OpenError::Io`] for an object that is too short.
    pub fn of(object: Object) -> Result<Self, OpenError> {
        let word = object.word64(WORD).map_err(std::io::Error::from)?;
        let flags = object.u32(FLAGS).map_err(std::io::Error::from)?.load(Relaxed);
        let on_death = if flags & PASSES_SILENTLY == 0 { OnDeath::Tell } else { OnDeath::Pass };
        Ok(Lock { object, word, on_death })
    }

    /// Takes the lock, waiting as long as it takes.
    ///
    /// # Errors
    /// [`LockError::OwnerDied`], [`LockError::GivenUp`], [`LockError::Deadlock`], [`LockError::Abandoned`],
    /// [`LockError::Io`]. Nothing is held then.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.lock_with(Nap::forever)
    }

    /// Takes the lock if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, LockError> {
        self.lock_with(Nap::none).map_err(|error| match error {
            LockError::Timeout => LockError::WouldBlock,
            other => other,
        })
    }

    /// Takes the lock within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as [`lock`](Self::lock).
    #[inline]
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError> {
        self.lock_with(|| Nap::within(timeout))
    }

    #[inline]
    fn lock_with(&self, nap: impl FnOnce() -> Nap) -> Result<LockGuard<'_>, LockError> {
        let me = self.object.me().map_err(LockError::Io)?;
        // Before it is held, not after: a thread that ends in between only wastes its word.
        me.hold();
        if raw::try_fast(&*self.word, me.id) {
            return Ok(LockGuard { lock: self, me, died: Cell::new(None) });
        }
        self.lock_slowly(me, self.on_death, nap())
    }

    #[cold]
    fn lock_slowly(&self, me: Me, on_death: OnDeath, mut nap: Nap) -> Result<LockGuard<'_>, LockError> {
        match lock_slowly(&self.word, &self.object, me, on_death, &mut nap) {
            Ok(Outcome { died }) => Ok(LockGuard { lock: self, me, died: Cell::new(died) }),
            Err(error) => {
                me.let_go();
                Err(error)
            }
        }
    }

    /// Takes the lock as [`lock`](Self::lock) does, also when its owner died: then with a guard that says so
    /// ([`LockGuard::died`]), for repairing what the lock protects. Of several who call it, one gets that guard; the
    /// others get the lock after it, and find it repaired or have their own turn.
    ///
    /// # Errors
    /// [`LockError::GivenUp`], else as [`lock`](Self::lock) but for `OwnerDied`.
    pub fn recover(&self) -> Result<LockGuard<'_>, LockError> {
        self.recover_with(Nap::forever())
    }

    /// As [`recover`](Self::recover), within that time.
    ///
    /// # Errors
    /// [`LockError::Timeout`], else as [`recover`](Self::recover).
    pub fn recover_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, LockError> {
        self.recover_with(Nap::within(timeout))
    }

    fn recover_with(&self, nap: Nap) -> Result<LockGuard<'_>, LockError> {
        let me = self.object.me().map_err(LockError::Io)?;
        me.hold();
        let on_death = if self.on_death == OnDeath::Pass { OnDeath::Pass } else { OnDeath::Recover };
        self.lock_slowly(me, on_death, nap)
    }

    /// Takes a lock that was given up into use again, unlocked and as if nobody had died. Whether it was given up.
    pub fn reset(&self) -> bool {
        raw::reset(&*self.word)
    }

    /// Who holds the lock now, or held it when it died. It may be another by the time this returns.
    pub fn owner(&self) -> Option<Owner> {
        Id::of(self.word.load(Relaxed)).map(|id| self.object.owner(id))
    }

    /// Whether whoever takes it would be told of a death now.
    pub(crate) fn is_broken(&self) -> bool {
        let w = self.word.load(Relaxed);
        match Id::of(w) {
            Some(id) => self.on_death == OnDeath::Tell && self.object.board().dead(id),
            None => w & I != 0,
        }
    }

    /// Whether both are handles of one lock.
    pub fn is(&self, other: &Lock) -> bool {
        self.object.is(&other.object)
    }
}

/// How a lock was got.
pub(crate) struct Outcome {
    /// Whose death what it protects has to be repaired after.
    pub(crate) died: Option<Owner>,
}

/// Takes the lock of an object, by the slow path. `me` counts it as held already.
pub(crate) fn lock_slowly(
    word: &AtomicU64,
    object: &Object,
    me: Me,
    on_death: OnDeath,
    nap: &mut Nap,
) -> Result<Outcome, LockError> {
    let taken =
        raw::acquire(word, me.id, object, on_death, nap).map_err(|refused| refusal(object, refused))?;
    let died = if on_death == OnDeath::Pass { None } else { died_of(object, taken) };
    Ok(Outcome { died })
}

/// Whose death what the lock protects has to be repaired after.
pub(crate) fn died_of(object: &Object, taken: Taken) -> Option<Owner> {
    match taken {
        Taken::Free => None,
        Taken::FromDead(dead) => Some(object.owner(dead)),
        Taken::Unrepaired(pid) => Some(owner_of(pid)),
    }
}

pub(crate) fn refusal(object: &Object, refused: Refused) -> LockError {
    match refused {
        Refused::OwnerDied(id) => LockError::OwnerDied { owner: object.owner(id) },
        Refused::Ownerless(Ownerless::Unrepaired, pid) => LockError::OwnerDied { owner: owner_of(pid) },
        Refused::Ownerless(Ownerless::GivenUp, pid) => LockError::GivenUp { owner: owner_of(pid) },
        Refused::Mine => LockError::Deadlock,
        Refused::TimedOut => LockError::Timeout,
        Refused::Abandoned => LockError::Abandoned,
        Refused::Io(error) => LockError::Io(error),
    }
}

/// A process id that stands in a word; 0 if it was not known.
fn owner_of(pid: u32) -> Owner {
    Owner::new((pid != 0).then_some(pid))
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("owner", &self.owner()).finish_non_exhaustive()
    }
}

travels!(Lock, "sync.lock", LEN);
named!(Lock, "lock", (), || Options::default().layout(), Lock::of);

/// Choices for a new [`Lock`].
#[derive(Debug, Clone, Default)]
pub struct Options {
    passes_silently: bool,
}

impl Options {
    /// Whether the next one gets the lock as if nothing had happened when its owner dies: for a lock that guards no
    /// state that could be left half changed. By default it is told.
    pub fn passes_silently(mut self, yes: bool) -> Self {
        self.passes_silently = yes;
        self
    }

    /// Makes the lock, without a name.
    ///
    /// # Errors
    /// As of [`Lock::new`].
    #[expect(clippy::new_ret_no_self, reason = "the word for an unnamed one")]
    pub fn new(self) -> Result<Lock, OpenError> {
        let (len, init) = self.layout()?;
        Lock::of(Object::new_with(len, init)?)
    }

    /// Makes the lock with a name, as [`Lock::create`].
    ///
    /// # Errors
    /// The same.
    pub fn create(self, name: &str) -> Result<Lock, OpenError> {
        self.named(Opening::Create, name)
    }

    /// Opens the lock of that name, or makes it, as [`Lock::open_or_create`]. The choices count if it is made.
    ///
    /// # Errors
    /// The same.
    pub fn open_or_create(self, name: &str) -> Result<Lock, OpenError> {
        self.named(Opening::OpenOrCreate, name)
    }

    fn named(self, opening: Opening, name: &str) -> Result<Lock, OpenError> {
        let (len, init) = self.layout()?;
        let typed = Typed { kind: "lock", len, fingerprint: 0, structure: "" };
        Lock::of(Object::named(opening, name, &typed, init)?)
    }

    /// Writes the choices into the beginning of a new object that [`Lock::of`] is to find a lock in.
    ///
    /// # Errors
    /// If it is too short.
    pub fn prepare(self, fresh: &Fresh<'_>) -> io::Result<()> {
        self.layout().map_err(io::Error::other)?.1(fresh)
    }

    fn layout(self) -> Result<(usize, impl FnOnce(&Fresh<'_>) -> io::Result<()>), OpenError> {
        let flags = if self.passes_silently { PASSES_SILENTLY } else { 0 };
        Ok((LEN, move |fresh: &Fresh<'_>| Ok(fresh.set_u32(FLAGS, flags)?)))
    }
}

/// Holds a [`Lock`] until it is dropped.
///
/// It belongs to the thread that took it (neither `Send` nor `Sync`): what is known of that thread's life is what is
/// known of the lock's owner. A leaked guard (`mem::forget`) is a death when the thread ends.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    me: Me,
    /// Whose death what is protected has not been repaired after.
    died: Cell<Option<Owner>>,
}

impl LockGuard<'_> {
    /// The process that died holding the lock, if what it protects has not been declared repaired since.
    pub fn died(&self) -> Option<Owner> {
        self.died.get()
    }

    /// Says that what the lock protects is consistent again: whoever takes the lock after this guard gets it as usual.
    /// Without that, the next one is told of the death again. Does nothing if nobody died.
    pub fn repaired(&self) {
        if self.died.take().is_some() {
            raw::repaired(&*self.lock.word, self.me.id);
        }
    }

    /// Says that what the lock protects cannot be repaired: from now on everybody gets [`LockError::GivenUp`], until
    /// somebody calls [`Lock::reset`].
    pub fn give_up(self) {
        let owner = self.died.take().unwrap_or(Owner::new(Some(std::process::id())));
        self.release_as(Ownerless::GivenUp, owner);
        std::mem::forget(self);
    }

    #[cold]
    fn release_as(&self, why: Ownerless, owner: Owner) {
        if self.me.is_still() {
            raw::abandon(&*self.lock.word, self.me.id, &self.lock.object, why, owner.pid().unwrap_or(0));
            self.me.let_go();
        }
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(owner) = self.died.get() {
            return self.release_as(Ownerless::Unrepaired, owner);
        }
        if self.me.is_still() {
            raw::release(&*self.lock.word, self.me.id, &self.lock.object);
            self.me.let_go();
        }
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("died", &self.died.get()).finish_non_exhaustive()
    }
}

impl<'a> LockGuard<'a> {
    pub(crate) fn lock(&self) -> &'a Lock {
        self.lock
    }

    pub(crate) fn me(&self) -> Me {
        self.me
    }
}
