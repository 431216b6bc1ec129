//! The barrier: `Barrier` of docs/shm-layout.md. Its latch is taken in one step here, by whoever finds it free or its
//! owner dead, and who takes it from a dead one breaks the barrier; `lock` has the rest.
//!
//! The document leaves open what a broken barrier is to those who come later: broken.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, Ticks, World, bury, kill};
use crate::{is_large, prove, refute};

/// The futex: `state`.
const STATE: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Latches,
    Arrives,
    ArriveUnlatches,
    Acts,
    ActLatches,
    ClearsSeats,
    Commits,
    CommitUnlatches,
    CommitWakes,
    Looks,
    Flags,
    Queues,
    Sleeps,
    Patrols,
    BreakLatches,
    BreakNotes,
    BreakClears,
    BreakCommits,
    BreakWakes,
    BreakUnlatches,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    generation: u8,
    seen: (u8, bool),
    flagged: bool,
    seat: u8,
    rounds: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    latch: u8,
    /// A bit for each generation that was broken.
    outcomes: u8,
    generation: u8,
    sleepers: bool,
    broken: bool,
    /// Whose, + 1.
    seats: [u8; N],
    actors: [Actor; N],
    /// Who has come to each generation; which generations somebody was released from, and was told that it broke.
    came: [u8; 3],
    released: u8,
    told: u8,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// The generation that ends a broken one is there before its outcome.
    CommitsBeforeOutcome,
    /// The last to come does not look whether the barrier has broken while it ran the action.
    LastLooksAtNothing,
    /// A sleeper's patrol looks at the seats, and not at the latch.
    PatrolsSeatsOnly,
    /// A sleeper's patrol looks at the latch, and not at the seats.
    PatrolsLatchOnly,
    /// A latch that is taken from a dead owner breaks nothing.
    LatchPassesSilently,
    /// A sleeper does not say that it sleeps.
    SleepsUnflagged,
}

#[derive(Clone, Copy, Debug)]
struct Barrier<const N: usize> {
    rounds: u8,
    kills: u8,
    ticks: Ticks,
    mutant: Mutant,
}

impl<const N: usize> State<N> {
    fn is_dead(&self, actor: u8) -> bool {
        self.world.is_dead(actor.into()) || self.world.life[usize::from(actor)] == Life::Ended
    }

    fn latch_is_dead(&self) -> bool {
        self.latch.checked_sub(1).is_some_and(|owner| self.is_dead(owner))
    }

    fn a_seat_is_dead(&self) -> bool {
        self.seats.iter().any(|seat| seat.checked_sub(1).is_some_and(|actor| self.is_dead(actor)))
    }
}

impl<const N: usize> Barrier<N> {
    /// Leaves the generation that it came to; it is over.
    fn returns(&self, next: &mut State<N>, me: usize) -> Result<(), &'static str> {
        let Actor { generation, rounds, seat, .. } = next.actors[me];
        let sure = self.mutant == Mutant::LastLooksAtNothing && usize::from(seat) == N - 1;
        let broken = next.outcomes >> generation & 1 == 1 && !sure;
        if broken {
            next.told |= 1 << generation;
        } else {
            next.released |= 1 << generation;
            if next.came[usize::from(generation)].count_ones() as usize != N {
                return Err("it is released, and not all have come");
            }
        }
        if next.told & next.released != 0 {
            return Err("one was released, and another was told that it broke");
        }
        let rounds = if broken { 0 } else { rounds - 1 };
        next.actors[me] = Actor { rounds, ..self.actor() };
        if rounds == 0 {
            next.actors[me].at = At::Done;
        }
        Ok(())
    }

    fn actor(&self) -> Actor {
        Actor {
            at: At::Latches,
            generation: 0,
            seen: (0, false),
            flagged: false,
            seat: 0,
            rounds: self.rounds,
        }
    }

    fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Latches | At::ActLatches | At::BreakLatches if state.latch == 0 || state.latch_is_dead() => {
                next.latch = me as u8 + 1;
                let was_dead = state.latch != 0 && self.mutant != Mutant::LatchPassesSilently;
                let last = self.mutant != Mutant::LastLooksAtNothing && state.generation != actor.generation;
                to.at = match actor.at {
                    _ if was_dead => At::BreakNotes,
                    At::Latches => At::Arrives,
                    At::ActLatches if last => At::BreakUnlatches,
                    At::ActLatches => At::ClearsSeats,
                    _ if state.generation == actor.generation && state.a_seat_is_dead() => At::BreakNotes,
                    _ => At::BreakUnlatches,
                };
                if actor.at == At::Latches {
                    to.generation = state.generation;
                }
                out.go(me, if state.latch == 0 { "latches" } else { "latches, after a death" }, next);
            }
            At::Arrives if state.broken => {
                next.latch = 0;
                *to = Actor { at: At::Done, rounds: 0, ..self.actor() };
                out.go(me, "finds it broken", next);
            }
            At::Arrives if state.a_seat_is_dead() => {
                to.at = At::BreakNotes;
                out.go(me, "finds a dead one's seat", next);
            }
            At::Arrives => {
                let seat = state.seats.iter().position(|seat| *seat == 0).expect("a seat is free");
                to.seat = seat as u8;
                to.at = At::ArriveUnlatches;
                next.seats[seat] = me as u8 + 1;
                next.came[usize::from(actor.generation)] |= 1 << me;
                out.go(me, "takes a seat", next);
            }
            At::ArriveUnlatches => {
                next.latch = 0;
                to.at = if usize::from(actor.seat) == N - 1 { At::Acts } else { At::Looks };
                out.go(me, "unlatches", next);
            }
            At::Acts => {
                to.at = At::ActLatches;
                out.go(me, "runs the action", next);
            }
            At::ClearsSeats | At::BreakClears => {
                let taken = state.seats.iter().position(|seat| *seat != 0);
                let breaks = actor.at == At::BreakClears;
                match taken {
                    Some(seat) => next.seats[seat] = 0,
                    None if breaks => to.at = At::BreakCommits,
                    None => to.at = At::Commits,
                }
                out.go(me, "clears a seat", next);
            }
            At::Commits => {
                next.generation += 1;
                to.flagged = state.sleepers;
                next.sleepers = false;
                to.at = At::CommitUnlatches;
                out.go(me, "ends the generation", next);
            }
            At::CommitUnlatches => {
                next.latch = 0;
                to.at = At::CommitWakes;
                out.go(me, "unlatches", next);
            }
            At::CommitWakes => {
                if actor.flagged {
                    next.world.wake_all(STATE);
                }
                self.leaves(me, "wakes all", next, out);
            }
            At::Looks => {
                if state.generation != actor.generation {
                    return self.leaves(me, "sees that the generation is over", next, out);
                }
                to.seen = (state.generation, state.sleepers);
                to.at = At::Flags;
                out.go(me, "looks at the state", next);
            }
            At::Flags => {
                to.at = At::Looks;
                if (state.generation, state.sleepers) == actor.seen {
                    next.sleepers |= self.mutant != Mutant::SleepsUnflagged;
                    to.at = At::Queues;
                }
                out.go(me, "says that it sleeps", next);
            }
            At::Queues => {
                let same = state.generation == actor.generation;
                to.at = if next.world.enqueue(me, STATE, same) { At::Sleeps } else { At::Looks };
                out.go(me, "is queued", next);
            }
            At::Sleeps if state.world.was_woken(me) => {
                next.world.leave(me);
                to.at = At::Looks;
                out.go(me, "wakes up", next);
            }
            At::Sleeps if self.ticks == Ticks::Always => {
                next.world.leave(me);
                to.at = At::Patrols;
                out.go(me, "ticks", next);
            }
            At::Patrols => {
                let seats = self.mutant != Mutant::PatrolsLatchOnly && state.a_seat_is_dead();
                let latch = self.mutant != Mutant::PatrolsSeatsOnly && state.latch_is_dead();
                to.at = if seats || latch { At::BreakLatches } else { At::Looks };
                out.go(me, "patrols", next);
            }
            At::BreakNotes if self.mutant == Mutant::CommitsBeforeOutcome && actor.flagged => {
                next.outcomes |= 1 << (state.generation - 1);
                to.at = At::BreakUnlatches;
                out.go(me, "notes that the generation broke", next);
            }
            At::BreakNotes => {
                if self.mutant != Mutant::CommitsBeforeOutcome {
                    next.outcomes |= 1 << state.generation;
                }
                to.at = At::BreakClears;
                out.go(me, "notes that the generation breaks", next);
            }
            At::BreakCommits => {
                next.generation = state.generation + 1;
                next.broken = true;
                next.sleepers = false;
                to.flagged = state.sleepers;
                to.at = At::BreakWakes;
                out.go(me, "ends the broken generation", next);
            }
            At::BreakWakes => {
                if actor.flagged {
                    next.world.wake_all(STATE);
                }
                to.flagged = true;
                let late = self.mutant == Mutant::CommitsBeforeOutcome;
                to.at = if late { At::BreakNotes } else { At::BreakUnlatches };
                out.go(me, "wakes all", next);
            }
            At::BreakUnlatches => {
                next.latch = 0;
                let came = state.came[usize::from(actor.generation)] >> me & 1 == 1;
                if came && state.generation != actor.generation {
                    return self.leaves(me, "unlatches", next, out);
                }
                to.at = if came { At::Looks } else { At::Latches };
                out.go(me, "unlatches", next);
            }
            _ => {}
        }
    }

    fn leaves(&self, me: usize, what: &'static str, mut next: State<N>, out: &mut Steps<State<N>>) {
        match self.returns(&mut next, me) {
            Ok(()) => out.go(me, what, next),
            Err(why) => out.wrong(me, what, why),
        }
    }
}

impl<const N: usize> Model for Barrier<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        vec![State {
            world: World::new(self.kills, self.ticks),
            latch: 0,
            outcomes: 0,
            generation: 0,
            sleepers: false,
            broken: false,
            seats: [0; N],
            actors: [self.actor(); N],
            came: [0; 3],
            released: 0,
            told: 0,
        }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            if state.world.is_up(me) && state.actors[me].at != At::Done {
                self.act(state, me, out);
                kill(state, me, out, |next| next.actors[me] = Actor { at: At::Done, ..self.actor() });
            }
        }
        if out.is_quiet() && state.world.ticks > 0 {
            let mut next = *state;
            next.world.ticks -= 1;
            for me in 0..N {
                if state.world.is_up(me) && state.actors[me].at == At::Sleeps {
                    next.world.leave(me);
                    next.actors[me].at = At::Patrols;
                }
            }
            out.go(N, "all tick", next);
        }
    }

    fn check(&self, _: &State<N>) -> Result<(), String> {
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        // Who waits for somebody that has died before it came waits rightly: nobody knows that it would have come.
        let missing = (0..N).any(|me| {
            let came = state.came[usize::from(state.generation).min(2)] >> me & 1 == 1;
            !state.world.is_up(me) && !came
        });
        let waits = |actor: &Actor| {
            actor.at == At::Sleeps
                && actor.generation == state.generation
                && missing
                && state.world.woken == 0
        };
        let quiet = !state.latch_is_dead() && !state.a_seat_is_dead();
        state.actors.iter().all(|actor| actor.at == At::Done || (quiet && waits(actor)))
    }
}

fn barrier<const N: usize>(rounds: u8, kills: u8, ticks: Ticks) -> Barrier<N> {
    Barrier { rounds, kills, ticks, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&barrier::<2>(2, 0, Ticks::Quiet(0)));
    prove(&barrier::<3>(2, 0, Ticks::Quiet(0)));
}

#[test]
fn the_dead_break_it() {
    prove(&barrier::<2>(2, 1, Ticks::Quiet(1)));
    prove(&barrier::<3>(1, 2, Ticks::Always));
    prove(&barrier::<3>(2, 1, Ticks::Always));
    if is_large() {
        prove(&barrier::<3>(2, 2, Ticks::Always));
        prove(&barrier::<4>(1, 2, Ticks::Always));
    }
}

#[test]
fn mutants_fail() {
    for mutant in [Mutant::CommitsBeforeOutcome, Mutant::LastLooksAtNothing] {
        let violation = refute(&Barrier { mutant, ..barrier::<3>(2, 1, Ticks::Always) });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    for mutant in [Mutant::PatrolsSeatsOnly, Mutant::PatrolsLatchOnly, Mutant::LatchPassesSilently] {
        let violation = refute(&Barrier { mutant, ..barrier::<2>(1, 1, Ticks::Always) });
        assert_eq!(violation.fault, Fault::Endless, "{mutant:?}: {violation}");
    }
    let mutant = Mutant::SleepsUnflagged;
    let violation = refute(&Barrier { mutant, ..barrier::<2>(1, 0, Ticks::Quiet(0)) });
    assert_eq!(violation.fault, Fault::Stranded, "{violation}");
}
