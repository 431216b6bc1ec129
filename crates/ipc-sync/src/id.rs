//! The word that names an owner.

use std::fmt;

/// Others sleep until the word changes.
pub(crate) const W: u64 = 1;
/// What the word protects is in an inconsistent state.
pub(crate) const I: u64 = 2;
/// The bits of a word that are its own, not the Id's.
pub(crate) const TAGS: u64 = W | I;

const SEAT_SHIFT: u32 = 2;
const THREAD_SHIFT: u32 = 12;
const EPOCH_SHIFT: u32 = 18;

/// Seats of a board, of which the first stands for nobody.
pub(crate) const SEATS: usize = 1 << (THREAD_SHIFT - SEAT_SHIFT);
/// `j` of what the process as a whole owns.
pub(crate) const WHOLE_PROCESS: u32 = (1 << (EPOCH_SHIFT - THREAD_SHIFT)) - 1;
/// Epochs have 46 bits: a million incarnations a second last two years for each seat.
pub(crate) const EPOCH_MASK: u64 = (1 << (64 - EPOCH_SHIFT)) - 1;

/// Who owns something: seat `k`, thread `j` of its process, incarnation `epoch` of the seat.
///
/// ```text
///  0   1   2        12      18                      64
///  | W | I | k: 10  | j: 6  | epoch: 46               |       low 32 bits: the futex
/// ```
///
/// An `Id` has the tags W and I clear; zero is nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u64);

impl Id {
    pub(crate) fn new(k: usize, j: u32, epoch: u64) -> Self {
        debug_assert!(0 < k && k < SEATS && j <= WHOLE_PROCESS);
        Id((k as u64) << SEAT_SHIFT | u64::from(j) << THREAD_SHIFT | (epoch & EPOCH_MASK) << EPOCH_SHIFT)
    }

    /// The owner that a word names, whatever its tags; `None` for nobody.
    #[inline]
    pub fn of(word: u64) -> Option<Self> {
        (Id(word).k() != 0).then_some(Id(word & !TAGS))
    }

    /// The word without tags.
    #[inline]
    pub fn word(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn k(self) -> usize {
        (self.0 >> SEAT_SHIFT) as usize & (SEATS - 1)
    }

    pub(crate) fn j(self) -> u32 {
        (self.0 >> THREAD_SHIFT) as u32 & WHOLE_PROCESS
    }

    pub(crate) fn epoch(self) -> u64 {
        self.0 >> EPOCH_SHIFT
    }

    /// The same process as a whole.
    pub fn process(self) -> Self {
        Id(self.0 | u64::from(WHOLE_PROCESS) << THREAD_SHIFT)
    }

    /// Whether it names one thread and no other.
    pub(crate) fn is_thread(self) -> bool {
        self.j() != WHOLE_PROCESS
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.k(), self.j(), self.epoch())
    }
}

/// What a word with I and no owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownerless {
    /// Somebody began to repair after a death and left it so.
    Unrepaired,
    /// It was given up.
    GivenUp,
}

/// A word that names no owner but the process that died.
pub(crate) fn ownerless(why: Ownerless, pid: u32) -> u64 {
    let j = match why {
        Ownerless::Unrepaired => 0,
        Ownerless::GivenUp => 1,
    };
    I | j << THREAD_SHIFT | u64::from(pid) << EPOCH_SHIFT
}

/// What [`ownerless`] has put into a word that names nobody and has I.
pub(crate) fn read_ownerless(word: u64) -> (Ownerless, u32) {
    let why = if Id(word).j() == 0 { Ownerless::Unrepaired } else { Ownerless::GivenUp };
    (why, Id(word).epoch() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        for (k, j, epoch) in [(1, 0, 1), (1023, 63, EPOCH_MASK), (512, 55, 1 << 45)] {
            let id = Id::new(k, j, epoch);
            assert_eq!((id.k(), id.j(), id.epoch()), (k, j, epoch));
            assert_eq!(Id::of(id.word() | W | I), Some(id));
            assert_eq!(id.process().j(), WHOLE_PROCESS);
        }
        assert_eq!(Id::of(W | I), None);
    }

    #[test]
    fn what_has_no_owner_names_the_dead() {
        for why in [Ownerless::Unrepaired, Ownerless::GivenUp] {
            let word = ownerless(why, 4_194_304);
            assert_eq!(Id::of(word), None);
            assert_eq!(read_ownerless(word | W), (why, 4_194_304));
        }
    }
}
