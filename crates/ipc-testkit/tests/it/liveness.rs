//! The board: seats, their epochs and reuse, thread registration, slow patrols; and a lock whose owners are judged by it.
//!
//! `lock` has the rest of the lock; here are no time-outs and no dropping unrepaired, but `dead()` is read word by word.

mod seats;

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{OWNER_DIED, Ticks, WAITERS};
use crate::{is_large, prove, refute};

const SEATS: usize = 2;
const ACTORS: usize = 3;
/// The futexes: the seats' live words, and the lock's.
const WORD: usize = SEATS;

/// The lock word: W | I | seat + 1 | epoch.
const W: u8 = 1;
const I: u8 = 2;

fn word(seat: u8, epoch: u8) -> u8 {
    (seat + 1) << 2 | epoch << 4
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Seat {
    epoch: u8,
    gone: u8,
    /// Who holds the byte, + 1.
    byte: u8,
    /// The live word of the only thread: whose thread id, + 1, << 3; WAITERS, OWNER_DIED.
    live: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Attach,
    StoresGone,
    ZeroesLive,
    Commits,
    Registers,
    Arms,
    Load,
    JudgesEarly,
    JudgesEpoch,
    JudgesGone,
    JudgesLive,
    Take,
    Recover,
    Flag,
    Watch,
    JudgesAgain,
    QueueLive,
    QueueWord,
    Sleep,
    SawFlag,
    PatrolEpoch,
    PatrolByte,
    PatrolStores,
    PatrolWakes,
    Holds,
    Repairs,
    Repaired,
    Unlock,
    WakesOne,
    Unregisters,
    Exits,
    /// Killed: in the kernel's queues, then to wake a watcher, then with its byte alone.
    Killed,
    Flagged,
    Torn,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Actor {
    at: At,
    seat: u8,
    epoch: u8,
    armed: bool,
    seen: u8,
    /// The live word as it is slept on, or a judgement made too early.
    watched: u8,
    slept: bool,
    queued: u8,
    woken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State {
    seats: [Seat; SEATS],
    word: u8,
    actors: [Actor; ACTORS],
    torn: bool,
    kills: u8,
    ticks: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// A patrol proves the incarnation gone that the seat has by now, not the one that it asked for.
    PatrolStoresCurrent,
    /// Words name a seat only.
    WordsWithoutEpoch,
    /// A seat is emptied for its next process before `gone` has its last.
    ReusesBeforeGone,
    /// A seat's new epoch is there before the byte is held.
    CommitsBeforeByte,
    /// The live words are zeroed after the new epoch is there.
    ZeroesLate,
    /// Which seats are dead is asked before the word is read.
    JudgesBeforeReading,
    /// The owner is not judged once more when its live word has WAITERS.
    WatchesUnjudged,
    /// The thread registers once it has the lock.
    ArmsLate,
}

#[derive(Clone, Copy, Debug)]
struct Board {
    /// How many begin attached; the others come later, to any seat that is free.
    attached: usize,
    /// Who comes later stays, and wants no lock.
    idle: bool,
    kills: u8,
    ticks: Ticks,
    lossy: bool,
    mutant: Mutant,
}

impl State {
    fn wake_all(&mut self, futex: usize) {
        for actor in &mut self.actors {
            if actor.queued >> futex & 1 == 1 {
                actor.queued &= !(1 << futex);
                actor.woken = true;
            }
        }
    }

    fn leave(&mut self, actor: usize) -> bool {
        self.actors[actor].queued = 0;
        std::mem::take(&mut self.actors[actor].woken)
    }
}

/// Wakes one of those queued, whichever.
fn wake_one(state: &State, futex: usize, me: usize, what: &'static str, then: At, out: &mut Steps<State>) {
    let mut after = *state;
    after.actors[me].at = then;
    let mut nobody = true;
    for sleeper in 0..ACTORS {
        if state.actors[sleeper].queued >> futex & 1 == 1 {
            let mut next = after;
            next.actors[sleeper].queued &= !(1 << futex);
            next.actors[sleeper].woken = true;
            nobody = false;
            out.go(me, what, next);
        }
    }
    if nobody {
        out.go(me, what, after);
    }
}

impl Board {
    /// What a seat's Id looks like in a word.
    fn id(&self, seat: u8, epoch: u8) -> u8 {
        word(seat, if self.mutant == Mutant::WordsWithoutEpoch { 0 } else { epoch })
    }

    /// The seat and the epoch that a word names; without an epoch in it, that is whatever the seat has.
    fn named(&self, state: &State, word: u8) -> Option<(usize, u8)> {
        let seat = usize::from((word >> 2 & 3).checked_sub(1)?);
        let without = self.mutant == Mutant::WordsWithoutEpoch;
        Some((seat, if without { state.seats[seat].epoch } else { word >> 4 }))
    }

    fn is_dead(&self, state: &State, seat: usize, epoch: u8) -> bool {
        let Seat { epoch: current, gone, live, .. } = state.seats[seat];
        current != epoch || gone >= epoch || live & OWNER_DIED != 0
    }

    fn act(&self, state: &State, me: usize, out: &mut Steps<State>) {
        match state.actors[me].at {
            At::Attach | At::StoresGone | At::ZeroesLive | At::Commits | At::Registers | At::Arms => {
                self.attach(state, me, out);
            }
            At::PatrolEpoch | At::PatrolByte | At::PatrolStores | At::PatrolWakes => {
                self.patrol(state, me, out);
            }
            At::Killed | At::Flagged | At::Torn => self.bury(state, me, out),
            At::Watch | At::JudgesAgain | At::QueueLive | At::QueueWord | At::Sleep | At::SawFlag => {
                self.sleep(state, me, out);
            }
            _ => self.lock(state, me, out),
        }
    }

    fn lock(&self, state: &State, me: usize, out: &mut Steps<State>) {
        let actor = state.actors[me];
        let seen = actor.seen;
        let mine = self.id(actor.seat, actor.epoch);
        let named = self.named(state, seen);
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Load if self.mutant == Mutant::JudgesBeforeReading => {
                // A bit for each seat whose process is dead: which of its incarnations it was is forgotten.
                to.watched = (0..SEATS)
                    .filter(|seat| self.is_dead(state, *seat, state.seats[*seat].epoch))
                    .fold(0, |seats, seat| seats | 1 << seat);
                to.at = At::JudgesEarly;
                out.go(me, "judges all seats", next);
            }
            At::JudgesEarly => {
                to.seen = state.word;
                to.at = match self.named(state, state.word) {
                    None => At::Take,
                    Some((seat, _)) if actor.watched >> seat & 1 == 1 => At::Recover,
                    Some(_) => At::Flag,
                };
                out.go(me, "reads the word", next);
            }
            At::Load => {
                to.seen = state.word;
                to.at = if self.named(state, state.word).is_none() { At::Take } else { At::JudgesEpoch };
                out.go(me, "reads the word", next);
            }
            At::JudgesEpoch => {
                let (seat, epoch) = named.expect("somebody is judged");
                to.at = if state.seats[seat].epoch == epoch { At::JudgesGone } else { At::Recover };
                out.go(me, "judges by the epoch", next);
            }
            At::JudgesGone => {
                let (seat, epoch) = named.expect("somebody is judged");
                to.at = if state.seats[seat].gone < epoch { At::JudgesLive } else { At::Recover };
                out.go(me, "judges by gone", next);
            }
            At::JudgesLive => {
                let (seat, _) = named.expect("somebody is judged");
                to.at = if state.seats[seat].live & OWNER_DIED == 0 { At::Flag } else { At::Recover };
                out.go(me, "judges by the live word", next);
            }
            At::Take if state.word != seen => {
                to.at = At::Load;
                out.go(me, "fails to take the word", next);
            }
            At::Take if state.torn => {
                out.wrong(me, "takes the word", "a clean guard of what a dead owner has torn");
            }
            At::Take => {
                to.at = if self.mutant == Mutant::ArmsLate { At::Registers } else { At::Holds };
                next.word = mine | if actor.slept { W } else { seen & W };
                out.go(me, "takes the word", next);
            }
            At::Recover => {
                to.at = At::Load;
                if state.word == seen {
                    to.at = At::Repairs;
                    next.word = mine | I | W;
                }
                out.go(me, "recovers the word", next);
            }
            At::Flag => {
                to.at = At::Load;
                if state.word == seen {
                    next.word |= W;
                    to.seen = next.word;
                    to.at = At::Watch;
                }
                out.go(me, "sets W", next);
            }
            At::Holds => {
                to.at = At::Unlock;
                out.go(me, "is done with the data", next);
            }
            At::Repairs => {
                to.at = At::Repaired;
                next.torn = false;
                out.go(me, "has repaired the data", next);
            }
            At::Repaired => {
                to.at = At::Unlock;
                next.word &= !I;
                out.go(me, "takes I out", next);
            }
            At::Unlock if state.word & !W != mine => out.wrong(me, "unlocks", "it is not its lock any more"),
            At::Unlock => {
                to.at = if state.word & W == 0 { At::Unregisters } else { At::WakesOne };
                next.word = 0;
                out.go(me, "frees the word", next);
            }
            At::WakesOne => wake_one(state, WORD, me, "wakes one", At::Unregisters, out),
            At::Unregisters => {
                let seat = usize::from(actor.seat);
                to.armed = false;
                to.at = At::Exits;
                next.seats[seat].live = 0;
                next.wake_all(seat);
                out.go(me, "takes its thread id out", next);
            }
            At::Exits => {
                to.at = At::Done;
                next.seats[usize::from(actor.seat)].byte = 0;
                out.go(me, "ends, and its byte is free", next);
            }
            _ => {}
        }
    }

    fn sleep(&self, state: &State, me: usize, out: &mut Steps<State>) {
        let actor = state.actors[me];
        let (seat, epoch) = self.named(state, actor.seen).expect("an owner is waited for");
        let live = state.seats[seat].live;
        let mut next = *state;
        let to = &mut next.actors[me];
        match actor.at {
            At::Watch => {
                to.watched = live | WAITERS;
                next.seats[seat].live |= WAITERS;
                let unjudged = self.mutant == Mutant::WatchesUnjudged;
                to.at = match live & OWNER_DIED {
                    0 if unjudged => At::QueueLive,
                    0 => At::JudgesAgain,
                    _ => At::SawFlag,
                };
                out.go(me, "sets WAITERS", next);
            }
            At::JudgesAgain => {
                // `gone` alone: a live word is zeroed after it, and an epoch follows after it.
                to.at = if state.seats[seat].gone < epoch { At::QueueLive } else { At::Load };
                out.go(me, "judges by gone again", next);
            }
            At::QueueLive => {
                to.at = At::Load;
                if live == actor.watched {
                    to.queued |= 1 << seat;
                    to.at = At::QueueWord;
                }
                out.go(me, "is queued on the live word", next);
            }
            At::QueueWord => {
                if state.word == actor.seen {
                    to.queued |= 1 << WORD;
                    to.at = At::Sleep;
                } else {
                    to.at = if live & OWNER_DIED == 0 { At::Load } else { At::SawFlag };
                    to.slept |= to.woken;
                    next.leave(me);
                }
                out.go(me, "is queued on the word", next);
            }
            At::SawFlag => {
                next.wake_all(seat);
                next.actors[me].at = At::Load;
                out.go(me, "wakes all who watch the dead", next);
            }
            _ if actor.woken => {
                next.leave(me);
                let to = &mut next.actors[me];
                to.slept = true;
                to.at = if live & OWNER_DIED == 0 { At::Load } else { At::SawFlag };
                out.go(me, "wakes up", next);
            }
            _ if self.ticks == Ticks::Always => {
                tick(&mut next, me);
                out.go(me, "ticks", next);
            }
            _ => {}
        }
    }
}

fn tick(next: &mut State, sleeper: usize) {
    next.leave(sleeper);
    next.actors[sleeper].slept = true;
    next.actors[sleeper].at = At::PatrolEpoch;
}

fn runs(at: At) -> bool {
    !matches!(at, At::Killed | At::Flagged | At::Torn | At::Done)
}

fn owns(at: At) -> bool {
    matches!(at, At::Holds | At::Repairs | At::Repaired | At::Unlock)
}

impl Model for Board {
    type State = State;

    fn initial(&self) -> Vec<State> {
        let blank = Actor {
            at: At::Attach,
            seat: 0,
            epoch: 0,
            armed: false,
            seen: 0,
            watched: 0,
            slept: false,
            queued: 0,
            woken: false,
        };
        let mut actors = [blank; ACTORS];
        let mut seats = [Seat { epoch: 0, gone: 0, byte: 0, live: 0 }; SEATS];
        for me in 0..self.attached {
            let live = if self.mutant == Mutant::ArmsLate { 0 } else { (me as u8 + 1) << 3 };
            seats[me] = Seat { epoch: 1, gone: 0, byte: me as u8 + 1, live };
            actors[me] = Actor { at: At::Load, seat: me as u8, epoch: 1, armed: live != 0, ..blank };
        }
        let ticks = if let Ticks::Quiet(ticks) = self.ticks { ticks } else { 0 };
        vec![State { seats, word: 0, actors, torn: false, kills: self.kills, ticks }]
    }

    fn steps(&self, state: &State, out: &mut Steps<State>) {
        for me in 0..ACTORS {
            let at = state.actors[me].at;
            self.act(state, me, out);
            if runs(at) && at != At::Attach && state.kills > 0 {
                let mut next = *state;
                next.kills -= 1;
                next.torn |= matches!(at, At::Holds | At::Repairs);
                let Actor { seat, armed, queued, woken, .. } = state.actors[me];
                let blank =
                    Actor { at: At::Killed, epoch: 0, seen: 0, watched: 0, slept: false, ..state.actors[me] };
                next.actors[me] = Actor { seat, armed, queued, woken, ..blank };
                out.may(me, "is killed", next);
            }
        }
        if out.is_quiet() && state.ticks > 0 {
            let mut next = *state;
            next.ticks -= 1;
            for me in 0..ACTORS {
                if state.actors[me].at == At::Sleep {
                    tick(&mut next, me);
                }
            }
            out.go(ACTORS, "all tick", next);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        if state.actors.iter().filter(|actor| owns(actor.at)).count() > 1 {
            return Err("two have the lock".to_owned());
        }
        for (me, actor) in state.actors.iter().enumerate() {
            let attached = runs(actor.at) && actor.epoch > 0;
            if attached && self.is_dead(state, usize::from(actor.seat), actor.epoch) {
                return Err(format!("{me} lives, and its incarnation is judged dead"));
            }
        }
        Ok(())
    }

    fn is_end(&self, state: &State) -> bool {
        state.actors.iter().all(|actor| actor.at == At::Done)
    }
}

fn board(attached: usize, kills: u8, ticks: Ticks) -> Board {
    Board { attached, idle: false, kills, ticks, lossy: false, mutant: Mutant::None }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&board(0, 0, Ticks::Quiet(0)));
}

#[test]
fn two_and_a_kill_need_no_tick_whoever_else_comes() {
    prove(&Board { idle: true, ..board(2, 1, Ticks::Quiet(0)) });
}

#[test]
fn at_most_a_tick_a_kill() {
    prove(&board(2, 2, Ticks::Quiet(2)));
    if is_large() {
        prove(&board(0, 2, Ticks::Quiet(2)));
    }
}

#[test]
fn ticks_are_enough_when_flags_are_lost() {
    prove(&Board { lossy: true, ..board(2, 2, Ticks::Always) });
    prove(&Board { lossy: true, ..board(0, 1, Ticks::Always) });
    if is_large() {
        prove(&Board { lossy: true, ..board(0, 2, Ticks::Always) });
        prove(&Board { lossy: true, ..board(0, 3, Ticks::Always) });
    }
}

#[test]
fn mutants_fail() {
    for (mutant, attached) in [
        (Mutant::PatrolStoresCurrent, 2),
        (Mutant::ReusesBeforeGone, 2),
        (Mutant::CommitsBeforeByte, 1),
        (Mutant::ZeroesLate, 2),
        (Mutant::JudgesBeforeReading, 2),
        (Mutant::WordsWithoutEpoch, 2),
    ] {
        let violation = refute(&Board { mutant, ..board(attached, 1, Ticks::Always) });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    for mutant in [Mutant::ArmsLate, Mutant::WatchesUnjudged] {
        let violation = refute(&Board { mutant, idle: true, ..board(2, 1, Ticks::Quiet(0)) });
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
}
