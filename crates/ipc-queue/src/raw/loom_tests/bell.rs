//! Bells: nobody sleeps through what it waits for.

use super::slots::Ring;
use super::*;
use crate::raw::bell::ONCE;
use crate::raw::place;

/// A queue with its two bells.
struct Queue {
    ring: Ring,
    items: Bell,
    room: Bell,
    /// Who has slept leaves its flag away, for a mutant.
    settles: bool,
    /// Who has done something rings before it, for a mutant.
    rings_first: bool,
}

impl Queue {
    fn new(capacity: usize) -> Self {
        IN_ALL_ORDERS.set(false);
        Queue {
            ring: Ring::new(capacity),
            items: Bell::new("items"),
            room: Bell::new("room"),
            settles: true,
            rings_first: false,
        }
    }

    /// As `Sender::put_with`.
    fn send(&self, message: u64) {
        let mut has_slept = false;
        loop {
            if self.rings_first {
                self.items.ring_after_latch();
            }
            if self.ring.put(message) {
                if !self.rings_first {
                    self.items.ring_after_latch();
                }
                if has_slept && self.settles {
                    self.room.settle(|| self.ring.has_room());
                }
                return;
            }
            has_slept |= self.room.wait(|| self.ring.has_room());
        }
    }

    /// As `Receiver::take`.
    fn receive(&self) -> u64 {
        let mut has_slept = false;
        loop {
            if self.ring.has_message()
                && let Some(message) = self.ring.take()
            {
                self.room.ring_after_latch();
                if has_slept && self.settles {
                    self.items.settle(|| self.ring.has_message());
                }
                return message;
            }
            has_slept |= self.items.wait(|| self.ring.has_message());
        }
    }
}

/// Both wait for each other.
fn to_and_fro() {
    to_and_fro_in(Queue::new(1));
}

fn to_and_fro_in(queue: Queue) {
    let queue = Rc::new(queue);
    let sender = spawn(&queue, |queue| (1..=2).for_each(|message| queue.send(message)));
    (1..=2).for_each(|message| assert_eq!(queue.receive(), message, "wrong: not in order"));
    join([sender]);
}

/// Two rings, perhaps before the first one that they wake has come to itself.
fn two_receive() {
    two_receive_in(Queue::new(2));
}

fn two_receive_in(queue: Queue) {
    let queue = Rc::new(queue);
    let receivers = [(), ()].map(|()| {
        spawn(&queue, |queue| {
            queue.receive();
        })
    });
    queue.send(1);
    queue.send(2);
    join(receivers);
}

/// Two wait for room in one slot, of which each message that is taken makes some.
fn two_send() {
    let queue = Rc::new(Queue::new(1));
    queue.send(1);
    let senders = [2, 3].map(|message| spawn(&queue, move |queue| queue.send(message)));
    queue.receive();
    queue.receive();
    join(senders);
}

/// Two who wait for another number, which comes once.
struct News {
    frees: Cell,
    freed: Bell,
}

fn both_hear() {
    let news = Rc::new(News { frees: Cell::new("frees", 0), freed: Bell::new("freed") });
    let hears = |news: &News| {
        while place::counted(&news.frees) == 0 {
            news.freed.wait(|| place::counted(&news.frees) != 0);
        }
    };
    let others = [(), ()].map(|()| spawn(&news, hears));
    place::count(&news.frees);
    news.freed.ring_for_all();
    join(others);
}

/// Of `ring_all`, which does not look whether anybody sleeps.
fn the_end_is_heard() {
    let news = Rc::new(News { frees: Cell::new("gone", 0), freed: Bell::new("freed") });
    let other = spawn(&news, |news| {
        while place::counted(&news.frees) == 0 {
            news.freed.wait(|| place::counted(&news.frees) != 0);
        }
    });
    place::count(&news.frees);
    crate::raw::bell::ring_all(&news.freed.word);
    news.freed.wake_all();
    join([other]);
}

const BELLS: [&str; 3] = ["items", "room", "freed"];
/// No fence on the side of who rings: what it did before was not at the bell.
const RINGS_WITHOUT_FENCE: Mutant = |op| op.relax_if(op.act == Act::Fence && !BELLS.contains(&op.after));
/// And on the side of who is about to sleep.
const ARMS_WITHOUT_FENCE: Mutant = |op| op.relax_if(op.act == Act::Fence && BELLS.contains(&op.after));

#[test]
fn nobody_sleeps_through_a_message_or_room() {
    holds(OF_TWO, to_and_fro);
    holds(OF_THREE, two_receive);
    holds(OF_THREE, two_send);
    fails(How::Stuck, RINGS_WITHOUT_FENCE, to_and_fro);
    fails(How::Stuck, ARMS_WITHOUT_FENCE, to_and_fro);
    fails_as(How::Stuck, || to_and_fro_in(Queue { rings_first: true, ..Queue::new(1) }));
}

#[test]
fn who_was_woken_has_the_next_one_woken() {
    // One ring takes the flag away, and the next one finds nobody.
    fails_as(How::Stuck, || two_receive_in(Queue { settles: false, ..Queue::new(2) }));
    // Who settles looks behind a fence.
    fails(How::Stuck, ARMS_WITHOUT_FENCE, two_receive);
}

#[test]
fn what_is_for_all_is_heard_by_all() {
    holds(OF_THREE, both_hear);
    holds(OF_TWO, the_end_is_heard);
    fails(How::Stuck, RINGS_WITHOUT_FENCE, both_hear);
    fails(How::Stuck, ARMS_WITHOUT_FENCE, both_hear);
    fails(How::Stuck, RINGS_WITHOUT_FENCE, the_end_is_heard);
    // A ring that does not count: who armed before it goes to sleep.
    let uncounted: Mutant = |op| {
        if op.is("freed", Act::Add) && op.to == u64::from(ONCE) {
            op.to = 0;
        }
    };
    fails(How::Stuck, uncounted, the_end_is_heard);
    fails(How::Stuck, uncounted, both_hear);
}
