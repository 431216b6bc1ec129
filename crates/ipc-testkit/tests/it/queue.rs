//! The queue: "A message's way", "Who is still there" and "Who wakes whom" of docs/queue-layout.md. The two latches are
//! taken in one step here, by whoever finds one free or its owner dead; `lock` has the rest. What long messages take of
//! the store is a number of pages here, and only where nobody dies; `store` has the rest.
//!
//! Messages are numbered as they are committed. That the one taken out is the next one each time is all at once: none
//! is lost, none comes twice, and their order is kept.

mod steps;

use ipc_testkit::model::{Fault, Model, Steps};

use crate::world::{Faults, Life, Lives, Ticks, World, bury, kill};
use crate::{is_large, prove, refute};

/// The bells, and from which futex on they are.
const ITEMS: usize = 0;
const ROOM: usize = 1;
const PAGES: usize = 2;
const BELLS: usize = 8;

/// For a receiver: as many as come, until nobody is left who could send.
const ALL: u8 = u8::MAX;

const SLOTS: usize = 2;

/// Where an actor is: the next thing that it does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum At {
    Begins,
    ReadsFrees,
    TakesPages,
    Latches,
    Looks,
    Writes,
    Commits,
    MovesTail,
    Copies,
    Frees,
    MovesHead,
    Unlatches,
    UnlatchesIdle,
    Rings,
    Wakes,
    SettleArms,
    SettleLooks,
    SettleRings,
    SettleWakes,
    FreesPages,
    RingsPages,
    WakesPages,
    Arms,
    LooksAgain,
    Asks,
    LooksLast,
    Queues,
    Sleeps,
    TimesOut,
    Leaves,
    LooksAround,
    SetsGone,
    RingsAll,
    WakesAll,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Actor {
    sends: bool,
    /// What it sends, or has just received, is in the store.
    long: bool,
    /// How many messages it still sends or takes.
    left: u8,
    at: At,
    /// The message that a receiver has; whether a sender has its pages.
    has: u8,
    slept: bool,
    /// The bell at which it armed, and whether the word is still as it was then.
    bell: u8,
    armed: bool,
    /// Pages were freed since it looked.
    news: bool,
    /// Has its role, unless the kernel has taken it.
    role: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Slot {
    state: u8,
    message: u8,
    long: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct State<const N: usize> {
    world: World<N>,
    /// Who has the receivers' latch, and the senders', + 1.
    latches: [u8; 2],
    head: u8,
    tail: u8,
    slots: [Slot; SLOTS],
    /// Of each bell, that somebody may sleep.
    flags: [bool; 3],
    /// Of each side, that it was told that the other is gone.
    gone: [bool; 2],
    pages: u8,
    actors: [Actor; N],
    /// How many messages were committed, and how many of them were taken out.
    sent: u8,
    taken: u8,
}

impl<const N: usize> Lives<N> for State<N> {
    fn world(&mut self) -> &mut World<N> {
        &mut self.world
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// Who is about to sleep does not look once more.
    NoSecondLook,
    /// Who has slept leaves the flag away.
    NoSettle,
    /// A ring comes before what it is for.
    RingsBeforeCommit,
    /// `head` is moved before the slot is free.
    HeadBeforeState,
    /// Nobody looks for messages once more when the senders are gone.
    NoDrain,
    /// A `tail` that was left behind stays there.
    TailNotHealed,
    /// A position that was left behind is moved on only if the slot is still as the dead one left it. But the other
    /// side goes on in the meantime.
    HealsOnlyTheUntouched,
    /// A receiver that gives up waiting, and finds nothing, leaves the flag away.
    TimeoutKeepsRing,
    /// Senders that wait for pages sleep where those do that wait for a slot: one ring for one thing may wake one who
    /// waits for the other.
    PagesShareRoom,
    /// The last of a side wakes one of the other.
    LastWakesOne,
    /// The last of a side releases its role only after it has told the others.
    TellsBeforeLeaving,
}

#[derive(Clone, Copy, Debug)]
struct Queue<const N: usize> {
    capacity: u8,
    pages: u8,
    /// How many messages each sends; the rest are receivers.
    sends: &'static [u8],
    /// How many each receiver takes.
    takes: &'static [u8],
    /// Which of the senders send long messages.
    longs: u8,
    times_out: bool,
    /// Nobody gives its role back: the wakes at the end could hide that another is missing.
    stays: bool,
    kills: u8,
    ticks: Ticks,
    mutant: Mutant,
}

impl<const N: usize> State<N> {
    fn latch_is_dead(&self, latch: usize) -> bool {
        self.latches[latch]
            .checked_sub(1)
            .map(usize::from)
            .is_some_and(|owner| self.world.is_dead(owner) || self.world.life[owner] == Life::Ended)
    }

    /// What the kernel says.
    fn has_role(&self, sends: bool) -> bool {
        let has = |me: usize| self.actors[me].role && self.world.life[me] != Life::Ended;
        (0..N).any(|me| self.actors[me].sends == sends && has(me))
    }

    /// Takes the flag away, if there is one.
    fn ring(&mut self, bell: usize) {
        if std::mem::take(&mut self.flags[bell]) {
            self.disarm(bell);
        }
    }

    fn disarm(&mut self, bell: usize) {
        for actor in self.actors.iter_mut().filter(|actor| usize::from(actor.bell) == bell) {
            actor.armed = false;
        }
    }
}

impl<const N: usize> Queue<N> {
    fn actor(&self, me: usize) -> Actor {
        let sends = me < self.sends.len();
        let left = if sends { self.sends[me] } else { self.takes[me - self.sends.len()] };
        let long = self.longs >> me & 1 == 1;
        let at = if left == 0 { At::Leaves } else { At::Begins };
        let (slept, armed, news, role) = (false, false, false, true);
        Actor { sends, long, left, at, has: 0, slept, bell: 0, armed, news, role }
    }

    /// The slot at a position, and what it is when it is free for that lap.
    fn slot(&self, state: &State<N>, position: u8) -> (u8, u8) {
        (state.slots[usize::from(position % self.capacity)].state, position / self.capacity * 2)
    }

    fn has_message(&self, state: &State<N>) -> bool {
        let (now, free) = self.slot(state, state.head);
        now != free
    }

    fn has_room(&self, state: &State<N>) -> bool {
        let (now, free) = self.slot(state, state.tail);
        now != free.wrapping_sub(1)
    }

    fn is_ready(&self, state: &State<N>, me: usize) -> bool {
        let actor = state.actors[me];
        match actor.sends {
            true if wants_pages(&actor) => actor.news,
            true => self.has_room(state),
            false => self.has_message(state),
        }
    }

    /// The message is sent, or taken.
    fn ends(to: &mut Actor) {
        let left = if to.left == ALL { ALL } else { to.left - 1 };
        let at = if left == 0 { At::Leaves } else { At::Begins };
        let long = to.long && to.sends;
        let role = to.role;
        *to = Actor { left, at, has: 0, long, slept: false, bell: 0, armed: false, news: false, role, ..*to };
    }

    fn settles(&self, to: &mut Actor) {
        if to.slept && self.mutant != Mutant::NoSettle {
            to.at = At::SettleArms;
        } else {
            Self::is_settled(to);
        }
    }

    fn is_settled(to: &mut Actor) {
        if !to.sends && to.long {
            to.at = At::FreesPages;
        } else {
            Self::ends(to);
        }
    }

    /// After a look in which there was nothing to do, or after a ring.
    fn rang(&self, to: &mut Actor) {
        if to.sends && self.mutant == Mutant::RingsBeforeCommit {
            to.at = At::Commits;
        } else {
            self.settles(to);
        }
    }

    fn pages_bell(&self) -> usize {
        if self.mutant == Mutant::PagesShareRoom { ROOM } else { PAGES }
    }

    /// Where it goes on when there may be something.
    fn again(&self, actor: &Actor) -> At {
        match actor.sends {
            true if wants_pages(actor) => At::ReadsFrees,
            true => At::Latches,
            false => At::Begins,
        }
    }

    fn tick(&self, next: &mut State<N>, sleeper: usize) {
        next.world.leave(sleeper);
        next.actors[sleeper].at = self.again(&next.actors[sleeper]);
    }
}

fn wants_pages(actor: &Actor) -> bool {
    actor.sends && actor.long && actor.has == 0
}

impl<const N: usize> Model for Queue<N> {
    type State = State<N>;

    fn initial(&self) -> Vec<State<N>> {
        assert!(!self.times_out && self.kills == 0 || self.longs == 0, "pages do not come back here");
        vec![State {
            world: World::new(self.kills, self.ticks),
            latches: [0; 2],
            head: 0,
            tail: 0,
            slots: [Slot::default(); SLOTS],
            flags: [false; 3],
            gone: [false; 2],
            pages: self.pages,
            actors: std::array::from_fn(|me| self.actor(me)),
            sent: 0,
            taken: 0,
        }]
    }

    fn steps(&self, state: &State<N>, out: &mut Steps<State<N>>) {
        for me in 0..N {
            bury(state, me, Faults::default(), out);
            let Actor { sends, at, .. } = state.actors[me];
            if !state.world.is_up(me) || at == At::Done {
                continue;
            }
            self.act(state, me, out);
            kill(state, me, out, |next| {
                let role = next.actors[me].role;
                // Where it was matters no more; its role goes when the kernel has come that far.
                let (long, slept, armed, news) = (false, false, false, false);
                next.actors[me] =
                    Actor { sends, long, left: 0, at: At::Done, has: 0, slept, bell: 0, armed, news, role };
            });
        }
        if out.is_quiet() && state.world.ticks > 0 {
            let mut next = *state;
            next.world.ticks -= 1;
            for me in 0..N {
                if state.world.is_up(me) && state.actors[me].at == At::Sleeps {
                    self.tick(&mut next, me);
                }
            }
            out.go(N, "all tick", next);
        }
    }

    fn check(&self, state: &State<N>) -> Result<(), String> {
        let full = state.slots.iter().filter(|slot| slot.state & 1 == 1).count();
        if full == usize::from(state.sent - state.taken) {
            return Ok(());
        }
        Err("messages are lost or made".to_owned())
    }

    fn is_end(&self, state: &State<N>) -> bool {
        // Receivers that take all there is end only when they are disconnected, which is checked there; or sleep for ever
        // where the others stay.
        let has_nothing = |actor: &Actor| match actor.sends {
            true if wants_pages(actor) => state.pages == 0,
            true => !self.has_room(state),
            false => !self.has_message(state),
        };
        let rests = |me: usize, actor: &Actor| {
            actor.at == At::Sleeps && state.world.is_up(me) && self.stays && has_nothing(actor)
        };
        state.world.woken == 0
            && state.actors.iter().enumerate().all(|(me, actor)| actor.at == At::Done || rests(me, actor))
    }

    fn canonical(&self, state: State<N>) -> State<N> {
        // Nobody watches a live word here, so that who is who matters to the latches alone.
        let world = &state.world;
        let key = |me: &usize| {
            let bits = world.live[*me] << 1 | (world.woken >> me & 1);
            let has = |latch: u8| usize::from(latch) == me + 1;
            (state.actors[*me], world.life[*me], world.queued[*me], bits, state.latches.map(has))
        };
        let mut order: [usize; N] = std::array::from_fn(|me| me);
        if order.is_sorted_by_key(key) {
            return state;
        }
        order.sort_by_key(key);
        let place = |old: usize| order.iter().position(|me| *me == old).expect("all are there");
        let woken = order.iter().enumerate().fold(0, |bits, (new, me)| bits | (world.woken >> me & 1) << new);
        State {
            world: World {
                life: order.map(|me| world.life[me]),
                live: order.map(|me| world.live[me]),
                queued: order.map(|me| world.queued[me]),
                woken,
                ..*world
            },
            latches: state
                .latches
                .map(|latch| latch.checked_sub(1).map_or(0, |me| place(me.into()) as u8 + 1)),
            actors: order.map(|me| state.actors[me]),
            ..state
        }
    }
}

fn queue<const N: usize>(sends: &'static [u8], takes: &'static [u8]) -> Queue<N> {
    assert_eq!(sends.len() + takes.len(), N, "one for each");
    let (pages, longs, times_out, stays, kills) = (0, 0, false, false, 0);
    let (ticks, mutant) = (Ticks::Quiet(0), Mutant::None);
    Queue { capacity: 1, pages, sends, takes, longs, times_out, stays, kills, ticks, mutant }
}

/// With that many kills, and as many ticks.
fn dies<const N: usize>(kills: u8, queue: Queue<N>) -> Queue<N> {
    Queue { kills, ticks: Ticks::Quiet(kills), ..queue }
}

#[test]
fn nobody_dies_and_nobody_needs_a_tick() {
    prove(&queue::<3>(&[2, 1], &[ALL]));
    prove(&queue::<3>(&[2], &[ALL, ALL]));
    prove(&Queue { capacity: 2, ..queue::<3>(&[2, 1], &[ALL]) });
    prove(&queue::<3>(&[1, 1], &[1]));
    prove(&Queue { times_out: true, stays: true, ..queue::<3>(&[2], &[1, ALL]) });
    prove(&Queue { stays: true, ..queue::<3>(&[2], &[1, 1]) });
    if is_large() {
        prove(&queue::<4>(&[2, 1], &[ALL, ALL]));
        prove(&Queue { times_out: true, ..queue::<3>(&[2], &[1, ALL]) });
        prove(&Queue { times_out: true, stays: true, ..queue::<4>(&[2], &[1, 1, 1]) });
        prove(&Queue { times_out: true, ..queue::<4>(&[1, 1, 1], &[ALL]) });
    }
}

/// The first sender sends short messages, the second one a long one. There are no pages: somebody has them on loan.
fn long_and_short() -> Queue<3> {
    Queue { longs: 0b10, stays: true, ..queue(&[2, 1], &[ALL]) }
}

#[test]
fn who_waits_for_pages_takes_no_wake_from_who_waits_for_a_slot() {
    prove(&long_and_short());
    prove(&Queue { longs: 0b11, pages: 1, ..queue::<3>(&[1, 1], &[ALL]) });
    if is_large() {
        prove(&Queue { longs: 0b110, pages: 1, ..queue::<4>(&[1, 1, 1], &[ALL]) });
    }
}

#[test]
fn a_death_costs_at_most_a_tick() {
    prove(&dies(1, queue::<3>(&[1, 1], &[ALL])));
    prove(&dies(1, queue::<3>(&[2], &[ALL, ALL])));
    prove(&dies(2, queue::<2>(&[3], &[ALL])));
    prove(&Queue { kills: 1, times_out: true, ticks: Ticks::Always, ..queue::<3>(&[1], &[1, ALL]) });
    // And does cost it.
    assert_eq!(refute(&Queue { kills: 1, ..queue::<2>(&[1], &[ALL]) }).fault, Fault::Stranded);
    if is_large() {
        prove(&dies(1, queue::<4>(&[1, 1], &[ALL, ALL])));
        prove(&dies(2, queue::<3>(&[2, 1], &[ALL])));
        prove(&dies(2, Queue { capacity: 2, ..queue::<3>(&[3], &[ALL, ALL]) }));
        prove(&Queue { kills: 2, times_out: true, ticks: Ticks::Always, ..queue::<3>(&[1, 1], &[ALL]) });
    }
}

#[test]
fn mutants_fail() {
    let unsafe_: [(_, Queue<3>); 4] = [
        (Mutant::NoDrain, queue(&[1], &[ALL, ALL])),
        (Mutant::HealsOnlyTheUntouched, dies(1, queue(&[1, 1], &[ALL]))),
        (Mutant::HealsOnlyTheUntouched, dies(1, queue(&[2], &[ALL, ALL]))),
        (Mutant::HeadBeforeState, dies(1, queue(&[2], &[ALL, ALL]))),
    ];
    for (mutant, queue) in unsafe_ {
        let violation = refute(&Queue { mutant, ..queue });
        assert!(matches!(violation.fault, Fault::Unsafe(_)), "{mutant:?}: {violation}");
    }
    let stays = |queue| Queue { stays: true, ..queue };
    let strands: [(_, Queue<3>); 7] = [
        (Mutant::NoSecondLook, stays(queue(&[1], &[1, 0]))),
        (Mutant::RingsBeforeCommit, stays(queue(&[1], &[1, 0]))),
        (Mutant::NoSettle, stays(queue(&[2], &[1, 1]))),
        (Mutant::TimeoutKeepsRing, Queue { times_out: true, ..stays(queue(&[2], &[1, ALL])) }),
        (Mutant::PagesShareRoom, long_and_short()),
        (Mutant::LastWakesOne, queue(&[1], &[ALL, ALL])),
        (Mutant::TellsBeforeLeaving, queue(&[1], &[ALL, 0])),
    ];
    for (mutant, queue) in strands {
        let violation = refute(&Queue { mutant, ..queue });
        assert_eq!(violation.fault, Fault::Stranded, "{mutant:?}: {violation}");
    }
    let violation = refute(&Queue { mutant: Mutant::TailNotHealed, ..dies(1, queue::<3>(&[1, 1], &[ALL])) });
    assert_eq!(violation.fault, Fault::Endless, "{violation}");
}
