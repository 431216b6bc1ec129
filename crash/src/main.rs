//! `cargo xtask crash [FILTER…] [--full]`: operations of the `ipc` crates, their process killed at every instruction.
//!
//! Each operation is stepped by a process of its own, kept on one core; as many at once as there are cores. A family
//! of operations is a file with a function that lists its scenarios.
#![forbid(unsafe_code)]

mod barrier;
mod condition;
mod connection;
mod event;
mod jobs;
mod loans;
mod lock;
mod lock_recover;
mod named;
mod object;
mod pair;
mod queue;
mod queue_sleepers;
mod reentrant;
mod rwlock;
mod semaphore;
mod shm;
mod show;
mod spsc;
mod stepper;
mod tools;
mod work_queue;
mod work_queue_sleepers;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ipc_testkit::stepper::Steps;

/// Kills processes at every instruction of an operation, and lets the survivors say whether all is well.
#[derive(Parser)]
#[command(name = "cargo xtask crash")]
struct Args {
    /// Parts of names of operations; all operations, if nothing is named.
    filters: Vec<String>,
    /// At every instruction, however long that takes, instead of at a sample.
    #[arg(long)]
    full: bool,
    /// How many instructions of an operation are in the sample.
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "full")]
    sample: usize,
    /// How many operations are stepped at once (default: as many as there are cores).
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Only name the operations.
    #[arg(long)]
    list: bool,
}

/// All operations.
fn scenarios() -> Vec<Box<dyn Steps>> {
    [
        stepper::scenarios(),
        lock::scenarios(),
        lock_recover::scenarios(),
        reentrant::scenarios(),
        rwlock::scenarios(),
        semaphore::scenarios(),
        event::scenarios(),
        condition::scenarios(),
        barrier::scenarios(),
        object::scenarios(),
        named::scenarios(),
        shm::scenarios(),
        queue::scenarios(),
        queue_sleepers::scenarios(),
        loans::scenarios(),
        work_queue::scenarios(),
        work_queue_sleepers::scenarios(),
        spsc::scenarios(),
        connection::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    ipc_process::init();
    let args = Args::parse();
    let is_wanted = |name: &String| {
        args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let names: Vec<String> =
        scenarios().iter().map(|scenario| scenario.name().to_owned()).filter(is_wanted).collect();
    if args.list {
        names.iter().for_each(|name| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    if names.is_empty() {
        eprintln!("no operation has such a name: --list names them");
        return ExitCode::FAILURE;
    }
    let start = Instant::now();
    let sample = (!args.full).then_some(args.sample);
    let show = show::Show::new(names.len());
    let reports = jobs::run(names, sample, args.jobs, &show);
    show.total(&reports, start.elapsed());
    if reports.iter().all(|(report, _)| report.is_success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
