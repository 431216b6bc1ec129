//! What has to hold when all workers have ended.

use ipc_sync::{LockError, WaitError, reclaim};

use crate::shared::{Counted, PERMITS, ROWS, Shared, Slot, is_whole, repair};
use crate::traffic;
use crate::work::{is_table, on_table};

/// All that is wrong. `kills`: how often the process of each row was killed.
pub(crate) fn all(shared: &Shared, kills: &[u64; ROWS]) -> Vec<String> {
    let mut check = Check { shared, kills, wrong: Vec::new() };
    for counted in Counted::ALL {
        check.attempts(counted);
    }
    check.under_locks();
    check.rows(Counted::Value, &shared.value.get());
    check.number();
    check.semaphores();
    check.barrier();
    check.traffic();
    check.names();
    check.wrong
}

struct Check<'a> {
    shared: &'a Shared,
    kills: &'a [u64; ROWS],
    wrong: Vec<String>,
}

impl Check<'_> {
    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    fn attempts_and_done(&self, row: usize, counted: Counted) -> (u64, u64) {
        let journal = &self.shared.journal;
        (journal.get(row, Slot::Attempts(counted)), journal.get(row, Slot::Done(counted)))
    }

    fn attempts(&mut self, counted: Counted) {
        for (row, kills) in self.kills.iter().enumerate() {
            let (attempts, done) = self.attempts_and_done(row, counted);
            self.must(done <= attempts && attempts - done <= *kills, || {
                format!("{counted:?}, row {row}: {attempts} attempts, {done} done, {kills} kills")
            });
        }
    }

    /// A total and its rows.
    fn rows(&mut self, counted: Counted, counts: &[u64]) {
        self.must(is_whole(counts), || format!("{counted:?}: the total is not that of the rows: {counts:?}"));
        for (row, count) in counts[1..].iter().enumerate() {
            self.row(counted, row, *count);
        }
    }

    fn row(&mut self, counted: Counted, row: usize, count: u64) {
        let (attempts, done) = self.attempts_and_done(row, counted);
        self.must((done..=attempts).contains(&count), || {
            format!("{counted:?}, row {row}: {count} counted, {done} done, {attempts} attempts")
        });
    }

    /// What is left half changed by the last who died is repaired as a worker would have.
    fn under_locks(&mut self) {
        let shared = self.shared;
        let taken = shared.lock.recover().map(|guard| (guard.died().is_some(), shared.locked.to_vec()));
        self.counts("lock", Counted::Lock, taken);
        let taken = shared.array.recover().map(|guard| (guard.died().is_some(), guard.to_vec()));
        self.counts("array", Counted::Array, taken);
        let taken = shared.mutex.recover().map(|guard| (guard.died().is_some(), guard.get().to_vec()));
        self.counts("mutex", Counted::Mutex, taken);
        let taken = shared.rwlock.recover().map(|guard| (guard.died().is_some(), guard.get().to_vec()));
        self.counts("rwlock", Counted::RwLock, taken);

        let taken = shared.condition.lock().recover();
        self.taken("condition", &taken);
        if let Ok(guard) = &taken {
            let mut table = shared.table.to_vec();
            if guard.died().is_some() {
                table[0] = on_table(&table);
            }
            self.must(is_table(&table), || format!("the table: {table:?}"));
            for row in 0..ROWS {
                self.row(Counted::Put, row, table[1 + 2 * row]);
                self.row(Counted::Take, row, table[2 + 2 * row]);
            }
            self.must(shared.condition.waiting() == 0, || "all have ended, and somebody waits".into());
        }

        let taken = shared.reentrant.try_lock();
        self.taken("reentrant", &taken);
    }

    /// Whether somebody died with the lock, and the counts under it.
    fn counts(&mut self, name: &str, counted: Counted, taken: Result<(bool, Vec<u64>), LockError>) {
        self.taken(name, &taken);
        if let Ok((died, mut counts)) = taken {
            if died {
                repair(&mut counts);
            }
            self.rows(counted, &counts);
        }
    }

    fn taken<G>(&mut self, name: &str, taken: &Result<G, LockError>) {
        if let Err(error) = taken {
            self.wrong.push(format!("{name}: all have ended, and it cannot be taken: {error:?}"));
        }
    }

    fn number(&mut self) {
        let journal = &self.shared.journal;
        let (attempts, done) =
            (journal.sum(Slot::Attempts(Counted::Number)), journal.sum(Slot::Done(Counted::Number)));
        let number = self.shared.number.get();
        self.must((done..=attempts).contains(&number), || {
            format!("the number is {number}; {done} done, {attempts} attempts")
        });
    }

    fn semaphores(&mut self) {
        let said = self.shared.permits.available();
        let mut permits = Vec::new();
        while permits.len() < 100 {
            match self.shared.permits.try_acquire() {
                Ok(permit) => permits.push(permit),
                Err(WaitError::WouldBlock) => break,
                Err(error) => {
                    self.wrong.push(format!("a permit cannot be had: {error:?}"));
                    break;
                }
            }
        }
        self.must(permits.len() == PERMITS as usize, || format!("{} permits of {PERMITS}", permits.len()));
        self.must(said == PERMITS, || format!("{said} permits were said to be free, of {PERMITS}"));

        let journal = &self.shared.journal;
        let attempts = |counted| journal.sum(Slot::Attempts(counted));
        let done = |counted| journal.sum(Slot::Done(counted));
        let least = done(Counted::Release).saturating_sub(attempts(Counted::Forget));
        let most = attempts(Counted::Release).saturating_sub(done(Counted::Forget));
        let signals = u64::from(self.shared.signals.available());
        self.must((least..=most).contains(&signals), || {
            format!("{signals} signals are left, and not {least} to {most}")
        });
    }

    fn barrier(&mut self) {
        let journal = &self.shared.journal;
        let (first, second) = (journal.sum(Slot::First), journal.sum(Slot::Second));
        let kills: u64 = self.kills.iter().sum();
        self.must(first.abs_diff(second) <= kills, || {
            format!("{first} have met as the first, and {second} as the second; {kills} kills")
        });
    }

    fn traffic(&mut self) {
        if let Err(wrong) = traffic::drain(self.shared) {
            self.wrong.push(format!("in the queues: {wrong}"));
            return;
        }
        let cut_off = |what| {
            let journal = &self.shared.journal;
            journal.sum(Slot::Attempts(what)) - journal.sum(Slot::Done(what))
        };
        let attempts = |row, what| self.shared.journal.get(row, Slot::Attempts(what));
        let unseen = |row| self.shared.queue.unseen(row, attempts(row, Counted::Send));
        let (lost, most) =
            ((0..ROWS).map(unseen).sum::<u64>(), cut_off(Counted::Send) + cut_off(Counted::Receive));
        let undone = |row| self.shared.jobs.unseen(row, attempts(row, Counted::Order));
        let (undone, unsent) = ((0..ROWS).map(undone).sum::<u64>(), cut_off(Counted::Order));
        self.must(lost <= most, || {
            format!("{lost} messages have not come, and {most} were cut off as they were sent or received")
        });
        self.must(undone <= unsent, || {
            format!("{undone} jobs were not done, and {unsent} were cut off as they were sent")
        });
    }

    fn names(&mut self) {
        if let Err(error) = reclaim() {
            self.wrong.push(format!("names cannot be reclaimed: {error}"));
        }
        let Some(base) = std::env::var_os("IPC_RUNTIME_DIR") else { return };
        for user in std::fs::read_dir(base).into_iter().flatten().flatten() {
            let left = std::fs::read_dir(user.path()).map_or(0, Iterator::count);
            self.must(left == 0, || format!("{left} names are left after all have ended"));
        }
    }
}
