//! Waiting, with a lock let go meanwhile, until somebody says that something has changed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

use ipc_os::futex;
use ipc_os::map::{OutOfBounds, Word32, Word64};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{LockError, OpenError};
use crate::handle::{named, travels};
use crate::id::Id;
use crate::lock::{self, Lock, LockGuard};
use crate::object::{Fresh, Object};
use crate::wait::{Nap, Rest};

/// On the cache line of the lock: whoever has the lock has these too.
const WAITERS: usize = 32;
const TICKETS: usize = 36;
const HIGH: usize = 40;
const HEADER: usize = lock::LEN;
/// A waiter's word is on a cache line of its own: it looks there until it is notified.
const WAITER: usize = 64;
/// As many as fit with the rest into 2 KiB.
const WAITERS_DEFAULT: u32 = 30;
const WAITERS_MAX: u32 = 4096;

/// In a waiter's word: it has been told.
const NOTIFIED: u64 = 1;
/// It sleeps, and has to be woken.
const SLEEPS: u64 = 2;

/// How long one waits who finds no place to wait at.
const WITHOUT_A_PLACE: Duration = Duration::from_millis(5);

/// A condition variable: [`wait`](Self::wait) lets a [`Lock`] go, waits to be notified, and takes it again.
///
/// A handle: clone it, put it into a message, and it is the same condition there. It has a lock of its own
/// ([`lock`](Self::lock)), or belongs to one that was there ([`on`](Self::on)), which several conditions can share.
///
/// One [`notify`](Self::notify) wakes one of those who wait at that time, the one that has waited longest; nothing is
/// stored if nobody waits. As everywhere, a wait may also end for no reason, so look at what you wait for in a loop, or
/// use [`wait_for`](Self::wait_for).
///
/// A waiter that dies is passed over, and if it was notified already another one is notified in its place. The death of
/// a process that holds the lock is told to those who wait ([`LockError::OwnerDied`]).
///
/// At most 30 can wait at the same time; further ones look every 5 ms, as if they were woken for no reason.
///
/// ```
/// use ipc_sync::Condition;
/// use std::time::Duration;
///
/// let changed = Condition::new()?;
/// let guard = changed.lock().lock()?;
/// assert_eq!(changed.notify(&guard)?, 0, "nobody waits");
/// let (guard, notified) = changed.wait_timeout(guard, Duration::from_millis(1))?;
/// assert!(!notified);
/// let guard = changed.wait_for(guard, || true)?;
/// # drop(guard);
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Condition {
    place: Place,
    lock: Lock,
    /// The lock is a part of the same object.
    owns_lock: bool,
}

/// The object of a condition.
#[derive(Clone)]
struct Place {
    object: Object,
    words: Arc<Words>,
}

struct Words {
    /// What the next to wait gets: those who wait longest have the smallest.
    tickets: Word32,
    /// No place from here on is taken. Written under the lock.
    high: Word32,
    waiters: Vec<Waiter>,
    /// The place that a thread of this process had last: its line is still here.
    last: AtomicUsize,
}

struct Waiter {
    word: Word64,
    ticket: Word32,
}

impl Words {
    /// Under the lock: fewer places are looked at, when many waited once. Two stay, which is what two processes that notify
    /// each other take.
    fn lower(&self) {
        let taken = self.taken();
        if taken.len() > 2 && taken[taken.len() - 1].word.load(Relaxed) == 0 {
            let lower = taken.iter().rposition(|waiter| waiter.word.load(Relaxed) != 0);
            self.high.store(lower.map_or(0, |lower| lower as u32 + 1), Relaxed);
        }
    }

    /// The places that may be taken.
    fn taken(&self) -> &[Waiter] {
        let high = self.high.load(Relaxed) as usize;
        &self.waiters[..high.min(self.waiters.len())]
    }
}

impl Place {
    fn new() -> Result<Self, OpenError> {
        let (len, init) = layout()?;
        Place::of(Object::new_with(len, init)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let waiters = object.u32(WAITERS).map_err(io::Error::from)?.load(Relaxed);
        if waiters == 0 || waiters > WAITERS_MAX || HEADER + WAITER * waiters as usize > object.len() {
            return Err(OpenError::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                "a condition that is none",
            )));
        }
        let waiter = |index: usize| {
            let at = HEADER + WAITER * index;
            Ok(Waiter { word: object.word64(at)?, ticket: object.word32(at + 8)? })
        };
        let words = Words {
            tickets: object.word32(TICKETS).map_err(io::Error::from)?,
            high: object.word32(HIGH).map_err(io::Error::from)?,
            last: AtomicUsize::new(0),
            waiters: (0..waiters as usize)
                .map(waiter)
                .collect::<Result<_, OutOfBounds>>()
                .map_err(io::Error::from)?,
        };
        Ok(Place { object, words: Arc::new(words) })
    }
}

travels!(Place, "sync.condition", HEADER);

named!(Condition, "condition", (), layout, Condition::of);

fn layout() -> Result<(usize, impl FnOnce(&Fresh<'_>) -> io::Result<()>), OpenError> {
    let init = |fresh: &Fresh<'_>| Ok(fresh.set_u32(WAITERS, WAITERS_DEFAULT)?);
    Ok((HEADER + WAITER * WAITERS_DEFAULT as usize, init))
}

/// How a condition travels.
#[derive(Serialize, Deserialize)]
struct Wire<P, L> {
    place: P,
    lock: Option<L>,
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lock = if self.owns_lock { None } else { Some(&self.lock) };
        Wire { place: &self.place, lock }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire::<Place, Lock> { place, lock } = Wire::deserialize(deserializer)?;
        let owns_lock = lock.is_none();
        let lock = match lock {
            Some(lock) => lock,
            None => Lock::of(place.object.clone()).map_err(serde::de::Error::custom)?,
        };
        Ok(Condition { place, lock, owns_lock })
    }
}

impl Condition {
    /// A new one without a name, with a lock of its own.
    ///
    /// # Errors
    /// [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new() -> Result<Self, OpenError> {
        let (len, init) = layout()?;
        Condition::of(Object::new_with(len, init)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let lock = Lock::of(object.clone())?;
        Ok(Condition { place: Place::of(object)?, lock, owns_lock: true })
    }

    /// A new one without a name, that belongs to `lock`.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn on(lock: &Lock) -> Result<Self, OpenError> {
        Ok(Condition { place: Place::new()?, lock: lock.clone(), owns_lock: false })
    }

    /// The lock that it belongs to.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Lets the lock go, waits to be notified, and takes the lock again.
    ///
    /// # Errors
    /// [`LockError::WrongLock`]; those of [`Lock::lock`]. The lock is not held then.
    pub fn wait<'a>(&'a self, guard: LockGuard<'a>) -> Result<LockGuard<'a>, LockError> {
        self.wait_within(guard, &mut Nap::forever()).map(|(guard, _)| guard)
    }

    /// As [`wait`](Self::wait), to be notified within that time; and whether it was. The lock is taken again in both
    /// cases, however long that takes.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_timeout<'a>(
        &'a self,
        guard: LockGuard<'a>,
        timeout: Duration,
    ) -> Result<(LockGuard<'a>, bool), LockError> {
        self.wait_within(guard, &mut Nap::within(timeout))
    }

    /// Waits until the condition holds, which is looked at with the lock held.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_for<'a>(
        &'a self,
        mut guard: LockGuard<'a>,
        mut holds: impl FnMut() -> bool,
    ) -> Result<LockGuard<'a>, LockError> {
        while !holds() {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`wait_for`](Self::wait_for), for that time at most over all; and whether the condition holds.
    ///
    /// # Errors
    /// As of [`wait`](Self::wait).
    pub fn wait_for_timeout<'a>(
        &'a self,
        mut guard: LockGuard<'a>,
        timeout: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> Result<(LockGuard<'a>, bool), LockError> {
        let mut nap = Nap::within(timeout);
        loop {
            if holds() {
                return Ok((guard, true));
            }
            if nap.is_over() {
                return Ok((guard, false));
            }
            guard = self.wait_within(guard, &mut nap)?.0;
        }
    }

    fn wait_within<'a>(
        &'a self,
        guard: LockGuard<'a>,
        nap: &mut Nap,
    ) -> Result<(LockGuard<'a>, bool), LockError> {
        if !guard.lock().is(&self.lock) {
            return Err(LockError::WrongLock);
        }
        // Not the guard's: the lock may be on another process's board.
        let me = self.place.object.me().map_err(LockError::Io)?;
        let Some(index) = self.take_place(me.id) else {
            drop(guard);
            let word: AtomicU32 = AtomicU32::new(0);
            nap.sleep_briefly((&word).into(), WITHOUT_A_PLACE).map_err(LockError::Io)?;
            return self.lock.lock().map(|guard| (guard, true));
        };
        me.hold();
        drop(guard);
        let mut index = index;
        let waited = self.wait_at(&mut index, me.id, nap);
        // Who notifies has the lock still. To try for it now would take its line away from there.
        self.place.object.spin_for_turn(|| !self.lock.is_held());
        let locked = self.lock.lock();
        // With the lock, or without it for ever: the word is this thread's own.
        let notified = self.leave_place(index);
        me.let_go();
        let guard = locked?;
        waited?;
        Ok((guard, notified))
    }

    /// Under the lock: a waiter's word with this thread in it. `None` if all are taken.
    fn take_place(&self, me: Id) -> Option<usize> {
        let Words { tickets, high, waiters, last } = &*self.place.words;
        let free = |index: usize| {
            let w = waiters[index].word.load(Relaxed);
            // A dead one that was notified is left to those whom its notification goes to, if there are any.
            let is_free = Id::of(w).is_none_or(|id| {
                self.place.object.board().dead(id) && (w & NOTIFIED == 0 || self.waiting() == 0)
            });
            is_free.then_some((index, w))
        };
        let index = loop {
            let (index, w) = free(last.load(Relaxed)).or_else(|| (0..waiters.len()).find_map(free))?;
            // From zero nobody changes it without the lock. But a dead one may just be notified or inherited: then look
            // again. Relaxed: nothing of the dead one's is read.
            if w == 0 || waiters[index].word.compare_exchange(w, 0, Relaxed, Relaxed).is_ok() {
                break index;
            }
        };
        last.store(index, Relaxed);
        let ticket = tickets.load(Relaxed);
        tickets.store(ticket.wrapping_add(1), Relaxed);
        waiters[index].ticket.store(ticket, Relaxed);
        if high.load(Relaxed) as usize <= index {
            high.store(index as u32 + 1, Relaxed);
        }
        // Release: with the fence in `seat::is_over`, of those who look without the lock, and judge whether this one is
        // alive.
        waiters[index].word.store(me.word(), Release);
        Some(index)
    }

    /// Gives the place back, with the lock, or without it for ever. Whether this waiter was notified.
    fn leave_place(&self, index: usize) -> bool {
        let word = &self.place.words.waiters[index].word;
        // Nobody changes the word of a living waiter that was notified.
        let notified = word.load(Relaxed) & NOTIFIED != 0;
        if notified {
            word.store(0, Relaxed);
        }
        // Acquire: with the Release of `tell`, though whoever is told has the lock anyway.
        notified || word.swap(0, AcqRel) & NOTIFIED != 0
    }

    /// Without the lock: until this waiter is notified, its time is over, or the lock is in a state that it has to be told
    /// of. `index` is where its word is, and may become another.
    fn wait_at(&self, index: &mut usize, me: Id, nap: &mut Nap) -> Result<(), LockError> {
        let word: &AtomicU64 = &self.place.words.waiters[*index].word;
        let object = &self.place.object;
        // Acquire: with the Release of `notify`.
        let notified = || word.load(Acquire) & NOTIFIED != 0;
        if notified() || !nap.is_over() && object.spin_for_news(notified) {
            return Ok(());
        }
        loop {
            // Acquire: as above.
            let w = word.load(Acquire);
            if w & NOTIFIED != 0 || Id::of(w) != Some(me) {
                return Ok(());
            }
            // Relaxed: the kernel compares it again before anybody sleeps.
            if w & SLEEPS == 0 && word.compare_exchange(w, w | SLEEPS, Relaxed, Relaxed).is_err() {
                continue;
            }
            let ticks = nap.ticks();
            match object.rest((word.into(), (w | SLEEPS) as u32), &[], nap).map_err(LockError::Io)? {
                Rest::TimedOut => return Ok(()),
                Rest::Abandoned => return Err(LockError::Abandoned),
                Rest::Woken => {}
            }
            if nap.ticks() != ticks && (self.inherit(index, me) || self.lock.is_broken()) {
                return Ok(());
            }
        }
    }

    /// A waiter that died after it was notified: its notification becomes this one's, and so does its place, in one step:
    /// whoever is killed when, the notification is neither lost nor doubled. Whether this one is notified now.
    fn inherit(&self, index: &mut usize, me: Id) -> bool {
        let waiters = &self.place.words.waiters;
        let dead = waiters.iter().enumerate().find_map(|(place, waiter)| {
            // Acquire: with the Release of `take_place`, or of an heir below, whose Id this is.
            let w = waiter.word.load(Acquire);
            // Asked of the kernel too, of the few who are on their way: not every death is marked.
            let board = self.place.object.board();
            let is_dead = |id| board.dead(id) || board.patrol(id).unwrap_or(false);
            let dead = w & NOTIFIED != 0 && Id::of(w).is_some_and(is_dead);
            dead.then_some((place, w))
        });
        let Some((place, w)) = dead else { return false };
        // Acquire: with the Release of `tell`, as in `wait_at`. Release: as in `take_place`: it names this one now.
        if waiters[place].word.compare_exchange(w, me.word() | NOTIFIED, AcqRel, Relaxed).is_err() {
            return false;
        }
        let own = &waiters[*index].word;
        let mut mine = own.load(Relaxed);
        while mine & NOTIFIED == 0 {
            // Relaxed: nothing is read on the strength of it; who notifies finds the place empty.
            match own.compare_exchange(mine, 0, Relaxed, Relaxed) {
                Ok(_) => {
                    *index = place;
                    return true;
                }
                Err(now) => mine = now,
            }
        }
        // It was notified at that moment itself, and has two now. The other one stays the dead one's, for another heir: no
        // notification is ever outside of a word. Release: with the Acquire above, of that one.
        waiters[place].word.store(w, Release);
        true
    }

    /// Notifies one that is there. Whether it is alive, and was not notified already; a dead one's place is free then.
    fn tell(&self, waiter: &Waiter) -> bool {
        let word: &AtomicU64 = &waiter.word;
        let mut w = word.load(Relaxed);
        // Those that were notified are on their way; if they are dead, their notification goes to one that sleeps, at its
        // next tick.
        while let Some(id) = Id::of(w).filter(|_| w & NOTIFIED == 0) {
            let told = id.word() | NOTIFIED;
            // Release: with the Acquire of the waiter, though it takes the lock anyway.
            if let Err(now) = word.compare_exchange(w, told, Release, Relaxed) {
                w = now;
                continue;
            }
            if w & SLEEPS != 0 {
                futex::wake_all(word.into());
            }
            // Asked afterwards: a living one is on its way meanwhile.
            let dead = self.place.object.board().dead(id);
            // If a sleeper was quicker, it has the notification.
            return !dead || word.compare_exchange(told, 0, Relaxed, Relaxed).is_err();
        }
        false
    }

    /// Notifies the one that has waited longest. How many that were: 0 if nobody waits.
    ///
    /// # Errors
    /// [`LockError::WrongLock`] if the guard is of another lock.
    pub fn notify(&self, guard: &LockGuard<'_>) -> Result<usize, LockError> {
        self.notify_many(guard, 1)
    }

    /// Notifies all who wait. How many that were.
    ///
    /// # Errors
    /// As of [`notify`](Self::notify).
    pub fn notify_all(&self, guard: &LockGuard<'_>) -> Result<usize, LockError> {
        self.notify_many(guard, usize::MAX)
    }

    /// Notifies up to `count` of those who wait, the longest waiting first. How many that were.
    ///
    /// # Errors
    /// As of [`notify`](Self::notify).
    pub fn notify_many(&self, guard: &LockGuard<'_>, count: usize) -> Result<usize, LockError> {
        if !guard.lock().is(&self.lock) {
            return Err(LockError::WrongLock);
        }
        let words = &*self.place.words;
        let mut notified = 0;
        if count >= words.waiters.len() {
            notified = words.taken().iter().filter(|waiter| self.tell(waiter)).count();
        }
        // Each turn takes one out of those that wait: it is notified, or its place is free.
        for _ in words.taken() {
            if notified >= count {
                break;
            }
            let now = words.tickets.load(Relaxed);
            let waits = |waiter: &&Waiter| {
                let w = waiter.word.load(Relaxed);
                w & NOTIFIED == 0 && Id::of(w).is_some()
            };
            let age = |waiter: &&Waiter| now.wrapping_sub(waiter.ticket.load(Relaxed));
            let Some(oldest) = words.taken().iter().filter(waits).max_by_key(age) else { break };
            notified += usize::from(self.tell(oldest));
        }
        words.lower();
        Ok(notified)
    }

    /// How many wait now, and have not been notified.
    pub fn waiting(&self) -> usize {
        let waits = |waiter: &&Waiter| {
            let w = waiter.word.load(Relaxed);
            w & NOTIFIED == 0 && Id::of(w).is_some_and(|id| !self.place.object.board().dead(id))
        };
        self.place.words.waiters.iter().filter(waits).count()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
