//! The parent's side: puts the units into a queue, starts workers, and takes what they report.
//!
//! Which worker has which unit is the queue's business, not ours: what a worker had not acknowledged when it died is
//! delivered to another one. So all there is to do about a death is to tell the user, and to start another worker if
//! none is left.

use std::collections::{BTreeMap, HashSet};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipc::Process;
use ipc::process::JoinError;
use ipc::queue::{Receiver, RecvError, SendAllError, Sender, Waitable, bounded, wait, work};

use crate::count::Tally;
use crate::failure::{Failure, Result, with_causes};
use crate::files::Unit;
use crate::histogram::Histogram;
use crate::worker::{Counted, Job, Report, Served, serve};

/// So many workers are started in place of others, when none is left. After that the run is given up.
const REPLACEMENTS_MAX: usize = 3;

/// So many units wait in the queue, and so many reports in the other: who has more to send waits.
const WAITING_MAX: usize = 256;

/// What failed, when that did.
const QUEUES: &str = "the queues";
const HISTOGRAM: &str = "the histogram in shared memory";

/// What the workers have made of the units.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Units that could not be counted, and why.
    pub(crate) unreadable: BTreeMap<usize, String>,
    /// The worker that was told to stop, and be killed, and the unit in the middle of which it has.
    pub(crate) victim: Option<(u32, usize)>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) repairs: Vec<Repair>,
    /// Units that were delivered again.
    pub(crate) again: BTreeMap<usize, Again>,
    /// From the first start to the end of the last worker.
    pub(crate) took: Duration,
    /// From the first start until all ran.
    pub(crate) starting: Duration,
}

/// A worker that ended before all was done.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) pid: u32,
    /// How it ended, as joining it has told.
    pub(crate) how: String,
    /// Another one was started, since none was left.
    pub(crate) replaced: bool,
}

/// A process died with the lock of the histogram, another one was told, and has repaired what it left.
#[derive(Debug)]
pub(crate) struct Repair {
    pub(crate) died: Option<u32>,
    pub(crate) by: u32,
}

/// How a unit was counted that had been delivered before.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) attempts: u32,
    pub(crate) by: u32,
    /// Its result was here already, from the worker that died.
    pub(crate) was_here: bool,
}

/// Counts `units` in `worker_count` processes. With `kill`, one of them is killed in mid-run. `progress` is shown the
/// outcome as it grows.
pub(crate) fn run(
    units: &[Unit],
    worker_count: usize,
    kill: bool,
    mut progress: impl FnMut(&Outcome),
) -> Result<Outcome> {
    let mut run = Run::start(units, worker_count, kill)?;
    while !run.workers.is_empty() {
        run.step()?;
        progress(&run.outcome);
    }
    run.finish()
}

struct Run {
    unit_count: usize,
    worker_count: usize,
    histogram: Histogram,
    /// What a new worker gets a copy of.
    inbox: work::Receiver<Job>,
    outbox: Sender<Report>,
    reports: Receiver<Report>,
    feeder: JoinHandle<std::result::Result<usize, SendAllError>>,
    workers: Vec<Process<Served>>,
    /// The units whose results are in the outcome.
    counted: HashSet<usize>,
    started: Instant,
    started_count: usize,
    ready_count: usize,
    outcome: Outcome,
}

impl Run {
    fn start(units: &[Unit], worker_count: usize, kill: bool) -> Result<Self> {
        let (jobs, inbox) = work(WAITING_MAX).map_err(Failure::when(QUEUES))?;
        let (outbox, reports) = bounded(WAITING_MAX).map_err(Failure::when(QUEUES))?;
        // About half of an even share is done then.
        let stop_at = kill.then_some(units.len() / 2);
        let job = |(number, unit): (usize, &Unit)| Job {
            number,
            unit: unit.clone(),
            stop: stop_at == Some(number),
        };
        let all: Vec<Job> = units.iter().enumerate().map(job).collect();
        let mut run = Run {
            unit_count: units.len(),
            worker_count,
            histogram: Histogram::new(units.len()).map_err(Failure::when(HISTOGRAM))?,
            inbox,
            outbox,
            reports,
            // Beside us, since we take reports meanwhile. Then the sender is gone, so that the workers' loops end when
            // all is done.
            feeder: thread::spawn(move || jobs.send_all(all)),
            workers: Vec::new(),
            counted: HashSet::new(),
            started: Instant::now(),
            started_count: 0,
            ready_count: 0,
            outcome: Outcome::default(),
        };
        for _ in 0..worker_count {
            run.start_worker()?;
        }
        Ok(run)
    }

    fn start_worker(&mut self) -> Result<()> {
        self.started_count += 1;
        let arguments = (self.inbox.clone(), self.outbox.clone(), self.histogram.clone());
        let worker = Process::builder()
            .name(format!("tour-{}", self.started_count))
            .spawn(serve, arguments)
            .map_err(Failure::when(format!("worker {} could not be started", self.started_count)))?;
        self.workers.push(worker);
        Ok(())
    }

    /// Waits until a worker has reported something, or has ended, and does what is to be done then.
    fn step(&mut self) -> Result<()> {
        let mut sources: Vec<&dyn Waitable> = vec![&self.reports];
        sources.extend(self.workers.iter().map(|worker| worker.sentinel() as &dyn Waitable));
        wait(&sources, None).map_err(Failure::when("waiting for the workers failed"))?;

        let mut ended = Vec::new();
        self.workers.retain_mut(|worker| match worker.try_join() {
            Err(JoinError::Running) => true,
            how => {
                ended.push((worker.id(), how));
                false
            }
        });
        // What they said before they ended is in the queue by now.
        loop {
            match self.reports.try_recv() {
                Ok(report) => self.take(report)?,
                Err(RecvError::Empty) => break,
                Err(error) => return Err(Failure::when("a worker is not understood")(error)),
            }
        }
        let is_none_left = self.workers.is_empty() && self.counted.len() < self.unit_count;
        let replaced = is_none_left && self.started_count < self.worker_count + REPLACEMENTS_MAX;
        for (pid, how) in ended {
            let how = match how {
                Ok(Ok(())) => continue,
                Ok(Err(why)) => why,
                Err(error) => with_causes(&error),
            };
            self.outcome.losses.push(Loss { pid, how, replaced });
        }
        if replaced { self.start_worker() } else { Ok(()) }
    }

    fn take(&mut self, report: Report) -> Result<()> {
        match report {
            Report::Ready => {
                self.ready_count += 1;
                if self.ready_count <= self.worker_count {
                    self.outcome.starting = self.started.elapsed();
                }
                Ok(())
            }
            Report::Stopped { pid, unit } => {
                self.outcome.victim = Some((pid, unit));
                // That it has died is noticed in the same way as if it had by itself.
                match self.workers.iter().find(|worker| worker.id() == pid) {
                    Some(worker) => worker.kill().map_err(Failure::when("a worker could not be killed")),
                    None => Ok(()),
                }
            }
            Report::Repaired { by, died } => {
                self.outcome.repairs.push(Repair { died, by });
                Ok(())
            }
            Report::Counted(counted) => self.count(counted),
        }
    }

    /// A result counts once: the same unit again is the same result.
    fn count(&mut self, Counted { by, units, attempts, unreadable, totals, words }: Counted) -> Result<()> {
        let was_here = units.iter().any(|unit| self.counted.contains(unit));
        if attempts > 1 {
            self.outcome.again.extend(units.iter().map(|unit| (*unit, Again { attempts, by, was_here })));
        } else if was_here {
            return Err(Failure(format!("process {by} was given what others had counted: this is a bug")));
        }
        if !was_here {
            self.counted.extend(units);
            self.outcome.unreadable.extend(unreadable);
            self.outcome.tally.merge(totals, words);
        }
        Ok(())
    }

    /// When no worker runs any more.
    fn finish(mut self) -> Result<Outcome> {
        drop(self.inbox);
        let fed = self.feeder.join();
        if self.counted.len() < self.unit_count {
            let uncounted = self.unit_count - self.counted.len();
            let mut text = format!("{uncounted} of {} units are not counted", self.unit_count);
            for loss in &self.outcome.losses {
                text += &format!("\n  worker {} was lost: {}", loss.pid, loss.how);
            }
            if let Ok(Err(error)) = fed {
                text += &format!("\n  of the queue: {}", with_causes(&error));
            }
            return Err(Failure(text));
        }
        let (lengths, repaired) = self.histogram.sum().map_err(Failure::when(HISTOGRAM))?;
        self.outcome.tally.lengths = lengths;
        if let Some(owner) = repaired {
            self.outcome.repairs.push(Repair { died: owner.pid(), by: std::process::id() });
        }
        self.outcome.took = self.started.elapsed();
        check_kill(&self.outcome)?;
        Ok(self.outcome)
    }
}

/// Who is killed with a lock in hand does not go unnoticed, and its unit is somebody else's.
fn check_kill(outcome: &Outcome) -> Result<()> {
    let Some((pid, unit)) = outcome.victim else { return Ok(()) };
    // If others died, too, the one that was told may be among them.
    let is_only = outcome.losses.iter().all(|loss| loss.pid == pid);
    if is_only && !outcome.repairs.iter().any(|repair| repair.died == Some(pid)) {
        return Err(Failure(format!("worker {pid} was killed with a lock in hand, and nobody was told")));
    }
    if !outcome.again.contains_key(&unit) {
        return Err(Failure(format!("worker {pid} was killed, and its unit was not delivered again")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::check::differences;
    use crate::count::{Counter, Totals, Word};
    use crate::files;

    /// So many small files, and one of several units; and what is in them.
    fn texts(directory: &Path, count: usize) -> (Vec<Unit>, Tally) {
        for n in 0..count {
            let text = format!("{} words of file {n}\n", "many ".repeat(n % 50));
            std::fs::write(directory.join(format!("{n:04}")), text).unwrap();
        }
        std::fs::write(directory.join("long"), "a bit longer\n".repeat(files::UNIT_LEN as usize / 5))
            .unwrap();
        let units = files::units(&files::find(&[directory.to_owned()]).unwrap());
        let mut counter = Counter::default();
        units.iter().for_each(|unit| counter.count(unit).unwrap());
        (units, counter.tally)
    }

    #[test]
    fn nothing_is_lost_with_a_killed_worker_and_all_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (units, expected) = texts(directory.path(), 100);
        for worker_count in 1..=3 {
            let outcome = run(&units, worker_count, true, |_| ()).unwrap();
            assert_eq!(differences(&outcome.tally, &expected), [""; 0]);
            let (pid, unit) = outcome.victim.unwrap();
            assert_eq!(unit, units.len() / 2);
            let [loss] = &*outcome.losses else { panic!("{:?}", outcome.losses) };
            assert_eq!((loss.pid, loss.replaced), (pid, worker_count == 1));
            let [repair] = &*outcome.repairs else { panic!("{:?}", outcome.repairs) };
            assert_eq!(repair.died, Some(pid));
            let again = &outcome.again[&unit];
            assert_eq!((again.attempts, again.was_here), (2, false));
            assert!(again.by != pid && repair.by != pid);
        }
        let outcome = run(&units, 2, false, |_| ()).unwrap();
        assert_eq!(differences(&outcome.tally, &expected), [""; 0]);
        assert!(outcome.losses.is_empty() && outcome.repairs.is_empty() && outcome.again.is_empty());
    }

    #[test]
    fn the_count_is_right_whoever_is_killed_when() {
        const WORKERS: usize = 4;
        let directory = tempfile::tempdir().unwrap();
        let (units, expected) = texts(directory.path(), 400);
        let mut lost_count = 0;
        for round in 0..30_u64 {
            let mut run = Run::start(&units, WORKERS, false).unwrap();
            let mut state = round;
            while !run.workers.is_empty() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if run.workers.len() > 1 {
                    thread::sleep(Duration::from_micros((state >> 33) % 3000));
                    run.workers[(state >> 50) as usize % run.workers.len()].kill().unwrap();
                }
                run.step().unwrap();
            }
            let outcome = run.finish().unwrap();
            assert_eq!(
                differences(&outcome.tally, &expected),
                [""; 0],
                "round {round}: {:?}",
                outcome.losses
            );
            lost_count += outcome.losses.len();
        }
        assert!(lost_count > 0, "nobody was killed in time");
    }

    #[test]
    fn a_result_that_comes_again_counts_once() {
        let directory = tempfile::tempdir().unwrap();
        let (units, _) = texts(directory.path(), 3);
        let mut run = Run::start(&units, 0, false).unwrap();
        let counted = |units: &[usize], attempts| Counted {
            by: 7,
            units: units.to_vec(),
            attempts,
            unreadable: Vec::new(),
            totals: Totals { lines: 1, words: 1, bytes: 2 },
            words: vec![Word(b"a".as_slice().into(), 1)],
        };
        run.count(counted(&[0, 1], 1)).unwrap();
        run.count(counted(&[1], 2)).unwrap();
        run.count(counted(&[2], 2)).unwrap();
        run.count(counted(&[2], 3)).unwrap();
        assert_eq!(run.outcome.tally.totals.words, 2);
        assert_eq!(run.outcome.tally.words[b"a".as_slice()], 2);
        let again: Vec<_> = run.outcome.again.iter().map(|(unit, again)| (*unit, again.was_here)).collect();
        assert_eq!(again, [(1, true), (2, true)]);
        run.count(counted(&[3, 1], 1)).unwrap_err();
    }

    #[test]
    fn when_workers_keep_failing_the_run_is_given_up_and_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let (units, _) = texts(directory.path(), 3);
        let mut run = Run::start(&units, 0, false).unwrap();
        // With no room for any unit.
        run.histogram = Histogram::new(0).unwrap();
        run.start_worker().unwrap();
        while !run.workers.is_empty() {
            run.step().unwrap();
        }
        assert_eq!(run.outcome.losses.len(), REPLACEMENTS_MAX);
        let Failure(text) = run.finish().unwrap_err();
        assert!(text.contains(&format!(" of {} units are not counted\n", units.len())), "{text}");
        assert_eq!(text.matches("was lost: ").count(), REPLACEMENTS_MAX, "{text}");
    }
}
