//! What each does next.

use ipc_testkit::model::Steps;

use super::{At, BELLS, ITEMS, Mutant, PAGES, Queue, ROOM, State, wants_pages};
use crate::world::{Ticks, wake_one};

impl<const N: usize> Queue<N> {
    pub(super) fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let (side, own) = (usize::from(actor.sends), if actor.sends { ROOM } else { ITEMS });
        let others = ROOM - own;
        let mut next = *state;
        let to = &mut next.actors[me];
        let what = match actor.at {
            At::Begins if !actor.sends => {
                to.at = if self.has_message(state) { At::Latches } else { At::Arms };
                "looks for a message"
            }
            At::Begins => {
                to.at = match wants_pages(&actor) {
                    _ if state.gone[side] && !state.has_role(false) => At::Leaves,
                    true => At::ReadsFrees,
                    false => At::Latches,
                };
                "looks whether it was told that all receivers are gone"
            }
            At::ReadsFrees => {
                (to.news, to.at) = (false, At::TakesPages);
                "reads how often pages were freed"
            }
            At::TakesPages if state.pages == 0 => {
                to.at = At::Arms;
                "finds no pages"
            }
            At::TakesPages => {
                next.pages -= 1;
                (to.has, to.at) = (1, At::Latches);
                "takes pages"
            }
            At::Latches if state.latches[side] == 0 || state.latch_is_dead(side) => {
                next.latches[side] = me as u8 + 1;
                to.at = At::Looks;
                if state.latches[side] == 0 { "latches" } else { "latches, after a death" }
            }
            At::Looks => return self.look(state, me, out),
            At::Writes => {
                let slot = &mut next.slots[usize::from(state.tail % self.capacity)];
                (slot.message, slot.long) = (state.sent + 1, actor.long);
                let early = self.mutant == Mutant::RingsBeforeCommit;
                to.at = if early { At::Rings } else { At::Commits };
                "writes its message"
            }
            At::Commits => {
                next.slots[usize::from(state.tail % self.capacity)].state += 1;
                next.sent += 1;
                to.at = At::MovesTail;
                "commits its message"
            }
            At::MovesTail => {
                next.tail += 1;
                to.at = At::Unlatches;
                "moves tail"
            }
            At::Copies => {
                let slot = state.slots[usize::from(state.head % self.capacity)];
                (to.has, to.long) = (slot.message, slot.long);
                let early = self.mutant == Mutant::HeadBeforeState;
                to.at = if early { At::MovesHead } else { At::Frees };
                "copies the message out"
            }
            At::Frees if actor.has != state.taken + 1 || state.taken == state.sent => {
                return out.wrong(me, "takes the message", "not the next one");
            }
            At::Frees => {
                let early = self.mutant == Mutant::HeadBeforeState;
                let position = if early { state.head - 1 } else { state.head };
                next.slots[usize::from(position % self.capacity)].state += 1;
                next.taken += 1;
                to.at = if early { At::Unlatches } else { At::MovesHead };
                "takes the message"
            }
            At::MovesHead => {
                next.head += 1;
                to.at = if self.mutant == Mutant::HeadBeforeState { At::Frees } else { At::Unlatches };
                "moves head"
            }
            At::Unlatches => {
                next.latches[side] = 0;
                to.at = At::Rings;
                if actor.sends && self.mutant == Mutant::RingsBeforeCommit {
                    self.settles(to);
                }
                "unlatches"
            }
            At::UnlatchesIdle => {
                next.latches[side] = 0;
                to.at = At::Arms;
                "unlatches, having found nothing to do"
            }
            At::Rings => {
                to.at = At::Wakes;
                if !state.flags[others] {
                    self.rang(to);
                }
                next.ring(others);
                "rings"
            }
            At::Wakes => {
                let then = |next: &mut State<N>| self.rang(&mut next.actors[me]);
                return wake_one(state, BELLS + others, (me, "wakes one"), out, then);
            }
            At::SettleArms => {
                next.flags[own] = true;
                to.at = At::SettleLooks;
                "says that others may sleep"
            }
            At::SettleLooks => {
                to.at = At::SettleRings;
                let more = if actor.sends { self.has_room(state) } else { self.has_message(state) };
                if !more {
                    Self::is_settled(to);
                }
                "looks whether there is more"
            }
            At::SettleRings => {
                to.at = At::SettleWakes;
                if !state.flags[own] {
                    Self::is_settled(to);
                }
                next.ring(own);
                "rings for the next one"
            }
            At::SettleWakes => {
                let then = |next: &mut State<N>| Self::is_settled(&mut next.actors[me]);
                return wake_one(state, BELLS + own, (me, "wakes the next one"), out, then);
            }
            At::FreesPages => {
                next.pages += 1;
                to.at = At::RingsPages;
                for actor in next.actors.iter_mut().filter(|actor| wants_pages(actor)) {
                    actor.news = true;
                }
                "frees pages"
            }
            At::RingsPages => {
                let bell = self.pages_bell();
                to.at = At::WakesPages;
                if !state.flags[bell] {
                    Self::ends(to);
                }
                next.ring(bell);
                "rings for pages"
            }
            At::WakesPages if self.mutant == Mutant::PagesShareRoom => {
                let then = |next: &mut State<N>| Self::ends(&mut next.actors[me]);
                return wake_one(state, BELLS + ROOM, (me, "wakes one, for pages"), out, then);
            }
            At::WakesPages => {
                // All, since one may need more than there are, and another one not.
                next.world.wake_all(BELLS + PAGES);
                Self::ends(to);
                "wakes all who want pages"
            }
            At::Arms => {
                if self.times_out && actor.slept {
                    to.at = At::TimesOut;
                    out.may(me, "gives up waiting", next);
                }
                let bell = if wants_pages(&actor) { self.pages_bell() } else { own };
                next.flags[bell] = true;
                let to = &mut next.actors[me];
                (to.bell, to.armed) = (bell as u8, true);
                to.at = if self.mutant == Mutant::NoSecondLook { At::Asks } else { At::LooksAgain };
                "says that it is about to sleep"
            }
            At::LooksAgain => {
                to.at = if self.is_ready(state, me) { self.again(&actor) } else { At::Asks };
                "looks once more"
            }
            At::Asks => {
                let left = !state.has_role(!actor.sends);
                to.at = if left { At::LooksLast } else { At::Queues };
                "asks whether the other side is there"
            }
            At::LooksLast if self.is_ready(state, me) && self.mutant != Mutant::NoDrain => {
                to.at = self.again(&actor);
                "finds what the last one left"
            }
            At::LooksLast => {
                let there = (0..N).any(|other| {
                    let one = state.actors[other];
                    one.sends != actor.sends && state.world.is_up(other) && one.role
                });
                if there || (!actor.sends && state.taken != state.sent) {
                    return out.wrong(me, "is disconnected", "something is left, or somebody");
                }
                to.at = At::Leaves;
                "is disconnected"
            }
            At::Queues => {
                to.slept = true;
                let queued = next.world.enqueue(me, BELLS + usize::from(actor.bell), actor.armed);
                to.at = if queued { At::Sleeps } else { self.again(&actor) };
                "is queued"
            }
            At::Sleeps if state.world.was_woken(me) => {
                next.world.leave(me);
                to.at = self.again(&actor);
                "wakes up"
            }
            At::Sleeps if self.ticks == Ticks::Always => {
                self.tick(&mut next, me);
                "ticks"
            }
            At::TimesOut => {
                (to.left, to.has, to.long) = (1, 0, false);
                if self.mutant == Mutant::TimeoutKeepsRing && !actor.sends && !self.has_message(state) {
                    Self::ends(to);
                } else {
                    self.settles(to);
                }
                "has given up"
            }
            At::Leaves if self.stays => {
                to.at = At::Done;
                "stays"
            }
            At::Leaves => {
                to.role = self.mutant == Mutant::TellsBeforeLeaving;
                to.at = At::LooksAround;
                "gives its role back"
            }
            At::LooksAround => {
                let last = if self.mutant == Mutant::TellsBeforeLeaving {
                    (0..N)
                        .filter(|one| state.actors[*one].sends == actor.sends && state.actors[*one].role)
                        .count()
                        == 1
                } else {
                    !state.has_role(actor.sends)
                };
                to.at = if last { At::SetsGone } else { At::Done };
                to.role &= last;
                "looks whether it was the last one"
            }
            At::SetsGone => {
                next.gone[1 - side] = true;
                to.at = At::RingsAll;
                "says that its side is gone"
            }
            At::RingsAll => {
                to.at = At::WakesAll;
                next.disarm(others);
                "rings for all"
            }
            At::WakesAll if self.mutant == Mutant::LastWakesOne => {
                let then = |next: &mut State<N>| next.actors[me].at = At::Done;
                return wake_one(state, BELLS + others, (me, "wakes only one"), out, then);
            }
            At::WakesAll => {
                next.world.wake_all(BELLS + others);
                (to.role, to.at) = (false, At::Done);
                "wakes all"
            }
            _ => return,
        };
        out.go(me, what, next);
    }

    /// With the latch: what the slot says.
    fn look(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let sends = state.actors[me].sends;
        let mut next = *state;
        let to = &mut next.actors[me];
        let position = if sends { &mut next.tail } else { &mut next.head };
        let (now, free) = self.slot(state, *position);
        let touched = self.mutant != Mutant::HealsOnlyTheUntouched;
        // Left behind: only the state that somebody on this side made, and the one that the other side makes of it.
        let (idle, busy, behind) = if sends {
            (free.wrapping_sub(1), free, now == free + 1 || (now == free + 2 && touched))
        } else {
            (free, free + 1, now == free + 2 || (now == free + 3 && touched))
        };
        let what = if now == busy {
            to.at = if sends { At::Writes } else { At::Copies };
            "finds something to do"
        } else if now == idle || (behind && sends && self.mutant == Mutant::TailNotHealed) {
            to.at = At::UnlatchesIdle;
            "finds nothing to do"
        } else if behind {
            *position += 1;
            "moves on what was left behind"
        } else {
            return out.wrong(me, "looks at the slot", "the queue seems scribbled over");
        };
        out.go(me, what, next);
    }
}
