//! Slots: no message is read before it was written, nor overwritten before it was read; and none is lost, wherever a
//! position was left behind.

use super::*;
use crate::raw::slots::{self as raw, Position};

pub(super) struct Ring {
    pub(super) senders: Latch,
    pub(super) receivers: Latch,
    pub(super) head: Cell,
    tail: Cell,
    states: Vec<Cell>,
    slots: Vec<Data>,
}

/// Where a thread is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dies {
    Not,
    /// When it has stored the state, and before the position.
    BehindState,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Ring {
            senders: Latch::new(),
            receivers: Latch::new(),
            head: Cell::new("head", 0),
            tail: Cell::new("tail", 0),
            states: (0..capacity).map(|_| Cell::new("state", 0)).collect(),
            slots: (0..capacity).map(|_| Data::new(0)).collect(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.states.len()
    }

    pub(super) fn state(&self, at: Position) -> &Cell {
        &self.states[at.index()]
    }

    pub(super) fn has_message(&self) -> bool {
        raw::has_message(&self.head, self.capacity(), |at| self.state(at))
    }

    pub(super) fn has_room(&self) -> bool {
        raw::has_room(&self.tail, self.capacity(), |at| self.state(at))
    }

    /// As `Queue::put`, with the latch. Whether there was room.
    pub(super) fn put(&self, message: u64) -> bool {
        self.put_or_die(message, Dies::Not)
    }

    fn put_or_die(&self, message: u64, dies: Dies) -> bool {
        self.senders.with(|| {
            let room =
                raw::room(&self.tail, self.capacity(), |at| self.state(at)).expect("no scribbles: wrong");
            let Some((at, state)) = room else { return false };
            self.slots[at.index()].set(message);
            match dies {
                Dies::Not => raw::commit(&self.tail, self.capacity(), at, state),
                Dies::BehindState => state.store(at.full(), Release),
            }
            true
        })
    }

    /// As `Queue::take`, with the latch.
    pub(super) fn take(&self) -> Option<u64> {
        self.take_or_die(Dies::Not)
    }

    fn take_or_die(&self, dies: Dies) -> Option<u64> {
        self.receivers.with(|| {
            let (at, state, is_full) =
                raw::first(&self.head, self.capacity(), |at| self.state(at)).expect("no scribbles: wrong");
            if !is_full {
                return None;
            }
            let message = self.slots[at.index()].get();
            match dies {
                Dies::Not => raw::done_with(&self.head, self.capacity(), at, state),
                Dies::BehindState => state.store(at.taken(), Release),
            }
            Some(message)
        })
    }
}

/// What is sent and what is taken: who finds no room, or nothing, goes away.
struct Run {
    ring: Ring,
    sent: StdCell<u64>,
    taken: StdCell<u64>,
}

impl Run {
    fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Run { ring: Ring::new(capacity), sent: StdCell::new(0), taken: StdCell::new(0) })
    }

    /// A message is a digit.
    fn send(&self, message: u64, dies: Dies) {
        if self.ring.put_or_die(message, dies) {
            self.sent.set(self.sent.get() + message);
        }
    }

    fn receive(&self, dies: Dies) -> Option<u64> {
        let message = self.ring.take_or_die(dies)?;
        self.taken.set(self.taken.get() + message);
        Some(message)
    }

    /// When all others have ended.
    fn check(&self) {
        while self.receive(Dies::Not).is_some() {}
        assert_eq!(self.taken.get(), self.sent.get(), "wrong: something is lost, or was taken twice");
    }
}

/// One sends and one receives, through so many slots, once around and again.
fn one_to_one(capacity: usize) {
    let run = Run::new(capacity);
    let sender = spawn(&run, move |run| {
        (1..=capacity as u64 + 1).for_each(|message| run.send(message, Dies::Not));
    });
    let mut last = 0;
    for _ in 0..=capacity {
        if let Some(message) = run.receive(Dies::Not) {
            assert_eq!(message, last + 1, "wrong: not in order");
            last = message;
        }
    }
    join([sender]);
    run.check();
}

fn through_one_slot() {
    one_to_one(1);
}

fn through_two_slots() {
    one_to_one(2);
}

fn two_senders() {
    let run = Run::new(1);
    let senders = [1, 10].map(|message| spawn(&run, move |run| run.send(message, Dies::Not)));
    run.receive(Dies::Not);
    join(senders);
    run.check();
}

fn two_receivers() {
    let run = Run::new(1);
    let receivers = [(), ()].map(|()| {
        spawn(&run, |run| {
            run.receive(Dies::Not);
        })
    });
    run.send(1, Dies::Not);
    run.send(10, Dies::Not);
    join(receivers);
    run.check();
}

/// Both positions were left behind, while the others go on.
fn left_behind() {
    let run = Run::new(2);
    let sender = spawn(&run, |run| {
        run.send(1, Dies::BehindState);
        run.send(10, Dies::Not);
        run.send(100, Dies::Not);
    });
    run.receive(Dies::BehindState);
    run.receive(Dies::Not);
    join([sender]);
    run.check();
}

#[test]
fn a_message_is_written_before_it_is_read_and_read_before_it_is_overwritten() {
    holds(OF_TWO + 1, through_one_slot);
    holds(OF_TWO, through_two_slots);
    holds(OF_THREE, two_senders);
    holds(OF_THREE, two_receivers);
    holds(OF_TWO, left_behind);
    for model in [through_one_slot, through_two_slots, left_behind] {
        // `commit` and `first`; `done_with` and `room`.
        fails(How::Race, |op| op.relax_if(op.is("state", Act::Store) && op.to % 2 == 1), model);
        fails(How::Race, |op| op.relax_if(op.is("state", Act::Store) && op.to % 2 == 0), model);
        fails(How::Race, |op| op.relax_if(op.is("state", Act::Load) && op.after == "head"), model);
        fails(How::Race, |op| op.relax_if(op.is("state", Act::Load) && op.after == "tail"), model);
    }
    fails(How::Race, |op| op.no_release_if(op.role == "state"), two_senders);
    fails(How::Race, |op| op.no_release_if(op.role == "state"), two_receivers);
}

#[test]
fn steps_in_another_order_fail() {
    // The state before the message; and the slot free before the message was read.
    fails_as(How::Race, || {
        let ring = Rc::new(Ring::new(1));
        let sender = spawn(&ring, |ring| {
            ring.senders.with(|| {
                raw::commit(&ring.tail, 1, Position(0), &ring.states[0]);
                ring.slots[0].set(1);
            });
        });
        ring.take();
        join([sender]);
    });
    fails_as(How::Race, || {
        let ring = Rc::new(Ring::new(1));
        ring.put(1);
        let receiver = spawn(&ring, |ring| {
            ring.receivers.with(|| {
                raw::done_with(&ring.head, 1, Position(0), &ring.states[0]);
                ring.slots[0].get();
            });
        });
        ring.put(2);
        join([receiver]);
    });
}
