//! The lock of readers and writers: `RwLock` of docs/shm-layout.md. Each reader has the place of its number.

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, OWNER_DIED, Ticks, WAITERS, World, bury, kill};
use crate::{is_large, prove, refute};

/// The word: W | I | the writer, + 1, << 2. I without a writer: dropped unrepaired.
const W: u8 = 1;
const I: u8 = 2;
/// The futexes: the word, and the readers' places.
const WORD: usize = 8;
const PLACES: usize = 9;

fn id(actor: usize) -> u8 {
    (actor as u8 + 1) << 2
}

fn owner(word: u8) -> Option<usize> {
    (word >> 2).checked_sub(1).map(usize::from)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    // Readers.
    TakesPlace,
    Looks,
    LeavesPlace,
    WakesWriter,
    Reads,
    EndsReading,
    EndsWakesWriter,
    FreesDead,
    FreedWakes,
    // Writers.
    Load,
    Take,
    Scan,
    ClearsReader,
    FlagsReader,
    Phase,
    Writes,
    Repairs,
    Repaired,
    PhaseBack,
    Unlock,
    Drops,
    DropsWord,
    // Both.
    Judge,
    LooksAtPhase,
    Flag,
    Watch,
    QueueFirst,
    QueueSecond,
    Sleep,
    SawFlag,
    Patrol,
    PatrolWakes,
    WakesAll,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    seen: u8,
    slept: bool,
    /// A writer has the word, and this is the reader that it looks at.
    reader: u8,
    /// Whom it waits for.
    whom: u8,
    /// A writer was told of a dead one.
    told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    word: u8,
    phase: bool,
    /// A reader's Id, + 1, << 2, and bit 0.
    places: [u8; N],
    actors: [Actor; N],
    torn: bool,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// A reader reads once it has its place, whatever the word is.
    ReaderDoesNotLook,
    /// A writer looks for readers before it takes the word.
    ScansBeforeWord,
    /// A dead writer passes silently if the phase is 0, also if it had the word with I.
    LooksAtPhaseOnly,
    /// A writer writes without setting the phase.
    NoPhase,
    /// A reader that gives way does not wake the writer that sleeps on its place.
    GivesWaySilently,
    /// A reader's end does not wake the writer that sleeps on its place.
    EndsSilently,
    /// A writer does not set bit 0 of the place that it sleeps on.
    SleepsUnflagged,
    /// Who sees OWNER_DIED does not wake the other watchers.
    SawFlagWakesNobody,
    /// Who was woken by a live word, but finds that the word has changed before it is queued there, does not look at
    /// the live word.
    MissesWakeWhileQueued,
    /// A writer takes no dead reader's place back.
    WaitsForDeadReaders,
}

#[derive(Clone, Copy, Debug)]
struct RwLock<const N: usize> {
    writers: usize,
    kills: u8,
    ticks: Ticks,
    lossy: bool,
    mutant: Mutant,
}

impl<const N: usize> RwLock<N> {
    fn begins(&self, actor: usize) -> Actor {
        let at = match self.mutant {
            _ if actor >= self.writers => At::TakesPlace,
            Mutant::ScansBeforeWord => At::Scan,
            _ => At::Load,
        };
        Actor { at, seen: 0, slept: false, reader: self.writers as u8, whom: 0, told: false }
    }

    fn is_writer(&self, actor: usize) -> bool {
        actor < self.writers
    }

    fn done(&self, actor: &mut Actor, me: usize) {
        *actor = Actor { at: At::Done, ..self.begins(me) };
    }

    fn read(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::TakesPlace => {
                to.at = if self.mutant == Mutant::ReaderDoesNotLook { At::Reads } else { At::Looks };
                next.places[me] = id(me);
                out.go(me, "takes its place", next);
            }
            At::Looks => {
                to.seen = state.word;
                to.at = if state.word & !W == 0 { At::Reads } else { At::LeavesPlace };
                if to.at == At::Reads && state.torn {
                    return out.wrong(me, "reads", "what a dead writer has torn");
                }
                out.go(me, "looks at the word", next);
            }
            At::LeavesPlace | At::EndsReading => {
                let leaves = actor.at == At::LeavesPlace;
                let silent = if leaves { Mutant::GivesWaySilently } else { Mutant::EndsSilently };
                next.places[me] = 0;
                to.at = match (leaves, state.places[me] & 1 == 1 && self.mutant != silent) {
                    (true, true) => At::WakesWriter,
                    (true, false) => At::Judge,
                    (false, true) => At::EndsWakesWriter,
                    (false, false) => At::Done,
                };
                if to.at == At::Done {
                    self.done(to, me);
                }
                out.go(me, "frees its place", next);
            }
            At::WakesWriter | At::EndsWakesWriter => {
                next.world.wake_all(PLACES + me);
                to.at = At::Judge;
                if actor.at == At::EndsWakesWriter {
                    self.done(to, me);
                }
                out.go(me, "wakes who sleeps on its place", next);
            }
            At::Reads => {
                to.at = At::EndsReading;
                out.go(me, "has read", next);
            }
            At::FreesDead => {
                to.at = At::TakesPlace;
                if state.word == actor.seen {
                    next.word = 0;
                    to.at = At::FreedWakes;
                }
                out.go(me, "frees the word of a writer that never wrote", next);
            }
            At::FreedWakes => {
                next.world.wake_all(WORD);
                to.at = At::TakesPlace;
                out.go(me, "wakes all", next);
            }
            _ => {}
        }
    }

    fn write(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let reader = usize::from(actor.reader);
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Load => {
                to.seen = state.word;
                to.at = At::Judge;
                out.go(me, "reads the word", next);
            }
            At::Take => {
                to.at = At::Load;
                if state.word == actor.seen {
                    next.word = id(me)
                        | match (actor.told, owner(actor.seen)) {
                            (true, _) => I | W,
                            (false, Some(_)) => W,
                            (false, None) => {
                                if actor.slept {
                                    W
                                } else {
                                    actor.seen & W
                                }
                            }
                        };
                    to.slept = false;
                    to.at = if self.mutant == Mutant::ScansBeforeWord { At::Phase } else { At::Scan };
                } else {
                    to.told = false;
                }
                out.go(me, "takes the word", next);
            }
            At::Scan => {
                if reader == N {
                    to.at = if self.mutant == Mutant::ScansBeforeWord { At::Load } else { At::Phase };
                    return out.go(me, "has seen all places", next);
                }
                to.seen = state.places[reader];
                match owner(to.seen) {
                    None => to.reader += 1,
                    Some(dead) if state.world.is_dead(dead) && self.mutant != Mutant::WaitsForDeadReaders => {
                        to.at = At::ClearsReader;
                    }
                    Some(_) => to.at = At::FlagsReader,
                }
                out.go(me, "looks at a reader's place", next);
            }
            At::ClearsReader => {
                if state.places[reader] == actor.seen {
                    next.places[reader] = 0;
                }
                to.at = At::Scan;
                out.go(me, "frees a dead reader's place", next);
            }
            At::FlagsReader => {
                to.at = At::Scan;
                if state.places[reader] == actor.seen {
                    if self.mutant != Mutant::SleepsUnflagged {
                        next.places[reader] |= 1;
                    }
                    to.seen = next.places[reader];
                    to.whom = actor.reader;
                    to.at = At::Watch;
                }
                out.go(me, "says that it sleeps on the place", next);
            }
            At::Phase => {
                next.phase = self.mutant != Mutant::NoPhase;
                to.at = if actor.told { At::Repairs } else { At::Writes };
                if state.torn && !actor.told {
                    return out.wrong(me, "writes", "what a dead writer has torn, untold");
                }
                out.go(me, "sets the phase", next);
            }
            At::Writes => {
                to.at = At::PhaseBack;
                out.go(me, "has written", next);
            }
            At::Repairs => {
                to.at = At::Drops;
                out.may(me, "drops the guard unrepaired", next);
                next.actors[me].at = At::Repaired;
                next.torn = false;
                out.go(me, "has repaired the data", next);
            }
            At::Repaired => {
                next.word &= !I;
                to.at = At::PhaseBack;
                out.go(me, "takes I out", next);
            }
            At::PhaseBack | At::Drops => {
                next.phase = false;
                to.at = if actor.at == At::Drops { At::DropsWord } else { At::Unlock };
                out.go(me, "takes the phase back", next);
            }
            At::Unlock => {
                next.word = 0;
                to.at = At::WakesAll;
                if state.word & W == 0 {
                    self.done(to, me);
                }
                out.go(me, "frees the word", next);
            }
            At::DropsWord => {
                next.word = I;
                to.at = At::WakesAll;
                out.go(me, "leaves it inconsistent", next);
            }
            At::WakesAll => {
                next.world.wake_all(WORD);
                self.done(to, me);
                out.go(me, "wakes all", next);
            }
            _ => {}
        }
    }

    /// Waiting for a writer, and a writer's for a reader.
    fn sleep(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let whom = usize::from(actor.whom);
        // A writer that has the word waits for a reader.
        let for_reader = self.is_writer(me) && whom >= self.writers;
        let again = match (self.is_writer(me), for_reader) {
            (false, _) => At::TakesPlace,
            (true, false) => At::Load,
            (true, true) => At::Scan,
        };
        let (futex, value) =
            if for_reader { (PLACES + whom, state.places[whom]) } else { (WORD, state.word) };
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Judge => {
                match owner(actor.seen) {
                    None if actor.seen & I == 0 => to.at = if self.is_writer(me) { At::Take } else { again },
                    None if self.is_writer(me) => (to.at, to.told) = (At::Take, true),
                    // A reader is told, and goes.
                    None => self.done(to, me),
                    Some(owner) => {
                        to.whom = owner as u8;
                        to.at = if state.world.is_dead(owner) { At::LooksAtPhase } else { At::Flag };
                    }
                }
                out.go(me, "judges", next);
            }
            At::LooksAtPhase => {
                let inconsistent = actor.seen & I != 0 && self.mutant != Mutant::LooksAtPhaseOnly;
                let may_be_torn = state.phase || inconsistent;
                match (self.is_writer(me), may_be_torn) {
                    (true, _) => (to.at, to.told) = (At::Take, may_be_torn),
                    (false, true) if state.word == actor.seen => self.done(to, me),
                    (false, true) => to.at = again,
                    (false, false) => to.at = At::FreesDead,
                }
                out.go(me, "looks at the phase", next);
            }
            At::Flag => {
                to.at = again;
                if state.word == actor.seen {
                    next.word |= W;
                    to.seen = next.word;
                    to.at = At::Watch;
                }
                out.go(me, "sets W", next);
            }
            At::Watch => {
                to.at = At::QueueFirst;
                if state.world.live[whom] & OWNER_DIED == 0 {
                    next.world.live[whom] |= WAITERS;
                } else {
                    to.at = At::SawFlag;
                }
                out.go(me, "sets WAITERS", next);
            }
            At::QueueFirst => {
                let alive = state.world.live[whom] & OWNER_DIED == 0;
                to.at = if next.world.enqueue(me, whom, alive) { At::QueueSecond } else { again };
                out.go(me, "is queued on the live word", next);
            }
            At::QueueSecond => {
                to.at = At::Sleep;
                if !next.world.enqueue(me, futex, value == actor.seen) {
                    let woken = next.world.leave(me) && self.mutant != Mutant::MissesWakeWhileQueued;
                    let died = state.world.live[whom] & OWNER_DIED != 0;
                    to.at = if woken && died { At::SawFlag } else { again };
                }
                out.go(me, "is queued on the word", next);
            }
            At::Sleep if state.world.was_woken(me) => {
                next.world.leave(me);
                to.slept = true;
                to.at = if state.world.live[whom] & OWNER_DIED == 0 { again } else { At::SawFlag };
                out.go(me, "wakes up", next);
            }
            At::Sleep if self.ticks == Ticks::Always => {
                tick(&mut next, me);
                out.go(me, "ticks", next);
            }
            At::SawFlag | At::PatrolWakes => {
                if self.mutant != Mutant::SawFlagWakesNobody {
                    next.world.wake_all(whom);
                }
                to.at = again;
                out.go(me, "wakes all who watch the dead", next);
            }
            At::Patrol => {
                to.at = again;
                if state.world.life[whom] == Life::Ended {
                    next.world.gone |= 1 << whom;
                    to.at = At::PatrolWakes;
                }
                out.go(me, "asks for the byte", next);
            }
            _ => {}
        }
    }
}

fn tick<const N: usize>(next: &mut State<N>, sleeper: usize) {
    next.world.leave(sleeper);
    next.actors[sleeper].slept = true;
    next.actors[sleeper].at = At::Patrol;
}

impl<const N: usize> Model for RwLock<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        let world = World::new(self.kills, self.ticks);
        let actors = std::array::from_fn(|actor| self.begins(actor));
        vec![State { world, word: 0, phase: false, places: [0; N], actors, torn: false }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        let faults = Faults { lossy: self.lossy, ..Faults::default() };
        for me in 0..N {
            bury(state, me, faults, out);
            let at = state.actors[me].at;
            if !state.world.is_up(me) || at == At::Done {
                continue;
            }
            if at >= At::Judge && at < At::WakesAll {
                self.sleep(state, me, out);
            } else if self.is_writer(me) {
                self.write(state, me, out);
            } else {
                self.read(state, me, out);
            }
            kill(state, me, out, |next| {
                next.torn |= matches!(at, At::Writes | At::Repairs);
                self.done(&mut next.actors[me], me);
            });
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
        let up = |at: &[At]| {
            (0..N).filter(|me| state.world.is_up(*me) && at.contains(&state.actors[*me].at)).count()
        };
        let writers = up(&[At::Writes, At::Repairs, At::Repaired, At::Drops, At::PhaseBack]);
        match (writers, up(&[At::Reads, At::EndsReading])) {
            (0, _) | (1, 0) => Ok(()),
            (1, _) => Err("one writes and another reads".to_owned()),
            _ => Err("two write".to_owned()),
        }
    }

    fn is_end(&self, state: &State<N>) -> bool {
        state.actors.iter().all(|actor| actor.at == At::Done)
    }
}

fn rwlock<const N: usize>(writers: usize, kills: u8, ticks: Ticks) -> RwLock<N> {
    RwLock { writers, kills, ticks, lossy: false, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&rwlock::<3>(1, 0, Ticks::Quiet(0)));
    prove(&rwlock::<3>(2, 0, Ticks::Quiet(0)));
    if is_large() {
        prove(&rwlock::<4>(2, 0, Ticks::Quiet(0)));
    }
}

#[test]
fn a_tick_a_kill_is_enough() {
    prove(&rwlock::<2>(1, 1, Ticks::Quiet(0)));
    prove(&rwlock::<3>(1, 1, Ticks::Quiet(0)));
    prove(&rwlock::<3>(2, 2, Ticks::Quiet(2)));
    if is_large() {
        prove(&rwlock::<4>(1, 1, Ticks::Quiet(1)));
    }
}

#[test]
fn ticks_are_enough_when_flags_are_lost() {
    prove(&RwLock { lossy: true, ..rwlock::<3>(2, 1, Ticks::Always) });
    if is_large() {
        prove(&RwLock { lossy: true, ..rwlock::<3>(1, 2, Ticks::Always) });
        prove(&RwLock { lossy: true, ..rwlock::<3>(2, 2, Ticks::Always) });
    }
}

#[test]
fn mutants_fail() {
    for (mutant, writers, kills) in [
        (Mutant::ReaderDoesNotLook, 1, 0),
        (Mutant::ScansBeforeWord, 1, 0),
        (Mutant::LooksAtPhaseOnly, 2, 2),
        (Mutant::NoPhase, 1, 1),
    ] {
        let violation = refute(&RwLock { mutant, ..rwlock::<3>(writers, kills, Ticks::Always) });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    for (mutant, writers, kills) in [
        (Mutant::GivesWaySilently, 1, 0),
        (Mutant::EndsSilently, 1, 0),
        (Mutant::SleepsUnflagged, 1, 0),
        (Mutant::SawFlagWakesNobody, 1, 1),
        (Mutant::MissesWakeWhileQueued, 1, 1),
    ] {
        let violation = refute(&RwLock { mutant, ..rwlock::<3>(writers, kills, Ticks::Quiet(0)) });
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
    let mutant = Mutant::WaitsForDeadReaders;
    let violation = refute(&RwLock { mutant, ..rwlock::<2>(1, 1, Ticks::Always) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
}
