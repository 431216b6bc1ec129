//! Leases: a message is in its slot or in a lease for all who look, and what was acknowledged is not delivered again.

use std::io;

use super::slots::Ring;
use super::*;
use crate::raw::lease::{self as raw, AGAIN, DONE, FREE, OUT};
use crate::raw::slots;
use ipc_sync::object::Id;

/// The owners, as words of the board.
const FIRST: u64 = 1 << 2;
const SECOND: u64 = 2 << 2;

/// A work queue with one slot and one lease, which both name one page.
struct Work {
    ring: Ring,
    state: Cell,
    owner: Cell,
    /// How many leases were ever used.
    high: Cell,
    body: Data,
    /// The page that the lease names, whether it is in use, and what is there.
    pages: Cell,
    bit: Cell,
    page: Data,
    store: Latch,
    items: Bell,
    done: Bell,
    /// What the work is about.
    work: Data,
    /// Whether the first owner is dead.
    gone: Cell,
    epoch: Cell,
}

thread_local! {
    /// Somebody has been asked whether an owner is gone.
    static ASKED: StdCell<bool> = const { StdCell::new(false) };
}

impl Work {
    /// Whose lease is in that state, the first one's.
    fn new(state: u32, pages: u64) -> Rc<Self> {
        Rc::new(Work {
            ring: Ring::new(1),
            state: Cell::new("state of lease", state.into()),
            owner: Cell::new("owner", FIRST),
            high: Cell::new("high", u64::from(state != FREE)),
            body: Data::new(1),
            pages: Cell::new("pages", pages),
            bit: Cell::new("bit", pages),
            page: Data::new(1),
            store: Latch::new(),
            items: Bell::new("items"),
            done: Bell::new("done"),
            work: Data::new(0),
            gone: Cell::new("gone", 0),
            epoch: Cell::new("epoch", 0),
        })
    }

    fn make(&self, me: u64, body: u64) {
        let fill = || {
            self.body.set(body);
            io::Result::Ok(())
        };
        self.high.store(1, Relaxed);
        raw::make(&self.state, &self.owner, me, fill).expect("nothing fails");
    }

    /// As `Queue::deliver` of a message that is in its slot.
    fn deliver(&self, me: u64) -> bool {
        self.ring.receivers.with(|| {
            let (at, state, is_full) =
                slots::first(&self.ring.head, 1, |at| self.ring.state(at)).expect("no scribbles: wrong");
            if is_full && raw::load(&self.state) == FREE {
                self.make(me, 2);
                slots::done_with(&self.ring.head, 1, at, state);
                return true;
            }
            false
        })
    }

    /// As `Leases::ack` and `Delivery::ack`.
    fn ack(&self, is_cut_off: bool) {
        let free = || {
            self.store.with(|| {
                self.bit.store(0, Relaxed);
                self.pages.store(0, Relaxed);
            });
            if is_cut_off { Err(()) } else { Ok(()) }
        };
        let has_pages = self.pages.load(Relaxed) != 0;
        if raw::ack(&self.state, has_pages.then_some(free)).is_ok() {
            self.done.ring();
        }
    }

    fn die(&self) {
        // As the last of `Board::patrol`.
        self.gone.store(1, Release);
    }

    fn is_due(&self) -> bool {
        let is_gone = |owner: Id| {
            ASKED.set(true);
            Ok(owner.word() == FIRST && self.gone.load(Acquire) != 0)
        };
        raw::is_due(&self.state, &self.owner, is_gone).expect("nothing fails")
    }

    /// With the receivers' latch, as `Leases::take_due`.
    fn take_due(&self) -> bool {
        ASKED.set(false);
        let is_due = self.is_due();
        ASKED.set(false);
        if is_due {
            raw::give_to(&self.state, &self.owner, SECOND);
        }
        is_due
    }

    /// For the first one, as `Leases::may_come`.
    fn may_come(&self) -> bool {
        let me = Id::of(FIRST).expect("an owner");
        self.high.load(Relaxed) != 0 && raw::may_come(&self.state, &self.owner, me)
    }

    /// As of `join`.
    fn is_done(&self) -> bool {
        !self.ring.has_message()
            && (self.high.load(Relaxed) == 0 || !matches!(raw::load(&self.state), OUT | AGAIN))
    }
}

/// A lease is used again: what was in it has been read.
fn used_again() {
    let work = Work::new(OUT, 0);
    let acks = spawn(&work, |work| {
        assert_eq!(work.body.get(), 1);
        work.ack(false);
    });
    work.ring.put(2);
    if work.deliver(SECOND) {
        assert_eq!(work.body.get(), 2);
    }
    join([acks]);
}

/// Given back, it is taken by another, which sleeps until then.
fn given_back() {
    let work = Work::new(OUT, 0);
    let gives_back = spawn(&work, |work| {
        work.work.set(work.body.get());
        raw::set(&work.state, AGAIN);
        work.items.ring();
    });
    while !work.ring.receivers.with(|| work.take_due()) {
        work.items.wait(|| work.is_due());
    }
    work.work.set(work.work.get() + 1);
    join([gives_back]);
}

/// `join` sees a message in its slot, or out, or done: then also what was done.
fn joined() {
    joined_with(|work| {
        assert!(work.deliver(SECOND), "wrong: it is there");
    });
}

/// A slot that is free before the message is in a lease.
fn joined_too_early() {
    joined_with(|work| {
        work.ring.receivers.with(|| {
            let (at, state, _) =
                slots::first(&work.ring.head, 1, |at| work.ring.state(at)).expect("no scribbles");
            slots::done_with(&work.ring.head, 1, at, state);
            work.make(SECOND, 2);
        });
    });
}

fn joined_with(delivers: fn(&Work)) {
    let work = Work::new(FREE, 0);
    work.ring.put(2);
    let worker = spawn(&work, move |work| {
        delivers(work);
        work.work.set(1);
        work.ack(false);
    });
    while !work.is_done() {
        work.done.wait(|| work.is_done());
    }
    assert_eq!(work.work.get(), 1, "wrong: it is not done");
    join([worker]);
}

/// Two wait for it: the ring for the one is passed on.
fn joined_by_two() {
    IN_ALL_ORDERS.set(false);
    let work = Work::new(OUT, 0);
    let joins = |work: &Work| {
        let mut has_slept = false;
        while !work.is_done() {
            has_slept |= work.done.wait(|| work.is_done());
        }
        if has_slept {
            work.done.settle(|| true);
        }
        assert_eq!(work.work.get(), 1, "wrong: it is not done");
    };
    let others = [(), ()].map(|()| spawn(&work, joins));
    work.work.set(1);
    work.ack(false);
    join(others);
}

/// Who acknowledges and goes: never is it delivered again.
fn done_and_gone() {
    let work = Work::new(OUT, 0);
    let goes = spawn(&work, |work| {
        work.ack(false);
        work.die();
    });
    assert!(!work.ring.receivers.with(|| work.take_due()), "wrong: it was done");
    join([goes]);
}

/// Who gives it back and goes: it is delivered again, and there is what was done with it.
fn given_back_and_gone() {
    let work = Work::new(OUT, 0);
    let goes = spawn(&work, |work| {
        work.work.set(1);
        raw::set(&work.state, AGAIN);
        work.die();
    });
    if work.ring.receivers.with(|| work.take_due()) {
        assert_eq!(work.work.get(), 1);
    }
    join([goes]);
}

/// Who is killed with the message's page free already: it was done, and the page is a sender's.
fn killed_in_ack() {
    let work = Work::new(OUT, 1);
    let dies = spawn(&work, |work| {
        work.ack(true);
        work.die();
    });
    let sends = spawn(&work, |work| {
        if work.store.with(|| work.bit.load(Relaxed) == 0) {
            work.page.set(2);
        }
    });
    if work.ring.receivers.with(|| work.take_due()) {
        assert_eq!(work.page.get(), 1, "wrong: another's page");
    }
    join([dies, sends]);
}

/// The last message is taken, and then the last sender goes: it may come again, for one that waits.
fn last_one_taken() {
    last_one_taken_as(|work, _| work.may_come());
}

fn last_one_taken_as(may_come: fn(&Work, bool) -> bool) {
    let work = Work::new(FREE, 0);
    let takes = spawn(&work, |work| {
        work.ring.put(2);
        work.deliver(SECOND);
        // The kernel's word, of the senders' role.
        work.gone.store(1, Release);
    });
    let before = work.may_come();
    if work.gone.load(Acquire) != 0 && !work.ring.has_message() {
        assert!(may_come(&work, before), "wrong: it is not over");
    }
    join([takes]);
}

/// Without the kernel's word: who finds no message in the slots finds it in its lease.
fn taken_meanwhile() {
    let work = Work::new(FREE, 0);
    work.ring.put(2);
    let takes = spawn(&work, |work| {
        work.deliver(SECOND);
    });
    if !work.ring.has_message() {
        assert!(work.may_come(), "wrong: it is nowhere");
    }
    join([takes]);
}

/// What one gave back is given to another: to the one it may come again all the while.
fn given_away() {
    let work = Work::new(AGAIN, 0);
    let takes = spawn(&work, |work| raw::give_to(&work.state, &work.owner, SECOND));
    assert!(work.may_come(), "wrong: it has it itself, and does not know");
    join([takes]);
}

fn given_away_in_another_order() {
    let work = Work::new(AGAIN, 0);
    let takes = spawn(&work, |work| {
        raw::set(&work.state, OUT);
        work.owner.store(SECOND, Release);
    });
    assert!(work.may_come(), "wrong: it has it itself, and does not know");
    join([takes]);
}

/// Who looks without the latch while it is delivered to another finds that one on the board.
fn newcomer() {
    let work = Work::new(OUT, 0);
    let comes = spawn(&work, |work| {
        work.epoch.store(1, Relaxed);
        raw::give_to(&work.state, &work.owner, SECOND);
    });
    let is_gone = |owner: Id| {
        // As `raw::seat::is_over` of `ipc_sync`.
        fence(Acquire);
        assert!(owner.word() == FIRST || work.epoch.load(Relaxed) == 1, "wrong: it is taken for dead");
        Ok(false)
    };
    raw::is_due(&work.state, &work.owner, is_gone).expect("nothing fails");
    join([comes]);
}

const STATE_UNRELEASED: Mutant = |op| op.no_release_if(op.role == "state of lease");
const STATE_UNACQUIRED: Mutant = |op| op.no_acquire_if(op.role == "state of lease");

#[test]
fn a_lease_is_used_again_when_it_was_read() {
    holds(OF_TWO, used_again);
    fails(How::Race, STATE_UNRELEASED, used_again);
    fails(How::Race, STATE_UNACQUIRED, used_again);
}

#[test]
fn what_is_given_back_is_delivered_again() {
    holds(OF_TWO, given_back);
    fails(How::Race, STATE_UNRELEASED, given_back);
    fails(How::Race, STATE_UNACQUIRED, given_back);
    fails(How::Stuck, |op| op.relax_if(op.act == Act::Fence && op.after != "items"), given_back);
    fails(How::Stuck, |op| op.relax_if(op.act == Act::Fence && op.after == "items"), given_back);
}

#[test]
fn join_waits_until_all_is_done() {
    holds(OF_TWO, joined);
    holds(OF_THREE, joined_by_two);
    // The slot is empty, and the lease not there yet: who moves `head` and who looks there first.
    fails(How::Race, |op| op.no_release_if(op.is("head", Act::Store)), joined);
    fails(How::Race, |op| op.no_acquire_if(op.is("head", Act::Load)), joined);
    fails(How::Race, STATE_UNRELEASED, joined);
    fails(How::Race, STATE_UNACQUIRED, joined);
    fails(How::Stuck, |op| op.relax_if(op.act == Act::Fence && op.after != "done"), joined_by_two);
    fails(How::Stuck, |op| op.relax_if(op.act == Act::Fence && op.after == "done"), joined_by_two);
    fails_as(How::Race, joined_too_early);
}

#[test]
fn it_is_not_over_while_another_has_a_message() {
    holds(OF_TWO, last_one_taken);
    holds(OF_TWO, taken_meanwhile);
    holds(OF_TWO, given_away);
    fails(How::Wrong, |op| op.no_release_if(op.is("head", Act::Store)), taken_meanwhile);
    fails(How::Wrong, |op| op.no_acquire_if(op.is("head", Act::Load)), taken_meanwhile);
    fails(How::Wrong, STATE_UNRELEASED, given_away);
    fails(How::Wrong, STATE_UNACQUIRED, given_away);
    fails_as(How::Wrong, given_away_in_another_order);
    // Who has something was asked before who sends, and not again.
    fails_as(How::Wrong, || last_one_taken_as(|_, before| before));
}

#[test]
fn what_is_done_is_not_delivered_again() {
    holds(OF_TWO, done_and_gone);
    holds(OF_TWO, given_back_and_gone);
    holds(OF_THREE, killed_in_ack);
    // Who has heard that the owner is gone believes what it saw before.
    let looks_once: Mutant = |op| {
        if ASKED.get() && op.is("state of lease", Act::Load) {
            op.instead = Some(OUT.into());
        }
    };
    fails(How::Wrong, looks_once, done_and_gone);
    // Its death is no proof of what it did.
    fails(How::Wrong, |op| op.relax_if(op.role == "gone"), done_and_gone);
    // Pages are free before the message is done.
    let frees_first: Mutant = |op| {
        if op.is("state of lease", Act::Store) && op.to == u64::from(DONE) {
            op.to = OUT.into();
        }
    };
    fails(How::Race, frees_first, killed_in_ack);
}

#[test]
fn a_new_owner_is_on_the_board() {
    holds(OF_TWO, newcomer);
    fails(How::Wrong, |op| op.no_release_if(op.is("owner", Act::Store)), newcomer);
}
