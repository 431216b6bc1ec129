//! Values and arrays: a value is never torn; what a guard writes may be, and then the next one is told.

use ipc_process::WorkerFn;
use ipc_shm::{Array, Mutex, RwLock, Value};
use ipc_sync::LockError;
use ipc_testkit::stepper::{BoxError, Outcome, Steps, operation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::pair::Pair;
use crate::tools::{self, Seen, Told, both, is_killed, must, timed, wrong};
use crate::worker::{Caller, Crew, Hired, Say, Sleeper};

pub(crate) fn scenarios() -> Vec<Box<dyn Steps>> {
    vec![
        value("value/set, large", |value: Large| operation(|| value.set([1; LEN])).expect("it passes on")),
        value("value/set, large, warm", |value: Large| {
            value.set([0; LEN]).expect("it passes on");
            operation(|| value.set([1; LEN])).expect("it passes on");
        }),
        value("value/update, large", |value: Large| {
            value.set([0; LEN]).expect("it passes on");
            operation(|| value.update(|now| now.map(|x| x + 1))).expect("it passes on");
        }),
        value("value/swap, large", |value: Large| {
            value.set([0; LEN]).expect("it passes on");
            assert_eq!(operation(|| value.swap([1; LEN])).expect("it passes on"), [0; LEN]);
        }),
        value("value/compare_exchange, large", |value: Large| {
            value.set([0; LEN]).expect("it passes on");
            operation(|| value.compare_exchange([0; LEN], [1; LEN]))
                .expect("it passes on")
                .expect("it is zero");
        }),
        number("value/fetch_add", |value: Value<u64>| assert_eq!(operation(|| value.fetch_add(1)), 0)),
        number("value/update, a number", |value: Value<u64>| {
            drop(value.lock());
            assert_eq!(operation(|| value.update(|now| now + 1)).expect("it passes on"), 0);
        }),
        value_sleeper(),
        torn("array/write and unlock", write_array, false),
        torn("array/write and unlock, with a sleeper", write_array, true),
        torn("mutex/set and unlock", write_mutex, false),
        torn("mutex/set and unlock, with a sleeper", write_mutex, true),
        torn("shm-rwlock/set and unlock", write_rwlock, false),
        torn("shm-rwlock/set and unlock, with a sleeper", write_rwlock, true),
    ]
}

const LEN: usize = 24;
type Numbers = [u64; LEN];
type Large = Value<Numbers>;

/// The same number all over; which one.
fn same(numbers: &[u64]) -> Option<u64> {
    let first = *numbers.first()?;
    numbers.iter().all(|number| *number == first).then_some(first)
}

fn judge(now: Option<u64>, is_killed: bool, seen: &Seen) -> Result<(), BoxError> {
    match now {
        Some(0) if is_killed => seen.note("before"),
        Some(1) => seen.note("after"),
        other => return wrong(format!("torn, lost or doubled: {other:?}; killed: {is_killed}")),
    }
    Ok(())
}

/// All zeros, or all ones.
fn value<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Large,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let prepare = || Ok(both(Value::new([0; LEN])?));
    let oracle = move |value: &mut Large, outcome| {
        judge(same(&timed(|| value.get())), is_killed(&outcome), &seen)?;
        timed(|| value.set([7; LEN]))?;
        let before = timed(|| value.update(|now| now.map(|x| x + 1)))?;
        must((before, value.get()) == ([7; LEN], [8; LEN]), || format!("{before:?}, then {:?}", value.get()))
    };
    Box::new(tools::scenario(name, prepare, process, oracle).finally(finally))
}

fn number<F>(name: &str, process: F) -> Box<dyn Steps>
where
    F: WorkerFn<(Value<u64>,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let prepare = || Ok(both(Value::new(0)?));
    let oracle = move |value: &mut Value<u64>, outcome| {
        judge(Some(value.get()), is_killed(&outcome), &seen)?;
        let before = value.get();
        must(timed(|| value.update(|now| now + 5))? == before, || "it changes by itself".into())
    };
    Box::new(tools::scenario(name, prepare, process, oracle).finally(finally))
}

#[derive(Serialize, Deserialize)]
struct Update {
    value: Large,
    sleeper: Sleeper,
}

fn update(Update { value, mut sleeper }: Update, mut say: Say<'_, (Vec<u64>, String)>) {
    drop(value.try_lock());
    sleeper.wait_for_caller();
    let before = value.update(|_| [9; LEN]);
    let error = before.as_ref().err().map_or(String::new(), LockError::to_string);
    say.say((before.map_or(Vec::new(), |before| before.to_vec()), error));
}

fn set_and_unlock((value, caller): (Large, Caller)) {
    let guard = value.lock().expect("it passes on");
    caller.wait_for_sleeper();
    operation(|| {
        guard.set([1; LEN]);
        drop(guard);
    });
}

/// A worker sleeps over the lock of the value.
fn value_sleeper() -> Box<dyn Steps> {
    let seen = Seen::default();
    let finally = seen.all(&["before", "after"]);
    let crew = Crew::new(update);
    let prepare = move || {
        let value = Value::new([0; LEN])?;
        let (worker, caller) = crew.sleeper(|sleeper| Update { value: value.clone(), sleeper })?;
        Ok(((value.clone(), worker), (value, caller)))
    };
    let oracle = move |(value, worker): &mut (Large, Hired<Update, (Vec<u64>, String)>),
                       outcome: Outcome<()>| {
        let (before, error) = worker.told()?;
        must(error.is_empty(), || error)?;
        judge(same(&before), is_killed(&outcome), &seen)?;
        must(value.get() == [9; LEN], || format!("the sleeper has set it, and it is {:?}", value.get()))
    };
    let name = "value/set and unlock, with a sleeper";
    Box::new(tools::scenario(name, prepare, set_and_unlock, oracle).finally(finally))
}

/// Numbers under a lock that tells of deaths.
trait Guarded: Clone + Serialize + DeserializeOwned + 'static {
    fn make() -> Result<Self, BoxError>;
    /// With the lock.
    fn numbers(&self) -> Result<Vec<u64>, LockError>;
    /// After a death: what was left, which it replaces by ones; and who died.
    fn repair(&self) -> Result<(Vec<u64>, Option<u32>), LockError>;
}

impl Guarded for Array<u64> {
    fn make() -> Result<Self, BoxError> {
        Ok(Array::new(LEN)?)
    }
    fn numbers(&self) -> Result<Vec<u64>, LockError> {
        Ok(self.lock()?.to_vec())
    }
    fn repair(&self) -> Result<(Vec<u64>, Option<u32>), LockError> {
        let guard = self.recover()?;
        let left = guard.to_vec();
        guard.update_all(|_, _| 1);
        let died = guard.died().and_then(|owner| owner.pid());
        guard.repaired();
        Ok((left, died))
    }
}

impl Guarded for Mutex<Numbers> {
    fn make() -> Result<Self, BoxError> {
        Ok(Mutex::new([0; LEN])?)
    }
    fn numbers(&self) -> Result<Vec<u64>, LockError> {
        Ok(self.lock()?.get().to_vec())
    }
    fn repair(&self) -> Result<(Vec<u64>, Option<u32>), LockError> {
        let guard = self.recover()?;
        let left = guard.update(|_| [1; LEN]).to_vec();
        let died = guard.died().and_then(|owner| owner.pid());
        guard.repaired();
        Ok((left, died))
    }
}

impl Guarded for RwLock<Numbers> {
    fn make() -> Result<Self, BoxError> {
        Ok(RwLock::new([0; LEN])?)
    }
    fn numbers(&self) -> Result<Vec<u64>, LockError> {
        Ok(self.read()?.get().to_vec())
    }
    fn repair(&self) -> Result<(Vec<u64>, Option<u32>), LockError> {
        let guard = self.recover()?;
        let left = guard.update(|_| [1; LEN]).to_vec();
        let died = guard.died().and_then(|owner| owner.pid());
        guard.repaired();
        Ok((left, died))
    }
}

type Watched<T> = (T, Pair, Option<Caller>);

fn prepare_to_write(pair: &Pair, caller: Option<Caller>) {
    pair.sign();
    if let Some(caller) = caller {
        caller.wait_for_sleeper();
    }
}

fn write_array((array, pair, caller): Watched<Array<u64>>) {
    let guard = array.lock().expect("nobody has died");
    prepare_to_write(&pair, caller);
    operation(|| {
        guard.write(0, &[1; LEN]).expect("it is as long");
        drop(guard);
    });
}

fn write_mutex((mutex, pair, caller): Watched<Mutex<Numbers>>) {
    let guard = mutex.lock().expect("nobody has died");
    prepare_to_write(&pair, caller);
    operation(|| {
        guard.set([1; LEN]);
        drop(guard);
    });
}

fn write_rwlock((lock, pair, caller): Watched<RwLock<Numbers>>) {
    let guard = lock.write().expect("nobody has died");
    prepare_to_write(&pair, caller);
    operation(|| {
        guard.set([1; LEN]);
        drop(guard);
    });
}

#[derive(Serialize, Deserialize)]
struct Want<T> {
    guarded: T,
    sleeper: Sleeper,
}

fn want<T: Guarded>(Want { guarded, mut sleeper }: Want<T>, mut say: Say<'_, (Told, Vec<u64>)>) {
    sleeper.wait_for_caller();
    let numbers = guarded.numbers();
    say.say((Told::of(&numbers), numbers.unwrap_or_default()));
}

type Sleepers<T> = (T, Pair, Option<Hired<Want<T>, (Told, Vec<u64>)>>);

/// Ones are written over zeros: who is not told finds nothing but ones.
fn torn<T, F>(name: &str, process: F, with_sleeper: bool) -> Box<dyn Steps>
where
    T: Guarded,
    F: WorkerFn<(Watched<T>,), Out = ()>,
{
    let seen = Seen::default();
    let finally = seen.all(&["after", "told, torn", "told"]);
    let crew = Crew::new(want::<T>);
    let prepare = move || {
        let (guarded, pair) = (T::make()?, Pair::new()?);
        let want = |sleeper| Want { guarded: guarded.clone(), sleeper };
        let (worker, caller) = with_sleeper.then(|| crew.sleeper(want)).transpose()?.unzip();
        Ok(((guarded.clone(), pair.clone(), worker), (guarded, pair, caller)))
    };
    let oracle = move |(guarded, pair, worker): &mut Sleepers<T>, outcome| {
        let (told, numbers) = match worker {
            Some(worker) => worker.told()?,
            None => {
                let numbers = timed(|| guarded.numbers());
                (Told::of(&numbers), numbers.unwrap_or_default())
            }
        };
        match told {
            Told::Fine => judge(same(&numbers).filter(|all| *all == 1), is_killed(&outcome), &seen)?,
            Told::Died(dead) if is_killed(&outcome) && dead == pair.stepped() => {
                let (left, died) = timed(|| guarded.repair())?;
                must(died == dead, || format!("{dead:?} died, and then {died:?}"))?;
                seen.note(if same(&left).is_none() { "told, torn" } else { "told" });
            }
            other => return wrong(format!("a survivor got {other:?}")),
        }
        let numbers = timed(|| guarded.numbers())?;
        must(numbers == [1; LEN], || format!("after all: {numbers:?}"))
    };
    Box::new(tools::scenario(name, prepare, process, oracle).finally(finally))
}
