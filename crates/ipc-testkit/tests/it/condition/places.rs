//! The words of the condition's places, where they change without the lock: a sleeper inherits from a dead one, gives
//! that back if it was notified at that moment itself, and a newcomer takes a dead one's place meanwhile, with the lock.
//!
//! Most of it begins in the middle, with some asleep and some dead: what leads there is in `condition`.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, OWNER_DIED, Ticks, World, bury, kill};
use crate::{is_large, prove, refute};

use super::{NOTIFIED, PLACES, SLEEPS, whose, word};

/// Where an actor is; what a notifier does, what both do who tell one that waits, then what a waiter does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Begins,
    NotifyScans,
    NotifyEnds,
    Loads,
    Tells,
    Wakes,
    Asks,
    TakesBack,
    Judges,
    Exchanges,
    Stores,
    LetsGo,
    Looks,
    Queues,
    Sleeps,
    Patrols,
    Inherits,
    FreesOwn,
    GivesBack,
    Returns,
    Leaves,
    Ends,
    Done,
}

/// What an actor is at first. Actor a's place is a, if it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// It waited, and is dead.
    Fallen,
    /// It was notified, and is dead.
    FallenNotified,
    /// It waits, for the first of so many times.
    Asleep(u8),
    /// It notifies so many, then waits so often.
    Comes(u8, u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    /// Its own place.
    place: u8,
    /// The place that it inherits, or whose waiter it tells.
    other: u8,
    /// What it has read in a place.
    seen: u8,
    /// How many it has still to notify. Who passes a notification on has none.
    left: u8,
    /// How often it still waits.
    waits: u8,
    /// No part of the protocol: who waited when it began to pass on, and has not been told since.
    owed: u8,
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
    /// Notifications given up when nobody waited.
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
    /// A place that was judged free is overwritten, whatever has become of it.
    TakesPlaceBlindly,
    /// An heir that was notified itself empties its own place, and notifies somebody else: between the two, the
    /// notification is in no word, and dies with the heir.
    PassesOn,
}

#[derive(Clone, Copy, Debug)]
struct Places<const N: usize> {
    roles: [Role; N],
    kills: u8,
    ticks: Ticks,
    times_out: bool,
    /// The kernel's mark of a death may be missing.
    lossy: bool,
    mutant: Mutant,
}

impl<const N: usize> State<N> {
    /// As the board has it: no system call.
    fn is_dead(&self, actor: usize) -> bool {
        self.world.is_dead(actor)
    }

    /// Those that wait and have not been notified, as bits; `dead` says who is not counted.
    fn waiting(&self, dead: impl Fn(usize) -> bool) -> u8 {
        let waits = |word: &&u8| **word & NOTIFIED == 0;
        let actors = self.places.iter().filter(waits).filter_map(|word| whose(*word));
        actors.filter(|actor| !dead(*actor)).fold(0, |bits, actor| bits | 1 << actor)
    }

    /// Those of them that live, whatever anybody knows.
    fn alive(&self) -> u8 {
        self.waiting(|actor| !self.world.is_up(actor))
    }

    fn can_lock(&self) -> bool {
        let is_gone = |owner| self.is_dead(owner) || self.world.life[owner] == Life::Ended;
        self.lock.checked_sub(1).is_none_or(|owner| is_gone(usize::from(owner)))
    }

    /// Nobody owes it a notification any more: it has been told, or waits no more.
    fn settle(&mut self, actor: usize) {
        for other in &mut self.actors {
            other.owed &= !(1 << actor);
        }
    }
}

/// A word of one who waits and has not been notified.
fn waits(word: u8) -> bool {
    whose(word).is_some() && word & NOTIFIED == 0
}

fn told(seen: u8) -> u8 {
    seen & !SLEEPS | NOTIFIED
}

fn done() -> Actor {
    Actor { at: At::Done, place: 0, other: 0, seen: 0, left: 0, waits: 0, owed: 0 }
}

impl<const N: usize> Places<N> {
    /// With the lock: taking a place, and what a notifier does besides telling.
    fn come(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let place = usize::from(actor.place);
        let go = |what, change: &dyn Fn(&mut State<N>, &mut Actor), out: &mut Steps<State<N>>| {
            let (mut next, mut to) = (*state, actor);
            change(&mut next, &mut to);
            next.actors[me] = to;
            out.go(me, what, next);
        };
        match actor.at {
            At::Begins if state.can_lock() => {
                let at = if actor.left > 0 { At::NotifyScans } else { At::Judges };
                go("locks", &|next, to| (next.lock, to.at) = (me as u8 + 1, at), out);
            }
            At::NotifyScans => {
                // Any of them: who has waited longest is a matter of fairness.
                let mut nobody = true;
                for other in (0..N).filter(|other| actor.left > 0 && waits(state.places[*other])) {
                    nobody = false;
                    go("looks for waiters", &|_, to| (to.other, to.at) = (other as u8, At::Loads), out);
                }
                if nobody {
                    go("has notified", &|_, to| (to.left, to.other, to.at) = (0, 0, At::NotifyEnds), out);
                }
            }
            At::NotifyEnds => {
                let at = if actor.waits > 0 { At::Begins } else { At::Done };
                go("unlocks", &|next, to| (next.lock, to.at) = (0, at), out);
            }
            At::Judges => {
                // The judging is one step: a death stays one, and with the lock the number of those that wait only
                // falls. Of those that nobody has, one is like another.
                let nobody_waits = state.waiting(|actor| state.is_dead(actor)) == 0;
                let mut free =
                    state.places.iter().position(|word| *word == 0).into_iter().collect::<Vec<_>>();
                free.extend((0..N).filter(|place| {
                    let word = state.places[*place];
                    whose(word).is_some_and(|id| state.is_dead(id)) && (word & NOTIFIED == 0 || nobody_waits)
                }));
                for place in &free {
                    let seen = state.places[*place];
                    let blindly = seen == 0 || self.mutant == Mutant::TakesPlaceBlindly;
                    let at = if blindly { At::Stores } else { At::Exchanges };
                    let take = |_: &mut State<N>, to: &mut Actor| {
                        (to.place, to.seen, to.at) = (*place as u8, seen, at);
                    };
                    go("judges a place free", &take, out);
                }
                if free.is_empty() {
                    go("finds no place, and returns after a while", &|_, to| to.at = At::Ends, out);
                }
            }
            At::Exchanges if state.places[place] != actor.seen => {
                go(
                    "finds it another's meanwhile",
                    &|_, to| (to.place, to.seen, to.at) = (0, 0, At::Judges),
                    out,
                );
            }
            At::Exchanges => {
                let voids = actor.seen & NOTIFIED != 0;
                if voids && state.alive() != 0 {
                    out.wrong(me, "empties the place", "a notification is given up, and somebody waits");
                }
                let empty = |next: &mut State<N>, to: &mut Actor| {
                    next.places[place] = 0;
                    next.void += u8::from(voids);
                    (to.seen, to.at) = (0, At::Stores);
                };
                go("empties the place", &empty, out);
            }
            At::Stores => {
                let now = state.places[place];
                if now != 0 && self.mutant == Mutant::None {
                    out.wrong(me, "takes the place", "it was not empty");
                }
                // What was there when it was judged was not lost unless somebody waited.
                let voids = now == actor.seen && now & NOTIFIED != 0;
                let take = |next: &mut State<N>, to: &mut Actor| {
                    next.places[place] = word(me);
                    next.void += u8::from(voids);
                    (to.seen, to.at) = (0, At::LetsGo);
                };
                go("takes the place", &take, out);
            }
            At::LetsGo => go("unlocks", &|next, to| (next.lock, to.at) = (0, At::Looks), out),
            At::Returns if state.can_lock() => {
                go("locks", &|next, to| (next.lock, to.at) = (me as u8 + 1, At::Leaves), out);
            }
            At::Leaves => {
                let leave = |next: &mut State<N>, to: &mut Actor| {
                    next.used += u8::from(state.places[place] & NOTIFIED != 0);
                    next.places[place] = 0;
                    next.settle(me);
                    (to.place, to.at) = (0, At::Ends);
                };
                go("frees its place", &leave, out);
            }
            At::Ends => {
                let at = if actor.waits > 1 { At::Begins } else { At::Done };
                go(
                    "unlocks, and returns",
                    &|next, to| (next.lock, to.waits, to.at) = (0, actor.waits - 1, at),
                    out,
                );
            }
            _ => {}
        }
    }

    /// `Condition::tell`, for a notifier with the lock, and for an heir without it, which goes from place to place.
    fn tell(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let other = usize::from(actor.other);
        let notifies = actor.left > 0;
        let mut next = *state;
        let to = &mut next.actors[me];
        let is_told = |to: &mut Actor| {
            *to = Actor { seen: 0, other: 0, owed: 0, ..*to };
            to.at = if notifies { At::NotifyScans } else { At::Returns };
            to.left -= u8::from(notifies);
        };
        let is_not = |to: &mut Actor| {
            to.seen = 0;
            (to.other, to.at) = if notifies { (0, At::NotifyScans) } else { (to.other + 1, At::Loads) };
        };
        match actor.at {
            At::Loads if other == N => {
                let owed = (0..N).any(|one| actor.owed & state.alive() >> one & 1 == 1);
                if owed {
                    out.wrong(me, "finds nobody to pass on to", "somebody waits all the time");
                }
                is_told(to);
                next.void += 1;
                out.go(me, "finds nobody to pass on to", next);
            }
            At::Loads => {
                let now = state.places[other];
                if waits(now) {
                    (to.seen, to.at) = (now, At::Tells);
                } else {
                    is_not(to);
                }
                out.go(me, "looks at a place", next);
            }
            At::Tells => {
                let now = state.places[other];
                if now == actor.seen {
                    to.at = if now & SLEEPS != 0 { At::Wakes } else { At::Asks };
                    next.places[other] = told(now);
                    next.made += u8::from(notifies);
                    next.settle(whose(now).expect("somebody waits there"));
                } else if waits(now) {
                    to.seen = now;
                } else {
                    is_not(to);
                }
                out.go(me, "tells who waits there", next);
            }
            At::Wakes => {
                to.at = At::Asks;
                next.world.wake_all(PLACES + other);
                out.go(me, "wakes it", next);
            }
            At::Asks => {
                if whose(actor.seen).is_some_and(|id| state.is_dead(id)) {
                    to.at = At::TakesBack;
                } else {
                    is_told(to);
                }
                out.go(me, "asks whether it is dead", next);
            }
            At::TakesBack => {
                if state.places[other] == told(actor.seen) {
                    is_not(to);
                    next.places[other] = 0;
                    next.made -= u8::from(notifies);
                } else {
                    is_told(to);
                }
                out.go(me, "takes the notification back, if it is still there", next);
            }
            _ => {}
        }
    }

    /// Without the lock.
    fn wait(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let (place, other) = (usize::from(actor.place), usize::from(actor.other));
        let own = state.places[place];
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Looks => {
                if own & NOTIFIED != 0 || whose(own) != Some(me) {
                    to.at = At::Returns;
                } else {
                    to.at = At::Queues;
                    next.places[place] |= SLEEPS;
                }
                out.go(me, "looks at its word, or says that it sleeps", next);
            }
            At::Queues => {
                let same = own == word(me) | SLEEPS;
                to.at = if next.world.enqueue(me, PLACES + place, same) { At::Sleeps } else { At::Looks };
                out.go(me, "is queued", next);
            }
            At::Sleeps => {
                if self.times_out {
                    let mut next = *state;
                    next.world.leave(me);
                    next.actors[me].at = At::Returns;
                    out.may(me, "gives up waiting", next);
                }
                let was_woken = next.world.leave(me);
                let to = &mut next.actors[me];
                if was_woken {
                    to.at = At::Looks;
                    out.go(me, "wakes up", next);
                } else if self.ticks == Ticks::Always {
                    to.at = At::Patrols;
                    out.go(me, "ticks", next);
                }
            }
            At::Patrols => {
                let mut nobody = true;
                for other in 0..N {
                    let seen = state.places[other];
                    let Some(id) = whose(seen).filter(|_| seen & NOTIFIED != 0) else { continue };
                    let is_gone = state.world.life[id] == Life::Ended;
                    if state.is_dead(id) || is_gone {
                        nobody = false;
                        let mut next = *state;
                        // The kernel was asked, and its answer is on the board.
                        next.world.gone |= u8::from(is_gone) << id;
                        next.actors[me] = Actor { at: At::Inherits, other: other as u8, seen, ..actor };
                        out.go(me, "sees that one was notified and died", next);
                    }
                }
                if nobody {
                    to.at = At::Looks;
                    out.go(me, "patrols: nobody was notified and died", next);
                }
            }
            At::Inherits => {
                if state.places[other] == actor.seen {
                    to.at = At::FreesOwn;
                    next.places[other] = word(me) | NOTIFIED;
                } else {
                    (to.other, to.seen, to.at) = (0, 0, At::Looks);
                }
                out.go(me, "makes the dead one's place its own, if it is still the same", next);
            }
            At::FreesOwn if self.mutant != Mutant::PassesOn && own & NOTIFIED != 0 => {
                to.at = At::GivesBack;
                out.go(me, "finds itself notified", next);
            }
            At::FreesOwn => {
                *to = Actor { at: At::Returns, place: actor.other, other: 0, seen: 0, ..actor };
                next.places[place] = 0;
                if own & NOTIFIED != 0 {
                    let owed = next.alive();
                    next.actors[me] = Actor { at: At::Loads, owed, ..next.actors[me] };
                } else {
                    next.settle(me);
                }
                out.go(me, "frees its own place", next);
            }
            At::GivesBack => {
                *to = Actor { at: At::Returns, other: 0, seen: 0, ..actor };
                next.places[other] = actor.seen;
                out.go(me, "makes the place the dead one's again", next);
            }
            _ => {}
        }
    }
}

impl<const N: usize> Model for Places<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let mut world = World::new(self.kills, self.ticks);
        let mut places = [0; N];
        let mut actors = [done(); N];
        for (me, role) in self.roles.into_iter().enumerate() {
            match role {
                Role::Fallen | Role::FallenNotified => {
                    (world.life[me], world.live[me]) = (Life::Ended, OWNER_DIED);
                    places[me] = word(me) | if role == Role::Fallen { SLEEPS } else { NOTIFIED };
                }
                Role::Asleep(waits) => {
                    places[me] = word(me) | SLEEPS;
                    world.enqueue(me, PLACES + me, true);
                    actors[me] = Actor { at: At::Sleeps, place: me as u8, waits, ..done() };
                }
                Role::Comes(left, waits) => actors[me] = Actor { at: At::Begins, left, waits, ..done() },
            }
        }
        let made = self.roles.iter().filter(|role| **role == Role::FallenNotified).count() as u8;
        vec![State { world, lock: 0, places, actors, made, used: 0, void: 0 }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults { lossy: self.lossy, ..Faults::default() }, out);
            let actor = state.actors[me];
            if !state.world.is_up(me) || actor.at == At::Done {
                continue;
            }
            self.come(state, me, out);
            self.tell(state, me, out);
            self.wait(state, me, out);
            kill(state, me, out, |next| {
                next.actors[me] = done();
                // What it was to pass on dies with it: no harm where nobody waits.
                let has = actor.left == 0 && matches!(actor.at, At::Loads | At::Tells);
                next.void += u8::from(has && next.alive() == 0);
                next.settle(me);
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
        if state.used > state.made {
            return Err("more have returned than were notified".to_owned());
        }
        for (me, actor) in state.actors.iter().enumerate() {
            // An heir has two places for a moment.
            let waits = actor.at >= At::LetsGo && actor.at <= At::Leaves;
            if waits && whose(state.places[usize::from(actor.place)]) != Some(me) {
                return Err(format!("the place of {me} has become another's"));
            }
        }
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        let sleeps = |me: &usize| {
            let actor = state.actors[*me];
            actor.at == At::Sleeps && state.places[usize::from(actor.place)] & NOTIFIED == 0
        };
        let sleepers = (0..N).filter(sleeps).count();
        let done = state.actors.iter().filter(|actor| actor.at == At::Done).count();
        let carried = state.places.iter().any(|word| word & NOTIFIED != 0);
        let lost = state.made > state.used + state.void;
        done + sleepers == N && state.world.woken == 0 && (sleepers == 0 || !carried && !lost)
    }
}

fn places<const N: usize>(roles: [Role; N], kills: u8) -> Places<N> {
    Places { roles, kills, ticks: Ticks::Always, times_out: false, lossy: false, mutant: Mutant::None }
}

/// One was notified and is dead, another is dead, two sleep, and one comes that notifies one of them, then waits.
const CROWD: [Role; 5] =
    [Role::FallenNotified, Role::Fallen, Role::Asleep(1), Role::Asleep(1), Role::Comes(1, 1)];

/// One was notified and is dead, three sleep, and one of them is notified.
const HEIRS: [Role; 5] =
    [Role::FallenNotified, Role::Asleep(1), Role::Asleep(1), Role::Asleep(1), Role::Comes(1, 0)];

#[test]
fn places_of_the_dead_are_taken_and_inherited_at_once() {
    prove(&Places { times_out: true, ..places(CROWD, 0) });
    prove(&places(CROWD, 1));
    prove(&places(HEIRS, 1));
    let [notified, fallen, asleep, ..] = CROWD;
    let roles = [notified, fallen, asleep, Role::Comes(1, 2)];
    prove(&Places { times_out: true, lossy: true, ..places(roles, 1) });
    prove(&places([notified, Role::Asleep(2), Role::Asleep(1), Role::Comes(2, 1)], 1));
    if is_large() {
        prove(&Places { times_out: true, lossy: true, ..places(CROWD, 2) });
        prove(&Places { times_out: true, ..places(HEIRS, 2) });
        prove(&places([notified, fallen, asleep, asleep, asleep, Role::Comes(1, 1)], 1));
        prove(&places([notified, fallen, asleep, asleep, Role::Comes(1, 0), Role::Comes(0, 1)], 1));
        prove(&places([notified, Role::Asleep(2), Role::Asleep(2), Role::Comes(2, 2)], 2));
        prove(&places([Role::Comes(0, 1), Role::Comes(0, 1), Role::Comes(0, 1), Role::Comes(2, 1)], 2));
    }
}

#[test]
fn mutants_fail() {
    // An heir dies between the two.
    let violation = refute(&Places { mutant: Mutant::PassesOn, ..places(HEIRS, 1) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
    // The place that a sleeper has just inherited becomes the newcomer's.
    let [notified, _, asleep, _, comes] = CROWD;
    let inherited = places([notified, asleep, comes], 0);
    prove(&inherited);
    let violation = refute(&Places { mutant: Mutant::TakesPlaceBlindly, ..inherited });
    assert!(matches!(violation.fault, Fault::Unsafe(_)), "{violation}");
}
