//! The tour: counts the words of real files in worker processes, and checks the result.
//!
//! A worker is a function of this program in a process of its own ([`worker`]). All workers take their units of work
//! from one queue, which delivers a unit again if the worker that had it dies before it has said that it is done; and
//! they report through another. The parent waits for reports and for deaths at once ([`supervise`]). How long the words
//! are is counted by all workers into one array in shared memory, under its lock ([`histogram`]).
//!
//! `--kill` shows what becomes of a worker that is killed while it has the lock and the array is half changed: the next
//! one to take the lock is told, and repairs the array; the queue gives its units to others. What was counted already
//! when a unit comes again is not counted twice. The result has to be the same as that of one process, word by word
//! ([`check`]).

#![forbid(unsafe_code)]

mod check;
mod count;
mod failure;
mod files;
mod histogram;
mod show;
mod supervise;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use count::{Counter, Tally};
use failure::{Failure, Result};
use files::Unit;
use show::Summary;

/// Counts the lines, words and bytes of files, and how long the words are, in worker processes that take their
/// work from a queue and share an array; and compares with what one process counts, and how fast.
///
/// A word is a run of bytes that are not ASCII white space, as for `LC_ALL=C wc -w` (of which some versions leave out
/// words without a printable character). Directories are walked, but for hidden files, `target` directories and
/// symbolic links. A file of up to 256 KiB is one unit of work, a larger one is cut into units of that size.
/// Everything is read once before any time is taken.
///
/// Exits with 1 if the two counts differ, or if a file could not be counted.
#[derive(Parser)]
#[command(name = "tour", bin_name = "cargo xtask tour", verbatim_doc_comment)]
struct Flags {
    /// Files and directories to count [default: the sources of this workspace]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// How many worker processes [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,

    /// Kill one worker with SIGKILL in mid-run, while it has a lock and what that protects is half changed; the next one
    /// repairs it, and what the worker had not finished is delivered to the others again
    #[arg(long)]
    kill: bool,
}

fn main() -> ExitCode {
    // A worker begins here, and does not return.
    ipc::init();
    match tour(&Flags::parse()) {
        Ok(code) => code,
        Err(Failure(text)) => {
            eprintln!("tour: {text}");
            ExitCode::FAILURE
        }
    }
}

fn tour(flags: &Flags) -> Result<ExitCode> {
    let own;
    let paths = if flags.paths.is_empty() {
        own = [files::own_sources()?];
        &own
    } else {
        flags.paths.as_slice()
    };
    let worker_count = match flags.workers {
        Some(count) => usize::from(count),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let files = files::find(paths)?;
    if files.is_empty() {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure(format!("{}: no files there", paths.join(", "))));
    }
    let units = files::units(&files);
    let byte_count = files.iter().map(|file| file.len).sum();

    let bar = show::bar("reading", byte_count);
    files::warm_up(&files, |len| bar.inc(len));
    bar.finish_and_clear();

    let bar = show::bar("1 process", byte_count);
    let single = count_here(&units, |len| bar.inc(len));
    bar.finish_and_clear();

    let bar = show::bar(&show::several(worker_count, "worker"), byte_count);
    let mut told = 0;
    let outcome = supervise::run(&units, worker_count, flags.kill, |outcome| {
        bar.set_position(outcome.tally.totals.bytes);
        for loss in &outcome.losses[told..] {
            bar.println(format!("worker {} was lost, what it had is delivered again", loss.pid));
        }
        told = outcome.losses.len();
    })?;
    bar.finish_and_clear();

    let differences = check::differences(&outcome.tally, &single.tally);
    let summary = Summary {
        file_count: files.len(),
        unit_count: units.len(),
        worker_count,
        outcome: &outcome,
        single: differences.is_empty().then_some(single.took),
    };
    match summary.print(&mut io::BufWriter::new(io::stdout().lock())) {
        // Whoever reads may have had enough (`| head`).
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::when("standard output")(error));
        }
        _ => {}
    }

    // A file that cannot be read is left out of both counts.
    let mut left_out = BTreeMap::new();
    for (id, why) in single.unreadable.iter().chain(&outcome.unreadable) {
        left_out.entry(&units[*id].path).or_insert(why);
    }
    for (path, why) in &left_out {
        eprintln!("tour: {}: {why}; not all of it was counted", Path::new(path).display());
    }
    if !differences.is_empty() {
        return Err(not_the_same(&differences, &files::changed(&files)));
    }
    Ok(if left_out.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What one process has counted: this one.
struct Single {
    tally: Tally,
    unreadable: BTreeMap<usize, String>,
    took: Duration,
}

/// Counts the same units in the same way as the workers do, one after the other.
fn count_here(units: &[Unit], mut progress: impl FnMut(u64)) -> Single {
    let started = Instant::now();
    let mut counter = Counter::default();
    let mut unreadable = BTreeMap::new();
    for (id, unit) in units.iter().enumerate() {
        if let Err(error) = counter.count(unit) {
            unreadable.insert(id, error.to_string());
        }
        progress(unit.len());
    }
    Single { tally: counter.tally, unreadable, took: started.elapsed() }
}

/// The two counts differ: because of files that have changed meanwhile, if there are such.
fn not_the_same(differences: &[String], changed: &[String]) -> Failure {
    let differences = differences.join("\n  ");
    let cause = match changed {
        [] => "and no file has changed meanwhile: this is a bug".to_owned(),
        changed => format!("since files have changed meanwhile; try again:\n  {}", changed.join("\n  ")),
    };
    Failure(format!("the workers and one process have counted differently\n  {differences}\n{cause}"))
}
