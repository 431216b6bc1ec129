//! The worker process, and what it and the parent say to each other.

use ipc::pipe::{Receiver, RecvError, SendError, Sender};
use serde::{Deserialize, Serialize};

use crate::count::{Counter, Totals};
use crate::failure::with_causes;
use crate::files::Unit;
use crate::histogram::Histogram;
use crate::ledger::WorkerId;

/// What the parent tells a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Count the unit number `id`, and keep what was counted; only the lengths of its words are added to the histogram
    /// at once. With `stop`, stop in the middle of that, with the lock in hand, and wait to be killed.
    Count { id: usize, unit: Unit, stop: bool },
    /// Hand over all that was counted, and begin anew.
    HandOver,
}

/// What a worker tells its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It runs.
    Ready,
    /// It is where it was told to stop.
    Stopped,
    /// It was told that a process had died with the lock of the histogram, and has repaired what that left.
    Repaired { died: Option<u32> },
    /// This unit is counted, and its count kept here.
    Counted(usize),
    /// This unit cannot be counted; nothing of it is in the tally.
    Unreadable(usize, String),
    /// A part of the tally: this word was there so many times.
    Word(#[serde(with = "serde_bytes")] Box<[u8]>, u64),
    /// The tally is complete.
    HandedOver(Totals),
}

/// How many units a worker was given in its life, or why it could not go on.
pub(crate) type Served = Result<usize, String>;

/// What runs in a worker process: does jobs until there are no more.
pub(crate) fn work(
    me: WorkerId,
    mut jobs: Receiver<Job>,
    mut reports: Sender<Report>,
    histogram: Histogram,
) -> Served {
    serve(me, &mut jobs, &mut reports, &histogram).map_err(|error| with_causes(&error))
}

fn serve(
    me: WorkerId,
    jobs: &mut Receiver<Job>,
    reports: &mut Sender<Report>,
    histogram: &Histogram,
) -> ipc::Result<usize> {
    let mut counter = Counter::default();
    let mut count = 0;
    reports.send(&Report::Ready)?;
    loop {
        match jobs.recv() {
            Ok(Job::Count { id, unit, stop }) => {
                count += 1;
                let counted = counter.count(&unit);
                let lengths = std::mem::take(&mut counter.tally.lengths);
                let half_way = || {
                    if stop {
                        wait_to_be_killed(reports)
                    }
                };
                if let Some(owner) = histogram.add(me, &lengths, half_way)? {
                    reports.send(&Report::Repaired { died: owner.pid() })?;
                }
                reports.send(&match counted {
                    Ok(()) => Report::Counted(id),
                    Err(error) => Report::Unreadable(id, error.to_string()),
                })?;
            }
            Ok(Job::HandOver) => hand_over(&mut counter, reports)?,
            Err(RecvError::Disconnected) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says that it has stopped, and stays where it is.
fn wait_to_be_killed(reports: &mut Sender<Report>) {
    // If nobody hears it, the parent is gone, and takes this process along.
    let _heard = reports.send(&Report::Stopped);
    loop {
        std::thread::park();
    }
}

/// Sends the tally word by word: of any size, and many words with each system call.
fn hand_over(counter: &mut Counter, reports: &mut Sender<Report>) -> Result<(), SendError> {
    let tally = std::mem::take(&mut counter.tally);
    let mut batch = reports.batch()?;
    for (word, count) in tally.words {
        batch.send(&Report::Word(word, count))?;
    }
    batch.send(&Report::HandedOver(tally.totals))?;
    batch.flush()
}
