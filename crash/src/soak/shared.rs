//! What all share: the objects, the journal, and a clock.

use ipc_shm::{Array, Mutex, RwLock, Value};
use ipc_sync::{Barrier, Condition, Event, Lock, OpenError, ReentrantLock, Semaphore};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::traffic::{Message, Traffic, options};

/// The most workers.
pub(crate) const ROWS: usize = 8;

/// The total, and the rows.
pub(crate) type Counts = [u64; 1 + ROWS];

/// How many permits there are for the taking.
pub(crate) const PERMITS: u32 = 3;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) journal: Journal,
    pub(crate) lock: Lock,
    /// What the lock protects.
    pub(crate) locked: Array<u64>,
    pub(crate) reentrant: ReentrantLock,
    /// Who has the reentrant lock, as it says itself.
    pub(crate) holder: Value<u64>,
    pub(crate) value: Value<Counts>,
    pub(crate) number: Value<u64>,
    pub(crate) array: Array<u64>,
    pub(crate) mutex: Mutex<Counts>,
    pub(crate) rwlock: RwLock<Counts>,
    pub(crate) permits: Semaphore,
    pub(crate) signals: Semaphore,
    pub(crate) event: Event,
    pub(crate) condition: Condition,
    /// Under the lock of the condition: what is on the table, what each has put there, and what each has taken.
    pub(crate) table: Array<u64>,
    pub(crate) barrier: Barrier,
    pub(crate) queue: Traffic<ipc_queue::Sender<Message>, ipc_queue::Receiver<Message>>,
    pub(crate) jobs: Traffic<ipc_queue::work::Sender<Message>, ipc_queue::work::Receiver<Message>>,
}

impl Shared {
    pub(crate) fn new() -> Result<Self, OpenError> {
        Ok(Shared {
            journal: Journal(Array::new(ROWS * SLOTS + GRAVES * 2 + 1)?),
            lock: Lock::new()?,
            locked: Array::new(1 + ROWS)?,
            reentrant: ReentrantLock::new()?,
            holder: Value::new(0)?,
            value: Value::new([0; 1 + ROWS])?,
            number: Value::new(0)?,
            array: Array::new(1 + ROWS)?,
            mutex: Mutex::new([0; 1 + ROWS])?,
            rwlock: RwLock::new([0; 1 + ROWS])?,
            permits: Semaphore::new(PERMITS)?,
            signals: Semaphore::new(0)?,
            event: Event::new()?,
            condition: Condition::new()?,
            table: Array::new(1 + 2 * ROWS)?,
            barrier: Barrier::new(2)?,
            queue: Traffic::new(options().bounded()?)?,
            jobs: Traffic::new(options().work()?)?,
        })
    }
}

/// Whether the total is that of the rows.
pub(crate) fn is_whole(counts: &[u64]) -> bool {
    counts.split_first().is_some_and(|(total, rows)| *total == rows.iter().sum::<u64>())
}

/// Makes the total that of the rows.
pub(crate) fn repair(counts: &mut [u64]) {
    counts[0] = counts[1..].iter().sum();
}

/// Microseconds, the same for all processes.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is such a clock");
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000
}

/// What a worker writes into its row of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// When its operation began, and which that is.
    Since,
    Doing,
    Recoveries,
    /// The longest, in microseconds, that it had to wait to be told of a death.
    Worst,
    /// How often it was this party at the barrier.
    First,
    Second,
    /// Attempts of what [`Counted`] is, and how many are done.
    Attempts(Counted),
    Done(Counted),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Lock,
    Reentrant,
    Value,
    Number,
    Array,
    Mutex,
    RwLock,
    Permit,
    Release,
    Forget,
    Event,
    Put,
    Take,
    Barrier,
    Named,
    Send,
    Receive,
    Order,
    Work,
}

impl Counted {
    pub(crate) const ALL: [Counted; 19] = [
        Counted::Lock,
        Counted::Reentrant,
        Counted::Value,
        Counted::Number,
        Counted::Array,
        Counted::Mutex,
        Counted::RwLock,
        Counted::Permit,
        Counted::Release,
        Counted::Forget,
        Counted::Event,
        Counted::Put,
        Counted::Take,
        Counted::Barrier,
        Counted::Named,
        Counted::Send,
        Counted::Receive,
        Counted::Order,
        Counted::Work,
    ];
}

const SLOTS: usize = 48;
/// How many of those who were killed are remembered.
const GRAVES: usize = 4096;

/// A row for each worker, and who was killed when.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Journal(Array<u64>);

impl Journal {
    fn index(row: usize, slot: Slot) -> usize {
        row * SLOTS
            + match slot {
                Slot::Since => 0,
                Slot::Doing => 1,
                Slot::Recoveries => 2,
                Slot::Worst => 3,
                Slot::First => 4,
                Slot::Second => 5,
                Slot::Attempts(counted) => 8 + 2 * counted as usize,
                Slot::Done(counted) => 9 + 2 * counted as usize,
            }
    }

    pub(crate) fn get(&self, row: usize, slot: Slot) -> u64 {
        self.0.get(Self::index(row, slot)).expect("within the journal")
    }

    pub(crate) fn set(&self, row: usize, slot: Slot, value: u64) {
        self.0.set(Self::index(row, slot), value).expect("within the journal");
    }

    /// It has not happened after all.
    pub(crate) fn take_back(&self, row: usize, slot: Slot) {
        self.set(row, slot, self.get(row, slot) - 1);
    }

    pub(crate) fn add(&self, row: usize, slot: Slot, more: u64) {
        self.set(row, slot, self.get(row, slot) + more);
    }

    /// Of all rows together.
    pub(crate) fn sum(&self, slot: Slot) -> u64 {
        (0..ROWS).map(|row| self.get(row, slot)).sum()
    }

    fn grave(index: u64) -> usize {
        ROWS * SLOTS + 2 * (index as usize % GRAVES)
    }

    /// Before it is killed.
    pub(crate) fn bury(&self, index: u64, pid: u32) {
        self.0.set(Self::grave(index) + 1, now()).expect("within the journal");
        self.0.set(Self::grave(index), u64::from(pid)).expect("within the journal");
    }

    /// When that process was killed last, if it was.
    pub(crate) fn killed_at(&self, pid: u32) -> Option<u64> {
        let at = |index| self.0.get(index).expect("within the journal");
        let graves = (0..GRAVES as u64).map(Self::grave);
        graves.filter(|grave| at(*grave) == u64::from(pid)).map(|grave| at(grave + 1)).max()
    }

    const STOP: usize = ROWS * SLOTS + 2 * GRAVES;

    /// Everybody comes to an end.
    pub(crate) fn stop(&self) {
        self.0.set(Self::STOP, 1).expect("within the journal");
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.0.get(Self::STOP).expect("within the journal") != 0
    }
}

/// Numbers that look random; always the same ones for a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // Xorshift64 of G. Marsaglia.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}
