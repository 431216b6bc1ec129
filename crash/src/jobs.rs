//! Operations, stepped by processes of their own: what one of them does to its process, or a hang that ends it, leaves
//! the others alone.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ipc_pipe::{Receiver, Sender};
use ipc_process::Process;
use ipc_testkit::stepper::{KillPoints, Progress, Report, Stepper};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::show::Show;
use crate::tools;

/// How long samples of all operations may take together, on all cores, and how long that of one.
const SAMPLES_MAX: Duration = Duration::from_secs(150);
const SAMPLE: Range<Duration> = Duration::from_millis(1500)..Duration::from_secs(12);

/// A report, and the longest that a survivor had to wait.
pub(crate) type Reported = (Report, Duration);

/// How many moments, and how long.
type Sample = Option<(usize, Duration)>;

/// Steps the operations of these names; their reports, in the order in which they were done.
pub(crate) fn run(
    names: Vec<String>,
    sample: Option<usize>,
    jobs: Option<usize>,
    show: &Show,
) -> Vec<Reported> {
    let cores = allowed();
    let jobs = jobs.unwrap_or(cores.len()).clamp(1, names.len());
    let start = Instant::now();
    // Most need less than their share of the time: so each may have more. What it does not come to is told.
    let budget = |left: usize| {
        let share = SAMPLES_MAX.saturating_sub(start.elapsed()) * jobs as u32 / left as u32;
        share.mul_f64(2.5).clamp(SAMPLE.start, SAMPLE.end)
    };
    let waiting = Mutex::new(VecDeque::from(names));
    let reports = Mutex::new(Vec::new());
    let next = || {
        let mut waiting = waiting.lock().expect("no job panics");
        waiting.pop_front().map(|name| (name, waiting.len() + jobs))
    };
    let work = |core: usize| {
        while let Some((name, left)) = next() {
            let sample = sample.map(|sample| (sample, budget(left)));
            let report = one(&name, sample, core, show);
            show.report(&report);
            reports.lock().expect("no job panics").push(report);
        }
    };
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let core = cores[job % cores.len()];
            scope.spawn(move || work(core));
        }
    });
    reports.into_inner().expect("no job panics")
}

/// Steps one operation, in a process of its own.
fn one(name: &str, sample: Sample, core: usize, show: &Show) -> Reported {
    let bar = show.operation(name);
    // Objects with names, of that process and its children alone.
    let names = match tempfile::Builder::new().prefix("ipc-crash").tempdir_in("/dev/shm") {
        Ok(names) => names,
        Err(error) => return (Report::impossible(name, error), Duration::ZERO),
    };
    let started =
        ipc_pipe::pipe::<Progress>().map_err(|error| error.to_string()).and_then(|(sender, receiver)| {
            let builder = Process::builder().name("stepper").env("IPC_RUNTIME_DIR", names.path());
            let process = builder.spawn(step, (name.to_owned(), sample, core, sender));
            Ok((process.map_err(|error| error.to_string())?, receiver))
        });
    let report = started.and_then(|(process, receiver): (_, Receiver<Progress>)| {
        // Until the process ends, and with it the pipe.
        receiver.into_iter().for_each(|progress| bar.progress(progress));
        process.join().map_err(|error| error.to_string())
    });
    report.unwrap_or_else(|error| (Report::impossible(name, error), Duration::ZERO))
}

/// What that process does.
fn step(name: String, sample: Sample, core: usize, progress: Sender<Progress>) -> Reported {
    (report(&name, sample, core, progress), tools::worst())
}

fn report(name: &str, sample: Sample, core: usize, mut progress: Sender<Progress>) -> Report {
    let mut set = CpuSet::new();
    if let Err(error) = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        return Report::impossible(name, error);
    }
    let scenarios = crate::scenarios();
    let Some(scenario) = scenarios.iter().find(|scenario| scenario.name() == name) else {
        return Report::impossible(name, "there is no operation of this name");
    };
    let stepper = Stepper {
        kill_points: sample.map_or(KillPoints::All, |(max, _)| KillPoints::Sample(max)),
        budget: sample.map(|(_, budget)| budget),
        ..Stepper::default()
    };
    scenario.step(&stepper, &mut |now| {
        // Shown or not: it changes nothing.
        if now.done % 16 == 0 {
            let _ = progress.send(&now);
        }
    })
}

fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()
}
