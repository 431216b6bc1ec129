//! The worker process, what it is given, and what it tells its parent.

use ipc::queue::{RecvError, Sender, work};
use serde::{Deserialize, Serialize};

use crate::count::{Counter, Totals, Word};
use crate::failure::with_causes;
use crate::files::Unit;
use crate::histogram::Histogram;

/// A worker hands over when it has counted so many units: the fewer, the less is done again when it dies; the more, the
/// fewer words reach the parent several times.
const GATHERED_MAX: usize = 32;

/// A piece of work, in the queue that all workers take from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) number: usize,
    pub(crate) unit: Unit,
    /// Whoever has it first stops in the middle of it, and waits to be killed.
    pub(crate) stop: bool,
}

/// What a worker tells its parent, through the queue that all workers send to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It runs.
    Ready,
    /// It has stopped in the middle of this unit, as it was told.
    Stopped { pid: u32, unit: usize },
    /// It was told that a process had died with the lock of the histogram, and has repaired what that left.
    Repaired { by: u32, died: Option<u32> },
    /// It has counted some units.
    Counted(Counted),
}

/// What was in some units, but for the lengths of the words: those are in the histogram already.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) by: u32,
    pub(crate) units: Vec<usize>,
    /// How often they had been delivered then. If more than once it is one unit, and may have been counted before.
    pub(crate) attempts: u32,
    /// Of these units nothing was counted, and why.
    pub(crate) unreadable: Vec<(usize, String)>,
    pub(crate) totals: Totals,
    pub(crate) words: Vec<Word>,
}

/// Nothing, or why a worker could not go on.
pub(crate) type Served = Result<(), String>;

/// What runs in a worker process: takes units from the queue until all are done, by whomever.
pub(crate) fn serve(jobs: work::Receiver<Job>, reports: Sender<Report>, histogram: Histogram) -> Served {
    let worker = Worker { jobs, reports, histogram };
    worker.serve().map_err(|error| with_causes(&error))
}

struct Worker {
    jobs: work::Receiver<Job>,
    reports: Sender<Report>,
    histogram: Histogram,
}

/// What a worker has counted and not handed over yet. If it dies, these units are delivered again.
#[derive(Default)]
struct Gathered {
    deliveries: Vec<work::Delivery<Job>>,
    counter: Counter,
    unreadable: Vec<(usize, String)>,
}

impl Worker {
    fn serve(&self) -> ipc::Result<()> {
        self.reports.send(&Report::Ready)?;
        let mut gathered = Gathered::default();
        loop {
            let next = match self.jobs.try_recv() {
                // Before it waits for more it hands over: the others may be waiting for that.
                Err(RecvError::Empty | RecvError::Disconnected) => {
                    self.hand_over(&mut gathered)?;
                    self.jobs.recv()
                }
                next => next,
            };
            let delivery = match next {
                Ok(delivery) => delivery,
                Err(RecvError::Disconnected) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            // One that comes again goes alone: who had it before may have died after it had handed over, and then the
            // parent leaves out what comes now.
            let is_alone = delivery.attempts() > 1;
            if is_alone || gathered.deliveries.len() == GATHERED_MAX {
                self.hand_over(&mut gathered)?;
            }
            self.count(delivery, &mut gathered)?;
            if is_alone {
                self.hand_over(&mut gathered)?;
            }
        }
    }

    fn count(&self, delivery: work::Delivery<Job>, gathered: &mut Gathered) -> ipc::Result<()> {
        if let Err(error) = gathered.counter.count(&delivery.unit) {
            gathered.unreadable.push((delivery.number, error.to_string()));
        }
        let lengths = std::mem::take(&mut gathered.counter.tally.lengths);
        let half_way = || {
            if delivery.stop && delivery.attempts() == 1 {
                self.wait_to_be_killed(delivery.number);
            }
        };
        if let Some(owner) = self.histogram.add(delivery.number, &lengths, half_way)? {
            self.reports.send(&Report::Repaired { by: std::process::id(), died: owner.pid() })?;
        }
        gathered.deliveries.push(delivery);
        Ok(())
    }

    /// Sends what was counted, and only then says that those units are done. Killed in between, it has them delivered
    /// again.
    fn hand_over(&self, gathered: &mut Gathered) -> ipc::Result<()> {
        let Some(first) = gathered.deliveries.first() else { return Ok(()) };
        let tally = std::mem::take(&mut gathered.counter.tally);
        self.reports.send(&Report::Counted(Counted {
            by: std::process::id(),
            units: gathered.deliveries.iter().map(|delivery| delivery.number).collect(),
            attempts: first.attempts(),
            unreadable: std::mem::take(&mut gathered.unreadable),
            totals: tally.totals,
            words: tally.words.into_iter().map(|(word, count)| Word(word, count)).collect(),
        }))?;
        for delivery in gathered.deliveries.drain(..) {
            delivery.ack()?;
        }
        Ok(())
    }

    /// Says that it has stopped, and stays where it is: with the lock of the histogram, of which a half is changed.
    fn wait_to_be_killed(&self, unit: usize) {
        // If nobody hears it, the parent is gone, and takes this process along.
        let _heard = self.reports.send(&Report::Stopped { pid: std::process::id(), unit });
        loop {
            std::thread::park();
        }
    }
}
