//! A meeting point for a fixed number of parties.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_os::futex;
use ipc_os::map::{Word32, Word64};

use crate::error::OpenError;
use crate::handle::{named, travels};
use crate::id::Id;
use crate::object::{Fresh, Object};
use crate::raw::latch::{LatchGuard, Latched, latch};
use crate::thread::Me;
use crate::wait::{Nap, Rest};

const PARTIES: usize = 8;
const OUTCOMES: usize = 12;
const STATE: usize = 16;
const HEADER: usize = 64;
const PARTIES_MAX: u32 = 4096;

/// In the state: no more meetings until it is reset.
const BROKEN: u32 = 1;
/// All are there, and the last one runs its action.
const ACTION: u32 = 2;
/// Somebody sleeps.
const SLEEPERS: u32 = 4;
/// From here on, how many meetings there were.
const ONCE: u32 = 8;

/// A meeting point: each of a fixed number of parties waits until all are there.
///
/// A handle: clone it, put it into a message, and it is the same barrier there.
///
/// A party that dies while it waits, or while it runs the action, breaks the barrier: all who wait, and all who come,
/// get [`BarrierError::Broken`] until somebody calls [`reset`](Self::reset). So does a time-out, and
/// [`abort`](Self::abort).
///
/// ```
/// use ipc_sync::Barrier;
///
/// let alone = Barrier::new(1)?;
/// assert_eq!(alone.wait()?, 0);
/// alone.abort()?;
/// assert!(alone.wait().is_err() && alone.is_broken());
/// alone.reset()?;
/// assert_eq!(alone.wait_and(|| println!("all are here"))?, 0);
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Barrier {
    object: Object,
    latch: Word64,
    state: Word32,
    parties: u32,
}

/// Why a meeting did not take place, or not with this party.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party died, gave up after its time, or aborted; or the barrier was reset while this one waited.
    #[error("the barrier is broken: a party died, gave up or aborted; reset() takes it into use again")]
    Broken,
    /// Not all came within the time given. The barrier is broken now.
    #[error("not all parties came within the time given, and the barrier is broken now")]
    Timeout,
    /// No other process has the barrier any more, and so nobody is left who could come. The barrier is broken now.
    #[error("nobody is left who could come: no other process has this barrier any more")]
    Abandoned,
    /// The operating system reports something.
    #[error("cannot wait")]
    Io(#[source] io::Error),
}

impl Classify for BarrierError {
    fn kind(&self) -> ErrorKind {
        match self {
            BarrierError::Broken => ErrorKind::Broken,
            BarrierError::Timeout => ErrorKind::Timeout,
            BarrierError::Abandoned => ErrorKind::Abandoned,
            BarrierError::Io(error) => ErrorKind::of_io(error),
        }
    }
}

impl Barrier {
    /// A new one without a name, for that many parties.
    ///
    /// # Errors
    /// [`OpenError::InvalidInput`] for none or more than 4,096; [`OpenError::NoSpace`], [`OpenError::Io`].
    pub fn new(parties: u32) -> Result<Self, OpenError> {
        let (len, init) = layout(parties)?;
        Barrier::of(Object::new_with(len, init)?)
    }

    fn of(object: Object) -> Result<Self, OpenError> {
        let latch = object.word64(0).map_err(io::Error::from)?;
        let state = object.word32(STATE).map_err(io::Error::from)?;
        let parties = object.u32(PARTIES).map_err(io::Error::from)?.load(Relaxed);
        if parties == 0 || parties > PARTIES_MAX || HEADER + 8 * parties as usize > object.len() {
            return Err(OpenError::Io(io::Error::new(io::ErrorKind::InvalidData, "a barrier that is none")));
        }
        Ok(Barrier { object, latch, state, parties })
    }

    /// How many have to come.
    pub fn parties(&self) -> u32 {
        self.parties
    }

    /// How many wait now.
    pub fn waiting(&self) -> u32 {
        // Acquire: with the Release in `change`: the seats of meetings that are over are seen empty.
        let state = self.state.load(Acquire);
        // Those who waited when it was broken are told, and gone or about to be.
        if state & BROKEN != 0 { 0 } else { self.seated(state / ONCE).count() as u32 }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        // Acquire: with the Release in `change`: what whoever broke it did before.
        self.state.load(Acquire) & BROKEN != 0
    }

    /// Waits until all parties are there. The number of this one among them: 0 is the first, and each number is one
    /// party's.
    ///
    /// # Errors
    /// [`BarrierError`].
    pub fn wait(&self) -> Result<u32, BarrierError> {
        self.meet(Nap::forever(), || ())
    }

    /// As [`wait`](Self::wait), for that time at most; then the barrier is broken for all.
    ///
    /// # Errors
    /// [`BarrierError`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, BarrierError> {
        self.meet(Nap::within(timeout), || ())
    }

    /// As [`wait`](Self::wait); the last party to come runs its action before any of them goes on. If it panics or dies
    /// in there, the barrier is broken.
    ///
    /// # Errors
    /// [`BarrierError`].
    pub fn wait_and(&self, action: impl FnOnce()) -> Result<u32, BarrierError> {
        self.meet(Nap::forever(), action)
    }

    /// As [`wait_and`](Self::wait_and), for that time at most; then the barrier is broken for all.
    ///
    /// # Errors
    /// [`BarrierError`].
    pub fn wait_timeout_and(&self, timeout: Duration, action: impl FnOnce()) -> Result<u32, BarrierError> {
        self.meet(Nap::within(timeout), action)
    }

    /// Breaks it: all who wait and all who come get [`BarrierError::Broken`].
    ///
    /// # Errors
    /// [`BarrierError::Io`].
    pub fn abort(&self) -> Result<(), BarrierError> {
        let latched = self.latched()?;
        self.break_it();
        drop(latched);
        Ok(())
    }

    /// Takes it into use again, empty. Those who wait get [`BarrierError::Broken`].
    ///
    /// # Errors
    /// [`BarrierError::Io`].
    pub fn reset(&self) -> Result<(), BarrierError> {
        let latched = self.latched()?;
        let state = self.state.load(Relaxed);
        self.end(state / ONCE, true);
        drop(latched);
        Ok(())
    }

    fn meet(&self, mut nap: Nap, action: impl FnOnce()) -> Result<u32, BarrierError> {
        let (latched, state) = loop {
            let latched = self.latched()?;
            let state = self.state.load(Relaxed);
            if state & BROKEN != 0 || self.any_dead(state / ONCE) {
                self.break_it();
                return Err(BarrierError::Broken);
            }
            if state & ACTION == 0 {
                break (latched, state);
            }
            // More than the parties use it, and those who are there are complete: this one is of the next meeting.
            drop(latched);
            self.wait_for(state / ONCE, false, &mut nap)?;
        };
        let generation = state / ONCE;
        let me = latched.me;
        let number = self.seated(generation).count() as u32;
        let Ok(seat) = self.object.u64(HEADER + 8 * number as usize) else {
            return Err(BarrierError::Broken);
        };
        /// Holds its seat, as far as the thread's end is concerned, also if the action panics.
        struct Seated(Me);
        impl Drop for Seated {
            fn drop(&mut self) {
                self.0.let_go();
            }
        }
        // As long as its seat names it.
        me.hold();
        let _seated = Seated(me);
        // Release: with the Acquire in `seated`, of those who look without the latch.
        seat.store(me.id.word() | u64::from(generation & 3), Release);
        if number + 1 == self.parties {
            // Release: with the Acquire in `wait_for`: who sees that the action runs sees the seat of who runs it.
            self.state.fetch_or(ACTION, Release);
            drop(latched);
            self.act(generation, action)?;
        } else {
            drop(latched);
            self.wait_for(generation, true, &mut nap)?;
        }
        Ok(number)
    }

    /// As the last one.
    fn act(&self, generation: u32, action: impl FnOnce()) -> Result<(), BarrierError> {
        /// Breaks the barrier if the action panics.
        struct Otherwise<'a>(&'a Barrier);
        impl Drop for Otherwise<'_> {
            fn drop(&mut self) {
                let _told_by_the_panic = self.0.abort();
            }
        }
        let otherwise = Otherwise(self);
        action();
        std::mem::forget(otherwise);
        let latched = self.latched()?;
        let state = self.state.load(Relaxed);
        // It may have been broken, or reset, meanwhile.
        if state / ONCE != generation || state & BROKEN != 0 {
            return Err(BarrierError::Broken);
        }
        self.end(generation, false);
        drop(latched);
        Ok(())
    }

    /// As one who came before the last, or as one who is none of that meeting's parties and must not break it.
    fn wait_for(&self, generation: u32, is_party: bool, nap: &mut Nap) -> Result<(), BarrierError> {
        let over = |state: u32| state / ONCE != generation || state & BROKEN != 0;
        let mut rest = Rest::Woken;
        if !nap.is_over() {
            self.object.spin_for_news(|| over(self.state.load(Relaxed)));
        }
        loop {
            // Acquire: with the Release in `end`.
            let state = self.state.load(Acquire);
            if over(state) {
                return self.outcome(state, generation);
            }
            let failure = match rest {
                Rest::TimedOut if !is_party => return Err(BarrierError::Timeout),
                Rest::TimedOut => Some(BarrierError::Timeout),
                Rest::Abandoned => Some(BarrierError::Abandoned),
                Rest::Woken if self.any_dead(generation) => Some(BarrierError::Broken),
                Rest::Woken => None,
            };
            if let Some(failure) = failure {
                let latched = self.latched()?;
                let state = self.state.load(Relaxed);
                if over(state) {
                    // All came at the last moment, or somebody else has broken it.
                    return self.outcome(state, generation);
                }
                self.break_it();
                drop(latched);
                return Err(failure);
            }
            // Relaxed: the kernel compares it again before anybody sleeps.
            if state & SLEEPERS == 0
                && self.state.compare_exchange(state, state | SLEEPERS, Relaxed, Relaxed).is_err()
            {
                continue;
            }
            // Who died as the last one, with the latch, has no seat any more.
            let parties: Vec<Id> = self.seated(generation).chain(Id::of(self.latch.load(Relaxed))).collect();
            let word: &AtomicU32 = &self.state;
            rest =
                self.object.rest((word.into(), state | SLEEPERS), &parties, nap).map_err(BarrierError::Io)?;
        }
    }

    /// What became of that generation, of which it is known that it is over.
    fn outcome(&self, state: u32, generation: u32) -> Result<(), BarrierError> {
        let age = (state / ONCE).wrapping_sub(generation) & (u32::MAX / ONCE);
        let outcomes = self.object.u32(OUTCOMES).map_or(u32::MAX, |outcomes| outcomes.load(Relaxed));
        // Broken and still there, or longer ago than is known.
        let broken = age == 0 || age > 31 || outcomes & 1 << (generation % 32) != 0;
        if broken { Err(BarrierError::Broken) } else { Ok(()) }
    }

    /// Under the latch: the next generation begins, with nobody there.
    fn end(&self, generation: u32, broken: bool) {
        for index in 0..self.parties as usize {
            if let Ok(seat) = self.object.u64(HEADER + 8 * index) {
                seat.store(0, Relaxed);
            }
        }
        if let Ok(outcomes) = self.object.u32(OUTCOMES) {
            let bit = 1 << (generation % 32);
            let others = outcomes.load(Relaxed) & !bit;
            outcomes.store(if broken { others | bit } else { others }, Relaxed);
        }
        // This commits. Release: with the Acquire of those who wait.
        self.change(|_| generation.wrapping_add(1).wrapping_mul(ONCE));
    }

    /// Under the latch: nobody meets until it is reset.
    fn break_it(&self) {
        self.change(|state| (state | BROKEN) & !(ACTION | SLEEPERS));
    }

    /// Under the latch: another state, of which all who sleep are told.
    fn change(&self, next: impl Fn(u32) -> u32) {
        // Those who go to sleep put their flag in without the latch.
        let mut state = self.state.load(Relaxed);
        // Release: with the Acquire in `wait_for`, `waiting` and `is_broken`.
        while let Err(now) = self.state.compare_exchange_weak(state, next(state), Release, Relaxed) {
            state = now;
        }
        if state & SLEEPERS != 0 {
            futex::wake_all((&*self.state).into());
        }
    }

    /// Who is there.
    fn seated(&self, generation: u32) -> impl Iterator<Item = Id> + '_ {
        (0..self.parties as usize)
            .map_while(|index| self.object.u64(HEADER + 8 * index).ok())
            // Acquire: with the Release in `meet`: who finds an Id here sees that one's words on the board, too.
            .map(|seat: &AtomicU64| seat.load(Acquire))
            .filter(move |word| word & 3 == u64::from(generation & 3))
            .filter_map(Id::of)
    }

    fn any_dead(&self, generation: u32) -> bool {
        let latched = Id::of(self.latch.load(Relaxed));
        self.seated(generation).chain(latched).any(|id| self.object.board().dead(id))
    }

    fn latched(&self) -> Result<LatchGuard<'_>, BarrierError> {
        latch(&self.latch, &self.object, Nap::forever, || self.break_it()).map_err(|error| match error {
            Latched::Io(error) => BarrierError::Io(error),
            Latched::Abandoned => BarrierError::Abandoned,
            Latched::TimedOut => BarrierError::Timeout,
        })
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting())
            .field("is_broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

travels!(Barrier, "sync.barrier", HEADER);
named!(Barrier, "barrier", (parties: u32), layout, Barrier::of);

fn layout(parties: u32) -> Result<(usize, impl FnOnce(&Fresh<'_>) -> io::Result<()>), OpenError> {
    if parties == 0 || parties > PARTIES_MAX {
        return Err(OpenError::InvalidInput(format!("a barrier has 1 to {PARTIES_MAX} parties")));
    }
    let init = move |fresh: &Fresh<'_>| Ok(fresh.set_u32(PARTIES, parties)?);
    Ok((HEADER + 8 * parties as usize, init))
}
