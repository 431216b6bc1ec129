//! The parent's side: starts the workers, feeds them, and sees to it that nothing is lost with one of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipc::Process;
use ipc::pipe::{Receiver, RecvError, SendError, Sender, Waitable, pipe, wait};
use ipc::process::JoinError;

use crate::count::{Lengths, Tally};
use crate::failure::{Failure, Result, with_causes};
use crate::files::Unit;
use crate::histogram::Histogram;
use crate::ledger::{Ledger, Nonsense, WorkerId};
use crate::worker::{Job, Report, Served, work};

/// So many workers are started in place of others, when none is left. After that the run is given up.
const REPLACEMENTS_MAX: usize = 3;

/// So many reports of one worker are taken before the others have their turn.
const REPORTS_AT_A_TIME: usize = 256;

/// A worker whose pipe is at its end has so much time to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What failed, when that did.
const HISTOGRAM: &str = "the histogram in shared memory";

/// What the workers have made of the units.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Units that could not be counted, and why.
    pub(crate) unreadable: BTreeMap<usize, String>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) repairs: Vec<Repair>,
    /// From the first start to the end of the last worker.
    pub(crate) took: Duration,
    /// From the first start until all ran.
    pub(crate) starting: Duration,
    /// From when the last unit was counted: the tallies came, and the workers ended.
    pub(crate) gathering: Duration,
}

/// A worker that ended before it had handed over what it had counted.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) pid: u32,
    /// How it ended, as joining it has told.
    pub(crate) how: String,
    /// We have killed it, half way through adding to the histogram.
    pub(crate) intended: bool,
    /// Units that it had counted: discarded, and done again.
    pub(crate) discarded_count: usize,
    /// Units that it had been given and had not counted.
    pub(crate) given_count: usize,
    /// Another one was started, since none was left.
    pub(crate) replaced: bool,
}

/// A process died with the lock of the histogram, another one was told, and has repaired what it left.
#[derive(Debug)]
pub(crate) struct Repair {
    pub(crate) died: Option<u32>,
    pub(crate) by: u32,
}

/// Counts `units` in `worker_count` processes. With `kill`, one of them is killed in mid-run. `progress` is told how many bytes are counted and not lost, and which workers are.
pub(crate) fn run(
    units: &[Unit],
    worker_count: usize,
    kill: bool,
    progress: impl FnMut(u64, Option<&Loss>),
) -> Result<Outcome> {
    let histogram = Histogram::new(worker_count + REPLACEMENTS_MAX).map_err(Failure::when(HISTOGRAM))?;
    let mut run = Run {
        units,
        histogram,
        handed_over: BTreeMap::new(),
        lost: Vec::new(),
        ledger: Ledger::new(units.len()),
        workers: BTreeMap::new(),
        started: Instant::now(),
        last_counted: Instant::now(),
        next_id: 0,
        kill_at: kill.then_some((units.len() / worker_count / 2).max(2)),
        victim: None,
        is_killed: false,
        bytes_counted: 0,
        ready_count: 0,
        worker_count,
        outcome: Outcome {
            tally: Tally::default(),
            unreadable: BTreeMap::new(),
            losses: Vec::new(),
            repairs: Vec::new(),
            took: Duration::ZERO,
            starting: Duration::ZERO,
            gathering: Duration::ZERO,
        },
        progress,
    };
    for _ in 0..worker_count {
        run.start_worker()?;
    }
    while !run.ledger.is_complete() {
        run.give_orders()?;
        for event in run.wait()? {
            match event {
                Event::Reported(id) => run.receive(id)?,
                Event::Ended(id) => run.lose(id)?,
            }
        }
    }
    run.dismiss()?;
    run.settle()?;
    run.outcome.took = run.started.elapsed();
    run.outcome.gathering = run.last_counted.elapsed();
    Ok(run.outcome)
}

/// A worker as its parent sees it.
struct Worker {
    process: Process<Served>,
    jobs: Sender<Job>,
    reports: Receiver<Report>,
    /// The part of its tally that has come: worth nothing until the whole has.
    words: Vec<(Box<[u8]>, u64)>,
    /// How many units it was given and how many it has reported, over its life.
    given_count: usize,
    reported_count: usize,
}

struct Run<'a, P> {
    units: &'a [Unit],
    ledger: Ledger,
    histogram: Histogram,
    /// What each worker's row of the histogram was when it last handed over.
    handed_over: BTreeMap<WorkerId, Lengths>,
    lost: Vec<WorkerId>,
    workers: BTreeMap<WorkerId, Worker>,
    started: Instant,
    last_counted: Instant,
    next_id: WorkerId,
    /// A worker is to be killed with its unit of this number.
    kill_at: Option<usize>,
    /// That worker, when it has been given that unit.
    victim: Option<WorkerId>,
    is_killed: bool,
    bytes_counted: u64,
    ready_count: usize,
    worker_count: usize,
    outcome: Outcome,
    progress: P,
}

enum Event {
    Reported(WorkerId),
    Ended(WorkerId),
}

impl<P: FnMut(u64, Option<&Loss>)> Run<'_, P> {
    fn start_worker(&mut self) -> Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let starting = format!("worker {} could not be started", id + 1);
        let (jobs, inbox) = pipe::<Job>().map_err(Failure::when(&starting))?;
        let (outbox, reports) = pipe::<Report>().map_err(Failure::when(&starting))?;
        // The other two ends move into the process.
        let process = Process::builder()
            .name(format!("tour-{}", id + 1))
            .spawn(work, (id, inbox, outbox, self.histogram.clone()))
            .map_err(Failure::when(&starting))?;
        let words = Vec::new();
        self.workers.insert(id, Worker { process, jobs, reports, words, given_count: 0, reported_count: 0 });
        self.ledger.add_worker(id);
        // It begins while the next one is started.
        self.give(id)
    }

    /// Tells each worker what there is for it.
    fn give_orders(&mut self) -> Result<()> {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            self.give(id)?;
            if self.victim != Some(id) && self.ledger.ask(id) {
                self.send(id, &Job::HandOver)?;
            }
        }
        Ok(())
    }

    /// Gives a worker all units that it may have.
    fn give(&mut self, id: WorkerId) -> Result<()> {
        while self.victim != Some(id)
            && let Some(unit) = self.ledger.give(id)
        {
            let stop = self.is_to_be_killed(id);
            if stop {
                self.victim = Some(id);
            }
            self.send(id, &Job::Count { id: unit, unit: self.units[unit].clone(), stop })?;
        }
        Ok(())
    }

    /// Does not wait for long: a worker that has jobs in its pipe is not handing over, and takes them.
    fn send(&mut self, id: WorkerId, job: &Job) -> Result<()> {
        match self.workers.get_mut(&id).map(|worker| worker.jobs.send(job)) {
            // It has died: its sentinel tells, and then the job goes to another one.
            None | Some(Ok(()) | Err(SendError::Disconnected)) => Ok(()),
            Some(Err(error)) => Err(Failure::when("a job could not be sent")(error)),
        }
    }

    /// Whether the unit that a worker has just been given is to be its last. One worker is, with half of an even share;
    /// or, where nobody comes to so many, with the last unit that there is.
    fn is_to_be_killed(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        worker.given_count += 1;
        let Some(enough) = self.kill_at.filter(|_| self.victim.is_none()) else { return false };
        worker.given_count >= enough || !self.ledger.is_anything_waiting()
    }

    /// The worker has stopped half way through adding to the histogram, with the lock.
    fn kill(&mut self, id: WorkerId) -> Result<()> {
        self.is_killed = true;
        // That it has died is noticed in the same way as if it had by itself.
        match self.workers.get(&id) {
            Some(worker) => worker.process.kill().map_err(Failure::when("a worker could not be killed")),
            None => Ok(()),
        }
    }

    /// Waits until a worker has reported something, or has ended.
    fn wait(&self) -> Result<Vec<Event>> {
        let mut sources: Vec<&dyn Waitable> = Vec::new();
        for worker in self.workers.values() {
            sources.extend([&worker.reports as &dyn Waitable, worker.process.sentinel()]);
        }
        let ready = wait(&sources, None).map_err(Failure::when("waiting for the workers failed"))?;
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        let event = |index: usize| match (ids[index / 2], index % 2) {
            (id, 0) => Event::Reported(id),
            (id, _) => Event::Ended(id),
        };
        Ok(ready.into_iter().map(event).collect())
    }

    /// Takes reports of a worker.
    fn receive(&mut self, id: WorkerId) -> Result<()> {
        for _ in 0..REPORTS_AT_A_TIME {
            let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
            match worker.reports.try_recv() {
                Ok(report) => self.take(id, report)?,
                Err(RecvError::Empty) => return Ok(()),
                Err(RecvError::Disconnected | RecvError::Truncated { .. }) => return self.lose(id),
                Err(error) => {
                    return Err(Failure::when(format!("worker {} is not understood", id + 1))(error));
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, id: WorkerId, report: Report) -> Result<()> {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let understood = match report {
            Report::Ready => {
                self.ready_count += 1;
                if self.ready_count <= self.worker_count {
                    self.outcome.starting = self.started.elapsed();
                }
                Ok(())
            }
            Report::Stopped => return self.kill(id),
            Report::Repaired { died } => {
                self.outcome.repairs.push(Repair { died, by: worker.process.id() });
                Ok(())
            }
            Report::Counted(unit) => self.counted(id, unit),
            Report::Unreadable(unit, why) => {
                self.outcome.unreadable.insert(unit, why);
                self.counted(id, unit)
            }
            Report::Word(word, count) => {
                worker.words.push((word, count));
                Ok(())
            }
            Report::HandedOver(totals) => {
                let words = std::mem::take(&mut worker.words);
                // It adds nothing more before it gets another unit.
                let row = self.histogram.row(id).map_err(Failure::when(HISTOGRAM))?;
                self.handed_over.insert(id, row);
                self.ledger.handed_over(id).map(|()| self.outcome.tally.merge(totals, words))
            }
        };
        understood.map_err(|Nonsense| Failure(format!("worker {} reports what it cannot have done", id + 1)))
    }

    fn counted(&mut self, id: WorkerId, unit: usize) -> std::result::Result<(), Nonsense> {
        self.ledger.counted(id, unit)?;
        self.last_counted = Instant::now();
        self.bytes_counted += self.units[unit].len();
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.reported_count += 1;
        }
        (self.progress)(self.bytes_counted, None);
        Ok(())
    }

    /// A worker is gone, by our hand or not: what it had is done again by the others.
    fn lose(&mut self, id: WorkerId) -> Result<()> {
        // What it said before it died counts.
        while let Some(worker) = self.workers.get_mut(&id)
            && let Ok(report) = worker.reports.try_recv()
        {
            self.take(id, report)?;
        }
        let Some(Worker { process, .. }) = self.workers.remove(&id) else { return Ok(()) };
        let lost = self.ledger.lose(id);
        self.lost.push(id);
        for unit in &lost.held {
            self.bytes_counted -= self.units[*unit].len();
            self.outcome.unreadable.remove(unit);
        }
        let loss = Loss {
            pid: process.id(),
            how: how_it_ended(process),
            intended: self.is_killed && self.victim == Some(id),
            discarded_count: lost.held.len(),
            given_count: lost.given.len(),
            replaced: self.workers.is_empty() && !self.ledger.is_complete(),
        };
        (self.progress)(self.bytes_counted, Some(&loss));
        let replaced = loss.replaced;
        self.outcome.losses.push(loss);
        if !replaced {
            return Ok(());
        }
        if self.outcome.losses.iter().filter(|loss| loss.replaced).count() > REPLACEMENTS_MAX {
            let list: Vec<String> =
                self.outcome.losses.iter().map(|l| format!("\n  {}: {}", l.pid, l.how)).collect();
            return Err(Failure(format!("the workers keep dying:{}", list.concat())));
        }
        self.start_worker()
    }

    /// Closes the pipes of jobs, on which the workers return.
    fn dismiss(&mut self) -> Result<()> {
        for (id, Worker { process, reported_count, jobs, .. }) in std::mem::take(&mut self.workers) {
            drop(jobs);
            let pid = process.id();
            match process.join() {
                Ok(Ok(count)) if count == reported_count => {}
                Ok(Ok(count)) => {
                    return Err(Failure(format!(
                        "worker {} says that it did {count} units, and reported {reported_count}",
                        id + 1
                    )));
                }
                // Too late to do harm: all it had counted is here.
                ended => self.outcome.losses.push(Loss {
                    pid,
                    how: told(ended),
                    intended: false,
                    discarded_count: 0,
                    given_count: 0,
                    replaced: false,
                }),
            }
        }
        Ok(())
    }

    /// Takes out of the histogram what lost workers had added and not handed over: others have added it again.
    fn settle(&mut self) -> Result<()> {
        for id in &self.lost {
            let row = self.handed_over.get(id).copied().unwrap_or_default();
            let repaired = self.histogram.set_back(*id, &row).map_err(Failure::when(HISTOGRAM))?;
            if let Some(owner) = repaired {
                self.outcome.repairs.push(Repair { died: owner.pid(), by: std::process::id() });
            }
        }
        self.outcome.tally.lengths = self.histogram.sum().map_err(Failure::when(HISTOGRAM))?;
        let killed = self.outcome.losses.iter().find(|loss| loss.intended);
        match killed {
            Some(killed) if !self.outcome.repairs.iter().any(|repair| repair.died == Some(killed.pid)) => {
                Err(Failure(format!(
                    "worker {} was killed with a lock in hand, and nobody was told",
                    killed.pid
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Joins a worker that has ended, or is about to.
fn how_it_ended(mut process: Process<Served>) -> String {
    match process.join_timeout(END_TIMEOUT) {
        Err(JoinError::Running) => {
            let killed = process.kill();
            format!("it closed its pipe and went on; killing it: {killed:?}")
        }
        ended => told(ended),
    }
}

fn told(ended: std::result::Result<Served, JoinError>) -> String {
    match ended {
        Ok(Ok(_)) => "it returned, though nobody had told it to".to_owned(),
        Ok(Err(why)) => why,
        Err(error) => with_causes(&error),
    }
}
