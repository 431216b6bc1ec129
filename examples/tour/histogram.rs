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
//! Each worker has a row that says what it has added. A worker that is lost before it has handed over has its units
//! counted again by others, and [`Histogram::set_back`] takes out what its row has too much.

use ipc::shm::zerocopy::{FromBytes, Immutable, IntoBytes};
use ipc::shm::{Array, ArrayGuard, Value};
use ipc::sync::{LockError, Owner};
use serde::{Deserialize, Serialize};

use crate::count::{LENGTHS, Lengths};
use crate::ledger::WorkerId;

/// A handle: in a worker's arguments, it is the same histogram there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Histogram {
    /// The histogram itself. Its lock protects all three.
    sum: Array<u64>,
    /// What each worker has added, one row after the other.
    rows: Array<u64>,
    /// What was written last, or is to be.
    journal: Value<Entry>,
}

/// What one change makes of the histogram and of one row.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[zerocopy(crate = "ipc::shm::zerocopy")]
#[repr(C)]
struct Entry {
    worker: u64,
    sum: Lengths,
    row: Lengths,
}

impl Histogram {
    /// An empty one, for workers of the ids below `worker_count`.
    pub(crate) fn new(worker_count: usize) -> ipc::Result<Self> {
        // What it says can be done at any time: nothing.
        let nothing = Entry { worker: 0, sum: [0; LENGTHS], row: [0; LENGTHS] };
        Ok(Histogram {
            sum: Array::new(LENGTHS)?,
            rows: Array::new(worker_count * LENGTHS)?,
            journal: Value::new(nothing)?,
        })
    }

    /// Adds what a worker has found in a unit. `half_way` is called when the first half of it is there. Gives whose
    /// death was repaired before, if there was one.
    pub(crate) fn add(
        &self,
        worker: WorkerId,
        found: &Lengths,
        half_way: impl FnOnce(),
    ) -> ipc::Result<Option<Owner>> {
        self.change(worker, |row| std::array::from_fn(|n| row[n] + found[n]), half_way)
    }

    /// Takes out what a worker has added beyond `row`. Gives whose death was repaired before.
    pub(crate) fn set_back(&self, worker: WorkerId, row: &Lengths) -> ipc::Result<Option<Owner>> {
        self.change(worker, |_| *row, || ())
    }

    /// What a worker has added.
    pub(crate) fn row(&self, worker: WorkerId) -> ipc::Result<Lengths> {
        let mut row = [0; LENGTHS];
        self.rows.read_into(worker * LENGTHS, &mut row)?;
        Ok(row)
    }

    /// What all have added.
    pub(crate) fn sum(&self) -> ipc::Result<Lengths> {
        let (guard, _) = self.lock()?;
        let mut sum = [0; LENGTHS];
        guard.read_into(0, &mut sum)?;
        Ok(sum)
    }

    /// Makes another row of a worker's, and the sum what it is then.
    fn change(
        &self,
        worker: WorkerId,
        other: impl FnOnce(&Lengths) -> Lengths,
        half_way: impl FnOnce(),
    ) -> ipc::Result<Option<Owner>> {
        let (guard, repaired) = self.lock()?;
        let before = self.row(worker)?;
        let row = other(&before);
        let mut sum = [0; LENGTHS];
        guard.read_into(0, &mut sum)?;
        let sum = std::array::from_fn(|n| sum[n] + row[n] - before[n]);
        let entry = Entry { worker: worker as u64, sum, row };
        // From here on it counts.
        self.journal.set(entry)?;
        self.carry_out(&guard, &entry, half_way)?;
        Ok(repaired)
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
        self.rows.write(entry.worker as usize * LENGTHS, &entry.row)?;
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
    fn die_half_way(histogram: Histogram, worker: WorkerId, found: u64) {
        let _unreached = histogram.add(worker, &each(found), || std::process::exit(3));
    }

    #[test]
    fn what_a_dead_process_had_begun_is_finished() {
        let histogram = Histogram::new(2).unwrap();
        assert_eq!(histogram.add(0, &each(1), || ()).unwrap(), None);

        let worker = Process::spawn(die_half_way, (histogram.clone(), 1, 10)).unwrap();
        let pid = worker.id();
        worker.join().unwrap_err();
        assert_eq!(histogram.sum.to_vec(), [[11; LENGTHS / 2], [1; LENGTHS / 2]].concat());

        let repaired = histogram.add(0, &each(100), || ()).unwrap();
        assert_eq!(repaired.and_then(Owner::pid), Some(pid));
        assert_eq!(histogram.sum().unwrap(), each(111));
        assert_eq!([0, 1].map(|worker| histogram.row(worker).unwrap()), [each(101), each(10)]);
        assert_eq!(histogram.add(1, &each(0), || ()).unwrap(), None, "told once");
    }

    #[test]
    fn what_a_lost_worker_did_not_hand_over_is_taken_out() {
        let histogram = Histogram::new(2).unwrap();
        histogram.add(1, &each(1), || ()).unwrap();
        let handed_over = histogram.row(1).unwrap();
        histogram.add(0, &each(10), || ()).unwrap();
        histogram.add(1, &each(100), || ()).unwrap();

        // The death is told, and what it had begun is finished before it is taken out.
        let worker = Process::spawn(die_half_way, (histogram.clone(), 1, 1000)).unwrap();
        worker.join().unwrap_err();
        assert!(histogram.set_back(1, &handed_over).unwrap().is_some());
        assert_eq!(histogram.sum().unwrap(), each(11));
        assert_eq!(histogram.set_back(1, &handed_over).unwrap(), None);
        assert_eq!(histogram.sum().unwrap(), each(11), "once more changes nothing");
    }
}
