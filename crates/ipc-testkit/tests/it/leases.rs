//! Leases: "Leases" of docs/queue-layout.md. All messages are in their slots when it begins, one page behind each. Latches
//! are taken in one step, by whoever finds one free or its owner dead; and who has nothing to do looks again as soon as
//! there is something: `queue` and `store` have the rest. Nobody sends, from the beginning.

mod steps;

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
    Latches,
    LooksAtHead,
    Scans,
    AsksKernel,
    LooksAgain,
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
    AsksOthers,
    LooksLast,
    MayCome,
    Waits,
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
    /// What was out before the kernel said that its owner is gone is delivered again, whatever it is by then.
    NoSecondLook,
    /// Who finds that nobody has a message, and later that none is there, does not look once more who has one.
    TrustsOthers,
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
    /// Whether a message was delivered that is neither done nor aside.
    fn is_open(&self) -> bool {
        self.leases.iter().any(|lease| matches!(lease.state, Of::Out | Of::Again))
    }

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
    /// Whether there is a message, without the latch: also when the one at `head` was just taken out.
    fn has_message(&self, state: &State<N>) -> bool {
        state.head < self.messages
    }

    fn seems_gone(&self, state: &State<N>, owner: u8) -> bool {
        let is_dead = owner > 0 && state.world.is_dead(usize::from(owner) - 1);
        state.is_gone(owner) || (self.mutant == Mutant::JudgesThreads && is_dead)
    }

    /// As one look tells, without the latch.
    fn is_due(&self, state: &State<N>, lease: &Lease) -> bool {
        match lease.state {
            Of::Again => true,
            Of::Out => self.seems_gone(state, lease.owner),
            _ => false,
        }
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
    let unsafe_: [(_, Leases<3>); 9] = [
        (Mutant::FreesSlotFirst, leases(1, 1, 1)),
        (Mutant::TrustsHalfMade, leases(1, 1, 1)),
        (Mutant::JudgesThreads, leases(1, 1, 1)),
        (Mutant::JudgesThreads, Leases { forges: true, ..leases(1, 1, 0) }),
        (Mutant::FreesPagesFirst, leases(1, 1, 1)),
        (Mutant::FreesLeaseFirst, leases(1, 1, 1)),
        (Mutant::CountsNothing, leases(1, 1, 1)),
        (Mutant::SweepsTheLiving, leases(2, 1, 1)),
        (Mutant::OwnsLate, Leases { nacks: 1, ..leases(1, 1, 1) }),
    ];
    for (mutant, leases) in unsafe_ {
        let violation = refute(&Leases { mutant, ..leases });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    // One look too few.
    let told: [(_, Leases<2>, _); 2] = [
        (Mutant::NoSecondLook, leases(1, 1, 1), "a message that is done is delivered again"),
        (Mutant::TrustsOthers, Leases { nacks: 1, ..leases(1, 1, 0) }, "a message may come yet"),
    ];
    for (mutant, leases, why) in told {
        let violation = refute(&Leases { mutant, ..leases });
        assert_eq!(violation.fault, Fault::Unsafe(why.to_owned()), "{mutant:?}: {violation}");
    }
    let violation = refute(&Leases { mutant: Mutant::NobodySweeps, ..leases::<2>(2, 1, 1) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
}
