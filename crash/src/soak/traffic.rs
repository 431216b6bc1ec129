//! What goes through queues: messages with numbers, and marks of who has seen which.
//!
//! Each worker numbers what it sends from 1 on, by its attempts in the journal: a number is used again only if it is known
//! that it was not sent.

use std::time::Duration;

use ipc_queue::work::Delivery;
use ipc_queue::{Options, RecvError};
use ipc_shm::Array;
use ipc_sync::OpenError;
use serde::{Deserialize, Serialize};

use crate::shared::{ROWS, Shared};

/// Who has sent it, the number, and bytes that are all the number's.
pub(crate) type Message = (u64, u64, Vec<u8>);

/// So that it is full, and out of pages, again and again.
pub(crate) fn options() -> Options {
    Options::new(16).bytes(64 << 10)
}

/// A short one, a long one of a page, or one of several.
pub(crate) fn message(row: usize, number: u64) -> Message {
    let len = [20, 20, 500, 9_000][number as usize % 4];
    (row as u64, number, vec![number as u8; len])
}

/// The last so many numbers of each sender are remembered; they do not overtake each other that far.
const WINDOW: u64 = 1 << 14;

/// The ends of a queue, and what was seen of its messages.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Traffic<S, R> {
    pub(crate) tx: S,
    pub(crate) rx: R,
    /// Of each sender, by its numbers, each the number itself: which were received, or done.
    seen: Array<u64>,
    /// Which somebody began to acknowledge.
    begun: Array<u64>,
    /// Which were delivered, and what the queue itself calls them.
    delivered: Array<u64>,
    ids: Array<u64>,
    /// For each receiver, of each sender: the highest number it has received.
    highest: Array<u64>,
}

impl<S, R> Traffic<S, R> {
    pub(crate) fn new((tx, rx): (S, R)) -> Result<Self, OpenError> {
        Ok(Traffic {
            tx,
            rx,
            seen: Array::new(ROWS * WINDOW as usize)?,
            begun: Array::new(ROWS * WINDOW as usize)?,
            delivered: Array::new(ROWS * WINDOW as usize)?,
            ids: Array::new(ROWS * WINDOW as usize)?,
            highest: Array::new(ROWS * ROWS)?,
        })
    }

    /// Writes down that this one was seen, which must be for the first time.
    fn see(&self, sender: usize, number: u64) -> Result<(), String> {
        let before = get(&self.seen, sender, number);
        if before >= number {
            return Err(format!("number {number} of {sender} came twice, or {before} before it"));
        }
        set(&self.seen, sender, number, number);
        Ok(())
    }

    /// How many of the last numbers of a sender nobody has seen, nor begun to acknowledge.
    pub(crate) fn unseen(&self, sender: usize, attempts: u64) -> u64 {
        let from = attempts.saturating_sub(WINDOW - 1).max(1);
        let is_there = |marks, number: u64| get(marks, sender, number) == number;
        let is_unseen = |number: &u64| !is_there(&self.seen, *number) && !is_there(&self.begun, *number);
        (from..=attempts).filter(is_unseen).count() as u64
    }
}

fn at(sender: usize, number: u64) -> usize {
    sender * WINDOW as usize + (number % WINDOW) as usize
}

fn get(marks: &Array<u64>, sender: usize, number: u64) -> u64 {
    marks.get(at(sender, number)).expect("within the window")
}

fn set(marks: &Array<u64>, sender: usize, number: u64, value: u64) {
    marks.set(at(sender, number), value).expect("within the window");
}

fn check((sender, number, bytes): &Message) -> Result<(usize, u64), String> {
    let expected = message(*sender as usize, *number);
    if *sender as usize >= ROWS || expected.2 != *bytes {
        return Err(format!("number {number} of {sender} is torn: {} bytes", bytes.len()));
    }
    Ok((*sender as usize, *number))
}

/// A message that was received, by a row if it was a worker.
pub(crate) fn received(shared: &Shared, row: Option<usize>, message: &Message) -> Result<(), String> {
    let (sender, number) = check(message)?;
    let queue = &shared.queue;
    queue.see(sender, number)?;
    let Some(row) = row else { return Ok(()) };
    let at = row * ROWS + sender;
    let highest = queue.highest.get(at).expect("one for each pair");
    if highest >= number {
        return Err(format!("number {number} of {sender} came to {row} after {highest}"));
    }
    queue.highest.set(at, number).expect("one for each pair");
    Ok(())
}

/// A job that was delivered is acknowledged: one that was done never comes again, and one that comes again says so.
pub(crate) fn work(shared: &Shared, job: Delivery<Message>) -> Result<(), String> {
    let (sender, number) = check(&job)?;
    let (jobs, id) = (&shared.jobs, job.id());
    if get(&jobs.seen, sender, number) >= number {
        return Err(format!("job {number} of {sender} was done, and comes again"));
    }
    let is_known = get(&jobs.delivered, sender, number) == number;
    let before = get(&jobs.ids, sender, number);
    if is_known && (job.attempts() == 1 || before != id) {
        let attempts = job.attempts();
        return Err(format!("job {number} of {sender}, {before}, comes again as {id}, delivery {attempts}"));
    }
    set(&jobs.ids, sender, number, id);
    set(&jobs.delivered, sender, number, number);
    set(&jobs.begun, sender, number, number);
    job.ack().map_err(|error| error.to_string())?;
    jobs.see(sender, number)
}

/// Receives and does what is left when all workers have ended.
pub(crate) fn drain(shared: &Shared) -> Result<(), String> {
    loop {
        match shared.queue.rx.try_recv() {
            Ok(message) => received(shared, None, &message)?,
            Err(RecvError::Empty) => break,
            Err(error) => return Err(format!("what is left cannot be received: {error:?}")),
        }
    }
    loop {
        match shared.jobs.rx.try_recv() {
            Ok(job) => work(shared, job)?,
            Err(RecvError::Empty) => break,
            Err(error) => return Err(format!("jobs that are left cannot be received: {error:?}")),
        }
    }
    let wait = Duration::from_secs(5);
    shared.jobs.tx.join_timeout(wait).map_err(|error| format!("all is done, and join: {error:?}"))?;
    // All pages are there again.
    let whole = (0, 0, vec![0; (64 << 10) - 64]);
    shared.queue.tx.send_timeout(&whole, wait).map_err(|error| format!("of all pages: {error:?}"))?;
    let received = shared.queue.rx.try_recv().map_err(|error| format!("of all pages: {error:?}"))?;
    shared.jobs.tx.send_timeout(&whole, wait).map_err(|error| format!("a job of all pages: {error:?}"))?;
    if received == whole { Ok(()) } else { Err("a message of all pages is torn".into()) }
}
