//! The bell: a flag that somebody may sleep, and how often it was rung.
//!
//! Who rings has done something before, and looks at the flag; who is about to sleep sets it, and looks at what was done.
//! With a fence in between on both sides, at least one of the two sees the other.

use std::sync::atomic::Ordering::Relaxed;

use super::HalfWord;

/// Somebody may sleep.
pub(crate) const SLEEPERS: u32 = 1;
/// Rings are counted above the flag, so that the word is another one after each.
pub(crate) const ONCE: u32 = 2;

/// Whether one of those who sleep has to be woken.
#[inline]
#[must_use]
pub(crate) fn ring<B: HalfWord>(bell: &B) -> bool {
    // With the fence in `arm`.
    B::fence();
    look(bell)
}

/// As [`ring`], for who has given a latch back since it did what it rings for.
#[inline]
#[must_use]
pub(crate) fn ring_after_latch<B: HalfWord>(bell: &B) -> bool {
    // With the fence in `arm`.
    B::fence_after_latch();
    look(bell)
}

/// Whether all who sleep have to be woken.
#[must_use]
pub(crate) fn ring_for_all<B: HalfWord>(bell: &B) -> bool {
    // With the fence in `arm`.
    B::fence();
    // Relaxed: as in `ring_out`.
    let is_for_some = bell.load(Relaxed) & SLEEPERS != 0 && bell.and(!SLEEPERS, Relaxed) & SLEEPERS != 0;
    if is_for_some {
        bell.add(ONCE, Relaxed);
    }
    is_for_some
}

/// Rings whether anybody sleeps or not: all have to be woken.
pub(crate) fn ring_all<B: HalfWord>(bell: &B) {
    // With the fence in `arm`.
    B::fence();
    bell.add(ONCE, Relaxed);
}

#[inline]
fn look<B: HalfWord>(bell: &B) -> bool {
    let word = bell.load(Relaxed);
    word & SLEEPERS != 0 && ring_out(bell, word)
}

#[cold]
fn ring_out<B: HalfWord>(bell: &B, mut word: u32) -> bool {
    while word & SLEEPERS != 0 {
        let rung = (word & !SLEEPERS).wrapping_add(ONCE);
        // Relaxed: who is woken looks at what was done itself, behind the fence of `arm` or of its latch.
        match bell.cas(word, rung, Relaxed) {
            Ok(_) => return true,
            Err(now) => word = now,
        }
    }
    false
}

/// Says that this thread is about to sleep: the word that it is to sleep on.
pub(crate) fn arm<B: HalfWord>(bell: &B) -> u32 {
    let armed = bell.or(SLEEPERS, Relaxed) | SLEEPERS;
    // With the fence in `ring`, in `ring_after_latch`, in `ring_for_all` and in `ring_all`.
    B::fence();
    armed
}

/// For who has slept: whether one of the others has to be woken, since there is `more`.
#[must_use]
pub(crate) fn settle<B: HalfWord>(bell: &B, more: impl FnOnce() -> bool) -> bool {
    arm(bell);
    more() && ring(bell)
}
