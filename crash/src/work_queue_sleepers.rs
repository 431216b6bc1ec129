//! Work queues with others who sleep beside the process: who is woken, by what is done and by a death, and what a survivor
//! finds of one that was killed asleep.

use std::time::Duration;

use ipc_process::WorkerFn;
use ipc_queue::RecvError;
use ipc_queue::work::{Delivery, JoinError, Receiver, Sender};
use ipc_testkit::stepper::{Outcome, Steps, operation};

use crate::queue::{Message, intact, long, longer, many, options, short};
use crate::tools::{DEADLINE, Seen, both, is_killed, must, scenario, timed, wrong};
use crate::work_queue::{
    Ends, Job, Task, Worker, all_done, done, end, fill, job_of, judge, wanted, warm, work,
};
use crate::worker::{Caller, Crew, Sleeper, asleep_and_killed};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = watched();
    all.push(sleeps());
    all.push(sweeps());
    all
}

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
