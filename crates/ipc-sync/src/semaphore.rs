//! Permits that processes share.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_os::futex;
use ipc_os::map::{Word32, Word64};

use crate::error::{OpenError, WaitError};
use crate::handle::{named, travels};
use crate::id::Id;
use crate::object::{Fresh, Object};
use crate::raw::latch::{LatchGuard, Latched, latch};
use crate::wait::{Nap, Rest};

const TOTAL: usize = 8;
const BOUND: usize = 12;
const FREE: usize = 16;
const HOLDERS: usize = 20;
const HEADER: usize = 64;
const HOLDER: usize = 16;
const HOLDERS_MIN: u32 = 12;
const HOLDERS_MAX: u32 = 1023;
/// In the word of free permits: somebody sleeps until there are some.
const SLEEPERS: u32 = 1 << 31;
/// The most permits there can be.
const PERMITS_MAX: u32 = SLEEPERS - 1;
/// How long a call that does not wait for permits may be kept by another process that is just changing the count.
const LATCH_PATIENCE: Duration = Duration::from_millis(50);

/// A number of permits; who finds none waits.
///
/// A handle: clone it, put it into a message, and it is the same semaphore there.
///
/// [`acquire`](Self::acquire) gives an owned [`Permit`], which comes back when it is dropped, and when its process ends,
/// SIGKILLed or not: those who wait get it. [`Permit::forget`] takes it out for good, and [`release`](Self::release) puts
/// in one that nobody had: used as a signal from one to another, they are nobody's, and no death brings one back.
///
/// At most as many processes can hold permits at the same time as there were permits at first, or 12 if that is more;
/// the next one waits as if there were none.
///
/// ```
/// use ipc_sync::Semaphore;
///
/// let slots = Semaphore::new(2)?;
/// let first = slots.acquire()?;
/// let second = slots.try_acquire()?;
/// assert!(slots.try_acquire().is_err());
/// drop(first);
/// assert_eq!(slots.available(), 1);
/// # drop(second);
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    object: Object,
    latch: Word64,
    free: Word32,
    bound: u32,
    holders: u32,
}

/// More permits were released than the semaphore may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overflow {
    /// How many it may have.
    pub bound: u32,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more permits would be released than the {} that there may be", self.bound)
    }
}

impl std::error::Error for Overflow {}

impl Classify for Overflow {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Limit
    }
}

impl Semaphore {
    /// A new one without a name, with that many permits.
    ///
    /// # Errors
    /// [`OpenError::InvalidInput`] for more than 2,147,483,647; [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new(permits: u32) -> Result<Self, OpenError> {
        let (len, init) = layout(permits, PERMITS_MAX)?;
        Semaphore::of(Object::new_with(len, init)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let latch = object.word64(0).map_err(io::Error::from)?;
        let free = object.word32(FREE).map_err(io::Error::from)?;
        let bound = object.u32(BOUND).map_err(io::Error::from)?.load(Relaxed).min(PERMITS_MAX);
        let holders = object.u32(HOLDERS).map_err(io::Error::from)?.load(Relaxed);
        if holders == 0 || HEADER + HOLDER * holders.min(HOLDERS_MAX) as usize > object.len() {
            return Err(OpenError::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                "a semaphore that is none",
            )));
        }
        Ok(Semaphore { object, latch, free, bound, holders: holders.min(HOLDERS_MAX) })
    }

    /// Takes a permit, waiting until there is one.
    ///
    /// # Errors
    /// [`WaitError::Abandoned`], [`WaitError::Io`].
    pub fn acquire(&self) -> Result<Permit, WaitError> {
        self.acquire_within(Nap::forever(), Nap::forever())
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    /// [`WaitError::WouldBlock`], [`WaitError::Io`].
    pub fn try_acquire(&self) -> Result<Permit, WaitError> {
        self.acquire_within(Nap::none(), Nap::within(LATCH_PATIENCE)).map_err(|error| match error {
            WaitError::Timeout => WaitError::WouldBlock,
            other => other,
        })
    }

    /// Takes a permit, waiting for that time at most.
    ///
    /// # Errors
    /// [`WaitError::Timeout`], else as of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit, WaitError> {
        self.acquire_within(Nap::within(timeout), Nap::within(timeout.saturating_add(LATCH_PATIENCE)))
    }

    fn acquire_within(&self, mut nap: Nap, mut latch_nap: Nap) -> Result<Permit, WaitError> {
        let mut spun = false;
        let mut rest = Rest::Woken;
        loop {
            let latched = self.latched(&mut latch_nap)?;
            let process = latched.me.id.process();
            if self.take(process) || self.sweep() && self.take_after_repair(process) {
                return Ok(Permit { semaphore: self.clone(), process, forgotten: false });
            }
            let holders: Vec<Id> = self.holders().filter(|id| *id != process).collect();
            let failure = match rest {
                Rest::TimedOut => Some(WaitError::Timeout),
                Rest::Abandoned => Some(WaitError::Abandoned),
                Rest::Woken if nap.is_over() => Some(WaitError::Timeout),
                Rest::Woken => None,
            };
            if let Some(failure) = failure {
                drop(latched);
                // Who does not wait, or not until a tick, has not looked after anybody.
                if self.any_gone(&holders).map_err(WaitError::Io)? {
                    continue;
                }
                return Err(failure);
            }
            if !spun {
                drop(latched);
                spun = true;
                self.object.spin_for_news(|| self.count() != 0);
                continue;
            }
            let seen = self.free.load(Relaxed) | SLEEPERS;
            self.free.store(seen, Relaxed);
            drop(latched);
            let word: &AtomicU32 = &self.free;
            rest = self.object.rest((word.into(), seen), &holders, &mut nap).map_err(WaitError::Io)?;
        }
    }

    /// Puts in a permit that nobody had.
    ///
    /// # Errors
    /// [`Overflow`] beyond 2,147,483,647.
    pub fn release(&self) -> Result<(), Overflow> {
        self.release_many(1)
    }

    /// Puts in that many permits.
    ///
    /// # Errors
    /// [`Overflow`], and none is put in.
    pub fn release_many(&self, permits: u32) -> Result<(), Overflow> {
        // It cannot fail in a way that could be helped: the latch is held for an instant only.
        if let Ok(latched) = self.latched(&mut Nap::forever()) {
            let Ok(total) = self.object.u32(TOTAL) else { return Ok(()) };
            let more = total.load(Relaxed).checked_add(permits).filter(|more| *more <= self.bound);
            let Some(more) = more else { return Err(Overflow { bound: self.bound }) };
            // This commits. Release, as of most that commits here, has no partner: who reads it has the latch. It keeps
            // what was stored before in front of it, for whoever repairs if this one is killed in between.
            total.store(more, Release);
            self.add_free(permits, latched);
        }
        Ok(())
    }

    /// How many permits are free now. It may be another number by the time this returns.
    pub fn available(&self) -> u32 {
        let holders: Vec<Id> = self.holders().collect();
        let board = self.object.board();
        // Asked in any case: the repair takes those for holders who are not known to be gone.
        let any_gone = self.any_gone(&holders).unwrap_or(false);
        // Who died with the latch may have changed the total, and not yet what follows from it.
        let latched = Id::of(self.latch.load(Relaxed));
        let is_stale = latched.is_some_and(|id| board.dead(id) || board.patrol(id).unwrap_or(false));
        if (is_stale || any_gone)
            && let Ok(_latched) = self.latched(&mut Nap::within(LATCH_PATIENCE))
        {
            self.repair();
        }
        self.count()
    }

    /// Whether any of them is gone, asked of the kernel.
    fn any_gone(&self, holders: &[Id]) -> io::Result<bool> {
        let mut any = false;
        for holder in holders {
            any |= self.object.board().patrol(*holder)?;
        }
        Ok(any)
    }

    fn count(&self) -> u32 {
        self.free.load(Relaxed) & !SLEEPERS
    }

    fn latched(&self, nap: &mut Nap) -> Result<LatchGuard<'_>, WaitError> {
        latch(&self.latch, &self.object, || nap, || self.repair()).map_err(|error| match error {
            Latched::TimedOut => WaitError::Timeout,
            Latched::Abandoned => WaitError::Abandoned,
            Latched::Io(error) => WaitError::Io(error),
        })
    }

    /// The words of a holder: its Id, and how many it holds.
    fn holder(&self, index: u32) -> Option<(&std::sync::atomic::AtomicU64, &AtomicU32)> {
        let at = HEADER + HOLDER * index as usize;
        Some((self.object.u64(at).ok()?, self.object.u32(at + 8).ok()?))
    }

    fn holders(&self) -> impl Iterator<Item = Id> + '_ {
        (0..self.holders).filter_map(|index| Id::of(self.holder(index)?.0.load(Relaxed)))
    }

    /// Under the latch: a permit for the process. Whether there was one, and a place to write it down.
    fn take(&self, process: Id) -> bool {
        let free = self.free.load(Relaxed);
        if free & !SLEEPERS == 0 {
            return false;
        }
        let mine = |id: u64| id == process.word();
        let Some((id, held)) = self.find(mine).or_else(|| self.find(|id| Id::of(id).is_none())) else {
            return false;
        };
        if mine(id.load(Relaxed)) {
            // This commits. Release: as in `release_many`.
            held.store(held.load(Relaxed).saturating_add(1), Release);
        } else {
            held.store(1, Relaxed);
            // This commits. Release: the number before the name, for whoever repairs; and with the fence in
            // `seat::is_over`, of those who ask without the latch whether this process is gone (`available`).
            id.store(process.word(), Release);
        }
        self.free.store(free - 1, Relaxed);
        true
    }

    /// Under the latch, when holders were taken out.
    fn take_after_repair(&self, process: Id) -> bool {
        self.repair();
        self.take(process)
    }

    fn find(&self, fits: impl Fn(u64) -> bool) -> Option<(&std::sync::atomic::AtomicU64, &AtomicU32)> {
        (0..self.holders).filter_map(|index| self.holder(index)).find(|(id, _)| fits(id.load(Relaxed)))
    }

    /// Under the latch: one permit of the process is its no more, whether it comes back or is forgotten.
    fn put_down(&self, process: Id) -> bool {
        let Some((id, held)) = self.find(|id| id == process.word()) else { return false };
        let left = held.load(Relaxed).saturating_sub(1);
        // This commits. Release, both: after the total that `forget` has changed, for whoever repairs, as in
        // `release_many`.
        held.store(left, Release);
        if left == 0 {
            id.store(0, Release);
        }
        true
    }

    /// Under the latch: takes holders out that are gone. Whether there were any.
    fn sweep(&self) -> bool {
        let mut any = false;
        for index in 0..self.holders {
            let Some((word, _)) = self.holder(index) else { break };
            if let Some(id) = Id::of(word.load(Relaxed))
                && self.object.board().dead(id)
            {
                // Release: as in `release_many`.
                word.store(0, Release);
                any = true;
            }
        }
        any
    }

    /// Under the latch, after a death: the number of free permits, made of the words that commit.
    fn repair(&self) {
        self.sweep();
        let held: u32 = (0..self.holders)
            .filter_map(|index| self.holder(index))
            .filter(|(id, _)| Id::of(id.load(Relaxed)).is_some())
            .fold(0, |sum, (_, held)| sum.saturating_add(held.load(Relaxed)));
        let total = self.object.u32(TOTAL).map_or(0, |total| total.load(Relaxed)).min(PERMITS_MAX);
        let sleepers = self.free.load(Relaxed) & SLEEPERS;
        self.free.store(total.saturating_sub(held) | sleepers, Relaxed);
        if sleepers != 0 {
            // Whoever died may have owed them a wake.
            futex::wake_all((&*self.free).into());
        }
    }

    /// Under the latch, which it lets go: so many more are free.
    fn add_free(&self, permits: u32, latched: LatchGuard<'_>) {
        let free = self.free.load(Relaxed);
        let more = (free & !SLEEPERS).saturating_add(permits).min(PERMITS_MAX);
        self.free.store(more | free & SLEEPERS, Relaxed);
        drop(latched);
        if free & SLEEPERS != 0 && futex::wake((&*self.free).into(), permits) == 0 {
            // Nobody sleeps any more. Somebody may have begun to in between, and is woken to say so again.
            self.free.fetch_and(!SLEEPERS, Relaxed);
            futex::wake_all((&*self.free).into());
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available", &self.count()).finish_non_exhaustive()
    }
}

travels!(Semaphore, "sync.semaphore", HEADER);
named!(Semaphore, "semaphore", (permits: u32), |permits| layout(permits, PERMITS_MAX), Semaphore::of);

fn layout(permits: u32, bound: u32) -> Result<(usize, impl FnOnce(&Fresh<'_>) -> io::Result<()>), OpenError> {
    if permits > PERMITS_MAX {
        return Err(OpenError::InvalidInput(format!("a semaphore has at most {PERMITS_MAX} permits")));
    }
    let holders = permits.clamp(HOLDERS_MIN, HOLDERS_MAX);
    let init = move |fresh: &Fresh<'_>| {
        for (offset, value) in [(TOTAL, permits), (BOUND, bound), (FREE, permits), (HOLDERS, holders)] {
            fresh.set_u32(offset, value)?;
        }
        Ok(())
    };
    Ok((HEADER + HOLDER * holders as usize, init))
}

/// A permit of a [`Semaphore`], which comes back when this is dropped or its process ends.
///
/// It belongs to the process, not to a thread. In a child that was forked it is nothing.
#[derive(Debug)]
#[must_use = "the permit comes back as soon as this is dropped"]
pub struct Permit {
    semaphore: Semaphore,
    process: Id,
    forgotten: bool,
}

impl Permit {
    /// Takes the permit out for good: it comes back neither now nor when the process ends. With
    /// [`Semaphore::release`] elsewhere, that makes the semaphore a signal.
    pub fn forget(mut self) {
        self.forgotten = true;
        if let Some(_latched) = self.latched()
            && let Ok(total) = self.semaphore.object.u32(TOTAL)
        {
            // First the total: killed in between, one permit too few is free until the process is swept, not one too
            // many. Release: as in `release_many`; what keeps the two in order is that of `put_down`.
            total.store(total.load(Relaxed).saturating_sub(1), Release);
            self.semaphore.put_down(self.process);
        }
    }

    /// The latch, if this is the process that the permit belongs to.
    fn latched(&self) -> Option<LatchGuard<'_>> {
        let is_mine = self.semaphore.object.board().is_this_process(self.process);
        if is_mine { self.semaphore.latched(&mut Nap::forever()).ok() } else { None }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.forgotten
            && let Some(latched) = self.latched()
            && self.semaphore.put_down(self.process)
        {
            self.semaphore.add_free(1, latched);
        }
    }
}

/// A [`Semaphore`] that never has more permits than it began with: to put in one more is an error.
///
/// ```
/// let slots = ipc_sync::BoundedSemaphore::new(1)?;
/// assert!(slots.release().is_err());
/// slots.acquire()?.forget();
/// slots.release()?;
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BoundedSemaphore(Semaphore);

impl BoundedSemaphore {
    /// A new one without a name, with that many permits.
    ///
    /// # Errors
    /// As of [`Semaphore::new`].
    pub fn new(permits: u32) -> Result<Self, OpenError> {
        let (len, init) = layout(permits, permits)?;
        BoundedSemaphore::of(Object::new_with(len, init)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        Ok(BoundedSemaphore(Semaphore::of(object)?))
    }

    /// As [`Semaphore::acquire`].
    ///
    /// # Errors
    /// The same.
    pub fn acquire(&self) -> Result<Permit, WaitError> {
        self.0.acquire()
    }

    /// As [`Semaphore::try_acquire`].
    ///
    /// # Errors
    /// The same.
    pub fn try_acquire(&self) -> Result<Permit, WaitError> {
        self.0.try_acquire()
    }

    /// As [`Semaphore::acquire_timeout`].
    ///
    /// # Errors
    /// The same.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit, WaitError> {
        self.0.acquire_timeout(timeout)
    }

    /// Puts in a permit that was forgotten.
    ///
    /// # Errors
    /// [`Overflow`] if none was.
    pub fn release(&self) -> Result<(), Overflow> {
        self.0.release()
    }

    /// How many permits are free now.
    pub fn available(&self) -> u32 {
        self.0.available()
    }

    /// How many permits there are.
    pub fn bound(&self) -> u32 {
        self.0.bound
    }
}

impl serde::Serialize for BoundedSemaphore {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = ipc_core::handle_kind!("sync.bounded-semaphore");
        self.0.object.serialize(kind, 0, Vec::new(), serializer)
    }
}

impl<'de> serde::Deserialize<'de> for BoundedSemaphore {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = ipc_core::handle_kind!("sync.bounded-semaphore");
        let (object, ..) = Object::deserialize(kind, HEADER, deserializer)?;
        BoundedSemaphore::of(object).map_err(serde::de::Error::custom)
    }
}

named!(
    BoundedSemaphore,
    "bounded-semaphore",
    (permits: u32),
    |permits| layout(permits, permits),
    BoundedSemaphore::of
);
