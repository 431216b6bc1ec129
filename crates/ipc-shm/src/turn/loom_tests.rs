//! The two copies under `loom`: a value is never torn. What loom does not show is said in `ipc_sync`'s `raw::loom_tests`;
//! the bytes of the copies are two relaxed words here.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed};

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use super::{Turn, try_read, write};

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    AcquireLoad,
    AcquireFence,
    ReleaseFence,
    ReleaseStore,
    /// The copy that is up is written.
    OneCopy,
}

thread_local! {
    static MUTANT: Cell<Mutant> = const { Cell::new(Mutant::None) };
}

fn unless(mutant: Mutant, ordering: Ordering) -> Ordering {
    if MUTANT.get() == mutant { Relaxed } else { ordering }
}

impl Turn for AtomicU64 {
    fn load(&self, ordering: Ordering) -> u64 {
        AtomicU64::load(self, unless(Mutant::AcquireLoad, ordering))
    }
    fn store(&self, turn: u64, ordering: Ordering) {
        AtomicU64::store(self, turn, unless(Mutant::ReleaseStore, ordering));
    }
    fn fence(ordering: Ordering) {
        let mutant = if ordering == Acquire { Mutant::AcquireFence } else { Mutant::ReleaseFence };
        if MUTANT.get() != mutant {
            fence(ordering);
        }
    }
}

struct Value {
    lock: Mutex<()>,
    turn: AtomicU64,
    copies: [[AtomicU64; 2]; 2],
}

impl Value {
    fn new() -> Rc<Self> {
        let copy = || [AtomicU64::new(0), AtomicU64::new(0)];
        Rc::new(Value { lock: Mutex::new(()), turn: AtomicU64::new(0), copies: [copy(), copy()] })
    }

    /// Both halves, and of the turn that they are of.
    fn get(&self) -> Option<(u64, [u64; 2])> {
        try_read(&self.turn, |turn| {
            (turn, self.copies[(turn % 2) as usize].each_ref().map(|half| half.load(Relaxed)))
        })
    }

    /// Both halves, the number of the turn.
    fn set(&self) {
        let _lock = self.lock.lock().expect("nobody panics");
        write(&self.turn, |turn| {
            let copy = if MUTANT.get() == Mutant::OneCopy { turn + 1 } else { turn };
            for half in &self.copies[(copy % 2) as usize] {
                half.store(turn, Relaxed);
            }
        });
    }
}

fn look(value: &Value) {
    if let Some((turn, halves)) = value.get() {
        assert_eq!(halves, [turn, turn], "torn, or of another turn");
    }
}

/// One writes three times; the copy that is up at first is written again by the second.
fn one_writer() {
    let value = Value::new();
    let writer = {
        let value = Rc::clone(&value);
        thread::spawn(move || (0..3).for_each(|_| value.set()))
    };
    look(&value);
    writer.join().expect("a thread");
    look(&value);
}

/// Two write once: the second knows of the first by the lock alone.
fn two_writers() {
    let value = Value::new();
    let writers = [1, 2].map(|_| {
        let value = Rc::clone(&value);
        thread::spawn(move || value.set())
    });
    look(&value);
    for writer in writers {
        writer.join().expect("a thread");
    }
    assert!(matches!(value.get(), Some((2, [2, 2]))));
}

fn run(mutant: Mutant, model: fn()) {
    MUTANT.set(mutant);
    let mut builder = loom::model::Builder::new();
    let is_large = std::env::var_os("IPC_MODEL").is_some_and(|model| model == "large");
    builder.preemption_bound = Some(if is_large { 5 } else { 3 });
    builder.check(model);
}

#[test]
fn a_value_is_never_torn() {
    run(Mutant::None, one_writer);
    run(Mutant::None, two_writers);
}

#[test]
fn mutants_fail() {
    use Mutant::{AcquireFence, AcquireLoad, OneCopy, ReleaseFence, ReleaseStore};
    let caught = |mutant, model: fn()| {
        let panic = catch_unwind(|| run(mutant, model)).expect_err("a torn value");
        panic.downcast_ref::<String>().is_some_and(|text| text.contains("torn"))
    };
    for mutant in [AcquireLoad, AcquireFence, ReleaseFence, ReleaseStore, OneCopy] {
        assert!(caught(mutant, one_writer), "{mutant:?}");
    }
    for mutant in [AcquireFence, ReleaseFence] {
        assert!(caught(mutant, two_writers), "{mutant:?}");
    }
}
