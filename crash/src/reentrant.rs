//! `ReentrantLock`, whose owner's death passes silently.

use ipc_process::WorkerFn;
use ipc_sync::{LockError, ReentrantLock};
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::{Deserialize, Serialize};

use crate::pair::Pair;
use crate::tools::{DEADLINE, Told, both, must, scenario, timed};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        alone("reentrant/nested", nested),
        alone("reentrant/nested, first use", nested_first),
        sleeper("reentrant/inner and outer unlock, with a sleeper", unlocks),
    ]
}

type Shared = (ReentrantLock, Pair);

fn nest(lock: &ReentrantLock, pair: &Pair) -> Result<(), LockError> {
    let outer = lock.lock()?;
    let inner = lock.lock()?;
    assert_eq!(inner.depth(), 2);
    pair.change();
    drop(inner);
    assert_eq!(outer.depth(), 1);
    drop(outer);
    Ok(())
}

fn nested((lock, pair): Shared) {
    drop(lock.lock().expect("it is free"));
    operation(|| nest(&lock, &pair)).expect("it is free");
}

fn nested_first((lock, pair): Shared) {
    operation(|| nest(&lock, &pair)).expect("it is free");
}

/// The lock is free, and counts from the beginning.
fn settle((lock, _): &Shared) -> Result<(), BoxError> {
    let outer = timed(|| lock.lock_timeout(DEADLINE))?;
    must(outer.depth() == 1, || format!("it begins with depth {}", outer.depth()))?;
    let inner = lock.lock()?;
    must(inner.depth() == 2, || format!("and goes on with {}", inner.depth()))?;
    drop((outer, inner));
    must(lock.owner().is_none(), || "it is released, and has an owner".into())
}

fn alone<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Shared,), Out = ()>,
{
    let prepare = || Ok(both((ReentrantLock::new()?, Pair::new()?)));
    Box::new(scenario(name, prepare, process, |shared: &mut Shared, _| settle(shared)))
}

#[derive(Serialize, Deserialize)]
struct Want {
    lock: ReentrantLock,
    sleeper: Sleeper,
}

fn want(Want { lock, mut sleeper }: Want, mut say: Say<'_, (Told, u32)>) {
    drop(lock.try_lock());
    sleeper.wait_for_caller();
    let taken = lock.lock();
    let said = (Told::of(&taken), taken.as_ref().map_or(0, |guard| guard.depth()));
    drop(taken);
    say.say(said);
}

fn unlocks(((lock, _pair), caller): (Shared, Caller)) {
    let outer = lock.lock().expect("it is free");
    let inner = lock.lock().expect("it is this thread's");
    caller.wait_for_sleeper();
    operation(|| {
        drop(inner);
        drop(outer);
    });
}

fn sleeper<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<((Shared, Caller),), Out = ()>,
{
    let crew = Crew::new(want);
    let prepare = move || {
        let shared = (ReentrantLock::new()?, Pair::new()?);
        let (worker, caller) = crew.sleeper(|sleeper| Want { lock: shared.0.clone(), sleeper })?;
        Ok(((shared.clone(), worker), (shared, caller)))
    };
    let oracle = |(shared, worker): &mut (Shared, Hired<Want, (Told, u32)>), _: Outcome<()>| {
        let told = worker.told()?;
        must(told == (Told::Fine, 1), || format!("the sleeper got {told:?}"))?;
        settle(shared)
    };
    Box::new(scenario(name, prepare, process, oracle))
}
