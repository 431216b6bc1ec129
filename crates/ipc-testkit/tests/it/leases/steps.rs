//! What each does next.

use ipc_testkit::model::Steps;

use super::{Actor, At, Lease, Leases, MOST, Mutant, Of, RECEIVERS, STORE, State, bit, idle};

impl<const N: usize> Leases<N> {
    fn latch(&self, state: &State<N>, me: usize, latch: usize, at: At, out: &mut Steps<State<N>>) {
        let mut next = *state;
        let to = &mut next.actors[me];
        let is_free = state.latches[latch] == 0;
        if is_free || state.latch_is_dead(latch) {
            (to.repairs, to.at) = (!is_free, at);
            next.latches[latch] = me as u8 + 1;
            out.go(me, if is_free { "latches" } else { "latches, after a death" }, next);
        }
    }

    pub(super) fn act(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let index = usize::from(actor.lease);
        let lease = state.leases[index.min(MOST - 1)];
        let is_full = state.slots & bit(state.head + 1) != 0;
        let mut next = *state;
        let to = &mut next.actors[me];
        if actor.repairs {
            to.repairs = false;
            next.dirty = true;
            return out.go(me, "says that pages may be nobody's", next);
        }
        let late = |mutant, late, then| if self.mutant == mutant { late } else { then };
        let what = match actor.at {
            At::Begins => {
                to.at = if self.is_ready(state) { At::Latches } else { At::AsksOthers };
                "looks whether there is something"
            }
            At::Latches => return self.latch(state, me, RECEIVERS, At::LooksAtHead, out),
            At::LooksAtHead if !is_full && state.head < self.messages => {
                next.head += 1;
                "moves on what was left behind"
            }
            At::LooksAtHead => {
                (to.lease, to.at) = (0, At::Scans);
                "looks at head"
            }
            At::Scans if index == self.leases => {
                to.lease = 0;
                to.at = if is_full { At::Seeks } else { At::UnlatchesNothing };
                "finds nothing that is due"
            }
            At::Scans => {
                match lease.state {
                    Of::Again => self.takes(&mut next, me),
                    Of::Out => to.at = At::AsksKernel,
                    Of::Free | Of::Aside | Of::Done => to.lease += 1,
                }
                "looks at the state of a lease"
            }
            At::AsksKernel => {
                match self.seems_gone(state, lease.owner) {
                    true if self.mutant == Mutant::NoSecondLook => self.takes(&mut next, me),
                    true => to.at = At::LooksAgain,
                    false => (to.lease, to.at) = (actor.lease + 1, At::Scans),
                }
                "asks whether the owner is gone"
            }
            At::LooksAgain => {
                // It may have been done just before its owner went.
                match lease.state {
                    Of::Out | Of::Again => self.takes(&mut next, me),
                    Of::Free | Of::Aside | Of::Done => (to.lease, to.at) = (actor.lease + 1, At::Scans),
                }
                "looks at the state once more"
            }
            At::Counts => {
                next.leases[index].attempts += u8::from(self.mutant != Mutant::CountsNothing);
                to.at = late(Mutant::OwnsLate, At::OutAgain, At::Owns);
                "counts the delivery"
            }
            At::Owns => {
                next.leases[index].owner = me as u8 + 1;
                to.at = late(Mutant::OwnsLate, At::Unlatches, At::OutAgain);
                "is the owner"
            }
            At::OutAgain => {
                next.leases[index].state = Of::Out;
                to.has = lease.id;
                to.at = late(Mutant::OwnsLate, At::Owns, At::Unlatches);
                "has the lease again"
            }
            At::Seeks => {
                let leases = &state.leases[..self.leases];
                let trusts = self.mutant == Mutant::TrustsHalfMade;
                let is_half =
                    |lease: &Lease| lease.state != Of::Free && lease.id == state.head + 1 && !trusts;
                let half = leases.iter().position(is_half);
                let found = half.or_else(|| leases.iter().position(|lease| lease.state == Of::Free));
                to.lease = found.unwrap_or_default() as u8;
                to.at = if found.is_some() { At::Clears } else { At::UnlatchesNothing };
                "looks for a lease"
            }
            At::Clears => {
                next.leases[index].state = Of::Free;
                to.at = At::Writes;
                "makes it a free one"
            }
            At::Writes => {
                let id = state.head + 1;
                next.leases[index] =
                    Lease { state: Of::Free, owner: me as u8 + 1, attempts: 1, id, pages: true };
                to.at = late(Mutant::FreesSlotFirst, At::FreesSlot, At::Out);
                "writes the lease"
            }
            At::Out => {
                next.leases[index].state = Of::Out;
                to.at = late(Mutant::FreesSlotFirst, At::MovesHead, At::FreesSlot);
                "has the lease"
            }
            At::FreesSlot => {
                next.slots &= !bit(lease.id);
                to.has = lease.id;
                to.at = late(Mutant::FreesSlotFirst, At::Out, At::MovesHead);
                "frees the slot"
            }
            At::MovesHead => {
                next.head += 1;
                to.at = At::Unlatches;
                "moves head"
            }
            At::Unlatches => {
                if state.seen & bit(actor.has) != 0 && lease.attempts < 2 {
                    return out.wrong(
                        me,
                        "unlatches",
                        "delivered for the second time, and it does not say so",
                    );
                }
                next.latches[RECEIVERS] = 0;
                next.seen |= bit(actor.has);
                to.at = At::Works;
                "unlatches, and works"
            }
            At::UnlatchesNothing => {
                next.latches[RECEIVERS] = 0;
                to.lease = 0;
                let sweeps = state.wants_sweep() && self.mutant != Mutant::NobodySweeps;
                to.at = match is_full {
                    true if sweeps => At::Sweeps,
                    // It waits for one of the leases.
                    true => At::Begins,
                    false => At::AsksOthers,
                };
                "unlatches, having found nothing"
            }
            At::AsksOthers => {
                let others =
                    state.leases.iter().any(|lease| lease.state == Of::Out && lease.owner != me as u8 + 1);
                to.at = if others { At::Waits } else { At::LooksLast };
                "asks who has messages"
            }
            At::LooksLast if self.is_ready(state) => {
                to.at = At::Begins;
                "finds what was left"
            }
            At::LooksLast if self.mutant == Mutant::TrustsOthers => return Self::ends(state, me, out),
            At::LooksLast => {
                to.at = At::MayCome;
                "finds nothing"
            }
            At::MayCome if index == self.leases => return Self::ends(state, me, out),
            At::MayCome => {
                let may_come = match lease.state {
                    Of::Again => true,
                    Of::Out => lease.owner != me as u8 + 1,
                    Of::Free | Of::Aside | Of::Done => false,
                };
                (to.lease, to.at) = if may_come { (0, At::Begins) } else { (actor.lease + 1, At::MayCome) };
                "looks whether a lease may come yet"
            }
            At::Waits if state.is_open() && !self.is_ready(state) => return,
            At::Waits => {
                to.at = At::Begins;
                "wakes up"
            }
            At::Works => {
                if state.nacks > 0 {
                    let mut next = *state;
                    next.nacks -= 1;
                    next.leases[index].state = Of::Again;
                    next.actors[me] = idle();
                    out.may(me, "gives it back", next);
                }
                to.at = match self.mutant {
                    Mutant::FreesPagesFirst => At::LatchesStore,
                    _ => late(Mutant::FreesLeaseFirst, At::Frees, At::SaysDone),
                };
                "has done its work"
            }
            At::SaysDone => {
                next.leases[index].state = Of::Done;
                next.done |= bit(actor.has);
                to.at = late(Mutant::FreesPagesFirst, At::Frees, At::LatchesStore);
                "says that it is done"
            }
            At::LatchesStore => return self.latch(state, me, STORE, At::Unmarks, out),
            At::Unmarks if state.bits & bit(actor.has) == 0 => {
                return out.wrong(me, "frees pages", "they are free");
            }
            At::Unmarks => {
                next.bits &= !bit(actor.has);
                to.at = late(Mutant::FreesLeaseFirst, At::UnlatchesStore, At::Forgets);
                "frees pages"
            }
            At::Forgets => {
                next.leases[index].pages = false;
                to.at = At::UnlatchesStore;
                "makes the lease forget them"
            }
            At::UnlatchesStore => {
                next.latches[STORE] = 0;
                to.at = late(Mutant::FreesPagesFirst, At::SaysDone, At::Frees);
                if self.mutant == Mutant::FreesLeaseFirst {
                    *to = idle();
                }
                "unlatches the store"
            }
            At::Frees => {
                next.leases[index].state = Of::Free;
                next.done |= bit(actor.has);
                if self.mutant == Mutant::FreesLeaseFirst {
                    to.at = At::LatchesStore;
                } else {
                    *to = idle();
                }
                "frees the lease"
            }
            _ => return self.sweep(state, me, out),
        };
        out.go(me, what, next);
    }

    /// As one look tells, without the latch.
    fn is_ready(&self, state: &State<N>) -> bool {
        self.has_message(state) || state.leases.iter().any(|lease| self.is_due(state, lease))
    }

    /// With the latch: what to do with a lease that is due.
    fn takes(&self, next: &mut State<N>, me: usize) {
        let is_full = next.slots & bit(next.head + 1) != 0;
        let to = &mut next.actors[me];
        let lease = &mut next.leases[usize::from(to.lease)];
        let is_half = is_full && lease.id == next.head + 1 && self.mutant != Mutant::TrustsHalfMade;
        if !is_half && lease.attempts < self.attempts {
            to.at = At::Counts;
            return;
        }
        if !is_half {
            lease.state = Of::Aside;
        }
        (to.lease, to.at) = (to.lease + 1, At::Scans);
    }

    /// Nobody sends, and nothing can come any more.
    fn ends(state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let mut next = *state;
        next.actors[me] = Actor { at: At::Done, ..idle() };
        if state.slots != 0 || state.is_open() {
            return out.wrong(me, "is disconnected", "a message may come yet");
        }
        out.go(me, "is disconnected", next);
    }

    fn sweep(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let index = usize::from(actor.lease);
        let lease = state.leases[index.min(MOST - 1)];
        let mut next = *state;
        let to = &mut next.actors[me];
        let what = match actor.at {
            At::Sweeps => return self.latch(state, me, RECEIVERS, At::SweepLatchesStore, out),
            At::SweepLatchesStore => return self.latch(state, me, STORE, At::SweepsSlots, out),
            At::SweepsSlots => {
                (to.used, to.lease, to.at) = (state.slots, 0, At::SweepsLeases);
                "sweeps the slots"
            }
            At::SweepsLeases if index == self.leases => {
                to.at = At::WritesBits;
                "has swept all leases"
            }
            At::SweepsLeases => {
                let gone = state.is_gone(lease.owner) || self.mutant == Mutant::SweepsTheLiving;
                if lease.state == Of::Done && gone {
                    to.at = At::SweepForgets;
                } else {
                    to.used |= if lease.state != Of::Free && lease.pages { bit(lease.id) } else { 0 };
                    to.lease += 1;
                }
                "sweeps a lease"
            }
            At::SweepForgets => {
                next.leases[index].pages = false;
                to.at = At::SweepFrees;
                "makes a lease forget what its owner was freeing"
            }
            At::SweepFrees => {
                next.leases[index].state = Of::Free;
                to.lease += 1;
                to.at = At::SweepsLeases;
                "frees the lease"
            }
            At::WritesBits => {
                next.bits = actor.used;
                to.used = 0;
                to.at = At::Cleans;
                "writes the bitmap"
            }
            At::Cleans => {
                next.dirty = false;
                to.at = At::SweepUnlatchesStore;
                "says that all is clean"
            }
            At::SweepUnlatchesStore => {
                next.latches[STORE] = 0;
                to.at = At::SweepUnlatches;
                "unlatches the store"
            }
            At::SweepUnlatches => {
                next.latches[RECEIVERS] = 0;
                *to = idle();
                "unlatches"
            }
            _ => return,
        };
        out.go(me, what, next);
    }
}
