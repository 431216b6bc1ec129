//! Work queues: no job is lost, none comes again that was acknowledged, and one that comes again says so.

use std::time::{Duration, Instant};

use ipc_process::{Process, WorkerFn};
use ipc_queue::work::{Delivery, JoinError, Receiver, Sender};
use ipc_queue::{RecvError, SendError};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::lock_recover::{die, has_died};
use crate::queue::{CAPACITY, Message, intact, long, longer, many, options, short, whole};
use crate::tools::{DEADLINE, Seen, both, is_killed, must, scenario, timed, waited, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper, asleep_and_killed};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = alone_with_it();
    all.extend(watched());
    all.push(sleeps());
    all.push(sweeps());
    all
}

type Ends = (Sender<Message>, Receiver<Message>);
/// Which job, and how often it was delivered.
type Job = (u64, u32);

fn fill(tx: &Sender<Message>, messages: &[Message]) {
    messages.iter().for_each(|message| tx.try_send(message).expect("there is room"));
}

/// Both have been used, and what is to be there is there.
fn warm((tx, rx): &Ends, messages: &[Message]) {
    tx.send(&short(0)).expect("there is room");
    rx.recv().expect("there is one").ack().expect("it is there");
    fill(tx, messages);
}

fn job_of(delivery: &Delivery<Message>) -> Result<Job, String> {
    Ok((intact(delivery)?, delivery.attempts()))
}

/// Takes the next of all that there are, and acknowledges it.
fn done(rx: &Receiver<Message>) -> Result<Option<Job>, BoxError> {
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
fn all_done(rx: &Receiver<Message>) -> Result<Vec<Job>, BoxError> {
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
fn end(ends: Ends) -> Result<(), BoxError> {
    settle(&ends)?;
    let (tx, rx) = ends;
    drop(tx);
    let told = timed(|| rx.recv_timeout(DEADLINE)).map(|delivery| job_of(&delivery));
    must(matches!(told, Err(RecvError::Disconnected)), || format!("no sender, and {told:?}"))
}

fn alone_with_it() -> Vec<Box<dyn Steps>> {
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
fn judge(left: &[Job], is_killed: bool, expected: &[&[Job]], seen: &Seen) -> Result<(), BoxError> {
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

fn wanted(count: usize) -> &'static [&'static str] {
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
enum Task {
    /// Takes jobs and does them until there is an error.
    Work(Receiver<Message>, Sleeper),
    /// Takes one and does it.
    WorkOnce(Receiver<Message>, Sleeper),
    Join(Sender<Message>, Sleeper),
}

/// What it did, each a line: jobs and how often they were delivered, and the error.
type Said = Vec<String>;

fn work(task: Task, mut say: Say<'_, Said>) {
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

type Worker = Hired<Task, Said>;
type Watched = (Ends, Caller);

/// The process has job 1, which is the only one.
fn with_job<R>((ends, caller): Watched, message: Message, f: impl FnOnce(Delivery<Message>) -> R) -> R {
    warm(&ends, &[message]);
    let job = ends.1.recv().expect("there is one");
    caller.wait_for_sleeper();
    operation(|| f(job))
}

/// As [`with_job`]; nobody else can send, and nobody sends any more.
fn with_last_job<R>((ends, caller): Watched, message: Message, f: impl FnOnce(Delivery<Message>) -> R) -> R {
    warm(&ends, &[message]);
    let job = ends.1.recv().expect("there is one");
    drop(ends);
    caller.wait_for_sleeper();
    operation(|| f(job))
}

fn watched() -> Vec<Box<dyn Steps>> {
    let nack = |watched: Watched| with_job(watched, short(1), Delivery::nack);
    let nack_long = |watched: Watched| with_job(watched, long(1), Delivery::nack);
    let ack_last = |watched: Watched| _ = with_last_job(watched, short(1), Delivery::ack);
    let ack_last_long = |watched: Watched| _ = with_last_job(watched, long(1), Delivery::ack);
    let ack = |watched: Watched| _ = with_job(watched, short(1), Delivery::ack);
    let ack_long = |watched: Watched| _ = with_job(watched, long(1), Delivery::ack);
    vec![
        comes_again("work_queue/nack, with a sleeper", nack),
        comes_again("work_queue/nack, a long one, with a sleeper", nack_long),
        last_job("work_queue/ack, the last job, with a sleeper", ack_last),
        last_job("work_queue/ack, the last long job, with a sleeper", ack_last_long),
        joins("work_queue/ack, one joins", ack, true),
        joins("work_queue/ack, a long one, one joins", ack_long, true),
        joins("work_queue/ack by the only worker, one joins", ack, false),
        last_sender(),
    ]
}

/// Given back or dead, the job comes again to the worker that sleeps.
fn comes_again<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().work()?);
        let (worker, caller) = crew.sleeper(|sleeper| Task::WorkOnce(ours.1.clone(), sleeper))?;
        Ok(((Some(ours), worker), (theirs, caller)))
    };
    let oracle = |(ends, worker): &mut (Option<Ends>, Worker), _: Outcome<()>| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let told = worker.told()?;
        must(told == ["job 1, delivery 2"], || format!("the sleeper got {told:?}"))?;
        let left = all_done(&ends.1)?;
        must(left.is_empty(), || format!("and then {left:?} came"))?;
        end(ends)
    };
    Box::new(scenario(name, prepare, process, oracle))
}

/// Nobody sends any more, and the last job is the process's: a worker sleeps until that is done or comes again.
fn last_job<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["again", "done"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = options().work()?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::Work(rx.clone(), sleeper))?;
        Ok(((rx.clone(), worker), ((tx, rx), caller)))
    };
    let oracle = move |(rx, worker): &mut (Receiver<Message>, Worker), outcome: Outcome<()>| {
        let told = worker.told()?;
        if told == ["Disconnected"] {
            seen.note("done");
        } else {
            must(is_killed(&outcome) && told == ["job 1, delivery 2", "Disconnected"], || {
                format!("the sleeper got {told:?}")
            })?;
            seen.note("again");
        }
        let told = timed(|| rx.recv_timeout(DEADLINE)).map(|delivery| job_of(&delivery));
        must(matches!(told, Err(RecvError::Disconnected)), || format!("another one got {told:?}"))
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

type Joined = (Option<Sender<Message>>, Option<Receiver<Message>>, Worker);

/// Somebody waits until all is done. If the process dies before, a survivor does the job; or there is nobody left who
/// could, which is told.
fn joins<F>(name: &str, process: F, with_survivor: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["again", "done"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = options().work()?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::Join(tx.clone(), sleeper))?;
        Ok(((Some(tx.clone()), with_survivor.then(|| rx.clone()), worker), ((tx, rx), caller)))
    };
    let oracle = move |(tx, rx, worker): &mut Joined, outcome: Outcome<()>| {
        let is_killed = is_killed(&outcome);
        let tx = tx.take().ok_or("the survivor's own")?;
        let Some(rx) = rx.take() else {
            let told = worker.told()?;
            match &told[..] {
                [] => seen.note("done"),
                [error] if is_killed && error == "Disconnected" => {
                    seen.note("again");
                    let told = timed(|| tx.join_timeout(DEADLINE));
                    must(matches!(told, Err(JoinError::Disconnected)), || {
                        format!("and another one {told:?}")
                    })?;
                }
                _ => return wrong(format!("who joins got {told:?}")),
            }
            return Ok(());
        };
        match done(&rx)? {
            Some((1, 2)) if is_killed => seen.note("again"),
            None => seen.note("done"),
            other => return wrong(format!("there is {other:?}; killed: {is_killed}")),
        }
        let told = worker.told()?;
        must(told.is_empty(), || format!("all is done, and who joins got {told:?}"))?;
        let left = all_done(&rx)?;
        must(left.is_empty(), || format!("and then {left:?} came"))?;
        end((tx, rx))
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn dropping(((tx, rx), caller): Watched) {
    drop(rx);
    caller.wait_for_sleeper();
    operation(|| {
        tx.send(&long(1)).expect("there is room");
        drop(tx);
    });
}

fn last_sender() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["sent", "not sent"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = options().work()?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::Work(rx.clone(), sleeper))?;
        Ok((worker, ((tx, rx), caller)))
    };
    let oracle = move |worker: &mut Worker, outcome: Outcome<()>| {
        let told = worker.told()?;
        if told == ["job 1, delivery 1", "Disconnected"] {
            seen.note("sent");
        } else {
            must(is_killed(&outcome) && told == ["Disconnected"], || format!("the sleeper got {told:?}"))?;
            seen.note("not sent");
        }
        Ok(())
    };
    let name = "work_queue/send and drop, the last sender";
    Box::new(scenario(name, prepare, dropping, oracle).finally(finally))
}

fn receiving((ends, caller): Watched) -> u64 {
    warm(&ends, &[]);
    caller.wait_for_sleeper();
    let job = operation(|| ends.1.recv()).expect("a survivor sends");
    let id = intact(&job).expect("nobody has died");
    job.ack().expect("it is there");
    id
}

type Sleeping = (Option<Ends>, Worker, u64);

/// The process and a worker sleep, and a survivor sends: who was woken is killed, and the other one gets it.
fn sleeps() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["asleep", "again"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().work()?);
        let (worker, caller) = crew.sleeper(|sleeper| Task::WorkOnce(ours.1.clone(), sleeper))?;
        Ok(((Some(ours), worker, 10), (theirs, caller)))
    };
    // Another one, as long as it sleeps: the first may be the worker's.
    let while_blocked = |(ends, _, next): &mut Sleeping, turn| {
        if turn < 2
            && let Some((tx, _)) = ends
        {
            tx.try_send(&short(*next)).expect("there is room");
            *next += 1;
        }
    };
    let oracle = move |(ends, worker, next): &mut Sleeping, outcome: Outcome<u64>| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let mut all: Vec<u64> = Vec::new();
        if let Outcome::Completed(id) = outcome {
            all.push(id);
        }
        if *next > 10 {
            seen.note("asleep");
        }
        if outcome != Outcome::Killed || *next == 10 {
            ends.0.try_send(&short(*next))?;
            *next += 1;
        }
        // Of those that were sent one is the dead one's at most, and comes again.
        let told = worker.told()?;
        let by_worker = (10..*next).find_map(|id| match &told[..] {
            [said] if *said == format!("job {id}, delivery 1") => Some((id, 1)),
            [said] if *said == format!("job {id}, delivery 2") => Some((id, 2)),
            _ => None,
        });
        let Some(by_worker) = by_worker else { return wrong(format!("the sleeper got {told:?}")) };
        let left = all_done(&ends.1)?;
        let again = left.iter().chain([&by_worker]).filter(|(_, attempts)| *attempts > 1).count();
        if again != 0 {
            seen.note("again");
        }
        must(again <= usize::from(outcome == Outcome::Killed), || {
            format!("{by_worker:?}, and then {left:?}")
        })?;
        all.push(by_worker.0);
        all.extend(left.iter().map(|(id, _)| *id));
        all.sort_unstable();
        must(all.iter().copied().eq(10..*next), || format!("of 10 to {next} {all:?} came"))?;
        end(ends)
    };
    let name = "work_queue/recv that sleeps, one of two";
    Box::new(scenario(name, prepare, receiving, oracle).while_blocked(while_blocked).finally(finally))
}

fn stuck((tx, mut sleeper): (Sender<Message>, Sleeper)) {
    sleeper.wait_for_caller();
    let _never = tx.send_timeout(&longer(99), Duration::from_secs(60));
}

type Sweeping = (Option<Ends>, Option<Delivery<Message>>);

/// A survivor has a long job, and one that was killed the rest of the pages: who sends a long one finds those.
fn sweeps() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(wanted(2));
    let prepare = || {
        let (ours, theirs) = both(options().work()?);
        fill(&ours.0, &[long(1)]);
        let job = ours.1.try_recv()?;
        fill(&ours.0, &many(short, 2..6));
        asleep_and_killed(|sleeper| (ours.0.clone(), sleeper), stuck)?;
        let first = done(&ours.1)?;
        must(first == Some((2, 1)), || format!("the first is {first:?}"))?;
        Ok(((Some(ours), Some(job)), theirs))
    };
    let sending = |ends: Ends| operation(|| ends.0.try_send(&long(6))).expect("what the dead had is free");
    let oracle = move |(ends, job): &mut Sweeping, outcome| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let job = job.take().ok_or("the survivor's own")?;
        let expected: [&[Job]; 2] = [&[(3, 1), (4, 1), (5, 1)], &[(3, 1), (4, 1), (5, 1), (6, 1)]];
        let is_killed = is_killed(&outcome);
        judge(&all_done(&ends.1)?, is_killed, &expected, &seen)?;
        // The survivor's stays as it is through this sweep and another one.
        timed(|| ends.0.send_timeout(&longer(7), DEADLINE))?;
        job.nack();
        let left = all_done(&ends.1)?;
        must(left.iter().copied().min() == Some((1, 2)) && left.len() == 2, || {
            format!("beside the survivor's, after a sweep: {left:?}")
        })?;
        end(ends)
    };
    Box::new(scenario("work_queue/send that sweeps", prepare, sending, oracle).finally(finally))
}
