//! The condition: `Condition` of docs/shm-layout.md. Its lock is taken in one step here, by whoever finds it free or its
//! owner dead; `lock` has the rest. Here a sleeper takes over from the dead with the lock; how that is done without it,
//! while others take places and notify, is in `places`.
//!
//! A notification is a token: made by a notifier, carried in a waiter's word, used up by the waiter that returns. None
//! may be lost while somebody waits, and no more may be used up than were made.

mod places;

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, Ticks, World, bury, kill, wake_one};
use crate::{is_large, prove, refute};

/// A waiter's word: whose, + 1, << 2; 0 free.
const NOTIFIED: u8 = 1;
const SLEEPS: u8 = 2;

/// The futexes of the places.
const PLACES: usize = 8;

/// Where an actor is; what a waiter does, then what a notifier does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Begins,
    TakesPlace,
    LetsGo,
    Looks,
    Flags,
    Queues,
    Sleeps,
    Patrols,
    Scans,
    Marks,
    Clears,
    Moves,
    FreesOwn,
    BackToSleep,
    Returns,
    Takes,
    Ends,
    NotifyBegins,
    NotifyScans,
    NotifyMarks,
    NotifyWakes,
    NotifyClears,
    NotifyEnds,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    /// A waiter's own place; the place that a notifier works on.
    place: u8,
    /// The dead waiter's place, + 1.
    dead: u8,
    /// How many a notifier has still to notify.
    left: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    /// Who has the lock, + 1.
    lock: u8,
    places: [u8; N],
    actors: [Actor; N],
    made: u8,
    used: u8,
    /// Notifications of the dead, when nobody else waited.
    void: u8,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// A sleeper takes a notification over without the lock.
    TakesOverUnlocked,
    /// The dead waiter's word is cleared before its notification is taken over.
    ClearsFirst,
    /// Nobody takes over what a dead waiter was notified of.
    ForgetsDead,
    /// A notifier wakes a waiter, and does not mark it.
    OnlyWakes,
    /// A notifier wakes a waiter, then marks it.
    WakesFirst,
    /// Who gives up waiting does not look whether it was notified.
    TimeoutDropsNotification,
}

#[derive(Clone, Copy, Debug)]
struct Condition<const N: usize> {
    notifiers: usize,
    /// How many waiters each of them notifies.
    each: u8,
    kills: u8,
    ticks: Ticks,
    times_out: bool,
    /// A notification is taken over by one store, that makes the dead waiter's place one's own; else by two.
    moves: bool,
    mutant: Mutant,
}

fn word(actor: usize) -> u8 {
    (actor as u8 + 1) << 2
}

fn whose(word: u8) -> Option<usize> {
    (word >> 2).checked_sub(1).map(usize::from)
}

impl<const N: usize> State<N> {
    fn is_dead(&self, actor: usize) -> bool {
        self.world.is_dead(actor) || self.world.life[actor] == Life::Ended
    }

    /// The first place that a dead waiter has, notified or not.
    fn dead(&self, notified: bool) -> Option<usize> {
        let of_dead = |word: &u8| whose(*word).is_some_and(|actor| self.is_dead(actor));
        self.places.iter().position(|word| of_dead(word) && (word & NOTIFIED != 0) == notified)
    }

    /// The first place of somebody that can be notified.
    fn waiting(&self) -> Option<usize> {
        let living = |word: &u8| whose(*word).is_some_and(|actor| !self.is_dead(actor));
        self.places.iter().position(|word| living(word) && word & NOTIFIED == 0)
    }

    fn can_lock(&self) -> bool {
        self.lock.checked_sub(1).is_none_or(|owner| self.is_dead(usize::from(owner)))
    }
}

impl<const N: usize> Condition<N> {
    fn is_notifier(&self, actor: usize) -> bool {
        actor >= N - self.notifiers
    }

    fn wait(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let place = usize::from(actor.place);
        let own = state.places[place];
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Begins | At::Returns if state.can_lock() => {
                next.lock = me as u8 + 1;
                to.at = if actor.at == At::Begins { At::TakesPlace } else { At::Takes };
                out.go(me, "locks", next);
            }
            At::TakesPlace => {
                // The dead leave places too: there are as many as actors, so that one is free.
                to.place = state.places.iter().position(|word| *word == 0).expect("a place is free") as u8;
                to.at = At::LetsGo;
                next.places[usize::from(next.actors[me].place)] = word(me);
                out.go(me, "takes a place", next);
            }
            At::LetsGo | At::BackToSleep => {
                next.lock = 0;
                to.at = At::Looks;
                out.go(me, "unlocks", next);
            }
            At::Looks => {
                if self.times_out && own & NOTIFIED == 0 {
                    to.at = At::Returns;
                    out.may(me, "gives up waiting", next);
                }
                let to = &mut next.actors[me];
                to.at = if own & NOTIFIED == 0 { At::Flags } else { At::Returns };
                out.go(me, "looks at its word", next);
            }
            At::Flags => {
                to.at = At::Looks;
                if own & NOTIFIED == 0 {
                    next.places[place] |= SLEEPS;
                    to.at = At::Queues;
                }
                out.go(me, "says that it sleeps", next);
            }
            At::Queues => {
                let same = own == word(me) | SLEEPS;
                to.at = if next.world.enqueue(me, PLACES + place, same) { At::Sleeps } else { At::Looks };
                out.go(me, "is queued", next);
            }
            At::Sleeps if state.world.was_woken(me) => {
                next.world.leave(me);
                to.at = if self.mutant == Mutant::OnlyWakes { At::Returns } else { At::Looks };
                out.go(me, "wakes up", next);
            }
            At::Sleeps if self.ticks == Ticks::Always => {
                next.world.leave(me);
                to.at = At::Patrols;
                out.go(me, "ticks", next);
            }
            At::Patrols if self.mutant == Mutant::ForgetsDead || state.dead(true).is_none() => {
                to.at = At::Looks;
                out.go(me, "patrols: nobody was notified and died", next);
            }
            At::Patrols if self.mutant == Mutant::TakesOverUnlocked => {
                to.at = At::Scans;
                out.go(me, "patrols", next);
            }
            At::Patrols if state.can_lock() => {
                next.lock = me as u8 + 1;
                to.at = At::Scans;
                out.go(me, "patrols: locks", next);
            }
            At::Scans => {
                let unlocked = self.mutant == Mutant::TakesOverUnlocked;
                to.at = if unlocked { At::Looks } else { At::BackToSleep };
                if own & NOTIFIED == 0
                    && let Some(dead) = state.dead(true)
                {
                    to.dead = dead as u8 + 1;
                    to.at = match (self.mutant, self.moves) {
                        (Mutant::ClearsFirst, _) => At::Clears,
                        (_, true) => At::Moves,
                        (_, false) => At::Marks,
                    };
                }
                out.go(me, "looks for who was notified and died", next);
            }
            At::Marks => {
                next.places[place] |= NOTIFIED;
                to.at = if self.mutant == Mutant::ClearsFirst { At::Takes } else { At::Clears };
                out.go(me, "marks itself", next);
            }
            At::Clears => {
                let dead = usize::from(actor.dead - 1);
                // Without the lock, somebody may have been first, and the place somebody's who lives.
                if state.dead(true) == Some(dead) {
                    next.places[dead] = 0;
                }
                let to = &mut next.actors[me];
                to.dead = 0;
                to.at = match self.mutant {
                    Mutant::ClearsFirst => {
                        to.dead = actor.dead;
                        At::Marks
                    }
                    Mutant::TakesOverUnlocked => At::Looks,
                    _ => At::Takes,
                };
                out.go(me, "clears the dead one's word", next);
            }
            At::Moves => {
                next.places[usize::from(actor.dead - 1)] = word(me) | NOTIFIED;
                to.at = At::FreesOwn;
                out.go(me, "makes the dead one's notified place its own", next);
            }
            At::FreesOwn => {
                next.places[place] = 0;
                to.place = actor.dead - 1;
                to.dead = 0;
                to.at = At::Takes;
                out.go(me, "frees its own place", next);
            }
            At::Takes => {
                let drops = self.mutant == Mutant::TimeoutDropsNotification;
                next.used += u8::from(own & NOTIFIED != 0 && !drops);
                next.places[place] = 0;
                *to = Actor { at: At::Ends, place: 0, dead: 0, left: 0 };
                out.go(me, "returns, and frees its place", next);
            }
            At::Ends => {
                next.lock = 0;
                to.at = At::Done;
                out.go(me, "unlocks, and ends", next);
            }
            _ => {}
        }
    }

    fn notify(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let place = usize::from(actor.place);
        let mut next = *state;
        let to = &mut next.actors[me];
        let marks = if self.mutant == Mutant::OnlyWakes || self.mutant == Mutant::WakesFirst {
            At::NotifyWakes
        } else {
            At::NotifyMarks
        };
        match actor.at {
            At::NotifyBegins if state.can_lock() => {
                next.lock = me as u8 + 1;
                to.at = At::NotifyScans;
                out.go(me, "locks", next);
            }
            At::NotifyScans => {
                let (waiting, orphaned) = (state.waiting(), state.dead(true));
                if let Some(dead) = state.dead(false) {
                    (to.place, to.at) = (dead as u8, At::NotifyClears);
                } else if let Some(dead) = orphaned
                    && (waiting.is_none() || self.mutant == Mutant::ForgetsDead)
                {
                    next.void += 1;
                    (to.place, to.at) = (dead as u8, At::NotifyClears);
                } else if let (Some(dead), Some(waiting), false) = (orphaned, waiting, self.moves) {
                    to.dead = dead as u8 + 1;
                    to.place = waiting as u8;
                    to.at = if self.mutant == Mutant::ClearsFirst { At::NotifyClears } else { marks };
                } else if let Some(waiting) = waiting.filter(|_| actor.left > 0) {
                    (to.place, to.at) = (waiting as u8, marks);
                } else {
                    to.at = At::NotifyEnds;
                }
                out.go(me, "looks for waiters", next);
            }
            At::NotifyMarks => {
                if self.mutant != Mutant::OnlyWakes {
                    next.places[place] |= NOTIFIED;
                }
                to.at = At::NotifyWakes;
                if self.mutant == Mutant::WakesFirst {
                    to.at = At::NotifyScans;
                }
                if actor.dead == 0 {
                    to.left -= 1;
                    next.made += 1;
                } else if self.mutant == Mutant::ClearsFirst {
                    to.dead = 0;
                }
                out.go(me, "marks a waiter", next);
            }
            At::NotifyWakes => {
                let before = matches!(self.mutant, Mutant::OnlyWakes | Mutant::WakesFirst);
                let then = match actor.dead {
                    0 if self.mutant == Mutant::WakesFirst => At::NotifyMarks,
                    0 => At::NotifyScans,
                    _ => At::NotifyClears,
                };
                let count = self.mutant == Mutant::OnlyWakes && actor.dead == 0;
                let sleeps = state.places[place] & SLEEPS != 0;
                wake_one(
                    state,
                    if sleeps || before { PLACES + place } else { 15 },
                    (me, "wakes it"),
                    out,
                    |next| {
                        next.actors[me].at = then;
                        next.actors[me].left -= u8::from(count);
                        next.made += u8::from(count);
                    },
                );
            }
            At::NotifyClears => {
                let cleared = if actor.dead == 0 { place } else { usize::from(actor.dead - 1) };
                next.places[cleared] = 0;
                to.at = At::NotifyScans;
                if actor.dead > 0 && self.mutant == Mutant::ClearsFirst {
                    to.at = At::NotifyMarks;
                } else {
                    to.dead = 0;
                }
                out.go(me, "clears a dead waiter's word", next);
            }
            At::NotifyEnds => {
                next.lock = 0;
                *to = Actor { at: At::Done, place: 0, dead: 0, left: 0 };
                out.go(me, "unlocks, and ends", next);
            }
            _ => {}
        }
    }
}

impl<const N: usize> Model for Condition<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let actors = std::array::from_fn(|actor| {
            let notifier = self.is_notifier(actor);
            let at = if notifier { At::NotifyBegins } else { At::Begins };
            Actor { at, place: 0, dead: 0, left: if notifier { self.each } else { 0 } }
        });
        let world = World::new(self.kills, self.ticks);
        vec![State { world, lock: 0, places: [0; N], actors, made: 0, used: 0, void: 0 }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            let at = state.actors[me].at;
            if !state.world.is_up(me) || at == At::Done {
                continue;
            }
            if self.is_notifier(me) {
                self.notify(state, me, out);
            } else {
                self.wait(state, me, out);
            }
            kill(state, me, out, |next| {
                next.actors[me] = Actor { at: At::Done, place: 0, dead: 0, left: 0 };
            });
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

    fn check(&self, state: &State<N>) -> Result<(), String> {
        // Taken over by two stores, a notification is there twice when somebody dies in between: the second to die,
        // for the first is the one that was notified.
        let deaths = if self.moves { 0 } else { self.kills - state.world.kills };
        if state.used > state.made + deaths.saturating_sub(1) {
            return Err("more have returned than were notified".to_owned());
        }
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        let sleeps = |actor: &usize| {
            let actor = state.actors[*actor];
            actor.at == At::Sleeps && state.places[usize::from(actor.place)] & NOTIFIED == 0
        };
        let sleepers = (0..N).filter(sleeps).count();
        let others_done = state.actors.iter().filter(|actor| actor.at == At::Done).count() + sleepers == N;
        let carried = state.places.iter().filter(|word| *word & NOTIFIED != 0).count();
        let lost = usize::from(state.made) > usize::from(state.used + state.void);
        others_done && state.world.woken == 0 && (sleepers == 0 || (carried == 0 && !lost))
    }
}

fn condition<const N: usize>(each: u8, kills: u8, ticks: Ticks) -> Condition<N> {
    Condition { notifiers: 1, each, kills, ticks, times_out: false, moves: false, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&Condition { times_out: true, ..condition::<3>(1, 0, Ticks::Quiet(0)) });
    prove(&Condition { moves: true, ..condition::<4>(2, 0, Ticks::Quiet(0)) });
    prove(&Condition { notifiers: 2, ..condition::<4>(1, 0, Ticks::Quiet(0)) });
}

#[test]
fn notifications_of_the_dead_are_taken_over() {
    for moves in [false, true] {
        prove(&Condition { moves, times_out: true, ..condition::<3>(1, 1, Ticks::Always) });
        prove(&Condition { moves, ..condition::<4>(1, 1, Ticks::Always) });
        prove(&Condition { moves, ..condition::<4>(1, 2, Ticks::Quiet(2)) });
        if is_large() {
            prove(&Condition { moves, times_out: true, notifiers: 2, ..condition::<4>(1, 2, Ticks::Always) });
            prove(&Condition { moves, ..condition::<5>(2, 2, Ticks::Quiet(2)) });
        }
    }
}

#[test]
fn mutants_fail() {
    let refutes = |mutant, kills, ticks| refute(&Condition { mutant, ..condition::<4>(1, kills, ticks) });
    let violation = refutes(Mutant::TakesOverUnlocked, 1, Ticks::Always);
    assert!(matches!(violation.fault, Fault::Unsafe(_)), "{violation}");
    for mutant in [Mutant::ClearsFirst, Mutant::ForgetsDead] {
        let violation = refutes(mutant, 2, Ticks::Quiet(2));
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
    for mutant in [Mutant::OnlyWakes, Mutant::WakesFirst] {
        let violation = refutes(mutant, 0, Ticks::Quiet(0));
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
    let mutant = Mutant::TimeoutDropsNotification;
    let violation = refute(&Condition { mutant, times_out: true, ..condition::<3>(1, 0, Ticks::Quiet(0)) });
    assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
}
