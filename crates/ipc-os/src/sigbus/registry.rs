//! Which addresses are guarded: a table that a signal handler may read at any moment.
//!
//! Slots in chunks that are linked and never freed. A slot's *state* is a sequence lock that nobody waits for:
//!
//! ```text
//!  state   generation << 2 |  0 free ──► 1 being filled ──► 2 in use ──► 0, generation + 1
//! ```
//!
//! The handler takes a slot's range only if the state is the same "in use" before and after reading it, so it never
//! sees the start of one mapping and the end of another. It skips a slot that is being filled or given back, and so waits for
//! nobody, not even for the very thread that it has interrupted. It misses nothing by that: the mapping whose access
//! has faulted was filled in before that access, and is not given back before it is over.
//!
//! After `fork` the child has the table as it was. Another thread's slot that was being filled at that moment stays so: it
//! is lost to the child, and nothing else is.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

const FREE: u64 = 0;
const FILLING: u64 = 1;
const IN_USE: u64 = 2;
const STATE: u64 = 3;

/// Slots in a chunk.
const CHUNK: usize = 64;

/// Addresses of a mapping: from the first byte to behind the last one, both on a page's boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) writable: bool,
}

/// A place for one mapping.
#[derive(Debug)]
pub(super) struct Slot {
    state: AtomicU64,
    start: AtomicUsize,
    end: AtomicUsize,
    writable: AtomicBool,
    poisoned: AtomicBool,
}

#[derive(Debug)]
struct Chunk {
    slots: [Slot; CHUNK],
    next: AtomicPtr<Chunk>,
}

static FIRST: Chunk = Chunk::new();

/// The chunk that a free slot was found in last: a program with many mappings need not look through all of them.
static RECENT: AtomicPtr<Chunk> = AtomicPtr::new(null_mut());

impl Chunk {
    const fn new() -> Self {
        Chunk { slots: [const { Slot::new() }; CHUNK], next: AtomicPtr::new(null_mut()) }
    }

    fn next(&self) -> Option<&'static Chunk> {
        // Acquire pairs with the release when it was linked: its slots are initialised.
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: null, or a chunk that was leaked on purpose.
        unsafe { next.as_ref() }
    }
}

impl Slot {
    const fn new() -> Self {
        Slot {
            state: AtomicU64::new(FREE),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Fills the slot, if it is free.
    fn claim(&self, range: Range) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let filling = (state & !STATE) | FILLING;
        // Acquire pairs with the release in `release`: what the last user did to the slot is over.
        if state & STATE != FREE
            || self.state.compare_exchange(state, filling, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // Pairs with the fence in `read`: who sees one of these stores sees that the slot is being filled.
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.writable.store(range.writable, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Relaxed);
        // Release pairs with the first load in `read`.
        self.state.store((state & !STATE) | IN_USE, Ordering::Release);
        true
    }

    /// Gives the slot back.
    pub(super) fn release(&self) {
        let state = self.state.load(Ordering::Relaxed);
        // Release pairs with `claim`. One generation more: a reader in between notices.
        self.state.store((state & !STATE).wrapping_add(STATE + 1) | FREE, Ordering::Release);
    }

    /// What is in the slot, if it is in use throughout.
    fn read(&self) -> Option<Range> {
        // Acquire pairs with the last store in `claim`.
        let before = self.state.load(Ordering::Acquire);
        if before & STATE != IN_USE {
            return None;
        }
        let range = Range {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            writable: self.writable.load(Ordering::Relaxed),
        };
        // Pairs with the fence in `claim`.
        fence(Ordering::Acquire);
        (self.state.load(Ordering::Relaxed) == before).then_some(range)
    }

    /// Says that an access to the mapping has gone into nothing.
    pub(super) fn poison(&self) {
        // The zeros are mapped after this by a system call, which orders the two for everybody.
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether an access has.
    #[inline]
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }
}

/// Puts a range into a free slot.
pub(super) fn register(range: Range) -> &'static Slot {
    // Acquire pairs with the release below, of another thread: the chunk's slots are initialised.
    // SAFETY: null, or one of the chunks, which are never freed.
    let recent = unsafe { RECENT.load(Ordering::Acquire).as_ref() }.unwrap_or(&FIRST);
    let claim = |chunk: &'static Chunk| {
        let slot = chunk.slots.iter().find(|slot| slot.claim(range))?;
        // Release pairs with the load above.
        RECENT.store(std::ptr::from_ref(chunk).cast_mut(), Ordering::Release);
        Some(slot)
    };
    let mut chunk = recent;
    let mut has_wrapped = false;
    loop {
        if let Some(slot) = claim(chunk) {
            return slot;
        }
        chunk = match chunk.next() {
            Some(next) => next,
            None if has_wrapped => append(chunk),
            None => {
                has_wrapped = true;
                &FIRST
            }
        };
    }
}

/// Links a new chunk behind the last one, or finds that somebody else has.
fn append(last: &'static Chunk) -> &'static Chunk {
    let new = Box::into_raw(Box::new(Chunk::new()));
    // Release pairs with the load in `Chunk::next`; acquire, if another was quicker, with that one's release.
    let linked = last.next.compare_exchange(null_mut(), new, Ordering::Release, Ordering::Acquire);
    let next = match linked {
        Ok(_) => new,
        Err(theirs) => {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
            theirs
        }
    };
    // SAFETY: not null, initialised, and never freed from now on.
    unsafe { &*next }
}

/// The slot that an address is in. Async-signal-safe: only loads of atomics, each slot once.
pub(super) fn find(address: usize) -> Option<(&'static Slot, Range)> {
    let mut chunk = Some(&FIRST);
    while let Some(current) = chunk {
        for slot in &current.slots {
            if let Some(range) = slot.read()
                && (range.start..range.end).contains(&address)
            {
                return Some((slot, range));
            }
        }
        chunk = current.next();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // Addresses that no mapping of a test has: not canonical.
    fn range(n: usize, len: usize) -> Range {
        Range {
            start: (1 << 60) + (n << 30),
            end: (1 << 60) + (n << 30) + len,
            writable: n.is_multiple_of(2),
        }
    }

    #[test]
    fn what_is_registered_is_found_and_slots_are_used_again() {
        let slots: Vec<_> = (0..300).map(|n| register(range(n, 8192))).collect();
        for (n, slot) in slots.iter().enumerate() {
            let found = find(range(n, 1).start + 8191).unwrap();
            assert!(std::ptr::eq(found.0, *slot) && found.1 == range(n, 8192));
            assert!(find(range(n, 1).start + 8192).is_none() && find(range(n, 1).start - 1).is_none());
        }
        slots[7].poison();
        assert!(slots[7].is_poisoned() && !slots[8].is_poisoned());
        slots.iter().for_each(|slot| slot.release());
        assert!((0..300).all(|n| find(range(n, 1).start).is_none()));
        let again: Vec<_> = (0..300).map(|n| register(range(n, 4096))).collect();
        assert!(again.iter().all(|slot| !slot.is_poisoned()));
        assert!(again.iter().filter(|new| slots.iter().any(|old| std::ptr::eq(*old, **new))).count() > 200);
        again.iter().for_each(|slot| slot.release());
    }

    /// The start of one range is never combined with the end of another, whoever registers meanwhile.
    #[test]
    fn a_reader_never_sees_half_a_range() {
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let range = |n: usize| range(n, if n.is_multiple_of(3) { 1 << 29 } else { 4096 });
        let (slot, stop) = (Slot::new(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (slot, stop) = (&slot, &stop);
                scope.spawn(move || {
                    let mut n = thread * 1000;
                    while !stop.load(Ordering::Relaxed) {
                        n = thread * 1000 + (n + 1) % 900;
                        if slot.claim(range(n)) {
                            slot.release();
                        }
                    }
                });
            }
            // Also if an assertion fails.
            let _stop = Stop(&stop);
            let mut seen = 0;
            while seen < 200_000 {
                if let Some(found) = slot.read() {
                    assert_eq!(found, range((found.start - (1 << 60)) >> 30));
                    seen += 1;
                }
            }
        });
    }
}
