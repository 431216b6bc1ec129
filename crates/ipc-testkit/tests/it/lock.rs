//! The lock: `Lock` of docs/shm-layout.md, with sleeping, dying, recovering and giving up.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, OWNER_DIED, TID, Ticks, WAITERS, World, bury, kill, wake_one};
use crate::{is_large, prove, refute};

/// The lock word: W | I | owner, 1 … N; without an owner, I says that it is inconsistent, `GIVEN_UP` for good.
const W: u8 = 1;
const I: u8 = 2;
const GIVEN_UP: u8 = 64;

fn id(actor: usize) -> u8 {
    (actor as u8 + 1) << 2
}

fn owner(word: u8) -> Option<usize> {
    (word >> 2 & 7).checked_sub(1).map(usize::from)
}

/// Where an actor is: the next thing that it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Load,
    JudgeEarly,
    Judge,
    Take,
    Recover,
    Flag,
    Watch,
    QueueLive,
    QueueWord,
    Sleep,
    SawFlag,
    Patrol,
    PatrolWakes,
    PassOn,
    Register,
    Arm,
    /// It has a clean guard.
    Holds,
    /// It was told of a dead owner.
    Repairs,
    Repaired,
    Drops,
    GivesUp,
    WakesAll,
    UnlockLoad,
    WakesFirst,
    Unlock,
    WakesOne,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    /// The word as it was read.
    seen: u8,
    /// Has slept since it began to wait.
    slept: bool,
    /// Judged the owner that it saw before this one, for a mutant.
    judged_dead: bool,
    rounds: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    word: u8,
    actors: [Actor; N],
    /// Somebody died while it changed what the lock guards, and nobody has repaired it.
    torn: bool,
    /// Who was falsely taken for dead.
    forged: u8,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// Unlocking stores, whatever the word is.
    UnlockSwaps,
    /// Who has slept takes the word without W.
    SleptDropsW,
    /// Recovering does not set I.
    TakeoverDropsI,
    /// Whether the owner is dead is asked before the word is read from which the lock is taken.
    JudgesBeforeReading,
    /// The thread registers once it has the lock.
    ArmsLate,
    /// The kernel's flag wakes nobody.
    FlagWakesNobody,
    /// A sleeper does not set W.
    SleepsWithoutW,
    /// A sleeper does not set WAITERS in the live word.
    WatchesWithoutWaiters,
    /// Unlocking wakes first.
    WakesBeforeStoring,
    /// Who gives up waiting passes no wake on.
    TimeoutKeepsWake,
    /// Dropping a guard unrepaired wakes nobody.
    DropWakesNobody,
}

#[derive(Clone, Copy, Debug)]
struct Lock<const N: usize> {
    rounds: u8,
    kills: u8,
    ticks: Ticks,
    lossy: bool,
    /// One actor may be taken for dead while it lives.
    forges: bool,
    /// Waiting may be given up, after having slept.
    times_out: bool,
    /// It begins as somebody who died has left it, dropped unrepaired by who recovered.
    inconsistent: bool,
    mutant: Mutant,
}

const WORD: usize = 8;

impl<const N: usize> Lock<N> {
    /// The lock is not taken in this round, or is given back.
    fn ends_round(&self, actor: &mut Actor) {
        let rounds = actor.rounds - 1;
        *actor = Actor { rounds, ..self.actor() };
        if rounds == 0 {
            actor.at = At::Done;
        }
    }

    fn actor(&self) -> Actor {
        Actor { at: At::Load, seen: 0, slept: false, judged_dead: false, rounds: self.rounds }
    }

    fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let seen = actor.seen;
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Load if self.mutant == Mutant::JudgesBeforeReading && !actor.judged_dead => {
                to.seen = state.word;
                to.at = At::JudgeEarly;
                out.go(me, "reads the word, to judge by it", next);
            }
            At::JudgeEarly => {
                to.judged_dead = owner(seen).is_some_and(|owner| state.world.is_dead(owner));
                to.seen = state.word;
                to.at = At::Judge;
                out.go(me, "judges, then reads the word again", next);
            }
            At::Load => {
                to.seen = state.word;
                to.at = At::Judge;
                out.go(me, "reads the word", next);
            }
            At::Judge => self.judge(state, me, out),
            At::Take => {
                let with_w = if self.mutant == Mutant::SleptDropsW { false } else { actor.slept };
                if state.word != seen {
                    to.at = At::Load;
                    out.go(me, "fails to take the word", next);
                } else if state.torn {
                    out.wrong(me, "takes the word", "a clean guard of what a dead owner has torn");
                } else {
                    next.word = id(me) | if with_w { W } else { seen & W };
                    to.slept = false;
                    to.at = if self.mutant == Mutant::ArmsLate { At::Register } else { At::Holds };
                    out.go(me, "takes the word", next);
                }
            }
            At::Recover => {
                to.at = At::Load;
                if state.word == seen {
                    let inconsistent = if self.mutant == Mutant::TakeoverDropsI { 0 } else { I };
                    next.word = id(me) | inconsistent | W;
                    to.at = At::Repairs;
                    to.slept = false;
                }
                out.go(me, "recovers the word", next);
            }
            At::Flag => {
                to.at = At::Load;
                if state.word == seen {
                    if self.mutant != Mutant::SleepsWithoutW {
                        next.word |= W;
                    }
                    to.seen = next.word;
                    to.at = At::Watch;
                }
                out.go(me, "sets W", next);
            }
            At::Watch => {
                let owner = owner(seen).expect("an owner is waited for");
                to.at = At::QueueLive;
                if state.world.live[owner] & OWNER_DIED != 0 {
                    to.at = At::SawFlag;
                } else if self.mutant != Mutant::WatchesWithoutWaiters {
                    next.world.live[owner] |= WAITERS;
                }
                out.go(me, "sets WAITERS", next);
            }
            At::QueueLive => {
                let owner = owner(seen).expect("an owner is waited for");
                let same = state.world.live[owner] & OWNER_DIED == 0;
                to.at = if next.world.enqueue(me, owner, same) { At::QueueWord } else { At::Load };
                out.go(me, "is queued on the live word", next);
            }
            At::QueueWord => {
                to.at = At::Sleep;
                if !next.world.enqueue(me, WORD, state.word == seen) {
                    to.slept |= next.world.leave(me);
                    let flagged = state.world.live[owner(seen).expect("as above")] & OWNER_DIED != 0;
                    to.at = if flagged { At::SawFlag } else { At::Load };
                }
                out.go(me, "is queued on the word", next);
            }
            At::Sleep if state.world.was_woken(me) => {
                let owner = owner(seen).expect("an owner is waited for");
                next.world.leave(me);
                to.slept = true;
                to.at = if state.world.live[owner] & OWNER_DIED == 0 { At::Load } else { At::SawFlag };
                out.go(me, "wakes up", next);
            }
            At::Sleep if self.ticks == Ticks::Always => {
                tick(&mut next, me);
                out.go(me, "ticks", next);
            }
            At::Sleep | At::Done => {}
            At::SawFlag => {
                next.world.wake_all(owner(seen).expect("an owner was flagged"));
                to.at = At::Load;
                out.go(me, "wakes all who watch the dead", next);
            }
            At::Patrol => {
                let owner = owner(seen).expect("an owner is waited for");
                to.at = At::Load;
                if state.world.life[owner] == Life::Ended {
                    next.world.gone |= 1 << owner;
                    to.at = At::PatrolWakes;
                }
                out.go(me, "asks for the owner's byte", next);
            }
            At::PatrolWakes => {
                next.world.wake_all(owner(seen).expect("an owner is gone"));
                to.at = At::Load;
                out.go(me, "wakes all who watch the gone", next);
            }
            At::PassOn | At::WakesOne => {
                wake_one(state, WORD, (me, "wakes one"), out, |next| self.ends_round(&mut next.actors[me]));
            }
            At::Register => {
                next.world.live[me] = TID | state.world.live[me] & WAITERS;
                to.at = At::Arm;
                out.go(me, "registers late", next);
            }
            At::Arm => {
                next.world.armed |= 1 << me;
                to.at = At::Holds;
                out.go(me, "points the kernel there", next);
            }
            At::Holds => {
                to.at = At::UnlockLoad;
                out.go(me, "is done with the data", next);
            }
            At::Repairs => {
                to.at = At::Drops;
                out.may(me, "drops the guard unrepaired", next);
                next.actors[me].at = At::GivesUp;
                out.may(me, "gives the data up", next);
                next.actors[me].at = At::Repaired;
                next.torn = false;
                out.go(me, "has repaired the data", next);
            }
            At::Repaired => {
                let expected = state.word & !W;
                if expected == id(me) | I || expected == id(me) {
                    next.word &= !I;
                }
                to.at = At::UnlockLoad;
                out.go(me, "takes I out", next);
            }
            At::Drops if state.word & I == 0 && owner(state.word) == Some(me) => {
                // Whether a guard is inconsistent is read from the word: without I, this is an unlock.
                to.at = At::UnlockLoad;
                out.go(me, "finds no I", next);
            }
            At::Drops | At::GivesUp => {
                self.ends_round(to);
                if owner(state.word) == Some(me) {
                    next.word = if actor.at == At::Drops { I } else { GIVEN_UP | I };
                    if self.mutant != Mutant::DropWakesNobody {
                        next.actors[me] = Actor { at: At::WakesAll, ..actor };
                    }
                }
                out.go(me, "leaves it inconsistent", next);
            }
            At::WakesAll => {
                next.world.wake_all(WORD);
                self.ends_round(to);
                out.go(me, "wakes all", next);
            }
            At::UnlockLoad => {
                to.seen = state.word;
                let early = self.mutant == Mutant::WakesBeforeStoring && state.word & W != 0;
                to.at = if early { At::WakesFirst } else { At::Unlock };
                out.go(me, "reads its word", next);
            }
            At::WakesFirst => {
                let unlock = |next: &mut State<N>| next.actors[me].at = At::Unlock;
                wake_one(state, WORD, (me, "wakes one, too early"), out, unlock);
            }
            At::Unlock => {
                let swaps = self.mutant == Mutant::UnlockSwaps;
                if owner(seen) != Some(me) && !swaps {
                    if state.forged >> me & 1 == 0 {
                        out.wrong(me, "is fenced", "nobody took it for dead");
                    }
                    self.ends_round(to);
                    out.go(me, "is fenced", next);
                } else if state.word == seen || swaps {
                    next.word = 0;
                    to.at = At::WakesOne;
                    if state.word & W == 0 || self.mutant == Mutant::WakesBeforeStoring {
                        self.ends_round(to);
                    }
                    out.go(me, "frees the word", next);
                } else {
                    to.at = At::UnlockLoad;
                    out.go(me, "fails to free the word", next);
                }
            }
        }
    }

    fn judge(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let seen = actor.seen;
        let mut next = *state;
        let to = &mut next.actors[me];
        let Some(owner) = owner(seen) else {
            match seen & !W {
                0 => to.at = At::Take,
                I => to.at = At::Recover,
                _ => self.ends_round(to),
            }
            return out.go(me, "sees nobody", next);
        };
        if owner == me {
            return out.wrong(me, "judges", "it has the lock that it waits for");
        }
        let dead = if self.mutant == Mutant::JudgesBeforeReading {
            std::mem::take(&mut to.judged_dead)
        } else {
            state.world.is_dead(owner)
        };
        to.at = if dead { At::Recover } else { At::Flag };
        out.go(me, "judges", next);
        if !dead && actor.slept && self.times_out {
            let to = &mut next.actors[me];
            to.at = At::PassOn;
            if self.mutant == Mutant::TimeoutKeepsWake {
                self.ends_round(to);
            }
            out.may(me, "gives up waiting", next);
        }
    }
}

fn tick<const N: usize>(next: &mut State<N>, sleeper: usize) {
    next.world.leave(sleeper);
    next.actors[sleeper].slept = true;
    next.actors[sleeper].at = At::Patrol;
}

fn owns(at: At) -> bool {
    matches!(
        at,
        At::Holds | At::Repairs | At::Repaired | At::Drops | At::GivesUp | At::UnlockLoad | At::Unlock
    )
}

impl<const N: usize> Model for Lock<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let mut world = World::new(self.kills, self.ticks);
        if self.mutant == Mutant::ArmsLate {
            world.armed = 0;
        }
        let word = if self.inconsistent { I } else { 0 };
        vec![State { world, word, actors: [self.actor(); N], torn: self.inconsistent, forged: 0 }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        let faults = Faults { lossy: self.lossy, flag_wakes_nobody: self.mutant == Mutant::FlagWakesNobody };
        for me in 0..N {
            bury(state, me, faults, out);
            let at = state.actors[me].at;
            if !state.world.is_up(me) || at == At::Done {
                continue;
            }
            self.act(state, me, out);
            kill(state, me, out, |next| {
                next.torn |= matches!(at, At::Holds | At::Repairs) && next.forged >> me & 1 == 0;
                // Where it was matters no more.
                next.actors[me] = Actor { at: At::Done, ..self.actor() };
            });
            if self.forges && state.forged == 0 && owns(at) {
                let mut next = *state;
                next.forged = 1 << me;
                next.world.live[me] |= OWNER_DIED;
                next.world.wake_all(me);
                out.may(me, "is falsely taken for dead", next);
            }
        }
        if out.is_quiet() && state.world.ticks > 0 {
            let mut next = *state;
            next.world.ticks -= 1;
            for me in 0..N {
                if state.world.is_up(me) && state.actors[me].at == At::Sleep {
                    tick(&mut next, me);
                }
            }
            out.go(N, "all tick", next);
        }
    }

    fn check(&self, state: &State<N>) -> Result<(), String> {
        let owners = (0..N).filter(|actor| {
            state.world.is_up(*actor) && state.forged >> actor & 1 == 0 && owns(state.actors[*actor].at)
        });
        if owners.count() > 1 { Err("two have the lock".to_owned()) } else { Ok(()) }
    }

    fn is_end(&self, state: &State<N>) -> bool {
        state.actors.iter().all(|actor| actor.at == At::Done)
    }

    fn canonical(&self, state: State<N>) -> State<N> {
        // Sorted by what each is for itself; who refers to whom is left to chance.
        let key = |actor: usize| {
            let Actor { at, seen, slept, rounds, .. } = state.actors[actor];
            let bits = state.world.live[actor] << 4 | (state.world.gone >> actor & 1) << 3 | rounds;
            (at, state.world.life[actor], bits, seen & 3, slept)
        };
        let mut order: [usize; N] = std::array::from_fn(|actor| actor);
        if order.is_sorted_by_key(|actor| key(*actor)) {
            return state;
        }
        order.sort_by_key(|actor| key(*actor));
        let place = |old: usize| order.iter().position(|actor| *actor == old).expect("all are there");
        let bits =
            |old: u8| order.iter().enumerate().fold(0, |bits, (new, actor)| bits | (old >> actor & 1) << new);
        let word = |word: u8| owner(word).map_or(word, |owner| id(place(owner)) | word & (W | I));
        let world = World {
            life: order.map(|actor| state.world.life[actor]),
            live: order.map(|actor| state.world.live[actor]),
            armed: bits(state.world.armed),
            gone: bits(state.world.gone),
            queued: order.map(|actor| {
                let queued = state.world.queued[actor];
                queued & 1 << WORD | u16::from(bits(queued as u8))
            }),
            woken: bits(state.world.woken),
            ..state.world
        };
        let actors = order.map(|actor| {
            let actor = state.actors[actor];
            Actor { seen: word(actor.seen), ..actor }
        });
        State { world, word: word(state.word), actors, torn: state.torn, forged: bits(state.forged) }
    }
}

fn lock<const N: usize>(rounds: u8, kills: u8, ticks: Ticks) -> Lock<N> {
    let (lossy, forges, times_out, inconsistent) = (false, false, false, false);
    Lock { rounds, kills, ticks, lossy, forges, times_out, inconsistent, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&Lock { times_out: true, ..lock::<3>(2, 0, Ticks::Quiet(0)) });
    prove(&lock::<4>(1, 0, Ticks::Quiet(0)));
    prove(&Lock { inconsistent: true, ..lock::<3>(1, 0, Ticks::Quiet(0)) });
    if is_large() {
        prove(&Lock { times_out: true, ..lock::<4>(2, 0, Ticks::Quiet(0)) });
    }
}

#[test]
fn two_and_a_kill_need_no_tick() {
    prove(&lock::<2>(3, 1, Ticks::Quiet(0)));
    prove(&Lock { times_out: true, ..lock::<2>(2, 1, Ticks::Quiet(0)) });
}

#[test]
fn three_need_at_most_a_tick_a_kill() {
    prove(&lock::<3>(1, 2, Ticks::Quiet(2)));
    prove(&Lock { times_out: true, ..lock::<3>(2, 1, Ticks::Quiet(1)) });
    // And do need it.
    assert_eq!(refute(&lock::<3>(1, 1, Ticks::Quiet(0))).fault, Fault::Stranded);
    if is_large() {
        prove(&Lock { times_out: true, ..lock::<3>(3, 2, Ticks::Quiet(2)) });
        prove(&lock::<4>(1, 3, Ticks::Quiet(3)));
    }
}

#[test]
fn ticks_are_enough_when_flags_are_lost() {
    let lossy = |lock| Lock { lossy: true, times_out: true, ..lock };
    prove(&lossy(lock::<3>(1, 2, Ticks::Always)));
    prove(&Lock { lossy: true, ..lock::<2>(3, 1, Ticks::Always) });
    if is_large() {
        prove(&lossy(lock::<3>(2, 2, Ticks::Always)));
        prove(&Lock { lossy: true, ..lock::<4>(1, 2, Ticks::Always) });
    }
}

#[test]
fn who_is_falsely_taken_for_dead_frees_nothing() {
    prove(&Lock { forges: true, ..lock::<3>(1, 1, Ticks::Always) });
}

#[test]
fn mutants_fail() {
    let refutes = |mutant, lock| refute(&Lock { mutant, ..lock });
    let unsafe_: [(_, Lock<3>); 3] = [
        (Mutant::UnlockSwaps, Lock { forges: true, ..lock(1, 0, Ticks::Always) }),
        (Mutant::TakeoverDropsI, lock(1, 1, Ticks::Always)),
        (Mutant::JudgesBeforeReading, lock(1, 1, Ticks::Always)),
    ];
    for (mutant, lock) in unsafe_ {
        let violation = refutes(mutant, lock);
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    let strands: [(_, Lock<3>); 5] = [
        (Mutant::SleptDropsW, lock(1, 0, Ticks::Quiet(0))),
        (Mutant::SleepsWithoutW, lock(1, 0, Ticks::Quiet(0))),
        (Mutant::WakesBeforeStoring, lock(1, 0, Ticks::Quiet(0))),
        (Mutant::TimeoutKeepsWake, Lock { times_out: true, ..lock(2, 0, Ticks::Quiet(0)) }),
        (Mutant::DropWakesNobody, Lock { inconsistent: true, ..lock(1, 0, Ticks::Quiet(0)) }),
    ];
    for (mutant, lock) in strands {
        let violation = refutes(mutant, lock);
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
    for mutant in [Mutant::ArmsLate, Mutant::FlagWakesNobody, Mutant::WatchesWithoutWaiters] {
        let violation = refute(&Lock { mutant, ..lock::<2>(2, 1, Ticks::Quiet(0)) });
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
}
