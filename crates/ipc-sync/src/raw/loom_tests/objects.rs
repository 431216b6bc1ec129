//! Objects whose words are under a lock or a latch, which are not generic: these mirror them, with the lock itself.

use super::*;
use crate::raw::lock::{self, OnDeath, Taken};

/// A latch and what it guards.
struct Object {
    latch: Cell,
    /// What those who wait sleep on.
    word: Cell,
    /// What else there is, which is read and written under the latch alone.
    other: Cell,
    data: [Data; 2],
    kernel: Rc<Kernel>,
}

impl Object {
    fn new(word: u64, other: u64) -> Rc<Self> {
        Rc::new(Object {
            latch: Cell::new("latch", 0),
            word: Cell::new("word", word),
            other: Cell::new("other", other),
            data: [Data::new(), Data::new()],
            kernel: Rc::new(Kernel::new()),
        })
    }

    /// As `latch` in `src/raw/latch.rs`.
    fn latched(&self, me: Id) {
        let view = View::of(&self.kernel);
        let free = lock::try_fast(&self.latch, me)
            || lock::acquire(&self.latch, me, &view, OnDeath::Pass, &mut Nap::forever())
                .is_ok_and(|taken| taken == Taken::Free);
        assert!(free, "wrong: nobody dies");
    }

    fn unlatch(&self, me: Id) {
        assert!(lock::release(&self.latch, me, &View::of(&self.kernel)), "wrong: not held");
    }

    fn sleep(&self, expected: u64) {
        self.kernel.sleep(&self.word, expected, None, true, &mut Nap::forever());
    }
}

const SLEEPERS: u64 = 1 << 31;

impl Object {
    /// `Semaphore::acquire_within`. The word is `free`.
    fn acquire(&self, me: Id) {
        loop {
            self.latched(me);
            let free = self.word.load(Relaxed);
            if free & !SLEEPERS != 0 {
                self.word.store(free - 1, Relaxed);
                self.unlatch(me);
                return;
            }
            self.word.store(free | SLEEPERS, Relaxed);
            self.unlatch(me);
            self.sleep(free | SLEEPERS);
        }
    }

    /// `Semaphore::release_many` and `add_free`.
    fn add(&self, me: Id, permits: u64) {
        self.latched(me);
        let free = self.word.load(Relaxed);
        self.word.store(((free & !SLEEPERS) + permits) | (free & SLEEPERS), Relaxed);
        self.unlatch(me);
        if free & SLEEPERS != 0 {
            let before = self.kernel.sleepers.borrow().len();
            self.kernel.wake(&self.word, permits as u32);
            if self.kernel.sleepers.borrow().len() == before {
                self.word.and(!SLEEPERS, Relaxed);
                self.kernel.wake(&self.word, u32::MAX);
            }
        }
    }
}

/// What was written before a permit was put in is seen by who gets it.
fn semaphore() {
    let object = Object::new(0, 0);
    let takers = [1, 2].map(|k| {
        spawn(&object, move |object| {
            object.acquire(id(k));
            assert_eq!(object.data[0].get(), 1);
        })
    });
    object.data[0].add(1);
    object.add(id(3), 2);
    join(takers);
}

/// One permit: as a lock.
fn one_permit() {
    let object = Object::new(1, 0);
    let round = |object: &Object, me: Id| {
        object.acquire(me);
        object.data[0].add(1);
        object.add(me, 1);
    };
    let other = spawn(&object, move |object| round(object, id(1)));
    round(&object, id(2));
    join([other]);
    assert_eq!(object.data[0].get(), 2);
}

#[test]
fn permits() {
    holds(OF_THREE, semaphore);
    holds(OF_TWO, one_permit);
    // What it protects is seen too late: the data, the number of permits, or the mark of a sleeper.
    for model in [one_permit, semaphore] {
        fails(How::RaceOrStuck, |op| op.no_acquire_if(op.role == "latch" && op.takes()), model);
        fails(How::RaceOrStuck, |op| op.no_release_if(op.role == "latch" && op.gives_back()), model);
    }
}

const NOTIFIED: u64 = 1;
const SLEEPS: u64 = 2;

/// `Condition::wait` in a loop, and `notify`: one waits for what the other writes. The latch is the condition's lock, the
/// word is the waiter's.
fn condition() {
    let object = Object::new(0, 0);
    let waiter = spawn(&object, |object| {
        let me = id(1);
        object.latched(me);
        while object.data[0].get() == 0 {
            // `take_place`
            object.word.store(me.word(), Relaxed);
            object.unlatch(me);
            // `wait_at`
            loop {
                let w = object.word.load(Acquire);
                if w & NOTIFIED != 0 {
                    break;
                }
                if w & SLEEPS == 0 && object.word.cas(w, w | SLEEPS, Relaxed).is_err() {
                    continue;
                }
                object.sleep(w | SLEEPS);
            }
            object.latched(me);
            // `leave_place`
            object.word.swap(0, AcqRel);
        }
        object.unlatch(me);
    });
    let me = id(2);
    object.latched(me);
    object.data[0].add(1);
    // `tell`
    let mut w = object.word.load(Relaxed);
    while Id::of(w).is_some() && w & NOTIFIED == 0 {
        match object.word.cas(w, w & !SLEEPS | NOTIFIED, Release) {
            Ok(_) => {
                if w & SLEEPS != 0 {
                    object.kernel.wake(&object.word, u32::MAX);
                }
                break;
            }
            Err(now) => w = now,
        }
    }
    object.unlatch(me);
    join([waiter]);
}

#[test]
fn conditions() {
    holds(OF_FEW_STEPS, condition);
    fails(How::Race, |op| op.no_acquire_if(op.role == "latch" && op.takes()), condition);
    fails(How::Race, |op| op.no_release_if(op.role == "latch" && op.gives_back()), condition);
    // The lock says it all: of the waiter's own word nothing but the value counts.
    let word: Mutant = |op| op.relax_if(op.role == "word");
    holds_without(word, condition);
}

const ACTION: u64 = 2;
const ASLEEP: u64 = 4;
const ONCE: u64 = 8;

impl Object {
    /// `Barrier::meet` of two, in the first generation: the word is `state`, the other one a seat.
    fn meet(&self, me: Id) {
        self.latched(me);
        if self.other.load(Acquire) == 0 {
            self.other.store(me.word(), Release);
            self.unlatch(me);
            // `wait_for`
            loop {
                let state = self.word.load(Acquire);
                if state / ONCE != 0 {
                    return;
                }
                if state & ASLEEP == 0 && self.word.cas(state, state | ASLEEP, Relaxed).is_err() {
                    continue;
                }
                self.sleep(state | ASLEEP);
            }
        }
        let state = self.word.load(Relaxed);
        _ = self.word.cas(state, state | ACTION, Release);
        self.unlatch(me);
        // `act`: whatever the action writes is seen, too.
        self.latched(me);
        // `end` and `change`
        self.other.store(0, Relaxed);
        let mut state = self.word.load(Relaxed);
        while let Err(now) = self.word.cas(state, ONCE, Release) {
            state = now;
        }
        if state & ASLEEP != 0 {
            self.kernel.wake(&self.word, u32::MAX);
        }
        self.unlatch(me);
    }
}

/// What each wrote before they met is seen by both afterwards.
fn barrier() {
    let object = Object::new(0, 0);
    let meets = |object: &Object, k: usize| {
        object.data[k - 1].add(1);
        object.meet(id(k));
        assert_eq!(object.data[2 - k].get(), 1);
    };
    let other = spawn(&object, move |object| meets(object, 1));
    meets(&object, 2);
    join([other]);
}

#[test]
fn barriers() {
    holds(OF_FEW_STEPS, barrier);
    fails(How::Race, |op| op.no_release_if(op.is("word", Act::Cas)), barrier);
    fails(How::Race, |op| op.no_acquire_if(op.is("word", Act::Load)), barrier);
    // Who comes second sees by the latch who came first, or waits for ever as well.
    fails(How::Stuck, |op| op.no_acquire_if(op.role != "word"), barrier);
    fails(How::Stuck, |op| op.no_release_if(op.role != "word"), barrier);
}
