//! Work queues: no job is lost, none comes again that was acknowledged, and one that comes again says so.

use std::time::{Duration, Instant};

use ipc_process::{Process, WorkerFn};
use ipc_queue::work::{Delivery, Receiver, Sender};
use ipc_queue::{RecvError, SendError};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::lock_recover::{die, has_died};
use crate::queue::{CAPACITY, Message, intact, long, many, options, short, whole};
use crate::tools::{DEADLINE, Seen, both, is_killed, must, scenario, timed, waited, wrong};
use crate::worker::{Crew, Hired, Say, Sleeper};

pub(crate) type Ends = (Sender<Message>, Receiver<Message>);
/// Which job, and how often it was delivered.
pub(crate) type Job = (u64, u32);

pub(crate) fn fill(tx: &Sender<Message>, messages: &[Message]) {
    messages.iter().for_each(|message| tx.try_send(message).expect("there is room"));
}

/// Both have been used, and what is to be there is there.
pub(crate) fn warm((tx, rx): &Ends, messages: &[Message]) {
    tx.send(&short(0)).expect("there is room");
    rx.recv().expect("there is one").ack().expect("it is there");
    fill(tx, messages);
}

pub(crate) fn job_of(delivery: &Delivery<Message>) -> Result<Job, String> {
    Ok((intact(delivery)?, delivery.attempts()))
}

/// Takes the next of all that there are, and acknowledges it.
pub(crate) fn done(rx: &Receiver<Message>) -> Result<Option<Job>, BoxError> {
    match timed(|| rx.try_recv()) {
        Ok(delivery) => {
            let job = job_of(&delivery)?;
            timed(|| delivery.ack())?;
            Ok(Some(job))
        }
        Err(RecvError::Empty) => Ok(None),
        Err(other) => wrong(format!("a survivor got {other:?}")),
    }
}

/// All jobs that there are, done one after the other.
pub(crate) fn all_done(rx: &Receiver<Message>) -> Result<Vec<Job>, BoxError> {
    let mut jobs = Vec::new();
    while let Some(job) = done(rx)? {
        jobs.push(job);
        must(jobs.len() <= 100, || "jobs without end".into())?;
    }
    Ok(jobs)
}

/// How many can be out at the same time.
const LEASES: u64 = 64;

/// All is done: it is as good as a new one.
fn settle((tx, rx): &Ends) -> Result<(), BoxError> {
    timed(|| tx.join_timeout(DEADLINE)).map_err(|error| format!("all is done, and join: {error:?}"))?;
    let mut out = Vec::new();
    for id in 0..LEASES {
        timed(|| tx.send_timeout(&short(id), DEADLINE))?;
        let delivery = timed(|| rx.try_recv())
            .map_err(|error| format!("of {LEASES} jobs that can be out {id} are, and then: {error:?}"))?;
        must(job_of(&delivery)? == (id, 1), || format!("job {id} came as {:?}", job_of(&delivery)))?;
        out.push(delivery);
    }
    out.into_iter().try_for_each(|delivery| delivery.ack().map(drop))?;
    for id in 0..CAPACITY {
        timed(|| tx.send_timeout(&short(id), DEADLINE))?;
    }
    let full = timed(|| tx.try_send(&short(9)));
    must(matches!(full, Err(SendError::Full)), || format!("one too many: {full:?}"))?;
    let jobs = all_done(rx)?;
    must(jobs == many_jobs(0..CAPACITY), || format!("{CAPACITY} were sent, and {jobs:?} came"))?;
    for id in 1..3 {
        timed(|| tx.send_timeout(&whole(id), DEADLINE)).map_err(|error| format!("of all pages: {error}"))?;
        let jobs = all_done(rx)?;
        must(jobs == [(id, 1)], || format!("of all pages {jobs:?} came"))?;
    }
    Ok(timed(|| tx.join_timeout(DEADLINE))?)
}

/// Delivered once each.
fn many_jobs(ids: impl IntoIterator<Item = u64>) -> Vec<Job> {
    ids.into_iter().map(|id| (id, 1)).collect()
}

/// Settles it, and is told when there are no senders any more.
pub(crate) fn end(ends: Ends) -> Result<(), BoxError> {
    settle(&ends)?;
    let (tx, rx) = ends;
    drop(tx);
    let told = timed(|| rx.recv_timeout(DEADLINE)).map(|delivery| job_of(&delivery));
    must(matches!(told, Err(RecvError::Disconnected)), || format!("no sender, and {told:?}"))
}

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let recv = |ends: Ends| {
        warm(&ends, &many(short, 1..3));
        std::mem::forget(operation(|| ends.1.recv()).expect("there are two"));
    };
    let recv_long = |ends: Ends| {
        warm(&ends, &many(long, 1..3));
        std::mem::forget(operation(|| ends.1.recv()).expect("there are two"));
    };
    let recv_first = |ends: Ends| std::mem::forget(operation(|| ends.1.recv()).expect("there are two"));
    let ack = |ends: Ends| {
        warm(&ends, &many(short, 1..3));
        let job = ends.1.recv().expect("there are two");
        operation(|| job.ack()).expect("it is there");
    };
    let ack_long = |ends: Ends| {
        warm(&ends, &many(long, 1..3));
        let job = ends.1.recv().expect("there are two");
        operation(|| job.ack()).expect("it is there");
    };
    let nack = |ends: Ends| {
        warm(&ends, &many(long, 1..3));
        let job = ends.1.recv().expect("there are two");
        operation(|| job.nack());
    };
    let done = |ends: Ends| {
        warm(&ends, &many(long, 1..3));
        operation(|| ends.1.recv().map(Delivery::ack)).expect("there are two").expect("it is there");
    };
    vec![
        alone("work_queue/recv", recv, &[&[(1, 1), (2, 1)], &[(1, 2), (2, 1)]]),
        alone("work_queue/recv, a long one", recv_long, &[&[(1, 1), (2, 1)], &[(1, 2), (2, 1)]]),
        alone("work_queue/ack", ack, &[&[(1, 2), (2, 1)], &[(2, 1)]]),
        alone("work_queue/ack, a long one", ack_long, &[&[(1, 2), (2, 1)], &[(2, 1)]]),
        alone("work_queue/nack, a long one", nack, &[&[(1, 2), (2, 1)]]),
        alone(
            "work_queue/recv and ack, a long one",
            done,
            &[&[(1, 1), (2, 1)], &[(1, 2), (2, 1)], &[(2, 1)]],
        ),
        again("work_queue/recv again", recv_first, short),
        again("work_queue/recv again, a long one", recv_first, long),
        puts_aside("work_queue/recv that puts aside", recv_first, false),
        puts_aside("work_queue/recv that puts aside, one joins", recv_first, true),
        takes_aside(),
        others_go_on(),
        full_again(),
    ]
}

/// What is left is one of these; the last of them, if it was not killed.
pub(crate) fn judge(left: &[Job], is_killed: bool, expected: &[&[Job]], seen: &Seen) -> Result<(), BoxError> {
    const NOTES: [&str; 3] = ["first", "second", "third"];
    // One that comes again does so as soon as the death is known, those that come once in their turn.
    let once: Vec<u64> = left.iter().filter(|(_, attempts)| *attempts == 1).map(|(id, _)| *id).collect();
    let mut sorted = left.to_vec();
    sorted.sort_unstable();
    let is_found = |jobs: &&[Job]| **jobs == sorted && once.is_sorted();
    let found = expected.iter().position(is_found).filter(|at| is_killed || at + 1 == expected.len());
    match found {
        Some(at) => seen.note(NOTES[at]),
        None => return wrong(format!("{left:?} came, of {expected:?}; killed: {is_killed}")),
    }
    Ok(())
}

pub(crate) fn wanted(count: usize) -> &'static [&'static str] {
    &["first", "second", "third"][..count]
}

fn alone<F>(name: &str, process: F, expected: &'static [&'static [Job]]) -> Box<dyn Steps>
where
    F: WorkerFn<(Ends,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted(expected.len()));
    let prepare = || {
        let (ours, theirs) = both(options().work()?);
        Ok((Some(ours), theirs))
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        judge(&all_done(&ends.1)?, is_killed(&outcome), expected, &seen)?;
        end(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn keeping_one(ends: Ends) {
    warm(&ends, &many(short, 1..5));
    std::mem::forget(operation(|| ends.1.recv()).expect("it is full"));
}

/// The survivors send and work all the time, and there is always a next job: one that comes again is not forgotten.
fn others_go_on() -> Box<dyn Steps> {
    let prepare = || {
        let (ours, theirs) = both(options().work()?);
        Ok((Some(ours), theirs))
    };
    let oracle = |ends: &mut Option<Ends>, _: Outcome<()>| {
        const TIME: Duration = Duration::from_secs(1);
        let (tx, rx) = ends.take().ok_or("the survivor's own")?;
        let start = Instant::now();
        let mut jobs = Vec::new();
        // Three are in the queue all the time, or four.
        for id in 5.. {
            let delivery = timed(|| rx.recv_timeout(DEADLINE))?;
            jobs.push(job_of(&delivery)?);
            delivery.ack()?;
            if jobs.iter().any(|(id, _)| *id == 1) {
                break;
            }
            must(start.elapsed() < TIME, || format!("{} jobs came, and job 1 did not", jobs.len()))?;
            tx.try_send(&short(id))?;
        }
        waited(start.elapsed());
        jobs.extend(all_done(&rx)?);
        jobs.sort_unstable();
        let is_right = jobs.iter().map(|(id, _)| *id).eq(1..jobs.len() as u64 + 1);
        must(is_right && jobs[1..].iter().all(|(_, attempts)| *attempts == 1), || format!("{jobs:?} came"))?;
        end((tx, rx))
    };
    Box::new(scenario("work_queue/recv, and the others go on", prepare, keeping_one, oracle))
}

/// The room that was made is used before anybody else receives.
fn full_again() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(wanted(2));
    let prepare = || {
        let (ours, theirs) = both(options().work()?);
        Ok((Some(ours), theirs))
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let is_killed = is_killed(&outcome);
        let sent = timed(|| ends.0.try_send(&short(5)));
        let left = all_done(&ends.1)?;
        match sent {
            Ok(()) => judge(&left, true, &[&[], &[(1, 2), (2, 1), (3, 1), (4, 1), (5, 1)]], &seen)?,
            Err(SendError::Full) => {
                // Also if it has it on the way.
                let expected: [&[Job]; 2] =
                    [&[(1, 1), (2, 1), (3, 1), (4, 1)], &[(1, 2), (2, 1), (3, 1), (4, 1)]];
                must(is_killed, || "it has received one, and it is full".into())?;
                judge(&left, is_killed, &expected, &Seen::default())?;
                seen.note("first");
            }
            other => return wrong(format!("the next one: {other:?}")),
        }
        end(ends)
    };
    let name = "work_queue/recv, full, and a survivor sends";
    Box::new(scenario(name, prepare, keeping_one, oracle).finally(finally))
}

/// Takes a job and dies.
fn victim(rx: Receiver<Message>) {
    let _job = rx.recv().expect("there is one");
    die()
}

/// A worker has died over the first of two jobs.
fn again<F>(name: &str, process: F, make: fn(u64) -> Message) -> Box<dyn Steps>
where
    F: WorkerFn<(Ends,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted(2));
    let prepare = move || {
        let (ours, theirs) = both(options().work()?);
        fill(&ours.0, &many(make, 1..3));
        has_died(Process::spawn(victim, (ours.1.clone(),))?)?;
        Ok((Some(ours), theirs))
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let expected: [&[Job]; 2] = [&[(1, 2), (2, 1)], &[(1, 3), (2, 1)]];
        judge(&all_done(&ends.1)?, is_killed(&outcome), &expected, &seen)?;
        end(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

/// All that was put aside, done.
fn aside(rx: &Receiver<Message>) -> Result<Vec<Job>, BoxError> {
    let mut jobs = Vec::new();
    loop {
        match timed(|| rx.try_recv_aside()) {
            Ok(delivery) => {
                jobs.push(job_of(&delivery)?);
                timed(|| delivery.ack())?;
            }
            Err(RecvError::Empty) => return Ok(jobs),
            Err(other) => return wrong(format!("of what was put aside a survivor got {other:?}")),
        }
        must(jobs.len() <= 100, || "jobs without end".into())?;
    }
}

/// One delivery is enough for a job to be put aside: a worker has died over the first of two, and the process that takes
/// the second finds it. Somebody waits until all is done, which is then.
fn puts_aside<F>(name: &str, process: F, joins: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Ends,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["not delivered", "delivered"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().attempts(1).work()?);
        fill(&ours.0, &many(long, 1..3));
        has_died(Process::spawn(victim, (ours.1.clone(),))?)?;
        let mut workers = Vec::new();
        if joins {
            let (worker, caller) = crew.sleeper(|sleeper| Task::Join(ours.0.clone(), sleeper))?;
            caller.wait_for_sleeper();
            workers.push(worker);
        }
        Ok(((Some(ours), workers), theirs))
    };
    let oracle = move |(ends, workers): &mut (Option<Ends>, Vec<Worker>), outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let left = all_done(&ends.1)?;
        for worker in workers.iter_mut() {
            let told = worker.told()?;
            must(told.is_empty(), || format!("all is done, and who joins got {told:?}"))?;
        }
        let aside = aside(&ends.1)?;
        match (&left[..], &aside[..]) {
            ([(2, 1)], [(1, 2)]) if is_killed(&outcome) => seen.note("not delivered"),
            ([], [(1, 2), (2, 2)] | [(2, 2), (1, 2)]) => seen.note("delivered"),
            _ => return wrong(format!("{left:?} came, and {aside:?} from aside")),
        }
        end(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn taking_aside(ends: Ends) {
    operation(|| ends.1.try_recv_aside().map(Delivery::ack)).expect("there is one").expect("it is there");
}

/// A job that was put aside is worked on once more.
fn takes_aside() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(wanted(3));
    let prepare = || {
        let (ours, theirs) = both(options().attempts(1).work()?);
        fill(&ours.0, &[long(1)]);
        has_died(Process::spawn(victim, (ours.1.clone(),))?)?;
        let left = all_done(&ours.1)?;
        must(left.is_empty(), || format!("{left:?} came"))?;
        Ok((Some(ours), theirs))
    };
    let oracle = move |ends: &mut Option<Ends>, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let left = all_done(&ends.1)?;
        must(left.is_empty(), || format!("put aside, {left:?} came"))?;
        judge(&aside(&ends.1)?, is_killed(&outcome), &[&[(1, 2)], &[(1, 3)], &[]], &seen)?;
        end(ends)
    };
    Box::new(scenario("work_queue/try_recv_aside and ack", prepare, taking_aside, oracle).finally(finally))
}

/// What a worker is to sleep in.
#[derive(Serialize, Deserialize)]
pub(crate) enum Task {
    /// Takes jobs and does them until there is an error.
    Work(Receiver<Message>, Sleeper),
    /// Takes one and does it.
    WorkOnce(Receiver<Message>, Sleeper),
    Join(Sender<Message>, Sleeper),
}

/// What it did, each a line: jobs and how often they were delivered, and the error.
pub(crate) type Said = Vec<String>;

pub(crate) fn work(task: Task, mut say: Say<'_, Said>) {
    let mut said = Vec::new();
    let mut work_once = |rx: &Receiver<Message>| {
        let result = rx.recv().map_err(|error| format!("{error:?}")).and_then(|delivery| {
            let (id, attempts) = job_of(&delivery)?;
            delivery.ack().map_err(|error| format!("{error:?}"))?;
            Ok(format!("job {id}, delivery {attempts}"))
        });
        let is_fine = result.is_ok();
        said.push(result.unwrap_or_else(|error| error));
        is_fine
    };
    match task {
        Task::Work(rx, mut sleeper) => {
            sleeper.wait_for_caller();
            while work_once(&rx) {}
        }
        Task::WorkOnce(rx, mut sleeper) => {
            sleeper.wait_for_caller();
            work_once(&rx);
        }
        Task::Join(tx, mut sleeper) => {
            sleeper.wait_for_caller();
            said.extend(tx.join().err().map(|error| format!("{error:?}")));
        }
    }
    say.say(said);
}

pub(crate) type Worker = Hired<Task, Said>;
