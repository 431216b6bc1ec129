//! What those sleep on who wait for messages, or for room.
//!
//! Who has done something looks at the bell afterwards; who finds nothing to do arms it, looks once more, and sleeps. So
//! either the one sees the flag, or the other what was done. The order of it all is in [`crate::raw::bell`].
//!
//! One ring wakes one, and takes the flag away. Who has slept puts it back when it is done, and rings for the next one if
//! something is left: so none is forgotten, and a death in between costs others one tick.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use ipc_sync::object::{Id, Nap, Object, Rest, Word32};

use crate::raw::bell;

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
        if bell::ring(&*self.word) {
            self.wake_one();
        }
    }

    /// As [`ring`](Self::ring), for all who sleep: what was done may be enough for any of them, or for none.
    pub(crate) fn ring_for_all(&self) {
        if bell::ring_for_all(&*self.word) {
            Object::wake(&self.word, u32::MAX);
        }
    }

    /// As [`ring`](Self::ring), for who has given a latch back since: by a locked instruction, which on x86 orders as a
    /// fence does. One more would cost as much as all the rest of a ring.
    #[inline]
    pub(crate) fn ring_after_latch(&self) {
        if bell::ring_after_latch(&*self.word) {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        Object::wake(&self.word, 1);
    }

    /// All who sleep are to look: the other side is gone, or comes.
    pub(crate) fn ring_all(&self) {
        bell::ring_all(&*self.word);
        Object::wake(&self.word, u32::MAX);
    }

    /// Says that this thread is about to sleep: the word that it is to sleep on as long as nothing is rung. What it waits
    /// for is to be looked at again after this.
    pub(crate) fn arm(&self) -> u32 {
        bell::arm(&*self.word)
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
        if bell::settle(&*self.word, more) {
            self.wake_one();
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
