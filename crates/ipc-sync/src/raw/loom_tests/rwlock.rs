//! Readers and a writer. The words are those of `src/rwlock.rs`, `Cells`.

use super::*;
use crate::raw::lock::{self, OnDeath, Refused, Taken};
use crate::raw::rwlock::{self as raw, Words};

struct Lock {
    writer: Cell,
    phase: Cell,
    places: Vec<Cell>,
    data: Data,
    kernel: Rc<Kernel>,
    most: u32,
}

impl Words<Cell> for Lock {
    fn writer(&self) -> &Cell {
        &self.writer
    }
    fn places(&self) -> usize {
        self.places.len()
    }
    fn place(&self, index: usize) -> &Cell {
        &self.places[index]
    }
    fn may_have_written(&self) -> bool {
        self.phase.load(Relaxed) != 0
    }
    fn set_phase(&self, may_have_written: bool) {
        self.phase.store(may_have_written.into(), Relaxed);
    }
}

impl Lock {
    fn new(places: usize, kernel: Kernel) -> Rc<Self> {
        Rc::new(Lock::empty(places, kernel))
    }
    fn empty(places: usize, kernel: Kernel) -> Self {
        let places = (0..places).map(|_| Cell::new("place", 0)).collect();
        let (writer, phase) = (Cell::new("writer", 0), Cell::new("phase", 0));
        Lock { writer, phase, places, data: Data::new(), kernel: Rc::new(kernel), most: u32::MAX }
    }
    fn view(&self) -> View {
        View { most: self.most, ..View::of(&self.kernel) }
    }
    fn read(&self, me: Id) -> Result<usize, Refused> {
        raw::read(self, me, &self.view(), OnDeath::Tell, &mut Nap::forever())
    }
    fn unread(&self, index: usize, me: Id) {
        assert!(raw::unread(self, index, me, &self.view()), "wrong: not reading");
    }
    fn write(&self, me: Id, on_death: OnDeath) -> Result<Taken, Refused> {
        raw::write(self, me, &self.view(), on_death, &mut Nap::forever())
    }
    fn unwrite(&self, me: Id) {
        assert!(raw::unwrite(self, me, &self.view()), "wrong: not writing");
    }
    fn look(&self, me: Id) -> u64 {
        let index = self.read(me).expect("nobody has died");
        let seen = self.data.get();
        self.unread(index, me);
        seen
    }
    fn change(&self, me: Id) {
        let taken = self.write(me, OnDeath::Tell);
        assert!(matches!(taken, Ok(Taken::Free)), "wrong: {taken:?}");
        self.data.add(1);
        self.unwrite(me);
    }
}

/// One that reads twice, and one that writes.
fn reader_and_writer() {
    let lock = Lock::new(1, Kernel::new());
    let writer = spawn(&lock, |lock| lock.change(id(1)));
    let first = lock.look(id(2));
    assert!(first <= lock.look(id(2)), "wrong: back in time");
    join([writer]);
    assert_eq!(lock.data.get(), 1);
    assert_eq!((lock.writer.newest(), lock.places[0].newest()), (0, 0));
}

fn two_writers() {
    let lock = Lock::new(1, Kernel::new());
    let other = spawn(&lock, |lock| lock.change(id(1)));
    lock.change(id(2));
    join([other]);
    assert_eq!(lock.data.get(), 2);
}

/// Two readers with a place each, and a writer.
fn two_readers() {
    readers_within(u32::MAX);
}

/// Where so many are woken at most.
fn readers_within(most: u32) {
    let lock = Lock { most, ..Lock::empty(2, Kernel::new()) };
    let lock = Rc::new(lock);
    let readers = [1, 2].map(|k| spawn(&lock, move |lock| _ = lock.look(id(k))));
    lock.change(id(3));
    join(readers);
}

/// Two readers with one place, and a writer: some sleep on the place, some on the writer's word.
fn one_place() {
    let lock = Lock::new(1, Kernel::new());
    let reader = spawn(&lock, |lock| _ = lock.look(id(1)));
    let writer = spawn(&lock, |lock| lock.change(id(2)));
    lock.look(id(3));
    join([reader, writer]);
}

#[test]
fn readers_or_a_writer() {
    holds(OF_TWO, reader_and_writer);
    holds(OF_TWO, two_writers);
    holds(OF_THREE, two_readers);
    holds(OF_THREE, one_place);
}

#[test]
fn the_fence_lets_one_see_the_other() {
    let dropped: Mutant = |op| op.relax_if(op.act == Act::Fence);
    fails(How::Race, dropped, reader_and_writer);
    // The reader's comes after its place, the writer's after its word or the phase.
    let readers: Mutant = |op| op.relax_if(op.is("place", Act::Fence));
    let writers: Mutant = |op| op.relax_if(op.act == Act::Fence && op.role != "place");
    fails(How::Race, readers, reader_and_writer);
    fails(How::Race, writers, reader_and_writer);
    let weaker: Mutant = |op| {
        if op.act == Act::Fence {
            op.ordering = AcqRel
        }
    };
    fails(How::Race, weaker, reader_and_writer);
}

#[test]
fn what_was_written_is_read() {
    // The writer's release, and what readers and the next writer take.
    let release: Mutant = |op| op.no_release_if(op.role == "writer" && op.gives_back());
    fails(How::Race, release, reader_and_writer);
    fails(How::Race, release, two_writers);
    // The writer's fence acquires as well.
    holds_without(|op| op.no_acquire_if(op.role == "writer" && op.takes()), two_writers);
    fails(How::Race, |op| op.no_acquire_if(op.is("writer", Act::Load)), reader_and_writer);
}

#[test]
fn what_was_read_is_not_overwritten() {
    let release: Mutant = |op| op.no_release_if(op.role == "place" && op.gives_back());
    fails(How::Race, release, reader_and_writer);
    fails(How::Race, |op| op.no_acquire_if(op.is("place", Act::Load)), reader_and_writer);
}

#[test]
fn who_sleeps_is_woken() {
    // All who sleep for a word: the one that is woken first would leave the other one asleep.
    fails(How::Stuck, |_| (), || readers_within(1));
}

/// A writer dies after it wrote: readers are told, and one that recovers sees what there is.
fn writer_dies() {
    let lock = Lock::new(1, Kernel::with_deaths(2));
    let writer = spawn(&lock, |lock| {
        lock.write(id(1), OnDeath::Tell).expect("nobody else died");
        lock.data.add(1);
        lock.kernel.die(id(1), Release);
    });
    match lock.read(id(2)) {
        Ok(index) => {
            assert_eq!(lock.data.get(), 0, "wrong: half done");
            lock.unread(index, id(2));
        }
        Err(Refused::OwnerDied(dead)) => {
            assert_eq!(dead, id(1));
            let taken = lock.write(id(2), OnDeath::Recover);
            assert!(matches!(taken, Ok(Taken::FromDead(_))), "wrong: {taken:?}");
            lock.data.add(1);
            assert!(lock::repaired(&lock.writer, id(2)));
            lock.unwrite(id(2));
        }
        other => panic!("wrong: {other:?}"),
    }
    join([writer]);
}

/// A writer dies when it has written, and has said so. Two readers take it out, or find it taken out.
fn writer_dies_late() {
    let lock = Lock::new(2, Kernel::with_deaths(3));
    let writer = spawn(&lock, |lock| {
        lock.write(id(1), OnDeath::Tell).expect("nobody else died");
        lock.data.add(1);
        // As `unwrite`, cut off.
        lock.set_phase(false);
        lock.kernel.die(id(1), Release);
    });
    let reader = spawn(&lock, |lock| _ = lock.look(id(2)));
    lock.look(id(3));
    join([writer, reader]);
}

/// A writer dies before it wrote, of which nothing is known but the fact. Readers see what was written before.
fn writer_dies_early() {
    let lock = Lock::new(1, Kernel::with_deaths(3));
    let writer = spawn(&lock, |lock| {
        lock.change(id(1));
        // Another one, which nothing but the word orders after the first: as `write`, cut off.
        if lock::try_fast(&lock.writer, id(2)) {
            lock.kernel.die(id(2), Relaxed);
        }
    });
    // The phase of the first may still seem to be there: that costs a needless recovery.
    match lock.read(id(3)) {
        Ok(index) => {
            lock.data.get();
            lock.unread(index, id(3));
        }
        Err(Refused::OwnerDied(dead)) => assert_eq!(dead, id(2)),
        other => panic!("wrong: {other:?}"),
    }
    join([writer]);
}

/// A writer has died before it wrote, and the next one writes. That one's phase is not taken for the dead one's.
fn next_writer() {
    let kernel = Kernel::with_deaths(3);
    kernel.gone[1].store(1, Relaxed);
    let lock = Lock { writer: Cell::new("writer", id(1).word()), ..Lock::empty(1, kernel) };
    let lock = Rc::new(lock);
    let writer = spawn(&lock, |lock| lock.change(id(2)));
    match lock.read(id(3)) {
        Ok(index) => lock.unread(index, id(3)),
        Err(refused) => panic!("wrong: {refused:?}"),
    }
    join([writer]);
}

/// A reader dies. The writer takes its place back.
fn reader_dies() {
    let lock = Lock::new(1, Kernel::with_deaths(3));
    let reader = spawn(&lock, |lock| {
        lock.look(id(1));
        // Another one, in the same place.
        lock.read(id(2)).expect("nobody writes and dies");
        lock.kernel.die(id(2), Relaxed);
    });
    lock.change(id(3));
    join([reader]);
}

#[test]
fn deaths() {
    holds(OF_TWO, writer_dies);
    holds(OF_THREE, writer_dies_late);
    holds(OF_TWO, writer_dies_early);
    holds(OF_TWO, reader_dies);
    holds(OF_TWO, next_writer);
    // Whoever believes a death sees all that the dead one has done: its phase, and its data.
    fails(How::Wrong, |op| op.no_acquire_if(op.is("gone", Act::Load)), writer_dies);
    fails(How::Race, |op| op.no_release_if(op.is("gone", Act::Store)), writer_dies);
    // Who takes a dead writer out passes on what it has seen of it.
    fails(How::Race, |op| op.no_release_if(op.role == "writer" && op.gives_back()), writer_dies_late);
    fails(How::Race, |op| op.no_acquire_if(op.is("writer", Act::Load)), writer_dies_early);
    fails(How::Race, |op| op.no_acquire_if(op.is("place", Act::Load)), reader_dies);
    let no_fence: Mutant = |op| op.relax_if(op.act == Act::Fence && op.ordering == Acquire);
    fails(How::Wrong, no_fence, next_writer);
}
