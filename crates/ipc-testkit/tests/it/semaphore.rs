//! The semaphore: `Semaphore` of docs/shm-layout.md. Its latch is taken in one step here, by whoever finds it free or its
//! owner dead, and who takes it from a dead one repairs; `lock` has the rest. Sleepers watch `free` alone here, so that
//! what the dead held comes back at a tick.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, Ticks, World, bury, kill, wake_one};
use crate::{is_large, prove, refute};

/// The futex: `free`, with its bit for sleepers.
const FREE: usize = 8;

/// Where an actor is. Acquirers acquire, use and release; signallers add a permit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Latches,
    Repairs,
    RepairsFree,
    RepairWakes,
    Holds,
    HoldsId,
    HoldsFree,
    HasUnlatched,
    PassesOn,
    Uses,
    Flags,
    FlagUnlatches,
    Queues,
    Sleeps,
    Patrols,
    Releases,
    ForgetsHeld,
    ReleasesFree,
    ReleaseUnlatches,
    ReleaseWakes,
    Done,
}

/// What the latch is taken for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Op {
    Acquire,
    Reclaim,
    Release,
    Forget,
    Signal,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    op: Op,
    place: u8,
    slept: bool,
    flagged: bool,
    /// The permits that it may use.
    has: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    /// Who has the latch, + 1.
    latch: u8,
    total: u8,
    free: u8,
    sleepers: bool,
    /// Whose, + 1, and how many.
    holders: [(u8, u8); N],
    actors: [Actor; N],
    /// Somebody died between the two stores of forgetting.
    half_forgotten: bool,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// Who takes the latch from a dead owner repairs nothing.
    NoRepair,
    /// A permit comes back when its thread is dead, though its process may still use it.
    JudgesThreads,
    /// A sleeper that gets a permit, and leaves others, wakes nobody.
    PassesNothingOn,
    /// A patrol looks at the holders, and not at the latch.
    PatrolsHoldersOnly,
    /// A patrol looks at the latch, and not at the holders.
    PatrolsLatchOnly,
    /// `sleepers` is not set.
    SleepsUnflagged,
}

#[derive(Clone, Copy, Debug)]
struct Semaphore<const N: usize> {
    total: u8,
    signallers: usize,
    /// Who has a permit forgets it in the end.
    forgets: bool,
    kills: u8,
    ticks: Ticks,
    mutant: Mutant,
}

impl<const N: usize> State<N> {
    fn is_gone(&self, actor: u8) -> bool {
        self.world.life[usize::from(actor)] == Life::Ended
    }

    fn held(&self) -> u8 {
        self.holders.iter().filter(|(id, _)| *id > 0).map(|(_, held)| held).sum()
    }

    fn latch_is_dead(&self) -> bool {
        self.latch.checked_sub(1).is_some_and(|owner| self.world.is_dead(owner.into()) || self.is_gone(owner))
    }
}

impl<const N: usize> Semaphore<N> {
    fn begins(&self, actor: usize) -> Actor {
        let op = if actor < self.signallers { Op::Signal } else { Op::Acquire };
        Actor { at: At::Latches, op, place: 0, slept: false, flagged: false, has: 0 }
    }

    /// A holder whose permits come back.
    fn lapsed(&self, state: &State<N>) -> Option<usize> {
        let threads = self.mutant == Mutant::JudgesThreads;
        let lapsed = |id: u8| state.is_gone(id) || (threads && state.world.is_dead(id.into()));
        state.holders.iter().position(|(id, _)| id.checked_sub(1).is_some_and(lapsed))
    }

    /// What it took the latch for.
    fn latched(&self, state: &State<N>, me: usize) -> At {
        match state.actors[me].op {
            Op::Signal | Op::Release | Op::Forget => At::Releases,
            Op::Reclaim | Op::Acquire if state.free == 0 => At::Flags,
            Op::Reclaim | Op::Acquire => At::Holds,
        }
    }

    fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let place = usize::from(actor.place);
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Latches if state.latch == 0 || state.latch_is_dead() => {
                next.latch = me as u8 + 1;
                let repairs = state.latch != 0 && self.mutant != Mutant::NoRepair;
                to.at =
                    if repairs || actor.op == Op::Reclaim { At::Repairs } else { self.latched(state, me) };
                out.go(me, if state.latch == 0 { "latches" } else { "latches, after a death" }, next);
            }
            At::Repairs => {
                if let Some(lapsed) = self.lapsed(state) {
                    next.holders[lapsed].0 = 0;
                } else {
                    to.at = At::RepairsFree;
                }
                out.go(me, "frees the places of who is gone", next);
            }
            At::RepairsFree => {
                // Less than none where somebody died while forgetting.
                next.free = state.total.saturating_sub(state.held());
                to.flagged = state.sleepers && next.free > 0;
                next.sleepers &= next.free == 0;
                to.at = At::RepairWakes;
                out.go(me, "counts what is free", next);
            }
            At::RepairWakes => {
                if actor.flagged {
                    next.world.wake_all(FREE);
                }
                to.flagged = false;
                to.at = self.latched(state, me);
                out.go(me, "wakes all", next);
            }
            At::Holds => {
                let mine = state.holders.iter().position(|(id, _)| usize::from(*id) == me + 1);
                let place = mine.unwrap_or_else(|| {
                    state.holders.iter().position(|(id, _)| *id == 0).expect("a place is free")
                });
                to.place = place as u8;
                next.holders[place].1 = if mine.is_some() { state.holders[place].1 + 1 } else { 1 };
                to.at = if mine.is_some() { At::HoldsFree } else { At::HoldsId };
                out.go(me, "counts its permit", next);
            }
            At::HoldsId => {
                to.at = At::HoldsFree;
                next.holders[place].0 = me as u8 + 1;
                out.go(me, "puts its name there", next);
            }
            At::HoldsFree => {
                next.free -= 1;
                next.sleepers |= actor.slept;
                to.has += 1;
                to.at = At::HasUnlatched;
                out.go(me, "takes one from what is free", next);
            }
            At::HasUnlatched => {
                next.latch = 0;
                let passes = actor.slept && state.free > 0 && self.mutant != Mutant::PassesNothingOn;
                to.at = if passes { At::PassesOn } else { At::Uses };
                to.slept = false;
                out.go(me, "unlatches", next);
            }
            At::PassesOn => {
                wake_one(state, FREE, (me, "passes the wake on"), out, |next| next.actors[me].at = At::Uses);
            }
            At::Uses => {
                to.op = if self.forgets { Op::Forget } else { Op::Release };
                to.at = At::Latches;
                out.go(me, "is done with its permit", next);
            }
            At::Flags => {
                next.sleepers |= self.mutant != Mutant::SleepsUnflagged;
                to.at = At::FlagUnlatches;
                out.go(me, "says that it sleeps", next);
            }
            At::FlagUnlatches => {
                next.latch = 0;
                to.op = Op::Acquire;
                to.at = At::Queues;
                out.go(me, "unlatches", next);
            }
            At::Queues => {
                let same = state.free == 0 && (state.sleepers || self.mutant == Mutant::SleepsUnflagged);
                to.at = if next.world.enqueue(me, FREE, same) { At::Sleeps } else { At::Latches };
                out.go(me, "is queued", next);
            }
            At::Sleeps if state.world.was_woken(me) => {
                next.world.leave(me);
                to.slept = true;
                to.at = At::Latches;
                out.go(me, "wakes up", next);
            }
            At::Sleeps if self.ticks == Ticks::Always => {
                tick(&mut next, me);
                out.go(me, "ticks", next);
            }
            At::Patrols => {
                let holders = self.mutant != Mutant::PatrolsLatchOnly && self.lapsed(state).is_some();
                let latch = self.mutant != Mutant::PatrolsHoldersOnly && state.latch_is_dead();
                to.op = if holders || latch { Op::Reclaim } else { Op::Acquire };
                to.at = if holders || latch { At::Latches } else { At::Queues };
                out.go(me, "patrols", next);
            }
            At::Releases if actor.op == Op::Signal => {
                next.total += 1;
                to.at = At::ReleasesFree;
                out.go(me, "adds a permit", next);
            }
            At::Releases if actor.op == Op::Forget => {
                next.total -= 1;
                to.has -= 1;
                to.at = At::ForgetsHeld;
                out.go(me, "takes its permit out of the total", next);
            }
            At::ForgetsHeld => {
                next.holders[place].1 -= 1;
                to.at = At::ReleaseUnlatches;
                out.go(me, "forgets its permit", next);
            }
            At::Releases => {
                next.holders[place].1 -= 1;
                to.has -= 1;
                to.at = At::ReleasesFree;
                out.go(me, "gives its permit back", next);
            }
            At::ReleasesFree => {
                next.free += 1;
                next.sleepers = false;
                to.flagged = state.sleepers;
                to.at = At::ReleaseUnlatches;
                out.go(me, "adds one to what is free", next);
            }
            At::ReleaseUnlatches => {
                next.latch = 0;
                to.at = At::ReleaseWakes;
                if !actor.flagged {
                    *to = Actor { at: At::Done, ..self.begins(me) };
                }
                out.go(me, "unlatches", next);
            }
            At::ReleaseWakes => wake_one(state, FREE, (me, "wakes one"), out, |next| {
                next.actors[me] = Actor { at: At::Done, ..self.begins(me) };
            }),
            _ => {}
        }
    }
}

fn tick<const N: usize>(next: &mut State<N>, sleeper: usize) {
    next.world.leave(sleeper);
    next.actors[sleeper].slept = true;
    next.actors[sleeper].at = At::Patrols;
}

impl<const N: usize> Model for Semaphore<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let world = World::new(self.kills, self.ticks);
        let actors = std::array::from_fn(|actor| self.begins(actor));
        let (total, free) = (self.total, self.total);
        // Every place has a count left by somebody who is gone.
        vec![State {
            world,
            latch: 0,
            total,
            free,
            sleepers: false,
            holders: [(0, 1); N],
            actors,
            half_forgotten: false,
        }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            let at = state.actors[me].at;
            if state.world.is_up(me) && at != At::Done {
                self.act(state, me, out);
                kill(state, me, out, |next| {
                    let has = next.actors[me].has;
                    next.half_forgotten |= at == At::ForgetsHeld;
                    next.actors[me] = Actor { at: At::Done, has, ..self.begins(me) };
                });
            }
        }
        if out.is_quiet() && state.world.ticks > 0 {
            let mut next = *state;
            next.world.ticks -= 1;
            for me in 0..N {
                if state.world.is_up(me) && state.actors[me].at == At::Sleeps {
                    tick(&mut next, me);
                }
            }
            out.go(N, "all tick", next);
        }
    }

    fn check(&self, state: &State<N>) -> Result<(), String> {
        let used = (0..N).filter(|me| !state.is_gone(*me as u8)).map(|me| state.actors[me].has).sum::<u8>();
        if used > state.total {
            return Err("more permits are used than there are".to_owned());
        }
        if state.latch == 0 && !state.half_forgotten && state.free + state.held() != state.total {
            return Err("permits are lost or made".to_owned());
        }
        Ok(())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        let sleeps = |me: &usize| state.world.is_up(*me) && state.actors[*me].at == At::Sleeps;
        let sleepers = (0..N).filter(sleeps).count();
        let done = state.actors.iter().filter(|actor| actor.at == At::Done).count();
        // To sleep is right where no permit is left, nor would be after a repair.
        let left = state.free > 0 || state.latch_is_dead() || self.lapsed(state).is_some();
        done + sleepers == N
            && (sleepers == 0 || (state.world.woken == 0 && !left && state.held() >= state.total))
    }
}

fn semaphore<const N: usize>(total: u8, kills: u8, ticks: Ticks) -> Semaphore<N> {
    Semaphore { total, signallers: 0, forgets: false, kills, ticks, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&semaphore::<3>(1, 0, Ticks::Quiet(0)));
    prove(&semaphore::<4>(2, 0, Ticks::Quiet(0)));
    prove(&Semaphore { signallers: 2, forgets: true, ..semaphore::<4>(0, 0, Ticks::Quiet(0)) });
}

#[test]
fn permits_of_the_dead_come_back() {
    prove(&semaphore::<3>(1, 1, Ticks::Quiet(1)));
    prove(&semaphore::<3>(1, 2, Ticks::Always));
    prove(&semaphore::<3>(2, 1, Ticks::Always));
    prove(&Semaphore { signallers: 1, ..semaphore::<3>(0, 1, Ticks::Always) });
    prove(&Semaphore { forgets: true, ..semaphore::<3>(2, 1, Ticks::Always) });
    if is_large() {
        prove(&semaphore::<4>(2, 2, Ticks::Always));
        prove(&Semaphore { signallers: 2, ..semaphore::<4>(0, 2, Ticks::Always) });
    }
}

#[test]
fn mutants_fail() {
    for (mutant, total, kills) in [(Mutant::NoRepair, 1, 1), (Mutant::JudgesThreads, 1, 1)] {
        let violation = refute(&Semaphore { mutant, ..semaphore::<3>(total, kills, Ticks::Always) });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    let mutant = Mutant::PassesNothingOn;
    let violation =
        refute(&Semaphore { mutant, signallers: 2, forgets: true, ..semaphore::<4>(0, 0, Ticks::Quiet(0)) });
    assert_eq!(violation.fault, Fault::Stranded, "{violation}");
    let violation =
        refute(&Semaphore { mutant: Mutant::SleepsUnflagged, ..semaphore::<2>(1, 0, Ticks::Quiet(0)) });
    assert_eq!(violation.fault, Fault::Stranded, "{violation}");
    let mutant = Mutant::PatrolsHoldersOnly;
    let violation = refute(&Semaphore { mutant, signallers: 1, ..semaphore::<2>(0, 1, Ticks::Always) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
    let violation =
        refute(&Semaphore { mutant: Mutant::PatrolsLatchOnly, ..semaphore::<2>(1, 1, Ticks::Always) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
}
