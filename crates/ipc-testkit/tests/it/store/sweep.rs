//! The sweep, which finds out anew what is in use.

use ipc_testkit::model::Steps;

use super::{At, Mutant, RECEIVERS, SENDERS, STORE, State, Store};

impl<const N: usize> Store<N> {
    pub(super) fn sweep(&self, state: &State<N>, me: usize, out: &mut Steps<State<N>>) {
        let actor = state.actors[me];
        let index = usize::from(actor.index);
        let mut next = *state;
        let to = &mut next.actors[me];
        let bit = |page: u8| page.checked_sub(1).map_or(0, |page| 1_u8 << page);
        let what = match actor.at {
            At::SweepLatchesSenders => {
                return self.latch(state, me, SENDERS, At::SweepLatchesReceivers, out);
            }
            At::SweepLatchesReceivers => {
                return self.latch(state, me, RECEIVERS, At::SweepLatchesStore, out);
            }
            At::SweepLatchesStore => {
                (to.index, to.used) = (0, 0);
                return self.latch(&next, me, STORE, At::SweepsSlots, out);
            }
            At::SweepsSlots => {
                to.used |= bit(state.slots[index]);
                to.index += 1;
                if index + 1 == self.slots {
                    (to.index, to.at) = (0, At::SweepsPlaces);
                }
                "sweeps a slot"
            }
            At::SweepsPlaces if index == self.places => {
                to.at = At::WritesBits;
                "has swept all places"
            }
            At::SweepsPlaces => {
                let (owner, page) = state.places[index];
                if state.is_gone(owner) && self.mutant != Mutant::SparesTheDead {
                    to.at = At::Empties;
                } else {
                    to.used |= if owner > 0 { bit(page) } else { 0 };
                    to.index += 1;
                }
                "sweeps a place"
            }
            At::Empties => {
                next.places[index].1 = 0;
                to.at = At::FreesPlace;
                "empties the place of one who is gone"
            }
            At::FreesPlace => {
                next.places[index].0 = 0;
                to.index += 1;
                to.at = At::SweepsPlaces;
                "frees the place of one who is gone"
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
                return self.unlatch(state, me, STORE, At::SweepUnlatchesReceivers, out);
            }
            At::SweepUnlatchesReceivers => {
                return self.unlatch(state, me, RECEIVERS, At::SweepUnlatchesSenders, out);
            }
            At::SweepUnlatchesSenders => return self.unlatch(state, me, SENDERS, At::Begins, out),
            _ => return,
        };
        out.go(me, what, next);
    }
}
