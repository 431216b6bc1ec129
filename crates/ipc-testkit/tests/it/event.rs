//! The event: `Event` of docs/shm-layout.md.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Lives, Ticks, World, bury, kill};
use crate::{is_large, prove, refute};

/// The word: set, sleepers, sequence << 2.
const SET: u8 = 1;
const SLEEPERS: u8 = 2;
const WORD: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Begins,
    Flags,
    Queues,
    Sleeps,
    Looks,
    SetLoads,
    Sets,
    WakesFirst,
    Wakes,
    ClearLoads,
    Clears,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    seen: u8,
    /// The sequence that a waiter began with.
    sequence: u8,
    /// How often the event had been set by then; how often another has cleared it.
    began: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    word: u8,
    actors: [Actor; N],
    /// How often the event was set.
    sets: u8,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// Setting does not count: a set that is cleared at once is missed.
    DoesNotCount,
    /// A waiter does not say that it sleeps.
    SleepsUnflagged,
    /// Setting wakes before it sets.
    WakesFirst,
    /// Setting wakes one.
    WakesOne,
    /// Clearing takes the sleepers' flag out too.
    ClearDropsFlag,
}

/// One sets the event; if `clears`, one sets it and clears it twice; the others wait.
#[derive(Clone, Copy, Debug)]
struct Event<const N: usize> {
    clears: bool,
    kills: u8,
    ticks: Ticks,
    mutant: Mutant,
}

impl<const N: usize> Event<N> {
    fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let mut next = *state;
        let to = &mut next.actors[me];
        let occurred = state.word & SET != 0 || state.word >> 2 != actor.sequence;
        match actor.at {
            At::Begins => {
                (to.seen, to.sequence, to.began) = (state.word, state.word >> 2, state.sets);
                to.at = if state.word & SET == 0 { At::Flags } else { At::Done };
                out.go(me, "begins to wait", next);
            }
            At::Flags => {
                to.at = At::Looks;
                if state.word == actor.seen {
                    if self.mutant != Mutant::SleepsUnflagged {
                        next.word |= SLEEPERS;
                    }
                    to.seen = next.word;
                    to.at = At::Queues;
                }
                out.go(me, "says that it sleeps", next);
            }
            At::Queues => {
                let same = state.word == actor.seen;
                to.at = if next.world.enqueue(me, WORD, same) { At::Sleeps } else { At::Looks };
                out.go(me, "is queued", next);
            }
            At::Sleeps if state.world.was_woken(me) || self.ticks == Ticks::Always => {
                next.world.leave(me);
                to.at = At::Looks;
                out.go(me, "wakes up, or ticks", next);
            }
            At::Looks => {
                to.seen = state.word;
                to.at = if occurred { At::Done } else { At::Flags };
                out.go(me, "looks at the word", next);
            }
            At::SetLoads => {
                to.seen = state.word;
                let first = self.mutant == Mutant::WakesFirst && state.word & SLEEPERS != 0;
                to.at = if first { At::WakesFirst } else { At::Sets };
                out.go(me, "reads the word, to set it", next);
            }
            At::Sets => {
                to.at = At::SetLoads;
                if state.word == actor.seen {
                    let count = u8::from(self.mutant != Mutant::DoesNotCount) << 2;
                    next.word = (state.word + count) & !SLEEPERS | SET;
                    next.sets += 1;
                    let wakes = state.word & SLEEPERS != 0 && self.mutant != Mutant::WakesFirst;
                    to.at = if wakes { At::Wakes } else { self.then(me) };
                }
                out.go(me, "sets the event", next);
            }
            At::WakesFirst | At::Wakes => {
                to.at = if actor.at == At::Wakes { self.then(me) } else { At::Sets };
                if self.mutant == Mutant::WakesOne {
                    let first = (0..N).find(|actor| state.world.queued[*actor] != 0);
                    if let Some(first) = first {
                        next.world.queued[first] = 0;
                        next.world.woken |= 1 << first;
                    }
                } else {
                    next.world.wake_all(WORD);
                }
                out.go(me, "wakes", next);
            }
            At::ClearLoads => {
                to.seen = state.word;
                to.at = At::Clears;
                out.go(me, "reads the word, to clear it", next);
            }
            At::Clears => {
                to.at = At::ClearLoads;
                if state.word == actor.seen {
                    next.word &= !SET;
                    if self.mutant == Mutant::ClearDropsFlag {
                        next.word &= !SLEEPERS;
                    }
                    // Once more: to clear what is clear must do no harm.
                    to.began += 1;
                    to.at = if to.began == 2 { At::Done } else { At::ClearLoads };
                }
                out.go(me, "clears the event", next);
            }
            _ => {}
        }
    }

    fn then(&self, me: usize) -> At {
        if me == 1 && self.clears { At::ClearLoads } else { At::Done }
    }
}

impl<const N: usize> Model for Event<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let begins = |actor| match actor {
            0 => At::SetLoads,
            1 if self.clears => At::SetLoads,
            _ => At::Begins,
        };
        let actors = std::array::from_fn(|actor| Actor { at: begins(actor), seen: 0, sequence: 0, began: 0 });
        vec![State { world: World::new(self.kills, self.ticks), word: 0, actors, sets: 0 }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            if state.world.is_up(me) && state.actors[me].at != At::Done {
                self.act(state, me, out);
                kill(state, me, out, |next| next.actors[me].at = At::Done);
            }
        }
        if out.is_quiet() && state.world.ticks > 0 {
            let mut next = *state;
            next.world.ticks -= 1;
            for me in 0..N {
                if state.world.is_up(me) && state.actors[me].at == At::Sleeps {
                    next.world.leave(me);
                    next.actors[me].at = At::Looks;
                }
            }
            out.go(N, "all tick", next);
        }
    }

    fn check(&self, state: &State<N>) -> Result<(), String> {
        let first = 1 + usize::from(self.clears);
        let returned = |me: &usize| state.world.is_up(*me) && state.actors[*me].at == At::Done;
        if state.sets == 0 && (first..N).any(|me| returned(&me)) {
            return Err("a waiter returns, and nobody has set the event".to_owned());
        }
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        // Who waits for a set that never came, or was over when it began, waits rightly.
        let right = |actor: &Actor| {
            let occurred = state.word & SET != 0 || state.sets != actor.began;
            actor.at == At::Done || (actor.at == At::Sleeps && !occurred)
        };
        state.world.woken == 0 && state.actors.iter().all(right)
    }
}

fn event<const N: usize>(clears: bool, kills: u8, ticks: Ticks) -> Event<N> {
    Event { clears, kills, ticks, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&event::<3>(false, 0, Ticks::Quiet(0)));
    prove(&event::<4>(true, 0, Ticks::Quiet(0)));
}

#[test]
fn a_tick_a_kill_is_enough() {
    prove(&event::<4>(true, 1, Ticks::Quiet(1)));
    prove(&event::<4>(true, 1, Ticks::Always));
    if is_large() {
        prove(&event::<5>(true, 1, Ticks::Always));
    }
}

#[test]
fn mutants_fail() {
    for (mutant, clears) in [
        (Mutant::SleepsUnflagged, false),
        (Mutant::WakesFirst, false),
        (Mutant::WakesOne, false),
        (Mutant::ClearDropsFlag, true),
        (Mutant::DoesNotCount, true),
    ] {
        let violation = refute(&Event { mutant, ..event::<4>(clears, 0, Ticks::Quiet(0)) });
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
}
