//! Who is dead, by the words of a seat of the board: the order in which they are written and read.
//!
//! `is_over` is the code itself; around it, these mirror `src/board.rs` (`attach`, `dead`, `patrol`, `pid_of`) and
//! `src/thread.rs` (`enter`). What the kernel proves (that the byte of a seat is free) is a word "byte" here.

use super::*;
use crate::raw::lock::{self, OnDeath, Taken};
use crate::raw::seat;

const OWNER_DIED: u64 = 1 << 30;
const THREAD_ID: u64 = 77;
/// Fewer than in the board, so that they come round.
const PIDS_KEPT: u64 = 2;

/// A lock, and the seat of one who takes it.
struct Seat {
    epoch: Cell,
    gone: Cell,
    live: Cell,
    pids: [Cell; PIDS_KEPT as usize],
    byte: Cell,
    word: Cell,
    data: Data,
    kernel: Kernel,
}

impl Seat {
    /// In which the first has sat down, and a thread of it has this live word.
    fn new(live: u64) -> Rc<Self> {
        Rc::new(Seat {
            epoch: Cell::new("epoch", 1),
            gone: Cell::new("gone", 0).in_all_orders(),
            live: Cell::new("live", live),
            pids: [Cell::new("pid", 0), Cell::new("pid", 1001)],
            byte: Cell::new("byte", 0),
            word: Cell::new("word", 0),
            data: Data::new(),
            kernel: Kernel::new(),
        })
    }

    /// As `Board::attach`: another process sits down.
    fn attach(&self) -> u64 {
        let old = self.epoch.load(Acquire);
        self.gone.max(old, AcqRel);
        self.live.swap(0, AcqRel);
        let new = old + 1;
        self.pids[(new % PIDS_KEPT) as usize].store(1000 + new, Release);
        self.epoch.store(new, Release);
        new
    }

    /// As `enter` in `src/thread.rs`.
    fn enter(&self, epoch: u64) -> Id {
        self.live.store(THREAD_ID, Release);
        Id::new(1, 0, epoch)
    }

    /// As `Board::patrol`, with the byte for what the kernel says.
    fn patrol(&self, id: Id) -> bool {
        if seat::is_over(&self.epoch, &self.gone, id) {
            return true;
        }
        let free = self.byte.load(Acquire) != 0;
        if free {
            self.gone.max(id.epoch(), AcqRel);
        }
        free
    }

    /// As `Board::pid_of`.
    fn pid_of(&self, id: Id) -> Option<u64> {
        let pid = self.pids[(id.epoch() % PIDS_KEPT) as usize].load(Acquire);
        let age = self.epoch.load(Acquire).checked_sub(id.epoch())?;
        (age < PIDS_KEPT - 1 && pid != 0).then_some(pid)
    }

    fn take(&self, me: Id) -> Taken {
        if lock::try_fast(&self.word, me) {
            return Taken::Free;
        }
        lock::acquire(&self.word, me, self, OnDeath::Pass, &mut Nap::forever()).expect("it waits")
    }
}

/// The second seat's is nobody who dies.
impl World<Cell> for Seat {
    /// As `Board::dead`.
    fn dead(&self, id: Id) -> bool {
        if id.k() != 1 {
            return false;
        }
        seat::is_over(&self.epoch, &self.gone, id) || self.live.load(Acquire) & OWNER_DIED != 0
    }
    fn spin(&self, _: impl FnMut() -> bool) -> bool {
        false
    }
    fn sleep(&self, word: &Cell, expected: u64, _: Id, nap: &mut Nap) -> io::Result<Rest> {
        Ok(self.kernel.sleep(word, expected, None, true, nap))
    }
    fn pid(&self, _: Id) -> u32 {
        0
    }
    fn wake(&self, word: &Cell, count: u32) {
        self.kernel.wake(word, count);
    }
}

const OTHER: usize = 2;

/// Somebody sits down where another one has died, and takes a lock. Nobody who finds it in the word takes it for dead.
fn newcomer() {
    let seat = Seat::new(OWNER_DIED);
    let other = spawn(&seat, |seat| {
        let me = seat.enter(seat.attach());
        assert_eq!(seat.take(me), Taken::Free);
        seat.data.add(1);
        assert!(lock::release(&seat.word, me, seat), "wrong: taken for dead");
    });
    let me = id(OTHER);
    assert_eq!(seat.take(me), Taken::Free, "wrong: taken from a living one");
    seat.data.add(1);
    assert!(lock::release(&seat.word, me, &*seat));
    join([other]);
    assert_eq!(seat.data.get(), 2);
}

#[test]
fn a_newcomer_is_not_taken_for_dead() {
    holds(OF_FEW_STEPS, newcomer);
    fails(How::Wrong, |op| op.no_release_if(op.takes()), newcomer);
    let no_fence: Mutant = |op| op.relax_if(op.act == Act::Fence && op.ordering == Acquire);
    fails(How::Wrong, no_fence, newcomer);
}

/// The first one writes and dies. `learns` has proof from the kernel, and says so; who believes it sees what was written.
fn proof(learns: fn(&Seat)) {
    let seat = Seat::new(THREAD_ID);
    let first = spawn(&seat, |seat| {
        seat.data.add(1);
        seat.byte.store(1, Release);
    });
    let other = spawn(&seat, learns);
    if World::<Cell>::dead(&*seat, id(1)) {
        assert_eq!(seat.data.get(), 1);
    }
    join([first, other]);
}

fn by_patrol() {
    proof(|seat| _ = seat.patrol(id(1)));
}

fn by_the_next_one() {
    proof(|seat| {
        if seat.byte.load(Acquire) != 0 {
            seat.attach();
        }
    });
}

/// A thread that ends with a guard leaked says itself that it is dead, as `Registered::drop` in `src/thread.rs`.
fn by_itself() {
    let seat = Seat::new(THREAD_ID);
    let first = spawn(&seat, |seat| {
        seat.data.add(1);
        seat.live.swap(OWNER_DIED, AcqRel);
    });
    if World::<Cell>::dead(&*seat, id(1)) {
        assert_eq!(seat.data.get(), 1);
    }
    join([first]);
}

#[test]
fn who_believes_a_death_sees_what_was_done_before() {
    holds(OF_FEW_STEPS, by_patrol);
    holds(OF_FEW_STEPS, by_the_next_one);
    holds(OF_FEW_STEPS, by_itself);
    fails(How::Race, |op| op.no_release_if(op.is("gone", Act::Rmw)), by_patrol);
    fails(How::Race, |op| op.no_acquire_if(op.is("gone", Act::Load)), by_patrol);
    fails(How::Race, |op| op.no_release_if(op.is("epoch", Act::Store)), by_the_next_one);
    fails(How::Race, |op| op.no_acquire_if(op.is("epoch", Act::Load)), by_the_next_one);
    fails(How::Race, |op| op.no_release_if(op.is("live", Act::Rmw)), by_itself);
    fails(How::Race, |op| op.no_acquire_if(op.is("live", Act::Load)), by_itself);
}

/// The entry of a process id is used again: it is not taken for that of the one before.
fn process_ids() {
    let seat = Seat::new(THREAD_ID);
    let others = spawn(&seat, |seat| (0..2).for_each(|_| _ = seat.attach()));
    let pid = seat.pid_of(id(1));
    assert!(matches!(pid, None | Some(1001)), "wrong process: {pid:?}");
    join([others]);
}

/// Who is found in a word has a process id that is its own.
fn process_id_of_an_owner() {
    let seat = Seat::new(0);
    let other = spawn(&seat, |seat| {
        let me = seat.enter(seat.attach());
        assert!(lock::try_fast(&seat.word, me));
    });
    if let Some(owner) = Id::of(Word::load(&seat.word, Relaxed)) {
        // Asked first, always: with its fence.
        assert!(!World::<Cell>::dead(&*seat, owner), "wrong: alive");
        assert_eq!(seat.pid_of(owner), Some(1002), "wrong process");
    }
    join([other]);
}

#[test]
fn process_ids_are_those_of_the_owner() {
    holds(OF_FEW_STEPS, process_ids);
    holds(OF_FEW_STEPS, process_id_of_an_owner);
    fails(How::Wrong, |op| op.no_release_if(op.is("pid", Act::Store)), process_ids);
    fails(How::Wrong, |op| op.no_acquire_if(op.is("pid", Act::Load)), process_ids);
}
