//! The memory orderings of the queue, on nothing but atomic words.
//!
//! Generic over these, so that the tests run the very same code under `loom`. What the words are and where they lie, the
//! bytes behind them, latches, deaths and sleep are the callers'.

pub(crate) mod bell;
pub(crate) mod lease;
#[cfg(test)]
mod loom_tests;
pub(crate) mod place;
pub(crate) mod slots;

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};

/// The operations of a word of 64 bits that the protocols need.
pub(crate) trait Word {
    fn load(&self, ordering: Ordering) -> u64;
    fn store(&self, value: u64, ordering: Ordering);
    fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64>;
}

/// The operations of a word of 32 bits that the protocols need.
pub(crate) trait HalfWord {
    fn load(&self, ordering: Ordering) -> u32;
    fn store(&self, value: u32, ordering: Ordering);
    fn cas(&self, current: u32, new: u32, success: Ordering) -> Result<u32, u32>;
    fn or(&self, bits: u32, ordering: Ordering) -> u32;
    fn and(&self, bits: u32, ordering: Ordering) -> u32;
    fn add(&self, more: u32, ordering: Ordering) -> u32;
    /// A fence that orders this thread's stores before it and its loads after it, for all.
    fn fence();
    /// The same, for who has given a latch back since those stores.
    fn fence_after_latch();
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        AtomicU64::load(self, ordering)
    }
    #[inline]
    fn store(&self, value: u64, ordering: Ordering) {
        AtomicU64::store(self, value, ordering);
    }
    #[inline]
    fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, Relaxed)
    }
}

impl HalfWord for AtomicU32 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u32 {
        AtomicU32::load(self, ordering)
    }
    #[inline]
    fn store(&self, value: u32, ordering: Ordering) {
        AtomicU32::store(self, value, ordering);
    }
    #[inline]
    fn cas(&self, current: u32, new: u32, success: Ordering) -> Result<u32, u32> {
        self.compare_exchange(current, new, success, Relaxed)
    }
    #[inline]
    fn or(&self, bits: u32, ordering: Ordering) -> u32 {
        self.fetch_or(bits, ordering)
    }
    #[inline]
    fn and(&self, bits: u32, ordering: Ordering) -> u32 {
        self.fetch_and(bits, ordering)
    }
    #[inline]
    fn add(&self, more: u32, ordering: Ordering) -> u32 {
        self.fetch_add(more, ordering)
    }
    #[inline]
    fn fence() {
        fence(SeqCst);
    }
    #[inline]
    fn fence_after_latch() {
        if cfg!(target_arch = "x86_64") {
            // A latch is given back by a locked instruction, which orders as a fence does there.
            compiler_fence(SeqCst);
        } else {
            fence(SeqCst);
        }
    }
}
