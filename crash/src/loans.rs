//! Loans of a queue: one is sent or it is not, and its memory comes back whoever dies with it.

use ipc_process::WorkerFn;
use ipc_queue::{Receiver, RecvError, SendError, Sender};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::queue::options;
use crate::tools::{Seen, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

type Ends = (Sender<u64>, Receiver<u64>);

/// So many values fill a page; there are [three](options).
const PAGE: usize = 512;

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    let mut all = alone_with_it();
    all.push(waits_for_pages());
    all.push(with_a_sleeper());
    all
}

/// Sends that number, in the first and the last value of so many.
fn send(tx: &Sender<u64>, id: u64, count: usize) -> Result<(), SendError> {
    let mut loan = tx.loan(count)?;
    loan.set(0, id).expect("there is one");
    loan.set(count - 1, id).expect("there are so many");
    loan.commit()
}

/// The number, if both are there.
fn id_of(received: &ipc_queue::Received<u64>) -> Result<u64, BoxError> {
    let (first, last) = (received.get(0)?, received.get(received.len() - 1)?);
    must(first == last, || format!("torn: {first} and {last}"))?;
    Ok(first)
}

/// What is there now, in its order.
fn rest(rx: &Receiver<u64>) -> Result<Vec<u64>, BoxError> {
    let mut ids = Vec::new();
    loop {
        match timed(|| rx.try_recv_loan()) {
            Ok(received) => ids.push(id_of(&received)?),
            Err(RecvError::Empty) => return Ok(ids),
            other => return wrong(format!("after {ids:?}: {other:?}")),
        }
        must(ids.len() <= 100, || "messages without end".into())?;
    }
}

/// Empty by now, all of its memory can be had.
fn settle((tx, rx): &Ends) -> Result<(), BoxError> {
    for id in 1..3 {
        let whole = timed(|| tx.try_loan(3 * PAGE)).map_err(|error| format!("of all pages: {error}"))?;
        let full = timed(|| tx.try_loan(1));
        must(matches!(full, Err(SendError::Full)), || "there is more than all".into())?;
        drop(whole);
        timed(|| send(tx, id, 3 * PAGE))?;
        let received = rest(rx)?;
        must(received == [id], || format!("of all pages {received:?} came"))?;
    }
    Ok(())
}

fn alone_with_it() -> Vec<Box<dyn Steps>> {
    let loans = |(tx, _): Ends| operation(|| send(&tx, 1, PAGE)).expect("there is room");
    let again = |(tx, rx): Ends| {
        send(&tx, 0, 1).expect("there is room");
        drop(rx.recv_loan().expect("there is one"));
        operation(|| send(&tx, 1, 3 * PAGE)).expect("there is room");
    };
    let drops = |(tx, _): Ends| operation(|| tx.loan(PAGE).map(drop)).expect("there is room");
    let receives = |(tx, rx): Ends| {
        send(&tx, 1, 1).expect("there is room");
        send(&tx, 2, 2 * PAGE).expect("there is room");
        operation(|| {
            let received = rx.recv_loan().expect("there are two");
            assert_eq!(id_of(&received).expect("whole"), 1);
        });
    };
    let full = |(tx, _): Ends| {
        (1..4).for_each(|id| send(&tx, id, PAGE).expect("there is room"));
        let loan = operation(|| tx.try_loan(1).map(drop));
        assert!(matches!(loan, Err(SendError::Full)), "{loan:?}");
    };
    vec![
        alone("queue_loan/loan and commit, first use", loans, &[], &[1]),
        alone("queue_loan/loan and commit", again, &[], &[1]),
        alone("queue_loan/loan and drop", drops, &[], &[]),
        alone("queue_loan/recv and release", receives, &[1, 2], &[2]),
        alone("queue_loan/try_loan, full", full, &[1, 2, 3], &[1, 2, 3]),
    ]
}

/// What is left is `before`, or `after`.
fn alone<F>(name: &str, process: F, before: &'static [u64], after: &'static [u64]) -> Box<dyn Steps>
where
    F: WorkerFn<(Ends,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(if before == after { &["after"] } else { &["before", "after"] });
    let prepare = || Ok(both(options().bounded()?));
    let oracle = move |ends: &mut Ends, outcome: Outcome<()>| {
        let left = rest(&ends.1)?;
        if left == after {
            seen.note("after");
        } else if is_killed(&outcome) && left == before {
            seen.note("before");
        } else {
            return wrong(format!("{left:?} came, of {before:?} and then {after:?}"));
        }
        settle(ends)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

fn waiting_for_pages((tx, _rx): Ends) {
    (1..4).for_each(|id| send(&tx, id, PAGE).expect("there is room"));
    operation(|| send(&tx, 4, 2 * PAGE)).expect("a survivor makes room");
}

/// All pages are in use; a survivor receives two messages.
fn waits_for_pages() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["asleep", "before", "after"]);
    let prepare = || {
        let (ours, theirs) = both(options().bounded::<u64>()?);
        Ok(((ours, Vec::new()), theirs))
    };
    let while_blocked = |(ends, ids): &mut (Ends, Vec<u64>), turn| {
        if turn < 2 {
            ids.push(id_of(&ends.1.try_recv_loan().expect("there are three")).expect("nobody has died"));
        }
    };
    let oracle = move |(ends, ids): &mut (Ends, Vec<u64>), outcome: Outcome<()>| {
        if !ids.is_empty() {
            seen.note("asleep");
        }
        ids.extend(rest(&ends.1)?);
        match ids[..] {
            [1, 2, 3, 4] => seen.note("after"),
            [1, 2, 3] if is_killed(&outcome) => seen.note("before"),
            _ => return wrong(format!("{ids:?} came")),
        }
        settle(ends)
    };
    let name = "queue_loan/loan that sleeps for pages, and commit";
    Box::new(scenario(name, prepare, waiting_for_pages, oracle).while_blocked(while_blocked).finally(finally))
}

#[derive(Serialize, Deserialize)]
struct Task(Receiver<u64>, Sleeper);

fn work(Task(rx, mut sleeper): Task, mut say: Say<'_, Result<u64, String>>) {
    sleeper.wait_for_caller();
    say.say(match rx.recv_loan() {
        Ok(received) => id_of(&received).map_err(|torn| torn.to_string()),
        Err(error) => Err(format!("{error:?}")),
    });
}

fn committing(((tx, _rx), caller): (Ends, Caller)) {
    caller.wait_for_sleeper();
    operation(|| send(&tx, 1, 2 * PAGE)).expect("there is room");
}

type Survivors = (Ends, Hired<Task, Result<u64, String>>);

/// A worker sleeps until a loan comes: the process's, or a survivor's if it was killed.
fn with_a_sleeper() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let crew = Crew::new(work);
    let prepare = move || {
        let (ours, theirs) = both(options().bounded::<u64>()?);
        let (worker, caller) = crew.sleeper(|sleeper| Task(ours.1.clone(), sleeper))?;
        Ok(((ours, worker), (theirs, caller)))
    };
    let oracle = move |(ends, worker): &mut Survivors, outcome: Outcome<()>| {
        if is_killed(&outcome) && ends.1.is_empty() {
            // The worker has it, or it was never sent.
            timed(|| send(&ends.0, 2, 1))?;
        }
        let told = worker.told()?;
        seen.note(match told {
            Ok(1) => "after",
            Ok(2) if is_killed(&outcome) => "before",
            other => return wrong(format!("the sleeper got {other:?}")),
        });
        let left = rest(&ends.1)?;
        must(left.is_empty() || is_killed(&outcome) && left == [2], || format!("and then {left:?}"))?;
        settle(ends)
    };
    Box::new(scenario("queue_loan/commit, with a sleeper", prepare, committing, oracle).finally(finally))
}
