//! The lock word.

use super::*;
use crate::id::{Ownerless, W};
use crate::raw::lock::{self, OnDeath, Refused, Taken};

struct Lock {
    word: Cell,
    data: Data,
    kernel: Rc<Kernel>,
}

impl Lock {
    fn new(word: u64, kernel: Kernel) -> Rc<Self> {
        Rc::new(Lock { word: Cell::new("word", word), data: Data::new(), kernel: Rc::new(kernel) })
    }
    fn view(&self) -> View {
        View::of(&self.kernel)
    }
    fn take_as(&self, me: Id, view: &View, on_death: OnDeath, nap: &mut Nap) -> Result<Taken, Refused> {
        if lock::try_fast(&self.word, me) {
            return Ok(Taken::Free);
        }
        lock::acquire(&self.word, me, view, on_death, nap)
    }
    fn take(&self, me: Id, on_death: OnDeath) -> Result<Taken, Refused> {
        self.take_as(me, &self.view(), on_death, &mut Nap::forever())
    }
    fn release(&self, me: Id) {
        assert!(lock::release(&self.word, me, &self.view()), "wrong: not held");
    }
    fn round(&self, me: Id) {
        let taken = self.take(me, OnDeath::Tell);
        assert!(matches!(taken, Ok(Taken::Free)), "wrong: {taken:?}");
        self.data.add(1);
        self.release(me);
    }
}

/// Two threads, each of them twice: also one that comes while another is about to leave or to sleep.
fn two() {
    let lock = Lock::new(0, Kernel::new());
    let other = spawn(&lock, |lock| (0..2).for_each(|_| lock.round(id(1))));
    (0..2).for_each(|_| lock.round(id(2)));
    join([other]);
    assert_eq!(lock.data.get(), 4);
    assert_eq!(lock.word.newest() & !W, 0);
}

/// Three, of which two may sleep at the same time: each must be woken.
fn three() {
    let lock = Lock::new(0, Kernel::new());
    let others = [1, 2].map(|k| spawn(&lock, move |lock| lock.round(id(k))));
    lock.round(id(3));
    join(others);
    assert_eq!(lock.data.get(), 3);
}

#[test]
fn one_at_a_time() {
    holds(OF_TWO, two);
    holds(OF_THREE, three);
    fails(How::Race, |op| op.no_acquire_if(op.takes()), two);
    // By the slow path alone: what one takes who has slept, or finds a sleeper's mark.
    fails(How::Race, |op| op.no_acquire_if(op.takes() && op.to & W != 0), two);
    fails(How::Race, |op| op.no_release_if(op.gives_back()), two);
    // Without sleepers, and with.
    fails(How::Race, |op| op.no_release_if(op.gives_back() && op.from & W == 0), two);
    fails(How::Race, |op| op.no_release_if(op.gives_back() && op.from & W != 0), two);
}

#[test]
fn every_sleeper_is_woken() {
    // One that has slept and takes the word without W leaves the other one asleep.
    fails(
        How::Stuck,
        |op| {
            if op.takes() {
                op.to &= !W
            }
        },
        three,
    );
}

/// One gives up waiting, at any time; who waits on is not forgotten.
fn impatient(most: u32) {
    let lock = Lock::new(0, Kernel::new());
    let one = spawn(&lock, move |lock| {
        let view = View { patient: false, most, ..lock.view() };
        match lock.take_as(id(1), &view, OnDeath::Tell, &mut Nap::forever()) {
            Ok(Taken::Free) => {
                lock.data.add(1);
                lock.release(id(1));
            }
            Err(Refused::TimedOut) => {}
            other => panic!("wrong: {other:?}"),
        }
    });
    let two = spawn(&lock, |lock| lock.round(id(2)));
    // Twice: the second time it takes the lock before the one that was woken, and says nothing of sleepers.
    (0..2).for_each(|_| lock.round(id(3)));
    join([one, two]);
    assert!(lock.data.get() >= 3);
}

#[test]
fn who_gives_up_passes_its_wake_on() {
    holds(OF_THREE, || impatient(u32::MAX));
    fails(How::Stuck, |_| (), || impatient(0));
}

/// Its owner dies, or dies not; the proof of its death is also one of what it wrote.
fn death() {
    let lock = Lock::new(0, Kernel::with_deaths(2));
    let mortal = spawn(&lock, |lock| {
        lock.take(id(1), OnDeath::Recover).expect("somebody else died");
        lock.data.add(1);
        lock.kernel.die(id(1), Release);
    });
    match lock.take(id(2), OnDeath::Recover) {
        Ok(Taken::Free) => {
            lock.data.add(1);
            lock.release(id(2));
        }
        Ok(Taken::FromDead(dead)) => {
            assert_eq!(dead, id(1));
            assert_eq!(lock.data.get(), 1);
            assert!(lock::repaired(&lock.word, id(2)));
            lock.release(id(2));
        }
        other => panic!("wrong: {other:?}"),
    }
    join([mortal]);
}

/// As a death that is known by nothing that orders anything. What was written by the owner before, who is alive, is seen.
fn death_without_proof(on_death: OnDeath) {
    let lock = Lock::new(0, Kernel::with_deaths(3));
    let mortal = spawn(&lock, |lock| {
        lock.round(id(1));
        // The next is another one: nothing but the word says that it comes later.
        if lock::try_fast(&lock.word, id(2)) {
            lock.kernel.die(id(2), Relaxed);
        }
    });
    let taken = lock.take(id(3), on_death).expect("nobody is left alive");
    lock.data.add(1);
    if matches!(taken, Taken::FromDead(_)) && on_death == OnDeath::Recover {
        assert!(lock::repaired(&lock.word, id(3)));
    }
    lock.release(id(3));
    join([mortal]);
}

#[test]
fn what_is_taken_from_the_dead() {
    holds(OF_TWO, death);
    holds(OF_TWO, || death_without_proof(OnDeath::Recover));
    holds(OF_TWO, || death_without_proof(OnDeath::Pass));
    fails(How::Race, |op| op.no_acquire_if(op.is("gone", Act::Load)), death);
    fails(How::Race, |op| op.no_release_if(op.is("gone", Act::Store)), death);
    // The word itself orders what living ones have done.
    fails(How::Race, |op| op.no_acquire_if(op.takes_over()), || death_without_proof(OnDeath::Recover));
    fails(How::Race, |op| op.no_acquire_if(op.takes_over()), || death_without_proof(OnDeath::Pass));
}

/// A death, one that recovers and leaves it as it is, and the next one.
fn unrepaired() {
    let kernel = Kernel::with_deaths(3);
    kernel.gone[1].store(1, Relaxed);
    let lock = Lock::new(id(1).word(), kernel);
    let recover = |lock: &Lock, me| {
        match lock.take(me, OnDeath::Recover) {
            Ok(Taken::FromDead(dead)) => assert_eq!(dead, id(1)),
            Ok(Taken::Unrepaired(pid)) => assert_eq!(pid, 101, "wrong process"),
            other => panic!("wrong: {other:?}"),
        }
        lock.data.add(1);
        assert!(lock::abandon(&lock.word, me, &lock.view(), Ownerless::Unrepaired, 101));
    };
    let other = spawn(&lock, move |lock| recover(lock, id(2)));
    recover(&lock, id(3));
    join([other]);
    assert_eq!(lock.data.get(), 2);
    let refused = lock.take(id(2), OnDeath::Tell);
    assert!(matches!(refused, Err(Refused::Ownerless(Ownerless::Unrepaired, 101))), "wrong: {refused:?}");
}

/// One gives it up; the other, when told so, takes it into use again.
fn given_up() {
    let kernel = Kernel::with_deaths(3);
    kernel.gone[1].store(1, Relaxed);
    let lock = Lock::new(id(1).word(), kernel);
    let other = spawn(&lock, |lock| {
        lock.take(id(2), OnDeath::Recover).expect("nobody else recovers");
        lock.data.add(1);
        assert!(lock::abandon(&lock.word, id(2), &lock.view(), Ownerless::GivenUp, 101));
    });
    loop {
        match lock.take(id(3), OnDeath::Tell) {
            Err(Refused::OwnerDied(_)) => thread::yield_now(),
            Err(Refused::Ownerless(Ownerless::GivenUp, 101)) => assert!(lock::reset(&lock.word)),
            Ok(Taken::Free) => break,
            other => panic!("wrong: {other:?}"),
        }
    }
    assert_eq!(lock.data.get(), 1);
    lock.release(id(3));
    join([other]);
}

#[test]
fn what_was_left_or_given_up() {
    holds(OF_TWO, unrepaired);
    holds(OF_TWO, given_up);
    fails(How::Race, |op| op.no_acquire_if(op.takes_unrepaired()), unrepaired);
    fails(How::Race, |op| op.no_release_if(op.gives_back()), unrepaired);
    fails(How::Race, |op| op.no_release_if(op.gives_back()), given_up);
    fails(How::Race, |op| op.no_acquire_if(op.takes()), given_up);
}
