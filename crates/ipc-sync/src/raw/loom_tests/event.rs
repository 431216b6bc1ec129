//! The event word.

use super::*;
use crate::error::WaitError;
use crate::raw::event::{self as raw, ONCE, SLEEPERS};

struct Event {
    word: Cell,
    data: Data,
    kernel: Rc<Kernel>,
    /// How many are woken at most.
    most: u32,
}

impl Event {
    fn new() -> Rc<Self> {
        Event::waking(u32::MAX)
    }
    fn waking(most: u32) -> Rc<Self> {
        let word = Cell::new("event", 0);
        Rc::new(Event { word, data: Data::new(), kernel: Rc::new(Kernel::new()), most })
    }
    fn set(&self) {
        if raw::set(&self.word) {
            self.kernel.wake(&self.word, self.most);
        }
    }
    fn wait(&self) {
        raw::wait(&self.word, &View::of(&self.kernel), Nap::forever).expect("loom's kernel does not fail");
    }
}

/// What was written before it was set is seen by all who wait.
fn two_wait() {
    two_wait_of(u32::MAX);
}

fn two_wait_of(most: u32) {
    let event = Event::waking(most);
    let waits = |event: &Event| {
        event.wait();
        assert_eq!(event.data.get(), 1);
    };
    let others = [1, 2].map(|_| spawn(&event, waits));
    event.data.add(1);
    event.set();
    join(others);
}

/// Set and cleared at once: who waits already does not miss it.
fn pulse() {
    let event = Event::new();
    let other = spawn(&event, |event| {
        event.wait();
        // Also if it was found set before it was cleared.
        assert_eq!(event.data.get(), 1);
    });
    // It waits: it has left its mark.
    while event.word.newest() as u32 & SLEEPERS == 0 {
        thread::yield_now();
    }
    event.data.add(1);
    event.set();
    raw::clear(&event.word);
    join([other]);
}

/// One writes when it finds the event cleared, and sets it; the other reads when it finds it set, and clears it.
fn to_and_fro() {
    let event = Event::new();
    let other = spawn(&event, |event| {
        for round in 1..=2 {
            event.wait();
            assert_eq!(event.data.get(), round);
            assert!(raw::clear(&event.word), "wrong: nobody else clears");
        }
    });
    for _ in 0..2 {
        while raw::is_set(&event.word) {
            thread::yield_now();
        }
        event.data.add(1);
        event.set();
    }
    join([other]);
}

/// Several look whether it is set, and take it by clearing it: one of them gets what was written.
fn taken_by_clearing() {
    let event = Event::new();
    let takes = |event: &Event| {
        if raw::clear(&event.word) {
            event.data.add(1);
        }
    };
    let other = spawn(&event, takes);
    event.data.add(1);
    event.set();
    takes(&event);
    join([other]);
    assert_eq!(event.data.get(), 2);
}

/// One gives up; the other is woken all the same.
fn one_gives_up() {
    let event = Event::new();
    let impatient = spawn(&event, |event| {
        let view = View { patient: false, ..View::of(&event.kernel) };
        match raw::wait(&event.word, &view, Nap::forever) {
            Ok(()) => assert_eq!(event.data.get(), 1),
            Err(WaitError::Timeout) => {}
            Err(other) => panic!("wrong: {other:?}"),
        }
    });
    let patient = spawn(&event, |event| {
        event.wait();
        assert_eq!(event.data.get(), 1);
    });
    event.data.add(1);
    event.set();
    join([impatient, patient]);
}

#[test]
fn who_waits_sees_what_was_written() {
    holds(OF_THREE, two_wait);
    holds(OF_TWO, pulse);
    holds(OF_THREE, one_gives_up);
    fails(How::Race, |op| op.no_release_if(op.act == Act::Cas), two_wait);
    fails(How::Race, |op| op.no_acquire_if(op.act == Act::Load), two_wait);
    fails(How::Race, |op| op.no_release_if(op.act == Act::Cas), pulse);
    fails(How::Race, |op| op.no_acquire_if(op.act == Act::Load), pulse);
}

#[test]
fn who_waits_is_woken() {
    // A set that does not count is missed when it is cleared.
    let uncounted: Mutant = |op| {
        if op.act == Act::Cas && op.ordering == Release {
            op.to = op.to.wrapping_sub(u64::from(ONCE));
        }
    };
    fails(How::Stuck, uncounted, pulse);
    // Who wakes one wakes all.
    fails(How::Stuck, |_| (), || two_wait_of(1));
}

#[test]
fn who_clears_has_seen_and_has_read() {
    holds(OF_TWO, to_and_fro);
    holds(OF_TWO, taken_by_clearing);
    fails(How::Race, |op| op.no_acquire_if(op.act == Act::Rmw), taken_by_clearing);
    fails(How::Race, |op| op.no_release_if(op.act == Act::Rmw), to_and_fro);
    fails(How::Race, |op| op.no_acquire_if(op.act == Act::Load), to_and_fro);
}
