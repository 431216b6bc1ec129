//! Operations, stepped by processes of their own: what one of them does to its process, or a hang that ends it, leaves
//! the others alone.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use ipc_pipe::{Receiver, Sender};
use ipc_process::Process;
use ipc_testkit::stepper::{KillPoints, Progress, Report, Stepper};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::show::Show;

/// How long a sample of one operation may take, so that sixty of them on two cores end within three minutes. What is not
/// come to by then is told.
const SAMPLE_MAX: Duration = Duration::from_secs(6);

/// Steps the operations of these names; their reports, in the order in which they were done.
pub(crate) fn run(
    names: Vec<String>,
    sample: Option<usize>,
    jobs: Option<usize>,
    show: &Show,
) -> Vec<Report> {
    let cores = allowed();
    let jobs = jobs.unwrap_or(cores.len()).clamp(1, names.len());
    let waiting = Mutex::new(VecDeque::from(names));
    let reports = Mutex::new(Vec::new());
    let next = || waiting.lock().expect("no job panics").pop_front();
    let work = |core: usize| {
        while let Some(name) = next() {
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
fn one(name: &str, sample: Option<usize>, core: usize, show: &Show) -> Report {
    let bar = show.operation(name);
    let started =
        ipc_pipe::pipe::<Progress>().map_err(|error| error.to_string()).and_then(|(sender, receiver)| {
            let process = Process::spawn(step, (name.to_owned(), sample, core, sender));
            Ok((process.map_err(|error| error.to_string())?, receiver))
        });
    let report = started.and_then(|(process, receiver): (_, Receiver<Progress>)| {
        // Until the process ends, and with it the pipe.
        receiver.into_iter().for_each(|progress| bar.progress(progress));
        process.join().map_err(|error| error.to_string())
    });
    report.unwrap_or_else(|error| Report::impossible(name, error))
}

/// What that process does.
fn step(name: String, sample: Option<usize>, core: usize, mut progress: Sender<Progress>) -> Report {
    let mut set = CpuSet::new();
    if let Err(error) = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        return Report::impossible(&name, error);
    }
    let scenarios = crate::scenarios();
    let Some(scenario) = scenarios.iter().find(|scenario| scenario.name() == name) else {
        return Report::impossible(&name, "there is no operation of this name");
    };
    let stepper = Stepper {
        kill_points: sample.map_or(KillPoints::All, KillPoints::Sample),
        budget: sample.map(|_| SAMPLE_MAX),
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
