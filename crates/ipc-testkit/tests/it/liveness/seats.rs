//! How processes come to a seat, and how it is known that they have left it.

use ipc_testkit::model::Steps;

use super::{At, Board, Mutant, Seat, State, wake_one};
use crate::world::{OWNER_DIED, WAITERS};

impl Board {
    pub(super) fn attach(&self, state: &State, me: usize, out: &mut Steps<State>) {
        let actor = state.actors[me];
        let mutant = self.mutant;
        let at = usize::from(actor.seat);
        let mut next = *state;
        match actor.at {
            At::Attach => {
                for (number, seat) in state.seats.iter().enumerate().filter(|(_, seat)| seat.byte == 0) {
                    let mut next = *state;
                    let to = &mut next.actors[me];
                    to.seat = number as u8;
                    if mutant == Mutant::CommitsBeforeByte {
                        to.epoch = seat.epoch + 1;
                        to.at = At::Commits;
                        next.seats[number].epoch = seat.epoch + 1;
                        next.seats[number].live = 0;
                        out.go(me, "commits the seat's next epoch", next);
                        continue;
                    }
                    next.seats[number].byte = me as u8 + 1;
                    let reuses = mutant == Mutant::ReusesBeforeGone;
                    to.at = if reuses { At::ZeroesLive } else { At::StoresGone };
                    out.go(me, "locks a seat's byte", next);
                }
                if out.is_quiet() {
                    next.actors[me].at = At::Done;
                    out.go(me, "finds no seat", next);
                }
            }
            At::StoresGone => {
                let Seat { gone, epoch, .. } = state.seats[at];
                next.seats[at].gone = gone.max(epoch);
                next.actors[me].at = if mutant == Mutant::ZeroesLate { At::Commits } else { At::ZeroesLive };
                out.go(me, "stores gone", next);
            }
            At::ZeroesLive => {
                let epoch = state.seats[at].epoch;
                let was_dead = epoch > 0 && self.is_dead(state, at, epoch);
                next.seats[at].live = 0;
                let late = mutant == Mutant::ZeroesLate;
                next.actors[me].at = if late { At::Registers } else { At::Commits };
                if was_dead && !late && !self.is_dead(&next, at, epoch) {
                    return out.wrong(me, "zeroes the live word", "who was dead is not dead any more");
                }
                out.go(me, "zeroes the live word", next);
            }
            At::Commits if mutant == Mutant::CommitsBeforeByte => {
                if state.seats[at].byte == 0 && state.seats[at].epoch == actor.epoch {
                    next.seats[at].byte = me as u8 + 1;
                    next.actors[me].at = At::Registers;
                } else {
                    next.actors[me].at = At::Done;
                }
                out.go(me, "locks its byte", next);
            }
            At::Commits => {
                next.seats[at].epoch += 1;
                next.actors[me].epoch = next.seats[at].epoch;
                next.actors[me].at = match mutant {
                    Mutant::ArmsLate if !self.idle => At::Load,
                    Mutant::ZeroesLate => At::ZeroesLive,
                    _ => At::Registers,
                };
                out.go(me, "commits its epoch", next);
            }
            At::Registers => {
                next.seats[at].live = (me as u8 + 1) << 3;
                next.actors[me].at = At::Arms;
                out.go(me, "stores its thread id", next);
            }
            _ => {
                next.actors[me].armed = true;
                let idles = self.idle && me >= self.attached;
                next.actors[me].at = match mutant {
                    _ if idles => At::Done,
                    Mutant::ArmsLate => At::Holds,
                    _ => At::Load,
                };
                out.go(me, "points the kernel there", next);
            }
        }
    }

    pub(super) fn patrol(&self, state: &State, me: usize, out: &mut Steps<State>) {
        let (seat, epoch) = self.named(state, state.actors[me].seen).expect("an owner is waited for");
        let mut next = *state;
        let to = &mut next.actors[me];
        match state.actors[me].at {
            At::PatrolEpoch => {
                to.at = if state.seats[seat].epoch == epoch { At::PatrolByte } else { At::Load };
                out.go(me, "patrols: the epoch", next);
            }
            At::PatrolByte => {
                to.at = if state.seats[seat].byte == 0 { At::PatrolStores } else { At::Load };
                out.go(me, "patrols: the byte", next);
            }
            At::PatrolStores => {
                let current = self.mutant == Mutant::PatrolStoresCurrent;
                let gone = if current { state.seats[seat].epoch } else { epoch };
                to.at = At::PatrolWakes;
                next.seats[seat].gone = state.seats[seat].gone.max(gone);
                out.go(me, "patrols: stores gone", next);
            }
            _ => {
                to.at = At::Load;
                next.wake_all(seat);
                out.go(me, "patrols: wakes all who watch", next);
            }
        }
    }

    pub(super) fn bury(&self, state: &State, me: usize, out: &mut Steps<State>) {
        let actor = state.actors[me];
        let seat = usize::from(actor.seat);
        let mut next = *state;
        match actor.at {
            At::Killed => {
                next.leave(me);
                next.actors[me].at = At::Torn;
                let live = state.seats[seat].live;
                if actor.armed && live >> 3 == me as u8 + 1 {
                    if self.lossy {
                        out.may(me, "its flag is lost", next);
                    }
                    next.seats[seat].live = OWNER_DIED | live & WAITERS;
                    if live & WAITERS != 0 {
                        next.actors[me].at = At::Flagged;
                    }
                }
                out.go(me, "its threads are gone", next);
            }
            At::Flagged => wake_one(state, seat, me, "the kernel wakes a watcher", At::Torn, out),
            _ => {
                if state.seats[seat].byte == me as u8 + 1 {
                    next.seats[seat].byte = 0;
                }
                next.actors[me].at = At::Done;
                out.go(me, "its byte is free", next);
            }
        }
    }
}
