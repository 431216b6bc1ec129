//! What all models share: who lives, what the kernel does when somebody dies, and who sleeps on what.

use ipc_testkit::model::Steps;

/// Bits of a live word. Its thread id is one bit here: the incarnations of a seat are told apart in `liveness`.
pub(crate) const TID: u8 = 1;
pub(crate) const WAITERS: u8 = 2;
pub(crate) const OWNER_DIED: u8 = 4;

/// How far an actor's end has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Life {
    /// It runs, or has ended in good order.
    Up,
    /// SIGKILL: it runs no more, but is still in the kernel's queues.
    Killed,
    /// The kernel has flagged its live word, and has one watcher to wake.
    Flagged,
    /// Its threads are gone, its address space is not.
    Torn,
    /// Its byte is free.
    Ended,
}

/// When a sleeper's time-out fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ticks {
    /// At any time, as often as one likes: nothing may depend on when it does.
    Always,
    /// Only when nobody has anything else to do, for all sleepers at once, and this often: what needs more is stranded.
    Quiet(u8),
}

/// What is no object's own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World<const N: usize> {
    pub(crate) life: [Life; N],
    /// The live words; actor a's is futex a.
    pub(crate) live: [u8; N],
    /// Who has pointed the kernel at its live word.
    pub(crate) armed: u8,
    /// Who is proven gone, by its byte.
    pub(crate) gone: u8,
    /// The futexes that each is queued on.
    pub(crate) queued: [u16; N],
    /// Who was woken, and has not noticed.
    pub(crate) woken: u8,
    pub(crate) kills: u8,
    pub(crate) ticks: u8,
}

/// A state with a world inside.
pub(crate) trait Lives<const N: usize>: Clone {
    fn world(&mut self) -> &mut World<N>;
}

/// What may go wrong beneath the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Faults {
    /// The kernel's flag may never come.
    pub(crate) lossy: bool,
    /// Mutant: OWNER_DIED wakes nobody.
    pub(crate) flag_wakes_nobody: bool,
}

impl<const N: usize> World<N> {
    /// All live, are registered, and nobody sleeps.
    pub(crate) fn new(kills: u8, ticks: Ticks) -> Self {
        let ticks = if let Ticks::Quiet(ticks) = ticks { ticks } else { 0 };
        let armed = ((1_u16 << N) - 1) as u8;
        Self { life: [Life::Up; N], live: [TID; N], armed, gone: 0, queued: [0; N], woken: 0, kills, ticks }
    }

    pub(crate) fn is_up(&self, actor: usize) -> bool {
        self.life[actor] == Life::Up
    }

    /// `dead(id)` of the thread that this actor is.
    pub(crate) fn is_dead(&self, actor: usize) -> bool {
        self.live[actor] & OWNER_DIED != 0 || self.is_gone(actor)
    }

    /// `dead(id)` of the process that this actor is.
    pub(crate) fn is_gone(&self, actor: usize) -> bool {
        self.gone >> actor & 1 == 1
    }

    /// A futex wait's look at one word: queued if it still has the value; else nothing is queued any more. Says
    /// whether it has.
    pub(crate) fn enqueue(&mut self, actor: usize, futex: usize, as_expected: bool) -> bool {
        if as_expected {
            self.queued[actor] |= 1 << futex;
        } else {
            self.queued[actor] = 0;
        }
        as_expected
    }

    pub(crate) fn was_woken(&self, actor: usize) -> bool {
        self.woken >> actor & 1 == 1
    }

    /// Out of all queues; says whether it had been woken.
    pub(crate) fn leave(&mut self, actor: usize) -> bool {
        let was_woken = self.was_woken(actor);
        self.queued[actor] = 0;
        self.woken &= !(1 << actor);
        was_woken
    }

    fn wake(&mut self, actor: usize, futex: usize) {
        // It stays queued on its other futexes until it runs, and takes wakes there from others.
        self.queued[actor] &= !(1 << futex);
        self.woken |= 1 << actor;
    }

    pub(crate) fn wake_all(&mut self, futex: usize) {
        for actor in 0..N {
            if self.queued[actor] >> futex & 1 == 1 {
                self.wake(actor, futex);
            }
        }
    }
}

/// Wakes one of those queued on the futex, whichever; `then` makes the state that follows.
pub(crate) fn wake_one<const N: usize, S: Lives<N>>(
    state: &S,
    futex: usize,
    (actor, what): (usize, &'static str),
    out: &mut Steps<S>,
    then: impl Fn(&mut S),
) {
    let mut nobody = true;
    for sleeper in 0..N {
        let mut next = state.clone();
        if next.world().queued[sleeper] >> futex & 1 == 1 {
            nobody = false;
            next.world().wake(sleeper, futex);
            then(&mut next);
            out.go(actor, what, next);
        }
    }
    if nobody {
        let mut next = state.clone();
        then(&mut next);
        out.go(actor, what, next);
    }
}

/// SIGKILL, if there is one left. `then` notes what is torn by it.
pub(crate) fn kill<const N: usize, S: Lives<N>>(
    state: &S,
    actor: usize,
    out: &mut Steps<S>,
    then: impl Fn(&mut S),
) {
    let mut next = state.clone();
    let world = next.world();
    if world.kills > 0 && world.is_up(actor) {
        world.kills -= 1;
        world.life[actor] = Life::Killed;
        then(&mut next);
        out.may(actor, "is killed", next);
    }
}

/// What the kernel does about a dead actor.
pub(crate) fn bury<const N: usize, S: Lives<N>>(state: &S, actor: usize, faults: Faults, out: &mut Steps<S>) {
    let mut next = state.clone();
    let world = next.world();
    match world.life[actor] {
        Life::Up | Life::Ended => {}
        Life::Killed => {
            world.leave(actor);
            world.life[actor] = Life::Torn;
            if world.armed >> actor & 1 == 1 && world.live[actor] & TID != 0 {
                if faults.lossy {
                    out.may(actor, "its flag is lost", next.clone());
                }
                let world = next.world();
                if world.live[actor] & WAITERS != 0 && !faults.flag_wakes_nobody {
                    world.life[actor] = Life::Flagged;
                }
                world.live[actor] = OWNER_DIED | world.live[actor] & WAITERS;
            }
            out.go(actor, "its threads are gone", next);
        }
        Life::Flagged => {
            let torn = |next: &mut S| next.world().life[actor] = Life::Torn;
            wake_one(state, actor, (actor, "the kernel wakes a watcher"), out, torn);
        }
        Life::Torn => {
            world.life[actor] = Life::Ended;
            out.go(actor, "its byte is free", next);
        }
    }
}
