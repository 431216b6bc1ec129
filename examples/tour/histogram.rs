//! How long the words are: an array in shared memory that all workers add to, under its lock.
//!
//! A worker that is killed half way through adding leaves an array in which a part is new and the rest is old. So it
//! first writes what is to be there afterwards (an [`Entry`]) into a journal: a `Value`, which is never seen half
//! written.
//!
//! | killed while it has the lock  | then                                                                           |
//! |-------------------------------|--------------------------------------------------------------------------------|
//! | before the entry is there     | nothing has happened                                                           |
//! | after that                    | it counts: whoever takes the lock next is told, and does what the entry says   |
//!
//! What the entry says may have been done already; doing it again changes nothing. So a repairer may be killed, too.
//!
//! A unit may be delivered a second time, when a worker has died before it could say that it was done. So it is noted
//! which units are in the histogram already, by the same entry: adding one of them again changes nothing.

use ipc::shm::zerocopy::{FromBytes, Immutable, IntoBytes};
use ipc::shm::{Array, ArrayGuard, Value};
use ipc::sync::{LockError, Owner};
use serde::{Deserialize, Serialize};

use crate::count::{LENGTHS, Lengths};

/// A handle: in a worker's arguments, it is the same histogram there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Histogram {
    /// The histogram itself. Its lock protects all three.
    sum: Array<u64>,
    /// For each unit, whether it is in the histogram: 0 or 1.
    is_added: Array<u8>,
    /// What was written last, or is to be.
    journal: Value<Entry>,
}

/// What one change makes of the histogram, and which unit is in it then.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[zerocopy(crate = "ipc::shm::zerocopy")]
#[repr(C)]
struct Entry {
    unit: u64,
    sum: Lengths,
}

impl Histogram {
    /// An empty one, for units of the numbers below `unit_count`.
    pub(crate) fn new(unit_count: usize) -> ipc::Result<Self> {
        // What it says can be done at any time: that number is no unit's.
        let nothing = Entry { unit: unit_count as u64, sum: [0; LENGTHS] };
        Ok(Histogram {
            sum: Array::new(LENGTHS)?,
            is_added: Array::new(unit_count + 1)?,
            journal: Value::new(nothing)?,
        })
    }

    /// Adds what was found in a unit, unless that is there already. `half_way` is called when the first half of it is
    /// written. Gives whose death was repaired before, if there was one.
    pub(crate) fn add(
        &self,
        unit: usize,
        found: &Lengths,
        half_way: impl FnOnce(),
    ) -> ipc::Result<Option<Owner>> {
        let (guard, repaired) = self.lock()?;
        if self.is_added.get(unit)? == 0 {
            let mut sum = [0; LENGTHS];
            guard.read_into(0, &mut sum)?;
            let entry = Entry { unit: unit as u64, sum: std::array::from_fn(|n| sum[n] + found[n]) };
            // From here on it counts.
            self.journal.set(entry)?;
            self.carry_out(&guard, &entry, half_way)?;
        }
        Ok(repaired)
    }

    /// What all have added. Also gives whose death was repaired before.
    pub(crate) fn sum(&self) -> ipc::Result<(Lengths, Option<Owner>)> {
        let (guard, repaired) = self.lock()?;
        let mut sum = [0; LENGTHS];
        guard.read_into(0, &mut sum)?;
        Ok((sum, repaired))
    }

    /// Does what the entry says.
    fn carry_out(
        &self,
        guard: &ArrayGuard<'_, u64>,
        entry: &Entry,
        half_way: impl FnOnce(),
    ) -> ipc::Result<()> {
        let (first, second) = entry.sum.split_at(LENGTHS / 2);
        guard.write(0, first)?;
        half_way();
        guard.write(first.len(), second)?;
        self.is_added.set(entry.unit as usize, 1)?;
        Ok(())
    }

    /// Takes the lock. If its owner has died, this repairs what it left, and says whose death it was.
    fn lock(&self) -> ipc::Result<(ArrayGuard<'_, u64>, Option<Owner>)> {
        match self.sum.lock() {
            Err(LockError::OwnerDied { .. }) => {}
            other => return Ok((other?, None)),
        }
        let guard = self.sum.recover()?;
        // Of several who were told, one is the first; the others find it done.
        let died = guard.died();
        if died.is_some() {
            self.carry_out(&guard, &self.journal.get(), || ())?;
            guard.repaired();
        }
        Ok((guard, died))
    }
}

#[cfg(test)]
mod tests {
    use ipc::Process;

    use super::*;

    /// So much of each length.
    fn each(count: u64) -> Lengths {
        [count; LENGTHS]
    }

    /// Ends while it has the lock, with one half of the sum written.
    fn die_half_way(histogram: Histogram, unit: usize, found: u64) {
        let _unreached = histogram.add(unit, &each(found), || std::process::exit(3));
    }

    /// Ends while it has the lock, and has changed nothing.
    fn die_at_once(histogram: Histogram) {
        let _guard = histogram.sum.lock();
        std::process::exit(3);
    }

    #[test]
    fn a_unit_counts_once() {
        let histogram = Histogram::new(2).unwrap();
        for (unit, found, sum) in [(1, 10, 10), (0, 1, 11), (1, 10, 11), (0, 1, 11)] {
            assert_eq!(histogram.add(unit, &each(found), || ()).unwrap(), None);
            assert_eq!(histogram.sum().unwrap(), (each(sum), None));
        }
    }

    #[test]
    fn what_a_dead_process_had_begun_is_finished_and_not_done_again() {
        let histogram = Histogram::new(3).unwrap();
        histogram.add(0, &each(1), || ()).unwrap();

        let worker = Process::spawn(die_half_way, (histogram.clone(), 1, 10)).unwrap();
        let pid = worker.id();
        worker.join().unwrap_err();
        assert_eq!(histogram.sum.to_vec(), [[11; LENGTHS / 2], [1; LENGTHS / 2]].concat());

        // Its unit comes again.
        let repaired = histogram.add(1, &each(10), || ()).unwrap();
        assert_eq!(repaired.and_then(Owner::pid), Some(pid));
        assert_eq!(histogram.sum().unwrap(), (each(11), None), "told once");
        histogram.add(2, &each(100), || ()).unwrap();
        assert_eq!(histogram.sum().unwrap(), (each(111), None));
    }

    #[test]
    fn who_dies_before_its_entry_is_there_has_added_nothing() {
        for added in [None, Some(1)] {
            let histogram = Histogram::new(2).unwrap();
            if let Some(unit) = added {
                histogram.add(unit, &each(10), || ()).unwrap();
            }
            Process::spawn(die_at_once, (histogram.clone(),)).unwrap().join().unwrap_err();
            assert!(histogram.add(0, &each(1), || ()).unwrap().is_some());
            assert_eq!(histogram.sum().unwrap(), (each(if added.is_some() { 11 } else { 1 }), None));
        }
    }
}
