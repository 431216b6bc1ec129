//! Leases: "Leases" of docs/queue-layout.md. All messages are in their slots when it begins, one page behind each. Latches
//! are taken in one step, by whoever finds one free or its owner dead; and who has nothing to do looks again as soon as
//! there is something: `queue` and `store` have the rest.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, OWNER_DIED, Ticks, World, bury, kill};
use crate::{is_large, prove, refute};

/// The latches.
const RECEIVERS: usize = 0;
const STORE: usize = 1;

/// At most so many leases.
const MOST: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Of {
    Free,
    Out,
    Again,
    Aside,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Lease {
    state: Of,
    /// Whose, + 1.
    owner: u8,
    attempts: u8,
    /// The message, + 1.
    id: u8,
    pages: bool,
}

/// Where an actor is: the next thing that it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Begins,
    LooksAtHead,
    Scans,
    Counts,
    Owns,
    OutAgain,
    Seeks,
    Clears,
    Writes,
    Out,
    FreesSlot,
    MovesHead,
    Unlatches,
    UnlatchesNothing,
    Works,
    SaysDone,
    LatchesStore,
    Unmarks,
    Forgets,
    UnlatchesStore,
    Frees,
    Sweeps,
    SweepLatchesStore,
    SweepsSlots,
    SweepsLeases,
    SweepForgets,
    SweepFrees,
    WritesBits,
    Cleans,
    SweepUnlatchesStore,
    SweepUnlatches,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Actor {
    at: At,
    repairs: bool,
    /// The lease that it looks at, or has.
    lease: u8,
    /// The message that it works on, + 1, until its lease says something else; also of one that was killed.
    has: u8,
    /// What a sweep has found in use.
    used: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    latches: [u8; 2],
    dirty: bool,
    /// The messages in their slots, and pages in use: a bit for each message.
    slots: u8,
    bits: u8,
    head: u8,
    leases: [Lease; MOST],
    actors: [Actor; N],
    nacks: u8,
    /// What was ever worked on, and what is done.
    seen: u8,
    done: u8,
    /// Who had a thread die, and lives.
    forged: bool,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// A slot is free before its message's lease is out.
    FreesSlotFirst,
    /// A lease of the message that is still in its slot is taken for one.
    TrustsHalfMade,
    /// What somebody has is delivered again when a thread of its is dead.
    JudgesThreads,
    /// Pages are freed before the lease says that the message is done.
    FreesPagesFirst,
    /// A lease is free before its pages are.
    FreesLeaseFirst,
    /// Delivered again, it is not counted.
    CountsNothing,
    /// Delivered again, it is out before it has its new owner.
    OwnsLate,
    /// A lease that one who died had just done is free only when somebody needs pages.
    NobodySweeps,
    /// A sweep frees what is done while its owner still does so.
    SweepsTheLiving,
}

#[derive(Clone, Copy, Debug)]
struct Leases<const N: usize> {
    messages: u8,
    leases: usize,
    /// After how many deliveries a message is put aside.
    attempts: u8,
    /// How often messages may be given back.
    nacks: u8,
    /// A thread may die whose process lives.
    forges: bool,
    kills: u8,
    mutant: Mutant,
}

impl<const N: usize> State<N> {
    fn is_gone(&self, owner: u8) -> bool {
        owner > 0 && self.world.life[usize::from(owner) - 1] == Life::Ended
    }

    fn latch_is_dead(&self, latch: usize) -> bool {
        let owner = self.latches[latch];
        self.is_gone(owner) || (owner > 0 && self.world.life[usize::from(owner) - 1] == Life::Torn)
    }

    fn wants_sweep(&self) -> bool {
        self.dirty || self.leases.iter().any(|lease| lease.state == Of::Done && self.is_gone(lease.owner))
    }
}

fn bit(message: u8) -> u8 {
    message.checked_sub(1).map_or(0, |message| 1 << message)
}

fn idle() -> Actor {
    Actor { at: At::Begins, repairs: false, lease: 0, has: 0, used: 0 }
}

impl<const N: usize> Leases<N> {
    fn is_due(&self, state: &State<N>, lease: &Lease) -> bool {
        let threads = self.mutant == Mutant::JudgesThreads;
        let is_dead = |owner: u8| owner > 0 && threads && state.world.is_dead(usize::from(owner) - 1);
        match lease.state {
            Of::Again => true,
            Of::Out => state.is_gone(lease.owner) || is_dead(lease.owner),
            _ => false,
        }
    }

    fn latch(&self, state: &State<N>, me: usize, latch: usize, at: At, out: &mut Steps<State<N>>) {
        let mut next = *state;
        let to = &mut next.actors[me];
        let is_free = state.latches[latch] == 0;
        if is_free || state.latch_is_dead(latch) {
            (to.repairs, to.at) = (!is_free, at);
            next.latches[latch] = me as u8 + 1;
            out.go(me, if is_free { "latches" } else { "latches, after a death" }, next);
        }
    }

    fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let index = usize::from(actor.lease);
        let lease = state.leases[index.min(MOST - 1)];
        let is_full = state.slots & bit(state.head + 1) != 0;
        let mut next = *state;
        let to = &mut next.actors[me];
        if actor.repairs {
            to.repairs = false;
            next.dirty = true;
            return out.go(me, "says that pages may be nobody's", next);
        }
        let late = |mutant, late, then| if self.mutant == mutant { late } else { then };
        let what = match actor.at {
            At::Begins => {
                let due = state.leases.iter().any(|lease| self.is_due(state, lease));
                let open = state.leases.iter().any(|lease| matches!(lease.state, Of::Out | Of::Again));
                if state.slots != 0 || due {
                    return self.latch(state, me, RECEIVERS, At::LooksAtHead, out);
                } else if open {
                    return;
                }
                to.at = At::Done;
                "finds that all is done"
            }
            At::LooksAtHead if !is_full && state.head < self.messages => {
                next.head += 1;
                "moves on what was left behind"
            }
            At::LooksAtHead => {
                (to.lease, to.at) = (0, At::Scans);
                "looks at head"
            }
            At::Scans if index == self.leases => {
                to.lease = 0;
                to.at = if is_full { At::Seeks } else { At::UnlatchesNothing };
                "finds nothing that is due"
            }
            At::Scans => {
                let is_half = is_full && lease.id == state.head + 1 && self.mutant != Mutant::TrustsHalfMade;
                if !self.is_due(state, &lease) || is_half {
                    to.lease += 1;
                } else if lease.attempts >= self.attempts {
                    next.leases[index].state = Of::Aside;
                    to.lease += 1;
                } else {
                    to.at = At::Counts;
                }
                "looks whether a lease is due"
            }
            At::Counts => {
                next.leases[index].attempts += u8::from(self.mutant != Mutant::CountsNothing);
                to.at = late(Mutant::OwnsLate, At::OutAgain, At::Owns);
                "counts the delivery"
            }
            At::Owns => {
                next.leases[index].owner = me as u8 + 1;
                to.at = late(Mutant::OwnsLate, At::Unlatches, At::OutAgain);
                "is the owner"
            }
            At::OutAgain => {
                next.leases[index].state = Of::Out;
                to.has = lease.id;
                to.at = late(Mutant::OwnsLate, At::Owns, At::Unlatches);
                "has the lease again"
            }
            At::Seeks => {
                let leases = &state.leases[..self.leases];
                let trusts = self.mutant == Mutant::TrustsHalfMade;
                let is_half =
                    |lease: &Lease| lease.state != Of::Free && lease.id == state.head + 1 && !trusts;
                let half = leases.iter().position(is_half);
                let found = half.or_else(|| leases.iter().position(|lease| lease.state == Of::Free));
                to.lease = found.unwrap_or_default() as u8;
                to.at = if found.is_some() { At::Clears } else { At::UnlatchesNothing };
                "looks for a lease"
            }
            At::Clears => {
                next.leases[index].state = Of::Free;
                to.at = At::Writes;
                "makes it a free one"
            }
            At::Writes => {
                let id = state.head + 1;
                next.leases[index] =
                    Lease { state: Of::Free, owner: me as u8 + 1, attempts: 1, id, pages: true };
                to.at = late(Mutant::FreesSlotFirst, At::FreesSlot, At::Out);
                "writes the lease"
            }
            At::Out => {
                next.leases[index].state = Of::Out;
                to.at = late(Mutant::FreesSlotFirst, At::MovesHead, At::FreesSlot);
                "has the lease"
            }
            At::FreesSlot => {
                next.slots &= !bit(lease.id);
                to.has = lease.id;
                to.at = late(Mutant::FreesSlotFirst, At::Out, At::MovesHead);
                "frees the slot"
            }
            At::MovesHead => {
                next.head += 1;
                to.at = At::Unlatches;
                "moves head"
            }
            At::Unlatches => {
                if state.seen & bit(actor.has) != 0 && lease.attempts < 2 {
                    return out.wrong(
                        me,
                        "unlatches",
                        "delivered for the second time, and it does not say so",
                    );
                }
                next.latches[RECEIVERS] = 0;
                next.seen |= bit(actor.has);
                to.at = At::Works;
                "unlatches, and works"
            }
            At::UnlatchesNothing => {
                next.latches[RECEIVERS] = 0;
                to.lease = 0;
                let sweeps = state.wants_sweep() && self.mutant != Mutant::NobodySweeps;
                to.at = if sweeps && is_full { At::Sweeps } else { At::Begins };
                "unlatches, having found nothing"
            }
            At::Works => {
                if state.nacks > 0 {
                    let mut next = *state;
                    next.nacks -= 1;
                    next.leases[index].state = Of::Again;
                    next.actors[me] = idle();
                    out.may(me, "gives it back", next);
                }
                to.at = match self.mutant {
                    Mutant::FreesPagesFirst => At::LatchesStore,
                    _ => late(Mutant::FreesLeaseFirst, At::Frees, At::SaysDone),
                };
                "has done its work"
            }
            At::SaysDone => {
                next.leases[index].state = Of::Done;
                next.done |= bit(actor.has);
                to.at = late(Mutant::FreesPagesFirst, At::Frees, At::LatchesStore);
                "says that it is done"
            }
            At::LatchesStore => return self.latch(state, me, STORE, At::Unmarks, out),
            At::Unmarks if state.bits & bit(actor.has) == 0 => {
                return out.wrong(me, "frees pages", "they are free");
            }
            At::Unmarks => {
                next.bits &= !bit(actor.has);
                to.at = late(Mutant::FreesLeaseFirst, At::UnlatchesStore, At::Forgets);
                "frees pages"
            }
            At::Forgets => {
                next.leases[index].pages = false;
                to.at = At::UnlatchesStore;
                "makes the lease forget them"
            }
            At::UnlatchesStore => {
                next.latches[STORE] = 0;
                to.at = late(Mutant::FreesPagesFirst, At::SaysDone, At::Frees);
                if self.mutant == Mutant::FreesLeaseFirst {
                    *to = idle();
                }
                "unlatches the store"
            }
            At::Frees => {
                next.leases[index].state = Of::Free;
                next.done |= bit(actor.has);
                if self.mutant == Mutant::FreesLeaseFirst {
                    to.at = At::LatchesStore;
                } else {
                    *to = idle();
                }
                "frees the lease"
            }
            _ => return self.sweep(state, me, out),
        };
        out.go(me, what, next);
    }

    fn sweep(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let index = usize::from(actor.lease);
        let lease = state.leases[index.min(MOST - 1)];
        let mut next = *state;
        let to = &mut next.actors[me];
        let what = match actor.at {
            At::Sweeps => return self.latch(state, me, RECEIVERS, At::SweepLatchesStore, out),
            At::SweepLatchesStore => return self.latch(state, me, STORE, At::SweepsSlots, out),
            At::SweepsSlots => {
                (to.used, to.lease, to.at) = (state.slots, 0, At::SweepsLeases);
                "sweeps the slots"
            }
            At::SweepsLeases if index == self.leases => {
                to.at = At::WritesBits;
                "has swept all leases"
            }
            At::SweepsLeases => {
                let gone = state.is_gone(lease.owner) || self.mutant == Mutant::SweepsTheLiving;
                if lease.state == Of::Done && gone {
                    to.at = At::SweepForgets;
                } else {
                    to.used |= if lease.state != Of::Free && lease.pages { bit(lease.id) } else { 0 };
                    to.lease += 1;
                }
                "sweeps a lease"
            }
            At::SweepForgets => {
                next.leases[index].pages = false;
                to.at = At::SweepFrees;
                "makes a lease forget what its owner was freeing"
            }
            At::SweepFrees => {
                next.leases[index].state = Of::Free;
                to.lease += 1;
                to.at = At::SweepsLeases;
                "frees the lease"
            }
            At::WritesBits => {
                next.bits = actor.used;
                to.used = 0;
                to.at = At::Cleans;
                "writes the bitmap"
            }
            At::Cleans => {
                next.dirty = false;
                to.at = At::SweepUnlatchesStore;
                "says that all is clean"
            }
            At::SweepUnlatchesStore => {
                next.latches[STORE] = 0;
                to.at = At::SweepUnlatches;
                "unlatches the store"
            }
            At::SweepUnlatches => {
                next.latches[RECEIVERS] = 0;
                *to = idle();
                "unlatches"
            }
            _ => return,
        };
        out.go(me, what, next);
    }
}

impl<const N: usize> Model for Leases<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let all = (1 << self.messages) - 1;
        let lease = Lease { state: Of::Free, owner: 0, attempts: 0, id: 0, pages: false };
        vec![State {
            world: World::new(self.kills, Ticks::Always),
            latches: [0; 2],
            dirty: false,
            slots: all,
            bits: all,
            head: 0,
            leases: [lease; MOST],
            actors: [idle(); N],
            nacks: self.nacks,
            seen: 0,
            done: 0,
            forged: false,
        }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            let Actor { at, has, .. } = state.actors[me];
            if !state.world.is_up(me) || at == At::Done {
                continue;
            }
            self.act(state, me, out);
            kill(state, me, out, |next| next.actors[me] = Actor { at: At::Done, has, ..idle() });
            if self.forges && !state.forged && at == At::Works {
                let mut next = *state;
                next.forged = true;
                next.world.live[me] |= OWNER_DIED;
                out.may(me, "loses a thread", next);
            }
        }
    }

    fn check(&self, state: &State<N>) -> Result<(), String> {
        let mut had = 0;
        for me in 0..N {
            // What a killed one has may be worked on until its address space is gone.
            let has = bit(state.actors[me].has) & !state.done;
            if state.world.life[me] == Life::Ended {
                continue;
            }
            if had & has != 0 {
                return Err("two work on the same message".to_owned());
            }
            had |= has;
        }
        if had & state.slots != 0 {
            return Err("a message that somebody works on is in its slot".to_owned());
        }
        let leased = |lease: &Lease| match lease.state {
            Of::Out | Of::Again | Of::Aside => bit(lease.id),
            Of::Free | Of::Done => 0,
        };
        // In the hands of who has the latch, or of one who died with it, it may be in both.
        let there = state.leases.iter().fold(state.slots, |there, lease| there | leased(lease));
        let all = (1 << self.messages) - 1;
        if there | had | state.done != all {
            return Err("a message is lost".to_owned());
        }
        if there & state.done != 0 {
            return Err("a message that is done is delivered again".to_owned());
        }
        if there & !state.bits != 0 {
            return Err("the pages of a message are free".to_owned());
        }
        // Who takes pages next takes the store's latch, and says so if its owner is dead.
        let told = state.wants_sweep() || state.latch_is_dead(STORE);
        if self.is_end(state) && state.bits & !there != 0 && !told {
            return Err("pages are nobody's, and nobody will look for them".to_owned());
        }
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        // All that could be done is done, or nobody is left.
        state
            .actors
            .iter()
            .zip(state.world.life)
            .all(|(actor, life)| actor.at == At::Done && matches!(life, Life::Up | Life::Ended))
    }
}

fn leases<const N: usize>(messages: u8, leases: usize, kills: u8) -> Leases<N> {
    Leases { messages, leases, attempts: u8::MAX, nacks: 0, forges: false, kills, mutant: Mutant::None }
}

#[test]
fn messages_are_worked_on_until_they_are_done() {
    prove(&Leases { nacks: 1, ..leases::<2>(2, 2, 1) });
    prove(&leases::<3>(1, 1, 2));
    prove(&leases::<3>(2, 1, 1));
    prove(&Leases { forges: true, ..leases::<2>(2, 2, 1) });
    // What was delivered too often is aside.
    prove(&Leases { nacks: 2, attempts: 2, ..leases::<2>(2, 2, 1) });
    if is_large() {
        prove(&Leases { nacks: 2, ..leases::<3>(2, 2, 2) });
        prove(&Leases { forges: true, ..leases::<3>(3, 2, 2) });
        prove(&Leases { nacks: 2, attempts: 2, ..leases::<3>(3, 2, 1) });
    }
}

#[test]
fn mutants_fail() {
    let unsafe_: [(_, Leases<3>); 8] = [
        (Mutant::FreesSlotFirst, leases(1, 1, 1)),
        (Mutant::TrustsHalfMade, leases(1, 1, 1)),
        (Mutant::JudgesThreads, leases(1, 1, 1)),
        (Mutant::JudgesThreads, Leases { forges: true, ..leases(1, 1, 0) }),
        (Mutant::FreesPagesFirst, leases(1, 1, 1)),
        (Mutant::FreesLeaseFirst, leases(1, 1, 1)),
        (Mutant::CountsNothing, leases(1, 1, 1)),
        (Mutant::SweepsTheLiving, leases(2, 1, 1)),
    ];
    for (mutant, leases) in unsafe_ {
        let violation = refute(&Leases { mutant, ..leases });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    let violation = refute(&Leases { mutant: Mutant::OwnsLate, nacks: 1, ..leases::<2>(1, 1, 1) });
    assert!(matches!(violation.fault, Fault::Stranded | Fault::Endless), "{violation}");
    let violation = refute(&Leases { mutant: Mutant::NobodySweeps, ..leases::<2>(2, 1, 1) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
}
