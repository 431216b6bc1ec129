//! The lock word: who holds it, who died holding it, who sleeps for it.
//!
//! | word | means |
//! |---|---|
//! | 0 or W | free |
//! | id, alive | held (I: by one who recovers) |
//! | id, dead | its owner died |
//! | nobody, I | left unrepaired, or given up; names the process that died |
//!
//! Every step is one compare-and-swap from the exact word that was read, so it can be cut off by SIGKILL anywhere. W says
//! that somebody may sleep; who takes W out wakes, and who has slept puts it in again, since others may sleep still.
//! After "Futexes are tricky" (U. Drepper, 2011, mutex 3), with the owner in the word.

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use super::{Word, World};
use crate::id::{I, Id, Ownerless, TAGS, W, ownerless, read_ownerless};
use crate::wait::{Nap, Rest};

/// What a death means to who comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDeath {
    /// It is told, and gets nothing.
    Tell,
    /// It takes the lock over, and the word says that what it protects is inconsistent.
    Recover,
    /// It takes the lock as if it had been free.
    Pass,
}

/// How the lock was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// From nobody.
    Free,
    /// From this dead owner; I is in the word unless it passes silently.
    FromDead(Id),
    /// From one who left it unrepaired, after the death of this process; I is in the word.
    Unrepaired(u32),
}

/// Why it was not got. In none of these cases is anything held.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its owner is dead.
    OwnerDied(Id),
    /// It was left unrepaired, or given up, after the death of this process.
    Ownerless(Ownerless, u32),
    /// This thread holds it.
    Mine,
    /// Another holds it, and the time is over.
    TimedOut,
    /// No process is left that could release it.
    Abandoned,
    Io(io::Error),
}

/// Takes the lock at once, if it is free and nobody sleeps.
#[inline]
pub(crate) fn try_fast<A: Word>(word: &A, me: Id) -> bool {
    // Acquire: with the Release of `release_fast` and of `leave`. Release: that this owner is there at all, for who asks
    // whether it is dead: with the fence in `seat::is_over`.
    word.cas(0, me.word(), AcqRel).is_ok()
}

/// Takes the lock, in the time that `nap` has.
#[cold]
pub(crate) fn acquire<A: Word, P: World<A>>(
    word: &A,
    me: Id,
    world: &P,
    on_death: OnDeath,
    nap: &mut Nap,
) -> Result<Taken, Refused> {
    // W once this thread has slept: it may have been the one that was woken for all.
    let mut slept = 0;
    let result = acquire_or_refuse(word, me, world, on_death, nap, &mut slept);
    if result.is_err() && slept != 0 {
        // It may have been woken just before it gave up, and the lock be taken again by one that knows of no sleepers.
        world.wake(word, 1);
    }
    result
}

fn acquire_or_refuse<A: Word, P: World<A>>(
    word: &A,
    me: Id,
    world: &P,
    on_death: OnDeath,
    nap: &mut Nap,
    slept: &mut u64,
) -> Result<Taken, Refused> {
    let mut spun = false;
    loop {
        // Relaxed: whoever gets the lock does so by a compare-and-swap that acquires.
        let w = word.load(Relaxed);
        let Some(owner) = Id::of(w) else {
            if w & I == 0 {
                // As in `try_fast`.
                if word.cas(w, me.word() | (w & W) | *slept, AcqRel).is_ok() {
                    return Ok(Taken::Free);
                }
                continue;
            }
            let (why, pid) = read_ownerless(w);
            if on_death == OnDeath::Tell || why == Ownerless::GivenUp {
                return Err(Refused::Ownerless(why, pid));
            }
            // As in `try_fast`.
            if word.cas(w, me.word() | I | W, AcqRel).is_ok() {
                return Ok(Taken::Unrepaired(pid));
            }
            continue;
        };
        if owner == me && me.is_thread() {
            return Err(Refused::Mine);
        }
        if !spun && !nap.is_over() {
            // Once: what the word is after having slept is not worth learning from. Before anything is asked: most who hold
            // a lock give it back in a moment.
            spun = true;
            if world.spin(|| Id::of(word.load(Relaxed)) != Some(owner)) {
                continue;
            }
        }
        if world.dead(owner) {
            let taken = match on_death {
                OnDeath::Tell => return Err(Refused::OwnerDied(owner)),
                OnDeath::Recover => me.word() | I | W,
                OnDeath::Pass => me.word() | W,
            };
            // Acquire: with the Release of the last one who gave it back, which the dead one's own step has passed on. What
            // the dead one wrote itself comes with the proof of its death. Release: as in `try_fast`.
            if word.cas(w, taken, AcqRel).is_ok() {
                return Ok(Taken::FromDead(owner));
            }
            continue;
        }
        if nap.is_over() {
            if world.is_gone(owner) {
                continue;
            }
            return Err(Refused::TimedOut);
        }
        // Relaxed: nothing is read on the strength of it; the kernel compares the word again under its own lock.
        if w & W == 0 && word.cas(w, w | W, Relaxed).is_err() {
            continue;
        }
        *slept = W;
        match world.sleep(word, w | W, owner, nap) {
            Ok(Rest::Woken | Rest::TimedOut) => {}
            Ok(Rest::Abandoned) => return Err(Refused::Abandoned),
            Err(error) => return Err(Refused::Io(error)),
        }
    }
}

/// Gives the lock back at once, if nobody sleeps and nothing is to be said about it.
#[inline]
pub(crate) fn release_fast<A: Word>(word: &A, me: Id) -> bool {
    // Release: with the Acquire of whoever takes it next, in `try_fast` and `acquire`.
    word.cas(me.word(), 0, Release).is_ok()
}

/// Gives the lock back. `false` if this thread does not hold it any more: somebody took its process for dead, and
/// nothing is changed.
#[inline]
pub(crate) fn release<A: Word, P: World<A>>(word: &A, me: Id, world: &P) -> bool {
    release_fast(word, me) || leave(word, me, world, 0, 1)
}

/// As [`release`], for a word that several may have slept on who can all go on.
#[inline]
pub(crate) fn release_all<A: Word, P: World<A>>(word: &A, me: Id, world: &P) -> bool {
    release_fast(word, me) || leave(word, me, world, 0, u32::MAX)
}

/// Gives the lock back with `next` in the word, which names nobody: free, or [`ownerless`]. Wakes up to `count`.
#[cold]
fn leave<A: Word, P: World<A>>(word: &A, me: Id, world: &P, next: u64, count: u32) -> bool {
    loop {
        let w = word.load(Relaxed);
        if w & !TAGS != me.word() {
            return false;
        }
        // Release: with the Acquire of whoever takes it next, as in `release_fast`.
        if word.cas(w, next, Release).is_ok() {
            if w & W != 0 {
                world.wake(word, count);
            }
            return true;
        }
    }
}

/// Says that what the lock protects is consistent again.
pub(crate) fn repaired<A: Word>(word: &A, me: Id) -> bool {
    loop {
        let w = word.load(Relaxed);
        if w & !TAGS != me.word() {
            return false;
        }
        // Relaxed: the lock is held on.
        if w & I == 0 || word.cas(w, w & !I, Relaxed).is_ok() {
            return true;
        }
    }
}

/// Leaves the lock unrepaired or given up, naming the process that died.
pub(crate) fn abandon<A: Word, P: World<A>>(word: &A, me: Id, world: &P, why: Ownerless, pid: u32) -> bool {
    // What is not free is news for all of them.
    leave(word, me, world, ownerless(why, pid), u32::MAX)
}

/// Takes a lock that was given up into use again. Whether it was.
pub(crate) fn reset<A: Word>(word: &A) -> bool {
    loop {
        let w = word.load(Relaxed);
        if Id::of(w).is_some() || w & I == 0 || read_ownerless(w).0 != Ownerless::GivenUp {
            return false;
        }
        // AcqRel would order nothing more: who takes the lock next acquires what was released when it was given up.
        if word.cas(w, 0, Relaxed).is_ok() {
            return true;
        }
    }
}
