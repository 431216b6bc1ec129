//! The life of a lease: its state says who may touch what else is in it.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use ipc_sync::object::Id;

use super::{HalfWord, Word};

pub(crate) const FREE: u32 = 0;
pub(crate) const OUT: u32 = 1;
pub(crate) const AGAIN: u32 = 2;
pub(crate) const ASIDE: u32 = 3;
pub(crate) const DONE: u32 = 4;

#[inline]
pub(crate) fn load<B: HalfWord>(state: &B) -> u32 {
    // Acquire: with the Release of whoever brought it into that state: what the lease names is there, and what was there
    // before was read.
    state.load(Acquire)
}

#[inline]
pub(crate) fn set<B: HalfWord>(state: &B, to: u32) {
    // Release: with the Acquire in `load`.
    state.store(to, Release);
}

/// The owner as it stands in a lease.
#[inline]
pub(crate) fn owner<A: Word>(owner: &A) -> Option<Id> {
    // Relaxed: behind the state. Who is asked whether that one is dead fences.
    Id::of(owner.load(Relaxed))
}

/// With the receivers' latch, of a free lease or one that was half made: what `fill` writes is out to that owner.
pub(crate) fn make<A: Word, B: HalfWord>(
    state: &B,
    owner: &A,
    me: u64,
    fill: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    // Killed from here on, it is free until it is out.
    set(state, FREE);
    fill()?;
    give_to(state, owner, me);
    Ok(())
}

/// With the receivers' latch, of one that is due or aside: it is out to that owner.
pub(crate) fn give_to<A: Word, B: HalfWord>(state: &B, owner: &A, me: u64) {
    // Release: that this owner is there at all, for who reads it without the latch and asks whether it is dead: with the
    // fence of who answers.
    owner.store(me, Release);
    // Last: killed before, it is as it was.
    set(state, OUT);
}

/// Whether it is to be delivered again. With the receivers' latch that is certain.
pub(crate) fn is_due<A: Word, B: HalfWord>(
    state: &B,
    owner: &A,
    is_gone: impl FnOnce(Id) -> io::Result<bool>,
) -> io::Result<bool> {
    match load(state) {
        AGAIN => return Ok(true),
        OUT => {}
        _ => return Ok(false),
    }
    let is_gone = match self::owner(owner) {
        Some(owner) => is_gone(owner)?,
        None => true,
    };
    // Once more: it may have been done, or given back, just before its owner went.
    Ok(is_gone && matches!(load(state), OUT | AGAIN))
}

/// Whether it is another's than `me`, or to be delivered again: it may come yet. One look, since it may go from the one to
/// the other meanwhile.
pub(crate) fn may_come<A: Word, B: HalfWord>(state: &B, owner: &A, me: Id) -> bool {
    match load(state) {
        AGAIN => true,
        OUT => self::owner(owner) != Some(me),
        _ => false,
    }
}

/// The owner is through with it. `free` frees the pages that it names, if there are some, and makes it name none.
pub(crate) fn ack<B: HalfWord, E>(state: &B, free: Option<impl FnOnce() -> Result<(), E>>) -> Result<(), E> {
    if let Some(free) = free {
        // From here on it is not delivered again.
        set(state, DONE);
        free()?;
    }
    set(state, FREE);
    Ok(())
}
