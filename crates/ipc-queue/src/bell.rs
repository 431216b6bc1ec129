//! What those sleep on who wait for messages, or for room.
//!
//! Who has done something looks at the bell afterwards; who finds nothing to do arms it, looks once more, and sleeps. So
//! either the one sees the flag, or the other what was done: the fences of [`Bell::ring`] and [`Bell::arm`] pair.
//!
//! One ring wakes one, and takes the flag away. Who has slept puts it back when it is done, and rings for the next one if
//! something is left: so none is forgotten, and a death in between costs others one tick.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, compiler_fence, fence};

use ipc_sync::object::{Id, Nap, Object, Rest, Word32};

/// Somebody may sleep.
const SLEEPERS: u32 = 1;
/// Rings are counted above the flag, so that the word is another one after each.
const ONCE: u32 = 2;

#[derive(Debug)]
pub(crate) struct Bell {
    word: Word32,
    /// A hint that nobody is left on the side which rings would wake.
    gone: Word32,
}

impl Bell {
    pub(crate) fn of(object: &Object, at: usize) -> io::Result<Self> {
        Ok(Bell { word: object.word32(at)?, gone: object.word32(at + 4)? })
    }

    /// Something was done that one who sleeps may wait for.
    #[inline]
    pub(crate) fn ring(&self) {
        // With the fence in `arm`.
        fence(SeqCst);
        self.look();
    }

    /// As [`ring`](Self::ring), for all who sleep: what was done may be enough for any of them, or for none.
    pub(crate) fn ring_for_all(&self) {
        // With the fence in `arm`.
        fence(SeqCst);
        if self.word.load(Relaxed) & SLEEPERS != 0 && self.word.fetch_and(!SLEEPERS, Relaxed) & SLEEPERS != 0
        {
            self.word.fetch_add(ONCE, Relaxed);
            Object::wake(&self.word, u32::MAX);
        }
    }

    /// As [`ring`](Self::ring), for who has given a latch back since: by a locked instruction, which on x86 orders as a
    /// fence does. One more would cost as much as all the rest of a ring.
    #[inline]
    pub(crate) fn ring_after_latch(&self) {
        if cfg!(target_arch = "x86_64") {
            compiler_fence(SeqCst);
        } else {
            fence(SeqCst);
        }
        self.look();
    }

    #[inline]
    fn look(&self) {
        let word = self.word.load(Relaxed);
        if word & SLEEPERS != 0 {
            self.ring_out(word);
        }
    }

    #[cold]
    fn ring_out(&self, mut word: u32) {
        while word & SLEEPERS != 0 {
            let rung = (word & !SLEEPERS).wrapping_add(ONCE);
            // Relaxed: who is woken looks at what was done itself, behind the fence of `arm` or of its latch.
            match self.word.compare_exchange(word, rung, Relaxed, Relaxed) {
                Ok(_) => return Object::wake(&self.word, 1),
                Err(now) => word = now,
            }
        }
    }

    /// All who sleep are to look: the other side is gone, or comes.
    pub(crate) fn ring_all(&self) {
        fence(SeqCst);
        self.word.fetch_add(ONCE, Relaxed);
        Object::wake(&self.word, u32::MAX);
    }

    /// Says that this thread is about to sleep: the word that it is to sleep on as long as nothing is rung. What it waits
    /// for is to be looked at again after this.
    pub(crate) fn arm(&self) -> u32 {
        let armed = self.word.fetch_or(SLEEPERS, Relaxed) | SLEEPERS;
        // With the fence in `ring`.
        fence(SeqCst);
        armed
    }

    pub(crate) fn sleep(
        &self,
        object: &Object,
        armed: u32,
        owners: &[Id],
        nap: &mut Nap,
    ) -> io::Result<Rest> {
        let ticks = nap.ticks();
        let rest = object.sleep(&self.word, armed, owners, nap)?;
        if rest == Rest::Woken && nap.ticks() == ticks && self.word.load(Relaxed) == armed {
            // Neither by a ring nor by the clock: somebody died, and what it had will be free soon.
            nap.hurry();
        }
        Ok(rest)
    }

    /// What is slept on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// For who has slept: others may sleep still, and `more` says whether there is something for one of them.
    pub(crate) fn settle(&self, more: impl FnOnce() -> bool) {
        self.arm();
        if more() {
            self.ring();
        }
    }

    /// Whether somebody has said that nobody is left on the side that this bell wakes. To be asked of the kernel.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed) != 0
    }

    pub(crate) fn set_gone(&self, gone: bool) {
        self.gone.store(u32::from(gone), Relaxed);
    }
}
