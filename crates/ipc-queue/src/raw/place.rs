//! Places of the store: an owner, and which pages it has.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{HalfWord, Word};

/// Makes a place this owner's, if it is nobody's.
#[inline]
pub(crate) fn claim<A: Word>(owner: &A, me: u64) -> bool {
    // Acquire: with the Release in `let_go`: it was emptied before. Release: that this owner is there at all, for who reads
    // it without a latch and asks whether it is gone: with the fence of who answers.
    owner.load(Relaxed) == 0 && owner.cas(0, me, AcqRel).is_ok()
}

/// With a latch that a sweep takes, too: it names pages.
#[inline]
pub(crate) fn name<A: Word>(held: &A, pages: u64) {
    // Relaxed: nobody but the owner and a sweep looks, and a sweep has the latch.
    held.store(pages, Relaxed);
}

/// With such a latch: it is nobody's any more. `frees` counts these.
#[inline]
pub(crate) fn let_go<A: Word, B: HalfWord>(owner: &A, held: &A, frees: &B) {
    // Nothing is behind the place any more before it is another's.
    held.store(0, Relaxed);
    // Release: with the Acquire in `claim`.
    owner.store(0, Release);
    count(frees);
}

/// Something is free that somebody may wait for.
#[inline]
pub(crate) fn count<B: HalfWord>(frees: &B) {
    // Release: with the Acquire in `counted`. Without it, who waits might find the place still taken after it has read
    // this number, and sleep until the next one.
    frees.add(1, Release);
}

/// How often something became free: to be read before one looks for it.
#[inline]
pub(crate) fn counted<B: HalfWord>(frees: &B) -> u32 {
    // Acquire: with the Release in `count`.
    frees.load(Acquire)
}

/// With all latches: what a dead owner had is nobody's.
pub(crate) fn bury<A: Word>(owner: &A, held: &A, dead: u64) {
    held.store(0, Relaxed);
    // Relaxed: who claims it next has one of the latches. Nobody else changes what the dead has.
    let _once = owner.cas(dead, 0, Relaxed);
}
