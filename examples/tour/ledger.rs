//! Who has which unit: nothing is lost with a worker, and nothing is counted twice.
//!
//! | a unit is   | that is                                      | and goes on with                         |
//! |-------------|----------------------------------------------|------------------------------------------|
//! | *waiting*   | with nobody                                  | [`Ledger::give`] to *given*              |
//! | *given*     | on its way to a worker, or being counted     | [`Ledger::counted`] to *held*            |
//! | *held*      | in the tally of a worker                     | [`Ledger::handed_over`] to *safe*        |
//! | *safe*      | in the result                                |                                          |
//!
//! From *given* and *held*, [`Ledger::lose`] of the worker takes it back to *waiting*: what the worker had
//! counted is gone with it. The ledger does no I/O, so that its tests can go through every order of events.

use std::collections::{BTreeMap, VecDeque};

/// How many units a worker has at a time: one to count, and some that it need not wait for. The fewer, the more
/// evenly they end.
const GIVEN_MAX: usize = 3;

pub(crate) type WorkerId = usize;

#[derive(Debug)]
pub(crate) struct Ledger {
    waiting: VecDeque<usize>,
    shares: BTreeMap<WorkerId, Share>,
    safe: usize,
    count: usize,
}

/// What one worker has.
#[derive(Debug, Default)]
struct Share {
    given: Vec<usize>,
    held: Vec<usize>,
    /// It has been told to hand over, and has not done so yet.
    asked: bool,
}

/// The units that went with a worker and have to be done again.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// Counted, and not handed over.
    pub(crate) held: Vec<usize>,
    /// Not counted yet.
    pub(crate) given: Vec<usize>,
}

/// A worker has reported what it cannot have done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

impl Ledger {
    /// `count` units, all waiting.
    pub(crate) fn new(count: usize) -> Self {
        Ledger { waiting: (0..count).collect(), shares: BTreeMap::new(), safe: 0, count }
    }

    pub(crate) fn add_worker(&mut self, worker: WorkerId) {
        self.shares.insert(worker, Share::default());
    }

    /// All units are in the result.
    pub(crate) fn is_complete(&self) -> bool {
        self.safe == self.count
    }

    /// Gives the worker one more unit, unless it has enough, or is about to hand over, or none waits.
    pub(crate) fn give(&mut self, worker: WorkerId) -> Option<usize> {
        let share = self.shares.get_mut(&worker)?;
        if share.asked || share.given.len() >= GIVEN_MAX {
            return None;
        }
        let unit = self.waiting.pop_front()?;
        share.given.push(unit);
        Some(unit)
    }

    /// The worker has counted a unit.
    pub(crate) fn counted(&mut self, worker: WorkerId, unit: usize) -> Result<(), Nonsense> {
        let share = self.shares.get_mut(&worker).ok_or(Nonsense)?;
        let position = share.given.iter().position(|given| *given == unit).ok_or(Nonsense)?;
        share.held.push(share.given.remove(position));
        Ok(())
    }

    pub(crate) fn is_anything_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the worker is to hand over now: it has counted something, and there is nothing more for it. True
    /// once until it has done so.
    pub(crate) fn ask(&mut self, worker: WorkerId) -> bool {
        let Some(share) = self.shares.get_mut(&worker) else { return false };
        let now = self.waiting.is_empty() && share.given.is_empty() && !share.held.is_empty() && !share.asked;
        share.asked |= now;
        now
    }

    /// The worker has handed over: all that it holds, since it was given nothing after it had been asked.
    pub(crate) fn handed_over(&mut self, worker: WorkerId) -> Result<(), Nonsense> {
        let share = self.shares.get_mut(&worker).filter(|share| share.asked).ok_or(Nonsense)?;
        share.asked = false;
        self.safe += share.held.len();
        share.held.clear();
        Ok(())
    }

    /// The worker is gone; what it had waits again, before all else.
    pub(crate) fn lose(&mut self, worker: WorkerId) -> Lost {
        let Share { held, given, .. } = self.shares.remove(&worker).unwrap_or_default();
        for unit in held.iter().chain(&given).rev() {
            self.waiting.push_front(*unit);
        }
        Lost { held, given }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gets_a_few_units_at_a_time() {
        let mut ledger = Ledger::new(5);
        ledger.add_worker(0);
        ledger.add_worker(1);
        let given = |ledger: &mut Ledger, worker| std::iter::from_fn(|| ledger.give(worker)).count();
        assert_eq!(given(&mut ledger, 0), GIVEN_MAX);
        assert_eq!(given(&mut ledger, 1), 2);
        assert_eq!(ledger.counted(0, 1), Ok(()));
        assert_eq!(ledger.give(0), None, "none waits");
        assert_eq!(ledger.give(7), None, "nobody");
    }

    #[test]
    fn what_a_lost_worker_had_is_done_again_and_first() {
        let mut ledger = Ledger::new(6);
        ledger.add_worker(0);
        while ledger.give(0).is_some() {}
        ledger.counted(0, 0).unwrap();
        ledger.counted(0, 1).unwrap();
        let lost = ledger.lose(0);
        assert_eq!((lost.held, lost.given), (vec![0, 1], vec![2]));
        ledger.add_worker(1);
        assert_eq!(ledger.give(1), Some(0));
        assert_eq!(ledger.waiting, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_was_handed_over_is_not_lost() {
        let mut ledger = Ledger::new(1);
        ledger.add_worker(0);
        assert!(!ledger.ask(0), "nothing to hand over");
        ledger.give(0).unwrap();
        assert!(!ledger.ask(0), "it is still counting");
        ledger.counted(0, 0).unwrap();
        assert!(ledger.ask(0));
        assert!(!ledger.ask(0), "asked already");
        ledger.handed_over(0).unwrap();
        assert!(ledger.is_complete());
        let lost = ledger.lose(0);
        assert_eq!((lost.held.len(), lost.given.len()), (0, 0));
        assert!(ledger.is_complete());
    }

    #[test]
    fn a_worker_that_hands_over_gets_nothing_until_it_has() {
        let mut ledger = Ledger::new(2);
        ledger.add_worker(0);
        ledger.add_worker(1);
        for worker in [0, 1] {
            let unit = ledger.give(worker).unwrap();
            ledger.counted(worker, unit).unwrap();
        }
        assert!(ledger.ask(0));
        ledger.lose(1);
        assert_eq!(ledger.give(0), None);
        ledger.handed_over(0).unwrap();
        assert_eq!(ledger.give(0), Some(1));
        ledger.counted(0, 1).unwrap();
        assert!(ledger.ask(0), "once more");
        ledger.handed_over(0).unwrap();
        assert!(ledger.is_complete());
    }

    #[test]
    fn nonsense_is_refused() {
        let mut ledger = Ledger::new(2);
        ledger.add_worker(0);
        ledger.add_worker(1);
        let unit = ledger.give(0).unwrap();
        assert_eq!(ledger.counted(1, unit), Err(Nonsense), "of another worker");
        assert_eq!(ledger.counted(0, 1), Err(Nonsense), "never given");
        assert_eq!(ledger.handed_over(0), Err(Nonsense), "never asked");
        ledger.counted(0, unit).unwrap();
        assert_eq!(ledger.counted(0, unit), Err(Nonsense), "twice");
        ledger.lose(0);
        assert_eq!(ledger.counted(0, unit), Err(Nonsense), "by a worker that is gone");
    }

    /// What the real workers do: each has its orders in a pipe, and holds a tally.
    #[derive(Default)]
    struct Model {
        /// `None`: hand over.
        orders: VecDeque<Option<usize>>,
        tally: Vec<usize>,
    }

    /// Goes through `events` (which say what happens next), then to the end without further deaths; every unit
    /// must be in the result exactly once.
    fn run(count: usize, mut events: impl Iterator<Item = usize>) {
        let mut ledger = Ledger::new(count);
        let mut workers: BTreeMap<WorkerId, Model> = BTreeMap::new();
        let (mut result, mut next_id, mut steps) = (Vec::new(), 0, 0);
        while !ledger.is_complete() {
            steps += 1;
            assert!(steps < 100_000, "this leads nowhere: {ledger:?}");
            if workers.is_empty() {
                for _ in 0..3 {
                    ledger.add_worker(next_id);
                    workers.insert(next_id, Model::default());
                    next_id += 1;
                }
            }
            for (id, worker) in &mut workers {
                while let Some(unit) = ledger.give(*id) {
                    worker.orders.push_back(Some(unit));
                }
                if ledger.ask(*id) {
                    worker.orders.push_back(None);
                }
            }
            let event = events.next();
            let id = *workers.keys().nth(event.unwrap_or(steps) % workers.len()).unwrap();
            if event.is_some_and(|event| event / 8 % 16 == 0) {
                let lost = ledger.lose(id);
                let mut gone = workers.remove(&id).unwrap();
                gone.tally.sort_unstable();
                let mut held = lost.held.clone();
                held.sort_unstable();
                assert_eq!(held, gone.tally, "exactly what the worker had counted is discarded");
                continue;
            }
            let worker = workers.get_mut(&id).unwrap();
            match worker.orders.pop_front() {
                Some(Some(unit)) => {
                    worker.tally.push(unit);
                    ledger.counted(id, unit).unwrap();
                }
                Some(None) => {
                    result.append(&mut worker.tally);
                    ledger.handed_over(id).unwrap();
                }
                None => {}
            }
            assert!(worker.orders.len() <= GIVEN_MAX);
        }
        result.sort_unstable();
        assert!(result.into_iter().eq(0..count));
    }

    #[test]
    fn every_unit_counts_once_whoever_dies_when() {
        for count in [0, 1, 2, 5, 40] {
            for seed in 0..500_usize {
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                run(
                    count,
                    std::iter::repeat_with(|| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        state >> 33
                    })
                    .take(300),
                );
            }
        }
    }
}
