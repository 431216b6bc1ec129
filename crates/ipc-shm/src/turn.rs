//! Two copies of a value, of which one is written while the other is read: the order of it all.
//!
//! Generic over the word, so that the tests run the very same code under `loom`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// The operations of the word that counts the turns: copy `turn % 2` is the value.
pub(crate) trait Turn {
    fn load(&self, ordering: Ordering) -> u64;
    fn store(&self, turn: u64, ordering: Ordering);
    fn fence(ordering: Ordering);
}

impl Turn for AtomicU64 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        AtomicU64::load(self, ordering)
    }
    #[inline]
    fn store(&self, turn: u64, ordering: Ordering) {
        AtomicU64::store(self, turn, ordering);
    }
    #[inline]
    fn fence(ordering: Ordering) {
        std::sync::atomic::fence(ordering);
    }
}

/// What `copy_of` reads of the turn that is up, unless another came up meanwhile.
#[inline]
pub(crate) fn try_read<A: Turn, T>(turn: &A, copy_of: impl FnOnce(u64) -> T) -> Option<T> {
    // Acquire: with the Release of the writer that counted it on, in `write`.
    let before = turn.load(Acquire);
    let value = copy_of(before);
    // With the Release fence in `write`: who has read anything of a later writer sees that the turn has changed.
    A::fence(Acquire);
    (turn.load(Relaxed) == before).then_some(value)
}

/// With the lock that keeps other writers out: `fill` writes the copy of the next turn, and then that one is up.
#[inline]
pub(crate) fn write<A: Turn>(turn: &A, fill: impl FnOnce(u64)) {
    let now = turn.load(Relaxed);
    let next = now.wrapping_add(1);
    // With the Acquire fence in `try_read`: whoever reads what is written from here on sees that this turn is up, and no
    // more the one that this copy was read in before.
    A::fence(Release);
    fill(next);
    // This commits. Release: with the Acquire in `try_read`.
    turn.store(next, Release);
}

#[cfg(test)]
mod loom_tests;
