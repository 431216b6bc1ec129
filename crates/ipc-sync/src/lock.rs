//! A lock between processes.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use ipc_os::map::Word64;
use ipc_os::wiped::Block;

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
const DIED: usize = 16;
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
        object.u32(DIED).map_err(std::io::Error::from)?;
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
        self.lock_with(Nap::none).map_err(at_once)
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
            return LockGuard::new(self, me);
        }
        self.lock_slowly(me, self.on_death, nap())
    }

    #[cold]
    fn lock_slowly(&self, me: Me, on_death: OnDeath, mut nap: Nap) -> Result<LockGuard<'_>, LockError> {
        match lock_slowly(&self.word, &self.object, me, on_death, &mut nap) {
            Ok(Outcome { died }) => {
                if let Some(owner) = died {
                    // Killed before this, the next one is told of this process's own death.
                    self.died().store(owner.pid().unwrap_or(0), Relaxed);
                }
                LockGuard::new(self, me)
            }
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

    /// As [`recover`](Self::recover), if that needs no waiting.
    ///
    /// # Errors
    /// [`LockError::WouldBlock`], else as [`recover`](Self::recover).
    pub fn try_recover(&self) -> Result<LockGuard<'_>, LockError> {
        self.recover_with(Nap::none()).map_err(at_once)
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

    /// The process whose death what is protected has to be repaired after: as long as the owner's word has I.
    fn died(&self) -> &AtomicU32 {
        self.object.u32(DIED).expect("checked when it was made")
    }

    /// Whether somebody has it, dead or alive, as far as one look tells.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        Id::of(self.word.load(Relaxed)).is_some()
    }

    /// Whether whoever takes it would be told of a death now.
    pub(crate) fn is_broken(&self) -> bool {
        let w = self.word.load(Relaxed);
        match Id::of(w) {
            Some(id) => {
                // Also asked of the kernel: those who wait for something else do not look after the owner.
                let board = self.object.board();
                self.on_death == OnDeath::Tell && (board.dead(id) || board.patrol(id).unwrap_or(false))
            }
            None => w & I != 0,
        }
    }

    /// Whether both are handles of one lock.
    pub fn is(&self, other: &Lock) -> bool {
        self.object.is(&other.object)
    }
}

/// What a wait says that must not wait.
pub(crate) fn at_once(error: LockError) -> LockError {
    match error {
        LockError::Timeout => LockError::WouldBlock,
        other => other,
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
        let typed = Typed { kind: "lock", len, len_min: len, reserved: len, fingerprint: 0, structure: "" };
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
    /// The block of the thread: whose Id is in there is who may release. If it is another's by now, or nobody's in a
    /// forked child, that is not the Id in the word, and nothing happens.
    block: &'static Block,
    not_send: PhantomData<*const ()>,
}

impl<'a> LockGuard<'a> {
    #[inline]
    fn new(lock: &'a Lock, me: Me) -> Result<Self, LockError> {
        let guard = LockGuard { lock, block: me.block(), not_send: PhantomData };
        lock.object.check().map_err(LockError::Io)?;
        Ok(guard)
    }

    pub(crate) fn lock(&self) -> &'a Lock {
        self.lock
    }
}

impl LockGuard<'_> {
    /// The process that died holding the lock, if what it protects has not been declared repaired since.
    pub fn died(&self) -> Option<Owner> {
        let is_inconsistent = self.lock.word.load(Relaxed) & I != 0;
        is_inconsistent.then(|| owner_of(self.lock.died().load(Relaxed)))
    }

    /// Says that what the lock protects is consistent again: whoever takes the lock after this guard gets it as usual.
    /// Without that, the next one is told of the death again. Does nothing if nobody died.
    pub fn repaired(&self) {
        if let Some(me) = Me::of(self.block) {
            raw::repaired(&*self.lock.word, me.id);
        }
    }

    /// Says that what the lock protects cannot be repaired: from now on everybody gets [`LockError::GivenUp`], until
    /// somebody calls [`Lock::reset`].
    pub fn give_up(self) {
        let pid = self.died().map_or(Some(std::process::id()), Owner::pid);
        self.leave(|me| {
            raw::abandon(&*self.lock.word, me.id, &self.lock.object, Ownerless::GivenUp, pid.unwrap_or(0))
        });
        std::mem::forget(self);
    }

    #[inline]
    fn leave(&self, leave: impl FnOnce(Me) -> bool) {
        if let Some(me) = Me::of(self.block)
            && leave(me)
        {
            me.let_go();
        }
    }

    /// What is not a plain release: somebody sleeps, what is protected was not repaired, or the lock is not this
    /// thread's any more.
    #[cold]
    fn leave_slowly(&self, me: Me) -> bool {
        let Lock { word, object, .. } = self.lock;
        match self.died() {
            // Not by what the word says of another's: the release looks at its owner.
            None => raw::release(&**word, me.id, object),
            Some(owner) => {
                raw::abandon(&**word, me.id, object, Ownerless::Unrepaired, owner.pid().unwrap_or(0))
            }
        }
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.leave(|me| raw::release_fast(&*self.lock.word, me.id) || self.leave_slowly(me));
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("died", &self.died()).finish_non_exhaustive()
    }
}
