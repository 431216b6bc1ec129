//! What a worker does, one thing after the other, until it is killed. A violation is a panic.

use std::fmt::Debug;
use std::time::Duration;

use ipc_core::{Classify, ErrorKind};
use ipc_sync::{BarrierError, LockError, LockGuard, Owner, Semaphore, WaitError};

use crate::shared::{Counted, Random, Shared, Slot, is_whole, now, repair};
use crate::traffic::{self, Message, message};

/// A thing that workers do.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    run: fn(&mut Worker),
}

/// Everything that workers do.
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "lock", run: Worker::lock },
    Kind { name: "reentrant", run: Worker::reentrant },
    Kind { name: "value", run: Worker::value },
    Kind { name: "number", run: Worker::number },
    Kind { name: "array", run: Worker::array },
    Kind { name: "mutex", run: Worker::mutex },
    Kind { name: "rwlock", run: Worker::rwlock },
    Kind { name: "semaphore/permits", run: Worker::permit },
    Kind { name: "semaphore/signals", run: Worker::signal },
    Kind { name: "event", run: Worker::event },
    Kind { name: "condition", run: Worker::condition },
    Kind { name: "barrier", run: Worker::barrier },
    Kind { name: "named", run: Worker::named },
    Kind { name: "queue", run: Worker::queue },
    Kind { name: "work_queue", run: Worker::job },
];

/// Runs in a process of its own.
pub(crate) fn work(shared: Shared, row: usize, kinds: Vec<String>, seed: u64) {
    let kinds: Vec<(usize, &Kind)> =
        KINDS.iter().enumerate().filter(|(_, kind)| kinds.iter().any(|name| name == kind.name)).collect();
    let mut worker = Worker { shared, row, random: Random(seed) };
    while !worker.shared.journal.has_stopped() {
        let (index, kind) = kinds[worker.random.below(kinds.len() as u64) as usize];
        worker.shared.journal.set(row, Slot::Doing, index as u64);
        worker.shared.journal.set(row, Slot::Since, now());
        (kind.run)(&mut worker);
    }
    worker.shared.journal.set(row, Slot::Since, 0);
}

struct Worker {
    shared: Shared,
    row: usize,
    random: Random,
}

impl Worker {
    fn attempt(&self, what: Counted) {
        self.shared.journal.add(self.row, Slot::Attempts(what), 1);
    }

    fn done(&self, what: Counted) {
        self.shared.journal.add(self.row, Slot::Done(what), 1);
    }

    /// One more in this worker's row, and in the total.
    fn count(&self, counts: &mut [u64]) {
        counts[1 + self.row] += 1;
        counts[0] += 1;
    }

    /// A moment, so that others come in between, and kills.
    fn dawdle(&mut self) {
        // Up to 4 µs; sometimes to 400, in which others fall asleep, and a core may be taken away.
        let turns = if self.random.below(8) == 0 { 20_000 } else { 200 };
        for _ in 0..self.random.below(turns) {
            std::hint::spin_loop();
        }
        if turns > 200 {
            std::thread::yield_now();
        }
    }

    /// It was told of this death, in a call that began at `start`.
    fn told(&self, owner: Owner, start: u64) {
        let journal = &self.shared.journal;
        journal.add(self.row, Slot::Recoveries, 1);
        // Forgotten only when seven others have taken its seat since.
        let Some(pid) = owner.pid() else { return };
        let Some(killed) = journal.killed_at(pid) else { panic!("told of the death of {pid}, which lives") };
        let waited = now().saturating_sub(killed.max(start));
        if waited > journal.get(self.row, Slot::Worst) {
            journal.set(self.row, Slot::Worst, waited);
        }
    }

    /// What a lock of that kind says to be wrong, other than a death.
    fn death(&self, error: LockError, start: u64) {
        match error {
            LockError::OwnerDied { owner } => self.told(owner, start),
            other => panic!("a lock was refused: {other:?}"),
        }
    }

    /// What guards a lock that was taken in a call that began at `start`; or after a death, that `recover` gives.
    fn guard<G>(
        &self,
        start: u64,
        taken: Result<G, LockError>,
        recover: impl FnOnce() -> Result<G, LockError>,
    ) -> G {
        taken.unwrap_or_else(|error| {
            self.death(error, start);
            recover().expect("it can be recovered")
        })
    }

    fn lock(&mut self) {
        self.attempt(Counted::Lock);
        let start = now();
        let shared = self.shared.clone();
        let guard = self.guard(start, shared.lock.lock(), || shared.lock.recover());
        let table = &shared.locked;
        let mut counts = table.to_vec();
        if guard.died().is_some() {
            repair(&mut counts);
            table.set(0, counts[0]).expect("there is one");
            guard.repaired();
        }
        assert!(is_whole(&counts), "nobody has died, and the sum is wrong: {counts:?}");
        self.dawdle();
        table.set(1 + self.row, counts[1 + self.row] + 1).expect("a row for each");
        self.dawdle();
        table.set(0, counts[0] + 1).expect("there is one");
        drop(guard);
        self.done(Counted::Lock);
    }

    fn reentrant(&mut self) {
        self.attempt(Counted::Reentrant);
        let shared = self.shared.clone();
        let me = u64::from(std::process::id());
        let outer = shared.reentrant.lock().expect("it passes silently");
        assert_eq!(outer.depth(), 1, "the first");
        shared.holder.set(me).expect("a number");
        let inner = shared.reentrant.lock().expect("it is this thread's");
        self.dawdle();
        assert_eq!((inner.depth(), shared.holder.get()), (2, me), "somebody else has it too");
        drop((inner, outer));
        self.done(Counted::Reentrant);
    }

    fn value(&mut self) {
        self.attempt(Counted::Value);
        let counts = self.shared.value.get();
        assert!(is_whole(&counts), "torn: {counts:?}");
        let before = self.shared.value.update(|mut counts| {
            self.count(&mut counts);
            counts
        });
        let before = before.expect("it passes silently");
        assert!(is_whole(&before), "torn: {before:?}");
        self.done(Counted::Value);
    }

    fn number(&mut self) {
        self.attempt(Counted::Number);
        self.shared.number.fetch_add(1);
        self.done(Counted::Number);
    }

    fn array(&mut self) {
        self.attempt(Counted::Array);
        let start = now();
        let shared = self.shared.clone();
        let guard = self.guard(start, shared.array.lock(), || shared.array.recover());
        if guard.died().is_some() {
            guard.set(0, guard.to_vec()[1..].iter().sum()).expect("there is one");
            guard.repaired();
        }
        let mut counts = guard.to_vec();
        assert!(is_whole(&counts), "nobody has died, and the sum is wrong: {counts:?}");
        self.count(&mut counts);
        guard.write(0, &counts).expect("it is as long");
        drop(guard);
        self.done(Counted::Array);
    }

    fn mutex(&mut self) {
        self.attempt(Counted::Mutex);
        let start = now();
        let shared = self.shared.clone();
        let guard = self.guard(start, shared.mutex.lock(), || shared.mutex.recover());
        let mut counts = guard.get();
        if guard.died().is_some() {
            repair(&mut counts);
            guard.set(counts);
            guard.repaired();
        }
        assert!(is_whole(&counts), "nobody has died, and the sum is wrong: {counts:?}");
        self.count(&mut counts);
        guard.set(counts);
        drop(guard);
        self.done(Counted::Mutex);
    }

    fn rwlock(&mut self) {
        let start = now();
        let shared = self.shared.clone();
        if self.random.below(3) != 0 {
            match shared.rwlock.read() {
                Ok(guard) => {
                    let before = guard.get();
                    self.dawdle();
                    assert!(
                        is_whole(&before) && guard.get() == before,
                        "written while one reads: {before:?}"
                    );
                    return;
                }
                Err(error) => self.death(error, start),
            }
        }
        self.attempt(Counted::RwLock);
        let start = now();
        let guard = self.guard(start, shared.rwlock.write(), || shared.rwlock.recover());
        let mut counts = guard.get();
        if guard.died().is_some() {
            repair(&mut counts);
            guard.set(counts);
            guard.repaired();
        }
        assert!(is_whole(&counts), "nobody has died, and the sum is wrong: {counts:?}");
        self.count(&mut counts);
        guard.set(counts);
        drop(guard);
        self.done(Counted::RwLock);
    }

    fn permit(&mut self) {
        self.attempt(Counted::Permit);
        let permit = self.shared.permits.acquire().expect("it comes back from the dead");
        self.dawdle();
        drop(permit);
        self.done(Counted::Permit);
    }

    fn signal(&mut self) {
        if self.random.below(2) == 0 {
            self.attempt(Counted::Release);
            self.shared.signals.release().expect("far from the bound");
            self.done(Counted::Release);
            return;
        }
        match self.shared.signals.acquire_timeout(Duration::from_micros(self.random.below(3_000))) {
            Ok(permit) => {
                self.attempt(Counted::Forget);
                permit.forget();
                self.done(Counted::Forget);
            }
            Err(WaitError::Timeout) => {}
            Err(other) => panic!("a permit was refused: {other:?}"),
        }
    }

    fn event(&mut self) {
        self.attempt(Counted::Event);
        match self.random.below(3) {
            0 => self.shared.event.set(),
            1 => _ = self.shared.event.clear(),
            _ => match self.shared.event.wait_timeout(Duration::from_micros(self.random.below(3_000))) {
                Ok(()) | Err(WaitError::Timeout) => {}
                Err(other) => panic!("a wait was refused: {other:?}"),
            },
        }
        self.done(Counted::Event);
    }

    /// On the table: at most so many things.
    fn condition(&mut self) {
        const ROOM: u64 = 3;
        let shared = self.shared.clone();
        let puts = self.random.below(2) == 0;
        let fits = |table: &[u64]| if puts { table[0] < ROOM } else { table[0] > 0 };
        let start = now();
        let guard = match shared.condition.lock().lock() {
            Ok(guard) => guard,
            Err(error) => return self.repair_table(&shared, error, start),
        };
        let start = now();
        let holds = || fits(&shared.table.to_vec());
        let guard = match shared.condition.wait_for_timeout(
            guard,
            Duration::from_micros(self.random.below(3_000)),
            holds,
        ) {
            Ok((guard, true)) => guard,
            Ok((_, false)) => return,
            Err(error) => return self.repair_table(&shared, error, start),
        };
        let what = if puts { Counted::Put } else { Counted::Take };
        self.attempt(what);
        let table = shared.table.to_vec();
        assert!(is_table(&table), "nobody has died, and the table is wrong: {table:?}");
        let row = 1 + self.row * 2 + usize::from(!puts);
        shared.table.set(row, table[row] + 1).expect("a row for each");
        self.dawdle();
        shared.table.set(0, if puts { table[0] + 1 } else { table[0] - 1 }).expect("there is one");
        shared.condition.notify_all(&guard).expect("its own lock");
        drop(guard);
        self.done(what);
    }

    fn repair_table(&self, shared: &Shared, error: LockError, start: u64) {
        self.death(error, start);
        let guard: LockGuard<'_> = shared.condition.lock().recover().expect("it can be recovered");
        if guard.died().is_some() {
            let table = shared.table.to_vec();
            shared.table.set(0, on_table(&table)).expect("there is one");
            guard.repaired();
            shared.condition.notify_all(&guard).expect("its own lock");
        }
    }

    fn barrier(&mut self) {
        self.attempt(Counted::Barrier);
        match self.shared.barrier.wait_timeout(Duration::from_micros(self.random.below(3_000))) {
            Ok(number) => {
                let slot = if number == 0 { Slot::First } else { Slot::Second };
                self.shared.journal.add(self.row, slot, 1);
            }
            Err(BarrierError::Broken | BarrierError::Timeout) => {
                if self.shared.barrier.is_broken() {
                    self.shared.barrier.reset().expect("it can be reset");
                }
            }
            Err(other) => panic!("a meeting was refused: {other:?}"),
        }
        self.done(Counted::Barrier);
    }

    fn named(&mut self) {
        self.attempt(Counted::Named);
        let semaphore = Semaphore::open_or_create("soak", 2).expect("it is there, or is made");
        let permit = semaphore.acquire().expect("it comes back from the dead");
        self.dawdle();
        drop(permit);
        drop(semaphore);
        self.done(Counted::Named);
    }
}

impl Worker {
    /// What it does may take so long, and not be done.
    fn may_fail<T, E>(
        &mut self,
        what: Counted,
        f: impl FnOnce(&Shared, Duration) -> Result<T, E>,
    ) -> Option<T>
    where
        E: Classify + Debug,
    {
        let time = Duration::from_micros(1 + self.random.below(3_000));
        self.attempt(what);
        match f(&self.shared, time) {
            Ok(done) => Some(done),
            Err(error) if error.kind() == ErrorKind::Timeout => {
                self.shared.journal.take_back(self.row, Slot::Attempts(what));
                None
            }
            Err(other) => panic!("{what:?} was refused: {other:?}"),
        }
    }

    /// The next one that this worker sends.
    fn next(&self, what: Counted) -> Message {
        message(self.row, self.shared.journal.get(self.row, Slot::Attempts(what)) + 1)
    }

    fn queue(&mut self) {
        if self.random.below(2) == 0 {
            let next = self.next(Counted::Send);
            if self
                .may_fail(Counted::Send, |shared, time| shared.queue.tx.send_timeout(&next, time))
                .is_some()
            {
                self.done(Counted::Send);
            }
        } else if let Some(message) =
            self.may_fail(Counted::Receive, |shared, time| shared.queue.rx.recv_timeout(time))
        {
            traffic::received(&self.shared, Some(self.row), &message)
                .unwrap_or_else(|wrong| panic!("{wrong}"));
            self.done(Counted::Receive);
        }
    }

    fn job(&mut self) {
        if self.random.below(2) == 0 {
            let next = self.next(Counted::Order);
            if self
                .may_fail(Counted::Order, |shared, time| shared.jobs.tx.send_timeout(&next, time))
                .is_some()
            {
                self.done(Counted::Order);
            }
        } else if let Some(job) =
            self.may_fail(Counted::Work, |shared, time| shared.jobs.rx.recv_timeout(time))
        {
            self.dawdle();
            traffic::work(&self.shared, job).unwrap_or_else(|wrong| panic!("{wrong}"));
            self.done(Counted::Work);
        }
    }
}

/// What is on the table, by what was put there and taken.
pub(crate) fn on_table(table: &[u64]) -> u64 {
    let (puts, takes) = (table[1..].iter().step_by(2), table[2..].iter().step_by(2));
    puts.sum::<u64>() - takes.sum::<u64>()
}

pub(crate) fn is_table(table: &[u64]) -> bool {
    table[0] == on_table(table)
}
