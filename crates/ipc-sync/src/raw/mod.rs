//! The protocols, on nothing but atomic words and a few questions to the world: who is dead, sleep, wake.
//!
//! They are generic over both, so that the tests run the very same code under `loom`, and with deaths that the test
//! decides.

pub(crate) mod event;
pub(crate) mod latch;
pub(crate) mod lock;
#[cfg(test)]
mod loom_tests;
pub(crate) mod rwlock;
pub(crate) mod seat;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::Id;
use crate::wait::{Nap, Rest};

/// The operations of a 64-bit word that the protocols need.
pub(crate) trait Word {
    fn load(&self, ordering: Ordering) -> u64;
    fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64>;
    /// A fence that orders this thread's stores before it and its loads after it, for all.
    fn fence();
    /// A fence that orders this thread's loads before it and all that it does after it.
    fn fence_acquire();
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        AtomicU64::load(self, ordering)
    }
    #[inline]
    fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, Ordering::Relaxed)
    }
    #[inline]
    fn fence() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }
    #[inline]
    fn fence_acquire() {
        std::sync::atomic::fence(Ordering::Acquire);
    }
}

/// What a protocol asks of the world around a word.
pub(crate) trait World<A: Word> {
    /// Whether the owner, read from a word before, is dead. Who says so may still be unsure of a living one, never
    /// the other way round.
    fn dead(&self, id: Id) -> bool;

    /// Whether it is dead as the kernel knows it: for one who is about to give up without having slept, and so has never
    /// looked after anybody.
    fn is_gone(&self, id: Id) -> bool {
        self.dead(id)
    }

    /// Spins as long as it seems worth while, until `done`.
    fn spin(&self, done: impl FnMut() -> bool) -> bool;

    /// Sleeps while the word's low half is that of `expected`, watching the owner. At a tick it has looked after the
    /// owner by itself.
    fn sleep(&self, word: &A, expected: u64, owner: Id, nap: &mut Nap) -> io::Result<Rest>;

    /// The process id of an owner, 0 if it is not known.
    fn pid(&self, id: Id) -> u32;

    /// Wakes up to `count` of those who sleep on the word.
    fn wake(&self, word: &A, count: u32);
}
