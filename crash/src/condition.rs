//! `Condition`: a notification is neither lost nor doubled, whoever dies.

use std::time::{Duration, Instant};

use ipc_process::WorkerFn;
use ipc_sync::{Condition, Lock, LockError, LockGuard};
use ipc_testkit::stepper::{BoxError, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::lock;
use crate::pair::Pair;
use crate::tools::{DEADLINE, Seen, Told, both, is_killed, must, scenario, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        waits("condition/wait", Condition::new, waiting),
        waits("condition/wait, first use", Condition::new, waiting_first),
        waits("condition/wait, on a lock that was there", || Condition::on(&Lock::new()?), waiting),
        times_out(),
        notifies("condition/notify, with two sleepers", |watched: Watched| notify(watched, 1), 1),
        notifies("condition/notify_all, with two sleepers", |watched: Watched| notify(watched, 2), 2),
    ]
}

type Shared = (Condition, Pair);

/// One more that waits.
#[derive(Serialize, Deserialize)]
struct Wait {
    condition: Condition,
    sleeper: Option<Sleeper>,
}

type Waiter = Hired<Wait, Told>;

fn wait(Wait { condition, sleeper }: Wait, mut say: Say<'_, Told>) {
    if let Some(mut sleeper) = sleeper {
        drop(condition.lock().try_lock());
        sleeper.wait_for_caller();
    }
    let woken = condition.lock().lock().and_then(|guard| condition.wait(guard));
    let told = Told::of(&woken);
    drop(woken);
    say.say(told);
}

/// The lock, in a survivor's hands; repaired if the process that was stepped died holding it.
fn lock<'a>((condition, pair): &'a Shared, is_killed: bool) -> Result<LockGuard<'a>, BoxError> {
    let lock = condition.lock();
    match timed(|| lock.lock_timeout(DEADLINE)) {
        Ok(guard) => Ok(guard),
        Err(LockError::OwnerDied { owner }) if is_killed && owner.pid() == pair.stepped() => {
            lock::recover((lock, pair), owner.pid())?;
            Ok(lock.lock_timeout(DEADLINE)?)
        }
        other => wrong(format!("a survivor got {other:?}")),
    }
}

/// Notifies one, which must be there.
fn notify_one(shared: &Shared, is_killed: bool) -> Result<(), BoxError> {
    let guard = lock(shared, is_killed)?;
    let count = shared.0.notify(&guard)?;
    must(count == 1, || format!("one waits, and {count} were notified"))
}

/// Nobody waits any more, and the next one who does can be notified.
fn settle(shared: &Shared, crew: &Crew<Wait, Told>, is_killed: bool) -> Result<(), BoxError> {
    let guard = lock(shared, is_killed)?;
    let count = (shared.0.waiting(), shared.0.notify_all(&guard)?);
    drop(guard);
    must(count == (0, 0), || format!("nobody waits, and {count:?} are said to wait and were notified"))?;
    let mut next = crew.work(&Wait { condition: shared.0.clone(), sleeper: None })?;
    next.falls_asleep()?;
    notify_one(shared, false)?;
    let told = next.told().map_err(|error| format!("the next one who waits: {error}"))?;
    must(told == Told::Fine, || format!("the next one who waits got {told:?}"))
}

struct Waiting {
    shared: Shared,
    /// Comes later, and so is notified after the process that is stepped.
    other: Option<Waiter>,
}

fn waiting((condition, pair): Shared) {
    pair.sign();
    let guard = condition.lock().lock().expect("it is free");
    let guard = operation(|| condition.wait(guard));
    drop(guard.expect("nobody else dies"));
}

fn waiting_first((condition, pair): Shared) {
    pair.sign();
    let guard = operation(|| {
        let guard = condition.lock().lock()?;
        condition.wait(guard)
    });
    drop(guard.expect("nobody else dies"));
}

/// The process that is stepped waits; when it sleeps, another one begins to wait as well, and one of them is notified.
fn waits<F>(name: &str, make: fn() -> Result<Condition, ipc_sync::OpenError>, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["inherited", "told", "before"]);
    let crew = Crew::new(wait);
    let others = crew.clone();
    let prepare = move || {
        let shared = (make()?, Pair::new()?);
        Ok((Waiting { shared: shared.clone(), other: None }, shared))
    };
    let while_blocked = move |waiting: &mut Waiting, turn| {
        if turn == 0 {
            let task = Wait { condition: waiting.shared.0.clone(), sleeper: None };
            let mut other = others.work(&task).expect("a process can be started");
            other.falls_asleep().expect("it waits");
            notify_one(&waiting.shared, false).expect("two wait");
            waiting.other = Some(other);
        }
    };
    let oracle = move |Waiting { shared, other }: &mut Waiting, outcome| {
        let is_killed = is_killed(&outcome);
        if let Some(other) = other {
            if !is_killed {
                notify_one(shared, false)?;
            }
            // Who was notified is dead, or died with the lock.
            match other.told().map_err(|error| format!("the other one who waits: {error}"))? {
                Told::Fine => seen.note("inherited"),
                Told::Died(dead) if is_killed && dead == shared.1.stepped() => seen.note("told"),
                told => return wrong(format!("the other one who waits got {told:?}")),
            }
        } else {
            must(is_killed, || "it has waited, and never slept".into())?;
            seen.note("before");
        }
        settle(shared, &crew, is_killed)
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked).finally(finally))
}

fn timing_out((condition, pair): Shared) {
    pair.sign();
    let guard = condition.lock().lock().expect("it is free");
    let waited = operation(|| condition.wait_timeout(guard, Duration::from_millis(15)));
    let (guard, notified) = waited.expect("nobody else dies");
    drop(guard);
    assert!(!notified);
}

fn times_out() -> Box<dyn Steps> {
    let crew = Crew::new(wait);
    let prepare = || Ok(both((Condition::new()?, Pair::new()?)));
    let oracle = move |shared: &mut Shared, outcome| settle(shared, &crew, is_killed(&outcome));
    Box::new(scenario("condition/wait_timeout that times out", prepare, timing_out, oracle))
}

type Watched = (Shared, Vec<Caller>);

fn notify(((condition, pair), callers): Watched, count: usize) {
    pair.sign();
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    let guard = condition.lock().lock().expect("nobody has died");
    let notified = operation(|| {
        let notified = condition.notify_many(&guard, count);
        drop(guard);
        notified
    });
    assert_eq!(notified.expect("it is its lock"), count);
}

/// The first of them that says something.
fn first_of(waiters: &mut [Waiter]) -> Result<(usize, Told), BoxError> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        for (index, waiter) in waiters.iter_mut().enumerate() {
            if let Some(told) = waiter.said_within(Duration::from_millis(1))? {
                return Ok((index, told));
            }
        }
    }
    wrong("one of two was notified, and both sleep on")
}

/// The process that is stepped notifies `count` of two who sleep.
fn notifies<F>(name: &str, process: F, count: usize) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["told", "done"]);
    let crew = Crew::new(wait);
    let workers = crew.clone();
    let prepare = move || {
        let shared = (Condition::new()?, Pair::new()?);
        let wait = |sleeper| Wait { condition: shared.0.clone(), sleeper: Some(sleeper) };
        let (waiters, callers) = workers.sleepers(2, wait)?;
        Ok(((shared.clone(), waiters), (shared, callers)))
    };
    let oracle = move |(shared, waiters): &mut (Shared, Vec<Waiter>), outcome| {
        let is_killed = is_killed(&outcome);
        let dead = shared.1.stepped();
        let (first, told) = timed(|| first_of(waiters))?;
        let other = 1 - first;
        if told == Told::Died(dead) && is_killed {
            // It died with the lock: both are told, notified or not.
            seen.note("told");
            let told = waiters[other].told()?;
            must(told == Told::Died(dead), || format!("one was told of the death, and the other {told:?}"))?;
            return settle(shared, &crew, is_killed);
        }
        seen.note("done");
        must(told == Told::Fine, || format!("the first who was notified got {told:?}"))?;
        if count == 1 {
            let early = waiters[other].said_within(Duration::ZERO)?;
            must(early.is_none(), || format!("one was notified, and the other got {early:?}"))?;
            notify_one(shared, is_killed)?;
        }
        let told = waiters[other].told()?;
        must(told == Told::Fine, || format!("the other who was notified got {told:?}"))?;
        settle(shared, &crew, is_killed)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}
