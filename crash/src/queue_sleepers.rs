//! Queues with others who sleep beside the process: who is woken, by what is done and by a death, and what is told to the
//! last ones who are left.

use std::time::{Duration, Instant};

use ipc_process::WorkerFn;
use ipc_queue::{Receiver, RecvError, SendError, Sender};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::queue::{Ends, Message, fill, intact, judge, long, many, options, rest, settle, short, warm};
use crate::tools::{DEADLINE, Seen, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = watched();
    all.extend(last_ones());
    all
}

/// What a worker is to sleep in.
#[derive(Serialize, Deserialize)]
enum Task {
    Recv(Receiver<Message>, Sleeper),
    /// Until there is an error.
    RecvAll(Receiver<Message>, Sleeper),
    Send(Sender<Message>, Message, Sleeper),
}

/// What it received, and the error.
type Said = (Vec<u64>, String);

fn work(task: Task, mut say: Say<'_, Said>) {
    let mut ids = Vec::new();
    let mut receive = |rx: &Receiver<Message>| match rx.recv() {
        Ok(message) => intact(&message).map(|id| ids.push(id)),
        Err(error) => Err(format!("{error:?}")),
    };
    let ended = match task {
        Task::Recv(rx, mut sleeper) => {
            sleeper.wait_for_caller();
            receive(&rx)
        }
        Task::RecvAll(rx, mut sleeper) => {
            sleeper.wait_for_caller();
            loop {
                if let Err(error) = receive(&rx) {
                    break Err(error);
                }
            }
        }
        Task::Send(tx, message, mut sleeper) => {
            sleeper.wait_for_caller();
            tx.send(&message).map_err(|error| format!("{error:?}"))
        }
    };
    say.say((ids, ended.err().unwrap_or_default()));
}

type Worker = Hired<Task, Said>;
type Watched = (Ends, Vec<Caller>);

/// Which of those who have said nothing so far says something first, and what.
fn first_of<A, R>(workers: &mut [Hired<A, R>], silent: &mut Vec<usize>) -> Result<(usize, R), BoxError>
where
    A: Serialize + DeserializeOwned + 'static,
    R: Serialize + DeserializeOwned + 'static,
{
    if let [last] = silent[..] {
        silent.clear();
        return Ok((last, workers[last].told()?));
    }
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        for (at, worker) in silent.clone().into_iter().enumerate() {
            if let Some(told) = workers[worker].told_within(Duration::from_millis(1))? {
                silent.remove(at);
                return Ok((worker, told));
            }
        }
    }
    wrong("there is something for one of those who sleep, and all sleep on")
}

fn watched() -> Vec<Box<dyn Steps>> {
    let sends = |(ends, callers): Watched| {
        warm(&ends, &[]);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| ends.0.send(&short(1))).expect("there is room");
    };
    let sends_long = |(ends, callers): Watched| {
        warm(&ends, &[]);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| ends.0.send(&long(1))).expect("there is room");
    };
    let sends_two = |(ends, callers): Watched| {
        warm(&ends, &[]);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| ends.0.send_all(many(short, 1..3))).expect("there is room");
    };
    let recv = |(ends, callers): Watched| {
        warm(&ends, &many(short, 1..5));
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| ends.1.recv()).expect("it is full");
    };
    let recv_long = |(ends, callers): Watched| {
        warm(&ends, &many(long, 1..4));
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| ends.1.recv()).expect("there are three");
    };
    vec![
        receivers_sleep("queue/send, with a sleeper", sends, 1),
        receivers_sleep("queue/send, a long one, with a sleeper", sends_long, 1),
        receivers_sleep("queue/send_all, with two sleepers", sends_two, 2),
        one_of_two_receivers(),
        sender_sleeps("queue/recv, with a sleeper", recv, 4, short),
        sender_sleeps("queue/recv, a long one, with a sleeper", recv_long, 3, long),
    ]
}

/// They come once each, in their turn, and those of the process that is stepped one after the other; the others are the
/// survivors', from 10 to `next`.
fn account(
    told: &[u64],
    rest: &[u64],
    own: u64,
    next: u64,
    is_killed: bool,
    seen: &Seen,
) -> Result<(), BoxError> {
    let mut all = [told, rest].concat();
    all.sort_unstable();
    let sent = all.iter().filter(|id| **id < 10).count() as u64;
    let expected: Vec<u64> = (1..sent + 1).chain(10..next).collect();
    let is_right = all == expected && rest.is_sorted() && sent <= own && (is_killed || sent == own);
    must(is_right, || {
        format!(
            "{told:?} and then {rest:?} came, of {own} and the survivors' 10 to {next}; killed: {is_killed}"
        )
    })?;
    seen.note(if sent == own { "after" } else { "before" });
    Ok(())
}

/// Workers sleep until there is a message for each, which the process sends.
fn receivers_sleep<F>(name: &str, process: F, count: usize) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().bounded()?);
        let (workers, callers) = crew.sleepers(count, |sleeper| Task::Recv(ours.1.clone(), sleeper))?;
        Ok(((Some(ours), workers), (theirs, callers)))
    };
    let oracle = move |(ends, workers): &mut (Option<Ends>, Vec<Worker>), outcome: Outcome<()>| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let is_killed = is_killed(&outcome);
        let (told, next) = wake_all(&ends, workers, is_killed)?;
        account(&told, &rest(&ends.1)?, count as u64, next, is_killed, &seen)?;
        settle(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

/// All of them are told of messages: of what is there by themselves, and otherwise of one that a survivor sends.
fn wake_all((tx, rx): &Ends, workers: &mut [Worker], is_killed: bool) -> Result<(Vec<u64>, u64), BoxError> {
    let (mut told, mut next) = (Vec::new(), 10);
    let mut silent: Vec<usize> = (0..workers.len()).collect();
    while !silent.is_empty() {
        // Empty: a worker has it, or nobody ever will.
        if is_killed && rx.is_empty() {
            tx.try_send(&short(next))?;
            next += 1;
        }
        let (_, (ids, error)) = first_of(workers, &mut silent)?;
        must(error.is_empty() && ids.len() == 1, || format!("a sleeper got {ids:?}, {error}"))?;
        told.extend(ids);
    }
    Ok((told, next))
}

fn one_receives((ends, callers): Watched) -> u64 {
    warm(&ends, &[]);
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    operation(|| ends.1.recv()).expect("a survivor sends").0
}

type OneOfTwo = (Option<Ends>, Vec<Worker>, u64);

/// The process and a worker sleep, and a survivor sends: who was woken is killed, and the other one gets it.
fn one_of_two_receivers() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["asleep", "the process", "the worker"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().bounded()?);
        let (workers, callers) = crew.sleepers(1, |sleeper| Task::Recv(ours.1.clone(), sleeper))?;
        Ok(((Some(ours), workers, 10), (theirs, callers)))
    };
    // Another one, as long as it sleeps: the first may be the worker's.
    let while_blocked = |(ends, _, next): &mut OneOfTwo, turn| {
        if turn < 2
            && let Some((tx, _)) = ends
        {
            tx.try_send(&short(*next)).expect("there is room");
            *next += 1;
        }
    };
    let oracle = move |(ends, workers, next): &mut OneOfTwo, outcome: Outcome<u64>| {
        let ends = ends.take().ok_or("the survivor's own")?;
        if *next > 10 {
            seen.note("asleep");
        }
        let sent = *next;
        if ends.1.is_empty() {
            timed(|| ends.0.send_timeout(&short(*next), DEADLINE))?;
            *next += 1;
        }
        let (ids, error) = workers[0].told()?;
        must(error.is_empty() && ids.len() == 1, || format!("the sleeper got {ids:?}, {error}"))?;
        let mut all = ids.clone();
        let rest = rest(&ends.1)?;
        must(rest.is_sorted() && rest.first() > ids.first() || rest.is_empty(), || {
            format!("{ids:?}, and then {rest:?}")
        })?;
        all.extend(rest);
        let may_lose = match outcome {
            Outcome::Killed => sent > 10,
            Outcome::Completed(id) => {
                seen.note("the process");
                all.push(id);
                false
            }
        };
        seen.note(if ids[0] < sent { "the worker" } else { "the process" });
        all.sort_unstable();
        let missing: Vec<u64> = (10..*next).filter(|id| !all.contains(id)).collect();
        let is_right = all.windows(2).all(|two| two[0] != two[1]) && missing.len() <= usize::from(may_lose);
        must(is_right, || format!("of 10 to {next} {all:?} came, {missing:?} did not"))?;
        settle(ends)
    };
    let name = "queue/recv that sleeps, one of two";
    Box::new(scenario(name, prepare, one_receives, oracle).while_blocked(while_blocked).finally(finally))
}

/// A worker sleeps until there is room for message `count` + 1, which the process makes by receiving the first.
fn sender_sleeps<F>(name: &str, process: F, count: u64, make: fn(u64) -> Message) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().bounded()?);
        let task = |sleeper| Task::Send(ours.0.clone(), make(count + 1), sleeper);
        let (worker, caller) = crew.sleeper(task)?;
        Ok(((Some(ours), worker), (theirs, vec![caller])))
    };
    let oracle = move |(ends, worker): &mut (Option<Ends>, Worker), outcome: Outcome<()>| {
        let ends = ends.take().ok_or("the survivor's own")?;
        let mut all = Vec::new();
        if is_killed(&outcome) && ends.1.len() as u64 == count {
            // There is no room, or it was made just now: then this finds the next one.
            all.push(intact(&timed(|| ends.1.try_recv())?)?);
        }
        let (_, error) = worker.told()?;
        must(error.is_empty(), || format!("the sleeper got {error}"))?;
        all.extend(rest(&ends.1)?);
        let expected: Vec<u64> = (1..count + 2).collect();
        judge(&all, is_killed(&outcome), &expected, &expected[1..], &seen)?;
        settle(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn last_ones() -> Vec<Box<dyn Steps>> {
    let clones_and_drops = |((tx, rx), callers): Watched| {
        drop(rx);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| {
            let again = tx.clone();
            drop(tx);
            drop(again);
        });
    };
    let sends_and_drops = |((tx, rx), callers): Watched| {
        drop(rx);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| {
            tx.send(&short(1)).expect("there is room");
            drop(tx);
        });
    };
    let drops = |((tx, rx), callers): Watched| {
        fill(&tx, &many(short, 1..5));
        drop(tx);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| drop(rx));
    };
    let receives_and_drops = |((tx, rx), callers): Watched| {
        fill(&tx, &many(short, 1..5));
        drop(tx);
        callers.into_iter().for_each(Caller::wait_for_sleeper);
        operation(|| {
            rx.recv().expect("it is full");
            drop(rx);
        });
    };
    vec![
        last_sender("queue/clone and drop, the last sender", clones_and_drops, 0, false),
        last_sender("queue/send and drop, the last sender", sends_and_drops, 1, false),
        last_sender("queue/send and drop, only one left", sends_and_drops, 1, true),
        last_receiver("queue/drop, the last receiver", drops, 0),
        last_receiver("queue/recv and drop, the last receiver", receives_and_drops, 1),
    ]
}

/// A worker receives until it is told that nobody is left: after the message, or at once. It may be the only one who
/// has the queue then.
fn last_sender<F>(name: &str, process: F, sent: usize, is_alone: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = options().bounded()?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::RecvAll(rx.clone(), sleeper))?;
        Ok((((!is_alone).then(|| rx.clone()), worker), ((tx, rx), vec![caller])))
    };
    let oracle = move |(rx, worker): &mut (Option<Receiver<Message>>, Worker), outcome: Outcome<()>| {
        let (ids, error) = worker.told()?;
        must(error == "Disconnected", || format!("the sleeper got {ids:?}, and then {error}"))?;
        let is_right = ids == vec![1; sent] || is_killed(&outcome) && ids.is_empty();
        must(is_right, || format!("the sleeper got {ids:?}"))?;
        let Some(rx) = rx else { return Ok(()) };
        let told = timed(|| rx.recv_timeout(DEADLINE));
        must(matches!(told, Err(RecvError::Disconnected)), || format!("another one got {told:?}"))
    };
    Box::new(scenario(name, prepare, process, oracle))
}

/// A worker waits for room, until it is told that nobody is left who could make it; unless that was done before.
fn last_receiver<F>(name: &str, process: F, room: usize) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let crew = Crew::new(work);
    let prepare = move || {
        let (tx, rx) = options().bounded()?;
        let (worker, caller) = crew.sleeper(|sleeper| Task::Send(tx.clone(), short(5), sleeper))?;
        Ok(((tx.clone(), worker), ((tx, rx), vec![caller])))
    };
    let oracle = move |(tx, worker): &mut (Sender<Message>, Worker), _: Outcome<()>| {
        let (_, error) = worker.told()?;
        let is_right = error == "Disconnected" || room == 1 && error.is_empty();
        must(is_right, || format!("the sleeper got {error}"))?;
        let told = timed(|| tx.send_timeout(&short(6), DEADLINE));
        // One may still have found room, and been told nothing.
        let is_right = matches!(told, Err(SendError::Disconnected)) || room == 1 && told.is_ok();
        must(is_right, || format!("another one got {told:?}"))?;
        let told = timed(|| tx.send_timeout(&short(7), DEADLINE));
        must(matches!(told, Err(SendError::Disconnected)), || format!("and then {told:?}"))
    };
    Box::new(scenario(name, prepare, process, oracle))
}
