//! The store: "Long messages" of docs/queue-layout.md. Messages are of one page each here. Latches are taken in one step,
//! by whoever finds one free or its owner dead; and slots are filled and emptied in any order: `queue` has the rest.
//!
//! Waits are left out: who waits looks again, again and again, and is endless if it never finds anything.

mod sweep;

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, Ticks, World, bury, kill};
use crate::{is_large, prove, refute};

/// The latches.
const SENDERS: usize = 0;
const RECEIVERS: usize = 1;
const STORE: usize = 2;

/// At most so many slots, and places.
const MOST: usize = 2;

/// Where an actor is: the next thing that it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    /// A sender takes pages.
    Begins,
    Finds,
    Claims,
    Marks,
    Names,
    UnlatchesTaken,
    UnlatchesFull,
    WantsSweep,
    /// It copies its message in.
    Writes,
    LatchesToSend,
    Looks,
    UnlatchesNoRoom,
    WaitsForRoom,
    Commits,
    /// Gives its place up, for what is a slot's now, or nobody's.
    Forgets,
    LetsGo,
    UnlatchesSent,
    /// A receiver takes a message.
    Comes,
    LooksForMessage,
    UnlatchesNothing,
    Adopts,
    NamesAdopted,
    SaysDirty,
    FreesSlot,
    UnlatchesReceived,
    /// It copies the message out.
    Reads,
    /// Pages become free.
    LatchesToFree,
    Unmarks,
    UnlatchesFreed,
    /// The sweep, with one latch after the other.
    SweepLatchesSenders,
    SweepLatchesReceivers,
    SweepLatchesStore,
    SweepsSlots,
    SweepsPlaces,
    Empties,
    FreesPlace,
    WritesBits,
    Cleans,
    SweepUnlatchesStore,
    SweepUnlatchesReceivers,
    SweepUnlatchesSenders,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Actor {
    sends: bool,
    /// Messages that a sender still sends.
    left: u8,
    at: At,
    /// Has a latch from somebody dead, and says so first.
    repairs: bool,
    /// The page that it has, or is about to have, + 1; and its place.
    page: u8,
    place: u8,
    /// The slot that it fills or empties; in a sweep what it looks at next.
    index: u8,
    /// What a sweep has found in use.
    used: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    /// Who has each, + 1.
    latches: [u8; 3],
    dirty: bool,
    bits: u8,
    /// Owners and their pages, + 1.
    places: [(u8, u8); MOST],
    /// The pages of the messages, + 1; 0: free.
    slots: [u8; MOST],
    actors: [Actor; N],
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// Who has sent gives its place up when it has given the latch back.
    LetsGoLate,
    /// A place is free before it names nothing.
    LetsGoBeforeForgetting,
    /// Bits are set when the latch is given back.
    MarksLate,
    /// A place is written when the latch is given back.
    NamesLate,
    /// Bits are cleared when the latch is given back.
    UnmarksLate,
    /// A slot is free before its pages are in a place.
    FreesSlotFirst,
    /// A sweep goes without one of the latches.
    SweepsWithout(usize),
    /// Who takes a latch from a dead owner says nothing.
    NothingIsDirty,
    /// Who copies a message without a place says nothing.
    CopiesSilently,
    /// A sweep leaves the places of the dead as they are.
    SparesTheDead,
    /// A place is written before the bits: no harm, as both are done with the latch.
    NamesBeforeMarking,
}

#[derive(Clone, Copy, Debug)]
struct Store<const N: usize> {
    pages: u8,
    places: usize,
    slots: usize,
    /// How many messages each sends; the rest are receivers.
    sends: &'static [u8],
    kills: u8,
    mutant: Mutant,
}

impl<const N: usize> State<N> {
    fn is_gone(&self, owner: u8) -> bool {
        owner > 0 && self.world.life[usize::from(owner) - 1] == Life::Ended
    }

    fn latch_is_dead(&self, latch: usize) -> bool {
        let owner = self.latches[latch];
        self.is_gone(owner) || (owner > 0 && self.world.is_dead(usize::from(owner) - 1))
    }

    fn wants_sweep(&self) -> bool {
        self.dirty || self.places.iter().any(|(owner, _)| self.is_gone(*owner))
    }

    fn is_left(&self, sends: bool) -> bool {
        self.actors.iter().zip(self.world.life).all(|(actor, life)| {
            actor.sends != sends || (actor.at == At::Done && matches!(life, Life::Up | Life::Ended))
        })
    }

    /// The page that somebody who lives has for itself alone.
    fn owned(&self, me: usize) -> Option<u8> {
        let Actor { at, sends, page, .. } = self.actors[me];
        let has = match at {
            At::Names | At::UnlatchesTaken | At::Writes | At::LatchesToSend | At::Looks => true,
            At::UnlatchesNoRoom | At::WaitsForRoom | At::Commits => true,
            At::UnlatchesReceived | At::Reads | At::LatchesToFree => true,
            // Of a page that is nobody's, with the store's latch.
            At::Forgets | At::LetsGo => self.latches[STORE] == me as u8 + 1 && (!sends || page > 0),
            _ => false,
        };
        if has && self.world.is_up(me) { page.checked_sub(1) } else { None }
    }

    fn queued(&self) -> impl Iterator<Item = u8> {
        self.slots.iter().filter_map(|page| page.checked_sub(1))
    }
}

impl<const N: usize> Store<N> {
    fn actor(&self, me: usize) -> Actor {
        let sends = me < self.sends.len();
        let left = if sends { self.sends[me] } else { 0 };
        let at = if sends { At::Begins } else { At::Comes };
        Actor { sends, left, at, repairs: false, page: 0, place: 0, index: 0, used: 0 }
    }

    /// Takes a latch, if it can be had.
    fn latch(&self, state: &State<N>, me: usize, latch: usize, at: At, out: &mut Steps<State<N>>) {
        let mut next = *state;
        let to = &mut next.actors[me];
        if self.mutant == Mutant::SweepsWithout(latch) && at >= At::SweepLatchesReceivers {
            to.at = at;
            return out.go(me, "leaves a latch where it is", next);
        }
        let is_free = state.latches[latch] == 0;
        if is_free || state.latch_is_dead(latch) {
            to.repairs = !is_free && self.mutant != Mutant::NothingIsDirty;
            to.at = at;
            next.latches[latch] = me as u8 + 1;
            out.go(me, if is_free { "latches" } else { "latches, after a death" }, next);
        }
    }

    fn unlatch(&self, state: &State<N>, me: usize, latch: usize, at: At, out: &mut Steps<State<N>>) {
        let mut next = *state;
        if state.latches[latch] == me as u8 + 1 {
            next.latches[latch] = 0;
        }
        let to = &mut next.actors[me];
        to.at = at;
        if at == At::Begins {
            to.index = 0;
        }
        out.go(me, "unlatches", next);
    }

    /// A message is sent, or received.
    fn ends(&self, to: &mut Actor) {
        let left = to.left.saturating_sub(1);
        let at = match to.sends {
            true if left == 0 => At::Done,
            true => At::Begins,
            false => At::Comes,
        };
        *to = Actor { sends: to.sends, left, at, repairs: false, page: 0, place: 0, index: 0, used: 0 };
    }

    fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let (place, index) = (usize::from(actor.place), usize::from(actor.index));
        let id = me as u8 + 1;
        let bit = |page: u8| page.checked_sub(1).map_or(0, |page| 1_u8 << page);
        let mut next = *state;
        let to = &mut next.actors[me];
        if actor.repairs {
            to.repairs = false;
            next.dirty = true;
            return out.go(me, "says that pages may be nobody's", next);
        }
        let late = |mutant, late, then| if self.mutant == mutant { late } else { then };
        let what = match actor.at {
            At::Begins => return self.latch(state, me, STORE, At::Finds, out),
            At::Finds => {
                let free = (0..self.pages).find(|page| state.bits >> page & 1 == 0);
                to.page = free.map_or(0, |page| page + 1);
                to.at = if free.is_some() { At::Claims } else { At::UnlatchesFull };
                "looks for a page"
            }
            At::Claims | At::Adopts => {
                let free = (0..self.places).find(|place| state.places[*place].0 == 0);
                to.place = free.unwrap_or_default() as u8;
                to.at = match (free, actor.sends) {
                    (Some(_), true) if self.mutant == Mutant::MarksLate => At::Names,
                    (Some(_), true) => late(Mutant::NamesBeforeMarking, At::Names, At::Marks),
                    (Some(_), false) => At::NamesAdopted,
                    (None, true) => At::UnlatchesFull,
                    (None, false) => late(Mutant::CopiesSilently, At::FreesSlot, At::SaysDirty),
                };
                if let Some(free) = free {
                    next.places[free].0 = id;
                } else {
                    // A sender has nothing then, and a receiver copies with the latch.
                    to.page = 0;
                }
                "claims a place"
            }
            At::Marks => {
                to.at = match self.mutant {
                    Mutant::NamesBeforeMarking => At::UnlatchesTaken,
                    Mutant::MarksLate => At::Writes,
                    _ => late(Mutant::NamesLate, At::UnlatchesTaken, At::Names),
                };
                next.bits |= bit(actor.page);
                "sets the bits"
            }
            At::Names => {
                to.at = match self.mutant {
                    Mutant::NamesBeforeMarking => At::Marks,
                    Mutant::NamesLate => At::Writes,
                    _ => At::UnlatchesTaken,
                };
                next.places[place].1 = actor.page;
                "names its pages"
            }
            At::UnlatchesTaken => {
                let at = late(Mutant::NamesLate, At::Names, late(Mutant::MarksLate, At::Marks, At::Writes));
                return self.unlatch(state, me, STORE, at, out);
            }
            At::UnlatchesFull => return self.unlatch(state, me, STORE, At::WantsSweep, out),
            At::WantsSweep => {
                to.page = 0;
                to.at = if state.wants_sweep() { At::SweepLatchesSenders } else { At::Begins };
                if state.is_left(false) {
                    // Nobody will ever free any.
                    to.at = At::Done;
                }
                "asks whether somebody died"
            }
            At::Writes => {
                to.at = At::LatchesToSend;
                "copies its message in"
            }
            At::LatchesToSend => return self.latch(state, me, SENDERS, At::Looks, out),
            At::Looks => {
                let free = state.slots[..self.slots].iter().position(|page| *page == 0);
                to.index = free.unwrap_or_default() as u8;
                to.at = if free.is_some() { At::Commits } else { At::UnlatchesNoRoom };
                "looks for room"
            }
            At::UnlatchesNoRoom => return self.unlatch(state, me, SENDERS, At::WaitsForRoom, out),
            At::WaitsForRoom => {
                to.at = At::LatchesToSend;
                if state.is_left(false) {
                    (to.left, to.at) = (1, At::LatchesToFree);
                }
                "waits for room"
            }
            At::Commits => {
                next.slots[index] = actor.page;
                // It is a slot's.
                to.page = 0;
                to.at = match self.mutant {
                    Mutant::LetsGoLate => At::UnlatchesSent,
                    _ => late(Mutant::LetsGoBeforeForgetting, At::LetsGo, At::Forgets),
                };
                "commits its message"
            }
            At::Forgets => {
                next.places[place].1 = 0;
                to.at = At::LetsGo;
                if self.mutant == Mutant::LetsGoBeforeForgetting {
                    to.at = if actor.page > 0 { At::Unmarks } else { At::UnlatchesSent };
                }
                "names nothing any more"
            }
            At::LetsGo => {
                next.places[place].0 = 0;
                to.at = match self.mutant {
                    Mutant::LetsGoBeforeForgetting => At::Forgets,
                    Mutant::LetsGoLate if actor.page == 0 => {
                        self.ends(to);
                        to.at
                    }
                    Mutant::UnmarksLate if actor.page > 0 => At::UnlatchesFreed,
                    _ if actor.page > 0 => At::Unmarks,
                    _ => At::UnlatchesSent,
                };
                "lets its place go"
            }
            At::UnlatchesSent => {
                next.latches[SENDERS] = 0;
                if self.mutant == Mutant::LetsGoLate {
                    to.at = At::Forgets;
                } else {
                    self.ends(to);
                }
                "unlatches"
            }
            At::Comes if state.queued().next().is_some() => {
                return self.latch(state, me, RECEIVERS, At::LooksForMessage, out);
            }
            At::Comes if state.is_left(true) => {
                to.at = At::Done;
                "is disconnected"
            }
            At::LooksForMessage => {
                let full = state.slots.iter().position(|page| *page > 0);
                to.index = full.unwrap_or_default() as u8;
                to.page = full.map_or(0, |index| state.slots[index]);
                let adopts = late(Mutant::FreesSlotFirst, At::FreesSlot, At::Adopts);
                to.at = if full.is_some() { adopts } else { At::UnlatchesNothing };
                "looks for a message"
            }
            At::UnlatchesNothing => return self.unlatch(state, me, RECEIVERS, At::Comes, out),
            At::NamesAdopted => {
                next.places[place].1 = actor.page;
                to.at = late(Mutant::FreesSlotFirst, At::UnlatchesReceived, At::FreesSlot);
                "names the slot's pages"
            }
            At::SaysDirty => {
                next.dirty = true;
                to.at = At::FreesSlot;
                "has copied the message, and says that its pages are nobody's"
            }
            At::FreesSlot => {
                next.slots[index] = 0;
                to.at = late(Mutant::FreesSlotFirst, At::Adopts, At::UnlatchesReceived);
                "frees the slot"
            }
            At::UnlatchesReceived => {
                next.latches[RECEIVERS] = 0;
                to.at = At::Reads;
                if actor.page == 0 {
                    self.ends(to);
                }
                "unlatches"
            }
            At::Reads => {
                to.at = At::LatchesToFree;
                "copies the message out"
            }
            At::LatchesToFree => {
                let at = late(Mutant::LetsGoBeforeForgetting, At::LetsGo, At::Forgets);
                return self.latch(state, me, STORE, at, out);
            }
            At::Unmarks => {
                next.bits &= !bit(actor.page);
                to.at = At::UnlatchesFreed;
                if self.mutant == Mutant::UnmarksLate {
                    self.ends(to);
                }
                "clears the bits"
            }
            At::UnlatchesFreed => {
                next.latches[STORE] = 0;
                to.at = At::Unmarks;
                if self.mutant != Mutant::UnmarksLate {
                    self.ends(to);
                }
                "unlatches"
            }
            _ => return self.sweep(state, me, out),
        };
        out.go(me, what, next);
    }
}

impl<const N: usize> Model for Store<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        vec![State {
            world: World::new(self.kills, Ticks::Always),
            latches: [0; 3],
            dirty: false,
            bits: 0,
            places: [(0, 0); MOST],
            slots: [0; MOST],
            actors: std::array::from_fn(|me| self.actor(me)),
        }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            let at = state.actors[me].at;
            if state.world.is_up(me) && at != At::Done {
                self.act(state, me, out);
                kill(state, me, out, |next| {
                    let sends = next.actors[me].sends;
                    next.actors[me] = Actor { sends, left: 0, at: At::Done, ..self.actor(me) };
                });
            }
        }
    }

    fn check(&self, state: &State<N>) -> Result<(), String> {
        let mut seen = 0_u8;
        for page in (0..N).filter_map(|me| state.owned(me)).chain(state.queued()) {
            if seen >> page & 1 == 1 {
                return Err("two have the same page".to_owned());
            }
            seen |= 1 << page;
        }
        if seen & !state.bits != 0 && self.mutant != Mutant::NamesBeforeMarking {
            return Err("a page is in use, and its bit says that it is free".to_owned());
        }
        let done = state
            .actors
            .iter()
            .zip(state.world.life)
            .all(|(actor, life)| actor.at == At::Done && matches!(life, Life::Up | Life::Ended));
        // Who takes pages next takes the store's latch, and says so if its owner is dead.
        let told = state.wants_sweep() || state.latch_is_dead(STORE);
        if done && state.bits & !seen != 0 && !told {
            return Err("pages are nobody's, and nobody will look for them".to_owned());
        }
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        state.actors.iter().all(|actor| actor.at == At::Done)
    }
}

fn store<const N: usize>(pages: u8, sends: &'static [u8], kills: u8) -> Store<N> {
    Store { pages, places: 2, slots: 1, sends, kills, mutant: Mutant::None }
}

#[test]
fn pages_have_one_owner_and_come_back() {
    prove(&store::<3>(1, &[1, 1], 1));
    prove(&store::<3>(2, &[2, 1], 1));
    prove(&store::<3>(1, &[1, 1], 2));
    prove(&Store { slots: 2, ..store::<3>(2, &[1, 1], 1) });
    // Not enough places for all.
    prove(&Store { places: 1, ..store::<3>(2, &[1, 1], 2) });
    // What is done with one latch in hand may be done in any order.
    prove(&Store { mutant: Mutant::NamesBeforeMarking, ..store::<3>(1, &[1, 1], 1) });
    if is_large() {
        prove(&store::<3>(2, &[2, 2], 2));
        prove(&Store { slots: 2, ..store::<4>(2, &[1, 1], 2) });
        prove(&Store { places: 1, ..store::<4>(2, &[1, 1, 1], 2) });
    }
}

#[test]
fn mutants_fail() {
    let few = Store { places: 1, ..store::<3>(2, &[1, 1], 1) };
    let mutants = [
        (Mutant::LetsGoLate, store(1, &[1, 1], 1)),
        (Mutant::LetsGoBeforeForgetting, store(2, &[2, 1], 1)),
        (Mutant::MarksLate, store(1, &[1, 1], 1)),
        (Mutant::NamesLate, store(2, &[2, 1], 1)),
        (Mutant::UnmarksLate, store(1, &[1, 1], 1)),
        (Mutant::FreesSlotFirst, store(1, &[1, 1], 1)),
        (Mutant::SweepsWithout(SENDERS), store(2, &[2, 1], 1)),
        (Mutant::SweepsWithout(RECEIVERS), few),
        (Mutant::SweepsWithout(STORE), store(1, &[1, 1], 1)),
        (Mutant::NothingIsDirty, store(1, &[1, 1], 1)),
        (Mutant::CopiesSilently, few),
    ];
    for (mutant, store) in mutants {
        let violation = refute(&Store { mutant, ..store });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    let violation = refute(&Store { mutant: Mutant::SparesTheDead, ..store::<3>(1, &[1, 1], 1) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
}
