//! Readers and one writer: a lock word for the writer, and a word for each reader that names it.
//!
//! A reader takes a place and then looks at the writer's word; a writer takes its word and then looks at the places.
//! Each does the one before the other, with a fence in between, so at least one of two who come together sees the other
//! (Dekker's argument; a fence and not sequentially consistent accesses, which `loom` does not model). The reader gives
//! way: a writer that waits keeps new readers out.
//!
//! `phase` says whether the writer that the word names may have written: one that dies before costs nothing.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::lock::{self, OnDeath, Refused, Taken};
use super::{Word, World};
use crate::id::{I, Id, Ownerless, TAGS, W, read_ownerless};
use crate::wait::{Nap, Rest};

/// The words of one lock.
pub(crate) trait Words<A: Word> {
    fn writer(&self) -> &A;
    /// How many places there are for readers: at least one.
    fn places(&self) -> usize;
    /// A place, for an index below their number.
    fn place(&self, index: usize) -> &A;
    /// Whether the writer may have written.
    fn may_have_written(&self) -> bool;
    /// Written by the writer alone.
    fn set_phase(&self, may_have_written: bool);
}

/// Takes a place among the readers: its index.
pub(crate) fn read<A: Word, P: World<A>>(
    words: &impl Words<A>,
    me: Id,
    world: &P,
    on_death: OnDeath,
    nap: &mut Nap,
) -> Result<usize, Refused> {
    // Readers of different threads begin at different places.
    let hint = me.k().wrapping_mul(7).wrapping_add(me.j() as usize);
    let mut spun = false;
    loop {
        // Relaxed: who goes on to read looks again. Whether the writer is dead is asked with a fence.
        let w = words.writer().load(Relaxed);
        if let Some(writer) = Id::of(w) {
            if writer == me && me.is_thread() {
                return Err(Refused::Mine);
            }
            if world.dead(writer) {
                pass_or_tell(words, w, writer, world, on_death)?;
                continue;
            }
            if nap.is_over() {
                if world.is_gone(writer) {
                    continue;
                }
                return Err(Refused::TimedOut);
            }
            if !spun {
                spun = true;
                if world.spin(|| Id::of(words.writer().load(Relaxed)) != Some(writer)) {
                    continue;
                }
            }
            sleep(words.writer(), w, writer, world, nap)?;
            continue;
        }
        if w & I != 0 {
            let (why, pid) = read_ownerless(w);
            return Err(Refused::Ownerless(why, pid));
        }
        let Some(index) = find_place(words, hint, me, world) else {
            if nap.is_over() {
                let mut readers =
                    (0..words.places()).filter_map(|index| Id::of(words.place(index).load(Relaxed)));
                if readers.any(|reader| world.is_gone(reader)) {
                    continue;
                }
                return Err(Refused::TimedOut);
            }
            let place = words.place(hint % words.places());
            let r = place.load(Relaxed);
            if let Some(reader) = Id::of(r) {
                sleep(place, r, reader, world, nap)?;
            }
            continue;
        };
        A::fence();
        // Acquire: with the Release of the writer that was there before, in `unwrite` or `pass_or_tell`.
        let w = words.writer().load(Acquire);
        if Id::of(w).is_none() && w & I == 0 {
            return Ok(index);
        }
        unread(words, index, me, world);
    }
}

/// Gives a reader's place back. `false` if it is not this thread's any more.
pub(crate) fn unread<A: Word, P: World<A>>(words: &impl Words<A>, index: usize, me: Id, world: &P) -> bool {
    // Release, in there: what was read stays before; with the Acquire in `wait_for_reader`.
    lock::release_all(words.place(index), me, world)
}

/// Takes the lock for writing.
pub(crate) fn write<A: Word, P: World<A>>(
    words: &impl Words<A>,
    me: Id,
    world: &P,
    on_death: OnDeath,
    nap: &mut Nap,
) -> Result<Taken, Refused> {
    let taken = loop {
        if lock::try_fast(words.writer(), me) {
            break Taken::Free;
        }
        match lock::acquire(words.writer(), me, world, OnDeath::Tell, nap) {
            Ok(taken) => break taken,
            Err(Refused::OwnerDied(dead)) => {
                // Relaxed: what the dead one has done came with the proof of its death.
                let w = words.writer().load(Relaxed);
                if Id::of(w) != Some(dead) {
                    continue;
                }
                if on_death == OnDeath::Recover && (words.may_have_written() || w & I != 0) {
                    break lock::acquire(words.writer(), me, world, OnDeath::Recover, nap)?;
                }
                pass_or_tell(words, w, dead, world, on_death)?;
            }
            Err(Refused::Ownerless(..)) if on_death == OnDeath::Recover => {
                break lock::acquire(words.writer(), me, world, OnDeath::Recover, nap)?;
            }
            Err(refused) => return Err(refused),
        }
    };
    if taken == Taken::Free {
        // It may be left over from one that was given up.
        words.set_phase(false);
    }
    A::fence();
    for index in 0..words.places() {
        if let Err(refused) = wait_for_reader(words, index, me, world, nap) {
            unwrite_unwritten(words, me, world, taken);
            return Err(refused);
        }
    }
    words.set_phase(true);
    Ok(taken)
}

/// Gives the lock back after writing. `false` if this thread does not have it any more.
pub(crate) fn unwrite<A: Word, P: World<A>>(words: &impl Words<A>, me: Id, world: &P) -> bool {
    if words.writer().load(Relaxed) & !TAGS != me.word() {
        return false;
    }
    words.set_phase(false);
    lock::release_all(words.writer(), me, world)
}

/// Gives the lock back without having written: in the state that it was found in.
fn unwrite_unwritten<A: Word, P: World<A>>(words: &impl Words<A>, me: Id, world: &P, taken: Taken) {
    let pid = match taken {
        Taken::Free => {
            lock::release_all(words.writer(), me, world);
            return;
        }
        Taken::FromDead(dead) => world.pid(dead),
        Taken::Unrepaired(pid) => pid,
    };
    lock::abandon(words.writer(), me, world, Ownerless::Unrepaired, pid);
}

/// A dead writer: one that never wrote, or whose death is not to be told, is taken out of the word.
fn pass_or_tell<A: Word, P: World<A>>(
    words: &impl Words<A>,
    w: u64,
    dead: Id,
    world: &P,
    on_death: OnDeath,
) -> Result<(), Refused> {
    // One that recovers may leave what it found as it was: I tells.
    if on_death != OnDeath::Pass && (words.may_have_written() || w & I != 0) {
        // Somebody may have taken the dead one out meanwhile, and the phase be that of another writer: with that one's
        // fence in `write`, the word is not read before the phase.
        A::fence_acquire();
        let still = words.writer().load(Relaxed);
        return if Id::of(still) == Some(dead) { Err(Refused::OwnerDied(dead)) } else { Ok(()) };
    }
    if on_death == OnDeath::Pass && words.may_have_written() {
        // Not after the word is free: somebody else would be the writer then.
        words.set_phase(false);
    }
    // Release: what the dead one has done, which came with the proof of its death, for whoever takes or reads next: with the
    // Acquire in `lock::try_fast` and `read`.
    if words.writer().cas(w, 0, Release).is_ok() && w & W != 0 {
        world.wake(words.writer(), u32::MAX);
    }
    Ok(())
}

/// A place for this reader: free, or of a dead one.
fn find_place<A: Word, P: World<A>>(words: &impl Words<A>, hint: usize, me: Id, world: &P) -> Option<usize> {
    let places = words.places();
    let indices = || (0..places).map(|n| (hint.wrapping_add(n)) % places);
    indices().find(|index| lock::try_fast(words.place(*index), me)).or_else(|| {
        indices().find(|index| {
            let place = words.place(*index);
            let r = place.load(Relaxed);
            // A writer that sleeps there goes on sleeping for this one.
            // Release: as in `lock::try_fast`, for the writer who asks whether this reader is dead.
            Id::of(r).is_none_or(|reader| world.dead(reader))
                && place.cas(r, me.word() | (r & W), Release).is_ok()
        })
    })
}

fn wait_for_reader<A: Word, P: World<A>>(
    words: &impl Words<A>,
    index: usize,
    me: Id,
    world: &P,
    nap: &mut Nap,
) -> Result<(), Refused> {
    let place = words.place(index);
    let mut spun = false;
    loop {
        // Acquire: with the Release of the reader that leaves, in `unread`.
        let r = place.load(Acquire);
        let Some(reader) = Id::of(r) else { return Ok(()) };
        // Before it waits for anybody: it would do so in vain.
        let reads = |index| Id::of(words.place(index).load(Relaxed)) == Some(me);
        if !spun && me.is_thread() && (index..words.places()).any(reads) {
            return Err(Refused::Mine);
        }
        if world.dead(reader) {
            // Relaxed: it wrote nothing.
            let _again = place.cas(r, 0, Relaxed);
            continue;
        }
        if nap.is_over() {
            if world.is_gone(reader) {
                continue;
            }
            return Err(Refused::TimedOut);
        }
        if !spun {
            spun = true;
            if world.spin(|| Id::of(place.load(Relaxed)) != Some(reader)) {
                continue;
            }
        }
        sleep(place, r, reader, world, nap)?;
    }
}

/// Sleeps on a word that names a living owner.
fn sleep<A: Word, P: World<A>>(word: &A, w: u64, owner: Id, world: &P, nap: &mut Nap) -> Result<(), Refused> {
    // Relaxed: the kernel compares the word again under its own lock.
    if w & W == 0 && word.cas(w, w | W, Relaxed).is_err() {
        return Ok(());
    }
    match world.sleep(word, w | W, owner, nap) {
        Ok(Rest::Woken | Rest::TimedOut) => Ok(()),
        Ok(Rest::Abandoned) => Err(Refused::Abandoned),
        Err(error) => Err(Refused::Io(error)),
    }
}

/// A word that was scribbled over.
pub(crate) fn scribbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the words of the lock were scribbled over")
}
