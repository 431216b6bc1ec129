//! The ring of slots: one word each says which lap it is in and whether it is full, and two positions say where to look.
//!
//! Senders and receivers meet in the slots' states alone. A position is moved behind the state; who finds one that was left
//! behind by a death moves it on.

use std::io;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use super::Word;
use crate::queue::scribbled;

/// A lap of the ring above a slot.
///
/// ```text
///  0           24                              64
///  | slot: 24  | lap: 40                        |
/// ```
///
/// A slot's state is twice the lap that it is free for, and one more when it is full. A million laps a second take
/// twelve days to come around, and then only the laps next to each other are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position(pub(crate) u64);

const INDEX: u64 = (1 << 24) - 1;
pub(crate) const STATES: u64 = (1 << 41) - 1;

impl Position {
    /// Whether it is one out of 128, whatever the capacity.
    #[inline]
    pub(crate) fn is_milestone(self) -> bool {
        (self.0 ^ self.lap()) & 127 == 0
    }

    pub(crate) fn index(self) -> usize {
        (self.0 & INDEX) as usize
    }

    pub(crate) fn lap(self) -> u64 {
        self.0 >> 24
    }

    pub(crate) fn next(self, capacity: usize) -> Self {
        if self.index() + 1 < capacity { Position(self.0 + 1) } else { Position((self.lap() + 1) << 24) }
    }

    /// So many slots on, if that is less than the capacity.
    pub(crate) fn ahead(self, slots: usize, capacity: usize) -> Self {
        let index = self.index() + slots;
        if index < capacity {
            Position(self.0 + slots as u64)
        } else {
            Position((self.lap() + 1) << 24 | (index - capacity).min(capacity - 1) as u64)
        }
    }

    pub(crate) fn free(self) -> u64 {
        (2 * self.lap()) & STATES
    }

    pub(crate) fn full(self) -> u64 {
        self.free() + 1
    }

    /// The state of the slot in the lap after this one.
    pub(crate) fn taken(self) -> u64 {
        (self.free() + 2) & STATES
    }

    /// The state of the slot with a message in the lap after this one.
    pub(crate) fn full_again(self) -> u64 {
        (self.free() + 3) & STATES
    }

    /// The state of a slot that has still the message of the lap before.
    pub(crate) fn full_before(self) -> u64 {
        self.free().wrapping_sub(1) & STATES
    }
}

/// A position as it stands somewhere, if there is such a slot.
#[inline]
pub(crate) fn position<A: Word>(word: &A, ordering: Ordering, capacity: usize) -> io::Result<Position> {
    let position = Position(word.load(ordering));
    if position.index() < capacity { Ok(position) } else { Err(scribbled()) }
}

/// With the senders' latch: the slot that is to be filled next, and its state, if it is free.
#[inline]
pub(crate) fn room<'a, A: Word + 'a>(
    tail: &A,
    capacity: usize,
    state: impl Fn(Position) -> &'a A,
) -> io::Result<Option<(Position, &'a A)>> {
    // Relaxed: with the latch.
    let mut at = position(tail, Relaxed, capacity)?;
    // As many as there are slots were left behind at most: by one who died before it moved `tail`.
    for _ in 0..=capacity {
        let state = state(at);
        // Acquire: with the Release in `done_with`: what was in the slot has been read.
        let now = state.load(Acquire);
        if now == at.free() {
            return Ok(Some((at, state)));
        }
        if now == at.full_before() {
            return Ok(None);
        }
        // Its message may have been received since.
        if now != at.full() && now != at.taken() {
            return Err(scribbled());
        }
        at = at.next(capacity);
        tail.store(at.0, Relaxed);
    }
    Err(scribbled())
}

/// With the senders' latch: the slot was filled.
#[inline]
pub(crate) fn commit<A: Word>(tail: &A, capacity: usize, at: Position, state: &A) {
    // Release: with the Acquire in `first`.
    state.store(at.full(), Release);
    tail.store(at.next(capacity).0, Relaxed);
}

/// With the receivers' latch: the slot of the next message and its state, and whether the message is there.
#[inline]
pub(crate) fn first<'a, A: Word + 'a>(
    head: &A,
    capacity: usize,
    state: impl Fn(Position) -> &'a A,
) -> io::Result<(Position, &'a A, bool)> {
    // Relaxed: with the latch.
    let mut at = position(head, Relaxed, capacity)?;
    // As many as there are slots were left behind at most: by one who died before it moved `head`.
    for _ in 0..=capacity {
        let state = state(at);
        // Acquire: with the Release in `commit`.
        let now = state.load(Acquire);
        if now == at.full() || now == at.free() {
            return Ok((at, state, now == at.full()));
        }
        // The slot may have been filled again since.
        if now != at.taken() && now != at.full_again() {
            return Err(scribbled());
        }
        at = at.next(capacity);
        move_head(head, at);
    }
    Err(scribbled())
}

/// With the receivers' latch: the message is not in the slot any more.
#[inline]
pub(crate) fn done_with<A: Word>(head: &A, capacity: usize, at: Position, state: &A) {
    // Release: with the Acquire in `room`.
    state.store(at.taken(), Release);
    move_head(head, at.next(capacity));
}

#[inline]
fn move_head<A: Word>(head: &A, to: Position) {
    // Release: with the Acquire in `has_message`.
    head.store(to.0, Release);
}

/// Whether there is a message, as far as one look tells. If there is none, where those went that were taken out is seen.
#[inline]
pub(crate) fn has_message<'a, A: Word + 'a>(
    head: &A,
    capacity: usize,
    state: impl Fn(Position) -> &'a A,
) -> bool {
    // Acquire: with the Release in `move_head`: who looks among the leases next, since the slot at `head` is empty, finds
    // the messages there that were in the slots before.
    let at = position(head, Acquire, capacity);
    // Relaxed: who takes it looks again, with the latch.
    at.is_ok_and(|at| state(at).load(Relaxed) != at.free())
}

/// Whether there is a slot for a message, as far as one look tells.
#[inline]
pub(crate) fn has_room<'a, A: Word + 'a>(
    tail: &A,
    capacity: usize,
    state: impl Fn(Position) -> &'a A,
) -> bool {
    // Relaxed, both: who fills it looks again, with the latch.
    position(tail, Relaxed, capacity).is_ok_and(|at| state(at).load(Relaxed) != at.full_before())
}
