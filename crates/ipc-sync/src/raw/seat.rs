//! What a seat of the board says about one who sat there.

use std::sync::atomic::Ordering::Acquire;

use super::Word;
use crate::id::{EPOCH_MASK, Id};

/// Whether that incarnation of the seat is over, by the words of the seat. The Id was read from a word before.
#[inline]
pub(crate) fn is_over<A: Word>(epoch: &A, gone: &A, id: Id) -> bool {
    // With the Release of the one who has put its Id into the word: else a newcomer's epoch might not be seen yet, and it
    // be taken for dead.
    A::fence_acquire();
    // Acquire, both: what the dead one wrote, from those who have proof of its death: with the Release of the one who sits
    // there now (the last of `Board::attach`), and with that of `Board::patrol`.
    epoch.load(Acquire) & EPOCH_MASK != id.epoch() || gone.load(Acquire) >= id.epoch()
}
