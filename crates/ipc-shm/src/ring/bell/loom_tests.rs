//! Counts and bells under `loom`: what was counted is there, and nobody sleeps through news. What loom does not show is
//! said in `ipc_sync`'s `raw::loom_tests`. The bytes of the ring are a cell in which loom sees data races.

use std::cell::Cell;
use std::io;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use ipc_sync::object::{Nap, Rest};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::{ASLEEP, Bell, Count, Outcome, World, arm, publish, ring, rouse, wait};

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    ReleaseOfCount,
    AcquireOfCount,
    FenceOfWhoCounts,
    FenceOfWhoWaits,
    FenceOfWhoCloses,
    /// Who sleeps elsewhere asks for the other end before it has left its mark.
    AsksBeforeMark,
    /// An end is closed without a sound for who waits there.
    Rousing,
    /// Who goes to sleep leaves no mark.
    Mark,
    /// The mark stays in when somebody is woken.
    TakingOut,
    Wake,
    /// An end goes without a sound.
    BellOfWhoGoes,
    /// An end rings before it has let go of its role.
    RoleFirst,
    /// Who is told that nobody has the other end believes what it saw before.
    LastLook,
    /// Who has a batch in hand waits before it has counted it.
    WaitsWithBatch(usize),
    /// Who reads a batch counts a frame that it has not read yet.
    CountsFirst,
}

thread_local! {
    // loom runs all threads of a model in the thread that checks it.
    static MUTANT: Cell<Mutant> = const { Cell::new(Mutant::None) };
    /// Whose fence comes next: loom switches before an access, not after it.
    static NEXT: Cell<Mutant> = const { Cell::new(Mutant::FenceOfWhoWaits) };
    /// The next look is the one after the kernel's answer.
    static IS_LAST: Cell<bool> = const { Cell::new(false) };
}

fn is(mutant: Mutant) -> bool {
    MUTANT.get() == mutant
}

fn unless(mutant: Mutant, ordering: Ordering) -> Ordering {
    if is(mutant) { Relaxed } else { ordering }
}

impl Count for AtomicU64 {
    fn load(&self, ordering: Ordering) -> u64 {
        assert_eq!(ordering, Acquire);
        if IS_LAST.replace(false) && is(Mutant::LastLook) {
            return 0;
        }
        AtomicU64::load(self, unless(Mutant::AcquireOfCount, ordering))
    }
    fn store(&self, count: u64, ordering: Ordering) {
        assert_eq!(ordering, Release);
        AtomicU64::store(self, count, unless(Mutant::ReleaseOfCount, ordering));
        NEXT.set(Mutant::FenceOfWhoCounts);
    }
}

impl Bell for AtomicU32 {
    fn load(&self, ordering: Ordering) -> u32 {
        AtomicU32::load(self, ordering)
    }
    fn or(&self, bits: u32, ordering: Ordering) -> u32 {
        let before =
            if is(Mutant::Mark) { AtomicU32::load(self, ordering) } else { self.fetch_or(bits, ordering) };
        NEXT.set(Mutant::FenceOfWhoWaits);
        before
    }
    fn and(&self, bits: u32, ordering: Ordering) -> u32 {
        if std::thread::panicking() {
            // A mutant was caught, and the model is over.
            return 0;
        }
        if is(Mutant::TakingOut) { AtomicU32::load(self, ordering) } else { self.fetch_and(bits, ordering) }
    }
    fn fence() {
        if !is(NEXT.get()) {
            fence(Ordering::SeqCst);
        }
    }
}

/// A ring with a few places, and who has which end, as the kernel knows it.
struct Ring {
    tail: AtomicU64,
    head: AtomicU64,
    bells: [AtomicU32; 2],
    places: Vec<UnsafeCell<()>>,
    /// The ends that their own process has closed.
    closed: [AtomicU32; 2],
    kernel: Mutex<[bool; 2]>,
    woken: Condvar,
}

const WRITER: usize = 0;
const READER: usize = 1;

struct End<'a>(&'a Ring, usize);

impl World<AtomicU32> for End<'_> {
    fn spin(&self, mut done: impl FnMut() -> bool) -> bool {
        done()
    }
    fn is_peer_there(&self) -> io::Result<bool> {
        if AtomicU32::load(&self.0.closed[self.1], Relaxed) != 0 {
            return Ok(false);
        }
        let there = self.0.kernel.lock().expect("nobody panics")[1 - self.1];
        IS_LAST.set(!there);
        Ok(there)
    }
    fn sleep(&self, bell: &AtomicU32, expected: u32, _nap: &mut Nap) -> io::Result<Rest> {
        let kernel = self.0.kernel.lock().expect("nobody panics");
        // Compared with the lock, as the kernel does: a wake is before it, or finds the sleeper.
        let marked = if is(Mutant::Mark) { expected & !ASLEEP } else { expected };
        if AtomicU32::load(bell, Relaxed) == marked {
            drop(self.0.woken.wait(kernel).expect("nobody panics"));
        }
        Ok(Rest::Woken)
    }
}

impl Ring {
    fn new(places: usize) -> Rc<Self> {
        Rc::new(Ring {
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            bells: [AtomicU32::new(0), AtomicU32::new(0)],
            places: (0..places).map(|_| UnsafeCell::new(())).collect(),
            closed: [AtomicU32::new(0), AtomicU32::new(0)],
            kernel: Mutex::new([true, true]),
            woken: Condvar::new(),
        })
    }

    fn capacity(&self) -> u64 {
        self.places.len() as u64
    }

    /// Where frame `n` lies; they count from 1.
    fn place(&self, n: u64) -> &UnsafeCell<()> {
        &self.places[((n - 1) % self.capacity()) as usize]
    }

    fn wake(&self, side: usize) {
        if ring(&self.bells[side]) && !is(Mutant::Wake) {
            let _kernel = self.kernel.lock().expect("nobody panics");
            self.woken.notify_all();
        }
    }

    /// From another thread than the end's.
    fn close(&self, side: usize) {
        self.closed[side].store(1, Relaxed);
        NEXT.set(Mutant::FenceOfWhoCloses);
        if !is(Mutant::Rousing) && rouse(&self.bells[side]) {
            let _kernel = self.kernel.lock().expect("nobody panics");
            self.woken.notify_all();
        }
    }

    /// A read whose wait sleeps elsewhere. Whether there was one.
    fn read_armed(&self, n: u64) -> bool {
        let (bell, end) = (&self.bells[READER], End(self, READER));
        let is_there = || end.is_peer_there().expect("loom's kernel");
        loop {
            let early = is(Mutant::AsksBeforeMark).then(is_there);
            let Some(word) = arm(&self.tail, bell, |tail| tail >= n) else { break };
            if !early.unwrap_or_else(is_there) {
                // As the call that follows finds it.
                IS_LAST.set(false);
                if Count::load(&self.tail, Acquire) < n {
                    return false;
                }
                break;
            }
            end.sleep(bell, word, &mut Nap::forever()).expect("loom's kernel");
        }
        self.place(n).with(|_| ());
        self.count(&self.head, n, WRITER);
        true
    }

    fn count(&self, count: &AtomicU64, now: u64, other: usize) {
        if publish(count, now, &self.bells[other]) != 0 {
            self.wake(other);
        }
    }

    fn wait(&self, side: usize, count: &AtomicU64, is_news: impl FnMut(u64) -> bool) -> Outcome {
        wait(count, &self.bells[side], &End(self, side), is_news, &mut Nap::forever())
            .expect("loom's kernel does not fail")
    }

    fn write(&self, n: u64) -> Outcome {
        let outcome = self.wait(WRITER, &self.head, |head| n - head <= self.capacity());
        if outcome == Outcome::News {
            // Loom sees whether somebody else is at it.
            self.place(n).with_mut(|_| ());
            self.count(&self.tail, n, READER);
        }
        outcome
    }

    fn read(&self, n: u64) -> Outcome {
        let outcome = self.wait(READER, &self.tail, |tail| tail >= n);
        if outcome == Outcome::News {
            self.place(n).with(|_| ());
            self.count(&self.head, n, WRITER);
        }
        outcome
    }

    /// Writes frames that are counted together: before it waits, and at the end.
    fn write_batch(&self, frames: u64) {
        let (mut counted, mut seen) = (0, 0);
        for n in 1..=frames {
            if n - seen > self.capacity() {
                if !is(Mutant::WaitsWithBatch(WRITER)) {
                    self.count(&self.tail, n - 1, READER);
                    counted = n - 1;
                }
                let mut news = |head| {
                    seen = head;
                    n - head <= self.capacity()
                };
                assert_eq!(self.wait(WRITER, &self.head, &mut news), Outcome::News, "wrong");
            }
            self.place(n).with_mut(|_| ());
        }
        if counted != frames {
            self.count(&self.tail, frames, READER);
        }
    }

    /// Reads frames that are counted together: before it waits, and at the end.
    fn read_batch(&self, frames: u64) {
        let (mut counted, mut seen) = (0, 0);
        for n in 1..=frames {
            if n > seen {
                if counted != n - 1 && !is(Mutant::WaitsWithBatch(READER)) {
                    self.count(&self.head, n - 1, WRITER);
                    counted = n - 1;
                }
                let mut news = |tail| {
                    seen = tail;
                    tail >= n
                };
                assert_eq!(self.wait(READER, &self.tail, &mut news), Outcome::News, "wrong");
            }
            if is(Mutant::CountsFirst) {
                self.count(&self.head, n, WRITER);
            }
            self.place(n).with(|_| ());
        }
        self.count(&self.head, frames, WRITER);
    }

    fn leave(&self, side: usize) {
        let ring = || {
            if !is(Mutant::BellOfWhoGoes) {
                self.wake(1 - side);
            }
        };
        if is(Mutant::RoleFirst) {
            ring();
        }
        self.kernel.lock().expect("nobody panics")[side] = false;
        if !is(Mutant::RoleFirst) {
            ring();
        }
    }
}

/// Two frames through one place: both wait for each other.
fn two_frames() {
    let ring = Ring::new(1);
    let writer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || (1..=2).for_each(|n| assert_eq!(ring.write(n), Outcome::News, "wrong")))
    };
    (1..=2).for_each(|n| assert_eq!(ring.read(n), Outcome::News, "wrong"));
    writer.join().expect("a thread");
}

/// More frames than there are places, each end counting several at once.
fn batches() {
    let ring = Ring::new(2);
    let writer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || ring.write_batch(4))
    };
    ring.read_batch(4);
    writer.join().expect("a thread");
}

/// The writer goes: its frame is read, and then the end.
fn writer_goes() {
    let ring = Ring::new(1);
    let writer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || {
            assert_eq!(ring.write(1), Outcome::News, "wrong");
            ring.leave(WRITER);
        })
    };
    assert_eq!(ring.read(1), Outcome::News, "wrong");
    assert_eq!(ring.read(2), Outcome::Gone, "wrong");
    writer.join().expect("a thread");
}

/// The reader goes, while the writer may wait for room.
fn reader_goes() {
    let ring = Ring::new(1);
    let reader = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || ring.leave(READER))
    };
    assert_eq!(ring.write(1), Outcome::News, "wrong");
    assert_eq!(ring.write(2), Outcome::Gone, "wrong");
    reader.join().expect("a thread");
}

/// An end is closed by another thread, while it may wait.
fn reader_is_closed() {
    let ring = Ring::new(1);
    let closer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || ring.close(READER))
    };
    assert_eq!(ring.read(1), Outcome::Gone, "wrong");
    closer.join().expect("a thread");
}

/// The reader sleeps in a wait for several things.
fn reader_is_armed() {
    let ring = Ring::new(1);
    let writer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || (1..=2).for_each(|n| assert_eq!(ring.write(n), Outcome::News, "wrong")))
    };
    (1..=2).for_each(|n| assert!(ring.read_armed(n), "wrong"));
    writer.join().expect("a thread");
}

/// It sleeps there while the writer goes.
fn reader_is_armed_and_writer_goes() {
    let ring = Ring::new(1);
    let writer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || {
            assert_eq!(ring.write(1), Outcome::News, "wrong");
            ring.leave(WRITER);
        })
    };
    assert!(ring.read_armed(1) && !ring.read_armed(2), "wrong");
    writer.join().expect("a thread");
}

/// It sleeps there while another thread closes it.
fn reader_is_armed_and_closed() {
    let ring = Ring::new(1);
    let closer = {
        let ring = Rc::clone(&ring);
        thread::spawn(move || ring.close(READER))
    };
    assert!(!ring.read_armed(1), "wrong");
    closer.join().expect("a thread");
}

fn run(mutant: Mutant, model: fn()) {
    MUTANT.set(mutant);
    let mut builder = loom::model::Builder::new();
    let is_large = std::env::var_os("IPC_MODEL").is_some_and(|model| model == "large");
    builder.preemption_bound = Some(if is_large { 5 } else { 3 });
    builder.check(model);
}

#[test]
fn frames_are_there_and_nobody_sleeps_through_them() {
    run(Mutant::None, two_frames);
    run(Mutant::None, batches);
    run(Mutant::None, writer_goes);
    run(Mutant::None, reader_goes);
    run(Mutant::None, reader_is_closed);
    run(Mutant::None, reader_is_armed);
    run(Mutant::None, reader_is_armed_and_writer_goes);
    run(Mutant::None, reader_is_armed_and_closed);
}

#[test]
fn mutants_fail() {
    use Mutant::*;
    let how = |mutant, model: fn()| {
        let panic = catch_unwind(|| run(mutant, model)).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    };
    let fails = |mutant, model: fn(), with: &str| {
        let text = how(mutant, model);
        let is_right = text.as_ref().is_some_and(|text| text.to_lowercase().contains(with));
        assert!(is_right, "{mutant:?}: {text:?}");
    };
    for mutant in [ReleaseOfCount, AcquireOfCount] {
        fails(mutant, two_frames, "concurrent");
        fails(mutant, batches, "concurrent");
    }
    for mutant in [FenceOfWhoCounts, FenceOfWhoWaits, Mark, TakingOut, Wake] {
        fails(mutant, two_frames, "deadlock");
    }
    for mutant in [FenceOfWhoCounts, FenceOfWhoWaits, Mark, Wake] {
        fails(mutant, reader_is_armed, "deadlock");
    }
    fails(AsksBeforeMark, reader_is_armed_and_writer_goes, "deadlock");
    fails(AsksBeforeMark, reader_is_armed_and_closed, "deadlock");
    for mutant in [FenceOfWhoCloses, FenceOfWhoWaits, Rousing] {
        fails(mutant, reader_is_closed, "deadlock");
    }
    fails(CountsFirst, batches, "concurrent");
    for side in [WRITER, READER] {
        fails(WaitsWithBatch(side), batches, "deadlock");
    }
    for mutant in [BellOfWhoGoes, RoleFirst] {
        fails(mutant, writer_goes, "deadlock");
        fails(mutant, reader_goes, "deadlock");
    }
    fails(LastLook, writer_goes, "wrong");
}
