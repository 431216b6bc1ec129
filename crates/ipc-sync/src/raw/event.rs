//! The event word: a flag, whether somebody sleeps, and how often it was set.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};

use crate::error::WaitError;
use crate::wait::{Nap, Rest};

/// The flag itself.
const SET: u32 = 1;
/// Somebody sleeps until it is set.
pub(crate) const SLEEPERS: u32 = 2;
/// From here on, how often it was set.
pub(crate) const ONCE: u32 = 4;

/// The operations of a 32-bit word that an event needs.
pub(crate) trait HalfWord {
    fn load(&self, ordering: Ordering) -> u32;
    /// May fail for no reason.
    fn cas(&self, current: u32, new: u32, success: Ordering) -> Result<u32, u32>;
    fn and(&self, bits: u32, ordering: Ordering) -> u32;
}

impl HalfWord for AtomicU32 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u32 {
        AtomicU32::load(self, ordering)
    }
    #[inline]
    fn cas(&self, current: u32, new: u32, success: Ordering) -> Result<u32, u32> {
        self.compare_exchange_weak(current, new, success, Ordering::Relaxed)
    }
    #[inline]
    fn and(&self, bits: u32, ordering: Ordering) -> u32 {
        self.fetch_and(bits, ordering)
    }
}

/// What those who wait ask of the world.
pub(crate) trait Sleeps<A> {
    /// Spins as long as it seems worth while, until `done`.
    fn spin(&self, done: impl FnMut() -> bool) -> bool;
    /// Sleeps while the word is what is expected.
    fn sleep(&self, word: &A, expected: u32, nap: &mut Nap) -> io::Result<Rest>;
}

/// Sets it. Whether all who sleep have to be woken.
#[inline]
pub(crate) fn set<A: HalfWord>(word: &A) -> bool {
    let mut w = word.load(Relaxed);
    loop {
        let next = (w & !SLEEPERS | SET).wrapping_add(ONCE);
        // Release: with the Acquire of those who find it set, in `is_set`, `clear` and `wait`.
        match word.cas(w, next, Release) {
            Ok(_) => return w & SLEEPERS != 0,
            Err(now) => w = now,
        }
    }
}

/// Clears it. Whether it was set.
#[inline]
pub(crate) fn clear<A: HalfWord>(word: &A) -> bool {
    // Acquire: with the Release of `set`. Release: with the Acquire of `is_set`: who finds it cleared may write again what
    // was read before.
    word.and(!SET, AcqRel) & SET != 0
}

#[inline]
pub(crate) fn is_set<A: HalfWord>(word: &A) -> bool {
    // Acquire: with the Release of `set`, and of `clear`.
    word.load(Acquire) & SET != 0
}

/// Waits until it is set, or was set and cleared again.
#[inline]
pub(crate) fn wait<A: HalfWord>(
    word: &A,
    world: &impl Sleeps<A>,
    nap: impl FnOnce() -> Nap,
) -> Result<(), WaitError> {
    // Acquire: with the Release of `set`.
    let first = word.load(Acquire);
    if first & SET != 0 {
        return Ok(());
    }
    wait_slowly(word, world, first, nap())
}

fn wait_slowly<A: HalfWord>(
    word: &A,
    world: &impl Sleeps<A>,
    first: u32,
    mut nap: Nap,
) -> Result<(), WaitError> {
    let done = |w: u32| w & SET != 0 || w / ONCE != first / ONCE;
    // Acquire: with the Release of `set`.
    if !nap.is_over() && world.spin(|| done(word.load(Acquire))) {
        return Ok(());
    }
    let mut rest = Rest::Woken;
    loop {
        // Acquire: with the Release of `set`, also if it was cleared since.
        let w = word.load(Acquire);
        if done(w) {
            return Ok(());
        }
        match rest {
            Rest::TimedOut => return Err(WaitError::Timeout),
            Rest::Abandoned => return Err(WaitError::Abandoned),
            Rest::Woken => {}
        }
        // Relaxed: the kernel compares it again before anybody sleeps.
        if w & SLEEPERS == 0 && word.cas(w, w | SLEEPERS, Relaxed).is_err() {
            continue;
        }
        rest = world.sleep(word, w | SLEEPERS, &mut nap).map_err(WaitError::Io)?;
    }
}
