//! The memory orderings of the queue, under `loom`: all interleavings of a few threads, up to a bound, with all the values
//! that the memory model lets each load return. What is written and read under a word's protection is a cell in which loom
//! sees data races; latches are loom's mutexes, as `ipc_sync` has shown that its latches are mutexes.
//!
//! Each model is also run with *mutants*: an ordering weakened, a fence dropped, two steps swapped. It has to fail then, in
//! the way that is expected.
//!
//! `IPC_MODEL=large` runs the faithful protocols with two preemptions more.
//!
//! What loom does not show is said in `ipc_sync`'s `raw::loom_tests`. And here:
//! - `fence_after_latch` is a fence. That giving a latch back orders as one on x86, where it is a locked instruction and
//!   nothing but the compiler is held off, is a fact about the machine.
//! - The bytes of messages are copied by `ipc_os::map`, and are part of no memory model.
//! - Who dies stores a word that others read as its death, and does nothing afterwards. Death between any two steps is what
//!   the models of `ipc-testkit` are for.

mod bell;
mod leases;
mod places;
mod slots;

use std::cell::Cell as StdCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use super::{HalfWord, Word};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Load,
    Store,
    Cas,
    Or,
    And,
    Add,
    Fence,
}

/// One operation, before it is done.
#[derive(Debug, Clone, Copy)]
struct Op {
    /// Of the word; a fence has none.
    role: &'static str,
    /// What its thread did before it.
    after: &'static str,
    act: Act,
    to: u64,
    /// Of a fence: `Relaxed` is none.
    ordering: Ordering,
    /// A load gives this, whatever the word is.
    instead: Option<u64>,
}

/// Changes an operation, or leaves it.
type Mutant = fn(&mut Op);

impl Op {
    fn is(&self, role: &str, act: Act) -> bool {
        self.role == role && self.act == act
    }

    fn relax_if(&mut self, so: bool) {
        if so {
            self.ordering = Relaxed;
        }
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
}

thread_local! {
    // loom runs all threads of a model in the thread that checks it.
    static MUTANT: StdCell<Option<Mutant>> = const { StdCell::new(None) };
    /// loom switches before an access and not after it, so that is the last one of the thread that runs.
    static LAST: StdCell<&'static str> = const { StdCell::new("") };
    /// Of words that are made from now on: see `Cell::turns`.
    static IN_ALL_ORDERS: StdCell<bool> = const { StdCell::new(true) };
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
    let op = mutated(Op { role: "", after: LAST.get(), act: Act::Fence, to: 0, ordering, instead: None });
    if op.ordering != Relaxed {
        fence(op.ordering);
    }
}

/// A word of loom's, with the part that it plays.
#[derive(Debug)]
struct Cell {
    role: &'static str,
    word: AtomicU64,
    /// Of a word that is loaded and then changed by the same thread, loom does not try to have that change before a load of
    /// another one's. With this all accesses depend on each other. `None` where three threads sleep, for which it is
    /// too much.
    turns: Option<AtomicU64>,
    /// Of a word that is one thread's at a time, though it is accessed as an atomic one: loom is to see whether it is.
    guard: Option<UnsafeCell<()>>,
}

impl Cell {
    fn new(role: &'static str, value: u64) -> Self {
        let turns = IN_ALL_ORDERS.get().then(|| AtomicU64::new(0));
        Cell { role, word: AtomicU64::new(value), turns, guard: None }
    }

    fn guarded(role: &'static str, value: u64) -> Self {
        Cell { guard: Some(UnsafeCell::new(())), ..Cell::new(role, value) }
    }

    fn op(&self, act: Act, to: u64, ordering: Ordering) -> Op {
        let after = LAST.get();
        if let Some(turns) = &self.turns {
            _ = turns.compare_exchange(u64::MAX, u64::MAX, Relaxed, Relaxed);
        }
        mutated(Op { role: self.role, after, act, to, ordering, instead: None })
    }

    fn load(&self, ordering: Ordering) -> u64 {
        if let Some(guard) = &self.guard {
            guard.with(|_| ());
        }
        let op = self.op(Act::Load, 0, ordering);
        let value = self.word.load(op.ordering);
        op.instead.unwrap_or(value)
    }

    fn store(&self, to: u64, ordering: Ordering) {
        if let Some(guard) = &self.guard {
            guard.with_mut(|_| ());
        }
        let op = self.op(Act::Store, to, ordering);
        self.word.store(op.to, op.ordering);
    }

    fn cas(&self, from: u64, to: u64, ordering: Ordering) -> Result<u64, u64> {
        let op = self.op(Act::Cas, to, ordering);
        self.word.compare_exchange(from, op.to, op.ordering, Relaxed)
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
    fn store(&self, value: u64, ordering: Ordering) {
        Cell::store(self, value, ordering);
    }
    fn cas(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        Cell::cas(self, current, new, success)
    }
}

impl HalfWord for Cell {
    fn load(&self, ordering: Ordering) -> u32 {
        Cell::load(self, ordering) as u32
    }
    fn store(&self, value: u32, ordering: Ordering) {
        Cell::store(self, value.into(), ordering);
    }
    fn cas(&self, current: u32, new: u32, success: Ordering) -> Result<u32, u32> {
        Cell::cas(self, current.into(), new.into(), success).map(|v| v as u32).map_err(|v| v as u32)
    }
    fn or(&self, bits: u32, ordering: Ordering) -> u32 {
        let op = self.op(Act::Or, bits.into(), ordering);
        self.word.fetch_or(op.to, op.ordering) as u32
    }
    fn and(&self, bits: u32, ordering: Ordering) -> u32 {
        let op = self.op(Act::And, bits.into(), ordering);
        self.word.fetch_and(op.to, op.ordering) as u32
    }
    fn add(&self, more: u32, ordering: Ordering) -> u32 {
        let op = self.op(Act::Add, more.into(), ordering);
        self.word.fetch_add(op.to, op.ordering) as u32
    }
    fn fence() {
        mutated_fence(SeqCst);
    }
    fn fence_after_latch() {
        mutated_fence(SeqCst);
    }
}

/// What a word protects. loom sees whether somebody else is at it.
struct Data {
    here: UnsafeCell<()>,
    value: StdCell<u64>,
}

impl Data {
    fn new(value: u64) -> Self {
        Data { here: UnsafeCell::new(()), value: StdCell::new(value) }
    }
    fn get(&self) -> u64 {
        self.here.with(|_| self.value.get())
    }
    fn set(&self, value: u64) {
        self.here.with_mut(|_| self.value.set(value));
    }
}

struct Latch(Mutex<()>);

impl Latch {
    fn new() -> Self {
        Latch(Mutex::new(()))
    }

    fn with<T>(&self, with: impl FnOnce() -> T) -> T {
        let latched = self.0.lock().expect("nobody panics");
        let done = with();
        drop(latched);
        LAST.set("latch");
        done
    }
}

/// A word, and those who sleep on it.
struct Bell {
    word: Cell,
    kernel: Mutex<()>,
    woken: Condvar,
}

impl Bell {
    fn new(role: &'static str) -> Self {
        Bell { word: Cell::new(role, 0), kernel: Mutex::new(()), woken: Condvar::new() }
    }

    fn wake_one_if(&self, so: bool) {
        if so {
            let _kernel = self.kernel.lock().expect("nobody panics");
            self.woken.notify_one();
        }
    }

    fn wake_all(&self) {
        let _kernel = self.kernel.lock().expect("nobody panics");
        self.woken.notify_all();
    }

    fn ring(&self) {
        self.wake_one_if(super::bell::ring(&self.word));
    }

    fn ring_after_latch(&self) {
        self.wake_one_if(super::bell::ring_after_latch(&self.word));
    }

    fn ring_for_all(&self) {
        if super::bell::ring_for_all(&self.word) {
            self.wake_all();
        }
    }

    /// As `End::wait_for`, up to the first sleep. Whether it has slept.
    fn wait(&self, ready: impl Fn() -> bool) -> bool {
        let armed = super::bell::arm(&self.word);
        if ready() {
            return false;
        }
        // Compared with the lock, as the kernel does: a wake is before it, or finds the sleeper.
        let kernel = self.kernel.lock().expect("nobody panics");
        if self.word.newest() == u64::from(armed) {
            drop(self.woken.wait(kernel).expect("nobody panics"));
        }
        true
    }

    fn settle(&self, more: impl FnOnce() -> bool) {
        self.wake_one_if(super::bell::settle(&self.word, more));
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

fn is_large() -> bool {
    std::env::var_os("IPC_MODEL").is_some_and(|model| model == "large")
}

fn run(mutant: Option<Mutant>, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    MUTANT.set(mutant);
    IN_ALL_ORDERS.set(true);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 5_000;
    builder.check(model);
    MUTANT.set(None);
}

/// How many preemptions are tried of models of two threads, and of those of three.
const OF_TWO: usize = 3;
const OF_THREE: usize = 2;
const OF_MUTANTS: usize = 3;

/// The protocol is right, as far as this goes.
fn holds(preemptions: usize, model: fn()) {
    run(None, if is_large() { preemptions + 2 } else { preemptions }, model);
}

/// How a mutant fails.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Two threads are at the data without order.
    Race,
    /// Somebody sleeps for ever.
    Stuck,
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
    let as_expected = match how {
        How::Race => text.contains("Causality violation"),
        How::Stuck => text.contains("deadlock"),
        How::Wrong => text.contains("wrong"),
    };
    assert!(as_expected, "it should fail by {how:?}: {text}");
}

/// As [`fails`], of steps in another order, which the model itself takes.
#[track_caller]
fn fails_as(how: How, model: fn()) {
    fails(how, |_| (), model);
}
