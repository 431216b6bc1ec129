//! The memory orderings of the protocols, under `loom`: all interleavings of a few threads, up to a bound, with all the
//! values that the memory model lets each load return. What a lock protects is a cell in which loom sees data races.
//!
//! Each model is also run with *mutants*: one operation has its ordering weakened, a fence dropped, a flag left out. It has
//! to fail then, in the way that is expected. A mutant that passes would say that an ordering is not needed, or that the
//! model does not see what it is for.
//!
//! `IPC_MODEL=large` runs the faithful protocols with two preemptions more.
//!
//! What loom does not show:
//! - It takes SeqCst accesses for AcqRel; only fences are sequentially consistent. So the protocols use fences, and none of
//!   their accesses is SeqCst.
//! - Two SeqCst fences synchronize as a lock would. In C++ they order accesses and make nothing happen before anything, so
//!   a data race that only a fence prevents here would be one. Their places are such that it does not matter: what is
//!   protected is written after the writer's fence, and read after the reader's.
//! - An acquire fence acquires also what another thread has read, if that happened before.
//! - Load buffering: no load returns what is stored later in the execution. No value comes out of thin air, either.
//! - A compare-and-swap that fails reads the newest value, and none fails for no reason.
//! - It keeps the last 7 values of a word. Some orders of accesses are left out (see `in_all_orders`), and more preemptions than the
//!   bound.
//! - To be woken synchronizes. So does no futex, by contract: a protocol that leans on it would pass here. But all those
//!   who sleep also have executions in which they do not.
//! - Only words of one size, each accessed as a whole. Payloads copied by `ipc_os::map` are no part of any memory model.
//! - Death is what the test makes it: a store that others read as `World::dead`. That a thread is killed between two
//!   instructions is what the crash tests are for; time, what those of the kernel are for.

mod board;
mod event;
mod lock;
mod objects;
mod rwlock;

use std::cell::{Cell as StdCell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread::{self, JoinHandle, Thread};

use super::event::{HalfWord, Sleeps};
use super::{Word, World};
use crate::id::{I, Id};
use crate::wait::{Nap, Rest};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Load,
    Store,
    Cas,
    Rmw,
    Fence,
}

/// One operation of a protocol, before it is done.
#[derive(Debug, Clone, Copy)]
struct Op {
    /// Of the word; of a fence, of the word that its thread accessed last.
    role: &'static str,
    act: Act,
    /// What a compare-and-swap expects.
    from: u64,
    to: u64,
    /// Of a fence: `Relaxed` is none.
    ordering: Ordering,
}

/// Changes an operation, or leaves it.
type Mutant = fn(&mut Op);

impl Op {
    fn is(&self, role: &str, act: Act) -> bool {
        self.role == role && self.act == act
    }
    /// From free, or from what a dead one left unrepaired.
    fn takes(&self) -> bool {
        self.act == Act::Cas && Id::of(self.from).is_none() && Id::of(self.to).is_some()
    }
    fn takes_unrepaired(&self) -> bool {
        self.takes() && self.from & I != 0
    }
    fn takes_over(&self) -> bool {
        let (from, to) = (Id::of(self.from), Id::of(self.to));
        self.act == Act::Cas && from.is_some() && to.is_some() && from != to
    }
    fn gives_back(&self) -> bool {
        self.act == Act::Cas && Id::of(self.from).is_some() && Id::of(self.to).is_none()
    }
    fn no_acquire_if(&mut self, so: bool) {
        self.ordering = match self.ordering {
            Acquire if so => Relaxed,
            AcqRel if so => Release,
            other => other,
        };
    }
    fn no_release_if(&mut self, so: bool) {
        self.ordering = match self.ordering {
            Release if so => Relaxed,
            AcqRel if so => Acquire,
            other => other,
        };
    }
    fn relax_if(&mut self, so: bool) {
        if so {
            self.ordering = Relaxed;
        }
    }
}

thread_local! {
    // loom runs all threads of a model in the thread that checks it.
    static MUTANT: StdCell<Option<Mutant>> = const { StdCell::new(None) };
    /// loom switches before an access and not after it, so that is the last one of the thread that runs.
    static LAST: StdCell<&'static str> = const { StdCell::new("") };
}

fn mutated(mut op: Op) -> Op {
    if op.act != Act::Fence {
        LAST.set(op.role);
    }
    if let Some(mutant) = MUTANT.get() {
        mutant(&mut op);
    }
    op
}

fn mutated_fence(ordering: Ordering) {
    let op = mutated(Op { role: LAST.get(), act: Act::Fence, from: 0, to: 0, ordering });
    if op.ordering != Relaxed {
        fence(op.ordering);
    }
}

/// A word of loom's, with the part that it plays.
#[derive(Debug)]
struct Cell {
    role: &'static str,
    word: AtomicU64,
    turns: Option<AtomicU64>,
}

impl Cell {
    fn new(role: &'static str, value: u64) -> Self {
        let cell = Cell { role, word: AtomicU64::new(value), turns: None };
        if is_large() { cell.in_all_orders() } else { cell }
    }

    /// Of a word that is loaded and then changed by the same thread, loom does not try to have that change before a load of
    /// another one's: it compares it with the last access alone. Here all accesses depend on each other.
    fn in_all_orders(self) -> Self {
        Cell { turns: Some(AtomicU64::new(0)), ..self }
    }

    fn take_turns(&self) {
        if let Some(turns) = &self.turns {
            _ = turns.compare_exchange(u64::MAX, u64::MAX, Relaxed, Relaxed);
        }
    }

    fn load(&self, ordering: Ordering) -> u64 {
        self.take_turns();
        self.word.load(mutated(Op { role: self.role, act: Act::Load, from: 0, to: 0, ordering }).ordering)
    }

    fn store(&self, to: u64, ordering: Ordering) {
        self.take_turns();
        let op = mutated(Op { role: self.role, act: Act::Store, from: 0, to, ordering });
        self.word.store(op.to, op.ordering);
    }

    fn cas(&self, from: u64, to: u64, ordering: Ordering) -> Result<u64, u64> {
        self.take_turns();
        let op = mutated(Op { role: self.role, act: Act::Cas, from, to, ordering });
        self.word.compare_exchange(op.from, op.to, op.ordering, Relaxed)
    }

    fn rmw(&self, to: u64, ordering: Ordering) -> Op {
        self.take_turns();
        mutated(Op { role: self.role, act: Act::Rmw, from: 0, to, ordering })
    }

    fn and(&self, bits: u64, ordering: Ordering) -> u64 {
        let op = self.rmw(bits, ordering);
        self.word.fetch_and(op.to, op.ordering)
    }

    fn max(&self, other: u64, ordering: Ordering) -> u64 {
        let op = self.rmw(other, ordering);
        self.word.fetch_max(op.to, op.ordering)
    }

    fn swap(&self, to: u64, ordering: Ordering) -> u64 {
        let op = self.rmw(to, ordering);
        self.word.swap(op.to, op.ordering)
    }

    /// What it is now, as the kernel sees it. Depends, for loom, on all that others do to it.
    fn newest(&self) -> u64 {
        match self.word.compare_exchange(u64::MAX, u64::MAX, Relaxed, Relaxed) {
            Ok(value) | Err(value) => value,
        }
    }
}

impl Word for Cell {
    fn load(&self, ordering: Ordering) -> u64 {
        Cell::load(self, ordering)
    }
    fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        Cell::cas(self, current, new, success)
    }
    fn fence() {
        mutated_fence(Ordering::SeqCst);
    }
    fn fence_acquire() {
        mutated_fence(Acquire);
    }
}

impl HalfWord for Cell {
    fn load(&self, ordering: Ordering) -> u32 {
        Cell::load(self, ordering) as u32
    }
    fn cas(&self, current: u32, new: u32, success: Ordering) -> Result<u32, u32> {
        Cell::cas(self, current.into(), new.into(), success).map(|v| v as u32).map_err(|v| v as u32)
    }
    fn and(&self, bits: u32, ordering: Ordering) -> u32 {
        Cell::and(self, bits.into(), ordering) as u32
    }
}

/// What is protected.
struct Data(UnsafeCell<u64>);

impl Data {
    fn new() -> Self {
        Data(UnsafeCell::new(0))
    }
    fn get(&self) -> u64 {
        // SAFETY: loom fails if somebody writes meanwhile.
        self.0.with(|data| unsafe { *data })
    }
    fn add(&self, more: u64) {
        // SAFETY: loom fails if somebody else is there meanwhile.
        self.0.with_mut(|data| unsafe { *data += more });
    }
}

/// One who sleeps in the kernel.
struct Sleeper {
    ticket: usize,
    word: Option<*const Cell>,
    owner: Option<Id>,
    thread: Thread,
}

/// Those who sleep, and those who are dead.
struct Kernel {
    tickets: StdCell<usize>,
    sleepers: RefCell<Vec<Sleeper>>,
    /// By seat: not zero as soon as it is dead. Empty where nobody dies.
    gone: Vec<Cell>,
}

impl Kernel {
    fn new() -> Self {
        Kernel { tickets: StdCell::new(0), sleepers: RefCell::new(Vec::new()), gone: Vec::new() }
    }

    /// Where those in the first seats may die.
    fn with_deaths(seats: usize) -> Self {
        let gone = (0..=seats).map(|_| Cell::new("gone", 0)).collect();
        Kernel { gone, ..Kernel::new() }
    }

    fn dead(&self, id: Id) -> bool {
        // Acquire: with the Release in `die`. For what it is in the kernel, see `board`.
        self.gone.get(id.k()).is_some_and(|gone| gone.load(Acquire) != 0)
    }

    /// The end of that owner, and proof of it for those who acquire it (`Release`) or of nothing but the fact (`Relaxed`).
    fn die(&self, id: Id, ordering: Ordering) {
        self.gone[id.k()].store(1, ordering);
        self.wake_those(u32::MAX, |sleeper| sleeper.owner == Some(id));
    }

    fn enqueue(&self, word: Option<&Cell>, owner: Option<Id>) -> usize {
        let ticket = self.tickets.get();
        self.tickets.set(ticket + 1);
        let word = word.map(std::ptr::from_ref);
        self.sleepers.borrow_mut().push(Sleeper { ticket, word, owner, thread: thread::current() });
        ticket
    }

    fn is_queued(&self, ticket: usize) -> bool {
        self.sleepers.borrow().iter().any(|sleeper| sleeper.ticket == ticket)
    }

    fn dequeue(&self, ticket: usize) -> bool {
        let mut sleepers = self.sleepers.borrow_mut();
        let before = sleepers.len();
        sleepers.retain(|sleeper| sleeper.ticket != ticket);
        sleepers.len() != before
    }

    fn wake(&self, word: &Cell, count: u32) {
        // Between this and what follows nobody else runs, and so with `sleep`: the lock of the kernel's queue.
        word.newest();
        let word: *const Cell = word;
        self.wake_those(count, |sleeper| sleeper.word == Some(word));
    }

    fn wake_those(&self, count: u32, fits: impl Fn(&Sleeper) -> bool) {
        let mut left = count;
        self.sleepers.borrow_mut().retain(|sleeper| {
            let woken = left != 0 && fits(sleeper);
            if woken {
                left -= 1;
                sleeper.thread.unpark();
            }
            !woken
        });
    }

    /// As `futex_waitv` on the word and on the owner's life. One without patience gives up at a time of loom's choice.
    fn sleep(&self, word: &Cell, expected: u64, owner: Option<Id>, patient: bool, nap: &mut Nap) -> Rest {
        let mut watching = None;
        if let Some(owner) = owner
            && let Some(gone) = self.gone.get(owner.k())
        {
            if gone.newest() != 0 {
                return Rest::Woken;
            }
            watching = Some(self.enqueue(None, Some(owner)));
        }
        let same = word.newest() as u32 == expected as u32;
        if let Some(watching) = watching
            && !self.dequeue(watching)
        {
            return Rest::Woken;
        }
        if !same {
            return Rest::Woken;
        }
        let ticket = self.enqueue(Some(word), owner);
        if !patient {
            word.newest();
            *nap = Nap::none();
            return if self.dequeue(ticket) { Rest::TimedOut } else { Rest::Woken };
        }
        while self.is_queued(ticket) {
            thread::park();
        }
        Rest::Woken
    }
}

/// The world as one thread sees it.
#[derive(Clone)]
struct View {
    kernel: Rc<Kernel>,
    patient: bool,
    /// How many it wakes at most.
    most: u32,
}

impl View {
    fn of(kernel: &Rc<Kernel>) -> Self {
        View { kernel: Rc::clone(kernel), patient: true, most: u32::MAX }
    }
}

impl World<Cell> for View {
    fn dead(&self, id: Id) -> bool {
        self.kernel.dead(id)
    }
    fn spin(&self, mut done: impl FnMut() -> bool) -> bool {
        // One look is as good as many.
        is_large() && done()
    }
    fn sleep(&self, word: &Cell, expected: u64, owner: Id, nap: &mut Nap) -> io::Result<Rest> {
        Ok(self.kernel.sleep(word, expected, Some(owner), self.patient, nap))
    }
    fn pid(&self, id: Id) -> u32 {
        100 + id.k() as u32
    }
    fn wake(&self, word: &Cell, count: u32) {
        self.kernel.wake(word, count.min(self.most));
    }
}

impl Sleeps<Cell> for View {
    fn spin(&self, mut done: impl FnMut() -> bool) -> bool {
        is_large() && done()
    }
    fn sleep(&self, word: &Cell, expected: u32, nap: &mut Nap) -> io::Result<Rest> {
        Ok(self.kernel.sleep(word, expected.into(), None, self.patient, nap))
    }
}

fn spawn<T: 'static>(shared: &Rc<T>, f: impl FnOnce(&T) + 'static) -> JoinHandle<()> {
    let shared = Rc::clone(shared);
    thread::spawn(move || f(&shared))
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("a thread");
    }
}

/// The first thread in seat k.
fn id(k: usize) -> Id {
    Id::new(k, 0, 1)
}

fn is_large() -> bool {
    std::env::var_os("IPC_MODEL").is_some_and(|model| model == "large")
}

fn run(mutant: Option<Mutant>, preemptions: usize, model: fn()) {
    MUTANT.set(mutant);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 5_000;
    builder.check(model);
    MUTANT.set(None);
}

/// How many preemptions are tried of the smallest models, of those of two threads, and of those of three. loom counts also
/// who goes on after a thread has ended, if it is not the first one.
const OF_FEW_STEPS: usize = 6;
const OF_TWO: usize = 3;
const OF_THREE: usize = 2;
const OF_MUTANTS: usize = 3;

/// The protocol is right, as far as this goes.
fn holds(preemptions: usize, model: fn()) {
    run(None, if is_large() { preemptions + 2 } else { preemptions }, model);
}

/// The same with something weakened: it is stronger than it has to be.
fn holds_without(mutant: Mutant, model: fn()) {
    run(Some(mutant), OF_TWO, model);
}

/// How a mutant fails.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Two threads are at the data without order.
    Race,
    /// Somebody sleeps for ever.
    Stuck,
    /// One or the other.
    RaceOrStuck,
    /// An assertion of the model's with "wrong" in it.
    Wrong,
}

/// The mutant is caught.
#[track_caller]
fn fails(how: How, mutant: Mutant, model: fn()) {
    let result = catch_unwind(AssertUnwindSafe(|| run(Some(mutant), OF_MUTANTS, model)));
    MUTANT.set(None);
    let Err(panic) = result else { panic!("the mutant passes") };
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    let (race, stuck) = (text.contains("Causality violation"), text.contains("deadlock"));
    let as_expected = match how {
        How::Race => race,
        How::Stuck => stuck,
        How::RaceOrStuck => race || stuck,
        How::Wrong => text.contains("wrong"),
    };
    assert!(as_expected, "it should fail by {how:?}: {text}");
}
