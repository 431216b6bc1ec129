//! `Semaphore`: whoever dies, the survivors can acquire exactly the permits that there are.

use std::time::{Duration, Instant};

use ipc_pipe::Receiver;
use ipc_process::WorkerFn;
use ipc_sync::{Semaphore, WaitError};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::tools::{A_WHILE, DEADLINE, Seen, both, is_killed, must, scenario, timed};
use crate::worker::{Caller, Crew, Hired, Holder, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("semaphore/acquire and drop", acquires, (3, 3)),
        alone("semaphore/acquire and drop, first use", acquires_first, (3, 3)),
        alone("semaphore/acquire two and drop", acquires_two, (3, 3)),
        alone("semaphore/try_acquire and forget", forgets, (3, 2)),
        alone("semaphore/forget one of two", forgets_one_of_two, (3, 2)),
        alone("semaphore/release", releases, (3, 4)),
        alone("semaphore/release_many", releases_many, (3, 8)),
        exhausted("semaphore/acquire that sleeps", sleeps, true),
        exhausted("semaphore/acquire_timeout that times out", times_out, false),
        sleepers("semaphore/drop, with a sleeper", drops, 1, 1, (1, 1)),
        sleepers("semaphore/drop, with two sleepers", drops, 1, 2, (1, 1)),
        sleepers("semaphore/release, with a sleeper", releases_to_sleepers, 0, 1, (0, 2)),
        sleepers("semaphore/release_many, with two sleepers", releases_to_sleepers, 0, 2, (0, 2)),
    ]
}

fn warm(semaphore: &Semaphore) {
    drop(semaphore.acquire().expect("some are free"));
}

fn acquire_and_drop(semaphore: &Semaphore) {
    drop(semaphore.acquire().expect("some are free"));
}

fn acquires(semaphore: Semaphore) {
    warm(&semaphore);
    operation(|| acquire_and_drop(&semaphore));
}

fn acquires_first(semaphore: Semaphore) {
    operation(|| acquire_and_drop(&semaphore));
}

fn acquires_two(semaphore: Semaphore) {
    warm(&semaphore);
    operation(|| {
        let first = semaphore.acquire().expect("some are free");
        acquire_and_drop(&semaphore);
        drop(first);
    });
}

fn forgets(semaphore: Semaphore) {
    warm(&semaphore);
    operation(|| semaphore.try_acquire().expect("some are free").forget());
}

fn forgets_one_of_two(semaphore: Semaphore) {
    let (first, second) = (semaphore.acquire(), semaphore.acquire());
    operation(|| second.expect("some are free").forget());
    drop(first);
}

fn releases(semaphore: Semaphore) {
    warm(&semaphore);
    operation(|| semaphore.release()).expect("far from the bound");
}

fn releases_many(semaphore: Semaphore) {
    warm(&semaphore);
    operation(|| semaphore.release_many(5)).expect("far from the bound");
}

/// So many can be acquired together, and not one more.
fn count(semaphore: &Semaphore) -> Result<u32, BoxError> {
    let mut permits = Vec::new();
    let start = Instant::now();
    loop {
        match semaphore.try_acquire() {
            Ok(permit) => permits.push(permit),
            Err(WaitError::WouldBlock) => break,
            Err(error) => return Err(format!("after {} permits: {error:?}", permits.len()).into()),
        }
        must(permits.len() <= 100 && start.elapsed() < DEADLINE, || "permits without end".into())?;
    }
    must(semaphore.available() == 0, || format!("{} are left of none", semaphore.available()))?;
    let count = permits.len() as u32;
    drop(permits);
    must(semaphore.available() == count, || format!("{} of {count} are back", semaphore.available()))?;
    Ok(count)
}

/// Exactly that many, or what there were before if the process was killed; and that holds from now on.
fn settle(
    semaphore: &Semaphore,
    is_killed: bool,
    (before, after): (u32, u32),
    seen: &Seen,
) -> Result<(), BoxError> {
    let available = timed(|| semaphore.available());
    let count = timed(|| self::count(semaphore))?;
    must(available == count, || format!("{count} can be acquired, and {available} were said to be free"))?;
    let is_right = count == after || is_killed && count == before;
    must(is_right, || format!("{count} permits, of {before} and then {after}; killed: {is_killed}"))?;
    seen.note(if count == after { "after" } else { "before" });
    let again = self::count(semaphore)?;
    must(again == count, || format!("there were {count} permits, and then {again}"))
}

fn wanted((before, after): (u32, u32)) -> &'static [&'static str] {
    if before == after { &["after"] } else { &["before", "after"] }
}

fn alone<F>(name: &str, process: F, permits: (u32, u32)) -> Box<dyn Steps>
where
    F: WorkerFn<(Semaphore,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted(permits));
    let prepare = move || Ok(both(Semaphore::new(permits.0)?));
    let oracle =
        move |semaphore: &mut Semaphore, outcome| settle(semaphore, is_killed(&outcome), permits, &seen);
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}

#[derive(Serialize, Deserialize)]
struct Hold {
    semaphore: Semaphore,
    enough: Receiver<()>,
}

fn hold(Hold { semaphore, mut enough }: Hold, mut say: Say<'_, ()>) {
    let permit = semaphore.acquire().expect("there is one");
    say.say(());
    let _ = enough.recv();
    drop(permit);
}

type Exhausted = (Semaphore, Holder<Hold>);

fn sleeps(semaphore: Semaphore) {
    let _none = semaphore.try_acquire();
    operation(|| acquire_and_drop(&semaphore));
}

fn times_out(semaphore: Semaphore) {
    let _none = semaphore.try_acquire();
    let acquired = operation(|| semaphore.acquire_timeout(Duration::from_millis(15)).map(drop));
    assert!(matches!(acquired, Err(WaitError::Timeout)), "{acquired:?}");
}

/// A survivor has the only permit, and drops it when the process sleeps, or at the end.
fn exhausted<F>(name: &str, process: F, lets_go: bool) -> Box<dyn Steps>
where
    F: WorkerFn<(Semaphore,), Out = ()>,
{
    let crew = Crew::new(hold);
    let prepare = move || {
        let semaphore = Semaphore::new(1)?;
        let holder = crew.holder(|enough| Hold { semaphore: semaphore.clone(), enough })?;
        Ok(((semaphore.clone(), holder), semaphore))
    };
    let while_blocked = move |(_, holder): &mut Exhausted, _| {
        if lets_go {
            holder.lets_go();
        }
    };
    let oracle = |(semaphore, holder): &mut Exhausted, _: Outcome<()>| {
        holder.lets_go();
        // Until it has come back: by the holder, and from the process that is stepped.
        let permit = timed(|| semaphore.acquire_timeout(DEADLINE))?;
        drop(permit);
        settle(semaphore, false, (1, 1), &Seen::default())
    };
    Box::new(scenario(name, prepare, process, oracle).while_blocked(while_blocked))
}

#[derive(Serialize, Deserialize)]
struct Want {
    semaphore: Semaphore,
    sleeper: Sleeper,
}

fn want(Want { semaphore, mut sleeper }: Want, mut say: Say<'_, Result<(), String>>) {
    drop(semaphore.try_acquire());
    sleeper.wait_for_caller();
    let dropped = semaphore.acquire().map(drop);
    say.say(dropped.map_err(|error| error.to_string()));
}

type Watched = (Semaphore, Vec<Caller>);

fn drops((semaphore, callers): Watched) {
    let permit = semaphore.acquire().expect("there is one");
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    operation(|| drop(permit));
}

fn releases_to_sleepers((semaphore, callers): Watched) {
    let _registered = semaphore.try_acquire();
    callers.into_iter().for_each(Caller::wait_for_sleeper);
    operation(|| semaphore.release_many(2)).expect("far from the bound");
}

type Sleepers = (Semaphore, Vec<Hired<Want, Result<(), String>>>);

/// Workers that sleep until there is a permit, and drop it at once.
fn sleepers<F>(name: &str, process: F, permits: u32, count: usize, expected: (u32, u32)) -> Box<dyn Steps>
where
    F: WorkerFn<(Watched,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(wanted(expected));
    let crew = Crew::new(want);
    let prepare = move || {
        let semaphore = Semaphore::new(permits)?;
        let want = |sleeper| Want { semaphore: semaphore.clone(), sleeper };
        let (workers, callers) = crew.sleepers(count, want)?;
        Ok(((semaphore.clone(), workers), (semaphore, callers)))
    };
    let oracle = move |(semaphore, workers): &mut Sleepers, outcome| {
        let is_killed = is_killed(&outcome);
        let comes_by_itself = expected.0 == expected.1 || !is_killed;
        let mut expected = expected;
        let mut said = Vec::new();
        for worker in workers.iter_mut() {
            if !comes_by_itself
                && said.is_empty()
                && let Some(first) = worker.told_within(A_WHILE)?
            {
                // What one of them has found is there for the others too.
                said.push(first);
                continue;
            }
            if !comes_by_itself && said.is_empty() {
                // Killed before it had released: then a survivor does, and there are no more than that.
                semaphore.release_many(2)?;
                expected = (2, 2);
            }
            said.push(worker.told()?);
        }
        must(said.iter().all(Result::is_ok), || format!("the sleepers got {said:?}"))?;
        if expected == (2, 2) {
            seen.note("before");
        }
        settle(semaphore, is_killed, expected, &seen)
    };
    Box::new(scenario(name, prepare, process, oracle).finally(finally))
}
