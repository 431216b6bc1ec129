//! One counts on and the other waits for it: the order of it all.
//!
//! | who | does |
//! |---|---|
//! | counts | stores the count; a fence; looks at the bell; if somebody sleeps there: takes the mark out and wakes |
//! | waits | marks its bell; a fence; looks at the count; if it is still the old one: sleeps on the bell with the mark |
//!
//! Each stores before it looks, with a sequentially consistent fence in between: at least one of the two sees the other.
//! Generic over the words and the world, so that the tests run the very same code under `loom`.

use std::io;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use ipc_sync::object::{Nap, Rest};

/// Somebody sleeps, or is about to.
pub(super) const ASLEEP: u32 = 1;
/// Whose bell it is was dropped, as far as is known: the kernel knows it for certain.
pub(super) const GONE: u32 = 2;

/// The operations of a count.
pub(super) trait Count {
    fn load(&self, ordering: Ordering) -> u64;
    fn store(&self, count: u64, ordering: Ordering);
}

impl Count for AtomicU64 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        AtomicU64::load(self, ordering)
    }
    #[inline]
    fn store(&self, count: u64, ordering: Ordering) {
        AtomicU64::store(self, count, ordering);
    }
}

/// The operations of a bell.
pub(super) trait Bell {
    fn load(&self, ordering: Ordering) -> u32;
    fn or(&self, bits: u32, ordering: Ordering) -> u32;
    fn and(&self, bits: u32, ordering: Ordering) -> u32;
    /// Orders this thread's stores before it and its loads after it, for all.
    fn fence();
}

impl Bell for AtomicU32 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u32 {
        AtomicU32::load(self, ordering)
    }
    fn or(&self, bits: u32, ordering: Ordering) -> u32 {
        self.fetch_or(bits, ordering)
    }
    fn and(&self, bits: u32, ordering: Ordering) -> u32 {
        self.fetch_and(bits, ordering)
    }
    #[inline]
    fn fence() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// What who waits asks of the world.
pub(super) trait World<B> {
    /// Spins as long as it seems worth while, until `done`.
    fn spin(&self, done: impl FnMut() -> bool) -> bool;
    /// Whether anybody has the other end, as the kernel knows it.
    fn is_peer_there(&self) -> io::Result<bool>;
    /// Sleeps while the bell is what is expected.
    fn sleep(&self, bell: &B, expected: u32, nap: &mut Nap) -> io::Result<Rest>;
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    News,
    TimedOut,
    /// The other end is gone, and there is no news.
    Gone,
    /// Nobody else is left who could have it.
    Abandoned,
}

/// Counts on, and gives what is in the other's bell: if it is not zero, somebody is to be told.
#[inline]
pub(super) fn publish<A: Count, B: Bell>(count: &A, now: u64, bell: &B) -> u32 {
    // Release: with the Acquire in `wait`, and of those who look without waiting. What was written to the ring, or read
    // from it, is done when the other sees this.
    count.store(now, Release);
    // With the fence in `wait`.
    B::fence();
    bell.load(Relaxed)
}

/// Takes the mark out. Whether somebody has to be woken. Also for an end that goes, after it has let go of its role: who
/// sleeps, or is about to, looks again.
#[cold]
pub(super) fn ring<B: Bell>(bell: &B) -> bool {
    // Relaxed: who goes to sleep has the kernel compare the word.
    bell.and(!ASLEEP, Relaxed) & ASLEEP != 0
}

/// Wakes who sleeps here or is about to, from another thread of its own process, once what it is to see is stored: it looks
/// again, and asks its world whether anybody is there.
#[cold]
pub(super) fn rouse<B: Bell>(bell: &B) -> bool {
    // With the fence in `wait`.
    B::fence();
    ring(bell)
}

/// For a wait that sleeps elsewhere, on the bell as it is given here. `None` if there is news.
pub(super) fn arm<A: Count, B: Bell>(count: &A, bell: &B, is_news: impl FnOnce(u64) -> bool) -> Option<u32> {
    // A mark that is left in costs who counts next a look, which takes it out.
    let word = bell.or(ASLEEP, Relaxed) | ASLEEP;
    // With the fence in `publish`.
    B::fence();
    // Acquire: with the Release in `publish`.
    if is_news(count.load(Acquire)) { None } else { Some(word) }
}

/// Waits until the count is news.
pub(super) fn wait<A: Count, B: Bell>(
    count: &A,
    bell: &B,
    world: &impl World<B>,
    mut is_news: impl FnMut(u64) -> bool,
    nap: &mut Nap,
) -> io::Result<Outcome> {
    // Acquire: with the Release in `publish`.
    let mut look = || is_news(count.load(Acquire));
    let may_sleep = !nap.is_over();
    if look() || may_sleep && world.spin(&mut look) {
        return Ok(Outcome::News);
    }
    // Once more after the kernel has said that nobody has the other end: it may have counted on before it went.
    let gone = |news: bool| if news { Outcome::News } else { Outcome::Gone };
    if !may_sleep {
        return Ok(if world.is_peer_there()? { Outcome::TimedOut } else { gone(look()) });
    }
    /// Nobody sleeps any more, however the wait ends.
    struct Marked<'a, B: Bell>(&'a B);
    impl<B: Bell> Drop for Marked<'_, B> {
        fn drop(&mut self) {
            self.0.and(!ASLEEP, Relaxed);
        }
    }
    let marked = Marked(bell);
    let mut rest = Rest::Woken;
    loop {
        let word = marked.0.or(ASLEEP, Relaxed) | ASLEEP;
        // With the fence in `publish`.
        B::fence();
        if look() {
            return Ok(Outcome::News);
        }
        if !world.is_peer_there()? {
            return Ok(gone(look()));
        }
        match rest {
            Rest::Woken => {}
            Rest::TimedOut => return Ok(Outcome::TimedOut),
            Rest::Abandoned => return Ok(Outcome::Abandoned),
        }
        rest = world.sleep(bell, word, nap)?;
    }
}

#[cfg(test)]
mod loom_tests;
