//! Places: none is another's before it is empty, and a sweep finds pages wherever they are.

use super::slots::Ring;
use super::*;
use crate::raw::place;
use crate::raw::slots::{self as raw, Position};

/// The first one, and who comes after it.
const FIRST: u64 = 4;
const NEXT: u64 = 8;

/// A queue of one message, and a place.
struct Store {
    ring: Ring,
    latch: Latch,
    owner: Cell,
    /// Which pages it has: only the owner and a sweep are ever at it.
    held: Cell,
    frees: Cell,
    freed: Bell,
    /// Of who comes: that it sits on the board.
    epoch: Cell,
}

impl Store {
    fn new(owner: u64, held: u64) -> Rc<Self> {
        Rc::new(Store {
            ring: Ring::new(1),
            latch: Latch::new(),
            owner: Cell::new("owner", owner),
            held: Cell::guarded("held", held),
            frees: Cell::new("frees", 0),
            freed: Bell::new("freed"),
            epoch: Cell::new("epoch", 0),
        })
    }

    fn claim(&self, me: u64) -> bool {
        place::claim(&self.owner, me)
    }

    fn let_go(&self) {
        place::let_go(&self.owner, &self.held, &self.frees);
    }

    /// As `Store::sweep`, of the place.
    fn sweep(&self) -> (u64, u64) {
        self.ring.senders.with(|| self.ring.receivers.with(|| self.latch.with(|| self.found())))
    }

    fn found(&self) -> (u64, u64) {
        let owner = self.owner.load(Relaxed);
        (owner, if owner == 0 { 0 } else { self.held.load(Relaxed) })
    }
}

/// A sender gives its place up, with its latch; another one takes it, with the store's; and a sweep looks.
fn handed_on() {
    let store = Store::new(FIRST, 1);
    let sends = spawn(&store, |store| store.ring.senders.with(|| store.let_go()));
    let takes = spawn(&store, |store| {
        store.latch.with(|| {
            if store.claim(NEXT) {
                place::name(&store.held, 2);
            }
        });
    });
    let found = store.sweep();
    assert!([(FIRST, 1), (0, 0), (NEXT, 2)].contains(&found), "wrong: {found:?}");
    join([sends, takes]);
}

/// A place that is free before it is empty.
fn handed_on_too_early() {
    let store = Store::new(FIRST, 1);
    let sends = spawn(&store, |store| {
        store.ring.senders.with(|| {
            store.owner.store(0, Release);
            store.held.store(0, Relaxed);
        });
    });
    store.latch.with(|| {
        if store.claim(NEXT) {
            place::name(&store.held, 2);
        }
    });
    join([sends]);
}

/// Two want it: one gets it.
fn wanted_by_two() {
    let store = Store::new(0, 0);
    let wants = |store: &Store, me: u64| {
        if store.claim(me) {
            place::name(&store.held, me);
            assert_eq!(store.held.load(Relaxed), me, "wrong");
            store.let_go();
        }
    };
    let other = spawn(&store, move |store| wants(store, FIRST));
    wants(&store, NEXT);
    join([other]);
}

/// Who waits for a place, since all are taken: it has looked for one since it read the number.
fn waited_for() {
    let store = Store::new(FIRST, 1);
    let waits = spawn(&store, |store| {
        loop {
            let frees = place::counted(&store.frees);
            if store.latch.with(|| store.claim(NEXT)) {
                return;
            }
            store.freed.wait(|| place::counted(&store.frees) != frees);
        }
    });
    store.ring.senders.with(|| store.let_go());
    store.freed.ring_for_all();
    join([waits]);
}

/// A receiver takes the message's pages over, and frees its slot: a sweep finds them in the one or in the other.
fn adopted() {
    adopted_as(|store, at, state| {
        store.ring.receivers.with(|| {
            assert!(store.claim(FIRST), "wrong: nobody else does");
            place::name(&store.held, 1);
            raw::done_with(&store.ring.head, 1, at, state);
        });
    });
}

fn adopted_late() {
    adopted_as(|store, at, state| {
        store.ring.receivers.with(|| raw::done_with(&store.ring.head, 1, at, state));
        store.ring.receivers.with(|| {
            store.claim(FIRST);
            place::name(&store.held, 1);
        });
    });
}

fn adopted_as(adopts: fn(&Store, Position, &Cell)) {
    let store = Store::new(0, 0);
    store.ring.put(1);
    let other = spawn(&store, move |store| adopts(store, Position(0), store.ring.state(Position(0))));
    store.ring.senders.with(|| {
        store.ring.receivers.with(|| {
            let is_full = store.ring.state(Position(0)).load(Relaxed) & 1 != 0;
            assert!(is_full || store.found() == (FIRST, 1), "wrong: the pages are nobody's");
        });
    });
    join([other]);
}

/// What a dead one had is taken by the next, which has one of the latches of the sweep.
fn buried() {
    let store = Store::new(FIRST, 1);
    let sweeps = spawn(&store, |store| {
        store.ring.receivers.with(|| store.latch.with(|| place::bury(&store.owner, &store.held, FIRST)));
    });
    store.latch.with(|| {
        if store.claim(NEXT) {
            place::name(&store.held, 2);
        }
    });
    join([sweeps]);
}

/// Who reads an owner without a latch finds it on the board.
fn newcomer() {
    let store = Store::new(0, 0);
    let comes = spawn(&store, |store| {
        store.epoch.store(1, Relaxed);
        store.claim(NEXT);
    });
    if store.owner.load(Relaxed) != 0 {
        // As `raw::seat::is_over` of `ipc_sync`.
        fence(Acquire);
        assert_eq!(store.epoch.load(Relaxed), 1, "wrong: it is taken for dead");
    }
    join([comes]);
}

#[test]
fn a_place_is_nobody_elses_before_it_is_empty() {
    holds(OF_THREE, handed_on);
    holds(OF_TWO, wanted_by_two);
    holds(OF_TWO, buried);
    for model in [handed_on, wanted_by_two] {
        fails(How::Race, |op| op.no_acquire_if(op.is("owner", Act::Cas)), model);
        fails(How::Race, |op| op.no_release_if(op.is("owner", Act::Store)), model);
    }
    fails_as(How::Race, handed_on_too_early);
}

#[test]
fn who_waits_for_a_place_finds_it() {
    holds(OF_TWO, waited_for);
    // It has read the number of the ring, and has still found the place taken.
    fails(How::Stuck, |op| op.no_acquire_if(op.is("frees", Act::Load)), waited_for);
    fails(How::Stuck, |op| op.no_release_if(op.is("frees", Act::Add)), waited_for);
}

#[test]
fn a_sweep_finds_pages_in_the_slot_or_in_the_place() {
    holds(OF_TWO, adopted);
    fails_as(How::Wrong, adopted_late);
}

#[test]
fn a_new_owner_is_on_the_board() {
    holds(OF_TWO, newcomer);
    fails(How::Wrong, |op| op.no_release_if(op.is("owner", Act::Cas)), newcomer);
}
